/** Files as streams: like Node's, next to which they are held, and deeper. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as node from 'node:fs';
import {
  appendFileSync,
  closeSync,
  constants,
  createReadStream,
  createWriteStream,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable, Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { createGunzip, createGzip } from 'node:zlib';
import fc from 'fast-check';
import type { EngineName } from '../src/index.ts';
import { loadNative } from '../src/native.ts';
import { OpenFile } from '../src/open-file.ts';
import { type FileHandle, open } from '../src/promises.ts';
import { ReadStream, type ReadStreamOptions, WriteStream, type WriteStreamOptions } from '../src/stream.ts';
import { chosen } from './conformance.ts';
import { lacks } from './runtime.ts';
import { type Cleanup, coded, collectGarbage, scratch, smallFileSystem } from './support.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

interface Kind {
  readonly engine: EngineName;
  readonly direct: boolean;
}

/** Every engine, buffered and direct. */
const kinds: readonly Kind[] = (['io-uring', 'kernel-aio', 'threads'] as const)
  .filter((engine) => chosen(engine))
  .flatMap((engine) => [
    { engine, direct: false },
    { engine, direct: true },
  ]);

function name({ engine, direct }: Kind): string {
  return `${engine}, ${direct ? 'direct' : 'buffered'}`;
}

async function collect(stream: AsyncIterable<Uint8Array | string>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk);
  return Buffer.concat(chunks);
}

/** Descriptors of this process that are open on something below a directory. */
function descriptorsIn(directory: string): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(directory) ? [target] : [];
    } catch {
      return [];
    }
  });
}

/** Where the current position of a descriptor is. */
function positionOf(fd: number): number {
  return loadNative().native?.seek(fd, 0, 1) ?? Number.NaN;
}

/** Half of the kinds, for what is the same with direct files. */
const engines: readonly EngineName[] = kinds.filter(({ direct }) => !direct).map(({ engine }) => engine);

interface Outcome {
  readonly events: string[];
  readonly errors: Error[];
}

/** What a stream emits, until it is closed. */
function watch(stream: Readable | Writable): Outcome {
  const outcome: Outcome = { events: [], errors: [] };
  for (const event of ['open', 'ready', 'end', 'finish', 'close']) {
    stream.on(event, () => outcome.events.push(event));
  }
  stream.on('error', (error) => {
    outcome.events.push('error');
    outcome.errors.push(error);
  });
  return outcome;
}

async function closed(stream: Readable | Writable): Promise<Outcome> {
  const outcome = watch(stream);
  if (stream instanceof Readable) stream.resume();
  await new Promise((resolve) => stream.on('close', resolve));
  // Whatever comes after it would be wrong.
  await turn();
  return outcome;
}

/** Calls `write` for each chunk, honouring back-pressure, and ends the stream. */
async function writeAll(stream: Writable, chunks: Iterable<Buffer>): Promise<void> {
  for (const chunk of chunks) if (!stream.write(chunk)) await once(stream, 'drain');
  stream.end();
  await once(stream, 'close');
}

/** An amount of memory, when the collector has had its chances to bring it down to what is expected. */
async function settled(amount: () => number, expected: number): Promise<number> {
  for (let i = 0; i < 20 && (i < 5 || amount() > expected); i++) {
    collectGarbage();
    await turn();
  }
  return amount();
}

function fifo(t: Cleanup): string {
  const path = join(scratch(t), 'fifo');
  execFileSync('mkfifo', [path]);
  return path;
}

type ReadPrivate = OpenFile['readPrivate'];

/**
 * Puts another method in the place of one, for one test. (The mocks of node:test keep all arguments: memory could not
 * be measured.)
 */
function replace<K extends 'readPrivate' | 'writeAll' | 'flush'>(t: TestContext, key: K, method: OpenFile[K]): void {
  const original = OpenFile.prototype[key];
  OpenFile.prototype[key] = method;
  t.after(() => {
    OpenFile.prototype[key] = original;
  });
}

/** The first bytes of several views. */
function firstOf(views: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let left = bytes;
  return views
    .map((view) => {
      const part = view.subarray(0, left);
      left -= part.length;
      return part;
    })
    .filter(({ length }) => length > 0);
}

/** Counts reads: how many at once at most, how many in all, and what they asked for. */
function countReads(t: TestContext): { most: number; calls: number; flying: number; bytes: number } {
  const count = { most: 0, calls: 0, flying: 0, bytes: 0 };
  const original = OpenFile.prototype.readPrivate;
  const counted: ReadPrivate = async function (this: OpenFile, views, ...rest) {
    count.calls++;
    for (const { length } of views) count.bytes += length;
    count.most = Math.max(count.most, ++count.flying);
    try {
      return await original.call(this, views, ...rest);
    } finally {
      count.flying--;
    }
  };
  replace(t, 'readPrivate', counted);
  return count;
}

/** Counts writes by position. */
function countWrites(t: TestContext): { most: number; calls: number; flying: number } {
  const count = { most: 0, calls: 0, flying: 0 };
  const original = OpenFile.prototype.writeAll;
  replace(t, 'writeAll', async function (this: OpenFile, ...args: Parameters<typeof original>) {
    count.calls++;
    count.most = Math.max(count.most, ++count.flying);
    try {
      await original.apply(this, args);
    } finally {
      count.flying--;
    }
  });
  return count;
}

/** Sizes around what matters: nothing, one block, one chunk, several. */
const size = fc.oneof(fc.constantFrom(0, 1, 511, 512, 4095, 4096, 4097, 65536), fc.integer({ min: 0, max: 300_000 }));
const place = fc.oneof(fc.constantFrom(0, 1, 512, 4096, 65535, 65536), fc.integer({ min: 0, max: 320_000 }));
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined });
const marks = maybe(fc.oneof(fc.constantFrom(1000, 4096, 16384, 65536), fc.integer({ min: 100, max: 100_000 })));
const depths = maybe(fc.constantFrom(1, 2, 3, 8));

function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

