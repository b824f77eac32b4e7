/**
 * Aligned memory for transfers of direct files whose own memory will not do. Kept by size, for the next transfer, up to a
 * modest sum.
 */
import { allocBuffer } from './buffer.ts';

const SMALLEST = 4096;
/** Larger ones are made when they are needed, and dropped. */
const LARGEST_KEPT = 2 ** 20;
const MOST_KEPT_BYTES = 2 ** 22;

const kept = new Map<number, Buffer[]>();
let keptBytes = 0;

function sizeFor(bytes: number): number {
  return bytes > LARGEST_KEPT ? bytes : Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(bytes)));
}

/** At least `bytes` of memory at a page boundary, with whatever was in it. Give it back to {@link putBounce}. */
export function takeBounce(bytes: number): Buffer {
  const size = sizeFor(bytes);
  const buffer = kept.get(size)?.pop();
  if (buffer === undefined) return allocBuffer(size);
  keptBytes -= size;
  return buffer;
}

/** No transfer may be in flight over it. */
export function putBounce(buffer: Buffer): void {
  const { length } = buffer;
  if (length > LARGEST_KEPT || keptBytes + length > MOST_KEPT_BYTES) return;
  keptBytes += length;
  const list = kept.get(length);
  if (list === undefined) kept.set(length, [buffer]);
  else list.push(buffer);
}
