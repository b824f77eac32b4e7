/**
 * Hostile input: every public function and method, with arguments that nobody should give, from code that throws, re-enters and lies. Each
 * call must end with a result or with an error that has a code, or with what the hostile code itself threw. In processes of their own: a
 * crash is a failure, too.
 *
 * On failure the seed and the round are printed: `HOSTILE_SEED=… HOSTILE_ROUND=…` makes the calls of that round again, and says each
 * before it makes it; `HOSTILE_CALLS=…` makes more of them.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import * as nodeFs from 'node:fs';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as fs from '../src/fs.ts';
import { AioContext, AioRequest, type WaitResult, type Waker, wake } from '../src/index.ts';
import * as promises from '../src/promises.ts';
import { calls, strangers } from './hostile/calls.ts';
import { Hostility } from './hostile/values.ts';
import { runtime } from './runtime.ts';
import { coded, context, scratch } from './support.ts';

const PER_ROUND = 500;
/** Processes at once: each uses two processors, now and then. */
const PROCESSES = 2;

function setting(name: string): number | undefined {
  const value = process.env[name] ?? '';
  return value === '' ? undefined : Number(value);
}

/** Limits of the process: files of 32 MiB, and 2048 descriptors. What is over them is an error like any other. */
const LIMITS = 'ulimit -f 65536; ulimit -n 2048; exec "$0" "$@"';

