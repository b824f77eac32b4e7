/** What a program can find out about its I/O while it runs; what every engine owes to that is tested in conformance.ts. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import diagnostics from 'node:diagnostics_channel';
import { constants, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import {
  AioRequest,
  allocBuffer,
  type CancelMessage,
  type CompleteMessage,
  inflight,
  type SubmitMessage,
} from '../src/index.ts';
import { open, readFile } from '../src/promises.ts';
import { createSimulatedDisk } from '../src/sim.ts';
import { lacks } from './runtime.ts';
import { root, runProgram, snippetsOf } from './snippets.ts';
import { coded, collectGarbage, context, program, scratch, scratchFile } from './support.ts';

const BLOCK = 4096;

function listen(t: TestContext, channel: string, onMessage: (message: unknown) => void): void {
  diagnostics.subscribe(channel, onMessage);
  t.after(() => void diagnostics.unsubscribe(channel, onMessage));
}

function reads(fd: number, count: number): AioRequest<number>[] {
  return Array.from({ length: count }, (_, i) =>
    new AioRequest<number>().prepareRead(fd, i * BLOCK, allocBuffer(BLOCK), i),
  );
}

describe('a subscriber', () => {
  test('that throws loses no completion and fails no call: Node reports it as an uncaught exception', async () => {
    const { code, stdout, stderr } = await program('subscriber-throws.ts');
    assert.equal(code, 0, stderr);
    const { handedOut, readByFile, uncaught } = JSON.parse(stdout) as Record<string, number | string[]>;
    assert.equal(handedOut, 8);
    assert.equal(readByFile, BLOCK);
    assert.ok(Array.isArray(uncaught));
    for (const name of ['fileaio:submit', 'fileaio:complete', 'fileaio:cancel'])
      assert.ok(uncaught.includes(name), name);
  });

  test('may submit, wait, wake and look from within, and everything is handed out once', async (t) => {
    const { fd } = scratchFile(t, 8 * BLOCK);
    const ctx = context(t, { maxRequests: 64, waitWithoutPendingRequests: true });
    const seen = new Map<unknown, number>();
    const waits: Promise<unknown>[] = [];
    let more = 4;
    listen(t, 'fileaio:submit', (message) => {
      const { requests } = message as SubmitMessage;
      assert.ok(ctx.inflight().length >= requests.length);
      if (more-- > 0) ctx.submit(reads(fd, 2));
    });
    listen(t, 'fileaio:complete', (message) => {
      for (const { request } of (message as CompleteMessage).requests) {
        assert.equal(request?.state, 'completed');
        seen.set(request, (seen.get(request) ?? 0) + 1);
      }
      // While nobody waits it counts for the next wait; it must not end one that has its result.
      ctx.wakeup();
      waits.push(ctx.wait({ min: 0 }));
    });
    ctx.submit(reads(fd, 2));
    const handedOut = new Set<AioRequest>();
    while (ctx.pending > 0) {
      const { completed } = await ctx.wait();
      for (const request of completed) {
        assert.ok(!handedOut.has(request));
        handedOut.add(request);
      }
    }
    await Promise.all(waits);
    assert.equal(seen.size, 10);
    assert.ok([...seen.values()].every((times) => times === 1));
    assert.equal(ctx.stats.completed, 10);
  });

  test('that wakes the context in the middle of a wait that sleeps takes no completion from it', async (t) => {
    // Virtual time: the wait cannot find anything at once.
    const disk = createSimulatedDisk({ seed: 1 });
    disk.install('/data', Buffer.alloc(8 * BLOCK, 7));
    const fd = disk.openSync('/data', 'r');
    const ctx = context(t, { maxRequests: 8, engine: disk });
    listen(t, 'fileaio:complete', () => ctx.wakeup());
    ctx.submit(reads(fd, 8));
    const { completed, reason } = await ctx.wait({ min: 8 });
    assert.equal(reason, 'completed');
    assert.deepEqual(
      completed.map((request) => request.result()),
      new Array(8).fill(BLOCK),
    );
  });

  test('costs nothing once it has left: a batch makes none of the objects that its message has', (t) => {
    if (lacks('a heap that counts objects', t)) return;
    const { fd } = scratchFile(t, 32 * BLOCK);
    const ctx = context(t, { maxRequests: 32 });
    if (ctx.engine === 'threads') return t.skip('node:fs, which the engine threads calls, allocates for each transfer');
    const requests = reads(fd, 32);
    const buffer = allocBuffer(BLOCK);
    const rounds = (count: number): void => {
      for (let round = 0; round < count; round++) {
        for (const request of requests) request.prepareRead(fd, 0, buffer, 0); // itself allocates nothing
        ctx.submit(requests);
        for (let left = 32; left > 0; ) left -= ctx.waitSync({ min: left }).completed.length;
      }
    };
    /** The least of several: compiling allocates, too, now and then. */
    const bytesPerTransfer = (): number => {
      const found = Array.from({ length: 6 }, () => {
        collectGarbage();
        const before = process.memoryUsage().heapUsed;
        rounds(40);
        return (process.memoryUsage().heapUsed - before) / (40 * 32);
      });
      return Math.min(...found);
    };
    rounds(1500);
    const silent = bytesPerTransfer();
    const onMessage = (): void => {};
    for (const name of ['submit', 'complete']) diagnostics.subscribe(`fileaio:${name}`, onMessage);
    const heard = bytesPerTransfer();
    for (const name of ['submit', 'complete']) diagnostics.unsubscribe(`fileaio:${name}`, onMessage);
    const after = bytesPerTransfer();
    t.diagnostic(
      `bytes of heap per transfer: ${silent.toFixed(1)}, listened to ${heard.toFixed(1)}, then ${after.toFixed(1)}`,
    );
    // Each wait makes an array and its result, however many it hands out; how many waits there are is the machine's to say.
    assert.ok(
      silent < heard / 4 && after < heard / 4,
      `${silent} and ${after} bytes per transfer, ${heard} listened to`,
    );
  });
});

