/** One measurement: what is asked of whoever carries it out, what he measures with, and what comes out. */
import type { FileHandle } from 'node:fs/promises';
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { PROGRESS_MS } from './progress.ts';

export const MODES = ['read', 'write', 'randread', 'randwrite', 'randrw'] as const;
export type Mode = (typeof MODES)[number];

function isRandom(mode: Mode): boolean {
  return mode.startsWith('rand');
}

/** Whether a mode reads at all. */
export function reads(mode: Mode): boolean {
  return mode !== 'write' && mode !== 'randwrite';
}

/** Whether a mode writes at all. */
export function writes(mode: Mode): boolean {
  return mode !== 'read' && mode !== 'randread';
}

/** What is to be done. The same for every {@link Runner} of a benchmark. */
export interface Job {
  /** Open as the mode needs it, with O_DIRECT where that is wanted. Everybody uses this one. */
  readonly handle: FileHandle;
  readonly mode: Mode;
  readonly blockSize: number;
  /** Whole blocks of the file; nothing else is addressed. */
  readonly blocks: number;
  readonly depth: number;
  /** Of buffer addresses. */
  readonly alignment: number;
  readonly warmupMs: number;
  readonly runtimeMs: number;
}

/** How a measurement comes along. */
export interface Sample {
  /** Since the beginning of the warm-up. */
  readonly elapsedMs: number;
  /** False during the warm-up. The first sample with `true` comes when the measurement begins. */
  readonly measuring: boolean;
  /** Transfers per second since the last sample. */
  readonly iops: number;
}

export type OnProgress = (sample: Sample) => void;

/** Latencies in microseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  readonly mean: number;
}

/** What came out, of the time after the warm-up. */
export interface Measured {
  readonly transfers: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly latencyUs: Latency;
  /** What {@link Measured.latencyUs} was read from, in nanoseconds. */
  readonly histogram: RecordableHistogram;
  /** Of the whole process, user and system. */
  readonly cpuUs: number;
}

function latencyOf(histogram: RecordableHistogram): Latency {
  const us = (ns: number): number => (histogram.count === 0 ? 0 : ns / 1000);
  return {
    p50: us(histogram.percentile(50)),
    p99: us(histogram.percentile(99)),
    p999: us(histogram.percentile(99.9)),
    max: us(histogram.max),
    mean: us(histogram.mean),
  };
}

/** Several measurements of the same as one. */
export function together(rounds: readonly Measured[]): Measured {
  const histogram = createHistogram();
  for (const round of rounds) histogram.add(round.histogram);
  const sum = (of: (measured: Measured) => number): number => rounds.reduce((total, each) => total + of(each), 0);
  return {
    transfers: sum(({ transfers }) => transfers),
    bytes: sum(({ bytes }) => bytes),
    seconds: sum(({ seconds }) => seconds),
    latencyUs: latencyOf(histogram),
    histogram,
    cpuUs: sum(({ cpuUs }) => cpuUs),
  };
}

/** Carries out a job until its time is up or `signal` aborts; in either case nothing is in flight when it resolves. */
export type Runner = (job: Job, onProgress: OnProgress, signal: AbortSignal) => Promise<Measured>;

/** Where the next transfer goes. The same seed, thus the same order of blocks, for every runner. */
export class Pattern {
  readonly #mode: Mode;
  readonly #random: boolean;
  readonly #blockSize: number;
  readonly #blocks: number;
  #next = 0;
  #state = 0x2545f491;

  constructor({ mode, blockSize, blocks }: Job) {
    this.#mode = mode;
    this.#random = isRandom(mode);
    this.#blockSize = blockSize;
    this.#blocks = blocks;
  }

  /** The position of the next transfer. */
  position(): number {
    if (this.#random) return Math.floor(this.#draw() * this.#blocks) * this.#blockSize;
    const block = this.#next;
    this.#next = block + 1 === this.#blocks ? 0 : block + 1;
    return block * this.#blockSize;
  }

  /** Whether the next transfer is a write. */
  isWrite(): boolean {
    return this.#mode === 'randrw' ? this.#draw() < 0.5 : writes(this.#mode);
  }

  /** Marsaglia's xorshift, 32 bits: cheap, allocates nothing, and even enough for choosing blocks. 0 … 1, 1 excluded. */
  #draw(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) / 2 ** 32;
  }
}

/** The stopwatch of a runner: warm-up, measurement, end. What completes outside the measurement does not count. */
export class Meter {
  readonly #job: Job;
  readonly #onProgress: OnProgress;
  readonly #signal: AbortSignal;
  readonly #histogram = createHistogram();
  readonly #begunMs = performance.now();
  #state: 'warming' | 'measuring' | 'ended' = 'warming';
  #sinceMs = 0;
  #endedMs = 0;
  #cpuAtStart: NodeJS.CpuUsage = { user: 0, system: 0 };
  #cpuUs = 0;
  #transfers = 0;
  #sampledMs = this.#begunMs;
  #sampledTransfers = 0;

  constructor(job: Job, onProgress: OnProgress, signal: AbortSignal) {
    this.#job = job;
    this.#onProgress = onProgress;
    this.#signal = signal;
  }

  get running(): boolean {
    return this.#state !== 'ended';
  }

  /** One transfer completed, `latencyMs` after it was submitted. */
  record(latencyMs: number): void {
    if (this.#state === 'ended') return;
    this.#transfers++;
    if (this.#state === 'measuring') this.#histogram.record(Math.max(1, Math.round(latencyMs * 1e6)));
  }

  /** To be asked after each batch of completions. `false`: submit no more. */
  tick(nowMs: number): boolean {
    switch (this.#state) {
      case 'warming':
        if (this.#signal.aborted) this.#end(nowMs);
        else if (nowMs - this.#begunMs >= this.#job.warmupMs) this.#measure(nowMs);
        break;
      case 'measuring':
        if (this.#signal.aborted || nowMs - this.#sinceMs >= this.#job.runtimeMs) this.#end(nowMs);
        break;
    }
    if (nowMs - this.#sampledMs >= PROGRESS_MS) this.#sample(nowMs);
    return this.#state !== 'ended';
  }

  /** Of the measurement alone; all zero where the warm-up was not over. */
  finish(): Measured {
    const { count } = this.#histogram;
    return {
      transfers: count,
      bytes: count * this.#job.blockSize,
      seconds: (this.#endedMs - this.#sinceMs) / 1000,
      latencyUs: latencyOf(this.#histogram),
      histogram: this.#histogram,
      cpuUs: this.#cpuUs,
    };
  }

  #measure(nowMs: number): void {
    this.#state = 'measuring';
    this.#sinceMs = nowMs;
    this.#sample(nowMs);
    this.#cpuAtStart = process.cpuUsage();
  }

  #end(nowMs: number): void {
    if (this.#state === 'measuring') {
      const { user, system } = process.cpuUsage(this.#cpuAtStart);
      this.#cpuUs = user + system;
    } else {
      this.#sinceMs = nowMs;
    }
    this.#state = 'ended';
    this.#endedMs = nowMs;
  }

  #sample(nowMs: number): void {
    const seconds = Math.max(nowMs - this.#sampledMs, 1) / 1000;
    this.#onProgress({
      elapsedMs: nowMs - this.#begunMs,
      measuring: this.#state === 'measuring',
      iops: (this.#transfers - this.#sampledTransfers) / seconds,
    });
    this.#sampledMs = nowMs;
    this.#sampledTransfers = this.#transfers;
  }
}
