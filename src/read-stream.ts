import type { OpenMode, PathLike } from 'node:fs';
import { addAbortSignal, finished, Readable, type ReadableOptions } from 'node:stream';
import { outOfRange } from './errors.ts';
import type { FileHandle } from './file.ts';
import { ReadAhead } from './read-ahead.ts';
import {
  adopting,
  checkIodepth,
  checkPlace,
  fail,
  MOST_READ_AHEAD,
  NO_METHODS,
  openedBySomebodyElse,
  optionsOf,
  type Plan,
  planOf,
  StreamFile,
  type StreamOptions,
  type StreamState,
} from './stream-file.ts';
import { nextTick } from './time.ts';

/** Options of a {@link ReadStream}. */
export interface ReadStreamOptions extends StreamOptions {
  /** Of the last byte in the file, which is read as well; default: read to the end. */
  readonly end?: number | undefined;
  /**
   * Bytes of each chunk, and how many wait in the stream; default 64 KiB. A direct file rounds it up to whole blocks.
   * The file is read up to `iodepth` × `highWaterMark` bytes ahead; by default, 8 MiB.
   */
  readonly highWaterMark?: number | undefined;
}

const CHUNK = 64 * 1024;

/**
 * A file as a Readable: what `createReadStream` of `node:fs` gives, several transfers deep.
 *
 * Regular files and block devices are read ahead, one transfer at first and twice as many each time that a chunk is wanted before it is
 * there, up to `iodepth`: a reader that is slower than the file, such as a socket, costs two or three chunks, and is never waiting. The chunks come in
 * order, each with memory of its own, which can be transferred away. Memory: at most `iodepth` + 1 times `highWaterMark`, by default
 * 8 MiB and `highWaterMark` (where that is up to 4 MiB). Everything else (pipes, terminals, devices of characters) is read as Node
 * does it, when somebody wants it.
 *
 * Without `start` a descriptor or handle is read from its current position, which is behind the last chunk that the
 * stream has given out. A file that grows is read until a read finds nothing more.
 *
 * Errors destroy the stream, once, with the system's `code` (`ENOENT`, `EBADF`, `EIO`, …), after all chunks that come
 * before. Destroying it takes back what is under way, waits for the rest, closes the file and emits `'close'`.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`; RangeError `ERR_OUT_OF_RANGE`; Error
 * `ERR_METHOD_NOT_IMPLEMENTED` for the option `fs`, which Node's own streams take.
 *
 * @example
 * ```ts
 * import { ReadStream } from 'fileaio/fs';
 *
 * const stream = new ReadStream('data.bin', { highWaterMark: 4096, iodepth: 16 });
 * stream.once('data', (chunk) => {
 *   console.log(chunk.length); // => 4096
 *   stream.close(); // what is read ahead is taken back
 * });
 * await new Promise((resolve) => stream.on('close', resolve));
 * ```
 */
export class ReadStream extends adopting(Readable) {
  /** As given; `undefined` for a descriptor or handle. */
  declare readonly path: string | Buffer;
  /** How the path is opened. */
  declare readonly flags: OpenMode;
  /** Of a file that is made. */
  declare readonly mode: number | string;
  /** The descriptor: `null` before the file is open, and after it was closed. */
  fd: number | null;
  /** As given. */
  readonly start: number | undefined;
  /** As given, or Infinity. */
  readonly end: number;
  /** With `start`: of the next byte to be given out. */
  pos: number | undefined;
  /** Given out so far. */
  bytesRead = 0;

  /** The constructor came to its end. Where it threw, node:stream goes on all the same. */
  #made = false;
  readonly #file: StreamFile;
  readonly #plan: Plan;
  readonly #chunk: number;
  #ahead: ReadAhead | undefined;
  #wanted = false;
  #delivering = false;
  readonly #onTick = (): void => this.#deliver();

