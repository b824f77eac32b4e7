/** node:fs as an engine: the contract, and what only this engine has. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { constants, cpSync, read, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { AioContext, type AioContextOptions, AioRequest, allocBuffer, wake } from '../src/index.ts';
import { chosen, conformance } from './conformance.ts';
import { lacks } from './runtime.ts';
import { child, coded, collectGarbage, context, type Ended, open, run, scratch, scratchFile } from './support.ts';

const BLOCK = 4096;
const root = fileURLToPath(new URL('..', import.meta.url));

conformance({
  engine: 'threads',
  waitSync: { why: 'its completions come through the event loop' },
  cancelOfFileRead: ['canceled', 'in-progress'],
});

/** Keeps every thread of the pool busy, until the returned function is called, or the test is over. */
function blockPool(t: TestContext): () => void {
  const path = join(scratch(t), 'fifo');
  execFileSync('mkfifo', [path]);
  const fd = open(t, path, constants.O_RDWR);
  const size = Number(process.env.UV_THREADPOOL_SIZE ?? 4);
  for (let i = 0; i < size; i++) read(fd, Buffer.alloc(1), 0, 1, null, () => undefined);
  let blocked = true;
  const release = (): void => {
    if (blocked) writeSync(fd, Buffer.alloc(size));
    blocked = false;
  };
  t.after(release);
  return release;
}

/** The library without its shim, as it is where nothing could be built, and a program beside it. */
function withoutShim(t: TestContext, program: string, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const copy = scratch(t);
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true });
  cpSync(join(root, 'package.json'), join(copy, 'package.json'));
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  writeFileSync(join(copy, 'data'), randomBytes(64 * BLOCK));
  writeFileSync(join(copy, 'program.mjs'), program);
  return child(process.execPath, ['--expose-gc', join(copy, 'program.mjs'), join(copy, 'data')], env);
}

/** Reads, writes, flushes, waits, is woken by a worker, cancels, fails; prints what came of it. */
const EVERYTHING = `
import { closeSync, openSync, readFileSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
if (process.env.PLATFORM) Object.defineProperty(process, 'platform', { value: process.env.PLATFORM });
const { AioContext, AioRequest, AlignedPool, allocBuffer, engines, getLimits, wake } = await import('./dist/index.js');
if (!isMainThread) {
  wake(workerData.waker);
} else {
  const path = process.argv[2];
  const before = readFileSync(path);
  const fd = openSync(path, 'r+');
  const context = new AioContext({ maxRequests: 64, waitWithoutPendingRequests: true });
  const said = { engine: context.engine, engines: engines(), limits: getLimits(path) };
  async function all(requests) {
    context.submit(requests);
    for (let left = requests.length; left > 0; ) left -= (await context.wait({ min: left })).completed.length;
    return requests;
  }
  const pool = new AlignedPool({ size: 4096, count: 64 });
  const buffers = Array.from({ length: 64 }, (_, i) => (i % 2 ? allocBuffer(4096) : pool.acquire()));
  const reads = await all(buffers.map((buffer, i) => new AioRequest().prepareRead(fd, i * 4096, buffer)));
  said.read = reads.every((request) => request.result() === 4096) && Buffer.concat(buffers).equals(before);
  for (const buffer of buffers) buffer.reverse();
  const writes = buffers.map((buffer, i) => new AioRequest().prepareWrite(fd, BigInt(i) * 4096n, buffer));
  said.wrote = (await all(writes)).every((request) => request.result() === 4096);
  const parts = [Buffer.alloc(5), new Float64Array(3), new Uint16Array(new SharedArrayBuffer(6)), allocBuffer(4096)];
  const [vector, flush, bad] = await all([
    new AioRequest().prepareReadv(fd, 10, parts),
    new AioRequest().prepareFlush(fd),
    new AioRequest().prepareRead(987654, 0, parts[0]),
  ]);
  const bytes = parts.map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength));
  said.vector = vector.result() === 4131 && Buffer.concat(bytes).equals(readFileSync(path).subarray(10, 4141));
  said.flush = flush.status;
  said.bad = [bad.status, bad.error.syscall, bad.error.errno < 0];
  new Worker(new URL(import.meta.url), { workerData: { waker: context.waker }, argv: [path] });
  said.woken = (await context.wait()).reason;
  said.timeout = (await context.wait({ timeoutMs: 20 })).reason;
  try {
    context.waitSync();
  } catch (error) {
    said.waitSync = error.code;
  }
  const many = Array.from({ length: 64 }, () => new AioRequest().prepareRead(fd, 0, Buffer.alloc(4096)));
  context.submit(many);
  const answer = many[63].cancel();
  await context.wait({ min: 64 });
  said.canceled = [answer, many[63].status, many[63].error.code, many[63].error.errno < 0];
  said.stats = context.stats.canceled;
  try {
    new AioContext({ maxRequests: 1, engine: 'kernel-aio' });
  } catch (error) {
    said.kernel = error.code + ' ' + error.message;
  }
  try {
    getLimits(path + '-not-there');
  } catch (error) {
    said.missing = [error.name, error.code];
  }
  await context.close();
  wake(context.waker);
  closeSync(fd);
  console.log(JSON.stringify(said));
}`;

