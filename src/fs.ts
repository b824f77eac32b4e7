/**
 * `fileaio/fs`: `node:fs` with callbacks, for libraries that take an `fs` option. Descriptors that are opened here have an engine; others,
 * and all that is not about the data of files, are Node's.
 */

import nodeDefault, * as node from 'node:fs';
import { constants } from 'node:os';
import { promisify, types } from 'node:util';
import { bytesOf, sizeOf } from './buffer.ts';
import { EINVAL, invalidArgType, invalidArgValue, isArray, nodeError, outOfRange } from './errors.ts';
import { type OpenOptions, openFlags } from './file.ts';
import {
  checkView,
  checkViews,
  encode,
  isView,
  laxPosition,
  numericFlags,
  plainMode,
  readArguments,
  vectorOptions,
  wholeFileOptions,
  withoutMinusZero,
  writeArguments,
} from './file-arguments.ts';
import { OpenFile } from './open-file.ts';
import * as promises from './promises.ts';
import { ReadStream, type ReadStreamOptions, WriteStream, type WriteStreamOptions } from './stream.ts';
import { callable, closeDescriptorsWith, pathOf } from './stream-file.ts';
import { nextTick } from './time.ts';

export * from 'node:fs';

type Callback = (error: unknown, ...results: unknown[]) => void;

/** A descriptor that was opened here. */
interface Entry {
  readonly file: OpenFile;
  /** Calls under way: it is closed after these, so that none reaches a file that got the same number since. */
  busy: number;
  /** Closes it, once they have ended. Until then nobody may use it, or close it once more. */
  idle: (() => void) | undefined;
}

const { EBADF, EBUSY } = constants.errno;

const entries = new Map<number, Entry>();

/** In Node's words, and before Node: some versions abort the process over what their native code cannot name. */
function checkNumber(fd: unknown): void {
  if (typeof fd !== 'number') throw invalidArgType('fd', 'of type number', fd);
  if (!Number.isInteger(fd)) throw outOfRange('fd', 'an integer', fd);
  if (fd < 0 || fd > 2 ** 31 - 1) throw outOfRange('fd', '>= 0 && <= 2147483647', fd);
}

function isFunction(value: unknown): boolean {
  return typeof value === 'function';
}

/** For the same reason: its native code knows no proxies of arrays, and believes what a view says of its length. */
function safeForNode(value: unknown): unknown {
  if (isView(value)) {
    if (sizeOf(value) !== value.byteLength) {
      throw invalidArgValue('buffer', 'has another length than it says', value.byteLength);
    }
    return value;
  }
  if (!isArray(value)) return withoutMinusZero(value);
  const safe = types.isProxy(value) ? checkViews(value) : value;
  for (let index = 0; index < safe.length; index++) {
    if (!isView(safe[index])) break; // Node refuses it there
    safeForNode(safe[index]);
  }
  return safe;
}

const OPTIONS = [
  'buffer',
  'offset',
  'length',
  'position',
  'encoding',
  'flag',
  'mode',
  'flush',
  'signal',
  'direct',
  'engine',
];

/** The options of a transfer as they are now: Node looks at them more than once. */
function frozen(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || isView(value) || isArray(value)) return value;
  const kept: Record<string, unknown> = {};
  for (const name of OPTIONS) {
    const option = (value as Record<string, unknown>)[name];
    if (option !== undefined) kept[name] = safeForNode(option);
  }
  return kept;
}

/** Node's functions take their callback last, wherever that is. */
function callbackOf(args: readonly unknown[]): Callback | undefined {
  const last = args.at(-1);
  return typeof last === 'function' ? (last as Callback) : undefined;
}

/** Out of the promise: what a callback throws is the program's uncaught exception. */
function answer(callback: Callback, promise: Promise<readonly unknown[]>, failed: readonly unknown[] = []): void {
  promise.then(
    (results) => nextTick(callback, null, ...results),
    (error) => nextTick(callback, error, ...failed),
  );
}

