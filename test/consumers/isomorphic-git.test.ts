/** isomorphic-git makes a repository through our file functions, and git itself finds nothing wrong with it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { scratch } from '../support.ts';
import { consumer, fileaioFs, fileaioPromises, load } from './consumers.ts';

interface Git {
  init(options: object): Promise<void>;
  add(options: object): Promise<void>;
  remove(options: object): Promise<void>;
  commit(options: object): Promise<string>;
  branch(options: object): Promise<void>;
  checkout(options: object): Promise<void>;
  log(options: object): Promise<{ oid: string; commit: { message: string } }[]>;
  statusMatrix(options: object): Promise<[name: string, head: number, workdir: number, stage: number][]>;
  readBlob(options: object): Promise<{ blob: Uint8Array }>;
}

function git(dir: string, ...args: string[]): string {
  return execFileSync('git', ['-c', 'safe.directory=*', '-C', dir, ...args], { encoding: 'utf8', timeout: 60_000 });
}

function hasGit(): boolean {
  try {
    execFileSync('git', ['--version']);
    return true;
  } catch {
    return false;
  }
}

consumer('isomorphic-git', async () => {
  const isomorphic = await load<Git>('isomorphic-git');
  const callbacks = await fileaioFs();
  const promises = await fileaioPromises();

  for (const [title, fs, files] of [
    ['fileaio/fs', callbacks, 400],
    ['{ promises } of fileaio/promises', { promises }, 100],
    // Without `promises` it takes the functions with callbacks.
    ['the callbacks of fileaio/fs', { ...callbacks, promises: undefined }, 100],
  ] as const) {
    test(`{ fs } = ${title}: init, add, commit, branch, checkout, log`, { timeout: 120_000 }, async (t) => {
      const dir = scratch(t);
      const given = 'readFile' in fs && fs.promises === undefined ? withoutPromises(fs) : fs;
      const repository = { fs: given, dir };
      const author = { name: 'A', email: 'a@example.org' };
      const names = Array.from({ length: files }, (_, i) => `folder-${i % 13}/file-${i}`);
      const contents = new Map(names.map((name, i) => [name, randomBytes((i * 131) % 20_000)]));
      for (const [name, data] of contents) {
        mkdirSync(dirname(join(dir, name)), { recursive: true });
        writeFileSync(join(dir, name), data);
      }
      chmodSync(join(dir, 'folder-0/file-0'), 0o755);
      symlinkSync('folder-1/file-1', join(dir, 'link'));

      await isomorphic.init({ ...repository, defaultBranch: 'main' });
      await isomorphic.add({ ...repository, filepath: '.' });
      const first = await isomorphic.commit({ ...repository, author, message: 'All' });
      await isomorphic.branch({ ...repository, ref: 'side', checkout: true });
      const changed = names.slice(0, 50);
      for (const name of changed) writeFileSync(join(dir, name), `changed ${name}`);
      await isomorphic.add({ ...repository, filepath: changed });
      const [removed = ''] = names.slice(60);
      rmSync(join(dir, removed));
      await isomorphic.remove({ ...repository, filepath: removed });
      const second = await isomorphic.commit({ ...repository, author, message: 'Some' });

      const log = await isomorphic.log({ ...repository });
      assert.deepEqual(
        log.map(({ oid, commit }) => [oid, commit.message]),
        [
          [second, 'Some\n'],
          [first, 'All\n'],
        ],
      );
      assert.ok(
        (await isomorphic.statusMatrix(repository)).every(([, head, workdir, stage]) => head + workdir + stage === 3),
      );
      assert.equal(readdirSync(join(dir, 'folder-0')).length, Math.ceil(files / 13));

      await isomorphic.checkout({ ...repository, ref: 'main', force: true });
      for (const [name, data] of contents) assert.deepEqual(readFileSync(join(dir, name)), data, name);
      const { blob } = await isomorphic.readBlob({ ...repository, oid: second, filepath: names[3] });
      assert.equal(Buffer.from(blob).toString(), `changed ${names[3]}`);

      if (!hasGit()) {
        t.diagnostic('there is no git here to look at the repository');
        return;
      }
      // git reports on stdout and stderr; a fault is an exit code that throws.
      git(dir, 'fsck', '--full', '--strict', '--no-dangling');
      assert.equal(git(dir, 'status', '--porcelain'), '');
      assert.equal(git(dir, 'log', '--format=%H', 'side'), `${second}\n${first}\n`);
      assert.match(git(dir, 'ls-tree', '-r', 'main', 'folder-0/file-0', 'link'), /^100755 .*\n120000 /);
    });
  }

  /** Node's own has `promises` as a getter that cannot be seen; so it is with an object of its functions alone. */
  function withoutPromises({ promises: _, ...functions }: Record<string, unknown>): object {
    return functions;
  }
});