describe('what files do', () => {
  test('shows on the channels, without the requests that are the library’s own', async (t) => {
    const { path, data } = scratchFile(t, 16 * BLOCK);
    const submitted: SubmitMessage[] = [];
    const completed: CompleteMessage[] = [];
    listen(t, 'fileaio:submit', (message) => submitted.push(message as SubmitMessage));
    listen(t, 'fileaio:complete', (message) => completed.push(message as CompleteMessage));
    const handle = await open(path, 'r+');
    t.after(() => handle.close());
    const blocks = await Promise.all(
      Array.from({ length: 16 }, (_, i) => handle.read(Buffer.alloc(BLOCK), 0, BLOCK, i * BLOCK)),
    );
    assert.deepEqual(Buffer.concat(blocks.map(({ buffer }) => buffer)), data);
    await handle.datasync();
    const positions = submitted.flatMap(({ requests }) =>
      requests.map(({ operation, position }) => [operation, position]),
    );
    const expected = [...Array.from({ length: 16 }, (_, i) => ['read', i * BLOCK]), ['fdatasync', undefined]];
    assert.deepEqual(positions, expected);
    assert.equal(submitted.length, 2, 'calls of one tick go down together');
    const ended = completed.flatMap(({ requests }) => requests);
    assert.equal(ended.length, 17);
    for (const { fd, request, userData, status, latencyMs } of ended) {
      assert.deepEqual([fd, request, userData, status], [handle.fd, undefined, undefined, 'OK']);
      assert.ok(latencyMs >= 0);
    }
    const [{ context: theirs } = { context: undefined }] = submitted;
    assert.equal(theirs?.stats.completed, 17);
    assert.throws(() => theirs?.waitSync(), coded('ERR_AIO_BUSY', /belongs to/));
    await assert.rejects(async () => theirs?.wait(), coded('ERR_AIO_BUSY'));
    assert.deepEqual(await readFile(path), data, 'and goes on');
  });

  test('is in inflight() of the thread with its age while it hangs, and a cancel is a message', async (t) => {
    const fifo = join(scratch(t), 'fifo');
    execFileSync('mkfifo', [fifo]);
    const canceled: CancelMessage[] = [];
    listen(t, 'fileaio:cancel', (message) => canceled.push(message as CancelMessage));
    const handle = await open(fifo, constants.O_RDWR);
    t.after(() => handle.close());
    assert.deepEqual(inflight(), []);
    const controller = new AbortController();
    const begun = performance.now();
    const reading = handle.read(Buffer.alloc(100), { signal: controller.signal });
    while (inflight().length === 0) await turn();
    const [found, ...others] = inflight();
    assert.deepEqual(others, []);
    assert.ok(found !== undefined);
    const { ageMs, ended, engine, operation, fd, position, length, request } = found;
    assert.deepEqual(
      [operation, fd, position, length, request, ended],
      ['read', handle.fd, undefined, 100, undefined, false],
    );
    assert.equal(engine, handle.engine);
    assert.ok(ageMs >= 0 && ageMs <= performance.now() - begun);
    await turn();
    assert.ok((inflight()[0]?.ageMs ?? 0) > ageMs, 'it grows older');
    controller.abort();
    assert.equal(canceled.length, 1);
    assert.deepEqual(
      canceled[0]?.requests.map((each) => [each.operation, each.fd]),
      [['read', handle.fd]],
    );
    // Where it could not be taken back, it ends with what comes.
    writeSync(handle.fd, 'x');
    await assert.rejects(reading, { name: 'AbortError' });
    while (inflight().length > 0) await turn();
  });

  test('is in inflight() beside what the program submitted itself, the oldest first', async (t) => {
    const { fd } = scratchFile(t, 4 * BLOCK);
    const older = context(t, { maxRequests: 2 });
    const newer = context(t, { maxRequests: 2 });
    older.submit(reads(fd, 1));
    newer.submit(reads(fd, 2));
    older.submit(reads(fd, 1));
    const all = inflight();
    assert.equal(all.length, 4);
    assert.deepEqual(
      all.map(({ ageMs }) => ageMs),
      all.map(({ ageMs }) => ageMs).sort((a, b) => b - a),
    );
    await Promise.all([older.wait({ min: 2 }), newer.wait({ min: 2 })]);
    assert.deepEqual(inflight(), []);
  });
});

