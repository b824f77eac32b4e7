/**
 * The structures of `<linux/io_uring.h>` as TypeScript writes and reads them: entries of the submission queue (SQE), of the
 * completion queue (CQE), and the parameters of io_uring_setup(2). `native/layout.c` checks offsets and opcodes at build time.
 */

export const PARAMS_SIZE = 120;
/** Byte offsets in `struct io_uring_params`. */
export const PARAMS_SQ_ENTRIES = 0;
export const PARAMS_CQ_ENTRIES = 4;
export const PARAMS_FLAGS = 8;
export const PARAMS_SQ_THREAD_IDLE = 16;
export const PARAMS_FEATURES = 20;
export const PARAMS_SQ_HEAD = 40;
export const PARAMS_SQ_TAIL = 44;
export const PARAMS_SQ_MASK = 48;
export const PARAMS_SQ_FLAGS = 56;
export const PARAMS_SQ_ARRAY = 64;
export const PARAMS_CQ_HEAD = 80;
export const PARAMS_CQ_TAIL = 84;
export const PARAMS_CQ_CQES = 100;

/** Set-up flags. */
export const SETUP_SQPOLL = 1 << 1;
export const SETUP_CQSIZE = 1 << 3;
export const SETUP_CLAMP = 1 << 4;
export const SETUP_SUBMIT_ALL = 1 << 7;
export const SETUP_COOP_TASKRUN = 1 << 8;
export const SETUP_TASKRUN_FLAG = 1 << 9;
export const SETUP_SINGLE_ISSUER = 1 << 12;
export const SETUP_DEFER_TASKRUN = 1 << 13;

/** Features that this needs: one mapping for both rings, completions kept when the ring is full, stable submissions, timeouts. */
export const FEAT_SINGLE_MMAP = 1 << 0;
export const FEAT_NODROP = 1 << 1;
export const FEAT_SUBMIT_STABLE = 1 << 2;
export const FEAT_EXT_ARG = 1 << 8;
export const FEATURES = FEAT_SINGLE_MMAP | FEAT_NODROP | FEAT_SUBMIT_STABLE | FEAT_EXT_ARG;

/** What mmap(2) maps where. */
export const OFF_SQ_RING = 0;
export const OFF_SQES = 0x10000000;

/** Flags in the submission ring, set by the kernel. */
export const SQ_NEED_WAKEUP = 1 << 0;
export const SQ_CQ_OVERFLOW = 1 << 1;
export const SQ_TASKRUN = 1 << 2;

/** Flags of io_uring_enter(2). */
export const ENTER_GETEVENTS = 1 << 0;
export const ENTER_SQ_WAKEUP = 1 << 1;
export const ENTER_SQ_WAIT = 1 << 2;

/** Operations. */
export const OP_READV = 1;
export const OP_WRITEV = 2;
export const OP_FSYNC = 3;
export const OP_READ_FIXED = 4;
export const OP_WRITE_FIXED = 5;
export const OP_POLL_ADD = 6;
export const OP_ASYNC_CANCEL = 14;
export const OP_READ = 22;
export const OP_WRITE = 23;

export const FSYNC_DATASYNC = 1;
export const POLLIN = 1;
/** In the second byte of an SQE: `fd` is an index into the registered files. */
export const SQE_FIXED_FILE = 1 << 8;
/** There, too: a thread of io-wq does it from the start, instead of the submitting one trying to without waiting. */
export const SQE_ASYNC = 1 << 12;

/** An SQE as 32-bit words. */
export const SQE_SIZE = 64;
export const SQE_WORDS = SQE_SIZE / 4;
export const SQE_OPCODE = 0; // and flags
export const SQE_FD = 1;
export const SQE_OFF = 2;
export const SQE_ADDR = 4;
export const SQE_LEN = 6;
export const SQE_OP_FLAGS = 7;
export const SQE_USER_DATA = 8;
export const SQE_BUF_INDEX = 10; // and personality

/** A CQE as 32-bit words. */
export const CQE_SIZE = 16;
export const CQE_WORDS = CQE_SIZE / 4;
export const CQE_USER_DATA = 0;
export const CQE_RES = 2;

/** Operations of io_uring_register(2), and their structures as 32-bit words. */
export const REGISTER_FILES = 2;
export const REGISTER_EVENTFD = 4;
export const REGISTER_FILES_UPDATE = 6;
/** What the kernel can do: all zero but for what it fills in. */
export const REGISTER_PROBE = 8;
export const PROBE_SIZE = 16;
export const REGISTER_BUFFERS2 = 15;
export const REGISTER_BUFFERS_UPDATE = 16;
export const RSRC_SIZE = 32;
export const RSRC_REGISTER_SPARSE = 1;

/** The largest rings that the kernel makes. */
export const MAX_SQ_ENTRIES = 32768;
export const MAX_CQ_ENTRIES = 65536;

/** A request's length has 32 bits, and no request moves more than this anyway (MAX_RW_COUNT). */
export const MAX_LENGTH = 0x7ffff000;
