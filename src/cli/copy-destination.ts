/** Where a copy goes: a new file that takes the place of another in one step, or a device that is written as it is. */
import { randomBytes } from 'node:crypto';
import {
  accessSync,
  type BigIntStats,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fdatasync,
  fstatSync,
  fsync,
  ftruncateSync,
  futimesSync,
  linkSync,
  lstatSync,
  openSync,
  realpathSync,
  renameSync,
  type Stats,
  statfsSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { alignmentOf } from '../alignment.ts';
import { nodeError } from '../errors.ts';
import { loadNative } from '../native.ts';
import type { Side } from './copy-blocks.ts';
import { isInMemory } from './copy-cached.ts';
import { type Needs, reopenDirect, type Source, transferReason } from './copy-source.ts';
import { Directory } from './directory.ts';
import { deviceSize } from './medium.ts';
import { formatSize } from './sizes.ts';
import { CliError, codeOf, EXIT_IO, ioError, quote, reasonOf, usageError } from './usage.ts';

const fsyncAsync = promisify(fsync);
const fdatasyncAsync = promisify(fdatasync);

/** What a temporary file is called, before 24 random digits. A dot first: it is no file of the user's. */
export const TEMPORARY = '.fileaio-copy-';

/** What DST was found to be. */
export interface Place {
  /** As the user called it, for messages. */
  readonly name: string;
  /** With links followed: what is made, replaced or written. */
  readonly path: string;
  readonly kind: 'file' | 'block device' | 'character device';
  /** The file that is there now. */
  readonly replaces: Stats | undefined;
  /** Which device, of those. */
  readonly device: bigint | undefined;
}

/** Follows links as open(2) does; `undefined` where nothing is there. */
function look(name: string): BigIntStats | undefined {
  try {
    return statSync(name, { bigint: true });
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw ioError(`cannot look at ${quote(name)}`, error, 'Name a file in a directory that you can reach');
  }
}

/**
 * Finds out what DST is, and refuses what must not be written to. Changes nothing.
 *
 * @throws CliError
 */
export function findPlace(name: string, source: Source, force: boolean): Place {
  const found = look(name);
  if (found === undefined) return { name, path: newPath(name), kind: 'file', replaces: undefined, device: undefined };
  if (source.is(found)) {
    throw usageError(`${quote(source.name)} and ${quote(name)} are the same file. Name another DST`);
  }
  if (found.isDirectory()) {
    const inside = join(name, basename(source.name));
    throw new CliError(EXIT_IO, `${quote(name)} is a directory. Name the file in it, such as ${quote(inside)}`);
  }
  if (found.isFile()) {
    if (!force) throw usageError(`${quote(name)} exists. If it is to be replaced, add --force`);
    return { name, path: pathOf(name), kind: 'file', replaces: statSync(name), device: undefined };
  }
  const kind = found.isBlockDevice() ? 'block device' : 'character device';
  if (!found.isBlockDevice() && !found.isCharacterDevice()) {
    throw new CliError(EXIT_IO, `${quote(name)} is neither a file nor a device. Name one that is, or a new file`);
  }
  if (!force) {
    throw usageError(
      `${quote(name)} is a ${kind}, and what is on it would be overwritten. If that is meant, add --force`,
    );
  }
  return { name, path: name, kind, replaces: undefined, device: found.rdev };
}

function newPath(name: string): string {
  if (name.endsWith('/')) {
    throw new CliError(EXIT_IO, `no such directory: ${quote(name)}. Make it first, and name the file in it`);
  }
  try {
    if (lstatSync(name, { throwIfNoEntry: false }) !== undefined) {
      throw new CliError(
        EXIT_IO,
        `${quote(name)} is a symbolic link to a file that does not exist. Remove the link, or name that file`,
      );
    }
    accessSync(dirname(name));
    return pathOf(name);
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw ioError(
      `cannot make ${quote(name)}`,
      error,
      'Name a file in a directory that exists and that you can write to',
    );
  }
}

/**
 * With links followed, as far as it exists. Where the way there cannot be written down (it is not UTF-8, or is longer than any path may be) it stays as
 * it was given: names in the directory that this process is in work all the same.
 */
export function pathOf(name: string): string {
  try {
    return realpathSync(name);
  } catch {
    return join(realDirectory(dirname(name)), basename(name));
  }
}

function realDirectory(name: string): string {
  try {
    return realpathSync(name);
  } catch {
    return name;
  }
}

/** How the new file is to be, besides its bytes. */
export interface Settling {
  readonly source: Source;
  /** All that SRC has: mode, times, and owner where permitted. */
  readonly preserve: boolean;
  /** Whether it takes the place of whatever has its name by then. */
  readonly force: boolean;
  /** The last look before there is no way back. What it throws leaves DST as it was. */
  readonly check: () => void;
}

/** A DST under way. */
export interface Destination {
  readonly place: Place;
  /** Whether its file system is nothing but page cache. */
  readonly inMemory: boolean;
  /** Through the page cache: for tails that are no whole sector, and where there is nothing else. */
  readonly fd: number;
  /** Opens it past the page cache as well. @returns why not. */
  openDirect(): string | undefined;
  /** How transfers write it. */
  side(direct: boolean): Side;
  /** @throws AioError */
  needs(): Needs;
  /**
   * Gives it its length, or refuses one that it cannot have. `data`: how much of it takes room on the disk; `undefined` where nobody
   * knows. @throws CliError
   */
  resize(size: number, data: number | undefined): void;
  /** Until here nothing is lost by a crash. @throws CliError */
  flush(): Promise<void>;
  /** From here on it is DST. @throws CliError */
  settle(settling: Settling): Promise<void>;
  /** What is left of DST if it ends now: a sentence. */
  fate(): string;
  /** Opened anew for reading: past the page cache, or through it with the reason. */
  reader(): { side: Side; whyCached: string | undefined };
  /** Removes what is not DST by now. @returns what could not be removed, and what to do about it: a sentence. */
  close(): string | undefined;
}

/** @throws CliError */
export function openDestination(place: Place): Destination {
  return place.kind === 'file' ? new NewFile(place) : new Device(place);
}

/** What both kinds do with their descriptors. */
abstract class Opened {
  readonly place: Place;
  readonly fd: number;
  #direct: number | undefined;
  #reader: number | undefined;
  #needed: number | undefined;
  #free: number | undefined;

  constructor(place: Place, fd: number) {
    this.place = place;
    this.fd = fd;
  }

  get inMemory(): boolean {
    return this.place.kind === 'file' && isInMemory(dirname(this.place.path));
  }

  openDirect(): string | undefined {
    if (this.#direct !== undefined) return undefined;
    const opened = reopenDirect(this.fd, constants.O_WRONLY);
    if ('why' in opened) return opened.why;
    this.#direct = opened.fd;
    return undefined;
  }

  side(direct: boolean): Side {
    const fd = direct ? this.#direct : this.fd;
    return {
      fd: fd ?? this.fd,
      direct: direct && fd !== undefined,
      failed: (position, error) => this.#writeFailed(`at byte ${position}`, error),
    };
  }

  needs(): Needs {
    return alignmentOf(this.fd);
  }

  /** From here on, an error that says that the disk is full can say how much was needed. */
  protected expect(data: number | undefined): void {
    this.#needed = data;
    if (this.place.kind !== 'file') return;
    try {
      const { bavail, bsize } = statfsSync(dirname(this.place.path));
      this.#free = bavail * bsize;
    } catch {
      this.#free = undefined;
    }
  }

  #writeFailed(where: string, error: unknown): CliError {
    const doing = `cannot write ${quote(this.place.name)} ${where}: ${transferReason(error)}`;
    switch (codeOf(error)) {
      case 'ENOSPC':
      case 'EDQUOT': {
        if (this.place.kind !== 'file') return new CliError(EXIT_IO, `${doing}. Name a device that takes more`);
        const needed = this.#needed === undefined ? 'as much room as SRC has bytes' : formatSize(this.#needed);
        const beside = this.place.replaces === undefined ? '' : ' beside the old file';
        const free = this.#free === undefined ? '' : `, and ${formatSize(this.#free)} were free when it began`;
        const cure = 'free some space, or copy to another file system';
        return new CliError(EXIT_IO, `${doing}. The copy needs ${needed}${beside}${free}: ${cure}`);
      }
      case 'EFBIG':
        return new CliError(EXIT_IO, `${doing}. The file system or a limit (ulimit -f) forbids files of this size`);
      default:
        return new CliError(EXIT_IO, `${doing}. The log of the kernel (dmesg) may say why`);
    }
  }

  protected async flushing(flush: () => Promise<void>): Promise<void> {
    try {
      await flush();
    } catch (error) {
      // A file system that allocates late finds out only now that it is full.
      throw this.#writeFailed('while flushing it', error);
    }
  }

  reader(): { side: Side; whyCached: string | undefined } {
    const opened = reopenDirect(this.fd, constants.O_RDONLY);
    let whyCached: string | undefined;
    try {
      if ('fd' in opened) this.#reader = opened.fd;
      else [this.#reader, whyCached] = [openSync(`/proc/self/fd/${this.fd}`, constants.O_RDONLY), opened.why];
    } catch (error) {
      throw ioError(`cannot open the copy for --verify`, error, 'It needs /proc');
    }
    const failed = (position: number, error: unknown): CliError =>
      new CliError(
        EXIT_IO,
        `cannot read the copy back at byte ${position}: ${transferReason(error)}. The disk may be failing: see the log of the kernel (dmesg)`,
      );
    return { side: { fd: this.#reader, direct: whyCached === undefined, failed }, whyCached };
  }

  protected closeAll(): void {
    for (const fd of [this.fd, this.#direct, this.#reader]) if (fd !== undefined) closeSync(fd);
    this.#direct = this.#reader = undefined;
  }
}

/**
 * A file that has a name of nobody's interest until it is complete. A file without any name (O_TMPFILE) would leave nothing behind
 * even after SIGKILL, but link(2) cannot put it in the place of another, and Node cannot call linkat(2) for it.
 */
class NewFile extends Opened implements Destination {
  readonly #directory: Directory;
  /** Their paths, through the directory. */
  readonly #temporary: string;
  readonly #final: string;
  /** Removes the temporary file, if there is one. */
  readonly #forget: () => string | undefined;
  #done = false;

  constructor(place: Place) {
    const { directory, temporary, fd } = create(place);
    super(place, fd);
    this.#directory = directory;
    this.#temporary = temporary;
    this.#final = directory.entry(basename(place.path));
    const shown = quote(join(dirname(place.path), basename(temporary)));
    this.#forget = () => {
      process.off('exit', this.#forget);
      const error = unlinkIfThere(temporary);
      return error && `${shown} could not be removed: ${reasonOf(error)}. Remove it`;
    };
    // For what ends the process without a finally clause: a second signal, above all.
    process.on('exit', this.#forget);
  }

  resize(size: number, data: number | undefined): void {
    this.expect(data);
    try {
      // Now, not while writing: on most file systems direct writes that extend a file wait for one another.
      ftruncateSync(this.fd, size);
    } catch (error) {
      throw this.side(false).failed(size, error);
    }
  }

  flush(): Promise<void> {
    return this.flushing(() => fdatasyncAsync(this.fd));
  }

  async settle({ source, preserve, force, check }: Settling): Promise<void> {
    this.#dress(source, preserve);
    // The bytes, and that they belong to it, before the name: after a crash there would be an empty DST.
    await this.flushing(() => fsyncAsync(this.fd));
    check();
    this.#publish(force);
    await this.#flushDirectory();
  }

  /** Owner, mode, times. */
  #dress(source: Source, preserve: boolean): void {
    const like = preserve ? source.stat : this.place.replaces;
    try {
      const owned = like === undefined || own(this.fd, Number(like.uid), Number(like.gid));
      const mode = like === undefined ? Number(source.stat.mode) & 0o777 & ~umask() : Number(like.mode) & 0o7777;
      // Nobody becomes somebody else by running a copy.
      fchmodSync(this.fd, owned ? mode : withoutGroup(mode & 0o1777));
      if (preserve) setTimes(this.fd, source.stat.atimeNs, source.stat.mtimeNs);
    } catch (error) {
      // File systems without permissions.
      if (!preserve && isUnsupported(error)) return;
      throw ioError(
        `cannot give the copy the mode${preserve ? ' and times' : ''} of ${quote(preserve ? source.name : this.place.name)}`,
        error,
        preserve ? 'Leave --preserve out' : '',
      );
    }
  }

  #publish(force: boolean): void {
    const { name } = this.place;
    try {
      if (force || !this.#link()) renameSync(this.#temporary, this.#final);
      else unlinkIfThere(this.#temporary); // where it stays, it is tried again, and told, at the end
      this.#done = true;
    } catch (error) {
      if (codeOf(error) === 'EEXIST') {
        throw new CliError(
          EXIT_IO,
          `${quote(name)} was made by somebody else meanwhile. If it is to be replaced, add --force`,
        );
      }
      throw ioError(`the copy is complete, but cannot take the place of ${quote(name)}`, error, 'Name another DST');
    }
  }

  /** Unlike rename(2), link(2) replaces nothing. @returns whether the file system has links at all. */
  #link(): boolean {
    try {
      linkSync(this.#temporary, this.#final);
      return true;
    } catch (error) {
      if (!isUnsupported(error)) throw error;
      if (lstatSync(this.#final, { throwIfNoEntry: false }) === undefined) return false;
      throw Object.assign(new Error(), { code: 'EEXIST' });
    }
  }

  async #flushDirectory(): Promise<void> {
    let fd: number | undefined;
    try {
      fd = this.#directory.open();
      await fsyncAsync(fd);
    } catch (error) {
      // One that may be written to and not read, or a file system that flushes directories by itself.
      if (codeOf(error) === 'EACCES' || isUnsupported(error)) return;
      throw ioError(
        `${quote(this.place.name)} is the copy now, but its directory could not be flushed: after a crash it may be what it was before`,
        error,
      );
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  fate(): string {
    const { name, replaces } = this.place;
    if (this.#done) return `${quote(name)} is the copy`;
    return replaces === undefined ? `${quote(name)} was not made` : `${quote(name)} is as it was`;
  }

  close(): string | undefined {
    const left = this.#forget();
    this.#directory.close();
    this.closeAll();
    return left;
  }
}

/** @returns why it is still there. */
function unlinkIfThere(path: string): Error | undefined {
  try {
    unlinkSync(path);
    return undefined;
  } catch (error) {
    return error instanceof Error && codeOf(error) !== 'ENOENT' ? error : undefined;
  }
}

/** Where the group is another: it may do what others may. */
function withoutGroup(mode: number): number {
  return (mode & ~0o070) | (mode & ((mode & 0o007) << 3));
}

function create(place: Place): { directory: Directory; temporary: string; fd: number } {
  // O_EXCL and O_NOFOLLOW: nobody's file, and nobody's symbolic link, is written to. Without O_DIRECT: where that is refused, the
  // file would be there all the same.
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
  let directory: Directory | undefined;
  try {
    directory = new Directory(dirname(place.path));
    const temporary = directory.entry(`${TEMPORARY}${randomBytes(12).toString('hex')}`);
    return { directory, temporary, fd: openSync(temporary, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR, 0o600) };
  } catch (error) {
    directory?.close();
    throw ioError(
      `cannot make a file beside ${quote(place.name)}`,
      error,
      'Name a DST in a directory that exists and that you can write to',
    );
  }
}

/** Gives a file its owner and group. @returns whether both are as wanted. */
function own(fd: number, uid: number, gid: number): boolean {
  const now = fstatSync(fd);
  if (now.uid === uid && now.gid === gid) return true;
  for (const user of [uid, now.uid]) {
    try {
      fchownSync(fd, user, gid);
      return user === uid;
    } catch (error) {
      if (!isUnsupported(error)) throw error;
    }
  }
  return false;
}

/** What this user, or this file system, cannot do. */
function isUnsupported(error: unknown): boolean {
  return ['EPERM', 'EINVAL', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'EROFS'].includes(codeOf(error) ?? '');
}

/** There is no way to ask for it but to set it. */
function umask(): number {
  const mask = process.umask(0o077);
  process.umask(mask);
  return mask;
}

const SECOND_NS = 1_000_000_000n;
const MICROSECOND_NS = 1000n;

/** To the nanosecond; where there is no native code, to the microsecond below. */
function setTimes(fd: number, accessedNs: bigint, modifiedNs: bigint): void {
  const { native } = loadNative();
  if (native === undefined) {
    futimesSync(fd, seconds(accessedNs), seconds(modifiedNs));
    return;
  }
  const accessedRest = remainder(accessedNs, SECOND_NS);
  const modifiedRest = remainder(modifiedNs, SECOND_NS);
  const result = native.setTimes(
    fd,
    Number((accessedNs - accessedRest) / SECOND_NS),
    Number(accessedRest),
    Number((modifiedNs - modifiedRest) / SECOND_NS),
    Number(modifiedRest),
  );
  if (result < 0) throw nodeError(result, 'futimens');
}

/** What is above the multiple below it, also of a negative number. */
function remainder(value: bigint, of: bigint): bigint {
  return ((value % of) + of) % of;
}

/** As futimesSync takes it, exact to a microsecond in our century. Numbers below 0 it takes for now, dates not. */
function seconds(ns: bigint): number | Date {
  // libuv takes whole microseconds of it, and a double may lie a little below: half of one more keeps it from being the one before.
  const below = Number(ns - remainder(ns, MICROSECOND_NS)) + 500;
  return ns < 0n ? new Date(Math.floor(below / 1e6)) : below / 1e9;
}

/** Written in place: there is no other way. */
class Device extends Opened implements Destination {
  #begun = false;
  #done = false;

  constructor(place: Place) {
    super(place, claim(place));
  }

  override openDirect(): string | undefined {
    // Their bytes come one after the other.
    return this.place.kind === 'block device' ? super.openDirect() : 'a character device has no page cache to avoid';
  }

  resize(size: number, data: number | undefined): void {
    if (this.place.kind === 'block device') {
      const room = deviceSize(fstatSync(this.fd)) ?? Infinity;
      if (room < size) {
        throw new CliError(
          EXIT_IO,
          `${quote(this.place.name)} has ${formatSize(room)}, and ${formatSize(size)} are to be copied. Name a larger device`,
        );
      }
    }
    this.expect(data);
    this.#begun = true;
  }

  flush(): Promise<void> {
    return this.flushing(async () => {
      try {
        await fsyncAsync(this.fd);
      } catch (error) {
        // Terminals and the like have nothing to flush.
        if (this.place.kind === 'block device' || !isUnsupported(error)) throw error;
      }
    });
  }

  async settle(): Promise<void> {
    await this.flush();
    this.#done = true;
  }

  fate(): string {
    const name = quote(this.place.name);
    if (this.#done) return `${name} is the copy`;
    return this.#begun ? `${name} is overwritten in part` : `${name} is as it was`;
  }

  close(): undefined {
    this.closeAll();
  }
}

function claim(place: Place): number {
  // Without O_CREAT, O_EXCL means of a block device: not while it is mounted.
  const exclusive = place.kind === 'block device' ? constants.O_EXCL : constants.O_NOCTTY;
  let fd: number | undefined;
  try {
    fd = openSync(place.path, constants.O_WRONLY | exclusive);
    const stat = fstatSync(fd, { bigint: true });
    const same = place.kind === 'block device' ? stat.isBlockDevice() : stat.isCharacterDevice();
    if (same && stat.rdev === place.device) return fd;
    throw new CliError(EXIT_IO, `${quote(place.name)} became another file meanwhile. See what it is now`);
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    if (error instanceof CliError) throw error;
    if (codeOf(error) === 'EBUSY') {
      throw ioError(
        `${quote(place.name)} is in use`,
        error,
        'Unmount it first: writing to a mounted device destroys it',
      );
    }
    throw ioError(`cannot open ${quote(place.name)}`, error, 'Name a device that you may write to');
  }
}
