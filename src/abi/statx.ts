/** The part of `struct statx` (statx(2)) that is read here; offsets are checked by `native/layout.c`. */

export const STATX_SIZE = 256;
export const STATX_BASIC_STATS = 0x7ff;
/** Linux 6.1: what direct I/O needs of a buffer's address and of offset and length. */
export const STATX_DIOALIGN = 0x2000;
/** Linux 6.8: a number of the mount that no other one ever gets. */
export const STATX_MNT_ID_UNIQUE = 0x4000;

/** Byte offsets. */
export const STX_MASK = 0;
export const STX_MODE = 28;
export const STX_RDEV_MAJOR = 128;
export const STX_RDEV_MINOR = 132;
export const STX_DEV_MAJOR = 136;
export const STX_DEV_MINOR = 140;
export const STX_MNT_ID = 144;
export const STX_DIO_MEM_ALIGN = 152;
export const STX_DIO_OFFSET_ALIGN = 156;

export const AT_FDCWD = -100;
export const AT_EMPTY_PATH = 0x1000;
/** Says what is known already; a file system in user space is not asked. */
export const AT_STATX_DONT_SYNC = 0x4000;
