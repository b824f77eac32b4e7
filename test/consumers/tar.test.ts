/** Archives written to our streams and read from them, by the packages tar and tar-stream; tar(1) agrees. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { test } from 'node:test';
import { createGunzip, createGzip } from 'node:zlib';
import { type Cleanup, scratch } from '../support.ts';
import { consumer, fileaioPromises, load, loadDefault, type Way, ways } from './consumers.ts';

interface Tar {
  create(options: { cwd: string; gzip?: boolean; portable?: boolean }, names: string[]): NodeJS.ReadableStream;
  extract(options: { cwd: string }): NodeJS.WritableStream;
}

interface Pack extends NodeJS.ReadableStream {
  entry(header: { name: string; size: number }, done: (error?: Error | null) => void): NodeJS.WritableStream;
  finalize(): void;
}

interface TarStream {
  pack(): Pack;
  extract(): NodeJS.WritableStream & AsyncIterable<NodeJS.ReadableStream & { header: { name: string; size: number } }>;
}

const SIZES = [0, 1, 511, 512, 513, 4096, 65_536, 1_500_001];

consumer('tar', async () => {
  const tar = await load<Tar>('tar');
  const tarStream = await loadDefault<TarStream>('tar-stream');
  const { open } = await fileaioPromises();

  function folderOfFiles(t: Cleanup): { folder: string; contents: Map<string, Buffer> } {
    const folder = scratch(t);
    const contents = new Map(SIZES.map((size) => [`sub/of-${size}`, randomBytes(size)]));
    for (const [name, data] of contents) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), data);
    }
    return { folder, contents };
  }

  for (const { title, engine, direct } of (await ways()) satisfies Way[]) {
    for (const gzip of [false, true]) {
      test(`${title}: tar creates ${gzip ? 'a compressed' : 'an'} archive, and extracts it`, {
        timeout: 60_000,
      }, async (t) => {
        const { folder, contents } = folderOfFiles(t);
        const archive = join(scratch(t), 'archive.tar');
        const into = await open(archive, { flags: 'w', engine, direct });
        await pipeline(tar.create({ cwd: folder, gzip }, ['sub']), into.createWriteStream({ flush: true }));
        const listed = execFileSync('tar', ['-tf', archive], { encoding: 'utf8', timeout: 60_000 });
        assert.deepEqual(new Set(listed.trim().split('\n')), new Set(['sub/', ...contents.keys()]));

        const target = scratch(t);
        const from = await open(archive, { engine, direct });
        await pipeline(from.createReadStream(), tar.extract({ cwd: target }));
        assert.equal(readdirSync(join(target, 'sub')).length, contents.size);
        for (const [name, data] of contents) assert.deepEqual(readFileSync(join(target, name)), data, name);
      });
    }

    test(`${title}: tar-stream packs from our streams, through gzip, and unpacks to them`, {
      timeout: 60_000,
    }, async (t) => {
      const { folder, contents } = folderOfFiles(t);
      const archive = join(scratch(t), 'archive.tar.gz');
      const pack = tarStream.pack();
      const fill = async (): Promise<void> => {
        for (const name of contents.keys()) {
          const path = join(folder, name);
          const handle = await open(path, { engine, direct });
          await new Promise<void>((resolve, reject) => {
            const entry = pack.entry({ name, size: statSync(path).size }, (error) =>
              error ? reject(error) : resolve(),
            );
            pipeline(handle.createReadStream(), entry).catch(reject);
          });
        }
        pack.finalize();
      };
      const into = await open(archive, { flags: 'w', engine, direct });
      await Promise.all([fill(), pipeline(pack, createGzip({ level: 1 }), into.createWriteStream())]);

      const target = scratch(t);
      mkdirSync(join(target, 'sub'));
      const extract = tarStream.extract();
      const from = await open(archive, { engine, direct });
      const reading = pipeline(from.createReadStream({ highWaterMark: 10_000 }), createGunzip(), extract);
      const names: string[] = [];
      for await (const entry of extract) {
        names.push(entry.header.name);
        const out = await open(join(target, entry.header.name), { flags: 'w', engine, direct });
        await pipeline(entry, out.createWriteStream());
      }
      await reading;
      assert.deepEqual(names, [...contents.keys()]);
      for (const [name, data] of contents) assert.deepEqual(readFileSync(join(target, name)), data, name);
    });

    test(`${title}: node:stream copies a file through our streams`, { timeout: 60_000 }, async (t) => {
      const folder = scratch(t);
      const data = randomBytes(2_500_003);
      writeFileSync(join(folder, 'from'), data);
      const from = await open(join(folder, 'from'), { engine, direct });
      const to = await open(join(folder, 'to'), { flags: 'w', engine, direct });
      await pipeline(from.createReadStream(), to.createWriteStream());
      const again = await open(join(folder, 'to'), { engine, direct });
      assert.deepEqual(await buffer(again.createReadStream()), data);
    });
  }
});
