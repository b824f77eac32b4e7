// tsc, once for the library and once for what runs in the pages of `fileaio bench --html`, then the executable bit on the command-line tool (npm sets it only when it links the package). Into a new folder that
// takes the old one's place when it is whole: whatever runs from dist meanwhile keeps finding its files.
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
const fresh = join(root, `dist.new-${process.pid}`);
const old = join(root, `dist.old-${process.pid}`);
const { resolve } = createRequire(import.meta.url);

const tsc = join(dirname(resolve('typescript/package.json')), 'bin/tsc');
const report = join(fresh, 'cli/report');
const compile = (project, out) =>
  spawnSync(process.execPath, [tsc, '-p', project, '--outDir', out], { stdio: 'inherit' }).status ?? 1;
const status = compile(root, fresh) || compile(join(root, 'report'), report);
if (status === 0) {
  // The plots: the package brings them along, and depends on nothing.
  const uplot = dirname(resolve('uplot/package.json'));
  for (const name of ['uPlot.iife.min.js', 'uPlot.min.css'])
    copyFileSync(join(uplot, 'dist', name), join(report, name));
  copyFileSync(join(uplot, 'LICENSE'), join(report, 'uPlot.LICENSE'));
  copyFileSync(join(root, 'report/style.css'), join(report, 'style.css'));
  chmodSync(join(fresh, 'cli/main.js'), 0o755);
  try {
    renameSync(dist, old);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  renameSync(fresh, dist);
}
for (const left of [fresh, old]) rmSync(left, { recursive: true, force: true });
process.exit(status);
