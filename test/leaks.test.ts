/**
 * What a process has after a thousand cycles of open, submit and close is what it had after the first ones. `npm run test:asan` runs this, too, and counts
 * every allocation of the shim there.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { trendOf } from '../soak/trend.ts';
import { type EngineName, engines } from '../src/index.ts';
import { runTypeScript } from './runtime.ts';
import { child, scratch } from './support.ts';

const CYCLES = Number(process.env.FILEAIO_CYCLES ?? 1000);
const program = fileURLToPath(new URL('./programs/leak-cycles.ts', import.meta.url));
/** A build of the shim that counts its allocations writes how many are left into this file. */
const counting = process.env.FILEAIO_ASAN_CHECKS !== undefined;

/** How much each may have grown, over all cycles. One allocation of a cycle that stays is 1,000 times its size. */
const MEASURES = [
  { name: 'resident', unit: 'MiB', tolerance: counting ? 200 : 16 },
  { name: 'heap', unit: 'MiB', tolerance: 1 },
  { name: 'external', unit: 'MiB', tolerance: 2 },
  { name: 'descriptors', unit: '', tolerance: 3 },
  { name: 'mappings', unit: '', tolerance: counting ? 200 : 30 },
] as const;

async function cycles(t: TestContext, engine: EngineName, what: string): Promise<void> {
  const live = join(scratch(t), 'live');
  const ended = await child(process.execPath, [...runTypeScript, program, engine, String(CYCLES), what], {
    // io_destroy holds a thread of the pool for 30 ms.
    UV_THREADPOOL_SIZE: '16',
    FILEAIO_ASAN_CHECKS: live,
  });
  assert.equal(ended.code, 0, ended.stderr);
  const { before, samples, after } = JSON.parse(ended.stdout) as Record<'before' | 'after', number[]> & {
    samples: number[][];
  };
  const words = MEASURES.map(({ name, unit, tolerance }, index) => {
    // The first are warming up.
    const { growth, certain } = trendOf(samples.slice(5).map((sample) => sample[index] ?? 0));
    assert.ok(certain <= tolerance, `${name} grows by ${growth} ${unit}: ${JSON.stringify(samples)}`);
    return `${name} ${growth < 0 ? '' : '+'}${growth.toFixed(unit === '' ? 0 : 2)} ${unit}`.trimEnd();
  });
  assert.equal(after[5], before[5], 'no context or ring is left');
  // A runtime opens some of its own by and by.
  assert.ok(
    (after[3] ?? 0) <= (before[3] ?? 0) + 20,
    `descriptors: ${before[3]} before, ${after[3]} when all is closed`,
  );
  t.diagnostic(`leaks: ${engine}, ${what}: ${CYCLES} cycles: ${words.join(', ')}; no context or ring left`);
  if (!counting) return;
  const [, left] = /^\d+ (-?\d+)$/m.exec(readFileSync(live, 'utf8')) ?? [];
  assert.equal(left, '0', 'allocations of the shim that are left when the process ends');
  t.diagnostic(`leaks: ${engine}, ${what}: no allocation of the shim left`);
}

describe('a thousand cycles leave nothing', { concurrency: 2 }, () => {
  for (const { name, available } of engines()) {
    if (!available || name === 'simulated') continue;
    for (const what of ['contexts', 'handles']) test(`${name}: ${what}`, (t) => cycles(t, name, what));
  }
});
