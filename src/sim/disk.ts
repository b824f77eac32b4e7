/** The simulated disk as programs see it: a small file system in memory, an engine for contexts, and FileHandles. */
import { constants, type Mode, type OpenMode } from 'node:fs';
import { types } from 'node:util';
import { SEEK_CUR, SEEK_SET } from '../abi/file.ts';
import type { Alignment } from '../alignment.ts';
import { locate, located } from '../buffer.ts';
import { DRIVER, type EngineDriver, type EngineSource } from '../engine.ts';
import { simulated } from '../engines/simulated.ts';
import { checkFd, checkInteger, errnoOf, invalidArgType, invalidArgValue, nodeError, systemError } from '../errors.ts';
import { FileHandle, type HandleCore } from '../file.ts';
import { numericFlags } from '../file-arguments.ts';
import { type Descriptors, OpenFile } from '../open-file.ts';
import { Device, type Opening, type PowerLoss, type SimulatedEvent } from './device.ts';
import { type Inode, Names, SimulatedDirectory } from './names.ts';
import { microseconds, type SimulatedDiskOptions, settingsOf } from './options.ts';
import type { SimulatedRandom } from './random.ts';
import { SimulatedFile } from './simulated-file.ts';
import { SimulatedStats } from './stats.ts';

/** How {@link SimulatedDisk.open} opens a file, beyond Node's flags and mode. */
export interface SimulatedOpenOptions {
  /** As `node:fs` has them; default `'r'`. */
  readonly flags?: OpenMode | undefined;
  /** Of a file that is created; default 0o666. */
  readonly mode?: Mode | undefined;
  /** With O_DIRECT: positions and lengths are multiples of the sector size. Default `false`. */
  readonly direct?: boolean | undefined;
}

const EISDIR = errnoOf('EISDIR', 21);
const EINVAL = errnoOf('EINVAL', 22);

/** Not every platform has every flag. */
function has(flags: number, flag: number | undefined): boolean {
  return flag !== undefined && (flags & flag) !== 0;
}

function checkPath(path: unknown, name = 'path'): string {
  if (typeof path !== 'string') throw invalidArgType(name, 'of type string', path);
  if (path.includes('\0')) throw invalidArgValue(name, 'must not contain null bytes');
  return Names.normalize(path);
}

function modeOf(mode: Mode | null | undefined, fallback: number): number {
  if (mode === undefined || mode === null) return fallback;
  return checkInteger('mode', typeof mode === 'string' ? Number.parseInt(mode, 8) : mode, 0, 0xffffffff) & 0o7777;
}

function openingOf(given: OpenMode | SimulatedOpenOptions | null | undefined, mode: Mode | null | undefined): Opening {
  const options: SimulatedOpenOptions =
    typeof given === 'object' && given !== null ? given : { flags: given ?? undefined, mode: mode ?? undefined };
  const { direct = false } = options;
  if (typeof direct !== 'boolean') throw invalidArgType('options.direct', 'of type boolean', direct);
  const flags = numericFlags(options.flags);
  if (flags === undefined) throw invalidArgValue('flags', 'is invalid', options.flags);
  const access = flags & (constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR);
  return {
    reads: access !== constants.O_WRONLY,
    writes: access !== constants.O_RDONLY,
    creates: has(flags, constants.O_CREAT),
    exclusive: has(flags, constants.O_EXCL),
    truncates: has(flags, constants.O_TRUNC),
    appends: has(flags, constants.O_APPEND),
    direct: direct || has(flags, constants.O_DIRECT),
    sync: has(flags, constants.O_SYNC) || has(flags, constants.O_DSYNC),
    mode: modeOf(options.mode, 0o666),
  };
}

