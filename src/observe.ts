/**
 * What a running program can be asked about its requests: messages for whoever listens, what is under way, how long transfers take.
 * Nothing here runs unless somebody asked for it.
 */
import { channel } from 'node:diagnostics_channel';
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { AioContext } from './context.ts';
import type { EngineName } from './engine.ts';
import { syscallOf } from './outcome.ts';
import type { AioRequest } from './request.ts';
import { FDATASYNC, FSYNC, READ, type Transfer, WRITE } from './transfer.ts';

/** What a request does; vectored reads and writes are `'read'` and `'write'`, too. */
export type AioOperation = 'read' | 'write' | 'fsync' | 'fdatasync';

/** A request, as it was submitted. */
export interface ObservedRequest {
  /** What it does. */
  readonly operation: AioOperation;
  /** The descriptor. */
  readonly fd: number;
  /**
   * In bytes; a bigint above `Number.MAX_SAFE_INTEGER`. `undefined` for a flush, and for transfers of a FileHandle where the file is now, on
   * pipes and terminals.
   */
  readonly position: number | bigint | undefined;
  /** In bytes, all buffers together; 0 for a flush. */
  readonly length: number;
  /** As given when it was prepared. */
  readonly userData: unknown;
  /** `undefined` for transfers of FileHandles and streams: their requests are used again and again, for anything. */
  readonly request: AioRequest | undefined;
}

/** One of {@link AioContext.inflight}. */
export interface InflightRequest extends ObservedRequest {
  /** That of its context. */
  readonly engine: EngineName;
  /** Since it was submitted; on the virtual clock of a simulated disk. */
  readonly ageMs: number;
  /** It ended, and waits to be handed out: the program has to call `wait`. `false`: as far as anybody asked, the kernel has it. */
  readonly ended: boolean;
}

/** A request, and what came of it. */
export interface CompletedRequest extends ObservedRequest {
  /** `'OK'`, or a code. */
  readonly status: string;
  /** As {@link AioRequest.bytesTransferred}: 0 unless it ended well. */
  readonly bytesTransferred: number;
  /** From its submission until it was handed out. */
  readonly latencyMs: number;
}

/** What the messages on all channels have. */
interface Message {
  /** That of a FileHandle belongs to this library: look at `stats` and `inflight()`, and leave it alone otherwise. */
  readonly context: AioContext;
  /** That of the context. */
  readonly engine: EngineName;
  /** When it happened: `performance.now()`, or the virtual time of a simulated disk. */
  readonly timeMs: number;
}

/**
 * On the channel `fileaio:submit` of `node:diagnostics_channel`, once for each call of {@link AioContext.submit} that submitted
 * something, at its end: the engine has the requests, and none is handed out.
 *
 * @example
 * ```ts
 * import { subscribe, unsubscribe } from 'node:diagnostics_channel';
 * import { openSync } from 'node:fs';
 * import { AioContext, AioRequest, allocBuffer, type SubmitMessage } from 'fileaio';
 *
 * const onSubmit = (message: unknown) => {
 *   for (const { operation, position, length } of (message as SubmitMessage).requests) console.log(operation, position, length);
 * };
 * subscribe('fileaio:submit', onSubmit);
 * await using context = new AioContext({ maxRequests: 1 });
 * context.submit([new AioRequest().prepareRead(openSync('data.bin', 'r'), 8192, allocBuffer(4096))]); // => read 8192 4096
 * unsubscribe('fileaio:submit', onSubmit);
 * ```
 */
export interface SubmitMessage extends Message {
  /** In the order in which they were submitted. */
  readonly requests: readonly ObservedRequest[];
}

/** On the channel `fileaio:complete`, once for each wait that handed requests out, after they were settled. */
export interface CompleteMessage extends Message {
  /** In the order in which they were handed out. */
  readonly requests: readonly CompletedRequest[];
}

/** On the channel `fileaio:cancel`, once for each {@link AioRequest.cancel} of a submitted request, after it was tried. */
export interface CancelMessage extends Message {
  /** The one. */
  readonly requests: readonly ObservedRequest[];
  /** What `cancel` answers. */
  readonly answer: 'canceled' | 'in-progress';
}

/**
 * Plain channels, not a TracingChannel: that follows one call from its start to its end in one asynchronous context, and here a
 * batch goes down at once, is handed out in other batches, and by whoever waits.
 */
export const submitChannel = channel('fileaio:submit');
export const completeChannel = channel('fileaio:complete');
export const cancelChannel = channel('fileaio:cancel');

/** @param foreign - whether it is the program's own request. */
export function observe(transfer: Transfer, foreign: boolean): ObservedRequest {
  const { request, fd, length } = transfer;
  return {
    operation: syscallOf(transfer),
    fd,
    position: positionOf(transfer),
    length,
    userData: foreign ? request.userData : undefined,
    request: foreign ? request : undefined,
  };
}

/** Where the whole of it begins: a vectored transfer moves on from group to group. */
function positionOf(transfer: Transfer): number | bigint | undefined {
  const { operation, atCurrentPosition, positionHigh, positionLow, moved } = transfer;
  if (operation === FSYNC || operation === FDATASYNC || atCurrentPosition) return undefined;
  const begin = positionHigh * 2 ** 32 + (positionLow >>> 0) - moved;
  return begin <= Number.MAX_SAFE_INTEGER ? begin : transfer.position - BigInt(moved);
}

/**
 * Of a context that was made with `latency: true`: how long transfers took, in nanoseconds, from before the system call that submitted
 * them until their completion was fetched from the kernel; what they waited for a `wait` after that does not count. Errors
 * count, canceled requests do not. Histograms of `node:perf_hooks`: `percentile(99)`, `mean`, `max`, `count`, and `reset()`; one can be
 * `add`ed to another.
 *
 * @example
 * ```ts
 * import { openSync } from 'node:fs';
 * import { AioContext, AioRequest, allocBuffer } from 'fileaio';
 *
 * await using context = new AioContext({ maxRequests: 1, latency: true });
 * const fd = openSync('data.bin', 'r');
 * const request = new AioRequest();
 * for (let i = 0; i < 100; i++) {
 *   context.submit([request.prepareRead(fd, i * 4096, allocBuffer(4096))]);
 *   await context.wait();
 * }
 * const read = context.latency?.read;
 * console.log(read?.count, `reads, p99 ${(read?.percentile(99) ?? 0) / 1000} µs`);
 * ```
 */
export interface AioLatency {
  /** Reads, vectored ones included. */
  readonly read: RecordableHistogram;
  /** Writes, vectored ones included. */
  readonly write: RecordableHistogram;
  /** Flushes of data and metadata. */
  readonly fsync: RecordableHistogram;
  /** Flushes with `dataOnly`. */
  readonly fdatasync: RecordableHistogram;
}

export function createLatency(): AioLatency {
  return {
    read: createHistogram(),
    write: createHistogram(),
    fsync: createHistogram(),
    fdatasync: createHistogram(),
  };
}

export function recordLatency(latency: AioLatency, { operation }: Transfer, ms: number): void {
  // A histogram takes whole numbers from 1 on; virtual time may stand still.
  const ns = Math.max(1, Math.round(ms * 1e6));
  if (operation === READ) latency.read.record(ns);
  else if (operation === WRITE) latency.write.record(ns);
  else if (operation === FSYNC) latency.fsync.record(ns);
  else latency.fdatasync.record(ns);
}
