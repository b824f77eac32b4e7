/** What a simulated disk can be told, and the checks of it. */
import { codeOf, errnoOf, invalidArgType, invalidArgValue, outOfRange } from '../errors.ts';
import type { SimulatedRandom } from './random.ts';

/** What requests do to a disk. */
export type SimulatedOperationKind = 'read' | 'write' | 'fsync' | 'fdatasync';

/** One request on its way, as `fail` and functions of latency see it. */
export interface SimulatedOperation {
  /** 1 for the first request that the disk was ever given. */
  readonly number: number;
  /** What it is to do. */
  readonly kind: SimulatedOperationKind;
  /** Of the file as it was opened. */
  readonly path: string;
  /** In bytes; 0 for flushes. */
  readonly position: number;
  /** In bytes; 0 for flushes. */
  readonly length: number;
  /** When it was submitted, in milliseconds of virtual time. */
  readonly atMs: number;
}

/** How long something takes, in milliseconds: always the same, evenly between two bounds, or as a function says. */
export type Latency =
  | number
  | readonly [min: number, max: number]
  | ((random: SimulatedRandom, operation: SimulatedOperation) => number);

/** How often requests fail: with EIO, or by code, as in `{ EIO: 0.01, ENOSPC: 0.02 }`. */
export type ErrorChances = number | Readonly<Record<string, number>>;

/** How long each kind of request takes. */
export interface SimulatedLatencies {
  /** Default: 0.05 … 0.2 ms. */
  readonly read?: Latency;
  /** Default: 0.02 … 0.5 ms. */
  readonly write?: Latency;
  /** Default: 0.5 … 5 ms. */
  readonly flush?: Latency;
}

/** How often each kind of request fails. */
export interface SimulatedErrors {
  /** Default 0. */
  readonly read?: ErrorChances;
  /** Default 0. */
  readonly write?: ErrorChances;
  /** Default 0. */
  readonly flush?: ErrorChances;
}

/** What `createSimulatedDisk` takes. Probabilities are from 0 (never, the default) to 1 (always). */
export interface SimulatedDiskOptions {
  /** Decides everything that is left to chance: 0 … 2^53 − 1. The same seed and the same program give the same run. */
  readonly seed: number;
  /** In bytes, 512 … 4096, a power of two; default 512. What goes to the medium as one; positions and lengths of direct files are multiples of it. */
  readonly sectorSize?: number;
  /** Bytes in all files together. Writes beyond it are short, then `ENOSPC`. Default: no limit but memory. */
  readonly capacity?: number;
  /** In bytes; writes beyond it are short, then `EFBIG`. Default 16 TiB, as ext4 has it. */
  readonly maxFileSize?: number;
  /** Of virtual time, at least a microsecond each. Default: reads 0.05 … 0.2 ms, writes 0.02 … 0.5 ms, flushes 0.5 … 5 ms. */
  readonly latency?: SimulatedLatencies;
  /** Whether requests may overtake those submitted before them; default `true`. */
  readonly reorder?: boolean;
  /** How often a read or write of several bytes (sectors, on a direct file) moves only the first of them. */
  readonly shortTransfers?: number;
  /** How often requests fail; for all kinds, or by kind. A write that fails with EIO may have been written in part; a flush that fails, too. */
  readonly errors?: number | SimulatedErrors;
  /** Asked about each request when it is submitted: the code that it is to fail with, such as `'EIO'`, or `undefined`. */
  readonly fail?: (operation: SimulatedOperation) => string | undefined;
  /** How often the disk has no room for all of a submission: `ERR_AIO_INSUFFICIENT_RESOURCES`, as EAGAIN of io_submit(2). */
  readonly refusals?: number;
  /** How often a cancellation comes too late: `'in-progress'`. */
  readonly lateCancels?: number;
  /** How often a write reports success, and some of its sectors keep what they had. */
  readonly tornWrites?: number;
  /** How often a write reports success, and its data goes to another place: over other data, of this file or another. */
  readonly misdirectedWrites?: number;
  /** How often a sector that is read turns out to have gone bad: `EIO` from then on, until it is written again. */
  readonly latentSectorErrors?: number;
  /** How many events `disk.log` keeps: the latest. Default 1000; `Infinity` for all. */
  readonly logLimit?: number;
}

type Chances = readonly (readonly [errno: number, probability: number])[];

export interface Settings {
  readonly seed: number;
  readonly sectorSize: number;
  readonly capacity: number;
  readonly maxFileSize: number;
  readonly latency: { readonly read: Latency; readonly write: Latency; readonly flush: Latency };
  readonly reorder: boolean;
  readonly shortTransfers: number;
  readonly errors: { readonly read: Chances; readonly write: Chances; readonly flush: Chances };
  readonly fail: ((operation: SimulatedOperation) => string | undefined) | undefined;
  readonly refusals: number;
  readonly lateCancels: number;
  readonly tornWrites: number;
  readonly misdirectedWrites: number;
  readonly latentSectorErrors: number;
  readonly logLimit: number;
}

