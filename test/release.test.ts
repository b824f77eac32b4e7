/** What a release does to CHANGELOG.md and the versions. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Cleanup, child, scratch } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

function tree(t: Cleanup, changelog: string): string {
  const copy = scratch(t);
  mkdirSync(join(copy, 'scripts'));
  for (const name of ['release.mjs', 'changelog.mjs']) cpSync(join(root, 'scripts', name), join(copy, 'scripts', name));
  writeFileSync(join(copy, 'package.json'), '{ "name": "x", "version": "0.1.0" }\n');
  writeFileSync(
    join(copy, 'package-lock.json'),
    '{ "version": "0.1.0", "packages": { "": { "version": "0.1.0" } } }\n',
  );
  writeFileSync(join(copy, 'CHANGELOG.md'), changelog);
  return copy;
}

const release = (copy: string, ...args: string[]) =>
  child(process.execPath, [join(copy, 'scripts/release.mjs'), ...args]);

describe('a release', () => {
  test('takes what is unreleased, and gives it the number that everything else gets', async (t) => {
    const copy = tree(t, '# Changelog\n\n## Unreleased\n\n- Faster.\n\n## 0.1.0 (2026-01-01)\n\n- The first.\n');
    const { code, stderr } = await release(copy, '0.2.0');
    assert.equal(code, 0, stderr);
    const text = readFileSync(join(copy, 'CHANGELOG.md'), 'utf8');
    assert.match(
      text,
      /^# Changelog\n\n## Unreleased\n\n## 0\.2\.0 \(\d{4}-\d\d-\d\d\)\n\n- Faster\.\n\n## 0\.1\.0 \(2026-01-01\)\n\n- The first\.\n$/,
    );
    assert.equal(JSON.parse(readFileSync(join(copy, 'package.json'), 'utf8')).version, '0.2.0');
    const lock = JSON.parse(readFileSync(join(copy, 'package-lock.json'), 'utf8'));
    assert.deepEqual([lock.version, lock.packages[''].version], ['0.2.0', '0.2.0']);
  });

  test('is refused without anything new, without a number, and backwards; then nothing changes', async (t) => {
    for (const [changelog, version, why] of [
      ['# Changelog\n\n## Unreleased\n\n## 0.1.0\n\n- The first.\n', '0.2.0', /nothing to release/],
      [
        '# Changelog\n\n## Unreleased\n\n- More.\n\n## 0.10.0\n\n- The first.\n',
        '0.9.0',
        /does not come after 0\.10\.0/,
      ],
      ['# Changelog\n\n## Unreleased\n\n- More.\n', 'soon', /name the version/],
    ] as const) {
      const copy = tree(t, changelog);
      const { code, stderr } = await release(copy, version);
      assert.equal(code, 1);
      assert.match(stderr, why);
      assert.equal(readFileSync(join(copy, 'CHANGELOG.md'), 'utf8'), changelog);
      assert.equal(JSON.parse(readFileSync(join(copy, 'package.json'), 'utf8')).version, '0.1.0');
    }
  });
});
