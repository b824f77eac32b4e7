/** Whole files through streams: fileaio's beside Node's, each at several sizes of its chunks. */
import * as fs from 'node:fs';
import { type Outcome, ratio, run, takeTurns } from './measure.ts';
import { checkRoom, diskDirectory, dropCache, scratchFile, TMPFS, type Unlinked } from './media.ts';
import { median } from './median.ts';
import { shortSize } from './options.ts';
import type { Built } from './programs.ts';
import { fixed, type Mark, type Table } from './report.ts';
import type { Direction, StreamJob, StreamSample } from './stream-loops.ts';

export interface StreamOptions {
  /** Of the file. */
  readonly bytes: number;
  /** Of the chunks. */
  readonly sizes: readonly number[];
  readonly rounds: number;
  readonly progress: (text: string) => void;
}

/** Of one way to run a program. */
interface Contender extends Pick<StreamJob, 'direct' | 'size' | 'defaults'> {
  readonly title: string;
  /** dd is the limit: one thread that reads into, or writes from, the same memory each time, and gives nothing to anybody. */
  readonly side: StreamJob['side'] | 'dd';
}

type Series = Contender & Outcome<StreamSample>;

/** On what, and what counts as done. */
interface Setting {
  readonly direction: Direction;
  /** In the marks. */
  readonly name: string;
  readonly where: 'tmpfs' | 'disk';
  readonly title: (kind: string) => string;
  /** The file is taken out of the page cache before each run. */
  readonly cold: boolean;
  readonly flush: boolean;
  /** Which of fileaio's ways take part. */
  readonly direct: readonly boolean[];
}

/** What all programs did in one setting. */
export interface StreamResult extends Pick<Setting, 'direction' | 'name' | 'flush'> {
  readonly title: string;
  readonly series: readonly Series[];
}

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

const MARK = 1.5;

const WARMUP_BYTES = 64 * MIB;

/** What programs that choose no highWaterMark write at a time, and what both libraries read by default. */
const DEFAULT_CHUNK = 64 * 1024;

const LIMIT_MS = 300_000;

const settings: readonly Setting[] = [
  {
    direction: 'read',
    name: 'tmpfs',
    where: 'tmpfs',
    title: () => `tmpfs (${TMPFS})`,
    cold: false,
    flush: false,
    direct: [false],
  },
  {
    direction: 'read',
    name: 'disk, hot',
    where: 'disk',
    title: (kind) => `file on ${kind}, all in the page cache`,
    cold: false,
    flush: false,
    direct: [false],
  },
  {
    direction: 'read',
    name: 'disk, cold',
    where: 'disk',
    title: (kind) => `file on ${kind}, nothing in the page cache`,
    cold: true,
    flush: false,
    direct: [false, true],
  },
  {
    direction: 'write',
    name: 'tmpfs',
    where: 'tmpfs',
    title: () => `tmpfs (${TMPFS})`,
    cold: false,
    flush: false,
    direct: [false],
  },
  {
    direction: 'write',
    name: 'disk, hot',
    where: 'disk',
    title: (kind) => `file on ${kind}, into the page cache`,
    cold: false,
    flush: false,
    direct: [false],
  },
  {
    direction: 'write',
    name: 'disk, flushed',
    where: 'disk',
    title: (kind) => `file on ${kind}, until it is on the disk (flush: true)`,
    cold: false,
    flush: true,
    direct: [true],
  },
];

function rate({ bytes, seconds }: StreamSample): number {
  return bytes / seconds;
}

function contendersOf({ direct }: Setting, sizes: readonly number[]): Contender[] {
  const ours = direct.flatMap((isDirect): Contender[] => {
    const base = { side: 'fileaio', direct: isDirect, title: isDirect ? 'fileaio, direct' : 'fileaio' } as const;
    const chosen = sizes.map((size) => ({ ...base, size, defaults: false }));
    return [{ ...base, size: DEFAULT_CHUNK, defaults: true }, ...chosen.filter(({ size }) => size !== DEFAULT_CHUNK)];
  });
  const node = sizes.map((size) => ({ side: 'node', title: 'node:fs', direct: false, size, defaults: false }) as const);
  const limits = [false, ...(direct.includes(true) ? [true] : [])].map((isDirect) => {
    const title = isDirect ? 'dd, direct' : 'dd';
    return { side: 'dd', title, direct: isDirect, size: MIB, defaults: false } as const;
  });
  return [...ours, ...node, ...limits];
}

/** The command, from its start to its end. What it took of the processor is not known. */
async function runDd({ path, bytes, direct, flush, kind }: Omit<StreamJob, 'side'>): Promise<StreamSample> {
  const reads = kind === 'read';
  const conversions = ['notrunc', ...(flush ? ['fsync'] : [])].join(',');
  const args = [
    ...(reads ? [`if=${path}`, 'of=/dev/null'] : ['if=/dev/zero', `of=${path}`, `conv=${conversions}`]),
    ...(direct ? [`${reads ? 'i' : 'o'}flag=direct`] : []),
    ...['bs=1M', `count=${Math.ceil(bytes / MIB)}`, 'status=none'],
  ];
  const begun = performance.now();
  await run({ file: 'dd', args }, {}, LIMIT_MS);
  return { bytes, seconds: (performance.now() - begun) / 1000, cpuUs: Number.NaN, maxRssKib: Number.NaN };
}

function childCommand(job: StreamJob, built: Built) {
  return { file: process.execPath, args: [built.filesChild, JSON.stringify(job)] };
}

