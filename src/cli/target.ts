/** The file that a benchmark runs on: the user's, or one of our own that is never left behind. */
import { randomBytes, randomFillSync } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsync,
  openSync,
  type Stats,
  statfsSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { alignmentOf } from '../alignment.ts';
import { Directory } from './directory.ts';
import { type Mode, reads, writes } from './job.ts';
import { deviceSize, mediumOf } from './medium.ts';
import { formatSize } from './sizes.ts';
import { CliError, codeOf, EXIT_IO, ioError, quote, usageError } from './usage.ts';

/** What a target is to be. */
export interface TargetWish {
  /** `undefined`: a file of our own in the directory for temporary files. */
  readonly path: string | undefined;
  readonly mode: Mode;
  readonly direct: boolean;
  /** Whether what is in the user's file may be overwritten. */
  readonly force: boolean;
  /** Of a file that is made. */
  readonly size: number;
}

/** An open file to measure with. */
export interface Target {
  readonly path: string;
  /** Its own: made for this benchmark, and without a name by now. */
  readonly temporary: boolean;
  readonly handle: FileHandle;
  readonly size: number;
  readonly medium: string;
  /** What direct I/O needs, of addresses and of positions and lengths. */
  readonly bufferAlignment: number;
  readonly offsetAlignment: number;
  /**
   * Fills a file of our own with random bytes (file systems answer for holes without reading) and flushes it. Nothing is
   * done to a file of the user's. Ends early when `signal` aborts.
   */
  fill(onProgress: (written: number) => void, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

const FILL_CHUNK = 1 << 20;

const fsyncAsync = promisify(fsync);

/** @throws CliError */
export async function openTarget(wish: TargetWish): Promise<Target> {
  if (wish.path === undefined) {
    return make(join(tmpdir(), `fileaio-bench-${randomBytes(12).toString('hex')}`), wish);
  }
  const found = await lookAt(wish.path);
  if (found !== undefined) return use(wish.path, found, wish);
  if (writes(wish.mode)) return make(wish.path, wish);
  throw new CliError(
    EXIT_IO,
    `no such file: ${quote(wish.path)}. Name one that exists, or none: then a temporary one is made`,
  );
}

async function lookAt(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw ioError(`cannot look at ${quote(path)}`, error, 'Name a file that you can reach');
  }
}

/** @throws CliError unless it is a regular file or a block device. Others may block, or do things, when they are opened. */
export function checkKind(path: string, found: Stats): void {
  if (found.isFile() || found.isBlockDevice()) return;
  const kind = found.isDirectory() ? 'a directory' : 'neither a regular file nor a block device';
  throw new CliError(EXIT_IO, `${quote(path)} is ${kind}. Name a regular file or a block device`);
}

/** How a mode opens its file. */
function openFlags({ mode, direct }: TargetWish): number {
  if (direct && constants.O_DIRECT === undefined) {
    throw new CliError(EXIT_IO, `${process.platform} has no O_DIRECT. Run it with --no-direct`);
  }
  const access = !writes(mode) ? constants.O_RDONLY : reads(mode) ? constants.O_RDWR : constants.O_WRONLY;
  return access | (direct ? constants.O_DIRECT : 0);
}

/** @param path - for messages, where the file is opened by another. */
async function openFor(path: string, flags: number, by = path): Promise<FileHandle> {
  try {
    return await open(by, flags);
  } catch (error) {
    if (codeOf(error) === 'EINVAL' && (flags & constants.O_DIRECT) !== 0) {
      throw ioError(`the file system of ${quote(path)} refuses O_DIRECT`, error, 'Run it with --no-direct');
    }
    if (codeOf(error) === 'EBUSY') {
      throw ioError(`${quote(path)} is in use`, error, 'Unmount it first: writing to a mounted device destroys it');
    }
    throw ioError(`cannot open ${quote(path)}`, error, 'Name a file that you may open this way');
  }
}

/** A file of the user's. */
async function use(path: string, found: Stats, wish: TargetWish): Promise<Target> {
  checkKind(path, found);
  if (writes(wish.mode) && !wish.force) {
    throw usageError(
      `${quote(path)} exists, and --rw ${wish.mode} would overwrite what is in it. If that is meant, add --force`,
    );
  }
  // Without O_CREAT, O_EXCL means of a block device: not while it is mounted.
  const exclusive = writes(wish.mode) && found.isBlockDevice() ? constants.O_EXCL : 0;
  const handle = await openFor(path, openFlags(wish) | exclusive);
  try {
    const stat = await handle.stat();
    checkKind(path, stat); // it may have become another one since
    // A device is only opened as one: else it may be mounted.
    if (stat.isBlockDevice() ? stat.rdev !== found.rdev : found.isBlockDevice()) {
      throw new CliError(EXIT_IO, `${quote(path)} became another file meanwhile. See what it is now`);
    }
    const size = stat.isFile() ? stat.size : deviceSize(stat);
    if (size === undefined)
      throw new CliError(EXIT_IO, `the size of the device ${quote(path)} is not to be found in /sys`);
    return {
      path,
      temporary: false,
      handle,
      size,
      medium: mediumOf(path, stat),
      ...alignments(path),
      fill: async () => {},
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function alignments(path: string | number): Pick<Target, 'bufferAlignment' | 'offsetAlignment'> {
  const { buffer, offset } = alignmentOf(path);
  return { bufferAlignment: buffer, offsetAlignment: offset };
}

/**
 * A file of our own. Its name is taken away as soon as it is open, so that nothing is left behind whatever ends the
 * process, be it SIGKILL.
 */
async function make(path: string, wish: TargetWish): Promise<Target> {
  const { directory, entry, fd: filler } = create(path);
  const forget = unlinkOnExit(entry, directory);
  let handle: FileHandle | undefined;
  try {
    handle = await openFor(path, openFlags(wish) | constants.O_NOFOLLOW, entry);
    const [made, opened] = [fstatSync(filler), await handle.stat()];
    if (made.dev !== opened.dev || made.ino !== opened.ino) {
      throw new CliError(
        EXIT_IO,
        `somebody put another file in the place of ${quote(path)}. Set TMPDIR to a directory of your own`,
      );
    }
    const medium = mediumOf(path, opened);
    const needs = alignments(handle.fd);
    forget();
    const { size } = wish;
    checkRoom(path, size);
    const opener = handle;
    let filling: number | undefined = filler;
    const closeFiller = (): void => {
      if (filling !== undefined) closeSync(filling);
      filling = undefined;
    };
    return {
      path,
      temporary: true,
      handle: opener,
      size,
      medium,
      ...needs,
      async fill(onProgress, signal) {
        await fillWithNoise(filler, path, size, onProgress, signal);
        closeFiller();
      },
      async close() {
        closeFiller();
        await opener.close();
      },
    };
  } catch (error) {
    forget();
    closeSync(filler);
    await handle?.close();
    throw error;
  }
}

function create(path: string): { directory: Directory; entry: string; fd: number } {
  // O_EXCL and O_NOFOLLOW: nobody's file, and nobody's symbolic link, is written to.
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
  let directory: Directory | undefined;
  try {
    directory = new Directory(dirname(path));
    const entry = directory.entry(path.slice(path.lastIndexOf('/') + 1));
    return { directory, entry, fd: openSync(entry, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR, 0o600) };
  } catch (error) {
    directory?.close();
    if (codeOf(error) === 'EEXIST') {
      throw new CliError(
        EXIT_IO,
        `${quote(path)} is a symbolic link to a file that does not exist. Remove the link, or name that file`,
      );
    }
    throw ioError(
      `cannot make the test file ${quote(path)}`,
      error,
      'Name a FILE in a directory that you can write to, or set TMPDIR to one',
    );
  }
}

/** Before a disk is filled in vain, and whoever else writes there is in want of room. */
function checkRoom(path: string, size: number): void {
  const { bavail, bsize } = statfsSync(dirname(path));
  const free = bavail * bsize;
  if (size <= free) return;
  throw new CliError(
    EXIT_IO,
    `the test file ${quote(path)} is to have ${formatSize(size)}, and ${formatSize(free)} are free. Ask for less with --size, or set TMPDIR to a larger file system`,
  );
}

/** Removes a file when the process exits, or when the returned function is called, whichever is first. Its directory is let go then. */
function unlinkOnExit(path: string, directory: Directory): () => void {
  let there = true;
  const forget = (): void => {
    process.off('exit', forget);
    if (!there) return;
    there = false;
    try {
      unlinkSync(path);
    } catch {
      // Somebody else removed it.
    }
    directory.close();
  };
  process.on('exit', forget);
  return forget;
}

async function fillWithNoise(
  fd: number,
  path: string,
  size: number,
  onProgress: (written: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const chunk = Buffer.alloc(Math.min(FILL_CHUNK, size));
  try {
    let written = 0;
    while (written < size && !signal.aborted) {
      randomFillSync(chunk);
      written += writeSync(fd, chunk, 0, Math.min(chunk.length, size - written), written);
      onProgress(written);
      await setImmediate(); // let signals in
    }
    if (!signal.aborted) await fsyncAsync(fd);
  } catch (error) {
    const cure = 'Free some space, ask for less with --size, or set TMPDIR to a larger file system';
    throw ioError(`cannot fill the test file ${quote(path)} with ${formatSize(size)}`, error, cure);
  }
}
