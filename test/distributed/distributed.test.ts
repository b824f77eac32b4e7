/**
 * On a distributed file system: a GlusterFS volume of three replicas on this machine. `npm run test:distributed` makes the namespaces that this
 * needs, and says where they cannot be had.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, open as openWithNode, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { engines } from '../../src/index.ts';
import { open } from '../../src/promises.ts';
import { runTypeScript } from '../runtime.ts';
import { coded, O_DIRECT, O_RDONLY } from '../support.ts';
import { command, digest, ended, until, Volume, within } from './volume.ts';

const directory = process.env.FILEAIO_DISTRIBUTED;
const skip = directory === undefined ? 'npm run test:distributed makes what this needs' : false;

const root = fileURLToPath(new URL('../..', import.meta.url));
const fileaio = [process.execPath, join(root, 'dist/cli/main.js')];
const available = engines().flatMap(({ name, available: works }) => (works ? [name] : []));
/** Those that carry handles there: io_uring is kept off files whose file system is a process. */
const ofHandles = available.filter((name) => name !== 'io-uring');
const MODES = ['direct', 'buffered'] as const;

/** Runs tests that are there for any file system with their temporary files on the volume. */
async function suites(
  step: string,
  seconds: number,
  options: readonly string[],
  files: readonly string[],
  tmp: string,
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const runner = ['--expose-gc', '--test', '--test-concurrency=2', '--test-reporter=spec', ...options];
  const paths = files.map((file) => join(root, 'test', `${file}.test.ts`));
  const { code, stdout, stderr } = await ended(
    step,
    seconds,
    [process.execPath, ...runTypeScript, ...runner, ...paths],
    {
      TMPDIR: tmp,
      // It would be kept in TMPDIR.
      TSX_DISABLE_CACHE: '1',
      FILEAIO_CHILD_TIMEOUT_MS: '240000',
      ...env,
    },
  );
  assert.equal(code, 0, `${stdout}${stderr}`);
  const count = (word: string): number => Number(new RegExp(`^ℹ ${word} (\\d+)`, 'm').exec(stdout)?.[1] ?? 0);
  // More than what skips all of itself.
  assert.ok(count('pass') > 10 * files.length, stdout);
  return `${count('pass')} passed, ${count('fail')} failed`;
}

interface Figures {
  readonly medium: string;
  readonly results: readonly { readonly engine: string; readonly iops: number; readonly error?: string }[];
}

/** A writer that appends records until it is ended, and what it has acknowledged. */
class Writer {
  readonly name: string;
  readonly engine: string;
  readonly mode: (typeof MODES)[number];
  readonly path: string;
  acknowledged = 0;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #complaints = '';
  #ending = false;
  #onNews: (() => void) | undefined;

  constructor(folder: string, engine: string, mode: (typeof MODES)[number]) {
    this.engine = engine;
    this.mode = mode;
    this.name = `${engine}-${mode}`;
    this.path = join(folder, this.name);
    const program = join(root, 'test/programs/append-records.mjs');
    const through = engine === 'io-uring' ? 'context' : 'handle';
    const child = spawn(process.execPath, [program, this.path, engine, mode, through], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    });
    this.#child = child;
    let rest = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      const last = lines.at(-1) ?? '';
      if (/^\d+$/.test(last)) this.acknowledged = Number(last);
      this.#onNews?.();
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      this.#complaints += chunk;
    });
    this.#ended = new Promise((resolve) => {
      child.on('close', () => {
        resolve();
        this.#onNews?.();
      });
    });
  }

  /** Until so many more records are acknowledged. */
  async goesOn(step: string, records: number): Promise<void> {
    const wanted = this.acknowledged + records;
    await within(`${this.name}: ${step}`, 120, async () => {
      while (this.acknowledged < wanted) {
        assert.equal(this.#child.exitCode, null, `${this.name}, ${step}: it ended: ${this.#complaints}`);
        await new Promise<void>((resolve) => {
          this.#onNews = resolve;
        });
      }
    });
  }

  /** Ends it as a crash would, in the midst of whatever it does. */
  async end(): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    this.#child.kill('SIGKILL');
    await within(`${this.name}: its end`, 60, () => this.#ended);
  }
}

