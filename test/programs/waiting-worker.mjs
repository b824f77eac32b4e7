// A worker that waits to be woken, again and again, and counts.
import { parentPort } from 'node:worker_threads';
import { AioContext } from '../../dist/index.js';

const turns = new Int32Array(new SharedArrayBuffer(4));
const context = new AioContext({ maxRequests: 1, engine: 'threads', waitWithoutPendingRequests: true });
parentPort.postMessage({ waker: context.waker, turns });
for (;;) {
  await context.wait();
  Atomics.add(turns, 0, 1);
}
