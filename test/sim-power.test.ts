/** What losing power leaves: everything that a flush covered, and of the rest any part that a disk may keep. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AioContext, AioRequest } from '../src/index.ts';
import { createSimulatedDisk, type SimulatedDisk, type SimulatedDiskOptions } from '../src/sim.ts';
import { coded } from './support.ts';

const SECTOR = 512;

/** A context that is waited on without the event loop. */
function runner(disk: SimulatedDisk): (...requests: AioRequest[]) => AioRequest[] {
  const context = new AioContext({ maxRequests: 64, engine: disk });
  return (...requests) => {
    context.submit(requests);
    return context.waitSync({ min: requests.length }).completed;
  };
}

function sectors(...letters: string[]): Buffer {
  return Buffer.concat(letters.map((letter) => Buffer.alloc(SECTOR, letter)));
}

/** The first letter of each sector; `.` for zeros. */
function shown(bytes: Buffer): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += SECTOR) {
    const sector = bytes.subarray(at, at + SECTOR);
    assert.ok(
      sector.every((byte) => byte === sector[0]),
      'a sector is whole',
    );
    text += sector[0] === 0 ? '.' : String.fromCharCode(sector[0] ?? 0);
  }
  return text;
}

/** What may come of it, over many seeds. */
function outcomes(
  step: (disk: SimulatedDisk) => string | undefined,
  options: Omit<SimulatedDiskOptions, 'seed'> = {},
  seeds = 400,
): string[] {
  const found = new Set<string>();
  for (let seed = 0; seed < seeds; seed++) {
    const outcome = step(createSimulatedDisk({ seed, ...options }));
    if (outcome !== undefined) found.add(outcome);
  }
  return [...found].sort();
}

const EVERY_SUBSET = ['ABC', 'ABc', 'AbC', 'Abc', 'aBC', 'aBc', 'abC', 'abc'];

