/*
 * The floor of fileaio: Linux system calls for TypeScript, and nothing that decides anything.
 *
 * Every call returns what the kernel returned: a value of 0 or more, or the negative errno. Addresses
 * and kernel handles travel as JavaScript numbers (user-space addresses are below 2^53). Arguments are
 * trusted: src/native.ts is the only caller and documents each function.
 *
 * The only state is what JavaScript cannot hold, because it must outlive it:
 *   - a port: one kernel context or ring with its eventfds, and what watches those: two libuv poll handles, or a thread where
 *     the runtime has no libuv. When the environment goes (worker.terminate(), end of process) its contexts are destroyed
 *     first and all memory after.
 *   - a slab: memory the kernel may be writing to. It is freed when JavaScript has dropped it and no
 *     transfer in flight points into it, whichever comes last.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <node_api.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define MAX_ARGS 12

/* Used in one of the two ways to watch only. A runtime that has no libuv loads this all the same. */
#pragma weak napi_get_uv_event_loop
#pragma weak uv_close
#pragma weak uv_poll_init
#pragma weak uv_poll_start
#pragma weak uv_poll_stop
#pragma weak uv_queue_work
#pragma weak uv_ref
#pragma weak uv_unref

struct slab {
  struct slab *next; /* among the orphans */
  struct env *env;
  void *base;       /* for free(); NULL once that is done */
  atomic_int pins;  /* transfers in flight, counted by TypeScript through an ArrayBuffer of its own */
  atomic_int buffers; /* ArrayBuffers that still show the memory, or the count */
};

/*
 * A descriptor or kernel context that TypeScript has and no port owns yet. A thread can be terminated between any two lines of
 * JavaScript: what was made in the first would then stay for as long as the process lives.
 */
struct loose {
  struct loose *next;
  int64_t handle;
  bool context; /* not a descriptor */
};

/* One per JavaScript thread. */
struct env {
  napi_env napi;
  uv_loop_t *loop;                 /* where libuv watches, */
  napi_threadsafe_function notify; /* and where threads do */
  size_t holds;                    /* reasons why the event loop must not end, for threads */
  napi_ref dispatcher; /* (port, event) => void, set by TypeScript */
  napi_async_context async;
  napi_async_cleanup_hook_handle hook;
  struct port *ports;
  struct loose *loose;
  pthread_mutex_t lock; /* of the orphans: Deno drops buffers on whatever thread its collector uses */
  struct slab *orphans; /* dropped by JavaScript, still pinned */
  atomic_size_t refs;   /* the environment itself and each slab */
  bool leaving, ended;
  atomic_bool unsettled; /* the kernel did not let go of something: what is pinned is never freed */
  atomic_bool quiet;     /* nothing is in flight any more, and nothing can be */
};

enum port_event { PORT_READY = 0, PORT_CLOSED = 1 };

/* An io_uring, where a port has one: its descriptor, and where in its mapping the counters are. */
struct ring {
  int fd; /* -1: none */
  unsigned sq_head, cq_head, cq_tail, sq_tail, sq_mask;
  uint32_t slots; /* user_data of transfers is below this */
  bool sqpoll;
  size_t bytes;
  void *at; /* a mapping for the end of the thread, when there may be no memory for one; MAP_FAILED: to be tried again then */
};

struct port {
  uv_poll_t poll; /* on event_fd */
  uv_poll_t wake; /* on the wake cell's descriptor */
  uv_work_t work;
  pthread_t thread;
  sem_t turn; /* of the thread: to watch, or to end */
  atomic_bool ending;
  struct env *env;
  struct port *prev, *next;
  aio_context_t ctx;
  struct ring ring;
  int event_fd;
  atomic_int *cell; /* the wake cell, see wake() */
  int closing;      /* what is still to finish: two poll handles and io_destroy, or the thread */
  bool started, armed;
};

/* ---- arguments and results ---------------------------------------------------------------- */

static size_t arguments(napi_env env, napi_callback_info info, napi_value *argv, struct env **state) {
  size_t argc = MAX_ARGS;
  napi_get_cb_info(env, info, &argc, argv, NULL, (void **)state);
  return argc;
}

static int64_t integer(napi_env env, napi_value value) {
  int64_t result = 0;
  napi_get_value_int64(env, value, &result);
  return result;
}

static void *pointer(napi_env env, napi_value value) {
  return (void *)(uintptr_t)integer(env, value);
}

static napi_value number(napi_env env, int64_t value) {
  napi_value result = NULL;
  napi_create_int64(env, value, &result);
  return result;
}

/* The C library's wrapper reports through errno; JavaScript gets it as the kernel gave it. */
static napi_value kernel(napi_env env, long result) {
  return number(env, result < 0 ? -errno : result);
}

