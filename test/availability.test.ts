/** What happens where kernel AIO is not to be had: no compiler, no shim, no room, a kernel that says no. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AioContext, AioError, engines, getLimits } from '../src/index.ts';
import { child, coded, scratch, scratchFile } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

describe('availability', () => {
  test('engines() finds kernel AIO by trying it', () => {
    assert.deepEqual(engines(), [{ name: 'kernel-aio', available: true }]);
    assert.deepEqual(engines(), [{ name: 'kernel-aio', available: true }]);
  });

  test('getLimits gives the sysctl, the page size, and what a file needs', (t) => {
    const max = Number(readFileSync('/proc/sys/fs/aio-max-nr', 'utf8'));
    const limits = getLimits();
    assert.equal(limits.maxOutstanding, Math.min(max, 4_194_302));
    assert.ok(limits.bufferAlignment >= 4096 && limits.offsetAlignment >= 4096);
    const { path } = scratchFile(t, 4096);
    const own = getLimits(path, 'kernel-aio');
    assert.ok(own.offsetAlignment >= 512 && own.offsetAlignment <= 4096);
    assert.throws(() => getLimits(`${path}-not-there`), coded('ENOENT', /statx/));
    assert.throws(() => getLimits(7 as never), coded('ERR_INVALID_ARG_TYPE'));
    assert.throws(() => getLimits(path, 'rocket' as never), coded('ERR_INVALID_ARG_VALUE', /'kernel-aio', 'auto'/));
  });

  test('FILEAIO_ENGINE overrides auto, and only auto', async () => {
    const script = `import { AioContext } from './src/index.ts';
      try { const c = new AioContext({ maxRequests: 1, engine: process.argv[1] }); console.log(c.engine); } catch (e) { console.log(e.code, e.message); }`;
    const engineFor = async (wanted: string, asked: string): Promise<string> => {
      const node = ['--import', 'tsx', '--input-type=module', '-e', script, asked];
      return (await child(process.execPath, node, { FILEAIO_ENGINE: wanted })).stdout.trim();
    };
    assert.equal(await engineFor('kernel-aio', 'auto'), 'kernel-aio');
    assert.match(await engineFor('rocket', 'auto'), /^ERR_INVALID_ARG_VALUE .*FILEAIO_ENGINE.*rocket/);
    assert.equal(await engineFor('rocket', 'kernel-aio'), 'kernel-aio');
    assert.equal(await engineFor('', 'auto'), 'kernel-aio');
  });

  test('used-up aio-max-nr is ERR_AIO_INSUFFICIENT_EVENTS, with the sysctl, its value and what was needed', async () => {
    const { maxOutstanding } = getLimits();
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
        () => new AioContext({ maxRequests: maxOutstanding, engine: 'auto' }),
        coded('ERR_AIO_INSUFFICIENT_EVENTS', new RegExp(`for ${maxOutstanding} requests`)),
      );
    } finally {
      await Promise.all(all.map((each) => each.close()));
    }
    await new AioContext({ maxRequests: 8, engine: 'kernel-aio' }).close();
  });

  for (const [error, why] of [
    ['ENOSYS', /CONFIG_AIO/],
    ['EPERM', /seccomp/],
  ] as const) {
    test(`io_setup answering ${error} makes the engine unavailable, and says why`, async (t) => {
      if (spawnSync('strace', ['-V']).status !== 0) {
        t.skip('strace is not installed');
        return;
      }
      const script = `import { AioContext, engines } from './src/index.ts';
        console.log(JSON.stringify(engines()));
        try { new AioContext({ maxRequests: 1 }); } catch (e) { console.log(e.code, e.syscall, e.message); }`;
      const { code, stdout, stderr } = await child('strace', [
        ...['-f', '-o', '/dev/null', '-e', 'trace=io_setup', '-e', `inject=io_setup:error=${error}`],
        ...[process.execPath, '--import', 'tsx', '--input-type=module', '-e', script],
      ]);
      assert.equal(code, 0, stderr);
      const [found, thrown] = stdout.trim().split('\n');
      const [info] = JSON.parse(found ?? '');
      assert.equal(info.available, false);
      assert.match(info.why, why);
      assert.match(thrown ?? '', /^ERR_AIO_NOT_SUPPORTED io_setup .*'kernel-aio'/);
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

  test('without the shim everything says what to do', async (t) => {
    const copy = scratch(t);
    cpSync(join(root, 'src'), join(copy, 'src'), { recursive: true });
    cpSync(join(root, 'package.json'), join(copy, 'package.json'));
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    const script = join(copy, 'script.ts');
    writeFileSync(
      script,
      `import { AioContext, AioRequest, allocBuffer, engines } from './src/index.ts';
      const thrown = (f: () => unknown) => { try { f(); return 'nothing'; } catch (e) { return e.code + ' ' + e.message; } };
      new AioRequest().prepareRead(0, 0, new Uint8Array(8)).dispose();
      console.log(JSON.stringify([engines(), thrown(() => new AioContext({ maxRequests: 1 })), thrown(() => allocBuffer(8))]));`,
    );
    const { code, stdout, stderr } = await child(process.execPath, ['--import', 'tsx', script]);
    assert.equal(code, 0, stderr);
    const [found, context, buffer] = JSON.parse(stdout);
    assert.equal(found[0].available, false);
    assert.match(found[0].why, /native shim is not built.*npm run build:native/);
    assert.match(context, /^ERR_AIO_NOT_SUPPORTED .*npm run build:native/);
    assert.match(buffer, /^ERR_AIO_NOT_SUPPORTED .*npm run build:native/);
  });
});
