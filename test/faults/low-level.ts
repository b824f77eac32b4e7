/** Requests and contexts while a system call fails: every byte, every outcome once, and figures that agree. */
import { closeSync, constants, openSync, readFileSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { AioContext, AioError, AioRequest, AlignedPool, allocBuffer, type WaitOptions, wake } from '../../src/index.ts';
import { type Cell, holdings, type Judge, settled } from './fault.ts';

const BLOCK = 4096;
const BLOCKS = 64;
const DEPTH = 6;
const ROUNDS = 24;
/** A number that no descriptor has here. */
const NO_FD = 1_000_000;

/** What belongs into a block, in full. */
function content(block: number, version: number): Buffer {
  return Buffer.alloc(BLOCK, `block ${block} version ${version}; `);
}

/** A context, and what is known of it from outside. */
class Driver {
  readonly context: AioContext;
  readonly #judge: Judge;
  readonly #outstanding = new Set<AioRequest>();
  handed = 0;
  submitted = 0;
  failed = 0;
  canceled = 0;
  bytesRead = 0;
  bytesWritten = 0;

  constructor(context: AioContext, judge: Judge) {
    this.context = context;
    this.#judge = judge;
  }

  /** Submits all of them, in as many calls as it takes. */
  async submit(requests: readonly AioRequest[], sync: boolean): Promise<void> {
    const judge = this.#judge;
    let rest = requests;
    for (let tries = 0; rest.length > 0; tries++) {
      if (tries > 5) {
        judge.check(false, `submit: refused ${tries} times`);
        return;
      }
      let count = rest.length;
      try {
        this.context.submit(rest);
      } catch (error) {
        count = error instanceof AioError ? (error.submitted ?? 0) : 0;
        judge.meet(error, 'submit');
      }
      for (const request of rest.slice(0, count)) this.#outstanding.add(request);
      this.submitted += count;
      rest = rest.slice(count);
      for (const request of rest) judge.check(request.state === 'prepared', `not submitted, and ${request.state}`);
      judge.check(this.context.pending === this.#outstanding.size, `${this.context.pending} are pending`);
      if (rest.length > 0 && this.#outstanding.size > 0) await this.wait({ timeoutMs: 50 }, sync);
    }
  }

  /** One wait; again where it fails with what was injected. */
  async wait(options: WaitOptions, sync: boolean): Promise<AioRequest[]> {
    const judge = this.#judge;
    for (let tries = 0; tries < 3; tries++) {
      try {
        const { completed } = sync ? this.context.waitSync(options) : await this.context.wait(options);
        for (const request of completed) {
          judge.check(this.#outstanding.delete(request), 'a completion was handed out twice, or never submitted');
          judge.check(request.state === 'completed', `handed out ${request.state}`);
          this.#count(request);
        }
        return completed;
      } catch (error) {
        judge.meet(error, sync ? 'waitSync' : 'wait');
      }
    }
    return [];
  }

  #count(request: AioRequest): void {
    this.handed++;
    if (request.status === 'ERR_AIO_CANCELED') this.canceled++;
    else if (request.status !== 'OK') this.failed++;
  }

  /** Until all of these are complete. Some may have been handed out before. */
  async finish(requests: readonly AioRequest[], sync: boolean): Promise<void> {
    const deadline = performance.now() + 5000;
    for (;;) {
      const left = requests.filter((request) => this.#outstanding.has(request)).length;
      if (left === 0) return;
      if (performance.now() > deadline) {
        this.#judge.check(false, `${left} completions never came`);
        return;
      }
      await this.wait({ min: left, timeoutMs: 1000 }, sync);
    }
  }

  /**
   * Prepares, submits and waits for `count` requests; those that were refused with what was injected go again. Others are
   * looked at by `check`.
   */
  async run(
    requests: readonly AioRequest[],
    prepare: (request: AioRequest, index: number) => void,
    check: (request: AioRequest, index: number) => void,
    sync: boolean,
  ): Promise<void> {
    requests.forEach(prepare);
    await this.submit(requests, sync);
    await this.finish(requests, sync);
    for (const [index, request] of requests.entries()) {
      if (request.state !== 'completed') continue;
      const { error } = request;
      if (error !== undefined && !(error.code === 'EBADF' && request.userData === NO_FD)) {
        this.#judge.meetOutcome(error, `outcome ${index}`);
        prepare(request, index);
        await this.submit([request], sync);
        await this.finish([request], sync);
      }
      check(request, index);
    }
  }

  compare(): void {
    const { stats, pending } = this.context;
    const expected = {
      submitted: this.submitted,
      completed: this.handed,
      failed: this.failed,
      canceled: this.canceled,
      bytesRead: this.bytesRead,
      bytesWritten: this.bytesWritten,
    };
    for (const [name, value] of Object.entries(expected)) {
      const had = stats[name as keyof typeof expected];
      this.#judge.check(had === value, `stats.${name} is ${had}, and ${value} were seen`);
    }
    this.#judge.check(pending === 0 && this.submitted === this.handed, `${pending} pending at the end`);
  }
}

/** A new context; a second try where the first met what was injected. With 'auto' nothing may be met. */
function make(cell: Cell, judge: Judge, maxRequests: number): AioContext | undefined {
  for (let tries = 0; tries < 2; tries++) {
    try {
      const context = new AioContext({ maxRequests, engine: cell.engine });
      judge.check(cell.engine === 'auto' || context.engine === cell.engine, `got ${context.engine}`);
      return context;
    } catch (error) {
      judge.meet(error, 'new AioContext');
      judge.check(cell.engine !== 'auto', "'auto' did not go on to the next engine");
    }
  }
  judge.check(false, 'no context at the second try');
  return undefined;
}

/** Where the requests go. */
interface Files {
  readonly path: string;
  readonly fd: number;
  /** Both ends of a FIFO. */
  readonly fifo: number;
}

export function openFiles(directory: string, fifoPath: string): Files {
  const path = join(directory, 'data');
  writeFileSync(path, Buffer.concat(Array.from({ length: BLOCKS }, (_, block) => content(block, 0))));
  return {
    path,
    fd: openSync(path, constants.O_RDWR | constants.O_DIRECT),
    fifo: openSync(fifoPath, constants.O_RDWR),
  };
}

/** Rounds of small batches: enough that twenty calls of each system call come about. */
export async function requests(cell: Cell, judge: Judge, files: Files): Promise<void> {
  const before = holdings();
  const context = make(cell, judge, DEPTH + 2);
  if (context === undefined) return;
  const { fd, fifo } = files;
  const canBlock = context.engine !== 'threads';
  const driver = new Driver(context, judge);
  let version = 0;
  const stored = readFileSync(files.path);
  const has = (block: number): Buffer => stored.subarray(block * BLOCK, (block + 1) * BLOCK);
  const pool = new AlignedPool({ size: BLOCK, count: DEPTH * 2 });
  const buffers = Array.from({ length: DEPTH * 2 }, () => pool.acquire() ?? Buffer.alloc(BLOCK));
  const buffer = (index: number): Buffer => buffers[index] ?? Buffer.alloc(BLOCK);
  const batch = Array.from({ length: DEPTH }, () => new AioRequest());
  for (let round = 0; round < ROUNDS; round++) {
    const sync = canBlock && round % 2 === 1;
    const block = (index: number): number => (round * 7 + index * 2) % (BLOCKS - 1);
    switch (round % 6) {
      case 0:
      case 3:
        await driver.run(
          batch,
          (request, index) => {
            content(block(index), ++version).copy(buffer(index));
            request.prepareWrite(fd, block(index) * BLOCK, buffer(index));
          },
          (request, index) => {
            judge.check(request.bytesTransferred === BLOCK, `wrote ${request.bytesTransferred}: ${request.status}`);
            driver.bytesWritten += request.bytesTransferred;
            buffer(index).copy(has(block(index)));
          },
          sync,
        );
        break;
      case 1:
      case 4:
        await driver.run(
          batch,
          (request, index) => {
            buffer(index).fill(0xee);
            request.prepareRead(fd, block(index) * BLOCK, buffer(index));
          },
          (request, index) => {
            judge.check(request.bytesTransferred === BLOCK, `read ${request.bytesTransferred}: ${request.status}`);
            judge.check(buffer(index).equals(has(block(index))), `block ${block(index)} is wrong`);
            driver.bytesRead += request.bytesTransferred;
          },
          sync,
        );
        break;
      case 2:
        // In the midst of them one that the kernel refuses, and a flush.
        await driver.run(
          batch,
          (request, index) => {
            buffer(index).fill(0xee);
            buffer(index + DEPTH).fill(0xee);
            const two = [buffer(index), buffer(index + DEPTH)];
            if (index === 2) request.prepareRead(NO_FD, 0, buffer(index), NO_FD);
            else if (index === 4) request.prepareFlush(fd, { dataOnly: round % 4 === 0 });
            else request.prepareReadv(fd, block(index) * BLOCK, two);
          },
          (request, index) => {
            if (index === 2) {
              const { error } = request;
              judge.check(error?.code === 'EBADF' && error.errno === -9 && error.syscall === 'read', request.status);
            } else if (index === 4) {
              judge.check(request.status === 'OK', `flush: ${request.status}`);
            } else {
              judge.check(request.bytesTransferred === 2 * BLOCK, `${request.status} ${request.bytesTransferred}`);
              judge.check(buffer(index).equals(has(block(index))), `block ${block(index)} is wrong`);
              judge.check(buffer(index + DEPTH).equals(has(block(index) + 1)), `block ${block(index) + 1} is wrong`);
              driver.bytesRead += request.bytesTransferred;
            }
          },
          sync,
        );
        break;
      default:
        await wakeUp(driver, judge, sync);
        if (context.engine === 'io-uring') {
          await lateAndCanceled(driver, judge, fifo, sync);
        } else {
          // Kernel AIO cancels nothing that it has begun, and says so.
          const [first = new AioRequest()] = batch;
          first.prepareRead(fd, 0, buffer(0));
          await driver.submit([first], sync);
          if (first.state === 'submitted') first.cancel();
          await driver.finish([first], sync);
          if (first.status === 'OK') driver.bytesRead += first.bytesTransferred;
          else if (first.status !== 'ERR_AIO_CANCELED')
            judge.meetOutcome(first.error, 'a read that was to be canceled');
        }
    }
  }
  driver.compare();
  judge.check(readFileSync(files.path).equals(stored), 'the file is not what was written');
  await context.close();
  await settled(before, judge, 'close');
}

/** A wake-up ends one wait, whatever the kernel says. */
async function wakeUp(driver: Driver, judge: Judge, sync: boolean): Promise<void> {
  const { context } = driver;
  const request = new AioRequest().prepareRead(NO_FD, 0, Buffer.alloc(1), NO_FD);
  wake(context.waker);
  await driver.submit([request], sync);
  const { wakeups } = context.stats;
  await driver.wait({ min: 2, timeoutMs: 2000 }, sync);
  judge.check(context.stats.wakeups === wakeups + 1, 'a wake-up was lost');
  await driver.finish([request], sync);
  if (request.status !== 'EBADF') judge.meetOutcome(request.error, 'a bad descriptor');
}

/** A read that has nothing to read yet, and one that is taken back. */
async function lateAndCanceled(driver: Driver, judge: Judge, fifo: number, sync: boolean): Promise<void> {
  const late = new AioRequest();
  const into = allocBuffer(64);
  const read = (): void => void late.prepareRead(fifo, 0, into);
  read();
  await driver.submit([late], sync);
  const early = await driver.wait({ timeoutMs: 2 }, sync);
  judge.check(early.length === 0, `a read of an empty FIFO ended: ${late.status}`);
  writeSync(fifo, 'here it is');
  await driver.finish([late], sync);
  judge.check(late.status === 'OK' && into.toString('utf8', 0, late.bytesTransferred) === 'here it is', late.status);
  driver.bytesRead += late.bytesTransferred;

  read();
  into.fill(0x55);
  await driver.submit([late], sync);
  const answer = late.state === 'submitted' ? late.cancel() : 'in-progress';
  await driver.wait({ timeoutMs: answer === 'canceled' ? 2000 : 20 }, sync);
  if (answer === 'canceled') {
    judge.check(late.status === 'ERR_AIO_CANCELED', `canceled, and then ${late.status}`);
  } else if (late.state === 'submitted') {
    writeSync(fifo, 'it goes on');
    await driver.finish([late], sync);
    if (late.status === 'OK') driver.bytesRead += late.bytesTransferred;
    else readSync(fifo, Buffer.alloc(64));
  }
  if (late.status === 'ERR_AIO_CANCELED')
    judge.check(
      into.every((byte) => byte === 0x55),
      'written to after all',
    );
}

/** Contexts that are made in one go, then used, then closed. */
export async function contexts(cell: Cell, judge: Judge, files: Files): Promise<void> {
  const before = holdings();
  const made = Array.from({ length: cell.contexts }, () => make(cell, judge, 2)).filter((each) => each !== undefined);
  const stored = readFileSync(files.path);
  for (const [index, context] of made.entries()) {
    const into = allocBuffer(BLOCK);
    const request = new AioRequest().prepareRead(files.fd, (index % BLOCKS) * BLOCK, into);
    const driver = new Driver(context, judge);
    await driver.submit([request], false);
    await driver.finish([request], false);
    judge.check(request.status === 'OK', `a read in context ${index}: ${request.status}`);
    const block = index % BLOCKS;
    judge.check(into.equals(stored.subarray(block * BLOCK, (block + 1) * BLOCK)), `block ${block} is wrong`);
  }
  await Promise.all(made.map((context) => context.close()));
  await settled(before, judge, 'close');
}

/** Registered files and buffers are hints: where the kernel takes none, everything works without. */
export async function registrations(cell: Cell, judge: Judge, files: Files): Promise<void> {
  const before = holdings();
  const stored = readFileSync(files.path);
  const fds = Array.from({ length: 8 }, () => openSync(files.path, constants.O_RDONLY | constants.O_DIRECT));
  for (let round = 0; round < 2; round++) {
    const context = make(cell, judge, 16);
    if (context === undefined) continue;
    const driver = new Driver(context, judge);
    const pools = Array.from({ length: 2 }, () => new AlignedPool({ size: BLOCK, count: 8 }));
    for (const target of [...pools, ...fds]) {
      try {
        context.associate(target);
      } catch (error) {
        judge.check(false, `associate is a hint, and threw ${error}`);
      }
    }
    const batch = fds.flatMap((fd, index) =>
      pools.map((pool, side) => {
        const block = index * 2 + side;
        return { request: new AioRequest(), fd, block, into: pool.acquire() ?? Buffer.alloc(BLOCK) };
      }),
    );
    await driver.run(
      batch.map(({ request }) => request),
      (request, index) => {
        const { fd = -1, block = 0, into = Buffer.alloc(BLOCK) } = batch[index] ?? {};
        request.prepareRead(fd, block * BLOCK, into);
      },
      (request, index) => {
        const { block = 0, into } = batch[index] ?? {};
        judge.check(request.status === 'OK', `a read with registrations: ${request.status}`);
        judge.check(into?.equals(stored.subarray(block * BLOCK, (block + 1) * BLOCK)) === true, 'wrong bytes');
        driver.bytesRead += request.bytesTransferred;
      },
      false,
    );
    // A wait that goes to sleep has the eventfd registered.
    const [first] = batch;
    if (first !== undefined) {
      const late = new AioRequest().prepareRead(files.fifo, 0, first.into);
      await driver.submit([late], false);
      await driver.wait({ timeoutMs: 2 }, false);
      writeSync(files.fifo, 'late');
      await driver.finish([late], false);
      judge.check(late.bytesTransferred === 4, `a late read: ${late.status}`);
      driver.bytesRead += late.bytesTransferred;
    }
    driver.compare();
    await context.close();
  }
  for (const fd of fds) closeSync(fd);
  await settled(before, judge, 'close');
}
