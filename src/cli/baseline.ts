/** What changed since an earlier `fileaio bench --json`, and whether that is more than noise. */
import { readFileSync } from 'node:fs';
import { aligned } from './output.ts';
import { PEER } from './peer-job.ts';
import type { BaselineDocument, BenchDocument, ResultDocument, RoundDocument } from './report.ts';
import { formatSize } from './sizes.ts';
import { ioError, oneLine, quote, usageError } from './usage.ts';

type Figures = Pick<ResultDocument, 'engine' | 'iodepth' | 'iops' | 'mibPerSecond'> & {
  readonly latencyUs: RoundDocument['latencyUs'];
  readonly rounds: readonly RoundDocument[];
};

/** An earlier document, as far as it is compared. Figures that older versions did not write are `undefined`. */
export interface Baseline {
  readonly file: string;
  readonly date: string | undefined;
  readonly facts: ReadonlyMap<string, string>;
  readonly results: readonly Figures[];
}

/** One figure, then and now. */
export interface Delta {
  readonly before: number;
  readonly after: number;
  readonly percent: number;
  /** The rounds of then and now overlap; `null` where there was but one of each, so that nobody can tell. */
  readonly noise: boolean | null;
}

/** One engine at one depth. */
export interface Change {
  readonly engine: string;
  readonly iodepth: number;
  readonly iops: Delta;
  readonly mibPerSecond: Delta;
  readonly p50Us: Delta;
  readonly p99Us: Delta;
}

/** What else is not as it was. */
export interface Differences {
  /** What was asked for, and what it ran on: `'bs: 4096, then 16384'`. */
  readonly differences: readonly string[];
  /** What only one of the two has: `'threads at depth 8'`. */
  readonly onlyBefore: readonly string[];
  readonly onlyNow: readonly string[];
}

