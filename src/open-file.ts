/**
 * An open descriptor and the engine that carries its transfers: what handles, streams and whole-file functions stand on. Node has one
 * function for "here" and "at a position", the kernel interfaces know positions only; and direct files take aligned
 * transfers only. Both are made up for here.
 */
import { constants as files, fstatSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { availableParallelism, constants } from 'node:os';
import { SEEK_CUR, SEEK_END, SEEK_SET } from './abi/file.ts';
import { hasAborted, onAbort, throwIfAborted } from './abort.ts';
import { type Alignment, alignmentOf } from './alignment.ts';
import { putBounce, takeBounce } from './bounce.ts';
import { bytesOf, isResizable, locate, located, Memory, sizeOf } from './buffer.ts';
import type { EngineName, EngineSource } from './engine.ts';
import { fileEngines } from './engines/select.ts';
import { AioError, abortError, EINVAL, nodeError } from './errors.ts';
import { Line } from './line.ts';
import { loadNative } from './native.ts';
import { failure } from './outcome.ts';
import { type Call, type Queue, queueOf } from './queue.ts';
import { FDATASYNC, FSYNC, type Operation, READ, Segment, Transfer, WRITE } from './transfer.ts';
import { isInUserSpace } from './user-space.ts';

/** Where a transfer goes: bytes from the start of the file, or `null` for its current position, as read(2) and write(2). */
export type Position = number | bigint | null;

export interface OpenFileOptions {
  /** It was opened with O_DIRECT. */
  readonly direct?: boolean;
  /** It was opened with O_APPEND. */
  readonly append?: boolean;
  readonly engine?: EngineName | 'auto';
  /** Where the descriptor is from, if not from the kernel; that carries the transfers, too. */
  readonly source?: EngineSource & Descriptors;
}

/** What is asked of a descriptor besides transfers. */
export interface Descriptors {
  /** lseek(2): the new position, or the negative errno; `undefined` where nobody can be asked. */
  seek(fd: number, offset: number, whence: number): number | undefined;
  /** Of one with O_DIRECT. */
  alignmentOf(fd: number): Alignment;
  /** Turns O_DIRECT on and off; `false` where that cannot be done. */
  setDirect(fd: number, direct: boolean): boolean;
  /** Opens the same file once more, for writing and without O_DIRECT; `undefined` where that cannot be done. */
  reopen(fd: number, append: boolean): Promise<{ readonly fd: number; close(): Promise<void> } | undefined>;
}

/** A position that means the current one. */
const HERE = -1;

const { EISDIR, ENOSPC, ESPIPE } = constants.errno;
const { O_DIRECT } = files;

/** A transfer that cannot be done in place goes through so much memory at a time. */
const BOUNCE_BYTES = 2 ** 23;

/** From so many bytes on, a read whose head or tail are not aligned has the rest in place. Copying less is cheaper than more segments. */
const FRAMED_BYTES = 2 ** 16;

/** Below this, waking another thread costs more than copying. */
const PUNTED_BYTES = 2 ** 17;

/**
 * So many at once. Threads that wait for a slow disk would be missing elsewhere, and a ring has four for each processor; what is not
 * punted is tried by the submitting thread, and waits for a disk without any.
 */
const MOST_PUNTED = 2 * availableParallelism();
let punted = 0;

const kernel: Descriptors = {
  seek: (fd, offset, whence) => loadNative().native?.seek(fd, offset, whence),

  alignmentOf,

  setDirect(fd, direct) {
    const { native } = loadNative();
    if (native === undefined) return false;
    const flags = native.statusFlags(fd);
    native.setStatusFlags(fd, direct ? flags | O_DIRECT : flags & ~O_DIRECT);
    return true;
  },

  async reopen(fd, append) {
    try {
      // See proc_pid_fd(5): opening such a link makes an open file of its own, also where the name is gone. Who may only read must not get to
      // write this way.
      if (!isWritable(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))) return undefined;
      return await open(`/proc/self/fd/${fd}`, files.O_WRONLY | (append ? files.O_APPEND : 0));
    } catch {
      return undefined;
    }
  },
};

/** From proc_pid_fdinfo(5): the flags that it was opened with, in octal. */
function isWritable(info: string): boolean {
  const flags = Number.parseInt(/^flags:\s*([0-7]+)$/m.exec(info)?.[1] ?? '0', 8);
  return (flags & (files.O_WRONLY | files.O_RDWR)) !== 0;
}

const UNALIGNED: Alignment = { buffer: 1, offset: 1, source: 'none needed: the file goes through the page cache' };

