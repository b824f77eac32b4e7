/**
 * Waking a context from any thread. The state is one cell of shared memory, so that a waker can be posted to other
 * threads and stays safe when the context, or the whole thread that owned it, is gone.
 *
 * The cell holds four int32: `[users * 2 + closed, wake-ups not yet consumed, eventfd or -1, magic]`.
 *
 * With an eventfd, `native/shim.c` changes the first from both sides: a waker counts itself in while it uses the
 * descriptor, and closing waits for that, so the number is never written to after the kernel could have given it to another
 * file. Without one there is nothing to misuse: the owner sleeps on the second word, and wakers notify it.
 */
import { types } from 'node:util';
import { invalidArgType } from './errors.ts';
import { loadNative } from './native.ts';

const STATE = 0;
const WAKES = 1;
const FD = 2;
const MAGIC = 3;
const MAGIC_VALUE = 0x61696f77;

const CLOSED = 1;

type WaitAsync = (
  words: Int32Array,
  index: number,
  expected: number,
) => { async: false; value: 'not-equal' | 'timed-out' } | { async: true; value: Promise<'ok' | 'timed-out'> };

const { waitAsync } = Atomics as { waitAsync?: WaitAsync };

/** Whether {@link WakeCell.watch} works on this runtime. Where not, the owner has to look from time to time. */
export const canWatch = typeof waitAsync === 'function';

/**
 * Ends a wait of the context that it belongs to, from any thread: `context.waker`, posted to a worker, given to
 * {@link wake}. It can be cloned (`postMessage`, `workerData`) within one process. Its content is private.
 */
export interface Waker {
  /** Shared memory: whose wake-up it is, and how many are not yet consumed. Not to be touched. */
  readonly cell: Int32Array;
}

/** The cell of a waker: read once, so that what was checked is what is used. */
function cellOf(value: unknown): Int32Array | undefined {
  if (typeof value !== 'object' || value === null || !('cell' in value)) return undefined;
  const { cell } = value;
  const right =
    types.isInt32Array(cell) &&
    types.isSharedArrayBuffer(cell.buffer) &&
    cell.length === MAGIC + 1 &&
    cell[MAGIC] === MAGIC_VALUE;
  return right ? cell : undefined;
}

/** The owner's side of a waker. */
export class WakeCell {
  readonly cell = new Int32Array(new SharedArrayBuffer(16));
  readonly waker: Waker = { cell: this.cell };

  /** @param fd - an eventfd that wakers write to; -1: they notify whoever watches the cell. */
  constructor(fd: number) {
    this.cell[FD] = fd;
    this.cell[MAGIC] = MAGIC_VALUE;
  }

  /** The descriptor that becomes readable when another thread wakes. */
  get fd(): number {
    return this.cell[FD] ?? -1;
  }

  /** Adds a wake-up from the owner's own thread, which cannot be blocked now: nothing has to be signalled. */
  add(): void {
    Atomics.add(this.cell, WAKES, 1);
  }

  /** Consumes one wake-up, if there is one. Only the owner takes, so what was seen is still there. */
  take(): boolean {
    if (this.cell[WAKES] === 0) return false;
    Atomics.sub(this.cell, WAKES, 1);
    return true;
  }

  /** Whether {@link take} would find one. */
  get woken(): boolean {
    return Atomics.load(this.cell, WAKES) !== 0;
  }

  /**
   * For cells without a descriptor: calls `notified` from the event loop when the next wake-up comes, once; it does not keep
   * the loop alive. `false`: there is a wake-up already, and nothing is called.
   *
   * Whoever watches is held until then, so that `notified` must hold nothing that is to be collected.
   */
  watch(notified: () => void): boolean {
    if (waitAsync === undefined) return !this.woken;
    const watching = waitAsync(this.cell, WAKES, 0);
    if (!watching.async) return false;
    void watching.value.then(notified);
    return true;
  }

  /** For cells without a descriptor: blocks this thread until there is a wake-up, or `timeoutMs` passed. */
  sleep(timeoutMs: number): void {
    Atomics.wait(this.cell, WAKES, 0, timeoutMs);
  }

  /** For cells without a descriptor: wake-ups do nothing from here on, and the watch under way, if there is one, ends. */
  retire(): void {
    Atomics.or(this.cell, STATE, CLOSED);
    Atomics.notify(this.cell, WAKES);
  }
}

/** What the shim does for a cell with a descriptor. Too late is harmless: a cell that was retired is memory, and no more. */
function notify(cell: Int32Array): void {
  if ((Atomics.load(cell, STATE) & CLOSED) !== 0) return;
  Atomics.add(cell, WAKES, 1);
  Atomics.notify(cell, WAKES);
}

/**
 * Ends exactly one wait of the context that `waker` came from: the one under way, or, if none is, the next one. Each
 * call counts: n calls end n waits. Works from every thread of the process, also while the owner is blocked in
 * `waitSync`. After the context was closed, or its thread has ended, it does nothing.
 *
 * Costs one write to an eventfd(2), or one `Atomics.notify` with the engine `threads`.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`: not a waker.
 *
 * @example
 * ```ts
 * import { Worker } from 'node:worker_threads';
 * import { AioContext } from 'fileaio';
 *
 * await using context = new AioContext({ maxRequests: 1, waitWithoutPendingRequests: true });
 * const program = `import('fileaio').then(({ wake }) => wake(require('node:worker_threads').workerData));`;
 * new Worker(program, { eval: true, workerData: context.waker });
 * console.log((await context.wait()).reason); // => woken
 * ```
 */
export function wake(waker: Waker): void {
  const cell = cellOf(waker);
  if (cell === undefined) throw invalidArgType('waker', "an AioContext's waker", waker);
  if ((cell[FD] ?? -1) < 0) notify(cell);
  else loadNative().native?.wake(cell);
}
