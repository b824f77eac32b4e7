/**
 * One context for all files of a thread that use the same engine. Calls queue up, in order, for room in it; those of one tick go
 * down in one batch. It is made when there is something to do, and closed soon after there is nothing.
 */

import { AioContext, leave, type Taker, takeFrom } from './context.ts';
import { DRIVER, type EngineName, type EngineSource } from './engine.ts';
import { AioError, EINTR } from './errors.ts';
import { failure } from './outcome.ts';
import { AioRequest, transferOf } from './request.ts';
import { clearInterval, monotonicMs, nextTick, setImmediate, setInterval, setTimeout } from './time.ts';
import { COMPLETED, PREPARED, Transfer } from './transfer.ts';

/**
 * Requests in the kernel at once. Devices gain nothing beyond some hundreds; what waits here can be taken back at once. Fewer
 * where the kernel has no room for so many (`fs.aio-max-nr`).
 */
const ROOMS = [256, 64, 8] as const;

/**
 * Of one system call: what the kernel does within it (looking up pages, copying what is cached) holds up the event loop. The rest
 * goes down in the next turn.
 */
const BATCH_BYTES = 2 ** 21;

/**
 * Completions that are there at once lead to the next calls without the event loop, and a fast device could go on so for ever.
 * After this long timers and sockets get their turn: so short that they hardly notice. Not with virtual time, where every wait goes
 * through the event loop, and nothing may depend on how fast this machine is.
 */
const TURN_MS = 0.1;

/**
 * Completions that are told at once. What their callers ask for next goes down in one batch, which takes a disk's driver some five microseconds
 * each; and what is told to more of them pushes what they read out of the processor's cache.
 */
const TAKEN_AT_ONCE = 64;

/** A context costs three descriptors and some memory: one that had nothing to do for so long is closed. */
const IDLE_MS = 100;

/** So many places of the queue may be left behind before they are cut off: it may never run empty. */
const COMPACT_AT = 4096;

/** Where the kernel has no room although nothing of ours is in it. */
const RETRY_MS = 5;
/** And how often, before the calls fail. */
const MAX_RETRIES = 400;

/**
 * One transfer on its way through a queue. Prepare {@link Call.transfer}, then add it. Calls are used again: nobody may keep one that
 * is done.
 */
export class Call extends AioRequest<undefined> {
  readonly transfer: Transfer = transferOf(this) ?? NO_TRANSFER;
  /** `'abandoned'`: its caller has been told that it failed, and the kernel still has it. */
  stage: 'idle' | 'queued' | 'submitted' | 'abandoned' = 'idle';
  /** In what is submitted. */
  index = 0;
  /** The one that has it now, and what looks for its completion. */
  queue: Queue | undefined = undefined;
  look: () => void = ignore;
  /** Who knows of another queue for it, where its own cannot be opened any more. */
  home: Home | undefined = undefined;
  /** Its caller wants it back. */
  withdrawn = false;
  /** What went wrong with the call itself: it never got to the kernel, or nobody knows what became of it there. */
  failure: unknown = undefined;
  /** Called once, when the memory is the caller's again. Must not throw. */
  done: (call: Call) => void = ignore;

  // What `done` needs, so that the hot path makes no closure for it.
  resolve: (value: never) => void = ignore;
  reject: (error: unknown) => void = ignore;
  owner: unknown = undefined;
  value: unknown = undefined;

  /** Whether it did what it was to do; {@link AioRequest.bytesTransferred} counts then. */
  get succeeded(): boolean {
    const { transfer } = this;
    return this.failure === undefined && transfer.state === COMPLETED && transfer.status === 'OK';
  }
}

/** Who made a call. */
export interface Home {
  /** Another queue than the one that failed; `undefined` where there is none. */
  instead(failed: Queue): Queue | undefined;
}

const NO_TRANSFER = new Transfer(new AioRequest());

function ignore(): void {}

/** The bounce buffer of a call that waits to be used again may be so large. */
const BOUNCE_KEPT = 64 * 1024;