/** A call on an open file. */
interface Step {
  readonly go: (file: OpenFile) => Promise<readonly unknown[]>;
  /** What comes behind an error. */
  readonly failed: readonly unknown[];
}

function run(entry: Entry, callback: Callback, { go, failed }: Step): void {
  entry.busy++;
  const promise = go(entry.file).finally(() => {
    entry.busy--;
    if (entry.busy === 0) entry.idle?.();
  });
  answer(callback, promise, failed);
}

/** Called what Node's function is called, for stack traces, and of as many parameters, for whoever counts them. */
function like<T extends (...args: never[]) => unknown>(original: (...args: never[]) => unknown, call: T): T {
  const { name, length } = original;
  return Object.defineProperties(call, { name: { value: name }, length: { value: length } });
}

/** Descriptors of Node's, and mistakes in the arguments that it has words for, go to `original`. */
function overridden(
  original: (...args: never[]) => unknown,
  step: (args: readonly unknown[]) => Step,
): (fd: number, ...args: unknown[]) => void {
  return like(original, (fd: number, ...args: unknown[]) => {
    const entry = entries.get(fd);
    const callback = callbackOf(args);
    if (entry === undefined || callback === undefined) {
      if (args.some(isFunction)) checkNumber(fd);
      (original as (...all: unknown[]) => void)(
        fd,
        ...args.map((arg, index) => safeForNode(index === 0 && original === node.write ? arg : frozen(arg))),
      );
      return;
    }
    if (entry.idle !== undefined) {
      nextTick(callback, nodeError(-EBADF, original.name));
      return;
    }
    run(entry, callback, step(args.slice(0, -1)));
  });
}

/** As Node's functions are made: promisified, they give an object with these names. */
function named<T>(call: (...args: never[]) => void, ...names: readonly string[]): T {
  const promised = (...args: unknown[]): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const callback: Callback = (error, ...results) => {
        if (error) reject(error);
        else resolve(Object.fromEntries(names.map((name, index) => [name, results[index]])));
      };
      (call as (...all: unknown[]) => void)(...args, callback);
    });
  return Object.assign(call, { [promisify.custom]: promised }) as unknown as T;
}

/**
 * Opens a file as `fs.open` does. In place of flags it takes `{ flags, mode, direct, engine }`, as {@link promises.open} does.
 *
 * The descriptor is known here from then on: functions of this module send its transfers through an engine. Close it with {@link close} or
 * {@link closeSync} of this module, not with Node's.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, AioError `ERR_AIO_NOT_SUPPORTED` (no O_DIRECT on this platform);
 * through the callback `ENOENT`, `EACCES`, `EEXIST`, `EMFILE`, …, and `EINVAL` where the file system refuses O_DIRECT.
 * @see open(2)
 *
 * @example
 * ```ts
 * import * as fs from 'fileaio/fs';
 *
 * fs.open('data.bin', 'r', (error, fd) => {
 *   if (error) throw error;
 *   fs.close(fd);
 * });
 * ```
 */
export const open = like(node.open, (path: node.PathLike, ...args: unknown[]): void => {
  const callback = callbackOf(args);
  if (callback === undefined) {
    (node.open as (...all: unknown[]) => void)(path, ...args.map(plainMode));
    return;
  }
  const [flags, mode] = args.slice(0, -1);
  const { given, wanted, options } = openFlags(flags as node.OpenMode | OpenOptions, mode as node.Mode);
  // Node would take it for the callback.
  if (typeof options.mode === 'function') {
    throw invalidArgValue('mode', 'must be a 32-bit unsigned integer or an octal string', options.mode);
  }
  node.open(path, wanted, options.mode, (error, fd) => {
    if (error !== null) {
      callback(error);
      return;
    }
    try {
      register(fd, given, options);
    } catch (refusal) {
      node.close(fd, () => callback(refusal));
      return;
    }
    callback(null, fd);
  });
}) as typeof node.open;

