/** Errors that come when the submission is long over: a disk (a loop device) whose file system underneath is full. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { AioRequest, AlignedPool, allocBuffer, engines } from '../src/index.ts';
import { open as openFile } from '../src/promises.ts';
import { coded, context, open, run, smallFileSystem } from './support.ts';

const available = engines().flatMap(({ name, available: works }) => (works ? [name] : []));

const PIECE = 65_536;
const PIECES = 64;
const DISK = 2 * PIECE * PIECES;

/** With gaps: what is next to each other the kernel writes as one. */
const at = (piece: number): number => 2 * piece * PIECE;

interface Disk {
  readonly path: string;
  /** Makes room for everything. */
  free(): void;
}

/**
 * A disk of which the first half can be written to, and no byte of the second; or why there is none. A write that has room for a part
 * of it is not to be met: Linux's loop devices report it as done (drivers/block/loop.c looks at the length of reads only).
 */
function fullDisk(t: TestContext): Disk | undefined {
  if (process.getuid?.() !== 0) {
    t.skip('only root may mount, and make loop devices');
    return undefined;
  }
  try {
    const directory = smallFileSystem(t, '12m');
    const backing = join(directory, 'backing');
    const filler = join(directory, 'filler');
    execFileSync('truncate', ['-s', String(DISK), backing]);
    execFileSync('fallocate', ['-l', String(DISK / 2), backing]);
    fill(filler);
    const path = execFileSync('losetup', ['-f', '--show', backing], { encoding: 'utf8', stdio: 'pipe' }).trim();
    t.after(() => void execFileSync('losetup', ['-d', path]));
    return { path, free: () => rmSync(filler) };
  } catch (error) {
    t.skip(`no loop device can be made: ${error instanceof Error ? error.message.split('\n')[0] : error}`);
    return undefined;
  }
}

/** Until there is not one page left. */
function fill(path: string): void {
  const page = Buffer.alloc(4096, 'filler');
  const fd = openSync(path, 'w');
  try {
    while (writeSync(fd, page) === page.length);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
  } finally {
    closeSync(fd);
  }
}

/** How this kernel's loop devices put it. */
interface Failure {
  readonly code: string | undefined;
  readonly errno: number | undefined;
}

/** What a write answers that there is no room for: Linux 6.18 says ENOSPC, others say EIO. */
function failureOf(fd: number): Failure {
  try {
    writeSync(fd, allocBuffer(PIECE), 0, PIECE, at(PIECES - 1));
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException;
    assert.ok(code === 'EIO' || code === 'ENOSPC', code);
    return { code, errno };
  }
  throw new Error('there was room for everything');
}

const content = (piece: number): string => `piece ${piece}; `;