function measureSetting(
  setting: Setting,
  { file, warmup }: Files,
  built: Built,
  { bytes, sizes, rounds, progress }: StreamOptions,
): Promise<Series[]> {
  const { direction, name, flush } = setting;
  return takeTurns(contendersOf(setting, sizes), rounds, async ({ title, side, direct, size, defaults }, round) => {
    progress(`${direction}, ${name}, round ${round + 1} of ${rounds}: ${title}, ${shortSize(size)}`);
    const common = { kind: direction, library: built.library, path: file.path, warmupPath: warmup.path } as const;
    const job = { ...common, bytes, warmupBytes: WARMUP_BYTES, direct, flush, size, defaults };
    if (direction === 'write') {
      // What became of the last one is over before the next begins.
      fs.ftruncateSync(file.fd, 0);
      fs.fsyncSync(file.fd);
    } else if (setting.cold) {
      dropCache(file.path);
    }
    if (side === 'dd') return runDd(job);
    return JSON.parse(await run(childCommand({ ...job, side }, built), {}, LIMIT_MS)) as StreamSample;
  });
}

interface Files {
  readonly file: Unlinked;
  readonly warmup: Unlinked;
}

function makeFiles(where: Setting['where'], bytes: number): Files & { kind: string } {
  const { directory, kind } = where === 'tmpfs' ? { directory: TMPFS, kind: 'tmpfs' } : diskDirectory();
  checkRoom(directory, bytes + WARMUP_BYTES);
  const warmup = scratchFile(directory, WARMUP_BYTES / MIB);
  try {
    return { file: scratchFile(directory, bytes / MIB), warmup, kind };
  } catch (error) {
    warmup.close();
    throw error;
  }
}

/** Measures all of it. `skip` is told what cannot be measured, and `show` of each setting that was. */
export async function measureStreams(
  options: StreamOptions,
  built: Built,
  show: (result: StreamResult) => void,
  skip: (text: string) => void,
): Promise<StreamResult[]> {
  const results: StreamResult[] = [];
  for (const where of ['tmpfs', 'disk'] as const) {
    let files: ReturnType<typeof makeFiles>;
    try {
      options.progress(`streams, ${where}: writing ${shortSize(options.bytes)}`);
      files = makeFiles(where, options.bytes);
    } catch (error) {
      skip(`streams, ${where}: ${error instanceof Error ? error.message : String(error)}`);
      continue;
    }
    // What is written comes last: it takes the place of what is read.
    for (const setting of settings.filter((one) => one.where === where)) {
      const series = await measureSetting(setting, files, built, options);
      const { direction, name, flush } = setting;
      const result = { direction, name, flush, title: setting.title(files.kind), series };
      results.push(result);
      show(result);
    }
    files.file.close();
    files.warmup.close();
  }
  return results;
}

const medianRate = ({ samples }: Series): number => median(samples.map(rate));

function fastest(series: readonly Series[]): Series | undefined {
  return series.filter(({ samples }) => samples.length > 0).sort((a, b) => medianRate(b) - medianRate(a))[0];
}

function nodesBest(series: readonly Series[]): Series | undefined {
  return fastest(series.filter(({ side }) => side === 'node'));
}

const VERBS = { read: 'Reading', write: 'Writing' } as const;

export function streamTable({ direction, title, series }: StreamResult, bytes: number): Table {
  const node = nodesBest(series);
  const rows: string[][] = [];
  const notes: string[] = [];
  for (const one of series) {
    const { samples, failure } = one;
    const at = one.defaults ? 'defaults' : shortSize(one.size);
    if (samples.length === 0) {
      notes.push(`${one.title}, ${at}: skipped, ${failure ?? 'not run'}`);
      continue;
    }
    const mebibytes = samples.map((sample) => rate(sample) / MIB);
    const alike = series.filter(({ title: other }) => other === one.title);
    rows.push([
      one.title,
      at,
      fixed(median(mebibytes), 0),
      `${fixed(Math.min(...mebibytes), 0)}–${fixed(Math.max(...mebibytes), 0)}`,
      node === undefined ? '–' : fixed(ratio(one, node, rate), 2),
      one.side === 'dd' ? '–' : fixed(median(samples.map((sample) => (sample.cpuUs / 1e6 / sample.bytes) * GIB)), 2),
      one.side === 'dd' ? '–' : fixed(median(samples.map(({ maxRssKib }) => maxRssKib / 1024)), 0),
      one.side === 'dd' ? 'the limit of one thread' : fastest(alike) === one ? 'its best' : '',
    ]);
  }
  return {
    title: `${VERBS[direction]} ${shortSize(bytes)}: ${title}`,
    head: ['stream', 'highWaterMark', 'MiB/s', 'min–max', '÷ node’s best', 'CPU s/GiB', 'RSS MiB', ''],
    rows,
    notes,
  };
}

const CREATORS = { read: 'createReadStream', write: 'createWriteStream' } as const;

export function streamMarks(results: readonly StreamResult[]): Mark[] {
  return settings.flatMap(({ direction, name, direct }): Mark[] => {
    const series = results.find((one) => one.direction === direction && one.name === name)?.series ?? [];
    const node = nodesBest(series);
    return direct.flatMap((isDirect) => {
      const ours = series.filter((one) => one.side === 'fileaio' && one.direct === isDirect);
      const where = isDirect ? `${name}, direct` : name;
      return (['its defaults', 'its best'] as const).map((how): Mark => {
        const one = how === 'its defaults' ? fastest(ours.filter(({ defaults }) => defaults)) : fastest(ours);
        const text = `${CREATORS[direction]} at ${how} does ${MARK} × node’s at its best`;
        if (one === undefined || node === undefined) return { text, found: `${where}: not measured`, met: undefined };
        const value = ratio(one, node, rate);
        return { text, found: `${where}: ${fixed(value, 2)}`, met: value >= MARK };
      });
    });
  });
}
