/** `FileHandle` and `open`, as `node:fs/promises` has them, with an engine underneath. */
import { EventEmitter } from 'node:events';
import type { BigIntStats, Mode, OpenMode, PathLike, StatOptions, Stats, TimeLike } from 'node:fs';
import { constants } from 'node:fs';
import * as fs from 'node:fs/promises';
import type { Interface } from 'node:readline';
import type { ReadableStream } from 'node:stream/web';
import { throwIfAborted } from './abort.ts';
import type { Alignment } from './alignment.ts';
import { sizeOf } from './buffer.ts';
import type { EngineName } from './engine.ts';
import { AioError, EINVAL, invalidArgType, isArray, nodeError } from './errors.ts';
import {
  checkSignal,
  checkViews,
  encode,
  isView,
  laxPosition,
  numericFlags,
  plainMode,
  readArguments,
  signalOf,
  vectorOptions,
  withoutMinusZero,
  writeArguments,
} from './file-arguments.ts';
import { checkEngine, errorOf, OpenFile, partOf } from './open-file.ts';
import type { Call } from './queue.ts';
import {
  ReadStream,
  type ReadStreamOptions,
  readableWebStream,
  readLines,
  WriteStream,
  type WriteStreamOptions,
} from './stream.ts';
import { READ, WRITE } from './transfer.ts';
import { invalidState } from './web-stream.ts';
import {
  type ReadFileOptions,
  readWholeFile,
  type WriteFileData,
  type WriteFileOptions,
  writeWholeFile,
} from './whole-file.ts';

/** What a handle leaves to the one that holds its descriptor: everything that is not about data. */
export type HandleCore = Pick<fs.FileHandle, 'fd' | 'close' | 'stat' | 'truncate' | 'chmod' | 'chown' | 'utimes'>;

/** What {@link open} takes beyond Node's. */
export interface OpenOptions {
  /** As open(2) or `node:fs` have them; default `'r'`. */
  readonly flags?: OpenMode | undefined;
  /** Of a file that is created; default 0o666. */
  readonly mode?: Mode | undefined;
  /** With O_DIRECT: past the page cache. Default `false`. */
  readonly direct?: boolean | undefined;
  /** Which engine carries the transfers; default `'auto'`. */
  readonly engine?: EngineName | 'auto' | undefined;
}

/** What each call that moves data takes beyond Node's arguments. */
export interface Abortable {
  /**
   * Aborting it rejects the call with an AbortError, as soon as the kernel is done with the memory: what has not started is taken back
   * at once, what has started is canceled where the engine can, and waited for.
   */
  readonly signal?: AbortSignal | undefined;
}

/** What of a buffer is transferred, and where. */
export interface TransferOptions extends Abortable {
  /** Of the first byte in the buffer; default 0. */
  readonly offset?: number | null | undefined;
  /** In bytes; default: up to the end of the buffer. */
  readonly length?: number | null | undefined;
  /** Of the first byte in the file; default, `null` and -1: the current position, which moves. */
  readonly position?: number | bigint | null | undefined;
}

/** What a read resolves with. */
export interface ReadResult<T> {
  /** May be less than asked for; 0 is the end of the file. */
  bytesRead: number;
  /** The very buffer that was passed, or the one that was allocated. */
  buffer: T;
}

/** What a vectored read resolves with. */
export interface ReadVResult<T> {
  /** Of all buffers together; 0 is the end of the file. */
  bytesRead: number;
  /** The very array that was passed. */
  buffers: T;
}

/** What a vectored write resolves with. */
export interface WriteVResult<T> {
  /** Of all buffers together. */
  bytesWritten: number;
  /** The very array that was passed. */
  buffers: T;
}

/** What a write resolves with. */
export interface WriteResult<T> {
  /** May be less than asked for, where the device has no more room. */
  bytesWritten: number;
  /** The very buffer or string that was passed. */
  buffer: T;
}

