/**
 * Schedules of the low-level interface as data: fast-check makes them and makes them smaller. And the program that a schedule is, in
 * TypeScript on the public interface, which a developer can paste and run.
 */
import fc from 'fast-check';

/** Requests that steps speak of by number. A burst makes more of them, which nothing speaks of. */
export const REQUESTS = 8;
/** Of the file that transfers go to, in bytes; no multiple of a block. */
export const FILE_SIZE = 20_000;
/** What every transfer of a FIFO moves: more would be served in parts. */
export const MESSAGE = 16;
/** Threads of node:fs. */
export const POOL = Number(process.env.UV_THREADPOOL_SIZE ?? 4);

export type Operation = 'prepareRead' | 'prepareWrite' | 'prepareReadv' | 'prepareWritev' | 'prepareFlush';

/**
 * Where a transfer goes: one file by three descriptors, another one without the page cache, something that answers when it is told to,
 * and a number that is no descriptor.
 */
export type Target = 'file' | 'readOnly' | 'writeOnly' | 'direct' | 'fifo' | 'none';

export type Kind = 'allocBuffer' | 'pool' | 'Buffer' | 'part' | 'DataView' | 'Float64Array' | 'shared';

export interface Preparation {
  readonly operation: Operation;
  readonly target: Target;
  readonly position: number | bigint;
  /** Of the buffers, in bytes. */
  readonly lengths: readonly number[];
  readonly kind: Kind;
  readonly dataOnly: boolean;
}

export interface Wait {
  readonly min?: number | undefined;
  readonly max?: number | undefined;
  readonly timeoutMs?: number | undefined;
  /** A signal that aborts when a step says so, or that has aborted. */
  readonly signal?: 'later' | 'aborted' | undefined;
}

export type Step =
  | { readonly do: 'prepare'; readonly request: number; readonly as: Preparation }
  /** Prepares and submits. */
  | { readonly do: 'start'; readonly request: number; readonly context: number; readonly as: Preparation }
  | { readonly do: 'submit'; readonly context: number; readonly requests: readonly number[] }
  | { readonly do: 'burst'; readonly context: number; readonly count: number; readonly as: Preparation }
  | { readonly do: 'wait' | 'waitSync'; readonly context: number; readonly options: Wait }
  /** Blocks, while another thread wakes. */
  | { readonly do: 'wokenSync'; readonly context: number }
  /** Until the wait under way has ended. */
  | { readonly do: 'settle' | 'abort' | 'wakeup' | 'wakeFromThread' | 'close' | 'feed'; readonly context: number }
  | { readonly do: 'cancel' | 'transfer' | 'dispose'; readonly request: number }
  /** Of the event loop. */
  | { readonly do: 'turn' };

export interface Schedule {
  readonly contexts: readonly { readonly maxRequests: number; readonly waitWithoutPendingRequests: boolean }[];
  readonly steps: readonly Step[];
  /** How contexts end: drained by waits, or disposed of. */
  readonly dispose: boolean;
}

// ---------------------------------------------------------------------------------------------------------------------
// Arbitraries

const position = fc.oneof(
  { weight: 6, arbitrary: fc.nat({ max: 5 }).map((block) => block * 4096) },
  { weight: 3, arbitrary: fc.nat({ max: FILE_SIZE + 5000 }) },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 30_000n }) },
  { weight: 1, arbitrary: fc.constantFrom(FILE_SIZE, FILE_SIZE - 1, 2 ** 32, 2n ** 53n, 2n ** 62n, 2n ** 63n - 1n) },
);

const length = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(4096, 8192) },
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 6000 }) },
  { weight: 1, arbitrary: fc.constant(0) },
);

const preparation: fc.Arbitrary<Preparation> = fc.record({
  operation: fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom<Operation>('prepareRead', 'prepareReadv') },
    { weight: 4, arbitrary: fc.constantFrom<Operation>('prepareWrite', 'prepareWritev') },
    { weight: 1, arbitrary: fc.constant<Operation>('prepareFlush') },
  ),
  target: fc.oneof(
    { weight: 5, arbitrary: fc.constant<Target>('file') },
    { weight: 5, arbitrary: fc.constantFrom<Target>('direct', 'fifo', 'fifo') },
    { weight: 1, arbitrary: fc.constantFrom<Target>('readOnly', 'writeOnly', 'none') },
  ),
  position,
  lengths: fc.array(length, { minLength: 0, maxLength: 4 }),
  kind: fc.constantFrom<Kind>('allocBuffer', 'pool', 'Buffer', 'part', 'DataView', 'Float64Array', 'shared'),
  dataOnly: fc.boolean(),
});

const options: fc.Arbitrary<Wait> = fc.record({
  min: fc.option(fc.nat({ max: 4 }), { nil: undefined }),
  max: fc.option(fc.nat({ max: 6 }), { nil: undefined, freq: 3 }),
  timeoutMs: fc.option(fc.constantFrom(0, 0, 1, 2.5, 4, -1, Number.NaN), { nil: undefined, freq: 2 }),
  signal: fc.option(fc.constantFrom('later', 'later', 'later', 'aborted'), { nil: undefined, freq: 3 }),
});

