/** The process that faults are injected into: it does what it is told, run by run, judges it, and ends by itself. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Cell, Judge, told, type Verdict } from './fault.ts';
import { files, handles } from './file-layer.ts';
import { contexts, openFiles, registrations, requests } from './low-level.ts';
import { workers } from './workers.ts';

const directory = mkdtempSync(join(tmpdir(), 'fileaio-test-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
const fifo = join(directory, 'fifo');
execFileSync('mkfifo', [fifo]);
const open = openFiles(directory, fifo);

async function run(cell: Cell): Promise<Verdict> {
  const judge = new Judge(cell.fault);
  try {
    switch (cell.work) {
      case 'requests':
        await requests(cell, judge, open);
        break;
      case 'contexts':
        await contexts(cell, judge, open);
        break;
      case 'registrations':
        await registrations(cell, judge, open);
        break;
      case 'files':
        await files(cell, judge, directory);
        break;
      case 'handles':
        await handles(cell, judge, directory);
        break;
      case 'workers':
        await workers(cell, judge, open.path, open.fifo);
    }
  } catch (error) {
    judge.check(false, `threw ${told(error)}`);
  }
  return { problems: judge.problems, surfaced: judge.surfaced };
}

process.on('unhandledRejection', (error) => {
  throw error;
});
process.on('message', (cell: Cell) => void run(cell).then((verdict) => process.send?.(verdict)));
process.send?.('ready');
