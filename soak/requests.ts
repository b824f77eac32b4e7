/** Requests on contexts: batches of every kind, waited for in every way, canceled, woken; contexts that come and go. */
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import { AioContext, AioError, AioRequest, type EngineName, type WaitOptions, wake } from '../src/index.ts';
import { BLOCK, fillBlock, isBlock } from './content.ts';
import type { Environment, Guarded, Region } from './environment.ts';

const MOST_BLOCKS = 4;

type Kind = 'read' | 'write' | 'readv' | 'writev' | 'flush';

interface Job {
  readonly request: AioRequest<Job>;
  memory: Guarded;
  kind: Kind;
  first: number;
  count: number;
  generation: number;
  canceled: boolean;
}

export interface Place {
  readonly engine: EngineName;
  readonly fd: number;
  readonly direct: boolean;
  readonly region: Region;
}

function parts(memory: Guarded, count: number): Buffer[] {
  return Array.from({ length: count }, (_, index) => memory.bytes.subarray(index * BLOCK, (index + 1) * BLOCK));
}

/** Prepares a random transfer. `false`: the blocks are all in use. */
function prepare(env: Environment, place: Place, job: Job): boolean {
  const { fd, region } = place;
  const { request, memory } = job;
  const kinds: readonly Kind[] = ['read', 'read', 'read', 'write', 'write', 'readv', 'writev', 'flush'];
  job.kind = kinds[env.below(kinds.length)] ?? 'read';
  job.canceled = false;
  if (job.kind === 'flush' && env.chance(0.9)) job.kind = 'read';
  if (job.kind === 'flush') {
    job.count = 0;
    request.prepareFlush(fd, { dataOnly: env.chance(0.5) }, job);
    return true;
  }
  const reads = job.kind === 'read' || job.kind === 'readv';
  const count = 1 + env.below(MOST_BLOCKS);
  const first = region.take(env, count, reads);
  if (first === undefined) return false;
  job.first = first;
  job.count = count;
  const position = (region.first + first) * BLOCK;
  const bytes = memory.bytes.subarray(0, count * BLOCK);
  if (reads) {
    bytes.fill(0);
  } else {
    job.generation = 1 + Math.max(...region.generations.subarray(first, first + count));
    for (let index = 0; index < count; index++) {
      fillBlock(bytes, index * BLOCK, region.file, region.first + first + index, job.generation);
    }
  }
  if (job.kind === 'read') request.prepareRead(fd, position, bytes, job);
  else if (job.kind === 'write') request.prepareWrite(fd, position, bytes, job);
  else if (job.kind === 'readv') request.prepareReadv(fd, position, parts(memory, count), job);
  else request.prepareWritev(fd, position, parts(memory, count), job);
  return true;
}

/** Checks what became of a transfer, every byte of it. */
function settle(env: Environment, { engine, region, direct }: Place, job: Job): void {
  const { request, memory, kind, first, count, generation } = job;
  const what = `${engine}: ${kind} of ${count} blocks at ${region.first + first}`;
  if (!memory.intact()) throw new Error(`${what}: memory beside its buffer was written to`);
  const canceled = request.status === 'ERR_AIO_CANCELED';
  if (job.canceled && !canceled) throw new Error(`${what}: was canceled, and ended with ${request.status}`);
  if (request.status !== 'OK' && !canceled) throw request.error ?? new Error(`${what}: ${request.status}`);
  if (kind === 'flush') return;
  const reads = kind === 'read' || kind === 'readv';
  if (canceled) {
    env.watch(memory.bytes);
    job.memory = env.guarded(MOST_BLOCKS * BLOCK, direct);
    region.release(first, count, !reads);
    return;
  }
  if (request.bytesTransferred !== count * BLOCK) throw new Error(`${what}: ${request.bytesTransferred} bytes only`);
  for (let index = 0; index < count; index++) {
    const block = first + index;
    const now = reads ? (region.generations[block] ?? 0) : generation;
    if (!isBlock(memory.bytes, index * BLOCK, region.file, region.first + block, now)) {
      throw new Error(`${what}: block ${region.first + block} is not as it was written (generation ${now})`);
    }
    region.generations[block] = now;
  }
  region.release(first, count, false);
}

