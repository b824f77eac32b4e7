/** Threads that end with transfers in flight while a system call fails: nothing stays, and nothing is written afterwards. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { AioError } from '../../src/index.ts';
import { type Cell, holdings, type Judge, settled } from './fault.ts';

interface Report {
  readonly left: number;
  readonly met: readonly { where: string; code: string; errno: number; syscall: string; message: string }[];
}

export async function workers(cell: Cell, judge: Judge, path: string, fifo: number): Promise<void> {
  const before = holdings();
  const shared = new SharedArrayBuffer(65536);
  const worker = new Worker(new URL('./worker.mjs', import.meta.url), {
    workerData: { engine: cell.engine, path, fifo, shared },
    execArgv: [],
  });
  const failed = once(worker, 'error').then(([error]) => {
    throw error;
  });
  const [report] = (await Promise.race([once(worker, 'message'), failed])) as [Report];
  judge.check(report.left === 0, `${report.left} requests could not be submitted`);
  for (const { where, code, errno, syscall, message } of report.met) {
    judge.meet(new AioError(code, message, { errno, syscall }), where);
  }
  await worker.terminate();
  const bytes = new Uint8Array(shared).fill(0x55);
  await settled(before, judge, 'the end of a worker');
  await new Promise((resolve) => setTimeout(resolve, 5));
  judge.check(
    bytes.every((byte) => byte === 0x55),
    'memory was written to after the worker had ended',
  );
}
