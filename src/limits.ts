import type { EngineName, EngineSource, Limits } from './engine.ts';
import { alignmentWith, maxOutstanding } from './engines/select.ts';
import { invalidArgType, invalidArgValue } from './errors.ts';
import { loadNative } from './native.ts';

/**
 * How many requests a context can hold, and what direct I/O needs.
 *
 * With `path`, the alignments are those of that file: from statx(2) (`STATX_DIOALIGN`, Linux 6.1), else the logical block size of
 * its device, else 512. Without, they are the page size, which every file system takes. Files opened without O_DIRECT need
 * no alignment.
 *
 * Costs a few small reads of /proc, and one statx(2) for `path`.
 *
 * @param path - of an existing file or block device.
 * @param engine - default: the engine that `'auto'` takes. With a simulated disk, `path` is one of its files.
 * @throws AioError `ENOENT`, `EACCES`, … for a path that cannot be looked at, `ERR_AIO_NOT_SUPPORTED`; TypeError
 * `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`.
 *
 * @example
 * ```ts
 * import { getLimits } from 'fileaio';
 *
 * const { bufferAlignment, offsetAlignment } = getLimits('data.bin'); // what this file's device needs
 * console.log(4096 % offsetAlignment, 4096 % bufferAlignment); // => 0 0
 * console.log(getLimits().maxOutstanding > 1000); // => true
 * ```
 */
export function getLimits(path?: string, engine: EngineName | 'auto' | EngineSource = 'auto'): Limits {
  if (path !== undefined && typeof path !== 'string') throw invalidArgType('path', 'of type string', path);
  if (path?.includes('\0')) throw invalidArgValue('path', 'must not contain null bytes');
  const most = maxOutstanding(engine);
  if (path === undefined) {
    const page = loadNative().native?.pageSize ?? 4096;
    return { maxOutstanding: most, bufferAlignment: page, offsetAlignment: page };
  }
  const { buffer, offset } = alignmentWith(engine, path);
  return { maxOutstanding: most, bufferAlignment: buffer, offsetAlignment: offset };
}
