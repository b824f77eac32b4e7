/** Tables for the terminal and for RESULTS.md, and the comparison with the marks that the library is held to. */
import { cpuPerTransfer, rate, ratio, type Series } from './measure.ts';
import type { MediumName } from './media.ts';
import { median } from './median.ts';
import type { Sample } from './meter.ts';

/** What all programs found on one medium at one depth. */
export interface Result {
  readonly medium: MediumName;
  /** What the medium is, for people. */
  readonly title: string;
  readonly depth: number;
  readonly series: readonly Series[];
}

/** What the heap does in a loop of many transfers. */
export interface Allocation {
  readonly title: string;
  readonly program: string;
  readonly depth: number;
  /** Run with a young generation that is large enough for all of it, so that nothing is collected. */
  readonly counted: Sample;
  /** Run as it is by default. */
  readonly plain: Sample;
}

export interface Table {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly notes: readonly string[];
}

const PEER = 'fs-promises';

const DEFAULT_POOL = 4;

/** At which the allocations are counted. */
export const ALLOCATION_DEPTH = 128;

export function fixed(value: number, digits: number): string {
  return Number.isFinite(value) ? value.toFixed(digits) : '–';
}

const thousands = (perSecond: number): string => fixed(perSecond / 1000, perSecond < 100_000 ? 1 : 0);
const medianRate = ({ samples }: Series): number => median(samples.map(rate));

/** A program is reported with the size of the thread pool that suits it best. */
function best(series: readonly Series[], program: string, tree = ''): Series | undefined {
  return series
    .filter((one) => one.program.name === program && one.tree === tree && one.samples.length > 0)
    .sort((a, b) => medianRate(b) - medianRate(a))[0];
}

function times(a: Series | undefined, b: Series | undefined, digits = 2): string {
  return a === undefined || b === undefined ? '–' : fixed(ratio(a, b, rate), digits);
}

function remark(one: Series, all: readonly Series[]): string {
  if (one.poolSize === undefined) return '';
  const usual = all.find(
    (other) => other.program === one.program && other.tree === one.tree && other.poolSize === DEFAULT_POOL,
  );
  if (usual === undefined || usual === one) return `pool of ${one.poolSize}`;
  return `pool of ${one.poolSize} (default ${DEFAULT_POOL}: ${thousands(medianRate(usual))})`;
}

export function resultTable({ title, depth, series }: Result): Table {
  const peer = best(series, PEER);
  const rows: string[][] = [];
  const notes: string[] = [];
  for (const { program, tree, failure } of series) {
    const name = tree === '' ? program.title : `${program.title} [${tree}]`;
    const one = best(series, program.name, tree);
    if (one === undefined) {
      const note = `${name}: skipped, ${failure ?? 'not run'}`;
      if (!notes.includes(note)) notes.push(note);
      continue;
    }
    if (rows.some(([shown]) => shown === name)) continue;
    const rates = one.samples.map(rate);
    const collections = one.samples.map((sample) => sample.collections ?? Number.NaN);
    rows.push([
      name,
      thousands(median(rates)),
      `${thousands(Math.min(...rates))}–${thousands(Math.max(...rates))}`,
      times(one, program.limit === undefined ? undefined : best(series, program.limit)),
      times(one, peer),
      fixed(median(one.samples.map(cpuPerTransfer)), 2),
      fixed(median(collections), 0),
      remark(one, series),
    ]);
  }
  return {
    title: `${title}, depth ${depth}`,
    head: ['program', 'k reads/s', 'min–max', '÷ C loop', '÷ fs/promises', 'CPU µs/read', 'GCs', ''],
    rows,
    notes,
  };
}

function allocatedPerTransfer({ counted }: Allocation): number {
  return counted.collections === 0 ? (counted.heapGrowth ?? Number.NaN) / counted.transfers : Number.NaN;
}