/**
 * How many transfers of a descriptor go around O_DIRECT now. The flag is the open file's, whichever of the objects here asked for it.
 */
const indirect = new WeakMap<Descriptors, Map<number, number>>();

/** Whether a descriptor of the kernel's has O_DIRECT, though it does not show now. */
export function isDirectUnderneath(fd: number): boolean {
  return indirect.get(kernel)?.has(fd) ?? false;
}

/** Of a write that takes several steps. */
export interface Progress {
  bytes: number;
}

/** A read with its first and last block in bounce memory. */
interface Frame {
  /** The block that the view begins in, and how much of it is not wanted. */
  readonly head: Buffer | undefined;
  readonly before: number;
  readonly middle: Uint8Array;
  readonly tail: Buffer | undefined;
  /** The parts of the view that the two are for. */
  readonly first: Uint8Array;
  readonly last: Uint8Array;
}

export class OpenFile {
  readonly fd: number;
  readonly direct: boolean;
  readonly append: boolean;
  /** Pipes, sockets and terminals are not: all that they have is the current position. */
  readonly seekable: boolean;
  readonly alignment: Alignment;
  readonly #descriptors: Descriptors;
  readonly #inUserSpace: boolean;
  readonly #engines: readonly (EngineName | EngineSource)[];
  #queue: Queue;
  /** For what happens at the current position. What has none takes both directions at once, as a terminal does. */
  readonly #reads = new Line();
  readonly #writes: Line;

  /**
   * Takes the first engine that works, and makes its context where there is none yet.
   *
   * @param fd - open, and not closed before everything that is begun here has ended. It stays the caller's.
   * @throws AioError `ERR_AIO_NOT_SUPPORTED` for an engine that cannot work here, or not with such a file.
   */
  constructor(fd: number, { direct = false, append = false, engine = 'auto', source }: OpenFileOptions = {}) {
    this.fd = fd;
    this.direct = direct;
    this.append = append;
    this.#descriptors = source ?? kernel;
    this.seekable = this.#descriptors.seek(fd, 0, SEEK_CUR) !== -ESPIPE;
    this.alignment = direct ? this.#descriptors.alignmentOf(fd) : UNALIGNED;
    this.#writes = this.seekable ? this.#reads : new Line();
    this.#inUserSpace = source === undefined && isInUserSpace(fd);
    this.#engines = source === undefined ? fileEngines(engine, direct, this.#inUserSpace) : [source];
    this.#queue = openQueue(this.#engines);
    if (this.engine === 'io-uring' && this.#inUserSpace) {
      throw new AioError(
        'ERR_AIO_NOT_SUPPORTED',
        `The engine 'io-uring' cannot be trusted with descriptor ${fd}, whose file system is a process (FUSE, virtiofs): where that answers with less than was asked for, at the end of a file for instance, io_uring goes on at the wrong place. Use 'threads', which is what 'auto' takes`,
      );
    }
    if (this.engine === 'kernel-aio' && !this.seekable) {
      throw new AioError(
        'ERR_AIO_NOT_SUPPORTED',
        `The engine 'kernel-aio' would block this thread until something comes through descriptor ${fd}, which is no file but a pipe, a socket or a terminal: use 'io-uring' or 'threads'`,
      );
    }
  }

  get engine(): EngineName {
    return this.#queue.engine;
  }

