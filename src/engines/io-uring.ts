/**
 * Linux io_uring: io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
 *
 * The rings and the submission entries are memory that is shared with the kernel; TypeScript writes and reads it, with Atomics
 * where the two sides meet: our tail of the submission ring, our head of the completion ring. One io_uring_enter submits a
 * batch. On a fast device its completions are in the ring when it returns, and waiting for them needs no system call at all.
 */

import { readFileSync } from 'node:fs';
import * as abi from '../abi/uring.ts';
import type { Memory } from '../buffer.ts';
import type { Engine, EngineDriver, EngineHost, EngineOptions } from '../engine.ts';
import { AioError, codeOf, EAGAIN, ECANCELED, EINTR, ENOMEM, systemError, textOf } from '../errors.ts';
import type { Native } from '../native.ts';
import { monotonicMs, setImmediate } from '../time.ts';
import { FDATASYNC, FSYNC, READ, type Transfer } from '../transfer.ts';
import type { WakeCell } from '../wake.ts';
import { Iovecs, setAddress } from './iovecs.ts';
import { isForbidden, Port, reasonOf, requireShim } from './port.ts';

const EBUSY = 16;
const ETIME = 62;
const EOWNERDEAD = 130;

/** In place of a user: the process need not be the one that made the ring. */
const ANYBODY = -1;

/** `user_data` of what is no transfer: the poll on the wake descriptor, and cancel requests. */
const WAKE_DATA = -1;
const CANCEL_DATA = -2;

/** A blocked thread looks up this often, so that worker.terminate() can end it. */
const BLOCK_SLICE_MS = 100;
/** And this often where the kernel did not take the poll that wakes it. */
const UNARMED_SLICE_MS = 10;

/** The most entries of a submission ring; larger batches go down in several calls. */
const SQ_ENTRIES = 4096;

/** How long a polling kernel thread (`sqpoll`) spins before it sleeps. */
const SQ_THREAD_IDLE_MS = 50;

/** Places for registered files and buffers. What finds none goes without. */
const FIXED_FILES = 256;
const FIXED_BUFFERS = 16;
/** The kernel's limit for one registered buffer. */
const FIXED_BUFFER_BYTES = 2 ** 30;

/** Calls in a row that a signal, or a shortage, may spoil before something is wrong. */
const MAX_FAILED_ENTERS = 100;

/** Pieces of put-off work that one call does at least, if there are so many (IO_LOCAL_TW_DEFAULT_MAX, io_uring/io_uring.c). */
const WORK_PER_ENTER = 20;

/** A cancelled request answers at once; this is how long its completion may take before we say that it goes on. */
const CANCEL_MS = 250;

/**
 * Ways to set a ring up, best first. Without one of the taskrun flags completions interrupt the submitting thread, which costs up
 * to half of the throughput. DEFER_TASKRUN (Linux 6.1) finishes requests when this thread asks for completions; COOP_TASKRUN
 * (5.19) whenever it enters the kernel. TASKRUN_FLAG shows in the ring that there is something to ask for.
 */
const SETUPS = [
  abi.SETUP_SUBMIT_ALL | abi.SETUP_SINGLE_ISSUER | abi.SETUP_DEFER_TASKRUN | abi.SETUP_TASKRUN_FLAG,
  abi.SETUP_SUBMIT_ALL | abi.SETUP_COOP_TASKRUN | abi.SETUP_TASKRUN_FLAG,
  abi.SETUP_SUBMIT_ALL,
  0,
] as const;

/** Sizes of the rings; for tests, the others come from maxRequests. */
export interface RingSizes {
  readonly sqEntries?: number;
  readonly cqEntries?: number;
}

const SYSCTL = '/proc/sys/kernel/io_uring_disabled';

function whyNot(errno: number): string {
  const code = codeOf(errno);
  if (code === 'ENOSYS')
    return 'The kernel was built without CONFIG_IO_URING, is older than 5.1, or a sandbox hides it';
  if (code === 'ENOMEM')
    return 'The memory that this user may lock is used up: close contexts, or raise the limit: ulimit -l';
  if (code !== 'EPERM' && code !== 'EACCES') return 'See io_uring_setup(2)';
  let disabled = 'unknown';
  try {
    disabled = readFileSync(SYSCTL, 'utf8').trim();
  } catch {
    // Kernels before 6.6 have no such sysctl.
  }
  if (disabled === '1' || disabled === '2') {
    return `The sysctl kernel.io_uring_disabled is ${disabled}: set it to 0 (1 allows only members of kernel.io_uring_group)`;
  }
  return 'A seccomp filter forbids it, as those of Docker and Kubernetes do by default: allow io_uring_setup, io_uring_enter and io_uring_register';
}

