/** `npm run test:faults`: every call of the matrix, `-- --sample`: some of them, `-- io-uring io_uring_enter`: rows with these words. */
import { spawnSync } from 'node:child_process';
import { release } from 'node:os';
import { parseArgs } from 'node:util';
import { Lane, libuvHasRings, type Tally } from './inject.ts';
import { everything, rows, sample } from './matrix.ts';
import { whyNoStrace } from './strace.ts';

const AT_ONCE = 2;

const { values, positionals } = parseArgs({ options: { sample: { type: 'boolean' } }, allowPositionals: true });
const why = whyNoStrace();
if (why !== undefined) {
  console.log(`Skipped: ${why}.`);
  process.exit(0);
}

const began = performance.now();
const todo = rows(libuvHasRings())
  .map((row, index) => ({ row, injections: values.sample === true ? sample(row, index) : everything(row) }))
  .filter(({ row }) => positionals.every((word) => [row.column, row.work, row.syscall].includes(word)));
const tallies: Tally[] = [];
let wrong = 0;
const report = (problem: string): void => {
  wrong++;
  console.log(`WRONG ${problem}`);
};

async function work(): Promise<void> {
  for (let next = todo.shift(); next !== undefined; next = todo.shift()) {
    const { row, injections } = next;
    const start = performance.now();
    // A process for each row: each must come to its end by itself.
    const lane = new Lane();
    const tally = await lane.run(row, injections, report);
    const ended = await lane.end();
    if (ended !== undefined) report(`${row.column}, ${row.work}, ${row.syscall}: at the end ${ended}`);
    tallies.push(tally);
    const { runs, hit, survived, surfaced } = tally;
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(
      `${row.column}, ${row.work}, ${row.syscall}: ${hit} faults, ${survived} survived, in ${runs} runs; ${surfaced} errors came to the program; ${seconds} s`,
    );
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, work));

/** Lines by system call, columns by engine: faults injected / survived. */
function table(): string {
  const columns = [...new Set(tallies.map(({ row }) => row.column))];
  const calls = [...new Set(tallies.map(({ row }) => row.syscall))].sort();
  const lines = calls.map((syscall) => {
    const cells = columns.map((column) => {
      const found = tallies.filter(({ row }) => row.column === column && row.syscall === syscall);
      if (found.length === 0) return '';
      const sum = (of: (tally: Tally) => number): number => found.reduce((total, each) => total + of(each), 0);
      return `${sum(({ hit }) => hit)} / ${sum(({ survived }) => survived)}`;
    });
    return `| ${syscall} | ${cells.join(' | ')} |`;
  });
  return [
    `| faults injected / survived | ${columns.join(' | ')} |`,
    `|---|${'---|'.repeat(columns.length)}`,
    ...lines,
  ].join('\n');
}

const total = (of: (tally: Tally) => number): number => tallies.reduce((sum, tally) => sum + of(tally), 0);
console.log(`\n${table()}\n`);
console.log(
  `${total(({ runs }) => runs)} runs, ${total(({ hit }) => hit)} with a fault, ${total(({ survived }) => survived)} survived, ${total(({ surfaced }) => surfaced)} errors came to the program, ${wrong} things wrong, ${Math.round((performance.now() - began) / 1000)} s`,
);
console.log(`Linux ${release()}, Node ${process.version}, ${process.arch}`);
if (values.sample !== true && positionals.length === 0) {
  // What no system call says: devices and file systems that fail later, or never answer.
  const tests = ['test/faults-disk.test.ts', 'test/faults-fuse.test.ts'];
  const options = ['--import', 'tsx', '--expose-gc', '--test', '--test-reporter=spec'];
  const ended = spawnSync(process.execPath, [...options, ...tests], { stdio: 'inherit' });
  if (ended.status !== 0) wrong++;
}
process.exit(wrong > 0 ? 1 : 0);
