/** What the kernel has in memory already: to read that past the page cache would be a detour over the disk. */
import { readSync, statfsSync } from 'node:fs';
import { dataFrom } from './copy-extents.ts';

/** statfs(2) of file systems that are nothing but page cache: tmpfs, ramfs. */
const IN_MEMORY: readonly number[] = [0x01021994, 0x858458f6];

/** Whether a file lies in memory: then nothing about its transfers is asynchronous, whoever carries them. */
export function isInMemory(path: string): boolean {
  try {
    return IN_MEMORY.includes(statfsSync(path).type);
  } catch {
    return false;
  }
}

const SAMPLES = 32;

/** A few pages may have been evicted. */
const MOST_SLOW = 3;

/** A page in memory is read in two or three microseconds; no disk answers within this. */
const SLOW_MS = 0.03;

/**
 * Whether the data of a file is in the page cache: reads a byte here and there, and looks how long that takes. The kernel would tell
 * exactly (cachestat(2)), but not to Node. Being wrong costs time, and nothing else.
 *
 * Blocks for some 0.1 ms where it is, for a few reads from the disk where it is not.
 */
export function isCached(fd: number, size: number): boolean {
  try {
    return countSlow(fd, size) <= MOST_SLOW;
  } catch {
    // What cannot be read will be told by whoever needs it.
    return false;
  }
}

/** Looks no further when the answer is clear. */
function countSlow(fd: number, size: number): number {
  const byte = Buffer.alloc(1);
  let slow = 0;
  // The first call of a function takes longer.
  readSync(fd, byte, 0, 1, 0);
  for (let sample = 0; sample < SAMPLES && slow <= MOST_SLOW; sample++) {
    const position = dataFrom(fd, Math.floor(((sample + 0.5) * size) / SAMPLES));
    if (position >= size) break;
    const begun = performance.now();
    readSync(fd, byte, 0, 1, position);
    if (performance.now() - begun > SLOW_MS) slow++;
  }
  return slow;
}
