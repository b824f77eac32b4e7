/** `fileaio copy` beside cp and dd, from the start of the process to its end. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onExit } from './cleanup.ts';
import { isInstalled, type Outcome, ratio, run, takeTurns } from './measure.ts';
import { checkRoom, diskDirectory, dropCache, TMPFS, writeRandom } from './media.ts';
import { median } from './median.ts';
import { shortSize } from './options.ts';
import type { Built, Command } from './programs.ts';
import { fixed, type Mark, type Table } from './report.ts';

export interface CopyOptions {
  /** Of the file. */
  readonly bytes: number;
  readonly rounds: number;
  readonly progress: (text: string) => void;
}

export interface CopySample {
  readonly bytes: number;
  readonly seconds: number;
}

interface Contender {
  readonly title: string;
  /** Whose mark it is. */
  readonly name: 'fileaio' | 'cp' | 'dd';
  /** What is copied is on the disk when it ends. */
  readonly flushes: boolean;
  command(source: string, destination: string): Command;
}

type Series = Contender & Outcome<CopySample>;

type Where = 'tmpfs' | 'disk';

interface Setting {
  /** In the marks. */
  readonly name: string;
  readonly where: Where;
  readonly title: (kind: string) => string;
  /** Is done to the source before each run. */
  readonly before: (source: string) => void;
}

export interface CopyResult extends Pick<Setting, 'name' | 'where'> {
  readonly title: string;
  readonly series: readonly Series[];
}

const MIB = 1024 ** 2;

const MARK = 1;

const WARMUP_BYTES = MIB;

const LIMIT_MS = 600_000;

function must(file: string, ...args: string[]): void {
  const { error, status, stderr } = spawnSync(file, args, { encoding: 'utf8' });
  if (error !== undefined) throw new Error(`${file} does not run: ${error.message}`);
  if (status !== 0) throw new Error(`${[file, ...args].join(' ')} failed: ${stderr.trim()}`);
}

const settings: readonly Setting[] = [
  { name: 'tmpfs', where: 'tmpfs', title: () => `tmpfs (${TMPFS})`, before: () => {} },
  {
    name: 'disk, cold',
    where: 'disk',
    title: (kind) => `${kind}, nothing of the source in the page cache`,
    before: dropCache,
  },
  {
    name: 'disk, hot',
    where: 'disk',
    title: (kind) => `${kind}, all of the source in the page cache`,
    before: (source) => must('dd', `if=${source}`, 'of=/dev/null', 'bs=1M', 'status=none'),
  },
];

function contendersOf(where: Where, built: Built): Contender[] {
  const main = fileURLToPath(new URL('cli/main.js', built.library));
  const dd = (from: string, to: string, ...more: string[]): Command => ({
    file: 'dd',
    args: [`if=${from}`, `of=${to}`, 'iflag=direct', 'oflag=direct', 'bs=1M', ...more, 'status=none'],
  });
  const fileaio: Contender = {
    title: 'fileaio copy',
    name: 'fileaio',
    flushes: true,
    command: (from, to) => ({ file: process.execPath, args: [main, 'copy', '--force', from, to] }),
  };
  const plain: Contender[] = [
    { title: 'cp', name: 'cp', flushes: false, command: (from, to) => ({ file: 'cp', args: [from, to] }) },
    { title: 'dd direct bs=1M', name: 'dd', flushes: false, command: (from, to) => dd(from, to) },
  ];
  // There is nothing to flush to.
  if (where === 'tmpfs') return [fileaio, ...plain];
  return [
    fileaio,
    {
      title: 'cp, then sync of the file',
      name: 'cp',
      flushes: true,
      command: (from, to) => ({ file: 'sh', args: ['-c', 'cp "$1" "$2" && sync "$2"', 'sh', from, to] }),
    },
    {
      title: 'dd direct bs=1M conv=fsync',
      name: 'dd',
      flushes: true,
      command: (from, to) => dd(from, to, 'conv=fsync'),
    },
    ...plain,
  ];
}

/**
 * Takes as much memory as the copy is going to, and gives it back: that of a virtual machine goes back to its host when nothing has used it for
 * some seconds, and whoever takes it first would pay for having it again.
 */
function takeMemory(directory: string, bytes: number): void {
  const path = join(directory, 'memory');
  must('dd', 'if=/dev/zero', `of=${path}`, 'bs=1M', `count=${Math.ceil(bytes / MIB)}`, 'status=none');
  fs.rmSync(path);
}

/** A directory with a file to copy, and one to warm up with; gone when this process ends. */
function makeSource(where: Where, bytes: number) {
  const { directory: parent, kind } = where === 'tmpfs' ? { directory: TMPFS, kind: 'tmpfs' } : diskDirectory();
  checkRoom(parent, 2 * bytes);
  const directory = fs.mkdtempSync(join(parent, 'fileaio-bench-copy-'));
  const remove = onExit(() => fs.rmSync(directory, { recursive: true, force: true }));
  try {
    const write = (name: string, mebibytes: number): string => {
      const path = join(directory, name);
      const fd = fs.openSync(path, 'wx', 0o600);
      try {
        writeRandom(fd, mebibytes);
      } finally {
        fs.closeSync(fd);
      }
      return path;
    };
    return {
      directory,
      kind,
      remove,
      warmup: write('warmup', WARMUP_BYTES / MIB),
      source: write('source', bytes / MIB),
    };
  } catch (error) {
    remove();
    throw error;
  }
}

