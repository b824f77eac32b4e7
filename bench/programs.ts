/** The programs that are compared. One more is one more entry in {@link programs}. */
import type { EngineName } from '../src/index.ts';
import type { Job } from './child.ts';
import type { LoopName } from './loops.ts';
import type { Sample } from './meter.ts';

/** What a program is to do. */
export interface Task {
  readonly path: string;
  readonly depth: number;
  readonly blockSize: number;
  readonly blocks: number;
  readonly warmupSeconds: number;
  readonly seconds: number;
}

/** Where things that were built for this run are. */
export interface Built {
  /** The URL of the library's `index.js`. */
  readonly library: string;
  /** The path of the compiled child.ts. */
  readonly child: string;
  /** Paths of the compiled C programs, by source file. */
  readonly native: ReadonlyMap<string, string>;
}

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
}

export interface Program {
  readonly name: string;
  /** In the report. */
  readonly title: string;
  /** Runs the library: is run once for each tree that is compared. */
  readonly ours?: boolean;
  /** Queues more than this are not for it. */
  readonly maxDepth?: number;
  /** Works on libuv's thread pool: is run with several sizes of it, and reported with its best. */
  readonly pooled?: boolean;
  /** Is left out where this is not installed. */
  readonly requires?: string;
  /** To be compiled. */
  readonly source?: string;
  command(task: Task, built: Built): Command;
  parse(stdout: string): Sample;
}

function parseSample(stdout: string): Sample {
  return JSON.parse(stdout) as Sample;
}

function inC(source: string): Pick<Program, 'source' | 'command' | 'parse'> {
  return {
    source,
    command: ({ path, depth, blockSize, blocks, warmupSeconds, seconds }, { native }) => ({
      file: native.get(source) ?? source,
      args: [path, ...[depth, blockSize, blocks, warmupSeconds, seconds].map(String)],
    }),
    parse: parseSample,
  };
}

/** The command line of a JavaScript program. */
export function childCommand(job: Omit<Job, 'library'>, built: Built, flags: readonly string[] = []): Command {
  const full: Job = { ...job, library: built.library };
  return { file: process.execPath, args: [...flags, built.child, JSON.stringify(full)] };
}

function inJavaScript(loop: LoopName, engine: EngineName = 'kernel-aio'): Pick<Program, 'command' | 'parse'> {
  return {
    command: (task, built) => childCommand({ ...task, loop, engine, warmupTransfers: 0, transfers: 0 }, built),
    parse: parseSample,
  };
}

interface FioJob {
  readonly usr_cpu: number;
  readonly sys_cpu: number;
  readonly job_runtime: number;
  readonly read: { readonly total_ios: number; readonly runtime: number };
}

function fioArguments({ path, depth, blockSize, blocks, warmupSeconds, seconds }: Task): string[] {
  const options = {
    name: 'fileaio',
    filename: path,
    size: blockSize * blocks,
    bs: blockSize,
    rw: 'randread',
    direct: 1,
    ioengine: 'libaio',
    iodepth: depth,
    iodepth_batch_submit: depth,
    iodepth_batch_complete_min: 1,
    iodepth_batch_complete_max: depth,
    // Without a map of the blocks that were read, without latency clocks, without dropping caches first.
    norandommap: 1,
    gtod_reduce: 1,
    invalidate: 0,
    thread: 1,
    time_based: 1,
    ramp_time: `${Math.round(warmupSeconds * 1000)}ms`,
    runtime: `${Math.round(seconds * 1000)}ms`,
    'output-format': 'json',
  };
  return Object.entries(options).map(([key, value]) => `--${key}=${value}`);
}

export const programs: readonly Program[] = [
  { name: 'c', title: 'C loop (io_submit, io_getevents)', ...inC('limit.c') },
  {
    name: 'fio',
    title: 'fio, libaio (for reference)',
    requires: 'fio',
    command: (task) => ({ file: 'fio', args: fioArguments(task) }),
    parse: (stdout) => {
      const { jobs } = JSON.parse(stdout) as { jobs: readonly FioJob[] };
      const [job] = jobs;
      if (job === undefined) throw new Error('fio reported no job');
      const seconds = job.read.runtime / 1000;
      return { transfers: job.read.total_ios, seconds, cpuUs: (job.usr_cpu + job.sys_cpu) * 1e4 * seconds };
    },
  },
  { name: 'wait-sync', title: 'fileaio waitSync()', ours: true, ...inJavaScript('waitSync') },
  { name: 'wait', title: 'fileaio await wait()', ours: true, ...inJavaScript('wait') },
  { name: 'fs-promises', title: 'node:fs/promises read', pooled: true, ...inJavaScript('fsPromises') },
  { name: 'fs-callback', title: 'node:fs read, callback', pooled: true, ...inJavaScript('fsCallback') },
  { name: 'fs-sync', title: 'node:fs readSync', maxDepth: 1, ...inJavaScript('fsSync') },
];
