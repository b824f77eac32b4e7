/**
 * node:fs: system calls on libuv's thread pool, on every platform, without native code of this library.
 *
 * libuv has no way to take a request back that node:fs gave it, and all of the process shares its pool. So each engine hands
 * out a bounded number at once and queues the others itself, where they can be canceled.
 *
 * Memory: node:fs holds the view that it was given until the callback, and waits for its requests before a thread ends. What
 * JavaScript could take away is read through the transfer's bounce buffer, which nobody else can reach.
 */

import { fdatasync, fsync, read, readv, write, writev } from 'node:fs';
import { constants } from 'node:os';
import type { Engine, EngineDriver, EngineHost } from '../engine.ts';
import { AioError, ECANCELED, EFBIG, EINVAL } from '../errors.ts';
import { clearImmediate, clearInterval, setImmediate, setInterval } from '../time.ts';
import { FDATASYNC, FSYNC, READ, type Transfer } from '../transfer.ts';
import { canWatch, WakeCell } from '../wake.ts';

const MAX_OUTSTANDING = 131_072;

/**
 * How many node:fs has at most, for each thread of the pool: enough that it finds the next while the event loop is busy, few
 * enough to leave some to cancel. Refilled when half of them ended: one by one, each would wake a thread that had just gone to
 * sleep, which costs a third of the throughput.
 */
const HANDED_PER_THREAD = 8;

/** The most that Linux moves in one call. What is beyond 2^31 - 1 is too much for other systems, and for node:fs. */
const MAX_BYTES = 0x7ffff000;

/** Above, positions are no safe integers: read(2) of node:fs takes them as bigints, its other calls not at all. */
const MAX_POSITION_HIGH = 2 ** 21 - 1;

/** The longest interval of setInterval. */
const FOREVER_MS = 2 ** 31 - 1;
/** How often to look for wake-ups where nothing tells of them. */
const LOOK_MS = 5;

const CANNOT_BLOCK =
  "The engine 'threads' cannot do waitSync: its completions come through the event loop, which a blocked thread does not run. Use wait, or an engine that can: 'io-uring' or 'kernel-aio', on Linux";

/**
 * Engines that somebody waits on: held here, and the event loop with them. Requests of node:fs keep the loop alive as well, even
 * when nobody waits for them, but they are short; a wait for nothing but a wake-up needs something that does.
 */
const armed = new Set<Threads>();
let keeper: NodeJS.Timeout | undefined;

function hold(engine: Threads): void {
  armed.add(engine);
  keeper ??= setInterval(look, canWatch ? FOREVER_MS : LOOK_MS);
}

function release(engine: Threads): void {
  armed.delete(engine);
  if (armed.size > 0) return;
  clearInterval(keeper);
  keeper = undefined;
}

function look(): void {
  for (const engine of armed) engine.look();
}

/** As libuv reads it, when the pool is first used. */
function poolSize(): number {
  const wanted = process.env.UV_THREADPOOL_SIZE;
  if (wanted === undefined) return 4;
  return Math.min(Math.max(Number.parseInt(wanted, 10) || 1, 1), 1024);
}

type Done = (error: NodeJS.ErrnoException | null | undefined, bytes?: number) => void;

/** Deno's errors often have a code only. */
function errnoOf({ errno, code = '' }: NodeJS.ErrnoException): number {
  const numbers: NodeJS.Dict<number> = constants.errno;
  return errno ?? -(numbers[code] ?? EINVAL);
}

/** `null`: where the file is now. */
function positionOf(transfer: Transfer): number | bigint | null {
  const { positionLow, positionHigh } = transfer;
  if (transfer.atCurrentPosition) return null;
  return positionHigh > MAX_POSITION_HIGH ? transfer.position : positionHigh * 2 ** 32 + (positionLow >>> 0);
}

/** Gives one transfer to node:fs. Returns the negative errno of one that it cannot take; `done` is not called then. */
function start(transfer: Transfer, done: Done): number | undefined {
  const { fd, operation, vectored } = transfer;
  if (operation === FSYNC || operation === FDATASYNC) {
    (operation === FSYNC ? fsync : fdatasync)(fd, done);
    return undefined;
  }
  const position = positionOf(transfer);
  // A read of nothing would not get to the kernel, which has something to say about the descriptor.
  if (operation === READ && !vectored && transfer.length > 0) {
    const bytes = transfer.bytes(0);
    read(fd, bytes, 0, Math.min(bytes.length, MAX_BYTES), position, done);
    return undefined;
  }
  // These would take a bigint for "where the file is now".
  if (typeof position === 'bigint') return operation === READ ? -EINVAL : -EFBIG;
  if (vectored || operation === READ) {
    (operation === READ ? readv : writev)(fd, viewsOf(transfer), position, done);
  } else {
    const bytes = transfer.bytes(0);
    write(fd, bytes, 0, Math.min(bytes.length, MAX_BYTES), position, done);
  }
  return undefined;
}

/** The present group of segments, without empty ones, cut off where one call ends; one empty view where nothing is left. */
function viewsOf(transfer: Transfer): Uint8Array[] {
  const views: Uint8Array[] = [];
  let left = MAX_BYTES;
  for (let index = transfer.from; index < transfer.to && left > 0; index++) {
    const bytes = transfer.bytes(index);
    if (bytes.length === 0) continue;
    views.push(bytes.length <= left ? bytes : bytes.subarray(0, left));
    left -= bytes.length;
  }
  // libuv refuses an empty array; this way the descriptor is still looked at.
  return views.length > 0 ? views : [new Uint8Array(0)];
}

class Threads implements Engine {
  readonly name = 'threads';
  readonly cannotBlock = CANNOT_BLOCK;
  readonly cell = new WakeCell(-1);
  readonly abandon: () => void;
  readonly #host: EngineHost;

