/** The random numbers of a fuzzing round: the same seed and round make the same calls. */

/** A stream of choices. */
export class Choices {
  #state: number;

  constructor(seed: number, round: number) {
    this.#state = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(round + 1, 0xc2b2ae35)) >>> 0;
    for (let warm = 0; warm < 4; warm++) this.#next();
  }

  /** mulberry32. */
  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  /** 0 … count - 1. */
  below(count: number): number {
    return Math.floor((this.#next() / 2 ** 32) * count);
  }

  chance(probability: number): boolean {
    return this.#next() < probability * 2 ** 32;
  }

  of<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  /** Choices of their own, for what is decided later, nobody knows when. */
  fork(): Choices {
    return new Choices(this.#next(), this.#next());
  }
}
