// What users get: `npm run test:package` packs the package and checks its list of files, its exports, its types, and that npm, pnpm, yarn and bun
// install it into an empty project, where it reads a file with an engine that needs the native shim, without a compiler in sight.
// With `-- --quick` what needs nothing from the registry. With `-- FILE.tgz` that tarball instead of a fresh one.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cached, program } from './cached.mjs';
import { finish, Skip, step } from './steps.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const quick = process.argv.includes('--quick');
const given = process.argv.find((argument) => argument.endsWith('.tgz'));
const temporary = mkdtempSync(join(tmpdir(), 'fileaio-package-'));
process.on('exit', () => rmSync(temporary, { recursive: true, force: true }));

// Nothing that an outer npm said through the environment counts for the installs below.
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^npm_(?!config_registry)/i.test(name)),
);

function run(file, args, { cwd = root, env = {} } = {}) {
  const options = {
    cwd,
    encoding: 'utf8',
    env: { ...environment, NO_COLOR: '1', ...env },
    timeout: 300_000,
    maxBuffer: 2 ** 26,
  };
  const ended = spawnSync(file, args, options);
  if (ended.status === 0) return ended.stdout;
  throw new Error(
    `${basename(file)} ${args.join(' ')} ended with ${ended.error ?? ended.signal ?? ended.status}:\n${ended.stdout}${ended.stderr}`,
  );
}

const node = (args, options) => run(process.execPath, args, options);
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** All that may be in the package, and of each at least one file. */
const CONTENT = [
  /^package\.json$/,
  /^(README|CHANGELOG|CONTRIBUTING|DESIGN|RELIABILITY|SECURITY|bench\/RESULTS(-FILES)?)\.md$/,
  /^LICENSE$/,
  /^docs\/[\w/-]+\.(md|svg)$/,
  /^man\/fileaio\.1$/,
  /^dist\/([\w-]+\/)*[\w-]+\.(js|d\.ts)$/,
  /^dist\/cli\/report\/(charts\.js|style\.css|uPlot\.iife\.min\.js|uPlot\.min\.css|uPlot\.LICENSE)$/,
  /^native\/(binding\.gyp|layout\.c|shim\.c)$/,
  /^prebuilds\/(SHA256SUMS|linux-(x64|arm64)\/fileaio\.node)$/,
  /^scripts\/build-native\.mjs$/,
];

let tarball = given === undefined ? undefined : resolve(given);
let unpacked = '';

