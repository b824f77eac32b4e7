/** The file that is copied. */
import { type BigIntStats, closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from 'node:fs';
import { alignmentOf } from '../alignment.ts';
import { textOf } from '../errors.ts';
import { AioError } from '../index.ts';
import type { Side } from './copy-blocks.ts';
import { isCached, isInMemory } from './copy-cached.ts';
import { beginsWithData } from './copy-extents.ts';
import { deviceSize } from './medium.ts';
import { formatSize } from './sizes.ts';
import { checkKind } from './target.ts';
import { CliError, codeOf, EXIT_IO, ioError, quote, reasonOf } from './usage.ts';

/** Files of /proc and /sys say that they are empty, or a page or so long, whatever is in them, and have no blocks. */
const MOST_UNSIZED = 65536;

/** What is wrong when a transfer failed, without the descriptor and the advice that the library's own errors have. */
export function transferReason(error: unknown): string {
  const kernels = error instanceof AioError && error.errno !== undefined && !error.code.startsWith('ERR_AIO_');
  return kernels ? textOf(error.errno) : reasonOf(error);
}

function isEmpty(fd: number): boolean {
  return readSync(fd, Buffer.alloc(1), 0, 1, 0) === 0;
}

/** The same file once more, with O_DIRECT, or why that is not to be had. */
export type DirectOpening = { readonly fd: number } | { readonly why: string };

/**
 * Opens what a descriptor is open for once more: the very same file, whatever its name means by now.
 *
 * @param access - O_RDONLY or O_WRONLY.
 */
export function reopenDirect(fd: number, access: number): DirectOpening {
  try {
    return { fd: openSync(`/proc/self/fd/${fd}`, access | constants.O_DIRECT) };
  } catch (error) {
    if (codeOf(error) === 'EINVAL') return { why: `its file system refuses O_DIRECT (${reasonOf(error)})` };
    return { why: `it cannot be opened anew (${reasonOf(error)})` };
  }
}

/** What direct I/O needs of memory addresses, and of positions and lengths, in bytes. */
export interface Needs {
  readonly buffer: number;
  readonly offset: number;
}

/** An open source. */
export class Source {
  /** As the user called it, for messages. */
  readonly name: string;
  readonly isDevice: boolean;
  /** Of the moment when it was opened: as much as this is copied. 0 where `sized` is false. */
  readonly size: number;
  /** Whether the file system knows how long the file is. Where it does not, it is read until it ends. */
  readonly sized: boolean;
  readonly stat: BigIntStats;
  /** Through the page cache. */
  readonly fd: number;
  #direct: number | undefined;

  private constructor(name: string, fd: number, stat: Stats) {
    this.name = name;
    this.fd = fd;
    this.isDevice = stat.isBlockDevice();
    this.stat = fstatSync(fd, { bigint: true });
    const size = this.isDevice ? deviceSize(stat) : Number(this.stat.size);
    if (size === undefined) {
      throw new CliError(EXIT_IO, `the size of the device ${quote(name)} is not to be found in /sys`);
    }
    const hasHonestSize = size === 0 ? isEmpty(fd) : this.stat.blocks > 0n || !beginsWithData(fd);
    this.sized = this.isDevice || size > MOST_UNSIZED || hasHonestSize;
    this.size = this.sized ? size : 0;
  }

  /** @throws CliError */
  static open(name: string): Source {
    let fd: number | undefined;
    try {
      // Before it is opened: that may block, or do things, with other kinds.
      checkKind(name, statSync(name));
      fd = openSync(name, constants.O_RDONLY);
      const stat = fstatSync(fd);
      checkKind(name, stat); // it may have become another one since
      return new Source(name, fd, stat);
    } catch (error) {
      if (fd !== undefined) closeSync(fd);
      if (error instanceof CliError) throw error;
      const missing = codeOf(error) === 'ENOENT';
      throw missing
        ? new CliError(EXIT_IO, `no such file: ${quote(name)}. Name one that exists`)
        : ioError(`cannot open ${quote(name)}`, error, 'Name a file that you may read');
    }
  }

  /** Whether this is the same file, or another name of the same device. */
  is(found: BigIntStats): boolean {
    if (this.stat.dev === found.dev && this.stat.ino === found.ino) return true;
    return this.isDevice && found.isBlockDevice() && this.stat.rdev === found.rdev;
  }

  /** Opens it past the page cache as well. @returns why not. */
  openDirect(): string | undefined {
    if (this.#direct !== undefined) return undefined;
    const opened = reopenDirect(this.fd, constants.O_RDONLY);
    if ('why' in opened) return opened.why;
    this.#direct = opened.fd;
    return undefined;
  }

  /** How transfers read it. */
  side(direct: boolean): Side {
    const fd = direct ? this.#direct : this.fd;
    return {
      fd: fd ?? this.fd,
      direct: direct && fd !== undefined,
      failed: (position, error) =>
        new CliError(
          EXIT_IO,
          `cannot read ${quote(this.name)} at byte ${position}: ${transferReason(error)}. The log of the kernel (dmesg) may say why`,
        ),
    };
  }

  /** Whether it is read faster through the page cache: all of it is there. */
  get isCached(): boolean {
    return this.inMemory || isCached(this.fd, this.size);
  }

  /** Whether its file system is nothing but page cache. */
  get inMemory(): boolean {
    return !this.isDevice && isInMemory(this.name);
  }

  /** @throws AioError */
  needs(): Needs {
    return alignmentOf(this.fd);
  }

  /** The part of its bytes that is on the disk, 0 … 1, as far as its blocks tell. */
  density(): number {
    if (this.isDevice || this.size === 0) return 1;
    return Math.min((Number(this.stat.blocks) * 512) / this.size, 1);
  }

  /** For a read that found the end at byte `at`, before it was due. */
  ended(at: number): CliError {
    const now = Number(fstatSync(this.fd).size);
    if (this.isDevice || now >= this.size) {
      return new CliError(
        EXIT_IO,
        `${quote(this.name)} ends at byte ${at}, though it is said to have ${this.size}. Check the file system, or the device`,
      );
    }
    return new CliError(
      EXIT_IO,
      `${quote(this.name)} was truncated from ${formatSize(this.size)} to ${formatSize(now)} while it was copied. Copy it when nobody writes to it`,
    );
  }

  /**
   * What happened to the file since it was opened.
   *
   * @throws CliError where it is shorter now.
   */
  changes(): { grewBy: number; written: boolean } {
    if (this.isDevice || !this.sized) return { grewBy: 0, written: false };
    const now = fstatSync(this.fd, { bigint: true });
    if (now.size < this.stat.size) throw this.ended(Number(now.size));
    return { grewBy: Number(now.size - this.stat.size), written: now.mtimeNs !== this.stat.mtimeNs };
  }

  close(): void {
    closeSync(this.fd);
    if (this.#direct !== undefined) closeSync(this.#direct);
    this.#direct = undefined;
  }
}
