/* The speed limit of kernel AIO: the loop of the JavaScript programs in C. An iocb is filled once; only its offset changes. */
#include "limit.h"
#include <linux/aio_abi.h>

static void submit(aio_context_t context, struct iocb **batch, long count) {
  while (count > 0) {
    long taken = syscall(SYS_io_submit, context, count, batch);
    if (taken < 0) {
      if (errno == EINTR) continue;
      fail("io_submit", errno);
    }
    batch += taken;
    count -= taken;
  }
}

int main(int argc, char **argv) {
  struct task task = begin(argc, argv);
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, task.depth, &context) < 0) fail("io_setup", errno);

  struct iocb *iocbs = calloc(task.depth, sizeof *iocbs);
  struct iocb **batch = calloc(task.depth, sizeof *batch);
  struct io_event *events = calloc(task.depth, sizeof *events);
  if (iocbs == NULL || batch == NULL || events == NULL) fail("allocating requests", ENOMEM);
  for (unsigned i = 0; i < task.depth; i++) {
    iocbs[i].aio_lio_opcode = IOCB_CMD_PREAD;
    iocbs[i].aio_fildes = (uint32_t)task.fd;
    iocbs[i].aio_buf = (uint64_t)(uintptr_t)(task.buffers + i * task.size);
    iocbs[i].aio_nbytes = task.size;
    iocbs[i].aio_offset = (int64_t)next_position(&task);
    batch[i] = &iocbs[i];
  }

  submit(context, batch, task.depth);
  for (;;) {
    long count = syscall(SYS_io_getevents, context, 1L, (long)task.depth, events, NULL);
    if (count < 0) {
      if (errno == EINTR) continue;
      fail("io_getevents", errno);
    }
    for (long i = 0; i < count; i++) {
      check(&task, events[i].res);
      batch[i] = (struct iocb *)(uintptr_t)events[i].obj;
      batch[i]->aio_offset = (int64_t)next_position(&task);
    }
    meter(&task, (unsigned)count);
    submit(context, batch, count);
  }
}
