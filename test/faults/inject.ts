/** Runs injections in processes of their own, one after the other in each, and counts what came of them. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Verdict } from './fault.ts';
import type { Injection, Row } from './matrix.ts';
import { Strace } from './strace.ts';

/** A run takes milliseconds; what is not back by now hangs. */
const DEADLINE_MS = 30_000;

function ringsOf(pid: number | 'self'): string[] {
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).includes('io_uring');
    } catch {
      return false;
    }
  });
}

/** Whether the runtime's own event loop has a ring: then it must not have to do with descriptors while one call fails. */
export function libuvHasRings(): boolean {
  return ringsOf('self').length > 0;
}

/** Runs in a row that libuv may end. It enters its ring now and then only, for the channel to this process. */
const MOST_TRIES = 5;

export interface Tally {
  readonly row: Row;
  runs: number;
  /** Runs in which a call was made to fail; there may be fewer calls than that. */
  hit: number;
  /** Of these: without anything wrong. */
  survived: number;
  /** Errors that came to the program. */
  surfaced: number;
  problems: number;
}

class Subject {
  readonly #child: ChildProcess;
  readonly #log: string;
  /** Those that it had before there was anything to do: libuv's. */
  readonly #foreign: readonly string[];

  private constructor(child: ChildProcess, log: string) {
    this.#child = child;
    this.#log = log;
    this.#foreign = ringsOf(child.pid ?? 0);
  }

  static async start(pool: number, log: string): Promise<Subject> {
    const child = fork(fileURLToPath(new URL('./subject.ts', import.meta.url)), {
      execArgv: ['--import', 'tsx', '--v8-pool-size=1'],
      env: {
        ...process.env,
        NODE_TEST_CONTEXT: undefined,
        UV_USE_IO_URING: '0',
        UV_THREADPOOL_SIZE: String(pool),
        ...(libuvHasRings() ? { FILEAIO_NOTIFIER: 'thread' } : {}),
      },
    });
    await once(child, 'message');
    return new Subject(child, log);
  }

  get ended(): string | undefined {
    const { exitCode, signalCode } = this.#child;
    return exitCode === null && signalCode === null ? undefined : `the process ended with ${signalCode ?? exitCode}`;
  }

  /** `verdict` is missing where libuv met the fault, in a ring of its own, which it answers with an abort(). */
  async run({ cell, options }: Injection): Promise<{ injected: boolean; verdict: Verdict | undefined }> {
    const strace = await Strace.attach(this.#child.pid ?? -1, options, this.#log);
    const aborter = new AbortController();
    const { signal } = aborter;
    const wrong = (what: string): Verdict => ({ problems: [what], surfaced: 0 });
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), DEADLINE_MS);
    try {
      this.#child.send(cell);
      const verdict = await Promise.race([
        once(this.#child, 'message', { signal }).then(([message]) => message as Verdict),
        once(this.#child, 'exit', { signal }).then(([code, by]) => wrong(`the process ended with ${by ?? code}`)),
      ]);
      const hung = this.#child.signalCode === 'SIGKILL';
      const injected = await strace.detach(cell.fault?.syscall ?? '');
      if (this.#child.signalCode === 'SIGABRT' && this.#foreign.some((fd) => strace.failedOn(fd))) {
        return { verdict: undefined, injected };
      }
      return { verdict: hung ? wrong('hung') : verdict, injected };
    } finally {
      clearTimeout(timer);
      aborter.abort();
      await strace.detach('');
    }
  }

  /** It has nothing to do any more, and must find the end by itself. */
  async end(): Promise<string | undefined> {
    const child = this.#child;
    if (this.ended === undefined) {
      const exit = once(child, 'exit');
      child.disconnect();
      const timer = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS);
      await exit;
      clearTimeout(timer);
    }
    return child.exitCode === 0 ? undefined : this.ended;
  }
}

/** A process at a time: begun when it is needed, and again after something went wrong. */
export class Lane {
  #subject: Subject | undefined;
  #pool = 0;
  readonly #directory = mkdtempSync(join(tmpdir(), 'fileaio-test-'));

  /** Runs one row. `report` is told of each thing that goes wrong, as it does. */
  async run(row: Row, injections: readonly Injection[], report: (problem: string) => void): Promise<Tally> {
    const tally: Tally = { row, runs: 0, hit: 0, survived: 0, surfaced: 0, problems: 0 };
    for (const injection of injections) {
      const { fault } = injection.cell;
      const { verdict, injected } = await this.#once(row, injection);
      tally.runs++;
      tally.surfaced += verdict.surfaced;
      tally.hit += Number(injected);
      tally.survived += Number(injected && verdict.problems.length === 0);
      tally.problems += verdict.problems.length;
      const what = `${row.column}, ${row.work}: call ${injection.n} of ${fault?.syscall} fails with ${fault?.code}`;
      for (const problem of verdict.problems) report(`${what}: ${problem}`);
      // What went wrong must not go wrong again in what follows.
      if (verdict.problems.length > 0) await this.#end();
    }
    return tally;
  }

  async #once(row: Row, injection: Injection): Promise<{ injected: boolean; verdict: Verdict }> {
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const { verdict, injected } = await (await this.#ready(row.pool ?? 4)).run(injection);
      if (verdict !== undefined) return { verdict, injected };
      await this.#end();
    }
    return { verdict: { problems: [`libuv met the fault ${MOST_TRIES} times in a row`], surfaced: 0 }, injected: true };
  }

  async #ready(pool: number): Promise<Subject> {
    if (pool !== this.#pool) {
      const wrong = await this.#end();
      if (wrong !== undefined) throw new Error(`At its end ${wrong}`);
    }
    this.#pool = pool;
    this.#subject ??= await Subject.start(pool, join(this.#directory, 'log'));
    return this.#subject;
  }

  async #end(): Promise<string | undefined> {
    const subject = this.#subject;
    this.#subject = undefined;
    return subject?.end();
  }

  /** What is wrong with the way in which the process ended, if anything. */
  async end(): Promise<string | undefined> {
    try {
      return await this.#end();
    } finally {
      rmSync(this.#directory, { recursive: true });
    }
  }
}
