/** One program of bench/files.ts in a process of its own. */
import { probe, type StarvationJob } from './probes.ts';
import { type StreamJob, stream } from './stream-loops.ts';

/** The one argument, as JSON. */
export type FilesJob = StreamJob | StarvationJob;

const job = JSON.parse(process.argv[2] ?? '') as FilesJob;
console.log(JSON.stringify(await (job.kind === 'starvation' ? probe(job) : stream(job))));