/**
 * Opens a file as `fs.openSync` does, with the options of {@link open}. Blocks this thread while the kernel looks for the file.
 *
 * @throws as {@link open}, all at once.
 * @see open(2)
 *
 * @example
 * ```ts
 * import { promisify } from 'node:util';
 * import * as fs from 'fileaio/fs';
 *
 * const fd = fs.openSync('data.bin', { flags: 'r', direct: true, engine: 'auto' });
 * const { bytesRead } = await promisify(fs.read)(fd, Buffer.alloc(100), 0, 100, 1); // any shape: a bounce buffer sees to it
 * console.log(bytesRead); // => 100
 * fs.closeSync(fd);
 * ```
 */
export function openSync(path: node.PathLike, flags?: node.OpenMode | OpenOptions, mode?: node.Mode | null): number {
  const { given, wanted, options } = openFlags(flags, mode);
  const fd = node.openSync(path, wanted, options.mode);
  try {
    register(fd, given, options);
  } catch (error) {
    node.closeSync(fd);
    throw error;
  }
  return fd;
}

function register(fd: number, flags: number, { engine = 'auto' }: OpenOptions): void {
  const has = (flag: number | undefined): boolean => flag !== undefined && (flags & flag) !== 0;
  const { O_APPEND, O_DIRECT } = node.constants;
  const file = new OpenFile(fd, { direct: has(O_DIRECT), append: has(O_APPEND), engine });
  entries.set(fd, { file, busy: 0, idle: undefined });
}

/**
 * Closes a descriptor when the calls that use it have ended. Until then it takes no further ones (`EBADF`). What was written is not flushed.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; through the callback `EBADF`, `EIO`.
 * @see close(2)
 *
 * @example
 * ```ts
 * import * as fs from 'fileaio/fs';
 *
 * const fd = fs.openSync('data.bin');
 * fs.read(fd, Buffer.alloc(100), 0, 100, 0, (_error, bytesRead) => console.log(bytesRead));
 * await new Promise((resolve) => fs.close(fd, resolve)); // after the read
 * // => 100
 * ```
 */
export function close(fd: number, callback?: node.NoParamCallback): void {
  if (callback === undefined || typeof callback === 'function') checkNumber(fd);
  const entry = entries.get(fd);
  const closeNow = (): void => {
    entries.delete(fd);
    if (callback === undefined) node.close(fd);
    else node.close(fd, callback);
  };
  if (entry?.idle !== undefined) {
    const again = nodeError(-EBADF, 'close');
    if (callback === undefined) throw again;
    nextTick(callback, again);
  } else if (entry === undefined || entry.busy === 0) {
    closeNow();
  } else {
    entry.idle = closeNow;
  }
}

/**
 * Closes a descriptor.
 *
 * @throws `EBUSY` while calls use it (the number could mean another file before they get to the kernel), `EBADF`; TypeError
 * `ERR_INVALID_ARG_TYPE`.
 * @see close(2)
 *
 * @example
 * ```ts
 * import * as fs from 'fileaio/fs';
 *
 * const fd = fs.openSync('data.bin');
 * const reading = new Promise((resolve) => fs.read(fd, Buffer.alloc(100), 0, 100, 0, resolve));
 * try {
 *   fs.closeSync(fd);
 * } catch (error) {
 *   console.log((error as NodeJS.ErrnoException).code); // => EBUSY
 * }
 * await reading;
 * fs.closeSync(fd);
 * ```
 */
export function closeSync(fd: number): void {
  checkNumber(fd);
  if ((entries.get(fd)?.busy ?? 0) > 0) throw nodeError(-EBUSY, 'close');
  entries.delete(fd);
  node.closeSync(fd);
}

