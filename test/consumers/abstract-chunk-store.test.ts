/** The suite that abstract-chunk-store ships for its implementations, on the store of docs/consumers.md. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { scratch } from '../support.ts';
import { consumer, loadDefault, recipe, type Way, ways } from './consumers.ts';

type Done<T = void> = (error: Error | null, result: T) => void;

interface ChunkStore {
  put(index: number, chunk: Buffer, done?: Done): void;
  get(index: number, options: { offset?: number; length?: number } | null, done: Done<Buffer>): void;
  close(done?: Done): void;
  destroy(done?: Done): void;
}

type Store = new (chunkLength: number, options: { path: string; engine: string; direct: boolean }) => ChunkStore;

/** What the suite uses of tape: it asks for `tape or any compatible module`. */
interface Tape {
  error(error: unknown): void;
  ok(value: unknown): void;
  equal(actual: unknown, expected: unknown): void;
  deepEqual(actual: unknown, expected: unknown): void;
  end(): void;
}

/** A test of tape's as one of node:test: it ends with `end`, or with the first assertion that fails. */
function tapeOn(timeout: number): (title: string, body: (t: Tape) => void) => void {
  return (title, body) => {
    test(title, { timeout }, () => {
      return new Promise<void>((resolve, reject) => {
        const checked =
          <T extends unknown[]>(check: (...args: T) => void) =>
          (...args: T): void => {
            try {
              check(...args);
            } catch (error) {
              reject(error);
            }
          };
        body({
          error: checked((error: unknown) => assert.ifError(error)),
          ok: checked((value: unknown) => assert.ok(value)),
          equal: checked((actual: unknown, expected: unknown) => assert.equal(actual, expected)),
          deepEqual: checked((actual: unknown, expected: unknown) => assert.deepEqual(actual, expected)),
          end: resolve,
        });
      });
    });
  };
}

consumer('abstract-chunk-store', async () => {
  const shipped = await loadDefault<
    (tape: ReturnType<typeof tapeOn>, store: new (chunkLength: number) => ChunkStore) => void
  >('abstract-chunk-store/tests/index.js');
  const { HandleChunkStore } = await recipe<{ HandleChunkStore: Store }>('handle-chunk-store.mjs');

  function storeOf(folder: string, { engine, direct }: Way): new (chunkLength: number) => ChunkStore {
    let made = 0;
    return class extends HandleChunkStore {
      constructor(chunkLength: number) {
        super(chunkLength, { path: join(folder, `${++made}`), engine, direct });
      }
    };
  }

  for (const way of await ways()) {
    describe(way.title, async () => {
      const { after } = await import('node:test');
      const folder = scratch({ after });
      const Store = storeOf(folder, way);
      shipped(tapeOn(60_000), Store);

      test('a thousand chunks of a size that is no power of two, written at once and read back in parts', async () => {
        const size = 1000;
        const store = new Store(size);
        const put = promisify(store.put.bind(store)) as (index: number, chunk: Buffer) => Promise<void>;
        const get = promisify(store.get.bind(store)) as (index: number, part: object | null) => Promise<Buffer>;
        const chunks = Array.from({ length: 1000 }, () => randomBytes(size));
        await Promise.all(chunks.map((chunk, index) => put(index, chunk)));
        assert.deepEqual(await Promise.all(chunks.map((_, index) => get(index, null))), chunks);
        const part = { offset: 333, length: 444 };
        assert.deepEqual(
          await Promise.all(chunks.map((_, index) => get(index, part))),
          chunks.map((chunk) => chunk.subarray(333, 777)),
        );
        await promisify(store.destroy.bind(store))();
      });
    });
  }
});
