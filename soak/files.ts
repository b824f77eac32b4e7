/** FileHandles, streams and whole files: many calls at once, of any shape, aborted in between; every byte checked. */
import { rm } from 'node:fs/promises';
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import { AioError, type EngineName } from '../src/index.ts';
import { copyFile, type FileHandle, open, readFile, writeFile } from '../src/promises.ts';
import { BLOCK, fillBlock, isBlock } from './content.ts';
import type { Environment, Region } from './environment.ts';

const MOST_BLOCKS = 6;

export interface FilePlace {
  readonly engine: EngineName;
  readonly path: string;
  readonly direct: boolean;
  readonly region: Region;
}

/** An abort that comes at some point, for some. */
function abortSometimes(env: Environment): AbortSignal | undefined {
  if (!env.chance(0.15)) return undefined;
  const aborter = new AbortController();
  if (env.chance(0.5)) setImmediate(() => aborter.abort());
  else process.nextTick(() => aborter.abort());
  return aborter.signal;
}

/** Other programs have used up fs.aio-max-nr for now. */
function isRefusal(error: unknown): boolean {
  return error instanceof AioError && error.code === 'ERR_AIO_INSUFFICIENT_EVENTS';
}

/** `undefined`: it was aborted, or refused. */
async function orNothing<T>(
  env: Environment,
  signal: AbortSignal | undefined,
  call: Promise<T>,
): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    const aborted = signal?.aborted === true && error instanceof Error && error.name === 'AbortError';
    if (!aborted && !isRefusal(error)) throw error;
    env.count(aborted ? 'aborted' : 'refused');
    return undefined;
  }
}

/** Again and again, until it is time to stop. */
async function repeat(env: Environment, task: () => Promise<void>): Promise<void> {
  while (!env.stopped) {
    try {
      await task();
    } catch (error) {
      if (!isRefusal(error)) throw error;
      env.count('refused');
      await delay(20);
    }
    await turn();
  }
}

/** A read of any position and length within some blocks. */
async function readSome(env: Environment, { engine, region }: FilePlace, handle: FileHandle): Promise<number> {
  const count = 1 + env.below(MOST_BLOCKS);
  const first = region.take(env, count, true);
  if (first === undefined) return 0;
  const whole = env.chance(0.5);
  const skip = whole ? 0 : env.below(BLOCK);
  const length = whole ? count * BLOCK : 1 + env.below(count * BLOCK - skip);
  const memory = env.guarded(length, whole && env.chance(0.7));
  const { bytes } = memory;
  bytes.fill(0);
  const position = (region.first + first) * BLOCK + skip;
  const signal = abortSometimes(env);
  const vectored = length > 10 && env.chance(0.3);
  const buffers = vectored ? [bytes.subarray(0, length >> 1), bytes.subarray(length >> 1)] : [bytes];
  const options = signal === undefined ? {} : { signal };
  const call = vectored ? handle.readv(buffers, position, options) : handle.read(bytes, { position, ...options });
  const result = await orNothing<{ bytesRead: number }>(env, signal, call);
  const what = `${engine}: read of ${length} bytes at ${position}`;
  if (!memory.intact()) throw new Error(`${what}: memory beside its buffer was written to`);
  region.release(first, count, false);
  if (result === undefined) {
    env.watch(bytes);
    return 0;
  }
  if (result.bytesRead !== length) throw new Error(`${what}: ${result.bytesRead} bytes only`);
  for (let at = 0; at < length; ) {
    const block = Math.floor((skip + at) / BLOCK);
    const from = (skip + at) % BLOCK;
    const part = Math.min(BLOCK - from, length - at);
    const generation = region.generations[first + block] ?? 0;
    if (!isBlock(bytes, at, region.file, region.first + first + block, generation, from, part)) {
      throw new Error(
        `${what}: block ${region.first + first + block} is not as it was written (generation ${generation})`,
      );
    }
    at += part;
  }
  return length;
}

async function writeSome(env: Environment, { engine, region, direct }: FilePlace, handle: FileHandle): Promise<number> {
  const count = 1 + env.below(MOST_BLOCKS);
  const first = region.take(env, count, false);
  if (first === undefined) return 0;
  const generation = 1 + Math.max(...region.generations.subarray(first, first + count));
  const length = count * BLOCK;
  // Direct files take any address, too.
  const memory = env.guarded(length, direct && env.chance(0.5));
  const { bytes } = memory;
  for (let index = 0; index < count; index++) {
    fillBlock(bytes, index * BLOCK, region.file, region.first + first + index, generation);
  }
  const position = (region.first + first) * BLOCK;
  const signal = abortSometimes(env);
  const options = signal === undefined ? {} : { signal };
  const call = env.chance(0.3)
    ? handle.writev([bytes.subarray(0, BLOCK), bytes.subarray(BLOCK)], position, options)
    : handle.write(bytes, { position, ...options });
  const result = await orNothing<{ bytesWritten: number }>(env, signal, call);
  region.release(first, count, result === undefined);
  if (result === undefined) {
    // Whatever is written late must not be what stands there from here on.
    env.watch(bytes);
    return 0;
  }
  if (result.bytesWritten !== length) {
    throw new Error(`${engine}: write of ${length} bytes at ${position}: ${result.bytesWritten} bytes only`);
  }
  region.generations.fill(generation, first, first + count);
  return length;
}

