/** What every JavaScript program of the benchmark shares: the order of the blocks, and the measuring. */
import { PerformanceObserver } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';

/** Transfers between two looks at the clock, as in limit.c. */
const CHECK_EVERY = 256;

/** What one run of one program found. The last three are for programs that have a JavaScript heap. */
export interface Sample {
  readonly transfers: number;
  readonly seconds: number;
  /** User and system time of the whole process, in microseconds. */
  readonly cpuUs: number;
  /** Garbage collections within the measured time. */
  readonly collections?: number;
  /** Of the used heap, over the measured time, in bytes: all that was allocated, where nothing was collected. */
  readonly heapGrowth?: number;
  /** Used heap before and after, each after a forced collection. Only with `--expose-gc`. */
  readonly heapKept?: readonly [before: number, after: number];
}

/** Positions of random blocks: xorshift32 with the seed of limit.c, so that every program reads the same blocks. */
export class Positions {
  #state = 0x9e3779b9 | 0;
  readonly #mask: number;
  readonly #blockSize: number;

  /** `blocks` is a power of two. */
  constructor(blocks: number, blockSize: number) {
    this.#mask = blocks - 1;
    this.#blockSize = blockSize;
  }

  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x & this.#mask) * this.#blockSize;
  }
}

/** How long to warm up and to measure: both the time and the transfers must have passed. */
export interface Span {
  readonly warmupSeconds: number;
  readonly seconds: number;
  readonly warmupTransfers: number;
  readonly transfers: number;
}

interface Snapshot {
  readonly transfers: number;
  readonly time: number;
  readonly cpu: NodeJS.CpuUsage;
  readonly heap: number;
}

/** Counts transfers. Warms up first, then measures, in one go: the queue never runs dry in between. */
export class Meter {
  readonly #span: Span;
  readonly #collections: number[] = [];
  readonly #observer: PerformanceObserver;
  #count = 0;
  #check = CHECK_EVERY;
  #begun = performance.now();
  #start: Snapshot | undefined;
  #end: Snapshot | undefined;
  #heapBefore = 0;

  constructor(span: Span) {
    this.#span = span;
    this.#observer = new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) this.#collections.push(entry.startTime);
    });
    this.#observer.observe({ entryTypes: ['gc'] });
  }

  /** Counts `transfers` more. False: enough, submit no more. */
  add(transfers: number): boolean {
    this.#count += transfers;
    return this.#count < this.#check ? this.#end === undefined : this.#look();
  }

  #look(): boolean {
    this.#check = this.#count + CHECK_EVERY;
    if (this.#end !== undefined) return false;
    const span = this.#span;
    const now = performance.now();
    const seconds = (now - this.#begun) / 1000;
    if (this.#start === undefined) {
      if (seconds >= span.warmupSeconds && this.#count >= span.warmupTransfers) {
        if (globalThis.gc !== undefined) {
          globalThis.gc();
          this.#heapBefore = getHeapStatistics().used_heap_size;
        }
        this.#start = this.#snapshot();
        this.#begun = performance.now();
      }
    } else if (seconds >= span.seconds && this.#count - this.#start.transfers >= span.transfers) {
      this.#end = this.#snapshot();
      return false;
    }
    return true;
  }

  #snapshot(): Snapshot {
    const heap = getHeapStatistics().used_heap_size;
    return { transfers: this.#count, cpu: process.cpuUsage(), heap, time: performance.now() };
  }

  /** Call it when the loop has ended. */
  async sample(): Promise<Sample> {
    let kept: Pick<Sample, 'heapKept'> = {};
    if (globalThis.gc !== undefined) {
      globalThis.gc();
      kept = { heapKept: [this.#heapBefore, getHeapStatistics().used_heap_size] };
    }
    // The observer hears of collections on the event loop, which a loop of blocking waits never reached.
    await new Promise((resolve) => setTimeout(resolve, 20));
    this.#observer.disconnect();
    const start = this.#start;
    const end = this.#end;
    if (start === undefined || end === undefined) throw new Error('The loop ended before its time');
    const cpu = end.cpu.user - start.cpu.user + end.cpu.system - start.cpu.system;
    return {
      transfers: end.transfers - start.transfers,
      seconds: (end.time - start.time) / 1000,
      cpuUs: cpu,
      collections: this.#collections.filter((time) => time >= start.time && time <= end.time).length,
      heapGrowth: end.heap - start.heap,
      ...kept,
    };
  }
}
