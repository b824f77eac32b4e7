/**
 * Timers as they were when this was loaded: a program's tests may put others in their place (`mock.timers`, fake timers), and files must not
 * stand still then.
 */
export const { clearImmediate, clearInterval, clearTimeout, setImmediate, setInterval, setTimeout } = globalThis;

export const nextTick = process.nextTick.bind(process);

/** Milliseconds on the monotonic clock. */
export const monotonicMs = performance.now.bind(performance);
