/** `fileaio bench` as its users run it: a process, its output, its exit code, and what it leaves behind. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { parseBench } from '../src/cli/bench-options.ts';
import { type Job, MODES, Pattern, writes } from '../src/cli/job.ts';
import { formatSize, parseCount, parseDuration, parseSize } from '../src/cli/sizes.ts';
import { engines, getLimits } from '../src/index.ts';
import { assertOneLine, cli, injecting, isControlled, privateTmp, runCli, start } from './run-cli.ts';
import { scratch } from './support.ts';

const QUICK = ['--runtime', '100ms', '--size', '4m'];

/** Long enough that only a signal ends it. */
const ENDLESS = ['--runtime', '10m', '--size', '4m'];

interface Report {
  version: string;
  kernel: string;
  node: string;
  file: string;
  medium: string;
  options: { rw: string; bs: number; iodepth: number; direct: boolean; runtimeMs: number; size: number };
  interrupted: boolean;
  results: {
    engine: string;
    iops: number;
    mibPerSecond: number;
    latencyUs: { p50: number; p99: number; p999: number; max: number; mean: number };
    cpuUsPerTransfer: number;
    transfers: number;
    bytes: number;
    seconds: number;
    ratio: number;
  }[];
}

const names = ['node:fs/promises', ...engines().map(({ name }) => name)];

/** The rows of a table, without its headings: name and figures. */
function rowsOf(stdout: string): string[][] {
  const lines = stdout.split('\n');
  const headings = lines.findIndex((line) => line.startsWith('engine '));
  assert.ok(headings > 0, stdout);
  const end = lines.indexOf('', headings);
  return lines.slice(headings + 1, end).map((line) => line.split(/ {2,}/));
}

function reportOf(text: string): Report {
  return JSON.parse(text) as Report;
}

