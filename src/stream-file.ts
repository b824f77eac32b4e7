/** What both kinds of file streams share: their options, and the file under them from its opening to its closing. */

import { setMaxListeners } from 'node:events';
import { close, constants, fstatSync, type OpenMode, type PathLike, readFileSync, type Stats } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { types } from 'node:util';
import { bytesOf } from './buffer.ts';
import type { EngineName } from './engine.ts';
import { checkInteger, invalidArgType, invalidArgValue, outOfRange } from './errors.ts';
import { FileHandle, hold, open, openFileOf, release } from './file.ts';
import { checkSignal } from './file-arguments.ts';
import { loadNative } from './native.ts';
import { isDirectUnderneath, OpenFile } from './open-file.ts';
import { nextTick } from './time.ts';

/** What {@link ReadStream} and {@link WriteStream} can be told: what Node's can, and how to get at the file. */
export interface StreamOptions {
  /** How to open the path; default `'r'` to read, `'w'` to write. */
  readonly flags?: OpenMode | undefined;
  /** Of the text that is read, or of strings that are written; default: bytes, and `'utf8'`. */
  readonly encoding?: BufferEncoding | null | undefined;
  /** A file that is open already. The path is ignored then, and there is no `'open'` event. */
  readonly fd?: number | FileHandle | null | undefined;
  /** Of a file that is made; default 0o666. */
  readonly mode?: number | string | undefined;
  /** Close the file at the end, and after an error; default `true`. */
  readonly autoClose?: boolean | undefined;
  /** Emit `'close'` when it is destroyed; default `true`. */
  readonly emitClose?: boolean | undefined;
  /** Of the first byte in the file; default: the current position. */
  readonly start?: number | undefined;
  /** In bytes. */
  readonly highWaterMark?: number | undefined;
  /** Destroys the stream when it aborts. */
  readonly signal?: AbortSignal | null | undefined;
  /**
   * Transfers in flight at once, 1 … 1024; default 8, or as many as make 8 MiB for a reader and 3 MiB for a writer, and 2 at least. Memory
   * grows with it; a reader has so many only once it has had to wait for the file. 1 is how Node's own streams work. Where it is given each
   * transfer to a reader is one chunk; by default chunks of up to 512 KiB share transfers of up to 1 MiB.
   */
  readonly iodepth?: number | undefined;
  /** Open the path for direct I/O. */
  readonly direct?: boolean | undefined;
  /** For a path or a descriptor; a handle has one already. */
  readonly engine?: EngineName | 'auto' | undefined;
  /** As Node's; not taken here. */
  readonly fs?: unknown;
}

const MOST_IODEPTH = 1024;

/** What node:stream would take for the methods of a stream that is made by options alone. A Buffer has one of these names, too. */
export const NO_METHODS = {
  construct: undefined,
  destroy: undefined,
  final: undefined,
  read: undefined,
  write: undefined,
  writev: undefined,
};

/** The options as an object of their own, with Node's checks. */
export function optionsOf<T extends StreamOptions>(options: unknown): T {
  if (options === undefined || options === null || typeof options === 'function') return {} as T;
  if (typeof options !== 'object' && typeof options !== 'string') {
    throw invalidArgType('options', 'one of type string or object', options);
  }
  const given = typeof options === 'string' ? { encoding: options as BufferEncoding } : withInherited(options);
  const { encoding, signal }: StreamOptions = given;
  if (encoding && (encoding as string) !== 'buffer' && !Buffer.isEncoding(encoding)) {
    throw invalidArgValue('encoding', 'is invalid encoding', encoding);
  }
  checkSignal(signal);
  return given as T;
}

/** Inherited options count, as in Node. */
function withInherited(options: object): StreamOptions {
  const copy: Record<string, unknown> = {};
  for (const key in options) copy[key] = (options as Record<string, unknown>)[key];
  return copy;
}