/** What `fs.read` takes before its callback differs a little from what a FileHandle takes: no length is 0, and options are an object. */
function callbackRead(args: readonly unknown[]): readonly unknown[] {
  const [first, second, length, ...rest] = args;
  // The fourth of five is the position, and then the callback is missing.
  if (args.length === 3) throw invalidArgType('cb', 'of type function', undefined);
  if (args.length > 3) {
    checkView(first);
    return [first, second, length ?? 0, ...rest];
  }
  const options = frozen(args.length === 2 ? second : first) as Record<string, unknown> | null | undefined;
  if (args.length === 2 && (typeof options !== 'object' || isArray(options) || isView(options))) {
    throw invalidArgType('options', 'of type object', options);
  }
  if (args.length === 2) checkView(first);
  if (typeof options === 'object' && options?.length === null) options.length = 0;
  return args.length === 2 ? [first, options] : [options];
}

/**
 * Reads up to `length` bytes at `position` (`null`, -1: the current one, which moves) into `buffer`, as `fs.read` does; a trailing `{
 * signal }` before the callback aborts it. The buffer is the kernel's until the callback. What is read into memory that could be
 * transferred away meanwhile passes through a copy. The calls of one tick are one system call.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, RangeError `ERR_OUT_OF_RANGE`; through the callback `EBADF`, `EIO`,
 * `EISDIR`, AbortError.
 * @see pread(2)
 *
 * @example
 * ```ts
 * import * as fs from 'fileaio/fs';
 *
 * const fd = fs.openSync('data.bin');
 * await new Promise((resolve) => fs.read(fd, Buffer.alloc(4096), 0, 4096, 0, (error, bytesRead) => resolve(console.log(error, bytesRead))));
 * // => null 4096
 * fs.closeSync(fd);
 * ```
 */
export const read = named<typeof node.read>(
  overridden(node.read, (args) => {
    const [first, second, third, position, last] = callbackRead(args);
    const { buffer, offset, length, position: at, signal } = readArguments(first, second, third, position, last);
    const view = bytesOf(buffer).subarray(offset, offset + length);
    return {
      go: async (file) => [length === 0 ? 0 : await file.read(view, at, signal), buffer],
      failed: [0, buffer],
    };
  }),
  'bytesRead',
  'buffer',
);

/**
 * Writes `length` bytes of `buffer`, or a string, at `position` (`null`: the current one, which moves), as `fs.write` does; a trailing `{
 * signal }` aborts it. The buffer must not change until the callback. Nothing is on the device before {@link fsync} or {@link fdatasync}.
 * The calls of one tick are one system call.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, RangeError `ERR_OUT_OF_RANGE`; through the callback `EBADF`, `EIO`,
 * `ENOSPC`, `EDQUOT`, `EFBIG`, AioError `ERR_AIO_MISALIGNED` on a direct file, AbortError.
 * @see pwrite(2)
 *
 * @example
 * ```ts
 * import { promisify } from 'node:util';
 * import * as fs from 'fileaio/fs';
 *
 * const fd = fs.openSync('new.txt', 'w');
 * const { bytesWritten } = await promisify(fs.write)(fd, Buffer.from('hello'), 0, 5, 0);
 * console.log(bytesWritten); // => 5
 * fs.closeSync(fd);
 * ```
 */
export const write = named<typeof node.write>(
  overridden(node.write, ([data, second, third, position, last]) => {
    if (!isView(data)) {
      const bytes = encode(data, third, 'buffer');
      return { go: async (file) => [await file.write(bytes, laxPosition(second)), data], failed: [0, data] };
    }
    const { buffer, offset, length, position: at, signal } = writeArguments(data, second, third, position, last);
    const view = bytesOf(buffer).subarray(offset, offset + length);
    // Nothing is written, too: the kernel knows whether it could be.
    return { go: async (file) => [await file.write(view, at, signal), data], failed: [0, data] };
  }),
  'bytesWritten',
  'buffer',
);

