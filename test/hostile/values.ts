/** Values that no function asks for: each with words for it, for whoever reads of a failure. */
import { inspect } from 'node:util';
import type { Choices } from './random.ts';

/** A value, and what it is. */
export interface Given {
  readonly value: unknown;
  readonly label: string;
}

/** What hostile code throws. To get it back is no failure. */
export class Hostility extends Error {
  override readonly name = 'Hostility';
}

export function hostility(): never {
  throw new Hostility('thrown by hostile code');
}

function given(value: unknown, label = inspect(value, { depth: 0, breakLength: Infinity })): Given {
  return { value, label: label.length > 60 ? `${label.slice(0, 57)}...` : label };
}

/**
 * Numbers that could be descriptors of this process, 0 to 4,095, are left out but for 0, which is /dev/null: a call that takes one would
 * do to it what it is asked for.
 */
const numbers = [
  0,
  -0,
  Number.NaN,
  Infinity,
  -Infinity,
  -1,
  -2,
  0.5,
  -0.5,
  4096,
  4097,
  8191.5,
  65_536,
  2 ** 20,
  2 ** 24 + 1,
  2 ** 31 - 1,
  2 ** 31,
  -(2 ** 31),
  2 ** 32 - 1,
  2 ** 32,
  2 ** 32 + 1,
  2 ** 40,
  2 ** 52,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 53 + 2,
  -(2 ** 53),
  1e21,
  1e308,
  5e-324,
];

const bigints = [
  0n,
  -1n,
  4096n,
  2n ** 31n,
  2n ** 32n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n,
  -(2n ** 63n),
  10n ** 400n,
];

const strings = [
  '',
  'f',
  '\0',
  'a\0b',
  'utf8',
  'hex',
  'buffer',
  'latin1',
  'r',
  'r+',
  'w',
  'a+',
  'zz',
  'auto',
  'io-uring',
  'threads',
  'kernel-aio',
  'simulated',
  'no-engine',
  '\ud800',
  'x'.repeat(5000),
  '__proto__',
  'constructor',
  '0',
  '9007199254740993',
  '0777',
  '-1',
  '[object Object]',
];

function detached(): ArrayBuffer {
  const store = new ArrayBuffer(4096);
  structuredClone(store, { transfer: [store] });
  return store;
}

function lost<T extends ArrayBufferView>(make: (store: ArrayBuffer) => T): T {
  const store = new ArrayBuffer(4096);
  const view = make(store);
  structuredClone(store, { transfer: [store] });
  return view;
}

function resizable(bytes: number, most: number): ArrayBuffer {
  return Reflect.construct(ArrayBuffer, [bytes, { maxByteLength: most }]);
}

/** A view that tracks the length of its memory, or that the memory has shrunk away from. */
function shrunk(tracking: boolean): Uint8Array {
  const store = resizable(4096, 8192);
  const view = tracking ? new Uint8Array(store) : new Uint8Array(store, 2048, 2048);
  (store as { resize?(bytes: number): void }).resize?.(1024);
  return view;
}

function growable(): SharedArrayBuffer {
  return Reflect.construct(SharedArrayBuffer, [4096, { maxByteLength: 8192 }]);
}

function liar(entries: Record<string, unknown>): Uint8Array {
  return Object.defineProperties(
    new Uint8Array(64),
    Object.fromEntries(Object.entries(entries).map(([name, value]) => [name, { value }])),
  );
}

/** What its accessors throw is thrown by hostile code. */
function careful(target: object): object {
  return new Proxy(target, {
    get(of, key, receiver) {
      try {
        return Reflect.get(of, key, receiver);
      } catch {
        return hostility();
      }
    },
  });
}

class Subclass extends Uint8Array {
  override get byteLength(): number {
    return 2 ** 20;
  }
  override get length(): number {
    return 2 ** 20;
  }
}

