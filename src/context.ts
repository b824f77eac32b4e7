import { onAbort } from './abort.ts';
import { hasPositions } from './alignment.ts';
import { type AlignedPool, slabOf } from './buffer.ts';
import type { Clock, Engine, EngineHost, EngineName, EngineSource } from './engine.ts';
import { openEngine } from './engines/select.ts';
import {
  AioError,
  abortError,
  checkFd,
  checkInteger,
  ECANCELED,
  EINVAL,
  invalidArgType,
  isArray,
  outOfRange,
} from './errors.ts';
import {
  type AioLatency,
  type CancelMessage,
  type CompletedRequest,
  type CompleteMessage,
  cancelChannel,
  completeChannel,
  createLatency,
  type InflightRequest,
  type ObservedRequest,
  observe,
  recordLatency,
  type SubmitMessage,
  submitChannel,
} from './observe.ts';
import { failure, misalignment, statusOf } from './outcome.ts';
import { AioRequest, transferOf } from './request.ts';
import { clearImmediate, clearTimeout, monotonicMs, setImmediate, setTimeout } from './time.ts';
import { type Canceler, COMPLETED, PREPARED, READ, SUBMITTED, type Transfer, WRITE } from './transfer.ts';
import type { Waker } from './wake.ts';

/** How a context is made. */
export interface AioContextOptions {
  /** The most requests that may be submitted and not yet handed out: 1 … `getLimits().maxOutstanding`. */
  maxRequests: number;
  /**
   * Which engine carries the requests. `'auto'` (the default) takes the first that works here, or the one that the
   * environment variable `FILEAIO_ENGINE` names. One asked for by name is never replaced by another. A simulated disk
   * (`fileaio/sim`) is an engine, too: it takes the descriptors that it gave out, and time is its own.
   */
  engine?: EngineName | 'auto' | EngineSource;
  /**
   * io_uring only: a kernel thread takes submissions by polling for them, so that submitting needs no system call; it burns a
   * processor while it does. For programs that are alone on their machine and have measured it. Default `false`.
   */
  sqpoll?: boolean;
  /** Whether a wait with nothing pending waits (for a wake-up) instead of failing with `ERR_AIO_NO_REQUEST`; default `false`. */
  waitWithoutPendingRequests?: boolean;
  /**
   * Whether to keep histograms of how long transfers take, in {@link AioContext.latency}; default `false`. Costs two calls into Node for each
   * transfer, a tenth to a fifth of a microsecond.
   */
  latency?: boolean;
}

/** What a wait waits for. */
export interface WaitOptions {
  /** How many completions end the wait; default 1. 0: what is there now, without waiting. */
  min?: number;
  /** The most to hand out; what is beyond stays for the next wait. Default: no limit. */
  max?: number;
  /** In milliseconds, on the monotonic clock, or the virtual one of a simulated disk; fractions count. Default: no limit. */
  timeoutMs?: number;
  /** Aborting it rejects the wait with an AbortError and leaves every request as it was. */
  signal?: AbortSignal;
}

/** How a wait ended. */
export interface WaitResult {
  /** Completed requests, in the order of their completion. May hold some after a timeout or a wake-up, too. */
  completed: AioRequest[];
  /** `'completed'`: there were `min`. `'timeout'`: time was up. `'woken'`: a wake-up ended it. */
  reason: 'completed' | 'timeout' | 'woken';
}

/** Plain counters of one context, since it was made. */
export interface AioStats {
  /** Requests that were submitted. */
  submitted: number;
  /** Requests that `wait` handed out, however they ended. */
  completed: number;
  /** Of these: ended with an error, other than being canceled. */
  failed: number;
  /** Of these: canceled. */
  canceled: number;
  /** Bytes that reads moved, of requests that `wait` handed out. */
  bytesRead: number;
  /** Bytes that writes moved, of requests that `wait` handed out. */
  bytesWritten: number;
  /** Calls of `submit` that submitted something. */
  submitCalls: number;
  /** Calls of `wait` and `waitSync` that waited. */
  waitCalls: number;
  /** Waits that a wake-up ended. */
  wakeups: number;
  /** The most requests that were pending at once. */
  maxPending: number;
}

/** A wait under way. */
interface Waiter {
  min: number;
  readonly max: number;
  readonly deadline: number;
  readonly resolve: (result: WaitResult) => void;
  readonly reject: (error: unknown) => void;
  stopListening: () => void;
  timer: NodeJS.Timeout | undefined;
  immediate: NodeJS.Immediate | undefined;
  armed: boolean;
  /** Called when it is over, however that came. */
  ended: () => void;
}

interface CheckedWait {
  readonly min: number;
  readonly max: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly aborted: boolean;
}

const DEFAULT_WAIT: CheckedWait = { min: 1, max: Infinity, timeoutMs: Infinity, signal: undefined, aborted: false };

/** The longest delay that setTimeout takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Waits that are satisfied at once never reach the event loop, and a fast device can satisfy every one: after this long,
 * one goes through it, so that timers, sockets and signal handlers get their turn.
 */
const LOOP_TURN_MS = 4;

/** What is done after it is done before the program goes on with anything that it awaits from now on. */
const SOON = Promise.resolve();

const WORLD_CLOCK: Clock = { now: monotonicMs };

/** Counts calls of submit on this thread: a transfer that has seen the present one stands in its array twice. */
let batchNumber = 0;

/** Takes the place of transfers in arrays that are kept for their room. */
const NOBODY = transferOf(new AioRequest());