/* Returns what it was given, or -ENOMEM when it is closed again. */
static int64_t keep(struct env *state, int64_t handle, bool context) {
  struct loose *loose = malloc(sizeof *loose);
  if (loose == NULL) {
    if (context) syscall(SYS_io_destroy, (aio_context_t)handle);
    else close((int)handle);
    return -ENOMEM;
  }
  *loose = (struct loose){.next = state->loose, .handle = handle, .context = context};
  state->loose = loose;
  return handle;
}

/* Somebody owns it from here on, or closes it. */
static void let_go(struct env *state, int64_t handle, bool context) {
  for (struct loose **link = &state->loose; *link != NULL; link = &(*link)->next) {
    struct loose *loose = *link;
    if (loose->handle != handle || loose->context != context) continue;
    *link = loose->next;
    free(loose);
    return;
  }
}

/* At the end of the environment. Nothing was ever submitted to any of these. */
static void close_loose(struct env *state) {
  while (state->loose != NULL) {
    struct loose *loose = state->loose;
    state->loose = loose->next;
    if (loose->context) syscall(SYS_io_destroy, (aio_context_t)loose->handle);
    else close((int)loose->handle);
    free(loose);
  }
}

/* Where the bytes of a typed array are. On shared memory too: napi_get_arraybuffer_info refuses that on Node 20. */
static void *bytes_of(napi_env env, napi_value view) {
  void *data = NULL;
  napi_get_typedarray_info(env, view, NULL, NULL, &data, NULL, NULL);
  return data;
}

/* ---- kernel AIO: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2) ------------------- */

static napi_value io_setup(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  aio_context_t ctx = 0;
  long result = syscall(SYS_io_setup, (unsigned)integer(env, argv[0]), &ctx);
  return number(env, result < 0 ? -errno : keep(state, (int64_t)ctx, true));
}

static napi_value io_destroy(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  let_go(state, integer(env, argv[0]), true);
  return kernel(env, syscall(SYS_io_destroy, (aio_context_t)integer(env, argv[0])));
}

static napi_value io_submit(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return kernel(env, syscall(SYS_io_submit, (aio_context_t)integer(env, argv[0]), (long)integer(env, argv[1]),
                             pointer(env, argv[2])));
}

static napi_value io_getevents(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  int64_t timeout_us = integer(env, argv[4]);
  struct timespec timeout = {.tv_sec = timeout_us / 1000000, .tv_nsec = timeout_us % 1000000 * 1000};
  return kernel(env, syscall(SYS_io_getevents, (aio_context_t)integer(env, argv[0]), (long)integer(env, argv[1]),
                             (long)integer(env, argv[2]), pointer(env, argv[3]), &timeout));
}

static napi_value io_cancel(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return kernel(env, syscall(SYS_io_cancel, (aio_context_t)integer(env, argv[0]), pointer(env, argv[1]),
                             pointer(env, argv[2])));
}

/* ---- io_uring: io_uring_setup(2), io_uring_enter(2), io_uring_register(2) -------------------- */

static napi_value ring_setup(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  long fd = syscall(SYS_io_uring_setup, (unsigned)integer(env, argv[0]), bytes_of(env, argv[1]));
  return number(env, fd < 0 ? -errno : keep(state, fd, false));
}

static long enter(int fd, unsigned submit, unsigned complete, unsigned flags, int64_t timeout_us) {
  struct __kernel_timespec timeout = {.tv_sec = timeout_us / 1000000, .tv_nsec = timeout_us % 1000000 * 1000};
  struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&timeout};
  if (timeout_us < 0) return syscall(SYS_io_uring_enter, fd, submit, complete, flags, NULL, 0);
  return syscall(SYS_io_uring_enter, fd, submit, complete, flags | IORING_ENTER_EXT_ARG, &arg, sizeof arg);
}

static napi_value effective_user(napi_env env, napi_callback_info info) {
  (void)info;
  return number(env, (int64_t)geteuid());
}

static napi_value effective_group(napi_env env, napi_callback_info info) {
  (void)info;
  return number(env, (int64_t)getegid());
}

/* ringEnter(fd, submit, complete, flags, timeoutUs, user, group) */
static napi_value ring_enter(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  unsigned submit = (unsigned)integer(env, argv[1]);
  int64_t user = integer(env, argv[5]);
  if (submit > 0 && user >= 0 && (user != (int64_t)geteuid() || integer(env, argv[6]) != (int64_t)getegid()))
    return number(env, -EOWNERDEAD);
  return kernel(env, enter((int)integer(env, argv[0]), submit, (unsigned)integer(env, argv[2]),
                           (unsigned)integer(env, argv[3]), integer(env, argv[4])));
}

static napi_value ring_register(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return kernel(env, syscall(SYS_io_uring_register, (int)integer(env, argv[0]), (unsigned)integer(env, argv[1]),
                             bytes_of(env, argv[2]), (unsigned)integer(env, argv[3])));
}

