/**
 * Every public function and method, with what its arguments are to be. Which there are is asked of the modules: one that is not in this
 * table, or that is not there any more, is a failure.
 */
import * as nodeFs from 'node:fs';
import * as nodePromises from 'node:fs/promises';
import { Readable, Writable } from 'node:stream';
import * as fs from '../../src/fs.ts';
import * as main from '../../src/index.ts';
import * as promises from '../../src/promises.ts';
import * as sim from '../../src/sim.ts';
import type { Choices } from './random.ts';
import { type Given, hostile, views } from './values.ts';

/** What stands in place of an argument: something right or nearly so. Hostile values are put in its place now and then. */
export type Role = (world: World, choices: Choices) => unknown;

/** What calls are made on. */
export interface World {
  /** What hostile code does when it is called. */
  readonly act: () => unknown;
  readonly contexts: readonly main.AioContext[];
  readonly requests: readonly main.AioRequest[];
  readonly pools: readonly main.AlignedPool[];
  readonly handles: readonly promises.FileHandle[];
  readonly disks: readonly sim.SimulatedDisk[];
  readonly streams: readonly (fs.ReadStream | fs.WriteStream)[];
  readonly signals: readonly AbortController[];
  /** Open descriptors, in numbers so high that nothing else gets them. */
  readonly fds: readonly number[];
  readonly diskFds: readonly number[];
  /** To be called back with an error or without: judges it. */
  readonly callback: () => (...results: unknown[]) => void;
}

/** Names in the working directory, which is there for this. */
const names = ['f0', 'f1', 'f2', 'f3', 'directory', 'directory/g', 'missing/h'];

const is =
  <T>(...values: readonly T[]): Role =>
  (_, choices) =>
    choices.of(values);

const path: Role = (_, choices) => {
  const name = choices.of(names);
  return choices.chance(0.8) ? name : choices.of([Buffer.from(name), `./${name}`, new Uint8Array(Buffer.from(name))]);
};
const diskPath = is('/f', '/f', '/g', '/d', '/d/h', 'relative', '/f/under', '');
const fd: Role = ({ fds }, choices) => choices.of(fds);
const diskFd: Role = ({ diskFds }, choices) => choices.of(diskFds);
const anyFd: Role = (world, choices) => (choices.chance(0.5) ? fd : diskFd)(world, choices);
const position = is<unknown>(0, 0, 512, 4096, 10_000, 100_000, 8192n, null, undefined, -1);
const count = is<unknown>(0, 1, 100, 512, 4096, 8192, undefined, null);
const buffer: Role = (_, choices) => {
  const bytes = choices.of([0, 16, 512, 4096, 8192]);
  if (choices.chance(0.2)) return choices.of(views)().value;
  return choices.chance(0.5) ? main.allocBuffer(bytes) : Buffer.alloc(bytes);
};
const many =
  (role: Role): Role =>
  (world, choices) =>
    Array.from({ length: choices.below(5) }, () => orHostile(role, world, choices, 0.1).value);
const buffers = many(buffer);
const request: Role = ({ requests }, choices) => choices.of(requests);
const signal: Role = ({ signals }, choices) => choices.of(signals).signal;
const pool: Role = ({ pools }, choices) => choices.of(pools);
const waker: Role = ({ contexts }, choices) => choices.of(contexts).waker;
const engine: Role = ({ disks }, choices) =>
  choices.chance(0.2) ? choices.of(disks) : choices.of(['auto', 'io-uring', 'threads', 'threads', undefined]);
const handle: Role = ({ handles }, choices) => choices.of(handles);
const callback: Role = (world) => world.callback();
const flags = is<unknown>('r', 'r+', 'w', 'w+', 'a', 'ax', undefined, null, nodeFs.constants.O_RDWR);
const encoding = is<unknown>(undefined, null, 'utf8', 'hex', 'latin1', 'buffer');
const data: Role = (world, choices) =>
  choices.chance(0.5)
    ? buffer(world, choices)
    : choices.of(['text', '', ['a', Buffer.from('b')], Readable.from(['x', 'y'])]);
const size = is<unknown>(0, 1, 4096, 10_000, 100_000, undefined);
const flag = is<unknown>(true, false, undefined);
const mode = is<unknown>(0o600, 0o666, '0600', undefined);
const time = is<unknown>(0, 1.5, new Date(1e12), '1000', Date.now());

