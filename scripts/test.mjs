// The tests: all of them, or the files given as arguments.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism, release } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const given = process.argv.slice(2);
const files =
  given.length > 0
    ? given
    : readdirSync(join(root, 'test'))
        .filter((name) => name.endsWith('.test.ts'))
        .sort()
        .map((name) => join('test', name));
// Workers in tests run the compiled library: tsx does not reach into workers on Node 20.
const built = spawnSync(process.execPath, [join(root, 'scripts/build-ts.mjs')], { stdio: 'inherit' });
if (built.status !== 0) process.exit(1);
const ended = spawnSync(
  process.execPath,
  [
    '--import',
    'tsx',
    '--expose-gc',
    '--test',
    // One for each processor, not one less: much of a test is waiting for processes and disks.
    `--test-concurrency=${availableParallelism()}`,
    '--test-reporter=spec',
    ...files,
  ],
  { cwd: root, stdio: 'inherit' },
);
console.log(`Linux ${release()}, Node ${process.version}, ${process.arch}`);
process.exit(ended.status ?? 1);
