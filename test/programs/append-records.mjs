// Recovers a log and appends to it until it is killed: arguments are the path, the engine, 'direct' or 'buffered', 'handle' or 'context', and
// when records are acknowledged. Says "ready N", N records being there, and then for each batch that all records below a number are safe.
import { constants, openSync, writeSync } from 'node:fs';
import { AioContext, AioRequest, allocBuffer } from '../../dist/index.js';
import { open } from '../../dist/promises.js';
import { append, recover, throughContext, throughHandle } from './record-log.mjs';

const [path, engine, mode, interface_, when] = process.argv.slice(2);
const direct = mode === 'direct';
const block = direct ? 4096 : 1;
await (await open(path, 'a')).close();
const asHandle = interface_ === 'handle';
// Requests go to any descriptor, also where handles would not take the engine.
const handle = await open(path, { flags: 'r+', direct, ...(asHandle ? { engine } : {}) });
const descriptor = () => openSync(path, constants.O_RDWR | (direct ? constants.O_DIRECT : 0));
const { count, end } = recover(await handle.readFile());
await handle.truncate(end);
writeSync(1, `ready ${count}\n`);
await append(asHandle ? throughHandle(handle) : throughContext({ AioContext, AioRequest }, engine, descriptor()), {
  number: count,
  position: end,
  block,
  when,
  acknowledge: (below) => writeSync(1, `${below}\n`),
  copy: (record) => {
    const memory = allocBuffer(record.length);
    record.copy(memory);
    return memory;
  },
});