type Loose = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Loose {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A finite number of 0 or more at this place. */
function figureAt(value: unknown, ...path: readonly string[]): number | undefined {
  const found = path.reduce<unknown>((at, key) => (isObject(at) ? at[key] : undefined), value);
  return typeof found === 'number' && Number.isFinite(found) && found >= 0 ? found : undefined;
}

/** @throws CliError: before anything is measured. */
export function readBaseline(file: string): Baseline {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw ioError(`cannot read --baseline ${quote(file)}`, error, 'Name a file that fileaio bench --json wrote');
  }
  const document = parse(text);
  const found = isObject(document) && Array.isArray(document.results) ? document.results : undefined;
  const results = found?.map((result) => figuresOf(result, figureAt(document, 'options', 'iodepth')));
  if (results === undefined || results.length === 0 || results.includes(undefined)) {
    throw usageError(`--baseline ${quote(file)} is nothing that fileaio bench --json wrote: name such a file`);
  }
  const date = isObject(document) && typeof document.date === 'string' ? document.date : undefined;
  return { file, date, facts: factsOf(document), results: results.filter((each) => each !== undefined) };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Version 0.1.0 had one depth for all results, and no rounds. */
function figuresOf(result: unknown, depth: number | undefined): Figures | undefined {
  const round = roundOf(result);
  const iodepth = figureAt(result, 'iodepth') ?? depth;
  if (round === undefined || !isObject(result) || typeof result.engine !== 'string' || iodepth === undefined)
    return undefined;
  const rounds = Array.isArray(result.rounds)
    ? result.rounds.map(roundOf).filter((each) => each !== undefined)
    : [round];
  return { engine: result.engine, iodepth, ...round, rounds };
}

function roundOf(result: unknown): RoundDocument | undefined {
  const iops = figureAt(result, 'iops');
  const mibPerSecond = figureAt(result, 'mibPerSecond');
  const p50 = figureAt(result, 'latencyUs', 'p50');
  const p99 = figureAt(result, 'latencyUs', 'p99');
  if (iops === undefined || mibPerSecond === undefined || p50 === undefined || p99 === undefined) return undefined;
  return { iops, mibPerSecond, latencyUs: { p50, p99 } };
}

/** What figures depend on, apart from the code. */
function factsOf(document: unknown): ReadonlyMap<string, string> {
  const facts = new Map<string, string>();
  if (!isObject(document)) return facts;
  const options = isObject(document.options) ? document.options : {};
  for (const [name, value] of [
    ...['version', 'kernel', 'node', 'arch', 'cpu', 'cpus', 'poolThreads', 'medium'].map(
      (key) => [key, document[key]] as const,
    ),
    ...['rw', 'bs', 'direct', 'size', 'runtimeMs'].map((key) => [key, options[key]] as const),
  ]) {
    if (typeof value === 'string' || typeof value === 'boolean') facts.set(name, `${value}`);
    if (typeof value === 'number') facts.set(name, name === 'bs' || name === 'size' ? formatSize(value) : `${value}`);
  }
  return facts;
}

export function differences(before: Baseline, now: BenchDocument): Differences {
  const facts = factsOf(now);
  const changed = [...before.facts].filter(([name, value]) => facts.has(name) && facts.get(name) !== value);
  const named = ({ engine, iodepth }: Pick<Figures, 'engine' | 'iodepth'>): string => `${engine} at depth ${iodepth}`;
  const then = before.results.map(named);
  const present = now.results.map(named);
  return {
    differences: changed.map(([name, value]) => `${name}: ${value}, then ${facts.get(name)}`),
    onlyBefore: then.filter((each) => !present.includes(each)),
    onlyNow: present.filter((each) => !then.includes(each)),
  };
}

/** What both have. */
export function compare(before: readonly Figures[], now: readonly Figures[]): Change[] {
  return now.flatMap((after) => {
    const old = before.find(({ engine, iodepth }) => engine === after.engine && iodepth === after.iodepth);
    if (old === undefined) return [];
    const delta = (of: (figures: RoundDocument) => number): Delta => ({
      before: of(old),
      after: of(after),
      percent: Math.round((of(after) / of(old) - 1) * 10_000) / 100,
      noise: isNoise(old.rounds.map(of), after.rounds.map(of)),
    });
    return {
      engine: after.engine,
      iodepth: after.iodepth,
      iops: delta(({ iops }) => iops),
      mibPerSecond: delta(({ mibPerSecond }) => mibPerSecond),
      p50Us: delta(({ latencyUs }) => latencyUs.p50),
      p99Us: delta(({ latencyUs }) => latencyUs.p99),
    };
  });
}

/** Whether the two ranges overlap. */
function isNoise(before: readonly number[], after: readonly number[]): boolean | null {
  if (before.length < 2 && after.length < 2) return null;
  return Math.max(...before) >= Math.min(...after) && Math.max(...after) >= Math.min(...before);
}

/** Engines (the peer is not ours to keep fast) that lost more than so many percent of their IOPS, and not by chance. */
export function regressions(changes: readonly Change[], maxPercent: number): Change[] {
  return changes.filter(({ engine, iops }) => engine !== PEER && iops.percent < -maxPercent && iops.noise !== true);
}

/** `+12.3 %`, with a `~` where that says nothing. */
export function formatDelta({ percent, noise }: Delta): string {
  if (!Number.isFinite(percent)) return '-';
  return `${percent < 0 ? '-' : '+'}${Math.abs(percent).toFixed(1)} %${noise === true ? ' ~' : ''}`;
}

/** For people, below the table. */
export function changeLines({ file, date, changes, ...other }: BaselineDocument): string[] {
  const since = date === null ? '' : ` of ${oneLine(date)}`;
  const lines = ['', `Changes since ${quote(file)}${since}:`];
  // Where there is no mark, there is its room.
  const cell = (delta: Delta): string =>
    formatDelta(delta).padEnd(delta.noise === true ? 0 : formatDelta(delta).length + 2);
  const rows = changes.map(({ engine, iodepth, iops, mibPerSecond, p50Us, p99Us }) => [
    engine,
    `${iodepth}`,
    ...[iops, mibPerSecond, p50Us, p99Us].map(cell),
  ]);
  if (rows.length > 0) {
    lines.push('', ...aligned([['engine', 'depth', 'IOPS  ', 'MiB/s  ', 'p50  ', 'p99  '], ...rows]));
  }
  lines.push('', noiseLine(changes));
  for (const difference of other.differences) lines.push(`Not the same as it was: ${oneLine(difference)}`);
  if (other.onlyBefore.length > 0) lines.push(`Only in ${quote(file)}: ${oneLine(other.onlyBefore.join(', '))}`);
  if (other.onlyNow.length > 0) lines.push(`Not in ${quote(file)}: ${other.onlyNow.join(', ')}`);
  return lines;
}

export function noiseLine(changes: readonly Change[]): string {
  if (changes.length === 0) return 'Nothing that was measured is in both';
  return changes.some(({ iops }) => iops.noise === null)
    ? 'One round then and one now: nobody can tell a change from noise. Measure both with --rounds 5'
    : '~ lies within the noise: the rounds of then and of now overlap';
}

/** Which, in one line. */
export function regressionLine(changes: readonly Change[], maxPercent: number): string | undefined {
  const found = regressions(changes, maxPercent);
  if (found.length === 0) return undefined;
  const named = found.map(({ engine, iodepth, iops }) => `${engine} at depth ${iodepth} ${formatDelta(iops)}`);
  return `slower than --max-regression ${maxPercent} allows: ${named.join(', ')}`;
}

/** An engine that does not work any more is as slow as can be. */
export function missingLine({ file }: Baseline, missing: readonly Figures[]): string | undefined {
  const gone = [...new Set(missing.map(({ engine }) => engine))].filter((engine) => engine !== PEER);
  if (gone.length === 0) return undefined;
  return `--max-regression: ${oneLine(gone.join(' and '))}, which ${quote(file)} has, did not run. See fileaio info, or name the engines that count with --engine`;
}
