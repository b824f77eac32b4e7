/**
 * Linux kernel AIO: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2), io_destroy(2).
 *
 * iocbs, the array of pointers to them and the io_events lie in one ArrayBuffer that is written and read here
 * directly. The kernel copies an iocb while it takes it, so that this memory is only used during system calls; what it
 * keeps is the memory of the transfers, which is the context's to hold.
 */
import { readFileSync } from 'node:fs';
import * as abi from '../abi/aio.ts';
import type { Engine, EngineDriver, EngineHost } from '../engine.ts';
import { AioError, codeOf, EAGAIN, EINTR, systemError, textOf } from '../errors.ts';
import { loadNative, type Native, PORT_CLOSED } from '../native.ts';
import { FDATASYNC, FSYNC, READ, type Transfer } from '../transfer.ts';
import { WakeCell } from '../wake.ts';

const AIO_MAX_NR = '/proc/sys/fs/aio-max-nr';
const AIO_NR = '/proc/sys/fs/aio-nr';

/** The kernel refuses contexts whose ring would be larger (fs/aio.c, ioctx_alloc), whatever the sysctl says. */
const KERNEL_LIMIT = 0x10000000 / abi.IO_EVENT_SIZE / 2 - 2;

/** Events per io_getevents call. A wait for more gathers them over several. */
const MAX_EVENTS = 1024;

/** `aio_data` of the poll on the wake descriptor. Others hold their slot. */
const WAKE_DATA = 0xffffffff | 0;

/** A blocked thread looks up this often, so that worker.terminate() can end it. */
const BLOCK_SLICE_MS = 100;
/** And this often where the kernel had no room for the poll that wakes it. */
const UNARMED_SLICE_MS = 10;

/** Engines whose port may call back, by port. Only while armed: a context that nobody waits on can be collected. */
const armed = new Map<number, KernelAio>();
const closing = new Map<number, () => void>();
let dispatching = false;

function dispatch(port: number, event: number): void {
  if (event === PORT_CLOSED) {
    closing.get(port)?.();
    closing.delete(port);
  } else {
    armed.get(port)?.host.ready();
  }
}

