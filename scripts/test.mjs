// The tests: all of them, or the files given as arguments.
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { compile, end, root, testCommand, testFiles } from './run-tests.mjs';

// Workers in tests run the compiled library: tsx does not reach into workers on Node 20.
compile();
// One for each processor, not one less: much of a test is waiting for processes and disks.
const [program, ...args] = testCommand(testFiles('test'), `--test-concurrency=${availableParallelism()}`);
end(spawnSync(program, args, { cwd: root, stdio: 'inherit' }).status);
