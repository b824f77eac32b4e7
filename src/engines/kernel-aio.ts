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
import { AioError, codeOf, EAGAIN, EINTR, ENOMEM, systemError, textOf } from '../errors.ts';
import type { Native } from '../native.ts';
import { clearImmediate, clearTimeout, setImmediate, setTimeout } from '../time.ts';
import { FDATASYNC, FSYNC, READ, type Transfer } from '../transfer.ts';
import type { WakeCell } from '../wake.ts';
import { Iovecs, setAddress } from './iovecs.ts';
import { isForbidden, Port, reasonOf, requireShim } from './port.ts';

const AIO_MAX_NR = '/proc/sys/fs/aio-max-nr';
const AIO_NR = '/proc/sys/fs/aio-nr';

/** The kernel refuses contexts whose ring would be larger (fs/aio.c, ioctx_alloc), whatever the sysctl says. */
const KERNEL_LIMIT = 0x10000000 / abi.IO_EVENT_SIZE / 2 - 2;

/** Events per io_getevents call. A wait for more gathers them over several. */
const MAX_EVENTS = 1024;

/** `aio_data` of the poll on the wake descriptor. Others hold their slot. */
const WAKE_DATA = 0xffffffff | 0;

/**
 * Signalling an eventfd costs several percent of a fast transfer. After so many batches that nobody had to sleep for, completions
 * come without; the first wait that does sleep turns them on again, and looks for the silent ones by itself.
 */
const UNARMED_SUBMITS = 64;
const IMMEDIATE_LOOKS = 100;

/** Signals in a row that a look which does not block may meet, before something is wrong. */
const MAX_INTERRUPTIONS = 100;

/** A blocked thread looks up this often, so that worker.terminate() can end it. */
const BLOCK_SLICE_MS = 100;
/** And this often where the kernel had no room for the poll that wakes it. */
const UNARMED_SLICE_MS = 10;

function readSysctl(path: string): number | undefined {
  if (process.platform !== 'linux') return undefined;
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
    // Others may have closed theirs in the meantime: never less than there is.
    const enough = Math.max((used ?? 0) + count, (max ?? 0) + 1);
    return new AioError(
      'ERR_AIO_INSUFFICIENT_EVENTS',
      `No kernel context for ${count} requests could be made: ${AIO_MAX_NR} is ${max ?? 'unknown'}, of which ${used ?? 'an unknown number'} are in use (${AIO_NR}). Close contexts, ask for fewer requests, or raise it: sysctl -w fs.aio-max-nr=${enough} or more`,
      { errno, syscall: 'io_setup' },
    );
  }
  return refused(errno, 'io_setup');
}

