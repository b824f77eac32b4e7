// The tests of the threads engine and of files as if on macOS and on Windows: `npm run test:platforms`, or with `-- darwin` one of them. A simulation:
// the library is told that it is there (test/platforms/preload.mjs), has none of the constants that the platform lacks and no native code, and whatever
// touches something of Linux's fails. The operating system below is Linux all the same.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { finish, step } from './steps.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const FILES = ['threads', 'file-handle', 'file-differential', 'file-fs'];

/** Tests that cannot pass there, and why. */
const WITHOUT = [
  [/./, /has no O_DIRECT/, 'it tests direct I/O, which the platform does not have'],
  [/misaligned/, /./, 'it tests direct I/O, which the platform does not have'],
  [/^buffered files go to io_uring/, /threads/, 'it tests how the engines of Linux are chosen'],
  [/^files that do not know their size: of \/proc/, /\/proc/, 'it reads a file of /proc'],
  [
    /^every name of node:fs|^has every member of node:fs/,
    /./,
    "it compares functions with Node's, in whose place this test puts its own",
  ],
];

for (const platform of process.argv.length > 2 ? process.argv.slice(2) : ['darwin', 'win32']) {
  for (const file of FILES) {
    await step(`${platform}: test/${file}.test.ts`, () => {
      const modules = ['--import', 'tsx', '--import', './test/platforms/preload.mjs'];
      const how = ['--expose-gc', '--test', '--test-reporter=./test/platforms/reporter.mjs'];
      const { stdout, stderr } = spawnSync(process.execPath, [...modules, ...how, `test/${file}.test.ts`], {
        cwd: root,
        encoding: 'utf8',
        maxBuffer: 2 ** 28,
        timeout: 900_000,
        env: { ...process.env, FILEAIO_PLATFORM: platform },
      });
      const results = stdout
        .split('\n')
        .filter((line) => line.startsWith('{"name"'))
        .map((line) => JSON.parse(line));
      const failed = results.filter(({ error }) => error !== undefined && !/^\d+ subtests? failed$/.test(error));
      const wrong = failed.filter(
        ({ name, error }) => !WITHOUT.some(([test, message]) => test.test(name) && message.test(error)),
      );
      // What the tests themselves made it do is no harm.
      const touched = [...`${stdout}\n${stderr}`.matchAll(/touched on .*/g)]
        .map(([line]) => line)
        .filter((line) => !/: open\('\/proc\/version'\)$/.test(line));
      if (wrong.length > 0 || touched.length > 0 || results.length < 5)
        throw new Error(
          [
            ...wrong.map(({ name, error }) => `  ${name}: ${error}`),
            ...touched,
            `${results.length} tests`,
            stderr,
          ].join('\n'),
        );
      const skipped = results.filter(({ skipped: skip }) => skip).length;
      return `${results.length - failed.length - skipped} passed, ${skipped} skipped, ${failed.length} cannot pass there`;
    });
  }
}
console.log('Cannot pass there:');
for (const [, , reason] of new Map(WITHOUT.map((each) => [each[2], each])).values()) console.log(`  ${reason}`);
finish();
