import { AioError, checkFd, invalidArgType, isArray, outOfRange } from './errors.ts';
import { errorOf, failure } from './outcome.ts';
import {
  COMPLETED,
  DISPOSED,
  FDATASYNC,
  FSYNC,
  type Operation,
  PREPARED,
  READ,
  SUBMITTED,
  Transfer,
  WRITE,
} from './transfer.ts';

/** Where a request is in its life: prepare, submit, completion, and prepare again. */
export type RequestState = 'prepared' | 'submitted' | 'completed';

/** What {@link AioRequest.prepareFlush} takes. */
export interface FlushOptions {
  /**
   * Flush the data and only the metadata that is needed to read it back, as fdatasync(2) does; default `false`: all
   * metadata too, as fsync(2).
   */
  readonly dataOnly?: boolean;
}

/** The last byte position of a file: the kernel's `loff_t` is signed. */
const MAX_POSITION = 2n ** 63n - 1n;

/** The inside of a request, for contexts; `undefined` for anything that only looks like one. */
export let transferOf: (request: unknown) => Transfer | undefined;

/**
 * One transfer and, after it completed, its outcome. Reusable: prepare it, submit it to an {@link AioContext}, get it
 * back from `wait`, prepare it again. A new request is completed, with status `'OK'` and 0 bytes.
 *
 * From `submit` until `wait` hands it out, the context holds the request and the request its buffers; they must be
 * left alone (a buffer that is read into changes at any time, a buffer that is written from must not change). Preparing and
 * completing allocate nothing for transfers of one buffer from {@link allocBuffer}, {@link AlignedPool} or a
 * SharedArrayBuffer. Reads into other memory pass through a bounce buffer that the request keeps (up to 1 MiB).
 *
 * Every member but {@link AioRequest.dispose} throws `ERR_AIO_CLOSED` after `dispose`.
 *
 * @typeParam T - of `userData`, which is handed through untouched.
 *
 * @example
 * ```ts
 * import { openSync } from 'node:fs';
 * import { AioContext, AioRequest, allocBuffer } from 'fileaio';
 *
 * await using context = new AioContext({ maxRequests: 1 });
 * const request = new AioRequest<string>();
 * request.prepareRead(openSync('data.bin', 'r'), 0, allocBuffer(4096), 'the first block');
 * context.submit([request]);
 * await context.wait();
 * console.log(request.userData, request.status, request.result()); // => the first block OK 4096
 * ```
 */
export class AioRequest<T = unknown> {
  readonly #transfer: Transfer = new Transfer(this as AioRequest<unknown>);
  #userData: T | undefined = undefined;

  static {
    transferOf = (request) =>
      typeof request === 'object' && request !== null && #transfer in request ? request.#transfer : undefined;
  }

  /** Where the request is in its life. */
  get state(): RequestState {
    switch (this.#alive().state) {
      case PREPARED:
        return 'prepared';
      case SUBMITTED:
        return 'submitted';
      default:
        return 'completed';
    }
  }

  /** As given to the last `prepare*`. */
  get userData(): T | undefined {
    this.#alive();
    return this.#userData;
  }

  /**
   * The outcome: `'OK'`, an error's code, or why there is none yet (`ERR_AIO_NOT_SUBMITTED`, `ERR_AIO_IN_PROGRESS`). Never
   * throws for a request that is not disposed.
   */
  get status(): 'OK' | (string & {}) {
    const transfer = this.#alive();
    if (transfer.state === PREPARED) return 'ERR_AIO_NOT_SUBMITTED';
    if (transfer.state === SUBMITTED) return 'ERR_AIO_IN_PROGRESS';
    return transfer.status;
  }

  /**
   * Bytes read or written; 0 for a flush and unless `status` is `'OK'`. May be less than asked for, as with read(2) and
   * write(2): at the end of a file, on a device that fills up, and beyond 2 GiB − 4 KiB in one request.
   */
  get bytesTransferred(): number {
    const transfer = this.#alive();
    return transfer.state === COMPLETED && transfer.status === 'OK' ? transfer.result : 0;
  }