static void unmap(napi_env env, void *data, void *bytes) {
  (void)env;
  munmap(data, (size_t)(uintptr_t)bytes);
}

/* map(fd, offset, bytes) => ArrayBuffer | -errno: memory that is shared with the kernel */
static napi_value map(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS], buffer;
  arguments(env, info, argv, NULL);
  size_t bytes = (size_t)integer(env, argv[2]);
  void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, (int)integer(env, argv[0]),
                    (off_t)integer(env, argv[1]));
  if (data == MAP_FAILED) return number(env, -errno);
  if (napi_create_external_arraybuffer(env, data, bytes, unmap, (void *)(uintptr_t)bytes, &buffer) != napi_ok) {
    munmap(data, bytes);
    return number(env, -EOPNOTSUPP);
  }
  return buffer;
}

/* Takes an ArrayBuffer's memory away from it now; what map() mapped is unmapped with it. */
static napi_value detach(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return number(env, napi_detach_arraybuffer(env, argv[0]) == napi_ok ? 0 : -EINVAL);
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static napi_value make_eventfd(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return number(env, fd < 0 ? -errno : keep(state, fd, false));
}

static napi_value close_fd(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  let_go(state, integer(env, argv[0]), false);
  return kernel(env, close((int)integer(env, argv[0])));
}

/* Takes the count out of an eventfd. */
static napi_value drain(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  uint64_t count;
  return kernel(env, read((int)integer(env, argv[0]), &count, sizeof count));
}

static napi_value make_statx(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return kernel(env, syscall(SYS_statx, (int)integer(env, argv[0]), bytes_of(env, argv[1]), (int)integer(env, argv[2]),
                             (unsigned)integer(env, argv[3]), bytes_of(env, argv[4])));
}

/* Offsets are doubles in JavaScript: exact up to 2^53. */
static napi_value seek(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return kernel(env, lseek((int)integer(env, argv[0]), integer(env, argv[1]), (int)integer(env, argv[2])));
}

static napi_value status_flags(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return kernel(env, fcntl((int)integer(env, argv[0]), F_GETFL));
}

static napi_value set_status_flags(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return kernel(env, fcntl((int)integer(env, argv[0]), F_SETFL, (int)integer(env, argv[1])));
}

/* A descriptor of our own for the same open file. */
static napi_value duplicate(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  int fd = fcntl((int)integer(env, argv[0]), F_DUPFD_CLOEXEC, 3);
  return number(env, fd < 0 ? -errno : keep(state, fd, false));
}

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY 1027
#endif

static bool inode_of(int fd, struct statx *into) {
  return syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_INO, into) == 0;
}

/* Whether two descriptors mean one open file. Before Linux 6.10 nobody says: then the same inode, opened the same way, is as good. */
static bool same_file(int one, int other) {
  int same = fcntl(one, F_DUPFD_QUERY, (long)other);
  if (same >= 0 || errno != EINVAL) return same > 0;
  struct statx first, second;
  return inode_of(one, &first) && inode_of(other, &second) && first.stx_ino == second.stx_ino &&
         first.stx_dev_major == second.stx_dev_major && first.stx_dev_minor == second.stx_dev_minor &&
         fcntl(one, F_GETFL) == fcntl(other, F_GETFL);
}

static napi_value is_same_file(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return number(env, same_file((int)integer(env, argv[0]), (int)integer(env, argv[1])));
}

/* setTimes(fd, accessed, accessedNs, modified, modifiedNs): seconds, and nanoseconds from 0 to 999999999 */
static napi_value set_times(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  struct timespec times[] = {{.tv_sec = integer(env, argv[1]), .tv_nsec = (long)integer(env, argv[2])},
                             {.tv_sec = integer(env, argv[3]), .tv_nsec = (long)integer(env, argv[4])}};
  return kernel(env, futimens((int)integer(env, argv[0]), times));
}

/* ---- memory --------------------------------------------------------------------------------- */

static napi_value address(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return number(env, (int64_t)(uintptr_t)bytes_of(env, argv[0]));
}

static void drop_env(struct env *state) {
  if (atomic_fetch_sub(&state->refs, 1) > 1) return;
  pthread_mutex_destroy(&state->lock);
  free(state);
}

static void free_memory(struct slab *slab) {
  free(slab->base);
  slab->base = NULL;
}

/* The struct goes last: the count is part of it. */
static void drop_buffer(struct slab *slab) {
  if (atomic_fetch_sub(&slab->buffers, 1) > 1) return;
  struct env *state = slab->env;
  free(slab);
  drop_env(state);
}

/* Runs when V8 gives the memory back: after a collection, a transfer that copied, or the end of the thread. */
static void memory_dropped(napi_env env, void *data, void *hint) {
  (void)env, (void)data;
  struct slab *slab = hint;
  struct env *state = slab->env;
  pthread_mutex_lock(&state->lock);
  bool pinned = atomic_load(&slab->pins) > 0 && !state->quiet;
  if (pinned) {
    slab->next = state->orphans;
    state->orphans = slab;
  }
  pthread_mutex_unlock(&state->lock);
  if (pinned) return;
  free_memory(slab);
  drop_buffer(slab);
}

