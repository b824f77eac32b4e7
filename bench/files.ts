/**
 * Whole files: streams beside Node's, what a busy program does to the rest of itself, and `fileaio copy` beside cp and dd.
 * `npm run bench:files -- --help` says what can be chosen.
 */
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from './build.ts';
import { type CopyResult, copyMarks, copyTables, measureCopies } from './copies.ts';
import { kernelVersion, provenance } from './machine.ts';
import { bytes, count, list, progress, runMain, shortSize, UsageError } from './options.ts';
import { asMarkdown, asText, type Mark, markTable, type Table } from './report.ts';
import {
  LOAD_DEPTH,
  measureStarvation,
  type StarvationResult,
  starvationMarks,
  starvationSources,
  starvationTables,
} from './starvation.ts';
import { measureStreams, type StreamResult, streamMarks, streamTable } from './streams.ts';

const PARTS = ['streams', 'starvation', 'copy'] as const;

const HELP = `npm run bench:files -- [options]
  --parts LIST            of: ${PARTS.join(',')}
  --rounds N              of streams, default 3; the programs take turns in each
  --starvation-rounds N   default 2
  --copy-rounds N         default 2
  --size SIZE             of the file that is streamed, default 1g
  --chunks LIST           sizes of its chunks, the best is reported; default 64k,256k,1m,4m
  --probes N              of each kind, while idle and while reading; default 1000
  --copy-size SIZE        of the file that is copied, default 4g
  --json FILE             write every sample there
  --write                 write bench/RESULTS-FILES.md`;

const MIB = 1024 ** 2;

/** Files are written by the MiB. */
function fileSize(name: string, value: string): number {
  const size = bytes(name, value);
  if (size % MIB !== 0) throw new UsageError(`--${name}: '${value}' is not a whole number of MiB`);
  return size;
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      parts: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      'starvation-rounds': { type: 'string', default: '2' },
      'copy-rounds': { type: 'string', default: '2' },
      size: { type: 'string', default: '1g' },
      chunks: { type: 'string', default: '64k,256k,1m,4m' },
      probes: { type: 'string', default: '1000' },
      'copy-size': { type: 'string', default: '4g' },
      json: { type: 'string' },
      write: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const parts = list('parts', values.parts, PARTS);
  return {
    help: values.help,
    parts: PARTS.filter((part) => parts.includes(part)),
    rounds: count('rounds', values.rounds),
    starvationRounds: count('starvation-rounds', values['starvation-rounds']),
    copyRounds: count('copy-rounds', values['copy-rounds']),
    size: fileSize('size', values.size),
    chunks: values.chunks.split(',').map((value) => bytes('chunks', value)),
    probes: count('probes', values.probes),
    copySize: fileSize('copy-size', values['copy-size']),
    json: values.json,
    write: values.write,
  };
}

type Options = ReturnType<typeof readOptions>;

interface Results {
  readonly streams: readonly StreamResult[];
  readonly starvation: StarvationResult | undefined;
  readonly copy: readonly CopyResult[];
  /** What could not be measured, and why. */
  readonly skipped: readonly string[];
}

function marksOf({ parts }: Options, { streams, starvation, copy }: Results): Mark[] {
  return [
    ...(parts.includes('streams') ? streamMarks(streams) : []),
    ...(parts.includes('starvation') ? starvationMarks(starvation) : []),
    ...(parts.includes('copy') ? copyMarks(copy) : []),
  ];
}

function tablesOf(options: Options, { streams, starvation, copy }: Results): Table[] {
  return [
    ...streams.map((result) => streamTable(result, options.size)),
    ...(starvation === undefined ? [] : starvationTables(starvation)),
    ...copy.flatMap((result) => copyTables(result, options.copySize)),
  ];
}

