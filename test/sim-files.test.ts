/** The files of a simulated disk: handles, names, descriptors, and that nothing real is touched. */
import assert from 'node:assert/strict';
import { closeSync, cpSync, existsSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { AioContext, AioError, AioRequest, allocBuffer, engines, getLimits } from '../src/index.ts';
import * as files from '../src/promises.ts';
import { createSimulatedDisk, type SimulatedDisk } from '../src/sim.ts';
import { child, coded, context, scratch, scratchFile, script } from './support.ts';

function make(seed = 1): SimulatedDisk {
  return createSimulatedDisk({ seed });
}

describe('handles on a simulated disk', () => {
  test('have every method for data, and the rest', async () => {
    const disk = make();
    const handle = await disk.open('/file', 'w+');
    assert.equal(handle.engine, 'simulated');
    assert.ok(handle.fd >= 2 ** 30);
    await handle.writeFile('hello ');
    await handle.appendFile('world\nsecond line\n');
    assert.equal((await handle.write('!', 5)).bytesWritten, 1);
    assert.equal((await handle.writev([Buffer.from('a'), Buffer.from('b')], 0)).bytesWritten, 2);
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(11), 0, 11, 0);
    assert.equal(`${bytesRead} ${buffer}`, '11 abllo!world');
    assert.equal((await handle.readv([Buffer.alloc(3), Buffer.alloc(100)], 0)).bytesRead, 24);
    await handle.sync();
    await handle.datasync();
    const stats = await handle.stat();
    assert.equal(stats.size, 24);
    assert.ok(stats.isFile() && !stats.isDirectory());
    assert.equal((await handle.stat({ bigint: true })).size, 24n);
    await handle.chmod(0o600);
    assert.equal((await handle.stat()).mode & 0o777, 0o600);
    await handle.truncate(5);
    assert.equal(disk.readFileSync('/file').toString(), 'abllo');
    await handle.close();
    await assert.rejects(handle.read(Buffer.alloc(1)), coded('EBADF'));
    const again = await disk.open('/file');
    assert.equal(await again.readFile('utf8'), 'abllo');
    await assert.rejects(again.write('x'), coded('EBADF'));
    await again[Symbol.asyncDispose]();
  });

  test('read and write where they are, one after the other', async () => {
    const disk = make();
    const handle = await disk.open('/file', 'w+');
    await Promise.all([handle.write('one '), handle.write('two '), handle.write('three')]);
    assert.equal(disk.readFileSync('/file').toString(), 'one two three');
    const reader = await disk.open('/file', 'r');
    const parts = await Promise.all([4, 4, 9].map((length) => reader.read(Buffer.alloc(length))));
    assert.deepEqual(
      parts.map(({ bytesRead, buffer }) => buffer.toString('utf8', 0, bytesRead)),
      ['one ', 'two ', 'three'],
    );
    const appender = await disk.open('/file', 'a');
    await Promise.all([appender.write('!', 0), appender.write('!', 0)]);
    assert.equal(disk.readFileSync('/file').toString(), 'one two three!!');
    for (const each of [handle, reader, appender]) await each.close();
  });

  test('stream', async () => {
    const disk = make();
    const data = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));
    const output = (await disk.open('/file', 'w')).createWriteStream();
    output.write(data.subarray(0, 100_000));
    await new Promise<void>((resolve) => output.end(data.subarray(100_000), resolve));
    assert.ok(disk.readFileSync('/file').equals(data));
    const parts: Buffer[] = [];
    for await (const part of (await disk.open('/file')).createReadStream()) parts.push(part as Buffer);
    assert.ok(Buffer.concat(parts).equals(data));
  });

  test('can be direct: reads of any shape, writes of whole sectors, ends by writeFile', async () => {
    const disk = createSimulatedDisk({ seed: 1, sectorSize: 4096 });
    const data = Buffer.from(Array.from({ length: 10_000 }, (_, i) => i % 251));
    disk.install('/file', data);
    const handle = await disk.open('/file', { flags: 'r+', direct: true });
    assert.equal(handle.direct, true);
    assert.equal(handle.alignment.offset, 4096);
    for (const [position, length] of [
      [0, 4096],
      [1, 5000],
      [4000, 6000],
      [9000, 5000],
    ] as const) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, position);
      assert.deepEqual(buffer.subarray(0, bytesRead), data.subarray(position, position + length));
    }
    await assert.rejects(handle.write(Buffer.alloc(100), 0, 100, 0), coded('ERR_AIO_MISALIGNED'));
    await handle.write(allocBuffer(4096), 0, 4096, 4096);
    await handle.writeFile(data.subarray(0, 5001));
    assert.deepEqual(disk.readFileSync('/file').subarray(0, 5001), data.subarray(0, 5001));
    await handle.close();
  });

  test('reject an aborted call, and leave the rest', async () => {
    const disk = make();
    disk.install('/file', Buffer.alloc(100, 'a'));
    const handle = await disk.open('/file');
    const controller = new AbortController();
    const buffer = Buffer.alloc(100);
    const reading = handle.read(buffer, 0, 100, 0, { signal: controller.signal });
    const other = handle.read(Buffer.alloc(100), 0, 100, 0);
    await Promise.resolve();
    controller.abort();
    await assert.rejects(reading, { name: 'AbortError' });
    assert.equal((await other).bytesRead, 100);
    assert.deepEqual(buffer, Buffer.alloc(100));
    await handle.close();
  });

  test('have the errors of open(2)', async () => {
    const disk = make();
    disk.install('/directory/file', 'x');
    await assert.rejects(disk.open('/none'), { code: 'ENOENT', syscall: 'open', path: '/none' });
    await assert.rejects(disk.open('/none/file', 'w'), { code: 'ENOENT' });
    await assert.rejects(disk.open('/directory/file/x', 'w'), { code: 'ENOTDIR' });
    await assert.rejects(disk.open('/directory', 'w'), { code: 'EISDIR' });
    await assert.rejects(disk.open('/directory/file', 'wx'), { code: 'EEXIST' });
    await assert.rejects(disk.open(1 as never), coded('ERR_INVALID_ARG_TYPE'));
    await assert.rejects(disk.open('a\0b'), coded('ERR_INVALID_ARG_VALUE'));
    await assert.rejects(disk.open('/x', 'rocket'), coded('ERR_INVALID_ARG_VALUE'));
    await assert.rejects(disk.open('/x', { direct: 1 as never }), coded('ERR_INVALID_ARG_TYPE'));
    const directory = await disk.open('/directory');
    await assert.rejects(directory.read(Buffer.alloc(1), 0, 1, 0), { code: 'EISDIR', syscall: 'read' });
    await directory.sync();
    await directory.close();
  });

  test('do not keep the process alive when they are idle', async (t) => {
    const text = `
      import { createSimulatedDisk } from './src/sim.ts';
      const disk = createSimulatedDisk({ seed: 1, latency: { write: 3600000 } });
      const handle = await disk.open('/file', 'w');
      await handle.write('x');
      console.log(Math.round(disk.nowMs));`;
    const { code, stdout, stderr } = await child(process.execPath, script(t, text));
    assert.equal(code, 0, stderr);
    assert.equal(stdout, '3600000\n');
  });

  test('any sequence of calls does to a file what it does to a buffer', async () => {
    const call = fc.record({ write: fc.boolean(), position: fc.nat(5000), length: fc.integer({ min: 1, max: 3000 }) });
    await fc.assert(
      fc.asyncProperty(fc.maxSafeNat(), fc.array(call, { maxLength: 20 }), async (seed, calls) => {
        const handle = await make(seed).open('/file', 'w+');
        const model = Buffer.alloc(8000);
        let size = 0;
        for (const [index, { write, position, length }] of calls.entries()) {
          const buffer = Buffer.alloc(length, index + 1);
          if (write) {
            await handle.write(buffer, 0, length, position);
            model.fill(index + 1, position, position + length);
            size = Math.max(size, position + length);
          } else {
            const { bytesRead } = await handle.read(buffer, 0, length, position);
            assert.equal(bytesRead, Math.max(Math.min(length, size - position), 0));
            assert.deepEqual(buffer.subarray(0, bytesRead), model.subarray(position, position + bytesRead));
          }
        }
        await handle.close();
      }),
      { numRuns: 50 },
    );
  });
});

