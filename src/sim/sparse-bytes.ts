/** The bytes of a file, with holes that cost nothing, in units of sectors. What was never written reads as zeros. */

/** Memory comes in pieces of this size; a multiple of every sector size. */
const CHUNK_BYTES = 2 ** 16;

interface Chunk {
  readonly bytes: Uint8Array;
  /** By sector of the chunk: 1 where something was written. */
  readonly used: Uint8Array;
}

export class SparseBytes {
  readonly #sectorSize: number;
  #chunks = new Map<number, Chunk>();
  /** Sectors that are no holes. */
  allocated = 0;

  constructor(sectorSize: number) {
    this.#sectorSize = sectorSize;
  }

  clone(): SparseBytes {
    const copy = new SparseBytes(this.#sectorSize);
    copy.allocated = this.allocated;
    for (const [index, { bytes, used }] of this.#chunks) {
      copy.#chunks.set(index, { bytes: bytes.slice(), used: used.slice() });
    }
    return copy;
  }

  read(position: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const at = position + done;
      const start = at % CHUNK_BYTES;
      const part = Math.min(into.length - done, CHUNK_BYTES - start);
      const chunk = this.#chunks.get(Math.floor(at / CHUNK_BYTES));
      if (chunk === undefined) into.fill(0, done, done + part);
      else into.set(chunk.bytes.subarray(start, start + part), done);
      done += part;
    }
  }

  write(position: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; ) {
      const at = position + done;
      const start = at % CHUNK_BYTES;
      const part = Math.min(from.length - done, CHUNK_BYTES - start);
      const chunk = this.#chunkAt(Math.floor(at / CHUNK_BYTES));
      chunk.bytes.set(from.subarray(done, done + part), start);
      const last = Math.floor((start + part - 1) / this.#sectorSize);
      for (let sector = Math.floor(start / this.#sectorSize); sector <= last; sector++) {
        if (chunk.used[sector] === 0) {
          chunk.used[sector] = 1;
          this.allocated++;
        }
      }
      done += part;
    }
  }

  #chunkAt(index: number): Chunk {
    let chunk = this.#chunks.get(index);
    if (chunk === undefined) {
      chunk = { bytes: new Uint8Array(CHUNK_BYTES), used: new Uint8Array(CHUNK_BYTES / this.#sectorSize) };
      this.#chunks.set(index, chunk);
    }
    return chunk;
  }

  /** Cuts off what lies at `size` and beyond: holes from there on. */
  truncate(size: number): void {
    const first = Math.floor(size / CHUNK_BYTES);
    for (const [index, chunk] of this.#chunks) {
      if (index < first) continue;
      const from = index === first ? size % CHUNK_BYTES : 0;
      chunk.bytes.fill(0, from);
      for (let sector = Math.ceil(from / this.#sectorSize); sector < chunk.used.length; sector++) {
        this.allocated -= chunk.used[sector] ?? 0;
        chunk.used[sector] = 0;
      }
      if (from === 0) this.#chunks.delete(index);
    }
  }

  isAllocated(sector: number): boolean {
    const perChunk = CHUNK_BYTES / this.#sectorSize;
    return this.#chunks.get(Math.floor(sector / perChunk))?.used[sector % perChunk] === 1;
  }

  /** Of `length` bytes to be written at `position`: how many can be, when `free` sectors may be added. */
  fitting(position: number, length: number, free: number): number {
    if (free === Infinity) return length;
    let left = free;
    const end = position + length;
    for (let sector = Math.floor(position / this.#sectorSize); sector * this.#sectorSize < end; sector++) {
      if (this.isAllocated(sector)) continue;
      if (left === 0) return Math.max(sector * this.#sectorSize - position, 0);
      left--;
    }
    return length;
  }
}