static void count_dropped(napi_env env, void *data, void *hint) {
  (void)env, (void)data;
  drop_buffer(hint);
}

/* The environment must not go with the last of them: whoever calls this has a reference to it. */
static void free_orphans(struct env *state, bool all) {
  struct slab *done = NULL;
  pthread_mutex_lock(&state->lock);
  for (struct slab **link = &state->orphans; *link != NULL;) {
    struct slab *slab = *link;
    if (all || atomic_load(&slab->pins) <= 0) {
      *link = slab->next;
      slab->next = done;
      done = slab;
    } else {
      link = &slab->next;
    }
  }
  pthread_mutex_unlock(&state->lock);
  while (done != NULL) {
    struct slab *slab = done;
    done = slab->next;
    free_memory(slab);
    drop_buffer(slab);
  }
}

/*
 * Zeroed memory for a slab, or NULL. Of much memory the pages come from the kernel, zeroed, when they are used: to write zeros would take all of
 * it at once, of which the program may want little, and the machine have less. posix_memalign has no such way.
 */
static void *zeroed(struct slab *slab, size_t bytes, size_t alignment) {
  if (bytes < 1 << 20) {
    if (posix_memalign(&slab->base, alignment, bytes) == 0) return memset(slab->base, 0, bytes);
    return slab->base = NULL;
  }
  slab->base = calloc(1, bytes + alignment);
  if (slab->base == NULL) return NULL;
  return (char *)slab->base + (-(uintptr_t)slab->base & (alignment - 1));
}

/* alloc(bytes, alignment) => [ArrayBuffer, its count as an ArrayBuffer] | -errno */
static napi_value alloc(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS], memory, count, both;
  struct env *state;
  arguments(env, info, argv, &state);
  size_t bytes = (size_t)integer(env, argv[0]);
  struct slab *slab = calloc(1, sizeof *slab);
  if (slab == NULL) return number(env, -ENOMEM);
  slab->env = state;
  state->refs++;
  slab->buffers = 1;
  void *data = zeroed(slab, bytes, (size_t)integer(env, argv[1]));
  if (data == NULL) {
    drop_buffer(slab);
    return number(env, -ENOMEM);
  }
  if (napi_create_external_arraybuffer(env, data, bytes, memory_dropped, slab, &memory) != napi_ok) {
    free_memory(slab);
    drop_buffer(slab);
    return number(env, -EOPNOTSUPP); /* a runtime that sandboxes its memory, Electron for one */
  }
  slab->buffers = 2;
  if (napi_create_external_arraybuffer(env, &slab->pins, sizeof slab->pins, count_dropped, slab, &count) != napi_ok) {
    slab->buffers = 1;
    return number(env, -EOPNOTSUPP);
  }
  napi_create_array_with_length(env, 2, &both);
  napi_set_element(env, both, 0, memory);
  napi_set_element(env, both, 1, count);
  return both;
}

/* For memory that was dropped while transfers were in flight over it: frees what has none any more. */
static napi_value sweep(napi_env env, napi_callback_info info) {
  struct env *state;
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, &state);
  free_orphans(state, false);
  return NULL;
}

/* ---- waking: a cell of int32 in shared memory, [users * 2 + closed, wake-ups, eventfd, magic] -- */

enum { CELL_STATE = 0, CELL_WAKES = 1, CELL_FD = 2 };

/*
 * From any thread. The descriptor is used only between the two changes of the state, so retire() knows when
 * nobody will write to it any more. That both are in one native call matters: a thread can be terminated
 * between two lines of JavaScript, but not here.
 */
static napi_value wake(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  napi_typedarray_type type;
  size_t length = 0;
  atomic_int *cell = NULL;
  if (napi_get_typedarray_info(env, argv[0], &type, &length, (void **)&cell, NULL, NULL) != napi_ok ||
      type != napi_int32_array || length <= CELL_FD)
    return number(env, -EINVAL); /* it came from another thread, or from nowhere */
  long result = 0;
  if ((atomic_fetch_add(&cell[CELL_STATE], 2) & 1) == 0) {
    atomic_fetch_add(&cell[CELL_WAKES], 1);
    uint64_t one = 1;
    result = write(atomic_load(&cell[CELL_FD]), &one, sizeof one) < 0 ? -errno : 0;
  }
  atomic_fetch_sub(&cell[CELL_STATE], 2);
  return number(env, result);
}

static void retire(atomic_int *cell) {
  atomic_fetch_or(&cell[CELL_STATE], 1);
  while (atomic_load(&cell[CELL_STATE]) > 1) sched_yield();
  close(atomic_load(&cell[CELL_FD]));
}

