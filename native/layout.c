/*
 * What src/abi writes and reads byte by byte, checked against the kernel's own headers: a
 * difference on some architecture stops the build here instead of corrupting a transfer there.
 */
#include <linux/aio_abi.h>
#include <linux/stat.h>
#include <stddef.h>
#include <sys/uio.h>

#define SIZE(type, size) _Static_assert(sizeof(type) == (size), "size of " #type)
#define AT(type, member, offset) _Static_assert(offsetof(type, member) == (offset), #type "." #member)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "src/abi writes 64-bit fields as two little-endian halves"
#endif
_Static_assert(sizeof(void *) == 8, "addresses are 64 bits wide");

SIZE(struct iocb, 64);
AT(struct iocb, aio_data, 0);
AT(struct iocb, aio_rw_flags, 12);
AT(struct iocb, aio_lio_opcode, 16);
AT(struct iocb, aio_reqprio, 18);
AT(struct iocb, aio_fildes, 20);
AT(struct iocb, aio_buf, 24);
AT(struct iocb, aio_nbytes, 32);
AT(struct iocb, aio_offset, 40);
AT(struct iocb, aio_flags, 56);
AT(struct iocb, aio_resfd, 60);

SIZE(struct io_event, 32);
AT(struct io_event, data, 0);
AT(struct io_event, obj, 8);
AT(struct io_event, res, 16);
AT(struct io_event, res2, 24);

SIZE(struct iovec, 16);
AT(struct iovec, iov_base, 0);
AT(struct iovec, iov_len, 8);

SIZE(struct statx, 256);
AT(struct statx, stx_mask, 0);
AT(struct statx, stx_mode, 28);
AT(struct statx, stx_rdev_major, 128);
AT(struct statx, stx_rdev_minor, 132);
AT(struct statx, stx_dev_major, 136);
AT(struct statx, stx_dev_minor, 140);

/* Linux 6.1 added these two to the spare space; older headers do not name them. */
#ifdef STATX_DIOALIGN
_Static_assert(STATX_DIOALIGN == 0x2000, "STATX_DIOALIGN");
AT(struct statx, stx_dio_mem_align, 152);
AT(struct statx, stx_dio_offset_align, 156);
#endif

_Static_assert(IOCB_CMD_PREAD == 0 && IOCB_CMD_PWRITE == 1 && IOCB_CMD_FSYNC == 2 && IOCB_CMD_FDSYNC == 3 &&
                   IOCB_CMD_POLL == 5 && IOCB_CMD_PREADV == 7 && IOCB_CMD_PWRITEV == 8,
               "opcodes");
_Static_assert(IOCB_FLAG_RESFD == 1, "IOCB_FLAG_RESFD");
