/** A file system (FUSE) that answers late, too little, with errors, or never. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { constants, existsSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { open as openWithNode } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { AioRequest, allocBuffer, engines } from '../src/index.ts';
import { open as openFile, readFile, writeFile } from '../src/promises.ts';
import { runCli } from './run-cli.ts';
import { runTypeScript } from './runtime.ts';
import { type Cleanup, coded, context, open, run, scratch } from './support.ts';

const available = engines().flatMap(({ name, available: works }) => (works ? [name] : []));
const SOUND = 1 << 16;
const SHORT = 1000;
const DEADLINE_MS = 30_000;

interface FileSystem extends Cleanup {
  readonly folder: string;
  /** What the process has complained of, and when it has. */
  complaints(): string;
  hasComplained(pattern: RegExp): Promise<void>;
  /** The process behind it is gone at once. */
  die(): void;
}

/** Debian's has a name of its own since 12. */
const PYTHON = ['/usr/bin/python3', 'python3'].find((python) =>
  ['fusepy', 'fuse'].some((module) => spawnSync(python, ['-c', `from ${module} import Operations`]).status === 0),
);

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root may mount';
  if (PYTHON === undefined) return "Python's fusepy is not installed";
  if (!existsSync('/dev/fuse')) spawnSync('modprobe', ['fuse']);
  return existsSync('/dev/fuse') ? undefined : 'this kernel has no FUSE, or hides it';
}

const why = whyNot();

/** Runs `body` with one mounted. When it has ended, however, what it opened is closed, and the file system is gone. */
async function withFileSystem(t: TestContext, body: (fs: FileSystem) => Promise<void>): Promise<void> {
  if (why !== undefined || PYTHON === undefined) {
    t.skip(why);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'fileaio-test-'));
  const program = fileURLToPath(new URL('./programs/fuse-server.py', import.meta.url));
  // Its input ends with this process, and it with that.
  const server = spawn(PYTHON, [program, folder], { stdio: ['pipe', 'pipe', 'pipe'] });
  const die = (): void => void server.kill('SIGKILL');
  const steps: (() => void | Promise<void>)[] = [];
  let text = '';
  server.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const hasComplained = async (pattern: RegExp): Promise<void> => {
    while (!pattern.test(text)) await once(server.stderr, 'data', { signal: AbortSignal.timeout(DEADLINE_MS) });
  };
  try {
    await Promise.race([
      once(server.stdout, 'data'),
      once(server, 'exit').then(() => Promise.reject(new Error(`no file system: ${text}`))),
    ]);
    await body({ folder, die, complaints: () => text, hasComplained, after: (step) => steps.push(step) });
    for (const step of steps.reverse()) await step();
  } finally {
    // Without the process the kernel answers everything that waits for it with an error, and nothing can hang any more.
    die();
    spawnSync('umount', ['-l', folder]);
    rmdirSync(folder);
  }
}

/** What stands in these bytes of every file: each block of 4 KiB holds its number, again and again. */
function content(position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(Math.floor((position + at) / 4096), at);
  return bytes;
}

interface Child {
  readonly process: ChildProcess;
  readonly name: string;
  readonly ended: Promise<unknown>;
  text: string;
}

/** Starts a program that meets a read without an answer; resolves when it is about to. */
async function hanging(t: Cleanup, engine: string, folder: string, file: string, how: string): Promise<Child> {
  const program = fileURLToPath(new URL('./programs/fuse-hang.ts', import.meta.url));
  const spawned = spawn(process.execPath, [...runTypeScript, program, engine, folder, file, how], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
  });
  t.after(() => void spawned.kill('SIGKILL'));
  const child: Child = {
    process: spawned,
    name: `${engine}, ${file}, ${how}`,
    ended: once(spawned, 'close'),
    text: '',
  };
  const begun = new Promise<void>((resolve, reject) => {
    for (const stream of [spawned.stdout, spawned.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        child.text += chunk;
        if (child.text.includes('waiting')) resolve();
      });
    }
    spawned.on('close', () => reject(new Error(`${child.name}: ${child.text}`)));
    // It may be beyond what a signal reaches, until the file system dies.
    setTimeout(() => reject(new Error(`${child.name} hangs: ${child.text}`)), DEADLINE_MS).unref();
  });
  await begun;
  return child;
}

