/**
 * Opens, uses and closes contexts and handles, a thousand times over, and prints as JSON what the process had at regular moments. Ends by itself,
 * so that all of the library's memory is given back at the end, which `npm run test:asan` counts.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { AioContext, AioRequest, allocBuffer } from '../../src/index.ts';
import { open } from '../../src/promises.ts';
import { anonymousFile, collect, engine } from './common.ts';
import { blocksFile } from './file-common.ts';

const [, , , cyclesText = '1000', what = 'contexts'] = process.argv;
const CYCLES = Number(cyclesText);
/** At once: closing a kernel context takes 30 ms. */
const TOGETHER = 20;
const PARTS = 20;

const fd = anonymousFile(1 << 20);
const path = blocksFile(64);

async function context(): Promise<void> {
  const made = new AioContext({ maxRequests: 8, engine });
  const requests = Array.from({ length: 8 }, (_, i) => {
    const buffer = i % 2 === 0 ? allocBuffer(8192) : new Uint8Array(8192 + 4096);
    return i === 7 ? new AioRequest().prepareFlush(fd) : new AioRequest().prepareRead(fd, i * 8192, buffer);
  });
  made.submit(requests);
  requests[6]?.cancel();
  if (Math.random() < 0.1) made.wakeup();
  while (made.pending > 0) await made.wait({ min: made.pending, timeoutMs: 1 });
  await made.close();
}

async function handle(): Promise<void> {
  const opened = await open(path, { flags: 'r+', ...(typeof engine === 'string' ? { engine } : {}) });
  const aborter = new AbortController();
  const calls = Array.from({ length: 8 }, (_, i) =>
    opened.read(Buffer.alloc(5000), { position: i * 7000, signal: aborter.signal }).catch(() => undefined),
  );
  if (Math.random() < 0.2) aborter.abort();
  await Promise.all(calls);
  await opened.write(Buffer.alloc(4096, 63), { position: 63 * 4096 });
  await opened.close();
}

function measured(): number[] {
  collect();
  const { rss, heapUsed, external } = process.memoryUsage();
  const maps = readFileSync('/proc/self/maps', 'utf8').trimEnd().split('\n');
  const kernels = maps.filter((line) => line.includes('/[aio]') || line.includes('[io_uring]')).length;
  return [
    rss / 2 ** 20,
    heapUsed / 2 ** 20,
    external / 2 ** 20,
    readdirSync('/proc/self/fd').length,
    maps.length,
    kernels,
  ];
}

const cycle = what === 'contexts' ? context : handle;
// libuv of newer Node has a ring of its own.
const before = measured();
const samples: number[][] = [];
for (let done = 0; done < CYCLES; done += TOGETHER) {
  await Promise.all(Array.from({ length: TOGETHER }, cycle));
  if (done % (CYCLES / PARTS) < TOGETHER) {
    await delay(1); // finalizers run on the event loop
    samples.push(measured());
  }
}
// Queues of handles close their contexts when they have had nothing to do for a while.
for (let tries = 0; tries < 100 && (measured()[5] ?? 0) > (before[5] ?? 0); tries++) await delay(20);
console.log(JSON.stringify({ before, samples, after: measured() }));
