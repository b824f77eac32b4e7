/**
 * Memory that the kernel reads from and writes to: where it is, who keeps it, and aligned buffers.
 *
 * JavaScript can take memory away in mid-flight: `structuredClone` with a transfer list, `postMessage`,
 * `ArrayBuffer.prototype.transfer`. The bytes then belong to another object, and are freed with it, while the kernel
 * still writes to the old address. Nothing in Node-API pins them. So a transfer *into* memory is done in place only where
 * that cannot happen: memory from `allocBuffer` and `AlignedPool` (the shim frees it, and not before the kernel is
 * done) and SharedArrayBuffers (they cannot be detached). Everything else is read through a bounce buffer.
 */
import { constants } from 'node:buffer';
import { types } from 'node:util';
import { markAsUntransferable } from 'node:worker_threads';
import {
  AioError,
  checkInteger,
  ENOMEM,
  EOPNOTSUPP,
  invalidArgType,
  invalidArgValue,
  outOfRange,
  systemError,
} from './errors.ts';
import { loadNative } from './native.ts';

// The accessors themselves: a subclass or an own property could answer for them, and the kernel would believe it.
type Getter<T> = (this: unknown) => T;

function getter<T>(prototype: object, key: string | symbol): (target: object) => T {
  const get = Object.getOwnPropertyDescriptor(prototype, key)?.get as Getter<T>;
  return Function.prototype.call.bind(get) as (target: object) => T;
}

const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;
const tagOf = getter<string | undefined>(typedArray, Symbol.toStringTag);
const arrayStore = getter<ArrayBufferLike>(typedArray, 'buffer');
const arrayOffset = getter<number>(typedArray, 'byteOffset');
const arrayLength = getter<number>(typedArray, 'byteLength');
const viewStore = getter<ArrayBufferLike>(DataView.prototype, 'buffer');
const viewOffset = getter<number>(DataView.prototype, 'byteOffset');
const viewLength = getter<number>(DataView.prototype, 'byteLength');
const unsharedSize = getter<number>(ArrayBuffer.prototype, 'byteLength');
const sharedSize = getter<number>(SharedArrayBuffer.prototype, 'byteLength');

const unsharedResizable = getter<boolean>(ArrayBuffer.prototype, 'resizable');
const sharedGrowable = getter<boolean>(SharedArrayBuffer.prototype, 'growable');

/** One ArrayBuffer or SharedArrayBuffer: its address, and the count of transfers in flight over it. */
export class Memory {
  readonly store: ArrayBufferLike;
  /** Of the first byte; 0 where there are no bytes. */
  readonly address: number;
  /** The kernel may write here directly: JavaScript cannot take these bytes away while it does. */
  readonly inPlace: boolean;
  /** The bytes may come and go under the kernel: it must not have them. */
  readonly resizable: boolean;
  /** There may be more bytes later, at the same address: views of it may grow, too. */
  readonly growable: boolean;
  readonly #size: number;
  /** A view whose length falls to 0 when the memory is taken away: faster to ask than the ArrayBuffer itself. */
  readonly #probe: Uint8Array;
  /** Transfers in flight over memory that the shim allocated: it frees none while this is above 0. */
  readonly #pins: Int32Array | undefined;

  /** @param unseen - no other code has this memory, or gets it before the transfers over it have ended. */
  constructor(store: ArrayBufferLike, pins?: ArrayBuffer, unseen = false) {
    this.store = store;
    const shared = types.isSharedArrayBuffer(store);
    this.resizable = !shared && unsharedResizable(store as ArrayBuffer);
    this.growable = shared && sharedGrowable(store);
    this.#size = shared ? sharedSize(store) : unsharedSize(store);
    this.address = this.#size === 0 ? 0 : (loadNative().native?.address(new Uint8Array(store, 0, 1)) ?? 0);
    this.inPlace = unseen || shared || pins !== undefined || this.#size === 0;
    this.#pins = pins === undefined ? undefined : new Int32Array(pins);
    this.#probe = this.#size === 0 ? new Uint8Array(0) : new Uint8Array(store, 0, 1);
  }

  /** True once the bytes belong to somebody else. */
  get detached(): boolean {
    return this.#probe.length === 0 && this.#size > 0;
  }