/**
 * Reads into several buffers, one after the other, as `fs.readv` does. One request, however many they are. The buffers are the kernel's
 * until the callback.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, RangeError `ERR_OUT_OF_RANGE`; through the callback as {@link read},
 * and `EINVAL` for no buffers.
 * @see preadv(2)
 *
 * @example
 * ```ts
 * import { promisify } from 'node:util';
 * import * as fs from 'fileaio/fs';
 *
 * const fd = fs.openSync('data.bin');
 * const { bytesRead } = await promisify(fs.readv)(fd, [Buffer.alloc(16), Buffer.alloc(100)], 0);
 * console.log(bytesRead); // => 116
 * fs.closeSync(fd);
 * ```
 */
export const readv = named<typeof node.readv>(
  overridden(node.readv, ([buffers, second, last]) => {
    const views = checkViews(buffers);
    const { position, signal } = vectorOptions(second, last);
    return {
      async go(file) {
        if (views.length === 0) throw nodeError(-EINVAL, 'read');
        return [await file.readv(views, position, signal), buffers];
      },
      failed: [0, buffers],
    };
  }),
  'bytesRead',
  'buffers',
);

/**
 * Writes several buffers, one after the other, as `fs.writev` does. One request, however many they are. They must not change until the
 * callback.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, RangeError `ERR_OUT_OF_RANGE`; through the callback as {@link write}.
 * @see pwritev(2)
 *
 * @example
 * ```ts
 * import { promisify } from 'node:util';
 * import * as fs from 'fileaio/fs';
 *
 * const fd = fs.openSync('new.txt', 'w');
 * const { bytesWritten } = await promisify(fs.writev)(fd, [Buffer.from('a header, '), Buffer.from('a body')], 0);
 * console.log(bytesWritten); // => 16
 * fs.closeSync(fd);
 * ```
 */
export const writev = named<typeof node.writev>(
  overridden(node.writev, ([buffers, second, last]) => {
    const views = checkViews(buffers);
    const { position, signal } = vectorOptions(second, last);
    return {
      go: async (file) => [views.length === 0 ? 0 : await file.writev(views, position, signal), buffers],
      failed: [0, buffers],
    };
  }),
  'bytesWritten',
  'buffers',
);

function flusher(original: typeof node.fsync, dataOnly: boolean): typeof node.fsync {
  return overridden(original, () => ({
    async go(file) {
      await file.flush(dataOnly);
      return [];
    },
    failed: [],
  })) as typeof node.fsync;
}

/**
 * Flushes data and metadata of the writes that were called back before, as `fs.fsync` does. Takes as long as the device does: milliseconds.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; through the callback `EBADF`, `EIO`, `ENOSPC`, `EDQUOT` (what it was to cover may be lost),
 * `EINVAL` for what cannot be flushed.
 * @see fsync(2)
 *
 * @example
 * ```ts
 * import { promisify } from 'node:util';
 * import * as fs from 'fileaio/fs';
 *
 * const fd = fs.openSync('new.txt', 'w');
 * await promisify(fs.write)(fd, Buffer.from('hello'));
 * await promisify(fs.fsync)(fd); // data and all metadata
 * fs.closeSync(fd);
 * ```
 */
export const fsync = flusher(node.fsync, false);
/**
 * Flushes data, and of the metadata what is needed to read it back, as `fs.fdatasync` does.
 *
 * @throws as {@link fsync}.
 * @see fdatasync(2)
 *
 * @example
 * ```ts
 * import { promisify } from 'node:util';
 * import * as fs from 'fileaio/fs';
 *
 * const fd = fs.openSync('log', 'a');
 * await promisify(fs.write)(fd, Buffer.from('a record'));
 * await promisify(fs.fdatasync)(fd); // data, and the size that it takes to read it back
 * fs.closeSync(fd);
 * ```
 */
export const fdatasync = flusher(node.fdatasync, true);

/**
 * Reads a whole file, several transfers deep, as `fs.readFile` does; a descriptor in place of a path is read by Node. The Buffer is the
 * caller's.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; through the callback what {@link promises.readFile} rejects with.
 *
 * @example
 * ```ts
 * import { promisify } from 'node:util';
 * import * as fs from 'fileaio/fs';
 *
 * console.log((await promisify(fs.readFile)('data.bin')).length); // => 1048576
 * ```
 */
