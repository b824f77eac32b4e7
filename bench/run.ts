/**
 * Random 4 KiB reads: fileaio beside the same loops in C, which are the speed limit, beside fio, and beside node:fs.
 * `npm run bench -- --help` says what can be chosen.
 */
import { writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from './build.ts';
import { kernelVersion, provenance } from './machine.ts';
import { type Candidate, isInstalled, measure, run } from './measure.ts';
import { type Medium, type MediumName, media } from './media.ts';
import type { Sample } from './meter.ts';
import { counts, figure, list, progress, runMain, UsageError } from './options.ts';
import { type Built, type Program, programs, type Task } from './programs.ts';
import {
  ALLOCATION_DEPTH,
  type Allocation,
  allocationTable,
  asMarkdown,
  asText,
  marksOf,
  markTable,
  type Result,
  resultTable,
  type Table,
} from './report.ts';

const BLOCK_SIZE = 4096;

const ALLOCATION_TRANSFERS = 1_000_000;

const allNames = programs.map(({ name }) => name);

const HELP = `npm run bench -- [options]
  --media LIST      of: ${Object.keys(media).join(',')}
  --depths LIST     default 1,32,128
  --programs LIST   of: ${allNames.join(',')}
  --rounds N        default 5; the programs take turns in each
  --seconds S       to measure in each round, default 1.5
  --warmup S        before that, default 0.5
  --size MIB        of each file, a power of two, default 256
  --pools LIST      sizes of libuv's thread pool for node:fs, the best is reported; default 4,16
  --tree NAME=DIR   also run the library of another tree of this project, in the same rounds; may be repeated
  --no-allocation   leave out counting what the low-level loops allocate
  --json FILE       write every sample there
  --write           write bench/RESULTS.md`;

function readOptions() {
  const { values } = parseArgs({
    options: {
      media: { type: 'string' },
      depths: { type: 'string', default: '1,32,128' },
      programs: { type: 'string' },
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '1.5' },
      warmup: { type: 'string', default: '0.5' },
      size: { type: 'string', default: '256' },
      pools: { type: 'string', default: '4,16' },
      tree: { type: 'string', multiple: true, default: [] },
      'no-allocation': { type: 'boolean', default: false },
      json: { type: 'string' },
      write: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const size = figure('size', values.size, 1);
  if (!Number.isInteger(Math.log2(size))) throw new UsageError(`--size: ${size} is not a power of two`);
  const wanted = list('programs', values.programs, allNames);
  return {
    help: values.help,
    media: list('media', values.media, Object.keys(media) as MediumName[]),
    depths: counts('depths', values.depths),
    programs: programs.filter(({ name }) => wanted.includes(name)),
    rounds: Math.floor(figure('rounds', values.rounds, 1)),
    seconds: figure('seconds', values.seconds, 0.01),
    warmup: figure('warmup', values.warmup, 0),
    size,
    pools: counts('pools', values.pools),
    trees: new Map(
      values.tree.map((tree) => {
        const at = tree.indexOf('=');
        if (at < 1) throw new UsageError(`--tree: '${tree}' is not of the form NAME=DIR`);
        return [tree.slice(0, at), resolve(tree.slice(at + 1))] as const;
      }),
    ),
    allocation: !values['no-allocation'],
    json: values.json,
    write: values.write,
  };
}

type Options = ReturnType<typeof readOptions>;

/** Every way in which the programs are to be run at this depth. */
function candidatesAt(
  depth: number,
  buffered: boolean,
  options: Options,
  builds: ReadonlyMap<string, Built>,
): Candidate[] {
  const all: Candidate[] = [];
  for (const [tree, built] of builds) {
    for (const program of options.programs) {
      if (depth > (program.maxDepth ?? Number.POSITIVE_INFINITY)) continue;
      if (tree !== '' && program.ours !== true) continue;
      if (buffered ? !program.buffered : program.buffered === 'only') continue;
      if (program.pooled !== true) all.push({ program, built, tree });
      else for (const poolSize of options.pools) all.push({ program, built, tree, poolSize });
    }
  }
  return all;
}

async function allocationOf(program: Program, base: Omit<Task, 'depth'>, built: Built): Promise<Allocation> {
  const task = {
    ...base,
    depth: ALLOCATION_DEPTH,
    warmupSeconds: 0,
    seconds: 0,
    warmupTransfers: ALLOCATION_TRANSFERS / 2,
    transfers: ALLOCATION_TRANSFERS,
  };
  const sample = async (...flags: string[]): Promise<Sample> => {
    const { file, args } = program.command(task, built);
    return program.parse(await run({ file, args: [...flags, ...args] }, {}, 120_000));
  };
  return {
    title: program.title,
    program: program.name,
    depth: ALLOCATION_DEPTH,
    counted: await sample('--expose-gc', '--min-semi-space-size=64', '--max-semi-space-size=64'),
    plain: await sample(),
  };
}

async function measureMedium(
  medium: Medium,
  options: Options,
  builds: ReadonlyMap<string, Built>,
): Promise<{ results: Result[]; allocations: Allocation[] }> {
  const results: Result[] = [];
  const allocations: Allocation[] = [];
  const base = {
    path: medium.path,
    blockSize: BLOCK_SIZE,
    blocks: (options.size * 1024 * 1024) / BLOCK_SIZE,
    direct: medium.buffered !== true,
    ...(medium.transfers === undefined
      ? { warmupSeconds: options.warmup, seconds: options.seconds, warmupTransfers: 0, transfers: 0 }
      : { warmupSeconds: 0, seconds: 0, warmupTransfers: medium.transfers / 8, transfers: medium.transfers }),
  };
  for (const depth of options.depths) {
    if (medium.depths?.includes(depth) === false) continue;
    const candidates = candidatesAt(depth, medium.buffered === true, options, builds);
    const series = await measure(
      candidates,
      { ...base, depth },
      options.rounds,
      (text) => progress(`${medium.name}, ${text}`),
      medium.before,
    );
    const result = { medium: medium.name, title: medium.title, depth, series };
    results.push(result);
    progress('');
    console.log(asText(resultTable(result)));
  }
  const built = builds.get('');
  // From the page cache, where the batches are full: what is allocated per wait is spread over most reads there.
  if (options.allocation && medium.name === 'hot' && built !== undefined) {
    for (const program of options.programs.filter(({ countAllocation }) => countAllocation)) {
      allocations.push(await allocationOf(program, base, built));
    }
    if (allocations.length > 0) console.log(asText(allocationTable(allocations)));
  }
  return { results, allocations };
}

function markdown(options: Options, tables: readonly Table[], marks: Table, skipped: readonly string[]): string {
  return `# Benchmark results

${provenance('bench')}

Random 4 KiB reads from a file of ${options.size} MiB, with O_DIRECT but for the two tables on the page cache, at a fixed number of
reads in flight. Each program runs in a process of its own: ${options.warmup} s to warm up, ${options.seconds} s measured, ${options.rounds} rounds in which the programs
take turns, there and back. Shown are the median, the least and the most; ratios are the median of the ratios within each round. \`÷ C loop\` is
to the loop in C over the same system calls; \`fixed\` has its file and its buffers registered with the ring
(\`context.associate\`). The CPU time is that of the process, with the io_uring threads that read for it; what kernel threads do for it
(a loop device has some) is not in it. \`GCs\` are garbage collections in the measured time. The programs on libuv's thread pool ran
with ${options.pools.join(' or ')} threads, whichever was better. fio's CPU time is without the io_uring threads.
\`fileaio/promises read\` is the loop of \`node:fs/promises read\`, over a handle of the library's.

On tmpfs, io_uring cannot read without the risk of blocking, so that the kernel passes every read on to a thread of its own: what
is reached there, in C as in JavaScript, needs the second core and twice the CPU time, and depends on how the scheduler shares
the two. The loop in C was seen to take two or three completions per wait there, JavaScript about five: that it is ahead only says
that it asks less often. The tables on disk and on the loop device say what io_uring itself is worth.

${[marks, ...tables].map((table) => asMarkdown(table).replace(/^### The/, '## The')).join('\n')}${
  skipped.length > 0 ? `\nNot measured: ${skipped.join('; ')}.\n` : ''
}`;
}

async function main(): Promise<void> {
  const options = readOptions();
  if (options.help) {
    console.log(HELP);
    return;
  }
  const skipped: string[] = [];
  const skip = (text: string): void => {
    skipped.push(text);
    console.log(`skipped: ${text}\n`);
  };
  options.programs = options.programs.filter(({ title, requires }) => {
    if (requires === undefined || isInstalled(requires)) return true;
    skip(`${title}: ${requires} is not installed`);
    return false;
  });
  const sources = options.programs.flatMap(({ source }) => source ?? []);
  const builds = build(options.trees, new Set(sources));
  const results: Result[] = [];
  const allocations: Allocation[] = [];
  for (const name of options.media) {
    let medium: Medium;
    try {
      progress(`${name}: writing ${options.size} MiB`);
      medium = media[name](options.size);
    } catch (error) {
      progress('');
      skip(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      continue;
    }
    const measured = await measureMedium(medium, options, builds);
    medium.close();
    results.push(...measured.results);
    allocations.push(...measured.allocations);
  }
  const marks = markTable(marksOf(results, allocations));
  console.log(asText(marks));
  if (options.json !== undefined) {
    const flat = results.map(({ series, ...where }) => ({
      ...where,
      series: series.map(({ program, tree, poolSize, samples, failure }) => ({
        program: program.name,
        tree,
        poolSize,
        samples,
        failure,
      })),
    }));
    const report = { kernel: kernelVersion(), node: process.version, results: flat, allocations, skipped };
    writeFileSync(options.json, `${JSON.stringify(report, undefined, 2)}\n`);
  }
  if (options.write) {
    const tables = results.map(resultTable);
    if (allocations.length > 0) tables.push(allocationTable(allocations));
    const file = join(dirname(fileURLToPath(import.meta.url)), 'RESULTS.md');
    writeFileSync(file, markdown(options, tables, marks, skipped));
  }
}

await runMain(main, HELP);