/** The inside of a handle, for streams and whole-file functions. */
export let openFileOf: (handle: FileHandle) => OpenFile;
/** Keeps it open until {@link release}. Throws where it is closed. */
export let hold: (handle: FileHandle, syscall?: string) => void;
export let release: (handle: FileHandle) => void;

function closed(syscall: string): NodeJS.ErrnoException {
  return Object.assign(new Error('file closed'), { code: 'EBADF', syscall });
}

/**
 * As Node's results are: without a prototype. Of the ways to make one this takes V8 the least time by far: neither a literal with
 * `__proto__: null` nor `Object.setPrototypeOf` is compiled.
 */
function bare<T extends object>(result: T): T {
  return Object.assign(Object.create(null), result) as T;
}

/**
 * An open file, with every member of the FileHandle of `node:fs/promises`, and in place of the thread pool an engine that takes any
 * number of calls at once. Beyond Node's: calls that move data take an AbortSignal; `direct`, `engine`, `alignment`.
 *
 * Every call costs a promise; the calls of one tick go down in one system call. Buffers from `allocBuffer`, from an `AlignedPool`, or
 * on a SharedArrayBuffer, are read into in place; others through a copy, so that memory that was transferred away meanwhile is never
 * written. A buffer belongs to the kernel until the promise settles.
 *
 * Errors of the kernel are as Node has them (`code`, negative `errno`, `syscall`), mistakes in arguments too. Not shared with Node's
 * handles is that these cannot be posted to another thread.
 *
 * @example
 * ```ts
 * import { type FileHandle, open } from 'fileaio/promises';
 *
 * async function append(log: FileHandle, record: string): Promise<void> {
 *   await log.write(`${record}\n`);
 *   await log.datasync(); // on the device when this resolves
 * }
 *
 * await using log = await open('log', 'a+');
 * await append(log, 'first');
 * await append(log, 'second');
 * const { bytesRead, buffer } = await log.read({ position: 0 });
 * console.log(buffer.toString('utf8', 0, bytesRead).split('\n')); // => [ 'first', 'second', '' ]
 * ```
 */
export class FileHandle extends EventEmitter implements fs.FileHandle {
  readonly #node: HandleCore;
  readonly #file: OpenFile;
  #fd: number;
  /** One for being open, and one for each call under way. */
  #holds = 1;
  #closing: Promise<void> | undefined;
  #closed: () => void = () => {};
  #closeFailed: (error: unknown) => void = () => {};

  /**
   * Use {@link open}.
   *
   * @internal
   */
  constructor(node: HandleCore, file: OpenFile) {
    if (typeof node?.close !== 'function' || !(file instanceof OpenFile)) {
      throw invalidArgType('node', 'what open() makes a handle of', node);
    }
    super();
    this.#node = node;
    this.#file = file;
    this.#fd = node.fd;
  }

  static {
    openFileOf = (handle) => handle.#file;
    hold = (handle, syscall = 'read') => {
      if (handle.#fd === -1) throw closed(syscall);
      handle.#holds++;
    };
    release = (handle) => handle.#release();
  }

  /** The number of the descriptor; -1 when it is closed. It is the handle's: nobody else may close it. */
  get fd(): number {
    return this.#fd;
  }

  /** Whether the file was opened with O_DIRECT. */
  get direct(): boolean {
    return this.#file.direct;
  }

  /** The engine that carries the transfers. */
  get engine(): EngineName {
    return this.#file.engine;
  }

  /**
   * What transfers of a direct file are made of, in bytes: addresses are multiples of `buffer`, positions and lengths of `offset`.
   * Both 1 for other files. Reads of other shapes cost a copy; writes must have position and length right.
   */
  get alignment(): Alignment {
    return this.#file.alignment;
  }

  /** Runs one call with the descriptor kept open. */
  async #call<T>(syscall: string, step: () => Promise<T>): Promise<T> {
    hold(this, syscall);
    try {
      return await step();
    } finally {
      this.#release();
    }
  }

  #release(): void {
    if (--this.#holds > 0) return;
    this.#fd = -1;
    this.#node.close().then(this.#closed, this.#closeFailed);
  }

