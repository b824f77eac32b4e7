/** Virtual time: it passes while somebody waits, and not otherwise. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type AioContext, AioRequest, allocBuffer } from '../src/index.ts';
import { createSimulatedDisk, type SimulatedDisk, type SimulatedDiskOptions } from '../src/sim.ts';
import { type Cleanup, coded, context } from './support.ts';

const HOUR_MS = 3_600_000;
const BLOCK = 4096;

function make(options: Omit<SimulatedDiskOptions, 'seed'> & { seed?: number } = {}): {
  disk: SimulatedDisk;
  fd: number;
} {
  const disk = createSimulatedDisk({ seed: 1, ...options });
  disk.install('/file', Buffer.alloc(64 * BLOCK, 0x61));
  return { disk, fd: disk.openSync('/file', 'r+') };
}

function port(t: Cleanup, disk: SimulatedDisk): AioContext {
  return context(t, { maxRequests: 64, engine: disk, waitWithoutPendingRequests: true });
}

function reads(fd: number, count: number): AioRequest<number>[] {
  return Array.from({ length: count }, (_, i) =>
    new AioRequest<number>().prepareRead(fd, i * BLOCK, allocBuffer(BLOCK), i),
  );
}

describe('virtual time', () => {
  const slow = { latency: { read: HOUR_MS, write: HOUR_MS, flush: 24 * HOUR_MS } };

  test('an hour passes in no time: in wait, in waitSync, and for a handle', async (t) => {
    const { disk, fd } = make(slow);
    const ctx = port(t, disk);
    ctx.submit(reads(fd, 10));
    assert.equal((await ctx.wait({ min: 10 })).completed.length, 10);
    assert.ok(disk.nowMs >= HOUR_MS && disk.nowMs < HOUR_MS + 1, `it is ${disk.nowMs}`);
    ctx.submit(reads(fd, 10));
    assert.equal(ctx.waitSync({ min: 10 }).completed.length, 10);
    assert.ok(disk.nowMs >= 2 * HOUR_MS && disk.nowMs < 2 * HOUR_MS + 1);
    const handle = await disk.open('/file', 'r+');
    await handle.write(Buffer.alloc(10), 0, 10, 0);
    await handle.sync();
    await handle.close();
    assert.ok(disk.nowMs >= 27 * HOUR_MS && disk.nowMs < 27 * HOUR_MS + 1);
  });

  test('timeoutMs is virtual, to the microsecond', async (t) => {
    const { disk, fd } = make(slow);
    const ctx = port(t, disk);
    ctx.submit(reads(fd, 1));
    const before = disk.nowMs;
    assert.deepEqual(await ctx.wait({ timeoutMs: HOUR_MS / 2 }), { completed: [], reason: 'timeout' });
    assert.deepEqual(ctx.waitSync({ timeoutMs: 0.25 }), { completed: [], reason: 'timeout' });
    const passed = disk.nowMs - before;
    assert.ok(passed >= HOUR_MS / 2 + 0.25 && passed < HOUR_MS / 2 + 0.3, `${passed} ms have passed`);
    assert.equal((await ctx.wait()).completed.length, 1);
  });

  test('it stands still while nobody waits, whatever the event loop does', async (t) => {
    const { disk, fd } = make();
    const ctx = port(t, disk);
    ctx.submit(reads(fd, 4));
    for (let i = 0; i < 50; i++) await turn();
    assert.equal(disk.nowMs, 0);
    assert.equal(disk.pending, 4);
    await ctx.wait({ min: 4 });
    assert.equal(disk.pending, 0);
  });

  test('a program that only ever looks gets there', async (t) => {
    const { disk, fd } = make();
    const ctx = port(t, disk);
    ctx.submit(reads(fd, 2));
    let looks = 0;
    for (let seen = 0; seen < 2; looks++) {
      seen += (looks % 2 === 0 ? await ctx.wait({ min: 0 }) : ctx.waitSync({ timeoutMs: 0 })).completed.length;
    }
    assert.ok(looks > 10, `${looks} looks`);
  });

  test('two contexts share the time of their disk, and each is told of its own', async (t) => {
    const { disk, fd } = make({ latency: { read: 1, write: 10 } });
    const [reader, writer] = [port(t, disk), port(t, disk)];
    const order: string[] = [];
    writer.submit([new AioRequest().prepareWrite(fd, 0, Buffer.alloc(1))]);
    reader.submit(reads(fd, 1));
    const wait = async (ctx: AioContext, name: string): Promise<void> => {
      await ctx.wait();
      order.push(`${name} at ${Math.floor(disk.nowMs)}`);
    };
    await Promise.all([wait(writer, 'write'), wait(reader, 'read')]);
    assert.deepEqual(order, ['read at 1', 'write at 10']);
  });

  test('a completion of one context that happens while another blocks is not lost', async (t) => {
    const { disk, fd } = make({ latency: { read: 1, write: 10 } });
    const [reader, writer] = [port(t, disk), port(t, disk)];
    const waiting = reader.wait();
    reader.submit(reads(fd, 1));
    writer.submit([new AioRequest().prepareWrite(fd, 0, Buffer.alloc(1))]);
    assert.equal(writer.waitSync().completed.length, 1);
    assert.ok(disk.nowMs >= 10);
    assert.equal((await waiting).completed.length, 1);
  });

  test('sleepers wake in the order of their times', async () => {
    const { disk } = make();
    const order: number[] = [];
    const sleep = async (ms: number): Promise<void> => {
      await disk.sleep(ms);
      order.push(disk.nowMs);
    };
    await Promise.all([sleep(30), sleep(10), sleep(HOUR_MS), sleep(20)]);
    assert.deepEqual(order, [10, 20, 30, HOUR_MS]);
    await assert.rejects(async () => disk.sleep(-1), coded('ERR_OUT_OF_RANGE'));
  });

  test('without reordering requests end as they were submitted; with it they overtake each other, and none is lost', async (t) => {
    for (const reorder of [false, true]) {
      const { disk, fd } = make({ reorder });
      const ctx = port(t, disk);
      ctx.submit(reads(fd, 40));
      const { completed } = await ctx.wait({ min: 40 });
      const order = completed.map((request) => request.userData as number);
      assert.deepEqual(
        [...order].sort((a, b) => a - b),
        Array.from({ length: 40 }, (_, i) => i),
      );
      const inOrder = order.every((each, i) => each === i);
      assert.equal(inOrder, !reorder);
      assert.ok(disk.nowMs >= 0.05, 'they took their time');
    }
  });

  test('latencies are drawn from their range, or asked of a function that sees the request', async (t) => {
    const seen: string[] = [];
    const { disk, fd } = make({
      latency: {
        read: [2, 3],
        write: (random, { kind, path, position, length, number }) => {
          seen.push(`${number}: ${kind} ${path} ${position}+${length}`);
          return random.between(5, 6);
        },
      },
    });
    const ctx = port(t, disk);
    ctx.submit(reads(fd, 64));
    const first = (await ctx.wait()) && disk.nowMs;
    await ctx.wait({ min: 63 });
    assert.ok(first >= 2 && first < 2.5 && disk.nowMs > 2.5 && disk.nowMs < 3.1, `${first} … ${disk.nowMs}`);
    const began = disk.nowMs;
    ctx.submit([new AioRequest().prepareWrite(fd, 100, Buffer.alloc(50))]);
    await ctx.wait();
    assert.deepEqual(seen, ['65: write /file 100+50']);
    assert.ok(disk.nowMs - began >= 5 && disk.nowMs - began < 6.1);
  });

  test('what a function of latency throws, submit throws, and nothing was submitted', (t) => {
    let calls = 0;
    const { disk, fd } = make({
      latency: {
        read: () => {
          if (++calls === 2) throw new Error('no idea');
          return 1;
        },
      },
    });
    const ctx = port(t, disk);
    const requests = reads(fd, 3);
    assert.throws(() => ctx.submit(requests), /no idea/);
    assert.equal(ctx.pending, 0);
    assert.equal(disk.pending, 0);
    for (const request of requests) assert.equal(request.state, 'prepared');
    ctx.submit(requests);
    assert.equal(ctx.waitSync({ min: 3 }).completed.length, 3);
  });
});
