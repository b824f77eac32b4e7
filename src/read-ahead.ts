/**
 * A file read from its front to its back, several transfers deep: what comes out is in order, and only as far as it was
 * read.
 */

import type { Stats } from 'node:fs';
import { cutOff, type OpenFile } from './open-file.ts';
import { makeAbort, statOf } from './stream-file.ts';
import { nextTick } from './time.ts';

export interface ReadAheadOptions {
  /** Bytes of what is taken at a time; more for a direct file whose blocks are larger. */
  readonly chunk: number;
  /** Transfers at once, at most. */
  readonly depth: number;
  /** Chunks of each transfer, at most; default 1. */
  readonly merge?: number;
  /** Of the first byte; `undefined` is the current position. */
  readonly start: number | undefined;
  /** Bytes in all. */
  readonly length: number;
  /** Whether nobody else moves the file's current position, or asks for it. */
  readonly own: boolean;
}

/** One read, under way or done. */
interface Part {
  /** One for each chunk, so that whoever keeps a chunk, or transfers it away, has none of the others. */
  readonly memory: readonly Buffer[];
  /** Chunks that were taken. */
  taken: number;
  /** Bytes at its front that lie before what is wanted: a direct file is read in whole blocks. */
  readonly skip: number;
  readonly wanted: number;
  /** How many of the wanted bytes there were; `undefined` while it is under way. */
  bytes: number | undefined;
  /** Of these, those that were not taken. */
  left: number;
  /** Somebody wanted it before it was there. */
  awaited: boolean;
  error: unknown;
}

export class ReadAhead {
  readonly #file: OpenFile;
  readonly #notify: () => void;
  readonly #chunk: number;
  readonly #depth: number;
  readonly #merge: number;
  /** Of the byte behind the last that is wanted. */
  #end: number;
  /** Reads without positions, of what has none: a pipe, a terminal, a device of characters. */
  #here: boolean;
  /** The file's current position is to be behind what was taken. */
  #follow: boolean;
  /** What the file was known to have. Behind it at most one read is under way, to see whether it ends there. */
  #size: number;
  /** Position of the next byte to be taken, and of the next to be asked for. */
  #at: number;
  #next: number;
  /** In order. */
  #parts: Part[] = [];
  /** Chunks in them that were not taken. */
  #waiting = 0;
  /**
   * How many of these there may be: more each time that the next is wanted before it is there. So little of a small file is read in vain, and a reader that is
   * slower than the file has only what it reads from, and the next.
   */
  #window = 1;
  /** Transfers under way, those too whose bytes nobody wants any more. */
  #flying = 0;
  #abort = makeAbort();
  #spare: Buffer | undefined;
  #wanted = false;
  #ended = false;
  #landed: () => void = () => {};
  #stopped: Promise<void> | undefined;

  /** @param notify - called when {@link take} may have something after it had nothing. */
  constructor(file: OpenFile, options: ReadAheadOptions, notify: () => void) {
    this.#file = file;
    this.#notify = notify;
    const { chunk, depth, merge = 1, start, length, own } = options;
    const stat = statOf(file.fd);
    const blocks = file.seekable && (stat === undefined || stat.isFile() || stat.isBlockDevice());
    const here = start ?? (own && blocks ? 0 : blocks ? file.tell() : undefined);
    this.#here = here === undefined;
    this.#follow = start === undefined && !own && !this.#here;
    this.#at = this.#next = here ?? 0;
    this.#end = this.#at + length;
    this.#size = this.#here ? 0 : sizeOf(stat);
    this.#chunk = roundUp(chunk, file.alignment.offset);
    this.#depth = blocks ? depth : 1;
    this.#merge = blocks ? merge : 1;
    if (this.#size > LESSON_BYTES) teachAllocator();
  }

  /**
   * The next bytes; `undefined` while they are being read, `null` at the end.
   *
   * @throws what went wrong in reading them. Nothing comes after that.
   */
  take(): Buffer | undefined | null {
    if (this.#ended) return null;
    this.#fill();
    const [part] = this.#parts;
    if (part === undefined) return this.#keepUp() ? this.take() : this.#finish();
    this.#wanted = part.bytes === undefined;
    if (part.bytes === undefined) {
      if (!part.awaited) this.#widen();
      part.awaited = true;
      return undefined;
    }
    if (part.bytes === 0) {
      if (this.#keepUp()) return this.take();
      this.#finish();
      if (part.error !== undefined) throw part.error;
      return null;
    }
    const skip = part.taken === 0 ? part.skip : 0;
    const memory = part.memory[part.taken] ?? NOTHING;
    const bytes = Math.min(memory.length - skip, part.left);
    if (!this.#claim(bytes)) return this.take();
    part.taken++;
    part.left -= bytes;
    this.#waiting -= part.left === 0 ? part.memory.length - part.taken + 1 : 1;
    this.#advance(bytes, part, part.bytes);
    return this.#cut(memory, skip, bytes);
  }

  #widen(): void {
    this.#window = Math.min(this.#depth * this.#merge, this.#window * 2);
  }

  /** Takes back what is under way. Resolves when no memory is in use any more, and nothing needs the descriptor. */
  stop(): Promise<void> {
    this.#finish();
    this.#stopped ??= new Promise((resolve) => {
      if (this.#flying === 0) resolve();
      else this.#landed = resolve;
    });
    return this.#stopped;
  }

  #finish(): null {
    this.#ended = true;
    this.#drop();
    return null;
  }

  /** What was read ahead is not what comes next. */
  #drop(): void {
    if (this.#parts.some((part) => part.bytes === undefined)) {
      this.#abort.abort();
      this.#abort = makeAbort();
    }
    this.#parts = [];
    this.#waiting = 0;
    this.#next = this.#at;
    this.#window = 1;
  }