async function oneHandle(env: Environment, place: FilePlace): Promise<void> {
  const { engine, path, direct } = place;
  const handle = await open(path, { flags: 'r+', engine, direct });
  env.count('handles');
  try {
    await useHandle(env, place, handle);
  } finally {
    await handle.close();
  }
}

async function useHandle(env: Environment, place: FilePlace, handle: FileHandle): Promise<void> {
  for (let rounds = 1 + env.below(20); rounds > 0 && !env.stopped; rounds--) {
    const calls = Array.from({ length: 1 + env.below(32) }, () =>
      env.chance(0.6) ? readSome(env, place, handle) : writeSome(env, place, handle),
    );
    if (env.chance(0.1)) calls.push(orNothing(env, undefined, handle.datasync()).then(() => 0));
    // It waits for what is in flight.
    if (rounds === 1 && env.chance(0.5)) calls.push(handle.close().then(() => 0));
    const moved = await Promise.allSettled(calls);
    let bytes = 0;
    for (const call of moved) {
      if (call.status === 'rejected') throw call.reason;
      bytes += call.value;
    }
    await env.pace(calls.length, bytes);
  }
}

export function soakHandles(env: Environment, place: FilePlace): Promise<void> {
  return repeat(env, () => oneHandle(env, place));
}

/** Bytes for a file of its own. */
function content(env: Environment, file: number, length: number): Buffer {
  const bytes = Buffer.alloc(Math.ceil(length / BLOCK) * BLOCK);
  const generation = env.below(2 ** 30);
  for (let at = 0; at < bytes.length; at += BLOCK) fillBlock(bytes, at, file, at / BLOCK, generation);
  return bytes.subarray(0, length);
}

async function writeThrough(env: Environment, handle: FileHandle, bytes: Buffer): Promise<void> {
  const output = handle.createWriteStream();
  const closed = new Promise<void>((resolve, reject) => {
    output.once('error', reject).once('close', resolve);
  });
  for (let at = 0; at < bytes.length; ) {
    const part = bytes.subarray(at, at + 1 + env.below(100_000));
    at += part.length;
    if (!output.write(part)) await Promise.race([new Promise((resolve) => output.once('drain', resolve)), closed]);
  }
  output.end();
  await closed;
}

/** Some are ended early, with reads ahead in flight. */
async function readThrough(env: Environment, handle: FileHandle, bytes: Buffer, what: string): Promise<void> {
  const input = handle.createReadStream({ highWaterMark: 4096 << env.below(6) });
  const enough = env.chance(0.2) ? env.below(bytes.length) : Infinity;
  let length = 0;
  for await (const chunk of input as AsyncIterable<Buffer>) {
    if (!chunk.equals(bytes.subarray(length, length + chunk.length))) {
      throw new Error(`${what} went wrong between ${length} and ${length + chunk.length}`);
    }
    length += chunk.length;
    if (length > enough) return;
  }
  if (length !== bytes.length) throw new Error(`${what} ended after ${length} of ${bytes.length} bytes`);
}

async function oneStream(env: Environment, { engine, direct }: FilePlace, path: string): Promise<number> {
  const bytes = content(env, 99, 1 + env.below(2 ** 20));
  for (const flags of ['w', 'r']) {
    const handle = await open(path, { flags, engine, direct });
    try {
      if (flags === 'w') await writeThrough(env, handle, bytes);
      else await readThrough(env, handle, bytes, `${engine}: a stream of ${path}`);
    } finally {
      await handle.close();
    }
    env.count('streams');
  }
  return 2 * bytes.length;
}

async function oneWholeFile(env: Environment, path: string): Promise<number> {
  const bytes = content(env, 98, env.below(2 ** 19));
  await writeFile(path, bytes);
  await copyFile(path, `${path}.copy`);
  const read = await readFile(`${path}.copy`);
  if (!read.equals(bytes)) throw new Error(`${path}: what was written and copied is not what was read`);
  env.count('wholeFiles', 3);
  return 4 * bytes.length;
}

/** `path`: a name that nobody else uses. */
export async function soakStreams(env: Environment, place: FilePlace, path: string): Promise<void> {
  await repeat(env, async () => {
    const bytes = env.chance(0.6) ? await oneStream(env, place, path) : await oneWholeFile(env, path);
    await env.pace(Math.ceil(bytes / 65536), bytes);
  });
  await rm(path, { force: true });
  await rm(`${path}.copy`, { force: true });
}
