/**
 * What was acknowledged is there after a crash. A child appends checksummed records with datasync, several writes and a flush under way
 * at once, says over a pipe which are safe, and is killed at random; then the file is read byte by byte.
 *
 * SIGKILL ends the process, not the machine: what the kernel has in its page cache outlives it, flushed or not. So killing finds records that were
 * acknowledged before they were written, writes that never got to the kernel, and torn or misplaced ones; it cannot find a missing
 * flush. The second half does: the same writer on a simulated disk that loses its power.
 *
 * `npm run test:crash` kills 500 times, and takes the power away 10,000 times; FILEAIO_KILLS and FILEAIO_POWER_LOSSES say how often.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AioContext, AioRequest, engines } from '../src/index.ts';
import { createSimulatedDisk, type SimulatedRandom } from '../src/sim.ts';
import {
  type Appending,
  append,
  MOST_UNACKNOWLEDGED,
  problemOf,
  recordOf,
  recover,
  throughContext,
  throughHandle,
} from './programs/record-log.mjs';
import { scratch } from './support.ts';

const KILLS = Number(process.env.FILEAIO_KILLS ?? 40);
const POWER_LOSSES = Number(process.env.FILEAIO_POWER_LOSSES ?? 1000);
const SEED = Number(process.env.FILEAIO_SEED ?? Date.now() % 2 ** 32);

const MODES = ['direct', 'buffered'] as const;
const INTERFACES = ['handle', 'context'] as const;
/** A log that has become so large is left, and another one begun. */
const MOST_BYTES = 4 * 2 ** 20;
/** Within it a child has begun, even on a machine that has much else to do. */
const BEGIN_MS = 30_000;

const writer = fileURLToPath(new URL('./programs/append-records.mjs', import.meta.url));

interface Cell {
  readonly engine: string;
  readonly mode: (typeof MODES)[number];
  readonly through: (typeof INTERFACES)[number];
  path: string;
  log: number;
  /** Records of the present log that are certainly safe, and those of the logs before it. */
  safe: number;
  before: number;
  kills: number;
  acknowledged: number;
  found: number;
}

/** One life of a writer: from its start until it is killed, and what it said meanwhile. */
async function life(
  { path, engine, mode, through }: Pick<Cell, 'path' | 'engine' | 'mode' | 'through'>,
  afterWords: number,
  lateMs: number,
  when = 'durable',
): Promise<{ recovered: number; safe: number }> {
  const child = spawn(process.execPath, [writer, path, engine, mode, through, when], {
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  let complaints = '';
  const begun = setTimeout(() => child.kill('SIGKILL'), BEGIN_MS);
  const ended = new Promise<NodeJS.Signals | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (_code, signal) => resolve(signal));
  });
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    complaints += chunk;
  });
  await new Promise<void>((resolve) => {
    let words = 0;
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      said += chunk;
      words += chunk.split('\n').length - 1;
      if (words > afterWords) resolve();
    });
    void ended.then(() => resolve());
  });
  clearTimeout(begun);
  if (lateMs > 0) await delay(lateMs);
  child.kill('SIGKILL');
  assert.equal(await ended, 'SIGKILL', complaints);
  const [ready = '', ...lines] = said.split('\n').slice(0, -1);
  assert.match(ready, /^ready \d+$/, complaints);
  const recovered = Number(ready.slice('ready '.length));
  return { recovered, safe: Number(lines.at(-1) ?? recovered) };
}

async function killOnce(cell: Cell, directory: string, random: SimulatedRandom): Promise<void> {
  const block = cell.mode === 'direct' ? 4096 : 1;
  // Some die while they recover or before their first word, most in the midst of appending.
  const { recovered, safe } = await life(cell, random.below(30), random.between(0, 4));
  cell.kills++;
  assert.ok(recovered >= cell.safe, `${recovered} records were recovered of ${cell.safe} that were acknowledged`);
  const bytes = readFileSync(cell.path);
  const { engine, mode, through, path } = cell;
  assert.equal(problemOf(bytes, safe, block), undefined, `${engine}, ${mode}, ${through}, ${path}, seed ${SEED}`);
  cell.safe = safe;
  cell.acknowledged = cell.before + safe;
  cell.found = cell.before + recover(bytes).count;
  if (bytes.length > MOST_BYTES) {
    cell.before = cell.acknowledged;
    cell.safe = 0;
    cell.path = join(directory, `${engine}-${mode}-${through}-${++cell.log}`);
  }
}

function say(t: TestContext, text: string): void {
  t.diagnostic(text);
}

describe('the check', () => {
  const log = Buffer.concat(Array.from({ length: 10 }, (_, number) => recordOf(number, 1)));

  test('finds a record that is gone, torn, or has one wrong byte', () => {
    assert.equal(problemOf(log, 10, 1), undefined);
    assert.match(String(problemOf(log, 11, 1)), /record 10 of 11/);
    assert.match(String(problemOf(log.subarray(0, -1), 10, 1)), /record 9 of 10/);
    for (const at of [0, 5, 10, 13, 16, 100, log.length - 1]) {
      const spoilt = Buffer.from(log);
      spoilt[at] = (spoilt[at] ?? 0) ^ 0x40;
      assert.match(String(problemOf(spoilt, 10, 1)), /acknowledged/, `byte ${at}`);
    }
  });

  test('takes a torn tail and holes behind what was acknowledged, and nothing else there', () => {
    assert.equal(problemOf(log.subarray(0, -7), 9, 1), undefined);
    const hole = Buffer.from(log);
    hole.fill(0, recordOf(0, 1).length, hole.length - 100);
    assert.equal(problemOf(hole, 1, 1), undefined);
    hole[log.length - 200] = 1;
    assert.match(String(problemOf(hole, 1, 1)), /bytes that nobody wrote there/);
    const more = Buffer.concat(Array.from({ length: MOST_UNACKNOWLEDGED + 2 }, (_, number) => recordOf(number, 1)));
    assert.match(String(problemOf(more, 1, 1)), /behind everything/);
  });
});

