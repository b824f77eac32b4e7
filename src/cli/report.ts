/** What came out of a benchmark, for people and for programs. */
import { arch, cpus, release, totalmem, type } from 'node:os';
import { type Change, compare, type Differences, differences } from './baseline.ts';
import type { BenchOptions } from './bench-options.ts';
import type { Measured } from './job.ts';
import { aligned } from './output.ts';
import { PEER } from './peer-job.ts';
import { formatSeconds, formatSize } from './sizes.ts';
import type { Target } from './target.ts';
import { oneLine, quote } from './usage.ts';
import { version } from './version.ts';

/** One engine, or the peer, with one number of transfers in flight, and its figures. */
export interface Result {
  readonly engine: string;
  readonly depth: number;
  /** All rounds together. */
  readonly measured: Measured;
  /** At least one. */
  readonly rounds: readonly Measured[];
}

/** Everything that a report tells of. */
export interface Outcome {
  readonly options: BenchOptions;
  readonly target: Pick<Target, 'path' | 'temporary' | 'medium' | 'size'>;
  readonly results: readonly Result[];
  /** The signal that ended it early. */
  readonly interruptedBy: NodeJS.Signals | undefined;
}

/** What `--json` writes. It only ever grows: programs read it, and `--baseline` the files of older versions. */
export interface BenchDocument {
  readonly version: string;
  readonly date: string;
  readonly command: string;
  readonly kernel: string;
  readonly node: string;
  readonly arch: string;
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly poolThreads: number;
  readonly file: string;
  readonly temporary: boolean;
  readonly medium: string;
  readonly options: {
    readonly rw: string;
    readonly bs: number;
    /** The deepest of {@link iodepths}. */
    readonly iodepth: number;
    readonly iodepths: readonly number[];
    readonly rounds: number;
    readonly direct: boolean;
    readonly runtimeMs: number;
    readonly size: number;
    readonly engines: readonly string[];
  };
  readonly interrupted: boolean;
  readonly results: readonly ResultDocument[];
  /** With `--baseline`. */
  readonly baseline?: BaselineDocument;
}

export interface ResultDocument {
  readonly engine: string;
  readonly iodepth: number;
  readonly iops: number;
  readonly mibPerSecond: number;
  readonly latencyUs: Measured['latencyUs'];
  readonly cpuUsPerTransfer: number;
  readonly transfers: number;
  readonly bytes: number;
  readonly seconds: number;
  /** To the IOPS of the peer at the same depth. */
  readonly ratio: number | null;
  /** The least and the most of several rounds tell how much of a change is noise. */
  readonly rounds: readonly RoundDocument[];
}

export interface RoundDocument {
  readonly iops: number;
  readonly mibPerSecond: number;
  readonly latencyUs: { readonly p50: number; readonly p99: number };
}

export interface BaselineDocument extends Differences {
  readonly file: string;
  readonly date: string | null;
  readonly changes: readonly Change[];
}

/** libuv's pool carries the peer's transfers: its size belongs to the peer's figures. */
function poolThreads(): number {
  const threads = Number.parseInt(process.env.UV_THREADPOOL_SIZE ?? '4', 10);
  return Math.min(Math.max(Number.isNaN(threads) ? 1 : threads, 1), 1024);
}

function iopsOf({ transfers, seconds }: Measured): number {
  return transfers / seconds;
}

function mibPerSecond({ bytes, seconds }: Measured): number {
  return bytes / seconds / 1024 ** 2;
}

/** Relative to the peer at the same depth; `undefined` where that was not measured. */
function ratioOf(result: Result, results: readonly Result[]): number | undefined {
  const peer = results.find(({ engine, depth }) => engine === PEER && depth === result.depth);
  return peer === undefined ? undefined : iopsOf(result.measured) / iopsOf(peer.measured);
}

function cpuPerTransfer({ cpuUs, transfers }: Measured): number {
  return cpuUs / transfers;
}

/** `mode, blocks of …`: what was measured, in one line. */
export function jobLine({ mode, blockSize, depths, direct, runtimeMs, rounds }: BenchOptions): string {
  const what = direct ? 'O_DIRECT' : 'through the page cache';
  const times = rounds === 1 ? '' : ` in ${rounds} rounds`;
  const depth = depths.length === 1 ? `depth ${depths[0]}` : `depths ${depths.join(' ')}`;
  return `${mode}, blocks of ${formatSize(blockSize)}, ${depth}, ${what}, ${formatSeconds(runtimeMs)} each${times}`;
}

function headLines({ options, target }: Outcome): string[] {
  const file = target.temporary && options.path === undefined ? 'a temporary file' : quote(target.path);
  return [
    jobLine(options),
    `${formatSize(target.size)} of ${file}: ${oneLine(target.medium)}`,
    `${type()} ${release()} ${arch()}, Node ${process.version}, ${poolThreads()} pool threads, fileaio ${version()}`,
  ];
}

