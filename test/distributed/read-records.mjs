// Reads a log of test/programs/record-log.mjs through an engine and judges it: arguments are the path, the engine, 'direct' or 'buffered', and how many
// records were acknowledged. Prints what is wrong or nothing, how many records there are, and the digest of all bytes, as JSON.
import { createHash } from 'node:crypto';
import { constants, fstatSync, openSync } from 'node:fs';
import { AioContext, AioRequest, allocBuffer } from '../../dist/index.js';
import { problemOf, recover } from '../programs/record-log.mjs';

const [path, engine, mode, acknowledged] = process.argv.slice(2);
const direct = mode === 'direct';
const PIECE = 65_536;

const context = new AioContext({ maxRequests: 16, engine: engine === 'auto' ? 'threads' : engine });
const fd = openSync(path, constants.O_RDONLY | (direct ? constants.O_DIRECT : 0));
const { size } = fstatSync(fd);
const bytes = allocBuffer(size);
const pieces = Array.from({ length: Math.ceil(size / PIECE) }, (_, index) => index * PIECE);
while (pieces.length > 0 || context.pending > 0) {
  const batch = pieces.splice(0, context.maxRequests - context.pending);
  context.submit(batch.map((at) => new AioRequest().prepareRead(fd, at, bytes.subarray(at, at + PIECE), at)));
  for (const request of (await context.wait()).completed) {
    const expected = Math.min(PIECE, size - request.userData);
    if (request.result() !== expected)
      throw new Error(`${request.result()} of ${expected} bytes at ${request.userData}`);
  }
}
await context.close();
const problem = problemOf(bytes, Number(acknowledged), direct ? 4096 : 1);
const sha256 = createHash('sha256').update(bytes).digest('hex');
console.log(JSON.stringify({ problem, count: recover(bytes).count, sha256 }));
