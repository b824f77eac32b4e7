/** Apache Arrow reads both of its formats from our handles and streams, and writes them to our streams. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { type Cleanup, scratch } from '../support.ts';
import { consumer, fileaioPromises, load, type Way, ways } from './consumers.ts';

interface Rows {
  readonly numRows: number;
  toArray(): unknown[];
}

interface Table extends Rows {
  readonly batches: Rows[];
}

interface Reader extends AsyncIterable<Rows> {
  open(): Promise<this>;
  isFile(): boolean;
  readonly numRecordBatches: number;
  readRecordBatch(index: number): Promise<Rows | null>;
  cancel(): Promise<void>;
  readonly closed: boolean;
}

interface Writer {
  writeAll(batches: Rows[]): { toNodeStream(): NodeJS.ReadableStream };
}

interface Arrow {
  makeVector(values: ArrayBufferView): unknown;
  vectorFromArray(values: unknown[], type: object): unknown;
  Utf8: new () => object;
  Table: new (columns: Record<string, unknown>) => Table;
  RecordBatchReader: { from(source: unknown): Promise<Reader> };
  RecordBatchFileWriter: Writer;
  RecordBatchStreamWriter: Writer;
  tableFromIPC(source: unknown): Promise<Table>;
}

consumer('apache-arrow', async () => {
  const arrow = await load<Arrow>('apache-arrow');
  const { open } = await fileaioPromises();

  const BATCHES = 40;
  const ROWS = 1000;
  const batches = Array.from({ length: BATCHES }, (_, batch) => {
    const at = (row: number): number => batch * ROWS + row;
    const texts = Array.from({ length: ROWS }, (_, row) => (row % 10 === 0 ? null : `text of row ${at(row)}`));
    const table = new arrow.Table({
      id: arrow.makeVector(Int32Array.from({ length: ROWS }, (_, row) => at(row))),
      half: arrow.makeVector(Float64Array.from({ length: ROWS }, (_, row) => at(row) / 2)),
      text: arrow.vectorFromArray(texts, new arrow.Utf8()),
    });
    const [only] = table.batches;
    assert.ok(only !== undefined);
    return only;
  });
  const expected = batches.map((batch) => JSON.stringify(batch.toArray()));
  const writers = { file: arrow.RecordBatchFileWriter, stream: arrow.RecordBatchStreamWriter };
  type Format = keyof typeof writers;

  async function written(t: Cleanup, format: Format, { engine, direct }: Way): Promise<string> {
    const path = join(scratch(t), `table.${format}`);
    const handle = await open(path, { flags: 'w', engine, direct });
    await pipeline(writers[format].writeAll(batches).toNodeStream(), handle.createWriteStream());
    return path;
  }

  for (const way of await ways()) {
    const { title, engine, direct } = way;
    for (const format of ['file', 'stream'] as const) {
      test(`${title}: the ${format} format, batch by batch from a handle`, { timeout: 60_000 }, async (t) => {
        const handle = await open(await written(t, format, way), { engine, direct });
        t.after(() => handle.close());
        const reader = await (await arrow.RecordBatchReader.from(handle)).open();
        assert.equal(reader.isFile(), format === 'file');
        const found: string[] = [];
        for await (const batch of reader) found.push(JSON.stringify(batch.toArray()));
        assert.deepEqual(found, expected);
      });
    }

    test(`${title}: the file format, its batches in any order`, { timeout: 60_000 }, async (t) => {
      const handle = await open(await written(t, 'file', way), { engine, direct });
      t.after(() => handle.close());
      const reader = await (await arrow.RecordBatchReader.from(handle)).open();
      assert.equal(reader.numRecordBatches, BATCHES);
      for (const index of [39, 0, 17, 17, 38, 1]) {
        const batch = await reader.readRecordBatch(index);
        assert.equal(JSON.stringify(batch?.toArray()), expected[index]);
      }
      // It takes the handle as its own.
      await reader.cancel();
      assert.equal(handle.fd, -1);
    });

    test(`${title}: both formats, whole, from a stream that reads ahead`, { timeout: 60_000 }, async (t) => {
      for (const format of ['file', 'stream'] as const) {
        const handle = await open(await written(t, format, way), { engine, direct });
        const table = await arrow.tableFromIPC(handle.createReadStream());
        assert.equal(table.numRows, BATCHES * ROWS);
        assert.deepEqual(
          table.batches.map((batch) => JSON.stringify(batch.toArray())),
          expected,
        );
      }
    });
  }
});
