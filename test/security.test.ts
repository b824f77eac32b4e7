/** What SECURITY.md promises, where no other test has it as its subject. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import fsPromises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { copyFile } from '../src/cli/copy.ts';
import { findPlace, openDestination, TEMPORARY } from '../src/cli/copy-destination.ts';
import { parseCopy } from '../src/cli/copy-options.ts';
import { Source } from '../src/cli/copy-source.ts';
import { openTarget, type TargetWish } from '../src/cli/target.ts';
import { CliError } from '../src/cli/usage.ts';
import * as callbacks from '../src/fs.ts';
import { AioContext, engines } from '../src/index.ts';
import { open, readFile } from '../src/promises.ts';
import { cli } from './run-cli.ts';
import { root } from './snippets.ts';
import { loopDevice, scratch } from './support.ts';

/** Two directories: one that a program is given the path of, and one that somebody wants it to work in instead. */
function twoDirectories(t: TestContext): { given: string; other: string; swap: () => void } {
  const directory = scratch(t);
  const [given, other] = [join(directory, 'given'), join(directory, 'other')];
  mkdirSync(given);
  mkdirSync(other);
  const swap = (): void => {
    renameSync(given, join(directory, 'moved'));
    symlinkSync(other, given);
  };
  return { given, other, swap };
}

/** Does something just before the next file is opened. */
function beforeOpening(t: TestContext, act: () => void): void {
  const { open: real } = fsPromises;
  const restore = (): void => {
    fsPromises.open = real;
    syncBuiltinESMExports();
  };
  fsPromises.open = (...args) => {
    restore();
    act();
    return real(...args);
  };
  syncBuiltinESMExports();
  t.after(restore);
}

const BENCH: TargetWish = { path: undefined, mode: 'write', direct: false, force: false, size: 4096 };

describe('a directory whose path leads elsewhere meanwhile', () => {
  test('gets the copy all the same, and the other is left alone', async (t) => {
    const { given, other, swap } = twoDirectories(t);
    const source = join(scratch(t), 'source');
    writeFileSync(source, 'new');
    writeFileSync(join(other, 'data'), 'somebody’s');
    const options = parseCopy([source, join(given, 'data'), '--force']);
    assert.ok(options !== undefined);
    const step = (doing: string): void => {
      if (!doing.startsWith('flushing')) return;
      const temporary = readdirSync(given).find((name) => name.startsWith(TEMPORARY));
      assert.ok(temporary !== undefined);
      // Under the name that is to be renamed, there is something of somebody else's.
      writeFileSync(join(other, temporary), 'evil');
      swap();
    };
    const progress = { step, update: () => undefined, end: () => undefined };
    await copyFile(options, progress, { signal: new AbortController().signal, by: undefined, exitCode: 0 });
    assert.equal(readFileSync(join(other, 'data'), 'utf8'), 'somebody’s');
    const moved = join(given, '../moved');
    assert.deepEqual(readdirSync(moved), ['data']);
    assert.equal(readFileSync(join(moved, 'data'), 'utf8'), 'new');
  });

  test('has its temporary file removed when a copy fails, and the other keeps what has that name', (t) => {
    const { given, other, swap } = twoDirectories(t);
    const source = join(scratch(t), 'source');
    writeFileSync(source, 'new');
    const from = Source.open(source);
    t.after(() => from.close());
    const destination = openDestination(findPlace(join(given, 'data'), from, false));
    const [temporary = ''] = readdirSync(given);
    writeFileSync(join(other, temporary), 'somebody’s');
    swap();
    destination.close();
    assert.deepEqual(readdirSync(join(given, '../moved')), []);
    assert.deepEqual(readdirSync(other), [temporary]);
  });

  test('has the file of a benchmark removed, and the other keeps what has that name', async (t) => {
    const { given, other, swap } = twoDirectories(t);
    writeFileSync(join(other, 'data'), 'somebody’s');
    beforeOpening(t, swap);
    const target = await openTarget({ ...BENCH, path: join(given, 'data') });
    await target.fill(() => undefined, new AbortController().signal);
    await target.close();
    assert.deepEqual(readdirSync(join(given, '../moved')), []);
    assert.equal(readFileSync(join(other, 'data'), 'utf8'), 'somebody’s');
  });
});

