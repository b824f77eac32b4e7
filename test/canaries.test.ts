/**
 * Memory that was given back is not written to any more: after completion, cancellation, abort, close, the end of a worker, and a collection. What was
 * given back is filled with a pattern, other transfers go on for a while, and then it is looked at; so is what lies beside a transfer's memory.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { constants, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { AioContext, AioRequest, AlignedPool, allocBuffer, type EngineName, engines } from '../src/index.ts';
import { open as openHandle } from '../src/promises.ts';
import { lacks } from './runtime.ts';
import { aligned, collectGarbage, context, O_DIRECT, O_RDONLY, O_RDWR, open, scratch } from './support.ts';

const SIZE = 65_536;
const COUNT = 32;
/** What is in the file, and what is in memory that is nobody's. */
const DATA = 0x11;
const CANARY = 0xc5;

const pattern = Buffer.alloc(SIZE, CANARY);

/** Memory that nobody may write to. */
class Canaries {
  readonly #watched: Uint8Array[] = [];

  put(bytes: Uint8Array): void {
    bytes.fill(CANARY);
    this.#watched.push(bytes);
  }

  check(): void {
    assert.ok(this.#watched.length > 0, 'something was watched');
    for (const [index, bytes] of this.#watched.entries()) {
      assert.ok(
        Buffer.compare(bytes, pattern.subarray(0, bytes.length)) === 0,
        `memory ${index} of ${this.#watched.length} was written to after it was given back`,
      );
    }
  }
}

function dataFile(t: TestContext): string {
  const path = join(scratch(t), 'data');
  writeFileSync(path, Buffer.alloc(SIZE * COUNT, DATA));
  return path;
}

/** Keeps the engine and the memory allocator busy: what was late has its time, and what was freed its next owner. */
async function traffic(engine: EngineName, fd: number): Promise<void> {
  const ctx = new AioContext({ maxRequests: COUNT, engine });
  for (let round = 0; round < 4; round++) {
    const requests = Array.from({ length: COUNT }, (_, i) =>
      new AioRequest<Buffer>().prepareRead(fd, i * SIZE, allocBuffer(SIZE)),
    );
    ctx.submit(requests);
    for (let left = COUNT; left > 0; ) left -= (await ctx.wait({ min: left })).completed.length;
  }
  await ctx.close();
}

const names = engines().flatMap(({ name, available }) => (available && name !== 'simulated' ? [name] : []));

for (const engine of names) {
  for (const [mode, flag] of [
    ['direct', O_DIRECT],
    ['buffered', 0],
  ] as const) {
    describe(`memory that was given back, ${engine}, ${mode}`, () => {
      test('stays as it is after completion, and so does what lies beside it', async (t) => {
        const fd = open(t, dataFile(t), O_RDONLY | flag);
        const ctx = context(t, { maxRequests: COUNT, engine });
        const canaries = new Canaries();
        // One slab: a slice to read into, one to watch, and so on.
        const pool = new AlignedPool({ size: SIZE, count: 2 * COUNT + 1 });
        const slices = Array.from({ length: 2 * COUNT + 1 }, () => pool.acquire() ?? Buffer.alloc(0));
        for (let i = 0; i <= 2 * COUNT; i += 2) canaries.put(slices[i] ?? Buffer.alloc(0));
        const into = (i: number): Buffer => slices[2 * i + 1] ?? Buffer.alloc(0);
        const requests = Array.from({ length: COUNT }, (_, i) =>
          new AioRequest<Buffer>().prepareRead(fd, i * SIZE, into(i), into(i)),
        );
        ctx.submit(requests);
        while (ctx.pending > 0) {
          for (const request of (await ctx.wait()).completed) {
            assert.equal(request.result(), SIZE);
            const buffer = request.userData as Buffer;
            assert.ok(buffer.every((byte) => byte === DATA));
            canaries.put(buffer);
          }
        }
        await traffic(engine, fd);
        canaries.check();
      });

      test('stays as it is from the moment that cancel() answers canceled', async (t) => {
        const fd = open(t, dataFile(t), O_RDONLY | flag);
        const canaries = new Canaries();
        let canceled = 0;
        for (let round = 0; round < 3; round++) {
          const ctx = context(t, { maxRequests: 4 * COUNT, engine });
          const requests = Array.from({ length: 4 * COUNT }, (_, i) => {
            const buffer = i % 2 === 0 ? allocBuffer(SIZE) : aligned(SIZE, SharedArrayBuffer);
            return new AioRequest<Uint8Array>().prepareRead(fd, (i % COUNT) * SIZE, buffer, buffer);
          });
          ctx.submit(requests);
          const over = new Set<AioRequest>();
          // From the first on, which the kernel may have begun, and from the last.
          for (const request of round % 2 === 0 ? requests : requests.toReversed()) {
            if (request.state !== 'submitted' || request.cancel() !== 'canceled') continue;
            canaries.put(request.userData ?? new Uint8Array());
            over.add(request);
          }
          canceled += over.size;
          while (ctx.pending > 0) {
            for (const request of (await ctx.wait()).completed) {
              // What was answered 'in-progress' goes on, and may still end either way.
              if (over.has(request)) assert.equal(request.status, 'ERR_AIO_CANCELED');
              else canaries.put(request.userData as Uint8Array);
            }
          }
          await ctx.close();
        }
        await traffic(engine, fd);
        canaries.check();
        t.diagnostic(`${canceled} of ${3 * 4 * COUNT} could be canceled`);
      });

      test('stays as it is from the moment that an aborted call of a handle rejects', async (t) => {
        const path = dataFile(t);
        const handle = await openHandle(path, { engine, direct: flag !== 0 });
        t.after(() => handle.close());
        const canaries = new Canaries();
        let aborted = 0;
        for (let round = 0; round < 3; round++) {
          const aborter = new AbortController();
          const calls = Array.from({ length: 200 }, async (_, i) => {
            // Odd ones are read through bounce memory.
            const shift = i % 2;
            const bytes = i % 3 === 0 ? Buffer.alloc(SIZE) : allocBuffer(SIZE);
            try {
              const position = (i % (COUNT - 1)) * SIZE + shift;
              await handle.read(bytes, { position, length: SIZE - shift, signal: aborter.signal });
            } catch (error) {
              assert.equal((error as Error).name, 'AbortError');
              aborted++;
            }
            canaries.put(bytes);
          });
          for (let turns = 0; turns < round; turns++) await new Promise((resolve) => setImmediate(resolve));
          aborter.abort();
          await Promise.all(calls);
        }
        assert.ok(aborted > 0);
        await traffic(engine, open(t, path, O_RDONLY | flag));
        canaries.check();
      });

      test('stays as it is after close() of a handle with calls in flight', async (t) => {
        const path = dataFile(t);
        const canaries = new Canaries();
        for (let round = 0; round < 3; round++) {
          const handle = await openHandle(path, { engine, direct: flag !== 0 });
          const memory = Array.from({ length: COUNT }, (_, i) => (i % 2 ? allocBuffer(SIZE) : Buffer.alloc(SIZE)));
          const calls = memory.map((bytes, i) => handle.read(bytes, { position: i * SIZE }));
          await handle.close();
          for (const bytes of memory) canaries.put(bytes);
          for (const { bytesRead } of await Promise.all(calls)) assert.equal(bytesRead, SIZE);
        }
        await traffic(engine, open(t, path, O_RDONLY | flag));
        canaries.check();
      });

      test('is not somebody else’s before the kernel is done with it, when everything in flight is dropped and collected', async (t) => {
        const fd = open(t, dataFile(t), O_RDWR | flag);
        const canaries = new Canaries();
        const drop = (): void => {
          const ctx = new AioContext({ maxRequests: COUNT, engine });
          const requests = Array.from({ length: COUNT }, (_, i) => {
            const buffer = i % 2 === 0 ? allocBuffer(SIZE) : aligned(SIZE, ArrayBuffer);
            return new AioRequest().prepareRead(fd, i * SIZE, buffer);
          });
          ctx.submit(requests);
        };
        for (let round = 0; round < 3; round++) {
          drop();
          collectGarbage();
          // Of the sizes that were dropped: where memory was freed too early, it is found again here.
          for (let i = 0; i < COUNT; i++) canaries.put(i % 2 === 0 ? allocBuffer(SIZE) : Buffer.alloc(SIZE));
          await new Promise((resolve) => setImmediate(resolve));
          collectGarbage();
        }
        await traffic(engine, fd);
        canaries.check();
      });

      test('stays as it is when the worker that was reading into it has ended', async (t) => {
        if (lacks('descriptors of other threads', t)) return;
        const path = dataFile(t);
        const fd = open(t, path, O_RDONLY | flag);
        const canaries = new Canaries();
        for (let round = 0; round < 3; round++) {
          const shared = new SharedArrayBuffer(COUNT * SIZE + 4096);
          const worker = new Worker(new URL('./programs/canary-worker.mjs', import.meta.url), {
            workerData: { fd, engine, shared, count: COUNT, size: SIZE },
            execArgv: [],
          });
          await once(worker, 'message');
          for (let turns = 0; turns < 5 * round; turns++) await new Promise((resolve) => setImmediate(resolve));
          await worker.terminate();
          for (let i = 0; i < COUNT; i++) canaries.put(new Uint8Array(shared, i * SIZE, SIZE));
        }
        await traffic(engine, fd);
        canaries.check();
      });
    });
  }
}

describe('memory that was given back, pipes', () => {
  test('a read of an empty pipe that was canceled does not get what is written to the pipe later', async (t) => {
    if (!names.includes('io-uring')) {
      t.skip('only io_uring can cancel a read of a pipe, and it is not available here');
      return;
    }
    const path = join(scratch(t), 'fifo');
    execFileSync('mkfifo', [path]);
    const fd = open(t, path, constants.O_RDWR);
    const ctx = context(t, { maxRequests: 16, engine: 'io-uring' });
    const canaries = new Canaries();
    const requests = Array.from({ length: 16 }, () => {
      const buffer = allocBuffer(4096);
      return new AioRequest<Buffer>().prepareRead(fd, 0, buffer, buffer);
    });
    ctx.submit(requests);
    for (const request of requests) {
      assert.equal(request.cancel(), 'canceled');
      canaries.put(request.userData ?? Buffer.alloc(0));
    }
    writeSync(fd, Buffer.alloc(4096, DATA));
    for (const request of (await ctx.wait({ min: 16 })).completed) assert.equal(request.status, 'ERR_AIO_CANCELED');
    await delay(20);
    canaries.check();
    const after = Buffer.alloc(4096);
    ctx.submit([new AioRequest().prepareRead(fd, 0, after)]);
    await ctx.wait();
    assert.ok(
      after.every((byte) => byte === DATA),
      'and nothing of it is lost',
    );
  });
});