const EIO = errnoOf('EIO', 5);

/** The negative number of an error that somebody names. */
export function failureCalled(name: string, code: unknown): number {
  if (typeof code !== 'string') throw invalidArgType(name, "the code of an error, such as 'EIO'", code);
  const errno = -errnoOf(code, 0);
  if (errno === 0 || codeOf(errno) !== code) {
    throw invalidArgValue(name, "is no error's code that this system has; try 'EIO' or 'ENOSPC'", code);
  }
  return errno;
}

function number(name: string, value: unknown, min: number, max: number, fallback: number): number {
  if (value === undefined) return fallback;
  if (typeof value !== 'number') throw invalidArgType(name, 'of type number', value);
  if (!(value >= min && value <= max)) throw outOfRange(name, `from ${min} to ${max}`, value);
  return value;
}

function integer(name: string, value: unknown, min: number, max: number, fallback: number): number {
  const checked = number(name, value, min, max, fallback);
  if (checked !== Infinity && !Number.isInteger(checked)) throw outOfRange(name, 'an integer', checked);
  return checked;
}

function object(name: string, value: unknown): Readonly<Record<string, unknown>> {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null) throw invalidArgType(name, 'an object', value);
  return value as Readonly<Record<string, unknown>>;
}

function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') throw invalidArgType(name, 'of type function', value);
}

/** A year: what is longer is a mistake. */
const MOST_MS = 366 * 24 * 3600 * 1000;

/** A number of milliseconds as whole microseconds, and at least one: nothing takes no time. */
export function microseconds(name: string, ms: unknown): number {
  return Math.max(Math.round(number(name, ms, 0, MOST_MS, 0) * 1000), 1);
}

function checkLatency(name: string, value: unknown, fallback: Latency): Latency {
  if (value === undefined) return fallback;
  if (typeof value === 'function') return value as Latency;
  if (!Array.isArray(value)) return number(name, value, 0, MOST_MS, 0);
  const min = number(`${name}[0]`, value[0], 0, MOST_MS, 0);
  return [min, number(`${name}[1]`, value[1], min, MOST_MS, min)];
}

function checkChances(name: string, value: unknown): Chances {
  if (typeof value === 'number' || value === undefined) return [[-EIO, number(name, value, 0, 1, 0)]];
  return Object.entries(object(name, value)).map(
    ([code, chance]) => [failureCalled(name, code), number(`${name}.${code}`, chance, 0, 1, 0)] as const,
  );
}

function checkErrors(errors: unknown): Settings['errors'] {
  const all = typeof errors === 'number' ? { read: errors, write: errors, flush: errors } : undefined;
  const { read, write, flush } = all ?? object('options.errors', errors);
  return {
    read: checkChances('options.errors.read', read),
    write: checkChances('options.errors.write', write),
    flush: checkChances('options.errors.flush', flush),
  };
}

/** The options with Node's checks, and what is left out filled in. */
export function settingsOf(options: SimulatedDiskOptions): Settings {
  if (typeof options !== 'object' || options === null) throw invalidArgType('options', 'an object', options);
  const { seed, reorder = true, fail } = options;
  if (typeof seed !== 'number') throw invalidArgType('options.seed', 'of type number', seed);
  if (typeof reorder !== 'boolean') throw invalidArgType('options.reorder', 'of type boolean', reorder);
  checkFunction('options.fail', fail);
  const sectorSize = integer('options.sectorSize', options.sectorSize, 512, 4096, 512);
  if ((sectorSize & (sectorSize - 1)) !== 0) throw outOfRange('options.sectorSize', 'a power of two', sectorSize);
  const latency = object('options.latency', options.latency);
  const chance = (name: string, value: unknown): number => number(`options.${name}`, value, 0, 1, 0);
  return {
    seed: integer('options.seed', seed, 0, Number.MAX_SAFE_INTEGER, 0),
    sectorSize,
    capacity: number('options.capacity', options.capacity, 0, Infinity, Infinity),
    maxFileSize: integer('options.maxFileSize', options.maxFileSize, 0, 2 ** 52, 2 ** 44),
    latency: {
      read: checkLatency('options.latency.read', latency.read, [0.05, 0.2]),
      write: checkLatency('options.latency.write', latency.write, [0.02, 0.5]),
      flush: checkLatency('options.latency.flush', latency.flush, [0.5, 5]),
    },
    reorder,
    shortTransfers: chance('shortTransfers', options.shortTransfers),
    errors: checkErrors(options.errors),
    fail,
    refusals: chance('refusals', options.refusals),
    lateCancels: chance('lateCancels', options.lateCancels),
    tornWrites: chance('tornWrites', options.tornWrites),
    misdirectedWrites: chance('misdirectedWrites', options.misdirectedWrites),
    latentSectorErrors: chance('latentSectorErrors', options.latentSectorErrors),
    logLimit: integer('options.logLimit', options.logLimit, 0, Infinity, 1000),
  };
}
