/**
 * The only importer of the native shim (`native/shim.c`). Each function is one system call or one thing that
 * JavaScript cannot do; each returns what the kernel returned, 0 or more, or the negative errno. Addresses, kernel
 * contexts and ports are plain numbers. Nothing here checks its arguments.
 */
import { createRequire } from 'node:module';

/** What a port tells TypeScript: completions or a wake-up may be there; the port is closed and its memory free. */
export const PORT_READY = 0;
export const PORT_CLOSED = 1;

export interface Native {
  /** The size of a memory page, in bytes. */
  readonly pageSize: number;
  /** io_setup(2): a context for at least `count` requests; the context or -EAGAIN, -EINVAL, -ENOMEM, -ENOSYS. */
  ioSetup(count: number): number;
  /** io_submit(2): `count` pointers to iocbs at address `pointers`. May block where the file system does. */
  ioSubmit(context: number, count: number, pointers: number): number;
  /** io_getevents(2): blocks until `min` events are there or `timeoutUs` microseconds passed. 0 does not block. */
  ioGetevents(context: number, min: number, count: number, events: number, timeoutUs: number): number;
  /** io_cancel(2): address of the iocb, address for one io_event. */
  ioCancel(context: number, iocb: number, event: number): number;
  /** io_destroy(2), on this thread: for a context that nothing was submitted to. Others are destroyed by their port. */
  ioDestroy(context: number): number;
  /** io_uring_setup(2): fills `params` (120 bytes) and returns the ring's descriptor. */
  ringSetup(entries: number, params: Uint8Array): number;
  /**
   * io_uring_enter(2). Blocks until `complete` completions are there or `timeoutUs` microseconds passed (-ETIME; below 0:
   * no limit). -EOWNERDEAD where something was to be submitted and the process is somebody else than `user` and `group`; a `user` of -1 is
   * anybody.
   */
  ringEnter(
    fd: number,
    submit: number,
    complete: number,
    flags: number,
    timeoutUs: number,
    user: number,
    group: number,
  ): number;
  /** io_uring_register(2). */
  ringRegister(fd: number, opcode: number, argument: Uint8Array | Int32Array, count: number): number;
  /** mmap(2) of what a ring shares with the kernel. */
  map(fd: number, offset: number, bytes: number): ArrayBuffer | number;
  /** Detaches an ArrayBuffer; memory from `map` is unmapped. */
  detach(buffer: ArrayBuffer): number;
  /** geteuid(2). */
  effectiveUser(): number;
  /** getegid(2). */
  effectiveGroup(): number;
  /** eventfd(2), close-on-exec and non-blocking. */
  eventfd(): number;
  /** close(2). */
  closeFd(fd: number): number;
  /** Reads an eventfd's count away; -EAGAIN where there was none. */
  drain(fd: number): number;
  /** statx(2) with a NUL-terminated path, into 256 bytes. */
  statx(fd: number, path: Uint8Array, flags: number, mask: number, into: Uint8Array): number;
  /** lseek(2): the new position. */
  seek(fd: number, offset: number, whence: number): number;
  /** fcntl(2) F_GETFL. */
  statusFlags(fd: number): number;
  /** fcntl(2) F_SETFL. */
  setStatusFlags(fd: number, flags: number): number;
  /** fcntl(2) F_DUPFD_CLOEXEC. */
  duplicate(fd: number): number;
  /** Whether two descriptors mean one open file: 1, or 0, also where the first is closed. fcntl(2) F_DUPFD_QUERY, where there is that. */
  isSameFile(fd: number, other: number): number;
  /** futimens(2): seconds, and nanoseconds from 0 to 999,999,999, of the last access and the last change. */
  setTimes(fd: number, accessed: number, accessedNs: number, modified: number, modifiedNs: number): number;
  /** The address of a view's first byte. Stable until the view's ArrayBuffer is detached. */
  address(view: Uint8Array): number;
  /**
   * Zeroed memory, 1 byte or more, of the given alignment (a power of two, at least 8), and beside it an int32 that counts
   * transfers in flight: while it is above 0 the memory outlives its ArrayBuffer.
   */
  alloc(bytes: number, alignment: number): [memory: ArrayBuffer, count: ArrayBuffer] | number;
  /** Frees memory whose ArrayBuffer went before its count fell to 0. */
  sweep(): void;
  /** Adds one wake-up to the cell and signals its eventfd, unless the cell is closed. From any thread. */
  wake(cell: Int32Array): number;
  /**
   * Ties a kernel context, or a ring (then `context` is 0; otherwise `ringFd` is -1), to the event loop: watches `eventFd`, and owns
   * all these descriptors and the cell's from then on. When the thread ends, nothing is in flight any more before memory is freed.
   * For that it needs to know where in the ring's first mapping, of `ringBytes`, the kernel counts.
   */
  portOpen(
    context: number,
    eventFd: number,
    cell: Int32Array,
    ringFd: number,
    sqHead: number,
    cqHead: number,
    cqTail: number,
    ringBytes: number,
    sqTail: number,
    sqMask: number,
    slots: number,
    sqpoll: number,
  ): number;
  /** Calls the dispatcher whenever the eventfd was signalled, and keeps the event loop alive, until disarmed. */
  portArm(port: number): number;
  portDisarm(port: number): number;
  /** Closes it all on another thread (io_destroy takes about 30 ms); ends with PORT_CLOSED. */
  portClose(port: number): number;
  /** From now on libuv watches the descriptors of ports; otherwise each port has a thread that does. Before anything else; twice is fine. */
  useLibuv(): number;
  /** The one function that native code calls. Once per thread, before the first port. */
  setDispatcher(dispatcher: (port: number, event: number) => void): number;
  /** Not the shim's own: see {@link Listening}. */
  listening?: Listening;
}

