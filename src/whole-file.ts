/** readFile, writeFile and copyFile: whole files at once, several transfers deep where order does not matter. */
import { constants, type Mode, type OpenMode, type PathLike, type Stats } from 'node:fs';
import * as fs from 'node:fs/promises';
import type { Stream } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { fileURLToPath } from 'node:url';
import { types } from 'node:util';
import { bytesOf } from './buffer.ts';
import type { EngineName } from './engine.ts';
import { abortError, invalidArgType, invalidArgValue, nodeError } from './errors.ts';
import { type Abortable, FileHandle, open, openFileOf } from './file.ts';
import { checkSignal, isView, type WholeFileOptions, wholeFileOptions, withoutMinusZero } from './file-arguments.ts';
import { cutOff, type OpenFile } from './open-file.ts';

/** One transfer of many. */
const CHUNK_BYTES = 2 ** 19;
/** So many at once. */
const DEPTH = 4;
/** Of files that do not say how large they are. */
const UNKNOWN_BYTES = 2 ** 16;
/** An abort is noticed after so much has been written. */
const WRITE_BYTES = 2 ** 23;
/** A Buffer from Node's own readFile is smaller. */
const MOST_BYTES = 2 ** 31 - 1;

/** What {@link readFile} takes. */
export interface ReadFileOptions extends Abortable {
  /** Text in this encoding instead of bytes. */
  readonly encoding?: BufferEncoding | null | undefined;
  /** How the path is opened; default `'r'`. */
  readonly flag?: OpenMode | undefined;
  /** With O_DIRECT: past the page cache; default `false`. */
  readonly direct?: boolean | undefined;
  /** Which engine carries the transfers; default `'auto'`. */
  readonly engine?: EngineName | 'auto' | undefined;
}

/** What {@link writeFile} and {@link appendFile} take. */
export interface WriteFileOptions extends Abortable {
  /** Of strings; default `'utf8'`. */
  readonly encoding?: BufferEncoding | null | undefined;
  /** How the path is opened; default `'w'`, and `'a'` for `appendFile`. */
  readonly flag?: OpenMode | undefined;
  /** Of a file that is made; default 0o666, less the umask. */
  readonly mode?: Mode | undefined;
  /** Flush it to the device before the promise resolves; default `false`. */
  readonly flush?: boolean | undefined;
  /** With O_DIRECT: past the page cache, but for ends that fill no block; default `false`. */
  readonly direct?: boolean | undefined;
  /** Which engine carries the transfers; default `'auto'`. */
  readonly engine?: EngineName | 'auto' | undefined;
}

type Bytes = string | NodeJS.ArrayBufferView;

/** What can be written as a whole: bytes, text, or something that gives these one after the other. */
export type WriteFileData =
  | string
  | NodeJS.ArrayBufferView
  | Iterable<string | NodeJS.ArrayBufferView>
  | AsyncIterable<string | NodeJS.ArrayBufferView>
  | Stream;

function checkAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortError(signal);
}

/** Everything from the current position of an open handle on. */
export async function readWholeFile(handle: FileHandle, given: unknown): Promise<string | Buffer<ArrayBufferLike>> {
  const options = wholeFileOptions(given, {});
  const { signal, encoding, buffer: into } = options;
  if (into !== undefined && typeof into !== 'function' && !isView(into)) {
    throw invalidArgType('options.buffer', 'of type function or an instance of Buffer, TypedArray, or DataView', into);
  }
  // Throws for names of encodings that are none.
  const decoder = encoding ? new StringDecoder(encoding as BufferEncoding) : undefined;
  checkAborted(signal);
  const stats = await handle.stat();
  checkAborted(signal);
  const size = stats.isFile() ? stats.size : 0;
  if (size > MOST_BYTES) throw tooLarge(size);
  const file = openFileOf(handle);
  const bytes = into === undefined ? await readSome(file, size, signal) : await readInto(file, into, size, signal);
  return decoder === undefined ? bytes : decoder.end(bytes);
}

function tooLarge(size: number): RangeError {
  return Object.assign(new RangeError(`File size (${size}) is greater than 2 GiB`), { code: 'ERR_FS_FILE_TOO_LARGE' });
}

async function readSome(file: OpenFile, size: number, signal: AbortSignal | undefined): Promise<Buffer> {
  if (size === 0) return readUnknown(file, signal);
  const buffer = file.allocate(roundUp(size, file.alignment.offset));
  const bytes = await file.readAhead(buffer, size, CHUNK_BYTES, DEPTH, signal);
  return cutOff(buffer, bytes);
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/** For what has no size, or hides it, as files in /proc do. */
async function readUnknown(file: OpenFile, signal: AbortSignal | undefined): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (;;) {
    const part = file.allocate(UNKNOWN_BYTES);
    const bytes = await file.read(part, null, signal);
    if (bytes === 0) break;
    parts.push(cutOff(part, bytes));
  }
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
}