export class Queue implements Taker {
  readonly engine: EngineName;
  readonly #source: EngineName | EngineSource;
  readonly #turnMs: number;
  readonly #takenAtOnce: number;
  #context: AioContext | undefined;
  #look: () => void = ignore;
  /** Calls that wait for their turn, from `#next` on. Where one was withdrawn there is none. */
  #waiting: (Call | undefined)[] = [];
  #next = 0;
  readonly #submitted: Call[] = [];
  readonly #batch: Call[] = [];
  readonly #free: Call[] = [];
  #scheduled = false;
  #lastTurn = 0;
  #retries = 0;
  #renewed = false;
  #used = false;
  #idle: NodeJS.Timeout | undefined;
  /** Contexts whose completions could not be found out any more: each looks once more, and says whether that was the end of it. */
  #left: (() => boolean)[] = [];
  readonly #onTick = (): void => this.#flush(monotonicMs());
  readonly #onTurn = (): void => {
    const now = monotonicMs();
    this.#lastTurn = now;
    this.#flush(now);
  };

  constructor(source: EngineName | EngineSource) {
    this.#source = source;
    this.engine = typeof source === 'string' ? source : source[DRIVER].name;
    this.#turnMs = typeof source === 'string' ? TURN_MS : Infinity;
    this.#takenAtOnce = typeof source === 'string' ? TAKEN_AT_ONCE : Infinity;
  }

  /**
   * Makes sure that there is a context.
   *
   * @throws AioError where none can be made.
   */
  open(): void {
    this.#used = true;
    if (this.#context !== undefined) return;
    this.#left = this.#left.filter((isEmpty) => !isEmpty());
    const context = makeContext(this.#source);
    this.#context = context;
    this.#look = takeFrom(context, this, this.#takenAtOnce);
    this.#idle = setInterval(() => this.#closeIfIdle(), IDLE_MS).unref();
  }

  get isOpen(): boolean {
    return this.#context !== undefined;
  }

  /** A call to prepare and add. */
  acquire(): Call {
    return this.#free.pop() ?? new Call();
  }

  /** Queues a prepared call. Its `done` is called in any case, and never within this. */
  add(call: Call): void {
    this.#used = true;
    call.queue = this;
    call.stage = 'queued';
    this.#waiting.push(call);
    this.#schedule();
  }

  /** After everything else that runs in this tick, promises included: their calls come along. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    nextTick(this.#onTick);
  }

  #flush(now: number): void {
    if (now - this.#lastTurn > this.#turnMs) {
      setImmediate(this.#onTurn);
      return;
    }
    this.#scheduled = false;
    try {
      this.open();
    } catch (error) {
      this.#moveOn(error);
      return;
    }
    this.#submit();
    this.#look();
    if (this.#hasWaiting && this.#room > 0 && !this.#scheduled) {
      this.#scheduled = true;
      setImmediate(this.#onTurn);
    }
  }

  get #hasWaiting(): boolean {
    return this.#next < this.#waiting.length;
  }

  get #room(): number {
    return (this.#context?.maxRequests ?? 0) - this.#submitted.length;
  }

  #submit(): void {
    const context = this.#context;
    if (context === undefined) return;
    const batch = this.#takeWaiting(this.#room);
    if (batch.length === 0) return;
    const count = this.#hand(context, batch);
    for (let index = 0; index < count; index++) {
      const call = batch[index];
      if (call === undefined) break;
      call.stage = 'submitted';
      call.look = this.#look;
      call.index = this.#submitted.push(call) - 1;
    }
    if (count < batch.length) {
      // First in line again.
      this.#waiting = [...batch.slice(count), ...this.#waiting.slice(this.#next)];
      this.#next = 0;
    }
    batch.length = 0;
  }

  #takeWaiting(room: number): Call[] {
    const batch = this.#batch;
    let bytes = 0;
    while (batch.length < room && bytes < BATCH_BYTES && this.#hasWaiting) {
      const call = this.#waiting[this.#next];
      this.#waiting[this.#next++] = undefined;
      if (call === undefined) continue;
      if (call.transfer.detached) {
        this.#fail(call, failure(call.transfer, 'ERR_AIO_BUFFER_DETACHED'));
        continue;
      }
      bytes += call.transfer.length;
      batch.push(call);
    }
    if (!this.#hasWaiting) {
      this.#waiting.length = this.#next = 0;
    } else if (this.#next > COMPACT_AT) {
      this.#waiting.splice(0, this.#next);
      this.#next = 0;
    }
    return batch;
  }

  /** Returns how many of the batch are submitted. Calls that cannot be, now or later, are taken out of it and failed. */
  #hand(context: AioContext, batch: Call[]): number {
    try {
      context.submit(batch);
      this.#retries = 0;
      this.#renewed = false;
      return batch.length;
    } catch (error) {
      const code = error instanceof AioError ? error.code : '';
      if (error instanceof AioError && code === 'ERR_AIO_INSUFFICIENT_RESOURCES') {
        const submitted = error.submitted ?? 0;
        if (submitted > 0) return submitted;
        // Completions make room; where there will be none, time has to.
        if (this.#submitted.some(({ stage }) => stage === 'submitted') || this.#retries++ < MAX_RETRIES) {
          this.#scheduled = true;
          this.#later(this.#onTurn);
          return 0;
        }
      }
      if (code === 'ERR_AIO_NOT_SUPPORTED' && !this.#renewed) {
        this.#renewed = true;
        this.#retire(context);
        this.#schedule();
        return 0;
      }
      this.#retries = 0;
      this.#renewed = false;
      for (const call of batch.splice(0)) this.#fail(call, error);
      return 0;
    }
  }

  /**
   * A ring acts with the credentials that the process had when it was made, and refuses to once these are others: the next call
   * makes a new one. What the old one has under way ends there.
   */
  #retire(context: AioContext): void {
    this.#drop();
    const closeIfDone = (): void => {
      if (context.pending === 0) void context.close();
    };
    const look = takeFrom(context, {
      taken: (completed, more) => {
        this.taken(completed, false);
        if (more) this.#later(look);
        closeIfDone();
      },
      failed: (error) => this.#lookAgain(error, context, look),
    });
    for (const call of this.#submitted) call.look = look;
    // Of what has ended, some may not be told yet, and nothing would signal it again.
    look();
    closeIfDone();
  }

  /** The next call makes a context anew. */
  #drop(): void {
    clearInterval(this.#idle);
    this.#context = undefined;
    this.#look = ignore;
  }

  #later(run: () => void): void {
    const later = typeof this.#source === 'string' ? undefined : this.#source[DRIVER].later;
    if (later === undefined) setTimeout(run, RETRY_MS);
    else later(RETRY_MS, run);
  }

  /** Takes a call back if that can be done. It ends in any case, and `done` is called then. */
  withdraw(call: Call): void {
    if (call.withdrawn) return;
    call.withdrawn = true;
    if (call.stage === 'queued') {
      const index = this.#waiting.indexOf(call, this.#next);
      if (index < 0) return;
      this.#waiting[index] = undefined;
      nextTick(() => this.#finish(call));
    } else if (call.stage === 'submitted' && call.status === 'ERR_AIO_IN_PROGRESS') {
      call.cancel();
      // Its completion may be there by now, without a signal for it.
      const { look } = call;
      setImmediate(() => look());
    }
  }

  /** For the context. */
  taken(completed: AioRequest[], more: boolean): void {
    this.#retries = 0;
    for (const request of completed) {
      if (!(request instanceof Call)) continue;
      const last = this.#submitted.pop();
      if (last !== undefined && last !== request) {
        this.#submitted[request.index] = last;
        last.index = request.index;
      }
      if (request.transfer.result === -EINTR && !request.withdrawn && request.stage === 'submitted') {
        // A signal came in between: as read(2) would be, it is called again.
        request.transfer.state = PREPARED;
        this.add(request);
      } else {
        this.#finish(request);
      }
    }
    if (more || this.#hasWaiting) this.#schedule();
  }

  /** For the context: what has completed cannot be found out. Asked again for a while; after that nobody can wait any longer. */
  failed(error: unknown): void {
    if (this.#context !== undefined) this.#lookAgain(error, this.#context, this.#look);
  }

  #lookAgain(error: unknown, context: AioContext, look: () => void): void {
    if (this.#retries++ < MAX_RETRIES) {
      this.#later(look);
      return;
    }
    this.#retries = 0;
    const submitted = this.#submitted.splice(0);
    const lost = submitted.filter((call) => call.look === look);
    for (const call of submitted) if (call.look !== look) call.index = this.#submitted.push(call) - 1;
    const current = context === this.#context;
    if (current) this.#drop();
    this.#leave(context);
    for (const call of lost) {
      call.failure = error;
      call.stage = 'abandoned';
      call.transfer.abandoned = true;
      call.done(call);
    }
    if (current) this.#failWaiting(error);
  }

  /**
   * The requests stay the context's, and with them the memory that the kernel may still write to; the program can end all the same. Should
   * the kernel answer again by the time that another context is made, this one is closed.
   */
  #leave(context: AioContext): void {
    const look = leave(context, {
      taken: (completed) => {
        for (const request of completed) if (request instanceof Call) this.#finish(request);
      },
    });
    this.#left.push(() => {
      const empty = look();
      if (empty) void context.close();
      return empty;
    });
  }

  /** There is no context to be had any more. What waits goes elsewhere, or fails. */
  #moveOn(error: unknown): void {
    const waiting = this.#waiting.slice(this.#next);
    this.#waiting = [];
    this.#next = 0;
    for (const call of waiting) {
      if (call === undefined) continue;
      const other = call.home?.instead(this);
      if (other === undefined) this.#fail(call, error);
      else other.add(call);
    }
  }

  #failWaiting(error: unknown): void {
    const waiting = this.#waiting.slice(this.#next);
    this.#waiting = [];
    this.#next = 0;
    for (const call of waiting) if (call !== undefined) this.#fail(call, error);
  }

  #fail(call: Call, error: unknown): void {
    call.failure = error;
    this.#finish(call);
  }

  #finish(call: Call): void {
    if (call.stage !== 'abandoned') call.done(call);
    call.stage = 'idle';
    call.withdrawn = false;
    call.failure = undefined;
    call.done = call.resolve = call.reject = ignore;
    call.owner = call.value = call.queue = call.home = undefined;
    call.look = ignore;
    call.transfer.forget(BOUNCE_KEPT);
    if (this.#free.length < ROOMS[0]) this.#free.push(call);
  }

  #closeIfIdle(): void {
    const used = this.#used;
    this.#used = false;
    if (used || this.#submitted.length > 0 || this.#hasWaiting) return;
    const context = this.#context;
    this.#drop();
    this.#free.length = 0;
    void context?.close();
  }
}

/** As large as the kernel has room for. */
function makeContext(engine: EngineName | EngineSource): AioContext {
  for (const maxRequests of ROOMS) {
    try {
      return new AioContext({ maxRequests, engine });
    } catch (error) {
      const crowded = error instanceof AioError && error.code === 'ERR_AIO_INSUFFICIENT_EVENTS';
      if (!crowded || maxRequests === ROOMS.at(-1)) throw error;
    }
  }
  throw new AioError(
    'ERR_AIO_NOT_SUPPORTED',
    `No context with the engine '${typeof engine === 'string' ? engine : engine[DRIVER].name}' could be made`,
  );
}

const queues = new Map<EngineName, Queue>();
const queuesOfSources = new WeakMap<EngineSource, Queue>();

/** The queue of this thread for an engine. */
export function queueOf(engine: EngineName | EngineSource): Queue {
  let queue = typeof engine === 'string' ? queues.get(engine) : queuesOfSources.get(engine);
  if (queue === undefined) {
    queue = new Queue(engine);
    if (typeof engine === 'string') queues.set(engine, queue);
    else queuesOfSources.set(engine, queue);
  }
  return queue;
}
