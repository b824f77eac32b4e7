/** What carries the calls of files: batches, order, room, failures of the kernel, and the current position. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readlinkSync, readSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { allocBuffer, engines } from '../src/index.ts';
import { open } from '../src/promises.ts';
import { child, scratch, scratchFile, script, smallFileSystem } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const available = engines().flatMap(({ name, available: works }) => (works ? [name] : []));

/** The libuv of some versions of Node has a ring of its own, and ends the process over what is injected into it. */
const ringsOfLibuv = readdirSync('/proc/self/fd').filter((fd) => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).includes('io_uring');
  } catch {
    return false;
  }
}).length;

/** Runs a program under strace; `undefined` where there is none. */
async function traced(t: TestContext, options: readonly string[], text: string, log = '/dev/null') {
  if (spawnSync('strace', ['-V']).status !== 0) {
    t.skip('strace is not installed');
    return undefined;
  }
  const env = { UV_USE_IO_URING: '0' };
  return child('strace', ['-f', '--seccomp-bpf', '-o', log, ...options, process.execPath, ...script(t, text)], env);
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

  test('what has ended and was not told by then comes all the same when another ring takes over', async (t) => {
    if (!available.includes('io-uring')) return t.skip('there is no io_uring here');
    if (process.getuid?.() !== 0) return t.skip('only root may become somebody else');
    // Hundreds end within one look, and are told some at a time: the user changes in between.
    const text = `${IMPORTS}
       const handle = await open('/etc/passwd', { engine: 'io-uring' });
       const read = () => handle.read(Buffer.alloc(1), 0, 1, 0);
       await read();
       let told = 0;
       const reads = Array.from({ length: 250 }, async () => {
         await read();
         if (++told === 1) {
           process.seteuid(65534);
           reads.push(read());
         }
       });
       for (const each of reads) await each;
       console.log(told, reads.length, process.geteuid());
       process.seteuid(0);
       await handle.close();`;
    const { code, stdout, stderr } = await child(process.execPath, script(t, text));
    assert.equal(code, 0, stderr);
    assert.equal(stdout, '250 251 65534\n');
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
      if (engine === 'io-uring' && ringsOfLibuv > 0)
        return t.skip('libuv has a ring here, and dies of what is injected');
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
       await handle.close();`,
    );
    if (ended === undefined) return undefined;
    assert.equal(ended.stdout, 'EINVAL,EINVAL,EINVAL,EINVAL,EINVAL\n', ended.stderr);
    assert.equal(ended.code, 0);
    return undefined;
  });

  for (const errno of ['EIO', 'EINTR']) {
    test(`completions that a ring does not give out any more (${errno}) fail the calls, and the program ends`, async (t) => {
      if (!available.includes('io-uring')) return t.skip('there is no io_uring here');
      if (ringsOfLibuv > 0) return t.skip('libuv has a ring of its own here, and ends the process over its errors');
      const fifo = join(scratch(t), 'fifo');
      execFileSync('mkfifo', [fifo]);
      const { path } = scratchFile(t, 4096);
      // Before the submissions the engine is tried. The first is the read that nothing ends; whatever comes after the second fails.
      const ended = await traced(
        t,
        ['-e', 'trace=io_uring_enter', '-e', `inject=io_uring_enter:error=${errno}:when=4+`],
        `${IMPORTS}
         const handle = await open('${fifo}', { flags: 'r+', engine: 'io-uring' });
         const file = await open('${path}', { engine: 'io-uring' });
         const first = handle.read(Buffer.alloc(10)).catch(({ code }) => code);
         await new Promise(setImmediate);
         const second = await file.read(Buffer.alloc(64), 0, 64, 0).then(({ bytesRead }) => bytesRead);
         await handle.write('abc').catch(() => {});
         console.log(second, await first);
         await file.close();
         await handle.close();`,
      );
      if (ended === undefined) return undefined;
      assert.equal(ended.stdout, `64 ${errno}\n`, ended.stderr);
      assert.equal(ended.code, 0);
      return undefined;
    });
  }

  test('a call that was given up brings nothing into the memory that its caller has back', async (t) => {
    if (!available.includes('kernel-aio')) return t.skip('there is no kernel AIO here');
    const { path } = scratchFile(t, 4096);
    const ended = await traced(
      t,
      ['-e', 'trace=io_getevents', '-e', 'inject=io_getevents:error=EINVAL:when=1..410'],
      `${IMPORTS}
       const handle = await open('${path}', { engine: 'kernel-aio' });
       const mine = Buffer.alloc(64);
       const first = await handle.read(mine, 0, 64, 0).then(() => 'ok', ({ code }) => code);
       mine.fill('U');
       const second = await handle.read(Buffer.alloc(64), 0, 64, 64).then(() => 'ok', ({ code }) => code);
       console.log(first, second, mine.every((byte) => byte === 85));
       await handle.close();`,
    );
    if (ended === undefined) return undefined;
    assert.equal(ended.stdout, 'EINVAL ok true\n', ended.stderr);
    return undefined;
  });

  test("with 'auto', calls that wait for a ring that cannot be renewed go to the next engine", async (t) => {
    if (available[0] !== 'io-uring') return t.skip('there is no io_uring here');
    if (ringsOfLibuv > 0) return t.skip('libuv has a ring here, whose setup is not to be told from ours');
    if (process.getuid?.() !== 0) return t.skip('only root may become somebody else');
    const ended = await traced(
      t,
      ['-e', 'trace=io_uring_setup', '-e', 'inject=io_uring_setup:error=EPERM:when=2+'],
      `${IMPORTS}
       const handle = await open('/etc/passwd');
       await handle.read(Buffer.alloc(1), 0, 1, 0);
       process.seteuid(65534);
       const results = await Promise.all([1, 2].map(() => handle.read(Buffer.alloc(10), 0, 10, 0)));
       console.log(results.map(({ bytesRead }) => bytesRead).join(), handle.engine);
       await handle.close();`,
    );
    if (ended === undefined) return undefined;
    assert.equal(ended.stdout, '10,10 threads\n', ended.stderr);
    return undefined;
  });

  test('an abort takes back what a ring has, also after a change of user', async (t) => {
    if (!available.includes('io-uring')) return t.skip('there is no io_uring here');
    if (process.getuid?.() !== 0) return t.skip('only root may become somebody else');
    const fifo = join(scratch(t), 'fifo');
    execFileSync('mkfifo', ['-m', '666', fifo]);
    const text = `${IMPORTS}
       const handle = await open('${fifo}', { flags: 'r+', engine: 'io-uring' });
       const aborter = new AbortController();
       const reading = handle.read(Buffer.alloc(1), { signal: aborter.signal });
       await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
       process.seteuid(65534);
       aborter.abort();
       console.log(await reading.catch(({ name }) => name));
       await handle.close();`;
    const { stdout, stderr } = await child(process.execPath, script(t, text));
    assert.equal(stdout, 'AbortError\n', stderr);
    return undefined;
  });

  test('fake timers do not stop files', async (t) => {
    const text = `${IMPORTS} import { readFile } from './src/promises.ts';
       const never = () => 0;
       Object.assign(globalThis, { setTimeout: never, setInterval: never, setImmediate: never });
       process.nextTick = never;
       performance.now = () => 5;
       console.log((await readFile('/etc/passwd')).length > 0);`;
    const { stdout, stderr } = await child(process.execPath, script(t, text));
    assert.equal(stdout, 'true\n', stderr);
  });

  test("with 'auto', an engine that can be had no more gives way to the next", async (t) => {
    if (available[0] !== 'io-uring') return t.skip('there is no io_uring here');
    if (ringsOfLibuv > 0) return t.skip('libuv has a ring here, whose setup is not to be told from ours');
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

  for (const engine of available.filter((name) => name !== 'kernel-aio')) {
    test(`${engine}: what has no position is read and written at the same time`, async (t) => {
      const fifo = join(scratch(t), 'fifo');
      execFileSync('mkfifo', [fifo]);
      const handle = await open(fifo, { flags: 'r+', engine });
      const reading = handle.read(Buffer.alloc(3));
      await handle.write('abc');
      assert.equal((await reading).buffer.toString(), 'abc');
      await handle.close();
    });

    test(`${engine}: a pipe gives what it has, to however many buffers`, async (t) => {
      const fifo = join(scratch(t), 'fifo');
      execFileSync('mkfifo', [fifo]);
      const handle = await open(fifo, { flags: 'r+', engine });
      await handle.write('x'.repeat(1024));
      const { bytesRead } = await handle.readv(Array.from({ length: 1100 }, () => Buffer.alloc(1)));
      assert.equal(bytesRead, 1024);
      await handle.close();
    });
  }

  for (const engine of available) {
    test(`${engine}: is behind what was written, also where the rest was not`, async (t) => {
      if (process.getuid?.() !== 0) return t.skip('only root may mount a small file system');
      const handle = await open(join(smallFileSystem(t, '64k'), 'file'), { flags: 'w+', engine });
      await assert.rejects(handle.writeFile(Buffer.alloc(200_000, 'y')), { code: 'ENOSPC' });
      const { size } = await handle.stat();
      assert.ok(size > 0);
      await handle.truncate(0);
      await handle.write('Z');
      assert.equal((await handle.stat()).size, size + 1);
      await handle.close();
      return undefined;
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
