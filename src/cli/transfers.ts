/** What the runners have in common. */
import { randomFillSync } from 'node:crypto';
import { AioError, AlignedPool } from '../index.ts';
import type { Job } from './job.ts';
import { type CliError, ioError } from './usage.ts';

/** One aligned buffer per transfer in flight, full of what no device can compress. */
export function buffersFor({ blockSize, depth, alignment }: Job): readonly Buffer[] {
  const pool = new AlignedPool({ size: blockSize, count: depth, alignment });
  const buffers: Buffer[] = [];
  for (let buffer = pool.acquire(); buffer !== undefined; buffer = pool.acquire()) {
    buffers.push(randomFillSync(buffer));
  }
  return buffers;
}

/** A transfer that ended with an error. `doing` begins with an article. */
export function transferFailed(doing: string, error: unknown): CliError {
  // The errors of this library bring their own advice.
  return ioError(
    `${doing} failed`,
    error,
    error instanceof AioError ? '' : 'The log of the kernel (dmesg) may say why',
  );
}

/** A transfer that moved less than its block, though only whole blocks of the file are asked for. */
export function transferShort(doing: string, moved: number): CliError {
  return ioError(
    `${doing} moved ${moved} bytes only`,
    'the file became shorter, or its device is full',
    'Leave the file alone while it is measured, and run it again',
  );
}
