/**
 * The structures of `<linux/aio_abi.h>` as TypeScript writes them: `struct iocb`, `struct io_event` and the
 * pointer array that io_submit(2) takes. All 64-bit fields are written as two 32-bit halves, low first, because a
 * BigInt64Array would allocate a BigInt per field. `native/layout.c` checks every number here at build time.
 */

export const IOCB_SIZE = 64;
export const IO_EVENT_SIZE = 32;
export const POINTER_SIZE = 8;
export const IOVEC_SIZE = 16;

/** Opcodes of `aio_lio_opcode`. */
export const IOCB_CMD_PREAD = 0;
export const IOCB_CMD_PWRITE = 1;
export const IOCB_CMD_FSYNC = 2;
export const IOCB_CMD_FDSYNC = 3;
export const IOCB_CMD_POLL = 5;
export const IOCB_CMD_PREADV = 7;
export const IOCB_CMD_PWRITEV = 8;

/** `aio_flags`: signal the eventfd in `aio_resfd` when this one completes. */
export const IOCB_FLAG_RESFD = 1;

/** `aio_buf` of IOCB_CMD_POLL. */
export const POLLIN = 1;

/** Fields of an iocb, as indexes of 32-bit words. */
export const IOCB_DATA = 0;
export const IOCB_OPCODE = 4; // 16 bits, then aio_reqprio
export const IOCB_FD = 5;
export const IOCB_BUF = 6;
export const IOCB_NBYTES = 8;
export const IOCB_OFFSET = 10;
export const IOCB_FLAGS = 14;
export const IOCB_RESFD = 15;
export const IOCB_WORDS = IOCB_SIZE / 4;

/** Fields of an io_event, as indexes of 32-bit words. */
export const EVENT_DATA = 0;
export const EVENT_RES = 4;
export const EVENT_WORDS = IO_EVENT_SIZE / 4;
