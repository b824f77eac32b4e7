/** That a soak would notice: the trend that it asserts, and the content that it checks. The soak itself is `npm run soak`. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { BLOCK, fillBlock, isBlock, isTornBlock } from '../soak/content.ts';
import { plot } from '../soak/plot.ts';
import { trendOf } from '../soak/trend.ts';

function close(value: number, expected: number, by: number): void {
  assert.ok(Math.abs(value - expected) <= by, `${value} is not within ${by} of ${expected}`);
}

describe('the trend of a series', () => {
  const noise = fc.array(fc.double({ min: -10, max: 10, noNaN: true }), { minLength: 60, maxLength: 600 });

  test('is none where values only vary, however they do', () => {
    // 99 of 100 series of chance show no growth beyond doubt; this seed is none of the hundredth.
    fc.assert(
      fc.property(noise, (values) => {
        const { certain } = trendOf(values.map((value) => 100 + value));
        return certain <= 4;
      }),
      { seed: 7, numRuns: 200 },
    );
    assert.deepEqual(trendOf(new Array<number>(100).fill(5)), { growth: 0, certain: 0 });
    assert.deepEqual(trendOf([]), { growth: 0, certain: 0 });
  });

  test('is seen behind noise as large as itself, and is as large as it is', () => {
    fc.assert(
      fc.property(noise, (values) => {
        const { length } = values;
        const { growth, certain } = trendOf(values.map((value, index) => 100 + value + (40 * index) / (length - 1)));
        close(growth, 40, 20);
        return certain > 16;
      }),
      { seed: 7, numRuns: 200 },
    );
  });

  test('is not that of single peaks', () => {
    const values = Array.from({ length: 300 }, (_, index) => (index % 50 === 49 ? 1000 : 100));
    close(trendOf(values).growth, 0, 1);
    close(trendOf([...values, 1000, 1000, 1000]).growth, 0, 1);
  });

  test('is that of one descriptor in a hundred samples', () => {
    const values = Array.from({ length: 1000 }, (_, index) => 20 + (index % 3) + Math.floor(index / 100));
    assert.ok(trendOf(values).certain > 6);
  });
});

describe('the content of blocks', () => {
  test('shows what stands in the wrong place, is old, or is not whole', () => {
    const bytes = Buffer.alloc(2 * BLOCK);
    fillBlock(bytes, 0, 1, 10, 3);
    fillBlock(bytes, BLOCK, 1, 11, 3);
    assert.ok(isBlock(bytes, 0, 1, 10, 3) && isBlock(bytes, BLOCK, 1, 11, 3));
    assert.ok(isBlock(bytes, 100, 1, 10, 3, 100, 77), 'a part of one');
    assert.ok(!isBlock(bytes, 0, 1, 11, 3) && !isBlock(bytes, 0, 2, 10, 3) && !isBlock(bytes, 0, 1, 10, 2));
    for (const at of [0, 511, 512, 2049, BLOCK - 1]) {
      const spoilt = Buffer.from(bytes);
      spoilt[at] = (spoilt[at] ?? 0) ^ 1;
      assert.ok(!isBlock(spoilt, 0, 1, 10, 3), `byte ${at}`);
      assert.ok(!isTornBlock(spoilt, 0, 1, 10, 3), `byte ${at}`);
    }
  });

  test('tells a block that holds sectors of two generations from one that holds what nobody wrote', () => {
    const bytes = Buffer.alloc(BLOCK);
    const old = Buffer.alloc(BLOCK);
    fillBlock(bytes, 0, 1, 10, 3);
    fillBlock(old, 0, 1, 10, 2);
    old.copy(bytes, 1024, 1024, 2048);
    assert.ok(!isBlock(bytes, 0, 1, 10, 3));
    assert.ok(isTornBlock(bytes, 0, 1, 10, 3));
    assert.ok(!isTornBlock(bytes, 0, 1, 10, 2), 'a generation that was never written');
    old.copy(bytes, 1024, 1025, 2049);
    assert.ok(!isTornBlock(bytes, 0, 1, 10, 3));
  });
});

test('the chart is an SVG that stands alone, with each series and its words escaped', () => {
  const svg = plot('a <b> & "c"', 'said', 2, 0.5, [{ title: 'Memory', unit: 'MiB', values: [0, 7, 3], note: '+1' }]);
  assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg"/);
  assert.match(svg, /a &#60;b&#62; &#38; &#34;c&#34;/);
  assert.match(svg, /<polyline points="74\.0,\S+ 459\.0,\S+ 844\.0,\S+"\/>/);
});