/** Views of memory that somebody took away, that changes, that is somebody else's, or that lie. */
export const views: readonly (() => Given)[] = [
  () =>
    given(
      lost((store) => new Uint8Array(store)),
      'detached Uint8Array',
    ),
  () =>
    given(
      lost((store) => Buffer.from(store)),
      'detached Buffer',
    ),
  () =>
    given(
      lost((store) => new DataView(store)),
      'detached DataView',
    ),
  () =>
    given(
      lost((store) => new DataView(store, 8, 0)),
      'detached empty DataView',
    ),
  () => given(new Uint8Array(resizable(4096, 8192)), 'resizable Uint8Array'),
  () => given(new DataView(resizable(4096, 8192)), 'resizable DataView'),
  () => given(shrunk(true), 'shrunk Uint8Array'),
  () => given(shrunk(false), 'Uint8Array out of bounds'),
  () => given(new Uint8Array(growable()), 'growable shared Uint8Array'),
  () => given(new Uint8Array(new SharedArrayBuffer(4096)), 'shared Uint8Array'),
  () => given(new Uint8Array(0), 'empty Uint8Array'),
  () => given(new DataView(new ArrayBuffer(64), 3, 7), 'DataView'),
  () => given(new BigInt64Array(4), 'BigInt64Array'),
  () => given(new Float64Array(100), 'Float64Array'),
  () => given(new Subclass(8), 'Uint8Array with an overridden length'),
  () => given(liar({ byteLength: 2 ** 20, length: 2 ** 20 }), 'Uint8Array that lies about its length'),
  () => given(liar({ byteOffset: 2 ** 20 }), 'Uint8Array that lies about its offset'),
  () => given(liar({ byteLength: -1 }), 'Uint8Array with a negative length'),
  () => given(liar({ buffer: new ArrayBuffer(2 ** 16) }), 'Uint8Array that lies about its memory'),
  () => given(liar({ buffer: null }), 'Uint8Array without memory'),
  () => given(careful(Object.create(Uint8Array.prototype)), 'object that poses as Uint8Array'),
  () => given(careful(new Uint8Array(64)), 'proxy of a Uint8Array'),
  () => given(Object.freeze(Buffer.alloc(0)), 'frozen empty Buffer'),
  () => given(Object.preventExtensions(new Uint8Array(10)), 'sealed Uint8Array'),
  () => given(new ArrayBuffer(64), 'ArrayBuffer'),
  () => given(detached(), 'detached ArrayBuffer'),
  () => given(growable(), 'growable SharedArrayBuffer'),
];

const traps = [
  'get',
  'has',
  'ownKeys',
  'getOwnPropertyDescriptor',
  'getPrototypeOf',
  'set',
  'defineProperty',
  'deleteProperty',
  'apply',
  'construct',
  'isExtensible',
  'preventExtensions',
  'setPrototypeOf',
] as const;

const hostileHandler: ProxyHandler<object> = Object.fromEntries(traps.map((trap) => [trap, hostility]));