  /** For a call of a queue that cannot be opened any more. */
  instead(failed: Queue): Queue | undefined {
    const { engine } = failed;
    if (this.#engines.length === 1) return undefined;
    try {
      this.#queue = openQueue(this.#engines.filter((name) => name !== engine));
      return this.#queue;
    } catch {
      return undefined;
    }
  }

  #ready(): Queue {
    if (!this.#queue.isOpen) this.#queue = openQueue(this.#engines);
    return this.#queue;
  }

  /**
   * The shortest way for a transfer of `length` bytes at `offset` of `view`, for callers that have a promise of their own: fills in a call
   * whose `done` is then called. Returns `undefined` where there is more to it; then {@link read} or {@link write} do it.
   */
  begin(
    operation: typeof READ | typeof WRITE,
    view: ArrayBufferView,
    offset: number,
    length: number,
    position: number,
  ): Call | undefined {
    locate('buffer', view, true);
    const { memory } = located;
    if (memory.resizable || !this.seekable) return undefined;
    const start = located.offset + offset;
    const inPlace = memory.inPlace || operation !== READ;
    if (offset + length > located.length) return undefined;
    if (this.direct && !(inPlace && this.#isAligned(memory.address + start, length, position))) return undefined;
    const queue = this.#ready();
    const call = queue.acquire();
    if (inPlace) call.transfer.setPart(operation, memory, start, length);
    else call.transfer.setSingle(operation, partOf(view, offset, length));
    call.transfer.setPosition(position);
    call.transfer.prepare(this.fd);
    call.home = this;
    queue.add(call);
    return call;
  }

  /** In 32 bits, where they are powers of two, as they are everywhere: a remainder of what is beyond is a call of fmod(3). */
  #isAligned(address: number, length: number, position: number): boolean {
    const { buffer, offset } = this.alignment;
    const addressMask = buffer - 1;
    const mask = offset - 1;
    if ((buffer & addressMask) !== 0 || (offset & mask) !== 0) {
      return address % buffer === 0 && length % offset === 0 && position % offset === 0;
    }
    return (address & addressMask) === 0 && ((length | position) & mask) === 0;
  }

  /** Resolves with the bytes that were read: fewer than the view is long are normal, as with read(2), and 0 is the end. */
  read(view: ArrayBufferView, position: Position, signal?: AbortSignal): Promise<number> {
    return this.readv([view], position, signal);
  }

  /** Like {@link read}, into several views, one after the other. */
  async readv(views: readonly ArrayBufferView[], position: Position, signal?: AbortSignal): Promise<number> {
    throwIfAborted(signal);
    if (position === null) return this.#here((at) => this.readv(views, at, signal), READ, signal);
    this.#checkSeekable('read', position);
    if (this.direct && position !== HERE) return this.#readDirect(views, position, signal);
    if (!views.some(isResizable)) return this.#transfer(READ, views, position, signal);
    // Such memory may be gone by the time that the kernel writes: the bytes come later, as far as there is room.
    const bounce = Buffer.allocUnsafeSlow(lengthOf(views));
    const bytes = await this.readPrivate([bounce], position, signal);
    scatter(bounce.subarray(0, bytes), views);
    return bytes;
  }

  /**
   * Like {@link readv}, into memory that no other code has, or gets before this has settled: without a bounce buffer. For a direct file
   * everything must be aligned already, as {@link allocate} has it.
   */
  async readPrivate(views: readonly Uint8Array[], position: Position, signal?: AbortSignal): Promise<number> {
    throwIfAborted(signal);
    if (position === null) return this.#here((at) => this.readPrivate(views, at, signal), READ, signal);
    this.#checkSeekable('read', position);
    const queue = this.#ready();
    const call = queue.acquire();
    const [view] = views;
    if (views.length === 1 && view !== undefined) {
      call.transfer.setPart(READ, new Memory(view.buffer, undefined, true), view.byteOffset, view.byteLength);
    } else {
      call.transfer.setVector(READ, views.map(Segment.unseen));
    }
    return this.#punted(call, this.#run(queue, call, position, signal));
  }

  /** A large read of the page cache is nothing but copying: several processors do that at once. (Writes to one file are done one at a time anyhow.) */
  async #punted(call: Call, run: Promise<number>): Promise<number> {
    const { transfer } = call;
    if (this.direct || transfer.length < PUNTED_BYTES || punted >= MOST_PUNTED) return run;
    transfer.punt = true;
    punted++;
    try {
      return await run;
    } finally {
      punted--;
    }
  }

  /**
   * Memory for {@link readPrivate}: an ordinary Buffer with whatever was in it, to be filled, or cut off with {@link cutOff}, before the program
   * gets it. Aligned for a direct file.
   */
  allocate(bytes: number): Buffer {
    if (this.alignment.buffer <= 1) return Buffer.allocUnsafeSlow(bytes);
    const { native } = loadNative();
    // Devices take less aligned memory, and cut a transfer in pieces for each page that it lies across: a third of the throughput was seen.
    const to = Math.max(this.alignment.buffer, native?.pageSize ?? 1);
    const room = Buffer.allocUnsafeSlow(bytes + to);
    const address = native?.address(room) ?? 0;
    const start = (to - (address % to)) % to;
    room.fill(0, 0, start).fill(0, start + bytes);
    return room.subarray(start, start + bytes);
  }

  /**
   * Fills memory from {@link allocate} with up to `size` bytes from the current position on, `depth` transfers of `chunk` bytes at a time.
   * Resolves with how many there were, with nothing in flight any more.
   */
  readAhead(buffer: Buffer, size: number, chunk: number, depth: number, signal?: AbortSignal): Promise<number> {
    return this.#reads.run(async () => {
      throwIfAborted(signal);
      const at = this.#tellHere();
      // At its own position a file is read in order.
      const bytes = await this.#readDeep(buffer, size, at, chunk, at === HERE ? 1 : depth, signal);
      this.#moved(READ, at, bytes);
      return bytes;
    }, signal);
  }

  async #readDeep(
    buffer: Buffer,
    size: number,
    at: number | bigint,
    chunk: number,
    depth: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    let next = 0;
    let end = size;
    const worker = async (): Promise<void> => {
      while (next < end) {
        let from = next;
        next += chunk;
        const to = Math.min(next, buffer.length);
        while (from < Math.min(to, end)) {
          throwIfAborted(signal);
          const bytes = await this.#readPiece(
            buffer.subarray(from, to),
            at === HERE ? HERE : Number(at) + from,
            signal,
          );
          from += bytes;
          // A direct read that ends within a block has met the end of the file, and cannot go on from there.
          if (bytes === 0 || from % this.alignment.offset !== 0) end = Math.min(end, from);
        }
      }
    };
    const workers = Array.from({ length: Math.min(depth, Math.ceil(size / chunk)) }, worker);
    for (const ended of await Promise.allSettled(workers)) if (ended.status === 'rejected') throw ended.reason;
    return end;
  }

  #readPiece(view: Buffer, position: number, signal: AbortSignal | undefined): Promise<number> {
    const fits = position === HERE || position % this.alignment.offset === 0;
    return fits ? this.readPrivate([view], position, signal) : this.#readDirect([view], position, signal);
  }

  /**
   * Resolves with the bytes that were written; fewer than the view is long where there was no more room.
   *
   * Rejects with AioError `ERR_AIO_MISALIGNED` where position or length of a direct file are not aligned: what is around it would
   * have to be read and written, too, and only the caller knows whether nobody else writes it meanwhile.
   */
  write(view: ArrayBufferView, position: Position, signal?: AbortSignal): Promise<number> {
    return this.writev([view], position, signal);
  }

  /** Like {@link write}, from several views, one after the other. */
  async writev(views: readonly ArrayBufferView[], position: Position, signal?: AbortSignal): Promise<number> {
    throwIfAborted(signal);
    if (position === null) return this.#here((at) => this.writev(views, at, signal), WRITE, signal);
    this.#checkSeekable('write', position);
    if (this.direct && position !== HERE) return this.#writeDirect(views, position, signal);
    if (!views.some(isResizable)) return this.#transfer(WRITE, views, position, signal);
    return this.#transfer(WRITE, [gather(views, Buffer.allocUnsafeSlow(lengthOf(views)))], position, signal);
  }

  /**
   * Writes all of it, in as many steps as it takes; `progress` counts what is written also where the rest fails. The parts of a direct file's blocks that it does not fill, at its head and tail, go
   * through the page cache.
   */
  async writeAll(
    view: Uint8Array,
    position: Position,
    signal?: AbortSignal,
    progress: Progress = { bytes: 0 },
  ): Promise<void> {
    throwIfAborted(signal);
    if (isResizable(view)) {
      await this.writeAll(gather([view], Buffer.allocUnsafeSlow(view.byteLength)), position, signal, progress);
      return;
    }
    if (position === null || this.append) {
      // Other writes at the end, or here, must not come in between.
      await this.#writes.run(() => this.#writeAllHere(view, progress, signal), signal);
      return;
    }
    await this.#writePieces(view, position, progress, signal);
  }

  async #writeAllHere(view: Uint8Array, progress: Progress, signal: AbortSignal | undefined): Promise<void> {
    const at = this.#tellHere();
    try {
      if (this.append && this.direct) {
        await this.#around(() => this.#writeRest(view, 0, true, progress, signal));
      } else if (at === HERE || this.append) {
        await this.#writeRest(view, at, false, progress, signal);
      } else {
        await this.#writePieces(view, at, progress, signal);
      }
    } finally {
      // What was written is written, also where the rest was not.
      this.#moved(WRITE, at, progress.bytes);
    }
  }

  async #writePieces(
    view: Uint8Array,
    position: number | bigint,
    progress: Progress,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (!this.direct) {
      await this.#writeRest(view, position, false, progress, signal);
      return;
    }
    const { offset: block } = this.alignment;
    const start = Number(position);
    const head = Math.min((block - (start % block)) % block, view.byteLength);
    const middle = Math.floor((view.byteLength - head) / block) * block;
    const end = head + middle;
    const write = (from: number, to: number, indirect: boolean): Promise<void> =>
      this.#writeRest(view.subarray(from, to), start + from, indirect, progress, signal);
    if (head > 0) await this.#around(() => write(0, head, true));
    if (middle > 0) await write(head, end, false);
    if (end < view.byteLength) await this.#around(() => write(end, view.byteLength, true));
  }

  /** Continues short writes. `indirect`: the caller has taken O_DIRECT off. */
  async #writeRest(
    view: Uint8Array,
    position: number | bigint,
    indirect: boolean,
    progress: Progress,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const direct = this.direct && !indirect;
    for (let done = 0; done < view.byteLength; ) {
      throwIfAborted(signal);
      const rest = done === 0 ? view : view.subarray(done);
      const at = position === HERE || this.append ? position : Number(position) + done;
      const bytes = await (direct
        ? this.#writeDirect([rest], at, signal)
        : this.direct
          ? this.#writeIndirect(rest, at, signal)
          : this.#transfer(WRITE, [rest], at, signal));
      // A device that takes nothing, and says nothing: another try would be the same for ever.
      if (bytes === 0) throw nodeError(-ENOSPC, 'write');
      done += bytes;
      progress.bytes += bytes;
    }
  }

  /**
   * What fills no block, with O_DIRECT off. Where a server has the file (FUSE), O_DIRECT is part of how it was opened there, and taking it off
   * here changes nothing for it: then through a descriptor that never had it. A server is not asked first: a replicated one can take
   * a second to refuse.
   */
  async #writeIndirect(view: Uint8Array, position: number | bigint, signal: AbortSignal | undefined): Promise<number> {
    // The other descriptor has a current position of its own.
    const elsewhere = position !== HERE || this.append;
    if (elsewhere && this.#inUserSpace) {
      const written = await this.#writeReopened(view, position, signal);
      if (written !== undefined) return written;
    }
    try {
      return await this.#transfer(WRITE, [view], position, signal);
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined;
      if (!elsewhere || (code !== 'EINVAL' && code !== 'ERR_AIO_MISALIGNED')) throw error;
      const written = await this.#writeReopened(view, position, signal);
      if (written === undefined) throw error;
      return written;
    }
  }

  /** Through the file opened once more; `undefined` where that cannot be done. */
  async #writeReopened(
    view: Uint8Array,
    position: number | bigint,
    signal: AbortSignal | undefined,
  ): Promise<number | undefined> {
    const again = await this.#descriptors.reopen(this.fd, this.append);
    if (again === undefined) return undefined;
    try {
      return await new OpenFile(again.fd, { append: this.append, engine: this.engine }).write(view, position, signal);
    } finally {
      await again.close();
    }
  }

  /** With O_DIRECT off for a while: other transfers that are begun meanwhile go through the page cache as well, and do no harm. */
  async #around<T>(step: () => Promise<T>): Promise<T> {
    const counts = indirect.get(this.#descriptors) ?? new Map<number, number>();
    indirect.set(this.#descriptors, counts);
    const count = counts.get(this.fd) ?? 0;
    if (count === 0 && !this.#descriptors.setDirect(this.fd, false)) return await step();
    counts.set(this.fd, count + 1);
    try {
      return await step();
    } finally {
      const left = (counts.get(this.fd) ?? 1) - 1;
      if (left > 0) counts.set(this.fd, left);
      else {
        counts.delete(this.fd);
        this.#descriptors.setDirect(this.fd, true);
      }
    }
  }

  /** fsync(2), or with `dataOnly` fdatasync(2). Covers the writes that have completed by now. */
  async flush(dataOnly: boolean, signal?: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    const queue = this.#ready();
    const call = queue.acquire();
    call.transfer.setFlush(dataOnly ? FDATASYNC : FSYNC);
    await this.#run(queue, call, 0, signal);
  }

  /** The current position; `undefined` where there is none, or nobody to ask. */
  tell(): number | undefined {
    const position = this.seekable ? this.#descriptors.seek(this.fd, 0, SEEK_CUR) : undefined;
    return position === undefined || position < 0 ? undefined : position;
  }

  /** Moves the current position on; where it is then, `undefined` where there is none. */
  advance(bytes: number): number | undefined {
    const position = this.seekable ? this.#descriptors.seek(this.fd, bytes, SEEK_CUR) : undefined;
    return position === undefined || position < 0 ? undefined : position;
  }

  /** Sets the current position, if the file has one. */
  seek(position: number): void {
    this.#descriptors.seek(this.fd, position, SEEK_SET);
  }

  /**
   * At the current position, one after the other. Kernel AIO and io_uring do not move it for transfers that complete later, so that
   * they get a position, and the file its new one when they have.
   */
  #here(
    step: (position: number | bigint) => Promise<number>,
    operation: Operation,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    return (operation === READ ? this.#reads : this.#writes).run(async () => {
      throwIfAborted(signal);
      const at = this.#tellHere();
      const bytes = await step(at);
      this.#moved(operation, at, bytes);
      return bytes;
    }, signal);
  }

  #tellHere(): number | bigint {
    return this.engine === 'threads' && !this.direct ? HERE : (this.tell() ?? HERE);
  }

  #moved(operation: Operation, from: number | bigint, bytes: number): void {
    if (from === HERE || bytes === 0) return;
    if (operation === WRITE && this.append) this.#descriptors.seek(this.fd, 0, SEEK_END);
    else this.seek(Number(from) + bytes);
  }

  #checkSeekable(syscall: string, position: number | bigint): void {
    if (!this.seekable && position !== HERE) throw nodeError(-ESPIPE, syscall);
  }

  #transfer(
    operation: typeof READ | typeof WRITE,
    views: readonly ArrayBufferView[],
    position: number | bigint,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const queue = this.#ready();
    const call = queue.acquire();
    const [view] = views;
    if (views.length === 1 && view !== undefined) call.transfer.setSingle(operation, view);
    else call.transfer.setVector(operation, Transfer.segmentsOf(views));
    return this.#run(queue, call, position, signal);
  }

  #run(queue: Queue, call: Call, position: number | bigint, signal: AbortSignal | undefined): Promise<number> {
    return new Promise((resolve, reject) => {
      const { transfer } = call;
      if (position === HERE) transfer.setCurrentPosition();
      else if (typeof position === 'bigint') transfer.setBigPosition(position);
      else transfer.setPosition(position);
      transfer.prepare(this.fd);
      call.resolve = resolve;
      call.reject = reject;
      call.done = settle;
      call.home = this;
      if (signal !== undefined) withdrawOnAbort(call, signal);
      queue.add(call);
    });
  }

  async #readDirect(
    views: readonly ArrayBufferView[],
    position: number | bigint,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const start = Number(position);
    const [view] = views;
    if (start % this.alignment.offset === 0 && views.every((each) => this.#isPlain(each, true))) {
      return this.#transfer(READ, views, position, signal);
    }
    if (views.length === 1 && view !== undefined) {
      const frame = this.#frame(view, start);
      if (frame !== undefined) return this.#readFramed(frame, start, signal);
    }
    const total = lengthOf(views);
    let done = 0;
    while (done < total) {
      throwIfAborted(signal);
      const wanted = Math.min(total - done, BOUNCE_BYTES);
      const bytes = await orNothing(done, signal, this.#readThrough(views, done, start + done, wanted, signal));
      done += bytes;
      if (bytes < wanted) break;
    }
    return done;
  }

  /** Whether a view can take part in a direct transfer as it is. */
  #isPlain(view: ArrayBufferView, inPlace: boolean): boolean {
    if (isResizable(view)) return false;
    locate('buffer', view);
    const { memory, offset, length } = located;
    return (memory.inPlace || !inPlace) && this.#isAligned(memory.address + offset, length, 0);
  }

  /** Where a large view lies so that all but its ends can be read in place. */
  #frame(view: ArrayBufferView, position: number): Frame | undefined {
    if (isResizable(view)) return undefined;
    locate('buffer', view);
    const { memory, offset, length } = located;
    const { buffer, offset: block } = this.alignment;
    const before = position % block;
    const ahead = before === 0 ? 0 : block - before;
    const inside = Math.floor((length - ahead) / block) * block;
    if (!memory.inPlace || inside < FRAMED_BYTES || (memory.address + offset + ahead) % buffer !== 0) return undefined;
    const bytes = bytesOf(view);
    return {
      head: ahead > 0 ? takeBounce(block) : undefined,
      before,
      middle: bytes.subarray(ahead, ahead + inside),
      tail: ahead + inside < length ? takeBounce(block) : undefined,
      first: bytes.subarray(0, ahead),
      last: bytes.subarray(ahead + inside),
    };
  }

  async #readFramed(frame: Frame, position: number, signal: AbortSignal | undefined): Promise<number> {
    const { head, before, middle, tail, first, last } = frame;
    const block = this.alignment.offset;
    const views: Uint8Array[] = [middle];
    if (head !== undefined) views.unshift(head.subarray(0, block));
    if (tail !== undefined) views.push(tail.subarray(0, block));
    const bytes = (await this.#transfer(READ, views, position - before, signal)) - before;
    checkAttached([middle]);
    const inFirst = clamp(bytes, first.length);
    const inLast = clamp(bytes - first.length - middle.length, last.length);
    if (head !== undefined) first.set(head.subarray(before, before + inFirst));
    if (tail !== undefined) last.set(tail.subarray(0, inLast));
    // Only now: a transfer that failed to be submitted, or whose end nobody knows, may still use them.
    for (const bounce of [head, tail]) if (bounce !== undefined) putBounce(bounce);
    return clamp(bytes, first.length + middle.length + last.length);
  }

  /** Reads `wanted` bytes through bounce memory into the views, from their byte `skip` on. */
  async #readThrough(
    views: readonly ArrayBufferView[],
    skip: number,
    position: number,
    wanted: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const block = this.alignment.offset;
    const before = position % block;
    const length = Math.ceil((before + wanted) / block) * block;
    const bounce = takeBounce(length);
    const moved = await this.#transfer(READ, [bounce.subarray(0, length)], position - before, signal);
    const bytes = clamp(moved - before, wanted);
    checkAttached(views);
    scatter(bounce.subarray(before, before + bytes), views, skip);
    putBounce(bounce);
    return bytes;
  }

  async #writeDirect(
    views: readonly ArrayBufferView[],
    position: number | bigint,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const total = lengthOf(views);
    const start = Number(position);
    this.#checkWrite(total, start);
    if (views.every((each) => this.#isPlain(each, false))) {
      const writing = this.#transfer(WRITE, views, position, signal);
      return this.append ? await writing.catch((error) => this.#explainAppend(error, total)) : await writing;
    }
    let done = 0;
    while (done < total) {
      throwIfAborted(signal);
      checkAttached(views);
      const wanted = Math.min(total - done, BOUNCE_BYTES);
      const bounce = takeBounce(wanted);
      const piece = gather(views, bounce.subarray(0, wanted), done);
      const writing = this.#transfer(WRITE, [piece], start + done, signal);
      const explained = this.append ? writing.catch((error) => this.#explainAppend(error, total)) : writing;
      const bytes = await orNothing(done, signal, explained);
      // After a failure nobody knows whether the kernel is done with it.
      if (bytes > 0) putBounce(bounce);
      done += bytes;
      if (bytes < wanted) break;
    }
    return done;
  }

  /** The kernel judges an append by where the file ends, which only it knows, and says no more than EINVAL. */
  #explainAppend(error: unknown, length: number): never {
    const { offset: block } = this.alignment;
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const end = code === 'EINVAL' ? endOf(this.fd) : 0;
    if (end % block === 0) throw error;
    throw new AioError(
      'ERR_AIO_MISALIGNED',
      `Misaligned append of ${length} bytes on descriptor ${this.fd}: the file ends at ${end}, which is ${end % block} past a multiple of ${block}. A direct file takes whole blocks of ${block} bytes at their places: use writeFile, appendFile or a stream, which see to that, or open the file without { direct: true }`,
      { errno: -EINVAL, syscall: 'write' },
    );
  }

  #checkWrite(length: number, position: number): void {
    const { offset: block } = this.alignment;
    const wrong: string[] = [];
    // With O_APPEND the kernel takes its own position.
    if (!this.append && position % block !== 0) {
      wrong.push(`its position ${position} is ${position % block} past a multiple of ${block}`);
    }
    if (length % block !== 0) wrong.push(`its length ${length} is ${length % block} past a multiple of ${block}`);
    if (wrong.length === 0) return;
    throw new AioError(
      'ERR_AIO_MISALIGNED',
      `Misaligned write of ${length} bytes at position ${position} on descriptor ${this.fd}: ${wrong.join('; ')}. A direct file takes whole blocks of ${block} bytes: write those, or use writeFile, appendFile or a stream, which see to their ends, or open the file without { direct: true }`,
      { errno: -EINVAL, syscall: 'write' },
    );
  }
}

