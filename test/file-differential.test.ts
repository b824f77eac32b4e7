/**
 * This library and `node:fs/promises` side by side: the same calls on twin files must come to the same. Node is the reference, whatever
 * its version; where Node 20 differs from 24, the differences are written down in file-model.ts.
 *
 * On failure fast-check prints a seed and a path: `FC_SEED=… FC_PATH=… ENGINES=…` runs that sequence again, and `FC_RUNS=…` more of them.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, closeSync, fstatSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import * as node from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { engines } from '../src/index.ts';
import * as fileaio from '../src/promises.ts';
import { chosen, isChosen } from './conformance.ts';
import {
  type Api,
  asNode24,
  compare,
  content,
  handleNames,
  handleSequences,
  invokeIt,
  moduleNames,
  moduleSequences,
  property,
  type Sequence,
  World,
} from './file-model.ts';
import { runtime } from './runtime.ts';
import { coded, scratch } from './support.ts';

function setting(name: string): number | undefined {
  const value = process.env[name] ?? '';
  return value === '' ? undefined : Number(value);
}

const seed = setting('FC_SEED');
const path = process.env.FC_PATH;
const runs = setting('FC_RUNS') ?? 700;

const parameters: fc.Parameters<[Sequence]> = {
  ...(seed === undefined ? {} : { seed }),
  ...(path === undefined ? {} : { path }),
  // A promise that nobody settles is a failure with a seed, too.
  timeout: 30_000,
};

/** Sequences in both worlds, each of them with names of its own in one directory. */
async function alike(
  t: TestContext,
  sequences: fc.Arbitrary<Sequence>,
  names: readonly string[],
  numRuns: number,
  parent: string,
  other = (directory: string) => new World(fileaio as Api, directory, 'f'),
): Promise<void> {
  const directory = scratch(t, parent);
  const property = fc.asyncProperty(sequences, (sequence) =>
    compare(new World(node as Api, directory, 'n', asNode24), other(directory), sequence, names),
  );
  await fc.assert(property, { ...parameters, numRuns });
}

/** What a test can compare of an error: everything but the stack. */
function shape(error: unknown): unknown {
  assert.ok(error instanceof Error);
  const { name, message, cause } = error;
  return { name, message, cause, own: { ...error }, prototype: error instanceof TypeError };
}

/** Both ways of doing something, which must come to the same: a result, or an error. */
async function both<T>(act: (fs: typeof node) => Promise<T>): Promise<T | undefined> {
  const [expected, actual] = await Promise.allSettled([act(node), act(fileaio)]);
  if (expected.status === 'rejected') {
    assert.equal(actual.status, 'rejected', `node:fs/promises rejects: ${expected.reason}`);
    assert.deepStrictEqual(shape(actual.status === 'rejected' && actual.reason), shape(expected.reason));
    return undefined;
  }
  if (actual.status === 'rejected') throw actual.reason;
  assert.deepStrictEqual(actual.value, expected.value);
  return actual.value;
}

/** Files and handles of the tests below. */
function scratchPath(t: TestContext, size = 0, parent = tmpdir()): string {
  const path = join(scratch(t, parent), 'data');
  writeFileSync(path, content(size));
  return path;
}

async function handleOf(
  t: TestContext,
  path: string,
  flags: string | number = 'r+',
): Promise<Awaited<ReturnType<typeof fileaio.open>>> {
  const handle = await fileaio.open(path, flags);
  t.after(() => handle.close());
  return handle;
}

/** Elsewhere `node:fs/promises` is another implementation, with mistakes of its own. */
const noReference = runtime === 'node' ? false : `node:fs/promises of ${runtime} is no reference for that of Node`;

/** A hang is a failure as well; how long a test takes is not. */
const suite = { timeout: 300_000 };

describe('node:fs/promises beside itself', { ...suite, skip: noReference }, () => {
  // Otherwise a failure below would say nothing about this library.
  const twin = (directory: string): World => new World(node as Api, directory, 'f', asNode24);

  test('nothing in the sequences of handles is left to chance', (t) =>
    alike(t, handleSequences, handleNames, runs / 5, '/dev/shm', twin));

  test('nothing in the sequences of the module is left to chance', (t) =>
    alike(t, moduleSequences, moduleNames, runs / 5, '/dev/shm', twin));
});

