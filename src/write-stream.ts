import type { OpenMode, PathLike } from 'node:fs';
import { constants } from 'node:os';
import { addAbortSignal, Writable, type WritableOptions } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { invalidArgType, nodeError } from './errors.ts';
import type { FileHandle } from './file.ts';
import type { OpenFile, Progress } from './open-file.ts';
import {
  adopting,
  checkIodepth,
  checkPlace,
  fail,
  MERGED_BYTES,
  MOST_WRITTEN_BEHIND,
  makeAbort,
  NO_METHODS,
  openedBySomebodyElse,
  optionsOf,
  planOf,
  StreamFile,
  type StreamOptions,
  type StreamState,
  statOf,
} from './stream-file.ts';
import { nextTick } from './time.ts';

/** Options of a {@link WriteStream}. */
export interface WriteStreamOptions extends StreamOptions {
  /** Flush the file to its device (fsync) before `'finish'`, and before it is closed; default `false`. */
  readonly flush?: boolean | undefined;
  /**
   * Bytes that wait in the stream before `write` returns false; default: Node's. Up to `iodepth` times as many (by default,
   * up to 3 MiB) are on their way to the file beyond that.
   */
  readonly highWaterMark?: number | undefined;
}

const { ENOSPC } = constants.errno;

type Callback = (error?: Error | null) => void;

/** One transfer to the file, under way or done. */
interface Part {
  readonly bytes: number;
  /** How many of them are written, without a gap, also where the rest is not. */
  readonly progress: Progress;
  settled: boolean;
  error: unknown;
}

/** Memory that chunks are copied to, one behind the other. */
interface Slab {
  readonly memory: Buffer;
  /** Bytes in it. */
  filled: number;
  /** Bytes that the stream had taken over when the last of them came. */
  until: number;
}

/** The first memory that small writes are gathered in. What comes after it grows with what is written. */
const SMALLEST_SLAB = 64 * 1024;
/** Larger transfers into the page cache gain nothing. */
const LARGE = 1024 * 1024;
/** What the kernel copies in one go. What is written in larger pieces is cut, so that it can be taken back. */
const MOST_BUFFERED = 16 * 1024 * 1024;
/** A device gains from several of these at once more than from a larger one. */
const MOST_DIRECT = 1024 * 1024;
/** Pieces below this are cheaper to copy together than to give to the kernel one by one. */
const SMALL = 4096;
/** Chunks up to this are copied, so that the next can come before they are written; larger ones are worth a transfer each. */
const MOST_COPIED = 1024 * 1024;
/** Between tries of a descriptor that does not block, and has no room. */
const LONGEST_DELAY_MS = 64;
/** Transfers in a row that moved nothing, after which nobody believes in the next. */
const MAX_EMPTY = 5;

/**
 * A file as a Writable: what `createWriteStream` of `node:fs` gives, several transfers deep.
 *
 * Each chunk has its position, so that several are on their way at once; small ones are gathered. What is appended, and
 * what has no positions (pipes, terminals), goes one after the other. The callback of `write` is called when its bytes,
 * and all before them, are written to the kernel; `bytesWritten` counts those. Memory: `iodepth` times `highWaterMark`
 * (by default, up to 3 MiB) on their way, beside the `highWaterMark` that waits in the stream. As with Node, the memory of a chunk may be used again
 * after its callback, or after `'drain'` where `write` returned false: chunks up to 1 MiB are copied, larger ones are written by then.
 *
 * Without `start` a descriptor or handle is written from its current position on, which moves with what is handed to
 * the kernel. A direct file may be written with chunks of any size from any `start` on: blocks that are filled in part
 * go through the page cache.
 *
 * Errors destroy the stream, once, with the system's `code` (`ENOSPC`, `EBADF`, `EFBIG`, …). Later chunks may be in the
 * file by then, behind a hole: only the first `bytesWritten` bytes are certain. Destroying it takes back what is under
 * way, waits for the rest, closes the file and emits `'close'`.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`; RangeError `ERR_OUT_OF_RANGE`; Error
 * `ERR_METHOD_NOT_IMPLEMENTED` for the option `fs`, which Node's own streams take.
 *
 * @example
 * ```ts
 * import { once } from 'node:events';
 * import { WriteStream } from 'fileaio/fs';
 *
 * const stream = new WriteStream('new.bin', { iodepth: 4, flush: true });
 * for (let i = 0; i < 32; i++) if (!stream.write(Buffer.alloc(8192, i))) await once(stream, 'drain');
 * await new Promise((resolve) => stream.close(resolve)); // ends it; with `flush`, it is on the device by then
 * console.log(stream.bytesWritten); // => 262144
 * ```
 */