/** Objects of options: some of the names, each with what belongs there, or with something else; some of them acting when read. */
const options =
  (roles: Readonly<Record<string, Role>>): Role =>
  (world, choices) => {
    if (choices.chance(0.2)) return undefined;
    const made: Record<string, unknown> = choices.chance(0.1) ? Object.create(null) : {};
    for (const [name, role] of Object.entries(roles)) {
      if (choices.chance(0.4)) continue;
      const { value } = orHostile(role, world, choices, 0.25);
      if (!choices.chance(0.1)) {
        made[name] = value;
        continue;
      }
      const acts = choices.fork();
      Object.defineProperty(made, name, {
        enumerable: true,
        get: () => {
          const answer = world.act();
          return acts.chance(0.5) ? answer : value;
        },
      });
    }
    return choices.chance(0.1) ? Object.freeze(made) : made;
  };

/** Does what hostile code does, and may answer with something of use. */
const acting =
  (role: Role): Role =>
  (world, choices) => {
    const acts = choices.fork();
    return () => (acts.chance(0.5) ? world.act() : role(world, acts));
  };

const transferring = options({ buffer, offset: count, length: count, position, signal });
const abortable = options({ signal });
const opening = options({ flags, mode, direct: flag, engine });
const wholeFile = options({ encoding, flag: flags, mode, flush: flag, signal, buffer, direct: flag, engine });
const streaming = options({
  flags,
  encoding,
  fd: (world, choices) => (choices.chance(0.2) ? handle(world, choices) : undefined),
  mode,
  autoClose: flag,
  emitClose: flag,
  start: position,
  end: position,
  highWaterMark: is(16, 512, 4096, 65_536),
  iodepth: is(1, 2, 8),
  flush: flag,
  signal,
  direct: flag,
  engine,
});
const waiting = options({ min: is(0, 1, 2, 5), max: is(0, 1, 5, Infinity), timeoutMs: is(0, 1, 2.5), signal });

const latency: Role = (world, choices) =>
  choices.of([0.1, [0.1, 2], undefined, () => 0.1, acting(is(0.1, 5))(world, choices)]);
const chance = is<unknown>(0, 0.1, 1, undefined);
const disking = options({
  seed: is(0, 1, 2 ** 40),
  sectorSize: is(512, 1024, 4096),
  capacity: is(0, 2 ** 16, 2 ** 20),
  maxFileSize: is(2 ** 16, 2 ** 20),
  latency: options({ read: latency, write: latency, flush: latency }),
  reorder: flag,
  shortTransfers: chance,
  errors: is<unknown>(0, 0.5, { read: 0.5 }, { write: { ENOSPC: 0.5 } }),
  fail: acting(is<unknown>(undefined, 'EIO', 'ENOSPC', 'NO_CODE')),
  refusals: chance,
  lateCancels: chance,
  tornWrites: chance,
  misdirectedWrites: chance,
  latentSectorErrors: chance,
  logLimit: is(0, 10, Infinity),
});

/** The right value most of the time, anything else the rest of it. */
export function orHostile(role: Role, world: World, choices: Choices, probability: number): Given {
  if (choices.chance(probability)) {
    const found = hostile(choices, world.act);
    // Whoever closes 0 gives it to the next file of this process.
    if (found.value === 0 && (role === fd || role === anyFd || role === path)) return { value: -1, label: '-1' };
    return found;
  }
  const value = role(world, choices);
  return {
    value,
    label: typeof value === 'string' || typeof value === 'number' ? String(value) : `a right ${typeof value}`,
  };
}

/** One function, or the method or accessor of a class. */
export interface Call {
  readonly name: string;
  readonly roles: readonly Role[];
  readonly invoke: (world: World, choices: Choices, args: readonly unknown[]) => unknown;
}

type Receiver = (world: World, choices: Choices) => object | undefined;

