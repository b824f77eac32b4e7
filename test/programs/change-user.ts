/** Makes a context, becomes another user, and tries to go on with it. */
import { AioContext, AioError, AioRequest, allocBuffer } from '../../src/index.ts';
import { anonymousFile, engine } from './common.ts';

const fd = anonymousFile(4096, 0);
const context = new AioContext({ maxRequests: 4, engine });
const request = new AioRequest().prepareRead(fd, 0, allocBuffer(4096));
// Put together into one number with a shift of 20, these would be root again.
if (process.argv[3] === 'group') process.setegid?.(2 ** 20);
process.seteuid?.(process.argv[3] === 'group' ? 1 : 65534);
let refused = '';
let message = '';
try {
  context.submit([request]);
} catch (error) {
  if (!(error instanceof AioError)) throw error;
  ({ code: refused, message } = error);
}
const { state } = request;
const pending = context.pending;
await context.close();
const fresh = new AioContext({ maxRequests: 4, engine });
fresh.submit([request]);
await fresh.wait();
await fresh.close();
console.log(JSON.stringify({ refused, message, state, pending, after: request.result() }));
