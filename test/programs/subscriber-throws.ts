/** Subscribers that throw, beside a context and a file: prints what came of everything. */
import { channel } from 'node:diagnostics_channel';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { AioContext, AioRequest, allocBuffer } from '../../src/index.ts';
import { open } from '../../src/promises.ts';

const uncaught: string[] = [];
process.on('uncaughtException', (error) => uncaught.push(error.message));
for (const name of ['fileaio:submit', 'fileaio:complete', 'fileaio:cancel']) {
  channel(name).subscribe(() => {
    throw new Error(name);
  });
}

const directory = mkdtempSync(join(tmpdir(), 'fileaio-test-'));
try {
  const path = join(directory, 'data');
  writeFileSync(path, Buffer.alloc(8 * 4096, 1));
  const context = new AioContext({ maxRequests: 8 });
  const fd = openSync(path, 'r');
  const requests = Array.from({ length: 8 }, (_, i) => new AioRequest().prepareRead(fd, i * 4096, allocBuffer(4096)));
  context.submit(requests);
  requests[7]?.cancel();
  let handedOut = 0;
  while (context.pending > 0) handedOut += (await context.wait()).completed.length;
  await context.close();
  const handle = await open(path);
  const { bytesRead: readByFile } = await handle.read(Buffer.alloc(4096), 0, 4096, 0);
  await handle.close();
  await turn();
  console.log(JSON.stringify({ handedOut, readByFile, uncaught }));
} finally {
  rmSync(directory, { recursive: true });
}
