/*
 * For `npm run test:asan`: stands between shim.c and the kernel, and watches the memory of transfers in flight.
 *
 * AddressSanitizer sees what the program does to its memory, and nothing of what the kernel does: a transfer into memory that was freed
 * would go unnoticed. So the system calls of the shim come through here (the build defines syscall, mmap, close, malloc … as
 * these), and at each of them the memory of everything that the kernel has must be alive. Freed memory is poisoned for as
 * long as the sanitizer keeps it in quarantine; touching it reports where it was allocated and who freed it.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

long watched_syscall(long number, ...);
void *watched_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int watched_close(int fd);
void *watched_malloc(size_t bytes);
void *watched_calloc(size_t count, size_t bytes);
int watched_posix_memalign(void **memory, size_t alignment, size_t bytes);
void watched_free(void *memory);

/* What one transfer reads from or writes to; none: not in flight. */
struct flight {
  struct iovec *parts;
  unsigned count;
};

/* A kernel context, or a ring. */
struct port {
  struct port *next;
  uint64_t handle; /* the context, or the descriptor of the ring */
  bool ring;
  struct io_uring_params params;
  /* The mappings of the ring, for ourselves: the program's go before it is done. */
  char *counters;
  size_t counters_bytes;
  struct io_uring_sqe *sqes;
  size_t sqes_bytes;
  unsigned seen; /* completions that were looked at */
  unsigned refused; /* calls in a row that failed: a test that makes all of them fail */
  struct flight *flights; /* by slot */
  uint64_t slots;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct port *ports;
static atomic_ullong checks;
/* What the shim has allocated and not freed. */
static atomic_long live;

static void check(const struct port *port, uint64_t slot, const char *when) {
  const struct flight *flight = &port->flights[slot];
  for (unsigned part = 0; part < flight->count; part++) {
    const struct iovec *at = &flight->parts[part];
    atomic_fetch_add(&checks, 1);
    char *poisoned = at->iov_len == 0 ? NULL : __asan_region_is_poisoned(at->iov_base, at->iov_len);
    if (poisoned == NULL) continue;
    fprintf(stderr, "transfer in slot %llu of a %s, %s: the kernel has memory that was freed\n", (unsigned long long)slot,
            port->ring ? "ring" : "kernel context", when);
    *(volatile char *)poisoned; /* reports it */
  }
}

static void check_all(const struct port *port, const char *when) {
  for (uint64_t slot = 0; slot < port->slots; slot++) check(port, slot, when);
}

static struct port *find(uint64_t handle, bool ring) {
  for (struct port *port = ports; port != NULL; port = port->next)
    if (port->handle == handle && port->ring == ring) return port;
  return NULL;
}

static struct port *add(uint64_t handle, bool ring) {
  struct port *port = calloc(1, sizeof *port);
  port->handle = handle;
  port->ring = ring;
  port->next = ports;
  return ports = port;
}

static void land(struct port *port, uint64_t slot) {
  if (slot >= port->slots) return;
  free(port->flights[slot].parts);
  port->flights[slot] = (struct flight){0};
}

/* Out of the list: the kernel may give its handle to somebody else from now on. */
static struct port *unlist(uint64_t handle, bool ring) {
  for (struct port **link = &ports; *link != NULL; link = &(*link)->next) {
    struct port *port = *link;
    if (port->handle != handle || port->ring != ring) continue;
    *link = port->next;
    return port;
  }
  return NULL;
}

static void drop(struct port *port) {
  if (port == NULL) return;
  for (uint64_t slot = 0; slot < port->slots; slot++) land(port, slot);
  if (port->counters != NULL) munmap(port->counters, port->counters_bytes);
  if (port->sqes != NULL) munmap(port->sqes, port->sqes_bytes);
  free(port->flights);
  free(port);
}

static void take_off(struct port *port, uint64_t slot, const void *address, uint64_t length, bool vectored) {
  if (slot >= port->slots) {
    uint64_t slots = slot * 2 + 64;
    port->flights = realloc(port->flights, slots * sizeof *port->flights);
    memset(port->flights + port->slots, 0, (slots - port->slots) * sizeof *port->flights);
    port->slots = slots;
  }
  land(port, slot);
  struct flight *flight = &port->flights[slot];
  flight->count = vectored ? (unsigned)length : 1;
  flight->parts = calloc(flight->count + 1, sizeof *flight->parts);
  if (vectored && length > 0) memcpy(flight->parts, address, length * sizeof *flight->parts);
  if (!vectored) flight->parts[0] = (struct iovec){.iov_base = (void *)(uintptr_t)address, .iov_len = length};
  check(port, slot, "when it is submitted");
}

/* ---- kernel AIO ----------------------------------------------------------------------------- */

static void submit_iocb(struct port *port, const struct iocb *iocb) {
  const void *address = (const void *)(uintptr_t)iocb->aio_buf;
  switch (iocb->aio_lio_opcode) {
  case IOCB_CMD_PREAD:
  case IOCB_CMD_PWRITE:
    take_off(port, iocb->aio_data, address, iocb->aio_nbytes, false);
    break;
  case IOCB_CMD_PREADV:
  case IOCB_CMD_PWRITEV:
    take_off(port, iocb->aio_data, address, iocb->aio_nbytes, true);
    break;
  }
}

/* ---- io_uring ------------------------------------------------------------------------------- */

/* What has completed is the program's again, and may be gone. The kernel writes to the rest. */
static void see_completions(struct port *port) {
  unsigned tail = atomic_load((atomic_uint *)(port->counters + port->params.cq_off.tail));
  const struct io_uring_cqe *cqes = (const void *)(port->counters + port->params.cq_off.cqes);
  for (; port->seen != tail; port->seen++) land(port, cqes[port->seen & (port->params.cq_entries - 1)].user_data);
}

static void submit_entries(struct port *port, unsigned count) {
  unsigned head = atomic_load((atomic_uint *)(port->counters + port->params.sq_off.head));
  for (unsigned at = head; at != head + count; at++) {
    const struct io_uring_sqe *sqe = &port->sqes[at & (port->params.sq_entries - 1)];
    const void *address = (const void *)(uintptr_t)sqe->addr;
    switch (sqe->opcode) {
    case IORING_OP_READ:
    case IORING_OP_WRITE:
    case IORING_OP_READ_FIXED:
    case IORING_OP_WRITE_FIXED:
      take_off(port, sqe->user_data, address, sqe->len, false);
      break;
    case IORING_OP_READV:
    case IORING_OP_WRITEV:
      take_off(port, sqe->user_data, address, sqe->len, true);
      break;
    }
  }
}

/* ---- what the shim calls -------------------------------------------------------------------- */

/* Returns a context that is going to be destroyed. */
static struct port *before(long number, const long *argument) {
  struct port *port;
  switch (number) {
  case SYS_io_submit:
    port = find((uint64_t)argument[0], false);
    if (port == NULL) break;
    check_all(port, "while others are submitted");
    for (long index = 0; index < argument[1]; index++) submit_iocb(port, ((struct iocb **)argument[2])[index]);
    break;
  case SYS_io_destroy:
    port = unlist((uint64_t)argument[0], false);
    if (port != NULL) check_all(port, "when its context is destroyed");
    return port;
  case SYS_io_uring_enter:
    port = find((uint64_t)argument[0], true);
    if (port == NULL || port->counters == NULL || port->sqes == NULL) break;
    see_completions(port);
    check_all(port, "while it is in flight");
    if ((port->params.flags & IORING_SETUP_SQPOLL) == 0) submit_entries(port, (unsigned)argument[1]);
    break;
  }
  return NULL;
}

static void after(long number, const long *argument, long result, int error, struct port *destroyed) {
  struct port *port;
  switch (number) {
  case SYS_io_setup:
    if (result == 0) add(*(aio_context_t *)argument[1], false);
    break;
  case SYS_io_submit:
    /* What was not taken is the program's still. */
    port = find((uint64_t)argument[0], false);
    for (long index = result < 0 ? 0 : result; port != NULL && index < argument[1]; index++)
      land(port, ((struct iocb **)argument[2])[index]->aio_data);
    break;
  case SYS_io_getevents:
    port = find((uint64_t)argument[0], false);
    for (long index = 0; port != NULL && index < result; index++) {
      uint64_t slot = ((struct io_event *)argument[3])[index].data;
      if (slot < port->slots) check(port, slot, "when its completion is reaped");
      land(port, slot);
    }
    break;
  case SYS_io_destroy:
    if (destroyed != NULL) check_all(destroyed, "until its context is destroyed");
    drop(destroyed);
    break;
  case SYS_io_uring_setup:
    if (result >= 0) {
      add((uint64_t)result, true)->params = *(struct io_uring_params *)argument[1];
    }
    break;
  case SYS_io_uring_enter:
    port = find((uint64_t)argument[0], true);
    if (port != NULL) port->refused = result < 0 && error != ETIME ? port->refused + 1 : 0;
    if (port == NULL || port->counters == NULL || port->sqes == NULL) return;
    see_completions(port);
    check_all(port, "in flight");
    break;
  }
}

long watched_syscall(long number, ...) {
  long argument[6];
  va_list arguments;
  va_start(arguments, number);
  for (int index = 0; index < 6; index++) argument[index] = va_arg(arguments, long);
  va_end(arguments);
  pthread_mutex_lock(&lock);
  struct port *destroyed = before(number, argument);
  pthread_mutex_unlock(&lock);
  long result = syscall(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
  int error = errno;
  pthread_mutex_lock(&lock);
  after(number, argument, result, error, destroyed);
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

void *watched_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  void *mapped = mmap(at, bytes, protection, flags, fd, offset);
  pthread_mutex_lock(&lock);
  struct port *port = mapped == MAP_FAILED ? NULL : find((uint64_t)fd, true);
  if (port != NULL && offset == IORING_OFF_SQ_RING && port->counters == NULL) {
    void *own = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, offset);
    if (own != MAP_FAILED) port->counters = own, port->counters_bytes = bytes;
  }
  if (port != NULL && offset == (off_t)IORING_OFF_SQES && port->sqes == NULL) {
    void *own = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, offset);
    if (own != MAP_FAILED) port->sqes = own, port->sqes_bytes = bytes;
  }
  pthread_mutex_unlock(&lock);
  return mapped;
}