for (const { name: engine, available, why } of engines()) {
  if (!chosen(engine)) continue;
  if (!available) {
    test(`the engine ${engine} beside node:fs/promises`, (t) => t.skip(why));
    continue;
  }
  describe(`${engine} beside node:fs/promises`, { ...suite, skip: noReference }, () => {
    const wanted = process.env.FILEAIO_ENGINE;
    before(() => {
      process.env.FILEAIO_ENGINE = engine;
    });
    after(() => {
      if (wanted === undefined) delete process.env.FILEAIO_ENGINE;
      else process.env.FILEAIO_ENGINE = wanted;
    });

    test('the engine that the environment asks for carries the files', async (t) => {
      const handle = await handleOf(t, scratchPath(t));
      assert.equal(handle.engine, engine);
    });

    test('random calls of handles', (t) => alike(t, handleSequences, handleNames, runs, '/dev/shm'));

    test('random calls of handles on a disk', (t) => alike(t, handleSequences, handleNames, runs / 10, tmpdir()));

    test('random calls of the module', (t) => alike(t, moduleSequences, moduleNames, runs, '/dev/shm'));

    for (const size of [0, 1, 65_535, 65_536, 65_537, 524_287, 524_288, 524_289, 3_000_001]) {
      test(`files of ${size.toLocaleString('en')} bytes as bytes and in every encoding, and written back`, async (t) => {
        const path = scratchPath(t, size);
        // Characters of several bytes, so that some of them lie across every boundary.
        const encoded = join(path, '..', 'text');
        writeFileSync(encoded, 'äöü€😀'.repeat(size / 13).slice(0, size));
        for (const encoding of [null, 'utf8', 'latin1', 'hex', 'base64', 'base64url', 'utf16le', 'ascii'] as const) {
          await both((fs) => fs.readFile(encoding === 'utf8' ? encoded : path, encoding));
        }
        const data = readFileSync(path);
        const text = readFileSync(encoded, 'utf8');
        const halves = (): (string | Buffer)[] => [text.slice(0, size / 20), data.subarray(0, size / 2), text];
        const written: Record<string, () => Parameters<typeof node.writeFile>[1]> = {
          bytes: () => data,
          words: () => new Float64Array(data.buffer, data.byteOffset, size >> 3),
          text: () => text,
          array: halves,
          generator: function* () {
            yield* halves();
          },
          stream: () => Readable.from(halves()),
        };
        for (const [kind, make] of Object.entries(written)) {
          const [mine, theirs] = ['f', 'n'].map((letter) => join(path, '..', `${letter}-${kind}`));
          assert.ok(mine !== undefined && theirs !== undefined);
          for (const write of ['writeFile', 'appendFile'] as const) {
            await both((fs) => fs[write](fs === node ? theirs : mine, make() as Buffer));
            assert.ok(readFileSync(mine).equals(readFileSync(theirs)), `${write} of ${kind}`);
          }
        }
      });
    }

    test('files that do not know their size: of /proc, and a FIFO', async (t) => {
      await both((fs) => fs.readFile('/proc/version'));
      await both((fs) => fs.readFile('/proc/filesystems', 'utf8'));
      const fifo = join(scratch(t), 'fifo');
      execFileSync('mkfifo', [fifo]);
      const expected = content(300_000);
      const source = scratchPath(t, 300_000);
      if (engine === 'kernel-aio') {
        // Its reads are done within the submission, which would never return.
        const handle = await node.open(fifo, 'r+');
        t.after(() => handle.close());
        await assert.rejects(fileaio.readFile(fifo), coded('ERR_AIO_NOT_SUPPORTED', /'io-uring' or 'threads'/));
        return;
      }
      for (const read of [
        () => fileaio.readFile(fifo),
        async () => Buffer.from(await fileaio.readFile(fifo, 'latin1'), 'latin1'),
      ]) {
        const writer = spawn('sh', ['-c', 'cat "$1" > "$2"', 'sh', source, fifo], { stdio: 'ignore' });
        assert.ok((await read()).equals(expected));
        if (writer.exitCode === null) await once(writer, 'exit');
      }
    });

    test('more segments than one system call takes', async (t) => {
      const path = scratchPath(t);
      const data = content(6000);
      const parts = Array.from({ length: 2000 }, (_, i) => data.subarray(i * 3, i * 3 + 3));
      const handle = await handleOf(t, path);
      assert.equal((await handle.writev(parts, 0)).bytesWritten, 6000);
      assert.ok(readFileSync(path).equals(data));
      assert.equal((await handle.writev(parts)).bytesWritten, 6000);
      const into = Array.from({ length: 2000 }, () => Buffer.alloc(3));
      const { bytesRead } = await handle.readv(into, 0);
      // Node ends such a read at 1,024 segments. Less than the rest is never wrong, but what is said to be read must be there.
      assert.ok(bytesRead >= 3 * 1024);
      assert.ok(Buffer.concat(into).subarray(0, bytesRead).equals(data.subarray(0, bytesRead)));
    });

    test('positions that only a bigint can hold', async (t) => {
      const handle = await handleOf(t, scratchPath(t, 100));
      const buffer = Buffer.alloc(10);
      assert.equal((await handle.read(buffer, { position: 2n ** 62n })).bytesRead, 0);
      await assert.rejects(handle.read(buffer, 0, 10, 2n ** 63n - 10n), coded('ERR_OUT_OF_RANGE'));
      assert.equal((await handle.read(buffer, 0, 10, 95n)).bytesRead, 5);
    });

    test('AbortSignal of readFile and writeFile', async (t) => {
      const path = scratchPath(t, 3_000_000);
      const before = AbortSignal.abort(new Error('enough'));
      await both((fs) => fs.readFile(path, { signal: before }));
      await both((fs) => fs.readFile(path, { signal: before, encoding: 'utf8' }));
      await both((fs) => fs.writeFile(`${path}-new`, 'text', { signal: before }));
      await both((fs) => fs.appendFile(`${path}-new`, 'text', { signal: before } as never));
      await assert.rejects(fileaio.stat(`${path}-new`), coded('ENOENT'));
      for (const fs of [node, fileaio]) {
        const handle = await fs.open(path, 'r+');
        t.after(() => handle.close());
        for (const act of [
          () => handle.readFile({ signal: before }),
          () => handle.writeFile('text', { signal: before }),
          () => handle.appendFile('text', { signal: before }),
        ]) {
          await assert.rejects(act(), (error: unknown) => {
            assert.deepStrictEqual(shape(error), {
              name: 'AbortError',
              message: 'The operation was aborted',
              cause: before.reason,
              own: { code: 'ABORT_ERR', name: 'AbortError' },
              prototype: false,
            });
            return true;
          });
        }
      }
      // In the middle of it.
      await both((fs) => {
        const controller = new AbortController();
        const reading = fs.readFile(path, { signal: controller.signal, encoding: 'utf8' });
        controller.abort('stop');
        return reading;
      });
      await both(async (fs) => {
        const controller = new AbortController();
        const target = `${path}-${fs === node ? 'n' : 'f'}`;
        const chunks = (async function* () {
          yield 'one';
          yield 'two';
          controller.abort('stop');
          yield 'three';
        })();
        await assert.rejects(fs.writeFile(target, chunks, { signal: controller.signal }), coded('ABORT_ERR'));
        return readFileSync(target, 'utf8');
      });
      // One that comes too late does nothing.
      const late = new AbortController();
      assert.equal((await fileaio.readFile(path, { signal: late.signal })).length, 3_000_000);
      await fileaio.writeFile(path, 'done', { signal: late.signal });
      late.abort();
      assert.equal(await fileaio.readFile(path, 'utf8'), 'done');
    });

    test("'close' is emitted once, when close is called, and closing twice is fine", async (t) => {
      const handle = await handleOf(t, scratchPath(t, 10));
      assert.ok(handle.fd > 2);
      let closed = 0;
      handle.on('close', () => closed++);
      const first = handle.close();
      assert.equal(closed, 1);
      assert.equal(handle.fd, -1);
      assert.deepEqual(await Promise.all([first, handle.close()]), [undefined, undefined]);
      assert.equal(await handle.close(), undefined);
      assert.equal(closed, 1);
    });

    test('while something is in flight, all that close share one promise', async (t) => {
      const path = scratchPath(t, 10);
      for (const fs of [node, fileaio]) {
        const handle: node.FileHandle = await fs.open(path);
        let closed = 0;
        invokeIt(handle, 'on', ['close', () => closed++]);
        const reading = handle.read(Buffer.alloc(10));
        const first = handle.close();
        assert.equal(handle.close(), first);
        assert.equal(closed, 1);
        assert.ok(handle.fd > 2);
        assert.equal((await reading).bytesRead, 10);
        await first;
        assert.equal(handle.fd, -1);
        assert.equal(closed, 1);
      }
    });

    test('close waits for what is in flight, and what begins before that is done finds the file open', async (t) => {
      const path = scratchPath(t, 50 * 4096);
      const handle = await handleOf(t, path);
      const { fd } = handle;
      const order: string[] = [];
      const reads = Array.from({ length: 50 }, async (_, i) => {
        const { buffer, bytesRead } = await handle.read(Buffer.alloc(4096), 0, 4096, i * 4096);
        assert.equal(bytesRead, 4096);
        assert.ok(buffer.equals(content(50 * 4096).subarray(i * 4096, (i + 1) * 4096)));
        order.push('read');
      });
      const closing = handle.close().then(() => order.push('closed'));
      assert.equal(handle.fd, fd);
      assert.equal((await handle.read(Buffer.alloc(1), 0, 1, 0)).bytesRead, 1);
      await closing;
      assert.equal(handle.fd, -1);
      assert.deepEqual([order.length, order.at(-1)], [51, 'closed']);
      assert.throws(() => fstatSync(fd), coded('EBADF'));
      await Promise.all(reads);
    });

    test('every method of a closed handle says so, as those of Node do', async (t) => {
      const path = scratchPath(t, 10);
      const use: Record<string, (handle: node.FileHandle) => Promise<unknown>> = {
        appendFile: (handle) => handle.appendFile('x'),
        chmod: (handle) => handle.chmod(0o600),
        chown: (handle) => handle.chown(-1, -1),
        datasync: (handle) => handle.datasync(),
        read: (handle) => handle.read(),
        readFile: (handle) => handle.readFile(),
        readv: (handle) => handle.readv([Buffer.alloc(1)]),
        stat: (handle) => handle.stat(),
        sync: (handle) => handle.sync(),
        truncate: (handle) => handle.truncate(),
        utimes: (handle) => handle.utimes(1, 1),
        write: (handle) => handle.write('x'),
        'write of nothing': (handle) => handle.write(Buffer.alloc(0)),
        'write of nonsense': (handle) => handle.write(5 as never),
        writeFile: (handle) => handle.writeFile('x'),
        writev: (handle) => handle.writev([Buffer.alloc(1)]),
      };
      for (const act of Object.values(use)) {
        await both(async (fs) => {
          const handle = await fs.open(path, 'r+');
          await handle.close();
          return act(handle);
        });
      }
      const handle = await handleOf(t, path);
      await handle.close();
      await assert.rejects(handle.read(), (error: unknown) => {
        assert.deepStrictEqual(shape(error), {
          name: 'Error',
          message: 'file closed',
          cause: undefined,
          own: { code: 'EBADF', syscall: 'read' },
          prototype: false,
        });
        return true;
      });
      assert.throws(() => handle.readableWebStream(), coded('ERR_INVALID_STATE'));
    });

    test('a closed handle, given to a function of this module, is closed there, too', async (t) => {
      const handle = await handleOf(t, scratchPath(t, 10));
      await handle.close();
      for (const act of [
        () => fileaio.readFile(handle),
        () => fileaio.writeFile(handle, 'text'),
        () => fileaio.appendFile(handle, 'text'),
      ]) {
        await assert.rejects(act(), coded('EBADF', /^file closed$/));
      }
    });

    test('close works without its object, and by Symbol.asyncDispose', async (t) => {
      const path = scratchPath(t);
      const { close, fd } = await fileaio.open(path);
      await close();
      assert.throws(() => fstatSync(fd), coded('EBADF'));
      const handle = await fileaio.open(path);
      assert.equal(await handle[Symbol.asyncDispose](), undefined);
      assert.equal(handle.fd, -1);
    });

    test('a descriptor that somebody else closed: an error from everything, as from Node', async (t) => {
      const path = scratchPath(t, 10);
      for (const act of [
        (handle: node.FileHandle) => handle.read(Buffer.alloc(4), 0, 4, 0),
        (handle: node.FileHandle) => handle.read(Buffer.alloc(4), 0, 4, null),
        (handle: node.FileHandle) => handle.write('text', 0),
        (handle: node.FileHandle) => handle.writev([Buffer.alloc(4)]),
        (handle: node.FileHandle) => handle.sync(),
        (handle: node.FileHandle) => handle.readFile(),
        (handle: node.FileHandle) => handle.close(),
      ]) {
        // One after the other: the number may belong to another file in no time.
        const outcomes: unknown[] = [];
        for (const fs of [node, fileaio]) {
          const handle = await fs.open(path, 'r+');
          closeSync(handle.fd);
          outcomes.push(await act(handle).then(() => 'no error', shape));
          await handle.close().catch(() => undefined);
        }
        assert.deepStrictEqual(outcomes[1], outcomes[0]);
      }
    });

    test("a handle of Node's own, given to a function of this module", async (t) => {
      const path = scratchPath(t, 10);
      const handle = await node.open(path, 'r+');
      t.after(() => handle.close());
      assert.ok((await fileaio.readFile(handle)).equals(content(10)));
      await fileaio.writeFile(handle, 'more');
      await fileaio.appendFile(handle, 'and more');
      assert.equal(readFileSync(path, 'latin1').slice(10), 'moreand more');
    });

    test('reads and writes at the current position, started together, run in order', async (t) => {
      const size = 64 * 1000;
      const path = scratchPath(t, size);
      const handle = await handleOf(t, path);
      const buffers = Array.from({ length: 70 }, () => Buffer.alloc(1000));
      const results = await Promise.all(buffers.map((buffer) => handle.read(buffer)));
      assert.ok(Buffer.concat(buffers.slice(0, 64)).equals(content(size)));
      assert.deepEqual(
        results.map(({ bytesRead }) => bytesRead),
        buffers.map((_, i) => (i < 64 ? 1000 : 0)),
      );
      await Promise.all(Array.from({ length: 50 }, (_, i) => handle.write(`${i},`)));
      assert.equal(readFileSync(path, 'latin1').slice(size), Array.from({ length: 50 }, (_, i) => `${i},`).join(''));
    });

    test('streams of a handle', async (t) => {
      const path = scratchPath(t, 200_000);
      const data = content(200_000);
      const read = await fileaio.open(path);
      assert.ok(Buffer.concat(await Readable.from(read.createReadStream()).toArray()).equals(data));
      const web = await handleOf(t, path);
      const chunks: Uint8Array[] = [];
      for await (const chunk of web.readableWebStream({ type: 'bytes' })) chunks.push(new Uint8Array(chunk));
      assert.ok(Buffer.concat(chunks).equals(data));
      const write = await fileaio.open(`${path}-lines`, 'w');
      const stream = write.createWriteStream();
      stream.write('one\ntwo\r\n');
      stream.end('three');
      await once(stream, 'close');
      assert.equal(write.fd, -1);
      const lines: string[] = [];
      for await (const line of (await fileaio.open(`${path}-lines`)).readLines()) lines.push(line);
      assert.deepEqual(lines, ['one', 'two', 'three']);
    });
  });
}

