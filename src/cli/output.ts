import { CliError, EXIT_PIPE, ioError, oneLine } from './usage.ts';

/**
 * Writes to standard output and resolves when it is written.
 *
 * Rejects with a {@link CliError}: one without words where the reader went away (`| head`), as SIGPIPE ends other programs.
 */
export function print(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (error === null || error === undefined) resolve();
      else if ('code' in error && error.code === 'EPIPE') reject(new CliError(EXIT_PIPE, ''));
      else reject(ioError('cannot write to standard output', error, 'Nothing else is wrong: send it elsewhere'));
    });
  });
}

/** Lines of two columns, the first as wide as its widest entry. Values may come from anywhere. */
export function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${oneLine(value)}`).join('\n');
}

/** A table: the first column to the left, the others to the right. */
export function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0))) ?? [];
  return rows.map((cells) =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
