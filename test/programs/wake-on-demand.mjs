// A worker that wakes whoever it is told to, and says when it has: by a message, or in shared memory to a thread that is blocked.
import { parentPort } from 'node:worker_threads';
import { wake } from '../../dist/index.js';

parentPort.on('message', ({ waker, woken }) => {
  wake(waker);
  Atomics.store(woken, 0, 1);
  Atomics.notify(woken, 0);
});

// Loading what is above takes a thread of the pool, which a schedule may have none of.
parentPort.postMessage('ready');
