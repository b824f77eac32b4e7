/**
 * A file on the simulated disk: what reads see, what is on the medium, and in between the changes that no flush has covered yet.
 * Losing power decides for each of these what becomes of it.
 */
import type { SimulatedRandom } from './random.ts';
import { SparseBytes } from './sparse-bytes.ts';

/** One change that is not on the medium for certain. */
interface Change {
  /** Its number among the changes of its file. */
  readonly order: number;
  /** Whole sectors as they were after the write, from `first` on; none where only the size changed. */
  readonly first: number;
  readonly data: Uint8Array;
  readonly sizeAfter: number;
  /** The file was cut: what was written later cannot be on the medium while this is not. */
  readonly shrinks: boolean;
  /** A flush that was to cover it failed: later flushes do not try again. */
  failed: boolean;
  /** Sectors that a later change, which a flush did cover, has settled. */
  settled: Set<number> | undefined;
}

/** How many changes survived a loss of power: wholly, in part, not at all. */
export interface Survivors {
  kept: number;
  torn: number;
  lost: number;
}

const NOTHING = new Uint8Array(0);

export class SimulatedFile {
  readonly id: number;
  readonly #sectorSize: number;
  #current: SparseBytes;
  #durable: SparseBytes;
  #durableSize = 0;
  #size = 0;
  #changes: Change[] = [];
  #order = 0;
  /** Sectors that cannot be read until they are written again. */
  readonly #bad = new Set<number>();
  /** Of the last change, in milliseconds of virtual time. */
  changedMs = 0;
  mode = 0o644;

  constructor(id: number, sectorSize: number) {
    this.id = id;
    this.#sectorSize = sectorSize;
    this.#current = new SparseBytes(sectorSize);
    this.#durable = new SparseBytes(sectorSize);
  }

  get size(): number {
    return this.#size;
  }

  /** Sectors that it takes up. */
  get allocated(): number {
    return this.#current.allocated;
  }

  /** The number of the last change: a flush that is submitted now covers it and those before it. */
  get order(): number {
    return this.#order;
  }

  read(position: number, into: Uint8Array): void {
    this.#current.read(position, into);
  }

  get hasBadSectors(): boolean {
    return this.#bad.size > 0;
  }