if (chosen('threads')) {
  describe('threads', () => {
    function make(t: TestContext, options: Partial<AioContextOptions> = {}): AioContext {
      return context(t, { maxRequests: 256, engine: 'threads', ...options });
    }

    function reads(fd: number, count: number): AioRequest<number>[] {
      return Array.from({ length: count }, (_, i) =>
        new AioRequest<number>().prepareRead(fd, (i % 16) * BLOCK, allocBuffer(BLOCK), i),
      );
    }

    test('what waits for its turn can be canceled, wherever it stands, once; what node:fs has cannot', async (t) => {
      if (lacks('a pool to fill', t)) return;
      const { fd } = scratchFile(t, 16 * BLOCK);
      const ctx = make(t);
      const release = blockPool(t);
      const requests = reads(fd, 256);
      ctx.submit(requests);
      const answers = requests.map((request) => request.cancel());
      const handed = answers.indexOf('canceled');
      assert.ok(handed >= 4 && handed < 128, `${handed} were handed to node:fs`);
      assert.ok(answers.slice(handed).every((answer) => answer === 'canceled'));
      for (const [index, request] of requests.entries()) {
        assert.equal(request.state, 'submitted');
        assert.equal(request.cancel(), answers[index], 'the answer stays what it was');
      }
      // What was canceled is there at once, with the pool still blocked.
      const first = await ctx.wait({ min: 256 - handed });
      assert.deepEqual(new Set(first.completed), new Set(requests.slice(handed)));
      for (const request of first.completed) assert.equal(request.status, 'ERR_AIO_CANCELED');
      release();
      const rest = await ctx.wait({ min: handed });
      assert.deepEqual(new Set(rest.completed), new Set(requests.slice(0, handed)));
      for (const request of rest.completed) assert.equal(request.result(), BLOCK);
      assert.equal(ctx.stats.canceled, 256 - handed);
      assert.equal(ctx.pending, 0);
    });

    test('what is canceled out of the middle makes room for others, while the rest still waits', async (t) => {
      if (lacks('a pool to fill', t)) return;
      const { fd } = scratchFile(t, 16 * BLOCK);
      const ctx = make(t);
      const release = blockPool(t);
      const requests = reads(fd, 256);
      ctx.submit(requests);
      for (let round = 0; round < 3; round++) {
        let canceled = 0;
        for (let index = 255 - round; index >= 0; index -= 3) if (requests[index]?.cancel() === 'canceled') canceled++;
        const { completed } = await ctx.wait({ min: canceled });
        assert.equal(completed.length, canceled);
        for (const request of completed) {
          assert.equal(request.status, 'ERR_AIO_CANCELED');
          request.prepareRead(fd, 0, allocBuffer(BLOCK));
        }
        ctx.submit(completed);
      }
      release();
      const { completed } = await ctx.wait({ min: 256 });
      assert.equal(new Set(completed).size, 256);
      for (const request of completed) assert.equal(request.result(), BLOCK);
    });

    test('a wait under way learns of what is canceled', async (t) => {
      if (lacks('a pool to fill', t)) return;
      const { fd } = scratchFile(t, 16 * BLOCK);
      const ctx = make(t);
      const release = blockPool(t);
      const requests = reads(fd, 256);
      ctx.submit(requests);
      const waiting = ctx.wait();
      const last = requests.at(-1);
      assert.ok(last);
      await turn();
      assert.equal(last.cancel(), 'canceled');
      assert.deepEqual((await waiting).completed, [last]);
      release();
      await ctx.wait({ min: 255 });
    });

    test('a buffer that is transferred away while its request waits for its turn', async (t) => {
      if (lacks('a pool to fill', t)) return;
      const { fd, data } = scratchFile(t, 16 * BLOCK);
      const ctx = make(t);
      const release = blockPool(t);
      const views = Array.from({ length: 256 }, () => new Uint8Array(BLOCK));
      const requests = views.map((view, i) =>
        i % 2 === 0 ? new AioRequest().prepareRead(fd, 0, view) : new AioRequest().prepareWritev(fd, 8 * BLOCK, [view]),
      );
      ctx.submit(requests);
      const taken = views.map((view) => new Uint8Array(structuredClone(view.buffer, { transfer: [view.buffer] })));
      release();
      await ctx.wait({ min: 256 });
      // Bun hands out a copy of what its file system has at the time, and detaches nothing.
      for (const [i, request] of requests.entries()) {
        assert.equal(request.status, views[i]?.length === 0 ? 'ERR_AIO_BUFFER_DETACHED' : 'OK');
      }
      for (const bytes of taken) assert.deepEqual(Buffer.from(bytes), Buffer.alloc(BLOCK));
      assert.ok(data);
    });

    test('positions at the end of what a file can have', async (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = make(t);
      const end = 2n ** 63n - 1n;
      const bytes = allocBuffer(16);
      const requests = [
        new AioRequest().prepareRead(fd, end - 16n, bytes),
        new AioRequest().prepareRead(fd, end, bytes),
        new AioRequest().prepareWrite(fd, end - 16n, bytes),
        new AioRequest().prepareWritev(fd, 2n ** 60n, [bytes]),
        new AioRequest().prepareReadv(fd, 2n ** 60n, [bytes]),
        new AioRequest().prepareRead(fd, Number.MAX_SAFE_INTEGER, bytes),
        new AioRequest().prepareReadv(fd, Number.MAX_SAFE_INTEGER, [bytes]),
      ];
      await run(ctx, requests);
      assert.deepEqual(
        requests.map(({ status }) => status),
        ['OK', 'EINVAL', 'EFBIG', 'EFBIG', 'EINVAL', 'OK', 'OK'],
      );
      for (const request of requests) assert.equal(request.bytesTransferred, 0);
    });

    test('a context that was waited on and dropped is collected', async (t) => {
      const { fd } = scratchFile(t, 16 * BLOCK);
      const dropped = await (async () => {
        const ctx = new AioContext({ maxRequests: 16, engine: 'threads', waitWithoutPendingRequests: true });
        await run(ctx, reads(fd, 16));
        await ctx.wait({ timeoutMs: 1 });
        return new WeakRef(ctx);
      })();
      for (let tries = 0; dropped.deref() !== undefined; tries++) {
        assert.ok(tries < 100, 'it is still there');
        await new Promise((resolve) => setTimeout(resolve, 10));
        collectGarbage();
      }
    });

    test('100,000 waits leave nothing behind', async (t) => {
      const ctx = make(t, { waitWithoutPendingRequests: true });
      const wait = async (count: number): Promise<number> => {
        for (let i = 0; i < count; i++) {
          const waiting = ctx.wait();
          if (i % 2 === 0) ctx.wakeup();
          else wake(ctx.waker);
          assert.equal((await waiting).reason, 'woken');
        }
        collectGarbage();
        return process.memoryUsage().heapUsed;
      };
      const before = await wait(10_000);
      const growth = (await wait(100_000)) - before;
      assert.ok(growth < 2 ** 20, `the heap grew by ${growth} bytes`);
    });

    test('waking a context whose thread is terminated meanwhile', async (t) => {
      for (let round = 0; round < 10; round++) {
        const worker = new Worker(new URL('./programs/waiting-worker.mjs', import.meta.url), { execArgv: [] });
        t.after(() => void worker.terminate());
        const { waker, turns } = await new Promise<{ waker: AioContext['waker']; turns: Int32Array }>((resolve) =>
          worker.once('message', resolve),
        );
        while (Atomics.load(turns, 0) < 100) {
          wake(waker);
          await turn();
        }
        const ended = worker.terminate();
        for (let i = 0; i < 1000; i++) wake(waker);
        assert.equal(await ended, 1);
        wake(waker);
      }
    });

    test('sqpoll is refused', () => {
      const options = { maxRequests: 1, engine: 'threads', sqpoll: true } as const;
      assert.throws(() => new AioContext(options), coded('ERR_AIO_NOT_SUPPORTED', /io-uring/));
    });

    for (const platform of [undefined, 'darwin', 'win32']) {
      test(`without the shim${platform === undefined ? '' : `, on ${platform}`}, everything works by threads`, async (t) => {
        const { code, stdout, stderr } = await withoutShim(t, EVERYTHING, { PLATFORM: platform });
        assert.equal(code, 0, stderr);
        const { engines, limits, kernel, ...said } = JSON.parse(stdout);
        assert.deepEqual(said, {
          engine: 'threads',
          read: true,
          wrote: true,
          vector: true,
          flush: 'OK',
          bad: ['EBADF', 'read', true],
          woken: 'woken',
          timeout: 'timeout',
          waitSync: 'ERR_AIO_NOT_SUPPORTED',
          canceled: ['canceled', 'ERR_AIO_CANCELED', 'ERR_AIO_CANCELED', true],
          stats: 1,
          missing: ['AioError', 'ENOENT'],
        });
        assert.deepEqual(engines.at(-1), { name: 'threads', available: true });
        const why = platform === undefined ? /npm run build:native/ : new RegExp(`Linux only, and this is ${platform}`);
        for (const engine of engines.slice(0, -1)) {
          assert.equal(engine.available, false);
          assert.match(engine.why, why);
        }
        assert.match(kernel, /^ERR_AIO_NOT_SUPPORTED /);
        assert.match(kernel, why);
        assert.equal(limits.maxOutstanding, 131_072);
      });
    }

    test('without the shim, a runtime without Atomics.waitAsync is woken all the same', async (t) => {
      const { code, stdout, stderr } = await withoutShim(t, `delete Atomics.waitAsync;\n${WAKES}`);
      assert.equal(code, 0, stderr);
      assert.deepEqual(JSON.parse(stdout), { woken: 200, last: 'timeout' });
    });

    test('without the shim, misaligned direct I/O says what may be the matter', async (t) => {
      const { code, stdout, stderr } = await withoutShim(t, DIRECT);
      assert.equal(code, 0, stderr);
      const { length, address, current } = JSON.parse(stdout);
      assert.match(length, /^ERR_AIO_MISALIGNED .*length of its buffer, 100, is 100 past a multiple of 512/);
      // Ordinary memory may happen to be aligned.
      assert.match(address, /^(OK|ERR_AIO_MISALIGNED .*address of its memory.*npm run build:native)/);
      assert.match(current, /^(OK|ERR_AIO_MISALIGNED .* at the current position on .*address of its memory)/);
    });
  });
}

