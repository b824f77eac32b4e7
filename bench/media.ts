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
const TMPFS = '/dev/shm';

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

/** Written in full: holes would be read without touching the device. */
function makeFile(directory: string, mebibytes: number): string {
  const path = join(directory, `fileaio-bench-${process.pid}`);
  const fd = fs.openSync(path, 'wx', 0o600);
  try {
    for (let index = 0; index < mebibytes; index++) fs.writeSync(fd, randomBytes(MIB));
    fs.fsyncSync(fd);
  } catch (error) {
    fs.unlinkSync(path);
    throw error;
  } finally {
    fs.closeSync(fd);
  }
  return path;
}

/** Opens a file and removes its name; the path returned leads to it for as long as it is open here. */
function openUnlinked(path: string): { path: string; close: () => void } {
  try {
    const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_DIRECT);
    return { path: `/proc/${process.pid}/fd/${fd}`, close: () => fs.closeSync(fd) };
  } finally {
    fs.unlinkSync(path);
  }
}

function tmpfs(mebibytes: number): Medium {
  return { name: 'tmpfs', title: `tmpfs (${TMPFS})`, ...openUnlinked(makeFile(TMPFS, mebibytes)) };
}

function disk(mebibytes: number): Medium {
  const directory = tmpdir();
  const kind = fileSystemOf(directory);
  if (kind === 'tmpfs') throw new Error('the directory for temporary files is a tmpfs: set TMPDIR to one on a disk');
  return { name: 'disk', title: `file on ${kind}`, ...openUnlinked(makeFile(directory, mebibytes)) };
}

const CACHE_DEPTHS = [32];

function hot(mebibytes: number): Medium {
  const file = disk(mebibytes); // writing it has left all of it in the page cache
  return { ...file, name: 'hot', title: `${file.title}, all in the page cache`, buffered: true, depths: CACHE_DEPTHS };
}

/** Of the blocks, so many are read: few enough that almost each is read for the first time. */
const COLD_PART = 1 / 4;

function cold(mebibytes: number): Medium {
  const file = disk(mebibytes);
  return {
    ...file,
    name: 'cold',
    title: `${file.title}, nothing in the page cache`,
    buffered: true,
    before: () => {
      const { status, stderr } = spawnSync('dd', [`if=${file.path}`, 'iflag=nocache', 'count=0'], { encoding: 'utf8' });
      if (status !== 0) throw new Error(`dd cannot empty the page cache: ${stderr}`);
    },
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
