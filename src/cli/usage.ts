/** What goes wrong on a command line: exit codes, errors of one line, and text that is safe to show on a terminal. */
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { textOf } from '../errors.ts';
import { AioError } from '../index.ts';

export const EXIT_OK = 0;
/** A file, a device or the machine did not do what was asked of it. */
export const EXIT_IO = 1;
/** The command line asks for what makes no sense. */
export const EXIT_USAGE = 2;
/** Everything was done, and what was found is not what was asked for. */
export const EXIT_REGRESSION = 3;
/** As shells see a program that SIGPIPE ended: 128 + 13. */
export const EXIT_PIPE = 141;

/** An end that is told in one line on stderr: what is wrong, and the cure. */
export class CliError extends Error {
  readonly exitCode: number;

  constructor(exitCode: number, message: string) {
    super(message);
    this.name = 'CliError';
    this.exitCode = exitCode;
  }
}

/** A mistake on the command line. */
export function usageError(message: string): CliError {
  return new CliError(EXIT_USAGE, message);
}

/** A failed operation: `cannot open "x": EACCES: permission denied. Cure`. */
export function ioError(doing: string, error: unknown, cure = ''): CliError {
  return new CliError(EXIT_IO, `${doing}: ${reasonOf(error)}${cure && `. ${cure}`}`);
}

/** What an error says, without the call and the path that Node appends to the errors of its own file functions. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const errno = 'errno' in error ? error.errno : undefined;
  return typeof errno === 'number' && errno < 0 && !(error instanceof AioError) ? textOf(errno) : error.message;
}

/** `ENOENT` of an error that has it. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

// DEL and the C1 controls; the separators and overrides that let text pretend to be other text.
const UNSAFE = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

function escapeUnsafe(text: string): string {
  return text.replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A path or another word of the user's in double quotes, with nothing in it that a terminal would act upon. */
export function quote(text: string): string {
  return escapeUnsafe(JSON.stringify(text));
}

/** The same for a whole message: control characters become escapes, line ends blanks. */
export function oneLine(text: string): string {
  const safe = Array.from(text.replace(/[\t\n\v\f\r]+/g, ' '), (char) =>
    char < ' ' ? JSON.stringify(char).slice(1, -1) : char,
  ).join('');
  return escapeUnsafe(safe);
}

/**
 * Node makes U+FFFD of what is not UTF-8, and a name with that is the name of another file: nothing may be read or written by it.
 *
 * @throws CliError
 */
export function checkEncoding(args: readonly string[]): void {
  const lost = args.find((arg) => arg.includes('\ufffd'));
  if (lost === undefined || isUtf8(commandLine())) return;
  throw usageError(
    `${quote(lost)} is not what was typed: that is no UTF-8, and Node takes no other names. Give the file another name, or a link`,
  );
}

/** As the kernel has it; empty where nobody can be asked. */
function commandLine(): Buffer {
  try {
    return readFileSync('/proc/self/cmdline');
  } catch {
    return Buffer.alloc(0);
  }
}

/** node:util's parseArgs, with its complaints as usage errors of one sentence. */
export function parseCommand<T extends ParseArgsConfig>(command: string, config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    // Node goes on with advice about arguments that begin with a dash, in several sentences.
    const complaint = reasonOf(error).split(/\. To specify|\.?\n/, 1)[0] ?? '';
    const plain = complaint.replace(/ argument is ambiguous$/, ' needs a value that does not begin with a dash');
    throw usageError(`${plain}. See fileaio ${command} --help`);
  }
}

/** The one FILE that a command takes, or `undefined`. */
export function onlyFile(command: string, positionals: readonly string[]): string | undefined {
  const [file, second] = positionals;
  if (second !== undefined) {
    throw usageError(`one FILE at most, and ${quote(second)} is a second one. See fileaio ${command} --help`);
  }
  if (file === '') throw usageError('FILE is empty: name a file, or leave it out');
  if (file?.includes('\0')) throw usageError(`FILE ${quote(file)} has a NUL in it: no file is called that`);
  return file;
}
