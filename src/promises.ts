/** `fileaio/promises`: `node:fs/promises`, with engines for what moves the data of files. */
import nodePromises from 'node:fs/promises';
import { open } from './file.ts';
import { appendFile, copyFile, readFile, writeFile } from './whole-file.ts';

export * from 'node:fs/promises';
export type { Alignment } from './alignment.ts';
export {
  type Abortable,
  FileHandle,
  type OpenOptions,
  open,
  type ReadResult,
  type ReadVResult,
  type TransferOptions,
  type WriteResult,
  type WriteVResult,
} from './file.ts';
export type { ReadStream, ReadStreamOptions, WriteStream, WriteStreamOptions } from './stream.ts';
export {
  appendFile,
  copyFile,
  type ReadFileOptions,
  readFile,
  type WriteFileData,
  type WriteFileOptions,
  writeFile,
} from './whole-file.ts';

/**
 * The same functions as one object, for `import fs from 'fileaio/promises'`.
 *
 * @hidden each is documented under its own name
 */
export default { ...nodePromises, open, readFile, writeFile, appendFile, copyFile };
