/** Writes across and at the largest file that the process may make. */
import { execFileSync } from 'node:child_process';
import { AioContext, AioRequest, allocBuffer } from '../../src/index.ts';
import { runtime } from '../runtime.ts';
import { anonymousFile, engine } from './common.ts';

const fd = anonymousFile(0, 0);
const context = new AioContext({ maxRequests: 1, engine });
// Node ignores this signal. Where it would end the process, as the kernel has it, a handler lets the error through.
if (runtime === 'deno') process.on('SIGXFSZ', () => undefined);
execFileSync('prlimit', ['--fsize=8192', '--pid', String(process.pid)]);
async function write(position: number): Promise<AioRequest> {
  const request = new AioRequest().prepareWrite(fd, position, allocBuffer(8192));
  context.submit([request]);
  await context.wait();
  return request;
}
const outcome = ({ status, bytesTransferred }: AioRequest) => ({ status, bytes: bytesTransferred });
const short = await write(4096);
const refused = await write(8192);
await context.close();
console.log(
  JSON.stringify({ short: outcome(short), refused: outcome(refused), message: refused.error?.message ?? '' }),
);