/** Makes calls in a process of its own, and gives what it printed. */
async function make(directory: string, seed: number, first: number, rounds: number, trace: boolean): Promise<string> {
  mkdirSync(directory);
  const program = fileURLToPath(new URL('./programs/hostile.ts', import.meta.url));
  const args = [seed, first, rounds, PER_ROUND].map(String);
  const spawned = spawn(
    'sh',
    ['-c', LIMITS, process.execPath, '--import', import.meta.resolve('tsx'), program, ...args],
    {
      cwd: directory,
      env: { ...process.env, NODE_TEST_CONTEXT: undefined, TRACE: trace ? '1' : '' },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let printed = '';
  for (const stream of [spawned.stdout, spawned.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
  }
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    spawned.on('error', reject);
    spawned.on('close', (...ended) => resolve(ended));
  });
  if (code === 0) return printed;
  const round = [...printed.matchAll(/^round (\d+)$/gm)].at(-1)?.[1] ?? first;
  const how = signal === null ? `code ${code}` : signal;
  assert.fail(
    `HOSTILE_SEED=${seed} HOSTILE_ROUND=${round} npm test -- test/hostile.test.ts: it ended with ${how}\n${printed.slice(-10_000)}`,
  );
}

async function fuzz(t: TestContext): Promise<void> {
  const directory = scratch(t);
  const seed = setting('HOSTILE_SEED') ?? Math.floor(Math.random() * 2 ** 31);
  const round = setting('HOSTILE_ROUND');
  if (round !== undefined) {
    t.diagnostic(await make(join(directory, 'again'), seed, round, 1, true));
    return;
  }
  // Calls within calls come on top.
  const rounds = Math.ceil((setting('HOSTILE_CALLS') ?? 100_000) / PER_ROUND / PROCESSES);
  const printed = await Promise.all(
    Array.from({ length: PROCESSES }, (_, index) =>
      make(join(directory, String(index)), seed, index * rounds, rounds, false),
    ),
  );
  const sum = (pattern: RegExp): number =>
    printed.reduce((total, text) => total + Number(pattern.exec(text)?.[1] ?? Number.NaN), 0);
  t.diagnostic(
    `${sum(/^(\d+) calls/m)} hostile calls of ${calls.length} functions, seed ${seed}: ${sum(/, (\d+) of Node's own errors/)} errors without a code, all of Node's own functions`,
  );
  assert.ok(sum(/^(\d+) calls/m) >= rounds * PER_ROUND * PROCESSES);
}

describe('hostile input', { timeout: 3_600_000 }, () => {
  test('every function and method that the modules export is fuzzed', () => {
    assert.deepEqual(strangers(), { unfuzzed: [], gone: [] });
    assert.ok(calls.length > 100);
  });

  test('every call ends with a result or an error that has a code', async (t) => {
    if (runtime !== 'node') {
      t.skip(`what ${runtime} does with hostile input is not this library's to say`);
      return;
    }
    await fuzz(t);
  });
});

describe('what hostile input has found', () => {
  test("a signal whose members call back into the context takes nobody's wait away", async (t) => {
    const ctx = context(t, { maxRequests: 1, engine: 'threads', waitWithoutPendingRequests: true });
    const { signal } = new AbortController();
    let inner: Promise<WaitResult> | undefined;
    Object.defineProperty(signal, 'aborted', {
      get() {
        inner ??= ctx.wait();
        return false;
      },
    });
    Object.defineProperty(signal, 'addEventListener', { value: () => ctx.close() });
    await assert.rejects(ctx.wait({ signal }), coded('ERR_AIO_BUSY'));
    ctx.wakeup();
    assert.equal((await inner)?.reason, 'woken');
    const waiting = ctx.wait({ signal });
    ctx.wakeup();
    assert.equal((await waiting).reason, 'woken');
  });

  test('a signal whose reason throws aborts all the same', async (t) => {
    const ctx = context(t, { maxRequests: 1, engine: 'threads', waitWithoutPendingRequests: true });
    const controller = new AbortController();
    const { signal } = controller;
    Object.defineProperty(signal, 'reason', {
      get() {
        throw new Error('no reason');
      },
    });
    const waiting = ctx.wait({ signal });
    controller.abort();
    await assert.rejects(waiting, coded('ABORT_ERR'));
  });

  test('a signal that cannot be left does not keep a call from its end', async (t) => {
    const handle = await promises.open(import.meta.filename ?? fileURLToPath(import.meta.url));
    t.after(() => handle.close());
    const throws = (): never => {
      throw new Hostility('not now');
    };
    let looks = 0;
    const signal = {
      get aborted(): boolean {
        return looks++ < 2 ? false : throws();
      },
      addEventListener: () => undefined,
      removeEventListener: throws,
    };
    const { bytesRead } = await handle.read(Buffer.alloc(10), { position: 0, signal: signal as never });
    assert.equal(bytesRead, 10);
  });

  test('a waker that shows another cell the second time is looked at once', () => {
    const ctx = new AioContext({ maxRequests: 1, engine: 'threads' });
    let looks = 0;
    const waker = {
      get cell() {
        return looks++ === 0 ? ctx.waker.cell : 'not a cell';
      },
    };
    wake(waker as Waker);
    assert.equal(looks, 1);
  });

  test('a stream whose constructor throws leaves nothing to blow up or to close', async (t) => {
    const path = join(scratch(t), 'never');
    for (const Stream of [fs.ReadStream, fs.WriteStream]) {
      const signal = Object.assign(new AbortController().signal, {
        addEventListener() {
          throw new Hostility('no listeners');
        },
      });
      assert.throws(() => new Stream(path, { signal, flags: 'w' }), Hostility);
    }
    assert.throws(() => fs.createWriteStream(path, { encoding: 'buffer' as never }), coded('ERR_UNKNOWN_ENCODING'));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(existsSync(path), false);
  });

  test('numbers over which some versions of Node abort', async (t) => {
    const path = join(scratch(t), 'file');
    writeFileSync(path, 'text');
    const handle = await promises.open(path, -0 as never, -0);
    await handle.chmod(2 ** 32 - 1);
    await handle.chmod('37777777600');
    assert.equal((await handle.stat()).mode & 0o777, 0o600);
    await handle.close();
    const liar = Object.defineProperty(Buffer.alloc(4), 'byteLength', { value: 2 ** 20 });
    const fd = nodeFs.openSync(path, 'r+');
    t.after(() => nodeFs.closeSync(fd));
    const nothing = (): void => undefined;
    assert.throws(() => fs.write(fd, liar, 2 ** 16, 100, 0, nothing), coded('ERR_INVALID_ARG_VALUE'));
    assert.throws(
      () => fs.close({ constructor: { name: Symbol('x') } } as never, nothing),
      coded('ERR_INVALID_ARG_TYPE'),
    );
    assert.throws(() => fs.open(path, { mode: nothing } as never, nothing), coded('ERR_INVALID_ARG_VALUE'));
    const views = new Proxy([Buffer.alloc(4)], {});
    await new Promise<void>((resolve, reject) =>
      fs.readv(fd, views, 0, (error) => (error ? reject(error) : resolve())),
    );
  });

  test('what only poses as an engine, a handle or an array is told so', async () => {
    const posing = { open: () => ({}), probe: () => undefined };
    assert.throws(() => new AioContext({ maxRequests: 1, engine: posing as never }), coded('ERR_INVALID_ARG_TYPE'));
    assert.throws(() => new promises.FileHandle({} as never, {} as never), coded('ERR_INVALID_ARG_TYPE'));
    const { proxy, revoke } = Proxy.revocable([], {});
    revoke();
    assert.throws(() => new AioRequest().prepareReadv(0, 0, proxy), coded('ERR_INVALID_ARG_TYPE', /cannot be shown/));
    const endless = Object.assign([Buffer.alloc(1)], {
      *[Symbol.iterator]() {
        for (;;) yield Buffer.alloc(1);
      },
    });
    assert.equal(new AioRequest().prepareReadv(0, 0, endless).state, 'prepared');
  });
});
