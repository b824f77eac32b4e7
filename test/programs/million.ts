/** One million 4 KiB transfers, 128 at a time. Prints what came of them. */
import { AioContext, AioRequest, AlignedPool } from '../../src/index.ts';
import { anonymousFile, collect, engine } from './common.ts';

const TRANSFERS = 1_000_000;
const DEPTH = 128;
const BLOCK = 4096;
const BLOCKS = 4096;
const fd = anonymousFile(BLOCKS * BLOCK, 0);
const context = new AioContext({ maxRequests: DEPTH, engine });
const pool = new AlignedPool({ size: BLOCK, count: DEPTH });
const requests = Array.from({ length: DEPTH }, () => new AioRequest<Buffer>());
let started = 0;
let finished = 0;
let bytes = 0;

function prepare(request: AioRequest<Buffer>, buffer: Buffer): void {
  request.prepareRead(fd, ((started++ * 7919) % BLOCKS) * BLOCK, buffer, buffer);
}

async function transfer(until: number): Promise<void> {
  for (const request of requests) prepare(request, request.userData ?? pool.acquire() ?? Buffer.alloc(0));
  context.submit(requests);
  while (finished < until) {
    const { completed } = await context.wait();
    const again = completed.slice(0, Math.max(0, until - started));
    for (const request of completed) {
      bytes += request.result();
      finished++;
    }
    for (const request of again)
      prepare(request as AioRequest<Buffer>, (request as AioRequest<Buffer>).userData ?? Buffer.alloc(0));
    context.submit(again);
  }
}

await transfer(100_000);
collect();
const before = process.memoryUsage().heapUsed;
await transfer(TRANSFERS);
collect();
const growth = process.memoryUsage().heapUsed - before;
// Every slot is free again: as many as there were can be submitted at once.
for (const request of requests) request.prepareRead(fd, 0, request.userData ?? Buffer.alloc(0), request.userData);
context.submit(requests);
if ((await context.wait({ min: DEPTH })).completed.length !== DEPTH) throw new Error('a slot was lost');
console.log(JSON.stringify({ transfers: finished, bytes, pending: context.pending, growth }));
await context.close();
