/** 50 processes, forked from a small program, that call process.exit() with requests in flight. Prints how many did as told. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { runTypeScript } from '../runtime.ts';
import { engineName } from './common.ts';

const file = fileURLToPath(new URL('./exit-in-flight.ts', import.meta.url));
let good = 0;
async function some(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const child = spawn(process.execPath, [...runTypeScript, file, engineName, 'exit'], { stdio: 'ignore' });
    const [code, signal] = await once(child, 'exit');
    if (code === 7 && signal === null) good++;
  }
}
await Promise.all([some(25), some(25)]);
console.log(good);
