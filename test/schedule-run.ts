/**
 * Carries out schedules, with a small model of the contract beside it: what each call must answer, what each request must be, what may
 * stand in each byte, and what the counters must say. Where the contract leaves something open (which of two requests ends first), the
 * model follows what happened, and holds the library to it.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, read, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import type { Worker } from 'node:worker_threads';
import {
  AioContext,
  AioError,
  AioRequest,
  type AioStats,
  AlignedPool,
  allocBuffer,
  type EngineName,
  type EngineSource,
  type WaitResult,
} from '../src/index.ts';
import { loadNative } from '../src/native.ts';
import type { SimulatedDisk } from '../src/sim.ts';
import {
  content,
  FILE_SIZE,
  type Kind,
  MESSAGE,
  optionsOf,
  POOL,
  type Preparation,
  preparing,
  REQUESTS,
  type Schedule,
  type Step,
  type Target,
  type Wait,
} from './schedule.ts';

const BLOCK = 4096;

/** A wait that has to end, and has not after so long, never does. */
const PATIENCE_MS = 30_000;

/** In the end each wait hands something out, unless a wake-up was due. */
const MOST_LAST_WAITS = 10_000;

/** What a schedule runs on. */
export interface World {
  readonly name: EngineName;
  readonly engine: EngineName | EngineSource;
  readonly fds: Readonly<Record<Exclude<Target, 'fifo'>, number>>;
  /** One for each context. */
  readonly fifos: readonly number[];
  /** How reads of the FIFO behave that find nothing in it. */
  readonly empty: 'waits' | 'EAGAIN' | 'is a file' | 'ESPIPE';
  /** A disk that fails, refuses, and moves less than it is asked for. */
  readonly faulty: boolean;
  now(): number;
  feed(context: number, value: number): void;
  /** Nothing goes on until the next feed. */
  readonly shut: boolean;
  contentOf(inode: Inode): Buffer;
  dispose(): Promise<void>;
}

type Inode = 'file' | 'direct' | 'slow';

/** The FIFOs of many worlds, one after the other: what is in one goes with its last descriptor. */
export function makeFifos(directory: string): string[] {
  const names = [0, 1, 2].map((index) => join(directory, `fifo${index}`));
  execFileSync('mkfifo', names);
  return names;
}

function readOnce(fd: number): Promise<void> {
  return new Promise((resolve) => read(fd, Buffer.alloc(MESSAGE), 0, MESSAGE, null, () => resolve()));
}

/** Files and FIFOs of this machine. */
export function kernelWorld(
  name: 'io-uring' | 'kernel-aio' | 'threads',
  directory: string,
  names: readonly string[],
): World {
  const path = (inode: string): string => join(directory, inode);
  writeFileSync(path('file'), content);
  writeFileSync(path('direct'), content);
  const waiting = name === 'kernel-aio' ? constants.O_NONBLOCK : 0;
  const fifos = names.map((fifo) => openSync(fifo, constants.O_RDWR | waiting));
  const fds = {
    file: openSync(path('file'), 'r+'),
    readOnly: openSync(path('file'), 'r'),
    writeOnly: openSync(path('file'), constants.O_WRONLY),
    direct: openSync(path('direct'), constants.O_RDWR | constants.O_DIRECT),
    none: 0x7fff_ffff,
  };
  let shut = false;
  /** Of what shut the pool: those that have not begun yet would meet another file behind the number that is closed. */
  const reads: Promise<void>[] = [];
  return {
    name,
    engine: name,
    fds,
    fifos,
    empty: ({ 'io-uring': 'waits', 'kernel-aio': 'EAGAIN', threads: 'ESPIPE' } as const)[name],
    faulty: false,
    now: () => performance.now(),
    feed(context, value) {
      if (name !== 'threads') {
        writeSync(fifos[context] ?? -1, Buffer.alloc(MESSAGE, value));
        return;
      }
      const fd = fifos[0] ?? -1;
      shut = !shut;
      if (!shut) writeSync(fd, Buffer.alloc(POOL * MESSAGE));
      else for (let n = 0; n < POOL; n++) reads.push(readOnce(fd));
    },
    get shut() {
      return shut;
    },
    contentOf: (inode) => readFileSync(path(inode)),
    async dispose() {
      await within(Promise.all(reads), 'what kept the pool busy');
      for (const fd of [fds.file, fds.readOnly, fds.writeOnly, fds.direct, ...fifos]) closeSync(fd);
    },
  };
}

