/** Code that documentation shows, run as it stands by a program that has the package installed. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type Cleanup, child, type Ended, scratch } from './support.ts';

export const root = fileURLToPath(new URL('..', import.meta.url));

const tsx = pathToFileURL(join(root, 'node_modules/tsx/dist/esm/index.mjs')).href;

/** The TypeScript in a Markdown file, fence by fence. */
export function snippetsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^```ts\n(.*?)^```$/gms)].map((match) => match[1] ?? '');
}

/** A directory of a program that has the package installed, with these files in it. */
export function programDirectory(t: Cleanup, files: Record<string, string | Uint8Array>): string {
  const directory = scratch(t);
  mkdirSync(join(directory, 'node_modules'));
  symlinkSync(root, join(directory, 'node_modules/fileaio'));
  writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), content);
  }
  return directory;
}

/** Runs `main`, which is one of the files. */
export function runProgram(t: Cleanup, files: Record<string, string | Uint8Array>, main: string): Promise<Ended> {
  return child(process.execPath, ['--import', tsx, main], {}, programDirectory(t, files));
}

/** An `@example` in the TSDoc of what is called `name`; members as `Class.member`. */
export interface Example {
  /** Relative to `src/`. */
  readonly file: string;
  readonly name: string;
  readonly code: string;
}

const src = join(root, 'src');
const DOCUMENTED = /^( *)\/\*\*\n((?:\1 \*[^\n]*\n)*?)\1 \*\/\n(?=((?:[^\n]*\n){1,2}))/gm;
const TOP = /^export (?:declare )?(?:abstract )?(?:async )?(?:class|function|const|let|interface|type) (\w+)/;
const MEMBER = /^ {2}(?:readonly |async |static |override |get )*(\w+)/;
const FENCE = /@example\n```ts\n(.*?)\n```/gs;

/** Every example in the sources, in the order of files and lines. */
export function examplesOfSources(): Example[] {
  return readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.startsWith('cli'))
    .sort()
    .flatMap((file) => examplesOf(relative(src, join(src, file)), readFileSync(join(src, file), 'utf8')));
}

function examplesOf(file: string, text: string): Example[] {
  const found: Example[] = [];
  for (const { index, 1: indent = '', 2: comment = '', 3: declared = '' } of text.matchAll(DOCUMENTED)) {
    const content = comment.replaceAll(new RegExp(`^${indent} \\* ?`, 'gm'), '');
    const top = TOP.exec(declared)?.[1];
    const owner = [...text.slice(0, index).matchAll(/^export class (\w+)/gm)].at(-1)?.[1];
    const member = MEMBER.exec(declared)?.[1];
    const name = indent === '' ? top : owner !== undefined && member !== undefined ? `${owner}.${member}` : undefined;
    for (const [, code = ''] of content.matchAll(FENCE)) {
      assert.ok(name !== undefined, `${file}: an example belongs to nothing:\n${code}`);
      found.push({ file, name, code: `${code}\n` });
    }
  }
  return found;
}

/** How a snippet that was run with others ended. */
export interface Outcome {
  readonly printed: readonly string[];
  /** What it threw, with its stack. */
  readonly error?: string;
}

/** Runs one after the other, each in a directory of its own with the same files: one process is enough for all. */
const DRIVER = `
import { writeSync } from 'node:fs';
import { format } from 'node:util';

const real = console.log;
for (const name of JSON.parse(process.argv[2])) {
  const printed = [];
  let error;
  console.log = (...args) => printed.push(format(...args));
  process.chdir(new URL(name + '/', import.meta.url).pathname);
  try {
    await import('./' + name + '/main.ts');
  } catch (thrown) {
    error = thrown instanceof Error ? String(thrown.stack) : String(thrown);
  }
  console.log = real;
  writeSync(1, JSON.stringify([name, { printed, error }]) + '\\n');
}
`;

/** What every snippet finds in its directory. */
const DATA_BYTES = 2 ** 20;

/** Checks the types of snippets against the package's declarations, and runs them, each on a \`data.bin\` of 1 MiB. */
export async function runSnippets(
  t: Cleanup,
  snippets: ReadonlyMap<string, string>,
): Promise<{ types: Ended; outcomes: ReadonlyMap<string, Outcome>; stderr: string }> {
  const data = randomBytes(DATA_BYTES);
  const files: Record<string, string | Uint8Array> = {
    'driver.mjs': DRIVER,
    'tsconfig.json': JSON.stringify({
      compilerOptions: {
        target: 'es2022',
        lib: ['es2023', 'esnext.disposable'],
        module: 'nodenext',
        types: ['node'],
        typeRoots: [join(root, 'node_modules/@types')],
        strict: true,
        noEmit: true,
        skipLibCheck: true,
      },
      include: ['*/main.ts'],
    }),
  };
  for (const [name, code] of snippets) {
    files[`${name}/main.ts`] = code;
    files[`${name}/data.bin`] = data;
  }
  const directory = programDirectory(t, files);
  const driver = ['--import', tsx, 'driver.mjs', JSON.stringify([...snippets.keys()])];
  const ended = await child(process.execPath, driver, {}, directory);
  const outcomes = new Map<string, Outcome>();
  for (const line of ended.stdout.split('\n')) {
    if (!line.startsWith('[')) continue;
    const [name, outcome] = JSON.parse(line) as [string, Outcome];
    outcomes.set(name, outcome);
  }
  const types = await child(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'],
    {},
    directory,
  );
  const how = ended.signal !== null ? `\nended by ${ended.signal}` : '';
  return { types, outcomes, stderr: `${ended.stderr}${how}` };
}

/** Asserts that a snippet ended without an error, and printed in this order what its comments \`// => …\` say. */
export function assertRan(code: string, outcome: Outcome | undefined, stderr: string): void {
  assert.ok(outcome !== undefined, `it never ended, or ended the process: ${stderr}`);
  assert.equal(outcome.error, undefined, outcome.error);
  let from = 0;
  for (const [, expected = ''] of code.matchAll(/\/\/ => (.*)$/gm)) {
    const at = outcome.printed.indexOf(expected, from);
    assert.ok(at >= 0, `'${expected}' is not what it printed:\n${outcome.printed.join('\n')}`);
    from = at + 1;
  }
}
