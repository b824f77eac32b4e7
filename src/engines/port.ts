/**
 * A kernel context or ring, tied to this thread's event loop: two eventfds (completions, wake-ups) and the native port that
 * owns all of it. What both kernel engines have in common.
 */
import { AioError, codeOf, systemError } from '../errors.ts';
import { hasLibuv, type Listening, loadNative, type Native, PORT_CLOSED } from '../native.ts';
import { WakeCell } from '../wake.ts';

function listen(native: Native): Listening {
  const armed = new Map<number, () => void>();
  const closing = new Map<number, () => void>();
  const errno = native.setDispatcher((port, event) => {
    if (event === PORT_CLOSED) {
      closing.get(port)?.();
      closing.delete(port);
    } else {
      armed.get(port)?.();
    }
  });
  if (errno < 0) throw systemError(errno, 'setDispatcher', 'preparing to be notified of completions');
  return { armed, closing };
}

/** The shim, or ERR_AIO_NOT_SUPPORTED with the reason why the engine called `name` cannot do without. */
export function requireShim(name: string): Native {
  const { native, why } = loadNative();
  if (native === undefined) {
    throw new AioError('ERR_AIO_NOT_SUPPORTED', `The engine '${name}' cannot work here: ${why ?? 'no native shim'}`);
  }
  return native;
}

const FORBIDDEN: readonly string[] = ['EPERM', 'EACCES', 'ENOSYS'];

/** Whether a system call that was tried cannot be had. One that only had no room, or was interrupted, can. */
export function isForbidden(errno: number): boolean {
  return errno < 0 && FORBIDDEN.includes(codeOf(errno));
}

/** What trying an engine failed with, as the reason why it is not there. */
export function reasonOf(error: unknown): AioError {
  return error instanceof AioError ? error : new AioError('ERR_AIO_NOT_SUPPORTED', String(error));
}

/** Where a ring's mapping has what native code needs to see the end of everything in flight. */
export interface RingCounters {
  readonly fd: number;
  readonly sqHead: number;
  readonly cqHead: number;
  readonly cqTail: number;
  readonly bytes: number;
  readonly sqTail: number;
  readonly sqMask: number;
  readonly slots: number;
  readonly sqpoll: boolean;
}

const NO_RING: RingCounters = {
  fd: -1,
  sqHead: 0,
  cqHead: 0,
  cqTail: 0,
  bytes: 0,
  sqTail: 0,
  sqMask: 0,
  slots: 0,
  sqpoll: false,
};

/** How descriptors are watched, as a system call. */
const WATCH = hasLibuv() ? 'epoll_ctl' : 'pthread_create';

function cureFor(errno: number): string {
  const code = codeOf(errno);
  return code === 'EMFILE' || code === 'ENFILE' ? 'Close some files, or raise the limit: ulimit -n' : '';
}

export class Port {
  /** Signalled by completions. */
  readonly eventFd: number;
  /** Its descriptor is signalled by other threads. */
  readonly cell: WakeCell;
  readonly #native: Native;
  readonly #handle: number;
  readonly #listening: Listening;

  /**
   * Takes over a kernel context (or 0) and a ring (or none): they go with the port.
   *
   * @throws AioError when there are no descriptors left, or they cannot be watched; the caller still owns what it gave.
   */
  constructor(native: Native, context: number, ring: RingCounters = NO_RING) {
    this.#native = native;
    native.listening ??= listen(native);
    this.#listening = native.listening;
    const eventFd = native.eventfd();
    const wakeFd = native.eventfd();
    this.eventFd = eventFd;
    this.cell = new WakeCell(wakeFd);
    const { fd, sqHead, cqHead, cqTail, bytes, sqTail, sqMask, slots } = ring;
    const sqpoll = Number(ring.sqpoll);
    const failed = Math.min(eventFd, wakeFd);
    this.#handle =
      failed < 0
        ? failed
        : native.portOpen(
            context,
            eventFd,
            this.cell.cell,
            fd,
            sqHead,
            cqHead,
            cqTail,
            bytes,
            sqTail,
            sqMask,
            slots,
            sqpoll,
          );
    if (this.#handle < 0) {
      for (const made of [eventFd, wakeFd]) if (made >= 0) native.closeFd(made);
      throw failed < 0
        ? systemError(failed, 'eventfd', 'making the descriptors of a context', cureFor(failed))
        : systemError(this.#handle, WATCH, 'preparing to watch the descriptors of a context');
    }
  }

  /** Calls `ready` whenever completions were signalled, and keeps the event loop alive, until disarmed. */
  arm(ready: () => void): void {
    const { armed } = this.#listening;
    if (armed.has(this.#handle)) return;
    const errno = this.#native.portArm(this.#handle);
    if (errno < 0) throw systemError(errno, WATCH, 'watching for completions');
    armed.set(this.#handle, ready);
  }

  disarm(): void {
    this.#listening.armed.delete(this.#handle);
    this.#native.portDisarm(this.#handle);
  }

  /** Resolves when the kernel has everything back. Until then native code uses the wake cell, and this holds it. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#listening.closing.set(this.#handle, () => {
        void this.cell;
        resolve();
      });
      this.#native.portClose(this.#handle);
    });
  }
}
