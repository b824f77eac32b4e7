/** What `fileaio copy` takes, checked as far as that goes without opening a file. */
import { freemem } from 'node:os';
import { type EngineName, engines, getLimits } from '../index.ts';
import { formatSize, parseCount, parseSize } from './sizes.ts';
import { CliError, EXIT_IO, parseCommand, quote, usageError } from './usage.ts';

export const COPY_HELP = `fileaio copy: copy a file or a block device, many transfers in flight; DST is never half written

Usage: fileaio copy SRC DST [options]

SRC is a regular file or a block device. DST is a file name (not a directory), or a device. Symbolic links are
followed, at both ends.

A file DST is made under another name beside it (.fileaio-copy-…, for nobody else to read), flushed to the disk,
and takes the name DST in one step at the end: whoever opens DST finds what was there before or the whole copy,
also after a crash. Ctrl-C or an error leave DST as it was. Other hard links of an old DST keep the old bytes.
A device DST is written in place, and flushed.

  --bs SIZE       bytes per transfer; default 1m
  --iodepth N     transfers in flight; default 16, or 3 where all of it happens in memory
  --direct        with O_DIRECT, past the page cache, or fail where a file system refuses it
  --no-direct     through the page cache
                  default: past it where the file systems let it; but SRC is read from there if it is there
  --engine NAME   who carries the transfers: io-uring, kernel-aio or threads; default: the first that works
                  here (through the page cache never kernel-aio, which would do the work while submitting it;
                  for files in memory, or of a file system that is a process (FUSE), threads)
  --sparse WHEN   auto: the holes of SRC stay holes; the default
                  always: zeros become holes, too
                  never: everything is written, and takes its room on the disk
                  (a device has no holes: zeros are written there in any case)
  --verify        read SRC and the copy again, past the page cache, and compare, before DST is replaced
  --force         replace a DST that exists, or overwrite a device
  --preserve      mode and times of SRC, and where permitted its owner and group. Without it the permissions are
                  those of the DST that is replaced; of a new one those of SRC, less the umask
  --quiet         say nothing but errors
  --json FILE     write what was done as JSON; '-': to standard output, instead of the last line
  -h, --help      this text

Sizes are bytes, or take k, m, g (powers of 1024). What SRC grows by while it is copied is not copied. Access
control lists and extended attributes are not copied.

Exit codes: 0 done; 1 a file or the machine failed, or --verify found a difference; 2 a mistake on the command
line; 129, 130, 131 and 143 interrupted by SIGHUP, Ctrl-C, SIGQUIT and SIGTERM; 141 nobody reads standard
output any more.
`;

/** What becomes of zeros. */
export type Sparse = 'auto' | 'always' | 'never';

const SPARSE: readonly Sparse[] = ['auto', 'always', 'never'];

/** What was asked for. */
export interface CopyOptions {
  readonly source: string;
  readonly destination: string;
  /** Bytes per transfer. */
  readonly blockSize: number;
  /** `undefined`: what is best for where the files are. */
  readonly depth: number | undefined;
  /** `undefined`: where it works. */
  readonly direct: boolean | undefined;
  /** `undefined`: whatever is best for how the files are opened. */
  readonly engine: EngineName | undefined;
  readonly sparse: Sparse;
  readonly verify: boolean;
  readonly force: boolean;
  readonly preserve: boolean;
  readonly quiet: boolean;
  readonly json: string | undefined;
}

/** The kernel moves 2 GiB − 4 KiB at most in one transfer; a round number below. */
const MAX_BLOCK = 1024 ** 3;

/** @returns `undefined`: help was asked for. @throws CliError */
export function parseCopy(args: string[]): CopyOptions | undefined {
  const { values, positionals } = parseCommand('copy', {
    args,
    allowPositionals: true,
    allowNegative: true,
    options: {
      bs: { type: 'string', default: '1m' },
      iodepth: { type: 'string' },
      direct: { type: 'boolean' },
      engine: { type: 'string' },
      sparse: { type: 'string', default: 'auto' },
      verify: { type: 'boolean', default: false },
      force: { type: 'boolean', default: false },
      preserve: { type: 'boolean', default: false },
      quiet: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return undefined;
  const [source, destination] = twoFiles(positionals);
  const blockSize = parseSize('--bs', values.bs);
  if (blockSize > MAX_BLOCK) throw usageError(`--bs ${quote(values.bs)} is too much for one transfer: give 1g at most`);
  const sparse = SPARSE.find((candidate) => candidate === values.sparse);
  if (sparse === undefined) {
    throw usageError(`--sparse ${quote(values.sparse)} is no such way: give ${SPARSE.join(', ')}`);
  }
  const engine = values.engine === undefined ? undefined : engineCalled(values.engine);
  const { maxOutstanding } = getLimits(undefined, engine);
  const limit = `the most that the engine ${engine ?? 'of choice'} takes here`;
  const { iodepth } = values;
  const depth = iodepth === undefined ? undefined : parseCount('--iodepth', iodepth, 1, maxOutstanding, limit);
  const { direct, verify, force, preserve, quiet, json } = values;
  if (json === '' || json?.includes('\0')) throw usageError(`--json ${quote(json)} is no file name: give one, or -`);
  return { source, destination, blockSize, depth, direct, engine, sparse, verify, force, preserve, quiet, json };
}

function twoFiles(positionals: readonly string[]): [source: string, destination: string] {
  const [source, destination, third] = positionals;
  if (source === undefined || destination === undefined) {
    const missing = source === undefined ? 'SRC and DST are' : 'DST is';
    throw usageError(`${missing} missing: fileaio copy SRC DST. See fileaio copy --help`);
  }
  if (third !== undefined) {
    throw usageError(`one SRC and one DST, and ${quote(third)} is a third name. See fileaio copy --help`);
  }
  for (const [name, path] of Object.entries({ SRC: source, DST: destination })) {
    if (path === '') throw usageError(`${name} is empty: name a file`);
    if (path === '-')
      throw usageError(`${name} is -, and only files can be copied here, no streams. For a file of that name: ./-`);
    if (path.includes('\0')) throw usageError(`${name} ${quote(path)} has a NUL in it: no file is called that`);
  }
  return [source, destination];
}

function engineCalled(name: string): EngineName {
  const all = engines();
  const engine = all.find((candidate) => candidate.name === name);
  if (engine === undefined) {
    throw usageError(`unknown engine ${quote(name)}: there is ${all.map((known) => known.name).join(', ')}`);
  }
  if (!engine.available) throw new CliError(EXIT_IO, engine.why ?? `the engine ${name} does not work here`);
  return engine.name;
}

/** @throws CliError where `count` buffers of `size` bytes are more than is sensible here. */
export function checkMemory(count: number, size: number): void {
  const needed = count * size;
  const free = freemem();
  if (needed < free / 2) return;
  throw usageError(
    `${count} transfers in flight of ${formatSize(size)} each need ${formatSize(needed)} of buffers, of ${formatSize(free)} free memory: give a smaller --iodepth or --bs`,
  );
}
