/** What documentation says of the code, held against the code. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { cli } from './run-cli.ts';
import { root } from './snippets.ts';

function read(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

const guides = readdirSync(join(root, 'docs')).map((name) => join('docs', name));
const documents = [...readdirSync(root).filter((name) => name.endsWith('.md')), ...guides];

describe('links', () => {
  for (const document of documents) {
    test(`of ${document} lead to files that are there`, () => {
      for (const [, link = ''] of read(document).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
        assert.ok(existsSync(join(root, dirname(document), link)), link);
      }
    });
  }

  test('of the README lead to every guide', () => {
    for (const guide of guides) assert.ok(read('README.md').includes(`](${guide})`), guide);
  });
});

describe('docs/errors.md', () => {
  const table = (heading: string): string[] => {
    const section = read('docs/errors.md').split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
    return [...section.matchAll(/^\| (`.*?`) \|/gm)].flatMap(([, codes = '']) =>
      [...codes.matchAll(/`(\w+)`/g)].map(([, code = '']) => code),
    );
  };
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => read(join('src', file)))
    .join('\n');
  const used = (pattern: RegExp): string[] => [...new Set(Array.from(sources.matchAll(pattern), ([code]) => code))];

  test('has every code of this library, and no other', () => {
    const documented = table('Codes of this library');
    assert.ok(documented.length >= 13);
    assert.deepEqual(documented.sort(), used(/\bERR_AIO_[A-Z_]*[A-Z]\b/g).sort());
  });

  test('has the codes for mistakes in arguments that the sources have', () => {
    const documented = table('Mistakes in arguments');
    for (const code of documented) assert.ok(sources.includes(code), code);
    for (const code of used(/\bERR_(?:INVALID_ARG|OUT_OF)_\w+/g)) assert.ok(documented.includes(code), code);
  });

  test('has every error of the kernel that a message of ours has a cure for', () => {
    const documented = table('Codes of the kernel');
    const cures = /const CURES[^{]*\{(.*?)\n\};/s.exec(read('src/outcome.ts'))?.[1] ?? '';
    const cured = [...cures.matchAll(/^ {2}(E[A-Z]+):/gm)].map(([, code = '']) => code);
    assert.ok(cured.length > 5);
    for (const code of cured) assert.ok(documented.includes(code), code);
  });
});

describe('SECURITY.md', () => {
  const text = read('SECURITY.md');

  test('names tests that there are', () => {
    const lists = [...text.matchAll(/`(test\/[\w.-]+\.ts)`((?:: "[^"]+"(?:, "[^"]+")*)?)/g)];
    assert.ok(lists.length > 15);
    for (const [, file = '', titles = ''] of lists) {
      assert.ok(existsSync(join(root, file)), file);
      for (const [, title = ''] of titles.matchAll(/"([^"]+)"/g))
        assert.ok(read(file).includes(title), `${file}: ${title}`);
    }
  });

  test('names one for each promise', () => {
    for (const [row] of text.matchAll(/^\| .* \|$/gm)) {
      if (row !== '| promise | test |') assert.match(row, /`test\//, row);
    }
  });
});

describe('the man page', () => {
  const page = read('man/fileaio.1');
  const commands = ['bench', 'copy', 'info'];

  for (const command of commands) {
    test(`has every option of fileaio ${command}, with its argument, and no other`, () => {
      const [program = '', ...args] = cli;
      const help = spawnSync(program, [...args, command, '--help'], { encoding: 'utf8', cwd: root, timeout: 60_000 });
      assert.equal(help.status, 0, help.stderr);
      const printed = [...help.stdout.matchAll(/^ {2}(?:-h, )?(--[\w-]+)((?: [A-Z]+)?)(?= |$)/gm)].map(
        ([, option = '', argument = '']) => `${option}${argument}`,
      );
      const section = page.split(`\n.Ss fileaio ${command}\n`)[1]?.split(/\n\.S[sh] /)[0] ?? '';
      const documented = [...section.matchAll(/^\.It (?:Fl h , )?Fl (-[\w-]+)(?: Ar (\w+))?$/gm)].map(
        ([, option = '', argument]) => `-${option}${argument === undefined ? '' : ` ${argument}`}`,
      );
      assert.ok(printed.length > 1);
      assert.deepEqual(documented.sort(), printed.sort());
    });
  }

  test('has every command', () => {
    const found = [...page.matchAll(/^\.Ss fileaio (\w+)$/gm)].map(([, command]) => command);
    assert.deepEqual(found, commands);
  });

  test('is well-formed', (t) => {
    const checkers: readonly (readonly [string, ...string[]])[] = [
      ['mandoc', '-Tlint', '-W', 'warning', 'man/fileaio.1'],
      ['groff', '-ww', '-mandoc', '-Tutf8', '-z', 'man/fileaio.1'],
    ];
    for (const [program, ...args] of checkers) {
      const { error, status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', cwd: root });
      if (error !== undefined) continue;
      assert.equal(`${stdout}${stderr}`, '');
      assert.equal(status, 0);
      return;
    }
    t.skip('neither mandoc nor groff is installed');
  });

  test('is installed with the package', () => {
    const { man, files } = JSON.parse(read('package.json')) as { man: string[]; files: string[] };
    assert.deepEqual(man, ['./man/fileaio.1']);
    assert.ok(files.includes('man'));
  });
});
