// In a project that installed the package: reads a file, and says with which engine.
import { engines } from 'fileaio';
import { open, readFile } from 'fileaio/promises';

const handle = await open('data.txt');
const { bytesRead, buffer } = await handle.read(Buffer.alloc(100), 0, 100, 0);
await handle.close();
const whole = await readFile('data.txt', 'utf8');
const why = engines().find(({ available }) => !available)?.why ?? '';
console.log(handle.engine, why, whole === buffer.toString('utf8', 0, bytesRead) ? whole : 'differs');