const HEADINGS = ['engine', 'IOPS', 'MiB/s', 'p50 µs', 'p99 µs', 'p99.9 µs', 'max µs', 'CPU µs/op', 'ratio'];

function row(result: Result, { results, options }: Outcome): string[] {
  const { measured, engine, depth } = result;
  const { p50, p99, p999, max } = measured.latencyUs;
  const ratio = ratioOf(result, results);
  return [
    engine,
    ...(options.depths.length === 1 ? [] : [`${depth}`]),
    iopsOf(measured).toFixed(0),
    mibPerSecond(measured).toFixed(1),
    ...[p50, p99, p999, max].map((us) => us.toFixed(1)),
    cpuPerTransfer(measured).toFixed(2),
    ratio === undefined ? '-' : `x ${ratio.toFixed(ratio < 0.1 ? 3 : 1)}`,
  ];
}

function interruption({ options, results, interruptedBy }: Outcome): string[] {
  if (interruptedBy === undefined) return [];
  const last = results.at(-1);
  if (last === undefined) return ['', `Interrupted by ${interruptedBy} before anything was measured`];
  const ms = (last.rounds.at(-1)?.seconds ?? 0) * 1000;
  const partly = ms < options.runtimeMs ? `: ${last.engine} was measured for ${formatSeconds(ms)} only` : '';
  return ['', `Interrupted by ${interruptedBy}${partly}`];
}

/** The table, with what was measured above it. At most 106 columns with figures up to seven digits. */
export function table(outcome: Outcome): string {
  return `${[...headLines(outcome), ...tableLines(outcome), ...interruption(outcome)].join('\n')}\n`;
}

function tableLines(outcome: Outcome): string[] {
  if (outcome.results.length === 0) return [];
  const [engine = '', ...others] = HEADINGS;
  const headings = outcome.options.depths.length === 1 ? HEADINGS : [engine, 'depth', ...others];
  return ['', ...aligned([headings, ...outcome.results.map((result) => row(result, outcome))])];
}

/** To the nanosecond, and to a thousandth of anything else: more digits would only be noise. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

function resultDocument(result: Result, results: readonly Result[]): ResultDocument {
  const { engine, depth, measured, rounds } = result;
  const { p50, p99, p999, max, mean } = measured.latencyUs;
  const ratio = ratioOf(result, results);
  return {
    engine,
    iodepth: depth,
    iops: round(iopsOf(measured)),
    mibPerSecond: round(mibPerSecond(measured)),
    latencyUs: { p50: round(p50), p99: round(p99), p999: round(p999), max: round(max), mean: round(mean) },
    cpuUsPerTransfer: round(cpuPerTransfer(measured)),
    transfers: measured.transfers,
    bytes: measured.bytes,
    seconds: round(measured.seconds),
    ratio: ratio === undefined ? null : round(ratio),
    rounds: rounds.map((each) => ({
      iops: round(iopsOf(each)),
      mibPerSecond: round(mibPerSecond(each)),
      latencyUs: { p50: round(each.latencyUs.p50), p99: round(each.latencyUs.p99) },
    })),
  };
}

/** As a shell would take it; for people. */
function commandLine(args: readonly string[]): string {
  return ['fileaio', 'bench', ...args]
    .map((arg) => (/^[\w@%+=:,./…-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", `'\\''`)}'`))
    .join(' ');
}

/** The same as an object for programs. */
export function documentOf(outcome: Outcome): BenchDocument {
  const { options, target, results, interruptedBy } = outcome;
  const { mode, blockSize, depths, rounds, direct, runtimeMs, engines, baseline } = options;
  const processors = cpus();
  const document: BenchDocument = {
    version: version(),
    date: new Date().toISOString(),
    command: commandLine(options.args),
    kernel: release(),
    node: process.version,
    arch: arch(),
    cpu: processors[0]?.model.trim() ?? '',
    cpus: processors.length,
    memoryBytes: totalmem(),
    poolThreads: poolThreads(),
    file: target.path,
    temporary: target.temporary,
    medium: target.medium,
    options: {
      rw: mode,
      bs: blockSize,
      iodepth: Math.max(...depths),
      iodepths: depths,
      rounds,
      direct,
      runtimeMs,
      size: target.size,
      engines,
    },
    interrupted: interruptedBy !== undefined,
    results: results.map((result) => resultDocument(result, results)),
  };
  if (baseline === undefined) return document;
  const { file, date } = baseline;
  const compared = {
    file,
    date: date ?? null,
    ...differences(baseline, document),
    changes: compare(baseline.results, document.results),
  };
  return { ...document, baseline: compared };
}

export function json(document: BenchDocument): string {
  return `${JSON.stringify(document, null, 2)}\n`;
}