/** The queue of the first engine that works, with its context. */
function openQueue(names: readonly (EngineName | EngineSource)[]): Queue {
  let reason: unknown;
  for (const name of names) {
    const queue = queueOf(name);
    try {
      queue.open();
      return queue;
    } catch (error) {
      // Where the kernel says no, another engine may do.
      if (!(error instanceof AioError)) throw error;
      reason = error;
    }
  }
  throw reason;
}

/**
 * Makes sure that there is an engine for a file before it is opened, and thereby perhaps created or emptied.
 *
 * @throws as {@link OpenFile} does for its engine.
 */
export function checkEngine(engine: unknown, direct: boolean): void {
  openQueue(fileEngines(engine, direct));
}

/** The end of a call that was made for a number of bytes. */
function settle(call: Call): void {
  if (call.succeeded) (call.resolve as (bytes: number) => void)(call.transfer.result);
  else call.reject(errorOf(call));
}

/** What a call that did not succeed is rejected with: Node's own kind of error, where the kernel said no. */
export function errorOf(call: Call): unknown {
  if (call.failure !== undefined) return call.failure;
  const { transfer } = call;
  const { status, operation } = transfer;
  if (status.startsWith('ERR_AIO_')) return failure(transfer, status);
  // Kernel AIO asks whether a file can be read before it asks what it is.
  if (transfer.result === -EINVAL && operation === READ && isDirectory(transfer.fd)) return nodeError(-EISDIR, 'read');
  return nodeError(transfer.result, SYSCALLS[operation]);
}

