// A worker with reads in flight, into shared memory and memory of its own, which is terminated then. What it meets on its way it tells.
import { openSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { AioContext, AioRequest, allocBuffer } from '../../dist/index.js';

const { engine, path, fifo, shared } = workerData;
const met = [];
let context;
for (let tries = 0; tries < 2 && context === undefined; tries++) {
  try {
    context = new AioContext({ maxRequests: 64, engine });
  } catch (error) {
    met.push(Object.assign(error, { where: 'new AioContext' }));
  }
}
const fd = openSync(path, 'r');
const requests = Array.from({ length: 32 }, (_, index) =>
  new AioRequest().prepareRead(fd, 0, index % 2 === 0 ? new Uint8Array(shared) : allocBuffer(65536)),
);
// These never end by themselves.
if (engine === 'io-uring')
  for (let n = 0; n < 4; n++) requests.push(new AioRequest().prepareRead(fifo, 0, new Uint8Array(shared)));
let rest = requests;
for (let tries = 0; tries < 4 && rest.length > 0; tries++) {
  try {
    context.submit(rest);
    rest = [];
  } catch (error) {
    met.push(Object.assign(error, { where: 'submit' }));
    rest = rest.slice(error.submitted ?? 0);
  }
}
parentPort.postMessage({
  left: rest.length,
  met: met.map(({ where, code, errno, syscall, message }) => ({ where, code, errno, syscall, message })),
});
setInterval(() => {}, 1000);