describe('names on a simulated disk', () => {
  test('are made, listed, renamed and removed as node:fs does', () => {
    const disk = make();
    disk.mkdirSync('/a');
    disk.mkdirSync('/a/b');
    disk.closeSync(disk.openSync('a/./b/../one', 'w'));
    disk.closeSync(disk.openSync('/a/two', 'w'));
    assert.deepEqual(disk.readdirSync('/a'), ['b', 'one', 'two']);
    assert.ok(disk.statSync('/a').isDirectory());
    disk.renameSync('/a/one', '/a/two');
    disk.renameSync('/a', '/c');
    assert.deepEqual(disk.readdirSync('/'), ['c']);
    assert.deepEqual(disk.readdirSync('/c'), ['b', 'two']);
    const refused: [() => unknown, string][] = [
      [() => disk.mkdirSync('/c'), 'EEXIST'],
      [() => disk.mkdirSync('/x/y'), 'ENOENT'],
      [() => disk.rmdirSync('/c'), 'ENOTEMPTY'],
      [() => disk.rmdirSync('/c/two'), 'ENOTDIR'],
      [() => disk.unlinkSync('/c'), 'EISDIR'],
      [() => disk.unlinkSync('/c/one'), 'ENOENT'],
      [() => disk.renameSync('/c', '/c/b/d'), 'EINVAL'],
      [() => disk.renameSync('/c/two', '/c/b'), 'EISDIR'],
      [() => disk.renameSync('/c/b', '/c/two'), 'ENOTDIR'],
      [() => disk.readdirSync('/c/two'), 'ENOTDIR'],
      [() => disk.readFileSync('/c'), 'EISDIR'],
      [() => disk.install('/c/two', ''), 'EEXIST'],
      [() => disk.install('/c/two/x', ''), 'ENOTDIR'],
      [() => disk.closeSync(3), 'EBADF'],
      [() => disk.ftruncateSync(disk.openSync('/c/two', 'r'), 1), 'EINVAL'],
    ];
    for (const [call, code] of refused) assert.throws(call, coded(code));
    disk.unlinkSync('/c/two');
    disk.rmdirSync('/c/b');
    disk.rmdirSync('/c');
    assert.deepEqual(disk.readdirSync('/'), []);
  });

  test('a file without a name lives as long as its descriptor', (t) => {
    const disk = make();
    disk.install('/file', 'abc');
    const fd = disk.openSync('/file');
    disk.unlinkSync('/file');
    const ctx = context(t, { maxRequests: 1, engine: disk });
    const request = new AioRequest().prepareRead(fd, 0, Buffer.alloc(3));
    ctx.submit([request]);
    disk.closeSync(fd);
    ctx.waitSync();
    assert.equal(request.result(), 3);
  });
});