/*
 * Closing a ring does not wait: whatever is in flight then is written to at some time later. Where the kernel refuses to say what has ended,
 * so often that there is no more hope, the memory must stay.
 */
#define HOPELESS 500

static void check_closing(struct port *port) {
  if (port == NULL || port->counters == NULL) return;
  see_completions(port);
  if (port->refused >= HOPELESS) {
    check_all(port, "when its ring is given up");
    return;
  }
  for (uint64_t slot = 0; slot < port->slots; slot++) {
    if (port->flights[slot].count == 0) continue;
    fprintf(stderr, "a ring is closed, and the transfer in slot %llu is in flight\n", (unsigned long long)slot);
    abort();
  }
}

int watched_close(int fd) {
  pthread_mutex_lock(&lock);
  struct port *port = unlist((uint64_t)fd, true);
  check_closing(port);
  drop(port);
  pthread_mutex_unlock(&lock);
  return close(fd);
}

void *watched_malloc(size_t bytes) {
  void *memory = malloc(bytes);
  if (memory != NULL) atomic_fetch_add(&live, 1);
  return memory;
}

void *watched_calloc(size_t count, size_t bytes) {
  void *memory = calloc(count, bytes);
  if (memory != NULL) atomic_fetch_add(&live, 1);
  return memory;
}

int watched_posix_memalign(void **memory, size_t alignment, size_t bytes) {
  int error = posix_memalign(memory, alignment, bytes);
  if (error == 0) atomic_fetch_add(&live, 1);
  return error;
}

void watched_free(void *memory) {
  if (memory != NULL) atomic_fetch_sub(&live, 1);
  free(memory);
}

/* At the end of the process: how often memory was looked at, and what is left of the shim's. */
__attribute__((destructor)) static void report(void) {
  const char *path = getenv("FILEAIO_ASAN_CHECKS");
  FILE *file = path == NULL ? NULL : fopen(path, "a");
  if (file == NULL) return;
  fprintf(file, "%llu %ld\n", (unsigned long long)checks, (long)live);
  fclose(file);
}
