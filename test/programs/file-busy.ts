/** Waits for a read of a FIFO, although nothing but this read keeps the process alive: somebody else writes to it, later. */
import { spawn } from 'node:child_process';
import { open } from '../../src/promises.ts';
import { engine, fifo } from './file-common.ts';

const path = fifo();
const handle = await open(path, { engine, flags: 'r+' });
process.on('exit', () => {
  if (!done) process.exitCode = 3;
});
let done = false;
void handle.read(Buffer.alloc(10)).then(({ bytesRead, buffer }) => {
  done = true;
  console.log(buffer.toString('latin1', 0, bytesRead));
});
// Late enough for an event loop with nothing to do to have ended.
spawn('sh', ['-c', 'sleep 0.5; printf late > "$1"', 'sh', path], { stdio: 'ignore', detached: true }).unref();