/** A file of the user's, in a directory of its own. */
function userFile(t: TestContext, content: Buffer): string {
  const path = join(scratch(t), 'data');
  writeFileSync(path, content);
  return path;
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

function has(program: string): boolean {
  return spawnSync(program, ['--version']).error === undefined;
}

describe('fileaio bench tells what it measured', { concurrency: 3 }, () => {
  test('as a table of the peer and every engine, below what was measured', async (t) => {
    const { code, stdout, stderr } = await runCli(t, privateTmp(t), ['bench', ...QUICK]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^randread, blocks of 4 KiB, depth 32, O_DIRECT, 0\.1 s each\n4 MiB of a temporary file: \S/);
    assert.match(stdout, /\nLinux \S+ \S+, Node v\d+\.\d+\.\d+, /);
    assert.match(stdout, /\nengine +IOPS +MiB\/s +p50 µs +p99 µs +p99\.9 µs +max µs +CPU µs\/op +ratio\n/);
    const rows = rowsOf(stdout);
    assert.deepEqual(
      rows.map(([name]) => name),
      names,
    );
    assert.equal(rows[0]?.at(-1), 'x 1.0');
    for (const row of rows) {
      assert.equal(row.length, 9);
      assert.match(row.at(-1) ?? '', /^x \d+\.\d+$/);
      const [iops = 0, mib = 0, p50 = 0, p99 = 0, p999 = 0, max = 0] = row.slice(1, 8).map(Number);
      assert.ok(iops > 0 && mib > 0 && p50 > 0, row.join(' '));
      assert.ok(p50 <= p99 && p99 <= p999 && p999 <= max, row.join(' '));
    }
    const widths = stdout.split('\n').map((line) => line.length);
    assert.ok(Math.max(...widths) <= 100);
    assert.ok(!isControlled((stdout + stderr).replaceAll('\n', '')), 'plain text where there is no terminal');
    for (const name of names) assert.equal(stderr.split(`measuring ${name} for 0.1 s`).length, 2, stderr);
  });

  test('as JSON in a file, beside the table', async (t) => {
    const file = join(scratch(t), 'figures.json');
    const { code, stdout, stderr } = await runCli(t, privateTmp(t), ['bench', ...QUICK, '--json', file]);
    assert.equal(code, 0, stderr);
    assert.equal(rowsOf(stdout).length, names.length);
    const report = reportOf(readFileSync(file, 'utf8'));
    assert.equal(report.interrupted, false);
    assert.equal(report.node, process.version);
    for (const key of ['version', 'kernel', 'file', 'medium'] as const) assert.ok(report[key].length > 0, key);
    const { rw, bs, iodepth, direct, runtimeMs, size } = report.options;
    assert.deepEqual(
      { rw, bs, iodepth, direct, runtimeMs, size },
      { rw: 'randread', bs: 4096, iodepth: 32, direct: true, runtimeMs: 100, size: 4 << 20 },
    );
    assert.deepEqual(
      report.results.map(({ engine }) => engine),
      names,
    );
    const [peer] = report.results;
    assert.ok(peer !== undefined);
    for (const {
      transfers,
      bytes,
      seconds,
      iops,
      mibPerSecond,
      latencyUs,
      cpuUsPerTransfer,
      ratio,
    } of report.results) {
      assert.equal(bytes, transfers * 4096);
      assert.ok(seconds >= 0.1, `${seconds}`);
      assert.ok(Math.abs(iops * seconds - transfers) <= 0.01 * transfers + 1);
      assert.ok(Math.abs(mibPerSecond - (iops * 4096) / 2 ** 20) < 0.1);
      assert.ok(latencyUs.p50 <= latencyUs.max && latencyUs.mean <= latencyUs.max && latencyUs.mean > 0);
      assert.ok(cpuUsPerTransfer > 0);
      assert.ok(Math.abs(ratio - iops / peer.iops) < 0.01);
    }
  });

  test('as nothing but JSON on standard output, with --json -', async (t) => {
    const { code, stdout } = await runCli(t, privateTmp(t), ['bench', ...QUICK, '--json', '-']);
    assert.equal(code, 0);
    assert.equal(reportOf(stdout).results.length, names.length);
  });

  test('for every mode', { concurrency: 2 }, async (t) => {
    await Promise.all(
      MODES.map((mode) =>
        t.test(mode, async (t) => {
          const directory = scratch(t);
          // Modes that write make the file that they are given, and take it away again.
          const file = writes(mode) ? [join(directory, 'new')] : [];
          const args = ['bench', ...file, ...QUICK, '--rw', mode, '--bs', '16k', '--iodepth', '4', '--json', '-'];
          const { code, stdout, stderr } = await runCli(t, privateTmp(t), args);
          assert.equal(code, 0, stderr);
          const { options, results } = reportOf(stdout);
          assert.equal(options.rw, mode);
          assert.equal(options.iodepth, 4);
          assert.deepEqual(
            results.map(({ bytes, transfers }) => bytes / transfers),
            names.map(() => 16384),
          );
          assert.deepEqual(readdirSync(directory), []);
        }),
      ),
    );
  });

  test('through the page cache with --no-direct, where blocks may have any size', async (t) => {
    const args = ['bench', ...QUICK, '--no-direct', '--bs', '1000', '--json', '-'];
    const { code, stdout, stderr } = await runCli(t, privateTmp(t), args);
    assert.equal(code, 0, stderr);
    const { options, results } = reportOf(stdout);
    assert.equal(options.direct, false);
    assert.equal(results[0]?.bytes, (results[0]?.transfers ?? 0) * 1000);
  });

  test('for the engines that are asked for, once each', async (t) => {
    const args = ['bench', ...QUICK, '--engine', 'kernel-aio', '--engine', 'kernel-aio', '--json', '-'];
    const { code, stdout, stderr } = await runCli(t, privateTmp(t), args, { FILEAIO_ENGINE: 'nonsense' });
    assert.equal(code, 0, stderr);
    assert.deepEqual(
      reportOf(stdout).results.map(({ engine }) => engine),
      ['node:fs/promises', 'kernel-aio'],
    );
  });

  test('and has help that fits a terminal, and a version', async (t) => {
    const tmp = privateTmp(t);
    for (const args of [['bench', '--help'], ['-h']]) {
      const { code, stdout, stderr } = await runCli(t, tmp, args);
      assert.equal(code, 0);
      assert.equal(stderr, '');
      assert.match(stdout, /^Usage: fileaio bench \[FILE\] \[options\]/m);
      for (const line of stdout.split('\n')) assert.ok(line.length <= 108, line);
    }
    const { code, stdout } = await runCli(t, tmp, ['--version']);
    assert.equal(code, 0);
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as Report;
    assert.equal(stdout, `${version}\n`);
  });
});

describe("fileaio bench and the user's files", { concurrency: 3 }, () => {
  test('an existing file is read as far as it goes, and stays as it is', async (t) => {
    const data = randomBytes(1 << 20);
    const path = userFile(t, data);
    const tmp = privateTmp(t);
    const { code, stdout, stderr } = await runCli(t, tmp, ['bench', path, ...QUICK, '--json', '-']);
    assert.equal(code, 0, stderr);
    assert.equal(reportOf(stdout).options.size, 1 << 20);
    assert.equal(reportOf(stdout).file, path);
    const part = await runCli(t, tmp, ['bench', path, '--runtime', '50ms', '--size', '64k', '--json', '-']);
    assert.equal(reportOf(part.stdout).options.size, 1 << 16);
    assert.deepEqual(readFileSync(path), data);
  });

  test('only whole blocks of a file are addressed', async (t) => {
    const path = userFile(t, randomBytes(4096 * 3 + 1));
    const { code, stdout, stderr } = await runCli(t, privateTmp(t), [
      'bench',
      path,
      '--runtime',
      '50ms',
      '--json',
      '-',
    ]);
    assert.equal(code, 0, stderr);
    assert.equal(reportOf(stdout).options.size, 4096 * 3);
  });

  test('an existing file is not written to without --force', async (t) => {
    const data = randomBytes(64 << 10);
    const path = userFile(t, data);
    const tmp = privateTmp(t);
    const refuse = async (mode: string) => {
      const ended = await runCli(t, tmp, ['bench', path, ...QUICK, '--rw', mode]);
      assertOneLine(ended, 'fileaio bench', /exists, and --rw \w+ would overwrite .* add --force$/, 2);
    };
    await Promise.all(MODES.filter(writes).map(refuse));
    assert.deepEqual(readFileSync(path), data);
  });

  test('with --force every block is overwritten, and nothing else of the file changes', async (t) => {
    const path = userFile(t, Buffer.alloc((256 << 10) + 100));
    const { code, stderr } = await runCli(t, privateTmp(t), [
      'bench',
      path,
      '--runtime',
      '200ms',
      '--rw',
      'write',
      '--force',
    ]);
    assert.equal(code, 0, stderr);
    const now = readFileSync(path);
    assert.equal(now.length, (256 << 10) + 100);
    for (let at = 0; at < 256 << 10; at += 4096) {
      assert.ok(
        now.subarray(at, at + 4096).some((byte) => byte !== 0),
        `block at ${at}`,
      );
    }
    assert.ok(now.subarray(256 << 10).every((byte) => byte === 0));
  });

  test('a symbolic link to nowhere is not followed when a file is made', async (t) => {
    const directory = scratch(t);
    symlinkSync(join(directory, 'elsewhere'), join(directory, 'link'));
    const args = ['bench', join(directory, 'link'), ...QUICK, '--rw', 'write'];
    assertOneLine(
      await runCli(t, privateTmp(t), args),
      'fileaio bench',
      /link" is a symbolic link to a file that does not exist\. Remove the link/,
      1,
    );
    assert.deepEqual(readdirSync(directory), ['link']);
  });

  test('a block device is measured in its whole size, and not while it is mounted', async (t) => {
    if (!isRoot()) return t.skip('needs root for a loop device');
    const directory = scratch(t);
    const image = join(directory, 'image');
    writeFileSync(image, '');
    truncateSync(image, 8 << 20);
    const made = spawnSync('losetup', ['--find', '--show', image], { encoding: 'utf8' });
    if (made.status !== 0) return t.skip(`no loop device to be had: ${made.stderr}`);
    const device = made.stdout.trim();
    t.after(() => void execFileSync('losetup', ['--detach', device]));
    const tmp = privateTmp(t);
    const run = (...args: string[]) => runCli(t, tmp, ['bench', device, '--runtime', '100ms', ...args]);
    const read = await run('--json', '-');
    assert.equal(read.code, 0, read.stderr);
    assert.equal(reportOf(read.stdout).options.size, 8 << 20);
    assert.match(reportOf(read.stdout).medium, /^block device \/dev\/loop\d+ \(loop device\)$/);
    assertOneLine(await run('--rw', 'randwrite'), 'fileaio bench', /add --force$/, 2);
    assert.equal((await run('--rw', 'randrw', '--force')).code, 0);
    if (spawnSync('mkfs.ext4', ['-q', '-F', device]).status !== 0) return;
    const point = join(directory, 'mounted');
    mkdirSync(point);
    execFileSync('mount', [device, point]);
    try {
      assertOneLine(await run('--rw', 'write', '--force'), 'fileaio bench', /is in use: EBUSY.*Unmount it/, 1);
    } finally {
      execFileSync('umount', [point]);
    }
  });
});

describe('fileaio bench refuses in one line, with the cure, and leaves nothing behind', { concurrency: 3 }, () => {
  const max = getLimits().maxOutstanding;
  const cases: [title: string, args: string[], pattern: RegExp, code: number][] = [
    ['a file that does not exist', ['/no/such/file'], /no such file: "\/no\/such\/file"\. Name one/, 1],
    ['a directory', ['/'], /"\/" is a directory\. Name a regular file/, 1],
    ['a character device', ['/dev/null'], /neither a regular file nor a block device/, 1],
    ['a new file in no directory', ['/no/such/file', '--rw', 'write'], /cannot make the test file .*ENOENT/, 1],
    ['blocks off the alignment', ['--bs', '1000'], /--bs 1000 is no multiple of \d+, .* or --no-direct/, 2],
    ['no depth', ['--iodepth', '0'], /--iodepth "0" is out of range: give a whole number from 1 to \d+/, 2],
    ['too much depth', ['--iodepth', `${max + 1}`], new RegExp(`from 1 to ${max} \\(the most that the engine`), 2],
    ['more memory than there is', ['--iodepth', `${max}`, '--bs', '1g'], /of buffers, of .* free memory: give less/, 2],
    ['a size below a block', ['--size', '1k'], /--size is 1 KiB, less than one block of 4 KiB/, 2],
    ['a size that is none', ['--size', '12x'], /--size "12x" is no size/, 2],
    ['an unknown engine', ['--engine', 'steam'], /unknown engine "steam": there is .*kernel-aio, threads/, 2],
    ['an unknown option', ['--fast'], /Unknown option '--fast'\. See fileaio bench --help$/, 2],
    ['JSON into no directory', ['--json', '/no/such/place.json'], /cannot write --json .*ENOENT.*Name a file/, 1],
    ['control characters', ['\u001b[31m\n\u009b'], /"\\u001b\[31m\\n\\u009b"/, 1],
  ];
  for (const [title, args, pattern, code] of cases) {
    test(title, async (t) => {
      assertOneLine(await runCli(t, privateTmp(t), ['bench', ...args]), 'fileaio bench', pattern, code);
    });
  }

  test('a file that is smaller than a block', async (t) => {
    const path = userFile(t, Buffer.alloc(100));
    const ended = await runCli(t, privateTmp(t), ['bench', path]);
    assertOneLine(ended, 'fileaio bench', /is 100 B, less than one block/, 2);
  });

  test('JSON into the file that is measured', async (t) => {
    const data = randomBytes(8192);
    const path = userFile(t, data);
    const ended = await runCli(t, privateTmp(t), ['bench', path, '--json', path]);
    assertOneLine(ended, 'fileaio bench', /it is the file that is to be measured/, 2);
    assert.deepEqual(readFileSync(path), data);
  });

  test('a refused run makes no JSON file', async (t) => {
    const file = join(scratch(t), 'figures.json');
    const ended = await runCli(t, privateTmp(t), ['bench', '/no/such/file', '--json', file]);
    assertOneLine(ended, 'fileaio bench', /no such file/, 1);
    assert.ok(!existsSync(file));
  });

  test('a TMPDIR that does not exist', async (t) => {
    const ended = await runCli(t, '/no/such/directory', ['bench', ...QUICK]);
    assertOneLine(ended, 'fileaio bench', /cannot make the test file .*ENOENT.* set TMPDIR/, 1);
  });

  test('a file system without O_DIRECT', async (t) => {
    const path = '/sys/kernel/mm/transparent_hugepage/enabled';
    if (!existsSync(path)) return t.skip(`no ${path} here`);
    const ended = await runCli(t, privateTmp(t), ['bench', path, '--bs', '512']);
    assertOneLine(ended, 'fileaio bench', /refuses O_DIRECT: EINVAL.* Run it with --no-direct$/, 1);
  });

  test('a full disk', async (t) => {
    if (!isRoot()) return t.skip('needs root for a small file system');
    const point = scratch(t);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', point]).status !== 0) {
      return t.skip('mount is not allowed here');
    }
    try {
      const ended = await runCli(t, point, ['bench', ...QUICK]);
      assertOneLine(ended, 'fileaio bench', /the test file .* is to have 4 MiB, and 1 MiB are free\. Ask for less/, 1);
      assert.deepEqual(readdirSync(point), []);
    } finally {
      execFileSync('umount', [point]);
    }
  });

  test('a disk that others fill meanwhile', async (t) => {
    const tmp = privateTmp(t);
    const strace = injecting('pwrite64:error=ENOSPC:when=2+');
    if (spawnSync('strace', ['-V']).error !== undefined) return t.skip('strace is not installed');
    const ended = await start(t, tmp, [...strace, ...cli, 'bench', ...QUICK]).ended;
    assertOneLine(ended, 'fileaio bench', /cannot fill the test file .* with 4 MiB: ENOSPC.*Free some space/, 1);
  });

  test('an engine that does not work here', async (t) => {
    if (!has('strace')) return t.skip('strace is not installed');
    const strace = injecting('io_setup:error=EPERM');
    const ended = await start(t, privateTmp(t), [...strace, ...cli, 'bench', '--engine', 'kernel-aio']).ended;
    assertOneLine(ended, 'fileaio bench', /'kernel-aio' cannot work here: io_setup answered EPERM.*seccomp/, 1);
  });

  test('a device that fails in the middle', async (t) => {
    if (!has('strace')) return t.skip('strace is not installed');
    const strace = injecting('pread64:error=EIO:when=200');
    const ended = await start(t, privateTmp(t), [...strace, ...cli, 'bench', ...ENDLESS]).ended;
    assertOneLine(ended, 'fileaio bench', /a read of 4096 bytes at position \d+ by node:fs\/promises failed: EIO/, 1);
  });

  test('a file that becomes shorter meanwhile, whoever reads it', async (t) => {
    for (const [reader, args] of [
      ['node:fs/promises', ['--runtime', '10m']],
      ['kernel-aio', ['--runtime', '1s']],
    ] as const) {
      const path = userFile(t, randomBytes(1 << 20));
      const run = start(t, privateTmp(t), [...cli, 'bench', path, ...args, '--engine', 'kernel-aio']);
      await run.said(new RegExp(`measuring ${reader}`));
      truncateSync(path, 0);
      const pattern = new RegExp(`by ${reader} moved 0 bytes only: the file became shorter`);
      assertOneLine(await run.ended, 'fileaio bench', pattern, 1);
    }
  });

  test('a full standard output', async (t) => {
    const shell = ['sh', '-c', 'exec "$@" >/dev/full', 'sh', ...cli, 'bench', ...QUICK];
    const ended = await start(t, privateTmp(t), shell).ended;
    assertOneLine(ended, 'fileaio bench', /cannot write to standard output: ENOSPC/, 1);
  });

  test('a reader that went away, without a word', async (t) => {
    const run = start(t, privateTmp(t), [...cli, 'bench', ...QUICK]);
    run.child.stdout?.destroy();
    const { code, stderr } = await run.ended;
    assert.equal(code, 141);
    assert.match(stderr, /^(fileaio bench: (making|measuring) .*\n)+$/);
  });
});

