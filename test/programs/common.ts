/** What the programs that tests run in processes of their own share. */
import { randomBytes } from 'node:crypto';
import { constants, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AioContext, AioRequest, allocBuffer, type EngineName } from '../../src/index.ts';
import { createSimulatedDisk } from '../../src/sim.ts';
import { gc } from '../runtime.ts';

/** What the test calls the engine that it asks for. */
export const engineName = (process.argv[2] ?? 'auto') as EngineName;
const disk = engineName === 'simulated' ? createSimulatedDisk({ seed: 1 }) : undefined;
/** The engine that the test asks for. */
export const engine = disk ?? engineName;

/** A file of random bytes, open for direct I/O; its name is gone already, so that nothing is left however this ends. */
export function anonymousFile(size: number, flags = constants.O_DIRECT): number {
  if (disk !== undefined) {
    disk.install('/data', randomBytes(size));
    return disk.openSync('/data', { flags: 'r+', direct: flags === constants.O_DIRECT });
  }
  const directory = mkdtempSync(join(tmpdir(), 'fileaio-test-'));
  const path = join(directory, 'data');
  writeFileSync(path, randomBytes(size));
  const fd = openSync(path, constants.O_RDWR | flags);
  rmSync(directory, { recursive: true });
  return fd;
}

/** 64 reads of 64 KiB, submitted. */
export function inFlight(
  fd: number,
  memory: (size: number) => Uint8Array = allocBuffer,
): { context: AioContext; requests: AioRequest[] } {
  const context = new AioContext({ maxRequests: 64, engine });
  const requests = Array.from({ length: 64 }, (_, i) => new AioRequest().prepareRead(fd, i * 65536, memory(65536)));
  context.submit(requests);
  return { context, requests };
}

export function collect(): void {
  if (gc === undefined) throw new Error('run with --expose-gc');
  gc();
}
