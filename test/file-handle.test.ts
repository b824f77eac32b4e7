/** Handles under load, at the end of the process, in workers, and when a call is given up. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { getEventListeners, once } from 'node:events';
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { allocBuffer, type EngineName, engines } from '../src/index.ts';
import { open } from '../src/promises.ts';
import { chosen, isChosen } from './conformance.ts';
import { content } from './file-model.ts';
import { lacks, runTypeScript } from './runtime.ts';
import { child, coded, collectGarbage, program, scratch } from './support.ts';

/** A hang is a failure as well; how long a test takes is not. */
const suite = { timeout: 300_000 };

type Handle = Awaited<ReturnType<typeof open>>;

function scratchPath(t: TestContext, size: number, parent = tmpdir()): string {
  const path = join(scratch(t, parent), 'data');
  writeFileSync(path, content(size));
  return path;
}

async function opened(
  t: TestContext,
  path: string,
  options: { engine: EngineName; flags?: string; direct?: boolean },
): Promise<Handle> {
  const handle = await open(path, options);
  t.after(() => handle.close());
  return handle;
}

/** Node's AbortError, whoever threw it. */
function aborted(reason: unknown): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Error, `${error} is an Error`);
    assert.equal(error instanceof DOMException, false, 'as Node has it, not as fetch has it');
    assert.equal(error.name, 'AbortError');
    assert.equal(error.constructor.name, 'AbortError');
    assert.equal('code' in error && error.code, 'ABORT_ERR');
    assert.equal(error.message, 'The operation was aborted');
    assert.equal(error.cause, reason);
    return true;
  };
}

/** Descriptors of this process, with what they are of. */
function descriptors(): string[] {
  return readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return 'gone';
    }
  });
}

/** Waits for something that comes by itself, for as long as it may take. */
async function until(condition: () => boolean, what: string): Promise<void> {
  for (const deadline = Date.now() + 20_000; !condition(); await delay(20)) {
    assert.ok(Date.now() < deadline, what);
  }
}

/** Every call that takes a signal, in each of its forms; on a file of some size, with memory of 4,096 bytes. */
const abortable: Record<string, (handle: Handle, memory: Buffer, signal: AbortSignal) => Promise<unknown>> = {
  'read(buffer, { signal })': (handle, memory, signal) => handle.read(memory, { position: 0, signal }),
  'read({ buffer, signal })': (handle, buffer, signal) => handle.read({ buffer, position: 0, signal }),
  'read(buffer, …, position, { signal })': (handle, memory, signal) => handle.read(memory, 0, 4096, 0, { signal }),
  'read at the current position': (handle, memory, signal) => handle.read(memory, 0, 4096, null, { signal }),
  'write(buffer, { signal })': (handle, memory, signal) => handle.write(memory, { position: 0, signal }),
  'write(buffer, …, position, { signal })': (handle, memory, signal) => handle.write(memory, 0, 4096, 0, { signal }),
  'write(string, position, encoding, { signal })': (handle, memory, signal) =>
    handle.write(memory.toString('latin1'), 0, 'latin1', { signal }),
  'write at the current position': (handle, memory, signal) => handle.write(memory, { signal }),
  'readv(buffers, position, { signal })': (handle, memory, signal) =>
    handle.readv([memory.subarray(0, 100), memory.subarray(100)], 0, { signal }),
  'writev(buffers, position, { signal })': (handle, memory, signal) =>
    handle.writev([memory.subarray(0, 100), memory.subarray(100)], 0, { signal }),
  'sync({ signal })': (handle, _, signal) => handle.sync({ signal }),
  'datasync({ signal })': (handle, _, signal) => handle.datasync({ signal }),
  'readFile({ signal })': (handle, _, signal) => handle.readFile({ signal }),
  'writeFile(data, { signal })': (handle, memory, signal) => handle.writeFile(memory, { signal }),
  'appendFile(data, { signal })': (handle, memory, signal) => handle.appendFile(memory, { signal }),
};

