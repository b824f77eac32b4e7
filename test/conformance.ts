/**
 * The contract, as one suite over any engine: what differs between engines is a declared capability, with its reason, and
 * what only one engine has is tested in that engine's own file.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import diagnostics from 'node:diagnostics_channel';
import { getEventListeners } from 'node:events';
import { constants, ftruncateSync, readdirSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import {
  AioContext,
  AioError,
  AioRequest,
  AlignedPool,
  allocBuffer,
  type CancelMessage,
  type CompleteMessage,
  type EngineName,
  type EngineSource,
  getLimits,
  type SubmitMessage,
  type WaitResult,
  wake,
} from '../src/index.ts';
import { lacks } from './runtime.ts';
import {
  aligned,
  type Cleanup,
  coded,
  collectGarbage,
  loopDevice,
  context as makeContext,
  O_DIRECT,
  O_RDONLY,
  O_WRONLY,
  open as openReal,
  program,
  scratchFile as realScratchFile,
  run,
  type Scratch,
  scratch,
  smallFileSystem,
} from './support.ts';

/** What an engine can do; where it cannot, the reason. */
export interface Capabilities {
  readonly engine: EngineName;
  /** waitSync blocks in the kernel. An engine that is called back by the event loop cannot: it would block what it waits for. */
  readonly waitSync: true | { readonly why: string };
  /**
   * What `cancel` answers for a read of a regular file that was submitted: 'canceled' where the engine can take it back from
   * its own queue, or from the kernel's.
   */
  readonly cancelOfFileRead: readonly ('canceled' | 'in-progress')[];
  /** For an engine that is no way to the kernel: where it has its files, and what time it is there. */
  readonly elsewhere?: Elsewhere;
}

/** A disk that is not this machine's. */
export interface Elsewhere {
  readonly engine: EngineSource;
  /** What the kernel alone can do is left out, for this reason. */
  readonly why: string;
  now(): number;
  scratchFile(t: Cleanup, size: number, flags?: number): Scratch;
  open(t: Cleanup, path: string, flags: number): number;
  readFileSync(path: string): Buffer;
  ftruncateSync(fd: number, size: number): void;
}

const BLOCK = 4096;

/** Whether an engine is to be tested: all are, or those that the environment variable `ENGINES` names, with commas between. */
export function isChosen(engine: EngineName): boolean {
  const wanted = process.env.ENGINES ?? '';
  return wanted === '' || wanted.split(',').some((name) => name.trim() === engine);
}

/** The same, and an engine that is not shows as one skipped test. */
export function chosen(engine: EngineName): boolean {
  if (isChosen(engine)) return true;
  test(`the engine ${engine}`, (t) => t.skip(`ENGINES=${process.env.ENGINES} leaves it out`));
  return false;
}

const real = { scratchFile: realScratchFile, open: openReal, readFileSync, ftruncateSync };

/** What the kernel itself says to read(2). */
function refusesOddAddress(fd: number): boolean {
  try {
    readSync(fd, allocBuffer(2 * BLOCK), 1, BLOCK, 0);
    return false;
  } catch {
    return true;
  }
}