describe('writers that are killed', { concurrency: false }, () => {
  test(`${KILLS} kills over every engine, direct and buffered: every acknowledged record is there and whole`, async (t) => {
    const directory = scratch(t);
    const cells: Cell[] = [];
    for (const { name, available, why } of engines()) {
      if (name === 'simulated') continue;
      if (!available) {
        say(t, `${name}: not here: ${why}`);
        continue;
      }
      for (const mode of MODES) {
        for (const through of INTERFACES) {
          const path = join(directory, `${name}-${mode}-${through}-0`);
          const counts = { log: 0, safe: 0, before: 0, kills: 0, acknowledged: 0, found: 0 };
          cells.push({ engine: name, mode, through, path, ...counts });
        }
      }
    }
    const { random } = createSimulatedDisk({ seed: SEED });
    let next = 0;
    const busy = new Set<Cell>();
    // Two at a time, never both on one log.
    const killing = async (): Promise<void> => {
      while (next < KILLS) {
        const cell = cells[next++ % cells.length];
        if (cell === undefined || busy.has(cell)) continue;
        busy.add(cell);
        await killOnce(cell, directory, random);
        busy.delete(cell);
      }
    };
    await Promise.all([killing(), killing()]);
    let kills = 0;
    let acknowledged = 0;
    for (const cell of cells) {
      say(
        t,
        `${cell.engine} ${cell.mode} ${cell.through}: ${cell.kills} kills, ${cell.acknowledged} records acknowledged, ${cell.found} found`,
      );
      kills += cell.kills;
      acknowledged += cell.acknowledged;
    }
    say(t, `crash: ${kills} kills, ${acknowledged} records acknowledged, none lost (seed ${SEED})`);
    assert.ok(kills >= KILLS - 1 && acknowledged > kills, 'the writers got somewhere before they were killed');
  });

  test('a writer that acknowledges before it writes is found out', async (t) => {
    const directory = scratch(t);
    for (let tries = 0; tries < 50; tries++) {
      const path = join(directory, String(tries));
      const { safe } = await life({ path, engine: 'threads', mode: 'buffered', through: 'handle' }, 3, 0, 'submitted');
      const problem = problemOf(readFileSync(path), safe, 1);
      if (problem !== undefined) {
        assert.match(problem, /that were acknowledged is not there, or not whole/);
        return;
      }
    }
    assert.fail('fifty writers that lied were believed');
  });
});

/** Appends on a simulated disk until the power goes, a few times over. Says what is wrong with what is left, if anything. */
async function lives(
  seed: number,
  count: number,
  when: Appending['when'] & string,
): Promise<{ problem?: string; losses: number; acknowledged: number; unsafe: number }> {
  const disk = createSimulatedDisk({ seed, shortTransfers: 0.05, refusals: 0.02, logLimit: 0 });
  const direct = seed % 2 === 0;
  const block = direct ? 512 : 1;
  disk.install('/db/log', '');
  let acknowledged = 0;
  let unsafe = 0;
  for (let losses = 0; losses < count; losses++) {
    const handle = await disk.open('/db/log', { flags: 'r+', direct });
    const { count: number, end } = recover(await handle.readFile());
    await handle.truncate(end);
    const fd = disk.openSync('/db/log', { flags: 'r+', direct });
    const file =
      disk.random.below(2) === 0 ? throughHandle(handle) : throughContext({ AioContext, AioRequest }, disk, fd);
    let safe = number;
    let powered = true;
    const acknowledge = (below: number): void => {
      if (powered) safe = below;
    };
    const writing = append(file, { number, position: end, block, acknowledge, when }).catch(() => undefined);
    await disk.sleep(disk.random.between(1, 250) / 10);
    powered = false;
    const { writesTorn, writesLost } = disk.powerLoss();
    unsafe += writesTorn + writesLost;
    await writing;
    await handle.close().catch(() => undefined);
    acknowledged += safe - number;
    const problem = problemOf(disk.readFileSync('/db/log'), safe, block);
    if (problem !== undefined) return { problem, losses: losses + 1, acknowledged, unsafe };
  }
  return { losses: count, acknowledged, unsafe };
}

describe('writers whose power goes', () => {
  const LIVES = 4;

  test(`${POWER_LOSSES} losses of power: every acknowledged record is there and whole`, async (t) => {
    let losses = 0;
    let acknowledged = 0;
    let unsafe = 0;
    for (let seed = 0; losses < POWER_LOSSES; seed++) {
      const result = await lives(seed, LIVES, 'durable');
      assert.equal(result.problem, undefined, `seed ${seed}`);
      losses += result.losses;
      acknowledged += result.acknowledged;
      unsafe += result.unsafe;
    }
    say(
      t,
      `power: ${losses} losses of power, ${acknowledged} records acknowledged, none lost; ${unsafe} other writes lost or torn`,
    );
    assert.ok(acknowledged > losses);
  });

  for (const when of ['written', 'submitted'] as const) {
    test(`a writer that acknowledges what is ${when}, and not flushed, is found out`, async (t) => {
      let found = 0;
      const seeds = 50;
      for (let seed = 0; seed < seeds; seed++) {
        const { problem } = await lives(seed, LIVES, when);
        if (problem === undefined) continue;
        assert.match(problem, /that were acknowledged is not there, or not whole/);
        found++;
      }
      say(t, `acknowledged when ${when}: lost records in ${found} of ${seeds} runs`);
      assert.ok(found > seeds / 2);
    });
  }
});