describe('a name that is another file meanwhile', () => {
  test('is not written to by copy, where it is another device', (t) => {
    if (process.platform !== 'linux') return t.skip('needs /dev/null and /dev/zero');
    const directory = scratch(t);
    const [source, link] = [join(directory, 'source'), join(directory, 'link')];
    writeFileSync(source, 'x');
    symlinkSync('/dev/null', link);
    const from = Source.open(source);
    t.after(() => from.close());
    const place = findPlace(link, from, true);
    rmSync(link);
    symlinkSync('/dev/zero', link);
    assert.throws(
      () => openDestination(place),
      (error) => error instanceof CliError && /became another file/.test(error.message),
    );
  });

  test('is not written to by bench, where it was a file and is a device', async (t) => {
    const device = loopDevice(t, 2 ** 20);
    if ('why' in device) return t.skip(device.why);
    const directory = scratch(t);
    const [file, link] = [join(directory, 'file'), join(directory, 'link')];
    writeFileSync(file, Buffer.alloc(4096));
    symlinkSync(file, link);
    beforeOpening(t, () => {
      rmSync(link);
      symlinkSync(device.path, link);
    });
    await assert.rejects(
      openTarget({ ...BENCH, path: link, force: true }),
      (error) => error instanceof CliError && /became another file/.test(error.message),
    );
  });
});

describe('what the command line opens', () => {
  for (const command of ['copy', 'bench'] as const) {
    test(`in ${command} is closed for programs that are started, and new files are nobody else’s`, (t) => {
      if (spawnSync('strace', ['--version']).error !== undefined) return t.skip('strace is not installed');
      const directory = scratch(t);
      const trace = join(directory, 'trace');
      const tmp = join(directory, 'tmp');
      mkdirSync(tmp);
      writeFileSync(join(tmp, 'source'), randomBytes(100_000));
      const args = {
        copy: ['copy', '--verify', join(tmp, 'source'), join(tmp, 'copy')],
        bench: [
          'bench',
          '--size',
          '64k',
          '--runtime',
          '10ms',
          '--engine',
          'io-uring',
          '--engine',
          'threads',
          '--no-direct',
        ],
      }[command];
      if (command === 'bench' && engines()[0]?.available !== true) args.splice(5, 2);
      const strace = ['-f', '-qq', '-o', trace, '-e', 'trace=open,openat,eventfd2,io_uring_setup,dup3,fchmod'];
      const env = { ...process.env, TMPDIR: tmp, TSX_DISABLE_CACHE: '1' };
      const ended = spawnSync('strace', [...strace, ...cli, ...args], {
        cwd: root,
        env,
        encoding: 'utf8',
        timeout: 60_000,
      });
      assert.equal(ended.status, 0, ended.stderr);
      const calls = readFileSync(trace, 'utf8').split('\n');
      const opened = calls.filter(
        (call) => /open(at)?\(/.test(call) && (call.includes(tmp) || call.includes('/proc/self/fd/')),
      );
      assert.ok(opened.length > 2, opened.join('\n'));
      for (const call of opened) assert.match(call, /O_CLOEXEC/);
      for (const call of calls.filter((line) => line.includes('eventfd2('))) assert.match(call, /EFD_CLOEXEC/);
      const made = opened.filter((call) => call.includes('O_CREAT'));
      assert.ok(made.length >= 1, 'a file was made');
      for (const call of made) assert.match(call, /O_RDWR\|O_CREAT\|O_EXCL\|O_NOFOLLOW\|O_CLOEXEC, 0600\)/);
    });
  }
});

describe('a copy by somebody who may not give it away', () => {
  const NOBODY = 65534;

  for (const [title, replaces] of [
    ['of a set-user-ID program of root', false],
    ['in the place of a set-user-ID program of root', true],
  ] as const) {
    test(`${title} is not set-user-ID`, (t) => {
      if (process.getuid?.() !== 0) return t.skip('only root can become somebody else');
      const directory = scratch(t);
      chownSync(directory, NOBODY, NOBODY);
      const [source, destination] = [join(directory, 'source'), join(directory, 'destination')];
      writeFileSync(source, 'new');
      chmodSync(source, replaces ? 0o644 : 0o6755);
      if (replaces) {
        writeFileSync(destination, 'old');
        chmodSync(destination, 0o6755);
      }
      const args = [join(root, 'dist/cli/main.js'), 'copy', replaces ? '--force' : '--preserve', source, destination];
      const ended = spawnSync(process.execPath, args, {
        uid: NOBODY,
        gid: NOBODY,
        cwd: '/',
        encoding: 'utf8',
        timeout: 60_000,
      });
      if (/EACCES|Cannot find module/.test(ended.stderr)) return t.skip('nobody may not read this directory');
      assert.equal(ended.status, 0, ended.stderr);
      const { mode, uid } = statSync(destination);
      assert.equal(readFileSync(destination, 'utf8'), 'new');
      assert.equal(uid, NOBODY);
      assert.equal(mode & 0o7777, 0o755);
    });
  }
});

