/**
 * From what the kernel answered to what a person reads: the status of a request, and the error that is built from it
 * when somebody asks.
 */
import { type Alignment, alignmentOf, isDirect } from './alignment.ts';
import { AioError, codeOf, ECANCELED, EINVAL, textOf } from './errors.ts';
import { loadNative } from './native.ts';
import { COMPLETED, FDATASYNC, FSYNC, READ, type Transfer } from './transfer.ts';

/** As node:fs names the system call of an operation, whatever the kernel's own name for the asynchronous one. */
export function syscallOf(transfer: Transfer): 'read' | 'write' | 'fsync' | 'fdatasync' {
  if (transfer.operation === FSYNC) return 'fsync';
  if (transfer.operation === FDATASYNC) return 'fdatasync';
  return transfer.operation === READ ? 'read' : 'write';
}

/** `read of 4096 bytes at position 0 on descriptor 17`. */
export function describe(transfer: Transfer): string {
  const syscall = syscallOf(transfer);
  if (transfer.operation === FSYNC || transfer.operation === FDATASYNC)
    return `${syscall} on descriptor ${transfer.fd}`;
  const buffers = transfer.vectored ? ` in ${transfer.count} buffers` : '';
  const where = transfer.atCurrentPosition ? 'the current position' : `position ${transfer.position}`;
  return `${syscall} of ${transfer.length} bytes${buffers} at ${where} on descriptor ${transfer.fd}`;
}

/**
 * Why the kernel answered EINVAL to a direct transfer, or '' if alignment is not the reason. Worked out only after the
 * fact, so that a good transfer pays nothing for it.
 *
 * @param given - what it needs, where that is not the kernel's to say.
 */
export function misalignment(transfer: Transfer, given?: Alignment): string {
  if (transfer.operation === FSYNC || transfer.operation === FDATASYNC) return '';
  if (given === undefined && !isDirect(transfer.fd)) return '';
  const found: string[] = [];
  const needs = given ?? needed(transfer.fd);
  if (needs === undefined) return '';
  const known = loadNative().native !== undefined;
  // Where the current one is, the kernel knows.
  const past = transfer.atCurrentPosition ? 0 : Number(transfer.position % BigInt(needs.offset));
  if (past !== 0) found.push(`its position ${transfer.position} is ${past} past a multiple of ${needs.offset}`);
  for (let index = 0; index < transfer.count; index++) {
    const segment = transfer.segments[index];
    if (segment === undefined) break;
    const name = transfer.vectored ? `buffers[${index}]` : 'its buffer';
    const over = segment.length % needs.offset;
    if (over !== 0)
      found.push(`the length of ${name}, ${segment.length}, is ${over} past a multiple of ${needs.offset}`);
    // Where nothing is, nothing is misaligned.
    const off = known && segment.length > 0 ? segment.address % needs.buffer : 0;
    if (off !== 0) found.push(`the address of ${name} is ${off} past a multiple of ${needs.buffer}`);
  }
  if (found.length === 0) return known ? '' : UNKNOWN_ADDRESS;
  const all = found.length > 4 ? [...found.slice(0, 4), `and ${found.length - 4} more`] : found;
  return `${all.join('; ')}. Direct I/O on this file needs addresses in multiples of ${needs.buffer} (allocBuffer gives them), positions and lengths in multiples of ${needs.offset}`;
}

/** Position and length are right, and the kernel said no: what is left cannot be looked at. */
const UNKNOWN_ADDRESS =
  'it may be the address of its memory, which only the native shim can tell and align: run npm run build:native, or open the file without O_DIRECT';

function needed(fd: number): { buffer: number; offset: number } | undefined {
  try {
    return alignmentOf(fd);
  } catch {
    return undefined; // closed since: then the kernel's own answer has to do
  }
}

/** The status of a transfer that ended with a negative errno. */
export function statusOf(transfer: Transfer): string {
  if (transfer.result === -ECANCELED && transfer.cancelAsked) return 'ERR_AIO_CANCELED';
  if (transfer.result === -EINVAL && transfer.detail !== '') return 'ERR_AIO_MISALIGNED';
  return codeOf(transfer.result);
}

const CURES: Readonly<Record<string, string>> = {
  EBADF:
    'The descriptor is not open, or not for this: check that it was opened for reading or writing, and not closed since',
  EFBIG: 'The file would grow beyond what the process (ulimit -f, RLIMIT_FSIZE) or the file system allows',
  ENOSPC: 'The file system is full: free some space, then prepare and submit the request again',
  EDQUOT: 'The quota is used up',
  EIO: 'The device or the network behind the file failed: what was written since the last flush may be lost',
  EFAULT: 'The kernel cannot reach the memory: it may be a read-only mapping',
  EINVAL: 'The kernel rejects the combination of descriptor, position and length',
  EISDIR: 'A directory cannot be read as a file',
};

/** The error for a status; `undefined` for 'OK'. That of an outcome is one object, for as long as the outcome lasts. */
export function errorOf(transfer: Transfer, status: string): AioError | undefined {
  if (status === 'OK') return undefined;
  if (transfer.state !== COMPLETED) return failure(transfer, status);
  transfer.error ??= failure(transfer, status);
  return transfer.error;
}

/** The error for any status but 'OK'. */
export function failure(transfer: Transfer, status: string): AioError {
  const doing = describe(transfer);
  switch (status) {
    case 'ERR_AIO_NOT_SUBMITTED':
      return new AioError(
        status,
        `The request (${doing}) is prepared but was not submitted: give it to context.submit() first`,
      );
    case 'ERR_AIO_IN_PROGRESS':
      return new AioError(
        status,
        `The request (${doing}) is submitted and not complete: wait for it on its context first`,
      );
    case 'ERR_AIO_CANCELED':
      return new AioError(status, `The request (${doing}) was canceled: its memory is not used any more`, {
        errno: -ECANCELED,
        syscall: syscallOf(transfer),
      });
    case 'ERR_AIO_MISALIGNED':
      return new AioError(status, `Misaligned ${doing}: ${transfer.detail}`, {
        errno: -EINVAL,
        syscall: syscallOf(transfer),
      });
    case 'ERR_AIO_BUFFER_DETACHED':
      return new AioError(
        status,
        `The buffer of the ${doing} was transferred away before the request completed: wherever its bytes went, what is in them, and what was written from them, is undefined. Transfer buffers only after their requests completed`,
      );
    default: {
      const cure = CURES[status];
      return new AioError(status, `${textOf(transfer.result)}, ${doing}${cure === undefined ? '' : `. ${cure}`}`, {
        errno: transfer.result,
        syscall: syscallOf(transfer),
      });
    }
  }
}
