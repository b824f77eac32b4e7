/** yauzl reads zip files through the reader of docs/consumers.md; yazl wrote them, on a stream of ours. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { type Cleanup, scratch } from '../support.ts';
import { consumer, fileaioPromises, loadDefault, recipe, type Way, ways } from './consumers.ts';

interface Entry {
  readonly fileName: string;
  readonly uncompressedSize: number;
}

interface ZipFile extends AsyncIterable<Entry>, NodeJS.EventEmitter {
  readonly entryCount: number;
  readEntry(): void;
  openReadStream(entry: Entry, done: (error: Error | null, stream: NodeJS.ReadableStream) => void): void;
  close(): void;
}

interface Yauzl {
  fromRandomAccessReader(
    reader: object,
    size: number,
    options: { lazyEntries: true; autoClose: false },
    done: (error: Error | null, zip: ZipFile) => void,
  ): void;
}

interface Yazl {
  ZipFile: new () => {
    addBuffer(data: Buffer, name: string, options?: { compress?: boolean }): void;
    end(): void;
    readonly outputStream: NodeJS.ReadableStream;
  };
}

consumer('yauzl', async () => {
  const yauzl = await loadDefault<Yauzl>('yauzl');
  const yazl = await loadDefault<Yazl>('yazl');
  const { open } = await fileaioPromises();
  const { HandleReader } = await recipe<{
    HandleReader: new (handle: Awaited<ReturnType<typeof open>>) => NodeJS.EventEmitter;
  }>('handle-reader.mjs');

  const contents = new Map<string, Buffer>();
  for (let i = 0; i < 200; i++) contents.set(`folder-${i % 7}/file-${i}`, randomBytes((i * 997) % 70_000));
  contents.set('text', Buffer.from('the same again, '.repeat(50_000)));
  contents.set('empty', Buffer.alloc(0));

  async function zipped(t: Cleanup, { engine, direct }: Way): Promise<string> {
    const path = join(scratch(t), 'archive.zip');
    const zip = new yazl.ZipFile();
    let stored = false;
    for (const [name, data] of contents) {
      stored = !stored;
      zip.addBuffer(data, name, { compress: !stored });
    }
    zip.end();
    const handle = await open(path, { flags: 'w', engine, direct });
    await pipeline(zip.outputStream, handle.createWriteStream());
    return path;
  }

  function read(reader: object, size: number): Promise<ZipFile> {
    return new Promise((resolve, reject) => {
      yauzl.fromRandomAccessReader(reader, size, { lazyEntries: true, autoClose: false }, (error, zip) =>
        error === null ? resolve(zip) : reject(error),
      );
    });
  }

  function entries(zip: ZipFile): Promise<Entry[]> {
    return new Promise((resolve, reject) => {
      const found: Entry[] = [];
      zip.on('entry', (entry: Entry) => {
        found.push(entry);
        zip.readEntry();
      });
      zip.on('end', () => resolve(found));
      zip.on('error', reject);
      zip.readEntry();
    });
  }

  function streamOf(zip: ZipFile, entry: Entry): Promise<NodeJS.ReadableStream> {
    return new Promise((resolve, reject) => {
      zip.openReadStream(entry, (error, stream) => (error === null ? resolve(stream) : reject(error)));
    });
  }

  for (const way of await ways()) {
    const { title, engine, direct } = way;
    test(`${title}: every entry comes out, twenty at once`, { timeout: 60_000 }, async (t) => {
      const path = await zipped(t, way);
      const handle = await open(path, { engine, direct });
      t.after(() => handle.close());
      const zip = await read(new HandleReader(handle), (await handle.stat()).size);
      const found = await entries(zip);
      assert.deepEqual(new Set(found.map(({ fileName }) => fileName)), new Set(contents.keys()));
      for (let i = 0; i < found.length; i += 20) {
        const some = found.slice(i, i + 20);
        const got = await Promise.all(some.map(async (entry) => buffer(await streamOf(zip, entry))));
        for (const [at, { fileName }] of some.entries()) assert.deepEqual(got[at], contents.get(fileName), fileName);
      }
      zip.close();
      assert.notEqual(handle.fd, -1, 'the handle is still its owner’s');
    });

    test(`${title}: a stream that is given up on leaves the others alone`, { timeout: 60_000 }, async (t) => {
      const handle = await open(await zipped(t, way), { engine, direct });
      t.after(() => handle.close());
      const zip = await read(new HandleReader(handle), (await handle.stat()).size);
      const found = await entries(zip);
      const large = found.filter(({ uncompressedSize }) => uncompressedSize > 60_000);
      assert.ok(large.length > 10);
      const got = await Promise.all(
        large.map(async (entry, i) => {
          const stream = (await streamOf(zip, entry)) as NodeJS.ReadableStream & { destroy(): void };
          if (i % 2 === 0) return void stream.destroy();
          return assert.deepEqual(await buffer(stream), contents.get(entry.fileName));
        }),
      );
      assert.equal(got.length, large.length);
      zip.close();
    });

    test(`${title}: a file that was cut off is an error`, { timeout: 60_000 }, async (t) => {
      const path = await zipped(t, way);
      const whole = readFileSync(path);
      writeFileSync(path, whole.subarray(0, whole.length - 1000));
      const handle = await open(path, { engine, direct });
      t.after(() => handle.close());
      await assert.rejects(read(new HandleReader(handle), whole.length));
    });
  }
});