/** Who takes the completions of a context, in place of its waits. Neither may throw. */
export interface Taker {
  /** What ended by now, in order. The requests are completed. With `more` there are others: they are had by looking again, nothing signals them. */
  taken(completed: AioRequest[], more: boolean): void;
  /** Looking for completions failed. What is pending stays pending. */
  failed(error: unknown): void;
}

/**
 * For the layers of this library that keep a context to themselves: completions go to `taker` as the event loop finds them, without a
 * promise for each wait, and no more than `max` of them at a time. The event loop is kept alive while requests are pending. Returns what
 * looks at once; to be called after each submission.
 */
export let takeFrom: (context: AioContext, taker: Taker, max?: number) => () => void;

/**
 * Ends what {@link takeFrom} began, where looking for completions fails for good: the event loop is not kept alive for them any longer.
 * What is pending stays the context's, and with it the memory that the kernel may still use. Returns what looks once more: it hands
 * out what has ended by then, and says whether the context has everything back and can be closed.
 */
export let leave: (context: AioContext, taker: Pick<Taker, 'taken'>) => () => boolean;

/**
 * {@link AioContext.inflight} of all contexts of this thread together, also of those that FileHandles, streams and the functions of
 * `fileaio/promises` use: what a program that hangs waits for. Calls that have not got to an engine yet, because there are 256 before
 * them, are not in it.
 *
 * @example
 * ```ts
 * import { inflight } from 'fileaio';
 * import { open } from 'fileaio/promises';
 *
 * process.on('SIGUSR2', () => console.table(inflight())); // ask a program that hangs
 * await using handle = await open('data.bin');
 * const reading = handle.read(Buffer.alloc(4096), 0, 4096, 8192);
 * await new Promise(setImmediate); // calls of one tick go down together, at its end
 * for (const { operation, position, length } of inflight()) console.log(operation, position, length);
 * await reading;
 * process.removeAllListeners('SIGUSR2');
 * ```
 */
export let inflight: () => InflightRequest[];

function byAge(one: InflightRequest, other: InflightRequest): number {
  return other.ageMs - one.ageMs;
}

/** Closes contexts that were dropped without `close`. They had nothing pending, or they would not be collected. */
const abandoned = new FinalizationRegistry<() => void>((abandon) => abandon());

/**
 * A completion port: requests are submitted to it in batches, and their completions are waited for on it. It belongs to
 * the thread that made it; other threads can only {@link wake} it.
 *
 * @example
 * ```ts
 * import { openSync } from 'node:fs';
 * import { AioContext, AioRequest, allocBuffer } from 'fileaio';
 *
 * const context = new AioContext({ maxRequests: 32 });
 * const fd = openSync('data.bin', 'r');
 * const requests = Array.from({ length: 32 }, (_, i) => new AioRequest().prepareRead(fd, i * 4096, allocBuffer(4096)));
 * context.submit(requests); // one system call
 * const { completed } = await context.wait({ min: 32 });
 * console.log(completed.length, context.pending, context.stats.bytesRead); // => 32 0 131072
 * await context.close();
 * ```
 */
export class AioContext {
  // Private, with accessors: rings and slots were made for this number, and a program could assign to a property.
  readonly #maxRequests: number;
  readonly #engine: Engine;
  readonly #clock: Clock;
  readonly #waitWithoutPending: boolean;

  /** The transfer in each slot, from submit until it is handed out. */
  readonly #slots: (Transfer | undefined)[];
  /** Slots without one; the first `#freeCount` entries count. */
  readonly #free: Int32Array;
  #freeCount: number;
  /** When the transfer in each slot was submitted, on this context's clock. */
  readonly #since: Float64Array;
  /** Slots that completed and wait to be handed out, in order: a ring, as long as there are slots. */
  readonly #done: Int32Array;
  #doneHead = 0;
  #doneCount = 0;
  /** Vectored transfers whose next group of segments is due. */
  readonly #unfinished: Transfer[] = [];
  /**
   * The first of the contexts with requests pending: held here so that no collection can take a request, or the memory that
   * the kernel writes to, while the program holds neither. A list, because they come and go with every batch.
   */
  static #busy: AioContext | undefined = undefined;
  #nextBusy: AioContext | undefined = undefined;
  #previousBusy: AioContext | undefined = undefined;

  /** The array given to submit, copied before anything is looked at. Kept from call to call. */
  #batch: (Transfer | undefined)[] = [];
  readonly #canceler: Canceler = { cancel: (transfer) => this.#cancel(transfer) };

  #pending = 0;
  #waiter: Waiter | undefined;
  /** A wait whose result is about to be told. */
  #soon: CheckedWait | undefined;
  #taker: Taker | undefined;
  #takeAtOnce = Infinity;
  #takerArmed = false;
  /** Its taker has given up. */
  #left = false;
  #closing: Promise<void> | undefined;
  #lastTurn: number;

  // One field each, not an object: they change on the hot path.
  #submitted = 0;
  #completed = 0;
  #failed = 0;
  #canceled = 0;
  #bytesRead = 0;
  #bytesWritten = 0;
  #submitCalls = 0;
  #waitCalls = 0;
  #wakeups = 0;
  #maxPending = 0;

  readonly #latency: AioLatency | undefined;
  /** What was just handed out, where somebody listens: published once nothing is half done any more, for that runs the program's code. */
  #news: readonly CompletedRequest[] | undefined = undefined;

