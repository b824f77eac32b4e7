/** What a program that reads as much as it can does to the rest of itself. */
import type { EngineName } from '../src/index.ts';
import { type Outcome, run, takeTurns } from './measure.ts';
import { diskDirectory, scratchFile } from './media.ts';
import { median } from './median.ts';
import { type Latency, type ProbeName, probeNames, type StarvationJob, type StarvationSample } from './probes.ts';
import type { Built } from './programs.ts';
import { fixed, type Mark, type Table } from './report.ts';

export interface StarvationOptions {
  /** Of each kind, idle and again loaded. */
  readonly probes: number;
  readonly rounds: number;
  readonly progress: (text: string) => void;
}

interface Contender {
  readonly title: string;
  /** None: `node:fs/promises`. */
  readonly engine: EngineName | undefined;
  readonly direct: boolean;
  /** A program in C that reads instead, in a process of its own. */
  readonly limit?: string;
  /** The mark is for those that do not work on the thread pool that is probed. */
  readonly held: boolean;
}

export type StarvationSeries = Contender & Outcome<StarvationSample>;

export interface StarvationResult {
  readonly kind: string;
  readonly series: readonly StarvationSeries[];
}

const MIB = 1024 ** 2;

const FILE_MIB = 256;
const BLOCK_SIZE = 4096;

/** Reads in flight. */
export const LOAD_DEPTH = 256;

const MARK = 1.5;

const LIMIT_MS = 300_000;

/** The event loop is shown, and not held: half of what is idle there is the clock that it is measured with. */
const heldProbes = probeNames.filter((name) => name !== 'event loop');

function ours(engine: EngineName, direct: boolean): Contender {
  return { title: `fileaio/promises, ${engine}`, engine, direct, held: engine !== 'threads' };
}

function nodes(direct: boolean): Contender {
  return { title: 'node:fs/promises', engine: undefined, direct, held: false };
}

/** Reads from another process: what it does to this one is the machine's doing, its kernel's and its disk's, and no library's. */
function limits(limit: string, direct: boolean): Contender {
  return { title: 'a loop in C, in another process', engine: undefined, direct, limit, held: false };
}

/** Kernel AIO gets no files of the page cache: it would do the work while submitting it. */
const contenders: readonly Contender[] = [
  ours('kernel-aio', true),
  ours('io-uring', true),
  ours('threads', true),
  nodes(true),
  limits('limit.c', true),
  ours('io-uring', false),
  ours('threads', false),
  nodes(false),
  limits('limit-uring.c', false),
];

/** To be compiled for this. */
export const starvationSources: readonly string[] = contenders.flatMap(({ limit }) => limit ?? []);

/** Measures all of it. */
export async function measureStarvation(
  { probes, rounds, progress }: StarvationOptions,
  built: Built,
): Promise<StarvationResult> {
  const { directory, kind } = diskDirectory();
  progress(`starvation: writing ${FILE_MIB} MiB`);
  const { path, close } = scratchFile(directory, FILE_MIB);
  const file = { path, blockSize: BLOCK_SIZE, blocks: (FILE_MIB * MIB) / BLOCK_SIZE };
  const series = await takeTurns(contenders, rounds, async ({ title, engine, direct, limit }, round) => {
    const where = direct ? 'direct' : 'in the page cache';
    progress(`starvation, ${where}, round ${round + 1} of ${rounds}: ${title}`);
    const program = limit === undefined ? undefined : built.native.get(limit);
    const reader = { engine, library: built.library, limit: program, direct } as const;
    const how = { kind: 'starvation', ...reader, depth: LOAD_DEPTH, probes } as const;
    const job: StarvationJob = { ...file, ...how };
    const command = { file: process.execPath, args: [built.filesChild, JSON.stringify(job)] };
    return JSON.parse(await run(command, {}, LIMIT_MS)) as StarvationSample;
  });
  close();
  return { kind, series };
}

function slowdown({ samples }: StarvationSeries, probe: ProbeName): number {
  return median(samples.map(({ idle, loaded }) => loaded[probe].p99 / idle[probe].p99));
}

/** Of all rounds: the median of each figure, and the most of all. */
function cells(latencies: readonly Latency[]): string[] {
  return [
    fixed(median(latencies.map(({ p50 }) => p50)), 2),
    fixed(median(latencies.map(({ p99 }) => p99)), 2),
    fixed(Math.max(...latencies.map(({ max }) => max)), 1),
  ];
}

/** One table for direct files, one for those in the page cache. */
export function starvationTables({ kind, series }: StarvationResult): Table[] {
  return [true, false].map((direct) => {
    const rows: string[][] = [];
    const notes: string[] = [];
    for (const one of series.filter((candidate) => candidate.direct === direct)) {
      const { title, samples, failure } = one;
      if (samples.length === 0) {
        notes.push(`${title}: skipped, ${failure ?? 'not run'}`);
        continue;
      }
      const reads = fixed(median(samples.map(({ readsPerSecond }) => readsPerSecond / 1000)), 1);
      for (const [index, probe] of probeNames.entries()) {
        rows.push([
          index === 0 ? title : '',
          index === 0 ? reads : '',
          probe,
          ...cells(samples.map(({ idle }) => idle[probe])),
          ...cells(samples.map(({ loaded }) => loaded[probe])),
          fixed(slowdown(one, probe), 2),
        ]);
      }
    }
    const where = direct ? `file on ${kind}, direct` : `file on ${kind}, all in the page cache`;
    return {
      title: `Starvation, ${where}: ${LOAD_DEPTH} random 4 KiB reads in flight (ms)`,
      head: ['reads by', 'k reads/s', 'probe', 'idle p50', 'p99', 'max', 'reading p50', 'p99', 'max', 'p99 ÷ idle'],
      rows,
      notes,
    };
  });
}

export function starvationMarks(result: StarvationResult | undefined): Mark[] {
  return contenders
    .filter(({ held }) => held)
    .flatMap(({ title, direct, engine }) =>
      heldProbes.map((probe): Mark => {
        const where = `${engine}, ${direct ? 'direct' : 'page cache'}`;
        const text = `p99 of ${probe} while reading is at most ${MARK} × idle`;
        const measured = result?.series.filter((other) => other.direct === direct && other.samples.length > 0) ?? [];
        const one = measured.find((other) => other.title === title);
        if (one === undefined) return { text, found: `${where}: not measured`, met: undefined };
        const peers = measured
          .filter((other) => other.engine === undefined)
          .map((other) => `${other.title}: ${fixed(slowdown(other, probe), 1)}`);
        const peer = peers.length === 0 ? '' : ` (${peers.join('; ')})`;
        const value = slowdown(one, probe);
        return { text, found: `${where}: ${fixed(value, 2)}${peer}`, met: value <= MARK };
      }),
    );
}
