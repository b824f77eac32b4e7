/** Same seed, same run: in this process, in another one, on every platform. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AioContext, AioError, AioRequest } from '../src/index.ts';
import { Random } from '../src/sim/random.ts';
import { createSimulatedDisk, type SimulatedDiskOptions } from '../src/sim.ts';
import { coded } from './support.ts';

const FAULTS: Omit<SimulatedDiskOptions, 'seed'> = {
  shortTransfers: 0.1,
  errors: { read: 0.02, write: { EIO: 0.05, ENOSPC: 0.02 }, flush: 0.1 },
  refusals: 0.05,
  lateCancels: 0.5,
  tornWrites: 0.05,
  misdirectedWrites: 0.05,
  latentSectorErrors: 0.001,
  logLimit: Infinity,
};

/** Handles, requests, cancellations, names and losses of power, all at once; returns what can be seen of it. */
async function run(seed: number, options: Omit<SimulatedDiskOptions, 'seed'> = FAULTS): Promise<string> {
  const disk = createSimulatedDisk({ seed, ...options });
  const { random } = disk;
  const outcomes: string[] = [];
  const context = new AioContext({ maxRequests: 16, engine: disk });
  async function handles(name: string): Promise<void> {
    const handle = await disk.open(name, 'w+');
    for (let i = 0; i < 30; i++) {
      const position = random.below(20_000);
      const length = 1 + random.below(6000);
      const call = [
        () => handle.write(Buffer.alloc(length, i), 0, length, position),
        () => handle.read(Buffer.alloc(length), 0, length, position),
        () => handle.datasync(),
      ][random.below(3)];
      await call?.().then(
        (done) => outcomes.push(`${name} ${JSON.stringify(done ?? 'flushed').length}`),
        (error) => outcomes.push(`${name} ${error.code}`),
      );
    }
  }
  async function requests(fd: number): Promise<void> {
    for (let i = 0; i < 20; i++) {
      const batch = Array.from({ length: 8 }, (_, j) => {
        const at = random.below(40) * 512;
        return j % 2 === 0
          ? new AioRequest().prepareWrite(fd, at, Buffer.alloc(1024, j))
          : new AioRequest().prepareRead(fd, at, Buffer.alloc(1024));
      });
      let submitted = batch.length;
      try {
        context.submit(batch);
      } catch (error) {
        submitted = error instanceof AioError ? (error.submitted ?? 0) : 0;
      }
      outcomes.push(`submitted ${submitted}`);
      const [first] = batch;
      if (submitted > 0 && first !== undefined && random.chance(0.3)) outcomes.push(first.cancel());
      while (context.pending > 0) {
        const { completed, reason } = await context.wait({ timeoutMs: 0.1 });
        for (const { status, bytesTransferred } of completed) outcomes.push(`${status} ${bytesTransferred}`);
        outcomes.push(reason);
      }
    }
  }
  for (let life = 0; life < 3; life++) {
    const fd = disk.openSync('/requests', 'a+');
    disk.closeSync(fd);
    const files = [`/a${life}`, `/b${life}`].map(handles);
    const raw = requests(disk.openSync('/requests', { flags: 'r+', direct: true }));
    if (life < 2) {
      await disk.sleep(random.between(1, 20));
      outcomes.push(JSON.stringify(disk.powerLoss()));
    }
    await Promise.all([...files, raw]);
    for (const name of disk.readdirSync('/')) {
      outcomes.push(
        `${name} ${createHash('sha256')
          .update(disk.readFileSync(`/${name}`))
          .digest('hex')}`,
      );
    }
  }
  await context.close();
  return JSON.stringify({ outcomes, log: disk.log, nowMs: disk.nowMs });
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

describe('a seed', () => {
  test('decides the run, byte for byte, however busy the machine is', async () => {
    for (const seed of [1, 2]) {
      const first = await run(seed);
      // Other work on the event loop in between, and another speed.
      const busy = setInterval(() => {
        for (const until = performance.now() + 2; performance.now() < until; );
      }, 7);
      const [second, third] = [await run(seed), await run(seed)];
      clearInterval(busy);
      assert.equal(digest(second), digest(first));
      assert.equal(digest(third), digest(first));
    }
  });

  test('is what differs: other seeds, other runs', async () => {
    const runs = new Set<string>();
    for (let seed = 0; seed < 20; seed++) runs.add(digest(await run(seed)));
    assert.equal(runs.size, 20);
  });

  test('means the same on every platform, runtime and day', async () => {
    assert.equal(digest(await run(42)), '840694e3c267ae4c841be97b3d25e7a95c192cf945567feaee682c68eb914ac8');
  });

  test('draws the faults of one kind from a stream of its own: others do not shift when one is turned on', async () => {
    const times = async (options: Omit<SimulatedDiskOptions, 'seed'>): Promise<number[]> => {
      const disk = createSimulatedDisk({ seed: 5, logLimit: Infinity, ...options });
      disk.install('/file', Buffer.alloc(100_000));
      const handle = await disk.open('/file', 'r+');
      for (let i = 0; i < 50; i++) await handle.write(Buffer.alloc(2000), 0, 2000, 0).catch(() => undefined);
      return disk.log.filter(({ what }) => what === 'write').map(({ atMs }) => atMs);
    };
    const plain = await times({});
    assert.equal(plain.length, 50);
    assert.deepEqual(await times({ errors: 0.2, tornWrites: 0.2, shortTransfers: 0.5 }), plain);
  });

  test('is an integer, and so are the other options what they should be', () => {
    const refused: [unknown, string][] = [
      [undefined, 'ERR_INVALID_ARG_TYPE'],
      [{}, 'ERR_INVALID_ARG_TYPE'],
      [{ seed: '1' }, 'ERR_INVALID_ARG_TYPE'],
      [{ seed: -1 }, 'ERR_OUT_OF_RANGE'],
      [{ seed: 0.5 }, 'ERR_OUT_OF_RANGE'],
      [{ seed: 2 ** 53 }, 'ERR_OUT_OF_RANGE'],
      [{ seed: 1, sectorSize: 1000 }, 'ERR_OUT_OF_RANGE'],
      [{ seed: 1, sectorSize: 256 }, 'ERR_OUT_OF_RANGE'],
      [{ seed: 1, tornWrites: 1.5 }, 'ERR_OUT_OF_RANGE'],
      [{ seed: 1, tornWrites: Number.NaN }, 'ERR_OUT_OF_RANGE'],
      [{ seed: 1, errors: { write: { ENOTHING: 1 } } }, 'ERR_INVALID_ARG_VALUE'],
      [{ seed: 1, errors: 'often' }, 'ERR_INVALID_ARG_TYPE'],
      [{ seed: 1, fail: 'EIO' }, 'ERR_INVALID_ARG_TYPE'],
      [{ seed: 1, latency: { read: [3, 2] } }, 'ERR_OUT_OF_RANGE'],
      [{ seed: 1, latency: { read: -1 } }, 'ERR_OUT_OF_RANGE'],
      [{ seed: 1, reorder: 'yes' }, 'ERR_INVALID_ARG_TYPE'],
      [{ seed: 1, logLimit: 1.5 }, 'ERR_OUT_OF_RANGE'],
    ];
    for (const [options, code] of refused) assert.throws(() => createSimulatedDisk(options as never), coded(code));
  });
});

describe('random numbers', () => {
  test('stay in their bounds, reach them, and come about as often as they should', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.integer({ min: 1, max: 12 }), (seed, count) => {
        const random = new Random(seed, 'test');
        const seen = new Array<number>(count).fill(0);
        for (let i = 0; i < 200 * count; i++) {
          const drawn = random.below(count);
          assert.ok(Number.isInteger(drawn) && drawn >= 0 && drawn < count);
          seen[drawn] = (seen[drawn] ?? 0) + 1;
        }
        for (const times of seen) assert.ok(times > 100 && times < 320, `${seen}`);
        assert.equal(random.chance(0), false);
        assert.equal(random.chance(1), true);
        const between = random.between(-5, 5);
        assert.ok(between >= -5 && between <= 5);
      }),
      { numRuns: 100 },
    );
  });

  test('differ from seed to seed, also in the high bits of a seed, and from purpose to purpose', () => {
    const draw = (seed: number, purpose = 'test'): string => {
      const random = new Random(seed, purpose);
      return Array.from({ length: 4 }, () => random.below(2 ** 53)).join();
    };
    const seeds = [0, 1, 2, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 52, 2 ** 53 - 1];
    assert.equal(new Set(seeds.map((seed) => draw(seed))).size, seeds.length);
    assert.notEqual(draw(1), draw(1, 'other'));
    assert.equal(draw(1), draw(1));
  });
});
