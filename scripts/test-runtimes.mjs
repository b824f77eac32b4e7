// The tests on other runtimes than the one at hand: `npm run test:runtimes`, or `npm run test:runtimes -- node@24 bun` for some. They
// come from the npm registry into node_modules/.cache, as the packages that hold the programs themselves: `node`, `bun` and `deno`
// are only what fetches these, in install scripts. Remove that folder to get newer ones.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { availableParallelism, release } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const cache = join(root, 'node_modules/.cache/fileaio-runtimes');
const arm = process.arch === 'arm64';

const all = readdirSync(join(root, 'test'))
  .filter((name) => name.endsWith('.test.ts'))
  .sort()
  .map((name) => `test/${name}`);
// What tests the build, the command line and the processes of Node itself has nothing to say about another runtime.
const own =
  /^test\/(architecture|availability|bench|cli|crash|docs|examples|faults|platforms|prebuilds|readme|security|soak)/;
const library = all.filter((file) => !own.test(file));

const ownReason = `${all.filter((file) => own.test(file)).join(', ')} test the build, the command line, processes that are killed and what the documentation shows, which run on Node`;

/** Each test file has a process of its own, as node --test has it. `count` reads what the runtime prints at the end. */
const runtimes = {
  ...Object.fromEntries(
    [22, 24, 26].map((major) => [
      `node@${major}`,
      {
        spec: `node-linux-${arm ? 'arm64' : 'x64'}@${major}`,
        program: `node-linux-${arm ? 'arm64' : 'x64'}/bin/node`,
        files: all,
        test: (file) => ['--import', 'tsx', '--expose-gc', '--test', '--test-reporter=spec', file],
        count: (text) => [
          last(text, /^ℹ pass (\d+)/gm),
          last(text, /^ℹ fail (\d+)/gm),
          last(text, /^ℹ skipped (\d+)/gm),
        ],
      },
    ]),
  ),
  bun: {
    spec: `@oven/bun-linux-${arm ? 'aarch64' : 'x64'}`,
    program: `@oven/bun-linux-${arm ? 'aarch64' : 'x64'}/bin/bun`,
    files: library,
    test: (file) => ['test', '--timeout=120000', `./${file}`],
    count: (text) => [
      last(text, /^ *(\d+) pass$/gm),
      last(text, /^ *(\d+) fail$/gm),
      last(text, /^ *(\d+) skip$/gm) ?? 0,
    ],
  },
  deno: {
    spec: `@deno/linux-${arm ? 'arm64' : 'x64'}-glibc`,
    program: `@deno/linux-${arm ? 'arm64' : 'x64'}-glibc/deno`,
    files: library.filter((file) => file !== 'test/streams.test.ts'),
    test: (file) => ['test', '--allow-all', '--no-check', '--v8-flags=--expose-gc', file],
    without:
      'test/streams.test.ts puts functions in the place of others for a test; node:test of Deno does not call what t.after() was given in a suite',
    // A describe() is a test to it, and what stands in one is a step.
    count: (text) => [
      sum(last(text, /\| (\d+) passed/g), last(text, /passed \((\d+) steps?\)/g)),
      sum(last(text, /\| (\d+) failed/g), last(text, /failed \((\d+) steps?\)/g)),
      last(text, /\| (\d+) ignored/g) ?? 0,
    ],
  },
};

function last(text, pattern) {
  const found = [...text.matchAll(pattern)].at(-1);
  return found === undefined ? undefined : Number(found[1]);
}

function sum(tests, steps) {
  return tests === undefined ? undefined : tests + (steps ?? 0);
}

function fetched(name, { spec, program }) {
  const folder = join(cache, name.replace('@', '-'));
  const path = join(folder, 'node_modules', program);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  // One of its own: npm would take the folder for a part of this project otherwise.
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = spawnSync('npm', ['install', '--prefix', folder, ...options, spec], { encoding: 'utf8', cwd: folder });
  if (npm.status !== 0 || !existsSync(path)) throw new Error(`npm install ${spec}: ${npm.stderr ?? npm.error}`);
  return path;
}

/** What the runtime cannot do, as test/runtime.ts declares it. */
function incapabilities(path, name) {
  const args = { bun: [], deno: ['run', '--allow-all', '--no-check'] }[name] ?? ['--import', 'tsx'];
  const printed = spawnSync(path, [...args, 'test/runtime.ts', '--print'], { cwd: root, encoding: 'utf8' });
  if (printed.status !== 0) throw new Error(`${name}: ${printed.stderr}`);
  return JSON.parse(printed.stdout);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: the colours of a terminal begin with one
const colours = /\u001b\[[0-9;]*m/g;

/** One file, in a process of its own. Resolves to what it printed, and how it ended. */
function ran(path, args) {
  return new Promise((resolve) => {
    const child = spawn(path, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 900_000,
      killSignal: 'SIGKILL',
      env: { ...process.env, NO_COLOR: '1' },
    });
    const printed = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        printed[name] += text;
      });
    }
    child.on('error', (error) => {
      printed.stderr += error;
      resolve({ text: printed.stderr, status: error.code });
    });
    child.on('close', (code, signal) => {
      resolve({ text: `${printed.stdout}\n${printed.stderr}`.replace(colours, ''), status: code ?? signal });
    });
  });
}

async function run(name) {
  const runtime = runtimes[name];
  const path = fetched(name, runtime);
  const version = spawnSync(path, ['--version'], { encoding: 'utf8' })
    .stdout.split('\n')[0]
    .replace(/^deno /, '');
  const total = { passed: 0, failed: 0, skipped: 0 };
  console.log(`\n${name} ${version}`);
  const files = runtime.files.values();
  const some = async () => {
    for (const file of files) {
      const { text, status } = await ran(path, runtime.test(file));
      let [passed = 0, failed, skipped = 0] = runtime.count(text);
      // A runtime that died, or said nothing that could be understood, has failed.
      if (failed === undefined || (failed === 0 && status !== 0)) failed = 1;
      console.log(`  ${file}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
      if (failed > 0) console.log(`${text}\n  ${file} ended with ${status}`);
      total.passed += passed;
      total.failed += failed;
      total.skipped += skipped;
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, some));
  const cannot = incapabilities(path, name);
  if (runtime.without !== undefined) cannot.unshift(runtime.without);
  if (runtime.files.length < all.length) cannot.unshift(ownReason);
  return { name, version, ...total, cannot };
}

const wanted = process.argv.slice(2);
const names = wanted.length > 0 ? wanted : Object.keys(runtimes);
for (const name of names) {
  if (Object.hasOwn(runtimes, name)) continue;
  console.error(`There is no runtime '${name}'. There is: ${Object.keys(runtimes).join(', ')}`);
  process.exit(2);
}
// Workers in tests run the compiled library.
if (spawnSync(process.execPath, [join(root, 'scripts/build-ts.mjs')], { stdio: 'inherit' }).status !== 0)
  process.exit(1);

const results = [];
for (const name of names) results.push(await run(name));
console.log(`\nLinux ${release()}, ${process.arch}`);
for (const { name, version, passed, failed, skipped, cannot } of results) {
  console.log(`${name} ${version}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  for (const reason of cannot) console.log(`  cannot: ${reason}`);
}
process.exit(results.some(({ failed }) => failed > 0) ? 1 : 0);