describe('fileaio bench stops when it is told to', { concurrency: 3 }, () => {
  test('on Ctrl-C it prints what was measured so far, the running engine included', async (t) => {
    const file = join(scratch(t), 'figures.json');
    const args = ['bench', '--runtime', '2s', '--size', '4m', '--engine', 'kernel-aio', '--json', file];
    const run = start(t, privateTmp(t), [...cli, ...args]);
    await run.said(/measuring kernel-aio/);
    run.child.kill('SIGINT');
    const { code, signal, stdout, stderr } = await run.ended;
    assert.equal(signal, null);
    assert.equal(code, 130, stderr);
    assert.deepEqual(
      rowsOf(stdout).map(([name]) => name),
      ['node:fs/promises', 'kernel-aio'],
    );
    assert.match(stdout, /\nInterrupted by SIGINT: kernel-aio was measured for [\d.]+ s only\n$/);
    const { interrupted, results } = reportOf(readFileSync(file, 'utf8'));
    assert.equal(interrupted, true);
    assert.ok((results[1]?.transfers ?? 0) > 0);
    assert.ok((results[1]?.seconds ?? 2) < 2);
  });

  test('on SIGTERM likewise, with its own exit code', async (t) => {
    const run = start(t, privateTmp(t), [...cli, 'bench', ...ENDLESS]);
    await run.said(/measuring node:fs\/promises/);
    run.child.kill('SIGTERM');
    const { code, stdout } = await run.ended;
    assert.equal(code, 143);
    assert.equal(rowsOf(stdout).length, 1);
    assert.match(stdout, /\nInterrupted by SIGTERM: node:fs\/promises was measured for/);
  });

  test('while the test file is being made', async (t) => {
    const run = start(t, privateTmp(t), [...cli, 'bench', '--size', '4g', '--json', '-']);
    await run.said(/making a test file/);
    run.child.kill('SIGINT');
    const { code, stdout } = await run.ended;
    assert.equal(code, 130);
    assert.equal(reportOf(stdout).interrupted, true);
    assert.deepEqual(reportOf(stdout).results, []);
  });

  test('at once on a second signal', async (t) => {
    const run = start(t, privateTmp(t), [...cli, 'bench', ...ENDLESS]);
    await run.said(/measuring node:fs\/promises/);
    // Both are there before it gets to run again.
    for (const signal of ['SIGSTOP', 'SIGINT', 'SIGTERM', 'SIGCONT'] as const) run.child.kill(signal);
    const { code, stdout } = await run.ended;
    assert.ok(code === 130 || code === 143, `${code}`);
    assert.equal(stdout, '');
  });

  test('and leaves nothing behind even when it is killed', async (t) => {
    const run = start(t, privateTmp(t), [...cli, 'bench', ...ENDLESS]);
    await run.said(/measuring node:fs\/promises/);
    run.child.kill('SIGKILL');
    assert.equal((await run.ended).signal, 'SIGKILL');
  });
});

