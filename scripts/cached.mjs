// Programs of others that scripts run and the package does not depend on: fetched once from the npm registry, each into a folder of its
// own under node_modules/.cache. Remove that folder to get newer ones.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const cache = join(dirname(fileURLToPath(import.meta.url)), '../node_modules/.cache/fileaio-tools');

/** The folder of a package such as `pnpm@10`, without its install scripts; `foreign` where it is meant for another machine. */
export function cached(spec, { foreign = false } = {}) {
  const name = spec.replace(/(.)@.*$/, '$1');
  const folder = join(cache, spec.replace(/[@/]+/g, '-'));
  const at = join(folder, 'node_modules', name);
  if (existsSync(join(at, 'package.json'))) return at;
  mkdirSync(folder, { recursive: true });
  // One of its own: npm would take the folder for a part of this project otherwise.
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', ...(foreign ? ['--force'] : [])];
  const npm = spawnSync('npm', ['install', '--prefix', folder, ...options, spec], { encoding: 'utf8', cwd: folder });
  if (npm.status !== 0) throw new Error(`npm install ${spec}: ${npm.stderr ?? npm.error}`);
  return at;
}

/** The path of the program `bin` of such a package. */
export function program(spec, bin) {
  const at = cached(spec);
  const manifest = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8'));
  return join(at, typeof manifest.bin === 'string' ? manifest.bin : manifest.bin[bin]);
}
