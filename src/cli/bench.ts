/** `fileaio bench`: the same transfers by node:fs/promises and by every engine, one after the other. */
import { writeFile } from 'node:fs/promises';
import { AioContext, type EngineName } from '../index.ts';
import { BENCH_HELP, type BenchOptions, DEFAULT_SIZE, parseBench, tooSmall } from './bench-options.ts';
import { engineRunner } from './engine-job.ts';
import type { Job, Runner } from './job.ts';
import { print } from './output.ts';
import { PEER, peerRunner } from './peer-job.ts';
import { openProgress, type Progress } from './progress.ts';
import { json, type Outcome, type Result, table } from './report.ts';
import { formatSeconds, formatSize } from './sizes.ts';
import { type Stop, stopOnSignals } from './stop.ts';
import { openTarget, type Target } from './target.ts';
import { CliError, EXIT_OK, ioError, quote, usageError } from './usage.ts';

/** Long enough for the first allocations and compilations, too short to wait for. */
const WARMUP_MS = 200;

/** @returns the exit code. @throws CliError */
export async function bench(args: string[]): Promise<number> {
  const options = parseBench(args);
  if (options === undefined) {
    await print(BENCH_HELP);
    return EXIT_OK;
  }
  const stop = stopOnSignals();
  try {
    const outcome = await measure(options, stop);
    await report(outcome);
    return stop.exitCode;
  } finally {
    stop.release();
  }
}

async function measure(options: BenchOptions, stop: Stop): Promise<Outcome> {
  const progress = openProgress('fileaio bench', options.json === '-');
  const { path, mode, direct, force, size = DEFAULT_SIZE } = options;
  const target = await openTarget({ path, mode, direct, force, size });
  try {
    const job = jobFor(options, target);
    for (const engine of options.engines) await tryOut(engine, job);
    await fill(target, progress, stop);
    const results = await runAll(job, options.engines, progress, stop);
    progress.end();
    return { options, target: { ...target, size: job.blocks * job.blockSize }, results, interruptedBy: stop.by };
  } finally {
    progress.end();
    await target.close();
  }
}

function jobFor(options: BenchOptions, target: Target): Job {
  const { mode, blockSize, depth, direct, runtimeMs } = options;
  const { offsetAlignment } = target;
  if (direct && blockSize % offsetAlignment !== 0) {
    throw usageError(
      `--bs ${blockSize} is no multiple of ${offsetAlignment}, as direct I/O on ${quote(target.path)} needs: give one, or --no-direct`,
    );
  }
  const size = Math.min(options.size ?? target.size, target.size);
  if (size < blockSize) throw tooSmall(quote(target.path), size, blockSize);
  return {
    handle: target.handle,
    mode,
    blockSize,
    blocks: Math.floor(size / blockSize),
    depth,
    alignment: target.bufferAlignment,
    warmupMs: Math.min(WARMUP_MS, runtimeMs),
    runtimeMs,
  };
}

/** Before anybody waits for the peer: whether there will be a context of this size. */
async function tryOut(engine: EngineName, { depth }: Job): Promise<void> {
  try {
    await new AioContext({ maxRequests: depth, engine }).close();
  } catch (error) {
    throw ioError(`the engine ${engine} refuses`, error);
  }
}

async function fill(target: Target, progress: Progress, stop: Stop): Promise<void> {
  if (!target.temporary) return;
  const { size } = target;
  const begun = performance.now();
  progress.step(`making a test file of ${formatSize(size)}, ${target.medium}`);
  await target.fill((written) => {
    const left = ((performance.now() - begun) / written) * (size - written);
    progress.update(written / size, left, 'making the test file');
  }, stop.signal);
}

/** What was measured, as far as it came. */
async function runAll(job: Job, engines: readonly EngineName[], progress: Progress, stop: Stop): Promise<Result[]> {
  const runners: (readonly [string, Runner])[] = [
    [PEER, peerRunner],
    ...engines.map((engine) => [engine, engineRunner(engine)] as const),
  ];
  const eachMs = job.warmupMs + job.runtimeMs;
  const totalMs = eachMs * runners.length;
  const results: Result[] = [];
  for (const [index, [engine, run]] of runners.entries()) {
    if (stop.signal.aborted) break;
    let said = false;
    const measured = await runSafely(engine, run, job, stop, ({ elapsedMs, measuring, iops }) => {
      if (measuring && !said) {
        progress.step(`measuring ${engine} for ${formatSeconds(job.runtimeMs)} (${index + 1} of ${runners.length})`);
        said = true;
      }
      const doneMs = eachMs * index + Math.min(elapsedMs, eachMs);
      const rates = `${iops.toFixed(0)} IOPS  ${((iops * job.blockSize) / 1024 ** 2).toFixed(1)} MiB/s`;
      progress.update(doneMs / totalMs, totalMs - doneMs, `${engine}  ${rates}`);
    });
    if (measured.transfers > 0) results.push({ engine, measured });
  }
  return results;
}

async function runSafely(
  engine: string,
  run: Runner,
  job: Job,
  stop: Stop,
  onProgress: Parameters<Runner>[1],
): ReturnType<Runner> {
  try {
    return await run(job, onProgress, stop.signal);
  } catch (error) {
    throw error instanceof CliError ? error : ioError(`${engine} failed`, error);
  }
}

async function report(outcome: Outcome): Promise<void> {
  const file = outcome.options.json;
  if (file === '-') {
    await print(json(outcome));
    return;
  }
  await print(table(outcome));
  if (file === undefined) return;
  try {
    await writeFile(file, json(outcome));
  } catch (error) {
    throw ioError(`cannot write --json ${quote(file)}`, error, 'The figures are in the table');
  }
}
