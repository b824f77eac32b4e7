/** `fileaio/fs`: the callback shape, under what takes an `fs` option. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import nodeDefault, * as node from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { describe, test } from 'node:test';
import { inspect, promisify } from 'node:util';
import fc from 'fast-check';
import fileaio, * as named from '../src/fs.ts';
import { allocBuffer, type EngineName, engines } from '../src/index.ts';
import { isChosen } from './conformance.ts';
import { type Cleanup, child, coded, scratch, script } from './support.ts';

const available = engines().flatMap(({ name, available: works }) => (works && isChosen(name) ? [name] : []));

const open = promisify(fileaio.open) as (path: string, flags: unknown, mode?: number) => Promise<number>;
const close = promisify(fileaio.close);
const read = promisify(fileaio.read) as (
  fd: number,
  ...rest: unknown[]
) => Promise<{ bytesRead: number; buffer: Buffer }>;
const write = promisify(fileaio.write);

async function opened(t: Cleanup, path: string, flags: string, engine: EngineName, direct = false): Promise<number> {
  const fd = await open(path, { flags, engine, direct });
  t.after(() => close(fd));
  return fd;
}

function file(t: Cleanup, size: number): { path: string; data: Buffer } {
  const path = join(scratch(t), 'file');
  const data = randomBytes(size);
  node.writeFileSync(path, data);
  return { path, data };
}

describe('fileaio/fs', () => {
  test('has every member of node:fs, by name and in its default export', () => {
    for (const name of Object.keys(node)) {
      assert.ok(name in named, `named ${name}`);
      if (name !== 'default') assert.ok(name in fileaio, `default ${name}`);
    }
    assert.equal(fileaio.statSync, node.statSync);
    assert.notEqual(fileaio.read, node.read);
  });

  test('has functions that are called what those of node:fs are called', () => {
    for (const [name, ours] of Object.entries(fileaio)) {
      if (typeof ours === 'function')
        assert.equal(ours.name, (node as Record<string, unknown> & typeof node)[name as 'read'].name);
    }
    assert.equal(fileaio.read.length, node.read.length);
  });

  for (const engine of available) {
    describe(`over ${engine}`, () => {
      test('reads and writes in all its overloads, as node:fs does', async (t) => {
        const { path, data } = file(t, 10_000);
        const fd = await opened(t, path, 'r+', engine);
        const buffer = Buffer.alloc(100);
        assert.deepEqual({ ...(await read(fd, buffer, 10, 50, 77)) }, { bytesRead: 50, buffer });
        assert.deepEqual(buffer.subarray(10, 60), data.subarray(77, 127));
        assert.equal((await read(fd, { position: 9_990 })).bytesRead, 10);
        assert.equal((await read(fd, buffer, { length: 7, position: null })).bytesRead, 7);
        assert.equal((await read(fd, buffer)).bytesRead, 100);
        assert.deepEqual(buffer, data.subarray(7, 107));
        assert.equal((await write(fd, 'häkchen', 20, 'utf8')).bytesWritten, 8);
        assert.equal((await write(fd, buffer, 0, 10, 500)).bytesWritten, 10);
        const after = node.readFileSync(path);
        assert.equal(after.toString('utf8', 20, 28), 'häkchen');
        assert.deepEqual(after.subarray(500, 510), buffer.subarray(0, 10));
        await new Promise<void>((resolve, reject) => {
          fileaio.writev(fd, [Buffer.from('ab'), Buffer.from('cd')], 0, (error, bytes, buffers) => {
            if (error) return reject(error);
            assert.equal(bytes, 4);
            assert.equal(buffers.length, 2);
            const into = [Buffer.alloc(1), Buffer.alloc(3)];
            fileaio.readv(fd, into, 0, (failed, count) => {
              if (failed) return reject(failed);
              assert.equal(count, 4);
              assert.equal(Buffer.concat(into).toString(), 'abcd');
              resolve();
            });
          });
        });
        await promisify(fileaio.fsync)(fd);
        await promisify(fileaio.fdatasync)(fd);
        await promisify(fileaio.ftruncate)(fd, 5);
        assert.equal((await promisify(fileaio.fstat)(fd)).size, 5);
      });

      test('fails as node:fs does: mistakes at once, the kernel through the callback', async (t) => {
        const { path } = file(t, 10);
        const fd = await opened(t, path, 'r', engine);
        const wrong = 'text' as unknown as Buffer;
        assert.throws(() => fileaio.read(fd, wrong, 0, 1, 0, () => {}), coded('ERR_INVALID_ARG_TYPE'));
        const twin = node.openSync(path, 'r');
        t.after(() => node.closeSync(twin));
        type Read = (fd: number, ...args: unknown[]) => void;
        const refusal = (read: unknown, on: number, args: readonly unknown[]): unknown => {
          try {
            (read as Read)(on, ...args, () => {});
            return 'taken';
          } catch (error) {
            const { name, code, message } = error as NodeJS.ErrnoException;
            return { name, code, message };
          }
        };
        for (const buffer of [null, undefined, {}, 'text', 5, []]) {
          for (const rest of [[0, 1, 0], [null], [{}], ['text'], []]) {
            const args = [buffer, ...rest];
            assert.deepEqual(refusal(fileaio.read, fd, args), refusal(node.read, twin, args), inspect(args));
          }
        }
        assert.throws(() => fileaio.read(fd, Buffer.alloc(1), 0, 2, 0, () => {}), coded('ERR_OUT_OF_RANGE'));
        assert.throws(() => (fileaio.read as unknown as (fd: number) => void)(fd), coded('ERR_INVALID_ARG_TYPE'));
        await assert.rejects(write(fd, Buffer.alloc(1), 0, 1, 0), { code: 'EBADF', syscall: 'write', errno: -9 });
        await assert.rejects(open(join(path, 'not'), 'r'), { code: 'ENOTDIR', syscall: 'open' });
      });

      test("carries node's own streams", async (t) => {
        const { path, data } = file(t, 300_000);
        const copy = `${path}.copy`;
        const options = { fs: fileaio, highWaterMark: 4096 } as object;
        await pipeline(node.createReadStream(path, options), node.createWriteStream(copy, options));
        assert.deepEqual(node.readFileSync(copy), data);
        // Through descriptors that have this very engine.
        const source = await open(path, { engine });
        const target = await open(copy, { flags: 'w', engine });
        await pipeline(
          node.createReadStream('', { fd: source, fs: fileaio, start: 5, end: 299_000 } as object),
          node.createWriteStream('', { fd: target, fs: fileaio } as object),
        );
        assert.deepEqual(node.readFileSync(copy), data.subarray(5, 299_001));
      });

      test('serves a store that reads and writes at random, closed while calls are under way', async (t) => {
        const { path, data } = file(t, 65_536);
        await fc.assert(
          fc.asyncProperty(
            fc.array(
              fc.record({ at: fc.nat(60_000), length: fc.integer({ min: 1, max: 5_000 }), writes: fc.boolean() }),
              { maxLength: 40 },
            ),
            async (steps) => {
              const fd = await open(path, { flags: 'r+', engine });
              const bytes = node.readFileSync(path);
              // What overlaps is in the order of the file, not of the calls: one after the other where it does.
              const pending: Promise<void>[] = [];
              const ranges: [number, number][] = [];
              for (const { at, length, writes } of steps) {
                const end = Math.min(at + length, bytes.length);
                if (ranges.some(([from, to]) => at < to && from < end)) continue;
                ranges.push([at, end]);
                if (writes) {
                  const part = randomBytes(end - at);
                  bytes.set(part, at);
                  pending.push(
                    write(fd, part, 0, part.length, at).then((r) => assert.equal(r.bytesWritten, part.length)),
                  );
                } else {
                  const into = Buffer.alloc(end - at);
                  const wanted = Buffer.from(bytes.subarray(at, end));
                  pending.push(read(fd, into, 0, into.length, at).then(() => assert.deepEqual(into, wanted)));
                }
              }
              const closed = close(fd);
              await Promise.all(pending);
              await closed;
              assert.deepEqual(node.readFileSync(path), bytes);
            },
          ),
          { numRuns: 30 },
        );
        assert.equal(node.statSync(path).size, data.length);
      });

      test('reads direct files of any shape', async (t) => {
        const { path, data } = file(t, 20_000);
        const fd = await opened(t, path, 'r', engine, true);
        const odd = Buffer.alloc(9_001);
        assert.equal((await read(fd, odd, 1, 9_000, 4_093)).bytesRead, 9_000);
        assert.deepEqual(odd.subarray(1), data.subarray(4_093, 13_093));
        assert.equal((await read(fd, allocBuffer(4096), 0, 4096, 16_384)).bytesRead, 20_000 - 16_384);
      });
    });
  }

  test('leaves descriptors that were opened elsewhere to node:fs', async (t) => {
    const { path, data } = file(t, 100);
    const fd = node.openSync(path, 'r');
    t.after(() => node.closeSync(fd));
    assert.deepEqual((await read(fd, Buffer.alloc(100), 0, 100, 0)).buffer, data);
  });

  test('a descriptor that was closed is nobody, also when its number comes back', async (t) => {
    const { path, data } = file(t, 100);
    const fd = fileaio.openSync(path, 'r');
    await close(fd);
    // Descriptors below may have become free as well.
    let again = -1;
    while (again !== fd) {
      again = node.openSync(path, 'r');
      const opened = again;
      t.after(() => node.closeSync(opened));
      assert.ok(again <= fd);
    }
    assert.deepEqual((await read(again, Buffer.alloc(100), 0, 100, 0)).buffer, data);
  });

  test('closeSync refuses while calls are under way', async (t) => {
    const { path } = file(t, 100);
    const fd = fileaio.openSync(path, 'r');
    const reading = read(fd, Buffer.alloc(10), 0, 10, 0);
    assert.throws(() => fileaio.closeSync(fd), coded('EBUSY'));
    await reading;
    fileaio.closeSync(fd);
    assert.throws(() => node.fstatSync(fd), coded('EBADF'));
  });

  test('a descriptor that waits to be closed takes no calls, and is closed once', async (t) => {
    const { path } = file(t, 100);
    const fd = fileaio.openSync(path, 'r');
    const reading = read(fd, Buffer.alloc(10), 0, 10, 0);
    const closing = close(fd);
    await assert.rejects(close(fd), { code: 'EBADF', syscall: 'close' });
    await assert.rejects(read(fd, Buffer.alloc(10), 0, 10, 0), { code: 'EBADF' });
    assert.throws(() => fileaio.closeSync(fd), coded('EBUSY'));
    assert.equal((await reading).bytesRead, 10);
    await closing;
    assert.throws(() => node.fstatSync(fd), coded('EBADF'));
  });

  test('streams over one direct descriptor do not disturb each other at their ends', async (t) => {
    const path = join(scratch(t), 'file');
    const fd = await open(path, { flags: 'w', direct: true });
    const parts = [1, 2, 3].map((part) => Buffer.alloc(20_000 + part * 17, part));
    for (let round = 0; round < 20; round++) {
      await Promise.all(
        parts.map((part, index) =>
          pipeline([part], fileaio.createWriteStream(path, { fd, start: index * 32_768 + 17, autoClose: false })),
        ),
      );
    }
    await close(fd);
    const bytes = node.readFileSync(path);
    for (const [index, part] of parts.entries()) {
      const start = index * 32_768 + 17;
      assert.deepEqual(bytes.subarray(start, start + part.length), part);
    }
  });

  test('whole files with callbacks', async (t) => {
    const path = join(scratch(t), 'file');
    await promisify(fileaio.writeFile)(path, 'one');
    await promisify(fileaio.appendFile)(path, ' two');
    assert.equal(await promisify(fileaio.readFile)(path, 'utf8'), 'one two');
    await promisify(fileaio.copyFile)(path, `${path}.copy`);
    assert.equal(node.readFileSync(`${path}.copy`, 'utf8'), 'one two');
    await assert.rejects(promisify(fileaio.readFile)(`${path}.not`), { code: 'ENOENT', syscall: 'open' });
    const fd = node.openSync(path, 'r');
    t.after(() => node.closeSync(fd));
    assert.equal(await promisify(fileaio.readFile)(fd, 'utf8'), 'one two');
  });

  test('members that node:fs hides are there, too', () => {
    const hidden = Object.getOwnPropertyNames(nodeDefault);
    assert.deepEqual(
      hidden.filter((key) => !Object.hasOwn(fileaio, key)),
      [],
    );
    assert.equal(Object.hasOwn(fileaio, 'default'), false);
    assert.equal((fileaio as { W_OK?: number }).W_OK, (nodeDefault as { W_OK?: number }).W_OK);
  });

  test('mistakes in the arguments of whole files are thrown, as those of node:fs are', async (t) => {
    const { path } = file(t, 10);
    const callback = (): void => assert.fail('called back');
    const calls: readonly [method: 'readFile' | 'writeFile' | 'appendFile' | 'copyFile', ...args: unknown[]][] = [
      ['readFile', path, 'nope'],
      ['readFile', path, { flag: 'zz' }],
      ['readFile', path, { flag: 1.5 }],
      ['readFile', path, { signal: 1 }],
      ['readFile', 'a\0b'],
      ['readFile', null],
      ['writeFile', path, 5],
      ['writeFile', path, ['a']],
      ['writeFile', path, 'a', { flush: 1 }],
      ['writeFile', path, 'a', { flag: 'zz' }],
      ['writeFile', null, 'a'],
      ['appendFile', null, 'a'],
      ['appendFile', path, null],
      ['copyFile', null, path],
      ['copyFile', path, {}],
    ];
    const outcome = (from: object, [method, ...args]: (typeof calls)[number]): unknown => {
      try {
        (from as Record<string, (...all: unknown[]) => void>)[method]?.(...args, callback);
        return 'no error';
      } catch (error) {
        return [String(error), (error as NodeJS.ErrnoException).code];
      }
    };
    for (const call of calls) {
      const theirs = outcome(node, call);
      assert.notEqual(theirs, 'no error');
      assert.deepEqual(outcome(fileaio, call), theirs, String(call));
    }
    assert.throws(() => fileaio.copyFile(path, `${path}2`, 9, callback), coded('ERR_OUT_OF_RANGE'));
    assert.throws(() => fileaio.copyFile(path, `${path}2`, 'a' as never, callback), coded('ERR_INVALID_ARG_TYPE'));
    // And what promises reject with before they have made anything.
    const { promises } = fileaio;
    const iterator = { [Symbol.iterator]: 5 } as never;
    await assert.rejects(
      promises.writeFile(`${path}3`, iterator),
      coded('ERR_INVALID_ARG_TYPE', /"data" argument must be of type string/),
    );
    assert.equal(node.existsSync(`${path}3`), false);
    await assert.rejects(promises.open(path, [] as never), coded('ERR_INVALID_ARG_VALUE', /'flags' is invalid/));
    for (const name of ['open', 'readFile', 'writeFile', 'appendFile', 'copyFile'] as const) {
      assert.equal(promises[name].length, node.promises[name].length, name);
    }
  });

  test('callbacks of transfers get what those of node:fs get, also behind an error', async (t) => {
    const { path } = file(t, 10);
    type Call = (...args: unknown[]) => void;
    const outcomesOf = async (from: object): Promise<unknown[]> => {
      const { openSync, closeSync, read, write, readv, writev } = from as Record<string, Call> & typeof node;
      const reading = openSync(path, 'r');
      const writing = openSync(path, 'r+');
      const outcomes: unknown[] = [];
      const buffer = Buffer.alloc(5);
      const calls: [call: unknown, ...args: unknown[]][] = [
        [read, reading, buffer, null, null, null],
        [read, reading, buffer, { length: null }],
        [read, reading, buffer, { position: 8 }],
        [read, reading, buffer, null],
        [read, reading, buffer, []],
        [read, reading, buffer, 2],
        [read, reading, buffer, 2, 3],
        [read, reading],
        [write, reading, Buffer.alloc(0)],
        [write, reading, buffer],
        [write, reading, 'text'],
        [write, writing, Buffer.alloc(0)],
        [writev, reading, [buffer]],
        [readv, reading, [buffer], 0],
      ];
      const noReading = openSync(path, 'a');
      calls.push([read, noReading, buffer, 0, 5, 0], [readv, noReading, [buffer], 0]);
      for (const [call, ...args] of calls) {
        outcomes.push(
          await new Promise((resolve) => {
            try {
              (call as Call)(...args, (error: NodeJS.ErrnoException | null, ...results: unknown[]) =>
                resolve([error?.message, ...results]),
              );
            } catch (error) {
              resolve(String(error));
            }
          }),
        );
      }
      for (const fd of [reading, writing, noReading]) closeSync(fd);
      return outcomes;
    };
    assert.deepEqual(await outcomesOf(fileaio), await outcomesOf(nodeDefault));
  });

  test('its streams can be called without new, and on objects of those who inherit the old way', async (t) => {
    const { path, data } = file(t, 100_000);
    const { ReadStream, WriteStream } = fileaio as unknown as Record<
      string,
      new (
        ...args: unknown[]
      ) => node.ReadStream
    >;
    assert.ok(ReadStream !== undefined && WriteStream !== undefined);
    const make = ReadStream as unknown as (path: string) => node.ReadStream;
    const stream = make(path);
    assert.ok(stream instanceof ReadStream && stream instanceof named.ReadStream);
    assert.deepEqual(Buffer.concat(await stream.toArray()), data);

    /** As graceful-fs has them: functions, with an `open` of their own. */
    function heir(parent: new (...args: unknown[]) => node.ReadStream) {
      function Heir(this: object, ...args: unknown[]): void {
        Reflect.apply(parent, this, args);
      }
      Heir.prototype = Object.create(parent.prototype, {
        open: {
          value(this: node.ReadStream & { fd: number; flags: string; mode: number }) {
            fileaio.open(this.path, this.flags, this.mode, (error, fd) => {
              if (error) {
                this.destroy();
                this.emit('error', error);
                return;
              }
              this.fd = fd;
              this.emit('open', fd);
            });
          },
        },
      });
      return Heir as unknown as new (
        ...args: unknown[]
      ) => node.ReadStream;
    }
    const Heir = heir(ReadStream);
    const inherited = new Heir(path, { highWaterMark: 1000 });
    assert.ok(inherited instanceof Heir && inherited instanceof ReadStream);
    assert.deepEqual(Buffer.concat(await inherited.toArray()), data);
    assert.equal(inherited.bytesRead, data.length);
    const copy = `${path}2`;
    await pipeline(new Heir(path), new (heir(WriteStream))(copy) as unknown as NodeJS.WritableStream);
    assert.deepEqual(node.readFileSync(copy), data);
    const missing = new Heir(`${path}3`);
    await assert.rejects(missing.toArray(), coded('ENOENT'));
  });

  test('what a callback throws is an uncaught exception, not a rejection', async (t) => {
    const text = `import fs from './src/fs.ts';
      process.on('uncaughtException', (error, origin) => console.log(origin, error.message));
      fs.read(fs.openSync('/etc/passwd'), Buffer.alloc(1), 0, 1, 0, () => { throw new Error('boom'); });`;
    const { code, stdout, stderr } = await child(process.execPath, script(t, text));
    assert.equal(stdout, 'uncaughtException boom\n', stderr);
    assert.equal(code, 0);
  });
});