/** By module and name; methods by class and name. An accessor takes nothing. */
const table: Readonly<Record<string, readonly Role[]>> = {
  'fileaio AioContext': [
    options({ maxRequests: is(1, 8, 64), engine, waitWithoutPendingRequests: flag, sqpoll: is(false, undefined) }),
  ],
  'fileaio AioContext.maxRequests': [],
  'fileaio AioContext.waker': [],
  'fileaio AioContext.pending': [],
  'fileaio AioContext.engine': [],
  'fileaio AioContext.stats': [],
  'fileaio AioContext.latency': [],
  'fileaio AioContext.inflight': [],
  'fileaio AioContext.submit': [many(request)],
  'fileaio AioContext.wait': [waiting],
  'fileaio AioContext.waitSync': [waiting],
  'fileaio AioContext.wakeup': [],
  'fileaio AioContext.associate': [(world, choices) => (choices.chance(0.5) ? fd : pool)(world, choices)],
  'fileaio AioContext.close': [],
  [`fileaio AioContext.${String(Symbol.asyncDispose)}`]: [],
  'fileaio AioError': [
    is('EIO', 'ERR_AIO_CLOSED'),
    is('what went wrong'),
    options({ errno: is(-5), syscall: is('read'), path, submitted: size }),
  ],
  'fileaio AioError.name': [],
  'fileaio AioRequest': [],
  'fileaio AioRequest.state': [],
  'fileaio AioRequest.userData': [],
  'fileaio AioRequest.status': [],
  'fileaio AioRequest.bytesTransferred': [],
  'fileaio AioRequest.error': [],
  'fileaio AioRequest.prepareRead': [anyFd, position, buffer, size],
  'fileaio AioRequest.prepareWrite': [anyFd, position, buffer, size],
  'fileaio AioRequest.prepareReadv': [anyFd, position, buffers, size],
  'fileaio AioRequest.prepareWritev': [anyFd, position, buffers, size],
  'fileaio AioRequest.prepareFlush': [anyFd, options({ dataOnly: flag }), size],
  'fileaio AioRequest.result': [],
  'fileaio AioRequest.cancel': [],
  'fileaio AioRequest.dispose': [],
  'fileaio AlignedPool': [options({ size: is(1, 512, 4096), count: is(1, 4, 16), alignment: is(1, 512, 4096) })],
  'fileaio AlignedPool.size': [],
  'fileaio AlignedPool.count': [],
  'fileaio AlignedPool.available': [],
  'fileaio AlignedPool.acquire': [],
  'fileaio AlignedPool.release': [(world, choices) => choices.of(world.pools).acquire()],
  'fileaio allocBuffer': [size, is(1, 64, 512, 4096)],
  'fileaio engines': [],
  'fileaio getLimits': [path, engine],
  'fileaio inflight': [],
  'fileaio wake': [waker],

  'fileaio/promises FileHandle': [handle, handle],
  'fileaio/promises FileHandle.fd': [],
  'fileaio/promises FileHandle.direct': [],
  'fileaio/promises FileHandle.engine': [],
  'fileaio/promises FileHandle.alignment': [],
  'fileaio/promises FileHandle.close': [],
  'fileaio/promises FileHandle.read': [
    (world, choices) => (choices.chance(0.8) ? buffer : transferring)(world, choices),
    count,
    count,
    position,
    abortable,
  ],
  'fileaio/promises FileHandle.write': [data, count, count, position, abortable],
  'fileaio/promises FileHandle.readv': [buffers, position, abortable],
  'fileaio/promises FileHandle.writev': [buffers, position, abortable],
  'fileaio/promises FileHandle.sync': [abortable],
  'fileaio/promises FileHandle.datasync': [abortable],
  'fileaio/promises FileHandle.readFile': [wholeFile],
  'fileaio/promises FileHandle.writeFile': [data, wholeFile],
  'fileaio/promises FileHandle.appendFile': [data, wholeFile],
  'fileaio/promises FileHandle.createReadStream': [streaming],
  'fileaio/promises FileHandle.createWriteStream': [streaming],
  'fileaio/promises FileHandle.readLines': [streaming],
  'fileaio/promises FileHandle.readableWebStream': [options({ autoClose: flag, type: is('bytes') })],
  'fileaio/promises FileHandle.stat': [options({ bigint: flag })],
  'fileaio/promises FileHandle.truncate': [size],
  'fileaio/promises FileHandle.chmod': [mode],
  'fileaio/promises FileHandle.chown': [is(process.getuid?.() ?? 0), is(process.getgid?.() ?? 0)],
  'fileaio/promises FileHandle.utimes': [time, time],
  [`fileaio/promises FileHandle.${String(Symbol.asyncDispose)}`]: [],
  'fileaio/promises open': [path, (world, choices) => (choices.chance(0.5) ? flags : opening)(world, choices), mode],
  'fileaio/promises readFile': [(world, choices) => (choices.chance(0.8) ? path : handle)(world, choices), wholeFile],
  'fileaio/promises writeFile': [
    (world, choices) => (choices.chance(0.8) ? path : handle)(world, choices),
    data,
    wholeFile,
  ],
  'fileaio/promises appendFile': [
    (world, choices) => (choices.chance(0.8) ? path : handle)(world, choices),
    data,
    wholeFile,
  ],
  'fileaio/promises copyFile': [path, path, is(0, 1, undefined)],

  'fileaio/fs ReadStream': [path, streaming],
  'fileaio/fs ReadStream.autoClose': [],
  'fileaio/fs ReadStream.pending': [],
  'fileaio/fs ReadStream.close': [callback],
  'fileaio/fs WriteStream': [path, streaming],
  'fileaio/fs WriteStream.autoClose': [],
  'fileaio/fs WriteStream.pending': [],
  'fileaio/fs WriteStream.close': [callback],
  'fileaio/fs WriteStream.destroySoon': [],
  'fileaio/fs WriteStream.write': [buffer, encoding, callback],
  'fileaio/fs default.ReadStream': [path, streaming],
  'fileaio/fs default.WriteStream': [path, streaming],
  'fileaio/fs createReadStream': [path, streaming],
  'fileaio/fs createWriteStream': [path, streaming],
  'fileaio/fs open': [
    path,
    (world, choices) => (choices.chance(0.5) ? flags : opening)(world, choices),
    mode,
    callback,
  ],
  'fileaio/fs openSync': [path, (world, choices) => (choices.chance(0.5) ? flags : opening)(world, choices), mode],
  'fileaio/fs close': [fd, callback],
  'fileaio/fs closeSync': [fd],
  'fileaio/fs read': [fd, buffer, count, count, position, callback],
  'fileaio/fs write': [fd, data, count, count, position, callback],
  'fileaio/fs readv': [fd, buffers, position, callback],
  'fileaio/fs writev': [fd, buffers, position, callback],
  'fileaio/fs fsync': [fd, callback],
  'fileaio/fs fdatasync': [fd, callback],
  'fileaio/fs readFile': [path, wholeFile, callback],
  'fileaio/fs writeFile': [path, data, wholeFile, callback],
  'fileaio/fs appendFile': [path, data, wholeFile, callback],
  'fileaio/fs copyFile': [path, path, is(0, 1), callback],

  'fileaio/sim SimulatedDisk': [disking],
  'fileaio/sim createSimulatedDisk': [disking],
  'fileaio/sim SimulatedDisk.nowMs': [],
  'fileaio/sim SimulatedDisk.sectorSize': [],
  'fileaio/sim SimulatedDisk.pending': [],
  'fileaio/sim SimulatedDisk.random': [],
  'fileaio/sim SimulatedDisk.log': [],
  'fileaio/sim SimulatedDisk.sleep': [is(0, 1, 100)],
  'fileaio/sim SimulatedDisk.open': [
    diskPath,
    (world, choices) => (choices.chance(0.5) ? flags : opening)(world, choices),
    mode,
  ],
  'fileaio/sim SimulatedDisk.openSync': [
    diskPath,
    (world, choices) => (choices.chance(0.5) ? flags : opening)(world, choices),
    mode,
  ],
  'fileaio/sim SimulatedDisk.closeSync': [diskFd],
  'fileaio/sim SimulatedDisk.ftruncateSync': [diskFd, size],
  'fileaio/sim SimulatedDisk.mkdirSync': [diskPath, mode],
  'fileaio/sim SimulatedDisk.readdirSync': [diskPath],
  'fileaio/sim SimulatedDisk.renameSync': [diskPath, diskPath],
  'fileaio/sim SimulatedDisk.unlinkSync': [diskPath],
  'fileaio/sim SimulatedDisk.rmdirSync': [diskPath],
  'fileaio/sim SimulatedDisk.existsSync': [diskPath],
  'fileaio/sim SimulatedDisk.statSync': [diskPath],
  'fileaio/sim SimulatedDisk.readFileSync': [diskPath],
  'fileaio/sim SimulatedDisk.install': [diskPath, data],
  'fileaio/sim SimulatedDisk.breakSectors': [diskPath, position, count],
  'fileaio/sim SimulatedDisk.powerLoss': [],
  'fileaio/sim SimulatedRandom.below': [size],
  'fileaio/sim SimulatedRandom.between': [size, size],
  'fileaio/sim SimulatedRandom.chance': [chance],
};