  /** From here on the bytes outlive their ArrayBuffer. Each `pin` is undone by one `unpin`. */
  pin(): void {
    const pins = this.#pins;
    if (pins !== undefined) pins[0] = (pins[0] ?? 0) + 1;
  }

  /** True if the bytes belong to somebody else by now. */
  unpin(): boolean {
    const pins = this.#pins;
    const { detached } = this;
    if (pins === undefined) return detached;
    pins[0] = (pins[0] ?? 0) - 1;
    if (detached) loadNative().native?.sweep();
    return detached;
  }
}

const memories = new WeakMap<ArrayBufferLike, Memory>();

function memoryOf(store: ArrayBufferLike): Memory {
  let memory = memories.get(store);
  if (memory === undefined) {
    memory = new Memory(store);
    // What has no bytes has no address. It may get both.
    if (memory.address !== 0 || !memory.growable) memories.set(store, memory);
  }
  return memory;
}

/** Where a view lies. The fields of one object are filled anew by each {@link locate}: the hot path allocates nothing. */
export const located: { memory: Memory; offset: number; length: number } = {
  memory: new Memory(new ArrayBuffer(0)),
  offset: 0,
  length: 0,
};

/**
 * Fills {@link located} for an argument called `name`.
 *
 * @param resizable - whether memory that can be resized will do.
 * @throws `ERR_INVALID_ARG_TYPE` for anything but a view, `ERR_INVALID_ARG_VALUE` for a view of a resizable ArrayBuffer,
 * `ERR_AIO_BUFFER_DETACHED` for a view of one that was transferred away.
 */
export function locate(name: string, view: ArrayBufferView, resizable = false): void {
  if (!ArrayBuffer.isView(view)) throw invalidArgType(name, 'a Buffer, TypedArray or DataView', view);
  if (tagOf(view) !== undefined) {
    located.offset = arrayOffset(view);
    located.length = arrayLength(view);
    located.memory = memoryOf(arrayStore(view));
  } else {
    const store = viewStore(view);
    if (!types.isSharedArrayBuffer(store) && unsharedSize(store) === 0) {
      // DataView's own accessors throw a bare TypeError on a detached buffer.
      located.offset = 0;
      located.length = 0;
    } else {
      located.offset = viewOffset(view);
      located.length = viewLength(view);
    }
    located.memory = memoryOf(store);
  }
  const { memory } = located;
  if (memory.resizable && !resizable) {
    throw invalidArgValue(
      name,
      'is a view of a resizable ArrayBuffer: the memory could shrink under the kernel. Use a fixed-length one, or allocBuffer()',
      view,
    );
  }
  if (located.length === 0 && isDetached(memory.store)) throw detachedError(name);
}

function detachedError(name: string): AioError {
  return new AioError(
    'ERR_AIO_BUFFER_DETACHED',
    `The "${name}" argument is a view of an ArrayBuffer that was transferred away: it has no memory. Use the buffer that the transfer returned`,
  );
}

/** How many bytes a view has, by what it is and not by what it says. @throws as {@link bytesOf}. */
export function sizeOf(view: ArrayBufferView): number {
  if (tagOf(view) !== undefined) return arrayLength(view);
  try {
    return viewLength(view);
  } catch {
    throw detachedError('buffer');
  }
}

/**
 * The bytes of a view. None where a typed array has lost its memory.
 *
 * @throws `ERR_AIO_BUFFER_DETACHED` for a DataView that has: those have no length to ask for.
 */
export function bytesOf(view: ArrayBufferView): Uint8Array {
  const length = sizeOf(view);
  if (length === 0) return new Uint8Array(0);
  return tagOf(view) !== undefined
    ? new Uint8Array(arrayStore(view), arrayOffset(view), length)
    : new Uint8Array(viewStore(view), viewOffset(view), length);
}

/** Whether the memory of a view may come and go under it. The kernel must not have such. */
export function isResizable(view: ArrayBufferView): boolean {
  const buffer = tagOf(view) !== undefined ? arrayStore(view) : viewStore(view);
  return !types.isSharedArrayBuffer(buffer) && unsharedResizable(buffer);
}

function isDetached(store: ArrayBufferLike): boolean {
  if (types.isSharedArrayBuffer(store) || unsharedSize(store) > 0) return false;
  try {
    new Uint8Array(store);
    return false;
  } catch {
    return true;
  }
}