  /** What went wrong, built when it is asked for the first time; `undefined` where `status` is `'OK'`. */
  get error(): AioError | undefined {
    return errorOf(this.#alive(), this.status);
  }

  /**
   * Describes a read of `buffer.byteLength` bytes from `position`, as pread(2).
   *
   * @param fd - an open descriptor; a mode that does not fit shows as `EBADF` in the outcome.
   * @param position - in bytes, 0 … 2^63 − 1; numbers up to `Number.MAX_SAFE_INTEGER`.
   * @param buffer - any view on fixed-length memory. For a file opened with O_DIRECT, see {@link getLimits}.
   * @param userData - handed through to whoever gets the completed request.
   * @throws AioError `ERR_AIO_IN_PROGRESS` while submitted, `ERR_AIO_BUFFER_DETACHED` for a buffer that was transferred away;
   * TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` (resizable memory); RangeError `ERR_OUT_OF_RANGE`. Nothing
   * changes then.
   */
  prepareRead(fd: number, position: number | bigint, buffer: ArrayBufferView, userData?: T): this {
    return this.#prepareSingle(READ, fd, position, buffer, userData);
  }

  /**
   * Describes a write of all of `buffer` to `position`, as pwrite(2) (a file opened with O_APPEND ignores it).
   *
   * @see prepareRead
   *
   * @example
   * ```ts
   * import { openSync } from 'node:fs';
   * import { AioContext, AioRequest } from 'fileaio';
   *
   * await using context = new AioContext({ maxRequests: 1 });
   * const request = new AioRequest().prepareWrite(openSync('new.txt', 'w'), 0, Buffer.from('hello'));
   * context.submit([request]);
   * await context.wait();
   * console.log(request.result()); // => 5
   * ```
   */
  prepareWrite(fd: number, position: number | bigint, buffer: ArrayBufferView, userData?: T): this {
    return this.#prepareSingle(WRITE, fd, position, buffer, userData);
  }

  /**
   * Describes a read into several buffers, one after the other, as preadv(2). More than 1,024 (IOV_MAX) go down in groups, one
   * group after the other, and complete as one request. The array is copied, the buffers are not.
   *
   * @throws as {@link AioRequest.prepareRead}.
   *
   * @example
   * ```ts
   * import { openSync } from 'node:fs';
   * import { AioContext, AioRequest } from 'fileaio';
   *
   * await using context = new AioContext({ maxRequests: 1 });
   * const [header, body] = [Buffer.alloc(16), Buffer.alloc(100)];
   * const request = new AioRequest().prepareReadv(openSync('data.bin', 'r'), 0, [header, body]);
   * context.submit([request]);
   * await context.wait();
   * console.log(request.bytesTransferred); // => 116
   * ```
   */
  prepareReadv(fd: number, position: number | bigint, buffers: readonly ArrayBufferView[], userData?: T): this {
    return this.#prepareVector(READ, fd, position, buffers, userData);
  }

  /**
   * Describes a write from several buffers, as pwritev(2).
   *
   * @see prepareReadv
   *
   * @example
   * ```ts
   * import { openSync } from 'node:fs';
   * import { AioContext, AioRequest } from 'fileaio';
   *
   * await using context = new AioContext({ maxRequests: 1 });
   * const parts = ['a length', ', and ', 'a record'].map((text) => Buffer.from(text));
   * const request = new AioRequest().prepareWritev(openSync('log', 'w'), 0, parts);
   * context.submit([request]);
   * await context.wait();
   * console.log(request.result()); // => 22
   * ```
   */
  prepareWritev(fd: number, position: number | bigint, buffers: readonly ArrayBufferView[], userData?: T): this {
    return this.#prepareVector(WRITE, fd, position, buffers, userData);
  }

  /**
   * Describes a flush to stable storage, as fsync(2) or fdatasync(2). It covers writes that completed before it was
   * submitted, and no others: it is no barrier for what is in flight.
   *
   * @throws as {@link AioRequest.prepareRead}.
   *
   * @example
   * ```ts
   * import { openSync } from 'node:fs';
   * import { AioContext, AioRequest } from 'fileaio';
   *
   * await using context = new AioContext({ maxRequests: 1 });
   * const fd = openSync('log', 'w');
   * const write = new AioRequest().prepareWrite(fd, 0, Buffer.from('a record'));
   * context.submit([write]);
   * await context.wait(); // the flush covers what has completed, and nothing else
   * const flush = new AioRequest().prepareFlush(fd, { dataOnly: true });
   * context.submit([flush]);
   * await context.wait();
   * console.log(write.result(), flush.status); // => 8 OK
   * ```
   */
  prepareFlush(fd: number, options?: FlushOptions, userData?: T): this {
    const transfer = this.#preparable();
    checkFd(fd);
    if (options !== undefined && (typeof options !== 'object' || options === null || isArray(options))) {
      throw invalidArgType('options', 'an object', options);
    }
    const { dataOnly = false } = options ?? {};
    if (typeof dataOnly !== 'boolean') throw invalidArgType('options.dataOnly', 'of type boolean', dataOnly);
    this.#preparable(); // reading the options may have run code that submitted this very request
    transfer.setFlush(dataOnly ? FDATASYNC : FSYNC);
    transfer.setPosition(0);
    return this.#prepared(transfer, fd, userData);
  }

  #prepareSingle(
    operation: Operation,
    fd: number,
    position: number | bigint,
    buffer: ArrayBufferView,
    userData: T | undefined,
  ): this {
    const transfer = this.#preparable();
    checkFd(fd);
    checkPosition(position);
    transfer.setSingle(operation, buffer);
    setPosition(transfer, position);
    return this.#prepared(transfer, fd, userData);
  }

