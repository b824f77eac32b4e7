/** Files that are open for direct I/O: they do what buffered ones do, whatever the shape of a read, and refuse what is not safe. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import * as node from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { allocBuffer, type EngineName, engines, getLimits } from '../src/index.ts';
import * as fileaio from '../src/promises.ts';
import { chosen, isChosen } from './conformance.ts';
import { type Api, asNode24, compare, content, directSequences, handleNames, invokeIt, World } from './file-model.ts';
import { lacks, runtime } from './runtime.ts';
import { child, coded, O_DIRECT, O_RDONLY, scratch, script } from './support.ts';

type Handle = Awaited<ReturnType<typeof fileaio.open>>;

const seed = process.env.FC_SEED ?? '';
const parameters = {
  ...(seed === '' ? {} : { seed: Number(seed) }),
  ...(process.env.FC_PATH === undefined ? {} : { path: process.env.FC_PATH }),
  timeout: 30_000,
};

/** A hang is a failure as well; how long a test takes is not. */
const suite = { timeout: 300_000 };

/** A file or device of `size` bytes; a device has a size of its own, at least that. */
type Place = (t: TestContext, size: number) => { path: string; data: Buffer; opened?: () => void } | { why: string };

function fileIn(parent: string): Place {
  return (t, size) => {
    const path = join(scratch(t, parent), 'data');
    const data = content(size);
    writeFileSync(path, data);
    return { path, data };
  };
}

/** A block device whose sectors are larger than what most disks and file systems want. */
const largeSectors: Place = (t, size) => {
  if (process.getuid?.() !== 0) return { why: 'only root may make a loop device' };
  const backing = join(scratch(t, '/dev/shm'), 'backing');
  const data = content(Math.ceil(size / 4096) * 4096);
  writeFileSync(backing, data);
  try {
    const options = ['-b', '4096', '-f', '--show', backing];
    const path = execFileSync('losetup', options, { encoding: 'utf8', stdio: 'pipe' }).trim();
    // Detached while it is open, it goes with the last descriptor of it, however the test ends.
    return { path, data, opened: () => void execFileSync('losetup', ['-d', path]) };
  } catch (error) {
    return { why: `no loop device can be made: ${error instanceof Error ? error.message.split('\n')[0] : error}` };
  }
};

const places: Record<string, { place: Place; isFile: boolean }> = {
  'a file of the temporary directory': { place: fileIn(tmpdir()), isFile: true },
  'a file in memory': { place: fileIn('/dev/shm'), isFile: true },
  'a device of 4,096 byte sectors': { place: largeSectors, isFile: false },
};

type Memory = (bytes: number, shift: number) => { view: Buffer; all: Uint8Array };

const CANARY = 0xa5;
const MARGIN = 64;

/** Memory at an aligned address, plus `shift`, with canaries before and behind. */
const memories: Record<string, Memory> = {
  allocBuffer: (bytes, shift) => {
    const all = allocBuffer(4096 + shift + bytes + MARGIN).fill(CANARY);
    return { view: all.subarray(4096 + shift, 4096 + shift + bytes), all };
  },
  Buffer: (bytes, shift) => {
    const all = Buffer.alloc(shift + bytes + 2 * MARGIN, CANARY);
    return { view: all.subarray(MARGIN + shift, MARGIN + shift + bytes), all };
  },
  SharedArrayBuffer: (bytes, shift) => {
    const all = new Uint8Array(new SharedArrayBuffer(shift + bytes + 2 * MARGIN)).fill(CANARY);
    return { view: Buffer.from(all.buffer, MARGIN + shift, bytes), all };
  },
};

/**
 * The canaries before and behind. What lies in the view behind the end of the file may be zero afterwards: the kernel clears memory for
 * blocks that are reserved behind the end, before it sees where that is. But never anything else.
 */
function untouchedAround(view: Buffer, all: Uint8Array, bytes: number): boolean {
  const start = view.byteOffset - all.byteOffset;
  const outside = [all.subarray(0, start), all.subarray(start + view.length)];
  return (
    outside.every((part) => part.every((byte) => byte === CANARY)) &&
    view.subarray(bytes).every((byte) => byte === CANARY || byte === 0)
  );
}