for (const kind of kinds) {
  const { engine, direct } = kind;

  describe(`streams, ${name(kind)}: reading`, () => {
    test('any start, end, chunk size and depth gives what a stream of Node gives', async (t) => {
      const directory = scratch(t);
      const path = join(directory, 'data');
      const range = fc
        .record({ start: maybe(place), end: maybe(place), highWaterMark: marks, iodepth: depths })
        .filter(({ start, end }) => start === undefined || end === undefined || start <= end);
      await fc.assert(
        fc.asyncProperty(size, range, async (bytes, options) => {
          writeFileSync(path, randomBytes(bytes));
          const { iodepth, ...common } = defined(options);
          const expected = createReadStream(path, common);
          const actual = new ReadStream(path, { ...common, ...defined({ iodepth }), engine, direct });
          assert.deepEqual(await collect(actual), await collect(expected));
          assert.equal(actual.bytesRead, expected.bytesRead);
          assert.equal(actual.pos, (expected as unknown as ReadStream).pos);
          assert.equal(actual.destroyed, true);
        }),
        { numRuns: 60 },
      );
      assert.deepEqual(descriptorsIn(directory), []);
    });

    test('without a start, a handle is read from its current position, which is then behind what came out', async (t) => {
      const path = join(scratch(t), 'data');
      const arguments_ = [size, place, maybe(place), marks, depths] as const;
      await fc.assert(
        fc.asyncProperty(...arguments_, async (bytes, from, end, highWaterMark, iodepth) => {
          writeFileSync(path, randomBytes(bytes));
          const options = { ...defined({ end, highWaterMark }), autoClose: false };
          const theirs = await node.promises.open(path);
          const ours = await open(path, { engine, direct });
          try {
            for (const { fd } of [theirs, ours]) loadNative().native?.seek(fd, from, 0);
            const expected = await collect(theirs.createReadStream(options));
            const stream = ours.createReadStream({ ...options, ...defined({ iodepth }) });
            assert.deepEqual(await collect(stream), expected);
            assert.equal(positionOf(ours.fd), positionOf(theirs.fd));
          } finally {
            await theirs.close();
            await ours.close();
          }
        }),
        { numRuns: 40 },
      );
    });

    test('a reader that stops in the middle leaves the position behind what it got', async (t) => {
      const data = randomBytes(MIB);
      const path = join(scratch(t), 'data');
      writeFileSync(path, data);
      const handle = await open(path, { engine, direct });
      const stream = handle.createReadStream({ autoClose: false, highWaterMark: 64 * KIB });
      let got = 0;
      await new Promise<void>((resolve) => {
        stream.on('data', function take(chunk) {
          got += chunk.length;
          if (got < 256 * KIB) return;
          stream.off('data', take).pause();
          resolve();
        });
      });
      // What is under way when the stream is paused comes yet.
      while (stream.readableLength < 64 * KIB) await turn();
      const position = positionOf(handle.fd);
      assert.equal(position, got + stream.readableLength);
      // Whoever reads on in between takes it away from the stream.
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(4096), 0, 4096, null);
      assert.deepEqual(buffer.subarray(0, bytesRead), data.subarray(position, position + 4096));
      const rest = await collect(stream);
      assert.deepEqual(rest, Buffer.concat([data.subarray(got, position), data.subarray(position + 4096)]));
      await handle.close();
    });

    test('reads go deep, ramping up, and stay as many as were asked for', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, '');
      node.truncateSync(path, 32 * MIB);
      for (const [iodepth, highWaterMark, expected] of [
        [1, 64 * KIB, 1],
        [2, 64 * KIB, 2],
        [5, 64 * KIB, 5],
        [undefined, undefined, 8],
        [undefined, MIB, 8],
        [undefined, 4 * MIB, 2],
      ]) {
        await t.test(`iodepth ${iodepth}, chunks of ${highWaterMark}`, async (t) => {
          const count = countReads(t);
          await closed(new ReadStream(path, { engine, direct, iodepth, highWaterMark }));
          assert.equal(count.most, expected);
        });
      }
    });

    test('each chunk has memory of its own: one that is transferred away takes nothing from the others', async (t) => {
      const path = join(scratch(t), 'data');
      const data = randomBytes(3 * MIB + 1000);
      writeFileSync(path, data);
      for (const iodepth of [undefined, 4]) {
        const chunks: Uint8Array[] = [];
        const stores = new Set<ArrayBufferLike>();
        for await (const chunk of new ReadStream(path, { engine, direct, ...defined({ iodepth }) })) {
          const { buffer, byteOffset, length } = chunk as Buffer<ArrayBuffer>;
          assert.ok(!stores.has(buffer));
          stores.add(buffer);
          const moved = structuredClone(buffer, { transfer: [buffer] });
          assert.equal((chunk as Buffer).length, 0);
          chunks.push(new Uint8Array(moved, byteOffset, length));
          collectGarbage();
        }
        assert.deepEqual(Buffer.concat(chunks), data);
      }
    });

    test('a small file costs one read, and one that finds its end', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, randomBytes(5000));
      const count = countReads(t);
      assert.deepEqual(await collect(new ReadStream(path, { engine, direct })), readFileSync(path));
      assert.equal(count.calls, 2);
    });

    test('nobody reads: what is read ahead ends at iodepth times highWaterMark', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, '');
      node.truncateSync(path, 256 * MIB);
      const count = countReads(t);
      collectGarbage();
      const before = process.memoryUsage().arrayBuffers;
      const stream = new ReadStream(path, { engine, direct, iodepth: 4, highWaterMark: MIB });
      // Takes what makes it ramp up, then nothing.
      let taken = 0;
      while (taken < 16 * MIB) {
        const chunk = stream.read() as Buffer | null;
        if (chunk === null) await once(stream, 'readable');
        else taken += chunk.length;
      }
      do await turn();
      while (count.flying > 0);
      const held = await settled(() => process.memoryUsage().arrayBuffers - before, 8 * MIB);
      assert.ok(count.bytes <= taken + 5 * (MIB + 4096), `${count.bytes} bytes were asked for, and ${taken} taken`);
      assert.ok(held <= 8 * MIB, `${held} bytes are held`);
      assert.ok(stream.readableLength <= MIB);
      stream.destroy();
      await once(stream, 'close');
    });

    test('a reader that is slower than the file costs two or three chunks, and never waits again', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, '');
      node.truncateSync(path, 16 * MIB);
      const count = countReads(t);
      const stream = new ReadStream(path, { engine, direct });
      await once(stream, 'readable');
      for (let taken = 0; taken < 16 * MIB; ) {
        do await turn();
        while (count.flying > 0);
        const chunk = stream.read() as Buffer | null;
        assert.ok(chunk !== null, `nothing there behind ${taken}`);
        assert.ok(chunk.length <= 64 * KIB, `a chunk of ${chunk.length}`);
        taken += chunk.length;
        assert.ok(count.bytes <= taken + 3 * 64 * KIB, `${count.bytes} bytes were asked for, and ${taken} taken`);
      }
      stream.resume();
      await once(stream, 'close');
    });

    test('chunks are no larger than asked for, however slowly they are taken', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, randomBytes(1_000_000));
      for (const highWaterMark of [4096, 64 * KIB, 512 * KIB]) {
        const lengths: number[] = [];
        for await (const chunk of new ReadStream(path, { engine, direct, highWaterMark })) {
          lengths.push((chunk as Buffer).length);
          for (let turns = lengths.length % 4; turns > 0; turns--) await turn();
        }
        const flowing: number[] = [];
        const stream = new ReadStream(path, { engine, direct, highWaterMark });
        stream.on('data', (chunk) => {
          if (flowing.push(chunk.length) % 3 > 0) return;
          stream.pause();
          setImmediate(() => stream.resume());
        });
        await once(stream, 'close');
        for (const each of [lengths, flowing]) {
          assert.equal(each.pop(), 1_000_000 % highWaterMark);
          assert.ok(
            each.every((length) => length === highWaterMark),
            String(each),
          );
        }
      }
    });

    test('short reads lose nothing, and what was read behind them is read again', async (t) => {
      const path = join(scratch(t), 'data');
      const data = randomBytes(300_000);
      writeFileSync(path, data);
      const original = OpenFile.prototype.readPrivate;
      let seed = 1;
      const short: ReadPrivate = async function (this: OpenFile, views, ...rest) {
        seed = (seed * 48271) % 2147483647;
        const length = views.reduce((sum, view) => sum + view.length, 0);
        const blocks = Math.ceil(length / 4096);
        const some = seed % 3 === 0 ? firstOf(views, (1 + (seed % blocks)) * 4096) : views;
        return await original.call(this, some, ...rest);
      };
      replace(t, 'readPrivate', short);
      for (const iodepth of [1, 2, 8, undefined]) {
        for (const start of [0, 5000]) {
          const stream = new ReadStream(path, { engine, direct, iodepth, highWaterMark: 32 * KIB, start });
          assert.deepEqual(await collect(stream), data.subarray(start));
        }
      }
    });

    test('a file that grows is read until a read finds nothing', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, randomBytes(100_000));
      let growth = 20;
      const original = OpenFile.prototype.readPrivate;
      const growing: ReadPrivate = function (this: OpenFile, ...args) {
        if (growth-- > 0) appendFileSync(path, randomBytes(10_000));
        return original.apply(this, args);
      };
      replace(t, 'readPrivate', growing);
      const stream = new ReadStream(path, { engine, direct, highWaterMark: 16 * KIB });
      assert.deepEqual(await collect(stream), readFileSync(path));
      assert.equal(stream.bytesRead, 300_000);
    });

    test('destroyed at any moment: closed once, without an error, and nothing is left open', async (t) => {
      const directory = scratch(t);
      const path = join(directory, 'data');
      writeFileSync(path, randomBytes(MIB));
      const count = countReads(t);
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 0, max: 12 }),
          fc.boolean(),
          fc.boolean(),
          fc.constantFrom(undefined, new Error('enough')),
          async (turns, viaHandle, abort, reason) => {
            const handle = viaHandle ? await open(path, { engine, direct }) : undefined;
            const controller = new AbortController();
            const options = { engine, direct, highWaterMark: 16 * KIB, signal: controller.signal };
            const stream = new ReadStream(handle ?? path, options);
            const outcome = watch(stream);
            stream.on('data', () => undefined);
            // The descriptor's number may be another file's by then.
            stream.on('close', () => assert.equal(count.flying, 0));
            for (let i = 0; i < turns; i++) await (i % 2 === 0 ? turn() : Promise.resolve());
            const done = new Promise((resolve) => stream.on('close', resolve));
            const over = stream.destroyed;
            if (abort) controller.abort();
            else stream.destroy(reason);
            if (!stream.closed) await done;
            assert.equal(outcome.events.filter((event) => event === 'close').length, 1);
            const expected = over || (!abort && reason === undefined) ? 0 : 1;
            assert.equal(outcome.errors.length, expected);
            assert.equal(stream.fd, null);
            assert.equal(handle?.fd ?? -1, -1);
            assert.deepEqual(descriptorsIn(directory), []);
          },
        ),
        { numRuns: 60 },
      );
    });

    test('an error comes once, after the chunks before it', async (t) => {
      const path = join(scratch(t), 'data');
      const data = randomBytes(MIB);
      writeFileSync(path, data);
      const original = OpenFile.prototype.readPrivate;
      // One that spans several chunks stops short of what cannot be read, as the kernel does.
      const broken: ReadPrivate = async function (this: OpenFile, views, position, signal) {
        const readable = 512 * KIB - Number(position);
        if (readable <= 0) throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' });
        return await original.call(this, firstOf(views, readable), position, signal);
      };
      replace(t, 'readPrivate', broken);
      const stream = new ReadStream(path, { engine, direct });
      const outcome = watch(stream);
      const got: Buffer[] = [];
      stream.on('data', (chunk) => got.push(chunk as Buffer));
      await new Promise((resolve) => stream.on('close', resolve));
      assert.deepEqual(outcome.events, ['open', 'ready', 'error', 'close']);
      assert.equal((outcome.errors[0] as NodeJS.ErrnoException).code, 'EIO');
      assert.deepEqual(Buffer.concat(got), data.subarray(0, 512 * KIB));
    });

    test('what a handle for writing says to a reader: EBADF, once', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, 'data');
      const handle = await open(path, { flags: 'r+', engine, direct });
      await handle.close();
      const writer = await open(path, { flags: constants.O_WRONLY, engine, direct });
      const outcome = await closed(writer.createReadStream());
      assert.deepEqual(outcome.events, ['error', 'close']);
      coded('EBADF', /^EBADF: bad file descriptor, read$/)(outcome.errors[0]);
      assert.equal(writer.fd, -1);
    });
  });

  describe(`streams, ${name(kind)}: writing`, () => {
    const chunkSizes = fc.array(fc.oneof(fc.integer({ min: 0, max: 300 }), size), { maxLength: 12 });

    test('any chunks to any place give the file that a stream of Node gives', async (t) => {
      const directory = scratch(t);
      const path = join(directory, 'ours');
      const twin = join(directory, 'theirs');
      const how = fc.record({
        flags: fc.constantFrom('w', 'r+', 'a'),
        start: maybe(place),
        highWaterMark: marks,
        iodepth: depths,
        corked: fc.boolean(),
        wait: fc.boolean(),
      });
      await fc.assert(
        fc.asyncProperty(size, chunkSizes, how, async (before, sizes, { corked, wait, flags, ...more }) => {
          const existing = randomBytes(before);
          writeFileSync(path, existing);
          writeFileSync(twin, existing);
          const { iodepth, ...common } = defined(more);
          const chunks = sizes.map((bytes) => randomBytes(bytes));
          const theirs = createWriteStream(twin, { flags, ...common });
          await writeAll(theirs, chunks);
          const ours = new WriteStream(path, { flags, ...common, ...defined({ iodepth }), engine, direct });
          if (corked) ours.cork();
          for (const [index, chunk] of chunks.entries()) {
            if (wait && !corked) await new Promise((resolve) => ours.write(chunk, resolve));
            else ours.write(chunk);
            if (corked && index % 4 === 3) {
              ours.uncork();
              await turn();
              ours.cork();
            }
          }
          ours.end();
          await once(ours, 'close');
          assert.deepEqual(readFileSync(path), readFileSync(twin));
          assert.equal(ours.bytesWritten, theirs.bytesWritten);
          assert.equal(ours.pos, (theirs as unknown as WriteStream).pos);
        }),
        { numRuns: 60 },
      );
      assert.deepEqual(descriptorsIn(directory), []);
    });

    test('without a start, a handle is written from its current position on, which moves along', async (t) => {
      const path = join(scratch(t), 'data');
      await fc.assert(
        fc.asyncProperty(place, chunkSizes, depths, async (from, sizes, iodepth) => {
          writeFileSync(path, '');
          const chunks = sizes.map((bytes) => randomBytes(bytes));
          const handle = await open(path, { flags: 'r+', engine, direct });
          try {
            loadNative().native?.seek(handle.fd, from, 0);
            const stream = handle.createWriteStream({ autoClose: false, ...defined({ iodepth }) });
            for (const chunk of chunks) if (!stream.write(chunk)) await once(stream, 'drain');
            stream.end();
            await once(stream, 'finish');
            const all = Buffer.concat(chunks);
            assert.equal(positionOf(handle.fd), from + all.length);
            assert.ok(handle.fd >= 0);
            if (all.length > 0) assert.deepEqual(readFileSync(path).subarray(from), all);
          } finally {
            await handle.close();
          }
        }),
        { numRuns: 30 },
      );
    });

    test('a callback comes in order, and when its bytes are in the file', async (t) => {
      const path = join(scratch(t), 'data');
      const stream = new WriteStream(path, { engine, direct, highWaterMark: 16 * KIB, iodepth: 4 });
      const order: number[] = [];
      let until = 0;
      const wrong: string[] = [];
      for (let i = 0; i < 200; i++) {
        const chunk = randomBytes(i % 7 === 0 ? 40_000 : 1 + ((i * 37) % 5000));
        const from = until;
        until += chunk.length;
        const more = stream.write(chunk, (error) => {
          order.push(i);
          const there = Buffer.alloc(chunk.length);
          const fd = openSync(path, 'r');
          const bytes = readSync(fd, there, 0, there.length, from);
          closeSync(fd);
          if (error || bytes < chunk.length || !there.equals(chunk)) wrong.push(`chunk ${i}: ${bytes} bytes, ${error}`);
          if (stream.bytesWritten < from + chunk.length) wrong.push(`chunk ${i} is not counted`);
        });
        if (!more && i % 3 === 0) await once(stream, 'drain');
      }
      stream.end();
      await once(stream, 'close');
      assert.deepEqual(wrong, []);
      assert.deepEqual(
        order,
        Array.from({ length: 200 }, (_, i) => i),
      );
    });

    test("the memory of a chunk can be used again after 'drain'", async (t) => {
      const path = join(scratch(t), 'data');
      for (const size of [64 * KIB, 300_000, 3 * MIB]) {
        const chunk = Buffer.alloc(size);
        const wanted = Array.from({ length: 12 }, (_, i) => Buffer.alloc(size, i + 1));
        const stream = new WriteStream(path, { engine, direct });
        for (const [i] of wanted.entries()) {
          chunk.fill(i + 1);
          if (!stream.write(chunk)) await once(stream, 'drain');
        }
        stream.end();
        await once(stream, 'close');
        assert.ok(readFileSync(path).equals(Buffer.concat(wanted)), `chunks of ${size}`);
      }
    });

    test('memory that is on its way is filled anew only when its bytes are in the file', async (t) => {
      const path = join(scratch(t), 'data');
      const original = OpenFile.prototype.writeAll;
      const changed: unknown[] = [];
      const stores = new Set<ArrayBufferLike>();
      replace(t, 'writeAll', async function (this: OpenFile, view, position, signal) {
        stores.add(view.buffer);
        const before = Buffer.from(view);
        await turn();
        await original.call(this, view, position, signal);
        await turn();
        if (!before.equals(view)) changed.push(position);
      });
      const chunks = Array.from({ length: 400 }, (_, i) => Buffer.alloc(i % 9 === 0 ? 150_000 : 30_000, i + 1));
      await writeAll(new WriteStream(path, { engine, direct, iodepth: 3, highWaterMark: 64 * KIB }), chunks);
      assert.deepEqual(changed, []);
      assert.ok(readFileSync(path).equals(Buffer.concat(chunks)));
      // What fills no block of a direct file goes by itself, copied together.
      if (!direct) assert.ok(stores.size < 40, `${stores.size} pieces of memory for ${chunks.length} chunks`);
    });

    test('a stream that is destroyed leaves no hole behind what it wrote', async (t) => {
      const path = join(scratch(t), 'data');
      for (let round = 0; round < 10; round++) {
        const stream = new WriteStream(path, { engine, direct });
        for (let i = 0; i < 24; i++) stream.write(Buffer.alloc(128 * KIB, 7));
        for (let turns = 0; turns < round; turns++) await turn();
        stream.destroy();
        if (!stream.closed) await once(stream, 'close');
        assert.ok(!existsSync(path) || readFileSync(path).every((byte) => byte === 7));
        rmSync(path, { force: true });
      }
    });

    test('writes go deep, and stay as many as were asked for', async (t) => {
      for (const iodepth of [1, 2, 5]) {
        await t.test(`iodepth ${iodepth}`, async (t) => {
          const path = join(scratch(t), 'data');
          const count = countWrites(t);
          const stream = new WriteStream(path, { engine, direct, iodepth, highWaterMark: MIB });
          const chunk = randomBytes(MIB);
          await writeAll(
            stream,
            Array.from({ length: 16 }, () => chunk),
          );
          assert.equal(count.most, iodepth);
          assert.equal(statSync(path).size, 16 * MIB);
        });
      }
    });

    if (direct) {
      test('blocks that are filled in part are written while nothing else is', async (t) => {
        const path = join(scratch(t), 'data');
        const stream = new WriteStream(path, { engine, direct, start: 100, highWaterMark: 16 * KIB });
        const original = OpenFile.prototype.writeAll;
        let flying = 0;
        let parts = 0;
        let shared = 0;
        replace(t, 'writeAll', async function (this: OpenFile, view, position, signal) {
          const isPart = Number(position) % this.alignment.offset !== 0 || view.length % this.alignment.offset !== 0;
          if (isPart) parts++;
          if (isPart && flying > 0) shared++;
          flying++;
          await original.call(this, view, position, signal);
          flying--;
          if (isPart && flying > 0) shared++;
        });
        const chunks = Array.from({ length: 40 }, (_, i) => randomBytes(i % 4 === 0 ? 100_000 : 3000 + i));
        for (const [index, chunk] of chunks.entries()) {
          if (index % 5 === 4) await new Promise((resolve) => stream.write(chunk, resolve));
          else stream.write(chunk);
        }
        stream.end();
        await once(stream, 'close');
        assert.deepEqual(readFileSync(path).subarray(100), Buffer.concat(chunks));
        assert.ok(parts >= 2, 'the head and the tail at least');
        assert.equal(shared, 0);
      });
    }

    test('small chunks are gathered', async (t) => {
      const path = join(scratch(t), 'data');
      const count = countWrites(t);
      const stream = new WriteStream(path, { engine, direct });
      const line = Buffer.from('a line of thirty-two characters\n');
      const lines = 8192;
      for (let i = 0; i < lines; i++) if (!stream.write(line)) await once(stream, 'drain');
      stream.end();
      await once(stream, 'close');
      assert.deepEqual(readFileSync(path), Buffer.concat(Array.from({ length: lines }, () => line)));
      assert.ok(count.calls <= 64, `${count.calls} transfers for ${lines} lines`);
    });

    test('destroyed at any moment: every callback once, closed once, nothing left open', async (t) => {
      const directory = scratch(t);
      const path = join(directory, 'data');
      const count = countWrites(t);
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 0, max: 10 }),
          fc.boolean(),
          fc.constantFrom(undefined, new Error('enough')),
          fc.array(fc.integer({ min: 1, max: 100_000 }), { maxLength: 20 }),
          fc.boolean(),
          async (turns, viaHandle, reason, sizes, finish) => {
            const handle = viaHandle ? await open(path, { flags: 'w', engine, direct }) : undefined;
            const stream = new WriteStream(handle ?? path, { engine, direct, highWaterMark: 16 * KIB });
            const outcome = watch(stream);
            stream.on('close', () => assert.equal(count.flying, 0));
            const calls = new Map<number, (Error | null | undefined)[]>();
            const data = Buffer.concat(
              sizes.map((bytes, index) => {
                const chunk = randomBytes(bytes);
                calls.set(index, []);
                stream.write(chunk, (error) => calls.get(index)?.push(error));
                return chunk;
              }),
            );
            if (finish) stream.end();
            for (let i = 0; i < turns; i++) await (i % 2 === 0 ? turn() : Promise.resolve());
            const over = stream.destroyed;
            stream.destroy(reason);
            if (!stream.closed) await new Promise((resolve) => stream.on('close', resolve));
            await turn();
            assert.equal(outcome.events.filter((event) => event === 'close').length, 1);
            assert.deepEqual(outcome.errors, over || reason === undefined ? [] : [reason]);
            let written = 0;
            for (const [index, errors] of calls) {
              assert.equal(errors.length, 1, `chunk ${index} of ${sizes.length}`);
              if (!errors[0]) written += sizes[index] ?? 0;
            }
            assert.ok(written <= stream.bytesWritten);
            if (stream.bytesWritten > 0) {
              const there = readFileSync(path).subarray(0, stream.bytesWritten);
              assert.ok(there.equals(data.subarray(0, stream.bytesWritten)));
            }
            assert.equal(handle?.fd ?? -1, -1);
            assert.deepEqual(descriptorsIn(directory), []);
          },
        ),
        { numRuns: 60 },
      );
    });

    test('a full file system: ENOSPC once, for the write and for those behind it', async (t) => {
      if (process.getuid?.() !== 0) return t.skip('only root may mount a small file system');
      const directory = smallFileSystem(t, '1m');
      const stream = new WriteStream(join(directory, 'data'), { engine, direct });
      const outcome = watch(stream);
      const errors: unknown[] = [];
      let told = 0;
      for (let i = 0; i < 64; i++) {
        stream.write(randomBytes(64 * KIB), (error) => {
          told++;
          if (error) errors.push((error as NodeJS.ErrnoException).code);
        });
      }
      await new Promise((resolve) => stream.on('close', resolve));
      assert.deepEqual(outcome.events, ['open', 'ready', 'error', 'close']);
      assert.equal((outcome.errors[0] as NodeJS.ErrnoException).code, 'ENOSPC');
      assert.equal(told, 64);
      assert.ok(errors.length >= 48 && errors.every((code) => code === 'ENOSPC'), String(errors));
      assert.ok(stream.bytesWritten <= MIB);
    });

    test('what was written of a chunk that failed counts, and callbacks come before the error', async (t) => {
      if (process.getuid?.() !== 0) return t.skip('only root may mount a small file system');
      const path = join(smallFileSystem(t, '1m'), 'data');
      const stream = new WriteStream(path, { engine, direct, highWaterMark: 4 * MIB });
      const order: string[] = [];
      stream.on('error', () => order.push('error'));
      stream.write(Buffer.alloc(256 * KIB, 1), () => order.push('first'));
      stream.write(Buffer.alloc(3 * MIB, 2), () => order.push('second'));
      await new Promise((resolve) => stream.on('close', resolve));
      assert.deepEqual(order, ['first', 'second', 'error']);
      assert.equal(stream.bytesWritten, statSync(path).size);
      assert.ok(stream.bytesWritten > 256 * KIB);
    });

    test('flush: before finish, and not without being asked', async (t) => {
      const path = join(scratch(t), 'data');
      const steps: string[] = [];
      const original = OpenFile.prototype.flush;
      t.mock.method(
        OpenFile.prototype,
        'flush',
        async function (this: OpenFile, dataOnly: boolean, signal?: AbortSignal) {
          await original.call(this, dataOnly, signal);
          steps.push(`flush ${dataOnly} ${fstatSync(this.fd).size}`);
        },
      );
      for (const flush of [true, false, undefined]) {
        steps.length = 0;
        const stream = new WriteStream(path, { engine, direct, flush });
        assert.equal(stream.flush, flush ?? false);
        stream.on('finish', () => steps.push('finish')).on('close', () => steps.push('close'));
        stream.end(randomBytes(100_000));
        await once(stream, 'close');
        assert.deepEqual(steps, flush ? ['flush false 100000', 'finish', 'close'] : ['finish', 'close']);
      }
      steps.length = 0;
      const cut = new WriteStream(path, { engine, direct, flush: true });
      await new Promise((resolve) => cut.write(randomBytes(8192), resolve));
      cut.destroy();
      await once(cut, 'close');
      assert.deepEqual(steps, ['flush false 8192']);
    });

    test('what a handle for reading says to a writer: EBADF, once', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, 'data');
      const handle = await open(path, { engine, direct });
      const stream = handle.createWriteStream();
      const outcome = watch(stream);
      stream.end(randomBytes(8192));
      await new Promise((resolve) => stream.on('close', resolve));
      assert.deepEqual(outcome.events, ['error', 'close']);
      coded('EBADF', /^EBADF: bad file descriptor, write$/)(outcome.errors[0]);
      assert.equal(readFileSync(path, 'utf8'), 'data');
    });
  });

  describe(`streams, ${name(kind)}: in a pipeline`, () => {
    test('a file of odd size through gzip and a cipher and back, with its hash', async (t) => {
      const directory = scratch(t);
      const [from, packed, to] = ['from', 'packed', 'to'].map((each) => join(directory, each)) as [
        string,
        string,
        string,
      ];
      const data = Buffer.concat([randomBytes(MIB + 77), Buffer.alloc(3 * MIB, 'text')]);
      writeFileSync(from, data);
      const hash = createHash('sha256');
      const seen = new Transform({
        transform(chunk, _encoding, done) {
          hash.update(chunk);
          done(null, chunk);
        },
      });
      const options = { engine, direct };
      const [key, iv] = [randomBytes(32), randomBytes(16)];
      const seal = createCipheriv('aes-256-ctr', key, iv);
      const unseal = createDecipheriv('aes-256-ctr', key, iv);
      const sink = new WriteStream(packed, options);
      await pipeline(new ReadStream(from, options), seen, createGzip({ level: 1 }), seal, sink);
      const unpacked = new WriteStream(to, { ...options, flush: true });
      await pipeline(new ReadStream(packed, options), unseal, createGunzip(), unpacked);
      assert.deepEqual(readFileSync(to), data);
      assert.equal(hash.digest('hex'), createHash('sha256').update(data).digest('hex'));
      assert.deepEqual(descriptorsIn(directory), []);
    });

    test('one that fails in the middle closes both ends', async (t) => {
      const directory = scratch(t);
      const from = join(directory, 'from');
      writeFileSync(from, randomBytes(2 * MIB));
      let left = 10;
      const failing = new Transform({
        transform(chunk, _encoding, done) {
          done(left-- > 0 ? null : new Error('no more'), chunk);
        },
      });
      const options = { engine, direct };
      const [source, sink] = [new ReadStream(from, options), new WriteStream(join(directory, 'to'), options)];
      const done = Promise.all([source, sink].map((stream) => new Promise((resolve) => stream.on('close', resolve))));
      await assert.rejects(pipeline(source, failing, sink), /no more/);
      await done;
      assert.deepEqual(descriptorsIn(directory), []);
    });
  });
}

