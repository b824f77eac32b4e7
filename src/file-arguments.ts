/**
 * The arguments of a FileHandle's methods, taken as Node 24 takes them: overloads, defaults, what is refused with which words and in
 * which order, and what is not.
 */
import { constants, type OpenMode } from 'node:fs';
import { sizeOf } from './buffer.ts';
import { checkInteger, invalidArgType, invalidArgValue, isArray, outOfRange } from './errors.ts';
import type { Position } from './open-file.ts';

/** A transfer of `length` bytes at `offset` of `buffer`. */
export interface Arguments {
  readonly buffer: ArrayBufferView;
  readonly offset: number;
  readonly length: number;
  readonly position: Position;
  readonly signal: AbortSignal | undefined;
}

const NO_OPTIONS: Readonly<Record<string, unknown>> = {};

/** The default of `read()`. */
const READ_BYTES = 16384;

const VIEW = 'an instance of Buffer, TypedArray, or DataView';

export function isView(value: unknown): value is ArrayBufferView {
  return ArrayBuffer.isView(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

export function checkSignal(signal: unknown, name = 'options.signal'): AbortSignal | undefined {
  if (signal === undefined) return undefined;
  if (!isObject(signal) || !('aborted' in signal)) throw invalidArgType(name, 'an instance of AbortSignal', signal);
  return signal as unknown as AbortSignal;
}

/** Of a trailing `{ signal }`, which Node's own methods do not have. */
export function signalOf(options: unknown): AbortSignal | undefined {
  return isObject(options) ? checkSignal(options.signal ?? undefined) : undefined;
}

function checkSafeInteger(name: string, value: unknown, min: number): number {
  if (typeof value !== 'number') throw invalidArgType(name, 'of type number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < min || value > Number.MAX_SAFE_INTEGER) {
    throw outOfRange(name, `>= ${min} && <= ${Number.MAX_SAFE_INTEGER}`, value);
  }
  return value;
}

/** -1 is the current position, too. */
function readPosition(position: unknown, length: number): Position {
  if (position === null || position === undefined) return null;
  if (typeof position === 'number') return checkSafeInteger('position', position, -1) < 0 ? null : position;
  if (typeof position !== 'bigint') throw invalidArgType('position', 'of type bigint or integer', position);
  const most = 2n ** 63n - 1n - BigInt(Number.isInteger(length) ? length : length | 0);
  if (position < -1n || position > most) throw outOfRange('position', `>= -1 && <= ${most}`, position);
  return position < 0n ? null : position;
}

/** A length as Node has it, which makes a number of everything that can be made one. */
function coercedLength(value: unknown): number {
  if (typeof value === 'number') return value;
  // "a,b" is no number. Without asking for it: the text of an array of holes can be larger than all memory.
  if (isArray(value) && value.length > 1) return 0;
  try {
    return (value as number) | 0;
  } catch (error) {
    // What JavaScript says of symbols, bigints and objects without a value.
    if (error instanceof TypeError && !('code' in error)) throw invalidArgType('length', 'of type number', value);
    throw error;
  }
}

/** Node 20 aborts the process where it takes -0 for an integer (flags, modes, owners) and then hands it to its own native code. */
export function withoutMinusZero<T>(value: T): T {
  return value === 0 ? (0 as T) : value;
}

/** And where a mode has the highest of 32 bits, which means nothing. */
export function plainMode<T>(mode: T): T {
  const number = typeof mode === 'string' && /^[0-7]+$/.test(mode) ? Number.parseInt(mode, 8) : mode;
  if (typeof number === 'number' && number >= 2 ** 31 && number < 2 ** 32) return (number - 2 ** 31) as T;
  return withoutMinusZero(mode);
}

/** Whatever is no position is the current one. */
export function laxPosition(position: unknown): Position {
  return typeof position === 'number' && Number.isSafeInteger(position) && position >= 0 ? position : null;
}

/** `buffer`, where it is not an object of options in its place. */
export function checkView(buffer: unknown): asserts buffer is ArrayBufferView {
  if (!isView(buffer)) throw invalidArgType('buffer', VIEW, buffer);
}

/** `read(buffer, offset, length, position)`, `read(buffer, options)`, `read(options)`, each with a trailing `{ signal }`. */
export function readArguments(
  first: unknown,
  second: unknown,
  length: unknown,
  position: unknown,
  last: unknown,
): Arguments {
  let buffer = first;
  let offset = second;
  let signal = signalOf(last);
  if (!isView(buffer)) {
    if (first !== undefined && first !== null && (typeof first !== 'object' || Array.isArray(first))) {
      throw invalidArgType('options', 'of type object', first);
    }
    const options = isObject(first) ? first : NO_OPTIONS;
    ({ buffer = Buffer.alloc(READ_BYTES), offset = 0 } = options);
    length = options.length === undefined ? lengthAfter(buffer, offset) : options.length;
    position = options.position === undefined ? null : options.position;
    signal ??= signalOf(options);
    checkView(buffer);
  }
  if (isObject(offset)) {
    const options = offset;
    offset = options.offset === undefined ? 0 : options.offset;
    length = options.length === undefined ? lengthAfter(buffer, offset) : options.length;
    position = options.position === undefined ? null : options.position;
    signal ??= signalOf(options);
  }
  const start = offset === null || offset === undefined ? 0 : checkSafeInteger('offset', offset, 0);
  const bytes = coercedLength(length ?? sizeOf(buffer) - start);
  const at = readPosition(position, bytes);
  if (bytes !== 0) {
    if (sizeOf(buffer) === 0) throw invalidArgValue('buffer', 'is empty and cannot be written', buffer);
    if (bytes < 0) throw outOfRange('length', '>= 0', bytes);
    if (start + bytes > sizeOf(buffer)) throw outOfRange('length', `<= ${sizeOf(buffer) - start}`, bytes);
  }
  return { buffer, offset: start, length: bytes | 0, position: at, signal };
}

/** The default of `length` where there is an object of options: whatever comes out, it is checked afterwards. */
function lengthAfter(buffer: unknown, offset: unknown): unknown {
  return isView(buffer) && (typeof offset === 'number' || offset === null)
    ? sizeOf(buffer) - Number(offset)
    : undefined;
}

/** `write(buffer, offset, length, position)` and `write(buffer, options)`, each with a trailing `{ signal }`. */
export function writeArguments(
  buffer: ArrayBufferView,
  second: unknown,
  length: unknown,
  position: unknown,
  last: unknown,
): Arguments {
  let offset = second;
  let signal = signalOf(last);
  if (typeof second === 'object') {
    const options = isObject(second) ? second : NO_OPTIONS;
    offset = options.offset === undefined ? 0 : options.offset;
    length = options.length;
    position = options.position;
    signal ??= signalOf(options);
  }
  const start = offset === null || offset === undefined ? 0 : checkSafeInteger('offset', offset, 0);
  const bytes = typeof length === 'number' ? length : sizeOf(buffer) - start;
  if (start > sizeOf(buffer)) throw outOfRange('offset', `<= ${sizeOf(buffer)}`, start);
  if (bytes > sizeOf(buffer) - start) throw outOfRange('length', `<= ${sizeOf(buffer) - start}`, bytes);
  if (bytes < 0) throw outOfRange('length', '>= 0', bytes);
  if (!Number.isInteger(bytes)) throw outOfRange('length', 'an integer', bytes);
  if (bytes > 2 ** 31 - 1) throw outOfRange('length', `>= 0 && <= ${2 ** 31 - 1}`, bytes);
  return { buffer, offset: start, length: bytes, position: laxPosition(position), signal };
}

/** The bytes of a string that is written; an encoding that nobody knows is UTF-8. */
export function encode(text: unknown, encoding: unknown, name: string): Buffer {
  if (typeof text !== 'string') throw invalidArgType(name, `of type string or ${VIEW}`, text);
  const known = typeof encoding === 'string' && Buffer.isEncoding(encoding) ? encoding : 'utf8';
  if (known.toLowerCase() === 'hex' && text.length % 2 !== 0) {
    throw invalidArgValue('encoding', `is invalid for data of length ${text.length}`, encoding);
  }
  return Buffer.from(text, known);
}

/** Of readv and writev. */
export function checkViews(buffers: unknown): readonly ArrayBufferView[] {
  if (!isArray(buffers)) throw invalidArgType('buffers', 'an ArrayBufferView[]', buffers);
  // A copy: what was checked is what is used.
  const views: ArrayBufferView[] = [];
  const count = checkInteger('buffers.length', buffers.length, 0, 2 ** 32 - 1);
  for (let index = 0; index < count; index++) {
    const view = buffers[index];
    if (!isView(view)) throw invalidArgType('buffers', 'an ArrayBufferView[]', buffers);
    views.push(view);
  }
  return views;
}

/** `(position, { signal })`, or `({ position, signal })`. */
export function vectorOptions(second: unknown, last: unknown): { position: Position; signal: AbortSignal | undefined } {
  if (!isObject(second)) return { position: laxPosition(second), signal: signalOf(last) };
  return { position: laxPosition(second.position), signal: signalOf(second) ?? signalOf(last) };
}

/** What readFile, writeFile and appendFile take: an object, or the name of an encoding. */
export interface WholeFileOptions {
  readonly encoding?: unknown;
  readonly flag?: unknown;
  readonly mode?: unknown;
  readonly flush?: unknown;
  readonly signal?: AbortSignal | undefined;
  readonly buffer?: unknown;
  readonly direct?: unknown;
  readonly engine?: unknown;
}

export function wholeFileOptions(options: unknown, defaults: WholeFileOptions): WholeFileOptions {
  if (options === null || options === undefined || typeof options === 'function') return defaults;
  const given: WholeFileOptions = typeof options === 'string' ? { ...defaults, encoding: options } : options;
  if (typeof given !== 'object') throw invalidArgType('options', 'one of type string or object', options);
  const { encoding } = given;
  if (encoding !== 'buffer' && encoding && !(typeof encoding === 'string' && Buffer.isEncoding(encoding))) {
    throw invalidArgValue('encoding', 'is invalid encoding', encoding);
  }
  checkSignal(given.signal);
  return given;
}

const { O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY } = constants;

const BASES: Readonly<Record<string, number>> = {
  r: O_RDONLY,
  rs: O_RDONLY | O_SYNC,
  sr: O_RDONLY | O_SYNC,
  w: O_WRONLY | O_CREAT | O_TRUNC,
  wx: O_WRONLY | O_CREAT | O_TRUNC | O_EXCL,
  xw: O_WRONLY | O_CREAT | O_TRUNC | O_EXCL,
  a: O_WRONLY | O_CREAT | O_APPEND,
  ax: O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  xa: O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  as: O_WRONLY | O_CREAT | O_APPEND | O_SYNC,
  sa: O_WRONLY | O_CREAT | O_APPEND | O_SYNC,
};

/** The number for flags as open(2) has them; `undefined` for what is none, which Node then refuses in its own words. */
export function numericFlags(flags: OpenMode | null | undefined): number | undefined {
  if (flags === null || flags === undefined) return O_RDONLY;
  if (typeof flags === 'number') return Number.isInteger(flags) ? flags : undefined;
  if (typeof flags !== 'string') return undefined;
  const plus = flags.endsWith('+');
  const name = plus ? flags.slice(0, -1) : flags;
  if (!Object.hasOwn(BASES, name)) return undefined;
  const base = BASES[name] ?? 0;
  return plus ? (base & ~O_WRONLY) | O_RDWR : base;
}
