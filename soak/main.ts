/**
 * Everything at once, for a long time: `npm run soak -- --minutes 30`. Requests, handles, streams and whole files with every engine,
 * direct and buffered; cancels, aborts, wake-ups; contexts and handles that come and go; threads that are ended in the middle of it all. Every
 * byte that is read is checked, memory that was given back is watched, and what the process uses must not grow.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  linkSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { type EngineName, engines } from '../src/index.ts';
import { BLOCK, fillBlock, isBlock, isTornBlock } from './content.ts';
import { COUNTERS, type Counter, Environment, Region } from './environment.ts';
import { soakHandles, soakStreams } from './files.ts';
import { plot } from './plot.ts';
import { soakRequests } from './requests.ts';
import { leftOver, OF_WORKERS, Sampler } from './sampler.ts';
import type { WorkerTask } from './worker.ts';

const USAGE = `Usage: npm run soak -- [--minutes N] [--rate N] [--svg FILE] [--seed N] [--memory-may-grow]

  --minutes N   how long; default 30
  --rate N      transfers per second of all threads together; default 0: as many as there can be
  --svg FILE    where the chart goes; default soak.svg in the directory for temporary files
  --seed N      for the mixture; default: another one each time
  --memory-may-grow   for sanitizers, which keep what was freed`;

/** Of each task, in blocks; and as many between them that nobody writes to. */
const REGION = 128;
const GAP = 1;
const SHARED = 16 * BLOCK;
const WORKERS = 2;
/** Nothing has moved for so long: it hangs. */
const HANG_MS = 60_000;

function number(text: string, name: string): number {
  const value = Number(text);
  if (text !== '' && Number.isFinite(value) && value >= 0) return value;
  console.error(`--${name} ${text} is no number from 0 up\n\n${USAGE}`);
  process.exit(2);
}

