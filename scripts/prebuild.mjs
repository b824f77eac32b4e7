// The shims that go into the package: `npm run build:prebuilds`. One binary for each architecture, for every C library: it names
// none that it needs and no version of a symbol, so that whatever libc the runtime has is what it gets. Same sources, same compiler,
// same bytes, wherever the folder is. `-- --arch x64` builds some, `--out FOLDER` elsewhere than into prebuilds/.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Debian's name of each compiler, and what it needs to be told. */
const targets = {
  x64: { cc: 'x86_64-linux-gnu-gcc', debian: 'gcc libc6-dev', flags: ['-march=x86-64'] },
  arm64: {
    cc: 'aarch64-linux-gnu-gcc',
    debian: 'gcc-aarch64-linux-gnu libc6-dev-arm64-cross',
    // Atomics inline: the functions that choose at run time would come from libgcc.
    flags: ['-march=armv8-a', '-mno-outline-atomics'],
  },
};

const flags = [
  ...['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror', '-DNAPI_VERSION=8', '-D_GNU_SOURCE'],
  ...['-fPIC', '-fvisibility=hidden', '-fno-ident', '-fno-stack-protector', '-U_FORTIFY_SOURCE'],
  // Neither libc nor the start files of the compiler: what is undefined is found in what the runtime has loaded.
  ...['-shared', '-nostdlib', '-Wl,-soname,fileaio.node', '-Wl,--hash-style=both', '-Wl,--build-id=none', '-s'],
  ...['-Wl,-z,now', '-Wl,-z,relro', '-Wl,-z,noexecstack'],
];

function giveUp(reason) {
  console.error(`fileaio: the prebuilt shims were not made: ${reason}`);
  process.exit(1);
}

/** The headers of Node-API and libuv: those of this very Node, or what node-gyp fetched. */
function headers() {
  const prefix = dirname(dirname(process.execPath));
  const fetched = join(homedir(), '.cache/node-gyp', process.version.slice(1));
  const places = [prefix, process.env.npm_config_nodedir, fetched].filter((place) => place !== undefined);
  const found = () => places.map((place) => join(place, 'include/node')).find((at) => existsSync(join(at, 'uv.h')));
  const there = found();
  if (there !== undefined) return there;
  const gyp = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
  const got = spawnSync(process.execPath, [gyp, 'install', '--ensure', '--loglevel=warn'], { encoding: 'utf8' });
  const now = found();
  if (now === undefined) giveUp(`no headers of Node in ${places.join(', ')}, and none to fetch:\n${got.stderr}`);
  return now;
}

function build(arch, into, include) {
  const { cc, debian, flags: own } = targets[arch];
  const folder = join(into, `linux-${arch}`);
  const file = join(folder, 'fileaio.node');
  mkdirSync(folder, { recursive: true });
  const sources = ['shim.c', 'layout.c'].map((name) => join(root, 'native', name));
  const map = `-ffile-prefix-map=${root}=.`;
  const args = [...flags, ...own, map, `-isystem${include}`, ...sources, '-o', `${file}.${process.pid}`];
  const built = spawnSync(cc, args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C', SOURCE_DATE_EPOCH: '0' } });
  if (built.error?.code === 'ENOENT') giveUp(`no ${cc} for linux-${arch}; Debian has it: apt install ${debian}`);
  if (built.status !== 0) giveUp(`${cc} failed for linux-${arch}:\n${built.stderr}`);
  renameSync(`${file}.${process.pid}`, file);
  return { file, name: `linux-${arch}/fileaio.node` };
}

const { values } = parseArgs({ options: { arch: { type: 'string', multiple: true }, out: { type: 'string' } } });
const archs = values.arch ?? Object.keys(targets);
for (const arch of archs) if (!Object.hasOwn(targets, arch)) giveUp(`no target '${arch}': ${Object.keys(targets)}`);
const out = resolve(root, values.out ?? 'prebuilds');
rmSync(out, { recursive: true, force: true });
const include = headers();
const sums = archs.map((arch) => {
  const { file, name } = build(arch, out, include);
  const bytes = readFileSync(file);
  const sum = createHash('sha256').update(bytes).digest('hex');
  console.log(`${name}: ${bytes.length} bytes, sha256 ${sum}`);
  return `${sum}  ${name}\n`;
});
writeFileSync(join(out, 'SHA256SUMS'), sums.sort().join(''));
