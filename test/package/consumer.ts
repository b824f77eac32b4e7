/** Compiled against the packed types: what a program may rely on, and what it must not be able to write. */
import type * as node from 'node:fs/promises';
import { AioContext, AioError, AioRequest, allocBuffer, type EngineName, engines, getLimits } from 'fileaio';
import * as fs from 'fileaio/fs';
import promises, { type FileHandle, open, readFile } from 'fileaio/promises';
import { SimulatedDisk } from 'fileaio/sim';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const sure = <T extends true>(value: T): T => value;

// A program that takes Node's module or handle takes ours.
declare function takesHandle(
  handle: Pick<node.FileHandle, 'read' | 'write' | 'stat' | 'close' | 'readFile' | 'fd' | 'sync'>,
): void;
declare function takesOpen(
  open: (path: string, flags?: string) => Promise<Pick<node.FileHandle, 'read' | 'close'>>,
): void;
declare function takesReadFile(read: (path: string, encoding: BufferEncoding) => Promise<string>): void;
declare function takesCallback(read: (path: string, done: (error: Error | null, data?: Buffer) => void) => void): void;
takesOpen(open);
takesReadFile(readFile);
takesCallback((path, done) => fs.readFile(path, done));

export async function files(): Promise<void> {
  await using handle: FileHandle = await open('data.txt', { direct: true, engine: 'io-uring' });
  takesHandle(handle);
  const size: number = (await handle.stat()).size;
  const { bytesRead }: { bytesRead: number } = await handle.read(Buffer.alloc(10), {
    position: 0n,
    signal: AbortSignal.timeout(1),
  });
  const text: string = await readFile('data.txt', 'utf8');
  const bytes: Buffer = await promises.readFile('data.txt');
  const stream: AsyncIterable<unknown> = handle.createReadStream({ autoClose: false });
  console.log(size, bytesRead, text, bytes, stream, handle.alignment.buffer.toFixed());
  // @ts-expect-error: there is no such engine
  await open('data.txt', { engine: 'rocket' });
}

export async function requests(): Promise<void> {
  const context = new AioContext({ maxRequests: 4, engine: new SimulatedDisk({ seed: 1 }) });
  const request = new AioRequest<{ id: number }>().prepareRead(0, 0n, allocBuffer(512), { id: 7 });
  context.submit([request]);
  const { completed, reason } = await context.wait({ min: 1, timeoutMs: 10 });
  sure<Equal<typeof reason, 'completed' | 'timeout' | 'woken'>>(true);
  const id: number | undefined = request.userData?.id;
  const name: EngineName | undefined = engines()[0]?.name;
  if (request.error instanceof AioError)
    console.log(request.error.code, completed, id, name, getLimits().maxOutstanding);
  // @ts-expect-error: read-only
  request.status = 'OK';
  // @ts-expect-error: a request of other data
  request.prepareRead(0, 0, allocBuffer(512), 'seven');
}
