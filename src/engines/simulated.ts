/**
 * A simulated disk, as an engine. Nothing here knows the kernel, or what time it really is: requests end when the time of their disk has
 * come there, and that passes while somebody waits.
 */
import type { Alignment } from '../alignment.ts';
import type { Clock, Engine, EngineDriver, EngineHost } from '../engine.ts';
import { AioError } from '../errors.ts';
import type { Device, Port } from '../sim/device.ts';
import type { Sleeper } from '../sim/timeline.ts';
import type { Transfer } from '../transfer.ts';
import { WakeCell } from '../wake.ts';

const MAX_OUTSTANDING = 131_072;

/** A thread that only another one can wake looks up this often, so that worker.terminate() can end it. */
const BLOCK_SLICE_MS = 100;

/** What it takes to look whether anything has ended, and to find nothing. */
const LOOK_US = 1;

/** Milliseconds as microseconds, never too few. */
function upTo(ms: number): number {
  return ms === Infinity ? Infinity : Math.ceil(ms * 1000);
}

/** Not made in the constructor: a closure there would hold what the constructor holds. */
function retire(cell: WakeCell): () => void {
  return () => cell.retire();
}

class Simulated implements Engine, Port, Sleeper {
  readonly name = 'simulated';
  readonly cell = new WakeCell(-1);
  readonly clock: Clock;
  readonly abandon: () => void;
  readonly #host: EngineHost;
  readonly #device: Device;

  /** Slots that ended and that the host does not know of yet: the first `#endedCount`. And, by slot, how each did. */
  readonly #ended: Int32Array;
  #endedCount = 0;
  readonly #results: Int32Array;

  untilUs = Infinity;
  #armed = false;
  #watching = false;
  readonly #notified: () => void;

  constructor(device: Device, host: EngineHost, maxRequests: number) {
    this.#device = device;
    this.#host = host;
    this.clock = device.timeline.clock;
    this.#ended = new Int32Array(maxRequests);
    this.#results = new Int32Array(maxRequests);
    this.abandon = retire(this.cell);
    // A watch outlasts the wait that it was made for, and must not hold a context that was dropped since.
    const self = new WeakRef(this);
    this.#notified = () => self.deref()?.notice();
  }

  submit(batch: readonly (Transfer | undefined)[], from: number, to: number): number {
    return this.#device.submit(batch, from, to, this);
  }

  /** For the device. */
  finish(slot: number, result: number): void {
    this.#results[slot] = result;
    this.#ended[this.#endedCount++] = slot;
  }

  reap(): void {
    const { timeline } = this.#device;
    // Looking takes time, too: a program that only ever looks would wait for ever.
    if (this.#endedCount === 0) timeline.advance(timeline.nowUs + LOOK_US);
    const count = this.#endedCount;
    this.#endedCount = 0;
    for (let index = 0; index < count; index++) {
      const slot = this.#ended[index] ?? -1;
      this.#host.complete(slot, this.#results[slot] ?? 0);
    }
  }

  block(timeoutMs: number): void {
    if (!this.hasNews) {
      const { timeline } = this.#device;
      const until = timeline.nowUs + upTo(timeoutMs);
      if (!timeline.advance(until) && until === Infinity) this.cell.sleep(BLOCK_SLICE_MS);
    }
    this.reap();
  }

  arm(deadlineMs = Infinity): void {
    this.untilUs = upTo(deadlineMs);
    this.#armed = true;
    this.#watching ||= this.cell.watch(this.#notified);
    this.#device.timeline.sleep(this);
  }

  disarm(): void {
    this.#armed = false;
    this.#device.timeline.leave(this);
  }

  get hasNews(): boolean {
    return this.#endedCount > 0 || this.cell.woken;
  }

  /** For the timeline. */
  ready(): void {
    this.#host.ready();
  }

  /** Another thread woke: for the wait under way, or for one before it, which has seen it already. Then the next is to be heard of. */
  notice(): void {
    this.#watching = this.#armed && this.cell.watch(this.#notified);
    if (this.#armed) this.#device.timeline.stir();
  }

  cancel(transfer: Transfer): boolean {
    return this.#device.cancel(transfer);
  }

  associate(): void {}

  alignmentOf(fd: number): Alignment | undefined {
    return this.#device.alignmentOf(fd);
  }

  close(): Promise<void> {
    this.abandon();
    return Promise.resolve();
  }
}

/** The driver of one disk. */
export function simulated(device: Device, alignmentOf: (path: string) => Alignment): EngineDriver {
  return {
    name: 'simulated',
    alignmentOf,

    later(ms, run) {
      device.timeline.after(upTo(ms), run);
    },

    probe() {
      return undefined;
    },

    maxOutstanding() {
      return MAX_OUTSTANDING;
    },

    open(host, maxRequests, { sqpoll }) {
      if (sqpoll) {
        throw new AioError('ERR_AIO_NOT_SUPPORTED', 'A simulated disk has no sqpoll: only the engine io-uring has');
      }
      return new Simulated(device, host, maxRequests);
    },
  };
}
