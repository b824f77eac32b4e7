// tsc, then the executable bit on the command-line tool (npm sets it only when it links the package). Into a new folder that
// takes the old one's place when it is whole: whatever runs from dist meanwhile keeps finding its files.
import { spawnSync } from 'node:child_process';
import { chmodSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
const fresh = join(root, `dist.new-${process.pid}`);
const old = join(root, `dist.old-${process.pid}`);
const typescript = createRequire(import.meta.url).resolve('typescript/package.json');

const tsc = join(dirname(typescript), 'bin/tsc');
const built = spawnSync(process.execPath, [tsc, '-p', root, '--outDir', fresh], { stdio: 'inherit' });
if (built.status === 0) {
  chmodSync(join(fresh, 'cli/main.js'), 0o755);
  try {
    renameSync(dist, old);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  renameSync(fresh, dist);
}
for (const left of [fresh, old]) rmSync(left, { recursive: true, force: true });
process.exit(built.status ?? 1);
