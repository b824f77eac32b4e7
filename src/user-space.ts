/**
 * File systems that are processes (FUSE, and virtiofs, which is the same to the kernel). Two things are wrong with io_uring and files that
 * such a process has opened for direct I/O (FOPEN_DIRECT_IO), both seen on Linux 6.18:
 *
 * A short answer, as at the end of a file, is gone on from by io_uring itself (io_read, io_write, io_uring/rw.c), at the position that the
 * file system is to have moved. fuse_direct_IO (fs/fuse/file.c) moves its own copy. So the same bytes are read again, until the
 * buffer is full: a read of 8,192 bytes, 1,000 before the end, gives 8,192. And the rest of a write goes to the beginning of its place.
 *
 * And io_uring_enter(2) waits for the answer, which may never come, although it was told not to; as io_submit(2) does anyway.
 */
import { readFileSync } from 'node:fs';
import * as abi from './abi/statx.ts';
import { loadNative } from './native.ts';

/** What is known of mounts, by their unique number. There are few, and of few kinds. */
const known = new Map<number, boolean>();

const into = new Uint8Array(abi.STATX_SIZE);
const stat = new DataView(into.buffer);
const NO_PATH = Uint8Array.of(0);
const HOW = abi.AT_EMPTY_PATH | abi.AT_STATX_DONT_SYNC;

/** Whether a process answers for this file. Asks the kernel only, never that process. About a microsecond, but for new mounts. */
export function isInUserSpace(fd: number): boolean {
  const { native } = loadNative();
  if (native === undefined || native.statx(fd, NO_PATH, HOW, abi.STATX_MNT_ID_UNIQUE, into) < 0) return false;
  const major = stat.getUint32(abi.STX_DEV_MAJOR, true);
  const minor = stat.getUint32(abi.STX_DEV_MINOR, true);
  if ((stat.getUint32(abi.STX_MASK, true) & abi.STATX_MNT_ID_UNIQUE) === 0) return isMountedFromUserSpace(major, minor);
  const mount = stat.getUint32(abi.STX_MNT_ID, true) + stat.getUint32(abi.STX_MNT_ID + 4, true) * 2 ** 32;
  let found = known.get(mount);
  if (found === undefined) {
    found = isMountedFromUserSpace(major, minor);
    known.set(mount, found);
  }
  return found;
}

/** Looks for the device among all mounts: see proc_pid_mountinfo(5). */
function isMountedFromUserSpace(major: number, minor: number): boolean {
  let mounts: string;
  try {
    mounts = readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return false;
  }
  return new RegExp(`^\\d+ \\d+ ${major}:${minor} .* - (?:fuse|fuseblk|virtiofs)(?:\\.\\S+)? `, 'm').test(mounts);
}