function refused(errno: number, syscall: string): AioError {
  return new AioError(
    'ERR_AIO_NOT_SUPPORTED',
    `The engine 'kernel-aio' cannot work here: ${syscall} answered ${textOf(errno)}. ${whyNot(errno)}`,
    { errno, syscall },
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

let works = false;

/** A context can be made where the call that gives its completions is forbidden. Without it, what was submitted could not be had back. */
function tryOut(native: Native, context: number): void {
  if (works) return;
  const got = native.ioGetevents(context, 0, 0, 0, 0);
  if (isForbidden(got)) throw refused(got, 'io_getevents');
  works = true;
}

/** Makes the kernel's side: a context, and the port that owns it. */
function openPort(native: Native, count: number): { context: number; port: Port } {
  const context = native.ioSetup(count);
  if (context < 0) throw setupError(context, count);
  try {
    tryOut(native, context);
    return { context, port: new Port(native, context) };
  } catch (error) {
    native.ioDestroy(context);
    throw error;
  }
}

/** Not made in the constructor: closures of one function share what they hold, and another one there holds the host. */
function abandonPort(port: Port): () => void {
  return () => void port.close();
}

class KernelAio implements Engine {
  readonly name = 'kernel-aio';
  readonly #host: EngineHost;
  readonly #ready: () => void;
  readonly cell: WakeCell;
  readonly abandon: () => void;
  readonly #native: Native;
  readonly #context: number;
  readonly #port: Port;
  readonly #wakeSlot: number;
  readonly #eventCapacity: number;
  readonly #iocbs: Int32Array;
  readonly #iocbsAddress: number;
  readonly #pointers: Int32Array;
  /** Of each slot's iocb, as the pointer array has it. */
  readonly #addresses: Int32Array;
  readonly #pointersAddress: number;
  readonly #events: Int32Array;
  readonly #eventsAddress: number;
  readonly #iovecs: Iovecs;
  #wakeArmed = false;
  /** `aio_flags` of what is submitted now: whether its completion signals the eventfd. */
  #flags = abi.IOCB_FLAG_RESFD;
  #submitsUnarmed = 0;
  #armed = false;
  /** In flight, and will not signal. */
  #silent = 0;
  #poll: NodeJS.Immediate | undefined;
  #looks = 0;
  #retry: NodeJS.Timeout | undefined;

  constructor(native: Native, host: EngineHost, maxRequests: number) {
    this.#native = native;
    this.#host = host;
    this.#ready = () => host.ready();
    // The kernel has room for more than twice what is asked for: the poll on the wake descriptor needs no extra place.
    const { context, port } = openPort(native, maxRequests);
    const { cell, eventFd } = port;
    this.cell = cell;
    this.#context = context;
    this.#port = port;
    this.#wakeSlot = maxRequests;
    this.abandon = abandonPort(port);
    this.#iovecs = new Iovecs(native);

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
    this.#addresses = new Int32Array(slots * 2);
    for (let slot = 0; slot < slots; slot++) {
      const at = slot * abi.IOCB_WORDS;
      setAddress(this.#addresses, slot * 2, this.#iocbsAddress + slot * abi.IOCB_SIZE);
      this.#iocbs[at + abi.IOCB_DATA] = slot;
      this.#iocbs[at + abi.IOCB_FLAGS] = abi.IOCB_FLAG_RESFD;
      this.#iocbs[at + abi.IOCB_RESFD] = eventFd;
    }
    const wake = this.#wakeSlot * abi.IOCB_WORDS;
    this.#iocbs[wake + abi.IOCB_DATA] = WAKE_DATA;
    this.#iocbs[wake + abi.IOCB_FLAGS] = 0;
    this.#iocbs[wake + abi.IOCB_OPCODE] = abi.IOCB_CMD_POLL;
    this.#iocbs[wake + abi.IOCB_FD] = cell.fd;
    this.#iocbs[wake + abi.IOCB_BUF] = abi.POLLIN;
  }

  submit(batch: readonly Transfer[], from: number, to: number): number {
    const count = to - from;
    this.#iovecs.reset();
    if (!this.#armed && ++this.#submitsUnarmed > UNARMED_SUBMITS) this.#flags = 0;
    for (let index = 0; index < count; index++) {
      const transfer = batch[from + index];
      if (transfer !== undefined) this.#write(transfer, index);
    }
    let done = 0;
    let refused = 0;
    let reaped = false;
    while (done < count) {
      const result = this.#native.ioSubmit(
        this.#context,
        count - done,
        this.#pointersAddress + done * abi.POINTER_SIZE,
      );
      if (result > 0) {
        done += result;
      } else if (result === 0 || result === -EAGAIN || result === -ENOMEM || result === -EINTR) {
        // No room: what has completed in the meantime makes some.
        if (reaped || !this.#makeRoom()) break;
        reaped = true;
      } else {
        // The kernel speaks of the first that it was given: that one is done with, the others are not.
        this.#host.complete(batch[from + done]?.slot ?? -1, result);
        done++;
        refused++;
      }
    }
    if (this.#flags === 0) this.#silent += done - refused;
    return done;
  }

  #write(transfer: Transfer, index: number): void {
    const at = transfer.slot * abi.IOCB_WORDS;
    const iocbs = this.#iocbs;
    const { operation } = transfer;
    iocbs[at + abi.IOCB_FLAGS] = this.#flags;
    iocbs[at + abi.IOCB_FD] = transfer.fd;
    iocbs[at + abi.IOCB_OFFSET] = transfer.positionLow;
    iocbs[at + abi.IOCB_OFFSET + 1] = transfer.positionHigh;
    if (transfer.vectored) {
      iocbs[at + abi.IOCB_OPCODE] = operation === READ ? abi.IOCB_CMD_PREADV : abi.IOCB_CMD_PWRITEV;
      setAddress(iocbs, at + abi.IOCB_BUF, this.#iovecs.write(transfer));
      iocbs[at + abi.IOCB_NBYTES] = transfer.to - transfer.from;
      iocbs[at + abi.IOCB_NBYTES + 1] = 0;
    } else if (operation === FSYNC || operation === FDATASYNC) {
      iocbs[at + abi.IOCB_OPCODE] = operation === FSYNC ? abi.IOCB_CMD_FSYNC : abi.IOCB_CMD_FDSYNC;
      // fs/aio.c refuses a flush that has any of these.
      iocbs.fill(0, at + abi.IOCB_BUF, at + abi.IOCB_OFFSET + 2);
    } else {
      const segment = transfer.single;
      iocbs[at + abi.IOCB_OPCODE] = operation === READ ? abi.IOCB_CMD_PREAD : abi.IOCB_CMD_PWRITE;
      iocbs[at + abi.IOCB_BUF] = segment.addressLow;
      iocbs[at + abi.IOCB_BUF + 1] = segment.addressHigh;
      iocbs[at + abi.IOCB_NBYTES] = transfer.length | 0;
      iocbs[at + abi.IOCB_NBYTES + 1] = transfer.length < 2 ** 31 ? 0 : Math.floor(transfer.length / 2 ** 32);
    }
    this.#pointers[index * 2] = this.#addresses[transfer.slot * 2] ?? 0;
    this.#pointers[index * 2 + 1] = this.#addresses[transfer.slot * 2 + 1] ?? 0;
  }

  /** Within a submission nothing may be thrown: what was taken by now is in flight. The next wait will meet the error again. */
  #makeRoom(): boolean {
    try {
      this.reap();
      return true;
    } catch {
      return false;
    }
  }

  reap(): void {
    let interruptions = 0;
    for (;;) {
      const count = this.#getEvents(0, 0);
      if (count >= 0 && count < this.#eventCapacity) return;
      // Nobody looks again for what has signalled already: a look that was cut short does not count.
      if (count < 0 && ++interruptions > MAX_INTERRUPTIONS) {
        throw systemError(count, 'io_getevents', 'fetching completions', 'The requests stay pending: wait again');
      }
    }
  }

  block(timeoutMs: number): void {
    const slice = this.#armWake() ? BLOCK_SLICE_MS : UNARMED_SLICE_MS;
    this.#getEvents(1, Math.ceil(Math.min(timeoutMs, slice) * 1000));
  }

  /** One io_getevents call; returns how many events it gave, or -EINTR. */
  #getEvents(min: number, timeoutUs: number): number {
    const count = this.#native.ioGetevents(this.#context, min, this.#eventCapacity, this.#eventsAddress, timeoutUs);
    if (count < 0) {
      if (count === -EINTR) return count;
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
        if (this.#iocbs[slot * abi.IOCB_WORDS + abi.IOCB_FLAGS] === 0) this.#silent--;
        this.#host.complete(slot, high === low >> 31 ? low : high * 2 ** 32 + (low >>> 0));
      }
    }
    return count;
  }

  /**
   * A poll on the wake descriptor, in the kernel context itself: so that a blocked io_getevents ends on a wake-up as on a
   * completion. It fires once; a descriptor that is readable already fires it at once. The event loop watches the descriptor itself.
   */
  #armWake(): boolean {
    if (this.#wakeArmed) return true;
    setAddress(this.#pointers, 0, this.#iocbsAddress + this.#wakeSlot * abi.IOCB_SIZE);
    this.#wakeArmed = this.#native.ioSubmit(this.#context, 1, this.#pointersAddress) === 1;
    return this.#wakeArmed;
  }

  arm(): void {
    this.#port.arm(this.#ready);
    this.#armed = true;
    this.#flags = abi.IOCB_FLAG_RESFD;
    this.#submitsUnarmed = 0;
    this.#pollSilent();
  }

  /** Looks on every turn of the event loop, after a while every millisecond, until all that is in flight will signal. */
  #pollSilent(): void {
    if (this.#silent === 0 || this.#poll !== undefined || this.#retry !== undefined) return;
    if (this.#looks++ < IMMEDIATE_LOOKS) {
      this.#poll = setImmediate(() => {
        this.#poll = undefined;
        this.#ready();
      });
    } else {
      this.#retry = setTimeout(() => {
        this.#retry = undefined;
        this.#ready();
      }, 1);
    }
  }

  disarm(): void {
    this.#armed = false;
    clearImmediate(this.#poll);
    this.#poll = undefined;
    this.#looks = 0;
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#port.disarm();
  }

  cancel(transfer: Transfer): boolean {
    // 0 is what kernels before 4.19 answer with the event, later ones say EINPROGRESS and send it: the transfer may still
    // touch its memory then. Files and block devices cannot be canceled at all (EINVAL).
    const iocb = this.#iocbsAddress + transfer.slot * abi.IOCB_SIZE;
    return this.#native.ioCancel(this.#context, iocb, this.#eventsAddress) === 0;
  }

  associate(): void {}

  close(): Promise<void> {
    return this.#port.close();
  }
}

/** Kernel AIO, as an engine that can be chosen. */
export const kernelAio: EngineDriver = {
  name: 'kernel-aio',

  probe() {
    if (works) return undefined;
    try {
      void openPort(requireShim('kernel-aio'), 1).port.close();
      return undefined;
    } catch (error) {
      works = false;
      return reasonOf(error);
    }
  },

  maxOutstanding() {
    return Math.min(aioSysctls().max ?? 65536, KERNEL_LIMIT);
  },

  open(host, maxRequests, { sqpoll }) {
    if (sqpoll) {
      throw new AioError('ERR_AIO_NOT_SUPPORTED', "The engine 'kernel-aio' has no sqpoll: only 'io-uring' has");
    }
    return new KernelAio(requireShim('kernel-aio'), host, maxRequests);
  },
};
