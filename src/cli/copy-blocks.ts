/**
 * Blocks of a file on their way: each is read, or written, by as many transfers as it takes. And the loop that keeps many of them
 * going on one context.
 */
import { writeSync } from 'node:fs';
import { AioContext, AioError, type AioRequest, type EngineName } from '../index.ts';
import { roundDown, roundUp } from './copy-extents.ts';
import type { CliError } from './usage.ts';

/** One end of a copy: what transfers need to know of it. */
export interface Side {
  readonly fd: number;
  /** Opened with O_DIRECT: positions and lengths are multiples of the alignment. */
  readonly direct: boolean;
  /** What a person reads when a transfer at `position` failed. */
  failed(position: number, error: unknown): CliError;
}

/** Whoever has requests in flight on the loop. */
export interface Lane {
  /** Prepares what it begins with, and adds it to `due`; nothing where there is nothing to do. */
  begin(due: AioRequest[]): void;
  /** `request` completed: prepares what comes next, if anything, and adds it to `due`. */
  next(request: AioRequest, due: AioRequest[]): void;
}

/** What a file says that neither takes bytes nor refuses them. */
export const NOTHING_WRITTEN = 'nothing was written, and no error was given';

/** Reads one block after the other into its buffer. */
export class BlockReader {
  readonly request: AioRequest<Lane>;
  readonly #lane: Lane;
  readonly #side: Side;
  readonly #buffer: Buffer;
  readonly #alignment: number;
  #position = 0;
  #length = 0;
  /** What is in the buffer for good. */
  #filled = 0;
  /** The most that was ever read of this block. */
  #furthest = 0;

  /** @param alignment - of positions and lengths on a direct side; a divisor of the buffer's length. */
  constructor(request: AioRequest<Lane>, lane: Lane, side: Side, buffer: Buffer, alignment: number) {
    this.request = request;
    this.#lane = lane;
    this.#side = side;
    this.#buffer = buffer;
    this.#alignment = side.direct ? alignment : 1;
  }

  /** Prepares the first transfer. `length` may end anywhere; `position` is aligned. */
  begin(position: number, length: number): void {
    this.#position = position;
    this.#length = length;
    this.#filled = this.#furthest = 0;
    this.#prepare();
  }

