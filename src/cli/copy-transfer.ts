/** Moves the bytes from one file to the other. */
import { read, write } from 'node:fs';
import { promisify } from 'node:util';
import { AioRequest, AlignedPool, type EngineName } from '../index.ts';
import { BlockReader, BlockWriter, drive, type Lane, NOTHING_WRITTEN, openContext, type Side } from './copy-blocks.ts';
import { type Range, roundDown } from './copy-extents.ts';
import type { CliError } from './usage.ts';

const readAsync = promisify(read);
const writeAsync = promisify(write);

/** What the page cache works in: direct writes keep off the pages that anything else is written to. */
const PAGE = 4096;

/** A copy that is ready to go. */
export interface Route {
  readonly source: Side;
  readonly destination: Side;
  /** The destination through the page cache, for the end of the file where that is no whole sector. */
  readonly cached: Side;
  /** In order, aligned, none longer than `blockSize`. */
  readonly blocks: Iterator<Range, void>;
  readonly size: number;
  readonly blockSize: number;
  readonly depth: number;
  readonly bufferAlignment: number;
  /** Of positions and lengths, where a side is direct. */
  readonly offsetAlignment: number;
  /** Zeros that fill this much become a hole; 0: zeros are written. */
  readonly holeSize: number;
  /** `undefined`: whatever is best. */
  readonly engine: EngineName | undefined;
  /** This thread writes by itself, and nothing but reading goes on meanwhile: for memory, where writing is all work and no waiting. */
  readonly writesAtOnce: boolean;
  /** The source ended at this byte, which is before `size`. */
  readonly ended: (at: number) => CliError;
  /** Each time that something was done. What it throws ends the copy. */
  readonly onTurn: (tally: Tally) => void;
}

/** How far it is. */
export interface Tally {
  /** Bytes that were written. */
  written: number;
  /** Bytes that need not be looked at any more: copied, or a hole. */
  passed: number;
}

/** What could not go past the page cache. */
interface Tail {
  readonly position: number;
  readonly bytes: Buffer;
}

/** What the lanes share. */
interface Work {
  readonly route: Route;
  readonly tally: Tally;
  readonly tails: Tail[];
  /** As long as a buffer, of zeros. */
  readonly zeros: Buffer;
}

/** One buffer: filled from the source, emptied into the destination, and again. */
class CopyLane implements Lane {
  readonly #work: Work;
  readonly #buffer: Buffer;
  readonly #words: BigUint64Array;
  readonly #reader: BlockReader;
  readonly #writer: BlockWriter;
  #reading = true;
  #block: Range = { start: 0, end: 0 };
  /** What is written of the block, or left out. */
  #passed = 0;

  constructor(work: Work, buffer: Buffer) {
    const { source, destination, offsetAlignment } = work.route;
    this.#work = work;
    this.#buffer = buffer;
    this.#words = new BigUint64Array(buffer.buffer, buffer.byteOffset, Math.floor(buffer.length / 8));
    const request = new AioRequest<Lane>();
    this.#reader = new BlockReader(request, this, source, buffer, offsetAlignment);
    this.#writer = new BlockWriter(request, this, destination, buffer, offsetAlignment);
  }

  begin(due: AioRequest[]): void {
    const { value: block } = this.#work.route.blocks.next();
    if (block === undefined) return;
    this.#block = block;
    this.#passed = 0;
    this.#reading = true;
    this.#reader.begin(block.start, block.end - block.start);
    due.push(this.#reader.request);
  }

  next(request: AioRequest, due: AioRequest[]): void {
    if (this.#reading) {
      const outcome = this.#reader.take();
      if (outcome === 'end') throw this.#work.route.ended(this.#block.start);
      this.#reading = outcome === 'more';
    } else if (this.#writer.take() === 'more') {
      due.push(request);
      return;
    }
    if (this.#reading || this.#writeNext()) {
      due.push(request);
      return;
    }
    this.#work.tally.passed = Math.max(this.#work.tally.passed, this.#block.end);
    this.begin(due);
  }

  /** Prepares the next part of the block that is to be written. @returns whether there is one. */
  #writeNext(): boolean {
    const { start } = this.#block;
    for (let part = this.#nextPart(); part !== undefined; part = this.#nextPart()) {
      if (!this.#work.route.writesAtOnce) {
        this.#writer.begin(start, part.start, part.end);
        return true;
      }
      this.#writer.writeAtOnce(start, part.start, part.end);
    }
    return false;
  }