export class WriteStream extends adopting(Writable) {
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
  /** With `start`: where the next chunk goes. */
  pos: number | undefined;
  /** Written to the kernel so far, without a gap. */
  bytesWritten = 0;
  /** As given. */
  flush: boolean;

  /** The constructor came to its end. Where it threw, node:stream goes on all the same. */
  #made = false;
  readonly #stream: StreamFile;
  readonly #depth: number;
  /** Bytes of a transfer that small chunks are gathered into. */
  #unit: number;
  /** Bytes on their way before the next chunk waits in the stream. */
  #limit: number;

  #file: OpenFile | undefined;
  /** Of the next transfer; `null` where there is only the current position. */
  #position: number | null = null;
  /** Of a direct file, else 1. */
  #block = 1;
  /** Transfers at once. */
  #flights: number;
  /** The file's current position is to be behind what was handed to the kernel. */
  #follow = false;

  /** Taken over and not handed on. */
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** Those with bytes that are not written, in order; the last is being filled, and its bytes from `#gathered` on are pending beside `#pending`. */
  #slabs: Slab[] = [];
  #gathered = 0;
  /** Memory whose bytes are written. Nobody else has ever seen it. */
  #spare: Buffer[] = [];
  #parts: Part[] = [];
  #flying = 0;
  /** A transfer that must be alone. */
  #alone = false;
  /** Bytes taken over, in all. */
  #accepted = 0;
  /** Bytes handed on, in all. */
  #sent = 0;
  /** Bytes up to the end of the last chunk that was not copied, and bytes of what was taken over last. */
  #lent = 0;
  #held = 0;
  /** The stream is told that its chunk is taken over when there is room for the next. */
  #withheld: Callback | undefined;
  /** Callbacks of writes, and how many bytes must have been written for each. */
  #callbacks: { readonly until: number; readonly callback: Callback }[] = [];
  #final: Callback | undefined;
  #failure: Error | undefined;
  #over = false;
  /** Why nothing more is written. */
  #reason: Error | undefined;
  #flushed = 0;
  #scheduled = false;
  readonly #abort = makeAbort();
  #landed: (() => void) | undefined;
  readonly #onTick = (): void => this.#turn();

