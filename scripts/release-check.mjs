// All that a release needs, short of publishing: `npm run release:check`. The tree is clean, the versions agree, and what is built from it passes
// the checks, the tests of the prebuilt shims, and those of the package by every package manager. The tests themselves are CI's.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { newest, unreleased } from './changelog.mjs';
import { finish, step } from './steps.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

function run(file, ...args) {
  const ended = spawnSync(file, args, { cwd: root, encoding: 'utf8', timeout: 1_200_000, maxBuffer: 2 ** 26 });
  if (ended.status === 0) return ended.stdout;
  throw new Error(
    `${file} ${args.join(' ')} ended with ${ended.error ?? ended.signal ?? ended.status}:\n${ended.stdout}${ended.stderr}`,
  );
}

const json = (name) => JSON.parse(readFileSync(join(root, name), 'utf8'));
const { version } = json('package.json');
const closing = (text) => text.trim().split('\n').at(-1);

await step('the tree is clean', () => assert.equal(run('git', 'status', '--porcelain'), ''));
await step('the version has its entry in CHANGELOG.md, and nothing is unreleased', () => {
  const text = readFileSync(join(root, 'CHANGELOG.md'), 'utf8');
  assert.equal(newest(text), version, 'run: npm run release -- VERSION');
  assert.equal(unreleased(text), '', 'this is not in any version: run npm run release -- VERSION');
});
await step('package-lock.json has the same version and no addresses', () => {
  const lock = json('package-lock.json');
  assert.deepEqual([lock.version, lock.packages[''].version], [version, version]);
  assert.ok(!/"resolved"/.test(JSON.stringify(lock)));
});
await step('lint and types', () => run('npm', 'run', '--silent', 'check') && undefined);
await step('build', () => run('npm', 'run', '--silent', 'build') && undefined);
await step('fileaio --version', () => {
  assert.equal(run(process.execPath, 'dist/cli/main.js', '--version').trim().split(' ').at(-1), version);
  return version;
});
await step('the reference is current', () => run('npm', 'run', '--silent', 'docs', '--', '--check') && undefined);
await step('prebuilt shims', () => closing(run('npm', 'run', '--silent', 'test:prebuilds')));
await step('the package', () => {
  const said = run('npm', 'run', '--silent', 'test:package');
  console.log(said.trim().replace(/^/gm, '      '));
  return closing(said);
});
await step('nothing of it changed the tree', () => assert.equal(run('git', 'status', '--porcelain'), ''));
console.log(`fileaio ${version}, Node ${process.version}`);
finish();
