/** The one place that knows the engines by name. */
import type { Engine, EngineDriver, EngineHost, EngineName } from '../engine.ts';
import { AioError, checkInteger, invalidArgType, invalidArgValue } from '../errors.ts';
import { kernelAio } from './kernel-aio.ts';

/** In the order in which `auto` tries them. */
const drivers: readonly EngineDriver[] = [kernelAio];

function names(): string {
  return drivers.map((driver) => `'${driver.name}'`).join(', ');
}

/** What {@link engines} says of one engine. */
export interface EngineInfo {
  readonly name: EngineName;
  /** Whether a context with it can be made here and now. */
  readonly available: boolean;
  /** If not: what was tried, and what came of it. */
  readonly why?: string;
}

/**
 * Every engine, in the order in which `'auto'` tries them, with whether it works in this process. Found out by making a kernel
 * context, not by version numbers: a container may forbid what the kernel has.
 *
 * Costs a kernel context for one request per engine on the first call; what works is remembered.
 *
 * @example
 * ```ts
 * for (const { name, available, why } of engines()) console.log(name, available ? 'works' : why);
 * ```
 */
export function engines(): EngineInfo[] {
  return drivers.map((driver) => {
    const why = driver.probe();
    return why === undefined ? { name: driver.name, available: true } : { name: driver.name, available: false, why };
  });
}

function named(name: string, argument: string): EngineDriver {
  const driver = drivers.find((candidate) => candidate.name === name);
  if (driver === undefined) {
    throw invalidArgValue(argument, `is '${name}', which is no engine. There is: ${names()}, 'auto'`);
  }
  return driver;
}

/** What an `engine` option stands for: one driver that is asked for by name, or all to try in turn. */
function candidates(engine: unknown): readonly EngineDriver[] {
  if (typeof engine !== 'string') throw invalidArgType('options.engine', "the name of an engine, or 'auto'", engine);
  if (engine !== 'auto') return [named(engine, 'options.engine')];
  const wanted = process.env.FILEAIO_ENGINE;
  return wanted === undefined || wanted === '' || wanted === 'auto' ? drivers : [named(wanted, 'FILEAIO_ENGINE')];
}

/** The first candidate that works, or what the last one failed with. */
function first<T>(engine: unknown, attempt: (driver: EngineDriver) => T): T {
  let failure: unknown;
  for (const driver of candidates(engine)) {
    try {
      return attempt(driver);
    } catch (error) {
      // Only what another engine may do better is a reason to go on.
      if (!(error instanceof AioError) || !error.code.startsWith('ERR_AIO_')) throw error;
      failure = error;
    }
  }
  throw failure;
}

/** Makes the engine of a context. */
export function openEngine(engine: unknown, host: EngineHost, maxRequests: number): Engine {
  return first(engine, (driver) => {
    checkInteger('options.maxRequests', maxRequests, 1, driver.maxOutstanding());
    return driver.open(host, maxRequests);
  });
}

/** The most requests of one context with this engine. */
export function maxOutstanding(engine: unknown): number {
  return first(engine, (driver) => {
    const why = driver.probe();
    if (why !== undefined) throw new AioError('ERR_AIO_NOT_SUPPORTED', why);
    return driver.maxOutstanding();
  });
}
