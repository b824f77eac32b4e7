/** What the library does where there is no Linux, as far as that shows on Linux: `npm run test:platforms` has more. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { child, scratch } from './support.ts';

const preload = fileURLToPath(new URL('./platforms/preload.mjs', import.meta.url));

const PROGRAM = `import { AioContext, AioRequest, allocBuffer, engines, getLimits } from './src/index.ts';
  import { copyFile, open, readFile, writeFile } from './src/promises.ts';
  const path = process.argv[1];
  await writeFile(path, 'x'.repeat(300_000));
  await copyFile(path, path + '2');
  const handle = await open(path + '2', 'r+');
  await handle.write('hello', 7);
  await handle.sync();
  let streamed = 0;
  for await (const chunk of handle.createReadStream({ start: 0, autoClose: false })) streamed += chunk.length;
  const context = new AioContext({ maxRequests: 4 });
  const buffer = allocBuffer(5);
  const request = new AioRequest().prepareRead(handle.fd, 7, buffer);
  context.submit([request]);
  await context.wait();
  await context.close();
  const direct = await open(path, { direct: true }).then(() => 'opened', (error) => error.message);
  const limits = getLimits(path);
  console.log(JSON.stringify({ engine: handle.engine, context: context.engine, read: buffer.toString(), streamed, direct, limits,
    length: (await readFile(path + '2', 'utf8')).length, why: engines().map(({ why }) => why) }));
  await handle.close();`;

describe('elsewhere', () => {
  for (const platform of ['darwin', 'win32']) {
    test(`${platform}, simulated: threads do it all, and nothing of Linux is touched`, async (t) => {
      const args = [
        '--import',
        'tsx',
        '--import',
        preload,
        '--input-type=module',
        '-e',
        PROGRAM,
        join(scratch(t), 'file'),
      ];
      const { code, stdout, stderr } = await child(process.execPath, args, { FILEAIO_PLATFORM: platform });
      assert.equal(code, 0, stderr);
      const { engine, context, read, streamed, direct, limits, length, why } = JSON.parse(stdout);
      assert.deepEqual([engine, context, read, streamed, length], ['threads', 'threads', 'hello', 300_000, 300_000]);
      assert.equal(direct, `{ direct: true }: ${platform} has no O_DIRECT. Open the file without it`);
      assert.ok(limits.maxOutstanding >= 1024);
      for (const each of why.slice(0, -1)) assert.match(each, new RegExp(`on Linux only, and this is ${platform}`));
    });

    test(`${platform}, simulated: fileaio info says that there is no O_DIRECT`, async () => {
      const args = ['--import', 'tsx', '--import', preload, 'src/cli/main.ts', 'info', 'package.json'];
      const { code, stdout, stderr } = await child(process.execPath, args, { FILEAIO_PLATFORM: platform });
      assert.equal(code, 0, stderr);
      assert.match(stdout, new RegExp(`^O_DIRECT +does not work: ${platform} has none$`, 'm'));
    });
  }

  test('what it guards against would be seen', async () => {
    const program = "import { readSomething } from './test/platforms/src/offender.ts'; readSomething();";
    const args = ['--import', 'tsx', '--import', preload, '--input-type=module', '-e', program];
    const { code, stderr } = await child(process.execPath, args, { FILEAIO_PLATFORM: 'darwin' });
    assert.equal(code, 1);
    assert.match(stderr, /touched on darwin: readFileSync\('\/proc\/version'\)/);
  });
});
