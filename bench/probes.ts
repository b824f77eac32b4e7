/** How long other things of a program take, while it is idle and while it reads as much as it can. */
import { spawn } from 'node:child_process';
import { pbkdf2 } from 'node:crypto';
import { lookup } from 'node:dns';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { EngineName } from '../src/index.ts';
import { promisesBeside } from './library.ts';
import { median } from './median.ts';
import { Positions } from './meter.ts';

export interface StarvationJob {
  readonly kind: 'starvation';
  /** Reads through `fileaio/promises` over this engine; without one through `node:fs/promises`. */
  readonly engine: EngineName | undefined;
  /** Instead, this program in C reads, in a process of its own: what is left of the slowdown is the machine's. */
  readonly limit: string | undefined;
  /** The URL of the library's `index.js`. */
  readonly library: string;
  readonly path: string;
  readonly direct: boolean;
  /** Reads in flight. */
  readonly depth: number;
  readonly blockSize: number;
  readonly blocks: number;
  /** How many of each kind. */
  readonly probes: number;
}

/** In milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** What is asked of libuv's thread pool; they take turns. */
const probes = {
  'dns.lookup': (done: (error: Error | null) => void) => lookup('localhost', done),
  // About a millisecond of a core.
  'crypto.pbkdf2': (done: (error: Error | null) => void) => pbkdf2('password', 'salt', 3000, 32, 'sha256', done),
  'fs.stat': (done: (error: Error | null) => void) => fs.stat(process.execPath, done),
} as const;

type PoolProbe = keyof typeof probes;

const kinds = Object.keys(probes) as PoolProbe[];

/** What is measured, in the order of the report. */
export const probeNames = [...kinds, 'event loop'] as const;

export type ProbeName = PoolProbe | 'event loop';

export type Latencies = Readonly<Record<ProbeName, Latency>>;

export interface StarvationSample {
  readonly idle: Latencies;
  readonly loaded: Latencies;
  /** How fast it read meanwhile. */
  readonly readsPerSecond: number;
}

/** Between two probes. */
const PACE_MS = 1;

/** Of each kind, before anything is measured. */
const WARMUP_PROBES = 100;

/** Idle and loaded take turns, so that what else the machine does is in both. */
const SLICES = 4;

/** So long it reads in each slice before it is measured. */
const WARMUP_MS = 250;

/** After this a program of its own ends by itself, should nobody be there any more to end it. */
const LONGEST_SLICE_SECONDS = 120;

const EVENT_LOOP_RESOLUTION_MS = 1;

type Answers = Readonly<Record<PoolProbe, number[]>>;

function noAnswers(): Answers {
  return { 'dns.lookup': [], 'crypto.pbkdf2': [], 'fs.stat': [] };
}

