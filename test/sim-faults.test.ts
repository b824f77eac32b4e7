/** Each fault that a simulated disk can have, seen from the requests that it happens to. */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { AioError, AioRequest, allocBuffer } from '../src/index.ts';
import { createSimulatedDisk, type SimulatedDisk, type SimulatedDiskOptions, type SimulatedEvent } from '../src/sim.ts';
import { coded, context } from './support.ts';

const SECTOR = 512;

interface Bench {
  readonly disk: SimulatedDisk;
  readonly fd: number;
  /** One request at a time; its outcome: bytes, or a code. */
  one(request: AioRequest): number | string;
}

function bench(t: TestContext, options: Partial<SimulatedDiskOptions>, size = 8 * SECTOR, direct = false): Bench {
  const disk = createSimulatedDisk({ seed: 1, logLimit: Infinity, ...options });
  disk.install('/file', Buffer.alloc(size, 'a'));
  const fd = disk.openSync('/file', { flags: 'r+', direct });
  const ctx = context(t, { maxRequests: 64, engine: disk });
  return {
    disk,
    fd,
    one(request) {
      ctx.submit([request]);
      ctx.waitSync();
      return request.status === 'OK' ? request.bytesTransferred : request.status;
    },
  };
}

function write(fd: number, position: number, length: number, letter = 'B'): AioRequest {
  return new AioRequest().prepareWrite(fd, position, Buffer.alloc(length, letter));
}

function read(fd: number, position: number, length: number): AioRequest {
  return new AioRequest().prepareRead(fd, position, allocBuffer(length));
}

function notes(disk: SimulatedDisk, what: SimulatedEvent['what']): string[] {
  return disk.log.filter((event) => event.what === what && event.note !== '').map(({ note }) => note);
}

