/** `fileaio bench`: the same transfers by node:fs/promises and by every engine, one after the other. */
import { writeFile } from 'node:fs/promises';
import { AioContext, type EngineName } from '../index.ts';
import { changeLines, missingLine, regressionLine } from './baseline.ts';
import { BENCH_HELP, type BenchOptions, DEFAULT_SIZE, parseBench, tooSmall } from './bench-options.ts';
import { engineRunner } from './engine-job.ts';
import { htmlPage } from './html.ts';
import { type Job, type Measured, type Runner, together } from './job.ts';
import { print } from './output.ts';
import { PEER, peerRunner } from './peer-job.ts';
import { openProgress, type Progress } from './progress.ts';
import { type BenchDocument, documentOf, json, type Outcome, type Result, table } from './report.ts';
import { formatSeconds, formatSize } from './sizes.ts';
import { type Stop, stopOnSignals } from './stop.ts';
import { openTarget, type Target } from './target.ts';
import { CliError, EXIT_OK, EXIT_REGRESSION, ioError, quote, usageError } from './usage.ts';

/** Long enough for the first allocations and compilations, too short to wait for. */
const WARMUP_MS = 200;

/** @returns the exit code. @throws CliError */
export async function bench(args: string[]): Promise<number> {
  const options = parseBench(args);
  if (options === undefined) {
    await print(BENCH_HELP);
    return EXIT_OK;
  }
  const { outcome, exitCode } = await measureUntilStopped(options);
  const document = documentOf(outcome);
  await report(outcome, document);
  if (exitCode === EXIT_OK) checkRegression(options, document);
  return exitCode;
}

/** Signals mean what they always do afterwards: nobody may read from the other end of what the report is written to. */
async function measureUntilStopped(options: BenchOptions): Promise<{ outcome: Outcome; exitCode: number }> {
  const stop = stopOnSignals();
  try {
    return { outcome: await measure(options, stop), exitCode: stop.exitCode };
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
    const results = await runAll(job, options, progress, stop);
    progress.end();
    return { options, target: { ...target, size: job.blocks * job.blockSize }, results, interruptedBy: stop.by };
  } finally {
    progress.end();
    await target.close();
  }
}

function jobFor(options: BenchOptions, target: Target): Job {
  const { mode, blockSize, depths, direct, runtimeMs } = options;
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
    depth: Math.max(...depths),
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

/** One measurement of many. */
interface Step {
  readonly engine: string;
  readonly depth: number;
  readonly run: Runner;
}

/** What was measured, as far as it came. In rounds, so that what the machine does meanwhile does it to everybody. */
async function runAll(job: Job, options: BenchOptions, progress: Progress, stop: Stop): Promise<Result[]> {
  const { engines, depths, rounds } = options;
  const steps = depths.flatMap((depth): Step[] => [
    { engine: PEER, depth, run: peerRunner },
    ...engines.map((engine) => ({ engine, depth, run: engineRunner(engine) })),
  ]);
  const found: Measured[][] = steps.map(() => []);
  const count = steps.length * rounds;
  const eachMs = job.warmupMs + job.runtimeMs;
  const totalMs = eachMs * count;
  for (let index = 0; index < count && !stop.signal.aborted; index++) {
    const step = steps[index % steps.length];
    if (step === undefined) break;
    const name = depths.length === 1 ? step.engine : `${step.engine}, depth ${step.depth},`;
    let said = false;
    const measured = await runSafely(step, job, stop, ({ elapsedMs, measuring, iops }) => {
      if (measuring && !said) {
        progress.step(`measuring ${name} for ${formatSeconds(job.runtimeMs)} (${index + 1} of ${count})`);
        said = true;
      }
      const doneMs = eachMs * index + Math.min(elapsedMs, eachMs);
      const rates = `${iops.toFixed(0)} IOPS  ${((iops * job.blockSize) / 1024 ** 2).toFixed(1)} MiB/s`;
      progress.update(doneMs / totalMs, totalMs - doneMs, `${name}  ${rates}`);
    });
    if (measured.transfers > 0) found[index % steps.length]?.push(measured);
  }
  return steps.flatMap(({ engine, depth }, index) => {
    const measured = found[index] ?? [];
    return measured.length === 0 ? [] : { engine, depth, measured: together(measured), rounds: measured };
  });
}

async function runSafely(
  { engine, depth, run }: Step,
  job: Job,
  stop: Stop,
  onProgress: Parameters<Runner>[1],
): ReturnType<Runner> {
  try {
    return await run({ ...job, depth }, onProgress, stop.signal);
  } catch (error) {
    throw error instanceof CliError ? error : ioError(`${engine} failed`, error);
  }
}

async function report(outcome: Outcome, document: BenchDocument): Promise<void> {
  const { json: file, html } = outcome.options;
  if (file === '-') {
    await print(json(document));
  } else {
    const changes = document.baseline === undefined ? [] : [...changeLines(document.baseline), ''];
    await print(table(outcome) + changes.join('\n'));
    if (file !== undefined) await write('--json', file, json(document));
  }
  if (html !== undefined) await write('--html', html, htmlPage(document));
}

async function write(option: string, file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text);
  } catch (error) {
    throw ioError(`cannot write ${option} ${quote(file)}`, error, 'The figures are on standard output');
  }
}

/** @throws CliError */
function checkRegression(options: BenchOptions, { baseline: found, results }: BenchDocument): void {
  const { baseline, maxRegression, depths, enginesNamed } = options;
  if (maxRegression === undefined || baseline === undefined || found === undefined) return;
  const missing = baseline.results.filter(
    ({ engine, iodepth }) =>
      depths.includes(iodepth) && !results.some((result) => result.engine === engine && result.iodepth === iodepth),
  );
  const line =
    regressionLine(found.changes, maxRegression) ?? (enginesNamed ? undefined : missingLine(baseline, missing));
  if (line !== undefined) throw new CliError(EXIT_REGRESSION, line);
}