/** Files of a simulated disk; in place of FIFOs, one file that takes its time. */
export function simulatedWorld(disk: SimulatedDisk, faulty: boolean): World {
  for (const inode of ['file', 'direct', 'slow']) disk.install(`/${inode}`, content);
  return {
    name: 'simulated',
    engine: disk,
    fds: {
      file: disk.openSync('/file', 'r+'),
      readOnly: disk.openSync('/file', 'r'),
      writeOnly: disk.openSync('/file', constants.O_WRONLY),
      direct: disk.openSync('/direct', { flags: 'r+', direct: true }),
      none: 0x7fff_ffff,
    },
    fifos: [0, 1, 2].map(() => disk.openSync('/slow', 'r+')),
    empty: 'is a file',
    faulty,
    now: () => disk.nowMs,
    feed: () => undefined,
    shut: false,
    contentOf: (inode) => disk.readFileSync(`/${inode}`),
    dispose: () => Promise.resolve(),
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// Memory

/** A buffer of a request, and all of the memory around it. */
interface Part {
  readonly view: ArrayBufferView;
  /** Undefined for memory that cannot be transferred away. */
  readonly transferable: ArrayBuffer | undefined;
  readonly length: number;
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  // A DataView of memory that was transferred away has no length to ask for.
  if (view.buffer.byteLength === 0) return new Uint8Array(0);
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function memory(kind: Kind, pool: AlignedPool, length: number, value: number): Part {
  const view = viewOf(kind, pool, length);
  bytesOf(view).fill(value);
  const { buffer } = view;
  const ordinary = kind === 'Buffer' || kind === 'part' || kind === 'DataView' || kind === 'Float64Array';
  return {
    view,
    transferable: ordinary && buffer instanceof ArrayBuffer ? buffer : undefined,
    length: view.byteLength,
  };
}

function viewOf(kind: Kind, pool: AlignedPool, length: number): ArrayBufferView {
  switch (kind) {
    case 'allocBuffer':
      return allocBuffer(length);
    case 'pool':
      return (length <= pool.size ? pool.acquire()?.subarray(0, length) : undefined) ?? allocBuffer(length);
    case 'Buffer':
      return Buffer.from(new ArrayBuffer(length));
    case 'part':
      return new Uint8Array(new ArrayBuffer(length + 77), 33, length);
    case 'DataView':
      return new DataView(new ArrayBuffer(length + 16), 8, length);
    case 'Float64Array':
      return new Float64Array(length >> 3);
    case 'shared':
      return new Uint8Array(new SharedArrayBuffer(length));
  }
}

function isAligned({ view }: Part): boolean {
  const { native } = loadNative();
  return native !== undefined && (view.byteLength === 0 || native.address(bytesOf(view)) % BLOCK === 0);
}

// ---------------------------------------------------------------------------------------------------------------------
// The model

/** What a request was prepared to do. */
interface Plan {
  readonly id: number;
  readonly reads: boolean;
  readonly writes: boolean;
  readonly target: Target;
  readonly position: bigint;
  readonly parts: readonly Part[];
  readonly length: number;
  readonly aligned: boolean;
}

interface RequestModel {
  readonly request: AioRequest<number>;
  readonly name: string;
  state: 'completed' | 'prepared' | 'submitted' | 'disposed';
  status: string;
  bytes: number;
  plan: Plan | undefined;
  context: ContextModel | undefined;
  submitted: Moment;
  write: Write | undefined;
  /** It was answered that it is canceled, or that it goes on. */
  answered: 'canceled' | 'in-progress' | undefined;
  detached: boolean;
}

interface ContextModel {
  readonly index: number;
  readonly context: AioContext;
  readonly maxRequests: number;
  readonly waitsForNothing: boolean;
  pending: Set<RequestModel>;
  wakeups: number;
  closed: boolean;
  waiter: Waiter | undefined;
  stats: AioStats;
}

/** Messages of a FIFO. */
interface FifoModel {
  /** That are in it, or were. */
  fed: number;
  /** That reads have taken out. */
  taken: number;
  /** By their value: how many may have been put in and were not seen again. */
  readonly offered: Map<number, number>;
}

/** A wait under way. */
interface Waiter {
  readonly options: Wait;
  readonly controller: AbortController;
  readonly startMs: number;
  readonly settled: Promise<void>;
  readonly code: string;
  /** Set once it has ended. */
  outcome: { result: WaitResult } | { error: unknown } | undefined;
}

/** Moments are counted: whatever happens has its own. */
type Moment = number;

interface Write {
  readonly inode: Inode;
  readonly position: number;
  readonly length: number;
  readonly value: number;
  readonly submitted: Moment;
  /** When it was handed out. */
  done: Moment;
  /** How much is certain to be there since; what is beyond may be there. */
  certain: number;
  /** Its memory went away: anything may be there. */
  wild: boolean;
}

export interface Tally {
  schedules: number;
  calls: number;
  transfers: number;
  canceled: number;
  waits: number;
  wakeups: number;
}

export class Runner {
  /** What was done, as statements of a program, and what each printed. */
  readonly statements: string[] = [];
  readonly printed: string[] = [];

  readonly #world: World;
  readonly #worker: Worker;
  readonly #tally: Tally;
  readonly #schedule: Schedule;
  readonly #pool = new AlignedPool({ size: 8192, count: 4 });
  readonly #requests: RequestModel[];
  readonly #contexts: ContextModel[];
  readonly #fifos: readonly FifoModel[];
  readonly #byRequest = new Map<AioRequest, RequestModel>();
  readonly #writes: Write[] = [];
  /** Memory that nobody may write to any more, and what is in it. */
  readonly #settled: { readonly what: string; readonly bytes: Uint8Array; readonly copy: Buffer }[] = [];
  #ids = 0;
  #moment: Moment = 0;
  #names = 0;

  constructor(world: World, worker: Worker, schedule: Schedule, tally: Tally) {
    this.#world = world;
    this.#worker = worker;
    this.#schedule = schedule;
    this.#tally = tally;
    this.#requests = Array.from({ length: REQUESTS }, (_, index) =>
      this.#model(new AioRequest<number>(), `requests[${index}]`),
    );
    this.#contexts = schedule.contexts.map(({ maxRequests, waitWithoutPendingRequests }, index) => ({
      index,
      context: new AioContext({ engine: world.engine, maxRequests, waitWithoutPendingRequests }),
      maxRequests,
      waitsForNothing: waitWithoutPendingRequests,
      pending: new Set(),
      wakeups: 0,
      closed: false,
      waiter: undefined,
      stats: {
        submitted: 0,
        completed: 0,
        failed: 0,
        canceled: 0,
        bytesRead: 0,
        bytesWritten: 0,
        submitCalls: 0,
        waitCalls: 0,
        wakeups: 0,
        maxPending: 0,
      },
    }));
    this.#fifos = world.fifos.map(() => ({ fed: 0, taken: 0, offered: new Map() }));
  }

  #model(request: AioRequest<number>, name: string): RequestModel {
    const model: RequestModel = {
      request,
      name,
      state: 'completed',
      status: 'OK',
      bytes: 0,
      plan: undefined,
      context: undefined,
      submitted: 0,
      write: undefined,
      answered: undefined,
      detached: false,
    };
    this.#byRequest.set(request, model);
    return model;
  }

  /** Carries it out to the end, where every request was handed out once, and everything is closed. */
  async run(): Promise<void> {
    try {
      for (const step of this.#schedule.steps) {
        await this.#step(step);
        await this.#look();
      }
      await this.#finish();
      this.#checkAll(true);
      this.#tally.schedules++;
    } finally {
      await this.#abandon();
    }
  }

  #request(index: number): RequestModel {
    const found = this.#requests[index % REQUESTS];
    assert.ok(found);
    this.#touched.add(found);
    return found;
  }

  /** More often than not one that is submitted. */
  #likely(index: number): RequestModel {
    const submitted = [...this.#byRequest.values()].filter(({ state }) => state === 'submitted');
    return (index % 4 === 0 ? undefined : submitted[index % submitted.length]) ?? this.#request(index);
  }

  #context(index: number): ContextModel {
    const found = this.#contexts[index % this.#contexts.length];
    assert.ok(found);
    return found;
  }

  /** Calls something, notes it down, and compares what came of it with what is expected: an answer, or one of these codes. */
  #call<T>(code: string, act: () => T, expected: readonly string[], answered?: (value: T) => void): void {
    this.#tally.calls++;
    const line = String(this.statements.length + 1);
    this.statements.push(`show('${line}', () => ${code});`);
    let value: T;
    try {
      value = act();
    } catch (error) {
      const found = codeOf(error);
      this.printed.push(`${line} ${found}`);
      if (!expected.includes(found)) {
        throw new assert.AssertionError({
          message: `${code} threw ${inspect(error)}, expected ${expectation(expected)}`,
        });
      }
      this.#check(error, code);
      return;
    }
    this.printed.push(`${line} ${shown(value)}`);
    assert.ok(expected.length === 0, `${code} answered ${shown(value)}, expected ${expectation(expected)}`);
    answered?.(value);
  }

  /** Every error says something. */
  #check(error: unknown, what: string): void {
    assert.ok(error instanceof Error, what);
    assert.ok(error.message.length > 10, `${what}: "${error.message}"`);
  }

  async #step(step: Step): Promise<void> {
    switch (step.do) {
      case 'prepare':
        return this.#prepare(this.#request(step.request), step.as, step.request);
      case 'submit': {
        const requests = step.requests.map((index) => this.#request(index));
        return this.#submit(this.#context(step.context), requests);
      }
      case 'start': {
        const model = this.#request(step.request);
        this.#prepare(model, step.as, step.request);
        if (model.state === 'prepared') this.#submit(this.#context(step.context), [model]);
        return;
      }
      case 'burst':
        return this.#burst(this.#context(step.context), step.count, step.as);
      case 'wait':
        return this.#wait(this.#context(step.context), step.options);
      case 'waitSync':
        return this.#waitSync(this.#context(step.context), step.options);
      case 'wokenSync':
        return this.#wokenSync(this.#context(step.context));
      case 'settle':
        return this.#settle(this.#context(step.context));
      case 'abort':
        return this.#abort(this.#context(step.context));
      case 'wakeup':
        return this.#wakeup(this.#context(step.context));
      case 'wakeFromThread':
        return this.#wakeFromThread(this.#context(step.context));
      case 'close':
        return this.#close(this.#context(step.context));
      case 'feed':
        return this.#feed(step.context);
      case 'cancel':
        return this.#cancel(this.#likely(step.request));
      case 'transfer':
        return this.#transfer(this.#likely(step.request));
      case 'dispose':
        return this.#dispose(this.#request(step.request));
      case 'turn':
        this.statements.push('await new Promise((resolve) => setImmediate(resolve));');
        await new Promise((resolve) => setImmediate(resolve));
        return;
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Requests

  /** What is to be prepared, where the target and the operation leave less open than the schedule. */
  #sensible(as: Preparation): Preparation {
    const vectored = as.operation.endsWith('v');
    let { lengths, position } = as;
    if (as.target === 'fifo' && this.#world.empty !== 'is a file') {
      lengths = vectored ? [MESSAGE / 2, MESSAGE / 2] : [MESSAGE];
      position = 0;
    } else if (!vectored) {
      lengths = [lengths[0] ?? 100];
    }
    // What a file system takes beyond the largest file of another one is its own affair.
    if (as.operation.startsWith('prepareWrite') && position > 100_000) position = 2n ** 63n - 1n;
    return { ...as, lengths, position };
  }

  #prepare(model: RequestModel, given: Preparation, number: number): void {
    const { expected, code, act, plan } = this.#preparation(model, given, number);
    this.#call(code, act, expected, () => this.#prepared(model, plan));
  }

  #prepared(model: RequestModel, plan: Plan): void {
    model.state = 'prepared';
    model.plan = plan;
    model.answered = undefined;
    model.detached = false;
  }

  #preparation(
    model: RequestModel,
    given: Preparation,
    number: number,
  ): { expected: readonly string[]; code: string; act: () => unknown; plan: Plan } {
    const as = this.#sensible(given);
    const { operation, target, position, kind, dataOnly } = as;
    const id = ++this.#ids;
    const index = number % this.#world.fifos.length;
    const fd = target === 'fifo' ? (this.#world.fifos[index] ?? -1) : this.#world.fds[target];
    const fdCode = target === 'fifo' ? `fifos[${index}]` : `targets.${target}`;
    const flush = operation === 'prepareFlush';
    const parts = flush ? [] : as.lengths.map((length) => memory(kind, this.#pool, length, id));
    const plan: Plan = {
      id,
      reads: operation === 'prepareRead' || operation === 'prepareReadv',
      writes: operation === 'prepareWrite' || operation === 'prepareWritev',
      target,
      position: BigInt(position),
      parts,
      length: parts.reduce((sum, part) => sum + part.length, 0),
      aligned: BigInt(position) % 4096n === 0n && parts.every((part) => part.length % BLOCK === 0 && isAligned(part)),
    };
    const { request } = model;
    const views = parts.map(({ view }) => view);
    const single = views[0] ?? Buffer.alloc(0);
    const acts: Record<Preparation['operation'], () => unknown> = {
      prepareRead: () => request.prepareRead(fd, position, single, id),
      prepareWrite: () => request.prepareWrite(fd, position, single, id),
      prepareReadv: () => request.prepareReadv(fd, position, views, id),
      prepareWritev: () => request.prepareWritev(fd, position, views, id),
      prepareFlush: () => request.prepareFlush(fd, { dataOnly }, id),
    };
    return {
      expected: { completed: [], prepared: [], submitted: ['ERR_AIO_IN_PROGRESS'], disposed: ['ERR_AIO_CLOSED'] }[
        model.state
      ],
      code: `void ${preparing(model.name, as, fdCode, id)}`,
      act: () => void acts[operation](),
      plan,
    };
  }

  #cancel(model: RequestModel): void {
    const { request, name, state } = model;
    const errors = {
      completed: ['ERR_AIO_COMPLETED'],
      prepared: ['ERR_AIO_NOT_SUBMITTED'],
      submitted: [],
      disposed: ['ERR_AIO_CLOSED'],
    };
    this.#call(
      `${name}.cancel()`,
      () => request.cancel(),
      errors[state],
      (answer) => {
        assert.ok(answer === 'canceled' || answer === 'in-progress', answer);
        if (model.answered === 'canceled') assert.equal(answer, 'canceled', 'what was canceled stays so');
        if (this.#world.name === 'kernel-aio') assert.equal(answer, 'in-progress');
        if (answer === 'canceled') this.#seal(model, 'was canceled');
        model.answered = answer;
      },
    );
  }

  /** From here on nobody may write to its memory. */
  #seal({ plan, name }: RequestModel, why: string): void {
    for (const { view } of plan?.parts ?? []) {
      const bytes = bytesOf(view);
      if (bytes.length === 0) continue;
      this.#settled.push({
        what: `the memory of ${name}, user data ${plan?.id}, which ${why}`,
        bytes,
        copy: Buffer.from(bytes),
      });
    }
  }

  #transfer(model: RequestModel): void {
    const { plan, name, state } = model;
    // The bytes that a FIFO gives to such a request are lost: nobody can say where they went.
    if (plan === undefined || this.#isFifo(plan)) return;
    if (state === 'disposed' || state === 'completed') return;
    const part = plan.parts.find(({ transferable }) => transferable !== undefined && transferable.byteLength > 0);
    if (part?.transferable === undefined) return;
    const { transferable } = part;
    // The memory is the program's own, under a name that only it has: the statement finds it in the request's making.
    this.statements.push(`structuredClone(memories.get(${plan.id}), { transfer: [memories.get(${plan.id})] });`);
    structuredClone(transferable, { transfer: [transferable] });
    assert.equal(transferable.byteLength, 0, name);
    if (part.length > 0) model.detached = true;
    if (model.write !== undefined && state === 'submitted') model.write.wild = true;
  }

  #dispose(model: RequestModel): void {
    const { request, name, state } = model;
    const expected = state === 'submitted' ? ['ERR_AIO_IN_PROGRESS'] : [];
    this.#call(
      `${name}.dispose()`,
      () => request.dispose(),
      expected,
      () => {
        model.state = 'disposed';
      },
    );
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Submitting

  /** The codes that `submit` may refuse this with; none: it does not refuse it. */
  #mistakes(context: ContextModel, models: readonly RequestModel[]): string[] {
    if (context.closed) return ['ERR_AIO_CLOSED'];
    const found: string[] = [];
    for (const [index, model] of models.entries()) {
      if (model.state === 'completed') found.push('ERR_AIO_NOT_PREPARED');
      if (model.state === 'disposed') found.push('ERR_AIO_CLOSED');
      if (model.state === 'submitted' || models.indexOf(model) < index) found.push('ERR_AIO_IN_PROGRESS');
      if (model.state === 'prepared' && model.detached) found.push('ERR_AIO_BUFFER_DETACHED');
    }
    return found;
  }

  #submit(context: ContextModel, models: readonly RequestModel[], code?: string): void {
    this.#tally.calls++;
    const names = code ?? `[${models.map(({ name }) => name).join(', ')}]`;
    const call = `contexts[${context.index}].submit(${names})`;
    const line = String(this.statements.length + 1);
    this.statements.push(`show('${line}', () => ${call});`);
    const mistakes = this.#mistakes(context, models);
    const room = Math.min(context.maxRequests - context.pending.size, models.length);
    let taken = models.length;
    let outcome = 'undefined';
    this.#moment++;
    try {
      context.context.submit(models.map(({ request }) => request));
    } catch (error) {
      outcome = codeOf(error);
      this.#check(error, call);
      if (mistakes.length === 0) {
        assert.ok(
          outcome === 'ERR_AIO_INSUFFICIENT_RESOURCES' && error instanceof AioError,
          `${call} threw ${inspect(error)}`,
        );
        assert.ok(room < models.length || this.#world.faulty, `${call}: there was room for ${room}`);
        taken = error.submitted ?? -1;
        if (!this.#world.faulty) assert.equal(taken, room, `${call}: the submitted of its error`);
      }
    }
    this.printed.push(`${line} ${outcome}`);
    if (mistakes.length > 0) {
      assert.ok(mistakes.includes(outcome), `${call} came to ${outcome}, expected ${expectation(mistakes)}`);
      return;
    }
    assert.ok(taken >= 0 && taken <= room, `${call} took ${taken}, and there was room for ${room}`);
    assert.ok(taken === models.length || outcome !== 'undefined', `${call} did not say that it took only ${taken}`);
    for (const model of models.slice(0, taken)) this.#submitted(context, model);
    context.stats.submitted += taken;
    if (taken > 0) context.stats.submitCalls++;
    context.stats.maxPending = Math.max(context.stats.maxPending, context.pending.size);
  }

  #submitted(context: ContextModel, model: RequestModel): void {
    const { plan } = model;
    assert.ok(plan);
    context.pending.add(model);
    model.state = 'submitted';
    model.context = context;
    model.answered = undefined;
    model.submitted = this.#moment;
    model.write = undefined;
    if (this.#isFifo(plan) && plan.writes) this.#offer(this.#fifo(model), plan.id & 255);
    const inode = this.#inodeOf(plan.target);
    if (!plan.writes || inode === undefined || plan.target === 'readOnly' || plan.length === 0) return;
    if (plan.position > 2n ** 31n) return;
    const write: Write = {
      inode,
      position: Number(plan.position),
      length: plan.length,
      value: plan.id & 255,
      submitted: this.#moment,
      done: Infinity,
      certain: 0,
      wild: false,
    };
    model.write = write;
    this.#writes.push(write);
  }

  #inodeOf(target: Target): Inode | undefined {
    if (target === 'none') return undefined;
    if (target === 'fifo') return this.#world.empty === 'is a file' ? 'slow' : undefined;
    return target === 'direct' ? 'direct' : 'file';
  }

  #burst(context: ContextModel, count: number, given: Preparation): void {
    // A FIFO has room for what is waited for one by one.
    const as: Preparation = {
      ...given,
      target: given.target === 'fifo' ? 'file' : given.target,
      lengths: given.lengths.slice(0, 2),
    };
    const name = `burst${++this.#names}`;
    const models: RequestModel[] = [];
    const first = this.#ids + 1;
    const code = this.#preparation(this.#model(new AioRequest<number>(), 'new AioRequest<number>()'), as, 0);
    this.#ids--;
    // One program line for all: the user data counts up.
    const each = code.code.replace(/^void /, '').replaceAll(new RegExp(`\\b${first}(?=\\))`, 'g'), `${first} + n`);
    this.statements.push(`const ${name} = Array.from({ length: ${count} }, (_, n) => ${each});`);
    for (let n = 0; n < count; n++) {
      const model = this.#model(new AioRequest<number>(), `${name}[${n}]`);
      const { act, plan } = this.#preparation(model, as, 0);
      act();
      this.#prepared(model, plan);
      models.push(model);
    }
    this.#submit(context, models, name);
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Waiting

  /** The codes that a wait may be refused with. */
  #refusals(context: ContextModel, { min = 1, max = Infinity, timeoutMs = 0, signal }: Wait, sync: boolean): string[] {
    if (min > max || !(timeoutMs >= 0)) return ['ERR_OUT_OF_RANGE'];
    if (context.closed) return ['ERR_AIO_CLOSED'];
    if (sync && this.#world.name === 'threads') return ['ERR_AIO_NOT_SUPPORTED'];
    if (context.waiter !== undefined) return ['ERR_AIO_BUSY'];
    if (signal === 'aborted') return ['ABORT_ERR'];
    return context.pending.size === 0 && !context.waitsForNothing ? ['ERR_AIO_NO_REQUEST'] : [];
  }

  /** How many of the pending requests are sure to end by themselves. */
  #certain(context: ContextModel): number {
    if (this.#world.shut) return 0;
    if (this.#world.empty !== 'waits') return context.pending.size;
    let certain = 0;
    for (const model of context.pending) if (!this.#waitsForMessage(model)) certain++;
    for (const [index, { fed, taken }] of this.#fifos.entries()) {
      const [here = 0, elsewhere = 0] = [true, false].map(
        (own) => this.#readersOf(index, (at) => (at === context) === own).length,
      );
      certain += Math.max(0, Math.min(here, fed - taken - elsewhere));
    }
    return certain;
  }

  #waitsForMessage({ plan, answered }: RequestModel): boolean {
    return plan?.target === 'fifo' && plan.reads && answered !== 'canceled';
  }

  #readersOf(fifo: number, where: (context: ContextModel) => boolean): RequestModel[] {
    return this.#contexts
      .filter(where)
      .flatMap(({ pending }) => [...pending])
      .filter((model) => this.#waitsForMessage(model) && this.#fifoOf(model) === fifo);
  }

  #ends(context: ContextModel, { min = 1, timeoutMs }: Wait): boolean {
    return timeoutMs !== undefined || context.wakeups > 0 || this.#certain(context) >= min;
  }

  #wait(context: ContextModel, options: Wait): void {
    const refusals = this.#refusals(context, options, false);
    const number = ++this.#names;
    const controller = new AbortController();
    if (options.signal === 'later') this.statements.push(`const controller${number} = new AbortController();`);
    const code = `contexts[${context.index}].wait(${optionsOf(options, `controller${number}.signal`)})`;
    this.statements.push(`const wait${number} = ended(${code});`);
    this.#tally.calls++;
    // Before the call: this thread may have to stand back for long on its way out of it.
    const startMs = this.#world.now();
    const promise = context.context.wait(real(options, controller.signal));
    const waiter: Waiter = {
      options,
      controller,
      startMs,
      code: `wait${number}`,
      outcome: undefined,
      settled: promise.then(
        (result) => {
          waiter.outcome = { result };
        },
        (error) => {
          waiter.outcome = { error };
        },
      ),
    };
    if (refusals.length > 0) {
      this.#refused.push({ waiter, refusals });
      return;
    }
    context.stats.waitCalls++;
    this.#tally.waits++;
    context.waiter = waiter;
  }

  /** Waits that must be refused, and have to say so by the end of the step. */
  readonly #refused: { readonly waiter: Waiter; readonly refusals: readonly string[] }[] = [];

  /** After each step: what ended meanwhile, and whether everything is as the model has it. */
  async #look(): Promise<void> {
    for (let ticks = 0; ticks < 4; ticks++) await null;
    for (const { waiter, refusals } of this.#refused.splice(0)) {
      await within(waiter.settled, `${waiter.code} is to be refused with ${expectation(refusals)}`);
      const found = this.#print(waiter);
      assert.ok(refusals.includes(found), `${waiter.code} came to ${found}, expected ${expectation(refusals)}`);
    }
    for (const context of this.#contexts) {
      const { waiter } = context;
      if (waiter?.outcome !== undefined) this.#ended(context, waiter);
    }
    this.#checkAll(false);
  }

  #print({ code, outcome }: Waiter): string {
    const line = String(this.statements.length + 1);
    this.statements.push(`console.log('${line}', await ${code});`);
    assert.ok(outcome);
    const text = 'result' in outcome ? shown(outcome.result) : codeOf(outcome.error);
    this.printed.push(`${line} ${text}`);
    return text;
  }

  /** A wait ended that nothing but its own conditions was to end. */
  #ended(context: ContextModel, waiter: Waiter): void {
    this.#print(waiter);
    context.waiter = undefined;
    const { outcome } = waiter;
    assert.ok(outcome);
    if ('error' in outcome) assert.fail(`${waiter.code} rejected with ${inspect(outcome.error)}`);
    this.#waited(context, waiter.options, outcome.result, waiter.code, this.#world.now() - waiter.startMs);
  }

  /** The result of a wait of either kind. */
  #waited(
    context: ContextModel,
    { min = 1, max = Infinity, timeoutMs }: Wait,
    { completed, reason }: WaitResult,
    what: string,
    tookMs: number,
  ): void {
    this.#moment++;
    assert.ok(completed.length <= max, `${what}: ${completed.length} completions, at most ${max} were asked for`);
    if (context.wakeups > 0) assert.equal(reason, 'woken', `${what}: a wake-up was due`);
    if (reason === 'woken') {
      assert.ok(context.wakeups > 0, `${what}: nobody woke it`);
      context.wakeups--;
      context.stats.wakeups++;
      this.#tally.wakeups++;
    } else if (reason === 'timeout') {
      assert.ok(timeoutMs !== undefined, `${what}: a timeout that nobody asked for`);
      assert.ok(completed.length < min, `${what}: ${completed.length} had completed, which is no timeout`);
      assert.ok(tookMs >= timeoutMs - 1, `${what}: a timeout after ${tookMs} ms`);
    } else {
      assert.equal(reason, 'completed', what);
      assert.ok(completed.length >= min, `${what}: ${completed.length} completions, at least ${min} were asked for`);
    }
    for (const request of completed) {
      const model = this.#byRequest.get(request);
      assert.ok(
        model !== undefined && context.pending.has(model),
        `${what} handed out what is not pending: ${model?.name}`,
      );
      this.#completed(context, model, what);
    }
  }

  #waitSync(context: ContextModel, given: Wait): void {
    const options: Wait = { ...given, signal: given.signal === 'aborted' ? 'aborted' : undefined };
    const refusals = this.#refusals(context, options, true);
    // What nothing would end gets an end.
    const bounded = refusals.length > 0 || this.#ends(context, options) ? options : { ...options, timeoutMs: 2 };
    const startMs = this.#world.now();
    const { result, code } = this.#block(context, bounded, refusals);
    if (result !== undefined) this.#waited(context, bounded, result, code, this.#world.now() - startMs);
  }

  #block(
    context: ContextModel,
    options: Wait,
    refusals: readonly string[],
  ): { result: WaitResult | undefined; code: string } {
    if (refusals.length === 0) {
      context.stats.waitCalls++;
      this.#tally.waits++;
    }
    const code = `contexts[${context.index}].waitSync(${optionsOf(options, '')})`;
    let result: WaitResult | undefined;
    this.#call(
      code,
      () => context.context.waitSync(real(options, AbortSignal.abort())),
      refusals,
      (found) => {
        result = found;
      },
    );
    return { result, code };
  }

  /** Another thread is told to wake; this one blocks until it has, or until something completed. */
  #wokenSync(context: ContextModel): void {
    if (this.#refusals(context, {}, true).length > 0) return;
    const number = ++this.#names;
    this.statements.push(`const woken${number} = wakeFromThread(contexts[${context.index}]);`);
    const woken = this.#tellThread(context);
    const { result, code } = this.#block(context, {}, []);
    assert.ok(result);
    this.#waitForThread(woken);
    this.statements.push(`await woken${number};`);
    // It came before the wait ended, or behind it: then it is due.
    const due = context.wakeups === 0 && result.reason !== 'woken';
    if (!due) context.wakeups++;
    this.#waited(context, {}, result, code, 0);
    if (due) context.wakeups++;
  }

  #tellThread({ context }: ContextModel): Int32Array {
    const woken = new Int32Array(new SharedArrayBuffer(4));
    this.#worker.postMessage({ waker: context.waker, woken });
    return woken;
  }

  #waitForThread(woken: Int32Array): void {
    assert.notEqual(Atomics.wait(woken, 0, 0, PATIENCE_MS), 'timed-out', 'the thread did not wake');
  }

  async #settle(context: ContextModel): Promise<void> {
    const { waiter } = context;
    if (waiter === undefined) return;
    if (!this.#ends(context, waiter.options)) this.#wakeup(context);
    await within(waiter.settled, `${waiter.code}, with ${this.#certain(context)} that complete by themselves`);
  }

  #abort(context: ContextModel): void {
    const { waiter } = context;
    if (waiter?.options.signal !== 'later') return;
    const number = waiter.code.replace('wait', '');
    this.statements.push(`controller${number}.abort();`);
    waiter.controller.abort();
    this.#rejected(context, waiter, 'ABORT_ERR');
  }

  /** It rejects in this very moment. */
  #rejected(context: ContextModel, waiter: Waiter, code: 'ABORT_ERR' | 'ERR_AIO_CLOSED'): void {
    this.#refused.push({ waiter, refusals: [code] });
    context.waiter = undefined;
  }

  #wakeup(context: ContextModel): void {
    this.#call(
      `contexts[${context.index}].wakeup()`,
      () => context.context.wakeup(),
      [],
      () => {
        if (!context.closed) context.wakeups++;
      },
    );
  }

  #wakeFromThread(context: ContextModel): void {
    this.statements.push(`await wakeFromThread(contexts[${context.index}]);`);
    this.#waitForThread(this.#tellThread(context));
    if (!context.closed) context.wakeups++;
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Completions

  #completed(context: ContextModel, model: RequestModel, what: string): void {
    const { request, plan, name } = model;
    const { stats } = context;
    assert.ok(plan);
    const who = `${what} handed out ${name}, user data ${plan.id}`;
    context.pending.delete(model);
    this.#touched.add(model);
    model.context = undefined;
    model.state = 'completed';
    const { status, bytesTransferred } = request;
    model.status = status;
    model.bytes = bytesTransferred;
    const expected = this.#outcomes(model);
    assert.ok(
      expected.includes(status),
      `${who}: ${inspect(request.error ?? status)}, expected ${expectation(expected)}`,
    );
    stats.completed++;
    this.#tally.transfers++;
    if (status === 'OK') {
      if (plan.reads) stats.bytesRead += bytesTransferred;
      if (plan.writes) stats.bytesWritten += bytesTransferred;
    } else if (status === 'ERR_AIO_CANCELED') {
      stats.canceled++;
      this.#tally.canceled++;
    } else {
      stats.failed++;
    }
    if (status === 'OK' && plan.reads) this.#checkRead(model, plan, who);
    else if (status === 'OK' && plan.writes) this.#checkLength(bytesTransferred, plan.length, who);
    else assert.equal(bytesTransferred, 0, who);
    if (model.write !== undefined) {
      model.write.done = this.#moment;
      model.write.certain = status === 'OK' && !model.write.wild ? bytesTransferred : 0;
    }
    if (this.#isFifo(plan) && plan.writes && status === 'OK') this.#fifo(model).fed++;
    if (model.answered !== 'canceled') this.#seal(model, 'had completed');
  }

  #isFifo({ target }: Plan): boolean {
    return target === 'fifo' && this.#world.empty !== 'is a file';
  }

  /** FIFOs go by the number of the request. */
  #fifoOf({ name }: RequestModel): number {
    return Number(/\d+/.exec(name)?.[0] ?? 0) % this.#world.fifos.length;
  }

  #fifo(model: RequestModel): FifoModel {
    const found = this.#fifos[this.#fifoOf(model)];
    assert.ok(found);
    return found;
  }

  /** The statuses that a request may end with; one that was in progress when it was to be canceled may still end so. */
  #outcomes(model: RequestModel): string[] {
    const outcomes = this.#uncanceled(model);
    return model.answered === 'in-progress' ? [...outcomes, 'ERR_AIO_CANCELED'] : outcomes;
  }

  #uncanceled({ plan, answered, detached }: RequestModel): string[] {
    assert.ok(plan);
    const { target, reads, writes, position, length, aligned } = plan;
    if (detached)
      return answered === 'canceled' ? ['ERR_AIO_BUFFER_DETACHED', 'ERR_AIO_CANCELED'] : ['ERR_AIO_BUFFER_DETACHED'];
    if (answered === 'canceled') return ['ERR_AIO_CANCELED'];
    const far = position + BigInt(length) > 2n ** 40n;
    // node:fs has no call for these positions: they fail before the kernel sees the descriptor.
    const unseen = far && this.#world.name === 'threads';
    if (target === 'none') return unseen ? ['EBADF', writes ? 'EFBIG' : 'EINVAL'] : ['EBADF'];
    if (writes && target === 'readOnly') return unseen ? ['EBADF', 'EFBIG'] : ['EBADF'];
    if (reads && target === 'writeOnly') return unseen ? ['EBADF', 'EINVAL'] : ['EBADF'];
    const faults = this.#world.faulty ? ['EIO'] : [];
    if (this.#isFifo(plan)) {
      if (!reads && !writes) return ['EINVAL'];
      if (this.#world.empty === 'ESPIPE') return ['ESPIPE'];
      return reads && this.#world.empty === 'EAGAIN' ? ['OK', 'EAGAIN'] : ['OK'];
    }
    if (!reads && !writes) return ['OK', ...faults];
    const outcomes =
      far && reads ? ['OK', 'EINVAL'] : far ? ['EFBIG', 'EINVAL', ...(length === 0 ? ['OK'] : [])] : ['OK'];
    if (target === 'direct' && !aligned) outcomes.push('ERR_AIO_MISALIGNED');
    return [...outcomes, ...faults];
  }

  /** Of a write. */
  #checkLength(bytes: number, length: number, who: string): void {
    const least = this.#world.faulty ? Math.min(length, 1) : length;
    assert.ok(bytes >= least && bytes <= length, `${who}: wrote ${bytes} of ${length}`);
  }

  #checkRead(model: RequestModel, plan: Plan, who: string): void {
    const { bytes } = model;
    const found = Buffer.concat(plan.parts.map(({ view }) => bytesOf(view)));
    if (this.#isFifo(plan)) {
      this.#checkMessage(model, found, who);
      return;
    }
    const inode = this.#inodeOf(plan.target);
    assert.ok(inode);
    const { least, most } = this.#sizes(inode, model.submitted);
    const position = plan.position > 2n ** 40n ? Infinity : Number(plan.position);
    const [low, high] = [least, most].map((size) => Math.min(Math.max(size - position, 0), plan.length));
    assert.ok(low !== undefined && high !== undefined);
    const enough = this.#world.faulty ? Math.min(low, 1) : low;
    assert.ok(bytes >= enough && bytes <= high, `${who}: ${bytes} bytes read, and there were ${low} to ${high}`);
    const wrong = this.#wrongByte(inode, position, found.subarray(0, bytes), model.submitted);
    if (wrong >= 0) assert.fail(`${who}: byte ${wrong} is ${found[wrong]}, and nothing put that there`);
    // What is behind the end stays as it was; but a device reads whole sectors, and Linux puts zeros behind the end of the file.
    for (let at = bytes; at < found.length; at++) {
      const padding = plan.target === 'direct' && found[at] === 0;
      if (found[at] !== (plan.id & 255) && !padding) assert.fail(`${who}: byte ${at} changed, and ${bytes} were read`);
    }
  }

  #checkMessage(model: RequestModel, found: Buffer, who: string): void {
    assert.equal(model.bytes, MESSAGE, who);
    const [value] = found;
    assert.ok(value !== undefined && found.every((byte) => byte === value), `${who}: parts of several messages`);
    const fifo = this.#fifo(model);
    const left = fifo.offered.get(value) ?? 0;
    assert.ok(left > 0, `${who}: the message ${value}, which nobody sent, or which was read already`);
    fifo.offered.set(value, left - 1);
    fifo.taken++;
  }

  #sizes(inode: Inode, since: Moment): { least: number; most: number } {
    let least = FILE_SIZE;
    let most = FILE_SIZE;
    for (const write of this.#writes) {
      if (write.inode !== inode) continue;
      if (write.done <= since && write.certain > 0) least = Math.max(least, write.position + write.certain);
      most = Math.max(most, write.position + write.length);
    }
    return { least, most };
  }

  /** The first byte that cannot be there, or -1. */
  #wrongByte(inode: Inode, position: number, found: Uint8Array, since: Moment): number {
    const end = position + found.length;
    const near = this.#writes.filter(
      (write) => write.inode === inode && write.position < end && write.position + write.length > position,
    );
    if (near.length === 0 && content.subarray(position, end).equals(found)) return -1;
    for (let index = 0; index < found.length; index++) {
      if (!mayBe(found[index] ?? -1, position + index, near, since)) return index;
    }
    return -1;
  }

  // -------------------------------------------------------------------------------------------------------------------
  // The rest

  #offer({ offered }: FifoModel, value: number): void {
    offered.set(value, (offered.get(value) ?? 0) + 1);
  }

  #feed(index: number): void {
    const fifo = this.#fifos[index];
    if (fifo === undefined || this.#world.empty === 'is a file') return;
    const value = ++this.#ids & 255;
    this.statements.push(`feed(${index}, ${value});`);
    this.#world.feed(index, value);
    fifo.fed++;
    this.#offer(fifo, value);
  }

  #close(context: ContextModel): void {
    const { waiter, pending, index } = context;
    const closing = context.context.close();
    const number = ++this.#names;
    this.statements.push(`const closed${number} = ended(contexts[${index}].close());`);
    this.#tally.calls++;
    const busy = pending.size > 0 && !context.closed;
    this.#closings.push({ promise: closing, expected: busy ? 'ERR_AIO_BUSY' : 'undefined', code: `closed${number}` });
    closing.catch(() => undefined);
    if (busy) return;
    context.closed = true;
    context.wakeups = 0;
    if (waiter !== undefined) this.#rejected(context, waiter, 'ERR_AIO_CLOSED');
  }

  readonly #closings: { readonly promise: Promise<void>; readonly expected: string; readonly code: string }[] = [];

  /** Everything is handed out, and everything closes. */
  async #finish(): Promise<void> {
    if (this.#world.shut) this.#feed(0);
    for (const context of this.#contexts) {
      await this.#settle(context);
      await this.#look();
    }
    for (const context of this.#contexts) await this.#drain(context);
    for (const context of this.#contexts) {
      assert.equal(context.pending.size, 0);
      if (!context.closed) this.#close(context);
    }
    await this.#look();
    for (const { promise, expected, code } of this.#closings) {
      const line = String(this.statements.length + 1);
      this.statements.push(`console.log('${line}', await ${code});`);
      const found = await within(promise, code).then(() => 'undefined', codeOf);
      this.printed.push(`${line} ${found}`);
      assert.equal(found, expected, code);
    }
    this.#checkSettled();
    for (const inode of this.#world.empty === 'is a file'
      ? (['file', 'direct', 'slow'] as const)
      : (['file', 'direct'] as const)) {
      this.#moment++;
      const found = this.#world.contentOf(inode);
      const { least, most } = this.#sizes(inode, this.#moment);
      assert.ok(
        found.length >= least && found.length <= most,
        `${inode} has ${found.length} bytes in the end, not ${least}…${most}`,
      );
      const wrong = this.#wrongByte(inode, 0, found, this.#moment);
      if (wrong >= 0)
        assert.fail(`in the end, byte ${wrong} of ${inode} is ${found[wrong]}, and nothing put that there`);
    }
  }

  async #drain(context: ContextModel): Promise<void> {
    // Reads of FIFOs that nothing was written to: each gets a message.
    if (this.#world.empty === 'waits') {
      for (const model of context.pending) if (this.#waitsForMessage(model)) this.#feed(this.#fifoOf(model));
    }
    if (this.#schedule.dispose && !context.closed) {
      await this.#disposeOf(context);
      return;
    }
    for (let waits = 1; context.pending.size > 0; waits++) {
      assert.ok(waits <= MOST_LAST_WAITS, `${context.pending.size} requests of contexts[${context.index}] never end`);
      this.#wait(context, { min: context.pending.size });
      await this.#look(); // it may have ended at once
      await this.#settle(context);
      await this.#look();
    }
  }

  async #disposeOf(context: ContextModel): Promise<void> {
    const number = ++this.#names;
    this.statements.push(`const disposed${number} = ended(contexts[${context.index}][Symbol.asyncDispose]());`);
    this.#tally.calls++;
    await within(context.context[Symbol.asyncDispose](), `disposing of contexts[${context.index}]`);
    const line = String(this.statements.length + 1);
    this.statements.push(`console.log('${line}', await disposed${number});`);
    this.printed.push(`${line} undefined`);
    // Its waits handed everything out, to nobody.
    const { stats } = context.context;
    assert.ok(stats.waitCalls >= context.stats.waitCalls);
    context.stats.waitCalls = stats.waitCalls;
    context.stats.wakeups += context.wakeups;
    context.wakeups = 0;
    this.#moment++;
    for (const model of [...context.pending]) this.#completed(context, model, 'disposal');
    // A wake-up that was due may have been left over.
    context.stats.wakeups = Math.min(context.stats.wakeups, stats.wakeups);
    context.closed = true;
  }

  #checkSettled(): void {
    for (const { what, bytes, copy } of this.#settled) {
      if (bytes.length === 0) continue; // transferred away since
      assert.ok(copy.equals(bytes), `${what}, changed afterwards`);
    }
  }

  /** Nothing changes by itself, and everything says the same. */
  #checkAll(all: boolean): void {
    for (const context of this.#contexts) {
      const what = `contexts[${context.index}]`;
      assert.equal(context.context.pending, context.pending.size, `${what}.pending`);
      assert.deepEqual(context.context.stats, context.stats, `${what}.stats`);
    }
    for (const model of all ? this.#requests : this.#touched) this.#checkRequest(model);
    this.#touched.clear();
  }

  /** Requests that the last step had to do with. */
  readonly #touched = new Set<RequestModel>();

  #checkRequest({ request, state, status, bytes, plan, name }: RequestModel): void {
    if (state === 'disposed') {
      assert.throws(() => request.state, { code: 'ERR_AIO_CLOSED' });
      return;
    }
    const shows = { completed: status, prepared: 'ERR_AIO_NOT_SUBMITTED', submitted: 'ERR_AIO_IN_PROGRESS' }[state];
    assert.equal(request.state, state, `${name}.state`);
    assert.equal(request.status, shows, `${name}.status`);
    assert.equal(request.bytesTransferred, state === 'completed' ? bytes : 0, `${name}.bytesTransferred`);
    assert.equal(request.userData, plan?.id, `${name}.userData`);
    assert.equal(request.error?.code, shows === 'OK' ? undefined : shows, `${name}.error`);
    if (shows === 'OK') assert.equal(request.result(), bytes, `${name}.result()`);
    else assert.throws(() => request.result(), { code: shows }, `${name}.result()`);
  }

  /** After a failure, too: nothing is left behind. */
  async #abandon(): Promise<void> {
    if (this.#world.shut) this.#world.feed(0, 0);
    for (const { context } of this.#contexts) {
      if (this.#world.empty === 'waits') {
        for (const [index] of this.#world.fifos.entries()) {
          for (let n = 0; n < context.pending; n++) this.#world.feed(index, 0);
        }
      }
      await within(context[Symbol.asyncDispose](), 'clearing up').catch(() => undefined);
    }
    await this.#world.dispose();
  }
}