/** A place in a file: Node's check of it. */
export function checkPlace(name: string, value: number): void {
  if (typeof value !== 'number') throw invalidArgType(name, 'of type number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < 0 || value > Number.MAX_SAFE_INTEGER) {
    throw outOfRange(name, `>= 0 && <= ${Number.MAX_SAFE_INTEGER}`, value);
  }
}

/**
 * Chosen by measuring, where nobody says it: transfers of a MiB are so large that their number does not matter. Eight to a reader keep the threads that
 * copy from the page cache at work while the event loop is at something else; writes to one file are done one at a time, and three hide
 * the way to the next.
 */
export const MERGED_BYTES = 1024 * 1024;
const IODEPTH = 8;
const LEAST_IODEPTH = 2;
export const MOST_READ_AHEAD = 8 * 1024 * 1024;
export const MOST_WRITTEN_BEHIND = 3 * 1024 * 1024;
/** Segments of one system call: IOV_MAX. */
const MOST_MERGED = 1024;

/** How chunks are transferred: so many transfers at once, of so many chunks each. */
export interface Plan {
  readonly depth: number;
  readonly merge: number;
}

/**
 * @param bytes - of one chunk.
 * @param mostBytes - under way, where nobody says how many transfers.
 */
export function planOf({ iodepth }: StreamOptions, bytes: number, mostBytes: number): Plan {
  if (iodepth !== undefined) return { depth: iodepth, merge: 1 };
  const merge = Math.max(1, Math.floor(MERGED_BYTES / Math.max(bytes, 1)));
  const most = Math.floor(mostBytes / (bytes * merge));
  return { depth: Math.min(IODEPTH, Math.max(LEAST_IODEPTH, most)), merge: Math.min(merge, MOST_MERGED) };
}

export function checkIodepth({ iodepth }: StreamOptions): void {
  if (iodepth !== undefined) checkInteger('options.iodepth', iodepth, 1, MOST_IODEPTH);
}

/** Node's check of a path. */
export function pathOf(path: unknown, name = 'path'): string | Buffer {
  const plain = path instanceof URL ? fileURLToPath(path) : path;
  if (typeof plain !== 'string' && !types.isUint8Array(plain)) {
    throw invalidArgType(name, 'of type string or an instance of Buffer or URL', path);
  }
  if (typeof plain === 'string' ? plain.includes('\0') : bytesOf(plain).includes(0)) {
    throw invalidArgValue(name, 'must be a string, Uint8Array, or URL without null bytes', plain);
  }
  return plain as string | Buffer;
}

/** Functions of somebody else's cannot carry transfers through an engine: Node's own streams take them. */
function checkFs({ fd, fs }: StreamOptions): void {
  if (fs === undefined || fs === null) return;
  const what =
    fd instanceof FileHandle
      ? 'The FileHandle with fs method is not implemented'
      : 'The fs option is not implemented: createReadStream and createWriteStream of node:fs take it';
  throw Object.assign(new Error(what), { code: 'ERR_METHOD_NOT_IMPLEMENTED' });
}

function descriptorOf(fd: number): number {
  if (!Number.isInteger(fd)) throw outOfRange('fd', 'an integer', fd);
  if (fd < 0 || fd > 0x7fffffff) throw outOfRange('fd', '>= 0 && <= 2147483647', fd);
  return Object.is(fd, -0) ? 0 : fd;
}

/** How a descriptor of unknown origin was opened; `undefined` where nobody can be asked. */
function flagsOf(fd: number): number | undefined {
  const flags = loadNative().native?.statusFlags(fd);
  const direct = isDirectUnderneath(fd) ? (constants.O_DIRECT ?? 0) : 0;
  if (flags !== undefined) return Math.max(flags, 0) | direct;
  try {
    const shown = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
    return shown === undefined ? undefined : Number.parseInt(shown, 8);
  } catch {
    return undefined;
  }
}

/** Not every platform has every flag. */
function has(flags: number | undefined, flag: number | undefined): boolean {
  return flags !== undefined && flag !== undefined && (flags & flag) !== 0;
}

/** What is known of a file that is open; `undefined` where it cannot be looked at. */
export function statOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd);
  } catch {
    return undefined;
  }
}