/** Into memory of the caller's. */
async function readInto(
  file: OpenFile,
  given: unknown,
  size: number,
  signal: AbortSignal | undefined,
): Promise<Buffer<ArrayBufferLike>> {
  const made: unknown = typeof given === 'function' ? given(size) : given;
  const called = typeof given === 'function' ? 'options.buffer()' : 'options.buffer';
  if (!isView(made)) throw invalidArgType(called, 'an instance of Buffer, TypedArray, or DataView', made);
  const bytes = bytesOf(made);
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (size > buffer.length) {
    throw invalidArgValue(`${called}.byteLength`, `is smaller than the file size of ${size} bytes`, buffer.length);
  }
  let done = 0;
  while (done < buffer.length) {
    const bytes = await file.read(buffer.subarray(done, size === 0 ? undefined : size), null, signal);
    done += bytes;
    if (bytes === 0 || done === size) return buffer.subarray(0, done);
  }
  if (size === 0 && (await file.read(Buffer.allocUnsafe(1), null, signal)) > 0) {
    throw invalidArgValue(`${called}.byteLength`, 'is too small to contain the entire file', buffer.length);
  }
  return buffer.subarray(0, done);
}

function isIterable(value: unknown): value is Iterable<Bytes> | AsyncIterable<Bytes> {
  if (typeof value !== 'object' || value === null || isView(value)) return false;
  const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now }: Partial<AsyncIterable<Bytes> & Iterable<Bytes>> =
    value;
  return typeof later === 'function' || typeof now === 'function';
}

const WRITE_DEFAULTS: WholeFileOptions = { encoding: 'utf8', mode: 0o666, flag: 'w', flush: false };

interface WholeWrite {
  readonly bytes: ArrayBufferView | undefined;
  readonly parts: Iterable<Bytes> | AsyncIterable<Bytes>;
  readonly encoding: BufferEncoding;
  readonly signal: AbortSignal | undefined;
  readonly flush: boolean;
}

/** What all typed arrays inherit from. */
const TypedArray = Object.getPrototypeOf(Uint8Array) as new () => object;

function checkWrite(data: unknown, options: WholeFileOptions): WholeWrite {
  const flush = options.flush ?? false;
  if (typeof flush !== 'boolean') throw invalidArgType('options.flush', 'of type boolean', flush);
  const encoding = (options.encoding || 'utf8') as BufferEncoding;
  const signal = checkSignal(options.signal, 'signal');
  if (isView(data)) return { bytes: data, parts: [], encoding, signal, flush };
  // What inherits from typed arrays and is none has nobody's iterator.
  if (isIterable(data) && !(data instanceof TypedArray))
    return { bytes: undefined, parts: data, encoding, signal, flush };
  if (typeof data !== 'string') {
    throw invalidArgType('data', 'of type string or an instance of Buffer, TypedArray, or DataView', data);
  }
  return { bytes: Buffer.from(data, encoding), parts: [], encoding, signal, flush };
}

/** Everything at the current position of an open handle. */
export async function writeWholeFile(handle: FileHandle, data: unknown, given: unknown): Promise<void> {
  await writeAll(handle, checkWrite(data, wholeFileOptions(given, WRITE_DEFAULTS)));
}

/** One after the other, as `for await` does it, with words for what does not iterate as it says. */
async function* stepsOf(parts: Iterable<Bytes> | AsyncIterable<Bytes>): AsyncGenerator<Bytes> {
  const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now }: Partial<AsyncIterable<Bytes> & Iterable<Bytes>> =
    parts;
  const make: unknown = later ?? now;
  const iterator: unknown = typeof make === 'function' ? Reflect.apply(make, parts, []) : undefined;
  if (!isIterator(iterator)) throw notIterable(parts);
  // Nobody returns to one that has ended or failed by itself.
  let under = false;
  try {
    for (;;) {
      under = false;
      const step: unknown = await iterator.next();
      if (typeof step !== 'object' || step === null) throw notIterable(parts);
      const { done, value }: { done?: unknown; value?: unknown } = step;
      if (done) return;
      under = true;
      yield (await value) as Bytes;
    }
  } finally {
    if (under && typeof iterator.return === 'function') await iterator.return();
  }
}

function isIterator(value: unknown): value is AsyncIterator<Bytes> {
  return typeof value === 'object' && value !== null && 'next' in value && typeof value.next === 'function';
}

function notIterable(value: unknown): TypeError {
  return invalidArgType('data', 'iterable, with an iterator that gives objects', value);
}

async function writeAll(handle: FileHandle, { bytes, parts, encoding, signal }: WholeWrite): Promise<void> {
  const file = openFileOf(handle);
  checkAborted(signal);
  if (bytes !== undefined) {
    await writePart(file, bytes, signal);
    return;
  }
  for await (const part of stepsOf(parts)) {
    checkAborted(signal);
    await writePart(file, isView(part) ? part : Buffer.from(part, encoding), signal);
    checkAborted(signal);
  }
}

