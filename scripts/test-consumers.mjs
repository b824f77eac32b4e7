// Other people's packages on our files: `npm run test:consumers`, or `npm run test:consumers -- test/consumers/yauzl.test.ts` for one. The packages
// are pinned by the lock file in test/consumers/packages/, and come from the npm registry into node_modules/.cache: no part of this project.
// Where the registry cannot be reached, the tests say that they are skipped, and why.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { compile, end, root, testCommand, testFiles } from './run-tests.mjs';

const wanted = join(root, 'test/consumers/packages');
const cache = join(root, 'node_modules/.cache/fileaio-consumers');
const lock = 'package-lock.json';
// Written last: a folder that npm left in the middle is not taken for whole.
const complete = join(cache, 'complete.json');
const OFFLINE = /\b(EAI_AGAIN|ENOTFOUND|ENETUNREACH|EHOSTUNREACH|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENOTCACHED)\b/;

/** What keeps the packages from being here, or `undefined`. Ends the process where that is no matter of the network. */
function fetchPackages() {
  const pinned = readFileSync(join(wanted, lock), 'utf8');
  if (existsSync(complete) && readFileSync(complete, 'utf8') === pinned) return undefined;
  rmSync(cache, { recursive: true, force: true });
  mkdirSync(cache, { recursive: true });
  for (const file of ['package.json', lock]) copyFileSync(join(wanted, file), join(cache, file));
  const npm = spawnSync(
    'npm',
    ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', '--prefer-offline'],
    { cwd: cache, encoding: 'utf8', timeout: 300_000, killSignal: 'SIGKILL' },
  );
  if (npm.status !== 0) {
    const why = OFFLINE.exec(npm.stderr)?.[0] ?? (npm.signal === 'SIGKILL' ? 'no answer in 300 s' : undefined);
    if (why !== undefined) return `the npm registry cannot be reached: ${why}`;
    console.error(
      `${npm.stderr}fileaio: npm ci of test/consumers/packages/${lock} failed (${npm.error ?? npm.status})`,
    );
    process.exit(1);
  }
  // For recipes, and for this script's tests: names are looked up from here.
  symlinkSync(root, join(cache, 'node_modules/fileaio'));
  writeFileSync(join(cache, 'load.mjs'), 'export const load = (name) => import(name);\n');
  writeFileSync(complete, pinned);
  return undefined;
}

const files = testFiles('test/consumers');
// They run on the package as it is shipped: compiled.
compile();
const missing = fetchPackages();
const [program, ...args] = testCommand(files, '--test-concurrency=2');
const ended = spawnSync(program, args, {
  cwd: root,
  stdio: 'inherit',
  env: {
    ...process.env,
    ...(missing === undefined ? { FILEAIO_CONSUMERS: cache } : { FILEAIO_CONSUMERS_MISSING: missing }),
  },
});
end(ended.status);
