/**
 * What a request is inside: the fields that contexts change and engines read. One object per request for its whole
 * life, every field always there and always of one type, so that preparing and completing allocate nothing.
 */
import { locate, located, Memory } from './buffer.ts';
import { type AioError, checkInteger, ENOMEM, invalidArgType, isArray, systemError } from './errors.ts';
import type { AioRequest } from './request.ts';

export const READ = 0;
export const WRITE = 1;
export const FSYNC = 2;
export const FDATASYNC = 3;
export type Operation = typeof READ | typeof WRITE | typeof FSYNC | typeof FDATASYNC;

export const COMPLETED = 0;
export const PREPARED = 1;
export const SUBMITTED = 2;
export const DISPOSED = 3;

/**
 * Segments of one system call: IOV_MAX, see readv(2). A vectored request with more goes down in groups, one after the
 * other.
 */
const GROUP = 1024;

/** A bounce buffer above this is dropped after its transfer instead of being kept for the request's next. */
const BOUNCE_KEPT = 1024 * 1024;

const NO_MEMORY = new Memory(new ArrayBuffer(0));
const NO_BYTES = new Uint8Array(0);

/** What cancels a submitted transfer: the context that it was submitted to. */
export interface Canceler {
  cancel(transfer: Transfer): boolean;
}

/** One buffer of a transfer. */
export class Segment {
  /** The one that was located last, where it need not be located again. */
  view: ArrayBufferView = NO_BYTES;
  memory: Memory = NO_MEMORY;
  /** Of the view in its ArrayBuffer. */
  offset = 0;
  length = 0;
  /** Where the kernel transfers to or from, as two signed halves, which V8 keeps without allocating. */
  addressLow = 0;
  addressHigh = 0;
  /** Of the bytes in the bounce buffer, or -1 when the transfer is in place. */
  bounceOffset = -1;

  set(name: string, view: ArrayBufferView): void {
    // Offset and length of a view never change (resizable memory is refused, and what may grow not remembered); it can only lose its memory.
    if (view !== this.view || this.memory.detached) {
      locate(name, view);
      this.view = located.memory.growable ? NO_BYTES : view;
      this.memory = located.memory;
      this.offset = located.offset;
      this.length = located.length;
      this.bounceOffset = 0;
    }
    if (this.bounceOffset < 0) return;
    this.address = this.memory.address + this.offset;
    this.bounceOffset = -1;
  }

  setPart(memory: Memory, offset: number, length: number): void {
    this.view = NO_BYTES;
    this.memory = memory;
    this.offset = offset;
    this.length = length;
    this.address = memory.address + offset;
    this.bounceOffset = -1;
  }

  get address(): number {
    return this.addressHigh * 2 ** 32 + (this.addressLow >>> 0);
  }

  set address(value: number) {
    this.addressLow = value | 0;
    this.addressHigh = Math.floor(value / 2 ** 32) | 0;
  }

  /** All of memory that nobody else has until the transfer has ended. */
  static unseen(view: Uint8Array): Segment {
    const segment = new Segment();
    segment.setPart(new Memory(view.buffer, undefined, true), view.byteOffset, view.byteLength);
    return segment;
  }

  copyFromBounce(bounce: Memory, bytes: number): void {
    const from = new Uint8Array(bounce.store, this.bounceOffset, bytes);
    new Uint8Array(this.memory.store, this.offset, bytes).set(from);
  }

  clear(): void {
    this.view = NO_BYTES;
    this.memory = NO_MEMORY;
    this.offset = this.length = 0;
  }
}

export class Transfer {
  readonly request: AioRequest<unknown>;
  state: typeof COMPLETED | typeof PREPARED | typeof SUBMITTED | typeof DISPOSED = COMPLETED;
  /** The submit call that saw it last: tells a request that stands twice in one array. */
  batch = 0;

  operation: Operation = READ;
  vectored = false;
  fd = 0;
  /** 64 bits as two signed halves. */
  positionLow = 0;
  positionHigh = 0;

  /** The segment of a transfer of one buffer: the first of `segments` then, and the shortest way to it. */
  readonly single = new Segment();
  /** The first `count` of these are this transfer's. */
  readonly segments: Segment[] = [this.single];
  count = 0;
  /** Of all segments together, in bytes. */
  length = 0;
  /** The group of segments that the kernel has now, its bytes, and the bytes of the groups before it. */
  from = 0;
  to = 0;
  groupLength = 0;
  moved = 0;

  #bounce = NO_MEMORY;
  #bounced = false;

  slot = -1;
  context: Canceler | undefined = undefined;
  cancelAsked = false;
  /** It was answered that the transfer is over; its completion may still wait to be handed out. */
  canceled = false;