/** Closes descriptors that were given as numbers. */
let closeDescriptor: (fd: number, callback: (error?: Error | null) => void) => void = close;

/** For whoever else keeps books of descriptors: from here on, streams close theirs with `using`. */
export function closeDescriptorsWith(using: typeof closeDescriptor): void {
  closeDescriptor = using;
}

/**
 * Handles that streams opened and have not closed. A stream that is dropped leaves its descriptor open, as those of Node do: Node 26 throws
 * where a handle is collected, and a program that knows the number and has closed it would have what has it by then closed.
 */
const left = new Set<FileHandle>();

/** The file under a stream. */
export class StreamFile {
  readonly path: string | Buffer | undefined;
  readonly flags: OpenMode;
  readonly mode: number | string;
  readonly #options: StreamOptions;
  #handle: FileHandle | undefined;
  #held = false;
  #fd: number | undefined;
  #file: OpenFile | undefined;
  #onClose: (() => void) | undefined;
  /** Whether it is known how the file was opened. */
  certain = true;

  /** @param flags - unless the options have some. */
  constructor(path: PathLike | FileHandle | null | undefined, options: StreamOptions, flags: string) {
    checkFs(options);
    this.#options = options;
    this.flags = options.flags === undefined ? flags : options.flags;
    this.mode = options.mode === undefined ? 0o666 : options.mode;
    const fd = path instanceof FileHandle ? path : (options.fd ?? undefined);
    if (fd === undefined) {
      this.path = pathOf(path);
    } else if (typeof fd === 'number') {
      this.#fd = descriptorOf(fd);
    } else if (fd instanceof FileHandle) {
      descriptorOf(fd.fd);
      this.#handle = fd;
    } else {
      throw invalidArgType('options.fd', 'of type number or an instance of FileHandle', fd);
    }
  }

  /** Of a file that is open, and not closed by the stream. */
  get fd(): number | null {
    return this.#handle?.fd ?? this.#fd ?? null;
  }

  /** Nobody else knows the file, so that nobody else moves its current position. */
  get own(): boolean {
    return this.path !== undefined;
  }

