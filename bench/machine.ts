/** What a report says of the machine and of the command that made it. */
import { availableParallelism, getPriority, loadavg, release } from 'node:os';

/** What else the machine was doing when this began. */
const loadBefore = loadavg()[0] ?? 0;

/** Of the kernel: what may follow the numbers names somebody's machine. */
export function kernelVersion(): string {
  return /^\d+(\.\d+)*/.exec(release())?.[0] ?? release();
}

/** The first lines of a report: when and where it was measured, and by which command. */
export function provenance(script: string): string {
  const args = process.argv
    .slice(2)
    .filter((arg, index, all) => !/^--(json|tree)/.test(arg) && !/^--(json|tree)$/.test(all[index - 1] ?? ''));
  const command = ['npm run', script, ...(args.length > 0 ? ['--', ...args] : [])].join(' ');
  return `${new Date().toISOString().slice(0, 10)}, Linux ${kernelVersion()}, Node ${process.version}, ${availableParallelism()} cores, noisy: the ratios matter, the figures do not.
The load average was ${loadBefore.toFixed(1)} before this began: ${loadBefore < availableParallelism() / 4 ? 'the machine had nothing else to do' : 'OTHER WORK WAS RUNNING, and ratios are uncertain by as much as their rounds differ'}.

    ${getPriority() === 0 ? '' : `nice -n ${getPriority()} `}${command}`;
}