/** 0 where nobody can be asked. */
function endOf(fd: number): number {
  try {
    return fstatSync(fd).size;
  } catch {
    return 0;
  }
}

function isDirectory(fd: number): boolean {
  try {
    return fstatSync(fd).isDirectory();
  } catch {
    return false;
  }
}

const SYSCALLS: Readonly<Record<Operation, string>> = {
  [READ]: 'read',
  [WRITE]: 'write',
  [FSYNC]: 'fsync',
  [FDATASYNC]: 'fdatasync',
};

function withdrawOnAbort(call: Call, signal: AbortSignal): void {
  const { done } = call;
  const forget = onAbort(signal, () => call.queue?.withdraw(call));
  call.done = () => {
    forget();
    if (hasAborted(signal)) call.reject(abortError(signal));
    else done(call);
  };
}

/** A later step of a transfer that fails makes it a short one: the error comes again with the next. */
async function orNothing(done: number, signal: AbortSignal | undefined, step: Promise<number>): Promise<number> {
  try {
    return await step;
  } catch (error) {
    if (done === 0 || signal?.aborted === true) throw error;
    return 0;
  }
}

/** Throws `ERR_AIO_BUFFER_DETACHED` for memory that was transferred away since. */
function checkAttached(views: readonly ArrayBufferView[]): void {
  for (const view of views) locate('buffer', view, true);
}