/** Uses handles and contexts, direct and not, and prints what the disk has to say of it. */
const PROGRAM = `
const { AioContext, AioRequest, allocBuffer } = await import(BASE + '/index.js');
const { createSimulatedDisk } = await import(BASE + '/sim.js');
const disk = createSimulatedDisk({ seed: 11, shortTransfers: 0.3, tornWrites: 0.2, errors: 0.1, logLimit: Infinity });
const context = new AioContext({ maxRequests: 8, engine: disk });
const handle = await disk.open('/handle', { flags: 'w+', direct: true });
const fd = disk.openSync('/requests', 'w+');
for (let i = 0; i < 30; i++) {
  await handle.write(allocBuffer(2048).fill(i), 0, 2048, 1024 * i).catch(() => {});
  await handle.read(new Uint8Array(3000), 0, 3000, 100 * i).catch(() => {});
  context.submit([new AioRequest().prepareWrite(fd, i * 700, new Uint8Array(1000).fill(i)), new AioRequest().prepareRead(fd, 0, new Uint8Array(5000))]);
  context.waitSync({ min: 2 });
}
disk.powerLoss();
console.log(JSON.stringify({ log: disk.log, left: disk.readdirSync('/').map((name) => disk.readFileSync('/' + name).toString('hex')) }));`;