for (const { name: engine, available, why } of engines()) {
  if (!chosen(engine)) continue;
  if (!available) {
    test(`handles with ${engine}`, (t) => t.skip(why));
    continue;
  }

  describe(`${engine}: many at once`, suite, () => {
    for (const [direct, COUNT] of [
      [false, 50_000],
      [true, 20_000],
    ] as const) {
      const title = `${COUNT.toLocaleString('en')} ${direct ? 'direct' : 'buffered'} reads through one handle`;
      test(`${title}: all right, none overtaken by many`, async (t) => {
        const SIZE = 64;
        const path = scratchPath(t, COUNT * SIZE, '/dev/shm');
        const handle = await opened(t, path, { engine, direct });
        // Far more than any engine has room for at once, far fewer than all.
        const ROOM = 4096;
        const slab = Buffer.alloc(COUNT * SIZE);
        let done = 0;
        let overtaken = 0;
        await Promise.all(
          Array.from({ length: COUNT }, async (_, i) => {
            // Neighbours in time are not neighbours in the file.
            const at = ((i * 7919) % COUNT) * SIZE;
            const { bytesRead } = await handle.read(slab, at, SIZE, at);
            assert.equal(bytesRead, SIZE);
            if (done++ < i - ROOM) overtaken++;
          }),
        );
        assert.ok(slab.equals(content(COUNT * SIZE)));
        assert.equal(done, COUNT);
        assert.equal(overtaken, 0);
      });
    }

    test('10,000 writes through one handle, then 10,000 appended', async (t) => {
      const path = scratchPath(t, 0, '/dev/shm');
      const handle = await opened(t, path, { engine, flags: 'r+' });
      const data = content(10_000 * 16);
      await Promise.all(
        Array.from({ length: 10_000 }, async (_, i) => {
          assert.equal((await handle.write(data, i * 16, 16, i * 16)).bytesWritten, 16);
        }),
      );
      assert.ok(readFileSync(path).equals(data));
      const appending = await opened(t, path, { engine, flags: 'a' });
      await Promise.all(Array.from({ length: 10_000 }, (_, i) => appending.write(data, i * 16, 16)));
      assert.ok(readFileSync(path).equals(Buffer.concat([data, data])), 'in the order of the calls');
    });

    test('10,000 handles come and go, and leave no descriptor', async () => {
      const { stdout, stderr, code } = await program('file-many.ts', [engine]);
      assert.equal(code, 0, stderr);
      const { before, most, after, wrong } = JSON.parse(stdout);
      assert.equal(wrong, 0);
      assert.ok(most >= 400, `${most} at most`);
      // A runtime may open a few for itself meanwhile.
      assert.ok(after < before + 8, `${before} before, ${after} after`);
    });

    test('200 handles with 50 calls each', async (t) => {
      const path = scratchPath(t, 50 * 512);
      const data = content(50 * 512);
      const handles = await Promise.all(Array.from({ length: 200 }, () => opened(t, path, { engine })));
      await Promise.all(
        handles.map(async (handle) => {
          const slab = Buffer.alloc(data.length);
          await Promise.all(Array.from({ length: 50 }, (_, i) => handle.read(slab, i * 512, 512, i * 512)));
          assert.ok(slab.equals(data));
        }),
      );
    });

    test('a handle that nobody holds any more while it reads still gets its bytes', async (t) => {
      const path = scratchPath(t, 100 * 65_536);
      const data = content(100 * 65_536);
      const closed: Promise<void>[] = [];
      const reads = await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          const handle = await open(path, { engine });
          closed.push(new Promise((resolve) => handle.on('close', resolve)));
          const reading = handle.read(Buffer.alloc(65_536), 0, 65_536, i * 65_536);
          void handle.close();
          return { reading };
        }),
      );
      for (const [i, { reading }] of reads.entries()) {
        if (i % 10 === 0) collectGarbage();
        const { bytesRead, buffer } = await reading;
        assert.ok(bytesRead === 65_536 && buffer.equals(data.subarray(i * 65_536, (i + 1) * 65_536)));
      }
      await Promise.all(closed);
    });
  });

  describe(`${engine}: memory that goes away`, suite, () => {
    for (const direct of [false, true]) {
      const kind = direct ? 'direct' : 'buffered';

      test(`transferred away while a ${kind} file is read or written: an error, and nobody's memory is touched`, async (t) => {
        const path = scratchPath(t, 64 * 4096);
        const handle = await opened(t, path, { engine, flags: 'r+', direct });
        const data = content(64 * 4096);
        const moved: Uint8Array[] = [];
        const outcomes: string[] = [];
        await Promise.all(
          Array.from({ length: 64 }, async (_, i) => {
            const memory = new Uint8Array(4096).fill(i);
            const transfer = (): void => {
              // On Node 20 a clone with a transfer list is the only way.
              moved[i] = structuredClone(memory, { transfer: [memory.buffer] });
            };
            const writes = i % 4 === 3;
            const call = writes ? handle.write(memory, 0, 4096, i * 4096) : handle.read(memory, 0, 4096, i * 4096);
            // At once nothing can have been submitted; a turn later much may have.
            if (i % 2 === 0) transfer();
            else setImmediate(transfer);
            const outcome = await call.then(
              () => 'done',
              (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : String(error)),
            );
            assert.ok(outcome === 'ERR_AIO_BUFFER_DETACHED' || (i % 2 === 1 && outcome === 'done'), outcome);
            outcomes.push(outcome);
          }),
        );
        await until(() => Object.keys(moved).length === 64, 'all memory is transferred');
        collectGarbage();
        for (const [i, memory] of moved.entries()) {
          const as = memory.every((byte) => byte === i) ? 'before' : 'read';
          assert.ok(
            as === 'before' || Buffer.from(memory).equals(data.subarray(i * 4096, (i + 1) * 4096)),
            `block ${i}`,
          );
        }
        assert.ok(outcomes.includes('ERR_AIO_BUFFER_DETACHED'));
        const after = readFileSync(path);
        for (let i = 0; i < 64; i++) {
          const block = after.subarray(i * 4096, (i + 1) * 4096);
          assert.ok(block.equals(data.subarray(i * 4096, (i + 1) * 4096)) || block.every((byte) => byte === i));
        }
      });
    }
  });

  describe(`${engine}: the end of the process`, { ...suite, concurrency: 3 }, () => {
    test('an idle handle does not keep it', async () => {
      const { code, signal, stdout, stderr } = await program('file-idle.ts', [engine]);
      assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' });
      assert.equal(stdout, '100 EBADF\n0 3 open\n');
    });

    if (engine !== 'kernel-aio') {
      // A read of a FIFO by kernel AIO is done within its submission, and refused for that.
      test('a read in flight does', async () => {
        const { code, signal, stdout, stderr } = await program('file-busy.ts', [engine]);
        assert.deepEqual({ code, signal, stdout, stderr }, { code: 0, signal: null, stdout: 'late\n', stderr: '' });
      });
    }

    for (const how of ['exit in the same tick', 'exit in a later turn', 'throw', 'end by itself']) {
      test(`${how}, with thousands of calls under way: no crash, no hang`, async () => {
        const { code, signal, stderr } = await program('file-exit.ts', [engine, how]);
        assert.deepEqual({ code, signal }, { code: how === 'throw' ? 1 : 7, signal: null }, stderr);
        assert.equal(/rejected:/.test(stderr), false, stderr);
        if (how === 'throw') assert.match(stderr, /as intended/);
      });
    }
  });

  describe(`${engine}: workers`, suite, () => {
    const BLOCKS = 512;

    function start(path: string, rounds: number): Worker {
      return new Worker(new URL('./programs/file-worker.mjs', import.meta.url), {
        workerData: { path, blocks: BLOCKS, engine, rounds },
        execArgv: [],
      });
    }

    function numbered(t: TestContext): string {
      const path = join(scratch(t, '/dev/shm'), 'data');
      const data = Buffer.alloc(BLOCKS * 4096);
      for (let block = 0; block < BLOCKS; block++) data.fill(block, block * 4096, (block + 1) * 4096);
      writeFileSync(path, data);
      return path;
    }

    test('four of them, each with handles of its own, end by themselves with handles open', async (t) => {
      const path = numbered(t);
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          const worker = start(path, 20);
          const messages: unknown[] = [];
          worker.on('message', (message) => messages.push(message));
          const [code] = await once(worker, 'exit');
          assert.equal(code, 0);
          assert.deepEqual(messages, ['started', { reads: 4000, wrong: 0 }]);
        }),
      );
    });

    test('terminated while they read, they leave nothing', async (t) => {
      if (lacks('descriptors of other threads', t) || lacks('an end of the handles of a thread', t)) return;
      const path = numbered(t);
      const handle = await opened(t, path, { engine });
      const mine = (): number =>
        descriptors().filter((target) => target === path || /io_uring|eventfd/.test(target)).length;
      await handle.read(Buffer.alloc(10), 0, 10, 0);
      const before = mine();
      for (let round = 0; round < 4; round++) {
        const workers = Array.from({ length: 3 }, () => start(path, 1e9));
        await Promise.all(workers.map((worker) => once(worker, 'message')));
        for (let turns = 0; turns < round * 2; turns++) await turn();
        assert.deepEqual(await Promise.all(workers.map((worker) => worker.terminate())), [1, 1, 1]);
        // What this thread has goes on as if nothing were.
        const { buffer } = await handle.read(Buffer.alloc(4096), 0, 4096, round * 4096);
        assert.ok(buffer.every((byte) => byte === round));
      }
      await until(() => mine() <= before, 'descriptors of terminated workers are closed');
    });
  });

  describe(`${engine}: AbortSignal`, suite, () => {
    for (const direct of [false, true]) {
      const kind = direct ? 'direct' : 'buffered';

      for (const [form, call] of Object.entries(abortable)) {
        test(`${form} of a ${kind} file: before, at once, and after`, async (t) => {
          const path = scratchPath(t, 16_384);
          const handle = await opened(t, path, { engine, flags: 'r+', direct });
          const memory = allocBuffer(4096).fill('=');
          const reason = new Error('enough');
          const refused = AbortSignal.abort(reason);
          await assert.rejects(call(handle, memory, refused), aborted(reason));
          assert.ok(readFileSync(path).equals(content(16_384)), 'nothing was written');
          assert.ok(
            memory.every((byte) => byte === 61),
            'nothing was read',
          );

          // In the tick of the call nothing can have reached the kernel.
          const soon = new AbortController();
          const given = call(handle, memory, soon.signal);
          soon.abort(reason);
          await assert.rejects(given, aborted(reason));
          memory.fill('#');
          // Whatever was moving has come to an end: it does not show in memory that is ours again.
          await handle.read(Buffer.alloc(1), 0, 1, 0);
          assert.ok(memory.every((byte) => byte === 35));

          const late = new AbortController();
          await call(handle, memory.fill('+'), late.signal);
          assert.equal(getEventListeners(late.signal, 'abort').length, 0, 'no listener is left');
          late.abort(reason);
          await turn();
          assert.equal((await handle.read(memory, 0, 4096, 0)).bytesRead, 4096, 'the handle is as good as before');
        });
      }

      test(`at random moments of ${kind} transfers: done or aborted, and the memory is the caller's then`, async (t) => {
        const SIZE = 2 ** 17;
        const COUNT = 64;
        const path = scratchPath(t, SIZE * 16);
        const data = content(SIZE * 16);
        const handle = await opened(t, path, { engine, direct });
        const outcomes = { done: 0, aborted: 0 };
        for (let round = 0; round < 6; round++) {
          const memories: Buffer[] = [];
          const calls = Array.from({ length: COUNT }, async (_, i) => {
            const controller = new AbortController();
            // Memory that is read into in place, and memory that is read into through a copy.
            const memory = i % 2 === 0 ? allocBuffer(SIZE) : Buffer.alloc(SIZE);
            const at = (i % 16) * SIZE;
            const reading =
              i % 3 === 0
                ? handle.readv([memory.subarray(0, 5000), memory.subarray(5000)], at, { signal: controller.signal })
                : handle.read(memory, { position: at, signal: controller.signal });
            const abortion = (async () => {
              for (let turns = 0; turns < (i + round) % 6; turns++) await turn();
              controller.abort(round);
            })();
            try {
              const { bytesRead } = await reading;
              assert.ok(memory.subarray(0, bytesRead).equals(data.subarray(at, at + bytesRead)));
              outcomes.done++;
            } catch (error) {
              aborted(round)(error);
              outcomes.aborted++;
            }
            memory.fill(round);
            memories.push(memory);
            await abortion;
          });
          await Promise.all(calls);
          await handle.read(Buffer.alloc(1), 0, 1, 0);
          for (const memory of memories)
            assert.ok(
              memory.every((byte) => byte === round),
              'written after the end',
            );
        }
        assert.equal(outcomes.done + outcomes.aborted, 6 * COUNT);
        assert.ok(outcomes.aborted > 0 && outcomes.done > 0, JSON.stringify(outcomes));
      });
    }

    test('one signal for 10,000 calls, most of which have not begun', async (t) => {
      const path = scratchPath(t, 65_536, '/dev/shm');
      const handle = await opened(t, path, { engine });
      const warnings: Error[] = [];
      const warned = (warning: Error): void => void warnings.push(warning);
      process.on('warning', warned);
      t.after(() => process.off('warning', warned));
      const controller = new AbortController();
      const { signal } = controller;
      const calls = Array.from({ length: 10_000 }, (_, i) => handle.read(Buffer.alloc(64), { position: i, signal }));
      const other = handle.read(Buffer.alloc(64), { position: 5 });
      controller.abort();
      const settled = await Promise.allSettled(calls);
      for (const result of settled) {
        if (result.status === 'rejected') aborted(signal.reason)(result.reason);
      }
      assert.ok(settled.filter(({ status }) => status === 'rejected').length > 5000);
      assert.equal(getEventListeners(signal, 'abort').length, 0);
      const { bytesRead, buffer } = await other;
      assert.ok(bytesRead === 64 && buffer.equals(content(65_536).subarray(5, 69)));
      await handle.close();
      assert.deepEqual(warnings, [], 'many calls with one signal are no leak');
    });

    test('transfers of nothing are aborted all the same', async (t) => {
      const handle = await opened(t, scratchPath(t, 100), { engine, flags: 'r+' });
      const signal = AbortSignal.abort('enough');
      for (const nothing of [
        handle.read(Buffer.alloc(8), 0, 0, 0, { signal }),
        handle.read({ buffer: Buffer.alloc(8), length: 0, signal }),
        handle.readv([Buffer.alloc(0)], 0, { signal }),
        handle.write('', 0, 'utf8', { signal }),
        handle.writeFile('', { signal }),
      ]) {
        await assert.rejects(nothing, aborted('enough'));
      }
    });

    test('what is no signal is refused', async (t) => {
      const handle = await opened(t, scratchPath(t, 4096), { engine, flags: 'r+' });
      const bad: unknown = 'text';
      for (const [form, call] of Object.entries(abortable)) {
        const given = call(handle, Buffer.alloc(4096), bad as AbortSignal);
        await assert.rejects(given, coded('ERR_INVALID_ARG_TYPE', /signal/), form);
      }
      assert.ok(readFileSync(join(`/proc/self/fd/${handle.fd}`)).equals(content(4096)));
    });

    if (engine === 'kernel-aio') return;

    /** A FIFO that is open for reading and writing, so that nothing about it blocks but a read when it is empty. */
    async function fifo(t: TestContext): Promise<{ handle: Handle; write: (text: string) => void }> {
      const path = join(scratch(t), 'fifo');
      execFileSync('mkfifo', [path]);
      const fd = openSync(path, constants.O_RDWR);
      // A read that a failed test left behind ends by this, and with it the test.
      t.after(() => void writeSync(fd, '.'.repeat(4096)));
      t.after(() => closeSync(fd));
      return { handle: await opened(t, path, { engine, flags: 'r+' }), write: (text) => void writeSync(fd, text) };
    }

    if (engine === 'io-uring') {
      test('a read of a FIFO that would never end is given back', async (t) => {
        const { handle, write } = await fifo(t);
        for (const [form, read] of Object.entries<(memory: Buffer, signal: AbortSignal) => Promise<unknown>>({
          read: (memory, signal) => handle.read(memory, { signal }),
          readv: (memory, signal) => handle.readv([memory], null, { signal }),
        })) {
          const controller = new AbortController();
          const memory = allocBuffer(4096).fill('=');
          const reading = read(memory, controller.signal);
          // Until it waits in the kernel.
          for (let turns = 0; turns < 20; turns++) await turn();
          controller.abort(form);
          await assert.rejects(reading, aborted(form));
          memory.fill('#');
          write('late');
          // Whoever reads next gets the bytes.
          const { bytesRead, buffer } = await handle.read(Buffer.alloc(100));
          assert.equal(buffer.toString('latin1', 0, bytesRead), 'late', form);
          assert.ok(
            memory.every((byte) => byte === 35),
            form,
          );
        }
      });

      test('close after giving up a read of a FIFO ends at once', async (t) => {
        const { handle } = await fifo(t);
        const controller = new AbortController();
        const reading = handle.read(Buffer.alloc(10), { signal: controller.signal });
        for (let turns = 0; turns < 5; turns++) await turn();
        const closing = handle.close();
        controller.abort();
        await assert.rejects(reading, coded('ABORT_ERR'));
        await closing;
        assert.equal(handle.fd, -1);
      });
    } else {
      test('a read that nobody can take back is rejected when it has ended', async (t) => {
        const { handle, write } = await fifo(t);
        const controller = new AbortController();
        const memory = Buffer.alloc(100, '=');
        let settled = false;
        const reading = handle.read(memory, { signal: controller.signal }).finally(() => {
          settled = true;
        });
        reading.catch(() => undefined);
        for (let turns = 0; turns < 20; turns++) await turn();
        controller.abort('enough');
        for (let turns = 0; turns < 20; turns++) await turn();
        assert.equal(settled, false, 'a thread of the pool still reads into the memory');
        write('late');
        await assert.rejects(reading, aborted('enough'));
        memory.fill('#');
        write('more');
        const { bytesRead, buffer } = await handle.read(Buffer.alloc(100));
        assert.equal(buffer.toString('latin1', 0, bytesRead), 'more');
        assert.ok(memory.every((byte) => byte === 35));
      });
    }

    test('reads of a FIFO, started together, get what comes in their order', async (t) => {
      const { handle, write } = await fifo(t);
      const reads = Array.from({ length: 1000 }, async () => {
        const { bytesRead, buffer } = await handle.read(Buffer.alloc(4));
        return buffer.toString('latin1', 0, bytesRead);
      });
      const texts = Array.from({ length: 1000 }, (_, i) => String(i).padStart(4, '0'));
      for (const [i, text] of texts.entries()) {
        write(text);
        if (i % 100 === 0) await turn();
      }
      assert.deepEqual(await Promise.all(reads), texts);
    });
  });
}

