/** One program in a process of its own, so that no program runs with the heap and the compiled code of another. */
import type * as Fileaio from '../src/index.ts';
import { promisesBeside } from './library.ts';
import { type LoopName, loops, type Setting } from './loops.ts';
import { Meter, type Span } from './meter.ts';

/** The one argument, as JSON. */
export interface Job
  extends Span,
    Pick<Setting, 'path' | 'depth' | 'blockSize' | 'blocks' | 'direct' | 'engine' | 'associate'> {
  readonly loop: LoopName;
  /** The URL of the library's `index.js`. */
  readonly library: string;
}

const job = JSON.parse(process.argv[2] ?? '') as Job;
const library = (await import(job.library)) as typeof Fileaio;
const meter = new Meter(job);
await loops[job.loop]({ ...job, library, promises: () => promisesBeside(job.library), meter });
console.log(JSON.stringify(await meter.sample()));