function unsupported(reason: string): AioError {
  return new AioError('ERR_AIO_NOT_SUPPORTED', `The engine 'io-uring' cannot work here: ${reason}`);
}

function refused(errno: number, syscall: string): AioError {
  return new AioError(
    'ERR_AIO_NOT_SUPPORTED',
    `The engine 'io-uring' cannot work here: ${syscall} answered ${textOf(errno)}. ${whyNot(errno)}`,
    { errno, syscall },
  );
}

/** A registered file. */
interface FixedFile {
  /** Where. */
  readonly index: number;
  /** A descriptor of our own for it: the program's may be closed, and its number be given to another file. */
  readonly twin: number;
  /** The submission that found the two to be the same. */
  seen: number;
}

interface Ring {
  readonly fd: number;
  readonly flags: number;
  readonly params: DataView;
}

/** io_uring_setup with the best flags that this kernel takes. */
function setUp(native: Native, sqEntries: number, cqEntries: number, sqpoll: boolean): Ring {
  let errno = 0;
  for (const how of sqpoll ? [abi.SETUP_SQPOLL | abi.SETUP_SUBMIT_ALL, abi.SETUP_SQPOLL] : SETUPS) {
    const bytes = new Uint8Array(abi.PARAMS_SIZE);
    const params = new DataView(bytes.buffer);
    const flags = how | abi.SETUP_CQSIZE | abi.SETUP_CLAMP;
    params.setUint32(abi.PARAMS_FLAGS, flags, true);
    params.setUint32(abi.PARAMS_CQ_ENTRIES, cqEntries, true);
    if (sqpoll) params.setUint32(abi.PARAMS_SQ_THREAD_IDLE, SQ_THREAD_IDLE_MS, true);
    const fd = native.ringSetup(sqEntries, bytes);
    if (fd < 0) {
      errno = fd;
      if (codeOf(fd) === 'EINVAL') continue; // a flag that this kernel does not know
      break;
    }
    const missing = abi.FEATURES & ~params.getUint32(abi.PARAMS_FEATURES, true);
    const failure =
      missing === 0
        ? tryOut(native, fd)
        : unsupported(
            `this kernel's io_uring lacks features (0x${missing.toString(16)}): Linux 5.11 or newer is needed`,
          );
    if (failure === undefined) return { fd, flags, params };
    native.closeFd(fd);
    throw failure;
  }
  if (codeOf(errno) === 'EMFILE' || codeOf(errno) === 'ENFILE') {
    throw systemError(errno, 'io_uring_setup', 'making a ring', 'Close some files, or raise the limit: ulimit -n');
  }
  throw refused(errno, 'io_uring_setup');
}

let works = false;

/** A ring can be made where the other two calls are forbidden. Neither of these does anything. */
function tryOut(native: Native, fd: number): AioError | undefined {
  if (works) return undefined;
  const entered = native.ringEnter(fd, 0, 0, 0, -1, ANYBODY, 0);
  if (isForbidden(entered)) return refused(entered, 'io_uring_enter');
  const registered = native.ringRegister(fd, abi.REGISTER_PROBE, new Uint8Array(abi.PROBE_SIZE), 0);
  if (isForbidden(registered)) return refused(registered, 'io_uring_register');
  works = true;
  return undefined;
}

function mapped(native: Native, fd: number, offset: number, bytes: number): ArrayBuffer {
  const buffer = native.map(fd, offset, bytes);
  if (typeof buffer !== 'number') return buffer;
  if (codeOf(buffer) === 'EOPNOTSUPP') {
    throw unsupported('this runtime keeps JavaScript memory in a sandbox and takes none from outside');
  }
  throw systemError(buffer, 'mmap', `mapping ${bytes} bytes of a ring`);
}

