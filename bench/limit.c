/*
 * The speed limit: the loop of the JavaScript programs, over the same system calls, in C.
 *
 *   limit PATH DEPTH BLOCK_SIZE BLOCKS WARMUP_SECONDS SECONDS
 *
 * Keeps DEPTH direct reads of BLOCK_SIZE in flight at random blocks of PATH (BLOCKS is a power of two): takes what
 * has completed, at least one, gives each a new position, and submits them again as one batch. An iocb is filled
 * once; only its offset changes. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Transfers between two looks at the clock, as in meter.ts. */
#define CHECK_EVERY 256

static void fail(const char *what, int error) {
  fprintf(stderr, "%s: %s\n", what, strerror(error));
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static double cpu_us(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* xorshift32, with the seed of meter.ts: every program reads the same blocks in the same order. */
static uint32_t random_state = 0x9e3779b9;

static inline uint32_t next_random(void) {
  uint32_t x = random_state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return random_state = x;
}

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
  if (argc != 7) {
    fprintf(stderr, "usage: limit PATH DEPTH BLOCK_SIZE BLOCKS WARMUP_SECONDS SECONDS\n");
    return 2;
  }
  long depth = atol(argv[2]);
  size_t size = (size_t)atol(argv[3]);
  uint32_t mask = (uint32_t)atol(argv[4]) - 1;
  double warmup = atof(argv[5]), seconds = atof(argv[6]);

  int fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd < 0) fail("open with O_DIRECT", errno);
  aio_context_t context = 0;
  if (syscall(SYS_io_setup, depth, &context) < 0) fail("io_setup", errno);

  struct iocb *iocbs = calloc((size_t)depth, sizeof *iocbs);
  struct iocb **batch = calloc((size_t)depth, sizeof *batch);
  struct io_event *events = calloc((size_t)depth, sizeof *events);
  void *buffers = NULL;
  int error = posix_memalign(&buffers, 4096, (size_t)depth * size);
  if (iocbs == NULL || batch == NULL || events == NULL || error != 0) fail("allocating buffers", ENOMEM);
  memset(buffers, 0, (size_t)depth * size);
  for (long i = 0; i < depth; i++) {
    iocbs[i].aio_lio_opcode = IOCB_CMD_PREAD;
    iocbs[i].aio_fildes = (uint32_t)fd;
    iocbs[i].aio_buf = (uint64_t)(uintptr_t)buffers + (uint64_t)i * size;
    iocbs[i].aio_nbytes = size;
    iocbs[i].aio_offset = (int64_t)((next_random() & mask) * (uint64_t)size);
    batch[i] = &iocbs[i];
  }

  uint64_t transfers = 0, check = CHECK_EVERY, first = 0;
  double begun = now(), cpu = 0;
  int measuring = 0;
  submit(context, batch, depth);
  for (;;) {
    long count = syscall(SYS_io_getevents, context, 1L, depth, events, NULL);
    if (count < 0) {
      if (errno == EINTR) continue;
      fail("io_getevents", errno);
    }
    for (long i = 0; i < count; i++) {
      if (events[i].res != (int64_t)size) fail("read", events[i].res < 0 ? (int)-events[i].res : EIO);
      struct iocb *iocb = (struct iocb *)(uintptr_t)events[i].obj;
      iocb->aio_offset = (int64_t)((next_random() & mask) * (uint64_t)size);
      batch[i] = iocb;
    }
    transfers += (uint64_t)count;
    if (transfers >= check) {
      check = transfers + CHECK_EVERY;
      double time = now();
      if (!measuring && time - begun >= warmup) {
        measuring = 1;
        first = transfers;
        cpu = cpu_us();
        begun = now();
      } else if (measuring && time - begun >= seconds) {
        printf("{\"transfers\":%llu,\"seconds\":%.6f,\"cpuUs\":%.0f}\n", (unsigned long long)(transfers - first),
               time - begun, cpu_us() - cpu);
        return 0; /* the end of the process takes the context, and waits for what is in flight */
      }
    }
    submit(context, batch, count);
  }
}
