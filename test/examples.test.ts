/** The examples of the API reference and of the guides: every export has one, and each is run as it stands. */
import assert from 'node:assert/strict';
import * as nodeFs from 'node:fs';
import { readdirSync, readFileSync } from 'node:fs';
import * as nodePromises from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as fs from '../src/fs.ts';
import * as index from '../src/index.ts';
import * as promises from '../src/promises.ts';
import * as sim from '../src/sim.ts';
import { assertRan, examplesOfSources, type Outcome, root, runSnippets, snippetsOf } from './snippets.ts';

/** By what programs import them as, with the module of Node's whose names they pass on. */
const modules: readonly [name: string, exported: object, original: object][] = [
  ['fileaio', index, {}],
  ['fileaio/promises', promises, nodePromises],
  ['fileaio/fs', fs, nodeFs],
  ['fileaio/sim', sim, {}],
];

const examples = examplesOfSources();
const codes = examples.map(({ code }) => code);

function imports(code: string, name: string): boolean {
  return code.includes(`from '${name}'`) || code.includes(`import('${name}')`);
}

/** What a module exports that is not Node's; nor the default, which is the same again. */
function ownOf(exported: object, original: object): [name: string, value: unknown][] {
  const theirs = new Map(Object.entries(original));
  return Object.entries(exported).filter(([name, value]) => name !== 'default' && theirs.get(name) !== value);
}

/** Methods that programs call, by name. */
function methodsOf(value: unknown): string[] {
  if (typeof value !== 'function' || !/^class\b/.test(Function.prototype.toString.call(value))) return [];
  const { prototype } = value as { prototype: object };
  return Object.entries(Object.getOwnPropertyDescriptors(prototype))
    .filter(([name, { value: member }]) => typeof member === 'function' && !/^(constructor$|_)/.test(name))
    .map(([name]) => name);
}

function prototypeOf(value: unknown): unknown {
  return typeof value === 'function' && value.prototype !== undefined ? value.prototype : value;
}

describe('every export', () => {
  for (const [module, exported, original] of modules) {
    test(`of ${module} has an example`, () => {
      const own = ownOf(exported, original);
      assert.ok(own.length > 1);
      for (const [name, value] of own) {
        // A module of this package again, under a name.
        if (value === promises) continue;
        const found = examples.some((example) => example.name === name && imports(example.code, module));
        assert.ok(found, `no @example that imports from '${module}' in the TSDoc of ${name}`);
      }
    });

    test(`of ${module} that is a class has its methods called in one`, () => {
      for (const [name, value] of ownOf(exported, original)) {
        for (const method of methodsOf(value)) {
          assert.ok(
            codes.some((code) => code.includes(`.${method}(`)),
            `no @example calls ${method} of ${name}`,
          );
        }
      }
    });

    test(`of ${module} is in its default export, where there is one`, () => {
      const { default: all } = exported as { default?: Record<string, unknown> };
      if (all === undefined) return;
      for (const [name, value] of ownOf(all, original)) {
        assert.ok(name in exported, `${name} is no export by itself`);
        if (name === 'promises') continue;
        // The streams there can be called without `new`: other functions, of the same class.
        const [there, here] = [value, (exported as Record<string, unknown>)[name]].map(prototypeOf);
        assert.equal(there, here);
      }
    });
  }
});

/** The guides; the simulator's has a test of its own. */
const guides = readdirSync(join(root, 'docs'))
  .filter((name) => name.endsWith('.md') && name !== 'simulator.md')
  .sort();

const snippets = new Map<string, { title: string; code: string }>();
for (const [number, { file, name, code }] of examples.entries()) {
  snippets.set(`example-${number + 1}`, { title: `${file}: ${name}`, code });
}
for (const guide of guides) {
  for (const [number, code] of snippetsOf(readFileSync(join(root, 'docs', guide), 'utf8')).entries()) {
    snippets.set(`${guide.replace('.md', '')}-${number + 1}`, { title: `docs/${guide}, snippet ${number + 1}`, code });
  }
}

describe('what examples show', () => {
  let outcomes: ReadonlyMap<string, Outcome>;
  let complaints = '';
  let stderr = '';

  before(async () => {
    const ran = await runSnippets({ after }, new Map(Array.from(snippets, ([key, { code }]) => [key, code])));
    outcomes = ran.outcomes;
    complaints = ran.types.stdout;
    stderr = ran.stderr;
  });

  test('has the right types', () => {
    const named = complaints.replaceAll(/^([\w-]+)\/main\.ts/gm, (_, key: string) => snippets.get(key)?.title ?? key);
    assert.equal(named, '');
  });

  for (const [key, { title, code }] of snippets) {
    test(`runs: ${title}`, () => assertRan(code, outcomes.get(key), stderr));
  }
});