/**
 * A disk in memory, with a file system on it, whose time, faults and losses of power a seed decides. Make one with
 * {@link createSimulatedDisk}.
 *
 * Give it to a context as its `engine`, with descriptors from {@link SimulatedDisk.openSync}, or {@link SimulatedDisk.open} a FileHandle.
 * Functions whose names end in `Sync` take no time and have no faults. Nothing here touches a real file, and numbers of descriptors from
 * here mean nothing (`EBADF`) to the kernel and to other engines, as the kernel's do here.
 *
 * What a power loss leaves:
 *
 * - Data that a flush (fsync, fdatasync) covered: all that had completed before the flush was submitted, once the flush has succeeded.
 * - Of every other write, any of its sectors; a sector is whole. Later writes can be there without earlier ones.
 * - The size: one that the file had since its last flush. Where it grew without its data, there are zeros.
 * - Names: made, renamed and removed in order and atomically. What was done since the last flush of the directory may be lost, the latest
 *   first. Flushing a file does not flush its name.
 * - After a flush that failed, what it was to cover counts as flushed without being it, as on Linux.
 *
 * fsync and fdatasync promise the same: times and permissions are not lost here.
 *
 * @example
 * ```ts
 * import { AioContext, AioRequest } from 'fileaio';
 * import { createSimulatedDisk } from 'fileaio/sim';
 *
 * const disk = createSimulatedDisk({ seed: 1, latency: { read: 8 }, errors: { read: 0.5 } });
 * disk.install('/data', Buffer.alloc(65536, 1)); // as if it had always been there
 * await using context = new AioContext({ maxRequests: 16, engine: disk });
 * const fd = disk.openSync('/data');
 * context.submit(Array.from({ length: 16 }, (_, i) => new AioRequest().prepareRead(fd, i * 4096, Buffer.alloc(4096))));
 * const { completed } = await context.wait({ min: 16 });
 * const failed = completed.filter(({ status }) => status === 'EIO').length;
 * console.log(failed > 0 && failed < 16, disk.nowMs >= 8); // => true true
 * disk.closeSync(fd);
 * ```
 */
export class SimulatedDisk implements EngineSource {
  /** @internal */
  readonly [DRIVER]: EngineDriver;
  readonly #device: Device;
  /** What handles stand on. */
  readonly #source: EngineSource & Descriptors;

  /** Use {@link createSimulatedDisk}. */
  constructor(options: SimulatedDiskOptions) {
    const device = new Device(settingsOf(options));
    this.#device = device;
    this[DRIVER] = simulated(device, (path) => this.#alignmentOf(path));
    this.#source = {
      [DRIVER]: this[DRIVER],
      seek: (fd, offset, whence) => seek(device, fd, offset, whence),
      alignmentOf: () => device.alignment,
      reopen: async () => undefined,
      setDirect: (fd, direct) => {
        if (!device.isOpen(fd)) return false;
        device.descriptor(fd, 'fcntl').direct = direct;
        return true;
      },
    };
  }