const request = fc.nat({ max: REQUESTS - 1 });
const context = fc.nat({ max: 2 });

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('prepare'), request, as: preparation }) },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('start'), request, context, as: preparation }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('submit'),
      context,
      requests: fc.oneof(
        fc.uniqueArray(request, { minLength: 1, maxLength: 4 }),
        fc.array(request, { maxLength: 4 }), // the same twice, now and then
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('burst'),
      context,
      count: fc.integer({ min: 2, max: 60 }),
      as: preparation,
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('wait'), context, options }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('waitSync'), context, options }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wokenSync'), context }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('settle'), context }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('abort', 'wakeup', 'wakeFromThread', 'close', 'feed', 'feed'),
      context,
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('cancel', 'cancel', 'transfer', 'dispose'), request }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('turn') }) },
);

/** Any schedule. */
export const schedules: fc.Arbitrary<Schedule> = fc.record({
  contexts: fc.array(
    fc.record({
      maxRequests: fc.oneof(fc.integer({ min: 1, max: 6 }), fc.constantFrom(17, 64)),
      waitWithoutPendingRequests: fc.boolean(),
    }),
    { minLength: 1, maxLength: 3 },
  ),
  steps: fc.array(step, { minLength: 1, maxLength: 60, size: 'max' }),
  dispose: fc.boolean(),
});

// ---------------------------------------------------------------------------------------------------------------------
// The program

/** What a program is for: the engine by name, or how the simulated disk is made. */
export interface Setting {
  readonly engine: 'io-uring' | 'kernel-aio' | 'threads' | 'simulated';
  /** Of a simulated disk, as TypeScript. */
  readonly disk?: string | undefined;
}

/** Where a program imports the library from. */
export interface Modules {
  readonly main: string;
  readonly sim: string;
}

const published: Modules = { main: 'fileaio', sim: 'fileaio/sim' };

const onDisk = (disk: string): string => `const disk = createSimulatedDisk(${disk});
const engine = disk;
disk.install('/file', content);
disk.install('/direct', content);
disk.install('/slow', content);
const targets = {
  file: disk.openSync('/file', 'r+'),
  readOnly: disk.openSync('/file', 'r'),
  writeOnly: disk.openSync('/file', constants.O_WRONLY),
  direct: disk.openSync('/direct', { flags: 'r+', direct: true }),
  none: 0x7fff_ffff,
};
const fifos = [0, 1, 2].map(() => disk.openSync('/slow', 'r+'));
const feed = (_: number, __: number): void => undefined;
`;

const feeding = `const feed = (context: number, value: number): void =>
  void writeSync(fifos[context] ?? -1, Buffer.alloc(${MESSAGE}, value));
`;

/** node:fs cannot be kept waiting by a request with a position. What can is its pool: full of reads that wait for the next call. */
const gating = `let shut = false;
const feed = (_: number, __: number): void => {
  const fd = fifos[0] ?? -1;
  shut = !shut;
  if (!shut) writeSync(fd, Buffer.alloc(${POOL * MESSAGE}));
  else for (let n = 0; n < ${POOL}; n++) read(fd, Buffer.alloc(${MESSAGE}), 0, ${MESSAGE}, null, () => undefined);
};
`;

const onKernel = (engine: string): string => `const engine = '${engine}';
const directory = mkdtempSync(join(tmpdir(), 'fileaio-schedule-'));
for (const name of ['file', 'direct']) writeFileSync(join(directory, name), content);
const targets = {
  file: openSync(join(directory, 'file'), 'r+'),
  readOnly: openSync(join(directory, 'file'), 'r'),
  writeOnly: openSync(join(directory, 'file'), constants.O_WRONLY),
  direct: openSync(join(directory, 'direct'), constants.O_RDWR | constants.O_DIRECT),
  none: 0x7fff_ffff,
};
const fifos = [0, 1, 2].map((index) => {
  const path = join(directory, \`fifo\${index}\`);
  execFileSync('mkfifo', [path]);
  return openSync(path, constants.O_RDWR${engine === 'kernel-aio' ? ' | constants.O_NONBLOCK' : ''});
});
${engine === 'threads' ? gating : feeding}`;

