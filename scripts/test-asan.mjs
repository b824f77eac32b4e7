// The tests with the native shim under AddressSanitizer and UndefinedBehaviorSanitizer: `npm run test:asan`, or
// `npm run test:asan -- test/buffer.test.ts` for some; `-- --soak 1` soaks for that many minutes instead.
//
// A copy of the tree is built in a directory of its own, so that nothing else loads this shim. The sanitizer's runtime has to be the first
// library of the process, hence LD_PRELOAD; every child process and worker inherits it. Each process writes what it finds into a
// file: tests may not look at how their children end, we do.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { release, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { root } from './run-tests.mjs';

/** What exercises the shim: both kernel engines, memory, threads, handles. The command line runs the same code, and measures time. */
const SUITES = [
  'availability',
  'buffer',
  'canaries',
  'crash',
  'file-direct',
  'file-fs',
  'file-handle',
  'file-queue',
  'io-uring',
  'kernel-aio',
  'leaks',
  'streams',
  'threads',
  'workers',
].map((name) => `test/${name}.test.ts`);

const args = process.argv.slice(2);
const soakMinutes = args[0] === '--soak' ? (args[1] ?? '1') : undefined;
const files = soakMinutes !== undefined ? [] : args.length > 0 ? args : SUITES;

const compiler = process.env.CC ?? 'cc';
const runtime = spawnSync(compiler, ['-print-file-name=libasan.so'], { encoding: 'utf8' }).stdout?.trim() ?? '';
if (!existsSync(runtime)) {
  console.error(`test:asan: ${compiler} has no libasan.so. Debian: apt install build-essential (gcc brings it)`);
  process.exit(1);
}

const work = mkdtempSync(join(tmpdir(), 'fileaio-asan-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));
for (const part of ['src', 'test', 'soak', 'docs', 'examples', 'scripts', 'native', 'package.json', 'README.md']) {
  const from = join(root, part);
  if (existsSync(from))
    cpSync(from, join(work, part), { recursive: true, filter: (path) => !path.includes('native/build') });
}
for (const name of ['tsconfig.json', 'tsconfig.check.json']) cpSync(join(root, name), join(work, name));
symlinkSync(join(root, 'node_modules'), join(work, 'node_modules'));

function run(command, options) {
  const { status, error } = spawnSync(command, options, { cwd: work, stdio: 'inherit' });
  if (status === 0) return;
  console.error(
    `test:asan: ${[command, ...options].join(' ')} failed${error === undefined ? '' : `: ${error.message}`}`,
  );
  process.exit(1);
}

const include = join(dirname(dirname(process.execPath)), 'include/node');
const build = join(work, 'native/build/Release');
mkdirSync(build, { recursive: true });
const shim = join(build, 'fileaio.node');
const sanitize = [
  '-fsanitize=address,undefined',
  '-fno-omit-frame-pointer',
  '-O1',
  '-g',
  '-std=c11',
  '-fPIC',
  '-Wall',
  '-Wextra',
  '-Werror',
];
const defines = ['-DNAPI_VERSION=8', '-D_GNU_SOURCE', `-I${include}`, '-fvisibility=hidden'];
const watched = ['syscall', 'mmap', 'close', 'malloc', 'calloc', 'posix_memalign', 'free'].map(
  (name) => `-D${name}=watched_${name}`,
);
run(compiler, [...sanitize, ...defines, ...watched, '-c', join(work, 'native/shim.c'), '-o', join(work, 'shim.o')]);
run(compiler, [...sanitize, ...defines, '-c', join(work, 'test/asan/watch.c'), '-o', join(work, 'watch.o')]);
run(compiler, [
  '-shared',
  '-fsanitize=address,undefined',
  '-pthread',
  join(work, 'shim.o'),
  join(work, 'watch.o'),
  '-o',
  shim,
]);

const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
run(process.execPath, [tsc, '-p', work, '--outDir', join(work, 'dist'), '--noCheck']);

const reports = join(work, 'reports');
const checks = join(work, 'checks');
mkdirSync(reports);
writeFileSync(checks, '');
const env = {
  ...process.env,
  LD_PRELOAD: runtime,
  // Leaks are another test's (test/leaks.test.ts): V8 ends with its heap full, and LeakSanitizer would report all of that, and cannot see what
  // only JavaScript's heap points to. Tests ask for more memory than there is. Freed memory is kept poisoned up to quarantine_size_mb.
  ASAN_OPTIONS: `detect_leaks=0:allocator_may_return_null=1:halt_on_error=1:handle_abort=1:quarantine_size_mb=64:log_path=${join(reports, 'asan')}`,
  UBSAN_OPTIONS: `halt_on_error=1:print_stacktrace=1:log_path=${join(reports, 'ubsan')}`,
  FILEAIO_ASAN_CHECKS: checks,
  FILEAIO_SOAK_SHIM: shim,
  FILEAIO_CHILD_TIMEOUT_MS: '600000',
};

/** Prints what was found. A warning that more memory was asked for than there is, as tests do, is no finding. */
function report() {
  const found = readdirSync(reports)
    .map((name) => readFileSync(join(reports, name), 'utf8'))
    .filter((text) => /ERROR: |runtime error: /.test(text));
  for (const text of found) console.log(text);
  return found.length;
}

const results = [];
const commands =
  soakMinutes !== undefined
    ? [[`soak of ${soakMinutes} minutes`, ['scripts/soak.mjs', '--minutes', soakMinutes, '--memory-may-grow']]]
    : files.map((file) => [file, ['--import', 'tsx', '--expose-gc', '--test', '--test-reporter=spec', file]]);
for (const [name, command] of commands) {
  const ended = spawnSync(process.execPath, command, { cwd: work, env, encoding: 'utf8', maxBuffer: 2 ** 28 });
  const text = `${ended.stdout}${ended.stderr}`;
  const found = report();
  const last = (word) => Number([...text.matchAll(new RegExp(`^ℹ ${word} (\\d+)`, 'gm'))].at(-1)?.[1] ?? 0);
  const failed = ended.status !== 0 || found > 0;
  const counts =
    soakMinutes === undefined ? `${last('pass')} passed, ${last('fail')} failed, ${last('skipped')} skipped, ` : '';
  console.log(`  ${name}: ${counts}${found} reports`);
  if (failed || soakMinutes !== undefined) console.log(text);
  results.push({ failed, found });
  if (found > 0) break; // the next ones would be blamed for it
}
const looked = readFileSync(checks, 'utf8')
  .split('\n')
  .reduce((sum, line) => sum + Number(line.split(' ')[0]), 0);
const failures = results.filter(({ failed }) => failed).length;
console.log(`Linux ${release()}, Node ${process.version}, ${process.arch}`);
console.log(
  `asan: ${results.length} suites under AddressSanitizer and UndefinedBehaviorSanitizer, ${failures} failed, ` +
    `${results.reduce((sum, { found }) => sum + found, 0)} reports; memory of transfers in flight looked at ${looked.toLocaleString('en')} times`,
);
process.exit(failures > 0 ? 1 : 0);
