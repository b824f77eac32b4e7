/** The shims that the package brings along: what they ask of a system, that their bytes are those of their sources, and that they work. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { child, scratch } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The oldest glibc that each may need: arm64 begins with 2.17, and eventfd came with 2.7. */
const NEWEST_GLIBC = { x64: [2, 7], arm64: [2, 17] } as const;
const COMPILERS = { x64: 'x86_64-linux-gnu-gcc', arm64: 'aarch64-linux-gnu-gcc' } as const;
const GLIBC = {
  x64: ['/lib/x86_64-linux-gnu/libc.so.6'],
  arm64: ['/usr/aarch64-linux-gnu/lib/libc.so.6', '/lib/aarch64-linux-gnu/libc.so.6'],
} as const;
const MUSL = {
  x64: ['/lib/ld-musl-x86_64.so.1', '/lib/x86_64-linux-musl/libc.so'],
  arm64: ['/lib/ld-musl-aarch64.so.1'],
};

type Arch = keyof typeof COMPILERS;
const ARCHS = Object.keys(COMPILERS) as Arch[];

function runs(command: string): boolean {
  return spawnSync(command, ['--version']).status === 0;
}

/** Why the shim of an architecture cannot be built and looked at here. */
function whyNot(arch: Arch): string | undefined {
  for (const tool of [COMPILERS[arch], 'readelf']) if (!runs(tool)) return `${tool} is not installed`;
  return undefined;
}

