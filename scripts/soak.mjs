// Compiles the library and the soak into a directory of its own, so that a long run is not touched by work on the tree, and runs it:
// `npm run soak -- --help`. FILEAIO_SOAK_SHIM names another build of the native shim.
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const work = mkdtempSync(join(tmpdir(), 'fileaio-soak-build-'));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));

const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
const compiled = spawnSync(process.execPath, [tsc, '-p', join(root, 'soak'), '--outDir', work, '--noCheck'], {
  stdio: 'inherit',
});
if (compiled.status !== 0) process.exit(1);
writeFileSync(join(work, 'package.json'), '{"type":"module"}\n');
mkdirSync(join(work, 'native/build/Release'), { recursive: true });
copyFileSync(
  process.env.FILEAIO_SOAK_SHIM ?? join(root, 'native/build/Release/fileaio.node'),
  join(work, 'native/build/Release/fileaio.node'),
);

const soak = spawn(process.execPath, ['--expose-gc', join(work, 'soak/main.js'), ...process.argv.slice(2)], {
  stdio: 'inherit',
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => soak.kill(signal));
soak.on('exit', (code) => process.exit(code ?? 1));