export function allocationTable(allocations: readonly Allocation[]): Table {
  const kib = (bytes: number | undefined): string => fixed((bytes ?? Number.NaN) / 1024, 0);
  return {
    title: 'What the low-level loops allocate, reading from the page cache',
    head: ['program', 'reads', 'heap before', 'after (KiB, collected)', 'allocated B/read', 'GCs (default heap)'],
    rows: allocations.map((one) => [
      `${one.title}, depth ${one.depth}`,
      String(one.counted.transfers),
      kib(one.counted.heapKept?.[0]),
      kib(one.counted.heapKept?.[1]),
      fixed(allocatedPerTransfer(one), 1),
      String(one.plain.collections ?? '–'),
    ]),
    notes: ['8 B of each read are its place in the array that a wait returns.'],
  };
}

/** Less than any object takes, beside the 8 bytes of the array that a wait returns. */
const NO_OBJECT_BYTES = 8 + 12;

/** What the library is held to, and what was found. */
export interface Mark {
  readonly text: string;
  readonly found: string;
  /** Undefined: not measured in this run. */
  readonly met: boolean | undefined;
}

interface Rule {
  readonly text: string;
  readonly media: readonly MediumName[];
  readonly depths: readonly number[];
  readonly program: string;
  readonly against: string;
  readonly figure: (sample: Sample) => number;
  readonly least?: number;
  readonly most?: number;
}

const EVERYWHERE: readonly MediumName[] = ['tmpfs', 'loop', 'disk'];

const DEEP = [32, 128];

/** How close the library is to be to the same loop in C. */
function limits(engine: string, waitMedia: readonly MediumName[], ...variants: string[]): Rule[] {
  return variants.flatMap((variant): Rule[] => {
    const name = variant === '' ? engine : `${engine}, ${variant}`;
    const program = name.replace(', ', '-');
    return [
      {
        text: `${name}: waitSync() reaches 0.95 of the C loop`,
        media: EVERYWHERE,
        depths: DEEP,
        program: `${program}-wait-sync`,
        against: `c-${program}`,
        figure: rate,
        least: 0.95,
      },
      {
        text: `${name}: await wait() reaches 0.85 of the C loop`,
        media: waitMedia,
        depths: DEEP,
        program: `${program}-wait`,
        against: `c-${program}`,
        figure: rate,
        least: 0.85,
      },
    ];
  });
}

function faster(
  text: string,
  media: readonly MediumName[],
  depths: readonly number[],
  program: string,
  against: string,
  least: number,
): Rule {
  return { text, media, depths, program, against, figure: rate, least };
}

/** What is held against Node's own promises, which have become faster. */
const HANDLE_LEAST = Number.parseInt(process.versions.node, 10) >= 26 ? 2.3 : 4;

const rules: readonly Rule[] = [
  ...limits('aio', ['tmpfs', 'loop'], ''),
  faster('aio: await wait() does 5 × node:fs/promises', ['tmpfs'], [32], 'aio-wait', PEER, 5),
  faster('aio: await wait() does 3.5 × node:fs/promises', ['loop'], [32], 'aio-wait', PEER, 3.5),
  {
    text: '… at no more than 0.25 of its CPU time per read',
    media: ['tmpfs', 'loop'],
    depths: [32],
    program: 'aio-wait',
    against: PEER,
    figure: cpuPerTransfer,
    most: 0.25,
  },
  faster('aio: await wait() does 1.2 × node:fs/promises', EVERYWHERE, [1], 'aio-wait', PEER, 1.2),
  ...limits('uring', EVERYWHERE, '', 'fixed'),
  faster('uring, fixed: waitSync() as fast as aio', ['tmpfs'], DEEP, 'uring-fixed-wait-sync', 'aio-wait-sync', 1),
  faster('uring, fixed: waitSync() does 1.05 × aio', ['loop'], DEEP, 'uring-fixed-wait-sync', 'aio-wait-sync', 1.05),
  faster('uring: waitSync() reaches 0.9 of aio', ['tmpfs'], DEEP, 'uring-wait-sync', 'aio-wait-sync', 0.9),
  faster('aio: waitSync() is ahead of fio, libaio', ['tmpfs'], DEEP, 'aio-wait-sync', 'fio-aio', 1),
  faster(
    'uring, fixed: waitSync() is ahead of fio, io_uring',
    ['tmpfs'],
    DEEP,
    'uring-fixed-wait-sync',
    'fio-uring',
    1,
  ),
  faster('uring: await wait() does 3 × node:fs/promises', ['hot'], [32], 'uring-wait', PEER, 3),
  faster('uring: await wait() is ahead of node:fs/promises', ['cold'], [32], 'uring-wait', PEER, 1),
  faster('fileaio/promises, aio: read() reaches 0.8 of the C loop', ['tmpfs'], [32], 'handle-aio', 'c-aio', 0.8),
  faster('fileaio/promises, uring: read() reaches 0.8 of the C loop', ['tmpfs'], [32], 'handle-uring', 'c-uring', 0.8),
  faster(
    `fileaio/promises, aio: read() does ${HANDLE_LEAST} × node:fs/promises`,
    ['tmpfs'],
    [32],
    'handle-aio',
    PEER,
    HANDLE_LEAST,
  ),
  {
    text: '… at no more than a third of its CPU time per read',
    media: ['tmpfs'],
    depths: [32],
    program: 'handle-aio',
    against: PEER,
    figure: cpuPerTransfer,
    most: 1 / 3,
  },
];

