/** Abort signals, as many calls share one: a listener for each would make Node warn of a leak. */
import { abortError } from './errors.ts';

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
      signal.removeEventListener('abort', listener);
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
  if (typeof signal.addEventListener === 'function') {
    signal.addEventListener('abort', listener, { once: true });
    waiting.set(signal, made);
  }
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
