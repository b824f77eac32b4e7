/** What came out of a benchmark, for people and for programs. */
import { arch, release, type } from 'node:os';
import type { BenchOptions } from './bench-options.ts';
import type { Measured } from './job.ts';
import { PEER } from './peer-job.ts';
import { formatSeconds, formatSize } from './sizes.ts';
import type { Target } from './target.ts';
import { oneLine, quote } from './usage.ts';
import { version } from './version.ts';

/** One engine, or the peer, and its figures. */
export interface Result {
  readonly engine: string;
  readonly measured: Measured;
}

/** Everything that a report tells of. */
export interface Outcome {
  readonly options: BenchOptions;
  readonly target: Pick<Target, 'path' | 'temporary' | 'medium' | 'size'>;
  readonly results: readonly Result[];
  /** The signal that ended it early. */
  readonly interruptedBy: NodeJS.Signals | undefined;
}

/** libuv's pool carries the peer's transfers: its size belongs to the peer's figures. */
function poolThreads(): number {
  const threads = Number.parseInt(process.env.UV_THREADPOOL_SIZE ?? '4', 10);
  return Math.min(Math.max(Number.isNaN(threads) ? 1 : threads, 1), 1024);
}

function iopsOf({ transfers, seconds }: Measured): number {
  return transfers / seconds;
}

/** Relative to the peer; `undefined` where the peer was not measured. */
function ratioOf(result: Result, results: readonly Result[]): number | undefined {
  const peer = results.find(({ engine }) => engine === PEER);
  return peer === undefined ? undefined : iopsOf(result.measured) / iopsOf(peer.measured);
}

function cpuPerTransfer({ cpuUs, transfers }: Measured): number {
  return cpuUs / transfers;
}

function headLines({ options, target }: Outcome): string[] {
  const { mode, blockSize, depth, direct, runtimeMs } = options;
  const what = direct ? 'O_DIRECT' : 'through the page cache';
  const file = target.temporary && options.path === undefined ? 'a temporary file' : quote(target.path);
  return [
    `${mode}, blocks of ${formatSize(blockSize)}, depth ${depth}, ${what}, ${formatSeconds(runtimeMs)} each`,
    `${formatSize(target.size)} of ${file}: ${oneLine(target.medium)}`,
    `${type()} ${release()} ${arch()}, Node ${process.version}, ${poolThreads()} pool threads, fileaio ${version()}`,
  ];
}

const HEADINGS = ['engine', 'IOPS', 'MiB/s', 'p50 µs', 'p99 µs', 'p99.9 µs', 'max µs', 'CPU µs/op', 'ratio'];

function row(result: Result, results: readonly Result[]): string[] {
  const { measured } = result;
  const { p50, p99, p999, max } = measured.latencyUs;
  const ratio = ratioOf(result, results);
  return [
    result.engine,
    iopsOf(measured).toFixed(0),
    (measured.bytes / measured.seconds / 1024 ** 2).toFixed(1),
    ...[p50, p99, p999, max].map((us) => us.toFixed(1)),
    cpuPerTransfer(measured).toFixed(2),
    ratio === undefined ? '-' : `x ${ratio.toFixed(ratio < 0.1 ? 3 : 1)}`,
  ];
}

function interruption({ options, results, interruptedBy }: Outcome): string[] {
  if (interruptedBy === undefined) return [];
  const last = results.at(-1);
  if (last === undefined) return ['', `Interrupted by ${interruptedBy} before anything was measured`];
  const ms = last.measured.seconds * 1000;
  const partly = ms < options.runtimeMs ? `: ${last.engine} was measured for ${formatSeconds(ms)} only` : '';
  return ['', `Interrupted by ${interruptedBy}${partly}`];
}

/** The table, with what was measured above it. At most 100 columns with figures up to seven digits. */
export function table(outcome: Outcome): string {
  return `${[...headLines(outcome), ...tableLines(outcome), ...interruption(outcome)].join('\n')}\n`;
}

function tableLines(outcome: Outcome): string[] {
  if (outcome.results.length === 0) return [];
  const rows = [HEADINGS, ...outcome.results.map((result) => row(result, outcome.results))];
  const widths = HEADINGS.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0)));
  const lines = rows.map((cells) =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  '),
  );
  return ['', ...lines];
}

/** To the nanosecond, and to a thousandth of anything else: more digits would only be noise. */
function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** The same as JSON. */
export function json(outcome: Outcome): string {
  const { options, target, results, interruptedBy } = outcome;
  const { mode, blockSize, depth, direct, runtimeMs, engines } = options;
  const document = {
    version: version(),
    kernel: release(),
    node: process.version,
    arch: arch(),
    poolThreads: poolThreads(),
    file: target.path,
    temporary: target.temporary,
    medium: target.medium,
    options: { rw: mode, bs: blockSize, iodepth: depth, direct, runtimeMs, size: target.size, engines },
    interrupted: interruptedBy !== undefined,
    results: results.map((result) => {
      const { transfers, bytes, seconds, latencyUs } = result.measured;
      const { p50, p99, p999, max, mean } = latencyUs;
      const ratio = ratioOf(result, results);
      return {
        engine: result.engine,
        iops: round(iopsOf(result.measured)),
        mibPerSecond: round(bytes / seconds / 1024 ** 2),
        latencyUs: { p50: round(p50), p99: round(p99), p999: round(p999), max: round(max), mean: round(mean) },
        cpuUsPerTransfer: round(cpuPerTransfer(result.measured)),
        transfers,
        bytes,
        seconds: round(seconds),
        ratio: ratio === undefined ? null : round(ratio),
      };
    }),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}
