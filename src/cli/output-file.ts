/** Files that are written when the work is done: looked at before, so that hours of it do not end in a slip of the keyboard. */
import { accessSync, type BigIntStats, constants, lstatSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { CliError, EXIT_IO, ioError, quote } from './usage.ts';

/**
 * Finds out whether `file` can be written, without making it.
 *
 * @returns what is there now, links followed; `undefined`: nothing.
 * @throws CliError
 */
export function checkOutput(option: string, file: string, cure: string): BigIntStats | undefined {
  const cannot = `cannot write ${option} ${quote(file)}`;
  try {
    const found = statSync(file, { bigint: true, throwIfNoEntry: false });
    if (found?.isDirectory()) throw new CliError(EXIT_IO, `${cannot}: it is a directory. ${cure}`);
    if (found === undefined && lstatSync(file, { throwIfNoEntry: false }) !== undefined) {
      // Whatever has that name by the end would be written over, the result of the work itself for one.
      throw new CliError(EXIT_IO, `${cannot}: it is a symbolic link to a file that does not exist. ${cure}`);
    }
    if (found === undefined) accessSync(dirname(file), constants.W_OK | constants.X_OK);
    else accessSync(file, constants.W_OK);
    return found;
  } catch (error) {
    throw error instanceof CliError ? error : ioError(cannot, error, cure);
  }
}

/** Whether two looks found the same file. */
export function isSame(one: BigIntStats | undefined, other: BigIntStats | undefined): boolean {
  return one !== undefined && one.dev === other?.dev && one.ino === other.ino;
}
