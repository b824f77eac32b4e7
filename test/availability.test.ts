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
  console.log(JSON.stringify({ found, limits, engine: context.engine, bytes: request.result(), refused }));`;

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
    const max = Number(readFileSync('/proc/sys/fs/aio-max-nr', 'utf8'));
    const limits = getLimits(undefined, 'kernel-aio');
    assert.equal(limits.maxOutstanding, Math.min(max, 4_194_302));
    assert.ok(limits.bufferAlignment >= 4096 && limits.offsetAlignment >= 4096);
    const { path } = scratchFile(t, 4096);
    const own = getLimits(path, 'kernel-aio');
    assert.ok(own.offsetAlignment >= 512 && own.offsetAlignment <= 4096);
    assert.throws(() => getLimits(`${path}-not-there`), coded('ENOENT', /statx/));
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
    [['io_setup:error=EPERM', 'io_uring_setup:error=EPERM'], /seccomp/, 'ERR_AIO_NOT_SUPPORTED'],
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
        ...['-f', '--seccomp-bpf', '-o', '/dev/null', '-e', 'trace=io_setup,io_uring_setup'],
        ...injected.flatMap((each) => ['-e', `inject=${each}`]),
        ...[process.execPath, ...script(t, TRANSFER)],
      ]);
      assert.equal(ended, 0, stderr);
      const { found, limits, engine, bytes, refused } = JSON.parse(stdout);
      const kernelAio = found.find(({ name }: { name: string }) => name === 'kernel-aio');
      assert.equal(kernelAio.available, false);
      assert.match(kernelAio.why, why);
      assert.equal(engine, found.find(({ available }: { available: boolean }) => available).name);
      assert.notEqual(engine, 'kernel-aio');
      if (injected.length > 1) assert.equal(engine, 'threads');
      assert.equal(bytes, 16);
      assert.ok(limits.maxOutstanding >= 1024);
      // One asked for by name is never replaced.
      assert.deepEqual(refused['kernel-aio'].slice(0, 2), [code, 'io_setup']);
      assert.match(refused['kernel-aio'][2], why);
      assert.equal(refused.threads, undefined);
    });
  }

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
