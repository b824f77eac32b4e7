/** Ends by itself although a context is open; a wait before that is not cut short. */
import { AioContext } from '../../src/index.ts';
import { engine } from './common.ts';

const context = new AioContext({ maxRequests: 1, engine, waitWithoutPendingRequests: true });
let ended = '';
process.on('exit', (code) => {
  if (code === 0 && ended !== 'timeout') process.exitCode = 3;
});
void context.wait({ timeoutMs: 100 }).then(({ reason }) => {
  ended = reason;
});
const second = new AioContext({ maxRequests: 1, engine, waitWithoutPendingRequests: true });
setTimeout(() => second.wakeup(), 50).unref();
const { reason } = await second.wait();
if (reason !== 'woken') throw new Error(`the wait ended by ${reason}`);
