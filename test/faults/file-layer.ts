/** Handles and whole-file functions while a system call fails: what fails says so and can be done again, the rest is done. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { allocBuffer } from '../../src/index.ts';
import { type FileHandle, open, readFile, writeFile } from '../../src/promises.ts';
import { type Cell, holdings, type Judge, settled } from './fault.ts';

const BLOCK = 4096;
const AT_ONCE = 8;
const ROUNDS = 8;

function content(block: number, version: number): Buffer {
  const buffer = allocBuffer(BLOCK);
  return buffer.fill(`block ${block} version ${version}; `);
}

/** A call, and once more where it met what was injected. */
async function twice<T>(judge: Judge, what: string, call: () => Promise<T>): Promise<T | undefined> {
  for (let tries = 0; tries < 2; tries++) {
    try {
      return await call();
    } catch (error) {
      if (judge.is(error)) judge.meet(error, what);
      else judge.meetOutcome(error, what);
    }
  }
  judge.check(false, `${what}: failed twice`);
  return undefined;
}

async function opened(cell: Cell, judge: Judge, path: string, flags: string): Promise<FileHandle | undefined> {
  const direct = cell.engine !== 'io-uring';
  const handle = await twice(judge, 'open', () => open(path, { flags, direct, engine: cell.engine }));
  judge.check(cell.engine !== 'auto' || judge.surfaced === 0, "'auto' did not go on to the next engine");
  return handle;
}

/** One handle, several transfers at once, again and again; then whole files and a stream. */
export async function files(cell: Cell, judge: Judge, directory: string): Promise<void> {
  const path = join(directory, 'file');
  const handle = await opened(cell, judge, path, 'w+');
  if (handle === undefined) return;
  const expected = Buffer.alloc(AT_ONCE * BLOCK);
  for (let round = 0; round < ROUNDS; round++) {
    const blocks = Array.from({ length: AT_ONCE }, (_, block) => content(block, round));
    await Promise.all(
      blocks.map(async (data, block) => {
        const written = await twice(judge, 'write', () => handle.write(data, 0, BLOCK, block * BLOCK));
        judge.check(written?.bytesWritten === BLOCK, `wrote ${written?.bytesWritten}`);
        data.copy(expected, block * BLOCK);
      }),
    );
    await twice(judge, 'sync', () => (round % 2 === 0 ? handle.datasync() : handle.sync()));
    await Promise.all(
      blocks.map(async (data, block) => {
        const into = allocBuffer(BLOCK).fill(0xee);
        const ordinary = Buffer.alloc(BLOCK, 0xee);
        const use = block % 2 === 0 ? into : ordinary;
        const read = await twice(judge, 'read', () => handle.read(use, 0, BLOCK, block * BLOCK));
        judge.check(read?.bytesRead === BLOCK && use.equals(data), `block ${block} is wrong, of ${read?.bytesRead}`);
      }),
    );
    const parts = [allocBuffer(BLOCK), allocBuffer(BLOCK)];
    const vector = await twice(judge, 'readv', () => handle.readv(parts, BLOCK));
    judge.check(vector?.bytesRead === 2 * BLOCK, `readv gave ${vector?.bytesRead}`);
    judge.check(Buffer.concat(parts).equals(expected.subarray(BLOCK, 3 * BLOCK)), 'readv gave the wrong bytes');
  }
  judge.check(readFileSync(path).equals(expected), 'the file is not what was written');

  // What stands at the current position, in order.
  const front = allocBuffer(BLOCK);
  const back = allocBuffer(BLOCK);
  const [a, b] = await Promise.all([
    twice(judge, 'read', () => handle.read(front, 0, BLOCK, null)),
    twice(judge, 'read', () => handle.read(back, 0, BLOCK, null)),
  ]);
  judge.check(a?.bytesRead === BLOCK && b?.bytesRead === BLOCK, 'reads at the current position');
  if (judge.surfaced === 0) {
    judge.check(front.equals(expected.subarray(0, BLOCK)), 'the first at the current position is wrong');
    judge.check(back.equals(expected.subarray(BLOCK, 2 * BLOCK)), 'the second at the current position is wrong');
  }
  await twice(judge, 'close', () => handle.close());

  if (cell.engine === 'auto') {
    const whole = join(directory, 'whole');
    const text = `${'all of it '.repeat(3000)}`;
    await twice(judge, 'writeFile', () => writeFile(whole, text));
    judge.check((await twice(judge, 'readFile', () => readFile(whole, 'utf8'))) === text, 'readFile');
    rmSync(whole);
  }
}

/** A handle for each context: the queue closes it when there was nothing to do for a while. */
export async function handles(cell: Cell, judge: Judge, directory: string): Promise<void> {
  const path = join(directory, 'handle');
  const before = holdings();
  for (let index = 0; index < cell.contexts; index++) {
    const handle = await opened(cell, judge, path, index === 0 ? 'w+' : 'r+');
    if (handle === undefined) continue;
    const data = content(index, 1);
    const into = allocBuffer(BLOCK);
    const written = await twice(judge, 'write', () => handle.write(data, 0, BLOCK, 0));
    const read = await twice(judge, 'read', () => handle.read(into, 0, BLOCK, 0));
    // Takes a while, so that the event loop has to be told of its end.
    await twice(judge, 'sync', () => handle.sync());
    judge.check(written?.bytesWritten === BLOCK && read?.bytesRead === BLOCK && into.equals(data), 'wrong bytes');
    await handle.close();
    await settled(before, judge, 'an idle queue');
  }
}