async function writePart(file: OpenFile, view: ArrayBufferView, signal: AbortSignal | undefined): Promise<void> {
  const bytes = bytesOf(view);
  for (let done = 0; done < bytes.length; done += WRITE_BYTES) {
    checkAborted(signal);
    await file.writeAll(bytes.subarray(done, done + WRITE_BYTES), null, signal);
  }
}

/** Runs `step` on a file that is opened for it, and closes that in any case. */
async function withFile<T>(
  path: PathLike,
  flags: OpenMode,
  { mode, direct, engine }: WholeFileOptions,
  step: (handle: FileHandle) => Promise<T>,
): Promise<T> {
  const handle = await open(path, {
    flags,
    mode: mode as Mode | undefined,
    direct: direct as boolean | undefined,
    engine: engine as EngineName | undefined,
  });
  let result: T;
  try {
    result = await step(handle);
  } catch (error) {
    // What went wrong first is what the caller has to know.
    await handle.close().catch(() => {});
    throw error;
  }
  await handle.close();
  return result;
}

/**
 * Reads a whole file: its bytes, or with an encoding its text. Files beyond half a MiB are read several transfers deep.
 *
 * @throws (as a rejection) what {@link open} does; RangeError `ERR_FS_FILE_TOO_LARGE` beyond 2 GiB; AbortError.
 *
 * @example
 * ```ts
 * import { readFile, writeFile } from 'fileaio/promises';
 *
 * await writeFile('hello.txt', 'hello');
 * console.log(await readFile('hello.txt', 'utf8')); // => hello
 * console.log((await readFile('data.bin', { direct: true })).length); // => 1048576
 * ```
 */
export function readFile(
  path: PathLike | fs.FileHandle,
  options?: (ReadFileOptions & { encoding?: null | undefined }) | null,
): Promise<Buffer<ArrayBuffer>>;
export function readFile(
  path: PathLike | fs.FileHandle,
  options: (ReadFileOptions & { encoding: BufferEncoding }) | BufferEncoding,
): Promise<string>;
export function readFile(
  path: PathLike | fs.FileHandle,
  options?: ReadFileOptions | BufferEncoding | null,
): Promise<string | Buffer<ArrayBuffer>>;
export async function readFile(path: PathLike | fs.FileHandle, given?: unknown): Promise<unknown> {
  if (path instanceof FileHandle) return path.readFile(given as BufferEncoding);
  if (isForeignHandle(path)) return fs.readFile(path, given as BufferEncoding);
  const options = wholeFileOptions(given, { flag: 'r' });
  checkAborted(options.signal);
  return withFile(path, (options.flag || 'r') as OpenMode, { ...options, mode: 0o666 }, (handle) =>
    readWholeFile(handle, options),
  );
}

/** A handle of Node's own is served by Node. */
function isForeignHandle(value: unknown): value is fs.FileHandle {
  return typeof value === 'object' && value !== null && 'fd' in value && 'writeFile' in value;
}

/**
 * Writes a whole file; with `flush: true` it is on the device when the promise resolves. What was there before is lost first: to replace a
 * file in one step, write another one and rename it.
 *
 * @throws (as a rejection) what {@link open} does; `ENOSPC`, `EDQUOT`, `EIO`, …, with a part of it written; AbortError.
 *
 * @example
 * ```ts
 * import { rename, writeFile } from 'fileaio/promises';
 *
 * // In one step, and safe before it has its name: whoever opens config.json finds the old one or the new one, never a part.
 * await writeFile('config.json.new', JSON.stringify({ depth: 32 }), { flush: true });
 * await rename('config.json.new', 'config.json');
 * ```
 */
export async function writeFile(
  path: PathLike | fs.FileHandle,
  data: WriteFileData,
  given?: WriteFileOptions | BufferEncoding | null,
): Promise<void> {
  if (isForeignHandle(path) && !(path instanceof FileHandle)) {
    await fs.writeFile(path, data as string, given as BufferEncoding);
    return;
  }
  const options = wholeFileOptions(given, WRITE_DEFAULTS);
  const write = checkWrite(data, options);
  if (path instanceof FileHandle) {
    await path.writeFile(data, given);
    return;
  }
  checkAborted(write.signal);
  await withFile(path, (options.flag || 'w') as OpenMode, options, async (handle) => {
    await writeAll(handle, write);
    if (write.flush) await handle.sync();
  });
}

/**
 * Writes at the end of a file, and creates it where there is none.
 *
 * @see writeFile
 *
 * @example
 * ```ts
 * import { appendFile, readFile } from 'fileaio/promises';
 *
 * await appendFile('log', 'first\n', { flush: true });
 * await appendFile('log', 'second\n');
 * console.log((await readFile('log')).length); // => 13
 * ```
 */