function readelf(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('readelf', ['-W', ...args], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  assert.equal(status, 0, stderr);
  return stdout;
}

interface Symbol {
  readonly name: string;
  readonly version: string | undefined;
  readonly defined: boolean;
}

function symbols(path: string): Symbol[] {
  return readelf('--dyn-syms', path)
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((columns) => /^\d+:$/.test(columns[0] ?? '') && columns[7] !== undefined)
    .map((columns) => {
      const [name = '', version] = (columns[7] ?? '').split(/@+/);
      return { name, version, defined: columns[6] !== 'UND' };
    });
}

/** A tree of its own, with what the script reads. */
function tree(parent: string, name: string): string {
  const copy = join(parent, name);
  mkdirSync(join(copy, 'scripts'), { recursive: true });
  cpSync(join(root, 'native'), join(copy, 'native'), {
    recursive: true,
    filter: (path) => !path.endsWith('native/build'),
  });
  cpSync(join(root, 'scripts/prebuild.mjs'), join(copy, 'scripts/prebuild.mjs'));
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

describe('prebuilt shims', () => {
  const built = new Map<Arch, { first: string; second: string }>();
  let reason = '';
  const parent = scratch({ after });

  before(async () => {
    const archs = ARCHS.filter((arch) => whyNot(arch) === undefined);
    const args = archs.flatMap((arch) => ['--arch', arch]);
    reason = ARCHS.map((arch) => `${arch}: ${whyNot(arch) ?? 'built'}`).join(', ');
    if (archs.length === 0) return;
    const folders = ['a', 'another-folder/b'].map((name) => tree(parent, name));
    await Promise.all(
      folders.map(async (folder) => {
        const ended = await child(process.execPath, [join(folder, 'scripts/prebuild.mjs'), ...args]);
        assert.equal(ended.code, 0, ended.stderr);
      }),
    );
    const [first = '', second = ''] = folders.map((folder) => join(folder, 'prebuilds'));
    for (const arch of archs) built.set(arch, { first, second });
  });

  for (const arch of ARCHS) {
    describe(arch, () => {
      const path = (): string => join(built.get(arch)?.first ?? '', `linux-${arch}/fileaio.node`);

      test('the same sources give the same bytes in another folder, and the sums are right', (t) => {
        const both = built.get(arch);
        if (both === undefined) return t.skip(reason);
        const name = `linux-${arch}/fileaio.node`;
        const [one, two] = [both.first, both.second].map((folder) => readFileSync(join(folder, name)));
        assert.ok(one !== undefined && two?.equals(one));
        const sum = createHash('sha256').update(one).digest('hex');
        for (const folder of [both.first, both.second])
          assert.ok(readFileSync(join(folder, 'SHA256SUMS'), 'utf8').split('\n').includes(`${sum}  ${name}`));
        assert.ok(!one.includes(root) && !one.includes('another-folder') && !one.includes('GCC: ('));
      });

      test('it is stripped, names no library that it needs, and no version of a symbol', (t) => {
        if (!built.has(arch)) return t.skip(reason);
        assert.doesNotMatch(readelf('-d', path()), /NEEDED|RPATH|RUNPATH|TEXTREL|VERNEED/);
        assert.doesNotMatch(readelf('-S', path()), /\.symtab|\.debug|\.note\.gnu\.build-id|\.comment/);
        assert.match(readelf('-l', path()), /GNU_STACK.*RW /);
        assert.match(readelf('-d', path()), /\(HASH\).*\(GNU_HASH\).*NOW/s);
        for (const { name, version } of symbols(path())) assert.equal(version, undefined, `${name}@${version}`);
        assert.deepEqual(
          symbols(path())
            .filter(({ name, defined }) => defined && !name.startsWith('.'))
            .map(({ name }) => name)
            .sort(),
          ['napi_register_module_v1', 'node_api_module_get_api_version_v1'],
        );
      });

      test(`glibc has all that it wants since ${NEWEST_GLIBC[arch].join('.')}`, (t) => {
        if (!built.has(arch)) return t.skip(reason);
        const libc = GLIBC[arch].find((file) => existsSync(file));
        if (libc === undefined) return t.skip(`no glibc for ${arch} here: ${GLIBC[arch].join(', ')}`);
        const there = symbols(libc);
        let newest: readonly number[] = [0];
        for (const name of wanted(path())) {
          const versions = there
            .flatMap((symbol) =>
              symbol.name === name ? (/^GLIBC_([\d.]+)$/.exec(symbol.version ?? '')?.[1] ?? []) : [],
            )
            .map((version) => version.split('.').map(Number));
          const oldest = versions.sort(compare)[0];
          assert.ok(oldest !== undefined, `glibc has no ${name}`);
          if (compare(oldest, newest) > 0) newest = oldest;
        }
        assert.deepEqual(newest.slice(0, 2), NEWEST_GLIBC[arch]);
      });

      test('musl has all that it wants', (t) => {
        if (!built.has(arch)) return t.skip(reason);
        const libc = MUSL[arch].find((file) => existsSync(file));
        if (libc === undefined) return t.skip(`no musl for ${arch} here: ${MUSL[arch].join(', ')}`);
        const there = new Set(symbols(libc).map(({ name }) => name));
        for (const name of wanted(path())) assert.ok(there.has(name), `musl has no ${name}`);
      });
    });
  }

  test('the library works with nothing but the prebuilt shim, and says so when that does not load', async (t) => {
    const both = built.get(process.arch as Arch);
    if (both === undefined) return t.skip(reason);
    const copy = scratch(t);
    cpSync(join(root, 'src'), join(copy, 'src'), { recursive: true });
    cpSync(both.first, join(copy, 'prebuilds'), { recursive: true });
    writeFileSync(join(copy, 'package.json'), '{"type":"module"}');
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    const script = `import { readFile, open } from './src/promises.ts';
      import { engines } from './src/index.ts';
      await using handle = await open('package.json');
      const { bytesRead } = await handle.read(Buffer.alloc(4));
      console.log(JSON.stringify({ engine: handle.engine, bytesRead, whole: await readFile('package.json', 'utf8'), why: engines()[0].why }));`;
    writeFileSync(join(copy, 'script.ts'), script);
    const run = () => spawnSync(process.execPath, ['--import', 'tsx', 'script.ts'], { cwd: copy, encoding: 'utf8' });
    const good = run();
    assert.equal(good.status, 0, good.stderr);
    const { engine, bytesRead, whole } = JSON.parse(good.stdout);
    assert.notEqual(engine, 'threads');
    assert.equal(bytesRead, 4);
    assert.equal(whole, '{"type":"module"}');
    for (const name of readdirSync(join(copy, 'prebuilds')).filter((each) => each.startsWith('linux-')))
      writeFileSync(join(copy, 'prebuilds', name, 'fileaio.node'), 'not a library');
    const bad = run();
    assert.equal(bad.status, 0, bad.stderr);
    assert.equal(JSON.parse(bad.stdout).engine, 'threads');
    assert.match(JSON.parse(bad.stdout).why, /native shim could not be loaded: .*prebuilds/);
  });
});

/** What must come from libc: Node-API and libuv are the runtime's. */
function wanted(path: string): string[] {
  const names = symbols(path)
    .filter(({ name, defined }) => !defined && name !== '' && !/^(napi|uv|node_api)_/.test(name))
    .map(({ name }) => name);
  assert.ok(names.length > 20);
  return names;
}

function compare(a: readonly number[], b: readonly number[]): number {
  return (a[0] ?? 0) - (b[0] ?? 0) || (a[1] ?? 0) - (b[1] ?? 0);
}
