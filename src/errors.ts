/**
 * Errors: what was being done, what went wrong, what to do. Codes are those of the kernel (`EBADF`), of Node for
 * mistakes in arguments (`ERR_INVALID_ARG_TYPE`), and `ERR_AIO_*` for what only this library has.
 */
import { getSystemErrorMap, inspect } from 'node:util';

/** What an {@link AioError} has besides its code and message. */
export interface AioErrorDetails {
  /** The kernel's error number, negative as in `node:fs`. */
  readonly errno?: number;
  /** The system call that failed, as `node:fs` names it. */
  readonly syscall?: string;
  /** The file, where it is known by a path. */
  readonly path?: string;
  /** Of the array given to `submit`: how many requests were submitted before it failed. */
  readonly submitted?: number;
}

/**
 * Every error that is not a mistake in an argument (those are Node's own `TypeError` and `RangeError`).
 *
 * `code` is either one of the `ERR_AIO_*` codes or the kernel's name of the error (`EIO`, `ENOSPC`, …), in which case
 * `errno` is its negative number and `syscall` the call that failed.
 *
 * @example
 * ```ts
 * import { openSync } from 'node:fs';
 * import { AioContext, AioError, AioRequest, allocBuffer } from 'fileaio';
 *
 * await using context = new AioContext({ maxRequests: 8 });
 * const fd = openSync('data.bin', 'r');
 * let rest = Array.from({ length: 20 }, (_, i) => new AioRequest().prepareRead(fd, i * 512, allocBuffer(512)));
 * while (rest.length > 0) {
 *   try {
 *     context.submit(rest);
 *     rest = [];
 *   } catch (error) {
 *     if (!(error instanceof AioError) || error.code !== 'ERR_AIO_INSUFFICIENT_RESOURCES') throw error;
 *     rest = rest.slice(error.submitted); // these are still prepared: submit them after the next wait
 *   }
 *   await context.wait();
 * }
 * console.log(context.stats.submitted); // => 20
 * ```
 */
export class AioError extends Error {
  /** What went wrong, for programs. */
  readonly code: string;
  /** The kernel's error number, negative as in `node:fs`; absent from `ERR_AIO_*` errors that no system call gave. */
  declare readonly errno?: number;
  /** The system call that failed, as `node:fs` names it. */
  declare readonly syscall?: string;
  /** The file, where it is known by a path. */
  declare readonly path?: string;
  /** Of the array given to `submit`: how many requests were submitted before it failed. The rest are still prepared. */
  declare readonly submitted?: number;

  /** Errors are made by this library; the constructor is public so that tests can make them too. */
  constructor(code: string, message: string, details: AioErrorDetails = {}) {
    super(checkString('message', message));
    this.code = checkString('code', code);
    Object.assign(this, details);
  }

  static {
    Object.defineProperty(AioError.prototype, 'name', { value: 'AioError', writable: true, configurable: true });
  }
}

const systemErrors = getSystemErrorMap();
const systemNumbers = new Map(Array.from(systemErrors, ([errno, [code]]) => [code, -errno]));

/** The number of an error as libuv has it here: the kernel's own, except on Windows. `onLinux` is the same on all its architectures. */
export function errnoOf(code: string, onLinux: number): number {
  return systemNumbers.get(code) ?? onLinux;
}

/** What is acted upon here. */
export const EINTR = errnoOf('EINTR', 4);
export const EAGAIN = errnoOf('EAGAIN', 11);
export const ENOMEM = errnoOf('ENOMEM', 12);
export const EINVAL = errnoOf('EINVAL', 22);
export const EFBIG = errnoOf('EFBIG', 27);
export const ECANCELED = errnoOf('ECANCELED', 125);
/** From the shim only, thus always Linux's; libuv calls the number ENOTSUP. */
export const EOPNOTSUPP = 95;

/** `-9` → `'EBADF'`. */
export function codeOf(errno: number): string {
  return systemErrors.get(errno)?.[0] ?? `ERRNO_${-errno}`;
}

/** `-9` → `'EBADF: bad file descriptor'`. */
export function textOf(errno: number): string {
  const [code, text] = systemErrors.get(errno) ?? [codeOf(errno), 'an error that Node has no name for'];
  return `${code}: ${text}`;
}

/** A failed system call that belongs to no request. `doing` says what it was for; `cure` what to do. */
export function systemError(errno: number, syscall: string, doing: string, cure = '', path?: string): AioError {
  return new AioError(codeOf(errno), `${textOf(errno)}, ${syscall}: ${doing}${cure && `. ${cure}`}`, {
    errno,
    syscall,
    ...(path === undefined ? {} : { path }),
  });
}

/** For errors with a code of Node's kind: their text has it, as Node's do. */
const CODED = new Map(
  [Error.prototype, TypeError.prototype, RangeError.prototype].map((base) => [
    base,
    Object.create(base, {
      toString: {
        value(this: Error & { code: unknown }): string {
          return `${this.name} [${this.code}]: ${this.message}`;
        },
        writable: true,
        configurable: true,
      },
    }),
  ]),
);