const PRELUDE = `
const pool = new AlignedPool({ size: 8192, count: 4 });
const make: Record<string, (length: number) => ArrayBufferView> = {
  allocBuffer: (length) => allocBuffer(length),
  pool: (length) => (length <= 8192 ? pool.acquire()?.subarray(0, length) : undefined) ?? allocBuffer(length),
  Buffer: (length) => Buffer.from(new ArrayBuffer(length)),
  part: (length) => new Uint8Array(new ArrayBuffer(length + 77), 33, length),
  DataView: (length) => new DataView(new ArrayBuffer(length + 16), 8, length),
  Float64Array: (length) => new Float64Array(length >> 3),
  shared: (length) => new Uint8Array(new SharedArrayBuffer(length)),
};
/** What can be transferred away, by user data. */
const memories = new Map<number, ArrayBuffer>();
/** Memory as it is asked for, full of one value. */
const memory = (kind: string, length: number, value: number): ArrayBufferView => {
  const view = make[kind]?.(length) ?? Buffer.alloc(length);
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength).fill(value);
  const { buffer } = view;
  const ordinary = ['Buffer', 'part', 'DataView', 'Float64Array'].includes(kind) && buffer instanceof ArrayBuffer;
  if (ordinary && buffer.byteLength > 0 && !memories.has(value)) memories.set(value, buffer);
  return view;
};
/** What came of a call, as one line. */
const shown = (value: unknown): string => {
  if (typeof value !== 'object' || value === null || !('completed' in value)) return String(value);
  const { completed, reason } = value as WaitResult;
  return [reason, ...completed.map((done) => \`\${done.userData}:\${done.status}:\${done.bytesTransferred}\`)].join(' ');
};
const failed = (error: unknown): string => (error as { code?: string }).code ?? String(error);
const show = (line: string, act: () => unknown): void => {
  try {
    console.log(line, shown(act()));
  } catch (error) {
    console.log(line, failed(error));
  }
};
const ended = (promise: Promise<unknown>): Promise<string> => promise.then(shown, failed);
const thread = "const { workerData } = require('node:worker_threads'); import(workerData.main).then(({ wake }) => wake(workerData.waker))";
const wakeFromThread = ({ waker }: AioContext): Promise<unknown> =>
  once(new Worker(thread, { eval: true, workerData: { waker, main: import.meta.resolve(MAIN) } }), 'exit');

const requests = Array.from({ length: ${REQUESTS} }, () => new AioRequest<number>());
`;

/** The beginning of a program. */
function prelude({ engine, disk }: Setting, schedule: Schedule, modules: Modules): string {
  const onWhat = disk === undefined ? onKernel(engine) : onDisk(disk);
  const used = (name: string): boolean => new RegExp(`\\b${name}\\(`).test(onWhat);
  const fs = ['constants', ...['mkdtempSync', 'openSync', 'read', 'writeFileSync', 'writeSync'].filter(used)];
  const kernel = disk === undefined;
  return [
    ...(kernel ? ["import { execFileSync } from 'node:child_process';"] : []),
    "import { once } from 'node:events';",
    `import { ${fs.filter((name) => kernel || name === 'constants').join(', ')} } from 'node:fs';`,
    ...(kernel ? ["import { tmpdir } from 'node:os';", "import { join } from 'node:path';"] : []),
    "import { Worker } from 'node:worker_threads';",
    `import { AioContext, AioRequest, AlignedPool, allocBuffer, type WaitResult } from '${modules.main}';`,
    ...(kernel ? [] : [`import { createSimulatedDisk } from '${modules.sim}';`]),
    '',
    `const MAIN = '${modules.main}';`,
    `const content = Buffer.from(Array.from({ length: ${FILE_SIZE} }, (_, index) => (index * 7919) >> 5));`,
    onWhat + PRELUDE,
    'const contexts = [',
    ...schedule.contexts.map(
      ({ maxRequests, waitWithoutPendingRequests }) =>
        `  new AioContext({ engine, maxRequests: ${maxRequests}, waitWithoutPendingRequests: ${waitWithoutPendingRequests} }),`,
    ),
    '] as const;',
    '',
  ].join('\n');
}

/** A program that does what was done, step by step, and prints what came of it. */
export function programOf(
  setting: Setting,
  schedule: Schedule,
  statements: readonly string[],
  modules: Modules = published,
): string {
  return `${prelude(setting, schedule, modules)}${statements.join('\n')}\n`;
}

/** The content of files, as programs have it. */
export const content = Buffer.from(Array.from({ length: FILE_SIZE }, (_, index) => (index * 7919) >> 5));

function literal(value: number | bigint): string {
  return typeof value === 'bigint' ? `${value}n` : String(value);
}

/** The options of a wait, as they stand in a program. */
export function optionsOf(wait: Wait, signal: string): string {
  const entries = [
    ...(wait.min === undefined ? [] : [`min: ${wait.min}`]),
    ...(wait.max === undefined ? [] : [`max: ${wait.max}`]),
    ...(wait.timeoutMs === undefined ? [] : [`timeoutMs: ${wait.timeoutMs}`]),
    ...(wait.signal === undefined ? [] : [`signal: ${wait.signal === 'aborted' ? 'AbortSignal.abort()' : signal}`]),
  ];
  return entries.length === 0 ? '' : `{ ${entries.join(', ')} }`;
}

/** The call that prepares. `id` is its user data, and the value that fills its memory. */
export function preparing(
  request: string,
  { operation, position, lengths, kind, dataOnly }: Preparation,
  fd: string,
  id: number | string,
): string {
  if (operation === 'prepareFlush') return `${request}.prepareFlush(${fd}, { dataOnly: ${dataOnly} }, ${id})`;
  const buffers = lengths.map((length) => `memory('${kind}', ${length}, ${id})`);
  const what = operation.endsWith('v') ? `[${buffers.join(', ')}]` : buffers[0];
  return `${request}.${operation}(${fd}, ${literal(position)}, ${what}, ${id})`;
}
