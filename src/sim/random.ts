/**
 * The simulator's own random numbers: 32-bit integer arithmetic and exact fractions, so that a seed means the same on every platform
 * and in every version of every runtime.
 */

import { checkInteger, invalidArgType, outOfRange } from '../errors.ts';

/** A stream of random numbers that a seed decides. */
export interface SimulatedRandom {
  /** An integer from 0 up to `count`, not included. */
  below(count: number): number;
  /** An integer from `min` to `max`, both included. */
  between(min: number, max: number): number;
  /** `true` in so many of all cases: 0 never, 1 always. Draws nothing for these two. */
  chance(probability: number): boolean;
}

/** Spreads one word over all bits of another (splitmix32). */
function mix(word: number): number {
  let mixed = (word + 0x9e3779b9) | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
  return mixed ^ (mixed >>> 15);
}

/** The generator sfc32: four words of state, passes PractRand. */
export class Random implements SimulatedRandom {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /**
   * @param seed - an integer from 0 to 2^53 − 1.
   * @param purpose - streams for different purposes have nothing to do with each other: drawing from one leaves the others as they are.
   */
  constructor(seed: number, purpose: string) {
    let word = mix(seed | 0) ^ mix(Math.floor(seed / 2 ** 32) ^ 0x5bd1e995);
    for (let index = 0; index < purpose.length; index++) word = mix(word ^ purpose.charCodeAt(index));
    this.#a = mix(word);
    this.#b = mix(this.#a);
    this.#c = mix(this.#b);
    for (let round = 0; round < 12; round++) this.#next();
  }

  #next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  below(count: number): number {
    checkInteger('count', count, 0, 2 ** 53);
    // 53 bits make an exact fraction below 1; one multiplication of doubles is the same everywhere.
    const fraction = ((this.#next() >>> 5) * 2 ** 26 + (this.#next() >>> 6)) / 2 ** 53;
    return Math.floor(fraction * count);
  }

  between(min: number, max: number): number {
    checkInteger('min', min, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
    checkInteger('max', max, min, Number.MAX_SAFE_INTEGER);
    return min + this.below(max - min + 1);
  }

  chance(probability: number): boolean {
    if (typeof probability !== 'number') throw invalidArgType('probability', 'of type number', probability);
    if (Number.isNaN(probability)) throw outOfRange('probability', 'a number', probability);
    if (probability <= 0) return false;
    return probability >= 1 || this.#next() < probability * 2 ** 32;
  }
}
