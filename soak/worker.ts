/** A thread of a soak: it has contexts and handles of its own, and is ended in the middle of its transfers, or asked to end. */
import { closeSync, constants, openSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { AioContext, AioRequest, type EngineName } from '../src/index.ts';
import { BLOCK } from './content.ts';
import { Environment, Region } from './environment.ts';
import { soakHandles } from './files.ts';
import { soakRequests } from './requests.ts';

/** What the main thread gives it. */
export interface WorkerTask {
  readonly engine: EngineName;
  readonly path: string;
  readonly direct: boolean;
  readonly file: number;
  /** Of blocks, and what generation they all have. */
  readonly first: number;
  readonly blocks: number;
  readonly generation: number;
  readonly counters: Int32Array;
  readonly seed: number;
  readonly perSecond: number;
  /** Read into without end. The main thread looks whether that stops when this thread does. */
  readonly shared: SharedArrayBuffer;
}

const task = workerData as WorkerTask;
const { engine, path, direct, file } = task;
const env = new Environment(task.counters, task.seed, task.perSecond);
parentPort?.on('message', () => {
  env.stopped = true;
  parentPort?.close();
});

function regionOf(half: number): Region {
  const blocks = task.blocks >> 1;
  const region = new Region(file, task.first + half * blocks, blocks);
  region.generations.fill(task.generation);
  return region;
}

const fd = openSync(path, constants.O_RDWR | (direct ? constants.O_DIRECT : 0));

async function readShared(): Promise<void> {
  // Shared memory lies where it lies, which direct I/O may not like.
  const cached = openSync(path, constants.O_RDONLY);
  const count = task.shared.byteLength / BLOCK;
  const context = new AioContext({ maxRequests: count, engine });
  const requests = Array.from({ length: count }, () => new AioRequest<Uint8Array>());
  const again = requests.map((request, index) => {
    const view = new Uint8Array(task.shared, index * BLOCK, BLOCK);
    return () => request.prepareRead(cached, index * BLOCK, view, view);
  });
  while (!env.stopped) {
    context.submit(again.map((prepare) => prepare()));
    const { completed } = await context.wait({ min: count });
    for (const request of completed) if (request.result() !== BLOCK) throw new Error(`${engine}: a short read`);
    await env.pace(count, count * BLOCK);
  }
  await context.close();
  closeSync(cached);
}

parentPort?.postMessage('begun');
await Promise.all([
  soakRequests(env, { engine, fd, direct, region: regionOf(0) }),
  soakHandles(env, { engine, path, direct, region: regionOf(1) }),
  readShared(),
]);
closeSync(fd);
