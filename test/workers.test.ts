import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { engines } from '../src/index.ts';
import { lacks } from './runtime.ts';
import { O_DIRECT, O_RDONLY, open, scratch } from './support.ts';

const BLOCK = 4096;
const BLOCKS = 2048;

/** A file whose blocks say at both ends which they are. */
function numbered(t: TestContext): number {
  const data = Buffer.alloc(BLOCKS * BLOCK);
  for (let block = 0; block < BLOCKS; block++) {
    data.writeUInt32LE(block, block * BLOCK);
    data.writeUInt32LE(block, (block + 1) * BLOCK - 4);
  }
  const path = join(scratch(t, '/dev/shm'), 'numbered');
  writeFileSync(path, data);
  return open(t, path, O_RDONLY | O_DIRECT);
}

function start(fd: number, transfers: number): Worker {
  return new Worker(new URL('./programs/busy-worker.mjs', import.meta.url), {
    workerData: { fd, blocks: BLOCKS, size: BLOCK, transfers },
    execArgv: [],
  });
}

/** What each context of a worker did. The message before it says that the worker has begun. */
type Report = readonly { done: number; wrong: number; pending: number }[];

describe('workers', () => {
  test('four workers, each with a context of every engine, 100,000 transfers each: every byte where it belongs', async (t) => {
    if (lacks('descriptors of other threads', t)) return;
    const fd = numbered(t);
    const available = engines().filter((engine) => engine.available);
    const each = Math.ceil(100_000 / available.length);
    const reports = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const worker = start(fd, each);
        // The report and the end may come in one turn of the event loop, which is too late to listen for the second.
        const messages: Report[] = [];
        worker.on('message', (message) => messages.push(message));
        const [code] = await once(worker, 'exit');
        assert.equal(code, 0, 'the worker ends by itself');
        return messages.at(-1) ?? [];
      }),
    );
    for (const report of reports) {
      assert.equal(report.length, available.length);
      for (const { done, wrong, pending } of report) {
        assert.equal(wrong, 0);
        assert.equal(pending, 0);
        assert.equal(done, each);
      }
    }
  });

  test('workers with contexts of every engine, terminated in the middle of their transfers, leave nothing', async (t) => {
    if (lacks('descriptors of other threads', t)) return;
    const fd = numbered(t);
    const mappings = () =>
      readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .filter((line) => line.includes('io_uring')).length;
    const before = mappings();
    for (let round = 0; round < 5; round++) {
      const workers = Array.from({ length: 4 }, () => start(fd, 1e9));
      await Promise.all(workers.map((worker) => once(worker, 'message')));
      for (let turn = 0; turn < round * 3; turn++) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(await Promise.all(workers.map((worker) => worker.terminate())), [1, 1, 1, 1]);
    }
    assert.ok(mappings() <= before);
  });

  test('what a worker had made and nothing owned yet, when it was terminated, is closed', async (t) => {
    if (lacks('an end of blocked threads', t)) return;
    const kernels = () => ({
      descriptors: readdirSync('/proc/self/fd').length,
      contexts: readFileSync('/proc/self/maps', 'utf8').split('/[aio]').length - 1,
    });
    const round = async (): Promise<void> => {
      const worker = new Worker(new URL('./programs/loose-worker.mjs', import.meta.url), { execArgv: [] });
      const [made] = await once(worker, 'message');
      assert.ok(made >= 2, 'it had something');
      await worker.terminate();
    };
    await round(); // what the runtime itself opens for the first of them
    const before = kernels();
    for (let rounds = 0; rounds < 3; rounds++) await round();
    // A runtime may say that a thread has ended shortly before it has.
    for (let tries = 0; tries < 100 && kernels().descriptors > before.descriptors; tries++) await delay(20);
    assert.deepEqual(kernels(), before);
  });
});