  #prepareVector(
    operation: Operation,
    fd: number,
    position: number | bigint,
    buffers: readonly ArrayBufferView[],
    userData: T | undefined,
  ): this {
    const transfer = this.#preparable();
    checkFd(fd);
    checkPosition(position);
    const segments = Transfer.segmentsOf(buffers);
    this.#preparable(); // reading the array may have run code that submitted this very request
    transfer.setVector(operation, segments);
    setPosition(transfer, position);
    return this.#prepared(transfer, fd, userData);
  }

  #prepared(transfer: Transfer, fd: number, userData: T | undefined): this {
    transfer.prepare(fd);
    this.#userData = userData;
    return this;
  }

  /**
   * The outcome or the error, for code that has nothing else to do about it.
   *
   * @returns {@link AioRequest.bytesTransferred}.
   * @throws {@link AioRequest.error}.
   */
  result(): number {
    const { error } = this;
    if (error !== undefined) throw error;
    return this.bytesTransferred;
  }

  /**
   * Tries to take the request back.
   *
   * `'canceled'`: the transfer will not touch its buffer any more; `wait` hands the request out with status
   * `ERR_AIO_CANCELED`, once. `'in-progress'`: it goes on and completes by itself, with the engine `io-uring` now and then with
   * `ERR_AIO_CANCELED` all the same, where the kernel stopped it later. Linux kernel AIO can cancel nothing that it has started on a
   * regular file or block device, so with the engine `kernel-aio` the answer is `'in-progress'`. The engine
   * `threads` takes back what node:fs does not have yet: what is beyond eight requests for each thread of its pool.
   *
   * @throws AioError `ERR_AIO_NOT_SUBMITTED` for a prepared request, `ERR_AIO_COMPLETED` for a completed one.
   * @see io_cancel(2)
   *
   * @example
   * ```ts
   * import { AioContext, AioRequest } from 'fileaio';
   * import { createSimulatedDisk } from 'fileaio/sim';
   *
   * const disk = createSimulatedDisk({ seed: 1, latency: { read: 60_000 } }); // a minute for each read, of virtual time
   * disk.install('/data', Buffer.alloc(4096));
   * await using context = new AioContext({ maxRequests: 1, engine: disk });
   * const request = new AioRequest().prepareRead(disk.openSync('/data'), 0, Buffer.alloc(4096));
   * context.submit([request]);
   * console.log(request.cancel()); // => canceled
   * console.log((await context.wait()).completed[0]?.status); // => ERR_AIO_CANCELED
   * ```
   */
  cancel(): 'canceled' | 'in-progress' {
    const transfer = this.#alive();
    if (transfer.state === PREPARED) throw failure(transfer, 'ERR_AIO_NOT_SUBMITTED');
    if (transfer.state !== SUBMITTED || transfer.context === undefined) {
      throw new AioError(
        'ERR_AIO_COMPLETED',
        'The request is complete already: there is nothing to cancel. Its outcome is in status, error and result()',
      );
    }
    return transfer.context.cancel(transfer) ? 'canceled' : 'in-progress';
  }

  /**
   * Lets go of the buffers and of `userData`. Twice is fine. Requests need no disposal: this is for programs that want
   * mistakes to show.
   *
   * @throws AioError `ERR_AIO_IN_PROGRESS` while submitted.
   *
   * @example
   * ```ts
   * import { AioRequest } from 'fileaio';
   *
   * const request = new AioRequest();
   * request.dispose();
   * try {
   *   request.status;
   * } catch (error) {
   *   console.log((error as NodeJS.ErrnoException).code); // => ERR_AIO_CLOSED
   * }
   * ```
   */
  dispose(): void {
    const transfer = this.#transfer;
    if (transfer.state === SUBMITTED) throw failure(transfer, 'ERR_AIO_IN_PROGRESS');
    transfer.state = DISPOSED;
    transfer.clear();
    this.#userData = undefined;
  }

  #alive(): Transfer {
    const transfer = this.#transfer;
    if (transfer.state === DISPOSED) {
      throw new AioError('ERR_AIO_CLOSED', 'The request was disposed of: make a new AioRequest');
    }
    return transfer;
  }

  #preparable(): Transfer {
    const transfer = this.#alive();
    if (transfer.state === SUBMITTED) throw failure(transfer, 'ERR_AIO_IN_PROGRESS');
    return transfer;
  }
}

function checkPosition(position: unknown): void {
  if (typeof position === 'number') {
    if (!Number.isInteger(position)) throw outOfRange('position', 'an integer', position);
    if (!Number.isSafeInteger(position) || position < 0) {
      throw outOfRange('position', `>= 0 && <= ${Number.MAX_SAFE_INTEGER}, or a bigint`, position);
    }
  } else if (typeof position === 'bigint') {
    if (position < 0n || position > MAX_POSITION) throw outOfRange('position', `>= 0 && <= ${MAX_POSITION}`, position);
  } else {
    throw invalidArgType('position', 'of type number or bigint', position);
  }
}

function setPosition(transfer: Transfer, position: number | bigint): void {
  if (typeof position === 'number') transfer.setPosition(position);
  else transfer.setBigPosition(position);
}
