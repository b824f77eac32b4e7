/** Ends in one of several ways with 64 requests in flight. */
import { anonymousFile, inFlight } from './common.ts';

const fd = anonymousFile(64 * 65536);
const { context } = inFlight(fd);
switch (process.argv[3]) {
  case 'exit':
    process.exit(7);
    break;
  case 'throw':
    throw new Error('as intended');
  default:
    if (context.pending !== 64) throw new Error('nothing is in flight');
}