describe('a simulated disk and the real world', () => {
  test('descriptors of one mean nothing to the other', async (t) => {
    const disk = make();
    disk.install('/file', 'simulated');
    const fd = disk.openSync('/file', 'r+');
    const { fd: realFd, path, data } = scratchFile(t, 100);
    const simulated = context(t, { maxRequests: 2, engine: disk });
    const wrong = new AioRequest().prepareWrite(realFd, 0, Buffer.from('X'));
    simulated.submit([wrong]);
    await simulated.wait();
    assert.equal(wrong.status, 'EBADF');
    assert.deepEqual(readFileSync(path), data);
    for (const { name, available } of engines()) {
      if (!available) continue;
      const real = context(t, { maxRequests: 2, engine: name });
      const request = new AioRequest().prepareWrite(fd, 0, Buffer.from('X'));
      real.submit([request]);
      await real.wait();
      assert.equal(request.status, 'EBADF', name);
    }
    assert.throws(() => writeSync(fd, 'X'), coded('EBADF'));
    assert.throws(() => closeSync(fd), coded('EBADF'));
    assert.equal(disk.readFileSync('/file').toString(), 'simulated');
  });

  test('it needs no native code, and runs the same without it', async (t) => {
    const directory = scratch(t);
    const root = fileURLToPath(new URL('..', import.meta.url));
    cpSync(join(root, 'dist'), join(directory, 'dist'), { recursive: true });
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
    const printed: string[] = [];
    for (const base of [directory, root]) {
      const text = `const BASE = ${JSON.stringify(pathToFileURL(join(base, 'dist')).href)};${PROGRAM}`;
      const { code, stdout, stderr } = await child(process.execPath, script(t, text));
      assert.equal(code, 0, stderr);
      printed.push(stdout);
    }
    assert.ok((printed[0]?.length ?? 0) > 10_000);
    assert.equal(printed[0], printed[1]);
  });

  test('paths of one are none of the other', async (t) => {
    const disk = make();
    const path = `${scratch(t)}/not-real`;
    disk.install(path, 'x');
    await (await disk.open(path, 'w')).close();
    assert.equal(existsSync(path), false);
    await assert.rejects(disk.open(import.meta.filename), coded('ENOENT'));
  });

  test('it is chosen by giving it, not by name, and not for real files', async (t) => {
    const disk = make();
    const options = { maxRequests: 1, engine: 'simulated' } as const;
    assert.throws(() => new AioContext(options), coded('ERR_INVALID_ARG_VALUE', /createSimulatedDisk/));
    assert.throws(() => new AioContext({ maxRequests: 1, engine: disk, sqpoll: true }), coded('ERR_AIO_NOT_SUPPORTED'));
    assert.throws(() => new AioContext({ maxRequests: 131_073, engine: disk }), coded('ERR_OUT_OF_RANGE'));
    const { path } = scratchFile(t, 10);
    await assert.rejects(files.open(path, { engine: 'simulated' }), coded('ERR_INVALID_ARG_VALUE'));
    await assert.rejects(files.open(path, { engine: disk as never }), coded('ERR_INVALID_ARG_VALUE', /disk\.open/));
    assert.ok(!engines().some(({ name }) => name === 'simulated'));
    disk.install('/file', '');
    assert.deepEqual(getLimits('/file', disk), { maxOutstanding: 131_072, bufferAlignment: 1, offsetAlignment: 512 });
    assert.throws(
      () => getLimits('/none', disk),
      (error) => error instanceof AioError && error.code === 'ENOENT' && error.syscall === 'statx',
    );
  });

  test('real contexts go on beside it, and real time with them', async (t) => {
    const disk = createSimulatedDisk({ seed: 1, latency: { read: 3_600_000 } });
    disk.install('/file', Buffer.alloc(100));
    const { fd, data } = scratchFile(t, 4096);
    const simulated = context(t, { maxRequests: 1, engine: disk });
    const real = context(t, { maxRequests: 1, waitWithoutPendingRequests: true });
    simulated.submit([new AioRequest().prepareRead(disk.openSync('/file'), 0, Buffer.alloc(100))]);
    const buffer = allocBuffer(4096);
    real.submit([new AioRequest().prepareRead(fd, 0, buffer)]);
    const [one, other] = await Promise.all([simulated.wait(), real.wait()]);
    assert.equal(one.completed.length, 1);
    assert.equal(other.completed.length, 1);
    assert.deepEqual(buffer, data);
    const began = performance.now();
    assert.equal((await real.wait({ timeoutMs: 20 })).reason, 'timeout');
    assert.ok(performance.now() - began >= 19);
    await turn();
    assert.ok(disk.nowMs >= 3_600_000);
  });
});
