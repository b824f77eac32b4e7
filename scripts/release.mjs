// `npm run release -- 0.2.0`: gives what CHANGELOG.md has under "Unreleased" that number and today's date, and package.json and package-lock.json the
// number. It commits and publishes nothing; `npm run release:check` comes after the commit.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isLater, newest, released } from './changelog.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const at = (name) => join(root, name);
const [version] = process.argv.slice(2);

function giveUp(reason) {
  console.error(`fileaio: not released: ${reason}`);
  process.exit(1);
}

if (version === undefined || !/^\d+\.\d+\.\d+$/.test(version)) giveUp('name the version: npm run release -- 0.2.0');
const changelog = readFileSync(at('CHANGELOG.md'), 'utf8');
const before = newest(changelog);
if (before !== undefined && !isLater(version, before)) giveUp(`${version} does not come after ${before}`);
let text = '';
try {
  text = released(changelog, version, new Date().toISOString().slice(0, 10));
} catch (error) {
  giveUp(error.message);
}
for (const name of ['package.json', 'package-lock.json']) {
  const manifest = JSON.parse(readFileSync(at(name), 'utf8'));
  manifest.version = version;
  if (manifest.packages !== undefined) manifest.packages[''].version = version;
  writeFileSync(at(name), `${JSON.stringify(manifest, null, 2)}\n`);
}
writeFileSync(at('CHANGELOG.md'), text);
console.log(`${version}: look at the changes, commit them, then: npm run release:check`);