/**
 * Who is told what happens at ports. Kept with the shim, which calls one function for each thread: a program may have this library twice over
 * one shim, such as its source beside its build, or after its test runner forgot the modules.
 */
export interface Listening {
  /** That something may be there. Only while armed: what nobody waits on can be collected. */
  readonly armed: Map<number, () => void>;
  readonly closing: Map<number, () => void>;
}

interface Loaded {
  readonly native?: Native;
  readonly why?: string;
}

/**
 * Where the shim may lie: one that was built on this machine goes before the one in the package, because somebody wanted it. The
 * latter is one binary for every C library.
 */
const SHIMS = ['../native/build/Release/fileaio.node', `../prebuilds/${process.platform}-${process.arch}/fileaio.node`];

/**
 * Whether there is a libuv to rely on: the fastest way to watch a descriptor, on Node. Bun ends the process at the first uv_poll_*,
 * Deno's fires once, and of any other runtime nothing is known. Looking for the functions would not help: those that do not
 * work are there, too.
 *
 * The environment variable `FILEAIO_NOTIFIER`, `poll` or `thread`, decides otherwise: so that tests see both ways on Node.
 */
export function hasLibuv(): boolean {
  const wanted = process.env.FILEAIO_NOTIFIER;
  if (wanted === 'poll' || wanted === 'thread') return wanted === 'poll';
  const { node, bun, deno }: NodeJS.Dict<string> = process.versions;
  return node !== undefined && bun === undefined && deno === undefined && !('Deno' in globalThis);
}

function load(): Loaded {
  if (process.platform !== 'linux') {
    return { why: `kernel AIO and io_uring exist on Linux only, and this is ${process.platform}` };
  }
  const failed: string[] = [];
  for (const shim of SHIMS) {
    try {
      const native = createRequire(import.meta.url)(shim) as Native;
      if (hasLibuv() && native.useLibuv() < 0) return { why: 'the native shim found no event loop to join' };
      return { native };
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException; // not an Error on Bun
      if (code !== 'MODULE_NOT_FOUND') failed.push(message);
    }
  }
  if (failed.length > 0) return { why: `the native shim could not be loaded: ${failed.join('; ')}` };
  return {
    why: `the native shim is not built, and the package has none for ${process.platform}-${process.arch}; with a C compiler, make and Python 3 installed, run: npm run build:native`,
  };
}

let loaded: Loaded | undefined;

/** The shim, or why there is none. Loaded on first use, once per thread. */
export function loadNative(): Loaded {
  loaded ??= load();
  return loaded;
}
