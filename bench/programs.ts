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
  /** Past the page cache, with O_DIRECT. */
  readonly direct: boolean;
  readonly warmupSeconds: number;
  readonly seconds: number;
  /** Both the time and so many reads must have passed. Heeded by the JavaScript programs. */
  readonly warmupTransfers: number;
  readonly transfers: number;
}

/** Where things that were built for this run are. */
export interface Built {
  /** The URL of the library's `index.js`. */
  readonly library: string;
  /** The paths of the compiled child.ts and files-child.ts. */
  readonly child: string;
  readonly filesChild: string;
  /** Paths of the compiled C programs, by source file. */
  readonly native: ReadonlyMap<string, string>;
}

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
}

/** The programs in C. */
export type LimitName = 'c-aio' | 'c-uring' | 'c-uring-fixed';

export interface Program {
  readonly name: string;
  /** In the report. */
  readonly title: string;
  /** Runs the library: is run once for each tree that is compared. */
  readonly ours?: boolean;
  /** The program in C that does the same: its speed limit. */
  readonly limit?: LimitName;
  /** Is also, or only, run on files that are read through the page cache. */
  readonly buffered?: boolean | 'only';
  /** What it allocates is counted. */
  readonly countAllocation?: boolean;
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

function inC(name: LimitName, source: string, ...modes: string[]): Program {
  return {
    name,
    title: `C loop, ${source === 'limit.c' ? 'kernel AIO' : ['io_uring', ...modes].join(', ')}`,
    limit: name,
    source,
    command: ({ path, depth, blockSize, blocks, warmupSeconds, seconds }, { native }) => ({
      file: native.get(source) ?? source,
      args: [path, ...[depth, blockSize, blocks, warmupSeconds, seconds].map(String), ...modes],
    }),
    parse: parseSample,
  };
}

/** The command line of a JavaScript program. */
export function childCommand(job: Omit<Job, 'library'>, built: Built, flags: readonly string[] = []): Command {
  const full: Job = { ...job, library: built.library };
  return { file: process.execPath, args: [...flags, built.child, JSON.stringify(full)] };
}

function inJavaScript(
  loop: LoopName,
  engine: EngineName = 'threads',
  associate = false,
): Pick<Program, 'command' | 'parse'> {
  return {
    command: (task, built) => childCommand({ ...task, loop, engine, associate }, built),
    parse: parseSample,
  };
}

/** The library's low-level loop, over one engine. */
function ours(loop: 'waitSync' | 'wait', engine: EngineName, limit: LimitName, associate = false): Program {
  const name = [
    engine.replace(/^kernel-|^io-/, ''),
    ...(associate ? ['fixed'] : []),
    loop === 'wait' ? 'wait' : 'wait-sync',
  ];
  const call = loop === 'wait' ? 'await wait()' : 'waitSync()';
  return {
    name: name.join('-'),
    title: `fileaio ${call}, ${engine}${associate ? ', fixed' : ''}`,
    ours: true,
    limit,
    buffered: !associate,
    countAllocation: !associate,
    ...inJavaScript(loop, engine, associate),
  };
}

/** The loop of `fs-promises` over a handle of the library's. */
function handle(engine: EngineName, rest: Partial<Program>): Program {
  return {
    name: `handle-${engine.replace(/^kernel-|^io-/, '')}`,
    title: `fileaio/promises read, ${engine}`,
    ours: true,
    ...rest,
    ...inJavaScript('handle', engine),
  };
}

interface FioJob {
  readonly usr_cpu: number;
  readonly sys_cpu: number;
  readonly job_runtime: number;
  readonly read: { readonly total_ios: number; readonly runtime: number };
}

type FioEngine = 'libaio' | 'io_uring';

/** What was fastest of fio's own settings, tried on tmpfs at depth 32 and 128. */
const FIO_BEST: Readonly<Record<FioEngine, (depth: number) => Readonly<Record<string, number>>>> = {
  libaio: (depth) => ({ userspace_reap: 1, iodepth_batch_complete_min: Math.min(depth, 32) }),
  io_uring: () => ({ registerfiles: 1, fixedbufs: 1, nonvectored: 1, iodepth_batch_complete_min: 1 }),
};

function fioArguments(engine: FioEngine, task: Task): string[] {
  const { path, depth, blockSize, blocks, warmupSeconds, seconds } = task;
  const options = {
    name: 'fileaio',
    filename: path,
    size: blockSize * blocks,
    bs: blockSize,
    rw: 'randread',
    direct: 1,
    ioengine: engine,
    iodepth: depth,
    iodepth_batch_submit: depth,
    iodepth_batch_complete_max: depth,
    // Without a map of the blocks that were read, without latency clocks, without dropping caches first.
    norandommap: 1,
    gtod_reduce: 1,
    invalidate: 0,
    thread: 1,
    ...FIO_BEST[engine](depth),
    time_based: 1,
    ramp_time: `${Math.round(warmupSeconds * 1000)}ms`,
    runtime: `${Math.round(seconds * 1000)}ms`,
    'output-format': 'json',
  };
  return Object.entries(options).map(([key, value]) => `--${key}=${value}`);
}

function fio(name: string, engine: FioEngine, limit: LimitName): Program {
  return {
    name,
    title: `fio, ${[engine, ...(limit === 'c-uring-fixed' ? ['fixed'] : [])].join(', ')}`,
    limit,
    requires: 'fio',
    command: (task) => ({ file: 'fio', args: fioArguments(engine, task) }),
    parse: (stdout) => {
      const { jobs } = JSON.parse(stdout) as { jobs: readonly FioJob[] };
      const [job] = jobs;
      if (job === undefined) throw new Error('fio reported no job');
      const seconds = job.read.runtime / 1000;
      return { transfers: job.read.total_ios, seconds, cpuUs: (job.usr_cpu + job.sys_cpu) * 1e4 * seconds };
    },
  };
}

export const programs: readonly Program[] = [
  inC('c-aio', 'limit.c'),
  fio('fio-aio', 'libaio', 'c-aio'),
  ours('waitSync', 'kernel-aio', 'c-aio'),
  ours('wait', 'kernel-aio', 'c-aio'),
  inC('c-uring', 'limit-uring.c'),
  ours('waitSync', 'io-uring', 'c-uring'),
  ours('wait', 'io-uring', 'c-uring'),
  inC('c-uring-fixed', 'limit-uring.c', 'fixed'),
  fio('fio-uring', 'io_uring', 'c-uring-fixed'),
  ours('waitSync', 'io-uring', 'c-uring-fixed', true),
  ours('wait', 'io-uring', 'c-uring-fixed', true),
  handle('kernel-aio', { limit: 'c-aio' }),
  handle('io-uring', { limit: 'c-uring', buffered: true }),
  handle('threads', { pooled: true, buffered: 'only' }),
  {
    name: 'fs-promises',
    title: 'node:fs/promises read',
    pooled: true,
    buffered: true,
    ...inJavaScript('fsPromises'),
  },
  {
    name: 'fs-callback',
    title: 'node:fs read, callback',
    pooled: true,
    buffered: true,
    ...inJavaScript('fsCallback'),
  },
  { name: 'fs-sync', title: 'node:fs readSync', maxDepth: 1, ...inJavaScript('fsSync') },
];