describe('a disk that is full underneath', () => {
  for (const engine of available) {
    test(`${engine}: each write says whether it is there, and what failed can be done again`, async (t) => {
      const disk = fullDisk(t);
      if (disk === undefined) return;
      const fd = open(t, disk.path, constants.O_RDWR | constants.O_DIRECT);
      const failure = failureOf(fd);
      const ctx = context(t, { maxRequests: PIECES, engine });
      const pool = new AlignedPool({ size: PIECE, count: PIECES });
      const writes = Array.from({ length: PIECES }, (_, piece) => {
        const buffer = pool.acquire() ?? Buffer.alloc(0);
        buffer.fill(content(piece));
        return new AioRequest<number>().prepareWrite(fd, at(piece), buffer, piece);
      });
      await run(ctx, writes);
      const failed = writes.filter(({ status }) => status !== 'OK');
      assert.deepEqual(
        failed.map(({ userData }) => userData),
        Array.from({ length: PIECES / 2 }, (_, index) => PIECES / 2 + index),
      );
      for (const request of failed) {
        assert.equal(request.status, failure.code);
        assert.equal(request.bytesTransferred, 0);
        assert.equal(request.error?.errno, failure.errno);
        assert.equal(request.error?.syscall, 'write');
        assert.throws(() => request.result(), coded(request.status, /write of 65536 bytes at position \d+/));
      }
      assert.equal(ctx.stats.failed, failed.length);
      assert.equal(ctx.stats.bytesWritten, (PIECES - failed.length) * PIECE);

      disk.free();
      for (const request of failed) {
        const piece = request.userData ?? 0;
        request.prepareWrite(fd, at(piece), allocBuffer(PIECE).fill(content(piece)), piece);
      }
      await run(ctx, failed);
      assert.deepEqual(new Set(writes.map(({ status }) => status)), new Set(['OK']));
      const reads = writes.map((request, piece) => request.prepareRead(fd, at(piece), allocBuffer(PIECE), piece));
      const buffers = reads.map((request, piece) => {
        const buffer = allocBuffer(PIECE);
        request.prepareRead(fd, at(piece), buffer, piece);
        return buffer;
      });
      await run(ctx, reads);
      for (const [piece, buffer] of buffers.entries()) {
        assert.ok(buffer.equals(Buffer.alloc(PIECE, content(piece))), `piece ${piece}`);
      }
      const flush = new AioRequest().prepareFlush(fd);
      await run(ctx, [flush]);
      assert.equal(flush.status, 'OK');
    });

    test(`${engine}: a flush says that what went into the cache did not get to the disk`, async (t) => {
      const disk = fullDisk(t);
      if (disk === undefined) return;
      const fd = open(t, disk.path, constants.O_RDWR);
      const ctx = context(t, { maxRequests: PIECES, engine });
      for (const dataOnly of [false, true]) {
        const writes = Array.from({ length: PIECES }, (_, piece) =>
          new AioRequest().prepareWrite(fd, at(piece), Buffer.alloc(PIECE, content(piece))),
        );
        await run(ctx, writes);
        assert.deepEqual(new Set(writes.map(({ status }) => status)), new Set(['OK']));
        const flush = new AioRequest().prepareFlush(fd, { dataOnly });
        await run(ctx, [flush]);
        assert.equal(flush.status, 'EIO');
        assert.equal(flush.error?.errno, -5);
        assert.equal(flush.error?.syscall, dataOnly ? 'fdatasync' : 'fsync');
      }
    });

    test(`${engine}: a handle's calls fail one by one, and its flush`, async (t) => {
      const disk = fullDisk(t);
      if (disk === undefined) return;
      const direct = await openFile(disk.path, { flags: 'r+', direct: true, engine });
      t.after(() => direct.close());
      const failure = failureOf(direct.fd);
      const write = async (piece: number): Promise<'written' | NodeJS.ErrnoException> => {
        try {
          const { bytesWritten } = await direct.write(Buffer.alloc(PIECE, content(piece)), 0, PIECE, at(piece));
          assert.equal(bytesWritten, PIECE);
          return 'written';
        } catch (error) {
          return error as NodeJS.ErrnoException;
        }
      };
      const outcomes = await Promise.all(Array.from({ length: PIECES }, (_, piece) => write(piece)));
      const written = outcomes.filter((outcome) => outcome === 'written').length;
      assert.equal(written, PIECES / 2);
      for (const [piece, outcome] of outcomes.entries()) {
        if (outcome === 'written') {
          const { buffer } = await direct.read(allocBuffer(PIECE), 0, PIECE, at(piece));
          assert.ok(buffer.equals(Buffer.alloc(PIECE, content(piece))), `piece ${piece}`);
        } else {
          assert.deepEqual([outcome.code, outcome.errno, outcome.syscall], [failure.code, failure.errno, 'write']);
        }
      }
      const cached = await openFile(disk.path, { flags: 'r+', engine });
      t.after(() => cached.close());
      await cached.write(Buffer.alloc(DISK, 'too much'), 0, DISK, 0);
      await assert.rejects(cached.sync(), { code: 'EIO', errno: -5, syscall: 'fsync' });
      disk.free();
      await cached.write(Buffer.alloc(DISK, 'enough'), 0, DISK, 0);
      await cached.datasync();
    });
  }
});
