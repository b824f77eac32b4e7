/** What README shows is run as it stands, by a program that has the package installed. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { child, scratch } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const snippets = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map((match) => match[1] ?? '');

describe('the README', () => {
  test('shows the file layer and the requests, each in a dozen lines', () => {
    assert.equal(snippets.length, 2);
    for (const snippet of snippets) assert.ok(snippet.trim().split('\n').length <= 12, snippet);
  });

  for (const [index, snippet] of snippets.entries()) {
    test(`snippet ${index + 1} runs: ${snippet.split('\n')[0]}`, async (t) => {
      const directory = scratch(t);
      mkdirSync(join(directory, 'node_modules'));
      symlinkSync(root, join(directory, 'node_modules/fileaio'));
      writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
      writeFileSync(join(directory, 'data.bin'), randomBytes(131072));
      writeFileSync(join(directory, 'config.json'), '{}');
      writeFileSync(join(directory, 'snippet.ts'), snippet);
      const tsx = pathToFileURL(join(root, 'node_modules/tsx/dist/esm/index.mjs')).href;
      const { code, stdout, stderr } = await child(process.execPath, ['--import', tsx, 'snippet.ts'], {}, directory);
      assert.equal(code, 0, stderr);
      assert.notEqual(stdout, '');
    });
  }
});