function revoked(target: object): object {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

/** Things with traps. `act` is called by whoever falls into one: it does something, and gives back a value. */
const trapped: readonly ((act: () => unknown) => Given)[] = [
  () => given(new Proxy({}, hostileHandler), 'proxy whose every trap throws'),
  () => given(new Proxy([], hostileHandler), 'proxy of an array whose every trap throws'),
  () => given(new Proxy(() => 0, hostileHandler), 'proxy of a function whose every trap throws'),
  () => given(revoked({}), 'revoked proxy'),
  () => given(revoked([]), 'revoked proxy of an array'),
  () =>
    given(
      revoked(() => 0),
      'revoked proxy of a function',
    ),
  (act) => given(new Proxy({}, { get: act }), 'proxy whose every property acts'),
  (act) => given(new Proxy({}, { has: () => true, get: act }), 'proxy that has everything'),
  (act) =>
    given(
      new Proxy([0, 0], {
        get(target, key) {
          if (key === 'length') act();
          return Reflect.get(target, key);
        },
      }),
      'array whose length acts',
    ),
  (act) => given(Object.defineProperty([1, 2, 3], 1, { get: act }), 'array with an element that acts'),
  (act) => given(Object.assign([], { [Symbol.iterator]: act }), 'array whose iterator acts'),
  (act) => given({ valueOf: act, toString: act, [Symbol.toPrimitive]: act }, 'object whose conversions act'),
  () => given({ [Symbol.toPrimitive]: hostility }, 'object whose conversion throws'),
  () => given({ toString: hostility, valueOf: hostility }, 'object that nobody can print'),
  () =>
    given(
      {
        get constructor() {
          return hostility();
        },
      },
      'object whose constructor throws',
    ),
  () => given({ constructor: { name: Symbol('name') } }, 'object whose constructor has a symbol for a name'),
  () =>
    given(
      Object.assign(() => 0, {}),
      'arrow function',
    ),
  () =>
    given(
      Object.defineProperty(() => 0, 'name', { value: Symbol('name') }),
      'function with a symbol for a name',
    ),
  () =>
    given(
      Object.defineProperty(() => 0, 'name', { get: hostility }),
      'function whose name throws',
    ),
  () => given({ [Symbol.for('nodejs.util.inspect.custom')]: hostility }, 'object whose inspection throws'),
  () => given(Object.assign(Object.create(null), { [Symbol.toStringTag]: 'x' }), 'object without a prototype'),
  () => given(Object.defineProperty({}, 'then', { value: hostility }), 'thenable whose then throws'),
  () =>
    given(Object.defineProperty({}, 'then', { value: (resolve: (value: unknown) => void) => resolve(1) }), 'thenable'),
  () => given({ [Symbol.iterator]: hostility }, 'iterable that throws'),
  () => given({ [Symbol.asyncIterator]: hostility }, 'async iterable that throws'),
  () =>
    given(
      { [Symbol.iterator]: () => ({ next: () => ({ done: false }), return: hostility }), once: 1 },
      'iterable of undefined',
    ),
  () =>
    given(
      {
        *[Symbol.iterator]() {
          yield 'text';
          yield 7;
        },
      },
      'iterable of text and a number',
    ),
  (act) =>
    given(
      {
        async *[Symbol.asyncIterator]() {
          yield 'text';
          yield act();
        },
      },
      'async iterable that acts',
    ),
];

const plain: readonly (() => Given)[] = [
  () => given(undefined),
  () => given(null),
  () => given(true),
  () => given(false),
  () => given(Symbol('hostile')),
  () => given(Symbol.iterator),
  () => given([]),
  () => given([1, 2]),
  () => given([[]], 'array in an array'),
  () => given(new Array(2 ** 32 - 1), 'array of 2^32 - 1 holes'),
  () => given(new Array(100_000).fill(undefined), 'array of 100,000 times nothing'),
  () => given(new Array(3), 'array of 3 holes'),
  () => given(Object.freeze([]), 'frozen array'),
  () => given(new Array(5000).fill(new Uint8Array(8)), '5,000 times one view'),
  () => given({}),
  () => given(Object.freeze({}), 'frozen object'),
  () => given(Object.create(null), 'object of nothing'),
  () => given(() => undefined, 'function'),
  () => given(async () => undefined, 'async function'),
  () => given(class {}, 'class'),
  () => given(new Date(Number.NaN), 'invalid Date'),
  () => given(new Date(0), 'Date'),
  () => given(/x/, 'RegExp'),
  () => given(new Map([[1, 2]]), 'Map'),
  () => given(new WeakSet(), 'WeakSet'),
  () => given(new Error('an error'), 'Error'),
  () => given(Promise.resolve(7), 'Promise'),
  () => given(new URL('http://localhost/'), 'URL of http'),
  () => given(Object(1n), 'BigInt object'),
  () => given(new Number(4096), 'Number object'),
  () => given(new String('f'), 'String object'),
  () => given(globalThis, 'globalThis'),
  () => given(AbortSignal.abort(), 'aborted signal'),
  () => given(Object.create(AbortSignal.prototype), 'object that poses as a signal'),
  () =>
    given(
      { aborted: false, addEventListener: () => undefined, removeEventListener: () => undefined },
      'plain object as a signal',
    ),
  () => given({ aborted: true, reason: 1 }, 'plain object as an aborted signal'),
  () => given({ aborted: false, addEventListener: hostility }, 'signal whose addEventListener throws'),
];

/** Any of them. `act` is what traps do: see there. */
export function hostile(choices: Choices, act: () => unknown): Given {
  switch (choices.below(8)) {
    case 0:
    case 1:
      return given(choices.of(numbers));
    case 2:
      return given(choices.of(bigints));
    case 3:
      return given(choices.of(strings));
    case 4:
      return choices.of(views)();
    case 5:
      return choices.of(trapped)(act);
    default:
      return choices.of(plain)();
  }
}
