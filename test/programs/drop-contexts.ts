/** Makes contexts and forgets them: the descriptors must come back. */
import { readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { AioContext } from '../../src/index.ts';
import { collect, engine } from './common.ts';

const open = () => readdirSync('/proc/self/fd').length;
await new AioContext({ maxRequests: 1, engine }).close();
const before = open();
for (let i = 0; i < 50; i++) new AioContext({ maxRequests: 4, engine });
for (let tries = 0; open() > before; tries++) {
  if (tries > 200) throw new Error(`${open() - before} descriptors are left`);
  collect();
  await delay(10);
}