function clamp(value: number, most: number): number {
  return Math.min(Math.max(value, 0), most);
}

/**
 * What was read into memory that is given to the program: from `start` to `end`. What was in the rest before would go with it to whoever gets its
 * ArrayBuffer, another thread for one.
 */
export function cutOff(memory: Buffer, end: number, start = 0): Buffer {
  if (start === 0 && end === memory.length) return memory;
  return memory.fill(0, end).subarray(start, end);
}

/** Of a view, from its byte `offset` on; itself where that is all of it. */
export function partOf(view: ArrayBufferView, offset: number, length: number): ArrayBufferView {
  if (offset === 0 && length === sizeOf(view)) return view;
  return bytesOf(view).subarray(offset, offset + length);
}

function lengthOf(views: readonly ArrayBufferView[]): number {
  let length = 0;
  for (const view of views) length += sizeOf(view);
  return length;
}

/** Copies bytes to where they belong in the views, which begin `skip` bytes earlier. What has no room any more is dropped. */
function scatter(bytes: Uint8Array, views: readonly ArrayBufferView[], skip = 0): void {
  let from = -skip;
  for (const view of views) {
    const into = bytesOf(view);
    const start = Math.max(-from, 0);
    const part = bytes.subarray(Math.max(from, 0), Math.max(from + into.length, 0));
    if (part.length > 0) into.set(part, start);
    from += into.length;
  }
}

/** Fills `into` with what the views hold from their byte `skip` on. */
function gather(views: readonly ArrayBufferView[], into: Buffer, skip = 0): Buffer {
  let at = -skip;
  for (const view of views) {
    const bytes = bytesOf(view);
    const part = bytes.subarray(Math.max(-at, 0), Math.max(into.length - at, 0));
    if (part.length > 0 && at + bytes.length > 0 && at < into.length) into.set(part, Math.max(at, 0));
    at += bytes.length;
  }
  return into;
}