  /**
   * Another thread is to do it from the start, where the engine has such: what is copied from the page cache within the
   * submission holds up the event loop, and the other processors have nothing to do.
   */
  punt = false;

  /** Its caller was told that it failed, and has its memory back: nothing is brought there, and nothing more begun. */
  abandoned = false;

  /** As the kernel gave it: bytes, or the negative errno. */
  result = 0;
  status = 'OK';
  /** What explains the status to people, where the code alone does not. */
  detail = '';
  /** Of the outcome, once somebody has asked for it. */
  error: AioError | undefined = undefined;

  constructor(request: AioRequest<unknown>) {
    this.request = request;
  }

  /** Takes the arguments of a read or write of one buffer. Changes nothing that counts when it throws. */
  setSingle(operation: Operation, view: ArrayBufferView): void {
    const segment = this.single;
    if (operation === READ && (view !== segment.view || !segment.memory.inPlace)) {
      locate('buffer', view);
      if (!located.memory.inPlace) this.#reserve(bounceRoom(located.length));
    }
    segment.set('buffer', view);
    this.operation = operation;
    if (this.vectored) this.#unvector();
    this.count = 1;
    this.length = this.groupLength = segment.length;
    this.#begin();
    if (operation === READ && !segment.memory.inPlace) this.#setBounce();
  }

  /** The same for a part of memory that was located already; a read must be in place. */
  setPart(operation: Operation, memory: Memory, offset: number, length: number): void {
    this.single.setPart(memory, offset, length);
    this.operation = operation;
    if (this.vectored) this.#unvector();
    this.count = 1;
    this.length = this.groupLength = length;
    this.#begin();
  }

  /** The last step of preparing: nothing after it may fail. */
  prepare(fd: number): void {
    this.fd = fd;
    this.state = PREPARED;
    this.detail = '';
    this.error = undefined;
    this.cancelAsked = this.canceled = this.abandoned = this.punt = false;
  }

  /** The segments of an array of views. Reading the array may run the program's code. */
  static segmentsOf(views: readonly ArrayBufferView[]): Segment[] {
    if (!isArray(views)) throw invalidArgType('buffers', 'an array of Buffers, TypedArrays or DataViews', views);
    const segments: Segment[] = [];
    // Not by its iterator, which may be anybody's, and have no end.
    const count = checkInteger('buffers.length', views.length, 0, 2 ** 32 - 1);
    for (let index = 0; index < count; index++) {
      const segment = new Segment();
      segment.set(`buffers[${index}]`, views[index] as ArrayBufferView);
      segments.push(segment);
    }
    return segments;
  }

  /** Takes the arguments of a vectored read or write. */
  setVector(operation: Operation, segments: readonly Segment[]): void {
    let room = 0;
    for (const { memory, length } of segments) if (!memory.inPlace) room += bounceRoom(length);
    if (operation === READ) this.#reserve(room);
    if (!this.vectored) this.single.clear();
    this.operation = operation;
    this.vectored = true;
    this.count = this.segments.length = segments.length;
    this.length = 0;
    for (const [index, segment] of segments.entries()) {
      this.segments[index] = segment;
      this.length += segment.length;
    }
    this.#begin();
    this.nextGroup();
    if (operation === READ && room > 0) this.#setBounce();
  }

  setFlush(operation: Operation): void {
    this.operation = operation;
    if (this.vectored) this.#unvector();
    this.count = this.length = this.groupLength = 0;
    this.#begin();
  }

