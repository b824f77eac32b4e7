/** A read that is never answered: how the process goes on, until the file system behind it dies. Arguments: engine, folder, file, how. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { AioContext, AioRequest, allocBuffer, type EngineName } from '../../src/index.ts';
import { open as openFile } from '../../src/promises.ts';

const [engine, folder = '', name = '', how] = process.argv.slice(2);
const path = join(folder, name);
const NEVER = 1 << 17;

function say(what: string): void {
  process.stdout.write(`${what}\n`);
}

function told(error: unknown): string {
  const { name: kind, code, errno, syscall } = error as NodeJS.ErrnoException;
  return kind === 'AbortError' ? kind : `${code} ${typeof errno} ${syscall}`;
}

if (how === 'context' || how === 'leave') {
  // For engines that do not wait within the submission.
  const file = await open(path);
  const context = new AioContext({ maxRequests: 2, engine: engine as EngineName });
  const request = new AioRequest().prepareRead(file.fd, NEVER, allocBuffer(4096));
  context.submit([request]);
  const { reason } = await context.wait({ timeoutMs: 30 });
  say(`${reason}, ${context.pending} pending, ${request.cancel()}`);
  say('waiting');
  if (how === 'leave') process.exit(3);
  await context[Symbol.asyncDispose]();
  say(request.status === 'OK' ? 'read' : 'failed');
  // Which is a question to the file system, too.
  await file.close().catch(() => undefined);
} else {
  const handle = await openFile(path, { engine: engine as EngineName });
  const good = await openFile(join(folder, 'direct-good'), { engine: engine as EngineName });
  say('waiting');
  const aborter = new AbortController();
  const buffer = Buffer.alloc(4096);
  const reading = handle.read(buffer, { position: NEVER, signal: aborter.signal }).then(() => 'read', told);
  if (how === 'exit') {
    process.on('exit', () => say('exits'));
    setTimeout(() => process.exit(3), 30);
  } else {
    if (how === 'abort') {
      const { bytesRead } = await good.read(Buffer.alloc(4096), 0, 4096, 0);
      say(`another file: ${bytesRead}`);
      aborter.abort();
    }
    const closing = handle.close();
    const still = new Promise((resolve) => setTimeout(resolve, 30, 'still there'));
    say(`after a while: ${await Promise.race([reading, still])}`);
    say(`in the end: ${await reading}`);
    say(`closed: ${await closing.then(() => 'well', told)}`);
    await good.close().catch(() => undefined);
  }
}