  /**
   * Costs one kernel context (with kernel AIO counted against `fs.aio-max-nr` until it is closed), two eventfds, and about
   * 100 bytes for each of `maxRequests`.
   *
   * @throws AioError `ERR_AIO_INSUFFICIENT_EVENTS`: `fs.aio-max-nr` is used up; `ERR_AIO_NOT_SUPPORTED`: the engine cannot work
   * here; TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`; RangeError `ERR_OUT_OF_RANGE`.
   * @see io_setup(2)
   */
  constructor(options: AioContextOptions) {
    if (typeof options !== 'object' || options === null) throw invalidArgType('options', 'an object', options);
    const {
      maxRequests,
      engine = 'auto',
      waitWithoutPendingRequests = false,
      sqpoll = false,
      latency = false,
    } = options;
    if (typeof sqpoll !== 'boolean') throw invalidArgType('options.sqpoll', 'of type boolean', sqpoll);
    if (typeof latency !== 'boolean') throw invalidArgType('options.latency', 'of type boolean', latency);
    if (typeof waitWithoutPendingRequests !== 'boolean') {
      throw invalidArgType('options.waitWithoutPendingRequests', 'of type boolean', waitWithoutPendingRequests);
    }
    if (typeof maxRequests !== 'number') throw invalidArgType('options.maxRequests', 'of type number', maxRequests);
    const host: EngineHost = {
      complete: (slot, result) => this.#complete(slot, result),
      ready: () => this.#ready(),
    };
    this.#engine = openEngine(engine, host, maxRequests, { sqpoll });
    this.#clock = this.#engine.clock ?? WORLD_CLOCK;
    this.#lastTurn = this.#clock.now();
    abandoned.register(this, this.#engine.abandon, this);
    this.#maxRequests = maxRequests;
    this.#waitWithoutPending = waitWithoutPendingRequests;

    this.#slots = new Array<Transfer | undefined>(maxRequests).fill(undefined);
    this.#free = Int32Array.from({ length: maxRequests }, (_, index) => maxRequests - 1 - index);
    this.#freeCount = maxRequests;
    this.#done = new Int32Array(maxRequests);
    this.#since = new Float64Array(maxRequests);
    this.#latency = latency ? createLatency() : undefined;
  }

  static {
    takeFrom = (context, taker, max = Infinity) => {
      context.#taker = taker;
      context.#takeAtOnce = max;
      return () => context.#look(taker);
    };
    leave = (context, taker) => {
      context.#left = true;
      context.#takerArmed = false;
      context.#engine.disarm();
      return () => {
        try {
          context.#give(taker, Infinity);
        } catch {
          return false; // as before
        }
        return context.#pending === 0;
      };
    };
    inflight = () => {
      const found: InflightRequest[] = [];
      for (let context = AioContext.#busy; context !== undefined; context = context.#nextBusy) {
        found.push(...context.inflight());
      }
      return found.sort(byAge);
    };
  }

  /** As given to the constructor. */
  get maxRequests(): number {
    return this.#maxRequests;
  }

  /** Give it to other threads: `wake(waker)` ends a wait here. Can be cloned and posted; does nothing after `close`. */
  get waker(): Waker {
    return this.#engine.cell.waker;
  }

  /** Requests that are submitted and not yet handed out by a wait. */
  get pending(): number {
    return this.#pending;
  }

  /** The engine that carries the requests. */
  get engine(): EngineName {
    return this.#engine.name;
  }

  /** A snapshot of the counters. */
  get stats(): AioStats {
    return {
      submitted: this.#submitted,
      completed: this.#completed,
      failed: this.#failed,
      canceled: this.#canceled,
      bytesRead: this.#bytesRead,
      bytesWritten: this.#bytesWritten,
      submitCalls: this.#submitCalls,
      waitCalls: this.#waitCalls,
      wakeups: this.#wakeups,
      maxPending: this.#maxPending,
    };
  }

  /** How long transfers take; `undefined` unless the context was made with `latency: true`. */
  get latency(): AioLatency | undefined {
    return this.#latency;
  }

  /**
   * What is submitted and not yet handed out, the oldest first: as many as {@link AioContext.pending} says. For finding out what a
   * program that hangs waits for: a request of great age with `ended: false` is one that the kernel, or the device, does not answer;
   * with `ended: true`, one that nobody calls `wait` for.
   *
   * Only looks: makes no system call, and changes nothing. What the kernel has finished since the last wait (or submission) still
   * shows as `ended: false`, because nobody has asked. The age costs each call of `submit` a look at the clock, and each transfer a number
   * in an array, some 50 ns and 1 ns; calling this takes time in proportion to `maxRequests`, and allocates.
   *
   * @see {@link inflight} for all contexts of a thread, those of FileHandles included.
   *
   * @example
   * ```ts
   * import { openSync } from 'node:fs';
   * import { AioContext, AioRequest, allocBuffer } from 'fileaio';
   *
   * await using context = new AioContext({ maxRequests: 8 });
   * context.submit([new AioRequest<string>().prepareRead(openSync('data.bin', 'r'), 4096, allocBuffer(512), 'index')]);
   * for (const { operation, fd, position, length, ageMs, userData } of context.inflight()) {
   *   console.log(`${operation} of ${length} bytes at ${position}, descriptor ${fd}: ${userData}, for ${ageMs} ms`);
   * }
   * await context.wait();
   * console.log(context.inflight()); // => []
   * ```
   */
  inflight(): InflightRequest[] {
    const now = this.#clock.now();
    const ended = new Set<number>();
    for (let index = 0; index < this.#doneCount; index++) {
      ended.add(this.#done[(this.#doneHead + index) % this.#maxRequests] ?? -1);
    }
    const found: InflightRequest[] = [];
    for (const [slot, transfer] of this.#slots.entries()) {
      if (transfer === undefined) continue;
      const ageMs = now - (this.#since[slot] ?? now);
      found.push({ ...this.#observe(transfer), engine: this.engine, ageMs, ended: ended.has(slot) });
    }
    return found.sort(byAge);
  }

  /**
   * Submits prepared requests, in order, in one native call. A request that the kernel refuses (`EBADF`, `EINVAL`, `EFAULT`)
   * completes with that error through `wait`, and the others go on.
   *
   * Blocks this thread as long as the kernel's submission does: microseconds for direct I/O, but with kernel AIO the whole
   * transfer for a file that was not opened with O_DIRECT. Large batches of large transfers hold up the event loop:
   * 32 × 64 KiB take a millisecond or two.
   *
   * Not for files whose file system is a process (FUSE, virtiofs), but with the engine `threads`: io_uring can give wrong bytes there, and both
   * kernel engines wait for that process within this call. See docs/engines.md.
   *
   * @throws AioError `ERR_AIO_NOT_PREPARED`, `ERR_AIO_IN_PROGRESS` (also for a request that stands twice in the array),
   * `ERR_AIO_BUFFER_DETACHED` (its buffer was transferred away since it was prepared), `ERR_AIO_CLOSED`, TypeError
   * `ERR_INVALID_ARG_TYPE`: nothing was submitted, nothing changed.
   * @throws AioError `ERR_AIO_INSUFFICIENT_RESOURCES`: past `maxRequests`, or the kernel has no room. `error.submitted` of the
   * array went; the rest are still prepared.
   * @see io_submit(2)
   */
  submit(requests: readonly AioRequest[]): void {
    this.#checkOpen('submit');
    if (!isArray(requests)) throw invalidArgType('requests', 'an array of AioRequest', requests);
    const count = checkInteger('requests.length', requests.length, 0, 2 ** 32 - 1);
    const batch = this.#take(requests, count);
    checkBatch(batch, count);
    const room = Math.min(count, this.#maxRequests - this.#pending);
    const taken = this.#send(batch, room);
    const news = taken > 0 && submitChannel.hasSubscribers ? this.#observeBatch(batch, taken) : undefined;
    // Emptying it would free its room, and the next call would have to grow it anew.
    for (let index = 0; index < count; index++) batch[index] = NOBODY;
    this.#batch = batch;
    // What ended within the submission signals nothing: a wait that is asleep has to be told.
    if (this.#doneCount > 0 && this.#waiter !== undefined) setImmediate(() => this.#ready());
    if (taken > 0) this.#submitCalls++;
    const refusal = taken < count ? noRoom(taken, count, this.#pending, taken < room, this.#maxRequests) : undefined;
    if (news !== undefined) submitChannel.publish(news);
    if (refusal !== undefined) throw refusal;
  }

  /** Copies the array before anything is decided: reading it may run the program's code, which may come back here. */
  #take(requests: readonly AioRequest[], count: number): (Transfer | undefined)[] {
    const batch = this.#batch;
    this.#batch = [];
    for (let index = 0; index < count; index++) {
      const request = requests[index];
      const transfer = transferOf(request);
      if (transfer === undefined) throw invalidArgType(`requests[${index}]`, 'an AioRequest', request);
      batch[index] = transfer;
    }
    this.#checkOpen('submit');
    return batch;
  }

  /** Hands the first `count` to the engine; returns how many are submitted now. */
  #send(batch: readonly (Transfer | undefined)[], count: number): number {
    // Counted before the system call, so that nobody sees a false "nothing pending".
    this.#hold(count);
    const now = this.#clock.now();
    for (let index = 0; index < count; index++) {
      const transfer = batch[index];
      if (transfer === undefined) break;
      const slot = this.#free[--this.#freeCount] ?? -1;
      this.#slots[slot] = transfer;
      this.#since[slot] = now;
      transfer.slot = slot;
      transfer.state = SUBMITTED;
      transfer.context = this.#canceler;
      transfer.pin();
    }
    let taken = 0;
    try {
      taken = this.#engine.submit(batch, 0, count);
    } finally {
      if (taken < count) this.#takeBack(batch, taken, count);
    }
    this.#submitted += taken;
    if (this.#pending > this.#maxPending) this.#maxPending = this.#pending;
    this.#continue();
    return taken;
  }

  /** What the engine did not take is prepared again. */
  #takeBack(batch: readonly (Transfer | undefined)[], from: number, to: number): void {
    for (let index = to - 1; index >= from; index--) {
      const transfer = batch[index];
      if (transfer === undefined) break;
      this.#vacate(transfer);
      transfer.state = PREPARED;
      transfer.unpin();
    }
    this.#drop(to - from);
  }

  #hold(count: number): void {
    if (count > 0 && this.#pending === 0) this.#enlist();
    this.#pending += count;
  }

  #drop(count: number): void {
    this.#pending -= count;
    if (count > 0 && this.#pending === 0) this.#delist();
  }

  #enlist(): void {
    const next = AioContext.#busy;
    if (next !== undefined) next.#previousBusy = this;
    this.#nextBusy = next;
    AioContext.#busy = this;
  }

  #delist(): void {
    const next = this.#nextBusy;
    const previous = this.#previousBusy;
    if (next !== undefined) next.#previousBusy = previous;
    if (previous !== undefined) previous.#nextBusy = next;
    else AioContext.#busy = next;
    this.#nextBusy = this.#previousBusy = undefined;
  }

  #vacate(transfer: Transfer): void {
    this.#slots[transfer.slot] = undefined;
    this.#free[this.#freeCount++] = transfer.slot;
    transfer.slot = -1;
    transfer.context = undefined;
  }

  /** From the engine: a transfer ended. It stays submitted, for the program, until a wait hands it out. */
  #complete(slot: number, result: number): void {
    const transfer = this.#slots[slot];
    if (transfer === undefined) return;
    if (transfer.hasMore && result === transfer.groupLength && this.#hasMore(transfer)) {
      transfer.nextGroup();
      this.#unfinished.push(transfer);
      return;
    }
    this.#finish(transfer, result);
  }

  /** A pipe that gave all it was asked for may have nothing for the next group, and a read of that would wait, or block this thread. */
  #hasMore({ operation, fd }: Transfer): boolean {
    return operation !== READ || this.#engine.alignmentOf !== undefined || hasPositions(fd);
  }

  #finish(transfer: Transfer, result: number): void {
    // What earlier groups of segments moved counts, as a short transfer does in readv(2).
    const canceled = result === -ECANCELED && transfer.cancelAsked;
    transfer.result = transfer.moved > 0 && !canceled ? transfer.moved + Math.max(result, 0) : result;
    const tail = this.#doneHead + this.#doneCount;
    this.#done[tail < this.#maxRequests ? tail : tail - this.#maxRequests] = transfer.slot;
    this.#doneCount++;
    if (this.#latency !== undefined && !canceled) {
      recordLatency(this.#latency, transfer, this.#clock.now() - (this.#since[transfer.slot] ?? 0));
    }
    // Now, while the descriptor still means what it meant.
    if (transfer.result === -EINVAL) {
      transfer.detail = misalignment(transfer, this.#engine.alignmentOf?.(transfer.fd));
    }
  }

  /** Submits the next groups of vectored transfers of which the kernel took only a part at once. */
  #continue(): void {
    for (let transfer = this.#unfinished.pop(); transfer !== undefined; transfer = this.#unfinished.pop()) {
      if (transfer.detached || !this.#submitNext(transfer)) this.#finish(transfer, 0);
    }
  }

  #cancel(transfer: Transfer): boolean {
    transfer.cancelAsked = true;
    transfer.canceled ||= this.#engine.cancel(transfer);
    const { canceled } = transfer;
    if (cancelChannel.hasSubscribers) {
      const message: CancelMessage = {
        context: this,
        engine: this.engine,
        timeMs: this.#clock.now(),
        requests: [this.#observe(transfer)],
        answer: canceled ? 'canceled' : 'in-progress',
      };
      cancelChannel.publish(message);
    }
    return canceled;
  }

  /** A group that cannot be submitted ends its request with what the groups before it moved. */
  #submitNext(transfer: Transfer): boolean {
    try {
      return this.#engine.submit([transfer], 0, 1) === 1;
    } catch {
      return false;
    }
  }

  #reap(): void {
    this.#engine.reap();
    this.#continue();
  }

