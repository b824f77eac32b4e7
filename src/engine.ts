/**
 * The contract of a backend. A context decides (states, counting, waiting, outcomes); an engine carries transfers to the
 * kernel and brings results back. The core knows engines by this interface only; `engines/select.ts` alone knows their names.
 */
import type { Alignment } from './alignment.ts';
import type { Memory } from './buffer.ts';
import type { AioError } from './errors.ts';
import type { Transfer } from './transfer.ts';
import type { WakeCell } from './wake.ts';

/**
 * How requests get to the kernel. `'kernel-aio'` and `'io-uring'` exist on Linux and need the native shim; `'threads'` is node:fs and its
 * thread pool, which is everywhere, and cannot do `waitSync`. `'simulated'` is what contexts and files on a simulated disk
 * (`fileaio/sim`) say that they have; to ask for it, give the disk itself.
 */
export type EngineName = 'kernel-aio' | 'io-uring' | 'threads' | 'simulated';

/** Milliseconds since some beginning. */
export interface Clock {
  now(): number;
}

/** What direct I/O needs, and how much a context can hold. */
export interface Limits {
  /** The most requests that one context can have. */
  readonly maxOutstanding: number;
  /** Direct I/O: the buffer's address must be a multiple of this, in bytes. */
  readonly bufferAlignment: number;
  /** Direct I/O: position and length must be multiples of this, in bytes. */
  readonly offsetAlignment: number;
}

/** The context, as its engine sees it. */
export interface EngineHost {
  /**
   * A transfer ended: bytes moved, or the negative errno. Called from within `submit`, `reap` and `block` only, once
   * per submitted slot, and never runs the program's code.
   */
  complete(slot: number, result: number): void;
  /** Between `arm` and `disarm`: something may be there to reap, or a wake-up. Called by the event loop only. */
  ready(): void;
}

/** One context's way to the kernel. Belongs to one thread; no method is called after `close`. */
export interface Engine {
  readonly name: EngineName;

  /** Where other threads leave their wake-ups. */
  readonly cell: WakeCell;

  /** Where `block` cannot be called: why, and what to do instead. Then it is not called. */
  readonly cannotBlock?: string;

  /** Where time is not the world's: all waits are counted on it, and `arm` and `block` are what makes it pass. */
  readonly clock?: Clock;

  /**
   * Submits `batch[from]` up to `batch[to]` (not included), in order, in one native call where the kernel takes them all. A
   * transfer that the kernel refuses is completed with its error, and the rest go on.
   *
   * May block as long as the kernel's submission does.
   *
   * @returns how many were taken; fewer than given only where the kernel has no room.
   * @throws AioError where nothing was submitted, and nothing can be.
   */
  submit(batch: readonly (Transfer | undefined)[], from: number, to: number): number;

  /** Completes everything that has ended by now. Does not block. */
  reap(): void;

  /**
   * Blocks this thread until at least one transfer ended (and completes it), a wake-up came, or `timeoutMs` passed,
   * whichever is first. May return early with nothing: the caller loops. Never blocks for longer than a moment at a time,
   * so that a thread in it can be terminated.
   */
  block(timeoutMs: number): void;

  /**
   * From here on call `host.ready` whenever there may be something to reap, and keep the event loop alive. Called anew before each
   * sleep, so that what fired in between can be armed again.
   *
   * @param deadlineMs - for an engine with a clock of its own: when to call at the latest.
   */
  arm(deadlineMs?: number): void;

  /** Ends what `arm` began. */
  disarm(): void;

  /**
   * Tries to cancel a submitted transfer. `true` only if it will touch its memory no more; its completion with -ECANCELED
   * then comes through the host like any other, possibly before this returns.
   */
  cancel(transfer: Transfer): boolean;

  /** A hint that many requests will use this descriptor. */
  associate(fd: number): void;

  /**
   * For an engine whose descriptors are not the kernel's: what direct I/O on one needs, `undefined` for one that needs nothing.
   */
  alignmentOf?(fd: number): Alignment | undefined;

  /** A hint that many requests will use this memory. Where there is none of this, there is nothing to gain. */
  associateMemory?(memory: Memory): void;

  /** Gives everything back to the kernel. Called with nothing pending. Does not block. */
  close(): Promise<void>;

  /**
   * Like `close`, for a context that was collected without it. Holds neither the engine nor its host, so that it can
   * be what a FinalizationRegistry keeps.
   */
  readonly abandon: () => void;
}

/** What a program may ask of its engine; one that cannot do it refuses to be made. */
export interface EngineOptions {
  readonly sqpoll: boolean;
}

/** An engine that can be chosen by name. */
export interface EngineDriver {
  readonly name: EngineName;
  /** Why it cannot work here, found by doing it; `undefined` if it can. */
  probe(): AioError | undefined;
  /** The most requests that one context can have. */
  maxOutstanding(): number;
  /** @throws AioError when the kernel refuses: `ERR_AIO_NOT_SUPPORTED`, `ERR_AIO_INSUFFICIENT_EVENTS`, … */
  open(host: EngineHost, maxRequests: number, options: EngineOptions): Engine;
  /** For an engine whose files are not the kernel's: what direct I/O on one needs. */
  alignmentOf?(path: string): Alignment;
  /** Where time is not the world's: calls back when so much of it has passed. */
  later?(ms: number, run: () => void): void;
}

/** Where something that can be given as an engine has its driver. */
export const DRIVER: unique symbol = Symbol('fileaio.driver');

/** What can be given as an engine in place of a name: a simulated disk. Its content is private. */
export interface EngineSource {
  /** @internal */
  readonly [DRIVER]: EngineDriver;
}

export function isEngineSource(value: unknown): value is EngineSource {
  return typeof value === 'object' && value !== null && DRIVER in value;
}
