// A worker with eight contexts and 64 reads in flight, which goes on in one of several ways until it is terminated.
import { parentPort, workerData } from 'node:worker_threads';
import { AioContext, AioRequest, allocBuffer } from '../../dist/index.js';
import { createSimulatedDisk } from '../../dist/sim.js';

const { how } = workerData;
let { engine, fd } = workerData;
if (engine === 'simulated') {
  // A disk belongs to its thread.
  engine = createSimulatedDisk({ seed: 1 });
  engine.install('/data', new Uint8Array(64 * 65536));
  fd = engine.openSync('/data', 'r+');
}
const idle = Array.from(
  { length: 7 },
  () => new AioContext({ maxRequests: 8, engine, waitWithoutPendingRequests: true }),
);
const context = new AioContext({ maxRequests: 64, engine });
const requests = Array.from({ length: 64 }, (_, i) => {
  const buffer = i % 2 === 0 ? allocBuffer(65536) : new Uint8Array(65536);
  return new AioRequest().prepareRead(fd, i * 65536, buffer, buffer);
});
context.submit(requests);
parentPort.postMessage('in flight');
switch (how) {
  case 'wait':
    await Promise.all([context.wait({ min: 100 }), ...idle.map((each) => each.wait())]);
    break;
  case 'loop':
    for (;;) {
      const { completed } = await context.wait();
      for (const request of completed) request.prepareRead(fd, 65536, request.userData, request.userData);
      context.submit(completed);
    }
  case 'sync':
    idle[0].waitSync();
    break;
  default:
    setInterval(() => {}, 1000);
}