async function says(child: Child, pattern: RegExp): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!pattern.test(child.text)) {
    assert.ok(performance.now() < deadline, `${child.name}: ${child.text}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('a file system that misbehaves', () => {
  test('requests: every outcome as the kernel has it, on every engine, cached and direct', async (t) => {
    await withFileSystem(t, async (fs) => {
      for (const engine of available) {
        for (const flags of [0, constants.O_DIRECT]) {
          for (const way of ['cached', 'direct']) {
            const ctx = context(fs, { maxRequests: 16, engine });
            const fd = (kind: string): number => open(fs, join(fs.folder, `${way}-${kind}`), constants.O_RDWR | flags);
            const which = `${engine}, ${way}${flags === 0 ? '' : ', O_DIRECT'}`;
            const read = async (kind: string, positions: number[]): Promise<AioRequest<Buffer>[]> => {
              const from = fd(kind);
              const reads = positions.map((position) => {
                const buffer = allocBuffer(8192);
                return new AioRequest<Buffer>().prepareRead(from, position, buffer, buffer);
              });
              await run(ctx, reads);
              for (const [index, request] of reads.entries()) {
                const { bytesTransferred, userData } = request;
                const expected = content(positions[index] ?? 0, bytesTransferred);
                assert.ok(userData?.subarray(0, bytesTransferred).equals(expected), `${which}: ${kind}, wrong bytes`);
              }
              return reads;
            };
            for (const kind of ['good', 'late']) {
              for (const request of await read(kind, [0, 1 << 17, 1 << 18])) {
                assert.equal(request.bytesTransferred, 8192, `${which}: ${kind}`);
              }
            }
            const [first, within, beyond] = await read('broken', [0, SOUND - 8192, SOUND]);
            assert.deepEqual([first?.status, within?.status, beyond?.status], ['OK', 'OK', 'EIO'], which);
            assert.deepEqual([beyond?.error?.errno, beyond?.error?.syscall], [-5, 'read'], which);
            const broken = fd('broken');
            const sound = new AioRequest().prepareWrite(broken, 0, allocBuffer(4096));
            const unsound = new AioRequest().prepareWrite(broken, SOUND, allocBuffer(4096));
            const flush = new AioRequest().prepareFlush(broken);
            await run(ctx, [sound, unsound]);
            await run(ctx, [flush]);
            assert.equal(sound.status, 'OK', which);
            assert.deepEqual([flush.status, flush.error?.errno, flush.error?.syscall], ['EIO', -5, 'fsync'], which);
            // Through the page cache: libfuse's protocol 2 writes through, so that the write itself says it.
            assert.deepEqual([unsound.status, unsound.error?.syscall], ['EIO', 'write'], which);
            // Short answers to io_uring come out wrong (src/user-space.ts), which is why files keep off it.
            if (way === 'direct' && engine !== 'io-uring') {
              for (const request of await read('short', [0, 1 << 17])) {
                assert.equal(request.bytesTransferred, SHORT, which);
              }
              const [end] = await read('good', [(1 << 20) - SHORT]);
              assert.equal(end?.bytesTransferred, SHORT, which);
              const short = new AioRequest().prepareWrite(fd('short'), 0, content(0, 4096));
              await run(ctx, [short]);
              // libuv goes on until all is written.
              assert.equal(short.bytesTransferred, engine === 'threads' ? 4096 : SHORT, which);
            }
          }
        }
      }
    });
  });

  test('io-uring is not trusted with its files', async (t) => {
    await withFileSystem(t, async (fs) => {
      for (const name of ['cached-good', 'direct-good']) {
        const path = join(fs.folder, name);
        if (available.includes('io-uring')) {
          await assert.rejects(
            openFile(path, { engine: 'io-uring' }),
            coded('ERR_AIO_NOT_SUPPORTED', /FUSE.*'threads'/),
          );
        }
        for (const direct of [false, true]) {
          const handle = await openFile(path, { direct });
          assert.equal(handle.engine, 'threads');
          assert.equal((await handle.read(allocBuffer(8192), 0, 8192, (1 << 20) - 4096)).bytesRead, 4096);
          await handle.close();
        }
        assert.ok((await readFile(path)).equals(content(0, 1 << 20)));
      }
      const folder = scratch(t);
      const copy = join(folder, 'copy');
      const copied = await runCli(t, folder, ['copy', join(fs.folder, 'direct-short'), copy]);
      assert.equal(copied.code, 0, copied.stderr);
      assert.ok(readFileSync(copy).equals(content(0, 1 << 20)));
    });
  });

  for (const engine of ['auto', ...available.filter((name) => name !== 'io-uring')] as const) {
    test(`${engine}: files answer as those of node:fs, also where the answers are short`, async (t) => {
      await withFileSystem(t, async (fs) => {
        const path = join(fs.folder, 'direct-short');
        const reference = await openWithNode(path, 'r+');
        fs.after(() => reference.close());
        const handle = await openFile(path, { flags: 'r+', engine });
        fs.after(() => handle.close());
        const expected = await reference.read(Buffer.alloc(8192), 0, 8192, 4096);
        const got = await handle.read(Buffer.alloc(8192), 0, 8192, 4096);
        assert.equal(got.bytesRead, expected.bytesRead);
        assert.deepEqual(got.buffer.subarray(0, got.bytesRead), content(4096, got.bytesRead));
        const { bytesWritten } = await handle.write(content(0, 4096), 0, 4096, 0);
        // libuv goes on until all is written; kernel AIO, which was asked for, says how it is.
        const all = (await reference.write(content(0, 4096), 0, 4096, 0)).bytesWritten;
        assert.equal(bytesWritten, engine === 'kernel-aio' ? SHORT : all);
        const two = [Buffer.alloc(600), Buffer.alloc(600)];
        assert.equal((await handle.readv(two, 0)).bytesRead, (await reference.readv(two, 0)).bytesRead);
        // Whole files go on until they are whole.
        assert.ok((await readFile(path)).equals(content(0, 1 << 20)));
        const half = content(4096, 1 << 18);
        await handle.writeFile(half);
        assert.ok((await readFile(path)).subarray(0, 1 << 18).equals(half));
        const broken = await openFile(join(fs.folder, 'direct-broken'), { flags: 'r+', engine });
        fs.after(() => broken.close());
        const refused = { code: 'EIO', errno: -5 };
        await assert.rejects(broken.read(Buffer.alloc(10), 0, 10, SOUND), { ...refused, syscall: 'read' });
        await assert.rejects(broken.write(Buffer.alloc(10), 0, 10, SOUND), { ...refused, syscall: 'write' });
        await assert.rejects(broken.sync(), { ...refused, syscall: 'fsync' });
        await assert.rejects(readFile(join(fs.folder, 'direct-broken')), refused);
        await assert.rejects(writeFile(join(fs.folder, 'direct-broken'), content(0, 1 << 18), { flag: 'r+' }), refused);
        assert.equal((await broken.read(Buffer.alloc(10), 0, 10, 0)).bytesRead, 10);
      });
    });
  }

  for (const engine of ['auto', ...available.filter((name) => name !== 'io-uring')] as const) {
    test(`${engine}: ends that fill no block are written where the server keeps O_DIRECT, and it is never asked in vain`, async (t) => {
      await withFileSystem(t, async (fs) => {
        for (const way of ['cached', 'direct']) {
          const path = join(fs.folder, `${way}-strict`);
          const handle = await openFile(path, { flags: 'r+', direct: true, engine });
          fs.after(() => handle.close());
          await handle.writeFile(content(0, 10_004).fill('x', 10_000));
          const stream = handle.createWriteStream({ start: 12_345, autoClose: false });
          await new Promise<void>((resolve, reject) =>
            stream.on('error', reject).end('y'.repeat(5000), () => resolve()),
          );
          const expected = content(0, 1 << 20)
            .fill('x', 10_000, 10_004)
            .fill('y', 12_345, 17_345);
          assert.ok((await readFile(path)).equals(expected), way);
          const reading = await openFile(path, { direct: true, engine });
          fs.after(() => reading.close());
          await assert.rejects(reading.writeFile('xyz'), { code: 'EBADF', syscall: 'write' });
        }
        assert.equal(fs.complaints(), '');
        // As it is told of where somebody does ask.
        const reference = await openWithNode(join(fs.folder, 'direct-strict'), constants.O_WRONLY | constants.O_DIRECT);
        fs.after(() => reference.close());
        await assert.rejects(reference.write(Buffer.alloc(5), 0, 5, 0), { code: 'EINVAL' });
        await fs.hasComplained(/^refused\n$/);
      });
    });
  }

  test('an engine that is not asked for by name never holds up the event loop for it', async (t) => {
    await withFileSystem(t, async (fs) => {
      for (const direct of [false, true]) {
        for (const name of ['cached-late', 'direct-late']) {
          const handle = await openFile(join(fs.folder, name), { flags: 'r+', direct });
          fs.after(() => handle.close());
          assert.notEqual(handle.engine, 'kernel-aio');
          const buffer = allocBuffer(4096);
          const calls = [() => handle.read(buffer, 0, 4096, 1 << 19), () => handle.write(buffer, 0, 4096, 1 << 19)];
          for (const call of calls) {
            let turned = false;
            setImmediate(() => {
              turned = true;
            });
            await call();
            assert.ok(turned, `${name}: nothing else was done meanwhile`);
          }
        }
      }
    });
  });

  for (const file of ['cached-never', 'direct-never']) {
    test(`${file}: a read without an answer holds up nobody else, and ends with the file system`, async (t) => {
      await withFileSystem(t, async (fs) => {
        const start = (engine: string, how: string): Promise<Child> => hanging(fs, engine, fs.folder, file, how);
        const ring = available.includes('io-uring') && file === 'cached-never';
        const children = await Promise.all([
          ...['abort', 'exit'].map((how) => start('auto', how)),
          ...(available.includes('kernel-aio') ? [start('kernel-aio', 'wait')] : []),
          start('threads', 'context'),
          // Of what is in the page cache, or is to be, io_uring does not wait for the answer.
          ...(ring ? [start('io-uring', 'context'), start('io-uring', 'leave')] : []),
        ]);
        for (const child of children) {
          // Kernel AIO waits within its submission, and everything with it: it was asked for by name.
          if (child.name.endsWith('wait')) continue;
          if (child.name.endsWith('abort')) await says(child, /another file: 4096\nafter a while: still there\n/);
          else if (child.name.endsWith('exit')) await says(child, /exits\n/);
          // Nothing of it waits in the kernel, so that it ends at once.
          else if (child.name.endsWith('leave')) await child.ended;
          else await says(child, /timeout, 1 pending, in-progress\n/);
        }
        // Some of those that exit have ended; the kernel keeps the others as long as one of their threads waits.
        fs.die();
        for (const child of children) {
          await child.ended;
          const { name, process: ended, text } = child;
          assert.equal(ended.signalCode, null, `${name} hangs: ${text}`);
          assert.equal(ended.exitCode, /exit|leave/.test(name) ? 3 : 0, `${name}: ${text}`);
          if (name.endsWith('abort'))
            assert.match(text, /in the end: AbortError\nclosed: (well|E\w+ number close)\n/, name);
          if (name.endsWith('wait')) assert.match(text, /in the end: E\w+ number read\n/, name);
          if (name.endsWith('context')) assert.match(text, /\nfailed\n/, name);
        }
      });
    });
  }

  test('a disk on it: errors come from below, asynchronously', async (t) => {
    await withFileSystem(t, async (fs) => {
      let path: string;
      try {
        const backing = join(fs.folder, 'direct-broken');
        path = execFileSync('losetup', ['-f', '--show', backing], { encoding: 'utf8', stdio: 'pipe' }).trim();
      } catch (error) {
        t.skip(`no loop device can be made: ${error instanceof Error ? error.message.split('\n')[0] : error}`);
        return;
      }
      try {
        for (const engine of available) {
          const disk = await openFile(path, { flags: 'r+', direct: true, engine });
          const read = (at: number) => disk.read(allocBuffer(4096), 0, 4096, at);
          const sound = await Promise.allSettled([read(0), read(2 * SOUND), read(SOUND / 2), read(4 * SOUND)]);
          assert.deepEqual(
            sound.map((each) =>
              each.status === 'fulfilled' ? each.value.bytesRead : [each.reason.code, each.reason.syscall],
            ),
            [4096, ['EIO', 'read'], 4096, ['EIO', 'read']],
            engine,
          );
          await assert.rejects(disk.write(allocBuffer(4096), 0, 4096, 2 * SOUND), {
            code: 'EIO',
            errno: -5,
            syscall: 'write',
          });
          await assert.rejects(disk.sync(), { code: 'EIO', errno: -5, syscall: 'fsync' });
          await disk.close();
        }
      } finally {
        spawnSync('losetup', ['-d', path]);
      }
    });
  });
});
