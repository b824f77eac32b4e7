/** Signals: the first one asks for an orderly end, the second one ends it. */
import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

/** A wish to stop, from outside. */
export interface Stop {
  /** Aborted by the first signal. */
  readonly signal: AbortSignal;
  /** The signal that came, or `undefined`. */
  readonly by: NodeJS.Signals | undefined;
  /** Of a program that this signal ended, as shells count: 130 for SIGINT. 0 if none came. */
  readonly exitCode: number;
  /** Gives the signals their usual meaning back. */
  release(): void;
}

/** Takes the signals over. A second one exits at once; what must not be left behind is up to `exit` listeners then. */
export function stopOnSignals(): Stop {
  const controller = new AbortController();
  let by: NodeJS.Signals | undefined;
  const codeOf = (name: NodeJS.Signals): number => 128 + constants.signals[name];
  const onSignal = (name: NodeJS.Signals): void => {
    if (by !== undefined) process.exit(codeOf(name));
    by = name;
    controller.abort();
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  return {
    signal: controller.signal,
    get by() {
      return by;
    },
    get exitCode() {
      return by === undefined ? 0 : codeOf(by);
    },
    release() {
      for (const name of SIGNALS) process.off(name, onSignal);
    },
  };
}