/** Whether a byte of a file may have this value for somebody who began to look at `since`. */
function mayBe(byte: number, at: number, writes: readonly Write[], since: Moment): boolean {
  if (byte === (content[at] ?? 0) && !isCovered(at, 0, writes, since)) return true;
  for (const write of writes) {
    if (at < write.position || at >= write.position + write.length) continue;
    if ((write.wild || write.value === byte) && !isCovered(at, write.done, writes, since)) return true;
  }
  return false;
}

/** Whether something else came there for sure, after `done` and before `since`. */
function isCovered(at: number, done: Moment, writes: readonly Write[], since: Moment): boolean {
  for (const write of writes) {
    const there = write.position <= at && at < write.position + write.certain;
    if (there && write.submitted >= done && write.done <= since) return true;
  }
  return false;
}

function real({ min, max, timeoutMs, signal }: Wait, later: AbortSignal): Parameters<AioContext['wait']>[0] {
  if (min === undefined && max === undefined && timeoutMs === undefined && signal === undefined) return undefined;
  return {
    ...(min === undefined ? {} : { min }),
    ...(max === undefined ? {} : { max }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(signal === undefined ? {} : { signal: signal === 'aborted' ? AbortSignal.abort() : later }),
  };
}

function expectation(codes: readonly string[]): string {
  return codes.length === 0 ? 'an answer' : codes.join(' or ');
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** As the program shows it. */
function shown(value: unknown): string {
  if (typeof value !== 'object' || value === null || !('completed' in value)) return String(value);
  const { completed, reason } = value as WaitResult;
  return [reason, ...completed.map((done) => `${done.userData}:${done.status}:${done.bytesTransferred}`)].join(' ');
}

/** A promise that must settle. */
async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not end within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
