/*
 * The floor of fileaio: Linux system calls for TypeScript, and nothing that decides anything.
 *
 * Every call returns what the kernel returned: a value of 0 or more, or the negative errno. Addresses
 * and kernel handles travel as JavaScript numbers (user-space addresses are below 2^53). Arguments are
 * trusted: src/native.ts is the only caller and documents each function.
 *
 * The only state is what JavaScript cannot hold, because it must outlive it:
 *   - a port: one kernel context or ring with its eventfds and libuv poll handle. When the environment goes
 *     (worker.terminate(), end of process) its contexts are destroyed first and all memory after.
 *   - a slab: memory the kernel may be writing to. It is freed when JavaScript has dropped it and no
 *     transfer in flight points into it, whichever comes last.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <node_api.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define MAX_ARGS 8

struct slab {
  struct slab *next; /* among the orphans */
  struct env *env;
  void *base;
  atomic_int *pins; /* transfers in flight, counted by TypeScript; lies behind the caller's bytes */
};

/* One per JavaScript thread. */
struct env {
  napi_env napi;
  uv_loop_t *loop;
  napi_ref dispatcher; /* (port, event) => void, set by TypeScript */
  napi_async_context async;
  napi_async_cleanup_hook_handle hook;
  struct port *ports;
  struct slab *orphans; /* dropped by JavaScript, still pinned */
  size_t refs;          /* the environment itself and each slab */
  bool leaving;
};

enum port_event { PORT_READY = 0, PORT_CLOSED = 1 };

/* An io_uring, where a port has one: its descriptor, and where in its mapping the counters are. */
struct ring {
  int fd; /* -1: none */
  unsigned sq_head, cq_head, cq_tail;
  size_t bytes;
};

struct port {
  uv_poll_t poll; /* on event_fd */
  uv_poll_t wake; /* on the wake cell's descriptor */
  uv_work_t work;
  struct env *env;
  struct port *prev, *next;
  aio_context_t ctx;
  struct ring ring;
  int event_fd;
  atomic_int *cell; /* the wake cell, see wake() */
  int closing;      /* what is still to finish: two poll handles, io_destroy */
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

/* Where the bytes of a typed array are. On shared memory too: napi_get_arraybuffer_info refuses that on Node 20. */
static void *bytes_of(napi_env env, napi_value view) {
  void *data = NULL;
  napi_get_typedarray_info(env, view, NULL, NULL, &data, NULL, NULL);
  return data;
}

/* ---- kernel AIO: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2) ------------------- */

static napi_value io_setup(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  aio_context_t ctx = 0;
  long result = syscall(SYS_io_setup, (unsigned)integer(env, argv[0]), &ctx);
  return result < 0 ? number(env, -errno) : number(env, (int64_t)ctx);
}

static napi_value io_destroy(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
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
  arguments(env, info, argv, NULL);
  return kernel(env, syscall(SYS_io_uring_setup, (unsigned)integer(env, argv[0]), bytes_of(env, argv[1])));
}

static long enter(int fd, unsigned submit, unsigned complete, unsigned flags, int64_t timeout_us) {
  struct __kernel_timespec timeout = {.tv_sec = timeout_us / 1000000, .tv_nsec = timeout_us % 1000000 * 1000};
  struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&timeout};
  if (timeout_us < 0) return syscall(SYS_io_uring_enter, fd, submit, complete, flags, NULL, 0);
  return syscall(SYS_io_uring_enter, fd, submit, complete, flags | IORING_ENTER_EXT_ARG, &arg, sizeof arg);
}

/* Who the caller is to the kernel, as one number. */
static int64_t credentials(void) {
  return (int64_t)geteuid() << 20 ^ (int64_t)getegid();
}

static napi_value get_credentials(napi_env env, napi_callback_info info) {
  (void)info;
  return number(env, credentials());
}