  /** Moves the current position behind what is about to be taken; not where somebody else moved it meanwhile. */
  #claim(bytes: number): boolean {
    if (!this.#follow) return true;
    const reached = this.#file.advance(bytes);
    if (reached === undefined || reached === this.#at + bytes) return true;
    this.#file.seek(reached - bytes);
    this.#keepUp();
    return false;
  }

  /** Whether somebody else moved the current position: reading goes on from there, as it would without reading ahead. */
  #keepUp(): boolean {
    const position = this.#follow ? this.#file.tell() : undefined;
    if (position === undefined || position === this.#at) return false;
    this.#end += position - this.#at;
    this.#at = position;
    this.#drop();
    return true;
  }

  #advance(bytes: number, part: Part, inAll: number): void {
    this.#at += bytes;
    if (part.left === 0) this.#parts.shift();
    if (this.#here) {
      this.#next = this.#at;
      return;
    }
    if (part.left === 0 && inAll < part.wanted) {
      // The end, or a file that gives less than it is asked for, such as those in /proc. Only another read can tell.
      this.#drop();
    } else {
      // It may have grown.
      if (this.#at >= this.#size) this.#size = sizeOf(statOf(this.#file.fd));
    }
    this.#fill();
  }

  #fill(): void {
    while (this.#next < this.#end && !this.#ended) {
      const chunks = Math.max(1, Math.floor(this.#window / this.#depth));
      if (this.#parts.length > 0) {
        if (this.#here || this.#flying >= this.#depth || this.#waiting + chunks > this.#window) return;
        if (this.#next > this.#size) return;
      }
      this.#read(chunks);
    }
  }

  #read(chunks: number): void {
    const position = this.#next;
    const block = this.#file.alignment.offset;
    const skip = this.#here ? 0 : position % block;
    let wanted = Math.min(this.#chunk * chunks - skip, this.#end - position);
    if (position < this.#size) wanted = Math.min(wanted, this.#size - position);
    const memory: Buffer[] = [];
    for (let bytes = roundUp(skip + wanted, block); bytes > 0; bytes -= this.#chunk) {
      memory.push(this.#take(Math.min(bytes, this.#chunk)));
    }
    const part: Part = { memory, taken: 0, skip, wanted, bytes: undefined, left: 0, awaited: false, error: undefined };
    this.#parts.push(part);
    this.#waiting += memory.length;
    this.#next += wanted;
    this.#flying++;
    this.#file.readPrivate(memory, this.#here ? null : position - skip, this.#abort.signal).then(
      (moved) => this.#land(part, Math.min(Math.max(moved - skip, 0), wanted)),
      (error) => {
        part.error = error;
        this.#land(part, 0);
      },
    );
  }

  #land(part: Part, bytes: number): void {
    part.bytes = part.left = bytes;
    if (--this.#flying === 0) this.#landed();
    // Not from within the promise: what a listener throws is an uncaught exception, not a rejection.
    if (this.#wanted && part === this.#parts[0]) nextTick(this.#notify);
  }

  #take(bytes: number): Buffer {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare?.length === bytes ? spare : this.#file.allocate(bytes);
  }

  /** Little of much memory is copied, so that whoever keeps it does not keep all of it. */
  #cut(memory: Buffer, skip: number, bytes: number): Buffer {
    if (bytes * 2 >= memory.length) return cutOff(memory, skip + bytes, skip);
    const copy = Buffer.allocUnsafeSlow(bytes);
    memory.copy(copy, 0, skip, skip + bytes);
    this.#spare = memory;
    return copy;
  }
}

const NOTHING = Buffer.alloc(0);

/**
 * Memory that is given back to the system costs more when it comes again than what is read into it: a fault for each page. glibc keeps up to twice
 * the largest block that was mapped and freed (mallopt(3), M_MMAP_THRESHOLD), which is next to nothing until a program has dropped a large one. Between two
 * collections the chunks of a stream are 32 MiB. The lesson itself is never touched, and so costs no memory.
 */
const LESSON_BYTES = 16 * 1024 * 1024;
let taught = false;

function teachAllocator(): void {
  if (taught) return;
  taught = true;
  Buffer.allocUnsafeSlow(LESSON_BYTES);
}

function roundUp(bytes: number, block: number): number {
  return Math.ceil(bytes / block) * block;
}

/** Of a block device, nobody says it. */
function sizeOf(stat: Stats | undefined): number {
  if (stat === undefined || stat.isBlockDevice()) return Number.POSITIVE_INFINITY;
  return stat.isFile() ? stat.size : 0;
}
