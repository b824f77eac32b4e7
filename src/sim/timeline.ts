/**
 * Virtual time. It stands still while programs run, and jumps to what happens next when nobody has anything else to do but wait. Counted in
 * whole microseconds.
 */
import type { Clock } from '../engine.ts';
import { canWatch } from '../wake.ts';

/** Something that is going to happen. */
export interface Happening {
  readonly dueUs: number;
  /** Of two at the same time, the lower comes first. No two have the same. */
  readonly order: number;
  /** It is not going to happen after all. */
  canceled: boolean;
  happen(): void;
}

/** Somebody who waits, and lets time pass by that. */
export interface Sleeper {
  /** Time does not pass this before it was told. */
  readonly untilUs: number;
  readonly hasNews: boolean;
  /** Called by the event loop when there are news, or when its time has come. */
  ready(): void;
}

/** The longest interval of setInterval. */
const FOREVER_MS = 2 ** 31 - 1;
/** How often to look for wake-ups of other threads where nothing tells of them. */
const LOOK_MS = 5;

export class Timeline {
  nowUs = 0;
  readonly clock: Clock = { now: () => this.nowUs / 1000 };
  /** A heap: no happening is before its parent at `(index - 1) / 2`. */
  readonly #heap: Happening[] = [];
  readonly #sleepers = new Set<Sleeper>();
  #immediate: NodeJS.Immediate | undefined;
  /** Keeps the event loop alive while somebody waits for another thread. */
  #keeper: NodeJS.Timeout | undefined;

  add(happening: Happening): void {
    const heap = this.#heap;
    let index = heap.push(happening) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || isBefore(above, happening)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = happening;
    this.stir();
  }

  #peek(): Happening | undefined {
    while (this.#heap[0]?.canceled === true) this.#pop();
    return this.#heap[0];
  }

  #pop(): Happening | undefined {
    const heap = this.#heap;
    const [top] = heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let index = 0;
    for (;;) {
      const right = heap[2 * index + 2];
      let child = 2 * index + 1;
      let below = heap[child];
      if (below === undefined) break;
      if (right !== undefined && isBefore(right, below)) {
        child++;
        below = right;
      }
      if (isBefore(last, below)) break;
      heap[index] = below;
      index = child;
    }
    heap[index] = last;
    return top;
  }

  /**
   * Lets time pass until something happens, and everything of that moment with it, but not beyond `untilUs`. Returns whether anything happened.
   * With nothing to happen, and no end, time stands still.
   */
  advance(untilUs: number): boolean {
    const next = this.#peek();
    if (next === undefined || next.dueUs > untilUs) {
      if (untilUs !== Infinity) this.nowUs = Math.max(this.nowUs, untilUs);
      return false;
    }
    this.nowUs = Math.max(this.nowUs, next.dueUs);
    for (let due = this.#peek(); due !== undefined && due.dueUs <= this.nowUs; due = this.#peek()) {
      this.#pop();
      due.happen();
    }
    return true;
  }

  /** From here on time passes, on the event loop, until the sleeper is told; it stays one until {@link leave}. */
  sleep(sleeper: Sleeper): void {
    this.#sleepers.add(sleeper);
    this.stir();
  }

  /** Calls back on the event loop when so much time has passed, and lets it pass. */
  after(us: number, run: () => void): void {
    const sleeper: Sleeper = {
      untilUs: this.nowUs + us,
      hasNews: false,
      ready: () => {
        this.leave(sleeper);
        run();
      },
    };
    this.sleep(sleeper);
  }

  leave(sleeper: Sleeper): void {
    this.#sleepers.delete(sleeper);
    if (this.#sleepers.size > 0) return;
    clearImmediate(this.#immediate);
    this.#immediate = undefined;
    this.#stopKeeping();
  }

  /** There may be news for a sleeper. */
  stir(): void {
    if (this.#sleepers.size === 0 || this.#immediate !== undefined) return;
    this.#stopKeeping();
    this.#immediate = setImmediate(() => this.#turn());
  }

  /** One turn of the event loop: tells whoever has news; where nobody has, time passes until somebody does. */
  #turn(): void {
    this.#immediate = undefined;
    while (!this.#tell()) {
      const untilUs = this.#firstEnd();
      if (this.#peek() === undefined && untilUs === Infinity) {
        // Only another thread can go on from here, or what the program still has to do.
        this.#keep();
        return;
      }
      this.advance(untilUs);
    }
    this.stir();
  }

  #tell(): boolean {
    let told = this.#sleepers.size === 0;
    for (const sleeper of [...this.#sleepers]) {
      if (!this.#sleepers.has(sleeper) || !(sleeper.hasNews || sleeper.untilUs <= this.nowUs)) continue;
      told = true;
      sleeper.ready();
    }
    return told;
  }

  #firstEnd(): number {
    let first = Infinity;
    for (const { untilUs } of this.#sleepers) first = Math.min(first, untilUs);
    return first;
  }

  #keep(): void {
    this.#keeper ??= setInterval(() => this.#look(), canWatch ? FOREVER_MS : LOOK_MS);
  }

  #look(): void {
    for (const { hasNews } of this.#sleepers) if (hasNews) this.stir();
  }

  #stopKeeping(): void {
    clearInterval(this.#keeper);
    this.#keeper = undefined;
  }
}

function isBefore(one: Happening, other: Happening): boolean {
  return one.dueUs < other.dueUs || (one.dueUs === other.dueUs && one.order < other.order);
}
