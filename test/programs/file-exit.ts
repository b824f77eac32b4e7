/** Ends in one of several ways with reads and writes in flight, direct and buffered, and many more that wait for room. */
import { open } from '../../src/promises.ts';
import { blocksFile, engine } from './file-common.ts';

const path = blocksFile(512);
for (const direct of [false, true]) {
  const handle = await open(path, { engine, flags: 'r+', direct });
  const calls = Array.from({ length: 2000 }, (_, i) =>
    i % 10 === 9
      ? handle.write(Buffer.alloc(4096, 1), 0, 4096, (i % 512) * 4096)
      : handle.read(Buffer.alloc(16384), 0, 16384, (i % 512) * 4096),
  );
  for (const call of calls) call.catch((error: unknown) => console.error('rejected:', error));
}
switch (process.argv[3]) {
  case 'exit in the same tick':
    process.exit(7);
    break;
  case 'exit in a later turn':
    setImmediate(() => setImmediate(() => process.exit(7)));
    break;
  case 'throw':
    throw new Error('as intended');
  case 'end by itself':
    process.exitCode = 7;
    break;
  default:
    throw new Error('no such end');
}
