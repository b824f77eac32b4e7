/** Compares what was copied with what it was copied from, byte by byte. */
import { AioRequest, AlignedPool, type EngineName } from '../index.ts';
import { BlockReader, drive, type Lane, openContext, type Side } from './copy-blocks.ts';
import type { Range } from './copy-extents.ts';
import type { CliError } from './usage.ts';

/** What is compared. */
export interface Comparison {
  readonly source: Side;
  readonly copy: Side;
  /** In order, aligned, none longer than `blockSize`. */
  readonly blocks: Iterator<Range, void>;
  readonly blockSize: number;
  /** Reads in flight; two for each block. */
  readonly depth: number;
  readonly bufferAlignment: number;
  readonly offsetAlignment: number;
  /** `undefined`: whatever is best. */
  readonly engine: EngineName | undefined;
  /** The source ended at this byte. */
  readonly ended: (at: number) => CliError;
  /** The first byte at which they differ. */
  readonly differs: (at: number) => CliError;
  /** Each time that something was done: how far it is, in bytes. What it throws ends the comparison. */
  readonly onTurn: (passed: number) => void;
}

/** The same block of both files. */
class PairLane implements Lane {
  readonly #comparison: Comparison;
  readonly #source: BlockReader;
  readonly #copy: BlockReader;
  readonly #sourceBuffer: Buffer;
  readonly #copyBuffer: Buffer;
  #block: Range = { start: 0, end: 0 };
  #missing = 0;

  constructor(comparison: Comparison, sourceBuffer: Buffer, copyBuffer: Buffer) {
    const { source, copy, offsetAlignment } = comparison;
    this.#comparison = comparison;
    this.#sourceBuffer = sourceBuffer;
    this.#copyBuffer = copyBuffer;
    this.#source = new BlockReader(new AioRequest(), this, source, sourceBuffer, offsetAlignment);
    this.#copy = new BlockReader(new AioRequest(), this, copy, copyBuffer, offsetAlignment);
  }

  /** Up to here everything was compared. */
  get passed(): number {
    return this.#block.start;
  }

  begin(due: AioRequest[]): void {
    const { value: block } = this.#comparison.blocks.next();
    if (block === undefined) return;
    this.#block = block;
    this.#missing = 2;
    for (const reader of [this.#source, this.#copy]) {
      reader.begin(block.start, block.end - block.start);
      due.push(reader.request);
    }
  }

  next(request: AioRequest, due: AioRequest[]): void {
    const isSource = request === this.#source.request;
    const outcome = (isSource ? this.#source : this.#copy).take();
    if (outcome === 'more') {
      due.push(request);
      return;
    }
    const { start, end } = this.#block;
    if (outcome === 'end') throw isSource ? this.#comparison.ended(start) : this.#comparison.differs(start);
    this.#missing--;
    if (this.#missing > 0) return;
    if (this.#sourceBuffer.compare(this.#copyBuffer, 0, end - start, 0, end - start) !== 0) {
      throw this.#comparison.differs(start + this.#firstDifference(end - start));
    }
    this.begin(due);
  }

  #firstDifference(length: number): number {
    for (let index = 0; index < length; index++) {
      if (this.#sourceBuffer[index] !== this.#copyBuffer[index]) return index;
    }
    return 0;
  }
}

/** @throws CliError, AioError */
export async function compare(comparison: Comparison): Promise<void> {
  const { blockSize, depth, bufferAlignment, engine } = comparison;
  const pairs = Math.max(Math.floor(depth / 2), 1);
  const pool = new AlignedPool({ size: blockSize, count: pairs * 2, alignment: bufferAlignment });
  const lanes: PairLane[] = [];
  for (;;) {
    const [source, copy] = [pool.acquire(), pool.acquire()];
    if (source === undefined || copy === undefined) break;
    lanes.push(new PairLane(comparison, source, copy));
  }
  const direct = comparison.source.direct && comparison.copy.direct;
  const context = openContext(pairs * 2, engine, direct);
  try {
    await drive(context, lanes, () => comparison.onTurn(Math.max(...lanes.map((lane) => lane.passed))));
  } finally {
    await context[Symbol.asyncDispose]();
  }
}
