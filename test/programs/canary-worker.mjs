// A worker that reads a file into shared memory without end, until it is terminated.
import { parentPort, workerData } from 'node:worker_threads';
import { AioContext, AioRequest } from '../../dist/index.js';
import { loadNative } from '../../dist/native.js';

const { fd, engine, shared, count, size } = workerData;
// Direct I/O wants an aligned address. Without the shim there is none to be had, and no direct I/O with this engine that cares.
const address = loadNative().native?.address(new Uint8Array(shared)) ?? 0;
const shift = (4096 - (address % 4096)) % 4096;
const context = new AioContext({ maxRequests: count, engine });
const requests = Array.from({ length: count }, () => new AioRequest());
let begun = false;
for (;;) {
  context.submit(
    requests.map((request, i) => request.prepareRead(fd, i * size, new Uint8Array(shared, shift + i * size, size))),
  );
  for (let left = count; left > 0; ) {
    const { completed } = await context.wait();
    left -= completed.length;
    for (const request of completed) if (request.result() !== size) throw new Error('a short read');
    if (!begun) parentPort.postMessage('reading');
    begun = true;
  }
}
