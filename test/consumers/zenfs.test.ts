/** ZenFS passes a folder of ours through: what it does over node:fs, it does over fileaio/fs. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import * as nodeFs from 'node:fs';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { scratch } from '../support.ts';
import { consumer, fileaioFs, load } from './consumers.ts';

interface Zen {
  configure(options: { mounts: Record<string, object> }): Promise<void>;
  readonly Passthrough: object;
  readonly fs: { readonly promises: typeof nodeFs.promises };
}

consumer('@zenfs/core', async () => {
  const zen = await load<Zen>('@zenfs/core');
  const fileaio = await fileaioFs();

  const datas = new Map([
    ['empty', Buffer.alloc(0)],
    ['small', Buffer.from('a few bytes')],
    ['large', randomBytes(3_000_001)],
  ]);

  for (const [title, fs] of [
    ['node:fs', nodeFs],
    ['fileaio/fs', fileaio],
    ['fileaio/fs, its default export', (await load<{ default: object }>('fileaio/fs')).default],
  ] as const) {
    test(`over ${title}: files, folders, links and their names`, { timeout: 60_000 }, async (t) => {
      const prefix = scratch(t);
      await zen.configure({ mounts: { '/': { backend: zen.Passthrough, fs, prefix } } });
      const { promises } = zen.fs;
      await promises.mkdir('/folder');
      for (const [name, data] of datas) {
        await promises.writeFile(`/folder/${name}`, data);
        assert.deepEqual(readFileSync(join(prefix, 'folder', name)), data);
        assert.deepEqual(Buffer.from(await promises.readFile(`/folder/${name}`)), data);
        assert.equal((await promises.stat(`/folder/${name}`)).size, data.length);
      }
      await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          const text = `file ${i} `.repeat(i);
          await promises.writeFile(`/folder/many-${i}`, text);
          assert.equal(await promises.readFile(`/folder/many-${i}`, 'utf8'), text);
        }),
      );
      assert.deepEqual((await promises.readdir('/folder')).sort(), readdirSync(join(prefix, 'folder')).sort());
      await promises.rename('/folder/small', '/folder/renamed');
      assert.equal(await promises.readFile('/folder/renamed', 'utf8'), 'a few bytes');
      await promises.link('/folder/renamed', '/folder/linked');
      assert.equal(await promises.readFile('/folder/linked', 'utf8'), 'a few bytes');
      await promises.copyFile('/folder/large', '/folder/copy');
      assert.deepEqual(readFileSync(join(prefix, 'folder/copy')), datas.get('large'));
      await assert.rejects(promises.readFile('/folder/small'), { code: 'ENOENT' });
      for (const name of readdirSync(join(prefix, 'folder'))) await promises.unlink(`/folder/${name}`);
      await promises.rmdir('/folder');
      assert.deepEqual(readdirSync(prefix), []);
    });

    test(`over ${title}: the backend has no positions, and a read in the middle fails`, async (t) => {
      const prefix = scratch(t);
      await zen.configure({ mounts: { '/': { backend: zen.Passthrough, fs, prefix } } });
      await zen.fs.promises.writeFile('/file', '0123456789');
      const handle = await zen.fs.promises.open('/file', 'r');
      await assert.rejects(handle.read(Buffer.alloc(4), 0, 4, 3), { code: 'ERR_OUT_OF_RANGE' });
      await handle.close();
    });
  }
});
