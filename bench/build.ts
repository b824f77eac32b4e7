/** Builds what a run needs into a temporary directory: what is measured stays as it is while somebody works on the tree. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { onExit } from './cleanup.ts';
import type { Built } from './programs.ts';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const SHIM = 'native/build/Release/fileaio.node';

function run(file: string, args: readonly string[], cwd: string): void {
  const { error, status, stdout, stderr } = spawnSync(file, args, { cwd, encoding: 'utf8' });
  if (error !== undefined) throw new Error(`${file} does not run: ${error.message}`);
  if (status !== 0) throw new Error(`${[file, ...args].join(' ')} failed:\n${stdout}${stderr}`);
}

/** TypeScript to JavaScript, with the options of a build and without its checks, which `npm run check` is for. */
function compile(project: string, to: string): void {
  const typescript = createRequire(import.meta.url).resolve('typescript/package.json');
  run(process.execPath, [join(dirname(typescript), 'bin/tsc'), '-p', project, '--outDir', to, '--noCheck'], root);
}

/** What users load of the tree at `from`, compiled into `to`; returns the URL of its `index.js`. */
function buildLibrary(from: string, to: string): string {
  compile(from, join(to, 'dist'));
  const shim = join(from, SHIM);
  if (!fs.existsSync(shim)) throw new Error(`${shim} is missing: npm run build:native`);
  fs.mkdirSync(dirname(join(to, SHIM)), { recursive: true });
  fs.copyFileSync(shim, join(to, SHIM));
  fs.writeFileSync(join(to, 'package.json'), '{"type":"module"}');
  return pathToFileURL(join(to, 'dist/index.js')).href;
}

/**
 * Builds this tree, `others` (names and directories of further trees of this project, to compare with) and `sources` in C.
 *
 * @returns what was built, by name of the tree; this one has the name ''.
 */
export function build(others: ReadonlyMap<string, string>, sources: ReadonlySet<string>): Map<string, Built> {
  const work = fs.mkdtempSync(join(tmpdir(), 'fileaio-bench-'));
  onExit(() => fs.rmSync(work, { recursive: true, force: true }));

  // The programs run as plain JavaScript, as they would in use: no loader, no source maps.
  const compiled = join(work, 'programs');
  compile(here, compiled);
  fs.writeFileSync(join(compiled, 'package.json'), '{"type":"module"}');

  const native = new Map<string, string>();
  for (const source of sources) {
    const binary = join(work, source.replace(/\.c$/, ''));
    run(process.env.CC ?? 'cc', ['-std=c11', '-O2', '-Wall', '-Wextra', '-o', binary, join(here, source)], root);
    native.set(source, binary);
  }

  const child = join(compiled, 'bench/child.js');
  const filesChild = join(compiled, 'bench/files-child.js');
  const built = new Map<string, Built>();
  let count = 0;
  for (const [name, directory] of new Map([['', root], ...others])) {
    built.set(name, { library: buildLibrary(directory, join(work, `library-${count++}`)), child, filesChild, native });
  }
  return built;
}
