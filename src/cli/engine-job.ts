import { AioContext, AioRequest, type EngineName } from '../index.ts';
import { type Job, Meter, Pattern, type Runner } from './job.ts';
import { buffersFor, transferFailed, transferShort } from './transfers.ts';
import type { CliError } from './usage.ts';

/** The low-level loop over one context: wait, record, prepare what completed anew, submit it in one batch. */
export function engineRunner(engine: EngineName): Runner {
  return async (job, onProgress, signal) => {
    const buffers = buffersFor(job);
    const context = new AioContext({ maxRequests: job.depth, engine });
    const meter = new Meter(job, onProgress, signal);
    try {
      await transferAll(context, job, buffers, meter);
    } finally {
      // Waits for what is in flight first: also after an error the buffers are still the kernel's until then.
      await context[Symbol.asyncDispose]();
    }
    return meter.finish();
  };
}

/** Returns with `depth` requests or fewer in flight. */
async function transferAll(context: AioContext, job: Job, buffers: readonly Buffer[], meter: Meter): Promise<void> {
  const { blockSize } = job;
  const { fd } = job.handle;
  const pattern = new Pattern(job);
  const submittedMs = new Float64Array(job.depth);

  const prepare = (request: AioRequest, slot: number): void => {
    const buffer = buffers[slot];
    if (buffer === undefined) return;
    if (pattern.isWrite()) request.prepareWrite(fd, pattern.position(), buffer, slot);
    else request.prepareRead(fd, pattern.position(), buffer, slot);
  };

  const first = buffers.map((_, slot) => {
    const request = new AioRequest();
    prepare(request, slot);
    return request;
  });
  submittedMs.fill(performance.now());
  context.submit(first);
  for (;;) {
    const { completed } = await context.wait();
    const handedOutMs = performance.now();
    for (const request of completed) {
      if (request.bytesTransferred !== blockSize) throw mishap(context.engine, request, blockSize);
      meter.record(handedOutMs - (submittedMs[request.userData as number] ?? 0));
    }
    if (!meter.tick(handedOutMs)) return;
    for (const request of completed) prepare(request, request.userData as number);
    const nowMs = performance.now();
    for (const request of completed) submittedMs[request.userData as number] = nowMs;
    context.submit(completed);
  }
}

function mishap(engine: EngineName, { error, bytesTransferred }: AioRequest, blockSize: number): CliError {
  const doing = `a transfer of ${blockSize} bytes by ${engine}`;
  return error === undefined ? transferShort(doing, bytesTransferred) : transferFailed(doing, error);
}