class IoUring implements Engine {
  readonly name = 'io-uring';
  readonly cell: WakeCell;
  readonly abandon: () => void;
  readonly #native: Native;
  readonly #host: EngineHost;
  readonly #ready: () => void;
  readonly #port: Port;
  readonly #fd: number;
  readonly #sqpoll: boolean;
  /** Who made the ring. */
  readonly #user: number;
  readonly #group: number;
  readonly #iovecs: Iovecs;

  readonly #rings: ArrayBuffer;
  readonly #sqeMemory: ArrayBuffer;
  readonly #words: Int32Array;
  readonly #sqes: Int32Array;
  readonly #cqes: Int32Array;
  /** Where in `#words` the kernel's and our counters stand. */
  readonly #sqHead: number;
  readonly #sqTail: number;
  readonly #sqFlags: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #sqMask: number;
  readonly #cqMask: number;
  /** Our own: entries written, completions taken. They wrap at 32 bits, as the kernel's do. */
  #tail: number;
  #head: number;

  #wakeArmed = false;
  /** What io_uring_enter failed with, other than having no room, in the submission under way. */
  #failure = 0;
  #eventfdRegistered = false;
  #files: Map<number, FixedFile> | undefined;
  #filesUsed = 0;
  /** Of the registered files. */
  readonly #twins = new Set<number>();
  /** Counts submissions. */
  #batch = 0;
  /** What registrations point to. A field, so that it is not collected between taking its address and using it. */
  readonly #pointedTo = new Int32Array(4);
  readonly #freeFiles: number[] = [];
  #buffers: Map<Memory, number> | undefined;
  /** What was looked up last in the two. */
  #lastFd = -1;
  #lastFile = -1;
  #lastMemory: Memory | undefined;
  #lastBuffer = -1;

  /** A cancel request under way: of which slot, its answer, and how the transfer ended. */
  #cancelSlot = -1;
  #cancelNumber = 0;
  #cancelAnswer: number | undefined;
  #cancelResult: number | undefined;

