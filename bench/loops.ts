/** The JavaScript programs: each keeps `depth` reads in flight until the meter has enough. */
import * as fs from 'node:fs';
import type * as Fileaio from '../src/index.ts';
import type * as Promises from '../src/promises.ts';
import { type Meter, Positions } from './meter.ts';

/** What a loop is given. */
export interface Setting {
  readonly library: typeof Fileaio;
  /** Loads `fileaio/promises`, which not every program needs. */
  readonly promises: () => Promise<typeof Promises>;
  readonly path: string;
  readonly depth: number;
  readonly blockSize: number;
  readonly blocks: number;
  /** Past the page cache, with O_DIRECT. */
  readonly direct: boolean;
  readonly engine: Fileaio.EngineName;
  /** Register descriptor and memory with the kernel first. */
  readonly associate: boolean;
  readonly meter: Meter;
}

/** Measures, and resolves when nothing is in flight any more. */
export type Loop = (setting: Setting) => Promise<void>;

function flags({ direct }: Setting): number {
  return fs.constants.O_RDONLY | (direct ? fs.constants.O_DIRECT : 0);
}

function poolFor({ library, blockSize, depth }: Setting): Fileaio.AlignedPool {
  return new library.AlignedPool({ size: blockSize, count: depth });
}

function buffersOf(pool: Fileaio.AlignedPool): Buffer[] {
  return Array.from({ length: pool.count }, () => {
    const buffer = pool.acquire();
    if (buffer === undefined) throw new Error('The pool is smaller than it was asked to be');
    return buffer;
  });
}

function check(bytes: number, wanted: number): void {
  if (bytes !== wanted) throw new Error(`A read moved ${bytes} bytes instead of ${wanted}`);
}

type Request = Fileaio.AioRequest<Buffer>;

/** A context with its queue full, and what makes a batch of completed requests ready to go again. */
function fill(setting: Setting, fd: number) {
  const { library, depth, blockSize, blocks, engine, associate } = setting;
  const positions = new Positions(blocks, blockSize);
  const context = new library.AioContext({ maxRequests: depth, engine });
  const pool = poolFor(setting);
  if (associate) for (const target of [fd, pool]) context.associate(target);
  const requests = buffersOf(pool).map((buffer) =>
    new library.AioRequest<Buffer>().prepareRead(fd, positions.next(), buffer, buffer),
  );
  context.submit(requests);
  const again = (completed: Request[]): void => {
    for (const request of completed) {
      if (request.bytesTransferred !== blockSize) check(request.result(), blockSize);
      const buffer = request.userData;
      if (buffer !== undefined) request.prepareRead(fd, positions.next(), buffer, buffer);
    }
  };
  return { context, again };
}

const waitSync: Loop = async (setting) => {
  const { meter } = setting;
  const fd = fs.openSync(setting.path, flags(setting));
  const { context, again } = fill(setting, fd);
  for (;;) {
    const completed = context.waitSync().completed as Request[];
    again(completed);
    if (!meter.add(completed.length)) break;
    context.submit(completed);
  }
  await context[Symbol.asyncDispose]();
  fs.closeSync(fd);
};

const wait: Loop = async (setting) => {
  const { meter } = setting;
  const fd = fs.openSync(setting.path, flags(setting));
  const { context, again } = fill(setting, fd);
  for (;;) {
    const completed = (await context.wait()).completed as Request[];
    again(completed);
    if (!meter.add(completed.length)) break;
    context.submit(completed);
  }
  await context[Symbol.asyncDispose]();
  fs.closeSync(fd);
};

/** The same for a handle of Node's and one of the library's. */
async function readThrough(handle: fs.promises.FileHandle, setting: Setting): Promise<void> {
  const { meter, blockSize } = setting;
  const positions = new Positions(setting.blocks, blockSize);
  const reader = async (buffer: Buffer): Promise<void> => {
    do {
      check((await handle.read(buffer, 0, blockSize, positions.next())).bytesRead, blockSize);
    } while (meter.add(1));
  };
  await Promise.all(buffersOf(poolFor(setting)).map(reader));
  await handle.close();
}

const handle: Loop = async (setting) => {
  const { open } = await setting.promises();
  const { path, direct, engine } = setting;
  await readThrough(await open(path, { direct, engine }), setting);
};

const fsPromises: Loop = async (setting) => {
  await readThrough(await fs.promises.open(setting.path, flags(setting)), setting);
};

const fsCallback: Loop = async (setting) => {
  const { meter, blockSize } = setting;
  const positions = new Positions(setting.blocks, blockSize);
  const fd = fs.openSync(setting.path, flags(setting));
  const reader = (buffer: Buffer): Promise<void> =>
    new Promise((resolve, reject) => {
      const next = (): void => fs.read(fd, buffer, 0, blockSize, positions.next(), done);
      const done = (error: Error | null, bytes: number): void => {
        if (error !== null || bytes !== blockSize) reject(error ?? new Error(`A read moved ${bytes} bytes`));
        else if (meter.add(1)) next();
        else resolve();
      };
      next();
    });
  await Promise.all(buffersOf(poolFor(setting)).map(reader));
  fs.closeSync(fd);
};

const fsSync: Loop = async (setting) => {
  const { meter, blockSize } = setting;
  const positions = new Positions(setting.blocks, blockSize);
  const fd = fs.openSync(setting.path, flags(setting));
  for (const buffer of buffersOf(poolFor(setting))) {
    do {
      check(fs.readSync(fd, buffer, 0, blockSize, positions.next()), blockSize);
    } while (meter.add(1));
  }
  fs.closeSync(fd);
};

/** By the names that programs.ts uses. */
export const loops = { waitSync, wait, handle, fsPromises, fsCallback, fsSync } satisfies Record<string, Loop>;

export type LoopName = keyof typeof loops;
