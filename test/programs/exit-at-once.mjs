// Reads a file and calls process.exit() with all of it in flight. Over the compiled library: it is started so often that what it takes
// to start counts.
import { constants, openSync, readFileSync } from 'node:fs';
import { AioContext, AioRequest, allocBuffer } from '../../dist/index.js';
import { createSimulatedDisk } from '../../dist/sim.js';

const [, , name, path] = process.argv;
const disk = name === 'simulated' ? createSimulatedDisk({ seed: 1 }) : undefined;
disk?.install('/data', readFileSync(path));
const fd = disk?.openSync('/data', { direct: true }) ?? openSync(path, constants.O_RDONLY | constants.O_DIRECT);
const context = new AioContext({ maxRequests: 64, engine: disk ?? name });
context.submit(Array.from({ length: 64 }, (_, i) => new AioRequest().prepareRead(fd, i * 65536, allocBuffer(65536))));
process.exit(context.pending === 64 ? 7 : 1);
