// A worker that wakes, and each time waits for its turn to wake again (if there are turns).
import { workerData } from 'node:worker_threads';
import { wake } from '../../dist/index.js';

const { waker, turn, rounds } = workerData;
for (let round = 1; round <= rounds; round++) {
  wake(waker);
  if (turn !== undefined) while (Atomics.load(turn, 0) < round) Atomics.wait(turn, 0, round - 1);
}
