/** What random-access-file does on node:fs, its like on our handles does as well: one suite over both. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, type Stats, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { coded, scratch } from '../support.ts';
import { consumer, loadDefault, recipe, ways } from './consumers.ts';

type Done<T = void> = (error: Error | null, result: T) => void;

/** The interface random-access-storage, as its documentation has it. */
interface Storage extends NodeJS.EventEmitter {
  readonly opened: boolean;
  readonly closed: boolean;
  readonly suspended: boolean;
  open(done?: Done): void;
  read(offset: number, size: number, done: Done<Buffer>): void;
  write(offset: number, data: Buffer, done?: Done): void;
  del(offset: number, size: number, done?: Done): void;
  truncate(offset: number, done?: Done): void;
  stat(done: Done<Stats>): void;
  suspend(done?: Done): void;
  close(done?: Done): void;
  unlink(done?: Done): void;
}

interface Options {
  readonly readable?: boolean;
  readonly writable?: boolean;
  readonly size?: number;
  readonly truncate?: boolean;
}

type Make = (path: string, options?: Options) => Storage;

/** With promises; every call ends within the time that the test has. */
function promised(storage: Storage) {
  const call = <T>(name: keyof Storage, ...args: unknown[]): Promise<T> =>
    promisify(storage[name] as (...all: unknown[]) => void).apply(storage, args as never) as unknown as Promise<T>;
  return {
    storage,
    open: () => call<void>('open'),
    read: (offset: number, size: number) => call<Buffer>('read', offset, size),
    write: (offset: number, data: Buffer) => call<void>('write', offset, data),
    del: (offset: number, size: number) => call<void>('del', offset, size),
    truncate: (offset: number) => call<void>('truncate', offset),
    stat: () => call<Stats>('stat'),
    suspend: () => call<void>('suspend'),
    close: () => call<void>('close'),
    unlink: () => call<void>('unlink'),
  };
}

