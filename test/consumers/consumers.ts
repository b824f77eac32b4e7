/** What the tests of other people's packages need: the packages, the ways to open a file, and the recipes of docs/consumers.md. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type * as FileaioFs from '../../src/fs.ts';
import type * as Fileaio from '../../src/index.ts';
import type * as FileaioPromises from '../../src/promises.ts';

const cache = process.env.FILEAIO_CONSUMERS;
const missing = process.env.FILEAIO_CONSUMERS_MISSING ?? 'the packages are fetched by npm run test:consumers';

/** A package by its name, as a program would get it that has it installed. */
export async function load<T>(name: string): Promise<T> {
  assert.ok(cache !== undefined, missing);
  const { load: importFromThere } = (await import(pathToFileURL(join(cache, 'load.mjs')).href)) as {
    load(name: string): Promise<T>;
  };
  return importFromThere(name);
}

/** The same for one that is CommonJS. */
export async function loadDefault<T>(name: string): Promise<T> {
  return (await load<{ default: T }>(name)).default;
}

/** This package as it is shipped. */
export const fileaio = (): Promise<typeof Fileaio> => load('fileaio');
export const fileaioPromises = (): Promise<typeof FileaioPromises> => load('fileaio/promises');
export const fileaioFs = (): Promise<typeof FileaioFs> => load('fileaio/fs');

/** A suite that needs the packages; without them it is one skipped test. */
export function consumer(title: string, suite: () => void | Promise<void>): void {
  if (cache === undefined) test(title, (t) => t.skip(missing));
  else describe(title, suite);
}

/** How a file can be opened: each engine that works here, past the page cache and through it. */
export interface Way {
  readonly title: string;
  readonly engine: Fileaio.EngineName;
  readonly direct: boolean;
}

export async function ways(): Promise<Way[]> {
  const { engines } = await fileaio();
  const names = engines().filter(({ name, available }) => available && name !== 'simulated');
  assert.ok(names.length > 0);
  return names.flatMap(({ name: engine }) =>
    [true, false].map((direct) => ({ title: `${engine}, ${direct ? 'direct' : 'buffered'}`, engine, direct })),
  );
}

/** A recipe of docs/consumers.md, as it stands there: the block of code whose first line is its file name. */
export async function recipe<T>(name: string): Promise<T> {
  assert.ok(cache !== undefined, missing);
  const guide = readFileSync(fileURLToPath(new URL('../../docs/consumers.md', import.meta.url)), 'utf8');
  const blocks = [...guide.matchAll(/^```js\n(.*?)^```$/gms)].map((match) => match[1] ?? '');
  const found = blocks.filter((block) => block.startsWith(`// ${name}\n`));
  assert.equal(found.length, 1, `docs/consumers.md has one ${name}`);
  const folder = join(cache, 'recipes', `${process.pid}`);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, name);
  writeFileSync(file, found[0] ?? '');
  return (await import(pathToFileURL(file).href)) as T;
}
