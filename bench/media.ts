/**
 * What is read from. Each medium is set up such that the kernel takes it away by itself when this process ends, even
 * when it is killed: files are unlinked at once and reached through the open descriptor, and the loop device is
 * told to detach at its last close.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { onExit } from './cleanup.ts';

export interface Medium {
  readonly name: MediumName;
  /** What it is, for people. */
  readonly title: string;
  /** Other processes open it under this name. */
  readonly path: string;
  /** Through the page cache. */
  readonly buffered?: boolean;
  /** Is done before each program. */
  readonly before?: () => void;
  /** Where the medium changes as it is read: how many reads to measure, instead of for how long. */
  readonly transfers?: number;
  /** The only depths to measure at. */
  readonly depths?: readonly number[];
  close(): void;
}

const MIB = 1024 * 1024;
/** A directory in memory. */
export const TMPFS = '/dev/shm';

const FILE_SYSTEMS = new Map([
  [0xef53, 'ext4'],
  [0x58465342, 'xfs'],
  [0x9123683e, 'btrfs'],
  [0x01021994, 'tmpfs'],
  [0x794c7630, 'overlayfs'],
]);

function fileSystemOf(directory: string): string {
  const { type } = fs.statfsSync(directory);
  return FILE_SYSTEMS.get(type) ?? `file system type 0x${type.toString(16)}`;
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB'];

function sizeInWords(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1);
  return `${(bytes / 1024 ** power).toFixed(1)} ${UNITS[power]}`;
}

/** Beside what is to be written. */
const MARGIN = 512 * MIB;

/** Throws unless there is room for so many bytes, in the directory and in memory: the page cache is to have them as well. */
export function checkRoom(directory: string, bytes: number): void {
  const { bavail, bsize } = fs.statfsSync(directory);
  const needed = bytes + MARGIN;
  for (const [free, where] of [
    [bavail * bsize, `in ${directory}`],
    [process.availableMemory(), 'in memory'],
  ] as const) {
    if (free >= needed) continue;
    throw new Error(`there is room for ${sizeInWords(free)} ${where}, and ${sizeInWords(needed)} are needed`);
  }
}

/** Fills a file with random bytes, in full: holes would be read without touching the device. */
export function writeRandom(fd: number, mebibytes: number): void {
  for (let index = 0; index < mebibytes; index++) fs.writeSync(fd, randomBytes(MIB));
  fs.fsyncSync(fd);
}

function makeFile(directory: string, mebibytes: number): string {
  const path = join(directory, `fileaio-bench-${process.pid}`);
  const fd = fs.openSync(path, 'wx', 0o600);
  try {
    writeRandom(fd, mebibytes);
  } catch (error) {
    fs.unlinkSync(path);
    throw error;
  } finally {
    fs.closeSync(fd);
  }
  return path;
}

/** A file without a name. */
export interface Unlinked {
  /** Leads to it, for as long as it is open here. */
  readonly path: string;
  readonly fd: number;
  close(): void;
}

/** Opens a file and removes its name; the path returned leads to it for as long as it is open here. */
function openUnlinked(path: string, flags = fs.constants.O_RDONLY | fs.constants.O_DIRECT): Unlinked {
  try {
    const fd = fs.openSync(path, flags);
    return { path: `/proc/${process.pid}/fd/${fd}`, fd, close: () => fs.closeSync(fd) };
  } finally {
    fs.unlinkSync(path);
  }
}

/** A file of random bytes, to be read, written and truncated. */
export function scratchFile(directory: string, mebibytes: number): Unlinked {
  return openUnlinked(makeFile(directory, mebibytes), fs.constants.O_RDWR);
}

function tmpfs(mebibytes: number): Medium {
  return { name: 'tmpfs', title: `tmpfs (${TMPFS})`, ...openUnlinked(makeFile(TMPFS, mebibytes)) };
}

/** Where files on a disk go, and what it is. */
export function diskDirectory(): { directory: string; kind: string } {
  const directory = tmpdir();
  const kind = fileSystemOf(directory);
  if (kind === 'tmpfs') throw new Error('the directory for temporary files is a tmpfs: set TMPDIR to one on a disk');
  return { directory, kind };
}

function disk(mebibytes: number): Medium {
  const { directory, kind } = diskDirectory();
  return { name: 'disk', title: `file on ${kind}`, ...openUnlinked(makeFile(directory, mebibytes)) };
}

const CACHE_DEPTHS = [32];

function hot(mebibytes: number): Medium {
  const file = disk(mebibytes); // writing it has left all of it in the page cache
  return { ...file, name: 'hot', title: `${file.title}, all in the page cache`, buffered: true, depths: CACHE_DEPTHS };
}

/** Of the blocks, so many are read: few enough that almost each is read for the first time. */
const COLD_PART = 1 / 4;

/** Takes a file out of the page cache. What is not on the disk yet stays. */
export function dropCache(path: string): void {
  const { status, stderr } = spawnSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0'], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`dd cannot empty the page cache: ${stderr}`);
}

function cold(mebibytes: number): Medium {
  const file = disk(mebibytes);
  return {
    ...file,
    name: 'cold',
    title: `${file.title}, nothing in the page cache`,
    buffered: true,
    before: () => dropCache(file.path),
    transfers: (mebibytes * MIB * COLD_PART) / 4096,
    depths: CACHE_DEPTHS,
  };
}

function losetup(...args: string[]): string {
  const { error, status, stdout, stderr } = spawnSync('losetup', args, { encoding: 'utf8' });
  if (error !== undefined) throw new Error(`losetup does not run: ${error.message}`);
  if (status !== 0) throw new Error(stderr.trim() || `losetup ended with status ${status}`);
  return stdout.trim();
}

function loop(mebibytes: number): Medium {
  if (process.getuid?.() !== 0) throw new Error('setting up a loop device needs root');
  const backing = makeFile(TMPFS, mebibytes);
  let device = '';
  const detach = onExit(() => void (device !== '' && losetup('--detach', device)));
  try {
    device = losetup('--find', '--show', '--direct-io=on', backing);
    const fd = fs.openSync(device, fs.constants.O_RDONLY | fs.constants.O_DIRECT);
    detach(); // in use, so that it takes effect at the last close
    const direct = fs.readFileSync(`/sys/block/${basename(device)}/loop/dio`, 'utf8').trim() === '1';
    const title = `loop device over a file on tmpfs, ${direct ? 'direct' : 'BUFFERED'} I/O to it`;
    return { name: 'loop', title, path: device, close: () => fs.closeSync(fd) };
  } catch (error) {
    detach();
    throw error;
  } finally {
    fs.unlinkSync(backing);
  }
}

/** In the order of the report. */
export const media = { tmpfs, loop, disk, hot, cold };

export type MediumName = keyof typeof media;
