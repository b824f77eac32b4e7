// Builds native/ with node-gyp. With --optional (what `npm ci` does) a machine that cannot build it still
// gets an installed package, and is told what is missing.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const native = join(dirname(fileURLToPath(import.meta.url)), '..', 'native');
const optional = process.argv.includes('--optional');

function giveUp(reason) {
  console.error(`fileaio: the native shim was not built: ${reason}
fileaio: kernel AIO and io_uring need it. Install a C compiler, make and Python 3 (Debian: apt install build-essential python3),
fileaio: then run: npm run build:native`);
  process.exit(optional ? 0 : 1);
}

/** The one of this repository; in an installed package, which depends on none, npm's own. */
function nodeGyp() {
  try {
    return createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
  } catch {
    if (process.env.npm_config_node_gyp !== undefined) return process.env.npm_config_node_gyp;
    return giveUp('there is no node-gyp here; npm brings one along: npm run build:native, in this folder');
  }
}

if (process.platform !== 'linux')
  giveUp(`kernel AIO and io_uring exist on Linux only, and this is ${process.platform}`);
const compiler = process.env.CC ?? 'cc';
if (spawnSync(compiler, ['--version']).status !== 0) giveUp(`no C compiler: "${compiler} --version" does not run`);

// The headers that came with this very Node, where there are any, instead of a download.
const prefix = dirname(dirname(process.execPath));
const nodedir = existsSync(join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
const gyp = nodeGyp();
const built = spawnSync(process.execPath, [gyp, 'rebuild', '--directory', native, '--loglevel=warn', ...nodedir], {
  encoding: 'utf8',
});
if (built.status !== 0) {
  console.error(`${built.stdout}${built.stderr}`);
  giveUp('node-gyp failed, its output is above');
}
