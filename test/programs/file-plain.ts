/** Reads and writes a buffered file and, where that works, a direct one, without asking for an engine. Prints what carried them. */
import { open, readFile, writeFile } from '../../src/promises.ts';
import { blocksFile } from './file-common.ts';

const path = blocksFile(8);
const buffered = await open(path, 'r+');
await Promise.all(Array.from({ length: 8 }, (_, i) => buffered.read(Buffer.alloc(4096), 0, 4096, i * 4096)));
await buffered.write(Buffer.alloc(4096), 0, 4096, 0);
await buffered.sync();
await buffered.close();
await writeFile(`${path}-copy`, await readFile(path));
console.log('buffered', buffered.engine);
if (process.argv[2] === 'direct') {
  const direct = await open(path, { direct: true });
  await direct.read(Buffer.alloc(4096), 0, 4096, 0);
  console.log('direct', direct.engine);
  await direct.close();
}
