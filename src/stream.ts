/** Files as streams: what handles and `fileaio/fs` give out. */
import { createInterface, type Interface } from 'node:readline';
import type { FileHandle } from './file.ts';
import { ReadStream, type ReadStreamOptions } from './read-stream.ts';

export { ReadStream, type ReadStreamOptions } from './read-stream.ts';
export type { StreamOptions } from './stream-file.ts';
export { readableWebStream, type WebStreamOptions } from './web-stream.ts';
export { WriteStream, type WriteStreamOptions } from './write-stream.ts';

/**
 * The lines of a file, one after the other: `for await (const line of readLines(handle))`. Ends in `\n`, `\r\n` and
 * `\r` are cut off. The handle is closed at the end, unless `autoClose` is false.
 *
 * @throws as {@link ReadStream} does.
 */
export function readLines(handle: FileHandle, options?: ReadStreamOptions): Interface {
  return createInterface({ input: new ReadStream(handle, options), crlfDelay: Number.POSITIVE_INFINITY });
}