export const readFile = like(node.readFile, (path: node.PathOrFileDescriptor, ...args: unknown[]): void => {
  const callback = callbackOf(args);
  if (callback === undefined || typeof path === 'number') {
    if (typeof path === 'number') checkNumber(path);
    (node.readFile as (...all: unknown[]) => void)(path, ...args.map(frozen));
    return;
  }
  const options = frozen(args.slice(0, -1)[0]);
  checkFlags('options.flag', wholeFileOptions(options, {}).flag);
  pathOf(path);
  answer(
    callback,
    promises.readFile(path, options as BufferEncoding).then((data) => [data]),
  );
}) as typeof node.readFile;

/** What promises would be rejected with, Node's functions with callbacks throw at once. */
function checkFlags(name: string, flags: unknown): void {
  if (typeof flags === 'number' && !Number.isInteger(flags)) throw outOfRange(name, 'an integer', flags);
  if (numericFlags(flags as node.OpenMode) === undefined) throw invalidArgValue('flags', 'is invalid', flags);
}

function checkCopyMode(mode: unknown): void {
  if (mode === undefined || mode === null) return;
  if (typeof mode !== 'number') throw invalidArgType('mode', 'of type number', mode);
  if (!Number.isInteger(mode)) throw outOfRange('mode', 'an integer', mode);
  if (mode < 0 || mode > 7) throw outOfRange('mode', '>= 0 && <= 7', mode);
}

function writer(
  original: (...args: never[]) => void,
  instead: typeof promises.writeFile,
): (path: node.PathOrFileDescriptor, data: unknown, ...args: unknown[]) => void {
  return like(original, (path: node.PathOrFileDescriptor, data: unknown, ...args: unknown[]) => {
    const callback = callbackOf(args);
    if (callback === undefined || typeof path === 'number') {
      if (typeof path === 'number') checkNumber(path);
      (original as (...all: unknown[]) => void)(path, safeForNode(data), ...args.map(frozen));
      return;
    }
    const options = frozen(args.slice(0, -1)[0]);
    const { flush, flag } = wholeFileOptions(options, {});
    if (flush !== undefined && flush !== null && typeof flush !== 'boolean') {
      throw invalidArgType('options.flush', 'of type boolean', flush);
    }
    if (!isView(data) && typeof data !== 'string') {
      throw invalidArgType('data', 'of type string or an instance of Buffer, TypedArray, or DataView', data);
    }
    pathOf(path);
    checkFlags('flags', flag);
    const writing = instead(path, data as promises.WriteFileData, options as BufferEncoding);
    answer(
      callback,
      writing.then(() => []),
    );
  });
}

/**
 * Writes a whole file as `fs.writeFile` does; a descriptor in place of a path is written by Node. `data` must not change until the callback.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; through the callback what {@link promises.writeFile} rejects with.
 *
 * @example
 * ```ts
 * import * as fs from 'fileaio/fs';
 *
 * await new Promise((resolve) => fs.writeFile('new.txt', 'hello', { flush: true }, resolve));
 * console.log(fs.readFileSync('new.txt', 'utf8')); // => hello
 * ```
 */
export const writeFile = writer(node.writeFile, promises.writeFile) as typeof node.writeFile;
/**
 * Writes at the end of a file as `fs.appendFile` does; a descriptor in place of a path is written by Node. `data` must not change until the
 * callback.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; through the callback what {@link promises.appendFile} rejects with.
 *
 * @example
 * ```ts
 * import * as fs from 'fileaio/fs';
 *
 * await new Promise((resolve) => fs.appendFile('log', 'a line\n', resolve));
 * console.log(fs.statSync('log').size); // => 7
 * ```
 */
export const appendFile = writer(node.appendFile, promises.appendFile) as typeof node.appendFile;