  /** Transfers that wait for their turn, by slot; in order, as a ring of links around `#end`, so that any can leave at once. */
  readonly #queued: (Transfer | undefined)[];
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #end: number;
  /** How many node:fs has now, and how many it may have. */
  #handed = 0;
  readonly #mostHanded: number;

  /** Slots that ended and that the host does not know of yet: the first `#endedCount`. And, by slot, how each did. */
  readonly #ended: Int32Array;
  #endedCount = 0;
  readonly #results: Int32Array;

  /** Under way to `host.ready`: once for everything that ends in one turn of the event loop. */
  #immediate: NodeJS.Immediate | undefined;
  #watching = false;
  readonly #notified: () => void;

  constructor(host: EngineHost, maxRequests: number) {
    this.#host = host;
    this.#queued = new Array<Transfer | undefined>(maxRequests + 1).fill(undefined);
    this.#next = new Int32Array(maxRequests + 1);
    this.#previous = new Int32Array(maxRequests + 1);
    this.#end = maxRequests;
    this.#next[maxRequests] = this.#previous[maxRequests] = maxRequests;
    this.#mostHanded = HANDED_PER_THREAD * poolSize();
    this.#ended = new Int32Array(maxRequests);
    this.#results = new Int32Array(maxRequests);
    // A watch outlasts the wait that it was made for, and must not hold a context that was dropped since.
    const self = new WeakRef(this);
    this.#notified = () => {
      const engine = self.deref();
      if (engine !== undefined) engine.#wake();
    };
    const { cell } = this;
    this.abandon = () => cell.retire();
  }

  submit(batch: readonly (Transfer | undefined)[], from: number, to: number): number {
    for (let index = from; index < to; index++) {
      const transfer = batch[index];
      if (transfer !== undefined) this.#enqueue(transfer);
    }
    this.#handOver();
    return to - from;
  }

  #enqueue(transfer: Transfer): void {
    const { slot } = transfer;
    const last = this.#previous[this.#end] ?? this.#end;
    this.#queued[slot] = transfer;
    this.#next[last] = slot;
    this.#previous[slot] = last;
    this.#next[slot] = this.#end;
    this.#previous[this.#end] = slot;
  }

  #dequeue(slot: number): void {
    const previous = this.#previous[slot] ?? this.#end;
    const next = this.#next[slot] ?? this.#end;
    this.#queued[slot] = undefined;
    this.#next[previous] = next;
    this.#previous[next] = previous;
  }

  /** Keeps the pool busy. */
  #handOver(): void {
    while (this.#handed < this.#mostHanded) {
      const transfer = this.#queued[this.#next[this.#end] ?? this.#end];
      if (transfer === undefined) return;
      const { slot } = transfer;
      this.#dequeue(slot);
      const refused = this.#start(transfer, slot);
      if (refused === undefined) this.#handed++;
      else this.#finish(slot, refused);
    }
  }

  /** `undefined`: it goes its way. */
  #start(transfer: Transfer, slot: number): number | undefined {
    // Its views have lost their memory. The context sees that, too: any result will do.
    if (transfer.detached) return 0;
    const done: Done = (error, bytes = 0) => {
      this.#handed--;
      this.#finish(slot, error ? errnoOf(error) : bytes);
      if (this.#handed <= this.#mostHanded / 2) this.#handOver();
    };
    try {
      return start(transfer, done);
    } catch {
      // What node:fs refuses before it asks the kernel: positions that leave no room for the length.
      return -EINVAL;
    }
  }

  #finish(slot: number, result: number): void {
    this.#results[slot] = result;
    this.#ended[this.#endedCount++] = slot;
    if (armed.has(this)) this.#callReady();
  }

  reap(): void {
    const count = this.#endedCount;
    this.#endedCount = 0;
    for (let index = 0; index < count; index++) {
      const slot = this.#ended[index] ?? -1;
      this.#host.complete(slot, this.#results[slot] ?? 0);
    }
  }

  block(): never {
    throw new AioError('ERR_AIO_NOT_SUPPORTED', CANNOT_BLOCK);
  }

  arm(): void {
    hold(this);
    this.#watching ||= this.cell.watch(this.#notified);
    if (this.#endedCount > 0 || !this.#watching) this.#callReady();
  }

  disarm(): void {
    release(this);
    clearImmediate(this.#immediate);
    this.#immediate = undefined;
  }

  #callReady(): void {
    this.#immediate ??= setImmediate(() => {
      this.#immediate = undefined;
      this.#host.ready();
    });
  }

  #wake(): void {
    this.#watching = false;
    if (armed.has(this)) this.#host.ready();
  }

  /** For runtimes that cannot watch. */
  look(): void {
    if (this.cell.woken) this.#host.ready();
  }

  cancel(transfer: Transfer): boolean {
    const { slot } = transfer;
    // One that waits for the turn of its next group of segments has begun.
    if (this.#queued[slot] !== transfer || transfer.moved > 0) return false;
    this.#dequeue(slot);
    this.#finish(slot, -ECANCELED);
    return true;
  }

  associate(): void {}

  close(): Promise<void> {
    this.abandon();
    return Promise.resolve();
  }
}

/** node:fs, as an engine that can be chosen: last, since it is always there. */
export const threads: EngineDriver = {
  name: 'threads',

  probe() {
    return undefined;
  },

  maxOutstanding() {
    return MAX_OUTSTANDING;
  },

  open(host, maxRequests, { sqpoll }) {
    if (sqpoll) throw new AioError('ERR_AIO_NOT_SUPPORTED', "The engine 'threads' has no sqpoll: only 'io-uring' has");
    return new Threads(host, maxRequests);
  },
};
