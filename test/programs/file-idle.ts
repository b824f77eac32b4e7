/** Ends by itself although a handle is open: one that was used, one that never was, and one whose call failed. */
import { open } from '../../src/promises.ts';
import { blocksFile, engine } from './file-common.ts';

const path = blocksFile(4);
const handles = [await open(path, { engine, flags: 'r+' }), await open(path, { engine }), await open(path, { engine })];
process.on('exit', (code) => console.log(code, handles.filter(({ fd }) => fd > 2).length, 'open'));
const [used, , refused] = handles;
const { bytesRead } = (await used?.read(Buffer.alloc(100), 0, 100, 4096)) ?? {};
await used?.sync();
const error: unknown = await refused?.write('x').then(
  () => 'written',
  (reason) => reason.code,
);
console.log(bytesRead, error);