async function waitSomehow(env: Environment, context: AioContext): Promise<AioRequest[]> {
  const options: { -readonly [Name in keyof WaitOptions]: WaitOptions[Name] } = {};
  if (env.chance(0.3)) options.min = 1 + env.below(context.pending);
  if (env.chance(0.3)) options.max = Math.max(options.min ?? 1, 1 + env.below(64));
  if (env.chance(0.2)) options.timeoutMs = env.below(3);
  if (context.engine !== 'threads' && env.chance(0.2)) return context.waitSync({ ...options, timeoutMs: 20 }).completed;
  if (env.chance(0.05)) {
    if (env.chance(0.5)) context.wakeup();
    else wake(context.waker);
  }
  if (env.chance(0.05)) {
    const aborter = new AbortController();
    const waiting = context.wait({ ...options, signal: aborter.signal });
    setImmediate(() => aborter.abort());
    try {
      return (await waiting).completed;
    } catch (error) {
      if (!aborter.signal.aborted) throw error;
      return [];
    }
  }
  const { completed, reason } = await context.wait(options);
  if (reason === 'woken') env.count('wakeups');
  if (reason === 'timeout') env.count('timeouts');
  return completed;
}

/** `undefined`: other programs have used up fs.aio-max-nr for now. */
function makeContext(env: Environment, engine: EngineName, maxRequests: number): AioContext | undefined {
  try {
    env.count('contexts');
    return new AioContext({ maxRequests, engine });
  } catch (error) {
    if (!(error instanceof AioError) || error.code !== 'ERR_AIO_INSUFFICIENT_EVENTS') throw error;
    env.count('refused');
    return undefined;
  }
}

/** The life of one context. */
async function oneContext(env: Environment, place: Place): Promise<void> {
  const maxRequests = 1 + env.below(48);
  const context = makeContext(env, place.engine, maxRequests);
  if (context === undefined) {
    await delay(20);
    return;
  }
  if (env.chance(0.3)) context.associate(place.fd);
  const idle: Job[] = Array.from({ length: maxRequests }, () => ({
    request: new AioRequest<Job>(),
    memory: env.guarded(MOST_BLOCKS * BLOCK, place.direct),
    kind: 'read',
    first: 0,
    count: 0,
    generation: 0,
    canceled: false,
  }));
  const handOut = async (completed: readonly AioRequest[]): Promise<void> => {
    let bytes = 0;
    for (const request of completed) {
      const job = request.userData as Job;
      settle(env, place, job);
      bytes += job.count * BLOCK;
      idle.push(job);
    }
    await env.pace(completed.length, bytes);
  };
  for (let left = 1 + env.below(40); left > 0 && !env.stopped; left--) {
    const batch: Job[] = [];
    for (let wanted = 1 + env.below(idle.length); wanted > 0; wanted--) {
      const job = idle.pop();
      if (job === undefined) break;
      if (prepare(env, place, job)) batch.push(job);
      else idle.push(job);
    }
    for (let from = 0; from < batch.length; ) {
      try {
        context.submit(batch.slice(from).map(({ request }) => request));
        break;
      } catch (error) {
        if (!(error instanceof AioError) || error.code !== 'ERR_AIO_INSUFFICIENT_RESOURCES') throw error;
        from += error.submitted ?? 0;
        env.count('refused');
        if (context.pending > 0) await handOut((await context.wait()).completed);
        else await delay(1);
      }
    }
    if (env.chance(0.3)) {
      for (const job of batch.slice(0, 4)) {
        if (job.request.state !== 'submitted') continue;
        job.canceled = job.request.cancel() === 'canceled';
        env.count(job.canceled ? 'canceled' : 'inProgress');
      }
    }
    while (context.pending > 0) {
      await handOut(await waitSomehow(env, context));
      if (idle.length > 0 && env.chance(0.3)) break; // some stay in flight beside the next batch
    }
    if (idle.length === 0) await handOut((await context.wait()).completed);
  }
  while (context.pending > 0) await handOut((await context.wait({ min: context.pending })).completed);
  for (const { memory } of idle.slice(0, 2)) env.watch(memory.bytes);
  // Some are dropped, for the collector to close.
  if (env.chance(0.9)) await context.close();
}

export async function soakRequests(env: Environment, place: Place): Promise<void> {
  while (!env.stopped) {
    await oneContext(env, place);
    await turn();
  }
}