/** Buffers share no cache line: processors would fight over it. */
const CACHE_LINE = 64;

/**
 * Deno would move the shim's memory to another thread, and free it there. Not on Node: it does not move such memory anyhow, and from
 * 24 on it aborts at its end over what is marked.
 */
const keepOnThread: (store: ArrayBuffer) => void = 'Deno' in globalThis ? markAsUntransferable : () => undefined;

function allocate(size: number, alignment: number): Buffer {
  const { native } = loadNative();
  if (native === undefined) return ordinary(size, alignment);
  if (size === 0) return Buffer.alloc(0);
  const allocated = native.alloc(size, Math.max(alignment, CACHE_LINE));
  if (typeof allocated !== 'number') {
    const [store, pins] = allocated;
    keepOnThread(store);
    memories.set(store, new Memory(store, pins));
    return Buffer.from(store);
  }
  // A runtime that keeps JavaScript memory in a sandbox takes none from outside.
  if (allocated === -EOPNOTSUPP) return ordinary(size, alignment);
  throw systemError(allocated, 'posix_memalign', `allocating ${size} bytes aligned to ${alignment}`, 'Ask for less');
}

/** Before Node 26 it takes no alignment, and ignores one. */
const unsafeSlow = Buffer.allocUnsafeSlow as (size: number, alignment?: number) => Buffer;

/** What there is without memory of our own: aligned where the address is known or the runtime does it, and read through bounce buffers. */
function ordinary(size: number, alignment: number): Buffer {
  try {
    if (unsafeSlow.length >= 2) return unsafeSlow(size, alignment).fill(0);
    const { native } = loadNative();
    if (native === undefined) return Buffer.from(new ArrayBuffer(size));
    const store = new Uint8Array(new ArrayBuffer(size + alignment));
    return Buffer.from(store.buffer, (alignment - (native.address(store) % alignment)) % alignment, size);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    // As the shim has it: what V8 says is "Array buffer allocation failed".
    throw systemError(-ENOMEM, 'malloc', `allocating ${size} bytes aligned to ${alignment}`, 'Ask for less');
  }
}

function checkAlignment(name: string, alignment: unknown): number {
  const value = checkInteger(name, alignment, 1, 2 ** 30);
  if ((value & (value - 1)) !== 0) throw outOfRange(name, 'a power of two', value);
  return value;
}

function pageSize(): number {
  return loadNative().native?.pageSize ?? 4096;
}

/**
 * Zeroed memory whose address is a multiple of `alignment`, as direct I/O needs it. Transfers into it are done in place,
 * without a copy. The Buffer is the caller's and is freed by garbage collection, never before a transfer that is in
 * flight over it has ended.
 *
 * Its ArrayBuffer is as large as it is. On Node, it cannot be transferred to another thread: posting it copies, or is refused.
 *
 * Without the native shim the memory is ordinary: reads into it pass through a bounce buffer, and the alignment is a best
 * effort (Node 26 has it; before that, the address of JavaScript's memory cannot be known). Only direct I/O needs it.
 *
 * @param size - in bytes, 0 … `buffer.constants.MAX_LENGTH`.
 * @param alignment - in bytes, a power of two up to 2^30; default: the page size, which suits every file system.
 * @throws RangeError `ERR_OUT_OF_RANGE`, TypeError `ERR_INVALID_ARG_TYPE`; AioError `ENOMEM`.
 *
 * Costs one posix_memalign(3) and zeroing. For many buffers of one size, {@link AlignedPool} is cheaper.
 *
 * @example
 * ```ts
 * import { allocBuffer } from 'fileaio';
 *
 * const buffer = allocBuffer(1 << 20); // 1 MiB at a page boundary, zeroed
 * console.log(buffer.length, buffer.every((byte) => byte === 0)); // => 1048576 true
 * ```
 */
export function allocBuffer(size: number, alignment?: number): Buffer {
  checkInteger('size', size, 0, constants.MAX_LENGTH);
  return allocate(size, alignment === undefined ? pageSize() : checkAlignment('alignment', alignment));
}

/** The memory of a pool, for contexts; `undefined` for anything that is none. */
export let slabOf: (pool: unknown) => Memory | undefined;

