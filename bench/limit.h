/*
 * What the loops in C share: the arguments, the order of the blocks, and the measuring.
 *
 *   PROGRAM PATH DEPTH BLOCK_SIZE BLOCKS WARMUP_SECONDS SECONDS [buffered] [fixed]
 *
 * Each keeps DEPTH reads of BLOCK_SIZE, direct unless they are to be buffered, in flight at random blocks of PATH (BLOCKS is a power of two): takes what
 * has completed, at least one, gives each a new position, and submits them again as one batch. Prints one line of JSON, sooner
 * where it is asked to end (SIGTERM).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
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

struct task {
  int fd;
  unsigned depth;
  size_t size;
  uint32_t mask;
  double warmup, seconds;
  char *buffers; /* one for each read in flight */
};

static volatile sig_atomic_t ended;

static void end(int signal) {
  (void)signal;
  ended = 1;
}

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

/* Whether one of the words at the end is this one. */
static int is_asked(int argc, char **argv, const char *word) {
  for (int i = 7; i < argc; i++) {
    if (strcmp(argv[i], word) == 0) return 1;
  }
  return 0;
}

static struct task begin(int argc, char **argv) {
  if (argc < 7) {
    fprintf(stderr, "usage: %s PATH DEPTH BLOCK_SIZE BLOCKS WARMUP_SECONDS SECONDS [buffered] [fixed]\n", argv[0]);
    exit(2);
  }
  int direct = is_asked(argc, argv, "buffered") ? 0 : O_DIRECT;
  struct task task = {.fd = open(argv[1], O_RDONLY | direct | O_CLOEXEC),
                      .depth = (unsigned)atol(argv[2]),
                      .size = (size_t)atol(argv[3]),
                      .mask = (uint32_t)atol(argv[4]) - 1,
                      .warmup = atof(argv[5]),
                      .seconds = atof(argv[6])};
  signal(SIGTERM, end);
  if (task.fd < 0) fail(direct ? "open with O_DIRECT" : "open", errno);
  void *buffers = NULL;
  if (posix_memalign(&buffers, 4096, task.depth * task.size) != 0) fail("allocating buffers", ENOMEM);
  task.buffers = memset(buffers, 0, task.depth * task.size);
  return task;
}

/* xorshift32, with the seed of meter.ts: every program reads the same blocks in the same order. */
static uint32_t random_state = 0x9e3779b9;

static inline uint64_t next_position(const struct task *task) {
  uint32_t x = random_state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  random_state = x;
  return (x & task->mask) * (uint64_t)task->size;
}

static inline void check(const struct task *task, int64_t result) {
  if (result != (int64_t)task->size) fail("read", result < 0 ? (int)-result : EIO);
}

/* Counts transfers. Ends the program when it has measured for long enough: the kernel then waits for what is in flight. */
static inline void meter(const struct task *task, unsigned count) {
  static uint64_t transfers, next_look = CHECK_EVERY, first;
  static double begun, cpu;
  static int measuring;
  transfers += count;
  if (transfers < next_look) return;
  next_look = transfers + CHECK_EVERY;
  double time = now();
  if (begun == 0) begun = time;
  if (!measuring && time - begun >= task->warmup) {
    measuring = 1;
    first = transfers;
    cpu = cpu_us();
    begun = now();
  } else if (measuring && (ended || time - begun >= task->seconds)) {
    printf("{\"transfers\":%llu,\"seconds\":%.6f,\"cpuUs\":%.0f}\n", (unsigned long long)(transfers - first),
           time - begun, cpu_us() - cpu);
    exit(0);
  }
}
