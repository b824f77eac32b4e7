/** What happens where kernel AIO is not to be had: no compiler, no shim, no room, a kernel that says no. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DRIVER, type Engine, type EngineDriver } from '../src/engine.ts';
import { threads } from '../src/engines/threads.ts';
import { AioContext, AioError, AioRequest, allocBuffer, engines, getLimits } from '../src/index.ts';
import { child, coded, scratch, scratchFile, script } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** A program that transfers something with whatever engine there is, and tells what it was. */
const TRANSFER = `import { openSync } from 'node:fs';
  import { AioContext, AioRequest, allocBuffer, engines, getLimits } from './src/index.ts';
  const found = engines();
  const limits = getLimits('package.json');
  const context = new AioContext({ maxRequests: 4 });
  const request = new AioRequest().prepareRead(openSync('package.json'), 0, allocBuffer(16));
  context.submit([request]);
  await context.wait();
  await context.close();
  const refused = {};
  for (const { name } of found) {
    try { await new AioContext({ maxRequests: 4, engine: name }).close(); } catch (e) { refused[name] = [e.code, e.syscall, e.message]; }
  }
  let most;
  try { most = getLimits(undefined, 'kernel-aio').maxOutstanding; } catch (e) { most = e.code; }
  console.log(JSON.stringify({ found, limits, most, engine: context.engine, bytes: request.result(), refused }));`;

function syscallOf(injection: string): string {
  return injection.replace(/:.*/, '');
}

function maxRequestsOfKernelAio(): number {
  return Math.min(Number(readFileSync('/proc/sys/fs/aio-max-nr', 'utf8')), 4_194_302);
}

function whyNot(name: string): string | undefined {
  return engines().find((engine) => engine.name === name)?.why;
}

