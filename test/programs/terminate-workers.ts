/** Starts workers that have requests in flight, one after the other, and terminates each at another moment. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { AioContext } from '../../src/index.ts';
import { anonymousFile, engine, engineName } from './common.ts';

const fd = anonymousFile(64 * 65536);
const used = () => Number(readFileSync('/proc/sys/fs/aio-nr', 'utf8'));
const times = Number(process.argv[3]);
const before = used();
for (let round = 0; round < times; round++) {
  const worker = new Worker(new URL('./doomed-worker.mjs', import.meta.url), {
    workerData: { how: process.argv[4], engine: engineName, fd },
    execArgv: [],
  });
  await once(worker, 'message');
  for (let turn = 0; turn < round % 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  const code = await worker.terminate();
  if (code !== 1) throw new Error(`the worker ended with ${code}`);
}
// Other processes may have come and gone, but 8 contexts of each cannot have stayed. Deno says that a thread
// has ended before it has.
for (let tries = 0; used() - before > times * 8 * 8 && tries < 100; tries++) await delay(100);
if (used() - before > times * 8 * 8) throw new Error(`kernel contexts are left: ${before} before, ${used()} after`);
await new AioContext({ maxRequests: 1, engine }).close();