export async function appendFile(
  path: PathLike | fs.FileHandle,
  data: WriteFileData,
  given?: WriteFileOptions | BufferEncoding | null,
): Promise<void> {
  const options = wholeFileOptions(given, { ...WRITE_DEFAULTS, flag: 'a' });
  await writeFile(path, data, { ...options, flag: options.flag || 'a' } as WriteFileOptions);
}

const { COPYFILE_EXCL, O_CREAT, O_EXCL, O_WRONLY } = constants;
const COPY_BYTES = 2 ** 20;

/**
 * Copies a file and its permissions, and its owner and the time of the last look at it where that is allowed. An existing `dest` is overwritten, unless `mode` has
 * `constants.COPYFILE_EXCL`. A copy that fails leaves no `dest` behind. With the FICLONE flags Node does it: the file system shares the blocks
 * then, where it can, and no data moves.
 *
 * @throws (as a rejection) Node's errors, with `path` and `dest`.
 *
 * @example
 * ```ts
 * import { constants } from 'node:fs';
 * import { copyFile, stat } from 'fileaio/promises';
 *
 * await copyFile('data.bin', 'copy.bin', constants.COPYFILE_EXCL);
 * console.log((await stat('copy.bin')).size); // => 1048576
 * ```
 */
export async function copyFile(src: PathLike, dest: PathLike, mode?: number): Promise<void> {
  // What Node would refuse, it refuses itself.
  if (!isPath(src) || !isPath(dest) || (mode !== undefined && mode !== 0 && mode !== COPYFILE_EXCL)) {
    await fs.copyFile(src, dest, withoutMinusZero(mode));
    return;
  }
  let made = false;
  try {
    await withFile(src, 'r', {}, async (from) => {
      const stats = await from.stat();
      const flags = O_WRONLY | O_CREAT | (mode === COPYFILE_EXCL ? O_EXCL : 0);
      await withFile(dest, flags, { mode: stats.mode & 0o7777 }, async (to) => {
        const there = await to.stat();
        if (there.dev === stats.dev && there.ino === stats.ino) return;
        // What is no file is not ours to take away.
        made = there.isFile();
        await to.truncate(0);
        await likeSource(to, stats, there);
        await copyData(openFileOf(from), openFileOf(to), stats.isFile() ? stats.size : 0);
      });
    });
  } catch (error) {
    if (made) await fs.unlink(dest).catch(() => {});
    const errno = error instanceof Error && 'errno' in error ? error.errno : undefined;
    throw typeof errno === 'number' ? nodeError(errno, 'copyfile', shown(src), shown(dest)) : error;
  }
}

/** Gives a copy the owner and the times of its source where that may be done, as Node does from 22 on; writing to it makes the times new again. */
async function likeSource(to: FileHandle, source: Stats, there: Stats): Promise<void> {
  await to.utimes(source.atimeMs / 1000, source.mtimeMs / 1000).catch(() => {});
  if (there.uid !== source.uid || there.gid !== source.gid) await to.chown(source.uid, source.gid).catch(() => {});
  // Last: another owner takes the set-user-ID bit away.
  await to.chmod(source.mode & 0o7777);
}

function isPath(path: unknown): path is PathLike {
  if (path instanceof URL) return path.protocol === 'file:';
  return (typeof path === 'string' || types.isUint8Array(path)) && !textOf(path).includes('\0');
}

function shown(path: PathLike): string {
  return path instanceof URL ? fileURLToPath(path) : textOf(path);
}

/** Paths are text in errors, whatever they were given as. */
function textOf(path: string | Uint8Array): string {
  return typeof path === 'string' ? path : Buffer.from(path).toString();
}

/** What is there when it begins in parallel, and what was added since in order. */
async function copyData(from: OpenFile, to: OpenFile, size: number): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    const buffer = from.allocate(COPY_BYTES);
    while (next < size) {
      const at = next;
      next += COPY_BYTES;
      const end = Math.min(next, size);
      for (let done = at; done < end; ) {
        const bytes = await from.readPrivate([buffer.subarray(0, end - done)], done);
        if (bytes === 0) return;
        await to.writeAll(buffer.subarray(0, bytes), done);
        done += bytes;
      }
    }
  };
  const workers = Array.from({ length: DEPTH }, worker);
  for (const ended of await Promise.allSettled(workers)) if (ended.status === 'rejected') throw ended.reason;
  const buffer = from.allocate(COPY_BYTES);
  for (let at = size; ; ) {
    const bytes = await from.readPrivate([buffer], size > 0 ? at : null);
    if (bytes === 0) return;
    await to.writeAll(buffer.subarray(0, bytes), at);
    at += bytes;
  }
}