const receivers: Readonly<Record<string, Receiver>> = {
  AioContext: ({ contexts }, choices) => choices.of(contexts),
  AioError: () => new main.AioError('EIO', 'an error'),
  AioRequest: ({ requests }, choices) => choices.of(requests),
  AlignedPool: ({ pools }, choices) => choices.of(pools),
  FileHandle: ({ handles }, choices) => choices.of(handles),
  ReadStream: ({ streams }, choices) => choices.of(streams.filter((stream) => stream instanceof fs.ReadStream)),
  WriteStream: ({ streams }, choices) => choices.of(streams.filter((stream) => stream instanceof fs.WriteStream)),
  SimulatedDisk: ({ disks }, choices) => choices.of(disks),
  SimulatedRandom: ({ disks }, choices) => choices.of(disks).random,
};

type Anything = Record<PropertyKey, unknown>;
type Construct = new (...args: unknown[]) => unknown;

const modules: readonly { readonly name: string; readonly content: object; readonly node: object }[] = [
  { name: 'fileaio', content: main, node: {} },
  { name: 'fileaio/promises', content: promises, node: nodePromises },
  { name: 'fileaio/fs', content: fs, node: nodeFs },
  { name: 'fileaio/sim', content: sim, node: {} },
];

function isClass(value: unknown): value is Construct {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
}

