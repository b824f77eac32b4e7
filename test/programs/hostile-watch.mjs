// Wakes contexts whose thread makes no calls any more: it may be blocked in one that nothing else ends.
import { parentPort, workerData } from 'node:worker_threads';
import { wake } from '../../dist/index.js';

const { beat } = workerData;
let wakers = [];
let last = -1;
parentPort.on('message', (message) => {
  wakers = message;
});
setInterval(() => {
  const now = Atomics.load(beat, 0);
  if (now === last) for (const waker of wakers) wake(waker);
  last = now;
}, 20);