function options(): { minutes: number; rate: number; svg: string; seed: number; memoryMayGrow: boolean } {
  try {
    const { values } = parseArgs({
      options: {
        minutes: { type: 'string', default: '30' },
        rate: { type: 'string', default: '0' },
        svg: { type: 'string', default: join(tmpdir(), 'soak.svg') },
        seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
        'memory-may-grow': { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    return {
      minutes: number(values.minutes, 'minutes'),
      rate: number(values.rate, 'rate'),
      svg: values.svg,
      seed: number(values.seed, 'seed'),
      memoryMayGrow: values['memory-may-grow'],
    };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
    process.exit(2);
  }
}

const { minutes, rate, svg, seed, memoryMayGrow } = options();
const names = engines().flatMap(({ name, available }) => (available && name !== 'simulated' ? [name] : []));
const directory = mkdtempSync(join(tmpdir(), 'fileaio-soak-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));

const counters = new Int32Array(new SharedArrayBuffer(COUNTERS.length * 4));
const counted = (counter: Counter): number => Atomics.load(counters, COUNTERS.indexOf(counter)) >>> 0;
/** What was counted of transfers and bytes, past 32 bits. */
const sums = { transfers: 0, kibibytes: 0 };
function carry(): void {
  for (const counter of ['transfers', 'kibibytes'] as const) {
    sums[counter] += Atomics.exchange(counters, COUNTERS.indexOf(counter), 0);
  }
}

/** Tasks in this thread share half of the rate, workers the other. */
const env = new Environment(counters, seed, rate / 2);
const workers = { begun: 0, terminated: 0, ended: 0 };

/** A file of numbered blocks, parts of which are given to tasks. */
class Shelf {
  readonly file: number;
  readonly direct: boolean;
  readonly path: string;
  readonly regions: Region[] = [];

  constructor(file: number, direct: boolean) {
    this.file = file;
    this.direct = direct;
    this.path = join(directory, direct ? 'direct' : 'buffered');
    writeFileSync(this.path, '');
    linkSync(this.path, this.path + OF_WORKERS);
  }

  open(flags: number): number {
    return openSync(this.path, flags | (this.direct ? constants.O_DIRECT : 0));
  }

  /** Of blocks that stand there already, as generation 0. */
  region(): Region {
    const first = this.regions.length * (REGION + GAP);
    const region = new Region(this.file, first, REGION);
    this.regions.push(region);
    this.write(first, REGION + GAP, 0);
    return region;
  }

  write(first: number, blocks: number, generation: number): void {
    const bytes = Buffer.alloc(blocks * BLOCK);
    for (let index = 0; index < blocks; index++) fillBlock(bytes, index * BLOCK, this.file, first + index, generation);
    const fd = openSync(this.path, constants.O_RDWR);
    assert.equal(writeSync(fd, bytes, 0, bytes.length, first * BLOCK), bytes.length);
    closeSync(fd);
  }

  read(first: number, blocks: number): Buffer {
    const bytes = Buffer.alloc(blocks * BLOCK);
    const fd = openSync(this.path, constants.O_RDONLY);
    assert.equal(readSync(fd, bytes, 0, bytes.length, first * BLOCK), bytes.length);
    closeSync(fd);
    return bytes;
  }

  /** What lies between the regions was nobody's. */
  checkGaps(): void {
    for (const { first } of this.regions) {
      const gap = first + REGION;
      if (!isBlock(this.read(gap, 1), 0, this.file, gap, 0))
        throw new Error(`${this.path}: block ${gap} was nobody's, and was written`);
    }
  }
}

/** One worker: begun, and ended in the middle or asked to end; then what it left is looked at. */
async function oneWorker(shelf: Shelf, region: Region, engine: EngineName, generation: number): Promise<void> {
  shelf.write(region.first, REGION, generation);
  const shared = new SharedArrayBuffer(SHARED);
  const task: WorkerTask = {
    engine,
    path: shelf.path + OF_WORKERS,
    direct: shelf.direct,
    file: shelf.file,
    first: region.first,
    blocks: REGION,
    generation,
    counters,
    seed: env.below(2 ** 31),
    perSecond: rate / 2 / WORKERS,
    shared,
  };
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData: task });
  workers.begun++;
  const ended = new Promise<number>((resolve, reject) => {
    worker.once('exit', resolve);
    worker.once('error', reject);
  });
  await Promise.race([new Promise((resolve) => worker.once('message', resolve)), ended]);
  await Promise.race([delay(env.chance(0.2) ? env.below(20) : env.below(1500)), ended]);
  if (env.chance(0.7)) {
    await worker.terminate();
    await ended;
    workers.terminated++;
  } else {
    worker.postMessage('end');
    assert.equal(await ended, 0, 'a worker that is asked to end does');
    workers.ended++;
  }
  // Nothing that it began may go on: neither into the memory that it shared, nor to the file.
  env.watch(new Uint8Array(shared));
  const left = shelf.read(region.first, REGION);
  for (let block = 0; block < REGION; block++) {
    if (!isTornBlock(left, block * BLOCK, shelf.file, region.first + block, 2 ** 31 - 1)) {
      throw new Error(`${engine}: block ${region.first + block}, which a worker had, holds what nobody wrote there`);
    }
  }
  await delay(50);
  if (!shelf.read(region.first, REGION).equals(left)) {
    throw new Error(`${engine}: something was written to the file after the worker that did it had ended`);
  }
}

async function soakWorkers(shelves: readonly Shelf[]): Promise<void> {
  const regions = shelves.map((shelf) => shelf.region());
  for (let generation = 0; !env.stopped; generation++) {
    const at = env.below(shelves.length);
    const [shelf, region] = [shelves[at], regions[at]];
    const engine = names[env.below(names.length)];
    if (shelf === undefined || region === undefined || engine === undefined) return;
    await oneWorker(shelf, region, engine, generation);
  }
}

/** What the runtime has of its own; libuv of newer Node has a ring. */
const before = leftOver();
const shelves = [new Shelf(1, true), new Shelf(2, false)];
const opened: number[] = [];
const tasks: Promise<void>[] = [];
for (const shelf of shelves) {
  const { path, direct } = shelf;
  const fd = shelf.open(constants.O_RDWR);
  opened.push(fd);
  for (const engine of names) {
    tasks.push(soakRequests(env, { engine, fd, direct, region: shelf.region() }));
    tasks.push(soakHandles(env, { engine, path, direct, region: shelf.region() }));
    const own = join(directory, `stream-${engine}-${direct}`);
    tasks.push(soakStreams(env, { engine, path, direct, region: new Region(0, 0, 0) }, own));
  }
}
for (let index = 0; index < WORKERS; index++) tasks.push(soakWorkers(shelves));

const begun = performance.now();
const totalMs = minutes * 60_000;
const everyMs = Math.min(Math.max(totalMs / 240, 250), 10_000);
const warmUpMs = Math.max(totalMs / 4, Math.min(totalMs / 2, 20_000));
const sampler = new Sampler();
const rates: number[] = [];
const failed = Promise.all(tasks).then(
  () => undefined,
  (error: unknown) => {
    env.stopped = true;
    return error ?? new Error('a task failed');
  },
);
let lastMoved = begun;
let lastSample = begun;
console.log(`soak: ${names.join(', ')}; ${minutes} minutes, seed ${seed}, Linux ${release()}, Node ${process.version}`);
while (!env.stopped && performance.now() - begun < totalMs) {
  await Promise.race([delay(everyMs), failed]);
  sampler.sample();
  const transfersBefore = sums.transfers;
  carry();
  const now = performance.now();
  rates.push(((sums.transfers - transfersBefore) / (now - lastSample)) * 1000);
  lastSample = now;
  if (sums.transfers > transfersBefore) lastMoved = now;
  if (now - lastMoved > HANG_MS) {
    console.error(`soak: FAILED: nothing has moved for ${HANG_MS / 1000} s`);
    process.exit(1);
  }
}
env.stopped = true;
const ending = setTimeout(() => {
  console.error(`soak: FAILED: not everything ended within ${HANG_MS / 1000} s`);
  process.exit(1);
}, HANG_MS);
const failure = await failed;
clearTimeout(ending);
carry();
const hours = (performance.now() - begun) / 3_600_000;

const verdicts = sampler.verdicts(Math.floor((sampler.series[0]?.length ?? 0) * (warmUpMs / totalMs)));
const failures: string[] =
  failure === undefined ? [] : [failure instanceof Error ? String(failure.stack) : String(failure)];
if (failure === undefined) {
  try {
    for (const shelf of shelves) shelf.checkGaps();
  } catch (error) {
    failures.push(String(error));
  }
}
for (const fd of opened) closeSync(fd);
// Idle queues close their contexts, and what was dropped is collected and closed.
let left = leftOver();
for (
  let tries = 0;
  tries < 100 && (left.kernels > before.kernels || left.descriptors.length > before.descriptors.length);
  tries++
) {
  globalThis.gc?.();
  await delay(50);
  left = leftOver();
}
if (left.kernels > before.kernels)
  failures.push(`${left.kernels - before.kernels} kernel contexts or rings are left when everything is closed`);
// The event loop makes some of its own when it is first used.
if (left.descriptors.length > before.descriptors.length + 2) {
  failures.push(
    `${left.descriptors.length - before.descriptors.length} descriptors are left when everything is closed: ${left.descriptors.join(', ')}`,
  );
}
env.look();
for (const { measure, growth, certain, flat } of verdicts) {
  if (!flat && !(memoryMayGrow && (measure.unit === 'MiB' || measure.title === 'Mappings'))) {
    failures.push(
      `${measure.title} grows: by ${growth.toFixed(1)} ${measure.unit}, certainly by ${certain.toFixed(1)}; ${measure.tolerance} are tolerated`,
    );
  }
}

const millions = (value: number): string => value.toLocaleString('en', { maximumFractionDigits: 0 });
const moved = `${millions(sums.transfers)} transfers, ${(sums.kibibytes / 2 ** 20).toFixed(1)} GiB moved and checked, in ${hours.toFixed(2)} hours`;
const charts = verdicts.map(({ measure, growth }, index) => ({
  title: measure.title,
  unit: measure.unit,
  values: sampler.series[index] ?? [],
  note: `${growth >= 0 ? '+' : '−'}${Math.abs(growth).toFixed(1)} ${measure.unit} after warming up`,
}));
charts.unshift({
  title: 'Transfers per second',
  unit: '',
  values: rates,
  note: rate > 0 ? `held to ${millions(rate)}` : 'as many as there can be',
});
const machine = `${names.join(', ')}; Linux ${release()}, Node ${process.version}. Shaded: warming up.`;
writeFileSync(svg, plot(moved, machine, hours * 60, warmUpMs / 60_000, charts));

console.log(`soak: ${moved}`);
console.log(
  `soak: ${(['contexts', 'handles', 'streams', 'wholeFiles'] as const).map((name) => `${millions(counted(name))} ${name}`).join(', ')}, ` +
    `${workers.begun} workers (${workers.terminated} terminated in mid-flight), ${millions(counted('canceled'))} canceled, ` +
    `${millions(counted('inProgress'))} not to be canceled, ${millions(counted('aborted'))} aborted, ${millions(counted('wakeups'))} woken, ` +
    `${millions(counted('timeouts'))} timed out, ${millions(counted('refused'))} refused, ${millions(counted('watched'))} buffers watched`,
);
for (const { measure, growth, flat } of verdicts) {
  console.log(
    `soak: ${measure.title}: ${growth >= 0 ? '+' : ''}${growth.toFixed(1)} ${measure.unit} ${flat ? '(flat)' : '(GROWS)'}`.replace(
      '  ',
      ' ',
    ),
  );
}
console.log(`soak: chart in ${svg}`);
for (const text of failures) console.error(`soak: FAILED: ${text}`);
console.log(`soak: ${failures.length === 0 ? 'passed' : 'failed'}`);
process.exit(failures.length === 0 ? 0 : 1);