describe('fileaio bench on a terminal', { concurrency: 3 }, () => {
  /** Under script(1), which gives it a pseudo-terminal and passes on what is typed. */
  function onTerminal(t: TestContext, tmp: string, args: readonly string[]): ReturnType<typeof start> {
    const command = `exec ${[...cli, ...args].map((word) => `'${word}'`).join(' ')}`;
    return start(t, tmp, ['script', '-qec', command, '/dev/null'], { SHELL: '/bin/sh' });
  }

  test('shows one line that is rewritten, and takes it away before the table', async (t) => {
    if (!has('script')) return t.skip('script is not installed');
    const { code, stdout } = await onTerminal(t, privateTmp(t), ['bench', '--runtime', '300ms', '--size', '4m']).ended;
    assert.equal(code, 0, stdout);
    assert.match(stdout, /\r *\d+ % {2}ETA \d+ s {2}node:fs\/promises {2}\d+ IOPS {2}[\d.]+ MiB\/s/);
    assert.match(stdout, /\r *\d+ % {2}ETA \d+ s {2}kernel-aio/);
    const [live = '', rest] = stdout.split('randread, ');
    assert.ok(!live.includes('\n'), 'all in one line');
    assert.match(live, /\r +\r$/);
    assert.equal(rowsOf(`randread, ${rest}`.replaceAll('\r', '')).length, names.length);
  });

  test('a typed Ctrl-C ends it in order', async (t) => {
    if (!has('script')) return t.skip('script is not installed');
    const run = onTerminal(t, privateTmp(t), ['bench', ...ENDLESS]);
    await run.said(/measuring node:fs\/promises/);
    run.child.stdin?.write('\u0003');
    const { code, stdout } = await run.ended;
    assert.equal(code, 130, stdout);
    assert.match(stdout, /Interrupted by SIGINT: node:fs\/promises was measured/);
  });
});

