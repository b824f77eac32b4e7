// What the scripts that run tests have in common.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { release } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** The files of tests that are given as arguments, or all of a folder. */
export function testFiles(folder) {
  const given = process.argv.slice(2);
  if (given.length > 0) return given;
  return readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.test.ts'))
    .sort()
    .map((name) => join(folder, name));
}

/** Compiles the library, or ends the process. */
export function compile() {
  const built = spawnSync(process.execPath, [join(root, 'scripts/build-ts.mjs')], { stdio: 'inherit' });
  if (built.status !== 0) process.exit(1);
}

/** The command that runs tests, for a test runner that shows each of them. */
export function testCommand(files, ...options) {
  return [process.execPath, '--import', 'tsx', '--expose-gc', '--test', '--test-reporter=spec', ...options, ...files];
}

/** What a run of tests ends with: on what it was. */
export function end(status, ...more) {
  console.log([`Linux ${release()}`, `Node ${process.version}`, process.arch, ...more].join(', '));
  process.exit(status ?? 1);
}
