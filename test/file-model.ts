/**
 * Calls of `node:fs/promises` as data: fast-check makes sequences of them and makes them smaller, and a world (Node's or this
 * library's) carries them out. What came of each call is data as well, so that two worlds can be compared.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  type PathLike,
  readFileSync,
  readSync,
  rmSync,
  Stats,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import fc from 'fast-check';

// ---------------------------------------------------------------------------------------------------------------------
// Values: what stands in the arguments of a call. Each world makes its own buffers, paths and handles of them.

const viewKinds = {
  Buffer: (store: ArrayBufferLike, offset: number, bytes: number) => Buffer.from(store, offset, bytes),
  Uint8Array: (store: ArrayBufferLike, offset: number, bytes: number) => new Uint8Array(store, offset, bytes),
  Int16Array: (store: ArrayBufferLike, offset: number, bytes: number) => new Int16Array(store, offset, bytes >> 1),
  Float64Array: (store: ArrayBufferLike, offset: number, bytes: number) => new Float64Array(store, offset, bytes >> 3),
  BigUint64Array: (store: ArrayBufferLike, offset: number, bytes: number) =>
    new BigUint64Array(store, offset, bytes >> 3),
  DataView: (store: ArrayBufferLike, offset: number, bytes: number) => new DataView(store, offset, bytes),
};

type ViewKind = keyof typeof viewKinds;

const stores = {
  plain: (bytes: number): ArrayBufferLike => new ArrayBuffer(bytes),
  shared: (bytes: number): ArrayBufferLike => new SharedArrayBuffer(bytes),
  // With a room to grow: the types of this version of JavaScript do not know it yet.
  resizable: (bytes: number): ArrayBufferLike => Reflect.construct(ArrayBuffer, [bytes, { maxByteLength: bytes + 64 }]),
};

type Store = keyof typeof stores;

export type Value =
  | { readonly is: 'plain'; readonly value: unknown }
  /** Memory with canary bytes around it: `lead` before, as many behind. */
  | {
      readonly is: 'view';
      readonly kind: ViewKind;
      readonly store: Store;
      readonly bytes: number;
      readonly lead: number;
      readonly fill: number;
    }
  | { readonly is: 'path'; readonly name: string; readonly as: 'string' | 'Buffer' | 'Uint8Array' | 'URL' }
  | { readonly is: 'object'; readonly entries: Readonly<Record<string, Value>> }
  | { readonly is: 'list'; readonly items: readonly Value[] }
  | { readonly is: 'iterable'; readonly how: Iteration; readonly items: readonly Value[] }
  | { readonly is: 'handle'; readonly slot: number }
  | { readonly is: 'signal'; readonly aborted: boolean };

type Iteration = 'generator' | 'async generator' | 'Set' | 'failing generator' | 'failing async generator';

function text(value: Value): string {
  switch (value.is) {
    case 'plain':
      return inspect(value.value);
    case 'view':
      return `${value.kind}(${value.bytes} bytes of ${value.fill}${value.store === 'plain' ? '' : `, ${value.store}`}, from ${value.lead})`;
    case 'path':
      return `${value.as}(${JSON.stringify(value.name)})`;
    case 'object':
      return `{ ${Object.entries(value.entries)
        .map(([key, entry]) => `${key}: ${text(entry)}`)
        .join(', ')} }`;
    case 'list':
      return `[${value.items.map(text).join(', ')}]`;
    case 'iterable':
      return `${value.how}[${value.items.map(text).join(', ')}]`;
    case 'handle':
      return `handle${value.slot}`;
    case 'signal':
      return value.aborted ? 'an aborted signal' : 'a signal';
  }
}

export const plain = (value: unknown): Value => ({ is: 'plain', value });
export const nothing = plain(undefined);

// ---------------------------------------------------------------------------------------------------------------------
// Calls

/** One call: of a method of the handle in a slot, or of a function of the module. `opens` says where its result goes. */
export class Call {
  readonly on: number | 'module';
  readonly name: string;
  readonly args: readonly Value[];
  readonly opens: number | undefined;

  constructor(on: number | 'module', name: string, args: readonly Value[], opens?: number) {
    this.on = on;
    this.name = name;
    this.args = args;
    this.opens = opens;
  }

  toString(): string {
    const target = this.on === 'module' ? 'fs' : `handle${this.on}`;
    const result = this.opens === undefined ? '' : `handle${this.opens} = `;
    return `${result}${target}.${this.name}(${this.args.map(text).join(', ')})`;
  }
}

/** Steps run one after the other; the calls of one step are started in one tick. */
export class Sequence {
  readonly size: number;
  readonly steps: readonly (readonly Call[])[];

  constructor(size: number, steps: readonly (readonly Call[])[]) {
    this.size = size;
    this.steps = steps;
  }

