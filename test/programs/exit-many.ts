/** So many processes, forked from a small program, that call process.exit() with requests in flight. Prints how many did as told. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runScript } from '../runtime.ts';
import { engineName } from './common.ts';

const file = fileURLToPath(new URL('./exit-at-once.mjs', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'fileaio-test-'));
const data = join(directory, 'data');
writeFileSync(data, randomBytes(64 * 65536));
const times = Number(process.argv[3]);
let good = 0;
async function some(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const child = spawn(process.execPath, [...runScript, file, engineName, data], { stdio: 'ignore' });
    const [code, signal] = await once(child, 'exit');
    if (code === 7 && signal === null) good++;
  }
}
try {
  await Promise.all([some(Math.ceil(times / 2)), some(Math.floor(times / 2))]);
} finally {
  rmSync(directory, { recursive: true });
}
console.log(good);