  /**
   * @param path - of the file, or a handle of this library; ignored with `options.fd`.
   * @param options - or the encoding. Costs nothing yet: the file is opened in the next tick.
   */
  constructor(path?: PathLike | FileHandle | null, options?: ReadStreamOptions | BufferEncoding | null) {
    const given = optionsOf<ReadStreamOptions>(options);
    const { start, end = Number.POSITIVE_INFINITY, autoClose = true, highWaterMark = CHUNK, signal, ...rest } = given;
    const file = new StreamFile(path, given, 'r');
    if (start !== undefined) checkPlace('start', start);
    if (end !== Number.POSITIVE_INFINITY) {
      checkPlace('end', end);
      if (start !== undefined && start > end) throw outOfRange('start', `<= "end" (here: ${end})`, start);
    }
    checkIodepth(given);
    super({ ...rest, ...NO_METHODS, highWaterMark, autoDestroy: autoClose } as ReadableOptions);
    this.#file = file;
    this.#chunk = this.readableHighWaterMark;
    this.#plan = planOf(given, this.#chunk, MOST_READ_AHEAD);
    this.fd = file.fd;
    if (file.path !== undefined) {
      Object.assign(this, { path: file.path, flags: file.flags, mode: file.mode });
    }
    this.start = start;
    this.end = end;
    this.pos = start;
    if (signal) addAbortSignal(signal, this);
    file.attach(this, this.close);
    this.#made = true;
  }

  get #state(): StreamState {
    return (this as unknown as { _readableState: StreamState })._readableState;
  }

  /** Whether the file is closed at the end and after an error. */
  get autoClose(): boolean {
    return this.#state.autoDestroy;
  }

  /** May be changed until the stream ends. */
  set autoClose(value: boolean) {
    this.#state.autoDestroy = value;
  }

  /** Whether the file is not open yet. */
  get pending(): boolean {
    return this.fd === null;
  }

  /** Destroys the stream. `callback` is called when it is closed. */
  close(callback?: (error?: NodeJS.ErrnoException | null) => void): void {
    if (typeof callback === 'function') finished(this, callback);
    this.destroy();
  }

  /** @internal */
  override _construct(callback: (error?: Error | null) => void): void {
    if (!this.#made) return;
    if (openedBySomebodyElse(this, this.#file, callback)) return;
    this.#file.open((error) => {
      if (error !== null) {
        callback(error);
        return;
      }
      const isNew = this.fd === null;
      this.fd = this.#file.fd;
      callback();
      if (!isNew) return;
      this.emit('open', this.fd);
      this.emit('ready');
    });
  }

  /** @internal */
  override _read(): void {
    this.#wanted = true;
    // This is called within read(), which would give out what comes now together with what waits in the stream, as one chunk of both; not so
    // where the stream flows.
    if (this.readableLength === 0 || this.readableFlowing === true) this.#deliver();
    else nextTick(this.#onTick);
  }

  #begin(): ReadAhead {
    const { start, end } = this;
    const options = {
      chunk: this.#chunk,
      ...this.#plan,
      start,
      length: this.#chunk === 0 ? 0 : end - (start ?? 0) + 1,
      own: this.#file.own && this.autoClose,
    };
    return new ReadAhead(this.#file.file, options, () => this.#deliver());
  }

  #deliver(): void {
    // A listener of 'data' that calls read() gets here again: the loop that called it goes on with what it wants.
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      while (this.#wanted && !this.destroyed) {
        const chunk = this.#take();
        if (chunk === undefined) return;
        this.#wanted = this.#give(chunk);
      }
    } finally {
      this.#delivering = false;
    }
  }

  #take(): Buffer | undefined | null {
    this.#ahead ??= this.#begin();
    try {
      return this.#ahead.take();
    } catch (error) {
      this.#wanted = false;
      if (!this.autoClose) this.#letGo();
      fail(this, this.#state, error as Error);
      return undefined;
    }
  }

  /** Whether there is room for more. */
  #give(chunk: Buffer | null): boolean {
    if (chunk === null) {
      if (!this.autoClose) this.#letGo();
      this.push(null);
      return false;
    }
    this.bytesRead += chunk.length;
    if (this.pos !== undefined) this.pos += chunk.length;
    // Giving it out may run the program's code, and that may want more.
    this.#wanted = false;
    const hasRoom = this.push(chunk);
    return hasRoom || this.#wanted;
  }

  /** Of a file that stays open, once nothing is under way. */
  #letGo(): void {
    void this.#ahead?.stop().then(() => this.#file.rest());
  }

  /** @internal */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const stopped = this.#ahead?.stop() ?? Promise.resolve();
    stopped
      .then(() => {
        this.fd = null;
        return this.#file.close();
      })
      .then(
        () => nextTick(callback, error),
        (reason) => nextTick(callback, error ?? reason),
      );
  }
}