describe('copyFile', () => {
  test('the copy has the permissions, the owner and the time of the last look of its source, as from Node 22 on', async (t) => {
    const path = scratchPath(t);
    writeFileSync(path, 'content');
    chmodSync(path, 0o640);
    const root = process.getuid?.() === 0;
    if (root) chownSync(path, 12, 34);
    utimesSync(path, 1000, 2000);
    const before = Date.now();
    await fileaio.copyFile(path, `${path}-new`);
    writeFileSync(`${path}-old`, 'something longer');
    utimesSync(path, 1000, 2000);
    await fileaio.copyFile(path, `${path}-old`);
    for (const copy of ['new', 'old'].map((name) => `${path}-${name}`)) {
      const { mode, uid, gid, mtimeMs, atimeMs } = statSync(copy);
      assert.equal(mode & 0o7777, 0o640);
      if (root) assert.deepEqual([uid, gid], [12, 34]);
      assert.equal(atimeMs, 1_000_000);
      assert.ok(mtimeMs > before - 1000, 'the data is new');
      assert.equal(readFileSync(copy, 'utf8'), 'content');
    }
  });
});

describe('the exports of fileaio/promises', () => {
  const overridden = ['open', 'readFile', 'writeFile', 'appendFile', 'copyFile'];

  test('every name of node:fs/promises is there, and what moves no file data is the same function', () => {
    const mine: Record<string, unknown> = { ...fileaio };
    for (const [name, value] of Object.entries(node)) {
      if (name === 'default') continue;
      if (!overridden.includes(name)) assert.equal(mine[name], value, name);
      else assert.ok(typeof mine[name] === 'function' && mine[name] !== value, name);
    }
    assert.equal(fileaio.constants, node.constants);
  });

  test('the default export has the same', () => {
    const whole: Record<string, unknown> = { ...fileaio.default };
    for (const name of Object.keys(node)) {
      if (name !== 'default') assert.equal(whole[name], property(fileaio, name), name);
    }
  });

  test("the functions have Node's names", () => {
    for (const name of overridden) assert.equal(property(property(fileaio, name), 'name'), name);
  });

  test("a handle has every member of Node's", async (t) => {
    if (noReference !== false) return t.skip(noReference);
    const path = scratchPath(t);
    const theirs = await node.open(path);
    t.after(() => theirs.close());
    const mine = await handleOf(t, path);
    // `getAsyncId` is there, but nowhere written down: it is for the inside of async_hooks.
    const own = Object.getOwnPropertyNames(Object.getPrototypeOf(theirs)).filter((name) => name !== 'getAsyncId');
    const members = [...own, 'close', 'on', 'once', 'emit', Symbol.asyncDispose];
    for (const member of members)
      assert.equal(typeof property(mine, member), typeof property(theirs, member), String(member));
  });

  test('the types fit where those of node:fs/promises do', async (t) => {
    const asNodes = (handle: fileaio.FileHandle): node.FileHandle => handle;
    const dropIn: Omit<typeof node, 'default'> = fileaio;
    const handle: node.FileHandle = asNodes(await fileaio.open(scratchPath(t, 3), 'r'));
    t.after(() => handle.close());
    const text: string = await dropIn.readFile(handle, 'latin1');
    assert.equal(text.length, 3);
    const { bytesRead, buffer }: { bytesRead: number; buffer: Uint16Array } = await handle.read(new Uint16Array(4));
    assert.equal(bytesRead + buffer.length, 4);
  });
});

