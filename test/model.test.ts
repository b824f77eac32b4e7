/**
 * Random schedules of prepare, submit, wait, cancel, wake, close and dispose on every engine, beside a model of the contract. A schedule
 * that breaks it is made smaller, and printed as a program.
 *
 * On failure fast-check prints a seed and a path: `FC_SEED=… FC_PATH=… ENGINES=…` runs that schedule again, and `FC_RUNS=…` more of them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { engines } from '../src/index.ts';
import { createSimulatedDisk, type SimulatedDiskOptions } from '../src/sim.ts';
import { chosen } from './conformance.ts';
import { lacks, runTypeScript } from './runtime.ts';
import {
  type Kind,
  type Operation,
  type Preparation,
  programOf,
  type Schedule,
  type Setting,
  schedules,
  type Target,
} from './schedule.ts';
import { kernelWorld, makeFifos, Runner, simulatedWorld, type Tally, type World } from './schedule-run.ts';
import { type Cleanup, child, scratch, typedScript } from './support.ts';

function setting(name: string): number | undefined {
  const value = process.env[name] ?? '';
  return value === '' ? undefined : Number(value);
}

const seed = setting('FC_SEED');
const path = process.env.FC_PATH;

/** Of another thread, which wakes. */
let worker: Worker;

before(async () => {
  worker = new Worker(new URL('./programs/wake-on-demand.mjs', import.meta.url), { execArgv: [] });
  await once(worker, 'message');
});
after(() => worker.terminate());

interface Case {
  readonly setting: Setting;
  world(): World;
  readonly runs: number;
}

/** In a time that suits a test run; most of what kernel AIO takes are its contexts, which last long. */
const runs = { 'io-uring': 200, 'kernel-aio': 50, threads: 200, simulated: 200 };

const plain = { seed: 7 };
const faulty = {
  seed: 7,
  errors: 0.05,
  refusals: 0.1,
  lateCancels: 0.3,
  shortTransfers: 0.2,
  latency: { read: [0.01, 3], write: [0.01, 3] },
} as const;

function onKernel(t: Cleanup, engine: 'io-uring' | 'kernel-aio' | 'threads'): Case {
  const directory = scratch(t);
  const fifos = makeFifos(directory);
  return { setting: { engine }, world: () => kernelWorld(engine, directory, fifos), runs: runs[engine] };
}

function onDisk(options: SimulatedDiskOptions, fails: boolean): Case {
  return {
    setting: { engine: 'simulated', disk: JSON.stringify(options) },
    world: () => simulatedWorld(createSimulatedDisk(options), fails),
    runs: runs.simulated,
  };
}

const noTally: Tally = { schedules: 0, calls: 0, transfers: 0, canceled: 0, waits: 0, wakeups: 0 };

/** Runs one schedule. What it failed with holds the program. */
async function runIt(
  { setting, world }: Case,
  schedule: Schedule,
  tally: Tally,
  more: (runner: Runner) => void = () => undefined,
): Promise<Runner> {
  const runner = new Runner(world(), worker, schedule, tally);
  try {
    await runner.run();
    more(runner);
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    const program = programOf(setting, schedule, runner.statements);
    throw new Error(`${what}\n\nThe program:\n\n${program}\nIts output:\n\n${runner.printed.join('\n')}\n`, {
      cause: error,
    });
  }
  return runner;
}

async function hold(t: TestContext, one: Case): Promise<void> {
  const tally = { ...noTally };
  const property = fc.asyncProperty(schedules, async (schedule) => {
    await runIt(one, schedule, tally);
  });
  await fc.assert(property, {
    ...(seed === undefined ? {} : { seed }),
    ...(path === undefined ? {} : { path }),
    numRuns: setting('FC_RUNS') ?? one.runs,
    // What never ends is a failure with a seed, too, and is not made small for ever.
    timeout: 120_000,
    ...(setting('FC_RUNS') === undefined ? { interruptAfterTimeLimit: 240_000, markInterruptAsFailure: true } : {}),
  });
  const { schedules: run, ...rest } = tally;
  t.diagnostic(
    `${one.setting.engine}: ${run} schedules, ${Object.entries(rest)
      .map(([name, n]) => `${n} ${name}`)
      .join(', ')}`,
  );
}

function transferring(
  operation: Operation,
  target: Target,
  position: number | bigint,
  lengths: readonly number[],
  kind: Kind,
): Preparation {
  return { operation, target, position, lengths, kind, dataOnly: false };
}