describe('losing power', () => {
  test('of three writes that no flush covered any subset is there, whatever their order', () => {
    const found = outcomes((disk) => {
      disk.install('/file', sectors('a', 'b', 'c'));
      const run = runner(disk);
      const fd = disk.openSync('/file', 'r+');
      for (const [index, letter] of ['A', 'B', 'C'].entries()) {
        run(new AioRequest().prepareWrite(fd, index * SECTOR, sectors(letter)));
      }
      disk.powerLoss();
      return shown(disk.readFileSync('/file'));
    });
    assert.deepEqual(found, EVERY_SUBSET);
  });

  test('of one write of three sectors, any of them', () => {
    const found = outcomes((disk) => {
      disk.install('/file', sectors('a', 'b', 'c'));
      runner(disk)(new AioRequest().prepareWrite(disk.openSync('/file', 'r+'), 0, sectors('A', 'B', 'C')));
      disk.powerLoss();
      return shown(disk.readFileSync('/file'));
    });
    assert.deepEqual(found, EVERY_SUBSET);
  });

  test('of a write in flight, too; it ends with EIO', () => {
    const found = outcomes((disk) => {
      disk.install('/file', sectors('a', 'b', 'c'));
      const context = new AioContext({ maxRequests: 1, engine: disk });
      const write = new AioRequest().prepareWrite(disk.openSync('/file', 'r+'), 0, sectors('A', 'B', 'C'));
      context.submit([write]);
      disk.powerLoss();
      assert.deepEqual(context.waitSync().completed, [write]);
      assert.equal(write.status, 'EIO');
      return shown(disk.readFileSync('/file'));
    });
    assert.deepEqual(found, EVERY_SUBSET);
  });

  test('of three writes over one another any may be the last that got there', () => {
    const found = outcomes((disk) => {
      disk.install('/file', sectors('a'));
      const run = runner(disk);
      const fd = disk.openSync('/file', 'r+');
      for (const letter of ['A', 'B', 'C']) run(new AioRequest().prepareWrite(fd, 0, sectors(letter)));
      disk.powerLoss();
      return shown(disk.readFileSync('/file'));
    });
    assert.deepEqual(found, ['A', 'B', 'C', 'a']);
  });

  test('what shares a sector goes together: the second half is never there without the first', () => {
    const found = outcomes((disk) => {
      disk.install('/file', sectors('a'));
      const run = runner(disk);
      const fd = disk.openSync('/file', 'r+');
      run(new AioRequest().prepareWrite(fd, 0, Buffer.alloc(256, 'A')));
      run(new AioRequest().prepareWrite(fd, 256, Buffer.alloc(256, 'B')));
      disk.powerLoss();
      const bytes = disk.readFileSync('/file');
      return `${String.fromCharCode(bytes[0] ?? 0)}${String.fromCharCode(bytes[511] ?? 0)}`;
    });
    assert.deepEqual(found, ['AB', 'Aa', 'aa']);
  });

  for (const dataOnly of [false, true]) {
    test(`${dataOnly ? 'fdatasync' : 'fsync'} keeps what completed before it, and its size`, () => {
      const found = outcomes((disk) => {
        disk.install('/file', '');
        const run = runner(disk);
        const fd = disk.openSync('/file', 'r+');
        run(new AioRequest().prepareWrite(fd, 0, sectors('A', 'B')));
        run(new AioRequest().prepareFlush(fd, { dataOnly }));
        run(new AioRequest().prepareWrite(fd, SECTOR, sectors('X')));
        disk.powerLoss();
        return shown(disk.readFileSync('/file'));
      });
      assert.deepEqual(found, ['AB', 'AX']);
    });
  }

  test('a flush is no barrier: it does not cover a write that was in flight when it was submitted', () => {
    const found = outcomes((disk) => {
      disk.install('/file', sectors('a'));
      const fd = disk.openSync('/file', 'r+');
      const [write, flush] = runner(disk)(
        new AioRequest().prepareWrite(fd, 0, sectors('A')),
        new AioRequest().prepareFlush(fd),
      );
      assert.equal(write?.status, 'OK');
      assert.equal(flush?.status, 'OK');
      disk.powerLoss();
      return shown(disk.readFileSync('/file'));
    });
    assert.deepEqual(found, ['A', 'a']);
  });

  test('a flush of one file is none of another', () => {
    const found = outcomes((disk) => {
      disk.install('/one', sectors('a'));
      disk.install('/two', sectors('b'));
      const run = runner(disk);
      run(new AioRequest().prepareWrite(disk.openSync('/one', 'r+'), 0, sectors('A')));
      run(new AioRequest().prepareFlush(disk.openSync('/two', 'r+')));
      disk.powerLoss();
      return shown(disk.readFileSync('/one'));
    });
    assert.deepEqual(found, ['A', 'a']);
  });

  test('writes to a file that was opened with O_SYNC are safe when they complete', () => {
    const found = outcomes((disk) => {
      disk.install('/file', sectors('a'));
      const run = runner(disk);
      run(new AioRequest().prepareWrite(disk.openSync('/file', 'rs+'), 0, sectors('A')));
      disk.powerLoss();
      return shown(disk.readFileSync('/file'));
    });
    assert.deepEqual(found, ['A']);
  });

  test('a file that grew has a size that it had, with zeros where the data did not come along', () => {
    const found = outcomes((disk) => {
      disk.install('/file', sectors('a'));
      const run = runner(disk);
      const fd = disk.openSync('/file', 'r+');
      run(new AioRequest().prepareWrite(fd, SECTOR, sectors('B')));
      run(new AioRequest().prepareWrite(fd, 2 * SECTOR, sectors('C')));
      disk.powerLoss();
      return shown(disk.readFileSync('/file'));
    });
    assert.deepEqual(found, ['a', 'a.', 'a..', 'a.C', 'aB', 'aB.', 'aBC']);
  });

  test('a file that was cut and written anew is the old one or the new one, and no mixture', () => {
    const found = outcomes((disk) => {
      disk.install('/file', sectors('a', 'b', 'c'));
      const run = runner(disk);
      const fd = disk.openSync('/file', 'r+');
      disk.ftruncateSync(fd, SECTOR);
      run(new AioRequest().prepareWrite(fd, SECTOR, sectors('B')));
      disk.powerLoss();
      return shown(disk.readFileSync('/file'));
    });
    assert.deepEqual(found, ['a', 'a.', 'aB', 'abc']);
  });

  test('a flush that failed is not made good by the next one', () => {
    let flushes = 0;
    const found = outcomes(
      (disk) => {
        flushes = 0;
        disk.install('/file', sectors('a', 'b'));
        const run = runner(disk);
        const fd = disk.openSync('/file', 'r+');
        run(new AioRequest().prepareWrite(fd, 0, sectors('A')));
        assert.equal(run(new AioRequest().prepareFlush(fd))[0]?.status, 'EIO');
        assert.equal(shown(disk.readFileSync('/file')), 'Ab', 'reads see it all the same');
        run(new AioRequest().prepareWrite(fd, SECTOR, sectors('B')));
        assert.equal(run(new AioRequest().prepareFlush(fd))[0]?.status, 'OK');
        disk.powerLoss();
        return shown(disk.readFileSync('/file'));
      },
      { fail: ({ kind }) => (kind === 'fsync' && ++flushes === 1 ? 'EIO' : undefined) },
    );
    assert.deepEqual(found, ['AB', 'aB']);
  });

  test('and writing again after a flush that failed, then flushing, does', () => {
    let flushes = 0;
    const found = outcomes(
      (disk) => {
        flushes = 0;
        disk.install('/file', sectors('a', 'b'));
        const run = runner(disk);
        const fd = disk.openSync('/file', 'r+');
        run(new AioRequest().prepareWrite(fd, 0, sectors('A', 'X')));
        run(new AioRequest().prepareFlush(fd));
        run(new AioRequest().prepareWrite(fd, 0, sectors('A', 'B')));
        run(new AioRequest().prepareFlush(fd));
        disk.powerLoss();
        return shown(disk.readFileSync('/file'));
      },
      { fail: ({ kind }) => (kind === 'fsync' && ++flushes === 1 ? 'EIO' : undefined) },
    );
    assert.deepEqual(found, ['AB']);
  });

  test('names are in order: the latest may be lost, none without those after it', () => {
    const found = outcomes((disk) => {
      for (const name of ['a', 'b', 'c']) disk.closeSync(disk.openSync(`/${name}`, 'w'));
      const { namesLost } = disk.powerLoss();
      assert.equal(namesLost, 3 - disk.readdirSync('/').length);
      return disk.readdirSync('/').join('');
    });
    assert.deepEqual(found, ['', 'a', 'ab', 'abc']);
  });

  test('flushing a file does not flush its name; flushing the directory does, with what came before it, and no data', () => {
    const found = (flush: string): string[] =>
      outcomes((disk) => {
        const run = runner(disk);
        const fd = disk.openSync('/file', 'w');
        run(new AioRequest().prepareWrite(fd, 0, sectors('A')));
        run(new AioRequest().prepareFlush(flush === 'file' ? fd : disk.openSync('/', 'r')));
        disk.powerLoss();
        return disk.existsSync('/file') ? shown(disk.readFileSync('/file')) : 'gone';
      });
    assert.deepEqual(found('file'), ['A', 'gone']);
    assert.deepEqual(found('directory'), ['', '.', 'A']);
  });

  test('a file is replaced whole by writing, flushing and renaming; without the flush it may be empty', () => {
    const found = (flush: boolean): string[] =>
      outcomes((disk) => {
        disk.install('/config', sectors('a'));
        const run = runner(disk);
        const fd = disk.openSync('/config.new', 'w');
        run(new AioRequest().prepareWrite(fd, 0, sectors('A')));
        if (flush) run(new AioRequest().prepareFlush(fd));
        disk.renameSync('/config.new', '/config');
        disk.powerLoss();
        return shown(disk.readFileSync('/config'));
      });
    assert.deepEqual(found(true), ['A', 'a']);
    assert.deepEqual(found(false), ['', '.', 'A', 'a']);
  });

  test('a directory that was renamed takes its files along, or stays with them', () => {
    const found = outcomes((disk) => {
      disk.install('/old/deep/file', 'x');
      disk.renameSync('/old', '/new');
      disk.unlinkSync('/new/deep/file');
      disk.powerLoss();
      const [root] = disk.readdirSync('/');
      return `${root} ${disk.readdirSync(`/${root}/deep`)}`;
    });
    assert.deepEqual(found, ['new ', 'new file', 'old file']);
  });

  test('every descriptor is closed, every handle too, and numbers do not come back', async () => {
    const disk = createSimulatedDisk({ seed: 1 });
    disk.install('/file', sectors('a'));
    const fd = disk.openSync('/file', 'r+');
    const handle = await disk.open('/file', 'r+');
    const reading = handle.read(Buffer.alloc(1), 0, 1, 0);
    await new Promise((resolve) => process.nextTick(resolve));
    disk.powerLoss();
    await assert.rejects(reading, { code: 'EIO', syscall: 'read' });
    await assert.rejects(handle.write('x'), { code: 'EBADF' });
    await handle.close();
    assert.throws(() => disk.closeSync(fd), coded('EBADF'));
    const again = disk.openSync('/file', 'r+');
    assert.ok(again > fd);
    const [old, fresh] = runner(disk)(
      new AioRequest().prepareWrite(fd, 0, sectors('X')),
      new AioRequest().prepareWrite(again, 0, sectors('A')),
    ).sort((one, other) => one.status.localeCompare(other.status));
    assert.equal(old?.status, 'EBADF');
    assert.equal(fresh?.status, 'OK');
    assert.equal(shown(disk.readFileSync('/file')), 'A');
  });

  test('what it left is certain: a second loss takes nothing more, and reads agree', () => {
    fc.assert(
      fc.property(
        fc.maxSafeNat(),
        fc.array(fc.record({ at: fc.nat(5000), length: fc.integer({ min: 1, max: 3000 }), flush: fc.boolean() }), {
          maxLength: 8,
        }),
        (seed, writes) => {
          const disk = createSimulatedDisk({ seed });
          disk.install('/file', Buffer.alloc(2000, 1));
          const run = runner(disk);
          const fd = disk.openSync('/file', 'r+');
          const model = Buffer.alloc(8000);
          model.fill(1, 0, 2000);
          let size = 2000;
          let safe: { bytes: Buffer; size: number } | undefined;
          for (const [index, { at, length, flush }] of writes.entries()) {
            run(new AioRequest().prepareWrite(fd, at, Buffer.alloc(length, index + 2)));
            model.fill(index + 2, at, at + length);
            size = Math.max(size, at + length);
            assert.deepEqual(disk.readFileSync('/file'), model.subarray(0, size));
            if (!flush) continue;
            run(new AioRequest().prepareFlush(fd));
            if (index === writes.length - 1) safe = { bytes: Buffer.from(model), size };
          }
          disk.powerLoss();
          const left = disk.readFileSync('/file');
          if (safe !== undefined) assert.deepEqual(left, safe.bytes.subarray(0, safe.size));
          assert.deepEqual(disk.powerLoss(), { writesKept: 0, writesTorn: 0, writesLost: 0, namesLost: 0 });
          assert.deepEqual(disk.readFileSync('/file'), left);
          const read = Buffer.alloc(left.length + 10);
          const [request] = run(new AioRequest().prepareRead(disk.openSync('/file'), 0, read));
          assert.equal(request?.result(), left.length);
          assert.deepEqual(read.subarray(0, left.length), left);
        },
      ),
      { numRuns: 200 },
    );
  });
});