await step('pack', () => {
  if (tarball === undefined) {
    node(['scripts/build-ts.mjs']);
    node(['scripts/prebuild.mjs']);
    const [packed] = JSON.parse(run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', temporary]));
    tarball = join(temporary, packed.filename);
  }
  run('tar', ['-xzf', tarball, '-C', temporary]);
  unpacked = join(temporary, 'package');
  const size = readFileSync(tarball).length;
  return `${basename(tarball)}, ${(size / 1024).toFixed(0)} KiB`;
});
if (unpacked === '') finish();

await step('it holds what it should, and nothing else', () => {
  const files = run('tar', ['-tzf', tarball])
    .trim()
    .split('\n')
    .map((name) => name.replace('package/', ''));
  assert.deepEqual(
    files.filter((file) => !CONTENT.some((pattern) => pattern.test(file))),
    [],
    'these do not belong in it',
  );
  for (const pattern of CONTENT)
    assert.ok(
      files.some((file) => pattern.test(file)),
      `nothing in it is ${pattern}`,
    );
  const compiled = files.filter((file) => /^dist\/(?!cli\/report\/)/.test(file));
  const expected = run('git', ['ls-files', 'src'])
    .trim()
    .split('\n')
    .flatMap((file) => {
      const stem = file.replace(/^src/, 'dist').replace(/\.ts$/, '');
      return [`${stem}.js`, `${stem}.d.ts`];
    });
  assert.deepEqual(compiled.sort(), expected.sort());
  for (const shim of ['x64', 'arm64'])
    assert.ok(files.includes(`prebuilds/linux-${shim}/fileaio.node`), `no shim for ${shim}`);
  return `${files.length} files`;
});

await step('nothing in it runs when it is installed', () => {
  const packed = JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8'));
  for (const script of ['preinstall', 'install', 'postinstall'])
    assert.equal(packed.scripts[script], undefined, script);
  assert.ok(!existsSync(join(unpacked, 'binding.gyp')), 'npm runs node-gyp where there is a binding.gyp');
  for (const kind of ['dependencies', 'optionalDependencies', 'peerDependencies', 'bundleDependencies'])
    assert.equal(packed[kind], undefined, kind);
});

await step('the sums of the shims are right', () => {
  const lines = readFileSync(join(unpacked, 'prebuilds/SHA256SUMS'), 'utf8').trim().split('\n');
  for (const line of lines) {
    const [sum, name] = line.split('  ');
    assert.equal(
      createHash('sha256')
        .update(readFileSync(join(unpacked, 'prebuilds', name)))
        .digest('hex'),
      sum,
      name,
    );
  }
  assert.equal(lines.length, 2);
});

await step('every export and the command-line tool is there', () => {
  for (const [name, targets] of Object.entries(manifest.exports)) {
    for (const target of typeof targets === 'string' ? [targets] : Object.values(targets))
      assert.ok(existsSync(join(unpacked, target)), `${name}: ${target}`);
  }
  assert.equal(
    node([join(unpacked, manifest.bin.fileaio), '--version'])
      .trim()
      .split(' ')
      .at(-1),
    manifest.version,
  );
});

/** An empty project with a file to read. */
function project(name, contents = {}) {
  const folder = join(temporary, name);
  mkdirSync(folder);
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify({ name, private: true, ...contents })}\n`);
  writeFileSync(join(folder, 'data.txt'), 'read me');
  cpSync(join(root, 'test/package'), folder, { recursive: true });
  return folder;
}

/** What there is on a machine without a compiler. */
const bare = join(temporary, 'bin');
mkdirSync(bare);
symlinkSync(process.execPath, join(bare, 'node'));
for (const tool of ['sh', 'env']) symlinkSync(run('sh', ['-c', `command -v ${tool}`]).trim(), join(bare, tool));
const BARE = { PATH: bare };

const wanted = process.platform === 'linux' ? /^(io-uring|kernel-aio) / : /^threads /;

function reads(folder, runtime = process.execPath) {
  const said = ['read.mjs', 'read.cjs'].map((script) => run(runtime, [script], { cwd: folder, env: BARE }).trim());
  for (const line of said) assert.match(line, new RegExp(`${wanted.source}.*read me$`), line);
  return said[0];
}

const npmCli = run('sh', ['-c', 'readlink -f "$(command -v npm)"']).trim();
let installed = '';

await step('npm installs it, import and require() read a file without a compiler', () => {
  installed = project('npm');
  node([npmCli, 'install', '--no-audit', '--no-fund', '--offline', tarball], { cwd: installed, env: BARE });
  const bin = join(installed, 'node_modules/.bin/fileaio');
  assert.match(run(bin, ['info'], { cwd: installed, env: BARE }), /^engine (io-uring|kernel-aio) +available/m);
  return `${reads(installed)}, Node ${process.version}`;
});

await step('build:native works in the installed package', () => {
  if (spawnSync('cc', ['--version']).status !== 0) throw new Skip('there is no C compiler here');
  const at = join(installed, 'node_modules/fileaio');
  rmSync(join(at, 'prebuilds'), { recursive: true });
  run('npm', ['run', 'build:native'], { cwd: at });
  assert.ok(existsSync(join(at, 'native/build/Release/fileaio.node')));
  return reads(installed);
});

const typescripts = [
  `typescript ${manifest.devDependencies.typescript}`,
  ...(quick ? [] : ['typescript@5.9', 'typescript@5.8']),
];
for (const spec of typescripts) {
  await step(`types: ${spec.replace('@', ' ')}, strict, nodenext and bundler`, () => {
    const at = spec.includes('@')
      ? cached(spec)
      : dirname(createRequire(import.meta.url).resolve('typescript/package.json'));
    const folder = project(`types-${spec.replace(/\W/g, '-')}`, { type: 'module' });
    const modules = join(folder, 'node_modules');
    mkdirSync(join(modules, '@types'), { recursive: true });
    cpSync(unpacked, join(modules, 'fileaio'), { recursive: true });
    for (const name of ['@types/node', 'undici-types'])
      symlinkSync(join(root, 'node_modules', name), join(modules, name));
    for (const [module, resolution] of [
      ['nodenext', 'nodenext'],
      ['esnext', 'bundler'],
    ]) {
      const options = [
        '--strict',
        '--noEmit',
        '--exactOptionalPropertyTypes',
        '--noUncheckedIndexedAccess',
        '--target',
        'es2022',
      ];
      const where = [
        '--lib',
        'es2023,esnext.disposable',
        '--types',
        'node',
        '--module',
        module,
        '--moduleResolution',
        resolution,
      ];
      node(
        [join(at, 'bin/tsc'), ...options, ...where, 'consumer.ts', 'consumer.cts'].filter(
          (each) => module === 'nodenext' || each !== 'consumer.cts',
        ),
        {
          cwd: folder,
        },
      );
    }
  });
}

if (!quick) {
  await step('publint --strict', () =>
    node([program('publint@0.3', 'publint'), '--strict', unpacked])
      .trim()
      .split('\n')
      .at(-1),
  );

  // ESM only: what old resolutions of CommonJS would find is not judged.
  await step('attw', () => {
    node([program('@arethetypeswrong/cli@0.18', 'attw'), '--profile', 'esm-only', '--format', 'ascii', tarball]);
  });

  await step('pnpm', () => {
    const folder = project('pnpm');
    node([program('pnpm@10', 'pnpm'), 'add', '--offline', '--store-dir', join(temporary, 'pnpm-store'), tarball], {
      cwd: folder,
      env: BARE,
    });
    return reads(folder);
  });

  await step('yarn 1', () => {
    const folder = project('yarn1');
    node([program('yarn@1', 'yarn'), 'add', '--offline', '--cache-folder', join(temporary, 'yarn1-cache'), tarball], {
      cwd: folder,
      env: BARE,
    });
    return reads(folder);
  });

  for (const linker of ['node-modules', 'pnp']) {
    await step(`yarn 4, nodeLinker: ${linker}`, () => {
      const folder = project(`yarn4-${linker}`, { packageManager: undefined });
      writeFileSync(
        join(folder, '.yarnrc.yml'),
        `nodeLinker: ${linker}\nenableTelemetry: false\nenableGlobalCache: false\n`,
      );
      writeFileSync(join(folder, 'yarn.lock'), '');
      const yarn = program('@yarnpkg/cli-dist@4', 'yarn');
      node([yarn, 'add', `fileaio@file:${tarball}`], { cwd: folder, env: BARE });
      if (linker === 'node-modules') return reads(folder);
      const said = node([yarn, 'node', 'read.mjs'], { cwd: folder, env: BARE }).trim();
      assert.match(said, new RegExp(`${wanted.source}.*read me$`));
      return said;
    });
  }

  await step('bun', () => {
    const name = `@oven/bun-linux-${process.arch === 'arm64' ? 'aarch64' : 'x64'}`;
    const bun = join(cached(name), 'bin/bun');
    const folder = project('bun');
    run(bun, ['add', tarball], { cwd: folder, env: { ...BARE, BUN_INSTALL_CACHE_DIR: join(temporary, 'bun-cache') } });
    reads(folder, bun);
    return reads(folder);
  });
}

finish();
