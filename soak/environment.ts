/** What the tasks of one thread share: chance, the rate, counters, and memory that nobody may write to any more. */
import { setTimeout as delay } from 'node:timers/promises';
import { allocBuffer } from '../src/index.ts';
import { BLOCK } from './content.ts';

/** Counted by every thread in one shared array, so that a thread's counts outlive it. */
export const COUNTERS = [
  'transfers',
  'kibibytes',
  'contexts',
  'handles',
  'streams',
  'wholeFiles',
  'canceled',
  'inProgress',
  'aborted',
  'wakeups',
  'timeouts',
  'refused',
  'watched',
] as const;

export type Counter = (typeof COUNTERS)[number];

const CANARY = 0xc5;
/** How long memory that was given back is looked at, for writes that come late. */
const WATCH_MS = 300;
const MOST_WATCHED = 64;

interface Watched {
  readonly bytes: Uint8Array;
  readonly pattern: number;
  readonly since: number;
}

/** Memory with some on both sides that must stay as it is. */
export interface Guarded {
  readonly bytes: Buffer;
  /** Whether nobody wrote beside it. */
  intact(): boolean;
}

const canary = Buffer.alloc(BLOCK, CANARY);

export class Environment {
  readonly #counters: Int32Array;
  readonly #perSecond: number;
  readonly #begun = performance.now();
  #paced = 0;
  #seed: number;
  readonly #watched: Watched[] = [];
  /** Tasks end when they see it. */
  stopped = false;

  /** @param perSecond - transfers of this thread, 0: as many as it can. */
  constructor(counters: Int32Array, seed: number, perSecond: number) {
    this.#counters = counters;
    this.#seed = seed | 1;
    this.#perSecond = perSecond;
  }

  count(counter: Counter, by = 1): void {
    Atomics.add(this.#counters, COUNTERS.indexOf(counter), by);
  }

  /** A whole number from 0 to `count` − 1. */
  below(count: number): number {
    // xorshift32: good enough to mix things up, and it can be begun anywhere.
    let value = this.#seed;
    value ^= value << 13;
    value ^= value >>> 17;
    value ^= value << 5;
    this.#seed = value;
    return (value >>> 0) % count;
  }

  chance(probability: number): boolean {
    return this.below(1_000_000) < probability * 1_000_000;
  }

  /** After so many transfers: counts them, and keeps to the rate. */
  async pace(transfers: number, bytes: number): Promise<void> {
    this.count('transfers', transfers);
    this.count('kibibytes', bytes >> 10);
    this.#paced += transfers;
    this.look();
    if (this.#perSecond === 0) return;
    const aheadMs = (this.#paced / this.#perSecond) * 1000 - (performance.now() - this.#begun);
    // What was not used up is not made up for.
    if (aheadMs < -1000) this.#paced += (-aheadMs / 1000) * this.#perSecond;
    if (aheadMs > 5) await delay(aheadMs);
  }

  /** Memory of `size` bytes: of the library's own kind, or JavaScript's. Both at a page boundary if `aligned`. */
  guarded(size: number, aligned: boolean): Guarded {
    const whole =
      aligned || this.chance(0.5) ? allocBuffer(size + 2 * BLOCK) : Buffer.from(new ArrayBuffer(size + 2 * BLOCK));
    whole.fill(CANARY);
    const bytes = whole.subarray(BLOCK, BLOCK + size);
    const intact = (): boolean =>
      canary.equals(whole.subarray(0, BLOCK)) && canary.equals(whole.subarray(BLOCK + size));
    return { bytes, intact };
  }

  /** This memory is the program's again: fills it, and looks at it for a while. */
  watch(bytes: Uint8Array): void {
    if (this.#watched.length >= MOST_WATCHED) return;
    const pattern = this.below(256);
    bytes.fill(pattern);
    this.#watched.push({ bytes, pattern, since: performance.now() });
    this.count('watched');
  }

  /** Throws where memory that was given back has changed. Forgets what has been looked at for long enough. */
  look(): void {
    const now = performance.now();
    for (;;) {
      const first = this.#watched[0];
      if (first === undefined || now - first.since < WATCH_MS) return;
      this.#watched.shift();
      if (first.bytes.some((byte) => byte !== first.pattern)) {
        throw new Error(`memory of ${first.bytes.length} bytes was written to after it was given back`);
      }
    }
  }
}

/** A part of a file that one task has to itself, and what stands in each of its blocks. */
export class Region {
  readonly file: number;
  readonly first: number;
  readonly blocks: number;
  /** Of each block: how often it was written. */
  readonly generations: Int32Array;
  /** Being written, or left in between by a write that was taken back: not to be read. */
  readonly #unsure: Uint8Array;
  readonly #users: Uint8Array;

  constructor(file: number, first: number, blocks: number) {
    this.file = file;
    this.first = first;
    this.blocks = blocks;
    this.generations = new Int32Array(blocks);
    this.#unsure = new Uint8Array(blocks);
    this.#users = new Uint8Array(blocks);
  }

  /** Takes `count` blocks in a row that nobody else uses, to read or to write them. `undefined`: not now. */
  take(env: Environment, count: number, toRead: boolean): number | undefined {
    for (let tries = 0; tries < 8; tries++) {
      const first = env.below(this.blocks - count + 1);
      let free = true;
      for (let block = first; block < first + count; block++) {
        if (this.#users[block] !== 0 || (toRead && this.#unsure[block] !== 0)) free = false;
      }
      if (!free) continue;
      this.#users.fill(1, first, first + count);
      return first;
    }
    return undefined;
  }

  release(first: number, count: number, unsure: boolean): void {
    this.#users.fill(0, first, first + count);
    this.#unsure.fill(unsure ? 1 : 0, first, first + count);
  }
}