export function conformance(capabilities: Capabilities): void {
  const { engine: name, elsewhere } = capabilities;
  if (!chosen(name)) return;
  const engine = elsewhere?.engine ?? name;
  const { scratchFile, open, readFileSync, ftruncateSync } = elsewhere ?? real;
  const now = (): number => (elsewhere ?? performance).now();
  /** For a wait that something else ends: virtual time would be up at once. */
  const patienceMs = elsewhere === undefined ? 30_000 : Infinity;

  /** Of what goes wrong now and then only. Of a simulated disk the kernel knows nothing, and of threads only what Node itself gives it. */
  const times = elsewhere !== undefined ? 5 : name === 'threads' ? 20 : 50;
  /** Of what the others show as well. */
  const fewer = Math.min(times, 20);

  /** Skips what needs the machine's own disks, with the reason. */
  function needsKernel(t: TestContext): boolean {
    if (elsewhere !== undefined) t.skip(elsewhere.why);
    return elsewhere !== undefined;
  }

  function context(
    t: TestContext,
    maxRequests = 64,
    more: { waitWithoutPendingRequests?: boolean; latency?: boolean } = {},
  ): AioContext {
    return makeContext(t, { maxRequests, engine, ...more });
  }

  function blockReads(fd: number, count: number): AioRequest<number>[] {
    return Array.from({ length: count }, (_, i) =>
      new AioRequest<number>().prepareRead(fd, i * BLOCK, allocBuffer(BLOCK), i),
    );
  }

  /** Tests of waitSync, or one test that shows how it is refused. */
  function blocking(title: string, body: (t: TestContext) => void | Promise<void>): void {
    const { waitSync } = capabilities;
    if (waitSync === true) test(title, body);
    else test(`${title}: this engine refuses waitSync, since ${waitSync.why}`, (t) => refusesWaitSync(t));
  }

  function refusesWaitSync(t: TestContext): void {
    const ctx = context(t, 1, { waitWithoutPendingRequests: true });
    assert.throws(() => ctx.waitSync({ timeoutMs: 1 }), coded('ERR_AIO_NOT_SUPPORTED', /kernel-aio/));
    assert.throws(() => ctx.waitSync({ min: 0 }), coded('ERR_AIO_NOT_SUPPORTED'));
    assert.throws(() => ctx.waitSync(), coded('ERR_AIO_NOT_SUPPORTED'));
    assert.throws(() => ctx.waitSync({ timeoutMs: -1 }), coded('ERR_OUT_OF_RANGE'));
    assert.equal(ctx.stats.waitCalls, 0);
  }

  describe(`${name}: a request and its states`, () => {
    test('a new request is completed, OK, with 0 bytes and no user data', () => {
      const request = new AioRequest();
      assert.equal(request.state, 'completed');
      assert.equal(request.status, 'OK');
      assert.equal(request.bytesTransferred, 0);
      assert.equal(request.userData, undefined);
      assert.equal(request.error, undefined);
      assert.equal(request.result(), 0);
    });

    type State = 'completed' | 'prepared' | 'submitted' | 'disposed';

    /** A request in the given state, over a file of its own; `finish` lets a submitted one complete. */
    function inState(t: TestContext, state: State): { request: AioRequest<string>; ctx: AioContext; fd: number } {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = context(t, 4);
      const request = new AioRequest<string>();
      if (state === 'disposed') request.dispose();
      if (state === 'prepared' || state === 'submitted') request.prepareRead(fd, 0, allocBuffer(BLOCK), 'given');
      if (state === 'submitted') ctx.submit([request]);
      return { request, ctx, fd };
    }

    type Call = (request: AioRequest<string>, ctx: AioContext, fd: number) => unknown;
    const buffer = allocBuffer(BLOCK);
    const prepares: Record<string, Call> = {
      prepareRead: (request, _, fd) => request.prepareRead(fd, 0, buffer, 'new'),
      prepareWrite: (request, _, fd) => request.prepareWrite(fd, 0, buffer, 'new'),
      prepareReadv: (request, _, fd) => request.prepareReadv(fd, 0, [buffer], 'new'),
      prepareWritev: (request, _, fd) => request.prepareWritev(fd, 0, [buffer], 'new'),
      prepareFlush: (request, _, fd) => request.prepareFlush(fd, {}, 'new'),
    };
    const throwing =
      (code: string) =>
      (call: () => unknown): void =>
        assert.throws(call, coded(code));
    const answering =
      (...expected: unknown[]) =>
      (call: () => unknown): void =>
        assert.ok(expected.includes(call()), `one of ${expected}`);
    const anything = (call: () => unknown): void => void call();

    const table: Record<string, { call: Call } & Record<State, (call: () => unknown) => void>> = {
      submit: {
        call: (request, ctx) => ctx.submit([request]),
        completed: throwing('ERR_AIO_NOT_PREPARED'),
        prepared: anything,
        submitted: throwing('ERR_AIO_IN_PROGRESS'),
        disposed: throwing('ERR_AIO_CLOSED'),
      },
      cancel: {
        call: (request) => request.cancel(),
        completed: throwing('ERR_AIO_COMPLETED'),
        prepared: throwing('ERR_AIO_NOT_SUBMITTED'),
        submitted: answering('canceled', 'in-progress'),
        disposed: throwing('ERR_AIO_CLOSED'),
      },
      status: {
        call: (request) => request.status,
        completed: answering('OK'),
        prepared: answering('ERR_AIO_NOT_SUBMITTED'),
        submitted: answering('ERR_AIO_IN_PROGRESS'),
        disposed: throwing('ERR_AIO_CLOSED'),
      },
      state: {
        call: (request) => request.state,
        completed: answering('completed'),
        prepared: answering('prepared'),
        submitted: answering('submitted'),
        disposed: throwing('ERR_AIO_CLOSED'),
      },
      result: {
        call: (request) => request.result(),
        completed: answering(0),
        prepared: throwing('ERR_AIO_NOT_SUBMITTED'),
        submitted: throwing('ERR_AIO_IN_PROGRESS'),
        disposed: throwing('ERR_AIO_CLOSED'),
      },
      error: {
        call: (request) => request.error?.code,
        completed: answering(undefined),
        prepared: answering('ERR_AIO_NOT_SUBMITTED'),
        submitted: answering('ERR_AIO_IN_PROGRESS'),
        disposed: throwing('ERR_AIO_CLOSED'),
      },
      bytesTransferred: {
        call: (request) => request.bytesTransferred,
        completed: answering(0),
        prepared: answering(0),
        submitted: answering(0),
        disposed: throwing('ERR_AIO_CLOSED'),
      },
      userData: {
        call: (request) => request.userData,
        completed: answering(undefined),
        prepared: answering('given'),
        submitted: answering('given'),
        disposed: throwing('ERR_AIO_CLOSED'),
      },
      dispose: {
        call: (request) => request.dispose(),
        completed: anything,
        prepared: anything,
        submitted: throwing('ERR_AIO_IN_PROGRESS'),
        disposed: anything,
      },
    };
    for (const [name, call] of Object.entries(prepares)) {
      table[name] = {
        call,
        completed: anything,
        prepared: anything,
        submitted: throwing('ERR_AIO_IN_PROGRESS'),
        disposed: throwing('ERR_AIO_CLOSED'),
      };
    }
    const after: Record<string, Partial<Record<State, State>>> = {
      submit: { prepared: 'submitted' },
      dispose: { completed: 'disposed', prepared: 'disposed' },
      ...Object.fromEntries(
        Object.keys(prepares).map((name) => [name, { completed: 'prepared', prepared: 'prepared' }]),
      ),
    };

    for (const [name, row] of Object.entries(table)) {
      for (const state of ['completed', 'prepared', 'submitted', 'disposed'] as const) {
        test(`${name} on a request that is ${state}`, (t) => {
          const { request, ctx, fd } = inState(t, state);
          row[state](() => row.call(request, ctx, fd));
          const then = after[name]?.[state] ?? state;
          if (then === 'disposed') assert.throws(() => request.state, coded('ERR_AIO_CLOSED'));
          else assert.equal(request.state, then);
          if (state === 'submitted') assert.equal(request.userData, 'given');
          if (then === 'prepared' && name.startsWith('prepare')) assert.equal(request.userData, 'new');
        });
      }
    }

    test('preparing anew before submitting replaces everything', async (t) => {
      const { fd, data } = scratchFile(t, 3 * BLOCK);
      const ctx = context(t);
      const first = allocBuffer(BLOCK);
      const second = allocBuffer(100);
      const request = new AioRequest<string>().prepareRead(fd, 0, first, 'first');
      request.prepareRead(fd, 5000, second, 'second');
      await run(ctx, [request]);
      assert.equal(request.userData, 'second');
      assert.equal(request.result(), 100);
      assert.deepEqual(second, data.subarray(5000, 5100));
      assert.deepEqual(first, Buffer.alloc(BLOCK));
    });

    test('a prepare with a bad argument leaves a prepared request as it was', async (t) => {
      const { fd, data } = scratchFile(t, BLOCK);
      const ctx = context(t);
      const buffer = allocBuffer(BLOCK);
      const request = new AioRequest<string>().prepareRead(fd, 0, buffer, 'good');
      assert.throws(() => request.prepareWrite(-1, 0, buffer, 'bad'), coded('ERR_OUT_OF_RANGE'));
      assert.throws(() => request.prepareWrite(fd, -1, buffer, 'bad'), coded('ERR_OUT_OF_RANGE'));
      assert.throws(() => request.prepareWrite(fd, 1.5, buffer, 'bad'), coded('ERR_OUT_OF_RANGE'));
      assert.throws(() => request.prepareWrite(fd, Number.NaN, buffer, 'bad'), coded('ERR_OUT_OF_RANGE'));
      assert.throws(() => request.prepareWrite(fd, 2n ** 63n, buffer, 'bad'), coded('ERR_OUT_OF_RANGE'));
      const wrong = (value: unknown): never => value as never;
      assert.throws(() => request.prepareWrite(wrong('1'), 0, buffer), coded('ERR_INVALID_ARG_TYPE'));
      assert.throws(() => request.prepareWrite(fd, wrong(null), buffer), coded('ERR_INVALID_ARG_TYPE'));
      assert.throws(() => request.prepareWrite(fd, 0, wrong(new ArrayBuffer(8))), coded('ERR_INVALID_ARG_TYPE'));
      assert.throws(() => request.prepareWritev(fd, 0, wrong(buffer)), coded('ERR_INVALID_ARG_TYPE'));
      assert.throws(
        () => request.prepareWritev(fd, 0, wrong([buffer, 'text'])),
        coded('ERR_INVALID_ARG_TYPE', /buffers\[1\]/),
      );
      assert.throws(() => request.prepareFlush(fd, wrong(1)), coded('ERR_INVALID_ARG_TYPE'));
      for (const options of [{ dataOnly: 'yes' }, { dataOnly: null }, [], null]) {
        assert.throws(() => request.prepareFlush(fd, wrong(options)), coded('ERR_INVALID_ARG_TYPE'));
      }
      await run(ctx, [request]);
      assert.equal(request.userData, 'good');
      assert.equal(request.result(), BLOCK);
      assert.deepEqual(buffer, data);
    });

    test('a prepare that finds no memory leaves a prepared request as it was', async (t) => {
      const { fd, data } = scratchFile(t, BLOCK);
      const ctx = context(t);
      const buffer = allocBuffer(BLOCK);
      const request = new AioRequest<string>().prepareRead(fd, 0, buffer, 'good');
      // 200 TiB to read into, more than a process can address: there can be no bounce buffer for that.
      const huge = new Array<Uint8Array>(200_000).fill(new Uint8Array(2 ** 30));
      assert.throws(() => request.prepareReadv(fd, 100, huge, 'bad'), coded('ENOMEM', /bounce buffer/));
      await run(ctx, [request]);
      assert.equal(request.userData, 'good');
      assert.equal(request.result(), BLOCK);
      assert.deepEqual(buffer, data);
    });

    test('a request can be prepared, submitted and completed again and again, with other buffers and operations', async (t) => {
      const { fd, data } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t);
      const request = new AioRequest<number>();
      for (let round = 0; round < 20; round++) {
        const buffer = allocBuffer(BLOCK);
        await run(ctx, [request.prepareRead(fd, (round % 4) * BLOCK, buffer, round)]);
        assert.equal(request.result(), BLOCK);
        assert.equal(request.userData, round);
        assert.deepEqual(buffer, data.subarray((round % 4) * BLOCK, ((round % 4) + 1) * BLOCK));
        await run(ctx, [request.prepareFlush(fd)]);
        assert.equal(request.result(), 0);
      }
      assert.equal(ctx.stats.submitted, 40);
    });
  });

  describe(`${name}: submitting`, () => {
    test('a mistake anywhere in the array submits nothing and changes nothing', (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t);
      const good = blockReads(fd, 2);
      const strange: unknown[] = [
        undefined,
        null,
        {},
        'request',
        { state: 'prepared' },
        Object.create(AioRequest.prototype),
        new Proxy(new AioRequest(), {}),
      ];
      for (const foreign of strange) {
        const array = [good[0], foreign, good[1]] as AioRequest[];
        assert.throws(() => ctx.submit(array), coded('ERR_INVALID_ARG_TYPE', /requests\[1\]/));
      }
      assert.throws(() => ctx.submit([...good, new AioRequest()]), coded('ERR_AIO_NOT_PREPARED', /requests\[2\]/));
      assert.throws(() => ctx.submit('requests' as never), coded('ERR_INVALID_ARG_TYPE'));
      for (const request of good) assert.equal(request.state, 'prepared');
      assert.equal(ctx.pending, 0);
      assert.equal(ctx.stats.submitted, 0);
    });

    test('a request twice in one array is refused as a whole, and named', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t);
      const [a, b] = blockReads(fd, 2);
      assert.ok(a && b);
      assert.throws(() => ctx.submit([a, b, a]), coded('ERR_AIO_IN_PROGRESS', /requests\[2\]/));
      assert.equal(a.state, 'prepared');
      assert.equal(b.state, 'prepared');
      assert.equal(ctx.pending, 0);
      await run(ctx, [a, b]);
      assert.equal(a.result(), BLOCK);
    });

    test('a request in flight cannot be submitted again, here or elsewhere', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t);
      const other = context(t);
      const [a, b] = blockReads(fd, 2);
      assert.ok(a && b);
      ctx.submit([a]);
      assert.throws(() => ctx.submit([b, a]), coded('ERR_AIO_IN_PROGRESS', /requests\[1\]/));
      assert.throws(() => other.submit([b, a]), coded('ERR_AIO_IN_PROGRESS', /requests\[1\]/));
      assert.equal(b.state, 'prepared');
      assert.equal(ctx.pending, 1);
      const { completed } = await ctx.wait();
      assert.deepEqual(completed, [a]);
    });

    test('an empty array is fine', (t) => {
      const ctx = context(t);
      ctx.submit([]);
      assert.equal(ctx.pending, 0);
      assert.equal(ctx.stats.submitCalls, 0);
    });

    test('one bad descriptor completes with EBADF and holds up nobody', async (t) => {
      const { fd, data } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t);
      const [a, bad, c] = blockReads(fd, 3);
      assert.ok(a && bad && c);
      bad.prepareRead(987654, 0, allocBuffer(BLOCK), 1);
      await run(ctx, [a, bad, c]);
      assert.equal(a.result(), BLOCK);
      assert.equal(c.result(), BLOCK);
      assert.equal(bad.status, 'EBADF');
      assert.equal(bad.bytesTransferred, 0);
      const { error } = bad;
      assert.ok(error instanceof AioError);
      assert.equal(error.errno, -9);
      assert.equal(error.syscall, 'read');
      assert.match(error.message, /EBADF: bad file descriptor, read of 4096 bytes at position 0 on descriptor 987654/);
      assert.throws(() => bad.result(), coded('EBADF'));
      assert.ok(data);
      assert.equal(ctx.stats.failed, 1);
      assert.equal(ctx.stats.completed, 3);
    });

    test('bad ones at every place of the batch', async (t) => {
      const { fd } = scratchFile(t, 16 * BLOCK);
      const ctx = context(t);
      for (const badAt of [[0], [7], [0, 1, 2, 3, 4, 5, 6, 7], [0, 2, 4, 6], [3, 4]]) {
        const requests = blockReads(fd, 8);
        for (const index of badAt) requests[index]?.prepareWrite(987654, 0, allocBuffer(1), index);
        await run(ctx, requests);
        for (const [index, request] of requests.entries()) {
          assert.equal(request.status, badAt.includes(index) ? 'EBADF' : 'OK');
        }
      }
    });

    test('past maxRequests: what fits is submitted, the rest stays prepared and goes later', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t, 1);
      let left = blockReads(fd, 3);
      const order: (number | undefined)[] = [];
      for (let round = 0; round < 2; round++) {
        assert.throws(
          () => ctx.submit(left),
          (error) => {
            assert.ok(error instanceof AioError);
            assert.equal(error.code, 'ERR_AIO_INSUFFICIENT_RESOURCES');
            assert.equal(error.submitted, 1);
            assert.match(error.message, /1 of \d requests were submitted.*maxRequests 1.*slice\(error\.submitted\)/s);
            return true;
          },
        );
        assert.deepEqual(
          left.map((request) => request.state),
          ['submitted', ...left.slice(1).map(() => 'prepared')],
        );
        assert.throws(() => ctx.submit(left.slice(1)), coded('ERR_AIO_INSUFFICIENT_RESOURCES', /^0 of/));
        for (const request of (await ctx.wait()).completed) order.push(request.userData as number);
        left = left.slice(1);
      }
      await run(ctx, left);
      assert.deepEqual(order, [0, 1]);
      assert.equal(left[0]?.result(), BLOCK);
      assert.equal(ctx.pending, 0);
      assert.equal(ctx.stats.maxPending, 1);
    });

    test('pending counts from submit until wait hands out', async (t) => {
      const { fd } = scratchFile(t, 16 * BLOCK);
      const ctx = context(t);
      ctx.submit(blockReads(fd, 10));
      assert.equal(ctx.pending, 10);
      const first = await ctx.wait({ min: 4, max: 4 });
      assert.equal(first.completed.length, 4);
      assert.equal(ctx.pending, 6);
      await ctx.wait({ min: 6 });
      assert.equal(ctx.pending, 0);
    });

    test('an array that runs code while it is read cannot submit its requests twice', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t);
      const [a, b] = blockReads(fd, 2);
      assert.ok(a && b);
      const array = [a, b];
      Object.defineProperty(array, 1, {
        get() {
          ctx.submit([b]);
          return b;
        },
      });
      assert.throws(() => ctx.submit(array), coded('ERR_AIO_IN_PROGRESS', /requests\[1\]/));
      assert.equal(a.state, 'prepared');
      assert.equal(ctx.pending, 1);
      assert.deepEqual((await ctx.wait()).completed, [b]);
    });
  });

  describe(`${name}: waiting`, () => {
    for (const count of [65, 128, 1000]) {
      test(`min ${count} with that many requests, handed out at once`, async (t) => {
        const { fd, data } = scratchFile(t, 1000 * 512);
        const ctx = context(t, count);
        const requests = Array.from({ length: count }, (_, i) =>
          new AioRequest<number>().prepareRead(fd, i * 512, allocBuffer(512), i),
        );
        ctx.submit(requests);
        const { completed, reason } = await ctx.wait({ min: count });
        assert.equal(reason, 'completed');
        assert.equal(new Set(completed).size, count);
        for (const request of completed) assert.equal(request.result(), 512);
        assert.ok(data);
      });

      blocking(`waitSync with min ${count} and that many requests`, (t) => {
        const { fd } = scratchFile(t, 1000 * 512, O_DIRECT);
        const ctx = context(t, count);
        const pool = new AlignedPool({ size: 512, count });
        ctx.submit(
          Array.from({ length: count }, (_, i) =>
            new AioRequest<number>().prepareRead(fd, i * 512, pool.acquire() ?? Buffer.alloc(0), i),
          ),
        );
        const { completed, reason } = ctx.waitSync({ min: count });
        assert.equal(reason, 'completed');
        assert.deepEqual(
          completed.map((request) => request.userData as number).sort((a, b) => a - b),
          Array.from({ length: count }, (_, i) => i),
        );
      });
    }

    test('min 100,000 gathers 100,000', async (t) => {
      const { maxOutstanding } = getLimits(undefined, engine);
      const { fd } = scratchFile(t, BLOCK);
      const ctx = context(t, Math.min(maxOutstanding, 50_000));
      const buffer = allocBuffer(1);
      const count = ctx.maxRequests;
      ctx.submit(Array.from({ length: count }, () => new AioRequest().prepareRead(fd, 0, buffer)));
      const { completed } = await ctx.wait({ min: count });
      assert.equal(new Set(completed).size, count);
      // More than there can be: gathered until the time is up, and nothing lost.
      ctx.submit(completed.slice(0, 100).map((request) => request.prepareRead(fd, 0, buffer)));
      const rest = await ctx.wait({ min: 100_000, timeoutMs: 200 });
      assert.equal(rest.reason, 'timeout');
      assert.equal(rest.completed.length, 100);
    });

    test('max hands out no more, and the rest comes later, each once', async (t) => {
      const { fd } = scratchFile(t, 32 * BLOCK);
      const ctx = context(t);
      const requests = blockReads(fd, 32);
      ctx.submit(requests);
      const seen = new Set<AioRequest>();
      while (ctx.pending > 0) {
        const { completed } = await ctx.wait({ max: 5 });
        assert.ok(completed.length >= 1 && completed.length <= 5);
        for (const request of completed) {
          assert.ok(!seen.has(request), 'handed out once');
          assert.equal(request.state, 'completed');
          seen.add(request);
        }
        for (const request of requests) if (!seen.has(request)) assert.equal(request.state, 'submitted');
      }
      assert.equal(seen.size, 32);
    });

    test('min 0 hands out what is there and never blocks', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t, 4, { waitWithoutPendingRequests: true });
      assert.deepEqual(await ctx.wait({ min: 0 }), { completed: [], reason: 'completed' });
      ctx.submit(blockReads(fd, 4));
      let seen = 0;
      while (seen < 4) {
        const { completed, reason } = await ctx.wait({ min: 0 });
        assert.equal(reason, 'completed');
        seen += completed.length;
      }
      assert.equal(ctx.pending, 0);
    });

    test('min above max, negative timeouts and other nonsense are refused', async (t) => {
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      const refused: [unknown, string][] = [
        [{ min: 3, max: 2 }, 'ERR_OUT_OF_RANGE'],
        [{ max: 0 }, 'ERR_OUT_OF_RANGE'],
        [{ min: -1 }, 'ERR_OUT_OF_RANGE'],
        [{ min: 1.5 }, 'ERR_OUT_OF_RANGE'],
        [{ max: Number.NaN }, 'ERR_OUT_OF_RANGE'],
        [{ timeoutMs: -1 }, 'ERR_OUT_OF_RANGE'],
        [{ timeoutMs: Number.NaN }, 'ERR_OUT_OF_RANGE'],
        [{ min: '1' }, 'ERR_INVALID_ARG_TYPE'],
        [{ timeoutMs: '1' }, 'ERR_INVALID_ARG_TYPE'],
        [{ signal: {} }, 'ERR_INVALID_ARG_TYPE'],
        [null, 'ERR_INVALID_ARG_TYPE'],
        [7, 'ERR_INVALID_ARG_TYPE'],
      ];
      for (const [options, code] of refused) {
        await assert.rejects(ctx.wait(options as never), coded(code));
        if (capabilities.waitSync === true) assert.throws(() => ctx.waitSync(options as never), coded(code));
      }
    });

    test('a wait for nothing is refused, unless the context was made for it', async (t) => {
      const strict = context(t, 1);
      await assert.rejects(strict.wait({ timeoutMs: 1 }), coded('ERR_AIO_NO_REQUEST', /waitWithoutPendingRequests/));
      if (capabilities.waitSync === true) {
        assert.throws(() => strict.waitSync({ timeoutMs: 1 }), coded('ERR_AIO_NO_REQUEST'));
      }
      const patient = context(t, 1, { waitWithoutPendingRequests: true });
      assert.deepEqual(await patient.wait({ timeoutMs: 5 }), { completed: [], reason: 'timeout' });
    });

    test('a timeout hands out what completed before it', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t);
      const requests = blockReads(fd, 3);
      ctx.submit(requests);
      const began = now();
      const { completed, reason } = await ctx.wait({ min: 10, timeoutMs: 150 });
      assert.equal(reason, 'timeout');
      assert.deepEqual(new Set(completed), new Set(requests));
      assert.ok(now() - began >= 149, 'not before its time');
      assert.equal(ctx.pending, 0);
    });

    blocking('waitSync: a timeout hands out what completed before it', (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t);
      const requests = blockReads(fd, 3);
      ctx.submit(requests);
      const began = now();
      const { completed, reason } = ctx.waitSync({ min: 10, timeoutMs: 250 });
      assert.equal(reason, 'timeout');
      assert.deepEqual(new Set(completed), new Set(requests));
      const took = now() - began;
      assert.ok(took >= 249 && took < 5000, `took ${took} ms`);
    });

    test('timeoutMs 0 does not wait, and a fraction of a millisecond is a time', async (t) => {
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      assert.equal((await ctx.wait({ timeoutMs: 0 })).reason, 'timeout');
      assert.equal((await ctx.wait({ timeoutMs: 0.25 })).reason, 'timeout');
      if (capabilities.waitSync === true) {
        assert.equal(ctx.waitSync({ timeoutMs: 0 }).reason, 'timeout');
        assert.equal(ctx.waitSync({ timeoutMs: 0.25 }).reason, 'timeout');
      }
    });

    test('a second wait at the same time is refused, the first goes on', async (t) => {
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      const first = ctx.wait();
      await assert.rejects(ctx.wait({ timeoutMs: 1 }), coded('ERR_AIO_BUSY', /one waiter/));
      if (capabilities.waitSync === true) assert.throws(() => ctx.waitSync({ timeoutMs: 1 }), coded('ERR_AIO_BUSY'));
      ctx.wakeup();
      assert.equal((await first).reason, 'woken');
    });

    test('a wait is under way until its caller can know that it is over, also where everything was there before it', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t, 2);
      const requests = blockReads(fd, 2);
      const again = (): void => {
        for (const [index, request] of requests.entries()) request.prepareRead(fd, index * BLOCK, allocBuffer(BLOCK));
        ctx.submit(requests);
      };
      // The device decides what is there when it is asked for: both come to pass.
      for (let round = 0; round < 50; round++) {
        again();
        const first = ctx.wait();
        const second = assert.rejects(ctx.wait(), coded('ERR_AIO_BUSY', /one waiter/));
        if (capabilities.waitSync === true) assert.throws(() => ctx.waitSync(), coded('ERR_AIO_BUSY'));
        let left = 2 - (await first).completed.length;
        await second;
        if (left > 0) assert.equal((await ctx.wait()).completed.length, left);

        again();
        const woken = ctx.wait();
        ctx.wakeup();
        const { completed, reason } = await woken;
        assert.equal(reason, 'woken');
        for (left = 2 - completed.length; left > 0; ) left -= (await ctx.wait()).completed.length;

        again();
        const controller = new AbortController();
        const aborted = ctx.wait({ signal: controller.signal });
        controller.abort();
        await assert.rejects(aborted, { name: 'AbortError' });
        assert.equal(ctx.pending, 2);

        const both = ctx.wait({ min: 2 });
        await assert.rejects(ctx.close(), coded('ERR_AIO_BUSY'));
        assert.equal((await both).completed.length, 2);
      }
      again();
      const last = ctx.wait({ min: 2 });
      await ctx[Symbol.asyncDispose]();
      assert.equal((await last).completed.length, 2);
    });

    test('closing ends a wait for nothing, also one that is over', async (t) => {
      for (const options of [{}, { min: 0 }, { timeoutMs: 0 }]) {
        const ctx = context(t, 1, { waitWithoutPendingRequests: true });
        const waiting = assert.rejects(ctx.wait(options), coded('ERR_AIO_CLOSED'));
        await ctx.close();
        await waiting;
      }
    });

    test('a listener that lets no other have the event does not keep a wait from being aborted', async (t) => {
      if (lacks('abort listeners that resist stopImmediatePropagation', t)) return;
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      const controller = new AbortController();
      controller.signal.addEventListener('abort', (event) => event.stopImmediatePropagation());
      const waiting = ctx.wait({ signal: controller.signal, timeoutMs: patienceMs });
      controller.abort();
      await assert.rejects(waiting, { name: 'AbortError' });
    });

    test('many contexts may wait with one signal, and leave nothing at it', async (t) => {
      const warnings: Error[] = [];
      const warned = (warning: Error): void => {
        warnings.push(warning);
      };
      process.on('warning', warned);
      const controller = new AbortController();
      const contexts = Array.from({ length: 20 }, () => context(t, 1, { waitWithoutPendingRequests: true }));
      const waits = contexts.map((ctx) => ctx.wait({ signal: controller.signal }));
      await new Promise((resolve) => setImmediate(resolve));
      for (const ctx of contexts.slice(0, 10)) ctx.wakeup();
      for (const woken of await Promise.all(waits.slice(0, 10))) assert.equal(woken.reason, 'woken');
      controller.abort();
      for (const ended of await Promise.allSettled(waits.slice(10))) assert.equal(ended.status, 'rejected');
      process.removeListener('warning', warned);
      assert.deepEqual(warnings, []);
      assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
    });

    blocking('what has ended by then is in the result of waitSync, whatever ends it', async (t) => {
      if (needsKernel(t)) return;
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t, 8);
      const reads = (count: number): AioRequest[] =>
        Array.from({ length: count }, (_, i) => new AioRequest().prepareRead(fd, i * BLOCK, allocBuffer(BLOCK)));
      // From the page cache, these are over when submit returns.
      ctx.submit(reads(3));
      ctx.wakeup();
      const woken = ctx.waitSync({ min: 5 });
      assert.deepEqual([woken.reason, woken.completed.length], ['woken', 3]);
      ctx.submit(reads(3));
      assert.equal(ctx.waitSync({ max: 1 }).completed.length, 1);
      ctx.submit(reads(2));
      assert.equal(ctx.waitSync().completed.length, 4);
    });

    test('aborting rejects with AbortError and leaves the requests as they were', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t);
      const requests = blockReads(fd, 3);
      ctx.submit(requests);
      const controller = new AbortController();
      const waiting = ctx.wait({ min: 10, signal: controller.signal });
      const why = new Error('changed my mind');
      setImmediate(() => controller.abort(why));
      await assert.rejects(waiting, (error) => {
        assert.ok(error instanceof Error);
        assert.equal(error.name, 'AbortError');
        assert.equal('code' in error && error.code, 'ABORT_ERR');
        assert.equal(error.cause, why);
        return true;
      });
      assert.equal(ctx.pending, 3);
      for (const request of requests) assert.equal(request.state, 'submitted');
      await assert.rejects(ctx.wait({ signal: controller.signal }), { name: 'AbortError' });
      assert.equal((await ctx.wait({ min: 3 })).completed.length, 3);
    });

    test('a submit while a wait is under way counts for it', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t, 4, { waitWithoutPendingRequests: true });
      const waiting = ctx.wait({ min: 2 });
      const [a, b] = blockReads(fd, 2);
      assert.ok(a && b);
      await delay(1);
      ctx.submit([a]);
      await delay(1);
      ctx.submit([b]);
      assert.deepEqual(new Set((await waiting).completed), new Set([a, b]));
    });

    test('a request that is refused, or done, within a submit ends a wait that is asleep', async (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = context(t, 100, { waitWithoutPendingRequests: true });
      const [good] = blockReads(fd, 1);
      assert.ok(good);
      const bad = new AioRequest().prepareRead(987654, 0, allocBuffer(BLOCK));
      for (const request of [bad, good]) {
        const waiting = ctx.wait({ timeoutMs: patienceMs });
        setImmediate(() => {
          for (let i = 0; i < 100; i++) ctx.submit([]);
          ctx.submit([request]);
        });
        const { completed, reason } = await waiting;
        assert.equal(reason, 'completed');
        assert.deepEqual(completed, [request]);
      }
    });

    test('a signal that was tampered with is listened to all the same, and leaves the context as it was', async (t) => {
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      const controller = new AbortController();
      const { signal } = controller;
      for (const method of ['addEventListener', 'removeEventListener']) {
        Object.defineProperty(signal, method, {
          value() {
            throw new Error('not this signal');
          },
        });
      }
      // Once past the first turn of the event loop, and once within it.
      assert.equal((await ctx.wait({ signal, timeoutMs: 1 })).reason, 'timeout');
      assert.equal((await ctx.wait({ signal, timeoutMs: 1 })).reason, 'timeout');
      const waiting = ctx.wait({ signal });
      controller.abort();
      await assert.rejects(waiting, { name: 'AbortError' });
      assert.equal((await ctx.wait({ timeoutMs: 1 })).reason, 'timeout');
    });

    test('a loop of waits that are satisfied at once still lets timers run', async (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = context(t, 1);
      let ticks = 0;
      const timer = setInterval(() => ticks++, 1);
      const [request] = blockReads(fd, 1);
      assert.ok(request);
      const until = performance.now() + 5000;
      while (ticks < 10 && performance.now() < until) {
        ctx.submit([request.prepareRead(fd, 0, allocBuffer(1))]);
        await ctx.wait();
      }
      clearInterval(timer);
      assert.ok(ticks >= 10, `${ticks} ticks in 5 s`);
    });
  });

  describe(`${name}: waking`, () => {
    test('a wakeup before a wait ends the next one, and no other', async (t) => {
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      ctx.wakeup();
      assert.equal((await ctx.wait({ timeoutMs: 1000 })).reason, 'woken');
      assert.equal((await ctx.wait({ timeoutMs: 20 })).reason, 'timeout');
      assert.equal(ctx.stats.wakeups, 1);
    });

    test('a wakeup during a wait ends it, and no other', async (t) => {
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      for (let round = 0; round < 100; round++) {
        const waiting = ctx.wait();
        if (round % 2 === 0) ctx.wakeup();
        else setImmediate(() => ctx.wakeup());
        assert.equal((await waiting).reason, 'woken');
      }
      assert.equal((await ctx.wait({ timeoutMs: 20 })).reason, 'timeout');
    });

    test('each of several wakeups ends one wait', async (t) => {
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      for (let i = 0; i < 5; i++) wake(ctx.waker);
      for (let i = 0; i < 5; i++) ctx.wakeup();
      const reasons: WaitResult['reason'][] = [];
      for (let i = 0; i < 11; i++) reasons.push((await ctx.wait({ timeoutMs: 20 })).reason);
      assert.deepEqual(reasons, [...Array.from({ length: 10 }, () => 'woken'), 'timeout']);
    });

    test('a woken wait hands out what had completed', async (t) => {
      const { fd } = scratchFile(t, 8 * BLOCK);
      const ctx = context(t);
      const requests = blockReads(fd, 8);
      ctx.submit(requests);
      const seen: AioRequest[] = [];
      while (seen.length < 8) {
        ctx.wakeup();
        const { completed, reason } = await ctx.wait({ min: 8 });
        assert.equal(reason, 'woken');
        seen.push(...completed);
      }
      assert.deepEqual(new Set(seen), new Set(requests));
      assert.equal(seen.length, 8);
    });

    test('wake from the same thread ends a wait under way', async (t) => {
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      const waiting = ctx.wait({ timeoutMs: 5000 });
      wake(ctx.waker);
      assert.equal((await waiting).reason, 'woken');
      assert.throws(() => wake({} as never), coded('ERR_INVALID_ARG_TYPE'));
      assert.throws(() => wake({ cell: new Int32Array(4) } as never), coded('ERR_INVALID_ARG_TYPE'));
    });

    test('after close a wakeup does nothing, and never writes to a descriptor that somebody else got since', async (t) => {
      const contexts = Array.from({ length: 8 }, () => new AioContext({ maxRequests: 1, engine }));
      const wakers = contexts.map((each) => structuredClone(each.waker));
      await Promise.all(contexts.map((each) => each.close()));
      // These take over the numbers of the descriptors that were closed.
      const files = Array.from({ length: 40 }, () => realScratchFile(t, 0));
      for (const each of contexts) each.wakeup();
      for (const waker of wakers) wake(waker);
      for (const { path } of files) assert.equal(statSync(path).size, 0);
    });

    async function wokenByWorker(
      t: TestContext,
      wait: (ctx: AioContext) => WaitResult | Promise<WaitResult>,
    ): Promise<void> {
      const rounds = 10_000;
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      const turn = new Int32Array(new SharedArrayBuffer(4));
      const worker = new Worker(new URL('./programs/waker-worker.mjs', import.meta.url), {
        workerData: { waker: ctx.waker, turn, rounds },
      });
      t.after(() => void worker.terminate());
      for (let round = 1; round <= rounds; round++) {
        assert.equal((await wait(ctx)).reason, 'woken');
        // The worker wakes once for each round: a second wake-up now would be a doubled one.
        if (round % 1000 === 0) assert.equal((await ctx.wait({ timeoutMs: 0 })).reason, 'timeout');
        Atomics.store(turn, 0, round);
        Atomics.notify(turn, 0);
      }
      assert.equal((await ctx.wait({ timeoutMs: 50 })).reason, 'timeout');
      assert.equal(ctx.stats.wakeups, rounds);
    }

    test('10,000 wake-ups from a worker during wait, none lost and none doubled', (t) =>
      wokenByWorker(t, (ctx) => ctx.wait({ timeoutMs: patienceMs })));

    blocking('10,000 wake-ups from a worker during waitSync, none lost and none doubled', (t) =>
      wokenByWorker(t, (ctx) => ctx.waitSync({ timeoutMs: patienceMs })),
    );

    test('a storm of wake-ups from two workers: each ends one wait', async (t) => {
      const ctx = context(t, 1, { waitWithoutPendingRequests: true });
      const each = 5000;
      for (let i = 0; i < 2; i++) {
        const worker = new Worker(new URL('./programs/waker-worker.mjs', import.meta.url), {
          workerData: { waker: ctx.waker, turn: undefined, rounds: each },
        });
        t.after(() => void worker.terminate());
      }
      for (let round = 0; round < 2 * each; round++) {
        assert.equal((await ctx.wait({ timeoutMs: patienceMs })).reason, 'woken');
      }
      assert.equal((await ctx.wait({ timeoutMs: 50 })).reason, 'timeout');
    });

    blocking('signals that the program handles do not end waitSync, nor shorten its timeout', async (t) => {
      if (needsKernel(t)) return;
      const { code, stdout, stderr } = await program('signal-storm.ts', [name]);
      assert.equal(code, 0, stderr);
      const { took, reason, signals } = JSON.parse(stdout);
      assert.equal(reason, 'timeout');
      assert.ok(took >= 499 && took < 5000, `took ${took} ms`);
      assert.ok(signals > 0, 'the handler ran');
    });
  });

  describe(`${name}: canceling`, () => {
    test('canceling a file read in flight: the answer is kept, and the request is handed out once', async (t) => {
      const { fd, data } = scratchFile(t, 64 * 65536, O_DIRECT);
      const ctx = context(t);
      const requests = Array.from({ length: 64 }, (_, i) =>
        new AioRequest<number>().prepareRead(fd, i * 65536, allocBuffer(65536), i),
      );
      ctx.submit(requests);
      const answers = new Map(requests.map((request) => [request, request.cancel()]));
      const { completed } = await ctx.wait({ min: 64 });
      assert.equal(new Set(completed).size, 64);
      for (const request of completed) {
        const answer = answers.get(request as AioRequest<number>);
        assert.ok(answer !== undefined && capabilities.cancelOfFileRead.includes(answer), answer);
        // Work that io_uring has begun may be stopped after the answer (io-wq looks whether it was canceled before it tries again).
        const stopped = request.status === 'ERR_AIO_CANCELED';
        if (answer === 'canceled') assert.ok(stopped);
        else if (!stopped || !capabilities.cancelOfFileRead.includes('canceled')) assert.equal(request.result(), 65536);
      }
      assert.ok(data);
      assert.throws(() => requests[0]?.cancel(), coded('ERR_AIO_COMPLETED'));
      const { canceled, failed } = ctx.stats;
      assert.equal(canceled, completed.filter(({ status }) => status === 'ERR_AIO_CANCELED').length);
      assert.equal(failed, 0);
    });
  });

  describe(`${name}: closing`, () => {
    test('close is refused while requests are pending, and twice is fine', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = new AioContext({ maxRequests: 4, engine });
      ctx.submit(blockReads(fd, 4));
      await assert.rejects(ctx.close(), coded('ERR_AIO_BUSY', /4 requests are pending/));
      await ctx.wait({ min: 3, max: 3 });
      await assert.rejects(ctx.close(), coded('ERR_AIO_BUSY'));
      await ctx.wait();
      await Promise.all([ctx.close(), ctx.close()]);
      await ctx.close();
    });

    test('a closed context refuses work and keeps its figures', async (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = new AioContext({ maxRequests: 4, engine });
      await run(ctx, blockReads(fd, 1));
      await ctx.close();
      assert.throws(() => ctx.submit([]), coded('ERR_AIO_CLOSED'));
      assert.throws(() => ctx.waitSync(), coded('ERR_AIO_CLOSED'));
      assert.throws(() => ctx.associate(fd), coded('ERR_AIO_CLOSED'));
      await assert.rejects(ctx.wait(), coded('ERR_AIO_CLOSED'));
      assert.equal(ctx.pending, 0);
      assert.equal(ctx.engine, name);
      assert.equal(ctx.stats.completed, 1);
    });

    test('close ends a wait that waits for nothing', async () => {
      const ctx = new AioContext({ maxRequests: 4, engine, waitWithoutPendingRequests: true });
      const waiting = ctx.wait();
      await Promise.all([assert.rejects(waiting, coded('ERR_AIO_CLOSED')), ctx.close()]);
    });

    test('asyncDispose waits for what is pending, also beside a wait under way', async (t) => {
      const { fd } = scratchFile(t, 64 * 65536, O_DIRECT);
      const ctx = new AioContext({ maxRequests: 64, engine });
      const requests = Array.from({ length: 64 }, (_, i) =>
        new AioRequest().prepareRead(fd, i * 65536, allocBuffer(65536)),
      );
      ctx.submit(requests);
      const waiting = ctx.wait();
      await ctx[Symbol.asyncDispose]();
      assert.ok((await waiting).completed.length > 0);
      for (const request of requests) assert.equal(request.result(), 65536);
      assert.throws(() => ctx.submit([]), coded('ERR_AIO_CLOSED'));
    });

    test('the constructor refuses nonsense', () => {
      const refused: [unknown, string][] = [
        [undefined, 'ERR_INVALID_ARG_TYPE'],
        [{}, 'ERR_INVALID_ARG_TYPE'],
        [{ maxRequests: 0 }, 'ERR_OUT_OF_RANGE'],
        [{ maxRequests: -1 }, 'ERR_OUT_OF_RANGE'],
        [{ maxRequests: 1.5 }, 'ERR_OUT_OF_RANGE'],
        [{ maxRequests: getLimits(undefined, engine).maxOutstanding + 1, engine }, 'ERR_OUT_OF_RANGE'],
        [{ maxRequests: '8' }, 'ERR_INVALID_ARG_TYPE'],
        [{ maxRequests: 8, engine: 'rocket' }, 'ERR_INVALID_ARG_VALUE'],
        [{ maxRequests: 8, engine: 8 }, 'ERR_INVALID_ARG_TYPE'],
        [{ maxRequests: 8, waitWithoutPendingRequests: 1 }, 'ERR_INVALID_ARG_TYPE'],
      ];
      for (const [options, code] of refused) assert.throws(() => new AioContext(options as never), coded(code));
    });

    test('associate takes descriptors only', (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = context(t);
      ctx.associate(fd);
      assert.throws(() => ctx.associate(-1), coded('ERR_OUT_OF_RANGE'));
      assert.throws(() => ctx.associate('1' as never), coded('ERR_INVALID_ARG_TYPE'));
    });

    test('100 contexts opened and closed leave no descriptor behind', async () => {
      const before = readdirSync('/proc/self/fd').length;
      for (let round = 0; round < 5; round++) {
        const contexts = Array.from({ length: 20 }, () => new AioContext({ maxRequests: 4, engine }));
        await Promise.all(contexts.map((each) => each.close()));
      }
      assert.equal(readdirSync('/proc/self/fd').length, before);
    });
  });

  describe(`${name}: data`, () => {
    test('100 MiB written, flushed, read back and compared byte by byte, 64 requests of 64 KiB at a time', async (t) => {
      const size = 65536;
      const count = 1600;
      const { fd } = scratchFile(t, 0, O_DIRECT);
      const ctx = context(t, 64);
      const seed = randomBytes(size);
      const content = (index: number, into: Buffer): Buffer => {
        seed.copy(into);
        into.writeUInt32LE(index, 0);
        into.writeUInt32LE(index, size - 4);
        return into;
      };
      async function all(
        prepare: (request: AioRequest<Job>, job: Job) => void,
        check: (job: Job) => void,
      ): Promise<void> {
        const pool = new AlignedPool({ size, count: 64 });
        let next = 0;
        let requests = Array.from({ length: 64 }, () => new AioRequest<Job>());
        while (next < count || ctx.pending > 0) {
          const batch = requests.slice(0, count - next);
          for (const request of batch) {
            const buffer = pool.acquire();
            assert.ok(buffer);
            prepare(request, { index: next++, buffer });
          }
          ctx.submit(batch);
          requests = (await ctx.wait()).completed as AioRequest<Job>[];
          for (const request of requests) {
            assert.equal(request.result(), size);
            const job = request.userData;
            assert.ok(job);
            check(job);
            pool.release(job.buffer);
          }
        }
      }
      interface Job {
        readonly index: number;
        readonly buffer: Buffer;
      }
      await all(
        (request, job) => request.prepareWrite(fd, job.index * size, content(job.index, job.buffer), job),
        () => undefined,
      );
      const flushes = [new AioRequest().prepareFlush(fd), new AioRequest().prepareFlush(fd, { dataOnly: true })];
      await run(ctx, flushes);
      for (const flush of flushes) assert.equal(flush.result(), 0);
      const expected = Buffer.alloc(size);
      const seen = new Set<number>();
      await all(
        (request, job) => request.prepareRead(fd, job.index * size, job.buffer.fill(0), job),
        (job) => {
          assert.ok(job.buffer.equals(content(job.index, expected)), `block ${job.index}`);
          seen.add(job.index);
        },
      );
      assert.equal(seen.size, count);
      assert.equal(ctx.stats.bytesWritten, size * count);
      assert.equal(ctx.stats.bytesRead, size * count);
      assert.equal(ctx.pending, 0);
    });

    test('the last block of a file whose size is no multiple of the block comes with its true size', async (t) => {
      const { fd, data } = scratchFile(t, 10_000, O_DIRECT);
      const ctx = context(t);
      const buffer = allocBuffer(BLOCK);
      const request = new AioRequest().prepareRead(fd, 8192, buffer);
      await run(ctx, [request]);
      assert.equal(request.status, 'OK');
      assert.equal(request.bytesTransferred, 10_000 - 8192);
      assert.deepEqual(buffer.subarray(0, 10_000 - 8192), data.subarray(8192));
    });

    test('a short read leaves the rest of the buffer alone, whatever memory it is', async (t) => {
      const { fd, data } = scratchFile(t, 100);
      const ctx = context(t);
      const views = [allocBuffer(200), Buffer.alloc(200), Buffer.from(new SharedArrayBuffer(200))];
      for (const view of views) view.fill(0xaa);
      const requests = views.map((view) => new AioRequest().prepareRead(fd, 10, view));
      await run(ctx, requests);
      for (const [index, view] of views.entries()) {
        assert.equal(requests[index]?.bytesTransferred, 90);
        assert.deepEqual(Buffer.from(view.subarray(0, 90)), data.subarray(10));
        assert.deepEqual(Buffer.from(view.subarray(90)), Buffer.alloc(110, 0xaa));
      }
    });

    test('a read past the end, and one of no bytes, are OK with 0 bytes', async (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = context(t);
      const requests = [
        new AioRequest().prepareRead(fd, 1_000_000, allocBuffer(BLOCK)),
        new AioRequest().prepareRead(fd, 0, allocBuffer(0)),
        new AioRequest().prepareRead(fd, 0, new Uint8Array(0)),
        new AioRequest().prepareWrite(fd, 0, new Uint8Array(0)),
        new AioRequest().prepareReadv(fd, 0, []),
      ];
      await run(ctx, requests);
      for (const request of requests) assert.equal(request.result(), 0);
    });

    test('every kind of view takes part, and only its own bytes', async (t) => {
      const { fd, data } = scratchFile(t, 64);
      const ctx = context(t);
      const kinds: ((store: ArrayBufferLike) => ArrayBufferView)[] = [
        (store) => new Uint8Array(store, 8, 16),
        (store) => new Int16Array(store, 8, 8),
        (store) => new Float64Array(store, 8, 2),
        (store) => new BigUint64Array(store, 8, 2),
        (store) => new DataView(store, 8, 16),
        (store) => Buffer.from(store, 8, 16),
      ];
      for (const make of kinds) {
        for (const store of [new ArrayBuffer(32), new SharedArrayBuffer(32), allocBuffer(32).buffer]) {
          const request = new AioRequest().prepareRead(fd, 4, make(store));
          await run(ctx, [request]);
          assert.equal(request.result(), 16);
          const bytes = Buffer.from(new Uint8Array(store, 0, 32));
          assert.deepEqual(bytes, Buffer.concat([Buffer.alloc(8), data.subarray(4, 20), Buffer.alloc(8)]));
          new Uint8Array(store).subarray(8, 24).fill(0);
        }
      }
    });

    test('readv and writev with uneven parts', async (t) => {
      const { fd, path, data } = scratchFile(t, 50_000);
      const ctx = context(t);
      const sizes = [1, 4095, 0, 7, 16_384, 3, 20_000];
      const parts = sizes.map((size, index) => (index % 2 === 0 ? allocBuffer(size) : Buffer.alloc(size)));
      const read = new AioRequest().prepareReadv(fd, 123, parts);
      await run(ctx, [read]);
      const total = sizes.reduce((sum, size) => sum + size, 0);
      assert.equal(read.result(), total);
      assert.deepEqual(Buffer.concat(parts), data.subarray(123, 123 + total));
      for (const part of parts) part.reverse();
      const write = new AioRequest().prepareWritev(fd, 5, parts);
      await run(ctx, [write]);
      assert.equal(write.result(), total);
      assert.deepEqual(readFileSync(path).subarray(5, 5 + total), Buffer.concat(parts));
      // At the end of the file: the parts are filled in order, and the rest is left alone.
      for (const part of parts) part.fill(0xee);
      const tail = new AioRequest().prepareReadv(fd, 50_000 - 4100, parts);
      await run(ctx, [tail]);
      assert.equal(tail.result(), 4100);
      const expected = Buffer.alloc(total, 0xee);
      readFileSync(path).copy(expected, 0, 50_000 - 4100);
      assert.deepEqual(Buffer.concat(parts), expected);
    });

    test('more segments than one system call takes', async (t) => {
      const { fd, path, data } = scratchFile(t, 40_000);
      const ctx = context(t);
      const parts = Array.from({ length: 3000 }, (_, i) =>
        i % 3 === 0 ? Buffer.alloc(1 + (i % 13)) : allocBuffer(1 + (i % 13)),
      );
      const total = parts.reduce((sum, part) => sum + part.length, 0);
      const read = new AioRequest<string>().prepareReadv(fd, 77, parts, 'mine');
      await run(ctx, [read]);
      assert.equal(read.result(), total);
      assert.equal(read.userData, 'mine');
      assert.deepEqual(Buffer.concat(parts), data.subarray(77, 77 + total));
      for (const part of parts) part.fill(part.length);
      const write = new AioRequest().prepareWritev(fd, 1000, parts);
      await run(ctx, [write]);
      assert.equal(write.result(), total);
      assert.deepEqual(readFileSync(path).subarray(1000, 1000 + total), Buffer.concat(parts));
      // The file ends within the second group.
      ftruncateSync(fd, 10_000);
      const short = new AioRequest().prepareReadv(fd, 0, parts);
      await run(ctx, [short]);
      assert.equal(short.result(), 10_000);
    });

    test('a pipe that gave all that one system call takes is not asked for more: that could wait for ever', async (t) => {
      if (needsKernel(t)) return;
      const path = join(scratch(t), 'fifo');
      execFileSync('mkfifo', [path]);
      const fd = openReal(t, path, constants.O_RDWR);
      const ctx = context(t);
      const bytes = randomBytes(1024);
      writeSync(fd, bytes);
      const parts = Array.from({ length: 1500 }, () => allocBuffer(1));
      const request = new AioRequest().prepareReadv(fd, 0, parts);
      await run(ctx, [request]);
      // pread(2), which threads call, has nothing to say to pipes.
      if (name === 'threads') return void assert.equal(request.status, 'ESPIPE');
      assert.equal(request.result(), 1024);
      assert.deepEqual(Buffer.concat(parts.slice(0, 1024)), bytes);
    });

    test('positions above 4 GiB, as number and as bigint', async (t) => {
      const { fd } = scratchFile(t, 0, O_DIRECT);
      const ctx = context(t);
      const positions = [2 ** 32, 2 ** 32 + BLOCK, 5 * 2 ** 32 + 2 ** 31, 2n ** 40n + BigInt(BLOCK)];
      const written = positions.map((position, i) => {
        const buffer = allocBuffer(BLOCK).fill(i + 1);
        return new AioRequest().prepareWrite(fd, position, buffer);
      });
      await run(ctx, written);
      for (const request of written) assert.equal(request.result(), BLOCK);
      for (const [i, position] of positions.entries()) {
        const buffer = allocBuffer(BLOCK);
        const other = typeof position === 'bigint' ? Number(position) : BigInt(position);
        const request = new AioRequest().prepareRead(fd, other, buffer);
        await run(ctx, [request]);
        assert.equal(request.result(), BLOCK);
        assert.ok(buffer.every((byte) => byte === i + 1));
      }
    });

    test('O_APPEND ignores the position', async (t) => {
      const { path } = scratchFile(t, 10);
      const fd = open(t, path, O_WRONLY | constants.O_APPEND);
      const ctx = context(t);
      const request = new AioRequest().prepareWrite(fd, 2, Buffer.from('end'));
      await run(ctx, [request]);
      assert.equal(request.result(), 3);
      assert.equal(readFileSync(path).subarray(10).toString(), 'end');
    });

    test('the wrong mode is EBADF', async (t) => {
      const { path, fd } = scratchFile(t, BLOCK);
      const ctx = context(t);
      const read = new AioRequest().prepareRead(open(t, path, O_WRONLY), 0, allocBuffer(BLOCK));
      const write = new AioRequest().prepareWrite(open(t, path, O_RDONLY), 0, allocBuffer(BLOCK));
      await run(ctx, [read, write]);
      assert.equal(read.status, 'EBADF');
      assert.equal(write.status, 'EBADF');
      assert.match(write.error?.message ?? '', /opened for reading or writing/);
      const { error } = write;
      assert.equal(write.error, error, 'the outcome has one error');
      assert.throws(
        () => write.result(),
        (thrown) => thrown === error,
      );
      assert.equal(read.prepareRead(fd, 0, allocBuffer(BLOCK)).error?.code, 'ERR_AIO_NOT_SUBMITTED');
      await run(ctx, [read]);
      assert.equal(read.error, undefined);
    });

    test('a misaligned address, length or position is named, with what is needed', async (t) => {
      const { fd, path } = scratchFile(t, 8 * BLOCK, O_DIRECT);
      const { bufferAlignment, offsetAlignment } = getLimits(path, engine);
      assert.ok(offsetAlignment >= 512);
      const ctx = context(t);
      const big = allocBuffer(4 * BLOCK);
      const cases: [AioRequest, RegExp][] = [
        [new AioRequest().prepareRead(fd, 1, big.subarray(0, BLOCK)), /position 1 is 1 past a multiple of/],
        [new AioRequest().prepareRead(fd, 0, big.subarray(0, 100)), /length of its buffer, 100, is 100 past/],
        [new AioRequest().prepareWrite(fd, 513, big.subarray(0, 700)), /position 513.*length of its buffer, 700/],
      ];
      const parts = [big.subarray(0, BLOCK), big.subarray(3, 3)];
      cases.push([
        new AioRequest().prepareReadv(fd, 1, parts),
        /: its position 1 is 1 past a multiple of \d+\. Direct/, // no word of the address of nothing
      ]);
      const misplaced: [AioRequest, RegExp][] = [
        [
          new AioRequest().prepareRead(fd, 0, big.subarray(1, 1 + BLOCK)),
          new RegExp(`address of its buffer is 1 past a multiple of ${bufferAlignment}`),
        ],
        [
          new AioRequest().prepareReadv(fd, 0, [
            big.subarray(0, BLOCK),
            big.subarray(BLOCK + 1, BLOCK + 1 + offsetAlignment),
          ]),
          /address of buffers\[1\] is 1 past/,
        ],
      ];
      // A disk that asks nothing of addresses finds none misaligned; nor does a file system that is a process, and gets a copy.
      const asksForAddresses = elsewhere === undefined ? refusesOddAddress(fd) : bufferAlignment > 1;
      if (asksForAddresses) cases.push(...misplaced);
      await run(
        ctx,
        cases.map(([request]) => request),
      );
      for (const [request, message] of cases) {
        assert.equal(request.status, 'ERR_AIO_MISALIGNED');
        assert.match(request.error?.message ?? '', message);
        assert.match(request.error?.message ?? '', /allocBuffer/);
        assert.equal(request.error?.errno, -22);
        assert.throws(() => request.result(), coded('ERR_AIO_MISALIGNED'));
      }
    });

    test('direct reads into ordinary memory are right where they are aligned, and misaligned where they are not', async (t) => {
      const { fd, data } = scratchFile(t, 4 * BLOCK, O_DIRECT);
      const ctx = context(t);
      const store = new ArrayBuffer(4 * BLOCK);
      const statuses = new Set<string>();
      for (let offset = 0; offset < 1024; offset += 4) {
        const view = new Uint8Array(store, offset, 2 * BLOCK).fill(0);
        const request = new AioRequest().prepareRead(fd, BLOCK, view);
        await run(ctx, [request]);
        statuses.add(request.status);
        if (request.status === 'OK') assert.deepEqual(Buffer.from(view), data.subarray(BLOCK, 3 * BLOCK));
        else assert.equal(request.status, 'ERR_AIO_MISALIGNED');
      }
      assert.ok(statuses.has('OK'));
    });

    test('a write across RLIMIT_FSIZE is short, at it EFBIG', async (t) => {
      if (name === 'threads' && lacks('short writes of node:fs', t)) return;
      if (needsKernel(t)) return;
      const { code, stdout, stderr } = await program('file-size-limit.ts', [name]);
      assert.equal(code, 0, stderr);
      const { short, refused, message } = JSON.parse(stdout);
      assert.deepEqual(short, { status: 'OK', bytes: 4096 });
      assert.deepEqual(refused, { status: 'EFBIG', bytes: 0 });
      assert.match(message, /RLIMIT_FSIZE/);
    });

    test('a full file system is short, then ENOSPC', async (t) => {
      if (name === 'threads' && lacks('short writes of node:fs', t)) return;
      if (needsKernel(t)) return;
      if (process.getuid?.() !== 0) {
        t.skip('only root may mount a small tmpfs');
        return;
      }
      const directory = smallFileSystem(t, '1m');
      const fd = open(t, `${directory}/full`, constants.O_RDWR | constants.O_CREAT);
      const ctx = context(t);
      const request = new AioRequest();
      await run(ctx, [request.prepareWrite(fd, 0, allocBuffer(3 * 2 ** 20))]);
      assert.equal(request.result(), 2 ** 20);
      await run(ctx, [request.prepareWrite(fd, 2 ** 20, allocBuffer(BLOCK))]);
      assert.equal(request.status, 'ENOSPC');
      assert.match(request.error?.message ?? '', /file system is full/);
    });

    test('a block device is read and written', async (t) => {
      if (needsKernel(t)) return;
      const device = loopDevice(t, 16 * 2 ** 20);
      if ('why' in device) {
        t.skip(device.why);
        return;
      }
      const fd = open(t, device.path, constants.O_RDWR | O_DIRECT);
      const ctx = context(t);
      assert.equal(getLimits(device.path, engine).offsetAlignment, 512);
      const written = Array.from({ length: 64 }, (_, i) => {
        const buffer = allocBuffer(BLOCK).fill(i + 1);
        return new AioRequest<number>().prepareWrite(fd, i * 65536, buffer, i);
      });
      await run(ctx, written);
      for (const request of written) assert.equal(request.result(), BLOCK);
      await run(ctx, [new AioRequest().prepareFlush(fd)]);
      const buffers = written.map(() => allocBuffer(BLOCK));
      await run(
        ctx,
        buffers.map((buffer, i) => new AioRequest().prepareRead(fd, i * 65536, buffer)),
      );
      for (const [i, buffer] of buffers.entries()) assert.ok(buffer.every((byte) => byte === i + 1));
      const past = new AioRequest().prepareWrite(fd, 16 * 2 ** 20, allocBuffer(BLOCK));
      await run(ctx, [past]);
      assert.equal(past.status, 'ENOSPC');
    });

    test('any sequence of reads and writes does to a file what it does to a buffer', async (t) => {
      const size = 20_000;
      const operation = fc.record({
        write: fc.boolean(),
        position: fc.nat(size),
        parts: fc.array(fc.nat(5000), { maxLength: 4 }),
        vectored: fc.boolean(),
        own: fc.boolean(),
        fill: fc.nat(255),
      });
      const { fd } = scratchFile(t, 0);
      const ctx = context(t, 4);
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 12 }), async (operations) => {
          ftruncateSync(fd, 0);
          let model = Buffer.alloc(0);
          const request = new AioRequest();
          for (const { write, position, parts, vectored, own, fill } of operations) {
            const sizes = vectored ? parts : [parts.reduce((sum, part) => sum + part, 0)];
            const views = sizes.map((length) => (own ? allocBuffer(length) : Buffer.alloc(length)).fill(fill));
            const all = Buffer.concat(views);
            const single = views[0] ?? Buffer.alloc(0);
            if (write) {
              await run(ctx, [
                vectored ? request.prepareWritev(fd, position, views) : request.prepareWrite(fd, position, single),
              ]);
              assert.equal(request.result(), all.length);
              if (all.length > 0) {
                const grown = Buffer.alloc(Math.max(model.length, position + all.length));
                model.copy(grown);
                all.copy(grown, position);
                model = grown;
              }
            } else {
              await run(ctx, [
                vectored ? request.prepareReadv(fd, position, views) : request.prepareRead(fd, position, single),
              ]);
              const there = model.subarray(position, position + all.length);
              assert.equal(request.result(), there.length);
              assert.deepEqual(Buffer.concat(views), Buffer.concat([there, all.subarray(there.length)]));
            }
          }
        }),
        { numRuns: 60 },
      );
    });
  });

  describe(`${name}: observing`, () => {
    /** What comes on a channel about one context, until the test ends. */
    function listen<M extends { context: AioContext }>(t: TestContext, channel: string, ctx: AioContext): M[] {
      const messages: M[] = [];
      const onMessage = (message: unknown): void => {
        if ((message as M).context === ctx) messages.push(message as M);
      };
      diagnostics.subscribe(channel, onMessage);
      t.after(() => void diagnostics.unsubscribe(channel, onMessage));
      return messages;
    }

    test('inflight tells what is submitted and not handed out: operation, descriptor, position, length, age', async (t) => {
      const { fd } = scratchFile(t, 64 * BLOCK);
      const ctx = context(t, 8);
      assert.deepEqual(ctx.inflight(), []);
      const begun = now();
      const read = new AioRequest<string>().prepareRead(fd, 3 * BLOCK, allocBuffer(BLOCK), 'a read');
      ctx.submit([read]);
      const others = [
        new AioRequest<string>().prepareWrite(fd, 8n * 4096n, allocBuffer(100)),
        new AioRequest<string>().prepareReadv(fd, 0, [allocBuffer(10), allocBuffer(20)]),
        new AioRequest<string>().prepareFlush(fd, {}, 'a flush'),
        new AioRequest<string>().prepareFlush(fd, { dataOnly: true }),
      ];
      ctx.submit(others);
      const found = ctx.inflight();
      const what = found.map(({ ageMs, ended, ...rest }) => {
        assert.ok(ageMs >= 0 && ageMs <= now() - begun, `${ageMs} ms old`);
        assert.equal(typeof ended, 'boolean');
        return rest;
      });
      const common = { fd, engine: name, userData: undefined };
      assert.deepEqual(what, [
        { ...common, operation: 'read', position: 3 * BLOCK, length: BLOCK, userData: 'a read', request: read },
        { ...common, operation: 'write', position: 8 * BLOCK, length: 100, request: others[0] },
        { ...common, operation: 'read', position: 0, length: 30, request: others[1] },
        { ...common, operation: 'fsync', position: undefined, length: 0, userData: 'a flush', request: others[2] },
        { ...common, operation: 'fdatasync', position: undefined, length: 0, request: others[3] },
      ]);
      // A wait that fetches completions, and ends without handing any out.
      const controller = new AbortController();
      const waiting = assert.rejects(ctx.wait({ min: 6, signal: controller.signal }), { name: 'AbortError' });
      while (!ctx.inflight().every(({ ended }) => ended)) await turn();
      controller.abort();
      await waiting;
      const { completed } = await ctx.wait({ max: 2 });
      const left = ctx.inflight();
      assert.deepEqual([completed.length, left.length, ctx.pending], [2, 3, 3]);
      assert.ok(left.every(({ ended, request }) => ended && !completed.includes(request as AioRequest)));
      await ctx.wait({ min: 3 });
      assert.deepEqual(ctx.inflight(), []);
    });

    test('inflight keeps the age of a request while others come and go, and forgets what was refused room', async (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = context(t, 4);
      const [first, ...rest] = blockReads(fd, 5);
      assert.ok(first !== undefined);
      ctx.submit([first]);
      assert.throws(() => ctx.submit(rest), coded('ERR_AIO_INSUFFICIENT_RESOURCES'));
      assert.equal(ctx.inflight().length, 4);
      assert.equal(ctx.inflight()[0]?.request, first, 'the oldest first');
      await ctx.wait({ min: 4 });
    });

    test('a position past what a number can hold stays exact', async (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = context(t, 1);
      const position = 2n ** 53n + 4097n;
      ctx.submit([new AioRequest().prepareRead(fd, position, allocBuffer(1))]);
      assert.equal(ctx.inflight()[0]?.position, position);
      await ctx.wait();
    });

    test('a vectored request of several system calls is seen as the one that it is', async (t) => {
      const { fd } = scratchFile(t, 4 * BLOCK);
      const ctx = context(t, 1);
      const completed = listen<CompleteMessage>(t, 'fileaio:complete', ctx);
      const buffers = Array.from({ length: 2000 }, () => allocBuffer(2, 8));
      const request = new AioRequest().prepareReadv(fd, 1000, buffers);
      ctx.submit([request]);
      const [found] = ctx.inflight();
      assert.deepEqual([found?.position, found?.length], [1000, 4000]);
      await ctx.wait();
      const [seen] = completed[0]?.requests ?? [];
      assert.deepEqual([seen?.position, seen?.length, seen?.bytesTransferred], [1000, 4000, 4000]);
    });

    test('each batch is one message when it is submitted, and each wait one for what it handed out', async (t) => {
      const { fd } = scratchFile(t, 8 * BLOCK);
      const ctx = context(t, 16);
      const submitted = listen<SubmitMessage>(t, 'fileaio:submit', ctx);
      const completed = listen<CompleteMessage>(t, 'fileaio:complete', ctx);
      const begun = now();
      const requests = blockReads(fd, 8);
      const bad = new AioRequest<number>().prepareRead(9999, 0, allocBuffer(BLOCK), 99);
      ctx.submit([...requests, bad]);
      assert.equal(submitted.length, 1);
      assert.equal(completed.length, 0);
      assert.deepEqual(
        submitted[0]?.requests,
        [...requests, bad].map((request, i) => ({
          operation: 'read',
          fd: i < 8 ? fd : 9999,
          position: i < 8 ? i * BLOCK : 0,
          length: BLOCK,
          userData: i < 8 ? i : 99,
          request,
        })),
      );
      const waits: AioRequest[][] = [];
      while (ctx.pending > 0) waits.push((await ctx.wait({ max: 5 })).completed);
      assert.deepEqual(
        completed.map((message) => message.requests.map(({ request }) => request)),
        waits,
      );
      const ended = now();
      for (const { engine: carrier, timeMs } of [...submitted, ...completed]) {
        assert.equal(carrier, name);
        assert.ok(timeMs >= begun && timeMs <= ended);
      }
      for (const seen of completed.flatMap((message) => message.requests)) {
        assert.equal(seen.status, seen.userData === 99 ? 'EBADF' : 'OK');
        assert.equal(seen.bytesTransferred, seen.userData === 99 ? 0 : BLOCK);
        assert.equal(seen.request?.userData, seen.userData);
        assert.ok(seen.latencyMs >= 0 && seen.latencyMs <= ended - begun);
      }
    });

    test('a cancel is a message with its answer', async (t) => {
      const { fd } = scratchFile(t, 64 * 65536, O_DIRECT);
      const ctx = context(t);
      const canceled = listen<CancelMessage>(t, 'fileaio:cancel', ctx);
      const completed = listen<CompleteMessage>(t, 'fileaio:complete', ctx);
      const requests = Array.from({ length: 64 }, (_, i) =>
        new AioRequest<number>().prepareRead(fd, i * 65536, allocBuffer(65536), i),
      );
      ctx.submit(requests);
      const answers = requests.map((request) => request.cancel());
      assert.deepEqual(
        canceled.map(({ answer }) => answer),
        answers,
      );
      assert.deepEqual(
        canceled.map((message) => message.requests.map(({ userData, request }) => [userData, request])),
        requests.map((request, i) => [[i, request]]),
      );
      await ctx.wait({ min: 64 });
      const seen = completed.flatMap((message) => message.requests);
      assert.equal(seen.length, 64);
      for (const { userData, status } of seen) {
        assert.equal(status, answers[userData as number] === 'canceled' ? 'ERR_AIO_CANCELED' : 'OK');
      }
    });

    test('without listeners there are no messages, and nothing is asked for each transfer', async (t) => {
      const { fd } = scratchFile(t, 64 * BLOCK);
      const ctx = context(t);
      let asked = 0;
      for (const channel of ['submit', 'complete', 'cancel'].map((each) => diagnostics.channel(`fileaio:${each}`))) {
        const hasSubscribers = (): boolean => {
          asked++;
          return false;
        };
        const publish = (): void => assert.fail('published to nobody');
        Object.defineProperties(channel, {
          hasSubscribers: { configurable: true, get: hasSubscribers },
          publish: { configurable: true, value: publish },
        });
        t.after(() => {
          for (const name of ['hasSubscribers', 'publish']) Reflect.deleteProperty(channel, name);
        });
      }
      ctx.submit(blockReads(fd, 64));
      let waits = 0;
      for (; ctx.pending > 0; waits++) await ctx.wait({ min: ctx.pending });
      assert.equal(ctx.stats.completed, 64);
      assert.equal(asked, 1 + waits);
    });

    test('latency is kept for each operation where it was asked for, in nanoseconds', async (t) => {
      const { fd } = scratchFile(t, 64 * BLOCK);
      assert.equal(context(t, 1).latency, undefined);
      assert.throws(() => context(t, 1, { latency: 1 as never }), coded('ERR_INVALID_ARG_TYPE', /latency/));
      const ctx = context(t, 64, { latency: true });
      const { latency } = ctx;
      assert.ok(latency !== undefined);
      const begun = now();
      await run(ctx, blockReads(fd, 40));
      const requests = [
        ...Array.from({ length: 20 }, (_, i) => new AioRequest().prepareWrite(fd, i * BLOCK, allocBuffer(BLOCK))),
        new AioRequest().prepareFlush(fd),
        new AioRequest().prepareFlush(fd, { dataOnly: true }),
        new AioRequest().prepareFlush(9999),
      ];
      await run(ctx, requests);
      const tookNs = (now() - begun) * 1e6;
      // A request that failed took its time, too.
      assert.deepEqual(
        [latency.read, latency.write, latency.fsync, latency.fdatasync].map(({ count }) => count),
        [40, 20, 2, 1],
      );
      for (const histogram of [latency.read, latency.write, latency.fdatasync]) {
        assert.ok(histogram.min >= 1 && histogram.min <= histogram.max);
        // A histogram keeps three digits.
        assert.ok(histogram.max <= tookNs * 1.01 + 1, `${histogram.max} of ${tookNs} ns`);
      }
      latency.read.reset();
      assert.equal(ctx.latency?.read.count, 0);
    });

    test('the latency of what was canceled is not kept', async (t) => {
      const { fd } = scratchFile(t, 64 * 65536, O_DIRECT);
      const ctx = context(t, 64, { latency: true });
      const requests = Array.from({ length: 64 }, (_, i) =>
        new AioRequest().prepareRead(fd, i * 65536, allocBuffer(65536)),
      );
      ctx.submit(requests);
      for (const request of requests) request.cancel();
      await ctx.wait({ min: 64 });
      assert.equal(ctx.latency?.read.count, 64 - ctx.stats.canceled);
    });
  });

  describe(`${name}: memory and life`, () => {
    test('results survive a collection with every reference dropped', async (t) => {
      const { fd, data } = scratchFile(t, 64 * BLOCK, O_DIRECT);
      const ctx = context(t);
      ctx.submit(blockReads(fd, 64));
      collectGarbage();
      await delay(1);
      collectGarbage();
      const { completed } = await ctx.wait({ min: 64 });
      assert.equal(completed.length, 64);
      assert.ok(data);
    });

    for (const kind of ['allocBuffer', 'ArrayBuffer'] as const) {
      test(`a buffer of ${kind} that is transferred away in flight is never written to afterwards`, async (t) => {
        const { fd } = scratchFile(t, 64 * 65536, O_DIRECT);
        const ctx = context(t);
        const views = Array.from({ length: 64 }, () =>
          kind === 'allocBuffer' ? allocBuffer(65536) : aligned(65536, ArrayBuffer),
        );
        for (const view of views) new Uint8Array(view.buffer).fill(0x5a);
        const requests = views.map((view, i) => new AioRequest().prepareRead(fd, i * 65536, view));
        ctx.submit(requests);
        const taken: Uint8Array[] = [];
        for (const view of views) {
          try {
            taken.push(
              new Uint8Array(structuredClone(view.buffer as ArrayBuffer, { transfer: [view.buffer as ArrayBuffer] })),
            );
          } catch {
            // Node 22 and later refuse: then nothing was taken.
          }
        }
        const { completed } = await ctx.wait({ min: 64 });
        assert.equal(completed.length, 64);
        for (const [i, request] of requests.entries()) {
          if (views[i]?.buffer.byteLength === 0) {
            assert.equal(request.status, 'ERR_AIO_BUFFER_DETACHED');
            assert.equal(request.bytesTransferred, 0);
            assert.match(request.error?.message ?? '', /transferred away/);
          } else {
            assert.equal(request.result(), 65536);
          }
        }
        if (kind === 'ArrayBuffer') {
          assert.equal(views[0]?.byteLength, 0, 'ordinary memory can be transferred');
          for (const bytes of taken) assert.ok(bytes.every((byte) => byte === 0x5a));
        }
      });
    }

    for (const kind of ['allocBuffer', 'Buffer.alloc'] as const) {
      test(`a buffer of ${kind} that ArrayBuffer.prototype.transfer takes in flight: nothing is written to memory that was given back`, async (t) => {
        if (!('transfer' in ArrayBuffer.prototype)) {
          t.skip('this runtime has no ArrayBuffer.prototype.transfer');
          return;
        }
        const { fd } = scratchFile(t, 64 * 65536, O_DIRECT);
        const ctx = context(t);
        for (let round = 0; round < 10; round++) {
          const views = Array.from({ length: 64 }, () =>
            kind === 'allocBuffer' ? allocBuffer(65536) : new Uint8Array(new ArrayBuffer(65536)),
          );
          const requests = views.map((view, i) => new AioRequest().prepareRead(fd, i * 65536, view));
          ctx.submit(requests);
          for (const { buffer } of views) {
            try {
              // What it returns is dropped: the memory is given back, to be used again by the canaries.
              (buffer as unknown as { transfer(): ArrayBuffer }).transfer();
            } catch (error) {
              assert.ok(error instanceof TypeError, 'the transfer is refused');
            }
          }
          collectGarbage();
          const canaries = Array.from({ length: 64 }, (_, i) =>
            (i % 2 === 0 ? allocBuffer(65536) : new Uint8Array(65536)).fill(0x5a),
          );
          assert.equal((await ctx.wait({ min: 64 })).completed.length, 64);
          for (const canary of canaries) assert.ok(canary.every((byte) => byte === 0x5a));
          for (const [i, { status }] of requests.entries()) {
            // Not where the transfer was refused, or gave a copy.
            if (views[i]?.byteLength === 0) assert.equal(status, 'ERR_AIO_BUFFER_DETACHED');
            else assert.ok(status === 'OK' || status === 'ERR_AIO_MISALIGNED', status);
          }
        }
      });
    }

    test('an empty part in memory that was transferred away in flight loses nothing, its own request least of all', async (t) => {
      const { fd, data } = scratchFile(t, BLOCK);
      const ctx = context(t);
      const empty = new DataView(new ArrayBuffer(16), 8, 0);
      const full = Buffer.from(new ArrayBuffer(100));
      const requests = [
        new AioRequest().prepareReadv(fd, 0, [empty, full]),
        new AioRequest().prepareReadv(fd, 0, [Buffer.alloc(10)]),
      ];
      ctx.submit(requests);
      structuredClone(empty.buffer, { transfer: [empty.buffer] });
      for (let left = 2; left > 0; ) left -= (await ctx.wait()).completed.length;
      assert.deepEqual([requests[0]?.result(), requests[1]?.result()], [100, 10]);
      assert.ok(full.equals(data.subarray(0, 100)));
    });

    test('a buffer that was transferred away before is refused, by prepare and by submit', (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const ctx = context(t);
      const view = new Uint8Array(new ArrayBuffer(100));
      const request = new AioRequest().prepareRead(fd, 0, view);
      structuredClone(view.buffer, { transfer: [view.buffer] });
      assert.throws(() => ctx.submit([request]), coded('ERR_AIO_BUFFER_DETACHED'));
      assert.equal(request.state, 'prepared');
      for (const gone of [view, new DataView(new ArrayBuffer(8))]) {
        if (gone instanceof DataView) structuredClone(gone.buffer, { transfer: [gone.buffer] });
        assert.throws(() => request.prepareRead(fd, 0, gone), coded('ERR_AIO_BUFFER_DETACHED'));
        assert.throws(() => request.prepareWrite(fd, 0, gone), coded('ERR_AIO_BUFFER_DETACHED'));
        assert.throws(() => request.prepareReadv(fd, 0, [gone]), coded('ERR_AIO_BUFFER_DETACHED'));
      }
    });

    test('resizable memory is refused', (t) => {
      const { fd } = scratchFile(t, BLOCK);
      const Resizable = ArrayBuffer as unknown as new (size: number, options: { maxByteLength: number }) => ArrayBuffer;
      const view = new Uint8Array(new Resizable(100, { maxByteLength: 200 }));
      assert.throws(() => new AioRequest().prepareRead(fd, 0, view), coded('ERR_INVALID_ARG_VALUE', /resizable/));
      assert.throws(
        () => new AioRequest().prepareWritev(fd, 0, [view]),
        coded('ERR_INVALID_ARG_VALUE', /buffers\[0\]/),
      );
    });

    test('a SharedArrayBuffer may grow: the next request sees all of it, also where it had nothing before', async (t) => {
      const { fd, data } = scratchFile(t, BLOCK);
      const ctx = context(t);
      const Growable = SharedArrayBuffer as unknown as new (
        size: number,
        options: { maxByteLength: number },
      ) => SharedArrayBuffer & { grow(size: number): void };
      for (const size of [0, 64]) {
        const memory = new Growable(size, { maxByteLength: 1024 });
        const views = [new Uint8Array(memory), new DataView(memory)];
        const requests = views.map((view) => new AioRequest().prepareRead(fd, 0, view));
        await run(ctx, requests);
        assert.deepEqual(
          requests.map((request) => request.result()),
          [size, size],
        );
        memory.grow(512);
        for (const [index, view] of views.entries()) requests[index]?.prepareRead(fd, 100, view);
        const vector = new AioRequest().prepareReadv(fd, 300, [new Uint8Array(memory, 0, 100)]);
        await run(ctx, requests);
        assert.deepEqual(
          requests.map((request) => request.result()),
          [512, 512],
        );
        assert.deepEqual(Buffer.from(memory), data.subarray(100, 612));
        await run(ctx, [vector]);
        assert.equal(vector.result(), 100);
        assert.deepEqual(Buffer.from(memory, 0, 100), data.subarray(300, 400));
      }
    });

    test('views that lie about their size are not believed', async (t) => {
      const { fd, data } = scratchFile(t, BLOCK);
      const ctx = context(t);
      const view = new Uint8Array(64);
      Object.defineProperties(view, {
        byteLength: { value: 2 ** 30 },
        byteOffset: { value: -4096 },
        buffer: { value: new ArrayBuffer(1) },
      });
      const request = new AioRequest().prepareRead(fd, 0, view);
      await run(ctx, [request]);
      assert.equal(request.result(), 64);
      assert.deepEqual(Buffer.from(Array.from(view)), data.subarray(0, 64));
    });

    const programs: [string, string, readonly string[], number][] = [
      ['dropping context, requests and buffers in flight and collecting changes nothing', 'drop-everything.ts', [], 0],
      ['a context that was dropped without close is collected, and its descriptors with it', 'drop-contexts.ts', [], 0],
      ['an idle context does not keep the process alive, and a wait under way does', 'keep-alive.ts', [], 0],
      ['process.exit() with 64 requests in flight', 'exit-in-flight.ts', ['exit'], 7],
      ['the end of the program with 64 requests in flight', 'exit-in-flight.ts', ['end'], 0],
      ['a crash with 64 requests in flight', 'exit-in-flight.ts', ['throw'], 1],
      [`worker.terminate() with 64 requests in flight, many times`, 'terminate-workers.ts', [`${times}`, 'flight'], 0],
      [`worker.terminate() during wait, many times`, 'terminate-workers.ts', [`${fewer}`, 'wait'], 0],
      [`worker.terminate() between waits, many times`, 'terminate-workers.ts', [`${fewer}`, 'loop'], 0],
    ];
    for (const [title, file, args, expected] of programs) {
      test(title, async () => {
        const { code, signal, stderr } = await program(file, [name, ...args]);
        assert.equal(signal, null, stderr);
        assert.equal(code, expected, stderr);
        if (expected === 0) assert.equal(stderr, '');
      });
    }

    blocking(`worker.terminate() while it is blocked in waitSync, many times`, async (t) => {
      if (lacks('an end of blocked threads', t)) return;
      const { code, stderr } = await program('terminate-workers.ts', [name, `${times}`, 'sync']);
      assert.equal(code, 0, stderr);
    });

    test(`process.exit() with requests in flight, many times, with the exit code that was asked for`, async () => {
      const { code, stdout, stderr } = await program('exit-many.ts', [name, `${times}`]);
      assert.equal(code, 0, stderr);
      assert.equal(stdout.trim(), `${times}`);
    });

    test('one million transfers at depth 128: each accounted for, no slot lost, no larger heap', async () => {
      const { code, stdout, stderr } = await program('million.ts', [name]);
      assert.equal(code, 0, stderr);
      const { transfers, bytes, pending, growth } = JSON.parse(stdout);
      assert.equal(transfers, 1_000_000);
      assert.equal(bytes, 1_000_000 * BLOCK);
      assert.equal(pending, 0);
      assert.ok(growth < 2 ** 20, `the heap grew by ${growth} bytes`);
    });
  });
}