const leavesSome = (['io-uring', 'kernel-aio'] as const).every(isChosen)
  ? false
  : `ENGINES=${process.env.ENGINES} leaves out engines that would be taken`;

describe('an engine that nobody asked for', { ...suite, skip: leavesSome }, () => {
  const strace = spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0;

  /** The program under strace, and the calls that it saw. */
  async function traced(
    t: TestContext,
    expressions: readonly string[],
    args: readonly string[] = [],
  ): Promise<{ stdout: string; calls: string }> {
    const log = join(scratch(t), 'strace');
    const file = new URL('./programs/file-plain.ts', import.meta.url).pathname;
    const command = [...expressions.flatMap((each) => ['-e', each]), process.execPath, ...runTypeScript, file, ...args];
    const { code, stdout, stderr } = await child('strace', ['-f', '--seccomp-bpf', '-o', log, ...command], {
      FILEAIO_ENGINE: '',
    });
    assert.equal(code, 0, stderr);
    return { stdout, calls: readFileSync(log, 'utf8') };
  }

  test('buffered files go to io_uring, never to kernel AIO', async (t) => {
    if (!strace) return t.skip('strace is not installed, or may not trace');
    const { stdout, calls } = await traced(t, ['trace=io_submit,io_uring_enter']);
    const expected = engines().find(({ name }) => name === 'io-uring')?.available === true ? 'io-uring' : 'threads';
    assert.equal(stdout, `buffered ${expected}\n`);
    assert.doesNotMatch(calls, /io_submit\(/);
    if (expected === 'io-uring') assert.match(calls, /io_uring_enter\(/);
  });

  test('without io_uring: threads for buffered files, kernel AIO for direct ones', async (t) => {
    if (!strace) return t.skip('strace is not installed, or may not trace');
    const forbidden = ['trace=io_submit,io_uring_setup', 'inject=io_uring_setup:error=EPERM'];
    const { stdout, calls } = await traced(t, forbidden);
    assert.equal(stdout, 'buffered threads\n');
    assert.doesNotMatch(calls, /io_submit\(/);
    const both = await traced(t, forbidden, ['direct']);
    assert.equal(both.stdout, 'buffered threads\ndirect kernel-aio\n');
    assert.match(both.calls, /io_submit\(/);
  });
});
