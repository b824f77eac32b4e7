/** Some of what `npm run test:faults` does in full: system calls that fail at their n-th call, in every kind of work. */
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { describe, test } from 'node:test';
import { Lane, libuvHasRings } from './faults/inject.ts';
import { rows, sample } from './faults/matrix.ts';
import { whyNoStrace } from './faults/strace.ts';

const why = whyNoStrace();

describe('system calls that fail', { concurrency: Math.min(2, availableParallelism()) }, () => {
  const all = rows(libuvHasRings());
  const works = new Set(all.map(({ column, work }) => `${column}, ${work}`));
  for (const name of works) {
    test(`${name}: nothing hangs, nothing is lost, and the error comes to whoever asked`, async (t) => {
      if (why !== undefined) return t.skip(why);
      const lane = new Lane();
      const problems: string[] = [];
      let hit = 0;
      try {
        for (const [index, row] of all.entries()) {
          if (`${row.column}, ${row.work}` !== name) continue;
          const tally = await lane.run(row, sample(row, index), (problem) => problems.push(problem));
          hit += tally.hit;
        }
      } finally {
        const ended = await lane.end();
        if (ended !== undefined) problems.push(`at the end ${ended}`);
      }
      assert.deepEqual(problems, []);
      assert.ok(hit > 0, 'no call failed');
      return undefined;
    });
  }
});