  /**
   * Closes the file when everything under way has ended; calls are taken until then. Once is enough; emits `'close'`. An own property,
   * as in Node: `const { close } = handle` works. What was written is not flushed.
   *
   * @throws (as a rejection) `EIO`, `ENOSPC`, `EDQUOT` from file systems that find out late.
   * @see close(2)
   *
   * @example
   * ```ts
   * import { open } from 'fileaio/promises';
   *
   * const handle = await open('data.bin');
   * const reading = handle.read(Buffer.alloc(100), 0, 100, 0);
   * await handle.close(); // when what is under way has ended
   * console.log((await reading).bytesRead, handle.fd); // => 100 -1
   * ```
   */
  readonly close = (): Promise<void> => {
    if (this.#fd === -1) return Promise.resolve();
    if (this.#closing !== undefined) return this.#closing;
    this.#closing = new Promise<void>((resolve, reject) => {
      this.#closed = resolve;
      this.#closeFailed = reject;
    }).finally(() => {
      this.#closing = undefined;
    });
    this.#release();
    this.emit('close');
    return this.#closing;
  };

  /** The same as {@link FileHandle.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Reads up to `length` bytes at `position` into `buffer` at `offset`. Without a position, or with `null` or -1: from the current position
   * on, which moves; such reads run one after the other.
   *
   * @returns `{ bytesRead, buffer }`, with the very buffer that was passed. 0 bytes is the end of the file.
   * @throws (as a rejection) `EBADF`, `EIO`, `EISDIR`, AbortError; TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`; RangeError
   * `ERR_OUT_OF_RANGE`.
   * @see pread(2)
   */
  read<T extends NodeJS.ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | bigint | null,
    options?: Abortable,
  ): Promise<ReadResult<T>>;
  read<T extends NodeJS.ArrayBufferView>(buffer: T, options?: TransferOptions): Promise<ReadResult<T>>;
  read<T extends NodeJS.ArrayBufferView = Buffer<ArrayBuffer>>(
    options?: TransferOptions & { buffer?: T | undefined },
  ): Promise<ReadResult<T>>;
  read(
    buffer?: unknown,
    offset?: unknown,
    length?: unknown,
    position?: unknown,
    options?: unknown,
  ): Promise<ReadResult<never>> {
    const begun = this.#quickly(READ, buffer, offset, length, position, options);
    if (begun !== undefined) return begun;
    return this.#call('read', () => this.#read(buffer, offset, length, position, options)) as Promise<never>;
  }

  async #read(...given: [unknown, unknown, unknown, unknown, unknown]): Promise<ReadResult<ArrayBufferView>> {
    const { buffer, offset, length, position, signal } = readArguments(...given);
    if (length === 0) {
      throwIfAborted(signal);
      return bare({ bytesRead: 0, buffer });
    }
    const bytesRead = await this.#file.read(partOf(buffer, offset, length), position, signal);
    return bare({ bytesRead, buffer });
  }

  /** The plain form, on its shortest way; `undefined` for anything that has to be looked at more closely. */
  #quickly(
    operation: typeof READ | typeof WRITE,
    buffer: unknown,
    offset: unknown,
    length: unknown,
    position: unknown,
    options: unknown,
  ): Promise<never> | undefined {
    if (
      typeof position !== 'number' ||
      typeof length !== 'number' ||
      typeof offset !== 'number' ||
      options !== undefined ||
      this.#fd === -1 ||
      !isView(buffer) ||
      !isPlain(offset, length, position)
    ) {
      return undefined;
    }
    try {
      if (offset + length > sizeOf(buffer)) return undefined;
      const call = this.#file.begin(operation, buffer, offset, length, position);
      return call === undefined
        ? undefined
        : this.#promise(call, buffer, operation === READ ? finishRead : finishWrite);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The promise of a call that was begun. */
  #promise(call: Call, buffer: ArrayBufferView, finish: (call: Call) => void): Promise<never> {
    this.#holds++;
    const promise = new Promise<never>(settle);
    call.owner = this;
    call.value = buffer;
    call.resolve = settleWith.resolve;
    call.reject = settleWith.reject;
    call.done = finish;
    // They hold the promise, and that the buffer.
    settleWith.resolve = settleWith.reject = ignore;
    return promise;
  }

  /**
   * Reads into several buffers, one after the other.
   *
   * @returns `{ bytesRead, buffers }`.
   * @throws (as a rejection) as {@link FileHandle.read}, and `EINVAL` for no buffers.
   * @see preadv(2)
   *
   * @example
   * ```ts
   * import { open } from 'fileaio/promises';
   *
   * await using handle = await open('data.bin');
   * const { bytesRead, buffers } = await handle.readv([Buffer.alloc(16), Buffer.alloc(100)], 0);
   * console.log(bytesRead, buffers.length); // => 116 2
   * ```
   */
  readv<T extends readonly NodeJS.ArrayBufferView[]>(
    buffers: T,
    position?: number | null | (Abortable & { position?: number | null }),
    options?: Abortable,
  ): Promise<ReadVResult<T>> {
    return this.#call('readv', async () => {
      const views = checkViews(buffers);
      const { position: at, signal } = vectorOptions(position, options);
      if (views.length === 0) throw nodeError(-EINVAL, 'read');
      return bare({ bytesRead: await this.#file.readv(views, at, signal), buffers });
    });
  }

  /**
   * Writes `length` bytes of `buffer` from `offset` on to `position`, or a string. Without a position: to the current one, which moves.
   * A file opened for appending is written at its end, whatever the position.
   *
   * A direct file takes positions and lengths that are multiples of `alignment.offset`; others are AioError `ERR_AIO_MISALIGNED`.
   *
   * @returns `{ bytesWritten, buffer }`. Fewer bytes than there are were written where the device had no more room.
   * @throws (as a rejection) `EBADF`, `EIO`, `ENOSPC`, `EDQUOT`, `EFBIG`, AioError `ERR_AIO_MISALIGNED`, AbortError; TypeError
   * `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`; RangeError `ERR_OUT_OF_RANGE`.
   * @see pwrite(2)
   */
  write<T extends NodeJS.ArrayBufferView>(
    buffer: T,
    offset?: number | null,
    length?: number | null,
    position?: number | null,
    options?: Abortable,
  ): Promise<WriteResult<T>>;
  write<T extends NodeJS.ArrayBufferView>(buffer: T, options?: TransferOptions): Promise<WriteResult<T>>;
  write(
    data: string,
    position?: number | null,
    encoding?: BufferEncoding | null,
    options?: Abortable,
  ): Promise<WriteResult<string>>;
  write(
    buffer: unknown,
    offset?: unknown,
    length?: unknown,
    position?: unknown,
    options?: unknown,
  ): Promise<WriteResult<never>> {
    const begun = this.#quickly(WRITE, buffer, offset, length, position, options);
    if (begun !== undefined) return begun;
    return this.#call('write', () => this.#write(buffer, offset, length, position, options)) as Promise<never>;
  }

  async #write(
    data: unknown,
    offset: unknown,
    length: unknown,
    position: unknown,
    options: unknown,
  ): Promise<WriteResult<unknown>> {
    if (!isView(data)) {
      if (typeof data === 'object' && data !== null && 'byteLength' in data && data.byteLength === 0) {
        return bare({ bytesWritten: 0, buffer: data });
      }
      const bytes = encode(data, length, 'buffer');
      const signal = signalOf(position) ?? signalOf(offset) ?? signalOf(options);
      return bare({ bytesWritten: await this.#file.write(bytes, laxPosition(offset), signal), buffer: data });
    }
    if (sizeOf(data) === 0) return bare({ bytesWritten: 0, buffer: data });
    const args = writeArguments(data, offset, length, position, options);
    const view = partOf(data, args.offset, args.length);
    return bare({ bytesWritten: await this.#file.write(view, args.position, args.signal), buffer: data });
  }

  /**
   * Writes several buffers, one after the other.
   *
   * @returns `{ bytesWritten, buffers }`.
   * @throws (as a rejection) as {@link FileHandle.write}.
   * @see pwritev(2)
   *
   * @example
   * ```ts
   * import { open } from 'fileaio/promises';
   *
   * await using handle = await open('new.txt', 'w');
   * const { bytesWritten } = await handle.writev([Buffer.from('a header, '), Buffer.from('a body')], 0);
   * console.log(bytesWritten); // => 16
   * ```
   */
  writev<T extends readonly NodeJS.ArrayBufferView[]>(
    buffers: T,
    position?: number | null | (Abortable & { position?: number | null }),
    options?: Abortable,
  ): Promise<WriteVResult<T>> {
    return this.#call('writev', async () => {
      const views = checkViews(buffers);
      const { position: at, signal } = vectorOptions(position, options);
      const bytesWritten = views.length === 0 ? 0 : await this.#file.writev(views, at, signal);
      return bare({ bytesWritten, buffers });
    });
  }

  /**
   * Flushes data and metadata of what was written to the device. Covers writes that have settled before it was called, and no others. Takes
   * as long as the device does: milliseconds.
   *
   * @throws (as a rejection) `EIO`, `ENOSPC`, `EDQUOT`: what it was to cover may be lost, and the next flush will not say so again;
   * `EBADF`, `EINVAL` for what cannot be flushed; AbortError.
   * @see fsync(2)
   *
   * @example
   * ```ts
   * import { open } from 'fileaio/promises';
   *
   * await using handle = await open('new.txt', 'w');
   * await handle.write('hello');
   * await handle.sync({ signal: AbortSignal.timeout(30_000) });
   * await using directory = await open('.');
   * await directory.sync(); // the file is safe; now its name is, too
   * ```
   */
  sync(options?: Abortable): Promise<void> {
    return this.#call('fsync', async () => this.#file.flush(false, checkSignal(options?.signal)));
  }

  /**
   * Flushes data, and of the metadata what is needed to read it back: the size, but not the times.
   *
   * @throws (as a rejection) as {@link FileHandle.sync}.
   * @see fdatasync(2)
   */
  datasync(options?: Abortable): Promise<void> {
    return this.#call('fdatasync', async () => this.#file.flush(true, checkSignal(options?.signal)));
  }

  /**
   * All bytes from the current position on, or with an encoding the text. Several transfers deep. Costs memory for all of it, which is the
   * caller's.
   *
   * @throws (as a rejection) as {@link FileHandle.read}; RangeError `ERR_FS_FILE_TOO_LARGE` beyond 2 GiB.
   *
   * @example
   * ```ts
   * import { open, writeFile } from 'fileaio/promises';
   *
   * await writeFile('hello.txt', 'hello, world');
   * await using handle = await open('hello.txt');
   * await handle.read(Buffer.alloc(7)); // the position moves
   * console.log(await handle.readFile('utf8')); // => world
   * ```
   */
  readFile(options?: (ReadFileOptions & { encoding?: null | undefined }) | null): Promise<Buffer<ArrayBuffer>>;
  readFile(options: (ReadFileOptions & { encoding: BufferEncoding }) | BufferEncoding): Promise<string>;
  readFile(options?: ReadFileOptions | BufferEncoding | null): Promise<string | Buffer<ArrayBuffer>>;
  readFile(options?: unknown): Promise<never> {
    return this.#call('readFile', () => readWholeFile(this, options)) as Promise<never>;
  }

  /**
   * Writes all of `data` at the current position. On a direct file, ends that fill no block go through the page cache. `data` must not
   * change until it resolves; it is on the device after {@link FileHandle.sync}.
   *
   * @throws (as a rejection) as {@link FileHandle.write}, with a part of it written.
   */
  writeFile(data: WriteFileData, options?: WriteFileOptions | BufferEncoding | null): Promise<void> {
    return this.#call('writeFile', () => writeWholeFile(this, data, options));
  }

  /**
   * The same as {@link FileHandle.writeFile}.
   *
   * @example
   * ```ts
   * import { open } from 'fileaio/promises';
   *
   * await using handle = await open('new.txt', 'w+');
   * await handle.writeFile('one line\n');
   * await handle.appendFile(['another', ' line\n']); // anything that gives text or bytes piece by piece
   * console.log((await handle.stat()).size); // => 22
   * ```
   */
  appendFile(data: WriteFileData, options?: WriteFileOptions | BufferEncoding | null): Promise<void> {
    return this.writeFile(data, options);
  }

  /**
   * A stream from the current position, or from `start` to `end`, on: reads ahead, up to `iodepth` transfers of `highWaterMark` bytes.
   * Closes the handle at its end, unless `autoClose` is false.
   *
   * @throws as {@link ReadStream}; `EBADF` for a handle that is closed.
   *
   * @example
   * ```ts
   * import { open } from 'fileaio/promises';
   *
   * const handle = await open('data.bin');
   * let bytes = 0;
   * for await (const chunk of handle.createReadStream({ start: 1024, iodepth: 4 })) bytes += (chunk as Buffer).length;
   * console.log(bytes, handle.fd); // => 1047552 -1
   * ```
   */
  createReadStream(options?: ReadStreamOptions): ReadStream {
    // As Node does it: a string, the encoding of other streams, says nothing here, and neither does what is inherited.
    return new ReadStream(this, { ...options });
  }

  /**
   * A stream to the current position, or to `start`, on: several transfers deep. A `write` is called back when the kernel has its bytes; with
   * `flush: true` they are on the device before `'finish'`.
   *
   * @throws as {@link WriteStream}; `EBADF` for a handle that is closed.
   *
   * @example
   * ```ts
   * import { Readable } from 'node:stream';
   * import { pipeline } from 'node:stream/promises';
   * import { open, readFile } from 'fileaio/promises';
   *
   * const handle = await open('new.txt', 'w');
   * await pipeline(Readable.from(['one', ' after ', 'the other']), handle.createWriteStream({ flush: true }));
   * console.log(await readFile('new.txt', 'utf8')); // => one after the other
   * ```
   */
  createWriteStream(options?: WriteStreamOptions): WriteStream {
    return new WriteStream(this, { ...options });
  }

  /**
   * The lines of the text from the current position on, without their ends. Closes the handle at its end, unless `autoClose` is false.
   *
   * @example
   * ```ts
   * import { open, writeFile } from 'fileaio/promises';
   *
   * await writeFile('lines.txt', 'first\nsecond\n');
   * const handle = await open('lines.txt');
   * for await (const line of handle.readLines()) console.log(line);
   * // => first
   * // => second
   * ```
   */
  readLines(options?: ReadStreamOptions): Interface {
    return readLines(this, { ...options });
  }

  /**
   * The bytes from the current position on, as a web stream of type `'bytes'`. The handle is locked to it.
   *
   * @throws Error `ERR_INVALID_STATE` for a handle that is closed, closing or locked already.
   *
   * @example
   * ```ts
   * import { open } from 'fileaio/promises';
   *
   * await using handle = await open('data.bin');
   * let bytes = 0;
   * for await (const chunk of handle.readableWebStream()) bytes += (chunk as Uint8Array).byteLength;
   * console.log(bytes); // => 1048576
   * ```
   */
  readableWebStream(options?: { type?: 'bytes' | undefined; autoClose?: boolean | undefined }): ReadableStream {
    if (this.#fd !== -1 && this.#closing !== undefined) throw invalidState('The FileHandle is closing');
    return readableWebStream(this, options);
  }

  /**
   * Size, times, mode; with `bigint: true` exactly, times in nanoseconds too. Costs one call of the thread pool.
   *
   * @throws (as a rejection) `EBADF`.
   * @see fstat(2)
   *
   * @example
   * ```ts
   * import { open } from 'fileaio/promises';
   *
   * await using handle = await open('new.bin', 'w');
   * await handle.truncate(4096); // a hole
   * await handle.chmod(0o600);
   * await handle.chown(process.getuid?.() ?? 0, process.getgid?.() ?? 0);
   * await handle.utimes(0, new Date(2001, 1, 1));
   * const { size, mode, mtime } = await handle.stat();
   * console.log(size, (mode & 0o777).toString(8), mtime.getFullYear()); // => 4096 600 2001
   * ```
   */
  stat(options?: StatOptions & { bigint?: false | undefined }): Promise<Stats>;
  stat(options: StatOptions & { bigint: true }): Promise<BigIntStats>;
  stat(options?: StatOptions): Promise<Stats | BigIntStats>;
  stat(options?: StatOptions): Promise<never> {
    return this.#call('fstat', () => this.#node.stat(options)) as Promise<never>;
  }

  /**
   * Cuts the file off, or makes it longer with zeros; default: empties it. In bytes.
   *
   * @throws (as a rejection) `EBADF`, `EINVAL` for a file that is not open for writing, `EFBIG`.
   * @see ftruncate(2)
   */
  truncate(length?: number): Promise<void> {
    return this.#call('ftruncate', () => this.#node.truncate(withoutMinusZero(length)));
  }

  /**
   * Sets the permissions.
   *
   * @throws (as a rejection) `EPERM`, `EROFS`, `EBADF`.
   * @see fchmod(2)
   */
  chmod(mode: Mode): Promise<void> {
    return this.#call('fchmod', () => this.#node.chmod(plainMode(mode)));
  }

  /**
   * Sets owner and group; -1 leaves one as it is.
   *
   * @throws (as a rejection) `EPERM`, `EROFS`, `EBADF`.
   * @see fchown(2)
   */
  chown(uid: number, gid: number): Promise<void> {
    return this.#call('fchown', () => this.#node.chown(withoutMinusZero(uid), withoutMinusZero(gid)));
  }

  /**
   * Sets the times of the last access and the last change, in seconds, as dates, or as text that is a number.
   *
   * @throws (as a rejection) `EPERM`, `EROFS`, `EBADF`.
   * @see futimens(3)
   */
  utimes(atime: TimeLike, mtime: TimeLike): Promise<void> {
    return this.#call('futimes', () => this.#node.utimes(atime, mtime));
  }
}

function isPlain(offset: number, length: number, position: number): boolean {
  return (
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(length) &&
    Number.isSafeInteger(position) &&
    offset >= 0 &&
    position >= 0 &&
    length > 0 &&
    length < 2 ** 31
  );
}

function ignore(): void {}

/** What settles the promise that is being made: with one function that puts it here, no promise needs a closure of its own. */
const settleWith: { resolve: (value: never) => void; reject: (error: unknown) => void } = {
  resolve: ignore,
  reject: ignore,
};

function settle(resolve: (value: never) => void, reject: (error: unknown) => void): void {
  settleWith.resolve = resolve;
  settleWith.reject = reject;
}

function finishRead(call: Call): void {
  if (call.succeeded) {
    const result = Object.create(null) as { bytesRead: number; buffer: unknown };
    result.bytesRead = call.transfer.result;
    result.buffer = call.value;
    (call.resolve as (result: unknown) => void)(result);
  } else {
    call.reject(errorOf(call));
  }
  release(call.owner as FileHandle);
}

function finishWrite(call: Call): void {
  if (call.succeeded) {
    const result = Object.create(null) as { bytesWritten: number; buffer: unknown };
    result.bytesWritten = call.transfer.result;
    result.buffer = call.value;
    (call.resolve as (result: unknown) => void)(result);
  } else {
    call.reject(errorOf(call));
  }
  release(call.owner as FileHandle);
}

const { O_APPEND, O_DIRECT } = constants;

/**
 * Opens a file, as `node:fs/promises` does; with options also for direct I/O, or with an engine of your choice.
 *
 * `{ direct: true }` is O_DIRECT: transfers go past the page cache. Any buffer, length and position can be read, and written what is whole
 * blocks (see {@link FileHandle.alignment}).
 *
 * The engine `'auto'` is io_uring where the kernel allows it, else for direct files kernel AIO, else the thread pool of node:fs. Kernel AIO
 * does not get a file that goes through the page cache unless it is asked for: it would block the caller. `FILEAIO_ENGINE` in the
 * environment decides in place of `'auto'`.
 *
 * @throws (as a rejection) Node's own errors; AioError `ERR_AIO_NOT_SUPPORTED`: no O_DIRECT on this file system or platform, or no such
 * engine here.
 *
 * @example
 * ```ts
 * import { allocBuffer } from 'fileaio';
 * import { open } from 'fileaio/promises';
 *
 * const handle = await open('data.bin', { flags: 'r+', direct: true });
 * const { bytesRead, buffer } = await handle.read(allocBuffer(4096), 0, 4096, 8192);
 * console.log(bytesRead, buffer.length, handle.direct); // => 4096 4096 true
 * await handle.close();
 * ```
 */
export async function open(
  path: PathLike,
  flagsOrOptions?: OpenMode | OpenOptions | null,
  mode?: Mode | null,
): Promise<FileHandle> {
  const { given, wanted, options } = openFlags(flagsOrOptions, mode);
  const direct = O_DIRECT !== undefined && (given & O_DIRECT) !== 0;
  const node = await openNode(path, wanted, options.mode, options.direct === true);
  try {
    const append = (given & O_APPEND) !== 0;
    return new FileHandle(node, new OpenFile(node.fd, { direct, append, engine: options.engine ?? 'auto' }));
  } catch (error) {
    await node.close();
    throw error;
  }
}

/** An array is no options to Node, and no flags either. */
function isOptions(value: OpenMode | OpenOptions | null | undefined): value is OpenOptions {
  return typeof value === 'object' && value !== null && !isArray(value);
}

/** What an open is asked for: flags as a number, flags for Node (which finds the words for what are none), and the rest. */
export function openFlags(
  flagsOrOptions: OpenMode | OpenOptions | null | undefined,
  mode: Mode | null | undefined,
): { given: number; wanted: OpenMode; options: OpenOptions } {
  const asked: OpenOptions = isOptions(flagsOrOptions)
    ? flagsOrOptions
    : { flags: flagsOrOptions ?? undefined, mode: mode ?? undefined };
  // Read once: what was checked is what is used.
  const { direct = false, engine = 'auto' } = asked;
  const flags = withoutMinusZero(asked.flags);
  const options: OpenOptions = { flags, mode: plainMode(asked.mode), direct, engine };
  if (typeof direct !== 'boolean') throw invalidArgType('options.direct', 'of type boolean', direct);
  const number = numericFlags(flags);
  if (number !== undefined) checkEngine(engine, direct || (O_DIRECT !== undefined && (number & O_DIRECT) !== 0));
  if (number === undefined || !direct) return { given: number ?? 0, wanted: flags ?? 'r', options };
  const given = withDirect(number);
  return { given, wanted: given, options };
}

function withDirect(flags: number): number {
  if (O_DIRECT === undefined) {
    throw new AioError(
      'ERR_AIO_NOT_SUPPORTED',
      `{ direct: true }: ${process.platform} has no O_DIRECT. Open the file without it`,
    );
  }
  return flags | O_DIRECT;
}

async function openNode(
  path: PathLike,
  flags: OpenMode,
  mode: Mode | undefined,
  direct: boolean,
): Promise<fs.FileHandle> {
  try {
    return await fs.open(path, flags, mode);
  } catch (error) {
    if (!direct || !(error instanceof Error) || !('code' in error) || error.code !== 'EINVAL') throw error;
    throw new AioError(
      'ERR_AIO_NOT_SUPPORTED',
      `EINVAL: open '${String(path)}' with { direct: true }: its file system refuses O_DIRECT. Open it without the option, or put it on a file system that has direct I/O, such as ext4 or XFS`,
      { errno: -EINVAL, syscall: 'open', path: String(path) },
    );
  }
}
