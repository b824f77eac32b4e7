/** What `fileaio bench` takes, checked as far as that goes without touching the file. */
import { accessSync, constants, statSync } from 'node:fs';
import { freemem } from 'node:os';
import { dirname } from 'node:path';
import { type EngineName, engines, getLimits } from '../index.ts';
import { MODES, type Mode } from './job.ts';
import { formatSize, parseCount, parseDuration, parseSize } from './sizes.ts';
import { CliError, codeOf, EXIT_IO, ioError, onlyFile, parseCommand, quote, usageError } from './usage.ts';

export const BENCH_HELP = `fileaio bench: measure every engine on this machine, and node:fs/promises beside them

Usage: fileaio bench [FILE] [options]

FILE is a regular file or a block device. Without it, a temporary file of random bytes is made in the
directory for temporary files (TMPDIR). A FILE that does not exist is made the same way for a mode that
writes. What was made is removed in any case.

  --rw MODE       read, write (sequential), randread, randwrite, randrw (half and half); default randread
  --bs SIZE       bytes per transfer; default 4k
  --iodepth N     transfers in flight; default 32
  --direct        with O_DIRECT, past the page cache; the default
  --no-direct     through the page cache
  --runtime TIME  per engine, after a short warm-up; default 3s
  --size SIZE     of the file that is made, default 256m; of FILE: use only so much, default all of it
  --engine NAME   only this one; can be given several times; default: every one that works here
  --json FILE     write the figures as JSON, too; '-': to standard output, instead of the table
  --force         overwrite what is in FILE, for modes that write
  -h, --help      this text

Sizes are bytes, or take k, m, g (powers of 1024); times are seconds, or take ms, s, m.
CPU in the table is processor time of the process; ratio is to the IOPS of node:fs/promises.

Exit codes: 0 done; 1 the file or the machine failed; 2 a mistake on the command line; 130 interrupted by
Ctrl-C, 143 by SIGTERM, after telling what was measured so far.
`;

/** What was asked for. */
export interface BenchOptions {
  readonly path: string | undefined;
  readonly mode: Mode;
  readonly blockSize: number;
  readonly depth: number;
  readonly direct: boolean;
  readonly runtimeMs: number;
  /** Bytes, or `undefined` where nothing was said. */
  readonly size: number | undefined;
  readonly engines: readonly EngineName[];
  readonly json: string | undefined;
  readonly force: boolean;
}

export const DEFAULT_SIZE = 256 * 1024 ** 2;

/** The kernel moves 2 GiB − 4 KiB at most in one transfer; a round number below. */
const MAX_BLOCK = 1024 ** 3;

/** @returns `undefined`: help was asked for. @throws CliError */
export function parseBench(args: string[]): BenchOptions | undefined {
  const { values, positionals } = parseCommand('bench', {
    args,
    allowPositionals: true,
    allowNegative: true,
    options: {
      rw: { type: 'string', default: 'randread' },
      bs: { type: 'string', default: '4k' },
      iodepth: { type: 'string', default: '32' },
      direct: { type: 'boolean', default: true },
      runtime: { type: 'string', default: '3s' },
      size: { type: 'string' },
      engine: { type: 'string', multiple: true },
      json: { type: 'string' },
      force: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return undefined;
  const path = onlyFile('bench', positionals);
  const mode = MODES.find((candidate) => candidate === values.rw);
  if (mode === undefined) throw usageError(`--rw ${quote(values.rw)} is no mode: give one of ${MODES.join(', ')}`);
  const blockSize = parseSize('--bs', values.bs);
  if (blockSize > MAX_BLOCK) throw usageError(`--bs ${quote(values.bs)} is too much for one transfer: give 1g at most`);
  const runtimeMs = parseDuration('--runtime', values.runtime);
  const size = values.size === undefined ? undefined : parseSize('--size', values.size);
  if (size !== undefined && size < blockSize) throw tooSmall('--size', size, blockSize);
  const chosen = chooseEngines(values.engine);
  const depth = parseDepth(values.iodepth, chosen);
  checkMemory(depth, blockSize);
  if (values.json !== undefined) checkJson(values.json, path);
  const { direct, force, json } = values;
  return { path, mode, blockSize, depth, direct, runtimeMs, size, engines: chosen, json, force };
}

/** @param what - the size of which is too small: an option, or the file. */
export function tooSmall(what: string, size: number, blockSize: number): CliError {
  return usageError(
    `${what} is ${formatSize(size)}, less than one block of ${formatSize(blockSize)}: give a smaller --bs, or something larger`,
  );
}

function chooseEngines(wanted: readonly string[] | undefined): readonly EngineName[] {
  const all = engines();
  if (wanted === undefined) return all.filter(({ available }) => available).map(({ name }) => name);
  return [...new Set(wanted)].map((name) => {
    const engine = all.find((candidate) => candidate.name === name);
    if (engine === undefined) {
      throw usageError(`unknown engine ${quote(name)}: there is ${all.map((known) => known.name).join(', ')}`);
    }
    if (!engine.available) throw new CliError(EXIT_IO, engine.why ?? `the engine ${name} does not work here`);
    return engine.name;
  });
}

function parseDepth(text: string, chosen: readonly EngineName[]): number {
  let max = Infinity;
  let least = '';
  for (const name of chosen) {
    const { maxOutstanding } = getLimits(undefined, name);
    if (maxOutstanding < max) [max, least] = [maxOutstanding, name];
  }
  return parseCount('--iodepth', text, 1, max, `the most that the engine ${least} takes here`);
}

function checkMemory(depth: number, blockSize: number): void {
  const needed = depth * blockSize;
  const free = freemem();
  if (needed < free / 2) return;
  throw usageError(
    `--iodepth ${depth} with --bs ${formatSize(blockSize)} needs ${formatSize(needed)} of buffers, of ${formatSize(free)} free memory: give less of either`,
  );
}

/** Whether the figures can be written there at the end; finds out without making anything. */
function checkJson(json: string, path: string | undefined): void {
  if (json === '-') return;
  if (json === '' || json.includes('\0')) throw usageError(`--json ${quote(json)} is no file name: give one, or -`);
  const cannot = `cannot write --json ${quote(json)}`;
  const cure = 'Name a file in a directory that you can write to, or - for standard output';
  try {
    const found = statOf(json);
    if (found?.isDirectory()) throw new CliError(EXIT_IO, `${cannot}: it is a directory. ${cure}`);
    const measured = path === undefined ? undefined : statOf(path);
    if (found !== undefined && found.dev === measured?.dev && found.ino === measured.ino) {
      throw usageError(`${cannot}: it is the file that is to be measured. Name another one`);
    }
    if (found === undefined) accessSync(dirname(json), constants.W_OK | constants.X_OK);
    else accessSync(json, constants.W_OK);
  } catch (error) {
    throw error instanceof CliError ? error : ioError(cannot, error, cure);
  }
}

function statOf(path: string): ReturnType<typeof statSync> | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