function readSysctl(path: string): number | undefined {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** `fs.aio-nr` and `fs.aio-max-nr`: requests that all contexts of the machine were made for, and may be. */
export function aioSysctls(): { used: number | undefined; max: number | undefined } {
  return { used: readSysctl(AIO_NR), max: readSysctl(AIO_MAX_NR) };
}

function setupError(errno: number, count: number): AioError {
  if (errno === -EAGAIN) {
    const { used, max } = aioSysctls();
    return new AioError(
      'ERR_AIO_INSUFFICIENT_EVENTS',
      `No kernel context for ${count} requests could be made: ${AIO_MAX_NR} is ${max ?? 'unknown'}, of which ${used ?? 'an unknown number'} are in use (${AIO_NR}). Close contexts, ask for fewer requests, or raise it: sysctl -w fs.aio-max-nr=${(used ?? 0) + count} or more`,
      { errno, syscall: 'io_setup' },
    );
  }
  const { name } = kernelAio;
  return new AioError(
    'ERR_AIO_NOT_SUPPORTED',
    `The engine '${name}' cannot work here: io_setup answered ${textOf(errno)}. ${whyNot(errno)}`,
    { errno, syscall: 'io_setup' },
  );
}

function whyNot(errno: number): string {
  switch (codeOf(errno)) {
    case 'ENOSYS':
      return 'The kernel was built without CONFIG_AIO, or a sandbox hides it';
    case 'EPERM':
    case 'EACCES':
      return 'A seccomp filter or security module forbids it: allow io_setup, io_submit, io_getevents, io_cancel and io_destroy';
    default:
      return 'See io_setup(2)';
  }
}

function shim(): Native {
  const { native, why } = loadNative();
  if (native === undefined) {
    throw new AioError(
      'ERR_AIO_NOT_SUPPORTED',
      `The engine '${kernelAio.name}' cannot work here: ${why ?? 'no native shim'}`,
    );
  }
  if (!dispatching) {
    native.setDispatcher(dispatch);
    dispatching = true;
  }
  return native;
}

/** Makes the kernel's side: a context, two eventfds, and a port that owns all three. */
function openPort(native: Native, count: number): { context: number; eventFd: number; cell: WakeCell; port: number } {
  const context = native.ioSetup(count);
  if (context < 0) throw setupError(context, count);
  const eventFd = native.eventfd();
  const wakeFd = native.eventfd();
  const cell = new WakeCell(wakeFd);
  const port = Math.min(eventFd, wakeFd) < 0 ? Math.min(eventFd, wakeFd) : native.portOpen(context, eventFd, cell.cell);
  if (port < 0) {
    native.ioDestroy(context);
    for (const fd of [eventFd, wakeFd]) if (fd >= 0) native.closeFd(fd);
    throw systemError(port, 'eventfd', 'making the descriptors of a context', 'Close some files, or raise ulimit -n');
  }
  return { context, eventFd, cell, port };
}

/** Resolves when the kernel has everything back. Holds the wake cell until then: native code still uses it. */
function closePort(native: Native, port: number, cell: WakeCell): Promise<void> {
  return new Promise((resolve) => {
    closing.set(port, () => {
      void cell;
      resolve();
    });
    native.portClose(port);
  });
}

class KernelAio implements Engine {
  readonly name = 'kernel-aio';
  readonly host: EngineHost;
  readonly cell: WakeCell;
  readonly abandon: () => void;
  readonly #native: Native;
  readonly #context: number;
  readonly #port: number;
  readonly #wakeSlot: number;
  readonly #eventCapacity: number;
  readonly #iocbs: Int32Array;
  readonly #iocbsAddress: number;
  readonly #pointers: Int32Array;
  readonly #pointersAddress: number;
  readonly #events: Int32Array;
  readonly #eventsAddress: number;
  /** For segments of vectored transfers; the kernel copies them while it takes the iocb. */
  #iovecs = new Int32Array(0);
  #iovecsAddress = 0;
  #wakeArmed = false;
  #retry: NodeJS.Timeout | undefined;

  constructor(native: Native, host: EngineHost, maxRequests: number) {
    this.#native = native;
    this.host = host;
    // The kernel has room for more than twice what is asked for: the poll on the wake descriptor needs no extra place.
    const { context, eventFd, cell, port } = openPort(native, maxRequests);
    this.cell = cell;
    this.#context = context;
    this.#port = port;
    this.#wakeSlot = maxRequests;
    this.abandon = () => void closePort(native, port, cell);

    const slots = maxRequests + 1;
    this.#eventCapacity = Math.min(slots, MAX_EVENTS);
    const pointersOffset = slots * abi.IOCB_SIZE;
    const eventsOffset = pointersOffset + slots * abi.POINTER_SIZE;
    const memory = new ArrayBuffer(eventsOffset + this.#eventCapacity * abi.IO_EVENT_SIZE);
    this.#iocbs = new Int32Array(memory, 0, slots * abi.IOCB_WORDS);
    this.#pointers = new Int32Array(memory, pointersOffset, slots * 2);
    this.#events = new Int32Array(memory, eventsOffset, this.#eventCapacity * abi.EVENT_WORDS);
    this.#iocbsAddress = native.address(new Uint8Array(memory));
    this.#pointersAddress = this.#iocbsAddress + pointersOffset;
    this.#eventsAddress = this.#iocbsAddress + eventsOffset;

    // What never changes is written once.
    for (let slot = 0; slot < slots; slot++) {
      const at = slot * abi.IOCB_WORDS;
      this.#iocbs[at + abi.IOCB_DATA] = slot;
      this.#iocbs[at + abi.IOCB_FLAGS] = abi.IOCB_FLAG_RESFD;
      this.#iocbs[at + abi.IOCB_RESFD] = eventFd;
    }
    const wake = this.#wakeSlot * abi.IOCB_WORDS;
    this.#iocbs[wake + abi.IOCB_DATA] = WAKE_DATA;
    this.#iocbs[wake + abi.IOCB_OPCODE] = abi.IOCB_CMD_POLL;
    this.#iocbs[wake + abi.IOCB_FD] = cell.fd;
    this.#iocbs[wake + abi.IOCB_BUF] = abi.POLLIN;
  }

  submit(batch: readonly Transfer[], from: number, to: number): number {
    const count = to - from;
    this.#writeIovecs(batch, from, to);
    for (let index = 0; index < count; index++) {
      const transfer = batch[from + index];
      if (transfer !== undefined) this.#write(transfer, index);
    }
    let done = 0;
    let reaped = false;
    while (done < count) {
      const result = this.#native.ioSubmit(
        this.#context,
        count - done,
        this.#pointersAddress + done * abi.POINTER_SIZE,
      );
      if (result > 0) {
        done += result;
      } else if (result === 0 || result === -EAGAIN || result === -EINTR) {
        // No room: what has completed in the meantime makes some.
        if (reaped) break;
        this.reap();
        reaped = true;
      } else {
        // The kernel speaks of the first that it was given: that one is done with, the others are not.
        this.host.complete(batch[from + done]?.slot ?? -1, result);
        done++;
      }
    }
    return done;
  }

  #write(transfer: Transfer, index: number): void {
    const at = transfer.slot * abi.IOCB_WORDS;
    const iocbs = this.#iocbs;
    const { operation } = transfer;
    iocbs[at + abi.IOCB_FD] = transfer.fd;
    iocbs[at + abi.IOCB_OFFSET] = transfer.positionLow;
    iocbs[at + abi.IOCB_OFFSET + 1] = transfer.positionHigh;
    if (transfer.vectored) {
      iocbs[at + abi.IOCB_OPCODE] = operation === READ ? abi.IOCB_CMD_PREADV : abi.IOCB_CMD_PWRITEV;
      setAddress(iocbs, at + abi.IOCB_BUF, this.#iovecsAddress + transfer.iovecIndex * abi.IOVEC_SIZE);
      iocbs[at + abi.IOCB_NBYTES] = transfer.to - transfer.from;
      iocbs[at + abi.IOCB_NBYTES + 1] = 0;
    } else if (operation === FSYNC || operation === FDATASYNC) {
      iocbs[at + abi.IOCB_OPCODE] = operation === FSYNC ? abi.IOCB_CMD_FSYNC : abi.IOCB_CMD_FDSYNC;
      // fs/aio.c refuses a flush that has any of these.
      iocbs.fill(0, at + abi.IOCB_BUF, at + abi.IOCB_OFFSET + 2);
    } else {
      const segment = transfer.segments[0];
      iocbs[at + abi.IOCB_OPCODE] = operation === READ ? abi.IOCB_CMD_PREAD : abi.IOCB_CMD_PWRITE;
      iocbs[at + abi.IOCB_BUF] = segment.addressLow;
      iocbs[at + abi.IOCB_BUF + 1] = segment.addressHigh;
      iocbs[at + abi.IOCB_NBYTES] = transfer.length | 0;
      iocbs[at + abi.IOCB_NBYTES + 1] = Math.floor(transfer.length / 2 ** 32);
    }
    setAddress(this.#pointers, index * 2, this.#iocbsAddress + transfer.slot * abi.IOCB_SIZE);
  }

  /** Segments of the whole batch, one after the other: they must stay until the system call returned. */
  #writeIovecs(batch: readonly Transfer[], from: number, to: number): void {
    let count = 0;
    for (let index = from; index < to; index++) {
      const transfer = batch[index];
      if (transfer?.vectored !== true) continue;
      transfer.iovecIndex = count;
      count += transfer.to - transfer.from;
    }
    if (count === 0) return;
    const words = abi.IOVEC_SIZE / 4;
    if (this.#iovecs.length < count * words) {
      this.#iovecs = new Int32Array(count * words);
      this.#iovecsAddress = this.#native.address(new Uint8Array(this.#iovecs.buffer));
    }
    for (let index = from; index < to; index++) {
      const transfer = batch[index];
      if (transfer?.vectored !== true) continue;
      let at = transfer.iovecIndex * words;
      for (let part = transfer.from; part < transfer.to; part++) {
        const segment = transfer.segments[part];
        if (segment === undefined) break;
        this.#iovecs[at] = segment.addressLow;
        this.#iovecs[at + 1] = segment.addressHigh;
        this.#iovecs[at + 2] = segment.length | 0;
        this.#iovecs[at + 3] = Math.floor(segment.length / 2 ** 32);
        at += words;
      }
    }
  }

  reap(): void {
    while (this.#getEvents(0, 0) === this.#eventCapacity);
  }

  block(timeoutMs: number): void {
    const slice = this.#armWake() ? BLOCK_SLICE_MS : UNARMED_SLICE_MS;
    this.#getEvents(1, Math.ceil(Math.min(timeoutMs, slice) * 1000));
  }

  /** One io_getevents call; returns how many events it gave. */
  #getEvents(min: number, timeoutUs: number): number {
    const count = this.#native.ioGetevents(this.#context, min, this.#eventCapacity, this.#eventsAddress, timeoutUs);
    if (count < 0) {
      if (count === -EINTR) return 0;
      throw systemError(count, 'io_getevents', 'fetching completions', 'The requests stay pending: wait again');
    }
    const events = this.#events;
    for (let at = 0; at < count * abi.EVENT_WORDS; at += abi.EVENT_WORDS) {
      const slot = events[at + abi.EVENT_DATA] ?? 0;
      const low = events[at + abi.EVENT_RES] ?? 0;
      const high = events[at + abi.EVENT_RES + 1] ?? 0;
      if (slot === WAKE_DATA) {
        this.#native.drain(this.cell.fd);
        this.#wakeArmed = false;
      } else {
        this.host.complete(slot, high < 0 ? low : high * 2 ** 32 + (low >>> 0));
      }
    }
    return count;
  }

  /**
   * A poll on the wake descriptor, in the kernel context itself: so that io_getevents, and the eventfd of the
   * completions, end on a wake-up as on a completion. It fires once; a descriptor that is readable already fires it at once.
   */
  #armWake(): boolean {
    if (this.#wakeArmed) return true;
    setAddress(this.#pointers, 0, this.#iocbsAddress + this.#wakeSlot * abi.IOCB_SIZE);
    this.#wakeArmed = this.#native.ioSubmit(this.#context, 1, this.#pointersAddress) === 1;
    return this.#wakeArmed;
  }

  arm(): void {
    if (!armed.has(this.#port)) {
      const errno = this.#native.portArm(this.#port);
      if (errno < 0) throw systemError(errno, 'epoll_ctl', 'watching for completions');
      armed.set(this.#port, this);
    }
    if (this.#armWake() || this.#retry !== undefined) return;
    // The kernel has no room for the poll just now: look again soon.
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.host.ready();
    }, UNARMED_SLICE_MS);
  }

  disarm(): void {
    armed.delete(this.#port);
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#native.portDisarm(this.#port);
  }

  cancel(transfer: Transfer): boolean {
    // 0 is what kernels before 4.19 answer with the event, later ones say EINPROGRESS and send it: the transfer may still
    // touch its memory then. Files and block devices cannot be canceled at all (EINVAL).
    const iocb = this.#iocbsAddress + transfer.slot * abi.IOCB_SIZE;
    return this.#native.ioCancel(this.#context, iocb, this.#eventsAddress) === 0;
  }

  associate(): void {}

  close(): Promise<void> {
    return closePort(this.#native, this.#port, this.cell);
  }
}

function setAddress(words: Int32Array, at: number, address: number): void {
  words[at] = address | 0;
  words[at + 1] = Math.floor(address / 2 ** 32);
}

let works = false;

/** Kernel AIO, as an engine that can be chosen. */
export const kernelAio: EngineDriver = {
  name: 'kernel-aio',

  probe() {
    if (works) return undefined;
    try {
      const native = shim();
      const { port, cell } = openPort(native, 1);
      void closePort(native, port, cell);
      works = true;
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  },

  maxOutstanding() {
    return Math.min(aioSysctls().max ?? 65536, KERNEL_LIMIT);
  },

  open(host, maxRequests) {
    return new KernelAio(shim(), host, maxRequests);
  },
};