  /** Of `length` bytes at `position`, how many come before the first sector that cannot be read. `spoil` may make one of them such. */
  readable(position: number, length: number, spoil: () => boolean): number {
    const end = position + length;
    for (let sector = Math.floor(position / this.#sectorSize); sector * this.#sectorSize < end; sector++) {
      if (this.#current.isAllocated(sector) && !this.#bad.has(sector) && spoil()) this.#bad.add(sector);
      if (this.#bad.has(sector)) return Math.max(sector * this.#sectorSize - position, 0);
    }
    return length;
  }

  /** Whether a write there has to read a bad sector first, because it fills only a part of it. */
  isBlocked(position: number, length: number): boolean {
    if (this.#bad.size === 0 || length === 0) return false;
    const end = position + length;
    const first = Math.floor(position / this.#sectorSize);
    const last = Math.floor((end - 1) / this.#sectorSize);
    const startsWithin = position % this.#sectorSize !== 0;
    const endsWithin = end % this.#sectorSize !== 0 && end < this.#size;
    return (startsWithin && this.#bad.has(first)) || (endsWithin && this.#bad.has(last));
  }

  spoil(position: number, length: number): void {
    const end = Math.min(position + length, this.#size);
    for (let sector = Math.floor(position / this.#sectorSize); sector * this.#sectorSize < end; sector++) {
      this.#bad.add(sector);
    }
  }

  fitting(position: number, length: number, free: number): number {
    return this.#current.fitting(position, length, free);
  }

  write(position: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const end = position + bytes.length;
    this.#current.write(position, bytes);
    this.#size = Math.max(this.#size, end);
    const first = Math.floor(position / this.#sectorSize);
    const last = Math.ceil(end / this.#sectorSize);
    // What shares a sector goes to the medium together: an earlier write to it is there when this one is.
    const data = new Uint8Array((last - first) * this.#sectorSize);
    this.#current.read(first * this.#sectorSize, data);
    for (let sector = first; this.#bad.size > 0 && sector < last; sector++) this.#bad.delete(sector);
    this.#add(first, data, false);
  }

  resize(size: number): void {
    if (size === this.#size) return;
    const shrinks = size < this.#size;
    this.#size = size;
    if (shrinks) {
      this.#current.truncate(size);
      for (const sector of this.#bad) if (sector * this.#sectorSize >= size) this.#bad.delete(sector);
    }
    this.#add(0, NOTHING, shrinks);
  }

  #add(first: number, data: Uint8Array, shrinks: boolean): void {
    const order = ++this.#order;
    const sizeAfter = this.#size;
    this.#changes.push({ order, first, data, sizeAfter, shrinks, failed: false, settled: undefined });
  }

  /** Brings the changes up to `to` to the medium, but for the data that a flush has failed for. Sizes are journalled, and come along. */
  flush(to: number): void {
    const rest: Change[] = [];
    for (const change of this.#changes) {
      const { order, first, data, sizeAfter, shrinks, failed } = change;
      if (order > to || (failed && data.length > 0)) {
        rest.push(change);
        continue;
      }
      // What is older must not come back over what is on the medium now.
      if (shrinks) this.#settle(rest, Math.floor(sizeAfter / this.#sectorSize), Infinity);
      else this.#settle(rest, first, first + data.length / this.#sectorSize);
      this.#durable.write(first * this.#sectorSize, data);
      if (shrinks) this.#durable.truncate(sizeAfter);
      this.#durableSize = sizeAfter;
    }
    this.#changes = rest;
  }

  #settle(changes: readonly Change[], first: number, end: number): void {
    for (const change of changes) {
      const until = Math.min(end, change.first + change.data.length / this.#sectorSize);
      for (let sector = Math.max(first, change.first); sector < until; sector++) {
        change.settled ??= new Set();
        change.settled.add(sector);
      }
    }
  }

  /** A flush of the changes up to `to` failed: as Linux does, they count as written from here on, and may or may not be. */
  failFlush(to: number): void {
    for (const change of this.#changes) if (change.order <= to) change.failed = true;
  }

  /**
   * Decides what of the changes is on the medium, and makes that the file. Sectors go one by one, in no order; the size is one that the
   * file had since it was last flushed.
   */
  losePower(random: SimulatedRandom, survivors: Survivors): void {
    const changes = this.#changes;
    if (changes.length > 0) {
      const known = random.below(changes.length + 1);
      const size = known === 0 ? this.#durableSize : (changes[known - 1]?.sizeAfter ?? 0);
      let index = 0;
      for (; index < changes.length; index++) {
        const change = changes[index];
        if (change === undefined || (change.shrinks && index >= known)) break;
        if (change.shrinks) this.#durable.truncate(change.sizeAfter);
        else if (change.data.length > 0) survivors[this.#keepSome(change, random)]++;
      }
      survivors.lost += changes.slice(index).filter(({ data }) => data.length > 0).length;
      this.#durable.truncate(size);
      this.#durableSize = size;
      this.#changes = [];
    }
    this.#size = this.#durableSize;
    this.#current = this.#durable.clone();
    for (const sector of this.#bad) if (sector * this.#sectorSize >= this.#size) this.#bad.delete(sector);
  }

  #keepSome({ first, data, settled }: Change, random: SimulatedRandom): keyof Survivors {
    const count = data.length / this.#sectorSize;
    // All, none and some: coins alone would hardly ever keep or lose a long write whole.
    const fate = random.below(3);
    let kept = 0;
    for (let index = 0; index < count; index++) {
      if (fate === 0 || (fate === 2 && random.below(2) === 0)) continue;
      kept++;
      if (settled?.has(first + index) === true) continue;
      const start = index * this.#sectorSize;
      this.#durable.write((first + index) * this.#sectorSize, data.subarray(start, start + this.#sectorSize));
    }
    return kept === 0 ? 'lost' : kept === count ? 'kept' : 'torn';
  }
}
