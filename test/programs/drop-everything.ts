/**
 * Drops context, requests and buffers right after submit, collects, and fills memory anew: whatever the kernel still wrote
 * into freed memory would show in the canaries.
 */
import { AioContext } from '../../src/index.ts';
import { aligned } from '../support.ts';
import { anonymousFile, collect, engine, inFlight } from './common.ts';

const fd = anonymousFile(64 * 65536);
// Shared memory is read in place, and held by nothing but the references to it.
const shared = (size: number) => aligned(size, SharedArrayBuffer);
const intact = Buffer.alloc(65536, 0x5a);
for (let round = 0; round < 50; round++) {
  (() => void inFlight(fd, shared))();
  collect();
  const canaries = Array.from({ length: 64 }, () => shared(65536).fill(0x5a));
  await new Promise((resolve) => setImmediate(resolve));
  collect();
  for (const canary of canaries) {
    if (!intact.equals(canary)) throw new Error('the kernel wrote into memory that was given back');
  }
}
// A context that is held still gets its results.
const held = inFlight(fd).context;
collect();
const { completed } = await held.wait({ min: 64 });
if (completed.some((request) => request.result() !== 65536)) throw new Error('a transfer was lost');
await held.close();
await new AioContext({ maxRequests: 1, engine }).close();
