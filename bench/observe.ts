/**
 * What observing costs, as it is off and as it is on: the same reads of 4 KiB again and again, the ways taking turns in one process.
 * Reads of zeros on tmpfs: the kernel does as little as it ever does, so that what is added shows as much as it ever will.
 */

import diagnostics from 'node:diagnostics_channel';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type * as Library from '../src/index.ts';
import { onExit } from './cleanup.ts';
import { median } from './median.ts';
import { count, counts, figure, list, progress, runMain } from './options.ts';

const HELP = `node --import tsx bench/observe.ts [options], after npm run build

  --against DIR     another build of the library, such as the one before a change: the directory of its index.js
  --engine NAMES    kernel-aio,io-uring
  --iodepth N,N     1,32
  --rounds N        21, each of which measures every way once
  --ms N            100 per measurement
  --help            this text
`;

const ENGINES = ['kernel-aio', 'io-uring'] as const;
const BLOCK = 4096;
const BLOCKS = 1024;

interface Way {
  readonly title: string;
  /** Of another build: its directory. */
  readonly library?: string;
  readonly listening: boolean;
  readonly latency: boolean;
}

/** Submits and waits for so long; returns the processor time of the process for each read, in nanoseconds: other programs are not in it. */
type Measure = (ms: number) => number;

function makeLoop(
  library: typeof Library,
  fd: number,
  engine: (typeof ENGINES)[number],
  depth: number,
  latency: boolean,
): Measure {
  const { AioContext, AioRequest, allocBuffer } = library;
  const context = new AioContext({ maxRequests: depth, engine, latency });
  const buffers = Array.from({ length: depth }, () => allocBuffer(BLOCK));
  const requests = buffers.map(() => new AioRequest());
  let position = 0;
  return (ms) => {
    const { user, system } = process.cpuUsage();
    const begun = performance.now();
    let reads = 0;
    while (performance.now() - begun < ms) {
      // Several batches for each look at the clock, which is not what is measured.
      for (let batch = 0; batch < 8; batch++) {
        for (let index = 0; index < depth; index++) {
          position = (position + 7 * BLOCK) % (BLOCKS * BLOCK);
          requests[index]?.prepareRead(fd, position, buffers[index] ?? Buffer.alloc(0));
        }
        context.submit(requests);
        for (let left = depth; left > 0; ) left -= context.waitSync({ min: left }).completed.length;
        reads += depth;
      }
    }
    const cpu = process.cpuUsage();
    return ((cpu.user - user + cpu.system - system) * 1000) / reads;
  };
}

function listen(listening: boolean): () => void {
  const onMessage = (): void => {};
  const names = listening ? ['fileaio:submit', 'fileaio:complete'] : [];
  for (const name of names) diagnostics.subscribe(name, onMessage);
  return () => {
    for (const name of names) diagnostics.unsubscribe(name, onMessage);
  };
}

async function load(directory: string): Promise<typeof Library> {
  return (await import(pathToFileURL(join(resolve(directory), 'index.js')).href)) as typeof Library;
}

await runMain(async () => {
  const { values } = parseArgs({
    options: {
      against: { type: 'string' },
      engine: { type: 'string' },
      iodepth: { type: 'string', default: '1,32' },
      rounds: { type: 'string', default: '21' },
      ms: { type: 'string', default: '100' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const rounds = count('rounds', values.rounds);
  const ms = figure('ms', values.ms, 1);
  const ours = new URL('../dist', import.meta.url).pathname;
  const ways: readonly Way[] = [
    ...(values.against === undefined
      ? []
      : [{ title: `the build in ${values.against}`, library: values.against, listening: false, latency: false }]),
    { title: 'nobody listens', listening: false, latency: false },
    { title: 'latency: true', listening: false, latency: true },
    { title: 'a subscriber that does nothing', listening: true, latency: false },
  ];
  const directory = mkdtempSync(join(tmpdir(), 'fileaio-bench-'));
  onExit(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'data'), Buffer.alloc(BLOCKS * BLOCK));
  const fd = openSync(join(directory, 'data'), 'r');
  console.log('| engine | depth | way | CPU ns per read | more | ratio |\n|---|---:|---|---:|---:|---:|');
  for (const engine of list('engine', values.engine, ENGINES)) {
    for (const depth of counts('iodepth', values.iodepth)) {
      const loops: Measure[] = [];
      for (const way of ways) loops.push(makeLoop(await load(way.library ?? ours), fd, engine, depth, way.latency));
      const found: number[][] = ways.map(() => []);
      // The first rounds are for compiling.
      for (let round = -2; round < rounds; round++) {
        progress(`${engine}, depth ${depth}: round ${round + 1} of ${rounds}`);
        for (const [index, way] of ways.entries()) {
          const stop = listen(way.listening);
          const time = loops[index]?.(ms) ?? Number.NaN;
          stop();
          if (round >= 0) found[index]?.push(time);
        }
      }
      progress('');
      for (const [index, { title }] of ways.entries()) {
        const times = found[index] ?? [];
        // Neighbours in time are compared, since the machine is not the same from second to second.
        const more = median(times.map((each, round) => each - (found[0]?.[round] ?? Number.NaN)));
        const ratio = median(times.map((each, round) => each / (found[0]?.[round] ?? Number.NaN)));
        console.log(
          `| ${engine} | ${depth} | ${title} | ${median(times).toFixed(0)} | ${more.toFixed(0)} | ${ratio.toFixed(3)} |`,
        );
      }
    }
  }
  closeSync(fd);
}, HELP);
