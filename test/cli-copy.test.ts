/** `fileaio copy`: what is in DST afterwards, whatever happens meanwhile. In this process where a test takes part, else as users run it. */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { copyFile } from '../src/cli/copy.ts';
import { BlockReader, BlockWriter, type Lane, type Side } from '../src/cli/copy-blocks.ts';
import { TEMPORARY } from '../src/cli/copy-destination.ts';
import { blocksOf, dataRanges, type Range } from '../src/cli/copy-extents.ts';
import { type CopyOptions, parseCopy } from '../src/cli/copy-options.ts';
import type { Copied } from '../src/cli/copy-report.ts';
import type { Progress } from '../src/cli/progress.ts';
import { CliError } from '../src/cli/usage.ts';
import { type AioRequest, engines } from '../src/index.ts';
import { cli, type Ended, injecting, isControlled, privateTmp, runCli, start } from './run-cli.ts';
import { loopDevice, scratch, smallFileSystem } from './support.ts';

const isRoot = process.getuid?.() === 0;
const available = engines()
  .filter((engine) => engine.available)
  .map(({ name }) => name);

function has(program: string): boolean {
  return spawnSync(program, ['--version']).error === undefined;
}

/** What a test does at a certain point of a copy: `when` is the beginning of the step that is announced there. */
interface Deed {
  readonly when: string;
  readonly act: () => void;
}

/** Copies in this process. Steps are announced before anything of them is done: a test can act just then. */
async function copied(
  source: string,
  destination: string,
  wish: Partial<CopyOptions> = {},
  deed?: Deed,
  signal = new AbortController().signal,
): Promise<Copied> {
  const options = parseCopy([source, destination]);
  assert.ok(options !== undefined);
  let done = false;
  const progress: Progress = {
    step(sentence) {
      if (deed === undefined || !sentence.startsWith(deed.when)) return;
      done = true;
      deed.act();
    },
    update() {},
    end() {},
  };
  try {
    return await copyFile({ ...options, ...wish }, progress, { signal, by: 'SIGINT', exitCode: 130 });
  } finally {
    assert.equal(done, deed !== undefined, 'the test took part');
  }
}

/** A new directory, and a file in it. */
function sourceOf(t: TestContext, content: Buffer | string, parent = tmpdir()): { directory: string; source: string } {
  const directory = scratch(t, parent);
  const source = join(directory, 'source');
  writeFileSync(source, content);
  return { directory, source };
}

/** Files that only a copy under way should have. */
function temporaries(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.startsWith(TEMPORARY));
}

function onlyTemporary(directory: string): string {
  const [name, second] = temporaries(directory);
  assert.ok(name !== undefined && second === undefined, 'one temporary file');
  return join(directory, name);
}

/** One line that says what is wrong, behind those that say what was begun. */
function assertRefused({ stdout, stderr, code }: Ended, pattern: RegExp, exitCode: number): void {
  assert.equal(stdout, '');
  const lines = stderr.trimEnd().split('\n');
  const last = lines.pop() ?? '';
  assert.match(last, /^fileaio copy: /);
  assert.match(last, pattern);
  for (const line of lines) assert.match(line, /^fileaio copy: (copying|comparing|flushing) /);
  assert.ok(!isControlled(stderr.replaceAll('\n', '')), 'no control characters');
  assert.equal(code, exitCode, stderr);
}

/** A file of pieces: data, zeros that were written, and holes. */
type Piece = readonly [kind: 'data' | 'zeros' | 'hole', length: number];

function pieced(path: string, pieces: readonly Piece[]): void {
  const fd = openSync(path, 'w');
  let at = 0;
  for (const [kind, length] of pieces) {
    if (kind === 'data') writeSync(fd, randomBytes(length), 0, length, at);
    else if (kind === 'zeros') writeSync(fd, Buffer.alloc(length), 0, length, at);
    at += length;
  }
  ftruncateSync(fd, at);
  closeSync(fd);
}

/** Only what is data, as du(1) counts it. */
function onDisk(path: string): number {
  return statSync(path).blocks * 512;
}

const around = (size: number): fc.Arbitrary<number> =>
  fc
    .tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: -2, max: 2 }))
    .map(([n, off]) => Math.max(n * size + off, 0));

const lengths = fc.oneof(fc.constantFrom(0, 1, 511, 4095, 4097), around(512), around(4096), around(65536));

const pieces: fc.Arbitrary<Piece[]> = fc.array(fc.tuple(fc.constantFrom('data', 'zeros', 'hole'), lengths), {
  maxLength: 8,
});

