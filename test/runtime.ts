/** The runtime that the tests run on, and how it runs a TypeScript file in a process of its own, with a collector to be called. */
const { bun, deno }: NodeJS.Dict<string> = process.versions;

export const runtime = bun !== undefined ? 'bun' : deno !== undefined ? 'deno' : 'node';

export const runTypeScript: readonly string[] = {
  node: ['--import', 'tsx', '--expose-gc'],
  bun: [],
  deno: ['run', '--allow-all', '--no-check', '--v8-flags=--expose-gc'],
}[runtime];

/** And one that needs no translation, which starts much sooner. */
export const runScript: readonly string[] = runtime === 'deno' ? ['run', '--allow-all'] : [];

function collectorOfBun(): (() => void) | undefined {
  const { Bun } = globalThis as { Bun?: { gc(now: boolean): void } };
  return Bun === undefined ? undefined : () => Bun.gc(true);
}

/** Collects what can be collected; `undefined` without --expose-gc. */
export const gc: (() => void) | undefined = collectorOfBun() ?? globalThis.gc;

/** What a test may need of the runtime. */
type Need =
  | 'a pool to fill'
  | 'a pool that is as that of libuv'
  | 'short writes of node:fs'
  | 'descriptors of other threads'
  | 'a heap that counts objects'
  | 'pressure of native memory'
  | 'an end of blocked threads'
  | 'aligned reads of node:fs'
  | 'an end of the handles of a thread'
  | 'abort listeners that resist stopImmediatePropagation'
  | "Node's own words";

/** What a runtime cannot do, and why; whoever needs it says so, and `npm run test:runtimes` prints it. */
const missing: Record<typeof runtime, Partial<Record<Need, string>>> = {
  node: {},
  bun: {
    'a pool to fill':
      "Bun has a thread pool of its own: reads of a FIFO, which keep libuv's busy until they are answered, may never end there",
    'a pool that is as that of libuv':
      'the thread pool of Bun may stand still where reads of a FIFO wait, and memory that it writes from is copied, not moved, by structuredClone with a transfer list',
    'a heap that counts objects': 'process.memoryUsage().heapUsed of Bun moves in steps, not with each object',
    'an end of the handles of a thread':
      'worker.terminate() of Bun leaves the descriptors of node:fs open that the worker had opened',
    'abort listeners that resist stopImmediatePropagation':
      'Bun has no way to listen behind a listener that lets no other have the event',
    "Node's own words": "the errors of Bun's streams and of its node:fs have words of their own",
  },
  deno: {
    'a pool to fill':
      'Deno has a thread pool of its own, with hundreds of threads: a test cannot keep all of them busy',
    'short writes of node:fs':
      'node:fs of Deno goes on after a short write, and tells only of the error that it ends in, of some (EFBIG) neither number nor code',
    'descriptors of other threads':
      'node:fs of Deno knows the descriptors of its own thread only: in a worker, the engine threads answers EBADF for those of another',
    'a heap that counts objects':
      'process.memoryUsage().heapUsed of Deno grows by a kilobyte per transfer where that of Node grows by 13 bytes',
    'pressure of native memory': 'Deno collects late where the memory is native: about 1 GiB stays resident, not 0.6',
    'an end of blocked threads':
      'worker.terminate() of Deno does not end a thread that never returns to its event loop, be it in waitSync or in a loop of JavaScript',
    'aligned reads of node:fs':
      'node:fs of Deno reads into memory of its own, at addresses that direct I/O on a device with large sectors refuses',
    'abort listeners that resist stopImmediatePropagation':
      'Deno has no way to listen behind a listener that lets no other have the event',
    "Node's own words": "the errors of Deno's streams and of its node:fs have words of their own",
  },
};

/** Skips a test that needs what this runtime has not, with the reason. */
export function lacks(need: Need, t: { skip(why: string): void }): boolean {
  const why = missing[runtime][need];
  if (why !== undefined) t.skip(why);
  return why !== undefined;
}

// For scripts/test-runtimes.mjs.
if (process.argv[2] === '--print') console.log(JSON.stringify(Object.values(missing[runtime])));
