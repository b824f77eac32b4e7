/**
 * The simulated disk as engines see it: descriptors, and requests that take their (virtual) time, go wrong as they were told to, and
 * take effect when they complete. What is left to chance comes from one seed, through one stream of numbers per purpose.
 */
import type { Alignment } from '../alignment.ts';
import { codeOf, ECANCELED, EFBIG, EINVAL, errnoOf, nodeError } from '../errors.ts';
import { FDATASYNC, FSYNC, READ, type Transfer } from '../transfer.ts';
import { type Inode, type JournalMark, Names, SimulatedDirectory } from './names.ts';
import {
  failureCalled,
  type Latency,
  microseconds,
  type Settings,
  type SimulatedOperation,
  type SimulatedOperationKind,
} from './options.ts';
import { Random, type SimulatedRandom } from './random.ts';
import { SimulatedFile, type Survivors } from './simulated-file.ts';
import { type Happening, Timeline } from './timeline.ts';

const EIO = errnoOf('EIO', 5);
const EBADF = errnoOf('EBADF', 9);
const EISDIR = errnoOf('EISDIR', 21);
const ENOSPC = errnoOf('ENOSPC', 28);

/** Far above what a kernel gives out, so that it says EBADF to one of these, as this disk does to one of its. */
const FIRST_FD = 2 ** 30;

/** The most that Linux moves in one call. */
const MAX_BYTES = 0x7ffff000;
const MAX_POSITION = 2n ** 63n - 1n;

/** One thing that happened to the disk. Events are plain data: two runs are the same when their logs are. */
export interface SimulatedEvent {
  /** When, in milliseconds of virtual time. */
  readonly atMs: number;
  /** A request that ended, by its kind; a call of the disk, by its name; or the loss of power. */
  readonly what:
    | SimulatedOperationKind
    | 'open'
    | 'close'
    | 'truncate'
    | 'mkdir'
    | 'unlink'
    | 'rmdir'
    | 'rename'
    | 'powerLoss';
  /** Of a request: its number, from 1 on in the order of submission. Otherwise 0. */
  readonly number: number;
  /** The file; empty where there is none. */
  readonly path: string;
  /** Of a read or write, in bytes; otherwise 0. */
  readonly position: number;
  /** Asked for, in bytes. */
  readonly length: number;
  /** Bytes moved, or the code of an error. */
  readonly result: number | string;
  /** What was done to it that a good disk would not do, or what there is to add; else empty. */
  readonly note: string;
}

/** Who is told of the end of requests: an engine, for its slots. */
export interface Port {
  finish(slot: number, result: number): void;
}

/** How a file is opened. */
export interface Opening {
  readonly reads: boolean;
  readonly writes: boolean;
  readonly creates: boolean;
  readonly exclusive: boolean;
  readonly truncates: boolean;
  readonly appends: boolean;
  readonly direct: boolean;
  /** Each write is flushed before it completes: O_SYNC, O_DSYNC. */
  readonly sync: boolean;
  readonly mode: number;
}

export interface Descriptor {
  readonly fd: number;
  readonly inode: Inode;
  /** As it was opened. */
  readonly path: string;
  readonly opening: Opening;
  direct: boolean;
  /** The current one, for whoever keeps it. */
  position: number;
}

/** A request on its way. */
interface Operation extends Happening {
  readonly order: number;
  readonly kind: SimulatedOperationKind;
  readonly path: string;
  readonly position: number;
  readonly length: number;
  readonly transfer: Transfer;
  readonly port: Port;
  readonly slot: number;
  readonly descriptor: Descriptor | undefined;
  /** Negative: it is going to fail with it. */
  readonly error: number;
  /** What a flush covers. */
  readonly covers: number;
  readonly mark: JournalMark;
}