const WAKES = `
const { Worker, isMainThread, workerData } = await import('node:worker_threads');
const { AioContext, wake } = await import('./dist/index.js');
if (isMainThread) {
  const context = new AioContext({ maxRequests: 1, waitWithoutPendingRequests: true });
  new Worker(new URL(import.meta.url), { workerData: context.waker });
  let woken = 0;
  while (woken < 200 && (await context.wait({ timeoutMs: 10000 })).reason === 'woken') woken++;
  console.log(JSON.stringify({ woken, last: (await context.wait({ timeoutMs: 50 })).reason }));
} else {
  for (let i = 0; i < 200; i++) {
    wake(workerData);
    if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}`;

const DIRECT = `
import { constants, openSync } from 'node:fs';
import { AioContext, AioRequest, allocBuffer } from './dist/index.js';
const fd = openSync(process.argv[2], constants.O_RDWR | constants.O_DIRECT);
const context = new AioContext({ maxRequests: 2 });
const memory = new Uint8Array(8192 + 16);
const requests = [
  new AioRequest().prepareRead(fd, 0, allocBuffer(100)),
  new AioRequest().prepareWrite(fd, 0, memory.subarray(16, 16 + 4096)),
];
context.submit(requests);
await context.wait({ min: 2 });
const [length, address] = requests.map(({ status, error }) => status + ' ' + (error?.message ?? ''));
const { readFile } = await import('./dist/promises.js');
const current = await readFile(process.argv[2], { direct: true }).then(() => 'OK', ({ code, message }) => code + ' ' + message);
console.log(JSON.stringify({ length, address, current }));`;
