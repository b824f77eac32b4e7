// Makes hostile calls, round after round: argv is the seed, the first round, how many, and the calls of one. Prints how many it made, or what
// went wrong in which round. Runs in a directory of its own. With TRACE=1 it says each call before it makes it.

import { EventEmitter } from 'node:events';
import { closeSync, fstatSync, mkdirSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import * as fs from '../../src/fs.ts';
import { AioContext, AioRequest, AlignedPool, engines } from '../../src/index.ts';
import { type FileHandle, open } from '../../src/promises.ts';
import { createSimulatedDisk } from '../../src/sim.ts';
import { type Call, calls, isStream, orHostile, type World } from '../hostile/calls.ts';
import { Choices } from '../hostile/random.ts';
import { Hostility, hostile } from '../hostile/values.ts';

const [seed = 1, first = 0, rounds = 1, perRound = 500] = process.argv.slice(2).map(Number);
const trace = process.env.TRACE === '1';

/** What has to settle is waited for so long. */
const PATIENCE_MS = 60_000;
/** Above those that the library gets for its own. */
const HIGH_FD = 400;

let round = first;
let made = 0;
const recent: string[] = [];

/** With SURVEY=1 it goes on, and tells of each kind of failure once. */
const survey = process.env.SURVEY === '1';
const seen = new Set<string>();

function complain(what: string, error: unknown): void {
  const shown = error instanceof Error ? (error.stack ?? error.message) : inspect(error);
  const kind = shown.split('\n').slice(0, 2).join();
  if (seen.has(kind)) return;
  seen.add(kind);
  writeSync(1, `FAILED seed ${seed} round ${round}: ${what}: ${shown}\n\nThe latest calls:\n${recent.join('\n')}\n`);
  if (!survey) process.exit(1);
}

process.on('unhandledRejection', (error) => complain('an unhandled rejection', error));
process.on('uncaughtException', (error) => {
  // Node's own function looked at an option once more, or called a function that cannot be called.
  const theirs = error instanceof Hostility || /on a proxy that has been revoked|without 'new'/.test(error.message);
  if (theirs && !error.stack?.includes('/src/')) ofNode++;
  else complain('an uncaught exception', error);
});
process.on('warning', () => undefined);

/** Anything may be thrown that has a code, and what hostile code threw itself; a revoked proxy, and a class that is called, throw for themselves. */
function judge(what: string, error: unknown): void {
  if (error instanceof Hostility) return;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return;
  if (
    error instanceof TypeError &&
    /on a proxy that has been revoked|^Class constructors? .*without 'new'/.test(error.message)
  )
    return;
  if (isNodes(what, error)) ofNode++;
  else complain(what, error);
}

/** Errors of Node's own, where its function does the work: it throws the same at those who call it directly. */
let ofNode = 0;

function isNodes(what: string, error: unknown): boolean {
  if (!/^fileaio\/(fs|promises) /.test(what) || !(error instanceof Error)) return false;
  const frames = (error.stack ?? '')
    .split('\n')
    .filter((line) => /^\s+at /.test(line) && !line.includes('<anonymous>)'));
  // Some it makes without: it takes Error.stackTraceLimit down to 0 meanwhile.
  return frames[0] === undefined || /\(?node:/.test(frames[0]);
}

// A thread that wakes this one when it blocks: many a waitSync has no end of its own.
const beat = new Int32Array(new SharedArrayBuffer(4));
const watch = new Worker(new URL('./hostile-watch.mjs', import.meta.url), { workerData: { beat }, execArgv: [] });
watch.unref();

/** Opens files under numbers that nobody else gets: whatever is closed by its number is one of these. */
function openHigh(paths: readonly string[], flags: string): number[] {
  const low: number[] = [];
  for (let fd = openSync('/dev/null', 'r'); ; fd = openSync('/dev/null', 'r')) {
    low.push(fd);
    if (fd >= HIGH_FD) break;
  }
  const high = paths.map((path) => openSync(path, flags));
  for (const fd of low) closeSync(fd);
  return high;
}

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

const files = ['f0', 'f1', 'f2', 'f3'];
mkdirSync('directory', { recursive: true });
let fds: number[] = [];

function reopen(): void {
  for (const file of files) {
    try {
      truncateSync(file, 20_000);
    } catch {
      writeFileSync(file, Buffer.alloc(20_000, file));
    }
  }
  if (fds.length > 0 && fds.every(isOpen)) return;
  for (const fd of fds) if (isOpen(fd)) closeSync(fd);
  fds = openHigh(files, 'r+');
}

const working = engines().filter(({ available }) => available);

class Round {
  readonly #choices: Choices;
  readonly #world: World;
  readonly #contexts: AioContext[] = [];
  readonly #streams: (fs.ReadStream | fs.WriteStream)[] = [];
  readonly #handles: FileHandle[] = [];
  readonly #pending = new Map<Promise<unknown>, string>();
  readonly #clear: (() => unknown)[] = [];
  readonly #known = new WeakSet<object>();
  #calling = '';
  #depth = 0;

  constructor(choices: Choices, handles: readonly FileHandle[]) {
    this.#choices = choices;
    const disk = createSimulatedDisk({ seed: 1, capacity: 2 ** 22, maxFileSize: 2 ** 21 });
    disk.install('/f', Buffer.alloc(20_000, 'f'));
    disk.mkdirSync('/d');
    this.#handles.push(...handles);
    for (const { name } of working) {
      // Contexts of kernel AIO live for long after they were closed.
      if (name !== 'kernel-aio' || choices.chance(0.1)) {
        this.#contexts.push(
          new AioContext({ maxRequests: 8, engine: name, waitWithoutPendingRequests: choices.chance(0.5) }),
        );
      }
    }
    this.#contexts.push(new AioContext({ maxRequests: 8, engine: disk }));
    const acts = choices.fork();
    this.#world = {
      act: () => this.#act(acts),
      contexts: this.#contexts,
      requests: Array.from({ length: 8 }, () => new AioRequest()),
      pools: [new AlignedPool({ size: 4096, count: 64 })],
      handles: this.#handles,
      disks: [disk],
      streams: this.#streams,
      signals: Array.from({ length: 4 }, () => new AbortController()),
      fds,
      diskFds: [
        disk.openSync('/f', 'r+'),
        disk.openSync('/f', { flags: 'r+', direct: true }),
        disk.openSync('/g', 'w+'),
      ],
      callback: () => {
        const what = this.#calling;
        return (error) => {
          if (error) judge(`${what}, called back`, error);
        };
      },
    };
    watch.postMessage(this.#contexts.map(({ waker }) => waker));
  }

  /** What hostile code does: it calls back into the library, throws, or gives something strange. */
  #act(choices: Choices): unknown {
    if (choices.chance(0.3)) throw new Hostility('thrown by hostile code');
    if (this.#depth < 2 && choices.chance(0.5)) this.#call(choices.of(calls), choices);
    const { value } = hostile(choices, () => undefined);
    return value === 0 ? 1n : value;
  }

  #call({ name, roles, invoke }: Call, choices: Choices): void {
    const outer = this.#calling;
    this.#calling = name;
    const given = roles.map((role) => orHostile(role, this.#world, choices, 0.35));
    // Too few, too many.
    if (choices.chance(0.05)) given.length = choices.below(given.length + 1);
    if (choices.chance(0.02)) given.push(hostile(choices, this.#world.act));
    // A callback that throws is the program's own affair: node:fs calls it with nobody around.
    if (name.startsWith('fileaio/fs ')) {
      for (const [index, { value }] of given.entries()) {
        if (typeof value === 'function') given[index] = { value: this.#world.callback(), label: 'a callback' };
      }
    }
    // Without a callback, node:fs throws where nobody is: that is its documented way.
    if (name === 'fileaio/fs close' && given[1]?.value === undefined) {
      given[0] ??= { value: undefined, label: 'undefined' };
      given[1] = { value: this.#world.callback(), label: 'a callback' };
    }
    const what = `${name}(${given.map(({ label }) => label).join(', ')})`;
    if (trace) writeSync(2, `${'  '.repeat(this.#depth)}${what}\n`);
    recent.push(`${'  '.repeat(this.#depth)}${what}`);
    if (recent.length > 40) recent.shift();
    made++;
    // Node sets it to 0 for a moment, and what is thrown in that moment leaves it so.
    Error.stackTraceLimit = 30;
    Atomics.add(beat, 0, 1);
    this.#depth++;
    try {
      this.#keep(
        what,
        invoke(
          this.#world,
          choices,
          given.map(({ value }) => value),
        ),
      );
    } catch (error) {
      judge(what, error);
    } finally {
      this.#calling = outer;
      this.#depth--;
    }
  }

  /** What a call gave is looked after until the end of the round. */
  #keep(what: string, result: unknown): void {
    if (result instanceof Promise) {
      const settled = result.then(
        (value) => this.#keep(what, value),
        (error) => judge(what, error),
      );
      this.#pending.set(settled, what);
      void settled.finally(() => this.#pending.delete(settled));
    } else if (result instanceof AioContext) {
      this.#clear.push(() => result[Symbol.asyncDispose]());
    } else if (isStream(result)) {
      if (this.#known.has(result)) return;
      this.#known.add(result);
      result.on('error', (error) => judge(`${what}, an 'error' event`, error));
      if (result instanceof fs.ReadStream || result instanceof fs.WriteStream) this.#streams.push(result);
      if (result instanceof fs.ReadStream && this.#choices.chance(0.5)) result.resume();
      this.#clear.push(() => result.destroy());
    } else if (result instanceof ReadableStream) {
      this.#clear.push(() => result.cancel().catch((error) => judge(what, error)));
    } else if (typeof result === 'object' && result !== null && 'input' in result && 'close' in result) {
      const { input, close } = result;
      if (isStream(input)) this.#keep(what, input);
      if (result instanceof EventEmitter) result.on('error', (error) => judge(`${what}, an 'error' event`, error));
      if (typeof close === 'function') this.#clear.push(() => Reflect.apply(close, result, []));
    } else if (typeof result === 'object' && result !== null && 'engine' in result && 'readLines' in result) {
      const handle = result as FileHandle;
      this.#clear.push(() => handle.close());
      if (this.#handles.length < 8) this.#handles.push(handle);
    } else if (typeof result === 'number' && what.startsWith('fileaio/fs openSync')) {
      this.#clear.push(() => closeQuietly(result));
    }
  }

  async run(): Promise<void> {
    const { signals } = this.#world;
    for (let n = 0; n < perRound; n++) {
      this.#call(this.#choices.of(calls), this.#choices);
      if (this.#choices.chance(0.01)) this.#choices.of(signals).abort();
      if (this.#choices.chance(0.05)) await new Promise((resolve) => setImmediate(resolve));
      if (n % 50 === 49) await this.#settle();
    }
    for (const clear of this.#clear.splice(0)) this.#keep('clearing up', clear());
    for (const handle of this.#handles) this.#keep('closing', handle.close());
    for (const context of this.#contexts) this.#keep('disposing of a context', context[Symbol.asyncDispose]());
    await this.#settle(true);
  }

  /** Everything settles, if nothing keeps it: waits are woken, streams are ended. */
  async #settle(last = false): Promise<void> {
    const end = performance.now() + PATIENCE_MS;
    while (this.#pending.size > 0) {
      if (performance.now() > end) {
        complain(`never settled: ${[...this.#pending.values()].join('; ')}`, new Error('hangs'));
        return;
      }
      for (const context of this.#contexts) context.wakeup();
      for (const stream of this.#streams.splice(0)) stream.destroy();
      if (!last) for (const clear of this.#clear.splice(0)) this.#keep('clearing up', clear());
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }
}

function closeQuietly(fd: number): void {
  try {
    fs.closeSync(fd);
  } catch (error) {
    judge('closing', error);
  }
}

/** A copyFile of an earlier round that fails late takes its destination with it, which may be one of the files. */
async function openAgain(...given: Parameters<typeof open>): Promise<FileHandle> {
  for (let tries = 1; ; tries++) {
    try {
      return await open(...given);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || tries === 10) throw error;
      reopen();
    }
  }
}

for (; round < first + rounds; round++) {
  writeSync(1, `round ${round}\n`);
  reopen();
  const choices = new Choices(seed, round);
  const handles = await Promise.all([
    openAgain('f0', { flags: 'r+', engine: 'threads' }),
    openAgain('f1', { flags: 'r+', engine: choices.of(working).name }),
    openAgain('f2', { flags: 'r+', direct: true }),
  ]);
  await new Round(choices, handles).run();
}
writeSync(1, `${made} calls, ${ofNode} of Node's own errors\n`);
process.exit(0);