/** What a loss of power left. Writes are counted that no flush had covered. */
export interface PowerLoss {
  /** Writes that are on the medium all the same. */
  readonly writesKept: number;
  /** Writes of which some sectors are, and others not. */
  readonly writesTorn: number;
  /** Writes of which nothing is. */
  readonly writesLost: number;
  /** Created, renamed and removed names that are as they were before. */
  readonly namesLost: number;
}

const NO_BYTES = new Uint8Array(0);

export class Device {
  readonly settings: Settings;
  readonly timeline = new Timeline();
  readonly names: Names;
  /** For the program's own choices. */
  readonly random: SimulatedRandom;
  readonly #latency: Random;
  readonly #errors: Random;
  readonly #short: Random;
  readonly #torn: Random;
  readonly #misdirected: Random;
  readonly #latent: Random;
  readonly #refused: Random;
  readonly #late: Random;
  readonly #power: Random;
  readonly #descriptors = new Map<number, Descriptor>();
  #nextFd = FIRST_FD;
  #nextInode = 1;
  /** What is under way, in the order of submission. */
  readonly #pending = new Map<Transfer, Operation>();
  #operations = 0;
  #lastDueUs = 0;
  #log: SimulatedEvent[] = [];

  constructor(settings: Settings) {
    this.settings = settings;
    const stream = (purpose: string): Random => new Random(settings.seed, purpose);
    this.random = stream('program');
    this.#latency = stream('latency');
    this.#errors = stream('errors');
    this.#short = stream('short');
    this.#torn = stream('torn');
    this.#misdirected = stream('misdirected');
    this.#latent = stream('latent');
    this.#refused = stream('refused');
    this.#late = stream('late');
    this.#power = stream('power');
    this.names = new Names(new SimulatedDirectory(this.#nextInode++));
  }

  get log(): readonly SimulatedEvent[] {
    const { logLimit } = this.settings;
    return logLimit === Infinity ? this.#log : this.#log.slice(Math.max(this.#log.length - logLimit, 0));
  }

  note(what: SimulatedEvent['what'], path: string, note = '', length = 0): void {
    this.#append({ atMs: this.nowMs, what, number: 0, path, position: 0, length, result: 0, note });
  }

  #append(event: SimulatedEvent): void {
    const { logLimit } = this.settings;
    if (logLimit === 0) return;
    this.#log.push(event);
    // Twice as long before it is cut: cutting costs as much as it is long.
    if (this.#log.length >= 2 * logLimit) this.#log = this.#log.slice(-logLimit);
  }

  get nowMs(): number {
    return this.timeline.clock.now();
  }

  get pending(): number {
    return this.#pending.size;
  }

  /** Opens what has a name, or makes it. */
  open(path: string, opening: Opening): number {
    const { reads, writes, creates, exclusive, truncates, appends, direct } = opening;
    let inode = this.names.get(path);
    if (inode === undefined && creates) {
      inode = this.makeFile(path, opening.mode, 'open');
    } else if (inode !== undefined && creates && exclusive) {
      throw nodeError(-errnoOf('EEXIST', 17), 'open', path);
    }
    inode ??= this.names.need(path, 'open');
    if (inode instanceof SimulatedDirectory && (writes || creates)) throw nodeError(-EISDIR, 'open', path);
    const fd = this.#nextFd++;
    this.#descriptors.set(fd, { fd, inode, path, opening, direct, position: 0 });
    const how = [reads && 'read', writes && 'write', appends && 'append', truncates && 'truncate', direct && 'direct'];
    this.note('open', path, how.filter(Boolean).join(' '));
    if (truncates && writes && inode instanceof SimulatedFile) this.#resize(inode, path, 0);
    return fd;
  }

  makeFile(path: string, mode: number, syscall: string): SimulatedFile {
    const file = new SimulatedFile(this.#nextInode, this.settings.sectorSize);
    this.names.add(path, file, syscall);
    this.#nextInode++;
    file.mode = mode;
    file.changedMs = this.nowMs;
    return file;
  }

  /** A file that has been there for ever. */
  plant(path: string, data: Uint8Array): void {
    const file = new SimulatedFile(this.#nextInode++, this.settings.sectorSize);
    this.names.plant(path, file, () => new SimulatedDirectory(this.#nextInode++));
    file.write(0, data);
    file.flush(file.order);
  }

  makeDirectory(path: string, mode: number): void {
    const directory = new SimulatedDirectory(this.#nextInode);
    this.names.add(path, directory, 'mkdir');
    this.#nextInode++;
    directory.mode = mode;
    directory.changedMs = this.nowMs;
    this.note('mkdir', path);
  }

  /** The descriptor with this number; EBADF where there is none. */
  descriptor(fd: number, syscall: string): Descriptor {
    const descriptor = this.#descriptors.get(fd);
    if (descriptor === undefined) throw nodeError(-EBADF, syscall);
    return descriptor;
  }

  isOpen(fd: number): boolean {
    return this.#descriptors.has(fd);
  }

  close(fd: number): void {
    const { path } = this.descriptor(fd, 'close');
    this.#descriptors.delete(fd);
    this.note('close', path);
  }

  truncate(fd: number, size: number): void {
    const { inode, path, opening } = this.descriptor(fd, 'ftruncate');
    if (!opening.writes || !(inode instanceof SimulatedFile)) throw nodeError(-EINVAL, 'ftruncate');
    if (size > this.settings.maxFileSize) throw nodeError(-EFBIG, 'ftruncate');
    this.#resize(inode, path, size);
  }

  #resize(file: SimulatedFile, path: string, size: number): void {
    if (size === file.size) return;
    file.resize(size);
    file.changedMs = this.nowMs;
    this.note('truncate', path, '', size);
  }

  /** What transfers on it must be multiples of; `undefined` where anything goes. */
  alignmentOf(fd: number): Alignment | undefined {
    return this.#descriptors.get(fd)?.direct === true ? this.alignment : undefined;
  }

  /** Addresses of memory are not the same from run to run: nothing may depend on them. */
  get alignment(): Alignment {
    return { buffer: 1, offset: this.settings.sectorSize, source: 'the sector size of the simulated disk' };
  }

  /** Takes requests in order; returns how many. Runs functions of the program (`fail`, latencies); nothing was taken where these throw. */
  submit(batch: readonly (Transfer | undefined)[], from: number, to: number, port: Port): number {
    let count = to - from;
    if (count > 0 && this.#refused.chance(this.settings.refusals)) count = this.#refused.below(count);
    const taken: Operation[] = [];
    for (let index = from; index < from + count; index++) {
      const transfer = batch[index];
      if (transfer !== undefined) taken.push(this.#begin(transfer, port));
    }
    for (const operation of taken) {
      this.#pending.set(operation.transfer, operation);
      this.timeline.add(operation);
    }
    return count;
  }

  #begin(transfer: Transfer, port: Port): Operation {
    const { settings } = this;
    const kind = kindOf(transfer);
    const isFlush = kind === 'fsync' || kind === 'fdatasync';
    const descriptor = this.#descriptors.get(transfer.fd);
    const inode = descriptor?.inode;
    const position = isFlush ? 0 : positionOf(transfer);
    const length = isFlush ? 0 : Math.min(transfer.groupLength, MAX_BYTES);
    const path = descriptor?.path ?? '';
    const order = ++this.#operations;
    const operation: SimulatedOperation = { number: order, kind, path, position, length, atMs: this.nowMs };
    const group = isFlush ? 'flush' : kind;
    let error = this.#refusal(transfer, descriptor, isFlush);
    let dueUs = this.timeline.nowUs + 1;
    if (error === 0) {
      dueUs = this.timeline.nowUs + this.#duration(settings.latency[group], operation, group);
      error = this.#failure(settings.errors[group], operation);
    }
    if (!settings.reorder) dueUs = this.#lastDueUs = Math.max(dueUs, this.#lastDueUs);
    const made: Operation = {
      dueUs,
      order,
      canceled: false,
      happen: () => this.#complete(made),
      kind,
      path,
      position,
      length,
      transfer,
      port,
      slot: transfer.slot,
      descriptor,
      error,
      covers: inode instanceof SimulatedFile ? inode.order : 0,
      mark: isFlush && inode instanceof SimulatedDirectory ? this.names.mark(inode) : undefined,
    };
    return made;
  }

  #duration(latency: Latency, operation: SimulatedOperation, group: string): number {
    const name = `options.latency.${group}`;
    if (typeof latency === 'number') return microseconds(name, latency);
    if (typeof latency === 'function') return microseconds(`${name}()`, latency(this.#latency, operation));
    return this.#latency.between(microseconds(name, latency[0]), microseconds(name, latency[1]));
  }

  /** What the kernel would say at once. */
  #refusal(transfer: Transfer, descriptor: Descriptor | undefined, isFlush: boolean): number {
    if (descriptor === undefined) return -EBADF;
    if (isFlush) return 0;
    const isRead = transfer.operation === READ;
    if (isRead ? !descriptor.opening.reads : !descriptor.opening.writes) return -EBADF;
    if (descriptor.inode instanceof SimulatedDirectory) return -EISDIR;
    if (transfer.atCurrentPosition || transfer.position + BigInt(transfer.groupLength) > MAX_POSITION) return -EINVAL;
    return descriptor.direct && !this.#isAligned(transfer) ? -EINVAL : 0;
  }

  #isAligned(transfer: Transfer): boolean {
    const { sectorSize } = this.settings;
    if (transfer.position % BigInt(sectorSize) !== 0n) return false;
    for (let index = transfer.from; index < (transfer.vectored ? transfer.to : transfer.count); index++) {
      if ((transfer.segments[index]?.length ?? 0) % sectorSize !== 0) return false;
    }
    return true;
  }

  #failure(chances: Settings['errors']['read'], operation: SimulatedOperation): number {
    const code = this.settings.fail?.(operation);
    if (code !== undefined) return failureCalled('options.fail()', code);
    for (const [errno, probability] of chances) if (this.#errors.chance(probability)) return errno;
    return 0;
  }

  /** True if it is taken back, and never happened. */
  cancel(transfer: Transfer): boolean {
    const operation = this.#pending.get(transfer);
    if (operation === undefined || this.#late.chance(this.settings.lateCancels)) return false;
    operation.canceled = true;
    this.#pending.delete(transfer);
    this.#end(operation, -ECANCELED, '');
    return true;
  }

  #complete(operation: Operation): void {
    this.#pending.delete(operation.transfer);
    const notes: string[] = [];
    const result = this.#perform(operation, notes);
    this.#end(operation, result, notes.join(', '));
  }

  #end(operation: Operation, result: number, note: string): void {
    const { order, kind, path, position, length, port, slot } = operation;
    const shown = result < 0 ? codeOf(result) : result;
    this.#append({ atMs: this.nowMs, what: kind, number: order, path, position, length, result: shown, note });
    port.finish(slot, result);
    this.timeline.stir();
  }

  #perform(operation: Operation, notes: string[]): number {
    const { kind, descriptor, transfer } = operation;
    if (descriptor === undefined) return operation.error;
    if (kind === 'fsync' || kind === 'fdatasync') return this.#flush(operation, descriptor.inode, notes);
    // The context knows that it lost its memory: any result will do.
    if (!(descriptor.inode instanceof SimulatedFile) || transfer.detached) return Math.min(operation.error, 0);
    return kind === 'read'
      ? this.#read(operation, descriptor.inode, notes)
      : this.#write(operation, descriptor.inode, descriptor, notes);
  }

  #flush({ error, covers, mark }: Operation, inode: Inode, notes: string[]): number {
    if (inode instanceof SimulatedDirectory) {
      if (error === 0) this.names.flush(mark);
      return error;
    }
    if (error === 0) {
      inode.flush(covers);
    } else {
      inode.failFlush(covers);
      notes.push('what it was to cover may be lost, and later flushes will not say so');
    }
    return error;
  }

  #read({ error, position, length, transfer }: Operation, file: SimulatedFile, notes: string[]): number {
    if (error < 0) return error;
    let count = this.#shorten(Math.max(Math.min(length, file.size - position), 0), transfer, notes);
    const { latentSectorErrors } = this.settings;
    if (latentSectorErrors > 0 || file.hasBadSectors) {
      const readable = file.readable(position, count, () => this.#latent.chance(latentSectorErrors));
      if (readable < count) {
        notes.push(`bad sector at ${position + readable}`);
        if (readable === 0) return -EIO;
        count = readable;
      }
    }
    let left = count;
    for (const bytes of parts(transfer)) {
      const part = Math.min(left, bytes.length);
      file.read(position + count - left, bytes.subarray(0, part));
      left -= part;
    }
    return count;
  }

  /** A short transfer moves something, but not all of it; whole sectors of a direct file. */
  #shorten(count: number, { fd }: Transfer, notes: string[]): number {
    const unit = this.alignmentOf(fd)?.offset ?? 1;
    if (count <= unit || !this.#short.chance(this.settings.shortTransfers)) return count;
    notes.push('short');
    return (1 + this.#short.below(Math.ceil(count / unit) - 1)) * unit;
  }

  #write(operation: Operation, file: SimulatedFile, descriptor: Descriptor, notes: string[]): number {
    const { error, transfer, length } = operation;
    if (error < 0 && error !== -EIO) return error;
    const position = descriptor.opening.appends ? file.size : operation.position;
    if (length === 0) return error;
    let count = Math.min(length, Math.max(this.settings.maxFileSize - position, 0));
    if (count === 0) return -EFBIG;
    count = Math.min(count, file.fitting(position, count, this.#freeSectors()));
    if (count === 0) return -ENOSPC;
    count = this.#shorten(count, transfer, notes);
    if (file.isBlocked(position, count)) {
      notes.push('a part of a bad sector');
      return -EIO;
    }
    const bytes = gather(transfer, count);
    if (error < 0) {
      this.#writeSome(file, position, bytes, notes);
      return error;
    }
    if (this.#misdirected.chance(this.settings.misdirectedWrites)) this.#misdirect(file, position, bytes, notes);
    else if (this.#torn.chance(this.settings.tornWrites)) this.#writeSome(file, position, bytes, notes);
    else file.write(position, bytes);
    if (error === 0 && file.size < position + count) file.resize(position + count);
    file.changedMs = this.nowMs;
    if (descriptor.opening.sync) file.flush(file.order);
    return count;
  }

  #freeSectors(): number {
    const { capacity, sectorSize } = this.settings;
    if (capacity === Infinity) return Infinity;
    const inodes = this.names.inodes();
    for (const { inode } of this.#descriptors.values()) inodes.add(inode);
    let used = 0;
    for (const inode of inodes) if (inode instanceof SimulatedFile) used += inode.allocated;
    return Math.max(Math.floor(capacity / sectorSize) - used, 0);
  }

  /** Some of the sectors, but not all. */
  #writeSome(file: SimulatedFile, position: number, bytes: Uint8Array, notes: string[]): void {
    const sectors = [...this.#sectorsOf(position, bytes)];
    const written = sectors.map(() => this.#torn.below(2) === 0);
    if (written.every(Boolean)) written[this.#torn.below(written.length)] = false;
    let count = 0;
    for (const [index, { at, part }] of sectors.entries()) {
      if (written[index] !== true) continue;
      file.write(at, part);
      count++;
    }
    notes.push(`torn: ${count} of ${sectors.length} sectors written`);
  }

  *#sectorsOf(position: number, bytes: Uint8Array): Generator<{ at: number; part: Uint8Array }> {
    const { sectorSize } = this.settings;
    for (let done = 0; done < bytes.length; ) {
      const at = position + done;
      const part = bytes.subarray(done, done + sectorSize - (at % sectorSize));
      yield { at, part };
      done += part.length;
    }
  }

  /** Somewhere else: whole sectors away, over what some file has there. No file grows by it. */
  #misdirect(file: SimulatedFile, position: number, bytes: Uint8Array, notes: string[]): void {
    const { sectorSize } = this.settings;
    const files = [...this.names.inodes()]
      .filter((inode): inode is SimulatedFile => inode instanceof SimulatedFile && inode.size > 0)
      .sort((one, other) => one.id - other.id);
    const target = files[this.#misdirected.below(files.length)];
    const meant = Math.floor(position / sectorSize);
    if (target === undefined) {
      notes.push('misdirected: nowhere');
      return;
    }
    const sectors = Math.ceil(target.size / sectorSize);
    let sector = this.#misdirected.below(sectors);
    if (target === file && sector === meant) sector = (sector + 1) % sectors;
    const at = sector * sectorSize + (position % sectorSize);
    const part = target === file && sector === meant ? NO_BYTES : bytes.subarray(0, Math.max(target.size - at, 0));
    target.write(at, part);
    notes.push(part.length === 0 ? 'misdirected: nowhere' : `misdirected: to ${this.names.pathOf(target)} at ${at}`);
  }

  /** What is in flight may have got to the medium, or to a part of it; then everything that no flush covered is decided upon. */
  losePower(): PowerLoss {
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { kind, error, descriptor, transfer, position, length } of pending) {
      if (kind !== 'write' || error < 0 || transfer.detached) continue;
      if (descriptor === undefined || !(descriptor.inode instanceof SimulatedFile)) continue;
      const file = descriptor.inode;
      const start = descriptor.opening.appends ? file.size : position;
      const room = Math.min(length, Math.max(this.settings.maxFileSize - start, 0));
      file.write(start, gather(transfer, Math.min(room, file.fitting(start, room, this.#freeSectors()))));
    }
    const namesLost = this.names.losePower(this.#power);
    const survivors: Survivors = { kept: 0, torn: 0, lost: 0 };
    const files = [...this.names.inodes()].filter((inode) => inode instanceof SimulatedFile);
    for (const file of files.sort((one, other) => one.id - other.id)) file.losePower(this.#power, survivors);
    this.#descriptors.clear();
    const { kept, torn, lost } = survivors;
    this.note('powerLoss', '', `writes: ${kept} kept, ${torn} torn, ${lost} lost; names: ${namesLost} lost`);
    for (const operation of pending) {
      operation.canceled = true;
      this.#end(operation, -EIO, 'power loss');
    }
    return { writesKept: kept, writesTorn: torn, writesLost: lost, namesLost };
  }
}

function kindOf({ operation }: Transfer): SimulatedOperationKind {
  if (operation === FSYNC) return 'fsync';
  if (operation === FDATASYNC) return 'fdatasync';
  return operation === READ ? 'read' : 'write';
}

/** Beyond 2^53 it is no longer exact, and far beyond every file. */
function positionOf({ positionLow, positionHigh }: Transfer): number {
  return positionHigh * 2 ** 32 + (positionLow >>> 0);
}

/** The memory of the segments that are transferred now. */
function* parts(transfer: Transfer): Generator<Uint8Array> {
  if (!transfer.vectored) yield transfer.bytes(0);
  else for (let index = transfer.from; index < transfer.to; index++) yield transfer.bytes(index);
}

function gather(transfer: Transfer, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  let done = 0;
  for (const part of parts(transfer)) {
    const taken = part.subarray(0, count - done);
    bytes.set(taken, done);
    done += taken.length;
  }
  return bytes;
}
