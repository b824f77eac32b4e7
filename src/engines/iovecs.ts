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

  constructor(native: Native) {
    this.#native = native;
  }

  /** Writes the present group of each vectored transfer; returns how many segments these are. */
  write(batch: readonly (Transfer | undefined)[], from: number, to: number): number {
    let count = 0;
    for (let index = from; index < to; index++) {
      const transfer = batch[index];
      if (transfer?.vectored !== true) continue;
      transfer.iovecIndex = count;
      count += transfer.to - transfer.from;
    }
    if (count === 0) return 0;
    if (this.#words.length < count * WORDS) {
      this.#words = new Int32Array(count * WORDS);
      this.#address = this.#native.address(new Uint8Array(this.#words.buffer));
    }
    for (let index = from; index < to; index++) {
      const transfer = batch[index];
      if (transfer?.vectored === true) this.#fill(transfer);
    }
    return count;
  }

  #fill(transfer: Transfer): void {
    let at = transfer.iovecIndex * WORDS;
    for (let part = transfer.from; part < transfer.to; part++) {
      const segment = transfer.segments[part];
      if (segment === undefined) break;
      this.#words[at] = segment.addressLow;
      this.#words[at + 1] = segment.addressHigh;
      this.#words[at + 2] = segment.length | 0;
      this.#words[at + 3] = Math.floor(segment.length / 2 ** 32);
      at += WORDS;
    }
  }

  /** Where a transfer's segments stand. */
  addressOf(transfer: Transfer): number {
    return this.#address + transfer.iovecIndex * IOVEC_SIZE;
  }
}

/** Writes a 64-bit address as two words, low first. */
export function setAddress(words: Int32Array, at: number, address: number): void {
  words[at] = address | 0;
  words[at + 1] = Math.floor(address / 2 ** 32);
}
