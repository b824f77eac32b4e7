/** Abort signals, as many calls share one: a listener for each would make Node warn of a leak. */
import * as events from 'node:events';
import { abortError } from './errors.ts';

// A signal may have functions of its own in their place, which could do anything, and to the very context that listens.
const { addEventListener, removeEventListener } = EventTarget.prototype;

/**
 * How Node itself listens: also behind a listener that lets no other have the event (`stopImmediatePropagation`). What asks for that is a
 * symbol of Node's, which it shows to everything that it takes for a signal.
 */
function howNodeListens(): { once: boolean } {
  let shown: object = {};
  const signal = {
    aborted: false,
    addEventListener(_type: string, _listener: unknown, options: object): void {
      shown = options;
    },
    removeEventListener(): void {},
  };
  try {
    const { addAbortListener } = events as { addAbortListener?: (signal: unknown, listener: () => void) => unknown };
    addAbortListener?.(signal, () => undefined);
  } catch {
    // This runtime looks closer. There nothing is known to ask for.
  }
  return { ...shown, once: true };
}

const LISTENING = howNodeListens();

/** Those who wait for one signal. */
interface Waiting {
  readonly calls: Set<() => void>;
  readonly listener: () => void;
}

const waiting = new WeakMap<AbortSignal, Waiting>();

/**
 * Calls `run` when the signal aborts, unless what is returned is called before. For signals that have not aborted. Node takes any
 * object with a property `aborted` for a signal: one that cannot be listened to is only looked at.
 */
export function onAbort(signal: AbortSignal, run: () => void): () => void {
  const { calls, listener } = waiting.get(signal) ?? listen(signal);
  calls.add(run);
  return () => {
    calls.delete(run);
    if (calls.size > 0 || waiting.get(signal)?.calls !== calls) return;
    waiting.delete(signal);
    try {
      if (signal instanceof AbortSignal) removeEventListener.call(signal, 'abort', listener);
      else (signal as AbortSignal).removeEventListener('abort', listener);
    } catch {
      // Of somebody's own making. The call has ended all the same; its caller must hear of it.
    }
  };
}

function listen(signal: AbortSignal): Waiting {
  const calls = new Set<() => void>();
  const listener = (): void => {
    waiting.delete(signal);
    for (const run of [...calls]) run();
  };
  const made = { calls, listener };
  if (signal instanceof AbortSignal) addEventListener.call(signal, 'abort', listener, LISTENING);
  else if (typeof (signal as AbortSignal).addEventListener !== 'function') return made;
  else (signal as AbortSignal).addEventListener('abort', listener, LISTENING);
  waiting.set(signal, made);
  return made;
}

/** For a call that has ended, which nothing may keep from saying so. */
export function hasAborted(signal: AbortSignal): boolean {
  try {
    return signal.aborted;
  } catch {
    return false;
  }
}

/** Throws the AbortError of a signal that has aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortError(signal);
}