function summary(values: number[]): Latency {
  values.sort((a, b) => a - b);
  const at = (part: number): number => values[Math.ceil(values.length * part) - 1] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

/** `count` probes of each kind, one after the other at a steady pace, whether those before have come back or not. */
function ask(count: number, found: Answers): Promise<void> {
  const all = count * kinds.length;
  let asked = 0;
  let answered = 0;
  return new Promise((resolve, reject) => {
    const timer = setInterval(() => {
      const kind = kinds[asked % kinds.length];
      if (++asked === all) clearInterval(timer);
      if (kind === undefined) return;
      const begun = performance.now();
      probes[kind]((error) => {
        found[kind].push(performance.now() - begun);
        if (error !== null) {
          clearInterval(timer);
          reject(error);
        } else if (++answered === all) resolve();
      });
    }, PACE_MS);
  });
}

/** What was found in one of the two conditions. */
class Condition {
  readonly #answers = noAnswers();
  /** Of each slice: monitors cannot be added up, and one that pauses counts the pause. */
  readonly #delays: Latency[] = [];

  /** Measures one slice of it. */
  async measure(count: number): Promise<void> {
    const monitor = monitorEventLoopDelay({ resolution: EVENT_LOOP_RESOLUTION_MS });
    monitor.enable();
    await ask(count, this.#answers);
    monitor.disable();
    const ms = (nanoseconds: number): number => nanoseconds / 1e6;
    this.#delays.push({ p50: ms(monitor.percentile(50)), p99: ms(monitor.percentile(99)), max: ms(monitor.max) });
  }

  get latencies(): Latencies {
    const delays = this.#delays;
    return {
      'dns.lookup': summary(this.#answers['dns.lookup']),
      'crypto.pbkdf2': summary(this.#answers['crypto.pbkdf2']),
      'fs.stat': summary(this.#answers['fs.stat']),
      'event loop': {
        p50: median(delays.map(({ p50 }) => p50)),
        p99: median(delays.map(({ p99 }) => p99)),
        max: Math.max(...delays.map(({ max }) => max)),
      },
    };
  }
}

async function openHandle({ engine, library, path, direct }: StarvationJob): Promise<fs.promises.FileHandle> {
  if (engine !== undefined) return (await promisesBeside(library)).open(path, { engine, direct });
  return fs.promises.open(path, fs.constants.O_RDONLY | (direct ? fs.constants.O_DIRECT : 0));
}

/** Aligned memory of the library's, for everybody: Node has no aligned memory. */
async function memory({ library, blockSize, depth }: StarvationJob): Promise<Buffer[]> {
  const { allocBuffer } = (await import(library)) as typeof import('../src/index.ts');
  return Array.from({ length: depth }, () => allocBuffer(blockSize));
}

/** Keeps reads in flight. */
interface Load {
  /** Ends after {@link Load.stop}, or fails. */
  run(): Promise<void>;
  /** From here on its reads count. */
  count(): void;
  stop(): void;
  readonly reads: number;
  readonly seconds: number;
}

class HandleLoad implements Load {
  readonly #handle: fs.promises.FileHandle;
  readonly #positions: Positions;
  readonly #blockSize: number;
  readonly #buffers: readonly Buffer[];
  #stopped = false;
  #moved = 0;
  #before = 0;
  #begun = 0;
  reads = 0;
  seconds = 0;

  constructor(handle: fs.promises.FileHandle, { blocks, blockSize }: StarvationJob, buffers: readonly Buffer[]) {
    this.#handle = handle;
    this.#positions = new Positions(blocks, blockSize);
    this.#blockSize = blockSize;
    this.#buffers = buffers;
  }

  async run(): Promise<void> {
    this.#stopped = false;
    await Promise.all(this.#buffers.map((buffer) => this.#reader(buffer)));
  }

  count(): void {
    this.#before = this.#moved;
    this.#begun = performance.now();
  }

  stop(): void {
    this.reads += this.#moved - this.#before;
    this.seconds += (performance.now() - this.#begun) / 1000;
    this.#stopped = true;
  }

  async #reader(buffer: Buffer): Promise<void> {
    const size = this.#blockSize;
    while (!this.#stopped) {
      const { bytesRead } = await this.#handle.read(buffer, 0, size, this.#positions.next());
      if (bytesRead !== size) throw new Error(`A read moved ${bytesRead} bytes instead of ${size}`);
      this.#moved++;
    }
  }
}

/** A program in C counts for itself. */
class ProgramLoad implements Load {
  readonly #file: string;
  readonly #args: readonly string[];
  #stop = (): void => {};
  reads = 0;
  seconds = 0;

  constructor(file: string, { path, depth, blockSize, blocks, direct }: StarvationJob) {
    this.#file = file;
    const words = direct ? [] : ['buffered'];
    this.#args = [path, depth, blockSize, blocks, WARMUP_MS / 1000, LONGEST_SLICE_SECONDS, ...words].map(String);
  }

  async run(): Promise<void> {
    const child = spawn(this.#file, this.#args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#stop = () => child.kill();
    let output = '';
    child.stdout.on('data', (text) => {
      output += text;
    });
    await once(child, 'close');
    const { transfers, seconds } = JSON.parse(output) as { transfers: number; seconds: number };
    this.reads += transfers;
    this.seconds += seconds;
  }

  count(): void {}

  stop(): void {
    this.#stop();
  }
}

async function loadOf(job: StarvationJob): Promise<{ load: Load; close: () => Promise<void> }> {
  if (job.limit !== undefined) return { load: new ProgramLoad(job.limit, job), close: async () => {} };
  const handle = await openHandle(job);
  return { load: new HandleLoad(handle, job, await memory(job)), close: () => handle.close() };
}

/** Idle and with reads in flight, in turn. */
export async function probe(job: StarvationJob): Promise<StarvationSample> {
  const { load, close } = await loadOf(job);
  await ask(WARMUP_PROBES, noAnswers());
  const idle = new Condition();
  const loaded = new Condition();
  const count = Math.ceil(job.probes / SLICES);
  const underLoad = async (): Promise<void> => {
    await delay(WARMUP_MS);
    load.count();
    await loaded.measure(count);
    load.stop();
  };
  for (let slice = 0; slice < SLICES; slice++) {
    await idle.measure(count);
    await Promise.all([load.run(), underLoad()]);
  }
  await close();
  return { idle: idle.latencies, loaded: loaded.latencies, readsPerSecond: load.reads / load.seconds };
}
