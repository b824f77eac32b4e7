import { IOVEC_SIZE } from '../abi/aio.ts';
import type { Native } from '../native.ts';
import type { Transfer } from '../transfer.ts';

const WORDS = IOVEC_SIZE / 4;

/**
 * The segments of the vectored transfers of one batch, as `struct iovec` one after the other. The kernel copies them while
 * it takes a request, so that this memory only has to last until the system call returns.
 */
export class Iovecs {
  readonly #native: Native;
  #words = new Int32Array(0);
  #address = 0;
  /** How many are in `#words`. */
  #count = 0;
  /** What was full already in this batch: its addresses are with the kernel's entries, so it must not be collected. */
  #full: Int32Array[] = [];

  constructor(native: Native) {
    this.#native = native;
  }

  /** Another batch: the kernel has read what was written for the last one. */
  reset(): void {
    if (this.#count === 0) return;
    this.#count = 0;
    this.#full = [];
  }

  /** Whether anything was written for this batch. */
  get used(): boolean {
    return this.#count > 0;
  }

  /** Writes the present group of a vectored transfer; returns the address of its first segment. */
  write(transfer: Transfer): number {
    this.#reserve(transfer.to - transfer.from);
    const address = this.#address + this.#count * IOVEC_SIZE;
    let at = this.#count * WORDS;
    for (let part = transfer.from; part < transfer.to; part++) {
      const segment = transfer.segments[part];
      if (segment === undefined) break;
      this.#words[at] = segment.addressLow;
      this.#words[at + 1] = segment.addressHigh;
      this.#words[at + 2] = segment.length | 0;
      this.#words[at + 3] = Math.floor(segment.length / 2 ** 32);
      at += WORDS;
    }
    this.#count = at / WORDS;
    return address;
  }

  #reserve(count: number): void {
    const needed = (this.#count + count) * WORDS;
    if (needed <= this.#words.length) return;
    this.#full.push(this.#words);
    this.#words = new Int32Array(Math.max(needed, 2 * this.#words.length));
    this.#address = this.#native.address(new Uint8Array(this.#words.buffer));
  }
}

/** Writes a 64-bit address as two words, low first. */
export function setAddress(words: Int32Array, at: number, address: number): void {
  words[at] = address | 0;
  words[at + 1] = Math.floor(address / 2 ** 32);
}