  /** Once it is open. */
  get file(): OpenFile {
    if (this.#file === undefined) throw new TypeError('The file of this stream is not open');
    return this.#file;
  }

  /** Keeps a handle open for the stream, which in turn ends when the handle is closed. */
  attach(stream: Readable | Writable, close: () => void): void {
    const handle = this.#handle;
    if (handle === undefined) return;
    hold(handle);
    this.#held = true;
    this.#onClose = () => close.call(stream);
    handle.on('close', this.#onClose);
  }

  /**
   * Opens what is not open yet. `opened` is called on the event loop, or at once where there is nothing to wait for.
   */
  open(opened: (error: Error | null) => void): void {
    const { path } = this;
    try {
      if (this.#handle !== undefined) this.#file = openFileOf(this.#handle);
      else if (this.#fd !== undefined) this.#file = this.#adopt(this.#fd);
    } catch (error) {
      opened(error as Error);
      return;
    }
    if (path === undefined) {
      opened(null);
      return;
    }
    const { direct, engine } = this.#options;
    const how = {
      flags: this.flags,
      mode: this.mode,
      ...(direct === undefined ? {} : { direct }),
      ...(engine === undefined ? {} : { engine }),
    };
    // Not from within the promise: what a listener throws is an uncaught exception, not a rejection.
    open(path, how).then(
      (handle) => {
        this.#handle = handle;
        this.#file = openFileOf(handle);
        left.add(handle);
        nextTick(opened, null);
      },
      (error) => nextTick(opened, error),
    );
  }

  /** A descriptor that somebody else opened for the stream. */
  adopt(fd: number): void {
    this.#fd = fd;
    this.#file = this.#adopt(fd);
  }

  #adopt(fd: number): OpenFile {
    const { engine } = this.#options;
    const flags = flagsOf(fd);
    this.certain = flags !== undefined;
    return new OpenFile(fd, {
      direct: has(flags, constants.O_DIRECT),
      append: has(flags, constants.O_APPEND),
      ...(engine === undefined ? {} : { engine }),
    });
  }

  /** Lets go of a handle that stays open: nothing more will be transferred. */
  rest(): void {
    const handle = this.#handle;
    if (handle === undefined) return;
    if (this.#onClose !== undefined) handle.off('close', this.#onClose);
    this.#onClose = undefined;
    if (this.#held) release(handle);
    this.#held = false;
  }

  /** Nothing may be in flight. */
  async close(): Promise<void> {
    const handle = this.#handle;
    const fd = this.#fd;
    this.rest();
    this.#handle = undefined;
    this.#fd = undefined;
    if (handle !== undefined) {
      left.delete(handle);
      await handle.close();
    } else if (fd !== undefined) {
      await new Promise<void>((resolve, reject) => {
        closeDescriptor(fd, (error) => (error ? reject(error) : resolve()));
      });
    }
  }
}

/** The objects that constructors are to work on, in place of a new one, by what they are called with as `new.target`. */
const selves = new WeakMap<object, object>();

/**
 * A class of node:stream's for ours to extend: constructors of these can be called on an object that is there, as those of Node's file
 * streams can, which are functions. Those who inherit from them the old way (graceful-fs does) call them so.
 */
export function adopting<T extends typeof Readable | typeof Writable>(type: T): T {
  function Adopting(this: object, ...args: unknown[]): object {
    const self = (new.target && selves.get(new.target)) ?? this;
    Reflect.apply(type, self, args);
    return self;
  }
  Object.setPrototypeOf(Adopting, type);
  Adopting.prototype = type.prototype;
  return Adopting as unknown as T;
}

/** A class of ours as a function, which can also be called without `new`, or on an object that inherits from it. */
export function callable<T extends abstract new (...args: never[]) => object>(type: T): T {
  return new Proxy(type, {
    apply(target, self, args) {
      if (!(self instanceof target)) return Reflect.construct(target, args);
      function Target(): void {}
      Target.prototype = Object.getPrototypeOf(self);
      selves.set(Target, self);
      return Reflect.construct(target, args, Target);
    },
  });
}

/**
 * Whoever inherits from Node's file streams may have a method `open`, which opens the file, sets `fd`, and emits `'open'` or `'error'`.
 *
 * @returns whether there is one. It was called then, and `opened` will be.
 */
export function openedBySomebodyElse(
  stream: (Readable | Writable) & { fd: number | null },
  file: StreamFile,
  opened: (error?: Error | null) => void,
): boolean {
  const { open: byHand }: { open?: unknown } = stream as object;
  if (typeof byHand !== 'function' || file.fd !== null) return false;
  const { emit } = stream;
  stream.emit = (event: string | symbol, ...args: unknown[]): boolean => {
    if (event !== 'open' && event !== 'error') return Reflect.apply(emit, stream, [event, ...args]);
    stream.emit = emit;
    try {
      if (event === 'open' && stream.fd !== null) file.adopt(stream.fd);
      opened(event === 'open' ? null : (args[0] as Error));
    } catch (error) {
      opened(error as Error);
    }
    return event === 'error' || Reflect.apply(emit, stream, [event, ...args]);
  };
  Reflect.apply(byHand, stream, []);
  return true;
}

/** Each transfer listens: Node would warn of more than ten. */
export function makeAbort(): AbortController {
  const abort = new AbortController();
  setMaxListeners(0, abort.signal);
  return abort;
}

/**
 * The part of Node's stream states that has no public name: whether the stream destroys itself, and what went wrong.
 */
export interface StreamState {
  autoDestroy: boolean;
  errored: Error | null;
}

/** A stream fails: it destroys itself, or, where it is not to close its file, tells of the error and does no more. */
export function fail(stream: Readable | Writable, state: StreamState, error: Error): void {
  if (state.autoDestroy) {
    stream.destroy(error);
  } else if (state.errored === null) {
    state.errored = error;
    nextTick(() => stream.emit('error', error));
  }
}