/* ---- ports ---------------------------------------------------------------------------------- */

static void dispatch(struct port *port, enum port_event event) {
  struct env *state = port->env;
  napi_env env = state->napi;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value result, global, callback, argv[2] = {number(env, (int64_t)(uintptr_t)port), number(env, event)};
  if (napi_get_global(env, &global) == napi_ok &&
      napi_get_reference_value(env, state->dispatcher, &callback) == napi_ok &&
      napi_make_callback(env, state->async, global, callback, 2, argv, &result /* Deno writes to NULL */) != napi_ok) {
    /* A call that was refused because the thread is ending leaves no exception behind. */
    bool pending = false;
    napi_value error;
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
        napi_get_and_clear_last_exception(env, &error) == napi_ok)
      napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static void take_count(int fd) {
  uint64_t count;
  ssize_t ignored = read(fd, &count, sizeof count);
  (void)ignored;
}

static void port_readable(uv_poll_t *poll, int status, int events) {
  (void)status, (void)events;
  struct port *port = poll->data;
  take_count(poll == &port->poll ? port->event_fd : atomic_load(&port->cell[CELL_FD]));
  if (port->armed) {
    dispatch(port, PORT_READY);
  } else { /* nobody waits: stop polling instead of waking the loop for each completion */
    uv_poll_stop(&port->poll);
    uv_poll_stop(&port->wake);
    port->started = false;
  }
}

/*
 * The environment is at its end, and the last context is gone. What is pinned now may still be in the hands of the runtime's own
 * node:fs: Node waits for that, Bun does not, and its pool would write into memory that is somebody else's. There it is never freed.
 */
static void env_left(struct env *state) {
  state->quiet = state->loop != NULL && !state->unsettled;
  free_orphans(state, state->quiet);
  drop_env(state);
}

static void port_part_closed(struct port *port) {
  if (--port->closing > 0) return;
  struct env *state = port->env;
  close(port->event_fd);
  if (port->prev != NULL) port->prev->next = port->next;
  else state->ports = port->next;
  if (port->next != NULL) port->next->prev = port->prev;
  if (!state->leaving) dispatch(port, PORT_CLOSED);
  free(port);
  if (state->hook != NULL && state->leaving && state->ports == NULL) {
    napi_remove_async_cleanup_hook(state->hook);
    if (state->ended) env_left(state);
  }
}

static void port_poll_closed(uv_handle_t *handle) {
  port_part_closed(handle->data);
}

/* So often a call that gives back may be refused in a row, before there is no more hope. */
#define MAX_REFUSED 1000
/* And so often interrupted: signals come without end only where something makes every call fail. */
#define MAX_INTERRUPTED 100000

/* Not on the event loop's thread: io_destroy waits for everything in flight and for an RCU grace period, about 30 ms. */
static void destroy(struct port *port) {
  if (port->ring.fd >= 0) {
    if (port->ring.at != MAP_FAILED) munmap(port->ring.at, port->ring.bytes);
    close(port->ring.fd);
    return;
  }
  /* EINVAL: it is gone. Any other answer means that transfers may still be in flight. */
  for (int refused = 0; syscall(SYS_io_destroy, port->ctx) < 0 && errno != EINVAL; refused++) {
    if (refused == MAX_REFUSED) {
      port->env->unsettled = true;
      break;
    }
    sched_yield();
  }
}

static void port_destroy(uv_work_t *work) {
  destroy(work->data);
}

/* Before Linux 6.0, and where a filter forbids it: a cancel request for each slot, and for the poll on the wake descriptor. */
static void ring_cancel_each(const struct ring *ring, char *at) {
  atomic_uint *consumed = (atomic_uint *)(at + ring->sq_head), *tail = (atomic_uint *)(at + ring->sq_tail);
  atomic_uint *head = (atomic_uint *)(at + ring->cq_head), *completed = (atomic_uint *)(at + ring->cq_tail);
  unsigned mask = *(unsigned *)(at + ring->sq_mask);
  size_t bytes = ((size_t)mask + 1) * sizeof(struct io_uring_sqe);
  struct io_uring_sqe *sqes = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQES);
  if (sqes == MAP_FAILED) return;
  for (uint32_t slot = UINT32_MAX; slot != ring->slots; slot++) { /* the first is the poll's */
    unsigned next = atomic_load(consumed);
    struct io_uring_sqe *sqe = &sqes[next & mask];
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = slot;
    sqe->user_data = UINT32_MAX - 1;
    atomic_store(tail, next + 1);
    for (int refused = 0; atomic_load(consumed) == next && refused < MAX_REFUSED; refused++) {
      atomic_store(head, atomic_load(completed));
      enter(ring->fd, 1, 0, IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP, -1);
    }
  }
  munmap(sqes, bytes);
}

