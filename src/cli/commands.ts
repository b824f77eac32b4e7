/** The subcommands by name, and the one place where an error becomes a line and an exit code. */
import { print } from './output.ts';
import { CliError, checkEncoding, codeOf, EXIT_IO, EXIT_OK, oneLine, quote, reasonOf, usageError } from './usage.ts';
import { version } from './version.ts';

/** A subcommand: takes the arguments after its name, answers with the exit code. */
type Command = (args: string[]) => Promise<number>;

/** Loaded when it is asked for: copying a small file takes no longer than loading all of them would. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  bench: async () => (await import('./bench.ts')).bench,
  copy: async () => (await import('./copy.ts')).copy,
  info: async () => (await import('./info.ts')).info,
};

const HELP = `fileaio: real asynchronous file I/O for Node.js over io_uring and Linux kernel AIO

Usage: fileaio bench [FILE] [options]   measure every engine beside node:fs/promises
       fileaio copy SRC DST [options]   copy a file or a block device; DST is never half written
       fileaio info [FILE] [--json]     what this machine has, and what direct I/O on FILE needs
       fileaio --help | --version

'fileaio COMMAND --help' has the options of a command.
`;

async function dispatch(name: string | undefined, args: string[]): Promise<number> {
  switch (name) {
    case undefined:
      throw usageError(`a command is missing: ${Object.keys(commands).join(' or ')}. See fileaio --help`);
    case '--help':
    case '-h':
      await print(HELP);
      return EXIT_OK;
    case '--version':
      await print(`${version()}\n`);
      return EXIT_OK;
  }
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (load === undefined) {
    const kind = name.startsWith('-') ? 'option' : 'command';
    throw usageError(
      `unknown ${kind} ${quote(name)}: there is ${Object.keys(commands).join(' and ')}. See fileaio --help`,
    );
  }
  const command = await load();
  return command(args);
}

function complain(prefix: string, error: unknown): number {
  // An empty message is an end that needs no words: the reader of standard output went away.
  const isOurs = error instanceof CliError;
  const message = isOurs || codeOf(error) !== undefined ? reasonOf(error) : `internal error: ${reasonOf(error)}`;
  if (message !== '') process.stderr.write(`${prefix}: ${oneLine(message)}\n`);
  return isOurs ? error.exitCode : EXIT_IO;
}

/** Runs the command line `args`; returns the exit code. Never rejects. */
export async function run(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  const prefix = name !== undefined && Object.hasOwn(commands, name) ? `fileaio ${name}` : 'fileaio';
  process.on('uncaughtException', (error) => process.exit(complain(prefix, error)));
  // What cannot be told to anybody is no reason to die of it; print() reports failures of standard output itself.
  process.stderr.on('error', () => {});
  process.stdout.on('error', () => {});
  try {
    checkEncoding(args);
    return await dispatch(name, rest);
  } catch (error) {
    return complain(prefix, error);
  }
}