/**
 * Copies a file as `fs.copyFile` does, several transfers deep.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`; through the callback what {@link promises.copyFile} rejects with.
 *
 * @example
 * ```ts
 * import * as fs from 'fileaio/fs';
 *
 * await new Promise((resolve) => fs.copyFile('data.bin', 'copy.bin', resolve));
 * console.log(fs.statSync('copy.bin').size); // => 1048576
 * ```
 */
export const copyFile = like(node.copyFile, (src: node.PathLike, dest: node.PathLike, ...args: unknown[]): void => {
  const callback = callbackOf(args);
  if (callback === undefined) {
    (node.copyFile as (...all: unknown[]) => void)(src, dest, ...args);
    return;
  }
  const [mode] = args.slice(0, -1);
  pathOf(src, 'src');
  pathOf(dest, 'dest');
  checkCopyMode(mode);
  answer(
    callback,
    promises.copyFile(src, dest, mode as number | undefined).then(() => []),
  );
}) as typeof node.copyFile;

// Streams over a number close it here, where it is known.
closeDescriptorsWith(close);

/** Options of Node's streams that ours do not have: other functions to read and write with. */
function hasOwnFunctions(options: unknown): boolean {
  return typeof options === 'object' && options !== null && 'fs' in options && options.fs !== undefined;
}

/**
 * A stream that reads ahead, several transfers deep; with the option `fs`, Node's. See {@link ReadStream} for memory and errors.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, RangeError `ERR_OUT_OF_RANGE`.
 *
 * @example
 * ```ts
 * import * as fs from 'fileaio/fs';
 *
 * let bytes = 0;
 * for await (const chunk of fs.createReadStream('data.bin', { end: 99_999 })) bytes += (chunk as Buffer).length;
 * console.log(bytes); // => 100000
 * ```
 */
export function createReadStream(
  path: node.PathLike,
  options?: ReadStreamOptions | BufferEncoding,
): ReadStream | node.ReadStream {
  if (hasOwnFunctions(options)) return node.createReadStream(path, options as BufferEncoding);
  return new ReadStream(path, options);
}

/**
 * A stream that writes behind, several transfers deep; with the option `fs`, Node's. See {@link WriteStream} for memory and errors.
 *
 * @throws TypeError `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, RangeError `ERR_OUT_OF_RANGE`.
 *
 * @example
 * ```ts
 * import { pipeline } from 'node:stream/promises';
 * import { createGzip } from 'node:zlib';
 * import * as fs from 'fileaio/fs';
 *
 * await pipeline(fs.createReadStream('data.bin'), createGzip({ level: 1 }), fs.createWriteStream('data.gz', { flush: true }));
 * console.log(fs.statSync('data.gz').size > 0); // => true
 * ```
 */
export function createWriteStream(
  path: node.PathLike,
  options?: WriteStreamOptions | BufferEncoding,
): WriteStream | node.WriteStream {
  if (hasOwnFunctions(options)) return node.createWriteStream(path, options as BufferEncoding);
  return new WriteStream(path, options);
}

export { promises, ReadStream, WriteStream };

/** All of Node's, as it is there: some members are getters, and not all are enumerable. */
function besides<T extends object, U extends object>(theirs: T, ours: U): Omit<T, keyof U> & U {
  const all = Object.defineProperties({}, Object.getOwnPropertyDescriptors(theirs));
  return Object.defineProperties(all, Object.getOwnPropertyDescriptors(ours)) as Omit<T, keyof U> & U;
}

/**
 * The same functions as one object, for `import fs from 'fileaio/fs'` and for libraries that take an `fs` option. In it `ReadStream` and
 * `WriteStream` can be called without `new`, as Node's can.
 *
 * @hidden each is documented under its own name
 */
export default besides(nodeDefault, {
  open,
  openSync,
  close,
  closeSync,
  read,
  write,
  readv,
  writev,
  fsync,
  fdatasync,
  readFile,
  writeFile,
  appendFile,
  copyFile,
  createReadStream,
  createWriteStream,
  ReadStream: callable(ReadStream),
  WriteStream: callable(WriteStream),
  promises: promises.default,
});