  #prepare(): void {
    // A direct read of the last block asks for all of its sector, and gets what there is.
    const end = roundUp(this.#length, this.#alignment);
    const part =
      this.#filled === 0 && end === this.#buffer.length ? this.#buffer : this.#buffer.subarray(this.#filled, end);
    this.request.prepareRead(this.#side.fd, this.#position + this.#filled, part, this.#lane);
  }

  /**
   * After the request completed. `'more'`: it is prepared again, for what is missing. `'end'`: the file ends before the block does.
   *
   * @throws CliError
   */
  take(): 'more' | 'full' | 'end' {
    const { error, bytesTransferred } = this.request;
    if (error !== undefined) throw this.#side.failed(this.#position + this.#filled, error);
    const reached = this.#filled + bytesTransferred;
    if (reached >= this.#length) return 'full';
    // A read that is short is no end of file: the next one, which brings nothing new, is.
    if (reached <= this.#furthest) return 'end';
    this.#furthest = reached;
    this.#filled = roundDown(reached, this.#alignment);
    this.#prepare();
    return 'more';
  }
}

/** Writes parts of a buffer, one after the other. */
export class BlockWriter {
  readonly #request: AioRequest<Lane>;
  readonly #lane: Lane;
  readonly #side: Side;
  readonly #buffer: Buffer;
  readonly #alignment: number;
  #position = 0;
  #from = 0;
  #to = 0;
  #stalled = false;

  /** @param request - may be that of the reader before it: a block is either read or written. */
  constructor(request: AioRequest<Lane>, lane: Lane, side: Side, buffer: Buffer, alignment: number) {
    this.#request = request;
    this.#lane = lane;
    this.#side = side;
    this.#buffer = buffer;
    this.#alignment = side.direct ? alignment : 1;
  }

  /** Prepares the first transfer of bytes `from` up to `to` of the buffer, whose first byte belongs to `position`. */
  begin(position: number, from: number, to: number): void {
    this.#position = position;
    this.#from = from;
    this.#to = to;
    this.#stalled = false;
    this.#prepare();
  }

  /**
   * The same without a request: it is done when this returns.
   *
   * @throws CliError
   */
  writeAtOnce(position: number, from: number, to: number): void {
    const { fd, failed } = this.#side;
    for (let done = from; done < to; ) {
      const at = position + done;
      let bytes = 0;
      try {
        bytes = writeSync(fd, this.#buffer, done, to - done, at);
      } catch (error) {
        throw failed(at, error);
      }
      if (bytes === 0) throw failed(at, new Error(NOTHING_WRITTEN));
      done += bytes;
    }
  }

  #prepare(): void {
    const part =
      this.#from === 0 && this.#to === this.#buffer.length ? this.#buffer : this.#buffer.subarray(this.#from, this.#to);
    this.#request.prepareWrite(this.#side.fd, this.#position + this.#from, part, this.#lane);
  }

  /**
   * After the request completed. `'more'`: it is prepared again, for the rest of a short write.
   *
   * @throws CliError
   */
  take(): 'more' | 'done' {
    const at = this.#position + this.#from;
    const { error, bytesTransferred } = this.#request;
    if (error !== undefined) throw this.#side.failed(at, error);
    const reached = this.#from + bytesTransferred;
    if (reached >= this.#to) return 'done';
    const from = roundDown(reached, this.#alignment);
    // What stopped it, a full disk for instance, is said by the next attempt. Where that says nothing either, it would go on for ever.
    const stalled = from <= this.#from;
    if (stalled && this.#stalled) throw this.#side.failed(at, new Error(NOTHING_WRITTEN));
    this.#stalled = stalled;
    this.#from = from;
    this.#prepare();
    return 'more';
  }
}

/**
 * A context for a copy. Its files are not to be associated with it: a ring lets go of those some time after it was closed, and until
 * then neither is a device free for others, nor can a file system be unmounted.
 *
 * @param engine - `undefined`: whatever is best. Through the page cache that is not kernel AIO, which would do the whole transfer
 * while it is submitted.
 * @throws AioError where it, or none, can be made.
 */
export function openContext(maxRequests: number, engine: EngineName | undefined, direct: boolean): AioContext {
  if (engine !== undefined) return new AioContext({ maxRequests, engine });
  if (direct || (process.env.FILEAIO_ENGINE ?? '') !== '') return new AioContext({ maxRequests });
  try {
    return new AioContext({ maxRequests, engine: 'io-uring' });
  } catch (error) {
    if (!(error instanceof AioError)) throw error;
    return new AioContext({ maxRequests, engine: 'threads' });
  }
}

/**
 * Runs the lanes until none has anything in flight. `onTurn` is called each time that some requests completed; what it throws, and
 * what a lane throws, ends the loop. Requests may be in flight then: dispose of the context before their buffers are used again.
 *
 * @throws CliError, AioError
 */
export async function drive(context: AioContext, lanes: readonly Lane[], onTurn: () => void): Promise<void> {
  const due: AioRequest[] = [];
  for (const lane of lanes) lane.begin(due);
  submit(context, due);
  while (context.pending > 0) {
    const { completed } = await context.wait();
    onTurn();
    // Each request was prepared with its lane as user data.
    for (const request of completed) (request.userData as Lane).next(request, due);
    submit(context, due);
  }
}

/** Submits as many as the kernel takes; the others stay in `due`, for after the next completion. */
function submit(context: AioContext, due: AioRequest[]): void {
  if (due.length === 0) return;
  try {
    context.submit(due);
    due.length = 0;
  } catch (error) {
    const isFull = error instanceof AioError && error.code === 'ERR_AIO_INSUFFICIENT_RESOURCES';
    if (!isFull || context.pending === 0) throw error;
    due.splice(0, error.submitted ?? 0);
  }
}
