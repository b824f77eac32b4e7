// A worker that reads through handles of its own, for ever or for a number of rounds, and checks every byte.
import { parentPort, workerData } from 'node:worker_threads';
import { open } from '../../dist/promises.js';

const { path, blocks, engine, rounds } = workerData;
const handles = [await open(path, { engine }), await open(path, { engine, direct: true })];
let reads = 0;
let wrong = 0;
parentPort.postMessage('started');
for (let round = 0; round < rounds; round++) {
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const block = (round * 200 + i * 7) % blocks;
      // Odd shapes go through bounce buffers.
      const [length, shift] = i % 3 === 0 ? [1000, 77] : [4096, 0];
      const { bytesRead, buffer } = await handles[i % 2].read(Buffer.alloc(length), 0, length, block * 4096 + shift);
      reads++;
      if (bytesRead !== length || !buffer.every((byte) => byte === block % 256)) wrong++;
    }),
  );
}
parentPort.postMessage({ reads, wrong });