describe('time on a simulated disk', () => {
  test('is virtual in ages, latencies and messages', async (t) => {
    const disk = createSimulatedDisk({ seed: 7 });
    disk.install('/data', Buffer.alloc(8 * BLOCK));
    const fd = disk.openSync('/data', 'r+');
    const ctx = context(t, { maxRequests: 8, engine: disk, latency: true });
    const latencies: number[] = [];
    listen(t, 'fileaio:complete', (message) => {
      const { timeMs, requests } = message as CompleteMessage;
      assert.equal(timeMs, disk.nowMs);
      latencies.push(...requests.map(({ latencyMs }) => latencyMs));
    });
    const begun = disk.nowMs;
    ctx.submit(reads(fd, 8));
    assert.deepEqual(
      ctx.inflight().map(({ ageMs }) => ageMs),
      new Array(8).fill(0),
    );
    await ctx.wait({ min: 8 });
    assert.deepEqual(latencies, new Array(8).fill(disk.nowMs - begun));
    const read = ctx.latency?.read;
    assert.equal(read?.count, 8);
    assert.ok((read?.max ?? 0) <= (disk.nowMs - begun) * 1e6 * 1.001 + 1);
    assert.ok((read?.min ?? 0) < (read?.max ?? 0), 'some were faster than others');
  });
});

describe('docs/observability.md', () => {
  const snippets = snippetsOf(readFileSync(join(root, 'docs/observability.md'), 'utf8'));

  test('makes Prometheus’ text format, which holds the figures of stats and histograms', async (t) => {
    const metrics = snippets.at(-1) ?? '';
    const files = { 'main.ts': metrics, 'data.bin': Buffer.alloc(1 << 17) };
    const { code, stdout, stderr } = await runProgram(t, files, 'main.ts');
    assert.equal(code, 0, stderr);
    const LINE = /^(# (HELP|TYPE) [a-z_]+ [^\n]+|[a-z_]+\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\} (\d+(\.\d+)?(e-?\d+)?))$/;
    const lines = stdout.trimEnd().split('\n');
    for (const line of lines) assert.match(line, LINE);
    const value = (name: string, labels: string): number => {
      const line = lines.find((each) => each.startsWith(`${name}{engine="`) && each.includes(`${labels}} `));
      return Number(line?.split('} ')[1]);
    };
    assert.equal(value('fileaio_submitted_total', ''), 32);
    assert.equal(value('fileaio_completed_total', ',outcome="ok"'), 32);
    assert.equal(value('fileaio_bytes_total', ',direction="read"'), 1 << 17);
    assert.equal(value('fileaio_latency_seconds_count', ',operation="read"'), 32);
    const p50 = value('fileaio_latency_seconds', ',quantile="0.5"');
    const p99 = value('fileaio_latency_seconds', ',quantile="0.99"');
    assert.ok(p50 > 0 && p50 <= p99 && p99 < 60, `${p50} ${p99}`);
    // Each metric is told of before its samples, once.
    const told = lines.filter((line) => line.startsWith('# TYPE ')).map((line) => line.split(' ')[2]);
    assert.equal(new Set(told).size, told.length);
    for (const line of lines.filter((each) => !each.startsWith('#'))) {
      assert.ok(told.includes(line.split('{')[0]?.replace(/_(sum|count)$/, '')), line);
    }
  });
});
