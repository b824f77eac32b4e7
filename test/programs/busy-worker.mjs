// A worker with a context of each engine, which reads blocks that say where they are from, and checks each. Reports what it saw.
import { parentPort, workerData } from 'node:worker_threads';
import { AioContext, AioRequest, AlignedPool, engines } from '../../dist/index.js';

const { fd, blocks, size, transfers } = workerData;
const DEPTH = 32;
const names = engines()
  .filter(({ available }) => available)
  .map(({ name }) => name);

async function work(engine, count) {
  const context = new AioContext({ maxRequests: DEPTH, engine });
  const pool = new AlignedPool({ size, count: DEPTH });
  let started = 0;
  let done = 0;
  let wrong = 0;
  const next = (request, buffer) => {
    const block = (started++ * 7919) % blocks;
    return request.prepareRead(fd, block * size, buffer, { block, buffer });
  };
  context.submit(Array.from({ length: DEPTH }, () => next(new AioRequest(), pool.acquire())));
  while (done < count) {
    const { completed } = await context.wait();
    const again = [];
    for (const request of completed) {
      const { block, buffer } = request.userData;
      if (request.result() !== size || buffer.readUInt32LE(0) !== block || buffer.readUInt32LE(size - 4) !== block)
        wrong++;
      done++;
      if (started < count) again.push(next(request, buffer));
    }
    context.submit(again);
  }
  const { pending } = context;
  await context.close();
  return { engine, done, wrong, pending };
}

parentPort.postMessage('started');
parentPort.postMessage(await Promise.all(names.map((name) => work(name, transfers))));