  #unvector(): void {
    this.vectored = false;
    this.segments[0] = this.single;
    this.segments.length = 1;
  }

  #begin(): void {
    this.from = this.to = this.moved = 0;
    this.#bounced = false;
  }

  setPosition(position: number): void {
    this.positionLow = position | 0;
    this.positionHigh = position < 2 ** 31 ? 0 : Math.floor(position / 2 ** 32);
  }

  /** Where the file is now, as read(2) has it; for engines that can, and files where the kernel cannot be told otherwise. */
  setCurrentPosition(): void {
    this.positionLow = this.positionHigh = -1;
  }

  get atCurrentPosition(): boolean {
    return this.positionHigh < 0;
  }

  setBigPosition(position: bigint): void {
    this.positionLow = Number(BigInt.asIntN(32, position));
    this.positionHigh = Number(position >> 32n);
  }

  get position(): bigint {
    return (BigInt(this.positionHigh) << 32n) | BigInt(this.positionLow >>> 0);
  }

  /** Moves on to the segments that the next system call takes. */
  nextGroup(): void {
    if (this.from < this.to) {
      if (!this.atCurrentPosition) this.setBigPosition(this.position + BigInt(this.groupLength));
      this.moved += this.groupLength;
    }
    this.from = this.to;
    this.to = Math.min(this.count, this.from + GROUP);
    this.groupLength = 0;
    for (let index = this.from; index < this.to; index++) this.groupLength += this.segments[index]?.length ?? 0;
  }

  /** After a whole group was transferred: is there another? */
  get hasMore(): boolean {
    // Who reads at the current position takes what is there: the next group could wait for what never comes.
    const whole = this.atCurrentPosition && this.operation === READ;
    return this.vectored && this.to < this.count && !whole && !this.abandoned;
  }

  /** Makes room in the bounce buffer. The only step of preparing that can run out of memory, so it comes before any change. */
  #reserve(room: number): void {
    if (this.#bounce.store.byteLength >= room) return;
    let store: ArrayBuffer;
    try {
      store = new ArrayBuffer(room);
    } catch {
      throw systemError(
        -ENOMEM,
        'malloc',
        `making a bounce buffer of ${room} bytes`,
        'Read into memory from allocBuffer()',
      );
    }
    this.#bounce = new Memory(store);
  }

  /**
   * Reads into memory that JavaScript could take away go to memory that it never sees. Addresses keep their remainder, so
   * that direct I/O finds misaligned what is misaligned, and nothing else.
   */
  #setBounce(): void {
    let offset = 0;
    for (let index = 0; index < this.count; index++) {
      const segment = this.segments[index];
      if (segment === undefined || segment.memory.inPlace) continue;
      const modulus = congruence(segment.length);
      const remainder = segment.address % modulus;
      offset += (remainder - ((this.#bounce.address + offset) % modulus) + modulus) % modulus;
      segment.bounceOffset = offset;
      segment.address = this.#bounce.address + offset;
      offset += segment.length;
    }
    this.#bounced = true;
  }

  /**
   * The bytes of one segment that are transferred to or from: its own, or those of its bounce buffer. For engines that pass
   * memory on as an object. Not for a segment that is detached.
   */
  bytes(index: number): Uint8Array {
    const segment = this.segments[index];
    if (segment === undefined || segment.length === 0) return NO_BYTES;
    const { memory, offset, bounceOffset, length } = segment;
    return bounceOffset < 0
      ? new Uint8Array(memory.store, offset, length)
      : new Uint8Array(this.#bounce.store, bounceOffset, length);
  }

  /** Some of its memory belongs to somebody else now. */
  get detached(): boolean {
    if (!this.vectored) return this.length > 0 && this.single.memory.detached;
    for (let index = 0; index < this.count; index++) {
      const segment = this.segments[index];
      if (segment?.memory.detached === true && segment.length > 0) return true;
    }
    return false;
  }

  /** The kernel is about to have the memory. Undone by {@link unpin}. */
  pin(): void {
    if (!this.vectored) {
      if (this.count > 0) this.single.memory.pin();
      return;
    }
    for (let index = 0; index < this.count; index++) this.segments[index]?.memory.pin();
  }

  /** True if some of the memory belongs to somebody else by now. */
  unpin(): boolean {
    if (!this.vectored) return this.count > 0 && this.single.memory.unpin() && this.length > 0;
    const { detached } = this;
    for (let index = 0; index < this.count; index++) this.segments[index]?.memory.unpin();
    return detached;
  }

  /** Brings `bytes` that were read through a bounce buffer to where they were wanted. */
  deliver(bytes: number): void {
    if (!this.#bounced || this.abandoned) return;
    let left = bytes;
    for (let index = 0; index < this.count && left > 0; index++) {
      const segment = this.segments[index];
      if (segment === undefined) break;
      const part = Math.min(left, segment.length);
      // An empty one may lie in memory that was transferred away: nothing is lost there, and nothing can be brought there.
      if (segment.bounceOffset >= 0 && part > 0) segment.copyFromBounce(this.#bounce, part);
      left -= part;
    }
    if (this.#bounce.store.byteLength > BOUNCE_KEPT) this.#bounce = NO_MEMORY;
    this.#bounced = false;
  }

  /** The same, but for a bounce buffer of up to `bytes`: it is going to be used again. */
  forget(bytes: number): void {
    if (this.vectored) this.#unvector();
    this.single.clear();
    this.count = this.length = 0;
    if (this.#bounce.store.byteLength > bytes) this.#bounce = NO_MEMORY;
  }

  /** Drops every reference to memory. */
  clear(): void {
    this.#unvector();
    this.single.clear();
    this.count = this.length = 0;
    this.#bounce = NO_MEMORY;
  }
}

function bounceRoom(length: number): number {
  return length + 2 * congruence(length);
}

function congruence(length: number): number {
  return length >= 512 ? 4096 : 64;
}
