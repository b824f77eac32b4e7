/** What `fileaio bench` takes, checked as far as that goes without touching the file. */
import { type BigIntStats, statSync } from 'node:fs';
import { freemem } from 'node:os';
import { resolve } from 'node:path';
import { type EngineName, engines, getLimits } from '../index.ts';
import { type Baseline, readBaseline } from './baseline.ts';
import { MODES, type Mode } from './job.ts';
import { checkOutput, isSame } from './output-file.ts';
import { formatSize, parseCount, parseDepths, parseDuration, parseSize } from './sizes.ts';
import { CliError, EXIT_IO, onlyFile, parseCommand, quote, usageError } from './usage.ts';

export const BENCH_HELP = `fileaio bench: measure every engine on this machine, and node:fs/promises beside them

Usage: fileaio bench [FILE] [options]

FILE is a regular file or a block device. Without it, a temporary file of random bytes is made in the
directory for temporary files (TMPDIR). A FILE that does not exist is made the same way for a mode that
writes. What was made is removed in any case.

  --rw MODE       read, write (sequential), randread, randwrite, randrw (half and half); default randread
  --bs SIZE       bytes per transfer; default 4k
  --iodepth LIST  transfers in flight; default 32. Of several, such as 1,8,64, each is measured; 1..256, and
                  1,2,…,256, double from the one to the other
  --direct        with O_DIRECT, past the page cache; the default
  --no-direct     through the page cache
  --runtime TIME  per engine, after a short warm-up; default 3s
  --size SIZE     of the file that is made, default 256m; of FILE: use only so much, default all of it
  --engine NAME   only this one; can be given several times; default: every one that works here
  --rounds N      measure everything N times, in turns; the figures are those of all together; default 1
  --json FILE     write the figures as JSON, too; '-': to standard output, instead of the table
  --html FILE     write a page with plots and tables, which needs nothing else to be looked at
  --baseline FILE
                  print what changed since FILE, which --json wrote
  --max-regression PERCENT
                  exit with 3 if an engine lost more of its IOPS since --baseline, beyond the noise
  --force         overwrite what is in FILE, for modes that write
  -h, --help      this text

Sizes are bytes, or take k, m, g (powers of 1024); times are seconds, or take ms, s, m.
CPU in the table is processor time of the process; ratio is to the IOPS of node:fs/promises. A change since
--baseline lies within the noise where the rounds of then and of now overlap.

Exit codes: 0 done, whatever --baseline says; 1 the file or the machine failed; 2 a mistake on the command
line; 3 slower than --max-regression allows, or an engine does not work any more; 129, 130, 131 and 143
interrupted by SIGHUP, Ctrl-C, SIGQUIT and SIGTERM, after telling what was measured so far; 141 nobody reads
standard output any more.
`;

/** What was asked for. */
export interface BenchOptions {
  readonly path: string | undefined;
  readonly mode: Mode;
  readonly blockSize: number;
  /** In ascending order. */
  readonly depths: readonly [number, ...number[]];
  readonly rounds: number;
  readonly direct: boolean;
  readonly runtimeMs: number;
  /** Bytes, or `undefined` where nothing was said. */
  readonly size: number | undefined;
  readonly engines: readonly EngineName[];
  /** Whether these were named; else they are all that work here. */
  readonly enginesNamed: boolean;
  readonly json: string | undefined;
  readonly html: string | undefined;
  readonly baseline: Baseline | undefined;
  readonly maxRegression: number | undefined;
  readonly force: boolean;
  /** As it was typed. */
  readonly args: readonly string[];
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
      rounds: { type: 'string', default: '1' },
      json: { type: 'string' },
      html: { type: 'string' },
      baseline: { type: 'string' },
      'max-regression': { type: 'string' },
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
  const depths = parseIodepth(values.iodepth, chosen);
  checkMemory(Math.max(...depths), blockSize);
  const rounds = parseCount('--rounds', values.rounds, 1, 1000, 'more tell nothing more');
  const { direct, force, json, html } = values;
  // Before the others are looked at as files: an old one may be renewed.
  const baseline = values.baseline === undefined ? undefined : readBaseline(values.baseline);
  const maxRegression = parsePercent('--max-regression', values['max-regression']);
  if (maxRegression !== undefined && baseline === undefined) {
    throw usageError('--max-regression is of --baseline: give the file to compare with, too');
  }
  const jsonFile =
    json === undefined || json === '-' ? undefined : checkFile('--json', json, path, ', or - for standard output');
  const htmlFile = html === undefined ? undefined : checkFile('--html', html, path);
  if (html !== undefined && json !== undefined && (resolve(html) === resolve(json) || isSame(htmlFile, jsonFile))) {
    throw usageError(`--html and --json are both ${quote(html)}: name another file for one of them`);
  }
  const options = { path, mode, blockSize, depths, rounds, direct, runtimeMs, size, engines: chosen };
  const enginesNamed = values.engine !== undefined;
  return { ...options, enginesNamed, json, html, baseline, maxRegression, force, args };
}

function parsePercent(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d+(\.\d+)?%?$/.test(text) ? Number.parseFloat(text) : Number.NaN;
  if (!(value <= 100)) throw usageError(`${option} ${quote(text)} is no percentage: give a number from 0 to 100`);
  return value;
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

function parseIodepth(text: string, chosen: readonly EngineName[]): readonly [number, ...number[]] {
  let max = Infinity;
  let least = '';
  for (const name of chosen) {
    const { maxOutstanding } = getLimits(undefined, name);
    if (maxOutstanding < max) [max, least] = [maxOutstanding, name];
  }
  const [first = 1, ...others] = parseDepths('--iodepth', text, max, `the most that the engine ${least} takes here`);
  return [first, ...others];
}

function checkMemory(depth: number, blockSize: number): void {
  const needed = depth * blockSize;
  const free = freemem();
  if (needed < free / 2) return;
  throw usageError(
    `--iodepth ${depth} with --bs ${formatSize(blockSize)} needs ${formatSize(needed)} of buffers, of ${formatSize(free)} free memory: give less of either`,
  );
}

/** Whether something can be written there at the end. */
function checkFile(option: string, file: string, path: string | undefined, or = ''): BigIntStats | undefined {
  if (file === '' || file === '-' || file.includes('\0')) {
    throw usageError(`${option} ${quote(file)} is no file name: give one${or}`);
  }
  const found = checkOutput(option, file, `Name a file in a directory that you can write to${or}`);
  if (path !== undefined && isSame(found, lookAt(path))) {
    throw usageError(`cannot write ${option} ${quote(file)}: it is the file that is to be measured. Name another one`);
  }
  return found;
}

/** What cannot be looked at will be told by whoever opens it. */
function lookAt(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}
