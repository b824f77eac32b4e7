/** Copies two files over a third, by turns, until somebody ends it. Arguments: the two, the third, and 'direct' or 'cached'. */
import { copyFile } from '../../dist/cli/copy.js';

const [first, second, destination, how] = process.argv.slice(2);
const silence = { step() {}, update() {}, end() {} };
const never = { signal: new AbortController().signal, by: undefined, exitCode: 0 };

for (let turn = 0; ; turn++) {
  await copyFile(
    {
      source: turn % 2 === 0 ? second : first,
      destination,
      blockSize: 65536,
      depth: 4,
      direct: how === 'direct',
      engine: undefined,
      sparse: 'auto',
      verify: turn % 4 === 0,
      force: true,
      preserve: false,
      quiet: true,
      json: undefined,
    },
    silence,
    never,
  );
  if (turn === 0) process.stdout.write('ready\n');
}
