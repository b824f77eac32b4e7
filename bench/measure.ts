/** Runs programs, round by round, and reduces what they found. */
import { spawn, spawnSync } from 'node:child_process';
import { onExit } from './cleanup.ts';
import { median } from './median.ts';
import type { Sample } from './meter.ts';
import type { Built, Command, Program, Task } from './programs.ts';

/** One program in one of the ways in which it is run. */
export interface Candidate {
  readonly program: Program;
  readonly built: Built;
  /** Of the tree that the library comes from; '' for this one. */
  readonly tree: string;
  /** Of libuv's thread pool; undefined where that plays no part. */
  readonly poolSize?: number;
}

/** What all rounds of one contender found. */
export interface Outcome<S> {
  readonly samples: readonly S[];
  /** Why there are no samples. */
  readonly failure?: string;
}

/** What all rounds of one candidate found. */
export interface Series extends Candidate, Outcome<Sample> {}

/** Transfers per second. */
export function rate(sample: Sample): number {
  return sample.transfers / sample.seconds;
}

export function cpuPerTransfer(sample: Sample): number {
  return sample.cpuUs / sample.transfers;
}

/**
 * The median over the rounds of `figure(a) / figure(b)`: both were measured within the same few seconds of a round, so that
 * what else the machine did then is in both.
 */
export function ratio<S>(a: Outcome<S>, b: Outcome<S>, figure: (sample: S) => number): number {
  const rounds = Math.min(a.samples.length, b.samples.length);
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const [over, under] = [a.samples[round], b.samples[round]];
    if (over !== undefined && under !== undefined) ratios.push(figure(over) / figure(under));
  }
  return median(ratios);
}

/** Runs a program to its end; resolves with what it printed. */
export function run({ file, args }: Command, environment: Record<string, string>, limitMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] });
    const kill = onExit(() => void child.kill('SIGKILL'));
    const timer = setTimeout(kill, limitMs);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      kill();
      if (code === 0) resolve(stdout);
      else reject(new Error(stderr.trim() || (signal === null ? `ended with status ${code}` : `ended by ${signal}`)));
    });
  });
}

export function isInstalled(file: string): boolean {
  return spawnSync(file, ['--version']).status === 0;
}

/** The line of an error's output that says what happened: the stack and the source line around it do not. */
function essence(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const lines = text.split('\n').map((line) => line.trim());
  return lines.find((line) => /error/i.test(line)) ?? lines[0] ?? text;
}

/**
 * Each contender once per round, one after the other, and in every second round the other way round: what grows or wanes meanwhile, caches and other
 * people's work, does not always favour the same. One that fails is out for the other rounds.
 */
export async function takeTurns<C, S>(
  contenders: readonly C[],
  rounds: number,
  attempt: (contender: C, round: number) => Promise<S>,
): Promise<(C & Outcome<S>)[]> {
  const samples = contenders.map((): S[] => []);
  const failures: (string | undefined)[] = [];
  const there = [...contenders.entries()];
  const back = there.toReversed();
  for (let round = 0; round < rounds; round++) {
    for (const [index, contender] of round % 2 === 0 ? there : back) {
      if (failures[index] !== undefined) continue;
      try {
        samples[index]?.push(await attempt(contender, round));
      } catch (error) {
        failures[index] = essence(error);
      }
    }
  }
  return contenders.map((contender, index) => {
    const failure = failures[index];
    if (failure !== undefined) return { ...contender, samples: [], failure };
    return { ...contender, samples: samples[index] ?? [] };
  });
}

/** Measures every candidate once per round, each after `before`. */
export function measure(
  candidates: readonly Candidate[],
  task: Task,
  rounds: number,
  progress: (text: string) => void,
  before: () => void = () => {},
): Promise<Series[]> {
  const limitMs = (task.warmupSeconds + task.seconds) * 4000 + 60_000;
  return takeTurns(candidates, rounds, async ({ program, built, poolSize }, round) => {
    progress(`depth ${task.depth}, round ${round + 1} of ${rounds}: ${program.title}`);
    const environment = poolSize === undefined ? {} : { UV_THREADPOOL_SIZE: String(poolSize) };
    before();
    return program.parse(await run(program.command(task, built), environment, limitMs));
  });
}