/*
 * Closing a ring does not wait for what is in flight: the kernel cancels it later, and writes to memory until then. So at the
 * end of a thread cancel what can be canceled and wait for the rest. Each entry that the kernel consumed
 * gives one completion, so none is left when the two counters are equal. On the ring's own thread, which it may insist on
 * (IORING_SETUP_SINGLE_ISSUER).
 */
static bool ring_quiesce(const struct ring *ring) {
  char *at = ring->at;
  if (at == MAP_FAILED) at = mmap(NULL, ring->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
  if (at == MAP_FAILED) return false;
  atomic_uint *consumed = (atomic_uint *)(at + ring->sq_head);
  atomic_uint *head = (atomic_uint *)(at + ring->cq_head);
  atomic_uint *tail = (atomic_uint *)(at + ring->cq_tail);
  /* A polling kernel thread may still be taking entries, and counts them only when it has taken a batch. */
  atomic_uint *written = (atomic_uint *)(at + ring->sq_tail);
  int refused = 0;
  while (ring->sqpoll && atomic_load(consumed) != atomic_load(written) && refused < MAX_REFUSED) {
    if (enter(ring->fd, 0, 0, IORING_ENTER_SQ_WAKEUP, -1) < 0 && errno != EINTR && errno != EAGAIN) refused++;
    sched_yield();
  }
  bool canceled = false;
#ifdef IORING_ASYNC_CANCEL_ANY
  struct io_uring_sync_cancel_reg all = {.fd = -1, .flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY};
  canceled = syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_SYNC_CANCEL, &all, 1) >= 0 || errno == ENOENT;
#endif
  if (!canceled) ring_cancel_each(ring, at);
  bool quiet = false;
  int interrupted = 0;
  for (refused = 0; refused < MAX_REFUSED && interrupted < MAX_INTERRUPTED;) {
    unsigned completed = atomic_load(tail);
    atomic_store(head, completed); /* room for completions that overflowed */
    quiet = atomic_load(consumed) == completed;
    if (quiet) break;
    if (enter(ring->fd, 0, 1, IORING_ENTER_GETEVENTS, 100000) >= 0 || errno == ETIME) refused = interrupted = 0;
    else if (errno != EINTR) refused++;
    else interrupted++;
  }
  if (at != ring->at) munmap(at, ring->bytes);
  return quiet;
}

static void port_quiesce(struct port *port) {
  if (port->ring.fd >= 0 && !ring_quiesce(&port->ring)) port->env->unsettled = true;
}

static void port_destroyed(uv_work_t *work, int status) {
  (void)status;
  port_part_closed(work->data);
}

/* ---- a port's own thread, where there is no libuv that could watch -------------------------- */

/* An unreferenced threadsafe function lets the event loop end. It is one for all ports of the environment. */
static void hold(struct env *state) {
  if (state->holds++ == 0) napi_ref_threadsafe_function(state->napi, state->notify);
}

static void release(struct env *state) {
  if (--state->holds == 0) napi_unref_threadsafe_function(state->napi, state->notify);
}

/* Tells the event loop's thread. Ports are aligned, so that the event fits into the address. */
static void notify(struct port *port, enum port_event event) {
  napi_call_threadsafe_function(port->env->notify, (char *)port + event, napi_tsfn_nonblocking);
}

/*
 * Watches once for each turn that it is given, so that it is never ahead of the event loop: what it saw is taken there. The
 * end of the port is a turn, too.
 */
static void *port_thread(void *data) {
  struct port *port = data;
  struct pollfd watched[] = {{.fd = port->event_fd, .events = POLLIN},
                             {.fd = atomic_load(&port->cell[CELL_FD]), .events = POLLIN}};
  for (;;) {
    while (sem_wait(&port->turn) != 0) continue;
    if (atomic_load(&port->ending)) break;
    poll(watched, 2, -1);
    notify(port, PORT_READY);
  }
  retire(port->cell);
  destroy(port);
  notify(port, PORT_CLOSED);
  return NULL;
}

