/** Listeners that throw: what the process hears of it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ReadStream, WriteStream } from '../../src/stream.ts';

const directory = mkdtempSync(join(tmpdir(), 'fileaio-test-'));
const path = join(directory, 'data');
writeFileSync(path, 'data');

/** The next exception that nobody caught: what it says, and where it came from. */
function heard(): Promise<void> {
  return new Promise((resolve) => {
    process.once('uncaughtException', (error, origin) => {
      console.log(error.message, origin);
      resolve();
    });
  });
}

function fail(what: string): never {
  throw new Error(what);
}

let next = heard();
new ReadStream(path).on('data', () => fail('data'));
await next;
next = heard();
new WriteStream(path).write('more', () => fail('written'));
await next;
next = heard();
new ReadStream(path).on('open', () => fail('open'));
await next;
rmSync(directory, { recursive: true });
process.exit(0);