function positionOf({ fd }: { fd: number }): number {
  return Number(/^pos:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]);
}

async function opened(t: TestContext, path: string, engine: EngineName, flags = 'r+'): Promise<Handle> {
  const handle = await fileaio.open(path, { flags, engine, direct: true });
  t.after(() => handle.close());
  return handle;
}

for (const { name: engine, available, why } of engines()) {
  if (!chosen(engine)) continue;
  if (!available) {
    test(`direct files with ${engine}`, (t) => t.skip(why));
    continue;
  }
  for (const [title, { place, isFile }] of Object.entries(places)) {
    describe(`${engine}: direct I/O on ${title}`, suite, () => {
      /** A place with a handle, or a skipped test. */
      async function start(t: TestContext, size: number, flags = 'r+') {
        const made = place(t, size);
        if ('why' in made) {
          t.skip(made.why);
          return undefined;
        }
        const handle = await opened(t, made.path, engine, flags);
        made.opened?.();
        return { ...made, handle, unit: handle.alignment.offset };
      }

      test('the handle says what it is and what it needs', async (t) => {
        const started = await start(t, 8192);
        if (started === undefined) return;
        const { handle, path } = started;
        assert.equal(handle.direct, true);
        assert.equal(handle.engine, engine);
        const { bufferAlignment, offsetAlignment } = getLimits(path);
        assert.equal(handle.alignment.buffer, bufferAlignment);
        assert.equal(handle.alignment.offset, offsetAlignment);
        if (!isFile) assert.equal(handle.alignment.offset, 4096);
        const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${handle.fd}`, 'utf8'))?.[1] ?? '0';
        assert.ok((Number.parseInt(flags, 8) & O_DIRECT) !== 0, 'the kernel has it open with O_DIRECT');
      });

      test('every shape of read, around every boundary, gives the bytes and touches nothing else', async (t) => {
        if (engine === 'threads' && !isFile && lacks('aligned reads of node:fs', t)) return;
        for (const size of isFile ? [16 * 4096, 16 * 4096 + 123, 100] : [16 * 4096]) {
          const started = await start(t, size);
          if (started === undefined) return;
          const { handle, data, unit } = started;
          const around = (at: number): number[] => [at - unit, at - 1, at, at + 1, at + unit];
          const positions = [...around(unit), ...around(5 * unit + 7), ...around(size)].filter((at) => at >= 0);
          const lengths = [0, 1, unit - 1, unit, unit + 1, 3 * unit + 7, 20 * unit];
          const checks: Promise<void>[] = [];
          for (const [kind, memory] of Object.entries(memories)) {
            for (const shift of [0, 1, 256, unit - 1]) {
              for (const length of lengths) {
                for (const position of new Set(positions)) {
                  checks.push(
                    (async () => {
                      const { view, all } = memory(length, shift);
                      const which = `${length} bytes at ${position} to ${kind} + ${shift}, of ${size}`;
                      const expected = data.subarray(position, position + length);
                      const { bytesRead, buffer } = await handle.read(view, 0, length, position);
                      assert.equal(buffer, view);
                      assert.equal(bytesRead, expected.length, which);
                      assert.ok(view.subarray(0, bytesRead).equals(expected), which);
                      assert.ok(untouchedAround(view, all, bytesRead), `${which}: canaries`);
                    })(),
                  );
                }
              }
            }
          }
          await Promise.all(checks);
          assert.ok(checks.length > 800);
        }
      });

      test('readv with segments of any size at any address', async (t) => {
        const size = isFile ? 30_001 : 32_768;
        const started = await start(t, size);
        if (started === undefined) return;
        const { handle, data, unit } = started;
        const lengths = fc.oneof(fc.nat(700), fc.constantFrom(0, 1, unit - 1, unit, unit + 1, 2 * unit));
        const segment = fc.record({
          length: lengths,
          shift: fc.constantFrom(0, 1, 8, 512),
          kind: fc.constantFrom(...Object.keys(memories)),
        });
        await fc.assert(
          fc.asyncProperty(
            fc.array(segment, { minLength: 1, maxLength: 8 }),
            fc.oneof(
              fc.nat(size + 10),
              fc.nat(10).map((block) => block * unit),
            ),
            async (segments, position) => {
              const made = segments.map(({ length, shift, kind }) => {
                const memory = memories[kind];
                assert.ok(memory);
                return memory(length, shift);
              });
              const views = made.map(({ view }) => view);
              const { bytesRead, buffers } = await handle.readv(views, position);
              assert.equal(buffers, views);
              const whole = Buffer.concat(views);
              const expected = data.subarray(position, position + whole.length);
              assert.equal(bytesRead, expected.length);
              assert.ok(whole.subarray(0, bytesRead).equals(expected));
              let left = bytesRead;
              for (const { view, all } of made) {
                assert.ok(untouchedAround(view, all, Math.min(left, view.length)), 'canaries');
                left = Math.max(0, left - view.length);
              }
            },
          ),
          { ...parameters, numRuns: 150 },
        );
      });

      test('writes of whole blocks, from any address', async (t) => {
        const started = await start(t, 16 * 4096);
        if (started === undefined) return;
        const { handle, path, data, unit } = started;
        let fill = 1;
        for (const memory of Object.values(memories)) {
          for (const shift of [0, 1, 256, unit - 1]) {
            for (const [position, length] of [
              [0, unit],
              [unit, 3 * unit],
              [5 * unit, 4 * unit],
            ] as const) {
              const { view } = memory(length, shift);
              const bytes = content(length, fill++);
              view.set(bytes);
              const { bytesWritten, buffer } = await handle.write(view, 0, length, position);
              assert.equal(bytesWritten, length);
              assert.equal(buffer, view);
              assert.ok(view.equals(bytes), 'what was written from is as it was');
              data.set(bytes, position);
            }
            // Segments that are whole blocks only together.
            const bytes = content(2 * unit, fill++);
            const views = [1, unit, unit - 1].map((length) => memory(length, shift).view);
            let at = 0;
            for (const view of views) at += bytes.copy(view, 0, at, at + view.length);
            assert.equal((await handle.writev(views, 9 * unit)).bytesWritten, 2 * unit);
            data.set(bytes, 9 * unit);
            assert.ok(readFileSync(path).equals(data));
          }
        }
      });

      test('writes that are not whole blocks are refused, and change nothing', async (t) => {
        const started = await start(t, 16 * 4096);
        if (started === undefined) return;
        const { handle, path, data, unit } = started;
        for (const memory of Object.values(memories)) {
          for (const [position, length] of [
            [0, 1],
            [0, unit - 1],
            [0, unit + 1],
            [1, unit],
            [unit - 1, unit],
            [unit + 1, 2 * unit],
            [3, 5],
            [1, unit - 1],
          ] as const) {
            const { view } = memory(length, 0);
            const refused = coded('ERR_AIO_MISALIGNED', new RegExp(String(unit)));
            await assert.rejects(handle.write(view, 0, length, position), refused);
            await assert.rejects(handle.writev([view], position), refused);
            await assert.rejects(handle.writev([view.subarray(0, 1), view.subarray(1)], position), refused);
          }
        }
        await assert.rejects(handle.write('text', 0), coded('ERR_AIO_MISALIGNED'));
        assert.equal(positionOf(handle), 0);
        // At the current position, which no whole block begins at.
        assert.equal((await handle.read(Buffer.alloc(10))).bytesRead, 10);
        await assert.rejects(handle.write(Buffer.alloc(unit)), coded('ERR_AIO_MISALIGNED'));
        await assert.rejects(handle.writev([Buffer.alloc(unit)]), coded('ERR_AIO_MISALIGNED'));
        assert.equal(positionOf(handle), 10);
        assert.ok(readFileSync(path).equals(data));
        if (isFile) assert.equal(statSync(path).size, data.length);
      });

      test('the current position moves as in a buffered file', async (t) => {
        const size = isFile ? 40_001 : 40_960;
        const started = await start(t, size);
        if (started === undefined) return;
        const { handle, path, unit } = started;
        const twin = await node.open(path, 'r+');
        t.after(() => twin.close());
        const read = async (length: number): Promise<void> => {
          const [mine, theirs] = [Buffer.alloc(length), Buffer.alloc(length)];
          const a = await handle.read(mine);
          const b = await twin.read(theirs);
          assert.deepEqual([a.bytesRead, positionOf(handle)], [b.bytesRead, positionOf(twin)]);
          assert.ok(mine.equals(theirs));
        };
        for (const length of [1, unit - 1, unit, 3, 2 * unit + 1, unit - 4]) await read(length);
        // A transfer elsewhere leaves it where it is.
        const before = positionOf(handle);
        await handle.read(Buffer.alloc(100), 0, 100, 7);
        await handle.write(Buffer.from(content(unit, 9)), 0, unit, 0);
        assert.equal(positionOf(handle), before);
        const parts = [3, unit, 5].map((length) => Buffer.alloc(length));
        const others = parts.map(({ length }) => Buffer.alloc(length));
        assert.equal((await handle.readv(parts)).bytesRead, (await twin.readv(others)).bytesRead);
        assert.deepEqual(parts, others);
        assert.equal(positionOf(handle), positionOf(twin));
        // Started together they run one after the other.
        const first = positionOf(handle);
        const together = Array.from({ length: 10 }, (_, i) => Buffer.alloc(100 + i));
        await Promise.all(together.map((buffer) => handle.read(buffer)));
        const whole = Buffer.concat(together);
        assert.ok(whole.equals(readFileSync(path).subarray(first, first + whole.length)));
        await twin.read(Buffer.alloc(whole.length));
        assert.ok((await handle.readFile()).equals(await twin.readFile()), 'the rest');
        for (const length of [1, unit]) await read(length);
      });

      test('a thousand reads of odd shapes at once, and one that is very long', async (t) => {
        const size = isFile ? 9_000_001 : 9_003_008;
        const started = await start(t, size);
        if (started === undefined) return;
        const { handle, data } = started;
        await Promise.all(
          Array.from({ length: 1000 }, async (_, i) => {
            const position = (i * 7919) % size;
            const length = 1 + ((i * 31) % 9000);
            const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), { position });
            assert.ok(buffer.subarray(0, bytesRead).equals(data.subarray(position, position + length)));
          }),
        );
        const long = Buffer.alloc(size);
        let bytes = 0;
        // A transfer may be short, as any may be.
        while (bytes < size - 1) {
          const { bytesRead } = await handle.read(long, { offset: bytes, position: bytes + 1 });
          assert.ok(bytesRead > 0);
          bytes += bytesRead;
        }
        assert.ok(long.subarray(0, bytes).equals(data.subarray(1)));
      });

      if (!isFile) return;

      test('random calls beside a buffered twin', async (t) => {
        if (runtime !== 'node') return t.skip(`node:fs/promises of ${runtime} is no reference for that of Node`);
        const started = await start(t, 0);
        if (started === undefined) return;
        const directory = join(started.path, '..');
        const direct: typeof invokeIt = (target, name, args) =>
          name !== 'open'
            ? invokeIt(target, name, args)
            : fileaio.open(args[0] as string, { flags: args[1] as string, engine, direct: true });
        await fc.assert(
          fc.asyncProperty(directSequences, (sequence) =>
            compare(
              new World(node as Api, directory, 'n', asNode24),
              new World(fileaio as Api, directory, 'f', direct),
              sequence,
              handleNames,
            ),
          ),
          { ...parameters, numRuns: 150 },
        );
      });

      test('writeFile and appendFile of any size, with every flag that writes', async (t) => {
        const started = await start(t, 0);
        if (started === undefined) return;
        const { unit, path } = started;
        const sizes = [0, 1, unit - 1, unit, unit + 1, 3 * unit + 5, 2 ** 20 + 13];
        const chunked = function* (data: Buffer): Generator<Buffer> {
          for (let at = 0, size = 1; at < data.length; at += size, size = size * 3 + 1) {
            yield data.subarray(at, at + size);
          }
        };
        const kinds: Record<string, (data: Buffer) => Buffer | string | Iterable<Buffer>> = {
          bytes: (data) => data,
          'bytes at an odd address': (data) => Buffer.concat([Buffer.alloc(1), data]).subarray(1),
          text: (data) => data.toString('hex').slice(0, data.length),
          chunks: chunked,
        };
        for (const flags of ['r+', 'w', 'w+', 'a', 'a+']) {
          for (const before of [0, 5 * unit + 77]) {
            for (const size of sizes) {
              for (const [kind, make] of Object.entries(kinds)) {
                const twins = [`${path}-n`, `${path}-f`] as const;
                for (const twin of twins) writeFileSync(twin, content(before, 3));
                const theirs = await node.open(twins[0], flags);
                const mine = await fileaio.open(twins[1], { flags, engine, direct: true });
                for (const handle of [theirs, mine]) {
                  await handle.writeFile(make(content(size, 5)) as Buffer);
                  await handle.appendFile(make(content(13, 6)) as Buffer);
                  await handle.appendFile(make(content(unit, 7)) as Buffer);
                }
                const which = `${kind} of ${size} bytes, flags ${flags}, over ${before} bytes`;
                assert.equal(positionOf(mine), positionOf(theirs), which);
                await Promise.all([mine.close(), theirs.close()]);
                assert.ok(readFileSync(twins[1]).equals(readFileSync(twins[0])), which);
              }
            }
          }
        }
      });

      test('a file that grows and shrinks under the handle', async (t) => {
        const started = await start(t, 10_000);
        if (started === undefined) return;
        const { handle, path, data } = started;
        const read = async (position: number): Promise<Buffer> => {
          const { buffer, bytesRead } = await handle.read(Buffer.alloc(20_000), { position });
          return buffer.subarray(0, bytesRead);
        };
        assert.ok((await read(3)).equals(data.subarray(3)));
        truncateSync(path, 4097);
        assert.ok((await read(3)).equals(data.subarray(3, 4097)));
        assert.equal((await read(4097)).length, 0);
        assert.equal((await read(9999)).length, 0);
        const fd = openSync(path, 'r+');
        t.after(() => closeSync(fd));
        writeSync(fd, Buffer.from('through the cache'), 0, 17, 4095);
        assert.equal((await read(4090)).toString('latin1', 5), 'through the cache');
        await handle.truncate(5);
        assert.ok((await read(1)).equals(data.subarray(1, 5)));
      });
    });
  }

  describe(`${engine}: what cannot be direct`, suite, () => {
    test('a file system that refuses it: an error that names the path and the option, and no descriptor left', async () => {
      const before = readdirSync('/proc/self/fd').length;
      for (let i = 0; i < 20; i++) {
        await assert.rejects(fileaio.open('/proc/version', { direct: true, engine }), (error: unknown) => {
          assert.ok(error instanceof Error);
          assert.match(error.message, /\/proc\/version/);
          assert.match(error.message, /direct/);
          return true;
        });
      }
      // The engine itself may have some, but not one for each.
      assert.ok(readdirSync('/proc/self/fd').length < before + 20);
    });

    test('what goes wrong with any open goes wrong as always', async (t) => {
      const directory = scratch(t);
      await assert.rejects(fileaio.open(join(directory, 'none'), { direct: true, engine }), (error: unknown) => {
        assert.ok(error instanceof Error);
        assert.deepEqual({ ...error }, { errno: -2, code: 'ENOENT', syscall: 'open', path: join(directory, 'none') });
        return true;
      });
      const made = await fileaio.open(join(directory, 'new'), { flags: 'wx+', direct: true, engine });
      t.after(() => made.close());
      assert.equal((await made.read(Buffer.alloc(5), 0, 5, 0)).bytesRead, 0);
      await assert.rejects(
        fileaio.open(join(directory, 'new'), { flags: 'wx', direct: true, engine }),
        coded('EEXIST'),
      );
    });
  });
}

test('O_DIRECT among the flags is the same as the option', async (t) => {
  const path = join(scratch(t), 'data');
  writeFileSync(path, content(10_001));
  const handle = await fileaio.open(path, O_RDONLY | O_DIRECT);
  t.after(() => handle.close());
  assert.equal(handle.direct, true);
  assert.ok((await handle.readFile()).equals(content(10_001)));
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(77), 0, 77, 9999);
  assert.ok(buffer.subarray(0, bytesRead).equals(content(10_001).subarray(9999)));
});

test('where it is refused, O_DIRECT among the flags fails as with Node, which programs fall back on', async () => {
  const refused = coded('EINVAL', /^EINVAL: invalid argument, open '\/proc\/version'$/);
  await assert.rejects(fileaio.open('/proc/version', O_RDONLY | O_DIRECT), refused);
});

test('what is appended to a file that ends within a block is told so', async (t) => {
  const path = join(scratch(t), 'data');
  writeFileSync(path, 'abc');
  const handle = await fileaio.open(path, { flags: 'a', direct: true });
  t.after(() => handle.close());
  const { offset } = handle.alignment;
  const refused = coded(
    'ERR_AIO_MISALIGNED',
    new RegExp(`the file ends at 3, which is 3 past a multiple of ${offset}`),
  );
  await assert.rejects(handle.write(Buffer.alloc(offset)), refused);
  await assert.rejects(handle.writev([Buffer.alloc(1), Buffer.alloc(offset - 1)]), refused);
  assert.equal(statSync(path).size, 3);
  await handle.appendFile(Buffer.alloc(offset - 3));
  assert.equal((await handle.write(Buffer.alloc(offset))).bytesWritten, offset);
});

test('a buffered file needs no alignment, and says so', async (t) => {
  const path = join(scratch(t), 'data');
  const handle = await fileaio.open(path, 'w+');
  t.after(() => handle.close());
  assert.equal(handle.direct, false);
  assert.deepEqual([handle.alignment.buffer, handle.alignment.offset], [1, 1]);
  assert.equal((await handle.write(Buffer.from('text'), 1, 2, 3)).bytesWritten, 2);
  assert.equal(readFileSync(path, 'latin1'), '\0\0\0ex');
});

test('where O_DIRECT cannot be taken off, since a server has the file open with it, ends that fill no block are written all the same', async (t) => {
  if (runtime !== 'node') return t.skip('it puts strace under the arguments of Node');
  if (spawnSync('strace', ['-V']).status !== 0) return t.skip('strace is not installed');
  const program = script(
    t,
    `
      import { open } from './src/promises.ts';
      const [, , path = '', ...engines] = process.argv;
      for (const engine of engines) {
        const handle = await open(path + engine, { flags: 'w', direct: true, engine });
        await handle.writeFile('x'.repeat(10_001));
        await handle.appendFile('y'.repeat(777));
        await handle.close();
        const appending = await open(path + engine, { flags: 'a', direct: true, engine });
        await appending.appendFile('z');
        await appending.close();
        const stream = (await open(path + engine, { flags: 'r+', direct: true, engine })).createWriteStream({ start: 5 });
        await new Promise((resolve, reject) => stream.on('error', reject).end('12345', resolve));
      }
    `,
  );
  const base = join(scratch(t), 'of-');
  const names = (['io-uring', 'kernel-aio', 'threads'] as const).filter(isChosen);
  for (const engine of names) writeFileSync(base + engine, '');
  const paths = names.flatMap((engine) => ['-P', base + engine]);
  // The kernel is not told: what fcntl(2) of these files says is "done", and nothing has happened.
  const deaf = ['-qq', '-o', '/dev/null', ...paths, '-e', 'trace=fcntl', '-e', 'inject=fcntl:retval=0'];
  const { code, stderr } = await child('strace', [...deaf, process.execPath, ...program, base, ...names]);
  assert.equal(code, 0, stderr);
  const expected = `xxxxx12345${'x'.repeat(9_991)}${'y'.repeat(777)}z`;
  for (const engine of names) {
    assert.equal(readFileSync(base + engine, 'utf8'), expected, engine);
  }
});