/** `unit`: what positions and lengths of writes are multiples of; 1 where any will do. */
function behaviours(title: string, unit: number, make: Make): void {
  const limit = { timeout: 60_000 };

  function made(t: TestContext, options?: Options, path = join(scratch(t), 'deeper/file')) {
    const storage = promised(make(path, options));
    // Nothing that has been opened stays open.
    t.after(() => storage.close().catch(() => {}));
    return { ...storage, path };
  }

  test(`${title}: what was written is read, from any place`, limit, async (t) => {
    const { write, read, path } = made(t);
    const data = randomBytes(8 * unit + (unit === 1 ? 5 : 0));
    await write(2 * unit, data);
    assert.deepEqual(await read(2 * unit, data.length), data);
    assert.deepEqual(await read(2 * unit + 3, 2), data.subarray(3, 5));
    assert.deepEqual(await read(0, 2 * unit), Buffer.alloc(2 * unit));
    assert.deepEqual(readFileSync(path).subarray(2 * unit), data);
  });

  test(`${title}: no bytes are read from anywhere`, limit, async (t) => {
    const { write, read } = made(t);
    await write(0, Buffer.alloc(unit));
    assert.deepEqual(await read(10 * unit, 0), Buffer.alloc(0));
  });

  test(`${title}: reading past the end fails with EPARTIALREAD`, limit, async (t) => {
    const { write, read } = made(t);
    await write(0, Buffer.alloc(unit, 1));
    await assert.rejects(read(0, unit + 1), coded('EPARTIALREAD'));
    await assert.rejects(read(100 * unit, 1), coded('EPARTIALREAD'));
  });

  test(`${title}: a file that is not there is made by a write, not by a read`, limit, async (t) => {
    const { write, read, stat, path } = made(t);
    await assert.rejects(read(0, 1), coded('ENOENT'));
    // It is opened once: later calls only hear that it is not open.
    await assert.rejects(stat(), /Not opened/);
    assert.equal(existsSync(path), false);
    await write(0, Buffer.alloc(unit, 7));
    assert.deepEqual(await read(0, 1), Buffer.from([7]));
  });

  test(`${title}: a thousand writes at once, and a thousand reads`, limit, async (t) => {
    const { write, read } = made(t);
    const data = randomBytes(1000 * unit);
    const parts = Array.from({ length: 1000 }, (_, i) => data.subarray(i * unit, (i + 1) * unit));
    await Promise.all(parts.map((part, i) => write(i * unit, part)));
    assert.deepEqual(Buffer.concat(await Promise.all(parts.map((_, i) => read(i * unit, unit)))), data);
  });

  test(`${title}: closing waits for what was asked for before, and ends the storage`, limit, async (t) => {
    const { write, read, close, open, storage, path } = made(t);
    const data = randomBytes(64 * unit);
    const closed = once(storage, 'close');
    const all = Promise.all([write(0, data), close()]);
    await Promise.all([all, closed]);
    assert.deepEqual(readFileSync(path), data);
    assert.equal(storage.closed, true);
    await assert.rejects(read(0, 1), /Closed/);
    await assert.rejects(write(0, data), /Closed/);
    await open();
    await assert.rejects(read(0, 1), /Closed/);
  });

  test(`${title}: suspended, it opens by itself for the next call`, limit, async (t) => {
    const { write, read, suspend, storage } = made(t);
    await write(0, Buffer.alloc(unit, 3));
    await suspend();
    assert.equal(storage.suspended, true);
    assert.deepEqual(await read(0, 1), Buffer.from([3]));
    assert.equal(storage.suspended, false);
  });

  test(`${title}: truncating, and deleting to the end, cut the file`, limit, async (t) => {
    const { write, truncate, del, stat, read } = made(t);
    await write(0, Buffer.alloc(10 * unit, 1));
    await truncate(4 * unit);
    assert.equal((await stat()).size, 4 * unit);
    await del(2 * unit, Infinity);
    assert.equal((await stat()).size, 2 * unit);
    await truncate(5 * unit);
    assert.deepEqual(await read(2 * unit, 3 * unit), Buffer.alloc(3 * unit));
  });

  test(`${title}: deleting in the middle leaves the size, and all other bytes`, limit, async (t) => {
    const { write, del, stat, read } = made(t);
    await write(0, Buffer.alloc(12 * unit, 1));
    await del(4 * unit, 4 * unit);
    assert.equal((await stat()).size, 12 * unit);
    assert.deepEqual(await read(0, 4 * unit), Buffer.alloc(4 * unit, 1));
    assert.deepEqual(await read(8 * unit, 4 * unit), Buffer.alloc(4 * unit, 1));
  });

  test(`${title}: { size } sets the size as it opens, { truncate } empties`, limit, async (t) => {
    const path = join(scratch(t), 'file');
    const sized = made(t, { size: 3 * unit }, path);
    assert.equal((await sized.stat()).size, 3 * unit);
    await sized.close();
    const emptied = made(t, { truncate: true }, path);
    assert.equal((await emptied.stat()).size, 0);
  });

  test(`${title}: { writable: false } reads, and makes nothing`, limit, async (t) => {
    const path = join(scratch(t), 'file');
    writeFileSync(path, Buffer.alloc(unit, 9));
    const { read, write } = made(t, { writable: false }, path);
    assert.deepEqual(await read(0, 1), Buffer.from([9]));
    await assert.rejects(write(0, Buffer.alloc(unit)), coded('EBADF'));
  });

  test(`${title}: { readable: false } writes`, limit, async (t) => {
    const { write, read, path } = made(t, { readable: false });
    await write(0, Buffer.alloc(unit, 9));
    await assert.rejects(read(0, unit), coded('EBADF'));
    assert.deepEqual(readFileSync(path), Buffer.alloc(unit, 9));
  });

  test(`${title}: unlinking closes, removes, and is fine with a file that is gone`, limit, async (t) => {
    const { write, unlink, storage, path } = made(t);
    await write(0, Buffer.alloc(unit));
    await unlink();
    assert.equal(existsSync(path), false);
    assert.equal(storage.closed, true);
    await made(t).unlink();
  });

  test(`${title}: what fails to open tells each call that waited for it, and may be tried again`, limit, async (t) => {
    const folder = scratch(t);
    writeFileSync(join(folder, 'file'), '');
    const { write, open } = made(t, {}, join(folder, 'file/below'));
    const outcomes = await Promise.allSettled([open(), write(0, Buffer.alloc(unit)), write(unit, Buffer.alloc(unit))]);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['rejected', 'rejected', 'rejected'],
    );
  });
}

consumer('random-access-storage', async () => {
  const RandomAccessFile = await loadDefault<new (path: string, options?: Options) => Storage>('random-access-file');
  behaviours('random-access-file on node:fs', 1, (path, options) => new RandomAccessFile(path, options));

  const { RandomAccessHandle } = await recipe<{
    RandomAccessHandle: new (path: string, options: Options & { engine: string; direct: boolean }) => Storage;
  }>('random-access-handle.mjs');
  for (const { title, engine, direct } of await ways()) {
    const make: Make = (path, options) => new RandomAccessHandle(path, { ...options, engine, direct });
    behaviours(title, direct ? 512 : 1, make);
    if (!direct) continue;
    test(`${title}: a write that is no whole block is refused, and says so`, async (t) => {
      const storage = promised(make(join(scratch(t), 'file')));
      t.after(() => storage.close());
      await assert.rejects(storage.write(0, Buffer.alloc(100)), coded('ERR_AIO_MISALIGNED'));
    });
  }
});