  /**
   * @param path - of the file, or a handle of this library; ignored with `options.fd`.
   * @param options - or the encoding of strings. Costs nothing yet: the file is opened in the next tick.
   */
  constructor(path?: PathLike | FileHandle | null, options?: WriteStreamOptions | BufferEncoding | null) {
    const given = optionsOf<WriteStreamOptions>(options);
    const { start, autoClose = true, encoding, signal, flush, ...rest } = given;
    const file = new StreamFile(path, given, 'w');
    if (flush !== undefined && flush !== null && typeof flush !== 'boolean') {
      throw invalidArgType('options.flush', 'of type boolean', flush);
    }
    if (start !== undefined) checkPlace('start', start);
    checkIodepth(given);
    super({ ...rest, ...NO_METHODS, decodeStrings: true, autoDestroy: autoClose } as WritableOptions);
    if (encoding) this.setDefaultEncoding(encoding);
    this.#stream = file;
    const { writableHighWaterMark: waiting } = this;
    this.#unit = given.highWaterMark === undefined ? Math.max(waiting, MERGED_BYTES) : Math.max(waiting, SMALL);
    const { depth } = planOf(given, this.#unit, MOST_WRITTEN_BEHIND);
    this.#depth = this.#flights = depth;
    this.#limit = depth === 1 ? 0 : depth * this.#unit;
    this.fd = file.fd;
    if (file.path !== undefined) {
      Object.assign(this, { path: file.path, flags: file.flags, mode: file.mode });
    }
    this.start = start;
    this.pos = start;
    this.flush = flush ?? false;
    if (signal) addAbortSignal(signal, this);
    file.attach(this, this.close);
    this.#made = true;
  }

  get #state(): StreamState {
    return (this as unknown as { _writableState: StreamState })._writableState;
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

  /** Ends the stream. `callback` is called when it is closed. */
  close(callback?: (error?: NodeJS.ErrnoException | null) => void): void {
    if (callback) {
      if (this.closed) {
        nextTick(callback);
        return;
      }
      this.on('close', callback);
    }
    if (!this.autoClose) this.on('finish', () => this.destroy());
    this.end();
  }

  /**
   * The same as `end()`: nothing is lost.
   *
   * @example
   * ```ts
   * import { once } from 'node:events';
   * import { statSync, WriteStream } from 'fileaio/fs';
   *
   * const stream = new WriteStream('new.txt');
   * stream.write('hello');
   * stream.destroySoon();
   * await once(stream, 'close');
   * console.log(statSync('new.txt').size); // => 5
   * ```
   */
  destroySoon(): void {
    this.end();
  }

  /**
   * As Writable has it. The stream takes chunks over before they are written, so that several are on their way;
   * `callback` waits until its own is.
   */
  override write(
    chunk: unknown,
    encoding?: BufferEncoding | ((error?: Error | null) => void),
    callback?: (error?: Error | null) => void,
  ): boolean {
    const [how, then] = typeof encoding === 'function' ? [undefined, encoding] : [encoding, callback];
    if (typeof then !== 'function') return super.write(chunk, how as BufferEncoding);
    return super.write(chunk, how as BufferEncoding, (error) => {
      if (error) then(error);
      else this.#acknowledge(then);
    });
  }

  /** The stream has handed over a chunk, and by that all before it. */
  #acknowledge(callback: Callback): void {
    if (this.bytesWritten === this.#accepted) {
      // Behind those that have been told by now, and run in a tick of their own.
      nextTick(callback, null);
    } else if (this.#over) {
      nextTick(callback, this.#reason ?? destroyed());
    } else {
      this.#callbacks.push({ until: this.#accepted, callback });
      this.#schedule();
    }
  }

  /** @internal */
  override _construct(callback: (error?: Error | null) => void): void {
    if (!this.#made) return;
    if (openedBySomebodyElse(this, this.#stream, callback)) return;
    this.#stream.open((error) => {
      if (error !== null) {
        callback(error);
        return;
      }
      const isNew = this.fd === null;
      this.fd = this.#stream.fd;
      callback();
      if (!isNew) return;
      this.emit('open', this.fd);
      this.emit('ready');
    });
  }

  /** @internal */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Callback): void {
    this.#accept([{ chunk }], done);
  }

  /** @internal */
  override _writev(chunks: { chunk: Buffer }[], done: Callback): void {
    this.#accept(chunks, done);
  }

  /** @internal */
  override _final(done: Callback): void {
    this.#final = done;
    this.#schedule();
  }

  #accept(chunks: readonly { readonly chunk: Buffer }[], done: Callback): void {
    const wrong = chunks.find(({ chunk }) => !(chunk instanceof Uint8Array));
    if (wrong !== undefined) {
      done(invalidArgType('buffer', 'an instance of Buffer, TypedArray, or DataView', wrong.chunk));
      return;
    }
    this.#begin();
    let bytes = 0;
    for (const { chunk } of chunks) bytes += chunk.length;
    const copied = this.#depth > 1 && bytes <= MOST_COPIED;
    if (!copied) this.#lent = this.#accepted + bytes;
    for (const { chunk } of chunks) {
      if (copied) this.#gather(chunk);
      else this.#lend(chunk);
    }
    this.#held = bytes;
    if (this.pos !== undefined) this.pos += bytes;
    this.#withheld = done;
    if (this.#failure === undefined) {
      this.#issue(false);
      // What is answered now is not there any more when the stream looks whether it has taken too much. Of a large chunk it is to say so.
      if (copied && this.writableLength < this.writableHighWaterMark && this.#mayGoOn) {
        this.#withheld = undefined;
        done();
      }
    }
    this.#schedule();
  }

