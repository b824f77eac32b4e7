import { Meter, Pattern, type Runner } from './job.ts';
import { buffersFor, transferFailed, transferShort } from './transfers.ts';

/** The name of the peer in every report. */
export const PEER = 'node:fs/promises';

/** What Node's own FileHandle does with the same file: as many loops side by side as there are transfers in flight. */
export const peerRunner: Runner = async (job, onProgress, signal) => {
  const { handle, blockSize } = job;
  const pattern = new Pattern(job);
  const buffers = buffersFor(job);
  const meter = new Meter(job, onProgress, signal);
  let failure: unknown;

  const loop = async (buffer: Buffer): Promise<void> => {
    while (meter.running && failure === undefined) {
      const isWrite = pattern.isWrite();
      const position = pattern.position();
      const submittedMs = performance.now();
      let moved = 0;
      try {
        if (isWrite) moved = (await handle.write(buffer, 0, blockSize, position)).bytesWritten;
        else moved = (await handle.read(buffer, 0, blockSize, position)).bytesRead;
      } catch (error) {
        failure ??= transferFailed(describe(isWrite, blockSize, position), error);
        return;
      }
      if (moved !== blockSize) {
        failure ??= transferShort(describe(isWrite, blockSize, position), moved);
        return;
      }
      const completedMs = performance.now();
      meter.record(completedMs - submittedMs);
      meter.tick(completedMs);
    }
  };
  // Every loop ends by itself, so that nothing is in flight afterwards.
  await Promise.all(buffers.map(loop));
  if (failure !== undefined) throw failure;
  return meter.finish();
};

function describe(isWrite: boolean, blockSize: number, position: number): string {
  return `a ${isWrite ? 'write' : 'read'} of ${blockSize} bytes at position ${position} by ${PEER}`;
}