describe('faults of a simulated disk', () => {
  test('none, unless asked for', (t) => {
    const { disk, fd, one } = bench(t, {});
    for (let i = 0; i < 300; i++) {
      assert.equal(one(write(fd, i * 100, 1000)), 1000);
      assert.equal(one(read(fd, i * 100, 1000)), 1000);
      assert.equal(one(new AioRequest().prepareFlush(fd)), 0);
    }
    assert.ok(disk.log.every(({ note, what }) => note === '' || what === 'open'));
  });

  test('short transfers move the first bytes, at least one, and say how many', (t) => {
    const { disk, fd, one } = bench(t, { shortTransfers: 0.5 });
    const counts = new Set<number>();
    for (let i = 0; i < 200; i++) {
      const before = disk.readFileSync('/file');
      const moved = one(write(fd, 0, 10, String.fromCharCode(65 + (i % 26))));
      assert.ok(typeof moved === 'number' && moved >= 1 && moved <= 10);
      assert.deepEqual(disk.readFileSync('/file').subarray(moved), before.subarray(moved));
      counts.add(moved);
      const got = one(read(fd, 0, 10));
      assert.ok(typeof got === 'number' && got >= 1 && got <= 10);
    }
    assert.equal(counts.size, 10);
    assert.equal(one(read(fd, 0, 1)), 1, 'a single byte cannot be short');
  });

  test('on a direct file they are whole sectors, and vectors end within', (t) => {
    const { fd, one } = bench(t, { shortTransfers: 1 }, 8 * SECTOR, true);
    const seen = new Set<number | string>();
    for (let i = 0; i < 100; i++) {
      const parts = Array.from({ length: 4 }, () => allocBuffer(SECTOR).fill(0x2e));
      const moved = one(new AioRequest().prepareReadv(fd, 0, parts));
      const bytes = Buffer.concat(parts);
      assert.ok(typeof moved === 'number');
      assert.ok(bytes.subarray(0, moved).every((byte) => byte === 0x61));
      assert.ok(bytes.subarray(moved).every((byte) => byte === 0x2e));
      seen.add(moved);
    }
    assert.deepEqual([...seen].sort(), [512, 1024, 1536].sort());
  });

  test('errors come as often as was said, of the kinds and codes that were said', (t) => {
    const { disk, fd, one } = bench(t, { errors: { read: 0.5, write: { ENOSPC: 0.2, EAGAIN: 0.2 } } });
    const outcomes: Record<string, number> = {};
    for (let i = 0; i < 400; i++) {
      const before = disk.readFileSync('/file');
      const wrote = one(write(fd, 0, 100, String.fromCharCode(65 + (i % 26))));
      if (wrote !== 100) assert.deepEqual(disk.readFileSync('/file'), before);
      for (const outcome of [`write ${wrote}`, `read ${one(read(fd, 0, 100))}`]) {
        outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      }
      assert.equal(one(new AioRequest().prepareFlush(fd)), 0);
    }
    assert.deepEqual(Object.keys(outcomes).sort(), [
      'read 100',
      'read EIO',
      'write 100',
      'write EAGAIN',
      'write ENOSPC',
    ]);
    assert.ok(Math.abs((outcomes['read EIO'] ?? 0) - 200) < 60);
    assert.ok(Math.abs((outcomes['write ENOSPC'] ?? 0) - 80) < 40);
  });

  test('fail() chooses the very request, and sees all of it', (t) => {
    const seen: string[] = [];
    const { fd, one } = bench(t, {
      fail({ number, kind, path, position, length, atMs }) {
        seen.push(`${number} ${kind} ${path} ${position}+${length}${atMs > 0 ? '' : ' at the beginning'}`);
        return number === 3 ? 'ENOSPC' : undefined;
      },
    });
    assert.equal(one(write(fd, 0, 100)), 100);
    assert.equal(one(new AioRequest().prepareFlush(fd, { dataOnly: true })), 0);
    assert.equal(one(write(fd, 100, 100)), 'ENOSPC');
    assert.equal(one(write(fd, 100, 100)), 100);
    assert.deepEqual(seen, [
      '1 write /file 0+100 at the beginning',
      '2 fdatasync /file 0+0',
      '3 write /file 100+100',
      '4 write /file 100+100',
    ]);
  });

  test('an error that fail() makes up is refused, by the submission', (t) => {
    const { disk, fd, one } = bench(t, { fail: () => 'EVERYTHING' });
    assert.throws(() => one(write(fd, 0, 1)), coded('ERR_INVALID_ARG_VALUE', /options\.fail\(\)/));
    assert.equal(disk.pending, 0);
  });

  test('a write that fails with EIO leaves each of its sectors old or new, and not all of them new', (t) => {
    const { disk, fd, one } = bench(t, { errors: { write: 1 } }, 3 * SECTOR);
    const found = new Set<string>();
    for (let i = 0; i < 200; i++) {
      const letter = String.fromCharCode(65 + (i % 2));
      const before = disk.readFileSync('/file');
      assert.equal(one(write(fd, 0, 3 * SECTOR, letter)), 'EIO');
      const after = disk.readFileSync('/file');
      const changed = [0, 1, 2].map((sector) => {
        const at = sector * SECTOR;
        const now = after.subarray(at, at + SECTOR);
        if (now.equals(Buffer.alloc(SECTOR, letter))) return 'n';
        assert.deepEqual(now, before.subarray(at, at + SECTOR));
        return 'o';
      });
      if (i === 0) assert.ok(changed.includes('o'));
      found.add(changed.join(''));
    }
    assert.ok(found.size > 4, `${[...found]}`);
  });

  test('a submission that finds no room says how much went, and the rest goes later', (t) => {
    const disk = createSimulatedDisk({ seed: 3, refusals: 0.5 });
    disk.install('/file', Buffer.alloc(4096));
    const fd = disk.openSync('/file');
    const ctx = context(t, { maxRequests: 64, engine: disk });
    const parts: number[] = [];
    for (let round = 0; round < 50; round++) {
      let left = Array.from({ length: 8 }, (_, i) => read(fd, i * SECTOR, SECTOR));
      while (left.length > 0) {
        try {
          ctx.submit(left);
          left = [];
        } catch (error) {
          assert.ok(error instanceof AioError);
          assert.equal(error.code, 'ERR_AIO_INSUFFICIENT_RESOURCES');
          parts.push(error.submitted ?? -1);
          left = left.slice(error.submitted);
        }
      }
      assert.equal(ctx.waitSync({ min: 8 }).completed.length, 8);
    }
    assert.deepEqual([...new Set(parts)].sort(), [0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test('handles wait until there is room, in virtual time', async () => {
    const disk = createSimulatedDisk({ seed: 3, refusals: 0.9 });
    disk.install('/file', Buffer.alloc(100, 'a'));
    const handle = await disk.open('/file');
    for (let i = 0; i < 20; i++) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(100), 0, 100, 0);
      assert.equal(bytesRead, 100);
      assert.ok(buffer.every((byte) => byte === 0x61));
    }
    assert.ok(disk.nowMs > 20 * 5, `it is ${disk.nowMs}`);
    await handle.close();
  });

  test('what is canceled leaves no trace; a late cancellation none on the request', (t) => {
    const disk = createSimulatedDisk({ seed: 5, lateCancels: 0.5 });
    disk.install('/file', Buffer.alloc(64 * SECTOR, 'a'));
    const fd = disk.openSync('/file', 'r+');
    const ctx = context(t, { maxRequests: 64, engine: disk });
    const requests = Array.from({ length: 64 }, (_, i) => write(fd, i * SECTOR, SECTOR));
    ctx.submit(requests);
    const answers = requests.map((request) => request.cancel());
    assert.deepEqual(new Set(answers), new Set(['canceled', 'in-progress']));
    const count = answers.filter((answer) => answer === 'canceled').length;
    const before = disk.nowMs;
    // They are there at once: no time has to pass for them.
    assert.equal(ctx.waitSync({ min: count, max: count }).completed.length, count);
    assert.equal(disk.nowMs, before);
    ctx.waitSync({ min: 64 - count });
    const bytes = disk.readFileSync('/file');
    for (const [i, request] of requests.entries()) {
      const canceled = answers[i] === 'canceled';
      assert.equal(request.status, canceled ? 'ERR_AIO_CANCELED' : 'OK');
      assert.equal(bytes[i * SECTOR], canceled ? 0x61 : 0x42);
    }
  });

  test('a full disk: short, then ENOSPC; what is there can be written over, and what is freed used again', (t) => {
    const { disk, fd, one } = bench(t, { capacity: 16 * SECTOR });
    assert.equal(one(write(fd, 8 * SECTOR, 100 * SECTOR)), 8 * SECTOR);
    assert.equal(one(write(fd, 16 * SECTOR, 1)), 'ENOSPC');
    assert.equal(one(write(fd, 0, 16 * SECTOR)), 16 * SECTOR);
    disk.ftruncateSync(fd, 10);
    assert.equal(one(write(fd, SECTOR, 100 * SECTOR)), 15 * SECTOR);
    const other = disk.openSync('/other', 'w');
    assert.equal(one(write(other, 0, 1)), 'ENOSPC');
    disk.unlinkSync('/file');
    assert.equal(one(write(other, 0, 1)), 'ENOSPC', 'a descriptor keeps it');
    disk.closeSync(fd);
    assert.equal(one(write(other, 2 ** 40, 1)), 1, 'holes take no room');
  });

  test('a file has its largest size: short across it, EFBIG at it', (t) => {
    const { fd, one } = bench(t, { maxFileSize: 10 * SECTOR });
    assert.equal(one(write(fd, 9 * SECTOR, 4 * SECTOR)), SECTOR);
    assert.equal(one(write(fd, 10 * SECTOR, 1)), 'EFBIG');
    assert.equal(one(new AioRequest().prepareWrite(fd, 2n ** 62n, Buffer.alloc(1))), 'EFBIG');
    assert.equal(one(new AioRequest().prepareRead(fd, 2n ** 62n, Buffer.alloc(1))), 0);
    assert.equal(one(new AioRequest().prepareRead(fd, 2n ** 63n - 1n, Buffer.alloc(1))), 'EINVAL');
    assert.equal(one(write(fd, 10 * SECTOR, 0)), 0);
  });

  test('a torn write says that all is well, and has left some of its sectors as they were', (t) => {
    const { disk, fd, one } = bench(t, { tornWrites: 1 });
    for (let i = 0; i < 50; i++) {
      const letter = String.fromCharCode(65 + i);
      assert.equal(one(write(fd, 0, 2 * SECTOR, letter)), 2 * SECTOR);
      const changed = Array.from({ length: 2 }, (_, s) => disk.readFileSync('/file')[s * SECTOR] === 65 + i);
      assert.ok(changed.includes(false), letter);
      assert.equal(notes(disk, 'write').at(-1), `torn: ${changed.filter(Boolean).length} of 2 sectors written`);
    }
    assert.equal(one(write(fd, 20 * SECTOR, SECTOR)), SECTOR);
    assert.equal(disk.statSync('/file').size, 21 * SECTOR, 'the file system believes that it is there');
  });

  test('a misdirected write says that all is well, and is somewhere else', (t) => {
    const { disk, fd, one } = bench(t, { misdirectedWrites: 1 });
    disk.install('/other', Buffer.alloc(8 * SECTOR, 'o'));
    const places = new Set<string>();
    for (let i = 0; i < 100; i++) {
      const before = { '/file': disk.readFileSync('/file'), '/other': disk.readFileSync('/other') };
      const letter = String.fromCharCode(i % 2 === 0 ? 65 : 66);
      assert.equal(one(write(fd, 3 * SECTOR, SECTOR, letter)), SECTOR);
      for (const [path, bytes] of Object.entries(before)) {
        const after = disk.readFileSync(path);
        assert.equal(after.length, bytes.length);
        for (let sector = 0; sector < 8; sector++) {
          const at = sector * SECTOR;
          if (after.subarray(at, at + SECTOR).equals(bytes.subarray(at, at + SECTOR))) continue;
          places.add(`${path} ${sector}`);
        }
      }
      assert.match(notes(disk, 'write').at(-1) ?? '', /^misdirected: to \/(file|other) at \d+$/);
    }
    assert.ok(!places.has('/file 3'), 'not where it was to go');
    assert.ok(places.size > 12, `${[...places]}`);
  });

  test('a bad sector cannot be read, nor written in part, until it is written whole', (t) => {
    const { disk, fd, one } = bench(t, {});
    disk.breakSectors('/file', 3 * SECTOR + 10, 1);
    assert.equal(one(read(fd, 0, 8 * SECTOR)), 3 * SECTOR, 'what comes before it is read');
    assert.equal(one(read(fd, 3 * SECTOR, 10)), 'EIO');
    assert.equal(one(read(fd, 4 * SECTOR, SECTOR)), SECTOR);
    assert.equal(one(write(fd, 3 * SECTOR + 10, 10)), 'EIO');
    assert.equal(one(write(fd, 2 * SECTOR, SECTOR + 10)), 'EIO');
    disk.powerLoss();
    const again = disk.openSync('/file', 'r+');
    assert.equal(one(read(again, 3 * SECTOR, 10)), 'EIO', 'it stays bad');
    assert.equal(one(write(again, 2 * SECTOR, 3 * SECTOR)), 3 * SECTOR);
    assert.equal(one(read(again, 0, 8 * SECTOR)), 8 * SECTOR);
  });

  test('sectors go bad by themselves, and stay so', (t) => {
    const { disk, fd, one } = bench(t, { latentSectorErrors: 0.05 }, 200 * SECTOR);
    const bad = Array.from({ length: 200 }, (_, i) => one(read(fd, i * SECTOR, SECTOR)) === 'EIO');
    const count = bad.filter(Boolean).length;
    assert.ok(count > 2 && count < 30, `${count} of 200`);
    for (const [i, was] of bad.entries()) if (was) assert.equal(one(read(fd, i * SECTOR, 1)), 'EIO');
    assert.ok(notes(disk, 'read').every((note) => note.startsWith('bad sector at ')));
  });

  test('the log tells what happened, when, and to whom; of the latest as much as was asked for', (t) => {
    const { disk, fd, one } = bench(t, { latency: { write: 2, read: 1 }, logLimit: 4 });
    one(write(fd, 10, 20));
    one(read(fd, 5000, 10));
    one(read(987_654, 0, 10));
    disk.renameSync('/file', '/renamed');
    const [wrote, ended, refused, renamed, ...rest] = disk.log;
    assert.deepEqual(rest, []);
    assert.equal(wrote?.what === 'write' && wrote.atMs >= 2 && wrote.result, 20);
    assert.deepEqual(ended, {
      ...ended,
      what: 'read',
      number: 2,
      path: '/file',
      position: 5000,
      length: 10,
      result: 0,
    });
    assert.deepEqual([refused?.path, refused?.result], ['', 'EBADF']);
    assert.deepEqual([renamed?.what, renamed?.path, renamed?.note], ['rename', '/file', 'to /renamed']);
    for (let i = 0; i < 100; i++) one(read(fd, 0, 1));
    assert.equal(disk.log.length, 4);
    assert.equal(disk.log.at(-1)?.number, 103);
  });
});