/** One of every step, in an order in which nothing is left to chance. */
const everyStep: Schedule = {
  contexts: [
    { maxRequests: 5, waitWithoutPendingRequests: true },
    { maxRequests: 64, waitWithoutPendingRequests: false },
  ],
  steps: [
    { do: 'start', request: 0, context: 0, as: transferring('prepareWrite', 'file', 0, [4096], 'Buffer') },
    { do: 'wait', context: 0, options: { min: 1, max: 3 } },
    { do: 'settle', context: 0 },
    { do: 'prepare', request: 1, as: transferring('prepareReadv', 'readOnly', 4000, [100, 200], 'DataView') },
    { do: 'prepare', request: 2, as: transferring('prepareRead', 'direct', 4096n, [4096], 'allocBuffer') },
    { do: 'prepare', request: 3, as: transferring('prepareWritev', 'none', 0, [10, 0, 10], 'shared') },
    { do: 'submit', context: 0, requests: [1, 1] },
    { do: 'submit', context: 0, requests: [1] },
    { do: 'wait', context: 0, options: {} },
    { do: 'settle', context: 0 },
    { do: 'submit', context: 0, requests: [2] },
    { do: 'wait', context: 0, options: { signal: 'aborted' } },
    { do: 'wait', context: 0, options: { timeoutMs: -1 } },
    { do: 'close', context: 0 },
    { do: 'cancel', request: 4 },
    { do: 'wait', context: 0, options: { min: 1, timeoutMs: 30_000 } },
    { do: 'settle', context: 0 },
    { do: 'submit', context: 0, requests: [3] },
    { do: 'wait', context: 0, options: {} },
    { do: 'settle', context: 0 },
    { do: 'wait', context: 0, options: { min: 2, signal: 'later' } },
    { do: 'abort', context: 0 },
    { do: 'wakeFromThread', context: 0 },
    { do: 'wait', context: 0, options: {} },
    { do: 'turn' },
    { do: 'settle', context: 0 },
    { do: 'wokenSync', context: 0 },
    { do: 'wakeup', context: 0 },
    { do: 'waitSync', context: 0, options: { timeoutMs: 0 } },
    // Takes the wake-up where waitSync is refused.
    { do: 'wait', context: 0, options: { timeoutMs: 0 } },
    { do: 'settle', context: 0 },
    { do: 'prepare', request: 4, as: transferring('prepareWrite', 'file', 19_000, [5000], 'part') },
    { do: 'transfer', request: 4 },
    { do: 'submit', context: 0, requests: [4] },
    { do: 'dispose', request: 4 },
    { do: 'feed', context: 0 },
    { do: 'feed', context: 0 },
    { do: 'start', request: 5, context: 1, as: transferring('prepareFlush', 'file', 0, [], 'Buffer') },
    { do: 'wait', context: 1, options: {} },
    { do: 'settle', context: 1 },
    { do: 'burst', context: 0, count: 7, as: transferring('prepareFlush', 'none', 0, [], 'pool') },
    { do: 'wait', context: 0, options: { min: 5 } },
    { do: 'settle', context: 0 },
  ],
  dispose: false,
};

/** What completes together does so in any order, where several threads do it. */
function inOrder(line: string): string {
  return line.replace(/( \d+:\w+:\d+)+$/, (completions) => completions.split(' ').sort().join(' '));
}

/** The program prints, line by line, what the runner saw. */
async function samePrinted(t: TestContext, one: Case): Promise<void> {
  const { statements, printed } = await runIt(one, everyStep, { ...noTally });
  const text = programOf(one.setting, everyStep, statements, {
    main: new URL('../dist/index.js', import.meta.url).href,
    sim: new URL('../dist/sim.js', import.meta.url).href,
  });
  const ended = await child(process.execPath, typedScript(t, text));
  assert.equal(ended.stderr, '');
  assert.deepEqual(ended.stdout.trim().split('\n').map(inOrder), printed.map(inOrder));
  assert.deepEqual([ended.code, ended.signal], [0, null]);
}

const suite = { timeout: 3_600_000 };

for (const { name, available, why } of engines()) {
  if (name === 'simulated' || !chosen(name)) continue;
  describe(`${name}: schedules`, suite, () => {
    test('random schedules keep the contract', async (t) => {
      if (!available) return t.skip(why);
      if (lacks('descriptors of other threads', t)) return;
      if (name === 'threads' && lacks('a pool that is as that of libuv', t)) return;
      await hold(t, onKernel(t, name));
    });

    test('a schedule with every step, printed as a program, does the same', async (t) => {
      if (!available) return t.skip(why);
      if (lacks('descriptors of other threads', t)) return;
      if (name === 'threads' && lacks('a pool that is as that of libuv', t)) return;
      await samePrinted(t, onKernel(t, name));
    });
  });
}

if (chosen('simulated')) {
  describe('simulated: schedules', suite, () => {
    test('random schedules keep the contract', (t) => hold(t, onDisk(plain, false)));

    test('random schedules keep the contract on a disk that fails, refuses, and moves less than it is asked for', (t) =>
      hold(t, onDisk(faulty, true)));

    test('a schedule with every step, printed as a program, does the same', (t) =>
      samePrinted(t, onDisk(plain, false)));

    test('a schedule that breaks the contract is made small, and printed as a program', async (t) => {
      // The contract plus a clause that it does not have: nothing is ever canceled.
      const one = onDisk(plain, false);
      const property = fc.asyncProperty(schedules, async (schedule) => {
        await runIt(one, schedule, { ...noTally }, ({ printed }) => {
          assert.ok(!printed.some((line) => line.endsWith('canceled')), 'something was canceled');
        });
      });
      const { failed, counterexample, errorInstance } = await fc.check(property, { seed: 1, numRuns: 1000 });
      assert.ok(failed && errorInstance instanceof Error);
      const steps = counterexample?.[0].steps.map((step) => step.do) ?? [];
      assert.ok(steps.includes('cancel') && steps.length <= 4, `${steps}`);
      const [, program = ''] = /The program:\n\n(.*)\nIts output:/s.exec(errorInstance.message) ?? [];
      assert.match(program, /import \{ AioContext.*\} from 'fileaio';/);
      // Within the package, which knows its own name.
      const { pathname } = new URL('../dist', import.meta.url);
      const file = join(scratch(t, pathname), 'counter-example.mts');
      writeFileSync(file, program);
      const ended = await child(process.execPath, [...runTypeScript, file]);
      assert.equal(ended.stderr, '');
      assert.match(ended.stdout, /^\d+ canceled$/m);
    });
  });
}