/** What an {@link AlignedPool} is made of. */
export interface AlignedPoolOptions {
  /** Bytes of each buffer, 1 or more. */
  readonly size: number;
  /** How many buffers, 1 or more. */
  readonly count: number;
  /** Of each buffer's address, in bytes: a power of two; default: the page size. */
  readonly alignment?: number;
}

/**
 * One slab of memory, cut into `count` aligned buffers of `size` bytes that are lent out and given back. Each time it is lent a
 * part gets a new Buffer object, so that a borrower who kept the old one cannot release it for the next. The slab is zeroed once, when it is made; a buffer that comes back is lent again as it is.
 *
 * A buffer must not be released while a request that uses it is submitted: the next borrower would share it.
 *
 * @example
 * ```ts
 * import { AlignedPool } from 'fileaio';
 *
 * const pool = new AlignedPool({ size: 4096, count: 32 });
 * const buffer = pool.acquire();
 * console.log(pool.available, buffer?.length); // => 31 4096
 * if (buffer !== undefined) pool.release(buffer); // the very object that acquire gave, once
 * console.log(pool.available); // => 32
 * ```
 */
export class AlignedPool {
  readonly #size: number;
  readonly #count: number;
  readonly #stride: number;
  readonly #slab: Buffer;
  readonly #memory: Memory;
  /** Indexes of the parts that nobody has. */
  readonly #free: number[] = [];
  readonly #lent = new Map<Buffer, number>();

  /**
   * Costs one allocation of `count` × `size`, rounded up to the alignment, and zeroing it.
   *
   * @throws as {@link allocBuffer} does.
   */
  constructor(options: AlignedPoolOptions) {
    if (typeof options !== 'object' || options === null) throw invalidArgType('options', 'an object', options);
    this.#size = checkInteger('options.size', options.size, 1, constants.MAX_LENGTH);
    this.#count = checkInteger('options.count', options.count, 1, 2 ** 24);
    const alignment =
      options.alignment === undefined ? pageSize() : checkAlignment('options.alignment', options.alignment);
    this.#stride = Math.ceil(this.#size / alignment) * alignment;
    if (this.#stride * this.#count > constants.MAX_LENGTH) {
      throw outOfRange(
        'options.count',
        `at most ${Math.floor(constants.MAX_LENGTH / this.#stride)} for buffers of ${this.#size} bytes`,
        this.#count,
      );
    }
    this.#slab = allocate(this.#stride * this.#count, alignment);
    this.#memory = memoryOf(this.#slab.buffer);
    for (let index = this.#count - 1; index >= 0; index--) this.#free.push(index);
  }

  static {
    slabOf = (pool) => (typeof pool === 'object' && pool !== null && #memory in pool ? pool.#memory : undefined);
  }

  /** Bytes of each buffer. */
  get size(): number {
    return this.#size;
  }

  /** How many buffers there are in all. */
  get count(): number {
    return this.#count;
  }

  /** How many buffers can be acquired now. */
  get available(): number {
    return this.#free.length;
  }

  /**
   * A buffer that nobody else has, or `undefined` when all are lent. Costs one Buffer object over memory that is there already.
   *
   * @throws AioError `ERR_AIO_BUFFER_DETACHED`: the ArrayBuffer that all of the pool's buffers lie in was transferred away.
   */
  acquire(): Buffer | undefined {
    if (this.#memory.detached) {
      throw new AioError(
        'ERR_AIO_BUFFER_DETACHED',
        "The memory of this pool was transferred away with one of its buffers' ArrayBuffer: make a new AlignedPool",
      );
    }
    const index = this.#free.pop();
    if (index === undefined) return undefined;
    const start = index * this.#stride;
    const buffer = this.#slab.subarray(start, start + this.#size);
    this.#lent.set(buffer, index);
    return buffer;
  }

  /**
   * Takes back a buffer that {@link acquire} gave.
   *
   * @throws TypeError `ERR_INVALID_ARG_VALUE`: not a buffer of this pool (a part of one is not either), or already released.
   */
  release(buffer: Buffer): void {
    const index = this.#lent.get(buffer);
    if (index === undefined) {
      throw invalidArgValue(
        'buffer',
        'is not lent by this pool, or was released already: whoever acquired its memory since would share it with you. Release the very object that acquire() returned, once',
        buffer,
      );
    }
    this.#lent.delete(buffer);
    this.#free.push(index);
  }
}
