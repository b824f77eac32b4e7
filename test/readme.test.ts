/** What README shows is run as it stands, by a program that has the package installed. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { root, runProgram, snippetsOf } from './snippets.ts';

const snippets = snippetsOf(readFileSync(join(root, 'README.md'), 'utf8'));

describe('the README', () => {
  test('shows the file layer and the requests, each in a dozen lines', () => {
    assert.equal(snippets.length, 2);
    for (const snippet of snippets) assert.ok(snippet.trim().split('\n').length <= 12, snippet);
  });

  for (const [index, snippet] of snippets.entries()) {
    test(`snippet ${index + 1} runs: ${snippet.split('\n')[0]}`, async (t) => {
      const files = { 'data.bin': randomBytes(131072), 'config.json': '{}', 'snippet.ts': snippet };
      const { code, stdout, stderr } = await runProgram(t, files, 'snippet.ts');
      assert.equal(code, 0, stderr);
      assert.notEqual(stdout, '');
    });
  }
});
