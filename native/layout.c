/*
 * What src/abi writes and reads byte by byte, checked against the kernel's own headers: a
 * difference on some architecture stops the build here instead of corrupting a transfer there.
 */
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
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
AT(struct statx, stx_mnt_id, 144);
AT(struct statx, stx_dio_mem_align, 152);
AT(struct statx, stx_dio_offset_align, 156);
#endif

_Static_assert(IOCB_CMD_PREAD == 0 && IOCB_CMD_PWRITE == 1 && IOCB_CMD_FSYNC == 2 && IOCB_CMD_FDSYNC == 3 &&
                   IOCB_CMD_POLL == 5 && IOCB_CMD_PREADV == 7 && IOCB_CMD_PWRITEV == 8,
               "opcodes");
_Static_assert(IOCB_FLAG_RESFD == 1, "IOCB_FLAG_RESFD");

SIZE(struct io_uring_params, 120);
AT(struct io_uring_params, sq_entries, 0);
AT(struct io_uring_params, cq_entries, 4);
AT(struct io_uring_params, flags, 8);
AT(struct io_uring_params, sq_thread_idle, 16);
AT(struct io_uring_params, features, 20);
AT(struct io_uring_params, sq_off, 40);
AT(struct io_uring_params, cq_off, 80);
AT(struct io_sqring_offsets, head, 0);
AT(struct io_sqring_offsets, tail, 4);
AT(struct io_sqring_offsets, flags, 16);
AT(struct io_sqring_offsets, array, 24);
AT(struct io_cqring_offsets, head, 0);
AT(struct io_cqring_offsets, tail, 4);
AT(struct io_cqring_offsets, cqes, 20);

SIZE(struct io_uring_sqe, 64);
AT(struct io_uring_sqe, opcode, 0);
AT(struct io_uring_sqe, flags, 1);
AT(struct io_uring_sqe, fd, 4);
AT(struct io_uring_sqe, off, 8);
AT(struct io_uring_sqe, addr, 16);
AT(struct io_uring_sqe, len, 24);
AT(struct io_uring_sqe, rw_flags, 28);
AT(struct io_uring_sqe, user_data, 32);
AT(struct io_uring_sqe, buf_index, 40);

SIZE(struct io_uring_cqe, 16);
AT(struct io_uring_cqe, user_data, 0);
AT(struct io_uring_cqe, res, 8);

SIZE(struct io_uring_files_update, 16);
AT(struct io_uring_files_update, fds, 8);
SIZE(struct io_uring_probe, 16);
SIZE(struct io_uring_rsrc_register, 32);
SIZE(struct io_uring_rsrc_update2, 32);
AT(struct io_uring_rsrc_update2, data, 8);
AT(struct io_uring_rsrc_update2, nr, 24);

_Static_assert(IORING_OP_READV == 1 && IORING_OP_WRITEV == 2 && IORING_OP_FSYNC == 3 && IORING_OP_READ_FIXED == 4 &&
                   IORING_OP_WRITE_FIXED == 5 && IORING_OP_POLL_ADD == 6 && IORING_OP_ASYNC_CANCEL == 14 &&
                   IORING_OP_READ == 22 && IORING_OP_WRITE == 23,
               "operations");
_Static_assert(IORING_OFF_SQES == 0x10000000, "IORING_OFF_SQES");
_Static_assert(IORING_FSYNC_DATASYNC == 1 && IOSQE_FIXED_FILE == 1, "flags");