describe('availability', () => {
  test('engines() finds kernel AIO by trying it, and threads are always there, last', () => {
    const found = engines();
    assert.deepEqual(
      found.find(({ name }) => name === 'kernel-aio'),
      { name: 'kernel-aio', available: true },
    );
    assert.deepEqual(found.at(-1), { name: 'threads', available: true });
    assert.deepEqual(engines(), found);
  });

  test("'auto' takes the first that works, in the order of engines()", async () => {
    const ctx = new AioContext({ maxRequests: 1 });
    assert.equal(ctx.engine, engines().find(({ available }) => available)?.name);
    await ctx.close();
  });

  test('each engine that works can be asked for by name, and has its limits', async () => {
    for (const { name, available } of engines()) {
      if (!available) {
        assert.throws(() => new AioContext({ maxRequests: 1, engine: name }), coded('ERR_AIO_NOT_SUPPORTED'));
        assert.throws(() => getLimits(undefined, name), coded('ERR_AIO_NOT_SUPPORTED'));
        assert.ok((whyNot(name) ?? '').length > 10);
        continue;
      }
      const ctx = new AioContext({ maxRequests: 1, engine: name });
      assert.equal(ctx.engine, name);
      await ctx.close();
      assert.ok(getLimits(undefined, name).maxOutstanding >= 1024);
    }
  });

  test('what has a driver stands for it', async (t) => {
    const opened: Engine[] = [];
    const driver: EngineDriver = {
      ...threads,
      open(...args) {
        const engine = threads.open(...args);
        opened.push(engine);
        return engine;
      },
    };
    const ctx = new AioContext({ maxRequests: 1, engine: { [DRIVER]: driver } });
    assert.equal(opened.length, 1);
    const { fd } = scratchFile(t, 10);
    const request = new AioRequest().prepareRead(fd, 0, allocBuffer(10));
    ctx.submit([request]);
    await ctx.wait();
    assert.equal(request.result(), 10);
    await ctx.close();
    for (const strange of [{}, [], { open() {} }, { probe() {} }, { open: 1, probe: 2 }, null]) {
      assert.throws(
        () => new AioContext({ maxRequests: 1, engine: strange as never }),
        coded('ERR_INVALID_ARG_TYPE', /options\.engine/),
      );
    }
  });

  test('getLimits gives the sysctl, the page size, and what a file needs', (t) => {
    const limits = getLimits(undefined, 'kernel-aio');
    assert.equal(limits.maxOutstanding, maxRequestsOfKernelAio());
    assert.ok(limits.bufferAlignment >= 4096 && limits.offsetAlignment >= 4096);
    const { path } = scratchFile(t, 4096);
    const own = getLimits(path, 'kernel-aio');
    assert.ok(own.offsetAlignment >= 512 && own.offsetAlignment <= 4096);
    assert.throws(() => getLimits(`${path}-not-there`), {
      code: 'ENOENT',
      syscall: 'statx',
      errno: -2,
      path: `${path}-not-there`,
    });
    assert.throws(() => getLimits(undefined, 7 as never), coded('ERR_INVALID_ARG_TYPE', /"engine" argument/));
    assert.throws(() => getLimits(7 as never), coded('ERR_INVALID_ARG_TYPE'));
    assert.throws(
      () => getLimits(path, 'rocket' as never),
      coded('ERR_INVALID_ARG_VALUE', /'kernel-aio'.*'threads', 'auto'/),
    );
  });

  test('FILEAIO_ENGINE overrides auto, and only auto', async (t) => {
    const program = script(
      t,
      `import { AioContext } from './src/index.ts';
      try { const c = new AioContext({ maxRequests: 1, engine: process.argv[2] }); console.log(c.engine); } catch (e) { console.log(e.code, e.message); }`,
    );
    const engineFor = async (wanted: string, asked: string): Promise<string> => {
      return (await child(process.execPath, [...program, asked], { FILEAIO_ENGINE: wanted })).stdout.trim();
    };
    assert.equal(await engineFor('kernel-aio', 'auto'), 'kernel-aio');
    assert.match(await engineFor('rocket', 'auto'), /^ERR_INVALID_ARG_VALUE .*FILEAIO_ENGINE.*rocket/);
    assert.equal(await engineFor('rocket', 'kernel-aio'), 'kernel-aio');
    assert.equal(await engineFor('threads', 'auto'), 'threads');
    assert.equal(await engineFor('threads', 'kernel-aio'), 'kernel-aio');
    assert.equal(await engineFor('', 'auto'), engines().find(({ available }) => available)?.name);
  });

  test('used-up aio-max-nr is ERR_AIO_INSUFFICIENT_EVENTS, with the sysctl, its value and what was needed', async () => {
    const { maxOutstanding } = getLimits(undefined, 'kernel-aio');
    const all: AioContext[] = [];
    try {
      // Others may use some: take the rest in ever smaller pieces.
      for (let size = maxOutstanding; size >= 1; size = Math.floor(size / 2)) {
        try {
          all.push(new AioContext({ maxRequests: size, engine: 'kernel-aio' }));
        } catch (error) {
          assert.ok(error instanceof AioError);
          assert.equal(error.code, 'ERR_AIO_INSUFFICIENT_EVENTS');
          assert.equal(error.errno, -11);
          assert.equal(error.syscall, 'io_setup');
          assert.match(error.message, new RegExp(`aio-max-nr is ${maxOutstanding}, of which \\d+ are in use`));
          assert.match(error.message, /sysctl -w fs\.aio-max-nr=\d+/);
        }
      }
      assert.throws(
        () => new AioContext({ maxRequests: maxOutstanding, engine: 'kernel-aio' }),
        coded('ERR_AIO_INSUFFICIENT_EVENTS', new RegExp(`for ${maxOutstanding} requests`)),
      );
    } finally {
      await Promise.all(all.map((each) => each.close()));
    }
    await new AioContext({ maxRequests: 8, engine: 'kernel-aio' }).close();
  });

  for (const [injected, why, code] of [
    [['io_setup:error=ENOSYS'], /CONFIG_AIO/, 'ERR_AIO_NOT_SUPPORTED'],
    [['io_setup:error=EPERM'], /seccomp/, 'ERR_AIO_NOT_SUPPORTED'],
    [['io_setup:error=EAGAIN'], /aio-max-nr is \d+/, 'ERR_AIO_INSUFFICIENT_EVENTS'],
    [['io_getevents:error=ENOSYS'], /io_getevents answered ENOSYS.*CONFIG_AIO/, 'ERR_AIO_NOT_SUPPORTED'],
    [['io_setup:error=EPERM', 'io_uring_setup:error=EPERM'], /seccomp/, 'ERR_AIO_NOT_SUPPORTED'],
    [['io_setup:error=EPERM', 'io_uring_enter:error=EPERM'], /seccomp/, 'ERR_AIO_NOT_SUPPORTED'],
    [['io_setup:error=EPERM', 'io_uring_register:error=EPERM'], /seccomp/, 'ERR_AIO_NOT_SUPPORTED'],
    [['io_setup:error=ENOSYS', 'io_uring_setup:error=ENOSYS'], /CONFIG_AIO/, 'ERR_AIO_NOT_SUPPORTED'],
  ] as const) {
    test(`${injected.join(' and ')}: the next engine does it, and the reason is told`, async (t) => {
      if (spawnSync('strace', ['-V']).status !== 0) {
        t.skip('strace is not installed');
        return;
      }
      const {
        code: ended,
        stdout,
        stderr,
      } = await child('strace', [
        ...['-f', '--seccomp-bpf', '-o', '/dev/null', '-e', `trace=${injected.map(syscallOf).join(',')}`],
        ...injected.flatMap((each) => ['-e', `inject=${each}`]),
        ...[process.execPath, ...script(t, TRANSFER)],
      ]);
      assert.equal(ended, 0, stderr);
      const { found, limits, most, engine, bytes, refused } = JSON.parse(stdout);
      const kernelAio = found.find(({ name }: { name: string }) => name === 'kernel-aio');
      assert.equal(kernelAio.available, false);
      assert.match(kernelAio.why, why);
      assert.equal(engine, found.find(({ available }: { available: boolean }) => available).name);
      assert.notEqual(engine, 'kernel-aio');
      if (injected.length > 1) assert.equal(engine, 'threads');
      assert.equal(bytes, 16);
      assert.ok(limits.maxOutstanding >= 1024);
      // What is used up now is not less than it was.
      assert.equal(most, code === 'ERR_AIO_INSUFFICIENT_EVENTS' ? maxRequestsOfKernelAio() : code);
      // One asked for by name is never replaced.
      assert.deepEqual(refused['kernel-aio'].slice(0, 2), [code, syscallOf(injected[0])]);
      const ioUring = found.find(({ name }: { name: string }) => name === 'io-uring');
      for (const syscall of injected.map(syscallOf).filter((name) => name.startsWith('io_uring'))) {
        assert.match(ioUring.why, new RegExp(`${syscall} answered`));
        assert.deepEqual(refused['io-uring'].slice(0, 2), ['ERR_AIO_NOT_SUPPORTED', syscall]);
      }
      assert.match(refused['kernel-aio'][2], why);
      const others = found
        .filter(({ available }: { available: boolean }) => available)
        .map(({ name }: { name: string }) => `'${name}'`);
      if (code === 'ERR_AIO_NOT_SUPPORTED') {
        assert.ok(refused['kernel-aio'][2].includes(`What works here: ${others.join(', ')}; 'auto' takes`));
      }
      assert.equal(refused.threads, undefined);
    });
  }

  test('an aio-max-nr of 0 is ERR_AIO_INSUFFICIENT_EVENTS by name, and nothing to auto', async (t) => {
    if (process.getuid?.() !== 0 || spawnSync('unshare', ['-m', 'strace', '-V']).status !== 0) {
      t.skip('needs root, mount namespaces and strace, to have the sysctl say 0');
      return;
    }
    const none = join(scratch(t), 'aio-max-nr');
    writeFileSync(none, '0\n');
    const program = `import { AioContext } from './src/index.ts';
      const context = new AioContext({ maxRequests: 1 });
      try { new AioContext({ maxRequests: 1, engine: 'kernel-aio' }); } catch (e) { console.log(context.engine, e.code, e.message); }
      await context.close();`;
    const { code, stdout, stderr } = await child('unshare', [
      ...['-m', 'sh', '-c', 'mount --bind "$0" /proc/sys/fs/aio-max-nr && exec "$@"', none],
      ...['strace', '-f', '--seccomp-bpf', '-o', '/dev/null', '-e', 'trace=io_setup,io_uring_setup'],
      ...['-e', 'inject=io_setup:error=EAGAIN', '-e', 'inject=io_uring_setup:error=EPERM'],
      ...[process.execPath, ...script(t, program)],
    ]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^threads ERR_AIO_INSUFFICIENT_EVENTS .*aio-max-nr is 0,/);
  });

  test('the library twice over one shim in one thread: each hears of its own', async (t) => {
    const copy = scratch(t);
    cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true });
    cpSync(join(root, 'package.json'), join(copy, 'package.json'));
    symlinkSync(join(root, 'native'), join(copy, 'native'));
    const program = `import * as one from './src/index.ts';
      const other = await import(${JSON.stringify(join(copy, 'dist/index.js'))});
      for (const { name, available } of one.engines()) {
        if (!available) continue;
        const make = ({ AioContext }) => new AioContext({ maxRequests: 1, engine: name, waitWithoutPendingRequests: true });
        const contexts = [make(one), make(other), make(one)];
        const woken = contexts.map((context) => context.wait());
        await new Promise(setImmediate);
        for (const [index, context] of contexts.entries()) (index === 1 ? one : other).wake(context.waker);
        const reasons = (await Promise.all(woken)).map(({ reason }) => reason);
        await Promise.all(contexts.map((context) => context.close()));
        console.log(name, new Set([one.AioContext, other.AioContext]).size, ...reasons);
      }`;
    const { code, stdout, stderr } = await child(process.execPath, script(t, program));
    assert.equal(code, 0, stderr);
    const available = engines().filter((engine) => engine.available);
    assert.equal(stdout, available.map(({ name }) => `${name} 2 woken woken woken\n`).join(''));
  });

  test('without a compiler the package still installs, and says what is missing', async () => {
    const build = (...args: string[]) =>
      child(process.execPath, ['scripts/build-native.mjs', ...args], { CC: '/nonexistent/cc' });
    const optional = await build('--optional');
    assert.equal(optional.code, 0);
    assert.match(optional.stderr, /native shim was not built: no C compiler/);
    assert.match(optional.stderr, /npm run build:native/);
    assert.equal((await build()).code, 1);
  });

  test('without the shim threads do it, and everything else says what to do', async (t) => {
    const copy = scratch(t);
    cpSync(join(root, 'src'), join(copy, 'src'), { recursive: true });
    cpSync(join(root, 'package.json'), join(copy, 'package.json'));
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    const script = join(copy, 'script.ts');
    writeFileSync(script, TRANSFER.replaceAll('package.json', join(copy, 'package.json')));
    const { code, stdout, stderr } = await child(process.execPath, ['--import', 'tsx', script]);
    assert.equal(code, 0, stderr);
    const { found, limits, engine, bytes, refused } = JSON.parse(stdout);
    for (const { name, available, why } of found.slice(0, -1)) {
      assert.equal(available, false);
      assert.match(why, /native shim is not built.*npm run build:native/);
      assert.equal(refused[name][0], 'ERR_AIO_NOT_SUPPORTED');
      assert.match(refused[name][2], /npm run build:native/);
    }
    assert.equal(engine, 'threads');
    assert.equal(bytes, 16);
    assert.equal(limits.bufferAlignment, 512);
    const told = await child(process.execPath, ['--import', 'tsx', join(copy, 'src/cli/main.ts'), 'info']);
    assert.equal(told.code, 0, told.stderr);
    assert.match(told.stdout, /^engine kernel-aio +not available: .*npm run build:native/m);
    assert.match(told.stdout, /^engine threads +available$/m);
  });
});
