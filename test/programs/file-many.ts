/** Opens, uses and closes 10,000 handles, some hundreds at a time. Prints how many descriptors there were before, at most, and after. */
import { setTimeout as delay } from 'node:timers/promises';
import { open } from '../../src/promises.ts';
import { blocksFile, descriptors, engine } from './file-common.ts';

const path = blocksFile(16);
// Once for what the runtime itself opens when it first needs it.
const first = await open(path, { engine });
await first.read(Buffer.alloc(1), 0, 1, 0);
await first.close();
let before = descriptors();
for (let same = 0; same < 10; same++) {
  await delay(30);
  if (descriptors() !== before) same = 0;
  before = descriptors();
}
let most = 0;
let wrong = 0;
for (let round = 0; round < 25; round++) {
  const handles = await Promise.all(
    Array.from({ length: 400 }, (_, i) => open(path, { engine, flags: 'r', direct: i % 2 === 1 })),
  );
  most = Math.max(most, descriptors());
  await Promise.all(
    handles.map(async (handle, i) => {
      const reading = handle.read(Buffer.alloc(100), 0, 100, (i % 16) * 4096);
      // Every third is closed while it reads.
      if (i % 3 === 0) await handle.close();
      const { bytesRead, buffer } = await reading;
      if (bytesRead !== 100 || !buffer.every((byte) => byte === i % 16)) wrong++;
      await handle.close();
    }),
  );
}
// What the engine needs goes shortly after the last transfer.
for (let tries = 0; descriptors() > before && tries < 200; tries++) await delay(50);
console.log(JSON.stringify({ before, most, after: descriptors(), wrong }));