function withCode<E extends Error>(error: E, code: string): E {
  // The text at the head of the stack is made when that is looked at for the first time, of the name that the error has then.
  Object.defineProperty(error, 'name', { value: `${error.name} [${code}]`, configurable: true });
  Error.captureStackTrace(error, withCode);
  Reflect.get(error, 'stack');
  Reflect.deleteProperty(error, 'name');
  const coded = CODED.get(Object.getPrototypeOf(error));
  if (coded !== undefined) Object.setPrototypeOf(error, coded);
  return Object.assign(error, { code });
}

/** In words. Values of other people's may throw when they are looked at, which must not hide what is wrong with them. */
function inWords(words: () => string): string {
  try {
    return words();
  } catch {
    return 'something that cannot be shown';
  }
}

/** `value` may be no name at all. */
function nameOf(value: unknown): string {
  return typeof value === 'symbol' ? value.toString() : `${value}`;
}

function received(value: unknown): string {
  return inWords(() => receivedWords(value));
}

/** What Node says that it received, word for word. */
function receivedWords(value: unknown): string {
  switch (typeof value) {
    case 'function':
      return `function ${nameOf(value.name)}`;
    case 'object': {
      if (value === null) return 'null';
      const made: unknown = value.constructor;
      return typeof made === 'function' && made.name !== ''
        ? `an instance of ${nameOf(made.name)}`
        : inspect(value, { depth: -1 });
    }
    case 'string': {
      const shown = value.length > 28 ? `${value.slice(0, 25)}...` : value;
      return `type string (${shown.includes("'") ? JSON.stringify(shown) : `'${shown}'`})`;
    }
    case 'undefined':
      return 'undefined';
    default:
      return `type ${typeof value} (${inspect(value)})`;
  }
}

/** As in "The value of "x" is out of range. … Received 5_000_000_000". */
function shownNumber(value: unknown): string {
  const large =
    typeof value === 'bigint'
      ? value > 2n ** 32n || value < -(2n ** 32n)
      : Number.isInteger(value) && Math.abs(Number(value)) > 2 ** 32;
  const plain = typeof value === 'bigint' ? `${value}n` : Object.is(value, -0) ? '-0' : inWords(() => inspect(value));
  return large ? plain.replace(/\B(?=(\d{3})+(?!\d))/g, '_') : plain;
}

/** `property` for a name with a dot. */
function kind(name: string): string {
  return name.includes('.') ? 'property' : 'argument';
}

/** `expected` reads on from "must be", as in "of type number". */
export function invalidArgType(name: string, expected: string, value: unknown): TypeError {
  return withCode(
    new TypeError(`The "${name}" ${kind(name)} must be ${expected}. Received ${received(value)}`),
    'ERR_INVALID_ARG_TYPE',
  );
}

export function invalidArgValue(name: string, reason: string, ...value: [unknown?]): TypeError {
  let shown = '';
  if (value.length > 0) {
    const text = inWords(() => inspect(value[0]));
    shown = `. Received ${text.length > 128 ? `${text.slice(0, 128)}...` : text}`;
  }
  return withCode(new TypeError(`The ${kind(name)} '${name}' ${reason}${shown}`), 'ERR_INVALID_ARG_VALUE');
}

export function outOfRange(name: string, range: string, value: unknown): RangeError {
  return withCode(
    new RangeError(`The value of "${name}" is out of range. It must be ${range}. Received ${shownNumber(value)}`),
    'ERR_OUT_OF_RANGE',
  );
}

function checkString(name: string, value: unknown): string {
  if (typeof value !== 'string') throw invalidArgType(name, 'of type string', value);
  return value;
}

/** `Array.isArray`, which throws for a proxy that was revoked. */
export function isArray(value: unknown): value is readonly unknown[] {
  try {
    return Array.isArray(value);
  } catch {
    return false;
  }
}

/** Throws unless `value` is an integer from `min` to `max`. */
export function checkInteger(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number') throw invalidArgType(name, 'of type number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value);
  return value;
}

/** The descriptors of a process are small integers; the kernel answers EBADF for those that are not open. */
export function checkFd(fd: unknown): number {
  return checkInteger('fd', fd, 0, 0x7fffffff);
}

/** A failed system call as `node:fs` reports it: `ENOENT: no such file or directory, open 'path'`. */
export function nodeError(errno: number, syscall: string, path?: string, dest?: string): NodeJS.ErrnoException {
  const onWhat = path === undefined ? '' : ` '${path}'`;
  const toWhat = dest === undefined ? '' : ` -> '${dest}'`;
  const error = new Error(`${textOf(errno)}, ${syscall}${onWhat}${toWhat}`);
  return Object.assign(
    error,
    { errno, code: codeOf(errno), syscall },
    path === undefined ? {} : { path },
    dest === undefined ? {} : { dest },
  );
}

/** What Node's own promises reject with when their signal aborts. */
export function abortError(signal: AbortSignal): Error {
  let cause: unknown;
  try {
    cause = signal.reason;
  } catch (error) {
    cause = error; // of whoever overrides it: nobody awaits that, and the call has to end
  }
  return new AbortError('The operation was aborted', { cause });
}

/** Node has such a class, and does not export it: what people print of an error, and loggers group by, is what it is called. */
class AbortError extends Error {
  readonly code = 'ABORT_ERR';
  override name = 'AbortError';
}