/** What the tables of each part show. */
function explanations(options: Options): Readonly<Record<(typeof PARTS)[number], string>> {
  const { size, rounds, probes, starvationRounds, copySize, copyRounds } = options;
  return {
    streams: `**Streams**: a file of ${shortSize(size)} from its front to its back, ${rounds} rounds, each process after a smaller file to warm up with. Reading
only counts the bytes; writing writes chunks as large as the highWaterMark (64k with the defaults) into an empty file. The time goes
from opening the file to its being closed. \`fileaio\` is \`handle.createReadStream\` and \`handle.createWriteStream\` of
\`fileaio/promises\`, \`node:fs\` is \`createReadStream\` and \`createWriteStream\`. Node's streams have no aligned memory, so that they go
through the page cache where fileaio goes past it. The CPU time is that of the process, with the io_uring threads that work for it.
\`dd\` (bs=1M, from its start to its end) shows what the kernel itself takes: one thread, which reads into the same memory each time, or writes
zeros from it. Who hands out memory of its own for each chunk, or has been given the bytes by somebody else, does more than that.`,
    starvation: `**Starvation**: one process asks for a \`dns.lookup('localhost')\`, a \`crypto.pbkdf2\` of about a millisecond and an \`fs.stat\` in turn, one each
millisecond, ${probes} of each while it is idle and ${probes} of each while ${LOAD_DEPTH} random 4 KiB reads are kept in flight, in slices that take
turns; ${starvationRounds} rounds. \`event loop\` is \`monitorEventLoopDelay\`, the time between two ticks of a clock of one millisecond. Latencies
are in milliseconds, from the call to the callback; p50 and p99 are medians over the rounds (of the event loop over the slices, first),
max is the most of all. Look at the reads per second beside them: whoever reads less also disturbs less. The engine \`threads\` works
on the thread pool that is probed, and is not held to the mark. \`a loop in C, in another process\` reads the same while this one only asks: what becomes slower
then is the work of the kernel, of the disk's driver and of whatever this machine shares with others, and no library could be better.`,
    copy: `**Copy**: the whole process, from its start to its end, on a file of ${shortSize(copySize)} of random bytes, ${copyRounds} rounds. \`fileaio copy\` always flushes
the copy to the disk before it ends, and cp and dd do so only when told: one table gives all the same duty, the other has cp and dd
as people run them. After each run the copy is removed and the file system flushed; before each the source is read into the page
cache, or dropped from it; on tmpfs as many zeros are written and removed, so that nobody is the first who needs the memory.`,
  };
}

function markdown(options: Options, results: Results): string {
  const { skipped } = results;
  const explained = explanations(options);
  return `# Benchmark results: files

${provenance('bench:files')}

Each program runs in a process of its own; they take turns within each round, there and back. Shown are the median, the least and the most; ratios
are the median of the ratios within each round.

${options.parts.map((part) => explained[part]).join('\n\n')}

${[markTable(marksOf(options, results)), ...tablesOf(options, results)].map((table) => asMarkdown(table).replace(/^### The/, '## The')).join('\n')}${
  skipped.length > 0 ? `\nNot measured: ${skipped.join('; ')}.\n` : ''
}`;
}

function show(...tables: readonly Table[]): void {
  progress('');
  for (const table of tables) console.log(asText(table));
}

async function measureAll(options: Options): Promise<Results> {
  const skipped: string[] = [];
  const skip = (text: string): void => {
    progress('');
    skipped.push(text);
    console.log(`skipped: ${text}\n`);
  };
  const { parts, rounds, probes } = options;
  const built = build(new Map(), new Set(parts.includes('starvation') ? starvationSources : [])).get('');
  if (built === undefined) throw new Error('This tree was not built');

  const streaming = { bytes: options.size, sizes: options.chunks, rounds, progress };
  const streams = parts.includes('streams')
    ? await measureStreams(streaming, built, (result) => show(streamTable(result, options.size)), skip)
    : [];

  let starvation: StarvationResult | undefined;
  if (parts.includes('starvation')) {
    try {
      starvation = await measureStarvation({ probes, rounds: options.starvationRounds, progress }, built);
      show(...starvationTables(starvation));
    } catch (error) {
      skip(`starvation: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  const copying = { bytes: options.copySize, rounds: options.copyRounds, progress };
  const copy = parts.includes('copy')
    ? await measureCopies(copying, built, (result) => show(...copyTables(result, options.copySize)), skip)
    : [];
  return { streams, starvation, copy, skipped };
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options.help) {
    console.log(HELP);
    return;
  }
  const results = await measureAll(options);
  show(markTable(marksOf(options, results)));
  if (options.json !== undefined) {
    const report = { kernel: kernelVersion(), node: process.version, ...results };
    writeFileSync(options.json, `${JSON.stringify(report, undefined, 2)}\n`);
  }
  if (options.write) {
    const file = join(dirname(fileURLToPath(import.meta.url)), 'RESULTS-FILES.md');
    writeFileSync(file, markdown(options, results));
  }
}

await runMain(main, HELP);