function judge(rule: Rule, results: readonly Result[]): Mark[] {
  const marks: Mark[] = [];
  for (const medium of rule.media) {
    for (const depth of rule.depths) {
      const result = results.find((one) => one.medium === medium && one.depth === depth);
      const a = best(result?.series ?? [], rule.program);
      const b = best(result?.series ?? [], rule.against);
      const where = `${medium}, depth ${depth}`;
      if (a === undefined || b === undefined) {
        marks.push({ text: rule.text, found: `${where}: not measured`, met: undefined });
      } else {
        const value = ratio(a, b, rule.figure);
        const met = value >= (rule.least ?? 0) && value <= (rule.most ?? Number.POSITIVE_INFINITY);
        marks.push({ text: rule.text, found: `${where}: ${fixed(value, 2)}`, met });
      }
    }
  }
  return marks;
}

function judgeAllocation(allocations: readonly Allocation[]): Mark {
  const text = 'the low-level loop allocates nothing per read';
  const ones = allocations.filter(({ program }) => /^(aio|uring)-wait-sync$/.test(program));
  if (ones.length === 0) return { text, found: 'not measured', met: undefined };
  const bytes = ones.map(allocatedPerTransfer);
  const all = bytes.map((each, index) => `${ones[index]?.program} ${fixed(each, 1)} B`).join(', ');
  const found = `depth ${ALLOCATION_DEPTH}: ${all} per read; the array that a wait returns is 8 of them`;
  return { text, found, met: bytes.every((each) => each < NO_OBJECT_BYTES) };
}

export function marksOf(results: readonly Result[], allocations: readonly Allocation[]): Mark[] {
  return [...rules.flatMap((rule) => judge(rule, results)), judgeAllocation(allocations)];
}

export function markTable(marks: readonly Mark[]): Table {
  return {
    title: 'The marks',
    head: ['mark', 'found', ''],
    rows: marks.map(({ text, found, met }) => [text, found, met === undefined ? '–' : met ? 'met' : 'MISSED']),
    notes: [],
  };
}

/** Columns of figures stand to the right, those of words to the left. */
function isFigures(rows: readonly (readonly string[])[], column: number): boolean {
  return rows.every((row) => /^[\d.–-]*$/.test(row[column] ?? ''));
}

export function asText({ title, head, rows, notes }: Table): string {
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return isFigures(rows, column) ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd();
  return [title, line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line), ...notes, ''].join(
    '\n',
  );
}

export function asMarkdown({ title, head, rows, notes }: Table): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = head.map((_, column) => (isFigures(rows, column) ? '---:' : '---'));
  return [
    `### ${title}`,
    '',
    line(head),
    line(rule),
    ...rows.map(line),
    '',
    ...notes.flatMap((note) => [note, '']),
  ].join('\n');
}
