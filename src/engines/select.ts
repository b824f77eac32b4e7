/** The one place that knows the engines by name. */
import { type Alignment, alignmentOf } from '../alignment.ts';
import {
  DRIVER,
  type Engine,
  type EngineDriver,
  type EngineHost,
  type EngineName,
  type EngineOptions,
  isEngineSource,
} from '../engine.ts';
import { AioError, checkInteger, invalidArgType, invalidArgValue } from '../errors.ts';
import { ioUring } from './io-uring.ts';
import { kernelAio } from './kernel-aio.ts';
import { threads } from './threads.ts';

/** In the order in which `auto` tries them. */
const drivers: readonly EngineDriver[] = [ioUring, kernelAio, threads];

function names(): string {
  return drivers.map((driver) => `'${driver.name}'`).join(', ');
}

/** What {@link engines} says of one engine. */
export interface EngineInfo {
  /** As the `engine` options of contexts and files take it. */
  readonly name: EngineName;
  /** Whether a context with it can be made here and now. */
  readonly available: boolean;
  /** If not: what was tried, and what came of it. */
  readonly why?: string;
}

/**
 * Every engine, in the order in which `'auto'` tries them, with whether it works in this process. Found out by doing it, not by
 * version numbers: a container may forbid what the kernel has. The last, `'threads'`, always works.
 *
 * A simulated disk (`fileaio/sim`) is not among them: it is none of this machine's.
 *
 * Costs a kernel context for one request per engine on the first call; what works is remembered.
 *
 * @example
 * ```ts
 * import { engines } from 'fileaio';
 *
 * for (const { name, available, why } of engines()) console.log(name, available ? 'works' : why);
 * console.log(engines().at(-1)?.name, engines().at(-1)?.available); // => threads true
 * ```
 */
export function engines(): EngineInfo[] {
  return drivers.map((driver) => {
    const why = driver.probe()?.message;
    return why === undefined ? { name: driver.name, available: true } : { name: driver.name, available: false, why };
  });
}

function named(name: string, argument: string): EngineDriver {
  if (name === 'simulated') {
    throw invalidArgValue(
      argument,
      "is 'simulated', which is no disk yet: make one with createSimulatedDisk() of 'fileaio/sim', and give that as the engine",
    );
  }
  const driver = drivers.find((candidate) => candidate.name === name);
  if (driver === undefined) {
    throw invalidArgValue(argument, `is '${name}', which is no engine. There is: ${names()}, 'auto'`);
  }
  return driver;
}

function isDriver(value: unknown): value is EngineDriver {
  if (typeof value !== 'object' || value === null) return false;
  const { open, probe, maxOutstanding }: { open?: unknown; probe?: unknown; maxOutstanding?: unknown } = value;
  return typeof open === 'function' && typeof probe === 'function' && typeof maxOutstanding === 'function';
}

/** What an `engine` stands for: one driver that is asked for, by name or by what has it, or all to try in turn. */
function candidates(engine: unknown, argument = 'options.engine'): readonly EngineDriver[] {
  if (isEngineSource(engine)) {
    const driver: unknown = engine[DRIVER];
    if (isDriver(driver)) return [driver];
  }
  if (typeof engine !== 'string') throw invalidArgType(argument, "the name of an engine, or 'auto'", engine);
  if (engine !== 'auto') return [named(engine, argument)];
  const wanted = process.env.FILEAIO_ENGINE;
  return wanted === undefined || wanted === '' || wanted === 'auto' ? drivers : [named(wanted, 'FILEAIO_ENGINE')];
}

/**
 * The engines that may carry a file's transfers, by name, in the order in which to try them. Kernel AIO does not get a file that goes
 * through the page cache unless it is asked for: it would do the whole transfer within the submission. Threads alone get a file
 * whose file system is a process (`isInUserSpace`), unless another is asked for.
 *
 * @throws TypeError for what is no engine.
 */
export function fileEngines(engine: unknown, direct: boolean, inUserSpace = false): readonly EngineName[] {
  if (isEngineSource(engine)) {
    throw invalidArgValue(
      'options.engine',
      "is a simulated disk, which cannot carry the transfers of this machine's files: open files of its own with disk.open()",
    );
  }
  const found = candidates(engine).map(({ name }) => name);
  if (inUserSpace && found.length > 1) return [threads.name];
  return found.length === 1 || direct ? found : found.filter((name) => name !== 'kernel-aio');
}

/** Who was asked for by name gets no other, but is told of them. */
function withOthers(error: AioError, driver: EngineDriver): AioError {
  const { code, message, errno, syscall } = error;
  if (code !== 'ERR_AIO_NOT_SUPPORTED' || driver.probe() === undefined) return error;
  const others = drivers
    .filter((other) => other !== driver && other.probe() === undefined)
    .map(({ name }) => `'${name}'`);
  return new AioError(
    code,
    `${message.replace(/\.$/, '')}. What works here: ${others.join(', ')}; 'auto' takes the first of them`,
    {
      ...(errno === undefined ? {} : { errno }),
      ...(syscall === undefined ? {} : { syscall }),
    },
  );
}

/** The first candidate that works, or what the last one failed with. */
function first<T>(engine: unknown, attempt: (driver: EngineDriver) => T): T {
  let failure: unknown;
  const all = candidates(engine);
  for (const driver of all) {
    try {
      return attempt(driver);
    } catch (error) {
      // Mistakes in arguments are the same with every engine; where the kernel says no, another may do: threads need no descriptors.
      if (!(error instanceof AioError)) throw error;
      failure = all.length === 1 ? withOthers(error, driver) : error;
    }
  }
  throw failure;
}

/** Makes the engine of a context. */
export function openEngine(engine: unknown, host: EngineHost, maxRequests: number, options: EngineOptions): Engine {
  return first(engine, (driver) => {
    const most = driver.maxOutstanding();
    if (maxRequests > most) {
      // What an engine that does not work could hold is no limit.
      const why = driver.probe();
      if (why !== undefined && !isUsedUp(why)) throw why;
    }
    // Where the machine allows none at all, the kernel's own refusal says what to do.
    checkInteger('options.maxRequests', maxRequests, 1, Math.max(most, 1));
    return driver.open(host, maxRequests, options);
  });
}

/** Works, but not now: it has as much to do as the machine allows. */
function isUsedUp(why: AioError): boolean {
  return why.code === 'ERR_AIO_INSUFFICIENT_EVENTS';
}

/** The most requests of one context with this engine. */
export function maxOutstanding(engine: unknown): number {
  const isAlone = candidates(engine, 'engine').length === 1;
  return first(engine, (driver) => {
    const why = driver.probe();
    if (why !== undefined && !(isAlone && isUsedUp(why))) throw why;
    return driver.maxOutstanding();
  });
}

/** What direct I/O on a file of this engine needs. */
export function alignmentWith(engine: unknown, path: string): Alignment {
  return first(engine, (driver) => driver.alignmentOf?.(path) ?? alignmentOf(path));
}