  /** Within the buffer. */
  #nextPart(): Range | undefined {
    const { route, tally, tails } = this.#work;
    const { start, end } = this.#block;
    const length = end - start;
    let from = this.#passed;
    let to = length;
    if (route.holeSize > 0) [from, to] = this.#nextData(from, length);
    this.#passed = to;
    if (from === to) return undefined;
    tally.written += to - from;
    if (route.destination.direct && (start + to) % route.offsetAlignment !== 0) {
      // The end of the file: whole pages past the cache, the rest later, when no direct write can touch its page any more.
      const cut = Math.max(roundDown(start + to, Math.max(route.offsetAlignment, PAGE)) - start, from);
      tails.push({ position: start + cut, bytes: Buffer.from(this.#buffer.subarray(cut, to)) });
      to = cut;
      if (from === to) return undefined;
    }
    return { start: from, end: to };
  }

  /** The first bytes from `from` on that are not to become a hole; two times the same where there are none. */
  #nextData(from: number, length: number): [from: number, to: number] {
    const { holeSize } = this.#work.route;
    let begin = from;
    while (begin < length && this.#isZero(begin, length)) begin += holeSize;
    if (begin >= length) return [length, length];
    let end = begin;
    while (end < length && !this.#isZero(end, length)) end += holeSize;
    return [begin, Math.min(end, length)];
  }

  #isZero(from: number, length: number): boolean {
    // Most data shows at its first bytes, which cost no call.
    if (this.#words[from / 8] !== 0n && from + 8 <= length) return false;
    const { holeSize } = this.#work.route;
    const to = Math.min(from + holeSize, length);
    return this.#buffer.compare(this.#work.zeros, 0, to - from, from, to) === 0;
  }
}

/**
 * Copies the blocks, `depth` of them at a time. The destination is not flushed.
 *
 * @returns the engine that did it.
 * @throws CliError, AioError
 */
export async function transfer(route: Route): Promise<EngineName> {
  const { depth, blockSize, bufferAlignment, engine } = route;
  const pool = new AlignedPool({ size: blockSize, count: depth, alignment: bufferAlignment });
  const work: Work = {
    route,
    tally: { written: 0, passed: 0 },
    tails: [],
    zeros: Buffer.alloc(route.holeSize),
  };
  const lanes: CopyLane[] = [];
  for (let buffer = pool.acquire(); buffer !== undefined; buffer = pool.acquire())
    lanes.push(new CopyLane(work, buffer));
  const context = openContext(depth, engine, route.source.direct && route.destination.direct);
  try {
    await drive(context, lanes, () => route.onTurn(work.tally));
  } finally {
    // Waits for what is in flight first: also after an error the buffers are the kernel's until then.
    await context[Symbol.asyncDispose]();
  }
  for (const { position, bytes } of work.tails) await writeAll(route.cached, bytes, position);
  route.onTurn({ ...work.tally, passed: route.size });
  return context.engine;
}

/** For what has no length, or no positions. */
export interface Stream {
  readonly source: Side;
  readonly destination: Side;
  readonly blockSize: number;
  /** No more than this is copied: Infinity where the source does not say how long it is. */
  readonly size: number;
  /** Whether the destination has positions: a terminal has none. */
  readonly positions: boolean;
  readonly ended: (at: number) => CliError;
  readonly onTurn: (tally: Tally) => void;
}

/**
 * Copies one block after the other, by node:fs, until the source ends.
 *
 * @returns how many bytes there were.
 * @throws CliError
 */
export async function transferInOrder(stream: Stream): Promise<number> {
  const { source, destination, blockSize, size, positions } = stream;
  const buffer = Buffer.allocUnsafe(blockSize);
  let at = 0;
  while (at < size) {
    const wanted = Math.min(blockSize, size - at);
    const { bytesRead } = await readAsync(source.fd, buffer, 0, wanted, at).catch((error: unknown) => {
      throw source.failed(at, error);
    });
    if (bytesRead === 0) {
      if (size !== Infinity) throw stream.ended(at);
      break;
    }
    await writeAll(destination, buffer.subarray(0, bytesRead), positions ? at : null);
    at += bytesRead;
    stream.onTurn({ written: at, passed: at });
  }
  return at;
}

/** @param position - `null`: behind what was written before. */
async function writeAll({ fd, failed }: Side, bytes: Buffer, position: number | null): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const at = position === null ? null : position + done;
    const { bytesWritten } = await writeAsync(fd, bytes, done, bytes.length - done, at).catch((error: unknown) => {
      throw failed(at ?? done, error);
    });
    if (bytesWritten === 0) throw failed(at ?? done, new Error(NOTHING_WRITTEN));
    done += bytesWritten;
  }
}
