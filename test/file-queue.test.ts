/** What carries the calls of files: batches, order, room, failures of the kernel, and the current position. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, readSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { allocBuffer, engines } from '../src/index.ts';
import { open } from '../src/promises.ts';
import { child, scratch, scratchFile, script } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const available = engines().flatMap(({ name, available: works }) => (works ? [name] : []));

/** Runs a program under strace; `undefined` where there is none. */
async function traced(t: TestContext, options: readonly string[], text: string, log = '/dev/null') {
  if (spawnSync('strace', ['-V']).status !== 0) {
    t.skip('strace is not installed');
    return undefined;
  }
  return child('strace', ['-f', '-o', log, ...options, process.execPath, ...script(t, text)]);
}

const IMPORTS = `import { open } from './src/promises.ts'; import { allocBuffer } from './src/index.ts';`;

describe('the queue of an engine', () => {
  test('all calls of one tick go down in one system call', async (t) => {
    if (!available.includes('kernel-aio')) return t.skip('there is no kernel AIO here');
    const { path } = scratchFile(t, 65_536);
    const log = join(scratch(t), 'log');
    const ended = await traced(
      t,
      ['-e', 'trace=io_submit'],
      `${IMPORTS}
       const handle = await open('${path}', { direct: true, engine: 'kernel-aio' });
       const read = async (i) => (await handle.read(allocBuffer(512), 0, 512, i * 512)).bytesRead;
       const all = await Promise.all(Array.from({ length: 100 }, (_, i) => i % 2 ? read(i) : Promise.resolve().then(() => read(i))));
       console.log(all.reduce((a, b) => a + b));
       await handle.close();`,
      log,
    );
    if (ended === undefined) return undefined;
    assert.equal(ended.stdout.trim(), '51200', ended.stderr);
    const calls = execFileSync('grep', ['-o', 'io_submit([^,]*, [0-9]*', log], { encoding: 'utf8' });
    assert.match(calls, /^io_submit\([^,]*, 100\n$/);
    return undefined;
  });

  test('after a change of user, another ring carries the calls', async (t) => {
    if (!available.includes('io-uring')) return t.skip('there is no io_uring here');
    if (process.getuid?.() !== 0) return t.skip('only root may become somebody else');
    const text = `${IMPORTS}
       const handle = await open('/etc/passwd', { engine: 'io-uring' });
       await handle.read(Buffer.alloc(1), 0, 1, 0);
       process.seteuid(65534);
       const results = await Promise.all(Array.from({ length: 10 }, () => handle.read(Buffer.alloc(1), 0, 1, 0)));
       console.log(results.length, handle.engine, process.geteuid());
       process.seteuid(0);
       await handle.read(Buffer.alloc(1), 0, 1, 0);
       await handle.close();`;
    const { code, stdout, stderr } = await child(process.execPath, script(t, text));
    assert.equal(code, 0, stderr);
    assert.equal(stdout, '10 io-uring 65534\n');
    return undefined;
  });

  for (const [inject, engine] of [
    ['io_submit:error=EAGAIN:when=1..3', 'kernel-aio'],
    ['io_submit:error=EINTR:when=1..3', 'kernel-aio'],
    ['io_getevents:error=EINTR:when=1..5', 'kernel-aio'],
    ['io_getevents:error=EAGAIN:when=1..20', 'kernel-aio'],
    ['io_uring_enter:error=EAGAIN:when=1..3', 'io-uring'],
    ['io_uring_enter:error=EBUSY:when=1..3', 'io-uring'],
    ['io_uring_enter:error=EINTR:when=1..3', 'io-uring'],
  ] as const) {
    test(`${inject}: the calls wait, and come through`, async (t) => {
      if (!available.includes(engine)) return t.skip(`there is no ${engine} here`);
      const { path } = scratchFile(t, 65_536);
      const ended = await traced(
        t,
        ['-e', `trace=${inject.split(':')[0]}`, '-e', `inject=${inject}`],
        `${IMPORTS}
         const handle = await open('${path}', { direct: true, engine: '${engine}' });
         const all = await Promise.all(Array.from({ length: 50 }, (_, i) => handle.read(allocBuffer(512), 0, 512, i * 512)));
         console.log(all.length, all.every(({ bytesRead }) => bytesRead === 512));
         await handle.close();`,
      );
      if (ended === undefined) return undefined;
      assert.equal(ended.stdout, '50 true\n', ended.stderr);
      assert.equal(ended.code, 0);
      return undefined;
    });
  }

  test('an engine that fails for good fails the calls: none is left behind', async (t) => {
    if (!available.includes('kernel-aio')) return t.skip('there is no kernel AIO here');
    const { path } = scratchFile(t, 4096);
    const ended = await traced(
      t,
      ['-e', 'trace=io_getevents', '-e', 'inject=io_getevents:error=EINVAL'],
      `${IMPORTS}
       const handle = await open('${path}', { direct: true, engine: 'kernel-aio' });
       const calls = Array.from({ length: 5 }, () => handle.read(allocBuffer(512), 0, 512, 0));
       const ends = await Promise.allSettled(calls);
       console.log(ends.map(({ reason }) => reason.code).join());
       await handle.close();
       process.exit(0);`,
    );
    if (ended === undefined) return undefined;
    assert.equal(ended.stdout, 'EINVAL,EINVAL,EINVAL,EINVAL,EINVAL\n', ended.stderr);
    assert.equal(ended.code, 0);
    return undefined;
  });

  test("with 'auto', an engine that can be had no more gives way to the next", async (t) => {
    if (available[0] !== 'io-uring') return t.skip('there is no io_uring here');
    const { path } = scratchFile(t, 4096);
    const ended = await traced(
      t,
      ['-e', 'trace=io_uring_setup', '-e', 'inject=io_uring_setup:error=EPERM:when=2+'],
      `${IMPORTS} import { readdirSync, readlinkSync } from 'node:fs';
       const rings = () => readdirSync('/proc/self/fd').filter((fd) => { try { return readlinkSync('/proc/self/fd/' + fd).includes('io_uring'); } catch {} }).length;
       const handle = await open('${path}');
       const before = [(await handle.read(Buffer.alloc(10), 0, 10, 0)).bytesRead, handle.engine];
       while (rings() > 0) await new Promise((resolve) => setTimeout(resolve, 10));
       const after = [(await handle.read(Buffer.alloc(10), 0, 10, 0)).bytesRead, handle.engine];
       console.log([...before, ...after].join());
       await handle.close();`,
    );
    if (ended === undefined) return undefined;
    assert.equal(ended.stdout, '10,io-uring,10,threads\n', ended.stderr);
    return undefined;
  });

  test('without the shim files work all the same, through threads', async (t) => {
    const copy = scratch(t);
    cpSync(join(root, 'src'), join(copy, 'src'), { recursive: true });
    cpSync(join(root, 'package.json'), join(copy, 'package.json'));
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    writeFileSync(
      join(copy, 'script.ts'),
      `import { open, readFile, writeFile, copyFile } from './src/promises.ts';
       await writeFile('f', 'x'.repeat(100_000));
       const handle = await open('f', 'r+');
       await handle.write('abc');
       await handle.write('def');
       const { bytesRead, buffer } = await handle.read();
       await handle.sync();
       await handle.close();
       await copyFile('f', 'g');
       console.log(handle.engine, bytesRead, buffer.toString('utf8', 0, 3), (await readFile('g', 'utf8')).slice(0, 8));`,
    );
    const run = ['--import', join(root, 'node_modules/tsx/dist/esm/index.mjs'), 'script.ts'];
    const { code, stdout, stderr } = await child(process.execPath, run, {}, copy);
    assert.equal(code, 0, stderr);
    assert.equal(stdout, 'threads 16384 xxx abcdefxx\n');
  });
});

describe('files and the event loop', () => {
  for (const engine of available) {
    test(`${engine}: reads that are always there at once leave room for timers and sockets`, async (t) => {
      const { path } = scratchFile(t, 1 << 20, 0, '/dev/shm');
      const handle = await open(path, { direct: engine === 'kernel-aio', engine });
      t.after(() => handle.close());
      let turns = 0;
      let reads = 0;
      const turn = (): void => {
        turns++;
        if (reads < 20_000) setImmediate(turn);
      };
      setImmediate(turn);
      const reader = async (): Promise<void> => {
        const buffer = allocBuffer(4096);
        while (reads++ < 20_000) await handle.read(buffer, 0, 4096, (reads % 256) * 4096);
      };
      await Promise.all(Array.from({ length: 16 }, reader));
      assert.ok(turns > 20, `${turns} turns`);
    });
  }
});

describe('the current position', () => {
  for (const engine of available) {
    test(`${engine}: is the kernel's, in order, whoever else uses the descriptor`, async (t) => {
      const { path, data } = scratchFile(t, 10_000);
      const handle = await open(path, { flags: 'r+', engine });
      t.after(() => handle.close());
      const buffers = Array.from({ length: 20 }, () => Buffer.alloc(100));
      await Promise.all(buffers.map((buffer) => handle.read(buffer)));
      assert.deepEqual(Buffer.concat(buffers), data.subarray(0, 2_000));
      const next = Buffer.alloc(100);
      assert.equal(readSync(handle.fd, next), 100);
      assert.deepEqual(next, data.subarray(2_000, 2_100));
      await handle.write('here');
      await handle.read(next, 0, 50, 0); // leaves it alone
      await handle.read(next, 0, 100, null);
      assert.deepEqual(next, data.subarray(2_104, 2_204));
    });

    test(`${engine}: after appending it is the end`, async (t) => {
      const { path } = scratchFile(t, 100);
      const handle = await open(path, { flags: 'a+', engine });
      t.after(() => handle.close());
      await handle.write('abc');
      assert.equal((await handle.read(Buffer.alloc(10))).bytesRead, 0);
      assert.equal((await handle.read(Buffer.alloc(10), 0, 10, 100)).bytesRead, 3);
    });
  }

  test('a read that waits for its turn behind one that never ends can be taken back at once', async (t) => {
    const fifo = join(scratch(t), 'fifo');
    execFileSync('mkfifo', [fifo]);
    const handle = await open(fifo, 'r+');
    const first = handle.read(Buffer.alloc(3));
    const aborter = new AbortController();
    const second = handle.read(Buffer.alloc(3), { signal: aborter.signal });
    const third = handle.read(Buffer.alloc(3));
    aborter.abort(new Error('enough'));
    await assert.rejects(second, { name: 'AbortError', code: 'ABORT_ERR' });
    writeFileSync(fifo, 'abcdef');
    assert.equal((await first).buffer.toString(), 'abc');
    assert.equal((await third).buffer.toString(), 'def');
    await handle.close();
  });
});
