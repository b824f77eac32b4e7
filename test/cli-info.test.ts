/** `fileaio info`, and the tool without a command, as their users run them. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { arch, release } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { engines, getLimits } from '../src/index.ts';
import { assertOneLine, cli, injecting, isControlled, privateTmp, runCli, start } from './run-cli.ts';
import { scratch } from './support.ts';

interface Info {
  version: string;
  kernel: string;
  node: string;
  arch: string;
  engines: { name: string; available: boolean; why?: string }[];
  aioNr: number;
  aioMaxNr: number;
  file?: {
    path: string;
    medium: string;
    bufferAlignment: number;
    offsetAlignment: number;
    alignmentSource: string;
    direct: boolean;
    whyNotDirect?: string;
  };
}

const sysctl = (name: string): number => Number(readFileSync(`/proc/sys/fs/${name}`, 'utf8'));

describe('fileaio info', { concurrency: 3 }, () => {
  test('tells of the machine in aligned lines', async (t) => {
    const { code, stdout, stderr } = await runCli(t, privateTmp(t), ['info']);
    assert.equal(code, 0, stderr);
    assert.equal(stderr, '');
    const lines = new Map(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.split(/ {2,}/, 2) as [string, string]),
    );
    assert.equal(lines.get('kernel'), `Linux ${release()}`);
    assert.equal(lines.get('Node'), process.version);
    assert.equal(lines.get('architecture'), arch());
    for (const { name, available } of engines()) {
      assert.match(lines.get(`engine ${name}`) ?? '', available ? /^available$/ : /^not available: \S/);
    }
    assert.match(lines.get('aio-nr') ?? '', /^\d+$/);
    assert.equal(lines.get('aio-max-nr'), `${sysctl('aio-max-nr')}`);
    assert.ok(!lines.has('file'));
    const columns = new Set(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => /^.*? {2,}/.exec(line)?.[0].length),
    );
    assert.equal(columns.size, 1, stdout);
  });

  test('tells the same as one JSON object', async (t) => {
    const { code, stdout } = await runCli(t, privateTmp(t), ['info', '--json']);
    assert.equal(code, 0);
    const info = JSON.parse(stdout) as Info;
    assert.equal(info.kernel, release());
    assert.equal(info.node, process.version);
    assert.equal(info.arch, arch());
    assert.deepEqual(info.engines, engines());
    assert.equal(info.aioMaxNr, sysctl('aio-max-nr'));
    assert.ok(info.aioNr >= 0);
    assert.equal(info.file, undefined);
  });

  test('tells what direct I/O on a file needs', async (t) => {
    const path = join(scratch(t), 'data');
    writeFileSync(path, 'x');
    const tmp = privateTmp(t);
    const { stdout } = await runCli(t, tmp, ['info', path, '--json']);
    const { file } = JSON.parse(stdout) as Info;
    const { bufferAlignment, offsetAlignment } = getLimits(path);
    assert.equal(file?.path, path);
    assert.equal(file?.bufferAlignment, bufferAlignment);
    assert.equal(file?.offsetAlignment, offsetAlignment);
    assert.match(file?.alignmentSource ?? '', /^(statx|\/sys\/|default)/);
    assert.ok((file?.medium ?? '').length > 0);
    const { stdout: text } = await runCli(t, tmp, ['info', path]);
    assert.match(
      text,
      new RegExp(`^buffer alignment +${bufferAlignment} bytes\noffset alignment +${offsetAlignment} bytes$`, 'm'),
    );
    assert.match(text, file?.direct ? /^O_DIRECT +works$/m : /^O_DIRECT +does not work: /m);
  });

  test('says where O_DIRECT does not work', async (t) => {
    const path = '/sys/kernel/mm/transparent_hugepage/enabled';
    if (!existsSync(path)) return t.skip(`no ${path} here`);
    const { code, stdout } = await runCli(t, privateTmp(t), ['info', path, '--json']);
    assert.equal(code, 0);
    const { file } = JSON.parse(stdout) as Info;
    assert.equal(file?.direct, false);
    assert.match(file?.whyNotDirect ?? '', /refuses it \(EINVAL/);
    assert.equal(file?.medium, 'sysfs');
  });

  test('finds the medium behind links and mount points with blanks in their names', async (t) => {
    if (process.getuid?.() !== 0) return t.skip('needs root to mount');
    const directory = scratch(t);
    const point = join(directory, 'a b');
    mkdirSync(point);
    if (spawnSync('mount', ['-t', 'ramfs', 'none', point]).status !== 0) return t.skip('mount is not allowed here');
    try {
      writeFileSync(join(point, 'data'), 'x');
      symlinkSync(join(point, 'data'), join(directory, 'link'));
      const { stdout } = await runCli(t, privateTmp(t), ['info', join(directory, 'link'), '--json']);
      assert.equal((JSON.parse(stdout) as Info).file?.medium, 'ramfs');
    } finally {
      execFileSync('umount', [point]);
    }
  });

  test('says why an engine does not work', async (t) => {
    if (spawnSync('strace', ['--version']).error !== undefined) return t.skip('strace is not installed');
    const strace = injecting('io_setup:error=EPERM');
    const { code, stdout } = await start(t, privateTmp(t), [...strace, ...cli, 'info']).ended;
    assert.equal(code, 0);
    assert.match(stdout, /^engine kernel-aio +not available: .*EPERM.*seccomp/m);
  });

  test('shows a file name with control characters as text', async (t) => {
    const path = join(scratch(t), 'a\u001b[31m\nb\u009b');
    writeFileSync(path, 'x');
    const { code, stdout } = await runCli(t, privateTmp(t), ['info', path]);
    assert.equal(code, 0);
    assert.match(stdout, /^file +".*a\\u001b\[31m\\nb\\u009b"$/m);
    assert.ok(!isControlled(stdout.replaceAll('\n', '')));
  });

  test('has help', async (t) => {
    const { code, stdout } = await runCli(t, privateTmp(t), ['info', '--help']);
    assert.equal(code, 0);
    assert.match(stdout, /^Usage: fileaio info \[FILE\]/m);
  });
});

describe('fileaio info refuses in one line', { concurrency: 3 }, () => {
  const cases: [title: string, args: string[], pattern: RegExp, code: number][] = [
    ['a file that does not exist', ['/no/such/file'], /no such file: "\/no\/such\/file"/, 1],
    ['a path through a file', ['/dev/null/x'], /cannot look at "\/dev\/null\/x": ENOTDIR/, 1],
    ['a directory', ['/'], /is a directory/, 1],
    ['an empty name', [''], /FILE is empty/, 2],
    ['an unknown option', ['--everything'], /Unknown option '--everything'\. See fileaio info --help$/, 2],
  ];
  for (const [title, args, pattern, code] of cases) {
    test(title, async (t) => {
      assertOneLine(await runCli(t, privateTmp(t), ['info', ...args]), 'fileaio info', pattern, code);
    });
  }
});

describe('fileaio without a command that it knows refuses in one line', { concurrency: 3 }, () => {
  const cases: [title: string, args: string[], pattern: RegExp][] = [
    ['nothing', [], /a command is missing: bench or copy or info\. See fileaio --help/],
    ['an unknown command', ['fly'], /unknown command "fly": there is bench and copy and info/],
    ['an unknown option', ['--fly'], /unknown option "--fly"/],
    ['the name of a built-in property', ['constructor'], /unknown command "constructor"/],
  ];
  for (const [title, args, pattern] of cases) {
    test(title, async (t) => {
      assertOneLine(await runCli(t, privateTmp(t), args), 'fileaio', pattern, 2);
    });
  }
});