  /** A wait that is over when it is called is under way all the same until its caller can know: it can be woken, and there is no second. */
  readonly #endSoon = (): WaitResult => {
    const { min, max } = this.#soon ?? DEFAULT_WAIT;
    this.#soon = undefined;
    this.#checkOpen('wait');
    return this.#tell(this.#outcome(min, max) ?? this.#handOut(max, 'timeout'));
  };

  /** Takes up to `max` completions out, and settles each one's outcome. */
  #handOut(max: number, reason: WaitResult['reason']): WaitResult {
    const count = Math.min(max, this.#doneCount);
    const head = this.#doneHead;
    const completed = new Array<AioRequest>(count);
    for (let index = 0; index < count; index++) {
      const transfer = this.#slots[this.#done[this.#doneHead] ?? -1];
      this.#doneHead = this.#doneHead + 1 === this.#maxRequests ? 0 : this.#doneHead + 1;
      if (transfer === undefined) continue;
      this.#settle(transfer);
      completed[index] = transfer.request;
    }
    this.#doneCount -= count;
    this.#drop(count);
    if (count > 0 && completeChannel.hasSubscribers) this.#news = this.#observeCompleted(completed, head);
    return { completed, reason };
  }

  #observe(transfer: Transfer): ObservedRequest {
    return observe(transfer, this.#taker === undefined);
  }

  #observeBatch(batch: readonly (Transfer | undefined)[], count: number): SubmitMessage {
    const requests: ObservedRequest[] = [];
    for (let index = 0; index < count; index++) {
      const transfer = batch[index];
      if (transfer !== undefined) requests.push(this.#observe(transfer));
    }
    return { context: this, engine: this.engine, timeMs: this.#clock.now(), requests };
  }

  /** @param head - where their slots stand among those that are done: these have no transfer any more, but still the time. */
  #observeCompleted(completed: readonly AioRequest[], head: number): readonly CompletedRequest[] {
    const now = this.#clock.now();
    const requests: CompletedRequest[] = [];
    for (const [index, request] of completed.entries()) {
      const transfer = transferOf(request);
      if (transfer === undefined) continue;
      const slot = this.#done[(head + index) % this.#maxRequests] ?? -1;
      const { status, bytesTransferred } = request;
      requests.push({
        ...this.#observe(transfer),
        status,
        bytesTransferred,
        latencyMs: now - (this.#since[slot] ?? now),
      });
    }
    return requests;
  }

  #publishCompleted(requests: readonly CompletedRequest[]): void {
    this.#news = undefined;
    const message: CompleteMessage = { context: this, engine: this.engine, timeMs: this.#clock.now(), requests };
    completeChannel.publish(message);
  }

  /** The last step of everything that hands out. */
  #tell(result: WaitResult): WaitResult {
    if (this.#news !== undefined) this.#publishCompleted(this.#news);
    return result;
  }

  #settle(transfer: Transfer): void {
    const { result, operation } = transfer;
    this.#vacate(transfer);
    transfer.state = COMPLETED;
    this.#completed++;
    if (transfer.unpin()) {
      transfer.status = 'ERR_AIO_BUFFER_DETACHED';
      this.#failed++;
    } else if (result < 0) {
      transfer.status = statusOf(transfer);
      if (transfer.status === 'ERR_AIO_CANCELED') this.#canceled++;
      else this.#failed++;
    } else {
      transfer.status = 'OK';
      if (operation === READ) {
        transfer.deliver(result);
        this.#bytesRead += result;
      } else if (operation === WRITE) {
        this.#bytesWritten += result;
      }
    }
  }

  /** Whether {@link #outcome} would have one. */
  #isOver(min: number): boolean {
    return this.#doneCount >= min || this.#engine.cell.woken;
  }

  /** The result of a wait, if it has one by now. */
  #outcome(min: number, max: number): WaitResult | undefined {
    if (this.#engine.cell.take()) {
      this.#wakeups++;
      return this.#handOut(max, 'woken');
    }
    return this.#doneCount >= min ? this.#handOut(max, 'completed') : undefined;
  }

  #beginWait(options: WaitOptions | undefined, name: string, refusal?: string): CheckedWait {
    const wait = options === undefined ? DEFAULT_WAIT : checkWait(options);
    this.#checkOpen(name);
    if (refusal !== undefined) throw new AioError('ERR_AIO_NOT_SUPPORTED', refusal);
    if (this.#taker !== undefined) {
      throw new AioError(
        'ERR_AIO_BUSY',
        `The completions of this context go to the files that it belongs to: make an AioContext of your own to call ${name}`,
      );
    }
    if (this.#waiter !== undefined || this.#soon !== undefined) {
      throw new AioError(
        'ERR_AIO_BUSY',
        `Another wait is under way on this context: a context has one waiter at a time. Await it before calling ${name}`,
      );
    }
    if (wait.aborted && wait.signal !== undefined) throw abortError(wait.signal);
    if (this.#pending === 0 && !this.#waitWithoutPending) {
      throw new AioError(
        'ERR_AIO_NO_REQUEST',
        `${name} would wait for ever: nothing is submitted. Submit first, or make the context with waitWithoutPendingRequests`,
      );
    }
    this.#waitCalls++;
    return wait;
  }

  /**
   * Waits for completions without blocking the event loop. Keeps the process alive until it settles.
   *
   * Resolves when `min` requests have completed, when `timeoutMs` passed, or when woken. Everything that completed by then is
   * in `completed`, up to `max`; the rest comes with the next wait. Where the completions are there already, it costs one
   * system call and one promise; a loop of such waits still yields to the event loop every few milliseconds.
   *
   * Rejects with AioError `ERR_AIO_NO_REQUEST` (nothing pending), `ERR_AIO_BUSY` (another wait is under way),
   * `ERR_AIO_CLOSED`; with an AbortError when `signal` aborts (every request is left as it was); with TypeError
   * `ERR_INVALID_ARG_TYPE`, RangeError `ERR_OUT_OF_RANGE` (also where `min` is above `max`).
   *
   * @see io_getevents(2)
   */
  wait(options?: WaitOptions): Promise<WaitResult> {
    try {
      const wait = this.#beginWait(options, 'wait');
      if (this.#clock.now() - this.#lastTurn > LOOP_TURN_MS) return this.#waitForEvents(wait, 'turn');
      this.#reap();
      if (!this.#isOver(wait.min) && wait.timeoutMs > 0) return this.#waitForEvents(wait, 'event');
      if (wait.signal !== undefined) return this.#waitForEvents(wait, 'soon');
      this.#soon = wait;
      return SOON.then(this.#endSoon);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #waitForEvents({ min, max, timeoutMs, signal }: CheckedWait, when: 'soon' | 'turn' | 'event'): Promise<WaitResult> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        min,
        max,
        deadline: this.#clock.now() + timeoutMs,
        resolve,
        reject,
        stopListening: () => undefined,
        timer: undefined,
        immediate: undefined,
        armed: false,
        ended: () => undefined,
      };
      this.#waiter = waiter;
      try {
        if (signal !== undefined) {
          waiter.stopListening = onAbort(signal, () => {
            this.#endWait(waiter);
            reject(abortError(signal));
          });
        }
        if (when === 'turn') waiter.immediate = setImmediate(() => this.#ready());
        else if (when === 'soon') void SOON.then(() => this.#ready());
        else this.#sleep(waiter);
      } catch (error) {
        this.#endWait(waiter);
        reject(error);
      }
    });
  }

  /** Until a completion, a wake-up or the deadline, whichever is first. Calls `#ready` then. */
  #sleep(waiter: Waiter): void {
    waiter.armed = true;
    this.#engine.arm(waiter.deadline);
    if (waiter.deadline !== Infinity && waiter.timer === undefined && this.#engine.clock === undefined) {
      const left = Math.ceil(waiter.deadline - this.#clock.now());
      waiter.timer = setTimeout(
        () => {
          waiter.timer = undefined;
          this.#ready();
        },
        Math.min(Math.max(left, 1), MAX_TIMER_MS),
      );
    }
  }

  #give(taker: Pick<Taker, 'taken'>, max: number): void {
    let looksAgain = false;
    try {
      this.#reap();
    } catch (error) {
      // What is here already is told all the same; the next look will meet the error again.
      if (this.#doneCount === 0) throw error;
      looksAgain = true;
    }
    if (this.#doneCount === 0) return;
    const result = this.#handOut(max, 'completed');
    taker.taken(result.completed, looksAgain || this.#doneCount > 0);
    this.#tell(result);
  }

  #look(taker: Taker): void {
    if (this.#left) return;
    try {
      this.#give(taker, this.#takeAtOnce);
      if (this.#doneCount > 0) return; // Its taker looks again anyhow: a signal for what it finds would cost more than it tells.
      if (this.#pending > 0) {
        this.#takerArmed = true;
        this.#engine.arm();
      } else if (this.#takerArmed) {
        this.#takerArmed = false;
        this.#engine.disarm();
      }
    } catch (error) {
      taker.failed(error);
    }
  }

  /** On the event loop: looks whether the wait under way has ended. */
  #ready(): void {
    if (this.#taker !== undefined) {
      this.#look(this.#taker);
      return;
    }
    const now = this.#clock.now();
    this.#lastTurn = now;
    const waiter = this.#waiter;
    if (waiter === undefined) return;
    try {
      this.#reap();
      let result = this.#outcome(waiter.min, waiter.max);
      if (result === undefined && now >= waiter.deadline) result = this.#handOut(waiter.max, 'timeout');
      if (result === undefined) {
        this.#sleep(waiter);
      } else {
        this.#endWait(waiter);
        waiter.resolve(result);
        this.#tell(result);
      }
    } catch (error) {
      this.#endWait(waiter);
      waiter.reject(error);
    }
  }

  #endWait(waiter: Waiter): void {
    this.#waiter = undefined;
    if (waiter.armed) this.#engine.disarm();
    clearTimeout(waiter.timer);
    clearImmediate(waiter.immediate);
    waiter.stopListening();
    waiter.ended();
  }

  /**
   * Waits like {@link AioContext.wait}, but blocks this thread in the kernel: the shortest way for programs, or workers, that have
   * nothing else to do. Signals that the program handles do not end it (their handlers run afterwards); `wake` from another thread
   * and `worker.terminate()` do. With more in `min` than is pending and no `timeoutMs`, only a wake-up ends it.
   *
   * Costs one system call where the completions are there already, and one array.
   *
   * @throws as {@link AioContext.wait} rejects; `signal` is looked at only before blocking. AioError `ERR_AIO_NOT_SUPPORTED` with the
   * engine `threads`, whose completions need the event loop.
   *
   * @example
   * ```ts
   * import { openSync } from 'node:fs';
   * import { AioContext, AioRequest, allocBuffer, engines } from 'fileaio';
   *
   * const blocking = engines().find(({ name, available }) => available && name !== 'threads');
   * if (blocking !== undefined) {
   *   await using context = new AioContext({ maxRequests: 4, engine: blocking.name });
   *   context.submit([new AioRequest().prepareRead(openSync('data.bin', 'r'), 0, allocBuffer(4096))]);
   *   const { completed } = context.waitSync({ timeoutMs: 60_000 }); // this thread sleeps in the kernel
   *   console.log(completed[0]?.result()); // 4096
   * }
   * ```
   */
  waitSync(options?: WaitOptions): WaitResult {
    const { min, max, timeoutMs } = this.#beginWait(options, 'waitSync', this.#engine.cannotBlock);
    const deadline = timeoutMs === Infinity ? Infinity : this.#clock.now() + timeoutMs;
    // What is handed out without a look into the kernel would lack what has ended there.
    if (timeoutMs === 0 || this.#isOver(min)) this.#reap();
    for (;;) {
      const result = this.#outcome(min, max);
      if (result !== undefined) return this.#tell(result);
      const left = deadline === Infinity ? Infinity : deadline - this.#clock.now();
      if (left <= 0) return this.#tell(this.#handOut(max, 'timeout'));
      this.#engine.block(left);
      this.#continue();
    }
  }

  /**
   * Ends exactly one wait: the one under way, or, if none is, the next one. Each call counts: n calls end n waits. From other
   * threads, use {@link wake}. Does nothing after `close`.
   *
   * @example
   * ```ts
   * import { AioContext } from 'fileaio';
   *
   * await using context = new AioContext({ maxRequests: 1, waitWithoutPendingRequests: true });
   * const waiting = context.wait();
   * context.wakeup();
   * console.log((await waiting).reason); // => woken
   * ```
   */
  wakeup(): void {
    if (this.#closing !== undefined) return;
    const waiter = this.#waiter;
    if (waiter === undefined) this.#engine.cell.add();
    if (waiter === undefined) return;
    this.#endWait(waiter);
    try {
      this.#reap();
      this.#wakeups++;
      const result = this.#handOut(waiter.max, 'woken');
      waiter.resolve(result);
      this.#tell(result);
    } catch (error) {
      waiter.reject(error);
    }
  }

  /**
   * A hint that many requests will use this descriptor, or the buffers of this pool. io_uring registers it with the kernel, which
   * then need not look up the file, or pin the pages, for each request; the other engines do nothing, and neither does io_uring
   * where it has no more room (256 files, 16 pools) or the process may not lock so much memory.
   *
   * The context keeps a descriptor of its own for the file, open until the context is closed. So each submission can ask the kernel whether the number
   * still means that file (a system call for each associated descriptor in it): one that was closed, and perhaps given to another file
   * since, goes without from there on.
   *
   * @throws AioError `ERR_AIO_CLOSED`; TypeError `ERR_INVALID_ARG_TYPE`; RangeError `ERR_OUT_OF_RANGE`.
   *
   * @example
   * ```ts
   * import { openSync } from 'node:fs';
   * import { AioContext, AioRequest, AlignedPool } from 'fileaio';
   *
   * await using context = new AioContext({ maxRequests: 8 });
   * const fd = openSync('data.bin', 'r');
   * const pool = new AlignedPool({ size: 4096, count: 8 });
   * context.associate(fd);
   * context.associate(pool);
   * const requests: AioRequest[] = [];
   * for (let buffer = pool.acquire(); buffer !== undefined; buffer = pool.acquire()) {
   *   requests.push(new AioRequest().prepareRead(fd, requests.length * 4096, buffer));
   * }
   * context.submit(requests);
   * console.log((await context.wait({ min: 8 })).completed.length); // => 8
   * ```
   */
  associate(target: number | AlignedPool): void {
    this.#checkOpen('associate');
    const memory = slabOf(target);
    if (memory !== undefined) this.#engine.associateMemory?.(memory);
    else this.#engine.associate(checkFd(target));
  }

  /**
   * Gives the context back to the kernel, on a thread of the pool: io_destroy(2) takes some 30 ms. Resolves when it is gone. Twice is
   * fine. A wait under way (which can only be one with nothing pending) rejects with `ERR_AIO_CLOSED`.
   *
   * Rejects with AioError `ERR_AIO_BUSY` while requests are pending: wait for them first, or use {@link AioContext[Symbol.asyncDispose]}.
   */
  close(): Promise<void> {
    if (this.#closing !== undefined) return this.#closing;
    if (this.#pending > 0) {
      return Promise.reject(
        new AioError(
          'ERR_AIO_BUSY',
          `${this.#pending} requests are pending: wait until they are handed out, then close the context`,
        ),
      );
    }
    const waiter = this.#waiter;
    if (waiter !== undefined) {
      this.#endWait(waiter);
      waiter.reject(closedError('wait'));
    }
    abandoned.unregister(this);
    this.#closing = this.#engine.close();
    return this.#closing;
  }

  /** Waits for everything that is pending, then closes. Completions that nobody waited for are dropped. */
  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#pending > 0 && this.#closing === undefined) {
      const waiter = this.#waiter;
      if (this.#soon !== undefined) {
        await SOON;
        continue;
      }
      if (waiter === undefined) {
        await this.wait({ min: this.#pending });
        continue;
      }
      // Somebody else waits: that wait ends with what is pending, for there will be no more.
      waiter.min = Math.min(waiter.min, this.#pending);
      await new Promise((resolve) => setImmediate(resolve));
      this.#ready();
      if (this.#waiter !== waiter) continue;
      await new Promise<void>((resolve) => {
        const { ended } = waiter;
        waiter.ended = () => {
          ended();
          resolve();
        };
      });
    }
    await this.close();
  }

  #checkOpen(name: string): void {
    if (this.#closing !== undefined) throw closedError(name);
  }
}

function closedError(name: string): AioError {
  return new AioError('ERR_AIO_CLOSED', `${name} on a context that is closed: make a new AioContext`);
}

function noRoom(submitted: number, count: number, pending: number, byKernel: boolean, maxRequests: number): AioError {
  const why = byKernel
    ? `the kernel has no room for more now (EAGAIN, with ${pending} pending)`
    : `the context was made for maxRequests ${maxRequests} and has ${pending} pending`;
  return new AioError(
    'ERR_AIO_INSUFFICIENT_RESOURCES',
    `${submitted} of ${count} requests were submitted: ${why}. The others are still prepared: wait for completions, then submit requests.slice(error.submitted)`,
    { submitted },
  );
}

function checkBatch(batch: readonly (Transfer | undefined)[], count: number): void {
  batchNumber++;
  for (let index = 0; index < count; index++) {
    const transfer = batch[index];
    if (transfer === undefined) break;
    if (transfer.state !== PREPARED) throw notPrepared(transfer, index);
    if (transfer.batch === batchNumber) {
      throw new AioError(
        'ERR_AIO_IN_PROGRESS',
        `requests[${index}] stands in the array twice: a request is one transfer at a time. Nothing was submitted; use a second AioRequest`,
      );
    }
    transfer.batch = batchNumber;
    if (transfer.detached) throw failure(transfer, 'ERR_AIO_BUFFER_DETACHED');
  }
}

function notPrepared(transfer: Transfer, index: number): AioError {
  switch (transfer.state) {
    case SUBMITTED:
      return new AioError(
        'ERR_AIO_IN_PROGRESS',
        `requests[${index}] is submitted already and not complete. Nothing was submitted; wait for it first`,
      );
    case COMPLETED:
      return new AioError(
        'ERR_AIO_NOT_PREPARED',
        `requests[${index}] was not prepared since it last completed. Nothing was submitted; call one of its prepare methods first`,
      );
    default:
      return new AioError(
        'ERR_AIO_CLOSED',
        `requests[${index}] was disposed of. Nothing was submitted; make a new AioRequest`,
      );
  }
}

function checkWait(options: WaitOptions): CheckedWait {
  if (typeof options !== 'object' || options === null) throw invalidArgType('options', 'an object', options);
  const { min = 1, max = Infinity, timeoutMs = Infinity, signal } = options;
  checkInteger('options.min', min, 0, Number.MAX_SAFE_INTEGER);
  if (max !== Infinity) checkInteger('options.max', max, 0, Number.MAX_SAFE_INTEGER);
  if (min > max) throw outOfRange('options.min', `at most options.max, which is ${max}`, min);
  if (typeof timeoutMs !== 'number') throw invalidArgType('options.timeoutMs', 'of type number', timeoutMs);
  if (!(timeoutMs >= 0)) throw outOfRange('options.timeoutMs', '0 or more', timeoutMs);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidArgType('options.signal', 'an AbortSignal', signal);
  }
  // The last that may run the program's code, which may come back here: everything is decided after it.
  return { min, max, timeoutMs, signal, aborted: signal?.aborted === true };
}