function call(name: string, invoke: Call['invoke']): Call {
  return { name, roles: table[name] ?? [], invoke };
}

/** Members of a class; what begins with an underscore is for node:stream, and has its checks before it. */
function membersOf(module: string, name: string, prototype: object): Call[] {
  const receiver = receivers[name];
  return Reflect.ownKeys(prototype)
    .filter((key) => key !== 'constructor' && !String(key).startsWith('_'))
    .map((key) =>
      call(`${module} ${name}.${String(key)}`, (world, choices, args) => {
        const target = receiver?.(world, choices);
        if (target === undefined) return undefined;
        const member: unknown = Reflect.get(target, key);
        return typeof member === 'function' ? Reflect.apply(member, target, args) : member;
      }),
    );
}

/** Everything that the modules export and that is not Node's own; default exports must hold the same. */
function found(): Call[] {
  const calls: Call[] = [];
  for (const { name: module, content, node } of modules) {
    for (const [name, value] of Object.entries(content)) {
      if (value === (node as Anything)[name]) continue;
      if (name === 'default' || name === 'promises') {
        const named = name === 'default' ? content : promises;
        for (const [member, is] of Object.entries(value)) {
          const same = (named as Anything)[member];
          if (is === same || member === 'promises' || member === 'default') continue;
          // The streams there are functions, too.
          const invoke = (_: unknown, __: unknown, args: readonly unknown[]): unknown =>
            typeof is === 'function' ? Reflect.apply(is, undefined, args) : is;
          calls.push(call(`${module} ${name}.${member}`, invoke));
        }
        continue;
      }
      if (typeof value !== 'function') {
        calls.push(call(`${module} ${name}`, () => value));
      } else if (isClass(value)) {
        calls.push(call(`${module} ${name}`, (_, __, args) => Reflect.construct(value, args)));
        calls.push(...membersOf(module, name, value.prototype));
      } else {
        calls.push(call(`${module} ${name}`, (_, __, args) => Reflect.apply(value, undefined, args)));
      }
    }
  }
  // An own property of handles, and what has no class among the exports.
  calls.push(...membersOf('fileaio/promises', 'FileHandle', { close: true }));
  calls.push(
    ...membersOf('fileaio/sim', 'SimulatedRandom', Object.getPrototypeOf(sim.createSimulatedDisk({ seed: 0 }).random)),
  );
  return calls;
}

export const calls: readonly Call[] = found();

/** Functions that are not in the table, and names in it that no function has. */
export function strangers(): { readonly unfuzzed: string[]; readonly gone: string[] } {
  const known = new Set(calls.map(({ name }) => name));
  return {
    unfuzzed: [...known].filter((name) => !Object.hasOwn(table, name)),
    gone: Object.keys(table).filter((name) => !known.has(name)),
  };
}

/** What Node does with it in our place: its errors are Node's. */
export const delegates: ReadonlySet<string> = new Set<string>([]);

/** Closes what a call gave, so that no descriptor stays. */
export function isStream(value: unknown): value is Readable | Writable {
  return value instanceof Readable || value instanceof Writable;
}