for (const engine of engines) {
  describe(`streams, ${engine}: files of all sorts`, () => {
    test('chunks of text end at no half character', async (t) => {
      const path = join(scratch(t), 'data');
      const text = 'añ€😀'.repeat(20_000);
      writeFileSync(path, text);
      const stream = new ReadStream(path, { engine, encoding: 'utf8', highWaterMark: 1001 });
      let got = '';
      for await (const chunk of stream) {
        assert.equal(typeof chunk, 'string');
        got += chunk;
      }
      assert.equal(got, text);
      assert.equal(Buffer.concat([await collect(new ReadStream(path, 'hex'))]).toString(), readFileSync(path, 'hex'));
      const writer = new WriteStream(path, { engine, encoding: 'latin1' });
      writer.write('\u00e9');
      writer.end('e9', 'hex');
      await once(writer, 'close');
      assert.deepEqual([...readFileSync(path)], [0xe9, 0xe9]);
    });

    test('appending: after what others append meanwhile, in order', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, 'first ');
      const stream = new WriteStream(path, { engine, flags: 'a', highWaterMark: 1000 });
      const parts = Array.from({ length: 50 }, (_, i) => `${i} `.repeat(300));
      for (const [index, part] of parts.entries()) {
        await new Promise((resolve) => stream.write(part, resolve));
        if (index === 24) appendFileSync(path, 'between ');
      }
      stream.end('last');
      await once(stream, 'close');
      const expected = `first ${parts.slice(0, 25).join('')}between ${parts.slice(25).join('')}last`;
      assert.equal(readFileSync(path, 'utf8'), expected);
    });

    test('a descriptor of somebody else, opened to append, is appended to', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, 'first ');
      const stream = new WriteStream(null, { engine, fd: openSync(path, 'a') });
      const parts = Array.from({ length: 100 }, (_, i) => Buffer.alloc(10_000, String(i)));
      await writeAll(stream, parts);
      assert.deepEqual(readFileSync(path), Buffer.concat([Buffer.from('first '), ...parts]));
    });

    test('another who writes at the current position of the handle is not overwritten', async (t) => {
      const path = join(scratch(t), 'data');
      const handle = await open(path, { flags: 'w', engine });
      const stream = handle.createWriteStream({ highWaterMark: 1000 });
      await new Promise((resolve) => stream.write('one '.repeat(1000), resolve));
      await handle.write('two ');
      await new Promise((resolve) => stream.write('three '.repeat(1000), resolve));
      stream.end();
      await once(stream, 'close');
      assert.equal(readFileSync(path, 'utf8'), `${'one '.repeat(1000)}two ${'three '.repeat(1000)}`);
    });

    test('a descriptor by its number: no open event, read from where it is, and closed', async (t) => {
      const directory = scratch(t);
      const path = join(directory, 'data');
      writeFileSync(path, '0123456789');
      const fd = openSync(path, 'r');
      readSync(fd, Buffer.alloc(4));
      const stream = new ReadStream(null, { engine, fd });
      assert.equal(stream.fd, fd);
      assert.equal(stream.pending, false);
      const outcome = watch(stream);
      const closing = new Promise((resolve) => stream.on('close', resolve));
      assert.equal((await collect(stream)).toString(), '456789');
      await closing;
      assert.deepEqual(outcome.events, ['end', 'close']);
      assert.deepEqual(descriptorsIn(directory), []);
    });

    test('autoClose: false leaves a file open, at its end and after an error', async (t) => {
      const directory = scratch(t);
      const path = join(directory, 'data');
      writeFileSync(path, 'data');
      const handle = await open(path, { flags: 'r+', engine });
      // More than ten: a stream that is done holds on to nothing.
      const warned = t.mock.method(process, 'emitWarning');
      for (let i = 0; i < 12; i++) {
        const stream = handle.createReadStream({ autoClose: false, start: 0 });
        assert.equal((await collect(stream)).toString(), 'data');
        assert.equal(stream.autoClose, false);
        assert.equal(stream.destroyed, false);
      }
      assert.equal(warned.mock.callCount(), 0);
      const writer = handle.createWriteStream({ autoClose: false, start: 2 });
      writer.end('TA');
      await once(writer, 'finish');
      assert.equal(writer.closed, false);
      assert.equal((await handle.read(Buffer.alloc(4), 0, 4, 0)).buffer.toString(), 'daTA');
      await handle.close();
      assert.equal(handle.fd, -1);

      const wrongWay = await open(path, { flags: constants.O_WRONLY, engine });
      const failing = wrongWay.createReadStream({ autoClose: false });
      const [error] = await once(failing.resume(), 'error').catch((reason: unknown) => [reason]);
      coded('EBADF')(error);
      await turn();
      assert.equal(failing.closed, false);
      assert.ok(wrongWay.fd >= 0);
      const closing = new Promise((resolve) => failing.on('close', resolve));
      failing.close();
      await closing;
      assert.equal(wrongWay.fd, -1);
      assert.deepEqual(descriptorsIn(directory), []);
    });

    test('autoClose: false and a write that fails: the error, once, and the file stays open', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, 'data');
      const handle = await open(path, { engine });
      const stream = handle.createWriteStream({ autoClose: false });
      const outcome = watch(stream);
      const told: unknown[] = [];
      await new Promise<void>((resolve) => {
        stream.on('error', () => setImmediate(() => resolve()));
        for (let i = 0; i < 3; i++) stream.write('more', (error) => told.push((error as NodeJS.ErrnoException).code));
      });
      assert.deepEqual(outcome.events, ['error']);
      assert.deepEqual(told, ['EBADF', 'EBADF', 'EBADF']);
      assert.ok(handle.fd >= 0);
      await handle.close();
    });

    test('closing the handle ends its streams', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, randomBytes(MIB));
      const handle = await open(path, { flags: 'r+', engine });
      const reader = handle.createReadStream({ highWaterMark: 4096 });
      const writer = handle.createWriteStream({ start: 0 });
      const outcomes = [watch(reader), watch(writer)];
      await once(reader, 'readable');
      writer.write('changed');
      await handle.close();
      assert.equal(handle.fd, -1);
      await turn();
      assert.deepEqual(
        outcomes.map(({ events }) => events),
        [['close'], ['finish', 'close']],
      );
      assert.equal(readFileSync(path).subarray(0, 7).toString(), 'changed');
    });

    test('a loop that breaks off closes the file', async (t) => {
      const directory = scratch(t);
      const path = join(directory, 'data');
      writeFileSync(path, randomBytes(MIB));
      const options = { highWaterMark: 4096 };
      const events: string[][] = [];
      for (const make of [() => createReadStream(path, options), () => new ReadStream(path, { ...options, engine })]) {
        const stream: Readable = make();
        const outcome = watch(stream);
        const closing = new Promise((resolve) => stream.on('close', resolve));
        for await (const chunk of stream) if (chunk.length > 0) break;
        await closing;
        events.push(outcome.events);
      }
      assert.deepEqual(events[1], events[0]);
      assert.deepEqual(descriptorsIn(directory), []);
    });

    test('a signal: before, during and after', async (t) => {
      const directory = scratch(t);
      const path = join(directory, 'data');
      writeFileSync(path, randomBytes(MIB));
      for (const make of [
        (signal: AbortSignal) => new ReadStream(path, { engine, signal }),
        (signal: AbortSignal) => new WriteStream(join(directory, 'other'), { engine, signal }),
      ]) {
        const reason = new Error('no time');
        const before = await closed(make(AbortSignal.abort(reason)));
        assert.deepEqual(before.events.at(-1), 'close');
        coded('ABORT_ERR')(before.errors[0]);
        assert.equal(before.errors[0]?.cause, reason);

        const controller = new AbortController();
        const stream = make(controller.signal);
        const during = closed(stream);
        if (stream instanceof WriteStream) stream.write(randomBytes(MIB));
        await once(stream, 'ready');
        controller.abort();
        const { errors } = await during;
        assert.equal(errors.length, 1);
        coded('ABORT_ERR')(errors[0]);

        const late = new AbortController();
        const done = make(late.signal);
        if (done instanceof WriteStream) done.end('all');
        const after = await closed(done);
        late.abort();
        await turn();
        assert.deepEqual(after.errors, []);
      }
      assert.deepEqual(descriptorsIn(directory), []);
    });

    test('lines, of a file and of a part of it', async (t) => {
      const path = join(scratch(t), 'data');
      const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i}`);
      writeFileSync(path, lines.join('\r\n'));
      const handle = await open(path, { engine });
      const got: string[] = [];
      for await (const line of handle.readLines({ highWaterMark: 1000, autoClose: false })) got.push(line);
      assert.deepEqual(got, lines);
      const part: string[] = [];
      for await (const line of handle.readLines({ start: 5, end: 13 })) part.push(line);
      assert.deepEqual(part, ['0', 'line 1']);
    });

    test('a web stream, read by the chunk', async (t) => {
      const path = join(scratch(t), 'data');
      const data = randomBytes(500_001);
      writeFileSync(path, data);
      const handle = await open(path, { engine });
      await handle.read(Buffer.alloc(11));
      const got = await collect(handle.readableWebStream() as unknown as AsyncIterable<Uint8Array>);
      assert.deepEqual(got, data.subarray(11));
      assert.ok(handle.fd >= 0);
      assert.throws(
        () => handle.readableWebStream(),
        coded('ERR_INVALID_STATE', /^Invalid state: The FileHandle is locked$/),
      );
      await handle.close();
      assert.throws(
        () => handle.readableWebStream(),
        coded('ERR_INVALID_STATE', /^Invalid state: The FileHandle is closed$/),
      );
    });

    test('a web stream has closed its file when its reader is told of the end', async (t) => {
      const path = join(scratch(t), 'data');
      writeFileSync(path, 'data');
      for (const mode of [undefined, 'byob'] as const) {
        const handle = await open(path, { engine });
        const stream = handle.readableWebStream({ autoClose: true });
        const reader = mode === undefined ? stream.getReader() : stream.getReader({ mode });
        for (let done = false; !done; ) {
          ({ done } = await reader.read(new Uint8Array(16)));
        }
        assert.equal(handle.fd, -1);
      }
    });

    test('a web stream that fills buffers of its reader', async (t) => {
      const path = join(scratch(t), 'data');
      const data = randomBytes(100_000);
      writeFileSync(path, data);
      const handle = await open(path, { engine });
      const reader = handle.readableWebStream({ autoClose: true }).getReader({ mode: 'byob' });
      const got: Uint8Array[] = [];
      let memory = new ArrayBuffer(7001);
      for (;;) {
        const { done, value } = await reader.read(new Uint8Array(memory, 1));
        if (value !== undefined) {
          got.push(Uint8Array.from(value));
          memory = value.buffer as ArrayBuffer;
        }
        if (done) break;
        assert.equal(positionOf(handle.fd), Buffer.concat(got).length);
      }
      await reader.closed;
      assert.deepEqual(Buffer.concat(got), data);
      await turn();
      assert.equal(handle.fd, -1);
    });

    test('a web stream: canceled, broken off, and ended by closing the handle', async (t) => {
      const directory = scratch(t);
      const path = join(directory, 'data');
      writeFileSync(path, randomBytes(MIB));
      for (const autoClose of [true, false]) {
        const handle = await open(path, { engine });
        const reader = handle.readableWebStream({ autoClose }).getReader();
        await reader.read();
        await reader.cancel();
        assert.equal(handle.fd === -1, autoClose);
        await handle.close();
        assert.equal(handle.fd, -1);
      }
      const handle = await open(path, { engine });
      const reader = handle.readableWebStream().getReader();
      await reader.read();
      const [, last] = await Promise.all([handle.close(), reader.read().then(() => reader.read())]);
      assert.equal(last.done, true);
      assert.equal(handle.fd, -1);
      const wrongWay = await open(path, { flags: constants.O_WRONLY, engine });
      await assert.rejects(wrongWay.readableWebStream().getReader().read(), coded('EBADF'));
      await wrongWay.close();
      const notBoolean = await open(path, { engine });
      assert.throws(() => notBoolean.readableWebStream({ autoClose: 1 as never }), coded('ERR_INVALID_ARG_TYPE'));
      await notBoolean.close();
      assert.deepEqual(descriptorsIn(directory), []);
    });

    // Kernel AIO knows files and block devices only.
    if (engine !== 'kernel-aio') {
      test('what has no size, and gives less than it is asked for', async () => {
        for (const path of ['/proc/kallsyms', '/proc/filesystems', '/proc/self/environ']) {
          for (const highWaterMark of [1000, 64 * KIB]) {
            assert.deepEqual(await collect(new ReadStream(path, { engine, highWaterMark })), readFileSync(path), path);
          }
        }
        assert.equal((await collect(new ReadStream('/dev/zero', { engine, end: 99_999 }))).length, 100_000);
        assert.equal((await collect(new ReadStream('/dev/null', { engine }))).length, 0);
      });

      test('a FIFO at both ends: what one writes the other reads', async (t) => {
        const path = fifo(t);
        const data = randomBytes(700_000);
        const writer = new WriteStream(path, { engine });
        const reader = new ReadStream(path, { engine });
        const [got] = await Promise.all([
          collect(reader),
          writeAll(
            writer,
            Array.from({ length: 70 }, (_, i) => data.subarray(i * 10_000, (i + 1) * 10_000)),
          ),
        ]);
        assert.deepEqual(got, data);
        assert.equal(writer.bytesWritten, data.length);
      });

      test('a pipeline into a FIFO that nobody reads holds what its marks say, and no more', async (t) => {
        const directory = scratch(t);
        const from = join(directory, 'data');
        writeFileSync(from, '');
        node.truncateSync(from, 64 * MIB);
        const path = fifo(t);
        // Open for both, so that nobody waits for the other side.
        const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
        t.after(() => closeSync(fd));
        collectGarbage();
        const before = process.memoryUsage().arrayBuffers;
        const reader = new ReadStream(from, { engine, highWaterMark: 256 * KIB, iodepth: 4 });
        const writer = new WriteStream(path, { engine, highWaterMark: 256 * KIB, iodepth: 4 });
        const done = pipeline(reader, writer);
        await once(writer, 'ready');
        const held = await settled(() => process.memoryUsage().arrayBuffers - before, 3 * MIB);
        assert.ok(held <= 3 * MIB, `${held} bytes are held`);
        assert.ok(reader.bytesRead < 4 * MIB, `${reader.bytesRead} bytes were read`);
        // What is stuck in the pipe ends when it is read.
        const drain = createReadStream(path).resume();
        await done;
        assert.equal(writer.bytesWritten, 64 * MIB);
        drain.destroy();
        try {
          writeSync(fd, 'x');
        } catch (error) {
          coded('EAGAIN')(error); // full: what reads finds something anyhow
        }
        if (!drain.closed) await once(drain, 'close');
      });

      test('a pipe that does not block, and has no room for a while', async (t) => {
        const path = fifo(t);
        const from = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
        t.after(() => closeSync(from));
        const stream = new WriteStream(null, { engine, fd: openSync(path, constants.O_WRONLY | constants.O_NONBLOCK) });
        const data = randomBytes(500_000);
        const closing = new Promise((resolve) => stream.on('close', resolve));
        stream.write(data.subarray(0, 300_000));
        stream.end(data.subarray(300_000));
        const got: Buffer[] = [];
        const memory = Buffer.alloc(30_000);
        while (!stream.closed || Buffer.concat(got).length < data.length) {
          await turn();
          try {
            got.push(Buffer.from(memory.subarray(0, readSync(from, memory))));
          } catch (error) {
            coded('EAGAIN')(error);
          }
        }
        await closing;
        assert.deepEqual(Buffer.concat(got), data);
        assert.equal(stream.errored, null);
      });

      test('a device that is always full: ENOSPC once', async () => {
        const stream = new WriteStream('/dev/full', { engine });
        const outcome = watch(stream);
        stream.end('anything');
        await new Promise((resolve) => stream.on('close', resolve));
        assert.deepEqual(outcome.events, ['open', 'ready', 'error', 'close']);
        coded('ENOSPC', /^ENOSPC: no space left on device, write$/)(outcome.errors[0]);
      });
    }
  });
}

describe('streams, as those of Node', () => {
  type Make = (path: never, options: never) => { on(event: 'error', listener: () => void): { destroy(): void } };

  function complaint(make: Make, path: unknown, options: unknown): unknown {
    try {
      const stream = make(path as never, options as never);
      stream.on('error', () => undefined).destroy();
      return 'nothing to complain about';
    } catch (error) {
      assert.ok(error instanceof Error);
      return [error.name, 'code' in error ? error.code : undefined, error.message];
    }
  }

  test('mistakes in arguments are told in the same words', (t) => {
    if (lacks("Node's own words", t)) return;
    const path = join(scratch(t), 'data');
    writeFileSync(path, '');
    const cases: [unknown, unknown][] = [
      ...[undefined, null, 5, {}, '\0', new URL('http://example.com')].map((wrong): [unknown, unknown] => [wrong, {}]),
      ...[5, true, 'nonsense', { encoding: 'nonsense' }].map((wrong): [unknown, unknown] => [path, wrong]),
      ...['1', -1, 1.5, Number.NaN, 2 ** 60, null].flatMap((wrong): [unknown, unknown][] => [
        [path, { start: wrong }],
        [path, { end: wrong }],
        [path, { fd: wrong }],
        [path, { highWaterMark: wrong }],
      ]),
      [path, { start: 5, end: 4 }],
      [path, { fd: {} }],
      [path, { fd: 2 ** 31 }],
      [path, { signal: 5 }],
      [path, { signal: null }],
      [path, { flush: 'yes' }],
      [path, { flush: null }],
      [Buffer.from(path), null],
      [pathToFileURL(path), undefined],
      [path, () => undefined],
    ];
    for (const [target, options] of cases) {
      const what = `${String(target)}, ${JSON.stringify(options)}`;
      assert.deepEqual(
        complaint((p, o) => new ReadStream(p, o), target, options),
        complaint(createReadStream as Make, target, options),
        `reading ${what}`,
      );
      assert.deepEqual(
        complaint((p, o) => new WriteStream(p, o), target, options),
        complaint(createWriteStream as Make, target, options),
        `writing ${what}`,
      );
    }
  });

  test('a handle of ours is taken in the place of theirs, closed ones are not', async (t) => {
    if (lacks("Node's own words", t)) return;
    const path = join(scratch(t), 'data');
    writeFileSync(path, 'data');
    const handle = await open(path);
    const options = { fd: handle, autoClose: false, start: 1 };
    assert.equal((await collect(new ReadStream(undefined, options))).toString(), 'ata');
    assert.throws(() => new ReadStream(null, { fd: handle, fs: {} }), coded('ERR_METHOD_NOT_IMPLEMENTED'));
    assert.throws(() => new WriteStream(path, { fs: {} }), coded('ERR_METHOD_NOT_IMPLEMENTED', /node:fs/));
    await handle.close();
    const theirs = await node.promises.open(path);
    await theirs.close();
    for (const make of [(h: FileHandle) => new ReadStream(h), (h: FileHandle) => h.createWriteStream()]) {
      assert.deepEqual(
        complaint(() => make(handle), path, {}),
        complaint((() => createReadStream(path, { fd: theirs })) as Make, path, {}),
      );
    }
  });

  test('of streams of handles only what options have themselves counts, as in Node', async (t) => {
    const path = join(scratch(t), 'data');
    const odd = ['utf8', 'hex', 'bogus', 1, true, null, () => {}, Object.create({ start: 4, encoding: 'utf8' })];
    for (const options of odd) {
      const seen: unknown[] = [];
      for (const opener of [node.promises.open, open]) {
        writeFileSync(path, 'first\nsecond\n');
        const reader = await opener(path);
        const chunks: unknown[] = [];
        for await (const chunk of reader.createReadStream(options as never)) chunks.push(chunk);
        const lines: string[] = [];
        for await (const line of (await opener(path)).readLines(options as never)) lines.push(line);
        const writer = (await opener(path, 'w')).createWriteStream(options as never);
        await new Promise((resolve, reject) => writer.on('error', reject).end('6869', resolve as never));
        seen.push({ chunks, lines, written: readFileSync(path, 'utf8') });
      }
      assert.deepEqual(seen[1], seen[0], `${typeof options}`);
    }
  });

  test('options may be inherited, and the mark be null', async (t) => {
    const path = join(scratch(t), 'data');
    writeFileSync(path, '0123456789');
    const options = Object.create({ start: 2, end: 4, highWaterMark: null }) as ReadStreamOptions;
    assert.equal((await collect(new ReadStream(path, options))).toString(), '234');
    const writer = new WriteStream(path, Object.create({ start: 3, flags: 'r+' }) as WriteStreamOptions);
    await writeAll(writer, [Buffer.from('x')]);
    assert.equal(readFileSync(path, 'utf8'), '012x456789');
  });

  test('the depth of what is in flight is checked', () => {
    for (const iodepth of [0, -1, 1.5, 1025, '4', null]) {
      for (const Stream of [ReadStream, WriteStream]) {
        assert.throws(() => new Stream('/dev/null', { iodepth: iodepth as never }), /iodepth/);
      }
    }
  });

  test('properties and events, from opening to closing', async (t) => {
    const path = join(scratch(t), 'data');
    for (const [options, content] of [
      [{}, 'content'],
      [{ mode: 0o600, flags: 'w+', start: 3 }, 'more'],
      [{ emitClose: true, autoClose: true }, ''],
    ] as [WriteStreamOptions & { flags?: string; mode?: number }, string][]) {
      const seen = [
        createWriteStream(path, options as never) as unknown as WriteStream,
        new WriteStream(path, options),
      ].map(async (stream) => {
        const { path, flags, mode, start, pos, fd, pending, autoClose, flush, bytesWritten } = stream;
        const { writableHighWaterMark } = stream;
        const before = {
          path,
          flags,
          mode,
          start,
          pos,
          fd,
          pending,
          autoClose,
          flush,
          bytesWritten,
          writableHighWaterMark,
        };
        const outcome = watch(stream);
        const closing = new Promise((resolve) => stream.on('close', resolve));
        stream.end(content);
        const open: unknown[] = [];
        stream.on('ready', () => open.push(typeof stream.fd, stream.pending));
        await closing;
        const after = [stream.fd, stream.pending, stream.bytesWritten, stream.pos, stream.closed];
        return { before, open, after, events: outcome.events };
      });
      const [theirs, ours] = await Promise.all(seen);
      assert.deepEqual(ours, theirs);
    }
    writeFileSync(path, randomBytes(1000));
    for (const options of [
      {},
      { start: 10, end: 20 },
      { flags: 'r+', mode: 0o600, encoding: 'utf8' },
    ] as ReadStreamOptions[]) {
      const seen = [
        createReadStream(path, options as never) as unknown as ReadStream,
        new ReadStream(path, options),
      ].map(async (stream) => {
        const { path, flags, mode, start, end, pos, fd, pending, autoClose, bytesRead } = stream;
        const { readableHighWaterMark } = stream;
        const before = { path, flags, mode, start, end, pos, fd, pending, autoClose, bytesRead, readableHighWaterMark };
        const outcome = watch(stream);
        const closing = new Promise((resolve) => stream.on('close', resolve));
        const open: unknown[] = [];
        stream.on('ready', () => open.push(typeof stream.fd, stream.pending));
        stream.resume();
        await closing;
        const after = [stream.fd, stream.pending, stream.bytesRead, stream.pos, stream.closed];
        return { before, open, after, events: outcome.events };
      });
      const [theirs, ours] = await Promise.all(seen);
      assert.deepEqual(ours, theirs);
    }
  });

  test('what cannot be opened: the error, once, with the path, and nothing is left behind', async (t) => {
    const directory = scratch(t);
    for (const path of [join(directory, 'none/data'), directory]) {
      const pairs: [() => Readable | Writable, () => Readable | Writable][] = [
        [() => createReadStream(path), () => new ReadStream(path)],
        [() => createWriteStream(path), () => new WriteStream(path)],
      ];
      for (const [theirs, ours] of pairs) {
        const [expected, actual] = await Promise.all([closed(theirs()), closed(ours())]);
        assert.deepEqual(actual.events, expected.events);
        const [[wanted], [got]] = [expected.errors, actual.errors];
        assert.deepEqual({ ...got, message: got?.message }, { ...wanted, message: wanted?.message });
      }
    }
    for (const flags of ['nonsense', 'wx']) {
      const existing = join(directory, 'existing');
      writeFileSync(existing, '');
      const { errors } = await closed(new WriteStream(existing, { flags }));
      const expected = await closed(createWriteStream(existing, { flags })).catch((error: Error) => ({
        errors: [error],
      }));
      assert.equal(errors.length, 1);
      assert.equal(errors[0]?.message, expected.errors[0]?.message);
    }
    assert.deepEqual(descriptorsIn(directory), []);
  });

  test('close calls back: when it is closed, and when it was', async (t) => {
    const path = join(scratch(t), 'data');
    const writer = new WriteStream(path);
    writer.write('data');
    await new Promise<void>((resolve) => writer.close(() => resolve()));
    assert.equal(readFileSync(path, 'utf8'), 'data');
    await new Promise<void>((resolve) => writer.close(() => resolve()));
    const reader = new ReadStream(path);
    await new Promise<void>((resolve) => reader.close(() => resolve()));
    assert.equal(reader.closed, true);
    const soon = new WriteStream(path);
    soon.write('soon');
    soon.destroySoon();
    await once(soon, 'close');
    assert.equal(readFileSync(path, 'utf8'), 'soon');
    const handle = await open(path, 'w');
    const kept = handle.createWriteStream({ autoClose: false });
    kept.write('kept');
    await new Promise<void>((resolve) => kept.close(() => resolve()));
    assert.equal(handle.fd, -1);
    assert.equal(readFileSync(path, 'utf8'), 'kept');
  });

  test('writing after the end, or nothing at all, fails as in Node', async (t) => {
    const directory = scratch(t);
    const outcomes = [createWriteStream(join(directory, 'theirs')), new WriteStream(join(directory, 'ours'))].map(
      async (stream) => {
        const told: unknown[] = [];
        const outcome = closed(stream);
        assert.throws(() => stream.write(null), coded('ERR_STREAM_NULL_VALUES'));
        assert.throws(() => stream.write(5), coded('ERR_INVALID_ARG_TYPE'));
        stream.write('', (error) => told.push(error ?? 'written'));
        stream.end('data', 'utf8', () => told.push('finished'));
        stream.write('late', (error) => told.push((error as NodeJS.ErrnoException).code));
        const { events, errors } = await outcome;
        return [events, errors.map(({ message }) => message), told];
      },
    );
    const [theirs, ours] = await Promise.all(outcomes);
    assert.deepEqual(ours, theirs);
  });

  test('what a listener throws is an uncaught exception', async () => {
    const { program } = await import('./support.ts');
    const { stdout, code } = await program('streams-throw.ts');
    assert.equal(stdout, 'data uncaughtException\nwritten uncaughtException\nopen uncaughtException\n');
    assert.equal(code, 0);
  });

  test('a stream that is dropped leaves its file open, and nobody hears of it, as with those of Node', async (t) => {
    const path = join(scratch(t), 'data');
    writeFileSync(path, 'content');
    const warnings: string[] = [];
    const listen = (warning: Error): void => void warnings.push(warning.message);
    process.on('warning', listen);
    process.on('uncaughtException', listen);
    t.after(() => {
      process.off('warning', listen);
      process.off('uncaughtException', listen);
    });
    let collected = 0;
    const registry = new FinalizationRegistry(() => collected++);
    const numbers: number[] = [];
    const drop = async (): Promise<void> => {
      for (const stream of [new ReadStream(path), new WriteStream(path, { flags: 'r+' })]) {
        const [fd] = await once(stream, 'open');
        numbers.push(fd);
        registry.register(stream, undefined);
      }
    };
    await drop();
    for (let tries = 0; tries < 100 && collected < 2; tries++) {
      await turn();
      collectGarbage();
    }
    assert.equal(collected, 2);
    await turn();
    assert.deepEqual(warnings, []);
    for (const fd of numbers) {
      assert.ok(node.fstatSync(fd).isFile());
      closeSync(fd);
    }
  });

  test('2 GiB through a pipeline, with their hash', { timeout: 120_000 }, async (t) => {
    const directory = scratch(t, '/dev/shm');
    const from = join(directory, 'from');
    const to = join(directory, 'to');
    // Sparse, with a mark of its own in each MiB: what comes in the wrong place changes the hash.
    const fd = openSync(from, 'w');
    ftruncateSync(fd, 2 ** 31);
    for (let at = 0; at < 2 ** 31; at += MIB) writeSync(fd, `block ${at}`, at + ((at * 7) % 99_991));
    closeSync(fd);
    const hashes = [createHash('sha1'), createHash('sha1')] as const;
    const seen = new Transform({
      transform(chunk, _encoding, done) {
        hashes[0].update(chunk);
        done(null, chunk);
      },
    });
    const marks = { highWaterMark: 512 * KIB };
    const source = new ReadStream(from, marks);
    const sink = new Writable({
      highWaterMark: MIB,
      write(chunk, _encoding, done) {
        hashes[1].update(chunk);
        done();
      },
    });
    await pipeline(source, seen, new WriteStream(to, marks));
    assert.equal(source.bytesRead, 2 ** 31);
    assert.equal(statSync(to).size, 2 ** 31);
    await pipeline(new ReadStream(to, marks), sink);
    assert.equal(hashes[0].digest('hex'), hashes[1].digest('hex'));
  });
});
