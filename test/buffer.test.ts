import assert from 'node:assert/strict';
import { constants } from 'node:buffer';
import { describe, test } from 'node:test';
import { AlignedPool, allocBuffer } from '../src/index.ts';
import { loadNative } from '../src/native.ts';
import { lacks } from './runtime.ts';
import { coded, program } from './support.ts';

function addressOf(view: Uint8Array): number {
  const { native } = loadNative();
  assert.ok(native);
  return native.address(view);
}

describe('allocBuffer', () => {
  test('gives zeroed memory of the size and at the alignment that were asked for', () => {
    for (const alignment of [1, 2, 8, 64, 512, 4096, 2 ** 16, 2 ** 21]) {
      for (const size of [0, 1, 511, 512, 4096, 70_000]) {
        const buffer = allocBuffer(size, alignment);
        assert.ok(Buffer.isBuffer(buffer));
        assert.equal(buffer.length, size);
        assert.equal(buffer.buffer.byteLength, size, 'nothing of the library lies beside it');
        assert.ok(buffer.every((byte) => byte === 0));
        if (size > 0) assert.equal(addressOf(buffer) % alignment, 0, `alignment ${alignment}`);
        buffer.fill(0xff);
      }
    }
  });

  test('aligns to the page by default', () => {
    const pageSize = loadNative().native?.pageSize ?? 0;
    assert.ok(pageSize >= 4096);
    for (let i = 0; i < 100; i++) assert.equal(addressOf(allocBuffer(4096)) % pageSize, 0);
  });

  test('refuses what is no size and no alignment', () => {
    assert.throws(() => allocBuffer(-1), coded('ERR_OUT_OF_RANGE'));
    assert.throws(() => allocBuffer(1.5), coded('ERR_OUT_OF_RANGE'));
    assert.throws(() => allocBuffer(Number.NaN), coded('ERR_OUT_OF_RANGE'));
    assert.throws(() => allocBuffer(2 ** 53), coded('ERR_OUT_OF_RANGE'));
    assert.throws(() => allocBuffer('1' as never), coded('ERR_INVALID_ARG_TYPE'));
    assert.throws(() => allocBuffer(1, 0), coded('ERR_OUT_OF_RANGE'));
    assert.throws(() => allocBuffer(1, 3), coded('ERR_OUT_OF_RANGE', /power of two/));
    assert.throws(() => allocBuffer(1, 2 ** 31), coded('ERR_OUT_OF_RANGE'));
    assert.throws(() => allocBuffer(1, '8' as never), coded('ERR_INVALID_ARG_TYPE'));
  });

  test('memory takes no room before it is used, and is zeros', () => {
    const before = process.memoryUsage().rss;
    const buffer = allocBuffer(2 ** 30, 2 ** 16);
    const grown = process.memoryUsage().rss - before;
    assert.ok(grown < 2 ** 27, `${grown} bytes`);
    assert.equal(addressOf(buffer) % 2 ** 16, 0);
    for (let at = 0; at < buffer.length; at += 2 ** 24) assert.equal(buffer[at], 0);
    assert.equal(buffer.at(-1), 0);
    buffer.fill(1, buffer.length - 4096);
    assert.equal(buffer.at(-1), 1);
  });

  test('memory is given back: many gigabytes pass through a small process', async (t) => {
    if (lacks('pressure of native memory', t)) return;
    const { code, stdout, stderr } = await program('allocate-much.ts');
    assert.equal(code, 0, stderr);
    assert.ok(Number(stdout) < 600, `${stdout.trim()} MiB resident`);
  });
});

describe('AlignedPool', () => {
  test('lends each of its buffers once, and again when it came back', () => {
    const pool = new AlignedPool({ size: 1000, count: 5, alignment: 512 });
    assert.equal(pool.size, 1000);
    assert.equal(pool.count, 5);
    assert.equal(pool.available, 5);
    const lent: Buffer[] = [];
    for (let buffer = pool.acquire(); buffer !== undefined; buffer = pool.acquire()) {
      assert.equal(buffer.length, 1000);
      assert.equal(addressOf(buffer) % 512, 0);
      assert.ok(buffer.every((byte) => byte === 0));
      buffer.fill(lent.length + 1);
      lent.push(buffer);
    }
    assert.equal(new Set(lent).size, 5);
    assert.equal(pool.available, 0);
    for (const [i, buffer] of lent.entries())
      assert.ok(
        buffer.every((byte) => byte === i + 1),
        'buffers do not overlap',
      );
    const [third] = lent.splice(2, 1);
    assert.ok(third);
    pool.release(third);
    assert.equal(pool.available, 1);
    const again = pool.acquire();
    assert.ok(again);
    assert.equal(addressOf(again), addressOf(third), 'the same memory');
    assert.throws(() => pool.release(third), coded('ERR_INVALID_ARG_VALUE'), 'but not for its last borrower');
    assert.equal(pool.available, 0);
  });

  test('refuses buffers that it did not lend, parts of them, and a second release', () => {
    const pool = new AlignedPool({ size: 512, count: 2 });
    const other = new AlignedPool({ size: 512, count: 2 });
    const buffer = pool.acquire();
    assert.ok(buffer);
    assert.throws(() => other.release(buffer), coded('ERR_INVALID_ARG_VALUE'));
    assert.throws(() => pool.release(Buffer.alloc(512)), coded('ERR_INVALID_ARG_VALUE'));
    assert.throws(() => pool.release(buffer.subarray(0, 100)), coded('ERR_INVALID_ARG_VALUE'));
    assert.throws(() => pool.release(undefined as never), coded('ERR_INVALID_ARG_VALUE'));
    pool.release(buffer);
    assert.throws(() => pool.release(buffer), coded('ERR_INVALID_ARG_VALUE', /already/));
    assert.equal(pool.available, 2);
  });

  test('whose memory was transferred away lends none, and says why', () => {
    const pool = new AlignedPool({ size: 512, count: 2 });
    const buffer = pool.acquire();
    assert.ok(buffer);
    assert.equal(loadNative().native?.detach(buffer.buffer as ArrayBuffer), 0);
    for (let again = 0; again < 3; again++) {
      assert.throws(() => pool.acquire(), coded('ERR_AIO_BUFFER_DETACHED', /make a new AlignedPool/));
    }
    assert.equal(pool.available, 1);
  });

  test('refuses nonsense', () => {
    const refused: [unknown, string][] = [
      [undefined, 'ERR_INVALID_ARG_TYPE'],
      [{ size: 512 }, 'ERR_INVALID_ARG_TYPE'],
      [{ size: 0, count: 1 }, 'ERR_OUT_OF_RANGE'],
      [{ size: 512, count: 0 }, 'ERR_OUT_OF_RANGE'],
      [{ size: 512, count: 1, alignment: 100 }, 'ERR_OUT_OF_RANGE'],
      [{ size: constants.MAX_LENGTH, count: 2 }, 'ERR_OUT_OF_RANGE'],
    ];
    for (const [options, code] of refused) assert.throws(() => new AlignedPool(options as never), coded(code));
  });
});
