/** A file through a stream, from its front to its back: fileaio's beside Node's. */
import { randomFillSync } from 'node:crypto';
import { createReadStream, createWriteStream, statSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import type * as Promises from '../src/promises.ts';
import { promisesBeside } from './library.ts';

/** What is done to the file. */
export type Direction = 'read' | 'write';

export interface StreamJob {
  readonly kind: Direction;
  readonly side: 'fileaio' | 'node';
  /** The URL of the library's `index.js`. */
  readonly library: string;
  /** Empty, where it is to be written. */
  readonly path: string;
  /** Another file, smaller, on which the program warms up first. */
  readonly warmupPath: string;
  readonly bytes: number;
  readonly warmupBytes: number;
  /** Past the page cache. For fileaio only: Node's streams have no aligned memory. */
  readonly direct: boolean;
  /** Ends when the file is on the device. */
  readonly flush: boolean;
  /** Of the chunks that are written, and unless `defaults` the highWaterMark. */
  readonly size: number;
  readonly defaults: boolean;
}

export interface StreamSample {
  readonly bytes: number;
  /** From opening the file to its being closed. */
  readonly seconds: number;
  /** User and system time of the whole process, in microseconds. */
  readonly cpuUs: number;
  /** Most memory that the process had, warm-up included, in KiB. */
  readonly maxRssKib: number;
}

type Open = typeof Promises.open;

async function openToRead(job: StreamJob, path: string, open: Open | undefined): Promise<Readable> {
  const options = job.defaults ? {} : { highWaterMark: job.size };
  if (open === undefined) return createReadStream(path, options);
  const handle = await open(path, { direct: job.direct });
  return handle.createReadStream(options);
}

async function openToWrite(job: StreamJob, path: string, open: Open | undefined): Promise<Writable> {
  const options = { flush: job.flush, ...(job.defaults ? {} : { highWaterMark: job.size }) };
  if (open === undefined) return createWriteStream(path, options);
  const handle = await open(path, { flags: 'w', direct: job.direct });
  return handle.createWriteStream(options);
}

/** Resolves with the bytes that came. */
function drain(stream: Readable): Promise<number> {
  return new Promise((resolve, reject) => {
    let bytes = 0;
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    stream.once('error', reject);
    stream.once('close', () => resolve(bytes));
  });
}

/** Resolves when the file is closed. */
function fill(stream: Writable, chunk: Buffer, bytes: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let left = bytes;
    const write = (): void => {
      while (left > 0) {
        const next = left < chunk.length ? chunk.subarray(0, left) : chunk;
        left -= next.length;
        if (!stream.write(next)) break;
      }
      if (left === 0) stream.end();
    };
    stream.on('drain', write);
    stream.once('error', reject);
    stream.once('close', resolve);
    write();
  });
}

async function move(job: StreamJob, path: string, bytes: number, open: Open | undefined, chunk: Buffer): Promise<void> {
  if (job.kind === 'read') {
    const found = await drain(await openToRead(job, path, open));
    if (found !== bytes) throw new Error(`The stream gave ${found} bytes instead of ${bytes}`);
    return;
  }
  await fill(await openToWrite(job, path, open), chunk, bytes);
  const { size } = statSync(path);
  if (size !== bytes) throw new Error(`The file has ${size} bytes instead of ${bytes}`);
}

/** Moves the file once, after the smaller one. */
export async function stream(job: StreamJob): Promise<StreamSample> {
  const open = job.side === 'fileaio' ? (await promisesBeside(job.library)).open : undefined;
  const chunk = job.kind === 'write' ? randomFillSync(Buffer.allocUnsafeSlow(job.size)) : Buffer.alloc(0);
  await move(job, job.warmupPath, job.warmupBytes, open, chunk);
  const cpu = process.cpuUsage();
  const begun = performance.now();
  await move(job, job.path, job.bytes, open, chunk);
  const seconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { bytes: job.bytes, seconds, cpuUs: user + system, maxRssKib: process.resourceUsage().maxRSS };
}
