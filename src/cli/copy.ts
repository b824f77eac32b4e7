/** `fileaio copy`: one file into another, many transfers deep, and never half. */
import { fstatSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { deniesDirect } from '../alignment.ts';
import type { EngineName } from '../index.ts';
import { isInUserSpace } from '../user-space.ts';
import { isInMemory } from './copy-cached.ts';
import { type Destination, findPlace, openDestination, pathOf } from './copy-destination.ts';
import { blocksOf, dataRanges, knowsHoles, type Range, roundUp } from './copy-extents.ts';
import { COPY_HELP, type CopyOptions, checkMemory, parseCopy, type Sparse } from './copy-options.ts';
import { type Copied, errand, json, line } from './copy-report.ts';
import { type Needs, Source } from './copy-source.ts';
import { type Tally, transfer, transferInOrder } from './copy-transfer.ts';
import { compare } from './copy-verify.ts';
import { print } from './output.ts';
import { checkOutput } from './output-file.ts';
import { openProgress, type Progress } from './progress.ts';
import { formatSize } from './sizes.ts';
import { type Stop, stopOnSignals } from './stop.ts';
import { CliError, EXIT_IO, EXIT_OK, ioError, oneLine, quote, usageError } from './usage.ts';

/** Buffers begin at pages, and zeros that fill one become a hole: it is a block of nearly every file system. */
const PAGE = 4096;

/** A disk wants many transfers; memory one that is written, and as many as keep its writer busy. */
const DEPTH = 16;
const DEPTH_IN_MEMORY = 3;

/** For --quiet. */
const SILENCE: Progress = { step: () => undefined, update: () => undefined, end: () => undefined };

/** @returns the exit code. @throws CliError */
export async function copy(args: string[]): Promise<number> {
  const options = parseCopy(args);
  if (options === undefined) {
    await print(COPY_HELP);
    return EXIT_OK;
  }
  const progress = options.quiet ? SILENCE : openProgress('fileaio copy', options.json === '-');
  await report(options, await copyUntilStopped(options, progress));
  return EXIT_OK;
}

/** Signals mean what they always do afterwards: nobody may read from the other end of what the report is written to. */
async function copyUntilStopped(options: CopyOptions, progress: Progress): Promise<Copied> {
  const stop = stopOnSignals();
  try {
    return await copyFile(options, progress, stop);
  } finally {
    stop.release();
  }
}

async function report(options: CopyOptions, copied: Copied): Promise<void> {
  if (!options.quiet) {
    for (const note of copied.notes) process.stderr.write(`fileaio copy: note: ${oneLine(note)}\n`);
  }
  if (options.json === '-') {
    await print(json(options, copied));
    return;
  }
  if (!options.quiet) await print(line(copied));
  if (options.json === undefined) return;
  try {
    await writeFile(options.json, json(options, copied));
  } catch (error) {
    throw ioError(`the copy is made, but --json ${quote(options.json)} cannot be written`, error);
  }
}

/** The part of {@link Stop} that a copy looks at. */
type Interruption = Pick<Stop, 'signal' | 'by' | 'exitCode'>;

/**
 * Copies `options.source` to `options.destination`. What is at the destination stays as it is until the copy is complete and on
 * the disk, unless it is a device.
 *
 * @param progress - each step is announced before anything of it is done.
 * @param stop - when it aborts, nothing more is started, and the copy fails.
 * @throws CliError
 */
export async function copyFile(options: CopyOptions, progress: Progress, stop: Interruption): Promise<Copied> {
  const begun = performance.now();
  const source = Source.open(options.source);
  try {
    const place = findPlace(options.destination, source, options.force);
    if (place.kind === 'character device' && options.verify) {
      throw usageError(
        `${quote(options.destination)} is a character device: what is written there cannot be read back. Leave --verify out`,
      );
    }
    checkJson(options, source, place.path);
    const destination = openDestination(place);
    let outcome: Omit<Copied, 'seconds'>;
    try {
      outcome = await new Copy(options, source, destination, progress, stop).run();
    } catch (error) {
      const left = destination.close();
      const fate = destination.fate();
      throw withFate(error, options, left === undefined ? fate : `${fate}. ${left}`);
    }
    const seconds = (performance.now() - begun) / 1000;
    progress.end();
    const left = destination.close();
    if (left !== undefined) throw new CliError(EXIT_IO, `the copy is made, but not all is as it should be: ${left}`);
    return { ...outcome, seconds };
  } finally {
    progress.end();
    source.close();
  }
}

/** An error also says what became of DST. */
function withFate(error: unknown, options: CopyOptions, fate: string): CliError {
  const known = error instanceof CliError ? error : ioError(`cannot copy ${errand(undefined, options)}`, error);
  return new CliError(known.exitCode, `${known.message}. ${fate}`);
}

/** Whether the figures can be written there at the end, and not over what they are about. */
function checkJson({ json: path }: CopyOptions, source: Source, destination: string): void {
  if (path === undefined || path === '-') return;
  const cure = 'Name a file in a directory that you can write to, or - for standard output';
  const found = checkOutput('--json', path, cure);
  if ((found !== undefined && source.is(found)) || pathOf(path) === destination) {
    throw usageError(`cannot write --json ${quote(path)}: it is copied from or to. Name another one`);
  }
}

/** What direct I/O needs where both files are used this way, in bytes. */
interface Alignments {
  readonly bufferAlignment: number;
  readonly offsetAlignment: number;
}

/** What was moved. */
interface Moved {
  readonly bytes: number;
  readonly written: number;
  readonly engine: EngineName;
  readonly depth: number;
  readonly direct: Copied['direct'];
}

const THROUGH_CACHE: Copied['direct'] = { source: false, destination: false };

/** One copy, from open files to a complete DST. */
class Copy {
  readonly #options: CopyOptions;
  readonly #source: Source;
  readonly #destination: Destination;
  readonly #progress: Progress;
  readonly #stop: Interruption;

  constructor(options: CopyOptions, source: Source, destination: Destination, progress: Progress, stop: Interruption) {
    this.#options = options;
    this.#source = source;
    this.#destination = destination;
    this.#progress = progress;
    this.#stop = stop;
  }

  async run(): Promise<Omit<Copied, 'seconds'>> {
    const { force, preserve, verify } = this.#options;
    const source = this.#source;
    const notes: string[] = [];
    const inOrder = !source.sized || this.#destination.place.kind === 'character device';
    const { bytes, written, engine, depth, direct } = inOrder ? await this.#moveInOrder() : await this.#move();
    const { grewBy, written: sourceChanged } = source.changes();
    if (grewBy > 0) {
      notes.push(`${quote(source.name)} grew by ${formatSize(grewBy)} while it was copied: that is not in the copy`);
    } else if (sourceChanged) {
      notes.push(`${quote(source.name)} was written to while it was copied: the copy may have old and new parts`);
    }
    const verified = verify ? await this.#verify(bytes, notes) : undefined;
    this.#check();
    this.#progress.step('flushing it to the disk');
    await this.#destination.settle({ source, preserve, force, check: () => this.#check() });
    return {
      bytes,
      holes: bytes - written,
      sparse: inOrder ? 'never' : this.#sparse,
      preserved: preserve && this.#destination.place.kind === 'file',
      engine,
      depth,
      direct,
      verified,
      notes,
      sourceGrewBy: grewBy,
      sourceChanged,
    };
  }

  /** @throws CliError where somebody wants an end. */
  #check(): void {
    const { signal, by, exitCode } = this.#stop;
    if (signal.aborted) throw new CliError(exitCode, `interrupted${by === undefined ? '' : ` by ${by}`}`);
  }

  /** Many transfers at a time. */
  async #move(): Promise<Moved> {
    const source = this.#source;
    const destination = this.#destination;
    const { size } = source;
    const direct = this.#direct();
    const { bufferAlignment, offsetAlignment } = this.#alignments(direct);
    const sparse = this.#sparse;
    // Where nobody knows the holes of a file that has some, zeros are the best guess.
    const byBytes = sparse === 'always' || (sparse === 'auto' && source.density() < 1 && !knowsHoles(source.fd));
    const holeSize = byBytes ? Math.max(PAGE, offsetAlignment) : 0;
    const { blockSize, depth } = this.#shape(size, Math.max(offsetAlignment, holeSize), 1);
    const ranges = sparse === 'never' ? [{ start: 0, end: size }] : dataRanges([source.fd], size);
    destination.resize(size, sparse === 'never' ? size : Math.ceil(size * source.density()));
    this.#progress.step(`copying ${errand(size, this.#options)}`);
    let written = 0;
    const follow = this.#follow('copying', byBytes ? undefined : sparse === 'never' ? 1 : source.density());
    const carrier = await transfer({
      source: source.side(direct.source),
      destination: destination.side(direct.destination),
      cached: destination.side(false),
      blocks: blocksOf(ranges, size, blockSize, offsetAlignment),
      size,
      blockSize,
      depth,
      bufferAlignment,
      offsetAlignment,
      holeSize,
      engine: this.#engine(),
      writesAtOnce: destination.inMemory && !direct.destination && !this.#isEngineNamed,
      ended: (at) => source.ended(at),
      onTurn: (tally) => {
        this.#check();
        written = tally.written;
        follow(tally, size);
      },
    });
    return { bytes: size, written, engine: carrier, depth, direct };
  }

  /** A device has no holes. */
  get #sparse(): Sparse {
    return this.#destination.place.kind === 'file' ? this.#options.sparse : 'never';
  }

  /** One block after the other, for what has no size or no positions. */
  async #moveInOrder(): Promise<Moved> {
    const source = this.#source;
    const destination = this.#destination;
    const { sized, size } = source;
    const { direct, engine } = this.#options;
    const name = quote(sized ? destination.place.name : source.name);
    const why = `${name} ${sized ? 'is a character device' : 'does not say how long it is'}`;
    if (direct) throw usageError(`--direct: ${why}, and cannot go past the page cache. Leave --direct out`);
    if (engine !== undefined && engine !== 'threads') {
      throw usageError(
        `--engine ${engine}: ${why}, and is copied in order, which only threads does. Leave --engine out`,
      );
    }
    destination.resize(0, sized ? size : undefined);
    this.#progress.step(`copying ${errand(sized ? size : undefined, this.#options)}`);
    const follow = this.#follow('copying', 1);
    const bytes = await transferInOrder({
      source: source.side(false),
      destination: destination.side(false),
      blockSize: this.#options.blockSize,
      size: sized ? size : Infinity,
      positions: destination.place.kind !== 'character device',
      ended: (at) => source.ended(at),
      onTurn: (tally) => {
        this.#check();
        follow(tally, sized ? size : tally.passed);
      },
    });
    return { bytes, written: bytes, engine: 'threads', depth: 1, direct: THROUGH_CACHE };
  }

  /** Past the page cache where that works and makes sense, or where it must. */
  #direct(): Copied['direct'] {
    const { direct: wanted, blockSize } = this.#options;
    if (wanted === false) return THROUGH_CACHE;
    const direct = wanted ? this.#directOrFail() : this.#directIfBetter();
    const { offsetAlignment } = this.#alignments(direct);
    if (blockSize % offsetAlignment === 0) return direct;
    if (wanted === undefined) return THROUGH_CACHE;
    throw usageError(
      `--bs ${blockSize} is no multiple of ${offsetAlignment}, as direct I/O needs here: give one, or --no-direct`,
    );
  }

  #directOrFail(): Copied['direct'] {
    for (const side of ['source', 'destination'] as const) {
      const why = side === 'source' ? this.#source.openDirect() : this.#destination.openDirect();
      if (why === undefined) continue;
      const name = quote(this.#options[side]);
      throw new CliError(EXIT_IO, `--direct: ${name} cannot go past the page cache: ${why}. Leave --direct out`);
    }
    return { source: true, destination: true };
  }

  #directIfBetter(): Copied['direct'] {
    const source = this.#source;
    const destination = this.#destination;
    // Kernel AIO, which was asked for by name then, is asynchronous past the page cache only.
    const needed = this.#options.engine === 'kernel-aio';
    return {
      source: (needed || !source.isCached) && source.openDirect() === undefined,
      destination: (needed || !destination.inMemory) && destination.openDirect() === undefined,
    };
  }

  /** `undefined`: what is best for how the files are opened. */
  #engine(): EngineName | undefined {
    const { engine } = this.#options;
    const inUserSpace = isInUserSpace(this.#source.fd) || isInUserSpace(this.#destination.fd);
    const wanted = engine ?? process.env.FILEAIO_ENGINE;
    if (inUserSpace && wanted === 'io-uring') {
      const why = 'io_uring cannot be trusted with files whose file system is a process (FUSE, virtiofs)';
      throw new CliError(EXIT_IO, `${why}. Take --engine threads`);
    }
    if (this.#isEngineNamed) return engine;
    if (inUserSpace) return 'threads';
    // There io_uring would hand each transfer to a thread of the kernel, of which it has too many for one file.
    return this.#source.inMemory || this.#destination.inMemory ? 'threads' : undefined;
  }

  get #isEngineNamed(): boolean {
    return this.#options.engine !== undefined || (process.env.FILEAIO_ENGINE ?? '') !== '';
  }

  get #isInMemory(): boolean {
    return this.#destination.inMemory && this.#source.isCached;
  }

  #alignments(direct: Copied['direct']): Alignments {
    const needs: Needs[] = [];
    if (direct.source) needs.push(this.#source.needs());
    if (direct.destination) needs.push(this.#destination.needs());
    return {
      bufferAlignment: Math.max(PAGE, ...needs.map(({ buffer }) => buffer)),
      offsetAlignment: Math.max(1, ...needs.map(({ offset }) => offset)),
    };
  }

  /** No more buffers than there are bytes. @param each - buffers for one block. */
  #shape(size: number, alignment: number, each: number): { blockSize: number; depth: number } {
    const blockSize = roundUp(Math.max(Math.min(this.#options.blockSize, size), 1), alignment);
    const most = this.#options.depth ?? (this.#isInMemory ? DEPTH_IN_MEMORY * each : DEPTH);
    const depth = Math.max(Math.min(most, each * Math.ceil(size / blockSize)), each);
    checkMemory(depth, blockSize);
    return { blockSize, depth };
  }

  /**
   * @param density - the part of the bytes that has to be moved: holes take no time. `undefined` where only reading them tells, which takes
   * time by itself.
   */
  #follow(doing: string, density: number | undefined): (tally: Tally, size: number) => void {
    const begun = performance.now();
    return ({ written, passed }, size) => {
      const ms = performance.now() - begun;
      const left = ((size - passed) * (density ?? 1) * ms) / (density === undefined ? passed : written);
      const rate = (written / 1024 ** 2 / ms) * 1000;
      this.#progress.update(size === 0 ? 1 : passed / size, left, `${doing}  ${rate.toFixed(1)} MiB/s`);
    };
  }

  async #verify(size: number, notes: string[]): Promise<Copied['verified']> {
    const source = this.#source;
    const destination = this.#destination;
    await destination.flush();
    this.#check();
    const { side: copied, whyCached } = destination.reader();
    const whySourceCached = source.openDirect();
    const reasons = [
      [source.name, whySourceCached ?? whyNeverPast(source.fd)],
      [destination.place.name, whyCached ?? whyNeverPast(copied.fd)],
    ] as const;
    for (const [name, why] of reasons) {
      if (why !== undefined) notes.push(`${quote(name)} was compared through the page cache: ${why}`);
    }
    const direct = { source: whySourceCached === undefined, destination: whyCached === undefined };
    const { bufferAlignment, offsetAlignment } = this.#alignments(direct);
    const { blockSize, depth } = this.#shape(size, offsetAlignment, 2);
    // What the kernel makes up while it is read is made up anew, from the beginning, for each read that is out of order.
    const inFlight = source.sized ? depth : 2;
    // All of it: what the file system calls a hole, and is none, is what a comparison is to find.
    const ranges = whole(size);
    this.#progress.step(`comparing it with ${quote(source.name)}`);
    const follow = this.#follow('comparing', source.density());
    await compare({
      source: source.side(direct.source),
      copy: copied,
      blocks: blocksOf(ranges, size, blockSize, offsetAlignment),
      blockSize,
      depth: inFlight,
      bufferAlignment,
      offsetAlignment,
      engine: this.#engine(),
      ended: (at) => source.ended(at),
      differs: (at) => this.#difference(at),
      onTurn: (passed) => {
        this.#check();
        follow({ written: passed, passed }, size);
      },
    });
    return reasons.every(([, why]) => why === undefined) ? 'past the page cache' : 'through the page cache';
  }

  #difference(at: number): CliError {
    const name = quote(this.#source.name);
    const cause = this.#source.changes().written
      ? `somebody wrote to ${name} meanwhile: copy it when nobody does`
      : 'the disk or the memory may be failing: see the log of the kernel (dmesg), and copy it again';
    return new CliError(EXIT_IO, `--verify: the copy differs from ${name} at byte ${at}; ${cause}`);
  }
}

/** O_DIRECT may be taken where there is no such thing. */
function whyNeverPast(fd: number): string | undefined {
  if (fstatSync(fd).isFile() && isInMemory(`/proc/self/fd/${fd}`))
    return 'its file system is in memory, and has nothing else';
  return deniesDirect(fd) ? 'its file system has no direct I/O, though it takes O_DIRECT' : undefined;
}

function whole(size: number): readonly Range[] {
  return [{ start: 0, end: size }];
}
