/*
 * The speed limit of io_uring: the loop of the JavaScript programs in C, with the best set-up flags. One call submits a batch; a
 * second one waits where that left nothing in the ring. With `fixed` as one more argument, file and buffers are registered.
 */
#include "limit.h"
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/uio.h>

struct ring {
  int fd;
  _Atomic uint32_t *sq_tail, *cq_head, *cq_tail;
  uint32_t sq_mask, cq_mask;
  struct io_uring_sqe *sqes;
  struct io_uring_cqe *cqes;
};

static struct ring make_ring(unsigned depth) {
  struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                            IORING_SETUP_SUBMIT_ALL | IORING_SETUP_TASKRUN_FLAG};
  int fd = (int)syscall(SYS_io_uring_setup, depth, &params);
  if (fd < 0) fail("io_uring_setup", errno);
  size_t with_sqes = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
  size_t with_cqes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  int shared = MAP_SHARED | MAP_POPULATE;
  char *at = mmap(NULL, with_sqes > with_cqes ? with_sqes : with_cqes, PROT_READ | PROT_WRITE, shared, fd,
                  IORING_OFF_SQ_RING);
  void *sqes = mmap(NULL, params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, shared, fd,
                    IORING_OFF_SQES);
  if (at == MAP_FAILED || sqes == MAP_FAILED) fail("mmap", errno);
  uint32_t *order = (uint32_t *)(at + params.sq_off.array);
  for (uint32_t i = 0; i < params.sq_entries; i++) order[i] = i;
  return (struct ring){.fd = fd,
                       .sq_tail = (_Atomic uint32_t *)(at + params.sq_off.tail),
                       .cq_head = (_Atomic uint32_t *)(at + params.cq_off.head),
                       .cq_tail = (_Atomic uint32_t *)(at + params.cq_off.tail),
                       .sq_mask = params.sq_entries - 1,
                       .cq_mask = params.cq_entries - 1,
                       .sqes = sqes,
                       .cqes = (struct io_uring_cqe *)(at + params.cq_off.cqes)};
}

static void register_all(const struct ring *ring, struct task *task) {
  struct iovec memory = {.iov_base = task->buffers, .iov_len = task->depth * task->size};
  if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES, &task->fd, 1) < 0 ||
      syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, &memory, 1) < 0)
    fail("io_uring_register", errno);
}

static uint32_t enter(int fd, uint32_t submit, uint32_t complete, unsigned flags) {
  long taken = syscall(SYS_io_uring_enter, fd, submit, complete, flags, NULL, 0);
  if (taken < 0 && errno != EINTR) fail("io_uring_enter", errno);
  return taken < 0 ? 0 : (uint32_t)taken;
}

int main(int argc, char **argv) {
  struct task task = begin(argc, argv);
  struct ring ring = make_ring(task.depth);
  int fixed = is_asked(argc, argv, "fixed");
  if (fixed) register_all(&ring, &task);

  struct io_uring_sqe *requests = calloc(task.depth, sizeof *requests);
  if (requests == NULL) fail("allocating requests", ENOMEM);
  uint32_t sq_tail = 0, cq_head = 0;
  for (unsigned i = 0; i < task.depth; i++) {
    requests[i].opcode = fixed ? IORING_OP_READ_FIXED : IORING_OP_READ;
    requests[i].flags = fixed ? IOSQE_FIXED_FILE : 0;
    requests[i].fd = fixed ? 0 : task.fd;
    requests[i].addr = (uint64_t)(uintptr_t)(task.buffers + i * task.size);
    requests[i].len = (uint32_t)task.size;
    requests[i].user_data = i;
    requests[i].off = next_position(&task);
    ring.sqes[sq_tail++ & ring.sq_mask] = requests[i];
  }

  uint32_t submitted = 0;
  for (;;) {
    atomic_store_explicit(ring.sq_tail, sq_tail, memory_order_release);
    while (submitted != sq_tail) submitted += enter(ring.fd, sq_tail - submitted, 0, 0);
    uint32_t cq_tail = atomic_load_explicit(ring.cq_tail, memory_order_acquire);
    if (cq_tail == cq_head) enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS);
    cq_tail = atomic_load_explicit(ring.cq_tail, memory_order_acquire);
    uint32_t count = cq_tail - cq_head;
    for (; cq_head != cq_tail; cq_head++) {
      const struct io_uring_cqe *cqe = &ring.cqes[cq_head & ring.cq_mask];
      check(&task, cqe->res);
      struct io_uring_sqe *request = &requests[cqe->user_data];
      request->off = next_position(&task);
      ring.sqes[sq_tail++ & ring.sq_mask] = *request;
    }
    atomic_store_explicit(ring.cq_head, cq_head, memory_order_release);
    meter(&task, count);
  }
}