describe('fileaio copy makes the same bytes', { concurrency: 2 }, () => {
  for (const parent of [tmpdir(), '/dev/shm']) {
    test(`of files of any length, with any holes, in any way, on ${parent}`, async (t) => {
      if (!existsSync(parent)) return t.skip(`no ${parent} here`);
      const directory = scratch(t, parent);
      const source = join(directory, 'source');
      const destination = join(directory, 'destination');
      const ways = fc.record({
        pieces,
        engine: fc.constantFrom(undefined, ...available),
        direct: fc.constantFrom(undefined, true, false),
        sparse: fc.constantFrom('auto' as const, 'always' as const, 'never' as const),
        blockSize: fc.constantFrom(4096, 8192, 12288, 65536, 1 << 20),
        odd: fc.boolean(),
        depth: fc.integer({ min: 1, max: 9 }),
        verify: fc.boolean(),
      });
      await fc.assert(
        fc.asyncProperty(ways, async ({ pieces, odd, blockSize, ...wish }) => {
          pieced(source, pieces);
          // Blocks that are no multiple of a sector can only go through the page cache.
          const bytes = odd && wish.direct !== true ? blockSize - 1001 : blockSize;
          const before = onDisk(source);
          const result = await copied(source, destination, { ...wish, blockSize: bytes, force: true });
          const expected = readFileSync(source);
          assert.ok(readFileSync(destination).equals(expected), 'the same bytes');
          assert.equal(result.bytes, expected.length);
          assert.equal(result.verified !== undefined, wish.verify);
          if (wish.engine !== undefined && expected.length > 0) assert.equal(result.engine, wish.engine);
          if (wish.direct !== undefined && result.bytes > 0) assert.equal(result.direct.destination, wish.direct);
          if (wish.sparse === 'never') assert.equal(result.holes, 0);
          else assert.ok(result.holes <= expected.filter((byte) => byte === 0).length, 'only zeros became holes');
          // Blocks of a copy lie where blocks of the source lay: it needs no more of them, but for the ends of its ranges.
          if (wish.sparse === 'auto') assert.ok(onDisk(destination) <= before + pieces.length * 8192);
          assert.deepEqual(readdirSync(directory).sort(), ['destination', 'source']);
        }),
        { numRuns: 120 },
      );
    });
  }

  test('of a 3 GiB file with holes, which are kept', async (t) => {
    const { directory, source } = sourceOf(t, '');
    truncateSync(source, 3 * 1024 ** 3);
    const fd = openSync(source, 'r+');
    const places = Array.from({ length: 40 }, (_, index) => index * 77_777_777);
    const data = randomBytes(100_000);
    for (const place of places) writeSync(fd, data, 0, data.length, place);
    closeSync(fd);
    const destination = join(directory, 'destination');
    const result = await copied(source, destination, { verify: true });
    const size = 3 * 1024 ** 3;
    assert.equal(statSync(destination).size, size);
    const du = (path: string) => Number(execFileSync('du', ['-k', path], { encoding: 'utf8' }).split('\t')[0]);
    assert.ok(du(destination) <= du(source) + 400, `${du(destination)} of ${du(source)} KiB`);
    assert.ok(result.holes > size - 40 * 120_000, `${result.holes}`);
    const copy = openSync(destination, 'r');
    t.after(() => closeSync(copy));
    const found = Buffer.alloc(data.length + 2);
    for (const place of places.slice(1)) {
      readSync(copy, found, 0, found.length, place - 1);
      assert.ok(found.subarray(1, -1).equals(data) && found[0] === 0 && found.at(-1) === 0, `at ${place}`);
    }
  });

  test('with --sparse always zeros become holes, with never holes are filled', async (t) => {
    const { directory, source } = sourceOf(t, Buffer.alloc(4 << 20));
    const fd = openSync(source, 'r+');
    writeSync(fd, randomBytes(4096), 0, 4096, 1 << 20);
    closeSync(fd);
    const destination = join(directory, 'destination');
    const always = await copied(source, destination, { sparse: 'always' });
    assert.equal(always.holes, (4 << 20) - 4096);
    assert.ok(onDisk(destination) < 65536, `${onDisk(destination)}`);
    truncateSync(source, 8 << 20);
    const auto = await copied(source, destination, { sparse: 'auto', force: true });
    assert.equal(auto.holes, 4 << 20);
    const never = await copied(source, destination, { sparse: 'never', force: true });
    assert.equal(never.holes, 0);
    assert.ok(onDisk(destination) >= 8 << 20);
    assert.ok(readFileSync(destination).equals(readFileSync(source)));
  });

  test('with --sparse always zeros become holes, whatever --bs is, and are counted as what they are', async (t) => {
    const { directory, source } = sourceOf(t, '');
    const pages: Piece[] = [];
    for (let page = 0; page < 64; page++) pages.push([page % 2 === 0 ? 'data' : 'zeros', 4096]);
    pieced(source, pages);
    for (const blockSize of [513, 10_000, 12_288, 1 << 20]) {
      const destination = join(directory, `${blockSize}`);
      const { holes } = await copied(source, destination, { sparse: 'always', blockSize, direct: false });
      assert.equal(holes, 32 * 4096);
      assert.ok(onDisk(destination) <= 33 * 4096, `${onDisk(destination)}`);
      assert.ok(readFileSync(destination).equals(readFileSync(source)));
    }
  });

  test('of files that do not say how long they are', async (t) => {
    const directory = scratch(t);
    for (const path of ['/proc/version', '/proc/kallsyms', '/sys/kernel/mm/transparent_hugepage/enabled']) {
      if (!existsSync(path)) continue;
      const destination = join(directory, 'destination');
      await copied(path, destination, { force: true, verify: true });
      assert.ok(readFileSync(destination).equals(readFileSync(path)), path);
    }
    await assert.rejects(copied('/proc/version', join(directory, 'other'), { direct: true }), /Leave --direct out/);
    assert.deepEqual(readdirSync(directory), ['destination']);
  });

  test('from a block device to a file and back', async (t) => {
    const [small, large] = [loopDevice(t, 4 << 20), loopDevice(t, 6 << 20)];
    if ('why' in small) return t.skip(small.why);
    if ('why' in large) return t.skip(large.why);
    const directory = scratch(t);
    const image = randomBytes(4 << 20);
    writeFileSync(small.path, image);
    const file = join(directory, 'image');
    for (const direct of [true, false]) {
      const result = await copied(small.path, file, { direct, verify: true, force: true });
      assert.equal(result.verified, 'past the page cache');
      assert.ok(readFileSync(file).equals(image));
      const onto = (source: string, target: string) => copied(source, target, { direct, verify: true, force: true });
      writeFileSync(large.path, Buffer.alloc(6 << 20, 'old'));
      await onto(file, large.path);
      const now = readFileSync(large.path);
      assert.ok(now.subarray(0, 4 << 20).equals(image));
      assert.ok(now.subarray(4 << 20).equals(Buffer.alloc(6 << 20, 'old').subarray(4 << 20)), 'what is beyond stays');
      // Old bytes must not show through where the source has a hole; and it need not end with a sector.
      pieced(file, [
        ['data', 4096],
        ['hole', 100_000],
        ['data', 777],
      ]);
      await onto(file, large.path);
      assert.ok(readFileSync(large.path).subarray(0, 104_873).equals(readFileSync(file)));
      assert.ok(
        readFileSync(large.path)
          .subarray(104_873, 4 << 20)
          .equals(image.subarray(104_873)),
      );
      await onto(small.path, large.path);
      assert.ok(
        readFileSync(large.path)
          .subarray(0, 4 << 20)
          .equals(image),
      );
    }
    await assert.rejects(copied(large.path, small.path, { force: true }), /has 4 MiB, and 6 MiB are to be copied/);
    assert.ok(readFileSync(small.path).equals(image));
    await assert.rejects(
      copied(file, small.path),
      /is a block device, and what is on it would be overwritten.*--force/,
    );
  });

  test('and nothing of a block device that is mounted', async (t) => {
    const device = loopDevice(t, 8 << 20);
    if ('why' in device) return t.skip(device.why);
    if (spawnSync('mkfs.ext4', ['-q', '-F', device.path]).status !== 0) return t.skip('no mkfs.ext4 here');
    const { directory, source } = sourceOf(t, randomBytes(8192));
    const point = join(directory, 'mounted');
    mkdirSync(point);
    execFileSync('mount', [device.path, point]);
    try {
      await assert.rejects(copied(source, device.path, { force: true }), /is in use: EBUSY.*Unmount it/);
    } finally {
      execFileSync('umount', [point]);
    }
  });

  test('in a directory whose name is not UTF-8', async (t) => {
    const directory = scratch(t);
    const script =
      'd="$0/$(printf "\\377")"; mkdir "$d"; cd "$d"; echo content > a; "$@" copy a b --quiet && cat b && "$@" info a > info';
    const { code, stdout, stderr } = await start(t, privateTmp(t), ['sh', '-c', script, directory, ...cli]).ended;
    assert.deepEqual([code, stdout, stderr], [0, 'content\n', '']);
  });

  test('onto a character device, in order', async (t) => {
    const { source } = sourceOf(t, randomBytes(100_001));
    const result = await copied(source, '/dev/null', { force: true, blockSize: 4096 });
    assert.equal(result.bytes, 100_001);
    await assert.rejects(copied(source, '/dev/full', { force: true }), /ENOSPC.*"\/dev\/full" is overwritten in part/);
    await assert.rejects(copied(source, '/dev/null'), /is a character device.*add --force/);
    await assert.rejects(copied(source, '/dev/null', { force: true, verify: true }), /cannot be read back/);
    await assert.rejects(copied(source, '/dev/null', { force: true, direct: true }), /Leave --direct out/);
  });

  test('where a file system refuses O_DIRECT, unless that was asked for', async (t) => {
    if (!isRoot) return t.skip('needs root to mount a ramfs');
    const { directory, source } = sourceOf(t, randomBytes(100_001));
    const point = join(directory, 'ramfs');
    mkdirSync(point);
    if (spawnSync('mount', ['-t', 'ramfs', 'none', point]).status !== 0) return t.skip('mount is not allowed here');
    try {
      const destination = join(point, 'destination');
      const refused = copied(source, destination, { direct: true });
      await assert.rejects(refused, /--direct: ".*destination" cannot go past .* refuses O_DIRECT.*was not made$/);
      assert.deepEqual(readdirSync(point), []);
      const result = await copied(source, destination, { verify: true });
      assert.equal(result.direct.destination, false);
      assert.equal(result.verified, 'through the page cache');
      assert.match(result.notes.join(), /destination" was compared through the page cache: .* refuses O_DIRECT/);
      assert.ok(readFileSync(destination).equals(readFileSync(source)));
      const back = await copied(destination, join(directory, 'back'));
      assert.equal(back.direct.source, false);
    } finally {
      execFileSync('umount', [point]);
    }
  });
});

describe('fileaio copy and the file that it makes', { concurrency: 2 }, () => {
  test('nobody else can read it, or guess its name, until it is DST', async (t) => {
    const { directory, source } = sourceOf(t, randomBytes(70_000));
    const destination = join(directory, 'destination');
    const names = new Set<string>();
    for (const when of ['copying', 'comparing', 'flushing']) {
      const act = (): void => {
        const temporary = onlyTemporary(directory);
        names.add(temporary);
        assert.equal(statSync(temporary).mode & 0o7777, 0o600);
        assert.ok(!existsSync(destination));
      };
      await copied(source, destination, { verify: true }, { when, act });
      assert.deepEqual(readdirSync(directory).sort(), ['destination', 'source']);
      unlinkSync(destination);
    }
    assert.equal(names.size, 3);
    for (const name of names) assert.match(name, /\/\.fileaio-copy-[0-9a-f]{24}$/);
  });

  test('a new one has the permissions of SRC, less the umask', async (t) => {
    const { directory, source } = sourceOf(t, 'x');
    for (const [mode, umask, expected] of [
      [0o4775, 0o022, 0o755],
      [0o666, 0o077, 0o600],
      [0o640, 0o000, 0o640],
    ] as const) {
      chmodSync(source, mode);
      const destination = join(directory, `${mode}`);
      const before = process.umask(umask);
      try {
        await copied(source, destination);
        assert.equal(process.umask(umask), umask, 'the umask is what it was');
      } finally {
        process.umask(before);
      }
      assert.equal(statSync(destination).mode & 0o7777, expected);
    }
  });

  test('one that takes the place of another has the permissions of that one, and its owner where permitted', async (t) => {
    const { directory, source } = sourceOf(t, 'new');
    const destination = join(directory, 'destination');
    writeFileSync(destination, 'old');
    chmodSync(destination, 0o604);
    if (isRoot) chownSync(destination, 65534, 65533);
    linkSync(destination, join(directory, 'other name'));
    await copied(source, destination, { force: true });
    const { mode, uid, gid, nlink } = statSync(destination);
    assert.equal(mode & 0o7777, 0o604);
    if (isRoot) assert.deepEqual([uid, gid], [65534, 65533]);
    assert.equal(nlink, 1);
    assert.equal(readFileSync(join(directory, 'other name'), 'utf8'), 'old');
  });

  test('with --preserve it has mode, times and owner of SRC', async (t) => {
    const { directory, source } = sourceOf(t, randomBytes(5000));
    if (isRoot) chownSync(source, 65534, 65533);
    chmodSync(source, 0o6751);
    utimesSync(source, 1_234_567_890.125, 1_000_000_000.75);
    const destination = join(directory, 'destination');
    await copied(source, destination, { preserve: true, verify: true });
    const { mode, uid, gid, atimeMs, mtimeMs } = statSync(destination);
    assert.equal(mode & 0o7777, 0o6751);
    assert.deepEqual([uid, gid], isRoot ? [65534, 65533] : [process.getuid?.(), process.getgid?.()]);
    assert.equal(mtimeMs, 1_000_000_000_750);
    assert.equal(atimeMs, 1_234_567_890_125);
    const now = join(directory, 'now');
    await copied(source, now);
    assert.ok(statSync(now).mtimeMs > 1_600_000_000_000, 'times are not preserved unasked');
  });

  test('with --preserve it has the times of SRC to the nanosecond', async (t) => {
    const { directory, source } = sourceOf(t, 'content');
    for (const date of [
      '2026-01-02 03:04:05.999999999',
      '2026-01-02 03:04:05.123456789',
      '1960-01-02 03:04:05.000000001',
    ]) {
      execFileSync('touch', ['-d', date, source]);
      const destination = join(directory, date);
      await copied(source, destination, { preserve: true });
      const [before, after] = [source, destination].map((path) => statSync(path, { bigint: true }));
      assert.equal(after?.mtimeNs, before?.mtimeNs);
      // Copying may have read SRC since its time of access was looked at.
      assert.ok(after !== undefined && before !== undefined && after.atimeNs <= before.atimeNs);
      assert.equal(after.atimeNs % 1_000_000_000n, before.mtimeNs % 1_000_000_000n);
    }
  });

  test('behind a symbolic link the file is replaced, not the link', async (t) => {
    const { directory, source } = sourceOf(t, 'new');
    mkdirSync(join(directory, 'elsewhere'));
    const real = join(directory, 'elsewhere/real');
    writeFileSync(real, 'old');
    const link = join(directory, 'link');
    symlinkSync('elsewhere/real', link);
    await copied(source, link, { force: true });
    assert.ok(lstatSync(link).isSymbolicLink());
    assert.equal(readFileSync(real, 'utf8'), 'new');
    symlinkSync(source, join(directory, 'to source'));
    await copied(join(directory, 'to source'), link, { force: true });
    assert.equal(readFileSync(real, 'utf8'), 'new');
    assert.deepEqual(temporaries(join(directory, 'elsewhere')), []);
  });

  test('what somebody else makes at DST meanwhile is not replaced without --force', async (t) => {
    const { directory, source } = sourceOf(t, 'mine');
    const destination = join(directory, 'destination');
    const act = (): void => writeFileSync(destination, 'theirs');
    const refused = copied(source, destination, {}, { when: 'flushing', act });
    await assert.rejects(refused, /was made by somebody else meanwhile.*add --force/);
    assert.equal(readFileSync(destination, 'utf8'), 'theirs');
    assert.deepEqual(temporaries(directory), []);
    await copied(source, destination, { force: true }, { when: 'flushing', act });
    assert.equal(readFileSync(destination, 'utf8'), 'mine');
  });
});

describe('fileaio copy and a source that changes', { concurrency: 2 }, () => {
  const size = 300_001;
  const ways = [true, false].flatMap((direct) =>
    available.map((engine) => ({ direct, engine, depth: 2, blockSize: 4096 })),
  );

  test('that vanishes is copied all the same', async (t) => {
    for (const wish of ways) {
      const content = randomBytes(size);
      const { directory, source } = sourceOf(t, content);
      const destination = join(directory, 'destination');
      await copied(source, destination, { ...wish, verify: true }, { when: 'copying', act: () => unlinkSync(source) });
      assert.ok(readFileSync(destination).equals(content));
    }
  });

  test('whose name is given to another file is copied as it was', async (t) => {
    const content = randomBytes(size);
    const { directory, source } = sourceOf(t, content);
    const act = (): void => {
      writeFileSync(join(directory, 'another'), 'another');
      renameSync(join(directory, 'another'), source);
    };
    await copied(source, join(directory, 'destination'), { verify: true }, { when: 'copying', act });
    assert.ok(readFileSync(join(directory, 'destination')).equals(content));
  });

  test('that is truncated is an error that says so, and DST stays', async (t) => {
    for (const wish of ways) {
      for (const length of [0, 4096, 123_457]) {
        const { directory, source } = sourceOf(t, randomBytes(size));
        const destination = join(directory, 'destination');
        writeFileSync(destination, 'old');
        const deed = { when: 'copying', act: () => truncateSync(source, length) };
        const refused = copied(source, destination, { ...wish, force: true }, deed);
        await assert.rejects(refused, /was truncated from 293\.0 KiB to .* while it was copied.*is as it was$/);
        assert.equal(readFileSync(destination, 'utf8'), 'old');
        assert.deepEqual(readdirSync(directory).sort(), ['destination', 'source']);
      }
    }
  });

  test('that loses a hole at its end is truncated, too', async (t) => {
    const { directory, source } = sourceOf(t, randomBytes(8192));
    truncateSync(source, 1 << 20);
    const refused = copied(
      source,
      join(directory, 'new'),
      {},
      { when: 'copying', act: () => truncateSync(source, 8192) },
    );
    await assert.rejects(refused, /was truncated from 1 MiB to 8 KiB.*"\S*new" was not made$/);
    assert.deepEqual(readdirSync(directory), ['source']);
  });

  test('that grows is copied as long as it was, and that is said', async (t) => {
    for (const wish of ways) {
      const content = randomBytes(size);
      const { directory, source } = sourceOf(t, content);
      const destination = join(directory, 'destination');
      const act = (): void => appendFileSync(source, randomBytes(10_000));
      const result = await copied(source, destination, { ...wish, verify: true }, { when: 'copying', act });
      assert.ok(readFileSync(destination).equals(content));
      assert.equal(result.sourceGrewBy, 10_000);
      assert.match(result.notes.join(), /grew by 9\.8 KiB while it was copied/);
    }
  });

  test('that is written to is copied with a warning, and fails --verify', async (t) => {
    const { directory, source } = sourceOf(t, randomBytes(size));
    const destination = join(directory, 'destination');
    const scribble = (): void => {
      const fd = openSync(source, 'r+');
      writeSync(fd, randomBytes(32), 0, 32, 200_000);
      closeSync(fd);
    };
    const result = await copied(source, destination, {}, { when: 'copying', act: scribble });
    assert.ok(result.sourceChanged);
    assert.match(result.notes.join(), /was written to while it was copied/);
    const refused = copied(source, destination, { verify: true, force: true }, { when: 'comparing', act: scribble });
    await assert.rejects(refused, /--verify: the copy differs from .* at byte 2000\d\d; somebody wrote to/);
  });
});

describe('fileaio copy --verify', { concurrency: 2 }, () => {
  test('finds one wrong byte, wherever it is, and leaves DST as it was', async (t) => {
    const size = 300_001;
    for (const at of [0, 4095, 131_072, 200_000, size - 1]) {
      for (const direct of [true, false]) {
        const content = randomBytes(size);
        const { directory, source } = sourceOf(t, content);
        const destination = join(directory, 'destination');
        writeFileSync(destination, 'old');
        const act = (): void => {
          const fd = openSync(onlyTemporary(directory), 'r+');
          writeSync(fd, Buffer.of(~(content[at] ?? 0)), 0, 1, at);
          closeSync(fd);
        };
        const wish = { direct, verify: true, force: true, blockSize: 8192 };
        const refused = copied(source, destination, wish, { when: 'comparing', act });
        await assert.rejects(
          refused,
          new RegExp(`--verify: the copy differs from .* at byte ${at}; the disk or the memory`),
        );
        assert.equal(readFileSync(destination, 'utf8'), 'old');
        assert.deepEqual(temporaries(directory), []);
      }
    }
  });

  test('finds a copy that is too short, and data in its holes', async (t) => {
    const { directory, source } = sourceOf(t, '');
    pieced(source, [
      ['data', 65536],
      ['hole', 1 << 20],
      ['data', 65536],
    ]);
    const cut = { when: 'comparing', act: () => truncateSync(onlyTemporary(directory), 1_150_000) };
    const destination = join(directory, 'destination');
    await assert.rejects(
      copied(source, destination, { verify: true }, cut),
      /the copy differs from .* at byte 1\d{6};/,
    );
    const act = (): void => {
      const fd = openSync(onlyTemporary(directory), 'r+');
      writeSync(fd, 'x', 500_000);
      closeSync(fd);
    };
    const refused = copied(source, destination, { verify: true }, { when: 'comparing', act });
    await assert.rejects(refused, /the copy differs from .* at byte 500000;/);
    assert.deepEqual(readdirSync(directory), ['source']);
  });
});

describe('fileaio copy when something fails', { concurrency: 2 }, () => {
  test('a full disk is told with what was needed, and DST stays', async (t) => {
    if (!isRoot) return t.skip('needs root for a small file system');
    const { source } = sourceOf(t, randomBytes(16 << 20));
    const full = smallFileSystem(t, '8m');
    const destination = join(full, 'destination');
    writeFileSync(destination, 'old');
    for (const engine of available) {
      for (const direct of [true, false]) {
        const refused = copied(source, destination, { engine, direct, force: true });
        await assert.rejects(
          refused,
          /cannot write ".*" at byte \d+: ENOSPC: .* needs 16 MiB beside the old file, and 8\.0 MiB were free.*free some space.*is as it was$/,
        );
        assert.deepEqual(readdirSync(full), ['destination']);
      }
    }
    // One block that is written in part, and then no further.
    for (const direct of [true, false]) {
      const refused = copied(source, destination, { direct, force: true, blockSize: 16 << 20, depth: 1 });
      await assert.rejects(refused, /ENOSPC.*is as it was$/);
    }
    assert.equal(readFileSync(destination, 'utf8'), 'old');
    const ended = await runCli(t, privateTmp(t), ['copy', source, join(full, 'new')]);
    assertRefused(ended, /ENOSPC.* needs 16 MiB, and .* were free.* "\S*new" was not made$/, 1);
    assert.deepEqual(readdirSync(full), ['destination']);
  });

  test('a disk that is found to be full while flushing, likewise', async (t) => {
    const device = loopDevice(t, 8 << 20);
    if ('why' in device) return t.skip(device.why);
    if (spawnSync('mkfs.ext4', ['-q', '-F', device.path]).status !== 0) return t.skip('no mkfs.ext4 here');
    const { directory, source } = sourceOf(t, randomBytes(16 << 20));
    const point = join(directory, 'mounted');
    mkdirSync(point);
    execFileSync('mount', [device.path, point]);
    try {
      for (const direct of [true, false]) {
        await assert.rejects(copied(source, join(point, 'new'), { direct }), /ENOSPC.*needs 16 MiB.*was not made$/);
        assert.deepEqual(readdirSync(point), ['lost+found']);
      }
    } finally {
      execFileSync('umount', [point]);
    }
  });

  test('a limit of file sizes is named', async (t) => {
    const { directory, source } = sourceOf(t, randomBytes(1 << 20));
    const shell = ['sh', '-c', 'ulimit -f 256; exec "$@"', 'sh', ...cli, 'copy', source, join(directory, 'new')];
    const ended = await start(t, privateTmp(t), shell).ended;
    assertRefused(ended, /EFBIG.*ulimit -f.*was not made$/, 1);
    assert.deepEqual(readdirSync(directory), ['source']);
  });

  // Enough transfers that one of them is the one that fails, in each thread of the pool.
  const many = ['--bs', '4k', '--iodepth', '2'];
  const failures: [title: string, inject: string, args: string[], pattern: RegExp][] = [
    ['a read', 'pread64:error=EIO:when=120', many, /cannot read ".*source" at byte \d+: EIO: i\/o error.*dmesg/],
    [
      'a write',
      'pwrite64:error=EIO:when=120',
      many,
      /cannot write ".*destination" at byte \d+: EIO: i\/o error.*dmesg/,
    ],
    ['a flush', 'fsync:error=EIO', [], /cannot write ".*destination" while flushing it: EIO/],
    ['a rename', 'rename:error=EPERM', [], /is complete, but cannot take the place of ".*destination": EPERM/],
    ['a mode', 'fchmod:error=EIO', [], /cannot give the copy the mode of ".*destination": EIO/],
  ];
  for (const [title, inject, args, pattern] of failures) {
    test(`${title} that fails leaves DST as it was`, async (t) => {
      if (!has('strace')) return t.skip('strace is not installed');
      const { directory, source } = sourceOf(t, randomBytes(4 << 20));
      const destination = join(directory, 'destination');
      writeFileSync(destination, 'old');
      const strace = injecting(inject);
      const how = ['--no-direct', '--engine', 'threads', '--force'];
      const command = [...strace, ...cli, 'copy', source, destination, ...how, ...args];
      assertRefused(await start(t, privateTmp(t), command).ended, pattern, 1);
      assert.equal(readFileSync(destination, 'utf8'), 'old');
      assert.deepEqual(readdirSync(directory).sort(), ['destination', 'source']);
    });
  }

  test('without io_uring the engines are chosen by how the files are opened', async (t) => {
    if (!has('strace')) return t.skip('strace is not installed');
    const { directory, source } = sourceOf(t, randomBytes(100_001));
    const strace = injecting('io_uring_setup:error=EPERM');
    for (const [way, engine] of [
      ['--direct', 'kernel-aio'],
      ['--no-direct', 'threads'],
    ] as const) {
      const command = [...strace, ...cli, 'copy', source, join(directory, engine), way, '--json', '-'];
      const { code, stdout, stderr } = await start(t, privateTmp(t), command, { FILEAIO_ENGINE: '' }).ended;
      assert.equal(code, 0, stderr);
      assert.equal((JSON.parse(stdout) as Report).engine, engine);
      assert.ok(readFileSync(join(directory, engine)).equals(readFileSync(source)));
    }
  });
});

describe('fileaio copy when it is stopped', { concurrency: 2 }, () => {
  /** Takes minutes: only a signal ends it. */
  function endless(t: TestContext, command: readonly string[] = cli): ReturnType<typeof start> & { directory: string } {
    const { directory, source } = sourceOf(t, '');
    truncateSync(source, 64 * 1024 ** 3);
    writeFileSync(join(directory, 'destination'), 'old');
    const slow = ['--sparse', 'never', '--bs', '4k', '--iodepth', '1', '--force'];
    const run = start(t, privateTmp(t), [...command, 'copy', source, join(directory, 'destination'), ...slow]);
    return { ...run, directory };
  }

  function assertUntouched(directory: string): void {
    assert.equal(readFileSync(join(directory, 'destination'), 'utf8'), 'old');
    assert.deepEqual(readdirSync(directory).sort(), ['destination', 'source']);
  }

  for (const [signal, exitCode] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    test(`by ${signal} it leaves DST as it was, and no temporary file`, async (t) => {
      const { child, said, ended, directory } = endless(t);
      await said(/copying 64 GiB/);
      child.kill(signal);
      assertRefused(await ended, new RegExp(`interrupted by ${signal}\\. ".*destination" is as it was$`), exitCode);
      assertUntouched(directory);
    });
  }

  test('also while nobody reads what it reports to', async (t) => {
    const { directory, source } = sourceOf(t, 'new');
    const fifo = join(directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const destination = join(directory, 'destination');
    const command = [...cli, 'copy', source, destination, '--json', fifo];
    const { child, said, ended } = start(t, privateTmp(t), command);
    await said(/3 bytes copied in/);
    child.kill('SIGTERM');
    assert.equal((await ended).signal, 'SIGTERM');
    assert.equal(readFileSync(destination, 'utf8'), 'new');
  });

  test('at once on a second signal, likewise', async (t) => {
    const { child, said, ended, directory } = endless(t);
    await said(/copying 64 GiB/);
    // Both are there before it gets to run again.
    for (const signal of ['SIGSTOP', 'SIGINT', 'SIGTERM', 'SIGCONT'] as const) child.kill(signal);
    const { code } = await ended;
    assert.ok(code === 130 || code === 143, `${code}`);
    assertUntouched(directory);
  });

  test('and says so where its temporary file cannot be removed', async (t) => {
    if (!has('strace')) return t.skip('strace is not installed');
    const { directory, source } = sourceOf(t, 'new');
    const destination = join(directory, 'destination');
    const command = [...injecting('unlink:error=EIO'), ...cli, 'copy', source, destination];
    const ended = await start(t, privateTmp(t), command).ended;
    assertRefused(
      ended,
      /the copy is made, but .*fileaio-copy-\w+" could not be removed: EIO: i\/o error\. Remove it/,
      1,
    );
    assert.equal(readFileSync(destination, 'utf8'), 'new');
    assert.equal(temporaries(directory).length, 1);
  });

  test('in the last moment before it takes the place of DST', async (t) => {
    const { directory, source } = sourceOf(t, 'new');
    const destination = join(directory, 'destination');
    writeFileSync(destination, 'old');
    const controller = new AbortController();
    const deed = { when: 'flushing', act: () => controller.abort() };
    await assert.rejects(copied(source, destination, { force: true }, deed, controller.signal), { exitCode: 130 });
    assertUntouched(directory);
  });

  test('by kill -9 at a hundred random moments, DST is the old or the new one, never between', async (t) => {
    const directory = scratch(t);
    const program = fileURLToPath(new URL('programs/copy-loop.mjs', import.meta.url));
    const paths = ['first', 'second'].map((name) => join(directory, name));
    const contents = paths.map((path) => {
      const content = randomBytes(700_001);
      writeFileSync(path, content);
      return content;
    });
    let leftOver = 0;
    const killOne = async (lane: number, how: string): Promise<void> => {
      const own = join(directory, `lane ${lane}`);
      mkdirSync(own);
      const destination = join(own, 'destination');
      writeFileSync(destination, contents[0] ?? '');
      const child = spawn(process.execPath, [program, ...paths, destination, how], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exited = once(child, 'exit');
      await once(child.stdout, 'data');
      // Not to win a race: the moment is what is random here.
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 40));
      child.kill('SIGKILL');
      assert.deepEqual(await exited, [null, 'SIGKILL']);
      const found = readFileSync(destination);
      assert.ok(
        contents.some((content) => content.equals(found)),
        'one of the two, whole',
      );
      const left = temporaries(own);
      assert.deepEqual(readdirSync(own).sort(), [...left, 'destination'].sort());
      leftOver += left.length;
    };
    const rounds = Array.from({ length: 100 }, (_, index) => index);
    const work = async (): Promise<void> => {
      for (let round = rounds.pop(); round !== undefined; round = rounds.pop()) {
        await killOne(round, round % 2 === 0 ? 'direct' : 'cached');
      }
    };
    await Promise.all([work(), work(), work()]);
    assert.ok(leftOver > 0, 'some were killed in the middle');
  });
});

/** As `--json` has it. */
interface Report {
  source: string;
  destination: string;
  bytes: number;
  holes: number;
  seconds: number;
  mibPerSecond: number;
  engine: string;
  direct: boolean;
  directSource: boolean;
  directDestination: boolean;
  bs: number;
  iodepth: number;
  sparse: string;
  preserved: boolean;
  verified: boolean;
  verifiedPastCache: boolean;
  sourceGrewBy: number;
  sourceChanged: boolean;
}

describe('fileaio copy tells what it did', { concurrency: 3 }, () => {
  test('in a line on standard output, and each step on standard error', async (t) => {
    const { directory, source } = sourceOf(t, randomBytes(3 << 20));
    const args = ['copy', source, join(directory, 'new'), '--verify', '--preserve'];
    const { code, stdout, stderr } = await runCli(t, privateTmp(t), args);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^3 MiB \(3145728 bytes\) copied in [\d.]+ s, [\d.]+ MiB\/s, verified past the page cache\n$/);
    assert.match(
      stderr,
      /^fileaio copy: copying 3 MiB from ".*source" to ".*new"\nfileaio copy: comparing .*\nfileaio copy: flushing .*\n$/,
    );
    assert.ok(readFileSync(join(directory, 'new')).equals(readFileSync(source)));
  });

  test('as JSON, to standard output or a file', async (t) => {
    const { directory, source } = sourceOf(t, randomBytes(1 << 20));
    truncateSync(source, 3 << 20);
    const destination = join(directory, 'new');
    const options = [
      '--engine',
      'threads',
      '--direct',
      '--bs',
      '64k',
      '--iodepth',
      '3',
      '--sparse',
      'always',
      '--verify',
    ];
    const tmp = privateTmp(t);
    const first = await runCli(t, tmp, ['copy', source, destination, ...options, '--json', '-']);
    assert.equal(first.code, 0, first.stderr);
    const { seconds, mibPerSecond, ...figures } = JSON.parse(first.stdout) as Report;
    assert.ok(Math.abs(mibPerSecond * seconds - 1) < 0.01);
    const { version, kernel, node, ...rest } = figures as typeof figures & Record<string, unknown>;
    assert.equal(node, process.version);
    assert.ok(version !== undefined && kernel !== undefined);
    const expected: Omit<Report, 'seconds' | 'mibPerSecond'> = {
      source,
      destination,
      bytes: 3 << 20,
      holes: 2 << 20,
      engine: 'threads',
      direct: true,
      directSource: true,
      directDestination: true,
      bs: 65536,
      iodepth: 3,
      sparse: 'always',
      preserved: false,
      verified: true,
      verifiedPastCache: true,
      sourceGrewBy: 0,
      sourceChanged: false,
    };
    assert.deepEqual(rest, expected);
    const file = join(directory, 'report.json');
    const args = ['copy', source, destination, '--force', '--quiet', '--no-direct', '--json', file];
    const second = await runCli(t, tmp, args);
    assert.deepEqual([second.code, second.stdout, second.stderr], [0, '', '']);
    const report = JSON.parse(readFileSync(file, 'utf8')) as Report;
    assert.deepEqual([report.direct, report.verified, report.holes], [false, false, 2 << 20]);
  });

  test('of what was done, where that is less than what was asked for', async (t) => {
    const { directory, source } = sourceOf(t, 'content');
    const asked = ['--iodepth', '500', '--preserve', '--sparse', 'always', '--force', '--quiet', '--json', '-'];
    const reportOf = async (destination: string): Promise<Report> => {
      const { code, stdout, stderr } = await runCli(t, privateTmp(t), ['copy', source, destination, ...asked]);
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout) as Report;
    };
    const file = await reportOf(join(directory, 'new'));
    assert.deepEqual([file.iodepth, file.preserved, file.sparse], [1, true, 'always']);
    const device = await reportOf('/dev/null');
    assert.deepEqual([device.iodepth, device.preserved, device.sparse], [1, false, 'never']);
  });

  test('of no time that is left, where nothing tells it', async (t) => {
    const { directory, source } = sourceOf(t, Buffer.alloc(8 << 20));
    const options = parseCopy([source, join(directory, 'new'), '--sparse', 'always', '--bs', '64k', '--no-direct']);
    assert.ok(options !== undefined);
    const left: number[] = [];
    const progress: Progress = { step() {}, update: (_fraction, leftMs) => void left.push(leftMs), end() {} };
    await copyFile(options, progress, { signal: new AbortController().signal, by: undefined, exitCode: 0 });
    assert.ok(left.length > 2);
    assert.ok(
      left.every((ms) => !Number.isFinite(ms) || ms < 60_000),
      left.join(' '),
    );
    assert.equal(left.at(-1), 0);
  });

  test('not at all with --quiet', async (t) => {
    const { directory, source } = sourceOf(t, randomBytes(10_000));
    const ended = await runCli(t, privateTmp(t), ['copy', '--quiet', source, join(directory, 'new')]);
    assert.deepEqual([ended.code, ended.stdout, ended.stderr], [0, '', '']);
    assert.ok(readFileSync(join(directory, 'new')).equals(readFileSync(source)));
  });

  test('on a terminal in one line that is rewritten, with percent, MiB/s and ETA', async (t) => {
    if (!has('script')) return t.skip('script is not installed');
    const { directory, source } = sourceOf(t, '');
    truncateSync(source, 24 << 20);
    const slow = ['--sparse', 'never', '--bs', '4k', '--iodepth', '1'];
    const words = [...cli, 'copy', source, join(directory, 'new'), ...slow].map((word) => `'${word}'`);
    const command = ['script', '-qec', `exec ${words.join(' ')}`, '/dev/null'];
    const { code, stdout } = await start(t, privateTmp(t), command, { SHELL: '/bin/sh' }).ended;
    assert.equal(code, 0, stdout);
    assert.match(stdout, /\r *\d+ % {2}ETA [\d.]+ s {2}copying {2}[\d.]+ MiB\/s/);
    const [live = '', last = ''] = stdout.split(/(?=24 MiB \()/);
    assert.ok(!live.includes('\n'), 'all in one line');
    assert.match(live, /\r +\r$/);
    assert.match(last, /^24 MiB \(25165824 bytes\) copied in /);
  });

  test('and has help that fits a terminal', async (t) => {
    const { code, stdout } = await runCli(t, privateTmp(t), ['copy', '--help']);
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: fileaio copy SRC DST \[options\]/m);
    for (const option of [
      'bs',
      'iodepth',
      'direct',
      'no-direct',
      'engine',
      'sparse',
      'verify',
      'force',
      'preserve',
      'quiet',
      'json',
    ]) {
      assert.match(stdout, new RegExp(`^ {2}--${option} `, 'm'));
    }
    for (const line of stdout.split('\n')) assert.ok(line.length <= 112, line);
  });
});