  #alignmentOf(path: string): Alignment {
    const checked = checkPath(path);
    try {
      this.#device.names.need(checked, 'statx');
    } catch (error) {
      // A question of this library, not of node:fs: it fails as it does on this machine's files.
      const errno = error instanceof Error && 'errno' in error ? error.errno : undefined;
      if (typeof errno !== 'number') throw error;
      throw systemError(errno, 'statx', `asking what direct I/O on '${path}' needs`);
    }
    return this.#device.alignment;
  }

  /** Virtual time in milliseconds: 0 when the disk is made. Passes while somebody waits, and only then. */
  get nowMs(): number {
    return this.#device.nowMs;
  }

  /** Bytes that go to the medium as one. */
  get sectorSize(): number {
    return this.#device.settings.sectorSize;
  }

  /** Requests that are submitted and have not completed. */
  get pending(): number {
    return this.#device.pending;
  }

  /** Random numbers of this disk's seed for the program's own choices, so that one seed decides all of a test. */
  get random(): SimulatedRandom {
    return this.#device.random;
  }

  /** What happened so far, as plain data: the latest of it, as many events as `logLimit` says. A copy. */
  get log(): readonly SimulatedEvent[] {
    return [...this.#device.log];
  }

  /**
   * Lets so much virtual time pass, in milliseconds; other things happen meanwhile. Keeps the process alive.
   *
   * @example
   * ```ts
   * import { createSimulatedDisk } from 'fileaio/sim';
   *
   * const disk = createSimulatedDisk({ seed: 1 });
   * await disk.sleep(3_600_000); // an hour, at once
   * console.log(disk.nowMs); // => 3600000
   * ```
   */
  sleep(ms: number): Promise<void> {
    const us = microseconds('ms', ms);
    return new Promise((resolve) => this.#device.timeline.after(us, resolve));
  }

  /**
   * Opens a file as a FileHandle, with all its methods; its calls are requests to this disk, and take their time. A directory can be opened to be
   * flushed.
   *
   * @throws (as a rejection) `ENOENT`, `EEXIST`, `EISDIR`, `ENOTDIR`, TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`.
   */
  async open(path: string, flags?: OpenMode | SimulatedOpenOptions | null, mode?: Mode | null): Promise<FileHandle> {
    const opening = openingOf(flags, mode);
    const fd = this.#device.open(checkPath(path), opening);
    const { direct, appends } = opening;
    return new FileHandle(
      new Core(this.#device, fd),
      new OpenFile(fd, { direct, append: appends, source: this.#source }),
    );
  }

  /**
   * Opens a file and returns its descriptor, for requests on contexts of this disk. Each open gives a number that was never used before.
   *
   * @throws as {@link SimulatedDisk.open} rejects.
   */
  openSync(path: string, flags?: OpenMode | SimulatedOpenOptions | null, mode?: Mode | null): number {
    return this.#device.open(checkPath(path), openingOf(flags, mode));
  }

  /** Closes a descriptor of {@link SimulatedDisk.openSync}. Requests that are under way go on. @throws `EBADF`. */
  closeSync(fd: number): void {
    this.#device.close(checkFd(fd));
  }

  /**
   * Sets the size; durable like a write, when it is flushed.
   *
   * @throws `EBADF`, `EINVAL`, `EFBIG`.
   *
   * @example
   * ```ts
   * import { createSimulatedDisk } from 'fileaio/sim';
   *
   * const disk = createSimulatedDisk({ seed: 1 });
   * const fd = disk.openSync('/file', 'w');
   * disk.ftruncateSync(fd, 4096);
   * console.log(disk.statSync('/file').size, disk.readFileSync('/file')[0]); // => 4096 0
   * ```
   */
  ftruncateSync(fd: number, length = 0): void {
    this.#device.truncate(checkFd(fd), checkInteger('length', length, 0, Number.MAX_SAFE_INTEGER));
  }

  /** Makes a directory; durable when the one that it is in is flushed. @throws `EEXIST`, `ENOENT`, `ENOTDIR`. */
  mkdirSync(path: string, mode?: Mode): void {
    this.#device.makeDirectory(checkPath(path), modeOf(mode, 0o777));
  }

  /** The names in a directory, sorted. @throws `ENOENT`, `ENOTDIR`. */
  readdirSync(path: string): string[] {
    return this.#device.names.list(checkPath(path));
  }

  /**
   * Atomic, also when power is lost: the target is there all the time, the old one or the new.
   *
   * @throws `ENOENT`, `EISDIR`, …
   *
   * @example
   * ```ts
   * import { createSimulatedDisk } from 'fileaio/sim';
   *
   * const disk = createSimulatedDisk({ seed: 1 });
   * disk.mkdirSync('/db');
   * disk.install('/db/new', 'hello');
   * disk.renameSync('/db/new', '/db/data');
   * console.log(disk.readdirSync('/db'), disk.existsSync('/db/new')); // => [ 'data' ] false
   * disk.unlinkSync('/db/data');
   * disk.rmdirSync('/db');
   * ```
   */
  renameSync(oldPath: string, newPath: string): void {
    const from = checkPath(oldPath, 'oldPath');
    const to = checkPath(newPath, 'newPath');
    this.#device.names.rename(from, to);
    this.#device.note('rename', from, `to ${to}`);
  }

  /** Takes a file's name away. Descriptors keep it. @throws `ENOENT`, `EISDIR`. */
  unlinkSync(path: string): void {
    const at = checkPath(path);
    this.#device.names.remove(at, false, 'unlink');
    this.#device.note('unlink', at);
  }

  /** Removes an empty directory. @throws `ENOENT`, `ENOTDIR`, `ENOTEMPTY`. */
  rmdirSync(path: string): void {
    const at = checkPath(path);
    this.#device.names.remove(at, true, 'rmdir');
    this.#device.note('rmdir', at);
  }

  /** Whether a file or directory has this name now. @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`. */
  existsSync(path: string): boolean {
    return this.#device.names.get(checkPath(path)) !== undefined;
  }

  /** Size, mode and times, which are virtual, from 1970 on. @throws `ENOENT`. */
  statSync(path: string): SimulatedStats {
    return statsOf(this.#device, this.#device.names.need(checkPath(path), 'stat'));
  }

  /** What reads would see, past all faults. @throws `ENOENT`, `EISDIR`. */
  readFileSync(path: string): Buffer {
    const file = this.#device.names.need(checkPath(path), 'open');
    if (!(file instanceof SimulatedFile)) throw nodeError(-EISDIR, 'read');
    const bytes = Buffer.alloc(file.size);
    file.read(0, bytes);
    return bytes;
  }

  /**
   * Makes a file, and the directories on the way to it, as if they had always been there: flushed, names and all. For what a test begins
   * with.
   *
   * @throws `EEXIST`, `ENOTDIR`, TypeError `ERR_INVALID_ARG_TYPE`.
   */
  install(path: string, data: string | ArrayBufferView): void {
    this.#device.plant(checkPath(path), bytesOf(data));
  }

  /**
   * Makes the sectors that hold these bytes unreadable (`EIO`), until they are written again.
   *
   * @throws `ENOENT`, `EISDIR`.
   *
   * @example
   * ```ts
   * import { createSimulatedDisk } from 'fileaio/sim';
   *
   * const disk = createSimulatedDisk({ seed: 1 });
   * disk.install('/data', Buffer.alloc(8192));
   * disk.breakSectors('/data', 4096, 1);
   * const handle = await disk.open('/data', 'r+');
   * await handle.read(Buffer.alloc(512), 0, 512, 4096).catch(({ code }) => console.log(code)); // => EIO
   * await handle.write(Buffer.alloc(512, 1), 0, 512, 4096); // a disk puts another sector in its place
   * console.log((await handle.read(Buffer.alloc(512), 0, 512, 4096)).bytesRead); // => 512
   * ```
   */
  breakSectors(path: string, position: number, length: number): void {
    const file = this.#device.names.need(checkPath(path), 'open');
    if (!(file instanceof SimulatedFile)) throw nodeError(-EISDIR, 'open', path);
    checkInteger('position', position, 0, Number.MAX_SAFE_INTEGER);
    file.spoil(position, checkInteger('length', length, 0, Number.MAX_SAFE_INTEGER));
  }

  /**
   * The power goes, and comes back: files and names are what of them is on the medium, and that is certain from here on. Every descriptor is closed
   * (`EBADF`), handles are, too; requests under way end with `EIO`, their writes may have got to the medium, or parts of them. Contexts can go
   * on with new descriptors.
   *
   * @returns what became of the writes and names that no flush had covered.
   *
   * @example
   * ```ts
   * import { createSimulatedDisk } from 'fileaio/sim';
   *
   * const disk = createSimulatedDisk({ seed: 1 });
   * disk.install('/data', Buffer.alloc(4096));
   * const handle = await disk.open('/data', 'r+');
   * await handle.write(Buffer.alloc(512, 1), 0, 512, 0);
   * await handle.sync();
   * await handle.write(Buffer.alloc(512, 2), 0, 512, 0);
   * disk.powerLoss();
   * console.log(disk.readFileSync('/data')[0] !== 0); // => true
   * await handle.sync().catch(({ code }) => console.log(code)); // => EBADF
   * ```
   */
  powerLoss(): PowerLoss {
    return this.#device.losePower();
  }
}

/**
 * Makes a disk in memory whose time and faults are simulated, to find out what a program makes of them: see {@link SimulatedDisk}. The same
 * seed gives the same run, byte for byte, on every platform, as long as the program asks for the same in the same order.
 *
 * Costs the memory of what is in its files, twice (as it is, and as it is on the medium), and once more for what no flush has covered.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`; RangeError `ERR_OUT_OF_RANGE`.
 *
 * @example
 * ```ts
 * import { createSimulatedDisk } from 'fileaio/sim';
 *
 * const disk = createSimulatedDisk({ seed: 1, tornWrites: 0.01 });
 * const log = await disk.open('/log', 'w+');
 * await log.write(Buffer.from('hello'));
 * disk.powerLoss(); // nothing flushed it: the file may be empty, or not be there at all
 * console.log(disk.readdirSync('/').length <= 1); // => true
 * ```
 */
export function createSimulatedDisk(options: SimulatedDiskOptions): SimulatedDisk {
  return new SimulatedDisk(options);
}

function seek(device: Device, fd: number, offset: number, whence: number): number {
  if (!device.isOpen(fd)) return -errnoOf('EBADF', 9);
  const descriptor = device.descriptor(fd, 'lseek');
  const size = descriptor.inode instanceof SimulatedFile ? descriptor.inode.size : 0;
  const from = whence === SEEK_SET ? 0 : whence === SEEK_CUR ? descriptor.position : size;
  if (from + offset < 0) return -EINVAL;
  descriptor.position = from + offset;
  return descriptor.position;
}

function bytesOf(data: unknown): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  locate('data', data as ArrayBufferView);
  return new Uint8Array(located.memory.store, located.offset, located.length);
}

function statsOf(device: Device, inode: Inode): SimulatedStats {
  const isDirectory = inode instanceof SimulatedDirectory;
  const { sectorSize } = device.settings;
  return new SimulatedStats({
    inode: inode.id,
    isDirectory,
    permissions: inode.mode,
    size: isDirectory ? 0 : inode.size,
    allocated: isDirectory ? 0 : inode.allocated * sectorSize,
    changedMs: inode.changedMs,
  });
}

/** The part of a handle that is not about data. */
class Core implements HandleCore {
  readonly fd: number;
  readonly #device: Device;

  constructor(device: Device, fd: number) {
    this.#device = device;
    this.fd = fd;
  }

  #inode(syscall: string): Inode {
    return this.#device.descriptor(this.fd, syscall).inode;
  }

  async close(): Promise<void> {
    // When the power went, it was closed.
    if (this.#device.isOpen(this.fd)) this.#device.close(this.fd);
  }

  async stat(options?: { bigint?: boolean | undefined }): Promise<never> {
    const stats = statsOf(this.#device, this.#inode('fstat'));
    return (options?.bigint === true ? stats.toBigInt() : stats) as never;
  }

  async truncate(length = 0): Promise<void> {
    this.#device.truncate(this.fd, Math.max(0, checkInteger('len', length, -(2 ** 53) + 1, 2 ** 53 - 1)));
  }

  async chmod(mode: Mode): Promise<void> {
    this.#inode('fchmod').mode = modeOf(mode, 0);
  }

  async chown(): Promise<void> {
    this.#inode('fchown');
  }

  async utimes(_atime: unknown, mtime: string | number | Date): Promise<void> {
    if (typeof mtime !== 'number' && typeof mtime !== 'string' && !types.isDate(mtime)) {
      throw invalidArgType('mtime', 'of type number, string or an instance of Date', mtime);
    }
    const changedMs = types.isDate(mtime) ? mtime.getTime() : Number(mtime) * 1000;
    this.#inode('futimes').changedMs = changedMs;
  }
}