static int port_start_thread(struct port *port) {
  /* Signals are for the threads of the program. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  sem_init(&port->turn, 0, 0);
  int error = pthread_create(&port->thread, NULL, port_thread, port);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return -error;
}

static void port_watch(struct port *port) {
  if (port->started) return;
  port->started = true;
  sem_post(&port->turn);
}

/* The thread may be watching: it is made to see something first, while the descriptor is certainly still there. */
static void port_end_thread(struct port *port) {
  port->closing = 1;
  uint64_t one = 1;
  ssize_t ignored = write(atomic_load(&port->cell[CELL_FD]), &one, sizeof one);
  (void)ignored;
  atomic_store(&port->ending, true);
  sem_post(&port->turn);
}

static void port_thread_ended(struct port *port) {
  pthread_join(port->thread, NULL);
  sem_destroy(&port->turn);
  port_part_closed(port);
}

/* From notify(), on the event loop's thread. Without `env` it is the end, and the port may be gone. */
static void port_notified(napi_env env, napi_value none, void *context, void *data) {
  (void)none;
  struct env *state = context;
  if (env == NULL || state->leaving) return;
  enum port_event event = (uintptr_t)data & 1;
  struct port *port = (void *)((char *)data - event);
  if (event == PORT_CLOSED) {
    release(state);
    port_thread_ended(port);
    return;
  }
  if (port->closing > 0) return; /* its descriptors may be somebody else's by now */
  port->started = false;
  take_count(port->event_fd);
  take_count(atomic_load(&port->cell[CELL_FD]));
  if (port->armed) dispatch(port, PORT_READY);
  if (port->armed) port_watch(port);
}

/* All threads end before the threadsafe function does: hooks run in reverse order, and this one was added after it. */
static void threads_leaving(void *data) {
  struct env *state = data;
  state->leaving = true;
  for (struct port *port = state->ports; port != NULL; port = port->next) {
    if (port->closing > 0) continue;
    port_quiesce(port);
    port_end_thread(port);
  }
  while (state->ports != NULL) port_thread_ended(state->ports);
  napi_release_threadsafe_function(state->notify, napi_tsfn_abort);
}

static void notify_gone(napi_env env, void *data, void *hint) {
  (void)env, (void)hint;
  drop_env(data);
}

/* ---- ports, whoever watches them ------------------------------------------------------------ */

static void port_begin_close(struct port *port) {
  if (port->closing > 0) return;
  if (port->env->loop == NULL) {
    hold(port->env);
    port_end_thread(port);
    return;
  }
  port->closing = 3;
  if (port->env->leaving) port_quiesce(port);
  /* First out of the event loop, then closed: libuv must not meet the number again as somebody else's. */
  uv_ref((uv_handle_t *)&port->poll);
  uv_close((uv_handle_t *)&port->poll, port_poll_closed);
  uv_close((uv_handle_t *)&port->wake, port_poll_closed);
  retire(port->cell);
  if (uv_queue_work(port->env->loop, &port->work, port_destroy, port_destroyed) != 0) {
    port_destroy(&port->work);
    port->closing--; /* the poll handles are still closing and finish the rest */
  }
}

static void port_never_opened(uv_handle_t *handle) {
  free(handle->data);
}

/* portOpen(ctx, eventFd, cell, ringFd, sqHead, cqHead, cqTail, ringBytes) => port | -errno */
static napi_value port_open(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  struct port *port = calloc(1, sizeof *port);
  if (port == NULL) return number(env, -ENOMEM);
  port->env = state;
  port->ctx = (aio_context_t)integer(env, argv[0]);
  port->event_fd = (int)integer(env, argv[1]);
  port->cell = bytes_of(env, argv[2]);
  port->ring = (struct ring){.fd = (int)integer(env, argv[3]),
                             .sq_head = (unsigned)integer(env, argv[4]),
                             .cq_head = (unsigned)integer(env, argv[5]),
                             .cq_tail = (unsigned)integer(env, argv[6]),
                             .bytes = (size_t)integer(env, argv[7]),
                             .sq_tail = (unsigned)integer(env, argv[8]),
                             .sq_mask = (unsigned)integer(env, argv[9]),
                             .slots = (uint32_t)integer(env, argv[10]),
                             .sqpoll = integer(env, argv[11]) != 0,
                             .at = MAP_FAILED};
  int error = state->loop == NULL ? port_start_thread(port) : uv_poll_init(state->loop, &port->poll, port->event_fd);
  if (error != 0) {
    free(port);
    return number(env, error);
  }
  if (state->loop != NULL) {
    port->poll.data = port->wake.data = port->work.data = port;
    error = uv_poll_init(state->loop, &port->wake, atomic_load(&port->cell[CELL_FD]));
    if (error != 0) {
      uv_close((uv_handle_t *)&port->poll, port_never_opened);
      return number(env, error);
    }
    uv_unref((uv_handle_t *)&port->poll);
    uv_unref((uv_handle_t *)&port->wake);
  }
  if (port->ring.fd >= 0)
    port->ring.at =
        mmap(NULL, port->ring.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, port->ring.fd, IORING_OFF_SQ_RING);
  let_go(state, (int64_t)port->ctx, true);
  let_go(state, port->ring.fd, false);
  let_go(state, port->event_fd, false);
  let_go(state, atomic_load(&port->cell[CELL_FD]), false);
  port->next = state->ports;
  if (port->next != NULL) port->next->prev = port;
  state->ports = port;
  return number(env, (int64_t)(uintptr_t)port);
}

static napi_value port_arm(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  struct port *port = pointer(env, argv[0]);
  if (port->env->loop == NULL) {
    port_watch(port);
    if (!port->armed) hold(port->env);
    port->armed = true;
    return number(env, 0);
  }
  if (!port->started) {
    int error = uv_poll_start(&port->poll, UV_READABLE, port_readable);
    if (error == 0) error = uv_poll_start(&port->wake, UV_READABLE, port_readable);
    if (error != 0) return number(env, error);
  }
  port->started = port->armed = true;
  uv_ref((uv_handle_t *)&port->poll);
  return number(env, 0);
}

static napi_value port_disarm(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  struct port *port = pointer(env, argv[0]);
  if (port->env->loop != NULL) uv_unref((uv_handle_t *)&port->poll);
  else if (port->armed) release(port->env);
  port->armed = false;
  return number(env, 0);
}

static napi_value port_close(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  port_begin_close(pointer(env, argv[0]));
  return number(env, 0);
}

/* ---- life of an environment ----------------------------------------------------------------- */

/* Runs last, in reverse order of registration: libuv may be closing ports still. What is dropped later is freed at once. */
static void env_ended(void *data) {
  struct env *state = data;
  state->ended = true;
  close_loose(state);
  if (state->ports == NULL) env_left(state);
}

static void libuv_leaving(napi_async_cleanup_hook_handle hook, void *data) {
  struct env *state = data;
  state->leaving = true;
  if (state->ports == NULL) napi_remove_async_cleanup_hook(hook);
  for (struct port *port = state->ports; port != NULL; port = port->next) port_begin_close(port);
}

/* useLibuv() */
static napi_value use_libuv(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  if (state->hook != NULL) return number(env, 0);
  bool ok = napi_get_uv_event_loop(env, &state->loop) == napi_ok &&
            napi_add_async_cleanup_hook(env, libuv_leaving, state, &state->hook) == napi_ok;
  return number(env, ok ? 0 : -EINVAL);
}

static bool start_notifying(napi_env env, struct env *state) {
  napi_value name;
  if (napi_create_string_utf8(env, "fileaio", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, state, notify_gone, state, port_notified,
                                      &state->notify) != napi_ok)
    return false;
  state->refs++;
  return napi_unref_threadsafe_function(env, state->notify) == napi_ok &&
         napi_add_env_cleanup_hook(env, threads_leaving, state) == napi_ok;
}

/* setDispatcher((port, event) => void) */
static napi_value set_dispatcher(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  bool ok = napi_create_reference(env, argv[0], 1, &state->dispatcher) == napi_ok &&
            (state->loop != NULL || start_notifying(env, state));
  return number(env, ok ? 0 : -EINVAL);
}

NAPI_MODULE_INIT() {
  struct env *state = calloc(1, sizeof *state);
  if (state == NULL) return NULL;
  state->napi = env;
  state->refs = 1;
  pthread_mutex_init(&state->lock, NULL);
  napi_value name;
  const struct {
    const char *name;
    napi_callback call;
  } calls[] = {
      {"ioSetup", io_setup},     {"ioSubmit", io_submit},         {"ioGetevents", io_getevents},
      {"ioCancel", io_cancel},   {"eventfd", make_eventfd},       {"closeFd", close_fd},
      {"drain", drain},          {"statx", make_statx},           {"address", address},
      {"alloc", alloc},          {"sweep", sweep},                {"wake", wake},
      {"portOpen", port_open},   {"portArm", port_arm},           {"portDisarm", port_disarm},
      {"portClose", port_close}, {"setDispatcher", set_dispatcher}, {"ioDestroy", io_destroy},
      {"useLibuv", use_libuv},   {"seek", seek},
      {"statusFlags", status_flags}, {"setStatusFlags", set_status_flags}, {"setTimes", set_times},
      {"duplicate", duplicate},  {"isSameFile", is_same_file},
      {"ringSetup", ring_setup}, {"ringEnter", ring_enter},       {"ringRegister", ring_register},
      {"map", map},              {"detach", detach},
      {"effectiveUser", effective_user}, {"effectiveGroup", effective_group},
  };
  bool ok = napi_create_string_utf8(env, "fileaio", NAPI_AUTO_LENGTH, &name) == napi_ok &&
            napi_async_init(env, NULL, name, &state->async) == napi_ok &&
            napi_add_env_cleanup_hook(env, env_ended, state) == napi_ok;
  for (size_t i = 0; ok && i < sizeof calls / sizeof *calls; i++) {
    napi_value function;
    ok = napi_create_function(env, calls[i].name, NAPI_AUTO_LENGTH, calls[i].call, state, &function) == napi_ok &&
         napi_set_named_property(env, exports, calls[i].name, function) == napi_ok;
  }
  napi_value page_size = number(env, sysconf(_SC_PAGESIZE));
  ok = ok && napi_set_named_property(env, exports, "pageSize", page_size) == napi_ok;
  if (!ok) napi_throw_error(env, NULL, "the native part of fileaio could not be initialised");
  return exports;
}