async function timed(command: Command, destination: string, bytes: number): Promise<CopySample> {
  const begun = performance.now();
  await run(command, {}, LIMIT_MS);
  const seconds = (performance.now() - begun) / 1000;
  const { size } = fs.statSync(destination);
  if (size !== bytes) throw new Error(`The copy has ${size} bytes instead of ${bytes}`);
  return { bytes, seconds };
}

/** Measures all of it. `skip` is told what cannot be measured, and `show` of each setting that was. */
export async function measureCopies(
  { bytes, rounds, progress }: CopyOptions,
  built: Built,
  show: (result: CopyResult) => void,
  skip: (text: string) => void,
): Promise<CopyResult[]> {
  const results: CopyResult[] = [];
  for (const where of ['tmpfs', 'disk'] as const) {
    let made: ReturnType<typeof makeSource>;
    try {
      progress(`copy, ${where}: writing ${shortSize(bytes)}`);
      made = makeSource(where, bytes);
    } catch (error) {
      skip(`copy, ${where}: ${error instanceof Error ? error.message : String(error)}`);
      continue;
    }
    const { directory, source, warmup, kind, remove } = made;
    const destination = join(directory, 'destination');
    const all = contendersOf(where, built).filter(({ name, title }) => {
      if (name === 'fileaio' || isInstalled(name)) return true;
      skip(`copy, ${where}: ${title}: ${name} is not installed`);
      return false;
    });
    for (const setting of settings.filter((one) => one.where === where)) {
      const series = await takeTurns(all, rounds, async ({ title, command }, round) => {
        progress(`copy, ${setting.name}, round ${round + 1} of ${rounds}: ${title}`);
        if (round === 0) {
          await timed(command(warmup, destination), destination, WARMUP_BYTES);
          fs.rmSync(destination);
        }
        if (where === 'tmpfs') takeMemory(directory, bytes);
        setting.before(source);
        const sample = await timed(command(source, destination), destination, bytes);
        // What it left in the page cache goes, and the file system has done with it, before the next begins.
        fs.rmSync(destination);
        must('sync', '-f', directory);
        return sample;
      });
      const result = { name: setting.name, where, title: setting.title(kind), series };
      results.push(result);
      show(result);
    }
    remove();
  }
  return results;
}

function speed({ bytes, seconds }: CopySample): number {
  return bytes / seconds;
}

function mine({ series }: CopyResult): Series | undefined {
  return series.find(({ name, samples }) => name === 'fileaio' && samples.length > 0);
}

const DUTIES = [
  { flushes: true, title: 'all of them flush', text: 'that flushes, too' },
  { flushes: false, title: 'cp and dd do not flush, fileaio does', text: 'as it is' },
] as const;

/** On tmpfs, where flushing is nothing, one table; on a disk one with the same duty for all, and one with what each does by itself. */
export function copyTables(result: CopyResult, bytes: number): Table[] {
  const ours = mine(result);
  const duties = DUTIES.filter(({ flushes }) => result.where === 'disk' || !flushes);
  return duties.map(({ flushes, title }) => {
    const rows: string[][] = [];
    const notes: string[] = [];
    for (const one of result.series) {
      if (one.name !== 'fileaio' && one.flushes !== flushes) continue;
      if (one.samples.length === 0) {
        notes.push(`${one.title}: skipped, ${one.failure ?? 'not run'}`);
        continue;
      }
      const seconds = one.samples.map((sample) => sample.seconds);
      rows.push([
        one.title,
        fixed(median(seconds), 2),
        `${fixed(Math.min(...seconds), 2)}–${fixed(Math.max(...seconds), 2)}`,
        fixed(median(one.samples.map((sample) => speed(sample) / MIB)), 0),
        ours === undefined || one === ours ? '–' : fixed(ratio(ours, one, speed), 2),
      ]);
    }
    return {
      title: `Copying ${shortSize(bytes)}: ${result.title}${result.where === 'disk' ? `; ${title}` : ''}`,
      head: ['program', 'seconds', 'min–max', 'MiB/s', 'fileaio ÷ it'],
      rows,
      notes,
    };
  });
}

export function copyMarks(results: readonly CopyResult[]): Mark[] {
  return settings.flatMap(({ name, where }) => {
    const result = results.find((one) => one.name === name);
    const ours = result === undefined ? undefined : mine(result);
    return DUTIES.filter(({ flushes }) => where === 'disk' || !flushes).flatMap(({ flushes, text: duty }) =>
      (['cp', 'dd'] as const).map((peer): Mark => {
        const text = `copy is as fast as ${peer}${where === 'disk' ? ` ${duty}` : ''}`;
        const other = result?.series.find(
          (one) => one.name === peer && one.flushes === flushes && one.samples.length > 0,
        );
        if (ours === undefined || other === undefined) return { text, found: `${name}: not measured`, met: undefined };
        const value = ratio(ours, other, speed);
        return { text, found: `${name}: ${fixed(value, 2)}`, met: value >= MARK };
      }),
    );
  });
}