  /** For fast-check's report. */
  [fc.toStringMethod](): string {
    const steps = this.steps.map((calls) => (calls.length === 1 ? `${calls[0]}` : `together: ${calls.join('; ')}`));
    return `on a file of ${this.size} bytes:\n  ${steps.join('\n  ')}`;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Worlds

/** The functions of `node:fs/promises`, called with whatever the generators think of. */
export type Api = { readonly [name: string]: unknown };

/** What a call came to, in words that are the same for two worlds that behave alike. */
export type Outcome = { readonly threw?: true; readonly error: unknown } | { readonly value: unknown };

/** What a step came to: its calls, the memory that they were given, and where the files stand after it. */
interface Step {
  readonly outcomes: readonly Outcome[];
  readonly memory: readonly Uint8Array[];
  readonly positions: readonly unknown[];
}

/** Random bytes that are the same everywhere. */
export function content(size: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(size);
  let state = seed * 2654435761;
  for (let at = 0; at < size; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

const CANARY = 0xa5;

type Invoke = (target: unknown, name: string, args: readonly unknown[]) => unknown;

/** Calls a method with arguments that its types may forbid. */
export const invokeIt: Invoke = (target, name, args) => {
  const method = property(target, name);
  assert.ok(typeof method === 'function', `there is ${name}`);
  return Reflect.apply(method, target, args);
};

export function property(from: unknown, name: PropertyKey): unknown {
  return (typeof from === 'object' && from !== null) || typeof from === 'function'
    ? Reflect.get(from, name)
    : undefined;
}

/** One implementation with files of its own: names that begin with its letter, in a directory that it shares. */
export class World {
  readonly #api: Api;
  readonly #directory: string;
  readonly #letter: string;
  readonly #invoke: Invoke;
  readonly #opened: unknown[] = [];
  readonly #handles: unknown[] = [];
  #memory: Uint8Array[] = [];

  /** `invoke` makes the calls; it may know better than the method itself what should come of one. */
  constructor(api: Api, directory: string, letter: string, invoke: Invoke = invokeIt) {
    this.#api = api;
    this.#directory = directory;
    this.#letter = letter;
    this.#invoke = invoke;
  }

  path(name: string): string {
    return join(this.#directory, `${this.#letter}-${name}`);
  }

  /** Starts the calls of a step in one tick, waits for all of them, and says what came of each. */
  async step(calls: readonly Call[]): Promise<Step> {
    this.#memory = [];
    const prepared = calls.map((call) => call.args.map((value) => this.#make(value)));
    const running = calls.map((call, index) => this.#start(call, prepared[index] ?? []));
    const outcomes = await Promise.all(running);
    return {
      outcomes,
      memory: this.#memory,
      positions: this.#handles.map((handle) => positionOf(property(handle, 'fd'))),
    };
  }

  async #start(call: Call, args: unknown[]): Promise<Outcome> {
    const target = call.on === 'module' ? this.#api : this.#handles[call.on];
    if (target === undefined) return { value: 'there is no handle' };
    let promise: unknown;
    try {
      promise = this.#invoke(target, call.name, args);
    } catch (error) {
      return { threw: true, error: this.#errorAsData(error) };
    }
    try {
      assert.ok(promise instanceof Promise, `${call.name} gives a promise`);
      const value: unknown = await promise;
      if (call.opens !== undefined) {
        this.#opened.push(value);
        this.#handles[call.opens] = value;
      }
      return { value: this.#valueAsData(value, args) };
    } catch (error) {
      return { error: this.#errorAsData(error) };
    }
  }

  /** Closes what is open. */
  async close(): Promise<void> {
    for (const handle of this.#opened) {
      await invokeIt(handle, 'close', []);
    }
  }

  /** What there is once everything is closed. */
  left(names: readonly string[]): unknown {
    return {
      descriptors: this.#opened.map((handle) => property(handle, 'fd')),
      files: names.map((name) => fileAsData(this.path(name))),
    };
  }

  #make(value: Value): unknown {
    switch (value.is) {
      case 'plain':
        return value.value;
      case 'view': {
        const { bytes, lead } = value;
        const store = stores[value.store](bytes + 2 * lead);
        const all = new Uint8Array(store).fill(CANARY);
        all.set(content(bytes, value.fill), lead);
        this.#memory.push(all);
        return viewKinds[value.kind](store, lead, bytes);
      }
      case 'path': {
        const path = this.path(value.name);
        if (value.as === 'URL') return pathToFileURL(path);
        return value.as === 'string'
          ? path
          : value.as === 'Buffer'
            ? Buffer.from(path)
            : new TextEncoder().encode(path);
      }
      case 'object':
        return Object.fromEntries(Object.entries(value.entries).map(([key, entry]) => [key, this.#make(entry)]));
      case 'list':
        return value.items.map((item) => this.#make(item));
      case 'iterable':
        return iterate(
          value.how,
          value.items.map((item) => this.#make(item)),
        );
      case 'handle': {
        // Given a closed one, Node goes on with descriptor -1, and what comes of that is another thing in each of its versions.
        const handle = this.#handles[value.slot];
        return property(handle, 'fd') === -1 ? undefined : handle;
      }
      case 'signal':
        return value.aborted ? AbortSignal.abort('as intended') : new AbortController().signal;
    }
  }

  #valueAsData(value: unknown, args: readonly unknown[]): unknown {
    if (this.#opened.includes(value)) return { handle: typeof property(value, 'fd') };
    const isStats = value instanceof Stats || property(property(value, 'constructor'), 'name') === 'BigIntStats';
    if (isStats) return statsAsData(value);
    if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
    // A result of a transfer: its memory is compared for itself, here it counts that it is the caller's.
    const given = [...args, ...args.map((argument) => property(argument, 'buffer'))].filter(isObject);
    const entries = Object.entries(value).map(([key, entry]) => [key, given.includes(entry) ? 'as given' : entry]);
    return { prototype: Object.getPrototypeOf(value), entries };
  }

  #errorAsData(error: unknown): unknown {
    if (!(error instanceof Error)) return error;
    const own = Object.fromEntries(
      Object.keys(error)
        .sort()
        .map((key) => [key, this.#neutral(property(error, key))]),
    );
    // Without a code it is a mistake that Node trips over, not one that it looks for: the words are those of the JavaScript engine.
    if (error instanceof TypeError && !('code' in error)) return { kind: 'TypeError' };
    const kind = [TypeError, RangeError, AggregateError].find((type) => error instanceof type)?.name ?? 'Error';
    return { kind, name: error.name, message: this.#neutral(error.message), own, cause: error.cause };
  }

  /** Without what is this world's alone: its letter in paths. */
  #neutral(value: unknown): unknown {
    if (typeof value === 'string') return value.replaceAll(join(this.#directory, `${this.#letter}-`), '…');
    return value;
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Times, inode and device numbers differ from file to file; times that were set with `utimes` show in the comparison at the end. */
function statsAsData(stats: unknown): unknown {
  const compared = ['size', 'mode', 'nlink', 'uid', 'gid', 'rdev'];
  const isFile = property(stats, 'isFile');
  return {
    type: property(property(stats, 'constructor'), 'name'),
    keys: Object.keys(stats as object).sort(),
    times: ['atime', 'mtimeMs', 'ctimeMs', 'birthtime', 'mtimeNs'].map((name) => typeof property(stats, name)),
    file: typeof isFile === 'function' && Reflect.apply(isFile, stats, []),
    ...Object.fromEntries(compared.map((name) => [name, property(stats, name)])),
  };
}

/** The descriptor's own position, as whoever shares it sees it. */
function positionOf(fd: unknown): unknown {
  if (typeof fd !== 'number' || fd < 0) return fd;
  return /^pos:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
}

const MOST = 2 ** 18;

/** Sparse files of petabytes are compared by their size and their first part. */
function fileAsData(path: string): unknown {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined || !found.isFile()) return found?.mode;
  const fd = openSync(path, 'r');
  try {
    const { size, mode, mtimeMs } = found;
    const start = Buffer.alloc(Math.min(size, MOST));
    readSync(fd, start, 0, start.length, 0);
    // Only times that `utimes` set are the same in two worlds: those lie long ago, or far ahead. Not the time of the last look: Node's copyFile
    // does not look into a file that says it is empty, and this library does, because those of /proc say so, too.
    const set = Math.abs(mtimeMs - Date.now()) > 3_600_000 ? mtimeMs : 'now';
    return { size, mode, set, start };
  } finally {
    closeSync(fd);
  }
}

function iterate(how: Iteration, items: readonly unknown[]): unknown {
  const failure = new Error('the iterable failed');
  switch (how) {
    case 'Set':
      return new Set(items);
    case 'generator':
    case 'failing generator':
      return (function* () {
        yield* items;
        if (how === 'failing generator') throw failure;
      })();
    case 'async generator':
    case 'failing async generator':
      return (async function* () {
        for (const item of items) {
          await null;
          yield item;
        }
        if (how === 'failing async generator') throw failure;
      })();
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Node as it is from version 24 on

const [major = 0] = process.versions.node.split('.').map(Number);

/**
 * What Node 24 does, on whatever version runs here.
 *
 * | call | Node 20 | 22 | from 24 on |
 * |---|---|---|---|
 * | `handle.read` at a bigint position | reads at the current position | reads there | reads there |
 * | `handle.read` at a position that is none (`-2`, `1.5`, `'3'`) | reads at the current position | refuses it, after all else | refuses it first |
 * | `readFile` of a directory | does not say its path | as 20 | from 26 on it does |
 * | `copyFile` | keeps the permissions | and the owner and times (libuv 1.49) | as 22 |
 */
export function asNode24(target: unknown, name: string, args: readonly unknown[]): unknown {
  if (keepsNoTimes && name === 'copyFile') return copyWithTimes(target, name, args);
  if (major >= 26 && name === 'readFile') return withoutPath(target, name, args);
  const fd = property(target, 'fd');
  // A closed handle looks at none of its arguments.
  const call = major < 24 && name === 'read' && fd !== undefined && fd !== -1 ? readArguments(args) : undefined;
  if (call === undefined || call.position === undefined || call.position === null) return invokeIt(target, name, args);
  const { position } = call;
  if (Number.isSafeInteger(position) && Number(position) >= -1) return invokeIt(target, name, args);
  if (typeof position === 'bigint' && position >= -1n && position <= Number.MAX_SAFE_INTEGER) {
    return invokeIt(target, name, [call.params({ position: Number(position) })]);
  }
  // What Node looks at before the position has its say first: a read of nothing is refused for that alone.
  return (async () => {
    call.defaults();
    await invokeIt(target, name, [call.params({ position: null, length: 0 })]);
    const most = mostPosition(call.length());
    if (typeof position !== 'bigint' || position < -1n || position > most) throw positionError(position, most);
    // As far beyond every end.
    return invokeIt(target, name, [call.params({ position: Number.MAX_SAFE_INTEGER })]);
  })();
}

/**
 * What Node 26 takes for something else than 24: of the length of a read, given or worked out from the offset, the lower 32 bits; flags that are no
 * 32-bit integer under the name of their option; the encoding 'buffer'; and it looks at the mode where there is nothing to make.
 */
function before26(...choices: unknown[]): unknown[] {
  return major < 26 ? choices : [];
}

const [uvMajor = 0, uvMinor = 0] = (process.versions.uv ?? '2').split('.').map(Number);
const keepsNoTimes = uvMajor === 1 && uvMinor < 49;

/** The copy gets the times of its source before the data, which makes the time of the last change new again. */
async function copyWithTimes(target: unknown, name: string, args: readonly unknown[]): Promise<unknown> {
  const [source, copy] = args as [PathLike, PathLike];
  const stat = (path: unknown) => {
    try {
      return statSync(path as PathLike);
    } catch {
      return undefined; // the call itself will say why
    }
  };
  const before = stat(source);
  const old = stat(copy);
  const value = await invokeIt(target, name, args);
  // With the flags for sharing blocks, the library leaves it to the Node at hand.
  const ours = args[2] === undefined || args[2] === 0 || args[2] === constants.COPYFILE_EXCL;
  if (ours && before !== undefined && before.ino !== old?.ino) {
    utimesSync(copy, before.atimeMs / 1000, (before.size === 0 ? before : statSync(copy)).mtimeMs / 1000);
  }
  return value;
}

async function withoutPath(target: unknown, name: string, args: readonly unknown[]): Promise<unknown> {
  try {
    return await invokeIt(target, name, args);
  } catch (error) {
    const path = property(error, 'path');
    if (!(error instanceof Error) || property(error, 'syscall') !== 'read' || path === undefined) throw error;
    Reflect.deleteProperty(error, 'path');
    error.message = error.message.replace(` '${path}'`, '');
    throw error;
  }
}

interface ReadCall {
  readonly position: unknown;
  /** Makes the mistakes of working out a length from an offset that is no number. */
  defaults(): void;
  length(): number;
  /** The same call in the form of one object, with changes. */
  params(changes: object): object;
}

/** The overloads of `read`; `undefined` for a call that is none of them. */
function readArguments(args: readonly unknown[]): ReadCall | undefined {
  const [first, second, third, fourth] = args;
  const isView = ArrayBuffer.isView(first);
  if (!isView && (typeof first !== 'object' || first === null)) return undefined;
  const given: { buffer?: unknown; offset?: unknown; length?: unknown; position?: unknown } = !isView
    ? first
    : typeof second === 'object' && second !== null
      ? { ...second, buffer: first }
      : { buffer: first, offset: second, length: third, position: fourth };
  const bytes = Number(property(given.buffer, 'byteLength') ?? 16_384);
  // As JavaScript subtracts: a bigint or a symbol is a TypeError.
  const rest = (): number => bytes - ((given.offset ?? 0) as number);
  const inOptions = !isView || (typeof second === 'object' && second !== null);
  return {
    position: given.position,
    defaults: () => void (inOptions && given.length === undefined && rest()),
    length: () => Number(given.length ?? rest()),
    params: (changes) => ({ ...given, ...changes }),
  };
}

/** The end of what is read must be a position, too; where the length is a mistake, its own error comes later. */
function mostPosition(length: number): bigint {
  return 2n ** 63n - 1n - BigInt(length);
}

/** Node 20 makes these errors too, in `readSync`, but for the range of bigints. */
function positionError(position: unknown, most: bigint): unknown {
  if (typeof position === 'bigint') {
    const digits = position.toString().replace(/\B(?=(\d{3})+$)/g, Math.abs(Number(position)) > 2 ** 32 ? '_' : '');
    const range = `It must be >= -1 && <= ${most}. Received ${digits}n`;
    return Object.assign(new RangeError(`The value of "position" is out of range. ${range}`), {
      code: 'ERR_OUT_OF_RANGE',
    });
  }
  const fd = openSync('/dev/null', 'r');
  try {
    readSync(fd, Buffer.alloc(1), 0, 1, position as number);
  } catch (error) {
    return error;
  } finally {
    closeSync(fd);
  }
  return new Error('readSync takes this position');
}

/** Carries a sequence out in both worlds, step by step, and compares after each. `names` are the files that it may leave. */
export async function compare(node: World, other: World, sequence: Sequence, names: readonly string[]): Promise<void> {
  const worlds = [node, other];
  for (const world of worlds) {
    writeFileSync(world.path('file'), content(sequence.size));
    mkdirSync(world.path('directory'));
  }
  try {
    for (const calls of sequence.steps) {
      const expected = await node.step(calls);
      same(relaxed(await other.step(calls), expected), expected, calls.join('; '));
    }
    for (const world of worlds) await world.close();
    same(other.left(names), node.left(names), 'what is left at the end');
  } finally {
    for (const world of worlds) {
      await world.close();
      for (const name of names) rmSync(world.path(name), { recursive: true, force: true });
    }
  }
}

/** Where Node's error has no code, a TypeError that has one, and says what is wrong, is just as good. */
function relaxed(actual: Step, expected: Step): Step {
  const outcomes = actual.outcomes.map((outcome, index) => {
    const [mine, theirs] = [outcome, expected.outcomes[index]].map((each) => property(each, 'error'));
    const stumbled = property(theirs, 'kind') === 'TypeError' && property(theirs, 'own') === undefined;
    return stumbled && property(mine, 'kind') === 'TypeError' ? { error: theirs } : outcome;
  });
  return { ...actual, outcomes };
}

function same(actual: unknown, expected: unknown, what: string): void {
  try {
    assert.deepStrictEqual(actual, expected);
  } catch (error) {
    throw new Error(`${what}: ${error instanceof Error ? error.message : error}`);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Generators. Small and harmless values stand first in each choice: that is where fast-check goes when it makes a sequence smaller.

const one = fc.constantFrom;
const values = (...choices: unknown[]): fc.Arbitrary<Value> => one(...choices.map(plain));
/** Mostly the first, now and then the second. */
const mostly = <T>(usual: fc.Arbitrary<T>, odd: fc.Arbitrary<T>, weight = 9): fc.Arbitrary<T> =>
  fc.oneof({ weight, arbitrary: usual }, { weight: 1, arbitrary: odd });

const few = fc.oneof(fc.nat(48), fc.nat(5000));

function viewOf(bytes: fc.Arbitrary<number>): fc.Arbitrary<Extract<Value, { is: 'view' }>> {
  return fc
    .record({
      kind: one<ViewKind>('Buffer', 'Uint8Array', 'DataView', 'Int16Array', 'Float64Array', 'BigUint64Array'),
      store: mostly(fc.constant<Store>('plain'), one<Store>('shared', 'resizable')),
      bytes,
      lead: one(0, 3, 64),
      fill: fc.integer({ min: 1, max: 200 }),
    })
    .map(({ lead, ...view }) => {
      const bytewise = view.kind === 'Buffer' || view.kind === 'Uint8Array' || view.kind === 'DataView';
      return { is: 'view', ...view, lead: bytewise ? lead : lead & ~7 };
    });
}

const view = viewOf(few);

/** How many bytes are in a view: typed arrays take whole elements. */
function bytesOf({ kind, bytes }: Extract<Value, { is: 'view' }>): number {
  return viewKinds[kind](new ArrayBuffer(bytes), 0, bytes).byteLength;
}

const nonsense = values('text', 5, true, {}, [], Symbol('symbol'), 1n, new ArrayBuffer(8));

const goodPosition = fc.oneof(
  { weight: 5, arbitrary: fc.nat(12_000).map(plain) },
  { weight: 3, arbitrary: values(null, undefined, -1) },
  { weight: 2, arbitrary: fc.nat(12_000).map((at) => plain(BigInt(at))) },
);
/** Far beyond the end, and what is no position. */
const oddPosition = values(
  // As far as numbers go, less what is written there and behind it.
  ...[-1n, 2 ** 31, 2 ** 32 + 5, Number.MAX_SAFE_INTEGER - 2 ** 20, -2, -2n, -(2 ** 31), 1.5, Number.NaN],
  ...[Number.POSITIVE_INFINITY, 2 ** 53, 2n ** 63n, -(2n ** 63n), 2n ** 64n, '3', '', true, {}, [], Symbol('position')],
);
const position = mostly(goodPosition, oddPosition, 6);

interface Part {
  readonly view: Extract<Value, { is: 'view' }>;
  readonly offset: Value;
  readonly length: Value;
  readonly position: Value;
}

/** A view and a part of it, mostly one that is there. */
function partOf(oddLengths: readonly unknown[]): fc.Arbitrary<Part> {
  return fc
    .record({
      view,
      from: fc.nat(),
      count: fc.nat(),
      oddOffset: mostly<Value | undefined>(
        fc.constant(undefined),
        values(
          ...[undefined, null, -1, 5001, ...before26(2 ** 31, 2 ** 32)],
          ...[1.5, Number.NaN, '1', true, 1n, Symbol('offset')],
        ),
      ),
      oddLength: mostly<Value | undefined>(fc.constant(undefined), values(...oddLengths), 6),
      position,
    })
    .map(({ view, from, count, oddOffset, oddLength, position }) => {
      const bytes = bytesOf(view);
      const offset = from % (bytes + 1);
      const length = count % (bytes - offset + 1);
      return { view, offset: oddOffset ?? plain(offset), length: oddLength ?? plain(length), position };
    });
}

function object(entries: Readonly<Record<string, Value>>): Value {
  return { is: 'object', entries };
}

/** Any of these keys, or none of them. */
function options(model: Readonly<Record<string, fc.Arbitrary<Value>>>): fc.Arbitrary<Value> {
  return fc.record(model, { requiredKeys: [] }).map((entries) => object(entries as Record<string, Value>));
}

const calls = (name: string, args: fc.Arbitrary<readonly Value[]>): fc.Arbitrary<Call> =>
  fc.record({ slot: mostly(fc.constant(0), fc.constant(1)), args }).map(({ slot, args }) => new Call(slot, name, args));

/** A part as arguments: one by one (the last of them may be missing), or as options, some of them. */
function partAsArguments(part: fc.Arbitrary<Part>): fc.Arbitrary<readonly Value[]> {
  return fc
    .record({ part, how: one('arguments', 'arguments', 'options'), count: one(4, 4, 4, 3, 2, 1), kept: fc.nat(7) })
    .map(({ part: { view, offset, length, position }, how, count, kept }) => {
      if (how === 'arguments') return [view, offset, length, position].slice(0, count);
      return [view, some({ offset, length, position }, kept)];
    });
}

/** Those entries whose bit is set. */
function some(entries: Readonly<Record<string, Value>>, bits: number): Value {
  return object(Object.fromEntries(Object.entries(entries).filter((_, index) => (bits & (1 << index)) !== 0)));
}

// What is no integer is left out of `length` where Node ends the process over it (a failed CHECK in its C++).
const readPart = partOf([undefined, null, 0, -1, 5001, ...before26(2 ** 31, 2 ** 32)]);
const writePart = partOf([undefined, null, 0, -1, 5001, 2 ** 31, 2 ** 32, 1.5, Number.NaN, '4', true, {}, 1n]);

const read = calls(
  'read',
  fc.oneof(
    { weight: 8, arbitrary: partAsArguments(readPart) },
    {
      weight: 3,
      arbitrary: fc
        .record({ part: readPart, kept: fc.nat(15) })
        .map(({ part: { view, offset, length, position }, kept }) => [
          some({ buffer: view, position, offset, length }, kept),
        ]),
    },
    { weight: 1, arbitrary: one<readonly Value[]>([], [nothing], [plain(null)]) },
    { weight: 1, arbitrary: nonsense.map((value) => [value]) },
    { weight: 1, arbitrary: nonsense.map((buffer) => [object({ buffer })]) },
  ),
);

const encoding = fc.oneof(
  {
    weight: 6,
    arbitrary: values('utf8', 'latin1', 'hex', 'base64', 'base64url', 'ucs2', 'ascii', 'binary', 'utf-16le'),
  },
  { weight: 1, arbitrary: values(undefined, null, ...before26('buffer'), 'UTF-8', 'nope', '', 5, {}) },
);
const string = fc
  .oneof(fc.string({ maxLength: 40 }), fc.string({ unit: 'binary', maxLength: 300 }), one('', 'abcd', 'abc', 'é\ud800'))
  .map(plain);

const write = calls(
  'write',
  fc.oneof(
    { weight: 8, arbitrary: partAsArguments(writePart) },
    {
      weight: 4,
      arbitrary: fc
        .record({ string, position, encoding, count: one(1, 2, 3) })
        .map(({ string, position, encoding, count }) => [string, position, encoding].slice(0, count)),
    },
    { weight: 1, arbitrary: values(undefined, null, 5, true, {}, [], ['x'], 1n, new ArrayBuffer(0)).map((x) => [x]) },
  ),
);

const segments = fc.array(viewOf(fc.nat(700)), { maxLength: 6 }).map((items): Value => ({ is: 'list', items }));
const vectors = mostly(
  segments,
  fc.oneof(
    values(undefined, null, 'text', 5, {}, [5], ['text'], [null]),
    view,
    fc.array(mostly<Value>(view, nonsense, 2), { maxLength: 3 }).map((items): Value => ({ is: 'list', items })),
  ),
);
const vectored = fc
  .record({ vectors, position, count: one(2, 2, 1) })
  .map(({ vectors, position, count }) => [vectors, position].slice(0, count));

const signal = one<Value>({ is: 'signal', aborted: false }, { is: 'signal', aborted: true });
const oddOptions = values(null, undefined, 5, true, Symbol('options'), 1n, 'nope', '', new Date(0));

const readFileOptions = fc.oneof(
  { weight: 4, arbitrary: fc.oneof(fc.constant(nothing), encoding) },
  { weight: 4, arbitrary: options({ encoding }) },
  { weight: 2, arbitrary: options({ encoding, flag: values('r', 'r+', 'a+', undefined, null, 'zz', 0, 1.5), signal }) },
  { weight: 1, arbitrary: options({ signal: values(null, undefined, 5, {}, 'text') }) },
  { weight: 1, arbitrary: oddOptions },
);

const fileFlags = values(
  ...['r', 'r+', 'w', 'w+', 'a', 'a+', 'rs', 'sr', 'rs+', 'sr+', 'wx', 'xw', 'wx+', 'xw+', 'ax', 'xa', 'ax+', 'xa+'],
  ...['as', 'sa', 'as+', 'sa+', undefined, null, constants.O_RDWR | constants.O_CREAT, constants.O_WRONLY],
  ...[constants.O_WRONLY | constants.O_APPEND, constants.O_RDONLY | constants.O_DIRECTORY],
);
// No objects: `open` takes its own options there.
const oddFlags = values('', 'zz', 'R', 'w ', ...before26(1.5, 2 ** 32), true, 1n, Symbol('flags'));
const mode = mostly(
  values(undefined, null, 0o600, 0o644, 0o666, '600', '0644'),
  values(...before26('8', '', -1, 2 ** 32, 1.5, {}, true), 0o640),
);

const data: fc.Arbitrary<Value> = fc.oneof(
  { weight: 4, arbitrary: string },
  { weight: 4, arbitrary: view },
  {
    weight: 3,
    arbitrary: fc.record({
      is: fc.constant('iterable' as const),
      how: one<Iteration>('generator', 'async generator', 'Set', 'failing generator', 'failing async generator'),
      items: fc.array(mostly<Value>(fc.oneof(string, viewOf(fc.nat(300))), nonsense, 20), { maxLength: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: values(undefined, null, 5, true, {}, ['one', 'two'], 1n, Symbol('data'), new ArrayBuffer(8)),
  },
);
const writeFileOptions = fc.oneof(
  { weight: 4, arbitrary: fc.constant(nothing) },
  { weight: 2, arbitrary: encoding },
  { weight: 3, arbitrary: options({ encoding, flag: fileFlags, mode }) },
  { weight: 1, arbitrary: options({ encoding, mode, flag: mostly(fileFlags, oddFlags, 3), signal }) },
  { weight: 1, arbitrary: options({ flush: values(true, false, undefined, null, 1, 'yes') }) },
  { weight: 1, arbitrary: oddOptions },
);

/** Calls of a handle that leave a small file small. */
const modest: fc.WeightedArbitrary<Call>[] = [
  { weight: 2, arbitrary: calls('readFile', fc.tuple(readFileOptions)) },
  { weight: 2, arbitrary: calls('writeFile', fc.tuple(data, writeFileOptions)) },
  { weight: 2, arbitrary: calls('appendFile', fc.tuple(data, writeFileOptions)) },
  { weight: 1, arbitrary: calls('sync', fc.constant([])) },
  { weight: 1, arbitrary: calls('datasync', fc.constant([])) },
  {
    weight: 1,
    arbitrary: calls(
      'stat',
      one<readonly Value[]>([], [nothing], ...[true, false, 1].map((bigint) => [object({ bigint: plain(bigint) })])),
    ),
  },
  { weight: 1, arbitrary: calls('chmod', mostly<readonly Value[]>(fc.tuple(mode), fc.constant([]))) },
  { weight: 1, arbitrary: calls('chown', fc.tuple(values(-1, '0', 1.5, -2, undefined), values(-1, null, 2 ** 32))) },
  {
    weight: 1,
    arbitrary: calls(
      'utimes',
      fc.tuple(
        values(0, 1e9, '1000000000', new Date(1e12), 1e9 + 0.5, -1, 'x', Number.NaN, null),
        values(0, 1.2e9, '1200000000', new Date(1.2e12), new Date(Number.NaN), undefined, {}),
      ),
    ),
  },
  { weight: 1, arbitrary: calls('close', fc.constant([])) },
];

const truncate = calls(
  'truncate',
  fc.oneof(
    { weight: 6, arbitrary: fc.nat(12_000).map((length) => [plain(length)]) },
    { weight: 1, arbitrary: fc.constant([]) },
    {
      weight: 2,
      arbitrary: fc.tuple(
        values(undefined, -1, 2 ** 31 + 5, Number.MAX_SAFE_INTEGER, 2 ** 53, 1.5, Number.NaN, null, '1', {}, 1n),
      ),
    },
  ),
);

const anyCall = fc.oneof(
  { weight: 12, arbitrary: read },
  { weight: 10, arbitrary: write },
  { weight: 4, arbitrary: calls('readv', vectored) },
  { weight: 4, arbitrary: calls('writev', vectored) },
  { weight: 2, arbitrary: truncate },
  ...modest,
);

/** Reads at positions of their own: in whatever order they run, the result is the same. */
const positionalRead = fc
  .record({ view: viewOf(fc.integer({ min: 1, max: 5000 })), at: fc.nat(12_000), vector: fc.boolean() })
  .map(({ view, at, vector }) =>
    vector
      ? new Call(0, 'readv', [{ is: 'list', items: [view] }, plain(at)])
      : new Call(0, 'read', [view, object({ position: plain(at) })]),
  );

const SLOT = 512;

/** Writes to places that do not touch: the n-th goes to the n-th slot. */
const positionalWrites = fc
  .array(fc.record({ view: viewOf(fc.integer({ min: 1, max: SLOT })), vector: fc.boolean() }), {
    minLength: 2,
    maxLength: 8,
  })
  .map((writes) =>
    writes.map(({ view, vector }, slot) =>
      vector
        ? new Call(0, 'writev', [{ is: 'list', items: [view, view] }, plain(2 * slot * SLOT)])
        : new Call(0, 'write', [view, plain(0), nothing, plain(2 * slot * SLOT)]),
    ),
  );

/** Calls that are started in one tick. */
const together = fc.oneof(
  fc.array(positionalRead, { minLength: 2, maxLength: 6 }),
  positionalWrites,
  // What is in flight is waited for, and what begins while it is finds the handle open.
  fc
    .tuple(fc.array(positionalRead, { maxLength: 3 }), one(1, 2), fc.array(positionalRead, { maxLength: 2 }))
    .map(([before, closes, after]) => [
      ...before,
      ...Array.from({ length: closes }, () => new Call(0, 'close', [])),
      ...after,
    ]),
);

const step = fc.oneof({ weight: 8, arbitrary: anyCall.map((call) => [call]) }, { weight: 1, arbitrary: together });

const path = (...names: string[]): fc.Arbitrary<Value> =>
  fc.record({
    is: fc.constant('path' as const),
    name: one(...names),
    as: one('string', 'Buffer', 'URL', 'Uint8Array'),
  });

const usualFlags = values('r+', 'r+', 'r+', 'w+', 'a+', 'r', 'w', 'a', 'rs+', 'as', constants.O_RDWR);

/** Calls of one handle, or two on one file. */
export const handleSequences: fc.Arbitrary<Sequence> = fc
  .record({
    size: fc.oneof(one(0, 1, 511, 512, 4096), fc.nat(9000)),
    flags: usualFlags,
    second: mostly(fc.constant<Value | undefined>(undefined), usualFlags, 3),
    steps: fc.array(step, { minLength: 1, maxLength: 10 }),
  })
  .map(({ size, flags, second, steps }) => {
    const file: Value = { is: 'path', name: 'file', as: 'string' };
    const opens = [[new Call('module', 'open', [file, flags], 0)]];
    if (second !== undefined) opens.push([new Call('module', 'open', [file, second], 1)]);
    // Appending writes go to the end, one behind the other: in which order is anybody's guess when they start together.
    const appends = flags.is === 'plain' && String(flags.value).startsWith('a');
    const apart = (calls: readonly Call[]): boolean => appends && calls.some((call) => call.name.startsWith('write'));
    return new Sequence(size, [
      ...opens,
      ...steps.flatMap((calls) => (apart(calls) ? calls.map((call) => [call]) : [calls])),
    ]);
  });

/** What `handleSequences` may leave behind. */
export const handleNames = ['file', 'directory'];

const somePath = mostly(
  path('file', 'file', 'other', 'new'),
  fc.oneof(
    path('missing', 'missing/new', 'directory', 'file/under'),
    values(
      '',
      'with\0null',
      Buffer.from('with\0null'),
      new URL('http://host/x'),
      new URL('file://host/x'),
      5,
      null,
      {},
    ),
  ),
  5,
);
const target = mostly(somePath, one<Value>({ is: 'handle', slot: 0 }, { is: 'handle', slot: 1 }), 4);

const moduleCall = (name: string, args: fc.Arbitrary<readonly Value[]>): fc.Arbitrary<Call> =>
  args.map((given) => new Call('module', name, given));

const moduleStep = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .record({ somePath, flags: mostly(fileFlags, oddFlags), mode, count: one(2, 3, 1), slot: one(0, 1) })
      .map(
        ({ somePath, flags, mode, count, slot }) =>
          new Call('module', 'open', [somePath, flags, mode].slice(0, count), slot),
      ),
  },
  { weight: 4, arbitrary: moduleCall('readFile', fc.tuple(target, readFileOptions)) },
  { weight: 5, arbitrary: moduleCall('writeFile', fc.tuple(target, data, writeFileOptions)) },
  { weight: 4, arbitrary: moduleCall('appendFile', fc.tuple(target, data, writeFileOptions)) },
  {
    weight: 4,
    arbitrary: moduleCall(
      'copyFile',
      mostly<readonly Value[]>(
        fc.tuple(somePath, somePath, mostly(values(undefined, 0, 1, 2, 3), values(null, 4, -1, 8, 1.5, '1', {}))),
        fc.tuple(somePath),
      ),
    ),
  },
  { weight: 2, arbitrary: read },
  ...modest,
);

/** Functions of the module on a few files, and handles of them. */
export const moduleSequences: fc.Arbitrary<Sequence> = fc
  .record({
    size: fc.oneof(one(0, 1, 4096), fc.nat(9000)),
    steps: fc.array(moduleStep, { minLength: 1, maxLength: 8 }),
  })
  .map(
    ({ size, steps }) =>
      new Sequence(
        size,
        steps.map((call) => [call]),
      ),
  );

/** What `moduleSequences` may leave behind. */
export const moduleNames = ['file', 'other', 'new', 'directory', 'missing'];

const BLOCK = 4096;
const blocks = fc.integer({ min: 1, max: 4 }).map((count) => count * BLOCK);
const blockPosition = fc.nat(6).map((block) => plain(block * BLOCK));

/** Calls that a direct handle answers as a buffered one does: any read, and writes whose position and length are whole blocks. */
const directCall = fc.oneof(
  { weight: 10, arbitrary: read },
  { weight: 4, arbitrary: calls('readv', vectored) },
  {
    weight: 6,
    arbitrary: calls(
      'write',
      fc
        .record({ view: viewOf(blocks), blockPosition })
        .map(({ view, blockPosition }) => [view, nothing, nothing, blockPosition]),
    ),
  },
  {
    weight: 4,
    arbitrary: calls(
      'writev',
      fc
        .record({ parts: fc.array(viewOf(fc.nat(3000)), { maxLength: 4 }), blockPosition, fill: fc.nat(200) })
        .map(({ parts, blockPosition, fill }) => {
          // The last segment makes whole blocks of the others.
          const bytes = parts.reduce((sum, part) => sum + bytesOf(part), 0);
          const last: Value = {
            is: 'view',
            kind: 'Buffer',
            store: 'plain',
            bytes: BLOCK - (bytes % BLOCK),
            lead: 3,
            fill: fill + 1,
          };
          return [{ is: 'list', items: [...parts, last] }, blockPosition];
        }),
    ),
  },
  { weight: 2, arbitrary: truncate },
  ...modest,
);

/** Calls of a direct handle, beside which a buffered one does the same. */
export const directSequences: fc.Arbitrary<Sequence> = fc
  .record({
    size: fc.oneof(one(0, 1, 511, 512, 4096, 8192), fc.nat(20_000)),
    flags: values('r+', 'w+', 'r'),
    steps: fc.array(
      fc.oneof(
        { weight: 8, arbitrary: directCall.map((call) => [call]) },
        { weight: 1, arbitrary: fc.array(positionalRead, { minLength: 2, maxLength: 6 }) },
      ),
      { minLength: 1, maxLength: 10 },
    ),
  })
  .map(
    ({ size, flags, steps }) =>
      new Sequence(size, [
        [new Call('module', 'open', [{ is: 'path', name: 'file', as: 'string' }, flags], 0)],
        ...steps,
      ]),
  );