  constructor(native: Native, host: EngineHost, maxRequests: number, { sqpoll }: EngineOptions, sizes: RingSizes) {
    const { sqEntries = Math.min(maxRequests + 1, SQ_ENTRIES), cqEntries = Math.max(maxRequests + 2, sqEntries) } =
      sizes;
    const { fd, params } = setUp(native, sqEntries, cqEntries, sqpoll);
    const at = (offset: number): number => params.getUint32(offset, true);
    const sqCount = at(abi.PARAMS_SQ_ENTRIES);
    const cqCount = at(abi.PARAMS_CQ_ENTRIES);
    const array = at(abi.PARAMS_SQ_ARRAY);
    const cqes = at(abi.PARAMS_CQ_CQES);
    const bytes = Math.max(array + sqCount * 4, cqes + cqCount * abi.CQE_SIZE);
    const counters = {
      fd,
      sqHead: at(abi.PARAMS_SQ_HEAD),
      cqHead: at(abi.PARAMS_CQ_HEAD),
      cqTail: at(abi.PARAMS_CQ_TAIL),
      bytes,
      sqTail: at(abi.PARAMS_SQ_TAIL),
      sqMask: at(abi.PARAMS_SQ_MASK),
      slots: maxRequests,
      sqpoll,
    };
    const maps: ArrayBuffer[] = [];
    const map = (offset: number, size: number): ArrayBuffer => {
      const memory = mapped(native, fd, offset, size);
      maps.push(memory);
      return memory;
    };
    try {
      this.#rings = map(abi.OFF_SQ_RING, bytes);
      this.#sqeMemory = map(abi.OFF_SQES, sqCount * abi.SQE_SIZE);
      this.#port = new Port(native, 0, counters);
    } catch (error) {
      // A mapping keeps the ring, and what it counts for: not until a collection finds it.
      for (const memory of maps) native.detach(memory);
      native.closeFd(fd);
      throw error;
    }
    this.#native = native;
    this.#host = host;
    this.#ready = () => host.ready();
    this.#fd = fd;
    this.#sqpoll = sqpoll;
    this.#user = native.effectiveUser();
    this.#group = native.effectiveGroup();
    this.#iovecs = new Iovecs(native);
    this.cell = this.#port.cell;

    this.#words = new Int32Array(this.#rings, 0, Math.floor(bytes / 4));
    this.#sqes = new Int32Array(this.#sqeMemory);
    this.#cqes = new Int32Array(this.#rings, cqes, cqCount * abi.CQE_WORDS);
    this.#sqHead = counters.sqHead / 4;
    this.#sqTail = at(abi.PARAMS_SQ_TAIL) / 4;
    this.#sqFlags = at(abi.PARAMS_SQ_FLAGS) / 4;
    this.#cqHead = counters.cqHead / 4;
    this.#cqTail = counters.cqTail / 4;
    this.#sqMask = sqCount - 1;
    this.#cqMask = cqCount - 1;
    this.#tail = Atomics.load(this.#words, this.#sqTail);
    this.#head = Atomics.load(this.#words, this.#cqHead);
    // The kernel takes entries through this array; ours are always in order.
    for (let index = 0; index < sqCount; index++) this.#words[array / 4 + index] = index;

    this.abandon = abandonRing(native, this.#port, [this.#rings, this.#sqeMemory], this.#twins);
  }

  submit(batch: readonly (Transfer | undefined)[], from: number, to: number): number {
    this.#failure = 0;
    this.#batch++;
    this.#lastFd = -1;
    if (this.#sqpoll && !this.#isSamePerson()) throw submitError(-EOWNERDEAD);
    this.#iovecs.reset();
    const capacity = this.#sqMask + 1;
    let written = from;
    while (written < to) {
      const room = capacity - this.#queued();
      const until = Math.min(to, written + room);
      for (; written < until; written++) {
        const transfer = batch[written];
        if (transfer !== undefined) this.#write(transfer);
      }
      const left = this.#flush();
      if (left > 0) {
        // The kernel has no room. What it did not take is taken back: the ring is ours until we enter again.
        if (this.#sqpoll && this.#failure === 0) continue;
        this.#takeBack();
        written = Math.max(from, written - left);
        break;
      }
    }
    // A polling kernel thread reads the segments when it gets there, and the next batch will overwrite them.
    if (this.#sqpoll && this.#iovecs.used) while (this.#queued() > 0 && this.#failure === 0) this.#flush();
    // An error is the caller's only where nothing was submitted. Otherwise the next call meets it again.
    if (written === from && this.#failure < 0) throw submitError(this.#failure);
    return written - from;
  }

  /** Entries that are written and that the kernel has not consumed. */
  #queued(): number {
    return (this.#tail - Atomics.load(this.#words, this.#sqHead)) | 0;
  }

  /** The next free entry, as an index of words. What no one ever writes to (the mapping began as zeros) is still 0. */
  #entry(): number {
    const at = (this.#tail & this.#sqMask) * abi.SQE_WORDS;
    this.#tail = (this.#tail + 1) | 0;
    return at;
  }

  #write(transfer: Transfer): void {
    const sqes = this.#sqes;
    // Before there is an entry: it may have to give the kernel those that are written.
    const file = this.#files === undefined ? -1 : this.#fileOf(transfer.fd);
    const at = this.#entry();
    const { operation } = transfer;
    let opcode: number;
    let length = 0;
    let flags = 0;
    let buffer = 0;
    sqes[at + abi.SQE_OFF] = transfer.positionLow;
    sqes[at + abi.SQE_OFF + 1] = transfer.positionHigh;
    if (transfer.vectored) {
      opcode = operation === READ ? abi.OP_READV : abi.OP_WRITEV;
      length = transfer.to - transfer.from;
      setAddress(sqes, at + abi.SQE_ADDR, this.#iovecs.write(transfer));
    } else if (operation === FSYNC || operation === FDATASYNC) {
      opcode = abi.OP_FSYNC;
      flags = operation === FDATASYNC ? abi.FSYNC_DATASYNC : 0;
      sqes[at + abi.SQE_OFF] = sqes[at + abi.SQE_OFF + 1] = 0;
      sqes[at + abi.SQE_ADDR] = sqes[at + abi.SQE_ADDR + 1] = 0;
    } else {
      const segment = transfer.single;
      const fixed = this.#buffers === undefined || segment.bounceOffset >= 0 ? -1 : this.#bufferOf(segment.memory);
      length = Math.min(transfer.length, abi.MAX_LENGTH);
      sqes[at + abi.SQE_ADDR] = segment.addressLow;
      sqes[at + abi.SQE_ADDR + 1] = segment.addressHigh;
      if (fixed < 0) {
        opcode = operation === READ ? abi.OP_READ : abi.OP_WRITE;
      } else {
        opcode = operation === READ ? abi.OP_READ_FIXED : abi.OP_WRITE_FIXED;
        buffer = fixed;
      }
    }
    if (transfer.punt) opcode |= abi.SQE_ASYNC;
    if (file < 0) {
      sqes[at + abi.SQE_OPCODE] = opcode;
      sqes[at + abi.SQE_FD] = transfer.fd;
    } else {
      sqes[at + abi.SQE_OPCODE] = opcode | abi.SQE_FIXED_FILE;
      sqes[at + abi.SQE_FD] = file;
    }
    sqes[at + abi.SQE_LEN] = length;
    sqes[at + abi.SQE_OP_FLAGS] = flags;
    sqes[at + abi.SQE_USER_DATA] = transfer.slot;
    sqes[at + abi.SQE_USER_DATA + 1] = 0;
    sqes[at + abi.SQE_BUF_INDEX] = buffer;
  }

  /** Where the descriptor is registered, or -1. Most requests in a row are for the same. */
  #fileOf(fd: number): number {
    if (fd !== this.#lastFd) {
      const file = this.#files?.get(fd);
      this.#lastFile = file !== undefined && this.#isStill(fd, file) ? file.index : -1;
      this.#lastFd = fd;
    }
    return this.#lastFile;
  }

  /** Whether a number means the file that was registered for it. Asked once for each submission: JavaScript does not run within one. */
  #isStill(fd: number, file: FixedFile): boolean {
    if (file.seen === this.#batch) return true;
    file.seen = this.#batch;
    if (this.#native.isSameFile(fd, file.twin) === 1) return true;
    this.#dissociate(fd, file);
    return false;
  }

  #dissociate(fd: number, { index, twin }: FixedFile): void {
    this.#setFile(index, -1);
    this.#files?.delete(fd);
    this.#freeFiles.push(index);
    this.#twins.delete(twin);
    this.#native.closeFd(twin);
  }

  /** What a place in the table of registered files means from here on; -1: nothing. */
  #setFile(index: number, fd: number): boolean {
    // A polling kernel thread looks a place up when it gets to the entry.
    if (this.#sqpoll) while (this.#queued() > 0 && this.#failure === 0) this.#flush();
    const update = new Int32Array(4);
    update[0] = index;
    this.#pointedTo[0] = fd;
    setAddress(update, 2, this.#native.address(new Uint8Array(this.#pointedTo.buffer)));
    return this.#native.ringRegister(this.#fd, abi.REGISTER_FILES_UPDATE, update, 1) === 1;
  }

  /** Where the memory is registered, or -1. */
  #bufferOf(memory: Memory): number {
    if (memory === this.#lastMemory) return this.#lastBuffer;
    const buffer = this.#buffers?.get(memory);
    if (buffer === undefined) return -1; // and not remembered: nothing here may keep memory that is not registered
    this.#lastMemory = memory;
    this.#lastBuffer = buffer;
    return buffer;
  }

  /** An entry of our own: a poll or a cancel. */
  #writeOwn(opcode: number, fd: number, address: number, opFlags: number, userData: number, serial = 0): void {
    const at = this.#entry();
    this.#sqes.fill(0, at, at + abi.SQE_WORDS);
    this.#sqes[at + abi.SQE_OPCODE] = opcode;
    this.#sqes[at + abi.SQE_FD] = fd;
    this.#sqes[at + abi.SQE_ADDR] = address;
    this.#sqes[at + abi.SQE_OP_FLAGS] = opFlags;
    this.#sqes[at + abi.SQE_USER_DATA] = userData;
    this.#sqes[at + abi.SQE_USER_DATA + 1] = serial;
  }

  /** Whether the process is to the kernel who it was when the ring was made. */
  #isSamePerson(): boolean {
    return this.#native.effectiveUser() === this.#user && this.#native.effectiveGroup() === this.#group;
  }

  /** Gives the kernel what is written; returns how many entries it has no room for. */
  #flush(by = this.#user): number {
    // The kernel must see the entries before it sees the tail that covers them.
    Atomics.store(this.#words, this.#sqTail, this.#tail);
    if (this.#sqpoll) {
      const flags = Atomics.load(this.#words, this.#sqFlags);
      const wait = this.#queued() > this.#sqMask ? abi.ENTER_SQ_WAIT : 0;
      if ((flags & abi.SQ_NEED_WAKEUP) !== 0 || wait !== 0) {
        const result = this.#enter(this.#queued(), 0, abi.ENTER_SQ_WAKEUP | wait, -1);
        if (result < 0 && ![EINTR, EAGAIN, EBUSY].includes(-result)) {
          this.#failure = result; // the polling thread is gone
          return this.#queued();
        }
      }
      return Math.max(0, this.#queued() - this.#sqMask - 1);
    }
    let reaped = false;
    for (let left = this.#queued(); left > 0; left = this.#queued()) {
      const result = this.#enter(left, 0, 0, -1, by);
      if (result > 0) continue;
      if (result !== 0 && result !== -EAGAIN && result !== -ENOMEM && result !== -EBUSY && result !== -EINTR) {
        this.#failure = result;
        return left;
      }
      // No memory, or too many completions that did not fit into their ring: taking those makes room.
      if (reaped) return left;
      try {
        this.#fetch();
      } catch {
        return left; // within a submission nothing may be thrown: what was taken by now is in flight
      }
      reaped = true;
    }
    return 0;
  }

  /** The entries that the kernel did not consume are ours again. */
  #takeBack(): void {
    this.#tail = Atomics.load(this.#words, this.#sqHead);
    Atomics.store(this.#words, this.#sqTail, this.#tail);
    // The poll may have been among them. Two at once do no harm.
    this.#wakeArmed = false;
  }

  #enter(submit: number, complete: number, flags: number, timeoutUs: number, by = this.#user): number {
    return this.#native.ringEnter(this.#fd, submit, complete, flags, timeoutUs, by, this.#group);
  }

  reap(): void {
    this.#drain();
    if (this.#wantsEntering()) this.#fetch();
  }

  /** The kernel has finished requests whose completions it shows only to those who ask. */
  #wantsEntering(): boolean {
    return (Atomics.load(this.#words, this.#sqFlags) & (abi.SQ_TASKRUN | abi.SQ_CQ_OVERFLOW)) !== 0;
  }

  /**
   * Asks for completions until there are no more to be had without waiting. One call does only some of the work that the kernel has put off
   * for this thread (20 pieces since 6.12, and a piece need not complete anything), and the eventfd is signalled only when the first piece is put off:
   * whoever went to sleep before all of it is done would not be woken.
   *
   * The kernel's flag alone does not end this: who puts work off sets it after adding the work, and where this thread did that work in
   * between, it stays set with nothing behind it (io_req_local_work_add, io_uring/io_uring.c). No more calls in a row come back empty-handed than
   * the requests in flight can account for.
   */
  #fetch(): void {
    let failures = 0;
    let fruitless = 0;
    for (;;) {
      const result = this.#enter(0, 0, abi.ENTER_GETEVENTS, -1);
      if (result < 0 && ++failures > MAX_FAILED_ENTERS) {
        throw systemError(result, 'io_uring_enter', 'fetching completions', 'The requests stay pending: wait again');
      }
      fruitless = this.#drain() > 0 || result < 0 ? 0 : fruitless + 1;
      if (!this.#wantsEntering()) return;
      // Each entry that the kernel has consumed ends with one completion.
      const inFlight = (Atomics.load(this.#words, this.#sqHead) - this.#head) | 0;
      if (fruitless * WORK_PER_ENTER > inFlight) return;
    }
  }

  /** Takes every completion out of the ring; returns how many. */
  #drain(): number {
    const tail = Atomics.load(this.#words, this.#cqTail);
    const count = (tail - this.#head) | 0;
    if (count === 0) return 0;
    const cqes = this.#cqes;
    const mask = this.#cqMask;
    let head = this.#head;
    try {
      while (head !== tail) {
        const at = (head & mask) * abi.CQE_WORDS;
        const slot = cqes[at + abi.CQE_USER_DATA] ?? 0;
        const result = cqes[at + abi.CQE_RES] ?? 0;
        head = (head + 1) | 0;
        if (slot >= 0) {
          if (slot === this.#cancelSlot) this.#cancelResult = result;
          this.#host.complete(slot, result);
        } else if (slot === WAKE_DATA) {
          this.#native.drain(this.cell.fd);
          this.#wakeArmed = false;
        } else if (slot === CANCEL_DATA && cqes[at + abi.CQE_USER_DATA + 1] === this.#cancelNumber) {
          this.#cancelAnswer = result;
        }
      }
    } finally {
      // From here on the kernel may write over what was read.
      this.#head = head;
      Atomics.store(this.#words, this.#cqHead, head);
    }
    return count;
  }

  block(timeoutMs: number): void {
    if (this.#drain() > 0) return;
    this.#armWake();
    const waitFlags = this.#sqpoll ? abi.ENTER_GETEVENTS | abi.ENTER_SQ_WAKEUP : abi.ENTER_GETEVENTS;
    const submit = this.#sqpoll ? 0 : this.#queued();
    let result = this.#enter(submit, 1, waitFlags, Math.ceil(Math.min(timeoutMs, BLOCK_SLICE_MS) * 1000));
    if (result === -EOWNERDEAD || result === -EAGAIN || result === -EBUSY) {
      // Without the poll, then: what is pending still completes. A wake-up is seen when the slice is over.
      this.#takeBack();
      result = this.#enter(0, 1, waitFlags, Math.ceil(Math.min(timeoutMs, UNARMED_SLICE_MS) * 1000));
    }
    if (result < 0 && ![EINTR, ETIME, EAGAIN, EBUSY].includes(-result)) {
      throw systemError(result, 'io_uring_enter', 'waiting for completions', 'The requests stay pending: wait again');
    }
    this.#drain();
  }

  /**
   * Writes a poll on the wake descriptor into the ring, to go down with the next call, so that blocking ends on a wake-up as on
   * a completion. It fires once; a descriptor that is readable already fires it at once. The event loop watches the descriptor
   * itself: a poll that an eventfd fires cannot signal the ring's own eventfd at once (the kernel forbids the recursion and
   * puts it off, io_uring/eventfd.c), and wake-ups would be seen late or not at all.
   */
  #armWake(): void {
    if (this.#wakeArmed || this.#queued() > this.#sqMask) return;
    this.#writeOwn(abi.OP_POLL_ADD, this.cell.fd, 0, abi.POLLIN, WAKE_DATA);
    Atomics.store(this.#words, this.#sqTail, this.#tail);
    this.#wakeArmed = true;
  }

  arm(): void {
    if (!this.#eventfdRegistered) {
      // Only now: a program that never waits on the event loop does not pay for the signals.
      const result = this.#native.ringRegister(this.#fd, abi.REGISTER_EVENTFD, Int32Array.of(this.#port.eventFd), 1);
      if (result < 0) throw systemError(result, 'io_uring_register', 'registering the eventfd of a ring');
      this.#eventfdRegistered = true;
      // What completed before the eventfd was there has not signalled it.
      setImmediate(this.#ready);
    }
    this.#port.arm(this.#ready);
  }

  disarm(): void {
    this.#port.disarm();
  }

  /**
   * The kernel says whether it found the request. Found is not yet canceled (a read that finishes in the same moment still
   * does), so what decides is how the request itself ended.
   */
  cancel(transfer: Transfer): boolean {
    this.#cancelSlot = transfer.slot;
    this.#cancelAnswer = this.#cancelResult = undefined;
    try {
      // What else is queued is not for those who have other rights by now: a poll, which is armed again when it is needed.
      if (this.#queued() > 0 && this.#flush() > 0) this.#takeBack();
      // Numbered: an answer that comes too late must not be taken for the next one's.
      this.#cancelNumber = (this.#cancelNumber + 1) | 0;
      this.#writeOwn(abi.OP_ASYNC_CANCEL, -1, transfer.slot, 0, CANCEL_DATA, this.#cancelNumber);
      // Taking something back needs no rights.
      if (this.#flush(ANYBODY) > 0) {
        this.#takeBack();
        return false;
      }
      const deadline = monotonicMs() + CANCEL_MS;
      while (this.#cancelAnswer === undefined || (this.#cancelAnswer === 0 && this.#cancelResult === undefined)) {
        this.#enter(0, 1, abi.ENTER_GETEVENTS, 1000);
        this.#drain();
        if (monotonicMs() > deadline) break;
      }
      return this.#cancelResult === -ECANCELED;
    } finally {
      this.#cancelSlot = -1;
    }
  }

  /** Registers the descriptor, so that the kernel need not look it up for each request. */
  associate(fd: number): void {
    this.#lastFd = -1;
    if (this.#files === undefined) {
      const none = new Int32Array(FIXED_FILES).fill(-1);
      if (this.#native.ringRegister(this.#fd, abi.REGISTER_FILES, none, FIXED_FILES) < 0) return;
      this.#files = new Map();
    }
    const before = this.#files.get(fd);
    if (before !== undefined) this.#dissociate(fd, before);
    if (this.#freeFiles.length === 0 && this.#filesUsed === FIXED_FILES) return;
    const twin = this.#native.duplicate(fd);
    if (twin < 0) return;
    const index = this.#freeFiles.pop() ?? this.#filesUsed++;
    this.#twins.add(twin);
    this.#files.set(fd, { index, twin, seen: -1 });
    if (!this.#setFile(index, twin)) this.#dissociate(fd, { index, twin, seen: -1 });
  }

  /** Registers a slab, so that the kernel need not pin its pages for each request. */
  associateMemory(memory: Memory): void {
    this.#lastMemory = undefined;
    const resource = new Int32Array(abi.RSRC_SIZE / 4);
    if (this.#buffers === undefined) {
      resource[0] = FIXED_BUFFERS;
      resource[1] = abi.RSRC_REGISTER_SPARSE;
      if (this.#native.ringRegister(this.#fd, abi.REGISTER_BUFFERS2, resource, abi.RSRC_SIZE) < 0) return;
      this.#buffers = new Map();
      resource.fill(0);
    }
    const index = this.#buffers.get(memory) ?? this.#buffers.size;
    const bytes = memory.store.byteLength;
    if (index === FIXED_BUFFERS || bytes > FIXED_BUFFER_BYTES) return;
    setAddress(this.#pointedTo, 0, memory.address);
    this.#pointedTo[2] = bytes;
    this.#pointedTo[3] = 0;
    resource[0] = index;
    setAddress(resource, 2, this.#native.address(new Uint8Array(this.#pointedTo.buffer)));
    resource[6] = 1;
    const registered = this.#native.ringRegister(this.#fd, abi.REGISTER_BUFFERS_UPDATE, resource, abi.RSRC_SIZE);
    if (registered === 1) this.#buffers.set(memory, index);
  }

  close(): Promise<void> {
    return closeRing(this.#native, this.#port, [this.#rings, this.#sqeMemory], this.#twins);
  }
}

function submitError(errno: number): AioError {
  if (errno !== -EOWNERDEAD)
    return systemError(errno, 'io_uring_enter', 'submitting requests', 'Nothing was submitted');
  return new AioError(
    'ERR_AIO_NOT_SUPPORTED',
    'The process has changed its effective user or group since this context was made, and io_uring could still act with the old ones (CVE-2024-22017). Nothing was submitted: close this context and make a new one',
  );
}

/** Not made in the constructor: closures of one function share what they hold, and another one there holds the host. */
function abandonRing(native: Native, port: Port, maps: readonly ArrayBuffer[], twins: Set<number>): () => void {
  return () => void closeRing(native, port, maps, twins);
}

/** The mappings go at once, not when a collection finds them. */
function closeRing(
  native: Native,
  port: Port,
  maps: readonly ArrayBuffer[],
  twins: ReadonlySet<number>,
): Promise<void> {
  for (const memory of maps) native.detach(memory);
  for (const twin of twins) native.closeFd(twin);
  return port.close();
}

/** Of a context that is only tried. */
const NOBODY: EngineHost = { complete() {}, ready() {} };

function driver(sizes: RingSizes): EngineDriver {
  return {
    name: 'io-uring',

    probe() {
      if (works) return undefined;
      try {
        void new IoUring(requireShim('io-uring'), NOBODY, 1, { sqpoll: false }, sizes).close();
        return undefined;
      } catch (error) {
        works = false;
        return reasonOf(error);
      }
    },

    // As many as the largest completion ring has places: none overflows then.
    maxOutstanding: () => abi.MAX_CQ_ENTRIES - 2,

    open: (host, maxRequests, options) => new IoUring(requireShim('io-uring'), host, maxRequests, options, sizes),
  };
}

/** io_uring, as an engine that can be chosen. */
export const ioUring: EngineDriver = driver({});

/** The same with rings of other sizes, to see them full. */
export const ioUringWith = driver;