describe('on a replicated volume, mounted with FUSE', { skip, concurrency: false }, () => {
  let volume: Volume;
  const on = (...names: string[]): string => join(volume.mountPoint, ...names);

  before(async () => {
    assert.ok(directory !== undefined);
    volume = await Volume.start(directory);
    await mkdir(on('tmp'));
  });

  test('files are opened with the engines that suit them, and io_uring is refused by name', async () => {
    await within('engines of files', 60, async () => {
      const path = on('some');
      await writeFile(path, randomBytes(10_000));
      for (const direct of [false, true]) {
        for (const engine of ['auto', ...ofHandles] as const) {
          const handle = await open(path, { direct, engine });
          assert.equal(handle.engine, engine === 'auto' ? 'threads' : engine);
          assert.equal((await handle.read(Buffer.alloc(4096), 0, 4096, 8192)).bytesRead, 10_000 - 8192);
          await handle.close();
        }
        if (!available.includes('io-uring')) continue;
        await assert.rejects(open(path, { direct, engine: 'io-uring' }), coded('ERR_AIO_NOT_SUPPORTED', /FUSE/));
      }
    });
  });

  test('O_DIRECT reaches the servers: they refuse what fills no block, and take any address', async () => {
    await within('O_DIRECT', 60, async () => {
      const path = on('direct');
      await writeFile(path, randomBytes(16_384));
      const handle = await openWithNode(path, O_RDONLY | O_DIRECT);
      const memory = Buffer.alloc(16_384);
      await assert.rejects(handle.read(memory, 0, 100, 0), { code: 'EINVAL' });
      await assert.rejects(handle.read(memory, 0, 4096, 1), { code: 'EINVAL' });
      assert.equal((await handle.read(memory, 1, 4096, 4096)).bytesRead, 4096);
      await handle.close();
    });
  });

  for (const engine of available) {
    test(`the contract, what it says of data: ${engine}`, async (t) => {
      const options = ['--test-name-pattern=: data'];
      t.diagnostic(await suites(`data, ${engine}`, 240, options, [engine], on('tmp'), {}));
    });
  }

  test('handles, direct files and callbacks, and random calls beside node:fs/promises', async (t) => {
    const files = ['file-direct', 'file-handle', 'file-differential', 'file-fs'];
    const env = { ENGINES: ofHandles.join(','), FC_RUNS: process.env.FC_RUNS ?? '200' };
    t.diagnostic(await suites('files', 900, [], files, on('tmp'), env));
  });

  for (const [title, options] of [
    ['random reads, direct', ['--rw', 'randread']],
    ['random reads, buffered', ['--rw', 'randread', '--no-direct']],
    ['random writes, direct', ['--rw', 'randwrite']],
  ] as const) {
    test(`fileaio bench: ${title}`, async (t) => {
      const json = join(directory ?? '', 'bench.json');
      const how = [
        '--size',
        '32m',
        '--iodepth',
        '1,16',
        '--rounds',
        '3',
        '--runtime',
        '1s',
        '--json',
        json,
        ...options,
      ];
      const table = await command(`bench, ${title}`, 240, [...fileaio, 'bench', ...how], { TMPDIR: on('tmp') });
      for (const line of table.trimEnd().split('\n')) t.diagnostic(line);
      const { medium, results } = JSON.parse(await readFile(json, 'utf8')) as Figures;
      assert.equal(medium, 'fuse.glusterfs');
      assert.deepEqual([...new Set(results.map(({ engine }) => engine))], ['node:fs/promises', ...available]);
      for (const { engine, iops, error } of results) assert.ok(iops > 0, `${engine}: ${error}`);
    });
  }

  for (const engine of ['auto', ...ofHandles]) {
    test(`fileaio copy, ${engine}: there, on it and back, verified; io_uring is refused`, async (t) => {
      const source = join(directory ?? '', `source-${engine}`);
      const bytes = randomBytes(8 * 2 ** 20 + 1234);
      await writeFile(source, bytes);
      const places = [source, on(`copy-${engine}`), on(`copy-of-copy-${engine}`), `${source}-back`];
      for (const direct of [['--direct'], ['--no-direct'], []]) {
        for (const [index, to] of places.entries()) {
          const from = places[index - 1];
          if (from === undefined) continue;
          const how = [...direct, ...(engine === 'auto' ? [] : ['--engine', engine])];
          // Kernel AIO copies past the page cache only.
          if (engine === 'kernel-aio' && direct[0] === '--no-direct') continue;
          const args = [...fileaio, 'copy', from, to, '--verify', '--force', ...how];
          await command(`copy ${how.join(' ')} ${from} ${to}`, 120, args);
        }
        await within('reading the copies', 60, async () => {
          for (const path of places) assert.equal(digest(await readFile(path)), digest(bytes), path);
        });
      }
      const [first = '', ...others] = volume.copies(`copy-${engine}`);
      assert.deepEqual(others, [first, first]);
      assert.equal(first, digest(bytes));
      if (!available.includes('io-uring')) return;
      const refused = await ended('copy with io_uring', 60, [
        ...fileaio,
        'copy',
        source,
        on('none'),
        '--engine',
        'io-uring',
      ]);
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /io_uring cannot be trusted.*FUSE/);
      await assert.rejects(
        within('none', 60, () => stat(on('none'))),
        { code: 'ENOENT' },
      );
      t.diagnostic(`${bytes.length} bytes, the same on every server`);
    });
  }

  test('appended while a server dies and is healed: every acknowledged record is there, on every engine', async (t) => {
    const logs = on('logs');
    await within('a folder', 30, () => mkdir(logs));
    const writers = ['auto', ...available].flatMap((engine) => MODES.map((mode) => new Writer(logs, engine, mode)));
    t.after(() => Promise.all(writers.map((writer) => writer.end())).then(() => undefined));
    const all = async (step: string, records: number): Promise<number> => {
      await Promise.all(writers.map((writer) => writer.goesOn(step, records)));
      return writers.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
    };
    t.diagnostic(`${await all('with three servers', 50)} records acknowledged with three servers`);
    await volume.kill(0);
    t.diagnostic(`${await all('with two servers', 100)} when it had gone on with two`);
    const lacking = await volume.lacking();
    assert.ok(lacking >= writers.length, `${lacking} entries`);
    t.diagnostic(`${lacking} entries that the third lacks`);
    await volume.restart();
    await volume.heal();
    t.diagnostic(`${await all('while the third is healed', 100)} when it had gone on while the third was healed`);
    await Promise.all(writers.map((writer) => writer.end()));
    await volume.healed();
    for (const { name } of writers) {
      const [first = '', ...others] = volume.copies(join('logs', name));
      assert.deepEqual(others, [first, first], `${name}: every server has the same`);
    }
    // Another server dies, nothing is in memory, and who was healed has to serve.
    await volume.set('cluster.read-subvolume-index', '0');
    await volume.kill(1);
    await volume.mountAnew();
    for (const { name, engine, mode, path, acknowledged } of writers) {
      assert.ok(acknowledged >= 250, `${name}: ${acknowledged}`);
      const args = [join(root, 'test/distributed/read-records.mjs'), path, engine, mode, String(acknowledged)];
      const said = await command(`reading ${name}`, 120, [process.execPath, ...args]);
      const { problem, count, sha256 } = JSON.parse(said) as { problem?: string; count: number; sha256: string };
      assert.equal(problem, undefined, name);
      assert.equal(sha256, volume.copies(join('logs', name))[0], `${name}: what is read is what the servers have`);
      t.diagnostic(`${name}: ${acknowledged} records acknowledged, ${count} found, none lost`);
    }
    await volume.restart();
    await volume.healed();
  });

  test('with one server of three nothing is acknowledged, and nothing hangs', async (t) => {
    await within('one server of three', 300, async () => {
      for (const engine of ofHandles) {
        const handle = await open(on(`alone-${engine}`), { flags: 'w', engine });
        await handle.write('one');
        await handle.datasync();
        await volume.kill(1);
        await volume.kill(2);
        const answer = await handle
          .write('two')
          .then(() => handle.datasync())
          .then(
            () => 'OK',
            (error: NodeJS.ErrnoException) => error.code,
          );
        assert.match(String(answer), /^(ENOTCONN|EROFS|EIO)$/);
        t.diagnostic(`${engine}: ${answer}`);
        await handle.close().catch(() => undefined); // it may say the same once more
        await volume.restart();
        await volume.healed();
        // The mount looks for its servers every few seconds.
        const path = on(`alone-${engine}`);
        await until('the mount has its servers again', 60, () => readFile(path).then(Boolean, () => false));
        // What nobody was promised may be there, too.
        assert.match(await readFile(path, 'utf8'), /^one(two)?$/);
      }
    });
  });

  test('a server that answers no more is waited for, and then done without', async (t) => {
    // All of them are connected then.
    await volume.mountAnew();
    await within('a silent server', 180, async () => {
      const names = ofHandles.map((engine) => `silent-${engine}`);
      const handles = await Promise.all(ofHandles.map((engine, i) => open(on(names[i] ?? ''), { flags: 'w', engine })));
      const goOn = await volume.silence(2);
      const began = performance.now();
      try {
        await Promise.all(handles.map((handle) => handle.write('said').then(() => handle.datasync())));
      } finally {
        goOn();
      }
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      t.diagnostic(`${ofHandles.join(', ')}: acknowledged after ${seconds} s, network.ping-timeout being 5`);
      for (const handle of handles) await handle.close();
      await volume.healed();
      for (const name of names) assert.deepEqual(new Set(volume.copies(name)), new Set([digest(Buffer.from('said'))]));
    });
  });
});
