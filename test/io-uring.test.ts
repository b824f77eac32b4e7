import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import * as abi from '../src/abi/uring.ts';
import { DRIVER } from '../src/engine.ts';
import { ioUringWith } from '../src/engines/io-uring.ts';
import { AioContext, AioRequest, AlignedPool, allocBuffer } from '../src/index.ts';
import { loadNative } from '../src/native.ts';
import { conformance } from './conformance.ts';
import { coded, collectGarbage, context, O_DIRECT, open, program, run, scratch, scratchFile } from './support.ts';

conformance({ engine: 'io-uring', waitSync: true, cancelOfFileRead: ['canceled', 'in-progress'] });

const BLOCK = 4096;

/** A context whose rings have sizes of our choice. */
function sized(t: TestContext, maxRequests: number, sizes: { sqEntries: number; cqEntries: number }): AioContext {
  return context(t, { maxRequests, engine: { [DRIVER]: ioUringWith(sizes) } });
}

/** A FIFO that nobody writes to, until the test does. */
function fifo(t: TestContext): { reader: number; write: (text: string) => void } {
  const path = join(scratch(t), 'fifo');
  execFileSync('mkfifo', [path]);
  const reader = open(t, path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = open(t, path, constants.O_WRONLY);
  // Blocking from here on: a read is to wait for data, not to end with EAGAIN.
  const blocking = open(t, `/proc/self/fd/${reader}`, constants.O_RDONLY);
  return { reader: blocking, write: (text) => void writeSync(writer, text) };
}

describe('io-uring: full rings', () => {
  for (const [title, sizes] of [
    ['a submission ring of 8', { sqEntries: 8, cqEntries: 2048 }],
    ['a completion ring of 16 that overflows', { sqEntries: 8, cqEntries: 16 }],
    ['rings of the smallest size', { sqEntries: 1, cqEntries: 2 }],
  ] as const) {
    for (const flags of [0, O_DIRECT]) {
      test(`${title}, with 1,000 ${flags === 0 ? 'buffered' : 'direct'} requests: none lost`, async (t) => {
        const { fd, data } = scratchFile(t, 64 * BLOCK, flags);
        const ctx = sized(t, 1000, sizes);
        const requests = Array.from({ length: 1000 }, (_, i) =>
          new AioRequest<number>().prepareRead(fd, (i % 64) * BLOCK, allocBuffer(BLOCK), i % 64),
        );
        for (let round = 0; round < 3; round++) {
          ctx.submit(requests);
          const { completed } =
            round === 1 ? ctx.waitSync({ min: 1000 }) : await ctx.wait({ min: 1000, timeoutMs: 20_000 });
          assert.equal(new Set(completed).size, 1000);
          for (const request of requests) {
            assert.equal(request.result(), BLOCK);
            const buffer = allocBuffer(BLOCK);
            request.prepareRead(fd, (request.userData ?? 0) * BLOCK, buffer, request.userData ?? 0);
          }
        }
        assert.ok(data);
      });
    }
  }

  test('a flag that says there is work, and there is none, does not keep a wait for ever', async (t) => {
    const { native } = loadNative();
    assert.ok(native !== undefined);
    const setup = t.mock.method(native, 'ringSetup');
    const map = t.mock.method(native, 'map');
    const { fd } = scratchFile(t, BLOCK);
    const ctx = context(t, { maxRequests: 64, engine: 'io-uring', waitWithoutPendingRequests: true });
    // By hand: not every runtime ends what a test replaced with the test.
    const params = setup.mock.calls.at(-1)?.arguments[1];
    const rings = map.mock.calls[0]?.result;
    assert.ok(params !== undefined && rings instanceof ArrayBuffer);
    const flags = new DataView(params.buffer).getUint32(abi.PARAMS_SQ_FLAGS, true) / 4;
    const words = new Int32Array(rings, 0, flags + 1);
    const answer = native.ringEnter.bind(native);
    const enter = t.mock.method(native, 'ringEnter');
    // As the kernel leaves it where the work was done between being put off and being told of.
    const lie = () => void Atomics.or(words, flags, abi.SQ_TASKRUN);
    let calls = 0;
    enter.mock.mockImplementation((...args: Parameters<typeof answer>) => {
      if (++calls > 10_000) throw new Error('entered the kernel without end');
      const result = answer(...args);
      lie();
      return result;
    });
    try {
      lie();
      assert.deepEqual(ctx.waitSync({ min: 0 }).completed, []);
      const request = new AioRequest().prepareRead(fd, 0, allocBuffer(BLOCK));
      ctx.submit([request]);
      assert.deepEqual((await ctx.wait()).completed, [request]);
      assert.equal((await ctx.wait({ timeoutMs: 20 })).reason, 'timeout');
      ctx.submit([request.prepareRead(fd, 0, allocBuffer(BLOCK))]);
      assert.deepEqual(ctx.waitSync().completed, [request]);
    } finally {
      for (const { mock } of [setup, map, enter]) mock.restore();
    }
  });

  test('a polling kernel thread takes the submissions where that is asked for', async (t) => {
    const { fd, data } = scratchFile(t, 256 * BLOCK);
    const ctx = context(t, { maxRequests: 256, engine: 'io-uring', sqpoll: true });
    for (let round = 0; round < 4; round++) {
      const requests = Array.from({ length: 256 }, (_, i) => {
        const request = new AioRequest<Buffer>();
        const buffer = allocBuffer(BLOCK);
        if (i % 2 === 0) return request.prepareRead(fd, i * BLOCK, buffer, buffer);
        return request.prepareReadv(fd, i * BLOCK, [buffer.subarray(0, 1000), buffer.subarray(1000)], buffer);
      });
      ctx.submit(requests);
      const { completed } = round % 2 === 0 ? await ctx.wait({ min: 256 }) : ctx.waitSync({ min: 256 });
      assert.equal(completed.length, 256);
      for (const [i, request] of requests.entries()) {
        assert.equal(request.result(), BLOCK);
        assert.deepEqual(request.userData, data.subarray(i * BLOCK, (i + 1) * BLOCK));
      }
    }
    assert.throws(
      () => new AioContext({ maxRequests: 1, engine: 'kernel-aio', sqpoll: true }),
      coded('ERR_AIO_NOT_SUPPORTED', /'io-uring'/),
    );
    assert.throws(() => new AioContext({ maxRequests: 1, sqpoll: 1 as never }), coded('ERR_INVALID_ARG_TYPE'));
  });
});

describe('io-uring: canceling', () => {
  test('a read of a FIFO that would never end is canceled, and its memory left alone', async (t) => {
    const { reader, write } = fifo(t);
    const ctx = context(t, { maxRequests: 4, engine: 'io-uring' });
    const buffer = allocBuffer(16).fill('-');
    const request = new AioRequest().prepareRead(reader, 0, buffer);
    ctx.submit([request]);
    assert.equal((await ctx.wait({ timeoutMs: 20 })).reason, 'timeout');
    assert.equal(request.cancel(), 'canceled');
    assert.equal(request.state, 'submitted');
    const { completed } = await ctx.wait();
    assert.deepEqual(completed, [request]);
    assert.equal(request.status, 'ERR_AIO_CANCELED');
    assert.equal(request.bytesTransferred, 0);
    assert.throws(() => request.result(), coded('ERR_AIO_CANCELED'));
    write('late');
    assert.equal(buffer.toString(), '-'.repeat(16));
    assert.equal(ctx.stats.canceled, 1);
    assert.equal(ctx.stats.failed, 0);
    // The data is there for the next read.
    await run(ctx, [request.prepareRead(reader, 0, buffer)]);
    assert.equal(request.result(), 4);
    assert.equal(buffer.toString('utf8', 0, 4), 'late');
  });

  test('disposing of a context while somebody else waits on it sleeps, too', async (t) => {
    const { reader, write } = fifo(t);
    const ctx = new AioContext({ maxRequests: 2, engine: 'io-uring' });
    ctx.submit([0, 1].map(() => new AioRequest().prepareRead(reader, 0, allocBuffer(1))));
    const waiting = ctx.wait({ min: 2 });
    // Where the runtime does not count them, there is nothing to see.
    const { nodeTiming } = performance as unknown as { nodeTiming?: { uvMetricsInfo?: { loopCount: number } } };
    const turns = (): number => nodeTiming?.uvMetricsInfo?.loopCount ?? 0;
    const before = turns();
    const disposed = ctx[Symbol.asyncDispose]();
    await delay(200);
    const turned = turns() - before;
    write('a');
    write('b');
    assert.equal((await waiting).completed.length, 2);
    await disposed;
    assert.ok(turned < 1000, `the event loop turned ${turned} times in a fifth of a second`);
  });

  test("one context's cancel leaves the other's requests alone", async (t) => {
    const { reader, write } = fifo(t);
    const one = context(t, { maxRequests: 4, engine: 'io-uring' });
    const other = context(t, { maxRequests: 4, engine: 'io-uring' });
    const [a, b] = [allocBuffer(16), allocBuffer(16)];
    const mine = new AioRequest().prepareRead(reader, 0, a);
    const yours = new AioRequest().prepareRead(reader, 0, b);
    one.submit([mine]);
    other.submit([yours]);
    assert.equal(mine.cancel(), 'canceled');
    assert.equal((await other.wait({ timeoutMs: 20 })).reason, 'timeout');
    assert.equal(yours.state, 'submitted');
    write('yours');
    assert.deepEqual((await other.wait()).completed, [yours]);
    assert.equal(yours.result(), 5);
    assert.deepEqual((await one.wait()).completed, [mine]);
  });

  test('10,000 races between cancel and completion have exactly one outcome each', async (t) => {
    const { reader, write } = fifo(t);
    const { fd } = scratchFile(t, 64 * BLOCK, O_DIRECT);
    const ctx = context(t, { maxRequests: 16, engine: 'io-uring' });
    const request = new AioRequest();
    const seen = { canceled: 0, completed: 0 };
    const buffer = allocBuffer(BLOCK);
    for (let round = 0; round < 10_000; round++) {
      const file = round % 2 === 0;
      if (file) request.prepareRead(fd, (round % 64) * BLOCK, buffer);
      else request.prepareRead(reader, 0, buffer.subarray(0, 1));
      if (round % 8 === 1) write('x');
      ctx.submit([request]);
      if (round % 8 === 3) write('x');
      if (file && round % 16 >= 8) await ctx.wait({ min: 0 });
      if (request.state !== 'submitted') {
        seen.completed++;
        continue;
      }
      const answer = request.cancel();
      if (answer === 'in-progress' && !file && round % 8 !== 1 && round % 8 !== 3)
        assert.fail('an idle FIFO read goes on');
      const { completed } = await ctx.wait({ timeoutMs: 10_000 });
      assert.deepEqual(completed, [request]);
      if (answer === 'canceled') {
        assert.equal(request.status, 'ERR_AIO_CANCELED');
        seen.canceled++;
        // What was written stays in the FIFO: take it out.
        if (!file && (round % 8 === 1 || round % 8 === 3))
          await run(ctx, [request.prepareRead(reader, 0, buffer.subarray(0, 1))]);
      } else {
        assert.equal(request.result(), file ? BLOCK : 1);
        seen.completed++;
      }
      assert.equal(ctx.pending, 0);
    }
    assert.equal(seen.canceled + seen.completed, 10_000);
    assert.ok(seen.canceled > 1000 && seen.completed > 1000, JSON.stringify(seen));
    assert.equal(
      (
        await context(t, { maxRequests: 1, engine: 'io-uring', waitWithoutPendingRequests: true }).wait({
          timeoutMs: 1,
        })
      ).reason,
      'timeout',
    );
  });
});

describe('io-uring: registered files and buffers', () => {
  test('on, off and mixed give the same data', async (t) => {
    const one = scratchFile(t, 64 * BLOCK, O_DIRECT);
    const two = scratchFile(t, 64 * BLOCK, O_DIRECT);
    const ctx = context(t, { maxRequests: 64, engine: 'io-uring' });
    const fixed = new AlignedPool({ size: BLOCK, count: 32 });
    const plain = new AlignedPool({ size: BLOCK, count: 32 });
    ctx.associate(fixed);
    ctx.associate(fixed);
    ctx.associate(one.fd);
    for (let round = 0; round < 20; round++) {
      const jobs = Array.from({ length: 64 }, (_, i) => {
        const pool = i % 2 === 0 ? fixed : plain;
        const file = i % 4 < 2 ? one : two;
        const buffer = pool.acquire();
        assert.ok(buffer);
        return { pool, file, buffer, block: (i * 7 + round) % 64 };
      });
      const requests = jobs.map(({ file, buffer, block }) =>
        new AioRequest().prepareRead(file.fd, block * BLOCK, buffer),
      );
      await run(ctx, requests);
      for (const [i, { pool, file, buffer, block }] of jobs.entries()) {
        assert.equal(requests[i]?.result(), BLOCK);
        assert.deepEqual(buffer, file.data.subarray(block * BLOCK, (block + 1) * BLOCK));
        pool.release(buffer);
      }
    }
    const buffer = fixed.acquire();
    assert.ok(buffer);
    const write = new AioRequest().prepareWrite(one.fd, 0, buffer.fill(7));
    await run(ctx, [write]);
    await run(ctx, [new AioRequest().prepareFlush(one.fd, { dataOnly: true })]);
    assert.equal(write.result(), BLOCK);
    assert.ok(
      readFileSync(one.path)
        .subarray(0, BLOCK)
        .every((byte) => byte === 7),
    );
  });

  test('associating a number again means the file that it is now, and a closed one is forgotten', async (t) => {
    const one = scratchFile(t, BLOCK);
    const two = scratchFile(t, BLOCK);
    const ctx = context(t, { maxRequests: 4, engine: 'io-uring' });
    const { closeSync } = await import('node:fs');
    const fd = openSync(one.path, 'r');
    ctx.associate(fd);
    closeSync(fd);
    assert.equal(openSync(two.path, 'r'), fd, 'the number is used again');
    t.after(() => closeSync(fd));
    ctx.associate(fd);
    const buffer = allocBuffer(BLOCK);
    await run(ctx, [new AioRequest().prepareRead(fd, 0, buffer)]);
    assert.deepEqual(buffer, two.data);
    ctx.associate(987_654);
    const bad = new AioRequest().prepareRead(987_654, 0, buffer);
    await run(ctx, [bad]);
    assert.equal(bad.status, 'EBADF');
  });

  for (const sqpoll of [false, true]) {
    test(`a number that was closed, and opened again, means what it means now, unasked${sqpoll ? ', also where a kernel thread submits' : ''}`, async (t) => {
      const ctx = context(t, { maxRequests: 4, engine: 'io-uring', sqpoll });
      const files = [scratchFile(t, BLOCK), scratchFile(t, BLOCK)];
      const other = scratchFile(t, BLOCK);
      ctx.associate(other.fd);
      const buffers = [allocBuffer(BLOCK), allocBuffer(BLOCK)];
      const read = async (fd: number): Promise<string> => {
        const requests = [fd, other.fd].map((each, i) => new AioRequest().prepareRead(each, 0, buffers[i] ?? buffer));
        await run(ctx, requests);
        assert.deepEqual(buffers[1], other.data);
        return requests[0]?.status ?? '';
      };
      const buffer = allocBuffer(BLOCK);
      for (const { path, data } of files) {
        const fd = openSync(path, 'r+');
        ctx.associate(fd);
        for (let i = 0; i < 3; i++) assert.equal(await read(fd), 'OK');
        assert.deepEqual(buffers[0], data);
        closeSync(fd);
        assert.equal(await read(fd), 'EBADF');
        const again = openSync(other.path, 'r');
        assert.equal(again, fd, 'the number is used again');
        assert.equal(await read(again), 'OK');
        assert.deepEqual(buffers[0], other.data);
        const write = new AioRequest().prepareWrite(again, 0, buffer.fill(1));
        await run(ctx, [write]);
        assert.equal(write.status, 'EBADF', 'it is open for reading only, now');
        closeSync(again);
        assert.deepEqual(readFileSync(path), data);
      }
    });
  }

  test('descriptors that a context made for associated files go with it', async (t) => {
    const { fd } = scratchFile(t, BLOCK);
    const before = readdirSync('/proc/self/fd').length;
    const contexts = Array.from({ length: 4 }, () => new AioContext({ maxRequests: 1, engine: 'io-uring' }));
    for (const ctx of contexts) for (let i = 0; i < 3; i++) ctx.associate(fd);
    assert.equal(readdirSync('/proc/self/fd').length, before + 4 * 4, 'ring, two eventfds and one for the file');
    await Promise.all(contexts.map((ctx) => ctx.close()));
    assert.equal(readdirSync('/proc/self/fd').length, before);
  });

  test('more files and pools than there is room for work all the same', async (t) => {
    const { path, data } = scratchFile(t, BLOCK);
    const ctx = context(t, { maxRequests: 300, engine: 'io-uring' });
    const fds = Array.from({ length: 300 }, () => open(t, path, constants.O_RDONLY));
    for (const fd of fds) ctx.associate(fd);
    const pools = Array.from({ length: 20 }, () => new AlignedPool({ size: BLOCK, count: 15 }));
    for (const pool of pools) ctx.associate(pool);
    const buffers = pools.flatMap((pool) => Array.from({ length: 15 }, () => pool.acquire() ?? assert.fail()));
    await run(
      ctx,
      fds.map((fd, i) => new AioRequest().prepareRead(fd, 0, buffers[i] ?? assert.fail())),
    );
    for (const buffer of buffers) assert.deepEqual(buffer, data);
  });
});

describe('io-uring: life', () => {
  test('100 contexts opened and closed leave no descriptor and no mapping behind', async (t) => {
    const { fd } = scratchFile(t, BLOCK);
    const mappings = () =>
      readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter((line) => line.includes('io_uring')).length;
    const before = { fds: readdirSync('/proc/self/fd').length, mappings: mappings() };
    for (let round = 0; round < 10; round++) {
      const contexts = Array.from({ length: 10 }, () => new AioContext({ maxRequests: 32, engine: 'io-uring' }));
      for (const ctx of contexts) await run(ctx, [new AioRequest().prepareRead(fd, 0, allocBuffer(BLOCK))]);
      assert.ok(mappings() > before.mappings);
      await Promise.all(contexts.map((ctx) => ctx.close()));
    }
    assert.ok(readdirSync('/proc/self/fd').length <= before.fds);
    // Detached memory is unmapped on the next turn of the event loop.
    for (let turn = 0; mappings() > before.mappings && turn < 100; turn++)
      await new Promise((resolve) => setImmediate(resolve));
    assert.ok(mappings() <= before.mappings);
    collectGarbage();
  });

  for (const [whom, ...args] of [
    ['another user'],
    ['another user and a group with a large number', 'group'],
  ] as const) {
    test(`a context that was made before the process became ${whom} is not used after`, async (t) => {
      if (process.getuid?.() !== 0) {
        t.skip('only root can become somebody else');
        return;
      }
      const { code, stdout, stderr } = await program('change-user.ts', ['io-uring', ...args]);
      assert.equal(code, 0, stderr);
      const { refused, message, state, after } = JSON.parse(stdout);
      assert.equal(refused, 'ERR_AIO_NOT_SUPPORTED');
      assert.match(message, /CVE-2024-22017/);
      assert.equal(state, 'prepared');
      assert.equal(after, 4096);
    });
  }
});
