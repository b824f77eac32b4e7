/** What the programs about file handles share: which engine, and files that nobody else has. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EngineName } from '../../src/index.ts';

/** The engine that the test asks for. */
export const engine = (process.argv[2] ?? 'auto') as EngineName | 'auto';

const directory = mkdtempSync(join(tmpdir(), 'fileaio-test-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));

/** A file of numbered blocks of 4,096 bytes. */
export function blocksFile(blocks: number): string {
  const path = join(directory, 'data');
  const data = Buffer.alloc(blocks * 4096);
  for (let block = 0; block < blocks; block++) data.fill(block, block * 4096, (block + 1) * 4096);
  writeFileSync(path, data);
  return path;
}

/** A FIFO that nobody has open. */
export function fifo(): string {
  const path = join(directory, 'fifo');
  execFileSync('mkfifo', [path]);
  return path;
}

/** How many descriptors this process has. */
export function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}
