/**
 * What direct I/O on a file needs, from whoever knows it: statx(2) with STATX_DIOALIGN since Linux 6.1 (where the file
 * system answers), before that the logical block size of the device, else 512.
 */
import { constants, fstatSync, readFileSync, statSync } from 'node:fs';
import * as abi from './abi/statx.ts';
import { systemError } from './errors.ts';
import { loadNative } from './native.ts';

/** What transfers of a direct file are made of. Both numbers are 1 for a file that goes through the page cache. */
export interface Alignment {
  /** Of a buffer's address, in bytes. */
  readonly buffer: number;
  /** Of position and length, in bytes. */
  readonly offset: number;
  /** Where it was read from, for people. */
  readonly source: string;
}

const S_IFMT = 0o170000;
const S_IFBLK = 0o060000;
const FALLBACK = 512;

function readNumber(path: string): number | undefined {
  try {
    const value = Number(readFileSync(path, 'utf8'));
    return Number.isInteger(value) && value > 0 ? value : undefined;
  } catch {
    return undefined;
  }
}

/** `file` is a path, or the number of an open descriptor. */
export function alignmentOf(file: string | number): Alignment {
  const { native } = loadNative();
  if (native === undefined) return guess(file);
  const into = new Uint8Array(abi.STATX_SIZE);
  const byPath = typeof file === 'string';
  const errno = native.statx(
    byPath ? abi.AT_FDCWD : file,
    Buffer.from(byPath ? `${file}\0` : '\0'),
    byPath ? 0 : abi.AT_EMPTY_PATH,
    abi.STATX_BASIC_STATS | abi.STATX_DIOALIGN,
    into,
  );
  if (errno < 0) throw statError(errno, 'statx', file);
  const stat = new DataView(into.buffer);
  const buffer = stat.getUint32(abi.STX_DIO_MEM_ALIGN, true);
  const offset = stat.getUint32(abi.STX_DIO_OFFSET_ALIGN, true);
  if ((stat.getUint32(abi.STX_MASK, true) & abi.STATX_DIOALIGN) !== 0 && buffer > 0 && offset > 0) {
    return { buffer, offset, source: 'statx STATX_DIOALIGN' };
  }
  const isBlockDevice = (stat.getUint16(abi.STX_MODE, true) & S_IFMT) === S_IFBLK;
  const major = stat.getUint32(isBlockDevice ? abi.STX_RDEV_MAJOR : abi.STX_DEV_MAJOR, true);
  const minor = stat.getUint32(isBlockDevice ? abi.STX_RDEV_MINOR : abi.STX_DEV_MINOR, true);
  const device = `/sys/dev/block/${major}:${minor}`;
  // A partition has no queue of its own: its disk, one directory up, has.
  for (const queue of [`${device}/queue`, `${device}/../queue`]) {
    const block = readNumber(`${queue}/logical_block_size`);
    if (block !== undefined) return { buffer: block, offset: block, source: `${queue}/logical_block_size` };
  }
  return { buffer: FALLBACK, offset: FALLBACK, source: 'default (neither the file system nor a block device says)' };
}

/** Without the shim nobody can be asked but whether there is such a file. */
function guess(file: string | number): Alignment {
  try {
    if (typeof file === 'string') statSync(file);
    else fstatSync(file);
  } catch (error) {
    const errno = error instanceof Error && 'errno' in error ? error.errno : undefined;
    if (typeof errno !== 'number') throw error;
    throw statError(errno, 'stat', file);
  }
  return { buffer: FALLBACK, offset: FALLBACK, source: 'default (only the native shim can ask the file system)' };
}

function statError(errno: number, syscall: string, file: string | number): Error {
  const path = typeof file === 'string' ? file : undefined;
  const which = path === undefined ? `descriptor ${file}` : `'${path}'`;
  return systemError(errno, syscall, `asking what direct I/O on ${which} needs`, '', path);
}

/** Whether the file system says that it has no direct I/O for this file. Some that have none take O_DIRECT all the same. */
export function deniesDirect(fd: number): boolean {
  const { native } = loadNative();
  const into = new Uint8Array(abi.STATX_SIZE);
  const mask = abi.STATX_BASIC_STATS | abi.STATX_DIOALIGN;
  if (native === undefined || native.statx(fd, Buffer.from('\0'), abi.AT_EMPTY_PATH, mask, into) < 0) return false;
  const stat = new DataView(into.buffer);
  const says = (stat.getUint32(abi.STX_MASK, true) & abi.STATX_DIOALIGN) !== 0;
  return says && stat.getUint32(abi.STX_DIO_OFFSET_ALIGN, true) === 0;
}

const SEEK_CUR = 1;

/** Not a pipe, a socket or a terminal. Without the shim nobody can be asked, and pread(2) refuses those anyhow. */
export function hasPositions(fd: number): boolean {
  const { native } = loadNative();
  return native === undefined || native.seek(fd, 0, SEEK_CUR) >= 0;
}

/** Whether this descriptor is open with O_DIRECT. Without the shim /proc is read: for error messages, not for the hot path. */
export function isDirect(fd: number): boolean {
  if (constants.O_DIRECT === undefined) return false; // macOS, Windows
  const { native } = loadNative();
  if (native !== undefined) {
    const flags = native.statusFlags(fd);
    return flags >= 0 && (flags & constants.O_DIRECT) !== 0;
  }
  try {
    const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
    return flags !== undefined && (Number.parseInt(flags, 8) & constants.O_DIRECT) !== 0;
  } catch {
    return false;
  }
}