describe('descriptors', () => {
  test('of contexts, handles and streams are not passed on to programs that are started', async (t) => {
    if (!existsSync('/proc/self/fdinfo')) return t.skip('needs /proc');
    const path = join(scratch(t), 'data');
    writeFileSync(path, randomBytes(65536));
    const before = new Set(readdirSync('/proc/self/fd'));
    const made: { close(): unknown }[] = [];
    for (const { name, available } of engines()) {
      if (available) made.push(new AioContext({ maxRequests: 4, engine: name }));
    }
    const handle = await open(path, 'r+');
    await handle.read(Buffer.alloc(100), 0, 100, 0); // the queue has a context now
    const fd = callbacks.openSync(path);
    made.push(handle, { close: () => callbacks.closeSync(fd) });
    const since = readdirSync('/proc/self/fd').filter(
      (name) => !before.has(name) && existsSync(`/proc/self/fd/${name}`),
    );
    assert.ok(since.length >= 2, 'the file, twice');
    for (const name of since) {
      const flags = /^flags:\s+([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${name}`, 'utf8'))?.[1] ?? '0';
      assert.notEqual(Number.parseInt(flags, 8) & 0o2000000, 0, `descriptor ${name} is close-on-exec`);
    }
    const seen = execFileSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
    assert.ok(!/io_uring|eventfd/.test(seen) && !seen.includes(path), seen);
    for (const one of made) await one.close();
  });
});

describe('memory that the library hands out', () => {
  test('holds nothing but the file and zeros, also beside what was read', async (t) => {
    const path = join(scratch(t), 'data');
    const onlyOurs = (view: Uint8Array): void => {
      for (const byte of new Uint8Array(view.buffer)) if (byte !== 0 && byte !== 1) assert.fail(`a byte ${byte}`);
    };
    for (const direct of [false, true]) {
      for (const size of [1, 5000, 65537, 700_001]) {
        // What the allocator has used before shows up again.
        for (let i = 0; i < 64; i++) Buffer.allocUnsafeSlow(size + 4096).fill(0xaa);
        writeFileSync(path, Buffer.alloc(size, 1));
        onlyOurs(await readFile(path, { direct }));
        await using handle = await open(path, { direct });
        for await (const chunk of handle.createReadStream({ autoClose: false })) onlyOurs(chunk as Buffer);
        onlyOurs((await handle.read({ position: 0 })).buffer);
      }
    }
    // A file that turns out to be shorter than it said.
    writeFileSync(path, Buffer.alloc(700_000, 1));
    const handle = await open(path);
    const reading = handle.readFile();
    truncateSync(path, 1000);
    onlyOurs(await reading);
    await handle.close();
  });
});

describe('the package', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, object | undefined>;

  test('runs nothing when it is installed, and brings nothing else', () => {
    const { scripts = {}, dependencies = {}, optionalDependencies = {} } = manifest;
    for (const name of ['preinstall', 'install', 'postinstall']) assert.ok(!(name in scripts), name);
    // npm would run node-gyp for this by itself.
    assert.ok(!existsSync(join(root, 'binding.gyp')));
    assert.deepEqual({ ...dependencies, ...optionalDependencies }, {});
  });

  for (const lock of ['package-lock.json', 'scripts/docs/package-lock.json']) {
    test(`is built with what ${lock} pins by checksum, from wherever it comes`, () => {
      const { packages } = JSON.parse(readFileSync(join(root, lock), 'utf8')) as {
        packages: Record<string, { integrity?: string; resolved?: string; link?: boolean }>;
      };
      for (const [name, { integrity = '', resolved }] of Object.entries(packages)) {
        if (name === '') continue;
        assert.match(integrity, /^sha512-/, name);
        assert.equal(resolved, undefined, name);
      }
    });
  }

  test('has a program that only its owner may change', () => {
    assert.equal(statSync(join(root, 'dist/cli/main.js')).mode & 0o022, 0);
  });
});
