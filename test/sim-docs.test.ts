/** The programs of docs/simulator.md run as they stand there, and come to what it says. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { root, runProgram, snippetsOf } from './snippets.ts';

const text = readFileSync(join(root, 'docs/simulator.md'), 'utf8');
const [first = '', wal = '', check = '', fix = '', ...others] = snippetsOf(text);
const BEFORE_FIX = '    this.#end += record.length;\n';

describe('docs/simulator.md', () => {
  test('has the programs that are run here', () => {
    assert.match(wal, /^\/\/ wal\.ts\n/);
    assert.match(check, /^\/\/ check\.ts\n/);
    assert.equal(fix, '    await this.#file.datasync();\n');
    assert.deepEqual(others, []);
    assert.ok(wal.split('\n').length <= 70, 'the log is short');
    assert.equal(wal.split(BEFORE_FIX).length, 2, 'the place of the fix is there, once');
  });

  test('the first program runs', async (t) => {
    const { code, stdout, stderr } = await runProgram(t, { 'first.ts': first }, 'first.ts');
    assert.equal(code, 0, stderr);
    assert.match(stdout, /writesKept/);
  });

  test('the log that forgets to flush is found out, by the first seed', async (t) => {
    const { code, stdout, stderr } = await runProgram(t, { 'wal.ts': wal, 'check.ts': check }, 'check.ts');
    assert.equal(code, 1, stderr);
    assert.match(stdout, /^seed 0: record \d+ of \d+ was safe, and is gone\n$/);
  });

  test('with the line that was missing, nothing is lost', async (t) => {
    const fixed = wal.replace(BEFORE_FIX, fix + BEFORE_FIX);
    const { code, stdout, stderr } = await runProgram(t, { 'wal.ts': fixed, 'check.ts': check }, 'check.ts');
    assert.equal(code, 0, stdout + stderr);
    assert.equal(stdout, '100 seeds: nothing was lost\n');
  });

  for (const [title, line, without] of [
    ['flushing its directory', '    await directory.sync();\n', ''],
    ['going on after short writes', 'for (let done = 0; done < record.length; )', 'for (let done = 0; done < 1; )'],
    ['checksums', ' || crc32(payload) !== bytes.readUInt32LE(this.#end + 4)', ''],
  ] as const) {
    test(`without ${title} it is found out, too`, async (t) => {
      const broken = wal.replace(BEFORE_FIX, fix + BEFORE_FIX).replace(line, without);
      assert.notEqual(broken, wal.replace(BEFORE_FIX, fix + BEFORE_FIX));
      const { code, stdout, stderr } = await runProgram(t, { 'wal.ts': broken, 'check.ts': check }, 'check.ts');
      assert.equal(code, 1, stdout + stderr);
      assert.match(stdout, /^seed \d+: record \d+/);
    });
  }
});
