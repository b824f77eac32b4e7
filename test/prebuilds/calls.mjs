// Loads a shim and makes the calls that need neither a kernel context nor a ring: `node calls.mjs FILE`.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';

const native = createRequire(import.meta.url)(resolve(process.argv[2]));
assert.ok(native.pageSize >= 4096);
if (process.versions.bun === undefined) assert.equal(native.useLibuv(), 0);
const fd = native.eventfd();
assert.ok(fd > 2);
assert.equal(native.drain(fd), -11);
const cell = new Int32Array(new SharedArrayBuffer(16));
cell[2] = fd;
assert.equal(native.wake(cell), 0);
assert.equal(cell[1], 1);
assert.equal(native.drain(fd), 8);
const stat = new Uint8Array(256);
assert.equal(native.statx(-100, Buffer.from('/\0'), 0, 0x7ff, stat), 0);
assert.equal(native.statx(-100, Buffer.from('/not/there\0'), 0, 0x7ff, stat), -2);
const [memory, count] = native.alloc(8192, 4096);
assert.equal(native.address(new Uint8Array(memory)) % 4096, 0);
assert.equal(count.byteLength, 4);
assert.equal(native.seek(fd, 0, 9), -22);
assert.equal(native.closeFd(fd), 0);
assert.equal(native.closeFd(fd), -9);
const context = native.ioSetup(4);
const ring = native.ringSetup(4, new Uint8Array(120));
const said = (name, result) => `${name} ${result < 0 ? `answers ${result}` : 'works'}`;
console.log(`${process.arch}: ${said('io_setup', context)}, ${said('io_uring_setup', ring)}`);