  #lend(chunk: Buffer): void {
    this.#cutSlab();
    if (chunk.length > 0) this.#pending.push(chunk);
    this.#takeOver(chunk.length);
  }

  #takeOver(bytes: number): void {
    this.#pendingBytes += bytes;
    this.#accepted += bytes;
  }

  #gather(chunk: Buffer): void {
    let from = 0;
    let slab = this.#slabs.at(-1);
    while (from < chunk.length) {
      if (slab === undefined || slab.filled === slab.memory.length) slab = this.#nextSlab();
      const bytes = Math.min(chunk.length - from, slab.memory.length - slab.filled);
      slab.memory.set(bytes === chunk.length ? chunk : chunk.subarray(from, from + bytes), slab.filled);
      slab.filled += bytes;
      from += bytes;
      this.#takeOver(bytes);
      slab.until = this.#accepted;
    }
  }

  get #slabBytes(): number {
    return Math.min(this.#unit, LARGE);
  }

  #nextSlab(): Slab {
    this.#cutSlab();
    const bytes = Math.min(this.#slabBytes, Math.max(SMALLEST_SLAB, this.#accepted));
    const memory = this.#spare.pop() ?? this.#file?.allocate(bytes) ?? Buffer.allocUnsafeSlow(bytes);
    // A byte lies in its block of memory where it lies in its block of the file, so that blocks can be written from here.
    const ahead = this.#position === null ? 0 : (this.#position + this.#pendingBytes) % this.#block;
    const slab = { memory, filled: ahead, until: 0 };
    this.#slabs.push(slab);
    this.#gathered = ahead;
    return slab;
  }

  /** What was gathered since the last time is a pending piece like any other. */
  #cutSlab(): void {
    const slab = this.#slabs.at(-1);
    if (slab === undefined || slab.filled === this.#gathered) return;
    this.#pending.push(slab.memory.subarray(this.#gathered, slab.filled));
    this.#gathered = slab.filled;
  }

  /** Finds out where the first byte goes. */
  #begin(): void {
    if (this.#file !== undefined) return;
    const { file, own, certain } = this.#stream;
    this.#file = file;
    const stat = statOf(file.fd);
    const blocks = file.seekable && !file.append && (stat === undefined || stat.isFile() || stat.isBlockDevice());
    if (file.append) this.#position = null;
    else if (this.start !== undefined) this.#position = this.start;
    else if (blocks) this.#position = own && this.autoClose ? 0 : (file.tell() ?? null);
    this.#follow = this.start === undefined && this.#position !== null && !(own && this.autoClose);
    if (!blocks || !certain || this.#position === null) this.#flights = 1;
    this.#block = file.alignment.offset;
    if (file.direct) {
      this.#unit = Math.ceil(this.#unit / this.#block) * this.#block;
      this.#limit = Math.max(this.#limit, this.#depth === 1 ? 0 : this.#depth * this.#unit);
    }
    // The kernel copies one transfer at a time into the same file: one that is being copied and one to come are enough,
    // and the larger they are, the less they cost.
    else if (this.#position !== null) {
      this.#unit = Math.max(this.#unit, Math.min(this.#limit / 2, LARGE));
    }
  }

  /**
   * Takes the next chunk from the stream if there is room; after what the stream has to say of those that it has taken
   * over before.
   */
  #goOn(): void {
    const done = this.#withheld;
    if (done === undefined || !this.#mayGoOn) return;
    this.#withheld = undefined;
    nextTick(done);
  }

  /**
   * Whoever waited for 'drain' may use the memory of the chunks again. The stream says so when nothing waits in it: not before what
   * was not copied is written.
   */
  get #mayGoOn(): boolean {
    if (!this.#hasRoom) return false;
    return this.bytesWritten >= this.#lent || !this.writableNeedDrain || this.writableLength > this.#held;
  }

  get #hasRoom(): boolean {
    const onTheirWay = this.#accepted - this.bytesWritten;
    if (onTheirWay === 0 || onTheirWay < this.#limit) return true;
    // However large chunks are, there is one to go on with when the other is written.
    return this.#depth > 1 && this.#parts.length < 2 && this.#pendingBytes === 0;
  }

  /** Hands on what is worth a transfer; with `all`, in this turn nothing more is going to come. */
  #issue(all: boolean): void {
    while (this.#pendingBytes > 0 && this.#flying < this.#flights && !this.#alone) {
      const bytes = this.#choose(all && (this.#flying === 0 || this.#final !== undefined));
      if (bytes === 0) return;
      this.#send(bytes);
    }
  }

  /** How many of the pending bytes to hand on now. `rest`: also what is less than it could be. */
  #choose(rest: boolean): number {
    if (this.#pendingBytes < this.#unit && !rest) return 0;
    this.#cutSlab();
    const [head] = this.#pending;
    if (head === undefined) return 0;
    if (this.#block > 1 && this.#position !== null) return this.#chooseBlocks(head.length, this.#position, rest);
    let bytes = 0;
    for (const { length } of this.#pending) {
      bytes += length;
      if (bytes >= this.#unit) break;
    }
    return Math.min(bytes, MOST_BUFFERED);
  }

  #chooseBlocks(head: number, position: number, rest: boolean): number {
    const pending = this.#pendingBytes;
    const ahead = (this.#block - (position % this.#block)) % this.#block;
    const most = Math.max(this.#unit, Math.min(head, MOST_DIRECT));
    // From one piece of memory, as long as it has a block: from several they would have to be copied together.
    const whole = Math.floor(Math.min(head < this.#block ? pending : head, most) / this.#block) * this.#block;
    if (ahead === 0 && whole > 0) return whole;
    if (ahead > 0 && pending >= ahead) return this.#choosePart(ahead);
    // A block that is filled in part is worth its trouble only if somebody waits for it: what comes next may fill it.
    const awaited = this.#final !== undefined || this.#withheld !== undefined || this.#callbacks.length > 0;
    return rest && awaited ? this.#choosePart(pending) : 0;
  }

  /** What goes through the page cache must not share a page with a transfer that goes past it. */
  #choosePart(bytes: number): number {
    if (this.#flying > 0) return 0;
    this.#alone = true;
    return bytes;
  }

  #send(bytes: number): void {
    const views = this.#takePending(bytes);
    let at = this.#position;
    if (at !== null) {
      if (this.#follow) {
        // Whoever else writes at the current position is neither overwritten, nor overwrites.
        at = this.#file?.tell() ?? at;
        this.#file?.seek(at + bytes);
      }
      this.#position = at + bytes;
    }
    const part: Part = { bytes, progress: { bytes: 0 }, settled: false, error: undefined };
    this.#parts.push(part);
    this.#sent += bytes;
    this.#flying++;
    this.#transfer(views, at, part).then(
      () => this.#land(part),
      (error) => {
        part.error = error;
        this.#land(part);
      },
    );
  }

  #takePending(bytes: number): Buffer[] {
    const views: Buffer[] = [];
    let left = bytes;
    let count = 0;
    for (const chunk of this.#pending) {
      if (left === 0) break;
      if (chunk.length > left) {
        views.push(chunk.subarray(0, left));
        this.#pending[count] = chunk.subarray(left);
        left = 0;
      } else {
        views.push(chunk);
        left -= chunk.length;
        count++;
      }
    }
    this.#pending.splice(0, count);
    this.#pendingBytes -= bytes;
    return views;
  }

  async #transfer(views: Buffer[], at: number | null, { bytes, progress }: Part): Promise<void> {
    const file = this.#stream.file;
    const [first] = views;
    const isMany = views.length > 1 && (file.direct || bytes < views.length * SMALL);
    const one = isMany ? join(views, file.allocate(bytes)) : first;
    if (one !== undefined && (isMany || views.length === 1) && (file.direct || at !== null)) {
      await file.writeAll(one, at, this.#abort.signal, progress);
    } else {
      await this.#writeEach(file, isMany && one !== undefined ? [one] : views, at, progress);
    }
  }

  /** Continues short writes, and waits where a descriptor that does not block has no room. */
  async #writeEach(file: OpenFile, views: readonly Buffer[], at: number | null, progress: Progress): Promise<void> {
    const { signal } = this.#abort;
    let rest = views;
    let position = at;
    let delayMs = 1;
    for (let empty = 0; rest.length > 0; ) {
      try {
        const bytes = await file.writev(rest, position, signal);
        if (position !== null) position += bytes;
        progress.bytes += bytes;
        rest = after(rest, bytes);
        delayMs = 1;
        empty = bytes === 0 ? empty + 1 : 0;
        if (empty > MAX_EMPTY) throw nodeError(-ENOSPC, 'write');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
        await delay(delayMs, undefined, { signal });
        delayMs = Math.min(delayMs * 2, LONGEST_DELAY_MS);
      }
    }
  }

  #land(part: Part): void {
    part.settled = true;
    this.#flew();
  }

  #flew(): void {
    this.#flying--;
    this.#alone = false;
    if (this.#flying === 0) this.#landed?.();
    this.#schedule();
  }

  /** In a tick of its own: what is written meanwhile is gathered, and no callback runs within a promise. */
  #schedule(): void {
    if (this.#scheduled || this.#over) return;
    this.#scheduled = true;
    nextTick(this.#onTick);
  }

  #turn(): void {
    this.#scheduled = false;
    if (this.#over) return;
    this.#count();
    if (this.#failure !== undefined) {
      if (this.#flying === 0) this.#giveUp(this.#failure);
      return;
    }
    this.#issue(true);
    this.#goOn();
    if (this.#final !== undefined && this.#flying === 0 && this.bytesWritten === this.#accepted)
      this.#finish(this.#final);
  }

  /** Counts what is written without a gap, and tells whoever waits for it. */
  #count(): void {
    let done = 0;
    for (const part of this.#parts) {
      if (!part.settled || part.error !== undefined) break;
      this.bytesWritten += part.bytes;
      done++;
    }
    if (done > 0) this.#parts.splice(0, done);
    this.#recycle();
    if (this.#failure === undefined) {
      const failed = this.#parts.find(({ error }) => error !== undefined);
      if (failed !== undefined) {
        this.#failure = failed.error as Error;
        this.#abort.abort();
      }
    }
    let told = 0;
    for (const { until, callback } of this.#callbacks) {
      if (until > this.bytesWritten) break;
      nextTick(callback, null);
      told++;
    }
    if (told > 0) this.#callbacks.splice(0, told);
  }

  /** Memory whose bytes are all written is filled anew: fresh pages would cost more than copying does. */
  #recycle(): void {
    for (let [slab] = this.#slabs; slab !== undefined && slab.until <= this.bytesWritten; [slab] = this.#slabs) {
      const isLast = this.#slabs.length === 1;
      if (isLast && slab.filled < slab.memory.length) return;
      this.#slabs.shift();
      if (isLast) this.#gathered = 0;
      if (slab.memory.length === this.#slabBytes) this.#spare.push(slab.memory);
    }
  }

  /** Nothing is under way, and nothing more will be. */
  #endAll(error: Error): void {
    this.#over = true;
    this.#reason = error;
    // Of the first that is not written as a whole, its beginning may be.
    this.bytesWritten += this.#parts[0]?.progress.bytes ?? 0;
    this.#parts = [];
    for (const { until, callback } of this.#callbacks) nextTick(callback, until > this.bytesWritten ? error : null);
    this.#callbacks = [];
    this.#pending = [];
    this.#slabs = [];
    this.#spare = [];
    const file = this.#file;
    const written = this.#position === null ? null : this.#position - (this.#sent - this.bytesWritten);
    if (this.#follow && file !== undefined && written !== null && file.tell() === this.#position) file.seek(written);
  }

  #giveUp(error: Error): void {
    this.#endAll(error);
    const tell = this.#withheld ?? this.#final;
    this.#withheld = this.#final = undefined;
    if (!this.autoClose) this.#stream.rest();
    if (tell === undefined) fail(this, this.#state, error);
    else nextTick(tell, error); // behind the callbacks of the chunks before it
  }

  #finish(done: Callback): void {
    this.#final = undefined;
    const finished = (error: Error | null): void => {
      if (error === null && !this.autoClose) this.#stream.rest();
      done(error);
    };
    if (!this.flush) {
      finished(null);
      return;
    }
    this.#flying++;
    this.#flush().then(
      () => nextTick(finished, null),
      (error) => nextTick(finished, error),
    );
  }

  async #flush(): Promise<void> {
    try {
      await this.#stream.file.flush(false, this.#abort.signal);
      this.#flushed = this.bytesWritten;
    } finally {
      this.#flew();
    }
  }

  /** @internal */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#close(error).then(
      () => nextTick(callback, error),
      (reason) => nextTick(callback, error ?? reason),
    );
  }

  async #close(error: Error | null): Promise<void> {
    if (this.#flying > 0) {
      // Of several that are under way an abort could take the first and leave the others: a hole, that nobody would fill who goes on where
      // the file ends. What may never end by itself is one at a time.
      if (this.#file?.seekable !== true) this.#abort.abort();
      await new Promise<void>((resolve) => {
        this.#landed = resolve;
      });
    }
    if (!this.#over) {
      this.#count();
      const reason = error ?? destroyed();
      this.#endAll(reason);
      const done = this.#withheld;
      this.#withheld = undefined;
      if (done !== undefined) nextTick(done, reason);
    }
    try {
      // What was written by then is to be safe, even if there was to be more.
      if (this.flush && this.bytesWritten > this.#flushed) await this.#stream.file.flush(false);
    } finally {
      this.fd = null;
      await this.#stream.close();
    }
  }
}

function destroyed(): Error {
  const error = new Error('Cannot call write after a stream was destroyed');
  return Object.assign(error, { code: 'ERR_STREAM_DESTROYED' });
}

function join(views: readonly Buffer[], into: Buffer): Buffer {
  let at = 0;
  for (const view of views) {
    into.set(view, at);
    at += view.length;
  }
  return into;
}

/** What is left of views after their first `bytes`. */
function after(views: readonly Buffer[], bytes: number): readonly Buffer[] {
  let left = bytes;
  for (const [index, view] of views.entries()) {
    if (left < view.length) return [view.subarray(left), ...views.slice(index + 1)];
    left -= view.length;
  }
  return [];
}
