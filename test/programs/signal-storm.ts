/** waitSync with a timeout of 500 ms under a storm of signals. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { AioContext } from '../../src/index.ts';
import { engine } from './common.ts';

let signals = 0;
process.on('SIGUSR1', () => signals++);
process.on('SIGUSR2', () => signals++);
const context = new AioContext({ maxRequests: 1, engine, waitWithoutPendingRequests: true });
const storm = spawn('sh', [
  '-c',
  `while kill -USR1 ${process.pid} && kill -USR2 ${process.pid}; do :; done 2>/dev/null`,
]);
await once(process, 'SIGUSR1');
const began = performance.now();
const { reason } = context.waitSync({ timeoutMs: 500 });
const took = performance.now() - began;
// Its end is not awaited: libuv's signal pipe is full of the storm by now, and the SIGCHLD may not have found room in it.
storm.kill('SIGKILL');
await context.close();
process.stdout.write(JSON.stringify({ took, reason, signals }), () => process.exit());
