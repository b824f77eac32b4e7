/** What a process uses, measured again and again. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { trendOf } from './trend.ts';

interface Measure {
  readonly title: string;
  readonly unit: string;
  /** How much it may have grown by the end, beyond doubt. What comes and goes with the contexts of the moment is no growth. */
  readonly tolerance: number;
  readonly read: (now: Snapshot) => number;
}

interface Snapshot {
  readonly memory: NodeJS.MemoryUsage;
  readonly maps: readonly string[];
  readonly threads: number;
}

const MIB = 2 ** 20;

export const MEASURES: readonly Measure[] = [
  { title: 'Resident memory', unit: 'MiB', tolerance: 32, read: ({ memory }) => memory.rss / MIB },
  { title: 'JavaScript heap', unit: 'MiB', tolerance: 4, read: ({ memory }) => memory.heapUsed / MIB },
  { title: 'Memory outside the heap', unit: 'MiB', tolerance: 8, read: ({ memory }) => memory.external / MIB },
  { title: 'Descriptors', unit: '', tolerance: 6, read: () => descriptors().length },
  { title: 'Mappings', unit: '', tolerance: 150, read: ({ maps }) => maps.length },
  { title: 'Kernel contexts and rings', unit: '', tolerance: 4, read: ({ maps }) => maps.filter(isKernels).length },
  { title: 'Threads', unit: '', tolerance: 3, read: ({ threads }) => threads },
  // Of the whole machine: contexts of other programs count, too. One context that is left is about a hundred.
  { title: 'fs.aio-nr', unit: '', tolerance: 4096, read: () => Number(readFileSync('/proc/sys/fs/aio-nr', 'utf8')) },
];

/**
 * Files that workers open have names that end so. Node itself loses the descriptor of an fs.promises.open() that is under way when its
 * worker is terminated (seen with Node 20, in programs that have nothing of this library), and these are not counted.
 */
export const OF_WORKERS = '.worker';

/** What each descriptor of this process is. */
function descriptors(): string[] {
  const found: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const what = readlinkSync(`/proc/self/fd/${fd}`);
      if (!what.endsWith(OF_WORKERS)) found.push(what);
    } catch {
      // It was the one that the directory was read with, or another thread has closed it since.
    }
  }
  return found;
}

/** A ring of a kernel context, or of io_uring. */
function isKernels(line: string): boolean {
  return line.includes('/[aio]') || line.includes('[io_uring]');
}

export class Sampler {
  /** Of each measure. */
  readonly series: readonly number[][] = MEASURES.map(() => []);

  sample(): void {
    // What could be collected is no growth.
    globalThis.gc?.();
    const status = readFileSync('/proc/self/status', 'utf8');
    const now: Snapshot = {
      memory: process.memoryUsage(),
      maps: readFileSync('/proc/self/maps', 'utf8').trimEnd().split('\n'),
      threads: Number(/^Threads:\s*(\d+)$/m.exec(status)?.[1] ?? 0),
    };
    for (const [index, { read }] of MEASURES.entries()) this.series[index]?.push(read(now));
  }

  /** How each has grown since `from` of its samples; `flat`: not beyond doubt, or not by more than is tolerated. */
  verdicts(from: number): { measure: Measure; growth: number; certain: number; flat: boolean }[] {
    return MEASURES.map((measure, index) => {
      const { growth, certain } = trendOf(this.series[index]?.slice(from) ?? []);
      return { measure, growth, certain, flat: certain <= measure.tolerance };
    });
  }
}

/** What is still there of the kernel's, when everything is closed. */
export function leftOver(): { descriptors: readonly string[]; kernels: number } {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return { descriptors: descriptors(), kernels: maps.filter(isKernels).length };
}