describe('the pieces of a benchmark', () => {
  const mistakes: [title: string, args: string[], message: RegExp][] = [
    ['two files', ['a', 'b'], /one FILE at most, and "b"/],
    ['a block of nothing', ['--bs', '0'], /--bs "0" is no size: give bytes/],
    ['a block beyond one transfer', ['--bs', '4g'], /--bs "4g" is too much .* 1g/],
    ['a depth with a fraction', ['--iodepth', '1.5'], /--iodepth "1\.5" is out of range/],
    ['a time that is none', ['--runtime', 'soon'], /--runtime "soon" is no duration/],
    ['no time', ['--runtime', '0'], /--runtime "0" is no duration/],
    ['a negative time', ['--runtime', '-5'], /'--runtime' needs a value that does not begin with a dash/],
    ['an unknown mode', ['--rw', 'sideways'], /--rw "sideways" is no mode: give one of read, write/],
    ['an option without its value', ['--bs'], /'--bs <value>' argument missing\. See/],
    ['JSON into a directory', ['--json', '/'], /cannot write --json "\/": it is a directory/],
  ];
  for (const [title, args, message] of mistakes) {
    test(`the options do not take ${title}`, () => {
      assert.throws(() => parseBench(args), { name: 'CliError', message });
    });
  }

  test('sizes are powers of 1024, however they are written', () => {
    const sizes = { 512: 512, '4k': 4096, '4K': 4096, '4KiB': 4096, '4kb': 4096, '1.5m': 1572864, '2G': 2 ** 31 };
    for (const [text, bytes] of Object.entries(sizes)) assert.equal(parseSize('--bs', text), bytes, text);
    for (const text of ['', 'k', '-1', '4q', '1e3', '0x10', '0', '0.3', '9999999t', '4 k k']) {
      assert.throws(() => parseSize('--bs', text), /--bs .* is no size/, text);
    }
    assert.deepEqual([1, 1000, 4096, 1536, 2 ** 28].map(formatSize), ['1 B', '1000 B', '4 KiB', '1.5 KiB', '256 MiB']);
  });

  test('a plain duration is in seconds', () => {
    const durations = { 3: 3000, '3s': 3000, '200ms': 200, '1.5s': 1500, '2m': 120_000, '2M': 120_000 };
    for (const [text, ms] of Object.entries(durations)) assert.equal(parseDuration('--runtime', text), ms, text);
    for (const text of ['', 's', '-1s', '0', '0.1ms', '3 days', 'Infinity']) {
      assert.throws(() => parseDuration('--runtime', text), /is no duration/, text);
    }
  });

  test('counts are whole numbers in their range', () => {
    assert.equal(parseCount('--iodepth', '32', 1, 64, 'limit'), 32);
    for (const text of ['', '0', '65', '-1', '1e1', ' 3']) {
      assert.throws(() => parseCount('--iodepth', text, 1, 64, 'limit'), /from 1 to 64 \(limit\)/, text);
    }
  });

  const job = (mode: Job['mode'], blocks: number) => new Pattern({ mode, blocks, blockSize: 4096 } as Job);

  test('sequential positions wrap around', () => {
    const pattern = job('write', 3);
    assert.deepEqual(
      Array.from({ length: 7 }, () => pattern.position() / 4096),
      [0, 1, 2, 0, 1, 2, 0],
    );
    assert.ok(pattern.isWrite());
    assert.ok(!job('read', 3).isWrite());
  });

  test('random positions are spread evenly over whole blocks, and the same for everybody', () => {
    const [one, other] = [job('randread', 64), job('randread', 64)];
    const counts = new Float64Array(64);
    for (let draw = 0; draw < 64_000; draw++) {
      const position = one.position();
      assert.equal(other.position(), position);
      assert.equal(position % 4096, 0);
      counts[position / 4096] = (counts[position / 4096] ?? 0) + 1;
    }
    for (const count of counts) assert.ok(count > 800 && count < 1200, `${count} of 1000 expected`);
  });

  test('half of a mixed load are writes', () => {
    const pattern = job('randrw', 64);
    let writing = 0;
    for (let draw = 0; draw < 10_000; draw++) {
      if (pattern.isWrite()) writing++;
      pattern.position();
    }
    assert.ok(writing > 4700 && writing < 5300, `${writing}`);
  });
});
