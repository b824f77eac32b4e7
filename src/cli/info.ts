/** `fileaio info`: what there is to work with. */
import { constants, type Stats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { arch, release, type } from 'node:os';
import { alignmentOf } from '../alignment.ts';
import { aioSysctls } from '../engines/kernel-aio.ts';
import { engines } from '../index.ts';
import { mediumOf } from './medium.ts';
import { columns, print } from './output.ts';
import { checkKind } from './target.ts';
import { CliError, codeOf, EXIT_IO, EXIT_OK, ioError, onlyFile, parseCommand, quote, reasonOf } from './usage.ts';
import { version } from './version.ts';

const INFO_HELP = `fileaio info: what this machine has for asynchronous file I/O, and what direct I/O on a file needs

Usage: fileaio info [FILE] [options]

FILE is a regular file or a block device; it is opened for reading, and not read.

  --json      as one JSON object
  -h, --help  this text

Exit codes: 0 done, 1 FILE cannot be looked at, 2 a mistake on the command line.
`;

interface FileInfo {
  readonly path: string;
  readonly medium: string;
  readonly bufferAlignment: number;
  readonly offsetAlignment: number;
  readonly alignmentSource: string;
  /** Whether it can be opened with O_DIRECT. */
  readonly direct: boolean;
  /** If not: what the kernel said. */
  readonly whyNotDirect?: string;
}

/** @returns the exit code. @throws CliError */
export async function info(args: string[]): Promise<number> {
  const { values, positionals } = parseCommand('info', {
    args,
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    await print(INFO_HELP);
    return EXIT_OK;
  }
  const path = onlyFile('info', positionals);
  const file = path === undefined ? undefined : await lookInto(path);
  const { used, max } = aioSysctls();
  const found = {
    version: version(),
    kernel: release(),
    node: process.version,
    arch: arch(),
    engines: engines(),
    aioNr: used ?? null,
    aioMaxNr: max ?? null,
    ...(file === undefined ? {} : { file }),
  };
  await print(values.json ? `${JSON.stringify(found, null, 2)}\n` : `${columns(lines(found))}\n`);
  return EXIT_OK;
}

interface Found {
  readonly version: string;
  readonly kernel: string;
  readonly node: string;
  readonly arch: string;
  readonly engines: ReturnType<typeof engines>;
  readonly aioNr: number | null;
  readonly aioMaxNr: number | null;
  readonly file?: FileInfo;
}

function lines(found: Found): (readonly [string, string])[] {
  const { file } = found;
  return [
    ['fileaio', found.version],
    ['kernel', `${type()} ${found.kernel}`],
    ['Node', found.node],
    ['architecture', found.arch],
    ...found.engines.map(
      ({ name, available, why = 'nobody knows why' }) =>
        [`engine ${name}`, available ? 'available' : `not available: ${why}`] as const,
    ),
    ['aio-nr', `${found.aioNr ?? 'unknown'}`],
    ['aio-max-nr', `${found.aioMaxNr ?? 'unknown'}`],
    ...(file === undefined ? [] : fileLines(file)),
  ];
}

function fileLines(file: FileInfo): (readonly [string, string])[] {
  return [
    ['file', quote(file.path)],
    ['medium', file.medium],
    ['buffer alignment', `${file.bufferAlignment} bytes`],
    ['offset alignment', `${file.offsetAlignment} bytes`],
    ['read from', file.alignmentSource],
    ['O_DIRECT', file.direct ? 'works' : `does not work: ${file.whyNotDirect ?? ''}`],
  ];
}

async function lookInto(path: string): Promise<FileInfo> {
  let found: Stats;
  try {
    found = await stat(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') throw new CliError(EXIT_IO, `no such file: ${quote(path)}. Name one that exists`);
    throw ioError(`cannot look at ${quote(path)}`, error, 'Name a file that you can reach');
  }
  checkKind(path, found);
  const { buffer, offset, source } = alignmentOf(path);
  const whyNotDirect = await refusal(path);
  return {
    path,
    medium: mediumOf(path, found),
    bufferAlignment: buffer,
    offsetAlignment: offset,
    alignmentSource: source,
    direct: whyNotDirect === undefined,
    ...(whyNotDirect === undefined ? {} : { whyNotDirect }),
  };
}

/** Why the file cannot be opened with O_DIRECT, found by doing it; `undefined` if it can. */
async function refusal(path: string): Promise<string | undefined> {
  if (constants.O_DIRECT === undefined) return `${process.platform} has none`;
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_DIRECT);
    await handle.close();
    return undefined;
  } catch (error) {
    if (codeOf(error) === 'EINVAL') return `its file system refuses it (${reasonOf(error)})`;
    throw ioError(`cannot open ${quote(path)}`, error, 'Name a file that you may read');
  }
}
