/** How the command lines of the benchmarks are read. */

/** A mistake on the command line. */
export class UsageError extends Error {}

/** Some of what is known, separated by commas; all of it where nothing is given. */
export function list<T extends string>(name: string, value: string | undefined, known: readonly T[]): T[] {
  if (value === undefined) return [...known];
  return value.split(',').map((item) => {
    const found = known.find((candidate) => candidate === item);
    if (found === undefined) throw new UsageError(`--${name}: '${item}' is none of ${known.join(', ')}`);
    return found;
  });
}

export function figure(name: string, value: string, least: number): number {
  const parsed = Number(value);
  if (!(parsed >= least)) throw new UsageError(`--${name}: '${value}' is not a number of ${least} or more`);
  return parsed;
}

export function count(name: string, value: string): number {
  return Math.floor(figure(name, value, 1));
}

export function counts(name: string, value: string): number[] {
  return value.split(',').map((item) => count(name, item));
}

const UNITS = ['', 'k', 'm', 'g'];

/** `64k` → 65536. */
export function bytes(name: string, value: string): number {
  const [, digits = '', unit = ''] = /^(\d+)([kmg]?)$/i.exec(value) ?? [];
  const parsed = Number(digits) * 1024 ** UNITS.indexOf(unit.toLowerCase());
  if (!(parsed >= 1)) throw new UsageError(`--${name}: '${value}' is no size such as 64k, 256m or 1g`);
  return parsed;
}

/** 65536 → `64k`. */
export function shortSize(size: number): string {
  const power = Math.min(Math.floor(Math.log2(size) / 10), UNITS.length - 1);
  return `${Number((size / 1024 ** power).toFixed(1))}${UNITS[power]}`;
}

/** Runs `main`, and says what is wrong with the command line where something is. */
export async function runMain(main: () => Promise<void>, help: string): Promise<void> {
  try {
    await main();
  } catch (error) {
    const usage = error instanceof UsageError || (error instanceof TypeError && 'code' in error);
    console.error(usage ? `${error.message}\n\n${help}` : error);
    process.exitCode = usage ? 2 : 1;
  }
}

/** On the line that is written over by what comes next; nowhere where there is no terminal. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