describe('what open takes beyond Node', () => {
  test('flags, mode and engine as options', async (t) => {
    const path = scratchPath(t, 3);
    for (const { name: engine, available } of engines()) {
      if (!available || !isChosen(engine)) continue;
      const handle = await fileaio.open(path, { flags: 'r+', engine });
      assert.equal(handle.engine, engine);
      assert.equal(handle.direct, false);
      await handle.write('abc');
      await handle.close();
      assert.equal(readFileSync(path, 'utf8'), 'abc');
    }
    const made = await fileaio.open(`${path}-new`, { flags: 'wx', mode: 0o600 });
    t.after(() => made.close());
    assert.equal(fstatSync(made.fd).mode & 0o777, 0o600);
    const read = await fileaio.open(path, {});
    t.after(() => read.close());
    assert.equal(await read.readFile('utf8'), 'abc');
    await assert.rejects(read.write('x'), coded('EBADF'));
  });

  test('options that are none are refused, and nothing is opened or made', async (t) => {
    const path = join(scratch(t), 'new');
    const open = (options: unknown): Promise<unknown> => fileaio.open(path, options as { flags: string });
    await assert.rejects(open({ flags: 'w', engine: 'rocket' }), coded('ERR_INVALID_ARG_VALUE', /rocket/));
    await assert.rejects(open({ flags: 'w', engine: 5 }), coded('ERR_INVALID_ARG_TYPE', /engine/));
    await assert.rejects(open({ flags: 'w', direct: 'yes' }), coded('ERR_INVALID_ARG_TYPE', /direct/));
    await assert.rejects(open({ flags: 'zz' }), coded('ERR_INVALID_ARG_VALUE', /flags/));
    await assert.rejects(open({ flags: 'w', mode: 'rw' }), coded('ERR_INVALID_ARG_VALUE', /mode/));
    await assert.rejects(node.stat(path), coded('ENOENT'));
    writeFileSync(path, 'kept');
    await assert.rejects(open({ flags: 'w', engine: 'rocket' }), coded('ERR_INVALID_ARG_VALUE', /rocket/));
    assert.equal(readFileSync(path, 'utf8'), 'kept');
  });
});
