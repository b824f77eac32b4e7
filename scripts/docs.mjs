// The API reference, from the TSDoc of src/: `npm run docs` writes it to api/, `npm run docs -- --check` only looks whether every public name
// and member is documented and every link leads somewhere. typedoc reads sources through the programming interface of TypeScript 6, which
// TypeScript 7 has no more: it gets one of its own, in node_modules/.cache, pinned by the lock file in scripts/docs/.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const wanted = join(root, 'scripts/docs');
const cache = join(root, 'node_modules/.cache/fileaio-docs');
const typedoc = join(cache, 'node_modules/typedoc/bin/typedoc');
const lock = 'package-lock.json';

function isThere() {
  if (!existsSync(typedoc) || !existsSync(join(cache, lock))) return false;
  return readFileSync(join(cache, lock), 'utf8') === readFileSync(join(wanted, lock), 'utf8');
}

if (!isThere()) {
  mkdirSync(cache, { recursive: true });
  rmSync(join(cache, lock), { force: true });
  copyFileSync(join(wanted, 'package.json'), join(cache, 'package.json'));
  copyFileSync(join(wanted, lock), join(cache, lock));
  const npm = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: cache,
    stdio: 'inherit',
  });
  if (npm.status !== 0) {
    // What is there in part would be taken for whole the next time.
    rmSync(cache, { recursive: true, force: true });
    console.error(`fileaio: typedoc could not be fetched (npm ci of scripts/docs/${lock}); npm's output is above`);
    process.exit(1);
  }
}

const check = process.argv.includes('--check');
const made = spawnSync(process.execPath, [typedoc, ...(check ? ['--emit', 'none'] : [])], {
  cwd: root,
  stdio: 'inherit',
});
process.exit(made.status ?? 1);