/* ringEnter(fd, submit, complete, flags, timeoutUs, credentials) */
static napi_value ring_enter(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  unsigned submit = (unsigned)integer(env, argv[1]);
  if (submit > 0 && credentials() != integer(env, argv[5])) return number(env, -EOWNERDEAD);
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
  (void)info;
  return kernel(env, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static napi_value close_fd(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
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

/* ---- memory --------------------------------------------------------------------------------- */

static napi_value address(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  return number(env, (int64_t)(uintptr_t)bytes_of(env, argv[0]));
}

static void drop_env(struct env *state) {
  if (--state->refs == 0) free(state);
}

static void free_slab(struct slab *slab) {
  struct env *state = slab->env;
  free(slab->base);
  free(slab);
  drop_env(state);
}

/* Runs when V8 gives the memory back: after a collection, a transfer that copied, or the end of the thread. */
static void slab_dropped(napi_env env, void *data, void *hint) {
  (void)env, (void)data;
  struct slab *slab = hint;
  if (atomic_load(slab->pins) <= 0) {
    free_slab(slab);
    return;
  }
  slab->next = slab->env->orphans;
  slab->env->orphans = slab;
}

static void free_orphans(struct env *state, bool all) {
  for (struct slab **link = &state->orphans; *link != NULL;) {
    struct slab *slab = *link;
    if (all || atomic_load(slab->pins) <= 0) {
      *link = slab->next;
      free_slab(slab);
    } else {
      link = &slab->next;
    }
  }
}

/* alloc(bytes, alignment, pinsOffset) => ArrayBuffer | -errno */
static napi_value alloc(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS], buffer;
  struct env *state;
  arguments(env, info, argv, &state);
  size_t bytes = (size_t)integer(env, argv[0]);
  struct slab *slab = calloc(1, sizeof *slab);
  if (slab == NULL) return number(env, -ENOMEM);
  int error = posix_memalign(&slab->base, (size_t)integer(env, argv[1]), bytes);
  if (error != 0) {
    free(slab);
    return number(env, -error);
  }
  memset(slab->base, 0, bytes);
  slab->env = state;
  slab->pins = (atomic_int *)((char *)slab->base + integer(env, argv[2]));
  state->refs++;
  if (napi_create_external_arraybuffer(env, slab->base, bytes, slab_dropped, slab, &buffer) != napi_ok) {
    free_slab(slab);
    return number(env, -EOPNOTSUPP); /* a runtime that sandboxes its memory, Electron for one */
  }
  return buffer;
}

/* unpin(address of the count): for memory that was transferred away, where TypeScript no longer reaches the count. */
static napi_value unpin(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  atomic_fetch_sub((atomic_int *)pointer(env, argv[0]), 1);
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
  atomic_int *cell = bytes_of(env, argv[0]);
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
  napi_value global, callback, argv[2] = {number(env, (int64_t)(uintptr_t)port), number(env, event)};
  if (napi_get_global(env, &global) == napi_ok &&
      napi_get_reference_value(env, state->dispatcher, &callback) == napi_ok &&
      napi_make_callback(env, state->async, global, callback, 2, argv, NULL) != napi_ok) {
    /* A call that was refused because the thread is ending leaves no exception behind. */
    bool pending = false;
    napi_value error;
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
        napi_get_and_clear_last_exception(env, &error) == napi_ok)
      napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static void port_readable(uv_poll_t *poll, int status, int events) {
  (void)status, (void)events;
  struct port *port = poll->data;
  int fd = poll == &port->poll ? port->event_fd : atomic_load(&port->cell[CELL_FD]);
  uint64_t count;
  ssize_t ignored = read(fd, &count, sizeof count);
  (void)ignored;
  if (port->armed) {
    dispatch(port, PORT_READY);
  } else { /* nobody waits: stop polling instead of waking the loop for each completion */
    uv_poll_stop(&port->poll);
    uv_poll_stop(&port->wake);
    port->started = false;
  }
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
  if (state->leaving && state->ports == NULL) {
    free_orphans(state, true);
    napi_remove_async_cleanup_hook(state->hook);
    drop_env(state);
  }
}

static void port_poll_closed(uv_handle_t *handle) {
  port_part_closed(handle->data);
}

/* On a pool thread: io_destroy waits for everything in flight and for an RCU grace period, about 30 ms. */
static void port_destroy(uv_work_t *work) {
  struct port *port = work->data;
  if (port->ring.fd >= 0) close(port->ring.fd);
  else syscall(SYS_io_destroy, port->ctx);
}

/*
 * Closing a ring does not wait for what is in flight: the kernel cancels it later, and writes to memory until then. So at the
 * end of a thread cancel what can be canceled and wait for the rest. Each entry that the kernel consumed
 * gives one completion, so none is left when the two counters are equal. On the ring's own thread, which it may insist on
 * (IORING_SETUP_SINGLE_ISSUER).
 */
static void ring_quiesce(const struct ring *ring) {
  char *at = mmap(NULL, ring->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
  if (at == MAP_FAILED) return;
  atomic_uint *consumed = (atomic_uint *)(at + ring->sq_head);
  atomic_uint *head = (atomic_uint *)(at + ring->cq_head);
  atomic_uint *tail = (atomic_uint *)(at + ring->cq_tail);
#ifdef IORING_ASYNC_CANCEL_ANY
  struct io_uring_sync_cancel_reg all = {.fd = -1, .flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY};
  syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_SYNC_CANCEL, &all, 1);
#endif
  for (;;) {
    unsigned completed = atomic_load(tail);
    atomic_store(head, completed); /* room for completions that overflowed */
    if (atomic_load(consumed) == completed) break;
    if (enter(ring->fd, 0, 1, IORING_ENTER_GETEVENTS, 100000) < 0 && errno != ETIME && errno != EINTR) break;
  }
  munmap(at, ring->bytes);
}

static void port_destroyed(uv_work_t *work, int status) {
  (void)status;
  port_part_closed(work->data);
}

static void port_begin_close(struct port *port) {
  if (port->closing > 0) return;
  port->closing = 3;
  if (port->env->leaving && port->ring.fd >= 0) ring_quiesce(&port->ring);
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
                             .bytes = (size_t)integer(env, argv[7])};
  port->poll.data = port->wake.data = port->work.data = port;
  int error = uv_poll_init(state->loop, &port->poll, port->event_fd);
  if (error != 0) {
    free(port);
    return number(env, error);
  }
  error = uv_poll_init(state->loop, &port->wake, atomic_load(&port->cell[CELL_FD]));
  if (error != 0) {
    uv_close((uv_handle_t *)&port->poll, port_never_opened);
    return number(env, error);
  }
  uv_unref((uv_handle_t *)&port->poll);
  uv_unref((uv_handle_t *)&port->wake);
  port->next = state->ports;
  if (port->next != NULL) port->next->prev = port;
  state->ports = port;
  return number(env, (int64_t)(uintptr_t)port);
}

static napi_value port_arm(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  struct port *port = pointer(env, argv[0]);
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
  port->armed = false;
  uv_unref((uv_handle_t *)&port->poll);
  return number(env, 0);
}

static napi_value port_close(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  arguments(env, info, argv, NULL);
  port_begin_close(pointer(env, argv[0]));
  return number(env, 0);
}

/* ---- life of an environment ----------------------------------------------------------------- */

/*
 * Hooks run in reverse order, and this one is registered when the module loads: buffers that were made later
 * are dropped before it runs. Pinned ones became orphans and live until the last context is gone.
 */
static void env_leaving(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  struct env *state = data;
  state->leaving = true;
  if (state->ports == NULL) {
    free_orphans(state, true);
    napi_remove_async_cleanup_hook(state->hook);
    drop_env(state);
    return;
  }
  for (struct port *port = state->ports; port != NULL; port = port->next) port_begin_close(port);
}

/* setDispatcher((port, event) => void) */
static napi_value set_dispatcher(napi_env env, napi_callback_info info) {
  napi_value argv[MAX_ARGS];
  struct env *state;
  arguments(env, info, argv, &state);
  return number(env, napi_create_reference(env, argv[0], 1, &state->dispatcher) == napi_ok ? 0 : -EINVAL);
}

NAPI_MODULE_INIT() {
  struct env *state = calloc(1, sizeof *state);
  if (state == NULL) return NULL;
  state->napi = env;
  state->refs = 1;
  napi_value name;
  const struct {
    const char *name;
    napi_callback call;
  } calls[] = {
      {"ioSetup", io_setup},     {"ioSubmit", io_submit},         {"ioGetevents", io_getevents},
      {"ioCancel", io_cancel},   {"eventfd", make_eventfd},       {"closeFd", close_fd},
      {"drain", drain},          {"statx", make_statx},           {"address", address},
      {"alloc", alloc},          {"unpin", unpin},                {"wake", wake},
      {"portOpen", port_open},   {"portArm", port_arm},           {"portDisarm", port_disarm},
      {"portClose", port_close}, {"setDispatcher", set_dispatcher}, {"ioDestroy", io_destroy},
      {"ringSetup", ring_setup}, {"ringEnter", ring_enter},       {"ringRegister", ring_register},
      {"map", map},              {"detach", detach},              {"credentials", get_credentials},
  };
  bool ok = napi_get_uv_event_loop(env, &state->loop) == napi_ok &&
            napi_create_string_utf8(env, "fileaio", NAPI_AUTO_LENGTH, &name) == napi_ok &&
            napi_async_init(env, NULL, name, &state->async) == napi_ok &&
            napi_add_async_cleanup_hook(env, env_leaving, state, &state->hook) == napi_ok;
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