describe('fileaio copy refuses, with the cure, and changes nothing', () => {
  test('a copy of a file onto itself, whatever it is called', async (t) => {
    const content = randomBytes(5000);
    const { directory, source } = sourceOf(t, content);
    linkSync(source, join(directory, 'hard'));
    symlinkSync(source, join(directory, 'soft'));
    mkdirSync(join(directory, 'inner'));
    symlinkSync('..', join(directory, 'inner/up'));
    const names = ['source', 'hard', 'soft', 'inner/../source', 'inner/up/source'].map((name) => join(directory, name));
    names.push(relative(process.cwd(), source));
    for (const force of [true, false]) {
      for (const name of names) {
        await assert.rejects(copied(source, name, { force }), {
          message: /are the same file\. Name another DST/,
          exitCode: 2,
        });
        await assert.rejects(copied(name, source, { force }), /are the same file/);
      }
    }
    assert.ok(readFileSync(source).equals(content));
    assert.deepEqual(temporaries(directory), []);
  });

  test('a copy of a device onto itself, under another name, too', async (t) => {
    const device = loopDevice(t, 1 << 20);
    if ('why' in device) return t.skip(device.why);
    const directory = scratch(t);
    const { rdev } = statSync(device.path);
    const twin = join(directory, 'twin');
    if (spawnSync('mknod', [twin, 'b', `${(rdev >> 8) & 0xfff}`, `${rdev & 0xff}`]).status !== 0)
      return t.skip('no mknod here');
    await assert.rejects(copied(device.path, twin, { force: true }), /are the same file/);
    await assert.rejects(copied(twin, device.path, { force: true }), /are the same file/);
  });

  test('what cannot be copied, or copied to', async (t) => {
    const { directory, source } = sourceOf(t, 'content');
    const there = join(directory, 'there');
    writeFileSync(there, 'old');
    symlinkSync('nowhere', join(directory, 'dangling'));
    const pipe = join(directory, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const before = readdirSync(directory).sort();
    const fresh = join(directory, 'fresh');
    const cases: [from: string, to: string, pattern: RegExp, exitCode: number][] = [
      [join(directory, 'none'), fresh, /^no such file: ".*none"\. Name one that exists$/, 1],
      [directory, fresh, /is a directory\. Name a regular file or a block device/, 1],
      [pipe, fresh, /neither a regular file nor a block device/, 1],
      [`${source}/x`, fresh, /cannot open .*ENOTDIR/, 1],
      [source, there, /exists\. If it is to be replaced, add --force/, 2],
      [source, directory, /is a directory\. Name the file in it, such as ".*\/source"/, 1],
      [source, pipe, /is neither a file nor a device/, 1],
      [source, join(directory, 'dangling'), /is a symbolic link to a file that does not exist/, 1],
      [source, join(directory, 'no/such'), /cannot make .*ENOENT.*in a directory that exists/, 1],
      [source, `${fresh}/`, /no such directory: .*Make it first/, 1],
      [source, `${source}/x`, /cannot look at .*ENOTDIR/, 1],
    ];
    for (const [from, to, message, exitCode] of cases) {
      await assert.rejects(copied(from, to), { name: 'CliError', message, exitCode }, `${from} to ${to}`);
    }
    const report = (json: string) => copied(source, fresh, { json });
    await assert.rejects(report(source), /cannot write --json .*it is copied from or to/);
    await assert.rejects(report(fresh), /cannot write --json .*it is copied from or to/);
    await assert.rejects(report(directory), /cannot write --json .*it is a directory/);
    const link = join(scratch(t), 'link');
    symlinkSync(fresh, link);
    await assert.rejects(report(link), /cannot write --json .*it is a symbolic link to a file that does not exist/);
    await assert.rejects(report('/no/such/report'), /cannot write --json .*ENOENT/);
    await assert.rejects(copied(source, fresh, { blockSize: 1000, direct: true }), /--bs 1000 is no multiple of \d+/);
    assert.deepEqual(readdirSync(directory).sort(), before);
    assert.equal(readFileSync(there, 'utf8'), 'old');
  });

  test('names that are not UTF-8, which Node would take for others', async (t) => {
    const { directory, source } = sourceOf(t, 'content');
    const other = join(directory, '\ufffd');
    writeFileSync(other, 'precious');
    const copy = (name: string) => {
      const script = `exec "$@" "$(printf '%s/${name}' "$0")" --force --quiet`;
      return start(t, privateTmp(t), ['sh', '-c', script, directory, ...cli, 'copy', source]).ended;
    };
    assertRefused(await copy('\\377'), /"[^"]*\ufffd" is not what was typed: that is no UTF-8/, 2);
    assert.equal(readFileSync(other, 'utf8'), 'precious');
    const { code, stderr } = await copy('\\357\\277\\275');
    assert.equal(code, 0, stderr);
    assert.equal(readFileSync(other, 'utf8'), 'content', 'that is a name like others');
  });

  test('an engine by name where the bytes come in order, which only threads does', async (t) => {
    const { directory, source } = sourceOf(t, 'content');
    const wish = { engine: 'io-uring', force: true } as const;
    await assert.rejects(copied(source, '/dev/null', wish), /--engine io-uring: "\/dev\/null" is a character device/);
    await assert.rejects(copied('/proc/version', join(directory, 'new'), wish), /does not say how long it is/);
    const { engine } = await copied(source, '/dev/null', { ...wish, engine: 'threads' });
    assert.equal(engine, 'threads');
  });

  test('a directory that may not be written to', async (t) => {
    if (!isRoot) return t.skip('needs root for a file that nobody may change');
    const { directory, source } = sourceOf(t, 'content');
    const closed = join(directory, 'closed');
    mkdirSync(closed);
    if (spawnSync('chattr', ['+i', closed]).status !== 0) return t.skip('no chattr +i here');
    try {
      await assert.rejects(copied(source, join(closed, 'new')), /cannot make a file beside ".*new": EPERM/);
    } finally {
      execFileSync('chattr', ['-i', closed]);
    }
  });

  const mistakes: [title: string, args: string[], message: RegExp][] = [
    ['nothing', [], /SRC and DST are missing: fileaio copy SRC DST/],
    ['a source alone', ['a'], /DST is missing/],
    ['three names', ['a', 'b', 'c'], /"c" is a third name/],
    ['an empty name', ['a', ''], /DST is empty/],
    ['a stream', ['-', 'b'], /SRC is -, and only files/],
    ['a NUL', ['a\0', 'b'], /SRC "a\\u0000" has a NUL/],
    ['a block of nothing', ['a', 'b', '--bs', '0'], /--bs "0" is no size/],
    ['a block beyond one transfer', ['a', 'b', '--bs', '4g'], /--bs "4g" is too much .* 1g/],
    ['no depth', ['a', 'b', '--iodepth', '0'], /--iodepth "0" is out of range: give a whole number from 1/],
    ['an unknown engine', ['a', 'b', '--engine', 'steam'], /unknown engine "steam": there is .*threads/],
    [
      'an unknown way with holes',
      ['a', 'b', '--sparse', 'maybe'],
      /--sparse "maybe" is no such way: give auto, always, never/,
    ],
    ['an unknown option', ['a', 'b', '--fast'], /Unknown option '--fast'\. See fileaio copy --help/],
    ['figures without a name', ['a', 'b', '--json', ''], /--json "" is no file name/],
  ];
  for (const [title, args, message] of mistakes) {
    test(`the options do not take ${title}`, () => {
      assert.throws(() => parseCopy(args), { name: 'CliError', exitCode: 2, message });
    });
  }

  test('more memory than there is', async (t) => {
    const { directory, source } = sourceOf(t, '');
    truncateSync(source, 2 ** 40);
    const greedy = { blockSize: 1 << 30, depth: 1000 };
    await assert.rejects(
      copied(source, join(directory, 'new'), greedy),
      /of buffers, of .* free memory: give a smaller/,
    );
    assert.deepEqual(readdirSync(directory), ['source']);
  });
});

describe('the pieces of a copy', () => {
  test('blocks cover what is to be copied once, in order, aligned', () => {
    const range = fc.tuple(fc.integer({ min: 0, max: 500 }), fc.integer({ min: 1, max: 300 }));
    const given = fc.record({
      gaps: fc.array(range, { maxLength: 10 }),
      beyond: fc.integer({ min: 0, max: 500 }),
      alignment: fc.constantFrom(1, 16, 64),
      factor: fc.integer({ min: 1, max: 5 }),
    });
    fc.assert(
      fc.property(given, ({ gaps, beyond, alignment, factor }) => {
        const ranges: Range[] = [];
        let at = 0;
        for (const [gap, length] of gaps) {
          ranges.push({ start: at + gap, end: at + gap + length });
          at += gap + length;
        }
        const size = at + beyond;
        const blockSize = alignment * factor;
        const covered = new Uint8Array(size);
        let last = 0;
        for (const { start, end } of blocksOf(ranges, size, blockSize, alignment)) {
          assert.ok(start >= last && end > start && end - start <= blockSize);
          assert.ok(start % alignment === 0 && (end % alignment === 0 || end === size));
          covered.fill(1, start, end);
          last = end;
        }
        for (const { start, end } of ranges) assert.ok(covered.subarray(start, end).every((byte) => byte === 1));
        const needed = ranges.reduce((sum, { start, end }) => sum + (end - start) + 2 * (alignment - 1), 0);
        assert.ok(covered.reduce((sum, byte) => sum + byte, 0) <= needed, 'and little more');
      }),
    );
  });

  /** What a request was prepared for, and how it is made to end. */
  function stub(): {
    request: AioRequest<Lane>;
    asked: [position: number, length: number][];
    end: (bytes: number) => void;
  } {
    const asked: [number, number][] = [];
    const fake = {
      bytesTransferred: 0,
      prepareRead: (_: number, position: number, part: Buffer) => void asked.push([position, part.length]),
      prepareWrite: (_: number, position: number, part: Buffer) => void asked.push([position, part.length]),
    };
    const end = (bytes: number): void => {
      fake.bytesTransferred = bytes;
    };
    return { request: fake as unknown as AioRequest<Lane>, asked, end };
  }

  const lane: Lane = { begin: () => undefined, next: () => undefined };
  const side = (direct: boolean): Side => ({
    fd: 3,
    direct,
    failed: (position, error) => new CliError(1, `at ${position}: ${error}`),
  });

  test('a short read goes on where it stopped, past the page cache from the last whole sector', () => {
    for (const [direct, second] of [
      [true, [8192 + 1024, 1024]],
      [false, [8192 + 1100, 948]],
    ] as const) {
      const { request, asked, end } = stub();
      const reader = new BlockReader(request, lane, side(direct), Buffer.alloc(2048), 512);
      reader.begin(8192, 2048);
      end(1100);
      assert.equal(reader.take(), 'more');
      assert.deepEqual(asked, [[8192, 2048], second]);
      end(second[1]);
      assert.equal(reader.take(), 'full');
      // The end of a file is what brings nothing new, even where it lies within a sector.
      reader.begin(8192, 2048);
      end(100);
      assert.equal(reader.take(), 'more');
      end(direct ? 100 : 0);
      assert.equal(reader.take(), 'end');
    }
  });

  test('a short write goes on where it stopped, and gives up where nothing moves', () => {
    for (const [direct, second] of [
      [true, [8192 + 1024, 1024]],
      [false, [8192 + 1100, 948]],
    ] as const) {
      const { request, asked, end } = stub();
      const writer = new BlockWriter(request, lane, side(direct), Buffer.alloc(2048), 512);
      writer.begin(8192, 0, 2048);
      end(1100);
      assert.equal(writer.take(), 'more');
      assert.deepEqual(asked, [[8192, 2048], second]);
      end(second[1]);
      assert.equal(writer.take(), 'done');
      writer.begin(8192, 512, 2048);
      end(0);
      assert.equal(writer.take(), 'more');
      assert.throws(() => writer.take(), /at 8704: Error: nothing was written/);
    }
  });

  test('data is found in all of several files', (t) => {
    const directory = scratch(t);
    const fds = ['first', 'second'].map((name, index) => {
      const path = join(directory, name);
      pieced(path, [
        ['hole', 65536 * (index + 1)],
        ['data', 65536],
        ['hole', 1 << 20],
      ]);
      const fd = openSync(path, 'r');
      t.after(() => closeSync(fd));
      return fd;
    });
    const all = [...dataRanges(fds, 1 << 20)];
    assert.deepEqual(
      [all[0]?.start, all.at(-1)?.end],
      [65536, 65536 * 3],
      'from the beginning in one to the end in the other',
    );
    assert.deepEqual([...dataRanges(fds.slice(0, 1), 100_000)], [{ start: 65536, end: 100_000 }]);
    // Files of /proc have no such thing: all is data.
    const [reading, writing] = [openSync('/proc/self/status', 'r'), openSync('/proc/version', 'r')];
    t.after(() => [reading, writing].forEach(closeSync));
    assert.deepEqual([...dataRanges([reading, writing], 10)], [{ start: 0, end: 10 }]);
  });
});
