/**
 * Where a file holds data, and where holes that read as zeros: lseek(2) with SEEK_DATA and SEEK_HOLE.
 *
 * Who cannot tell (file systems that answer EINVAL, block devices, a machine without the native shim) has no holes: all is
 * data, which is always true.
 */
import { SEEK_DATA, SEEK_HOLE } from '../abi/file.ts';
import { loadNative } from '../native.ts';

/** Bytes of a file, from `start` up to `end` (not included). */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** What the kernel answers where there is no data from here to the end. From the shim only, thus always Linux's. */
const ENXIO = 6;

/** Where data begins, at or after `from`: Infinity where there is none, `undefined` where nobody can tell. */
function nextData(fd: number, from: number): number | undefined {
  const at = loadNative().native?.seek(fd, from, SEEK_DATA);
  if (at === undefined || at >= 0) return at;
  return at === -ENXIO ? Infinity : undefined;
}

/** The first byte at or after `from` that is data, or may be; Infinity where there is none. */
export function dataFrom(fd: number, from: number): number {
  return nextData(fd, from) ?? from;
}

/** Where the data at `from` ends. */
function nextHole(fd: number, from: number): number {
  const at = loadNative().native?.seek(fd, from, SEEK_HOLE) ?? -1;
  // A hole that was punched between the two calls: what is taken for data reads as zeros, which is not wrong.
  return at > from ? at : Infinity;
}

/** Whether the file system tells holes from data. Costs one system call, as everything here. */
export function knowsHoles(fd: number): boolean {
  return nextData(fd, 0) !== undefined;
}

/** Whether the first byte is data, or may be. */
export function beginsWithData(fd: number): boolean {
  return dataFrom(fd, 0) === 0;
}

/**
 * The ranges below `size` in which at least one of the descriptors has data, in order. Asks as it goes, two system calls for each
 * range and descriptor, so that a file of a million extents costs no memory. Moves the file position.
 */
export function* dataRanges(fds: readonly number[], size: number): Generator<Range, void> {
  for (let at = 0; at < size; ) {
    const from = at;
    const starts = fds.map((fd) => dataFrom(fd, from));
    const start = Math.min(...starts);
    if (start >= size) return;
    let end = start;
    for (const [index, fd] of fds.entries()) {
      if (starts[index] === start) end = Math.max(end, nextHole(fd, start));
    }
    yield { start, end: Math.min(end, size) };
    at = end;
  }
}

/** `value`, or the next multiple below it. */
export function roundDown(value: number, multiple: number): number {
  return value - (value % multiple);
}

/** `value`, or the next multiple above it. */
export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/**
 * Cuts ranges into blocks of `blockSize` at most, at the multiples of it. Blocks begin at multiples of `alignment` and end there or
 * at `size`: what lies between the end of a range and the next multiple is taken along.
 */
export function* blocksOf(
  ranges: Iterable<Range>,
  size: number,
  blockSize: number,
  alignment: number,
): Generator<Range, void> {
  let done = 0;
  for (const range of ranges) {
    const end = Math.min(roundUp(range.end, alignment), size);
    // The range before may have taken the beginning of this one along.
    let start = Math.max(roundDown(range.start, alignment), done);
    while (start < end) {
      const next = Math.min(roundDown(start, blockSize) + blockSize, end);
      yield { start, end: next };
      start = next;
    }
    done = Math.max(done, end);
  }
}
