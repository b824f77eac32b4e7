/** Steps that must not overlap: one at a time, in the order in which they came. */
import { onAbort } from './abort.ts';
import { abortError } from './errors.ts';

interface Turn {
  start(): void;
}

export class Line {
  #busy = false;
  readonly #waiting: Turn[] = [];

  /** Runs `step` when its turn comes. An abort before that takes it out of the line; after that, it is the step's own affair. */
  run<T>(step: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (!this.#busy) return this.#go(step);
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(turn), 1);
        if (signal !== undefined) reject(abortError(signal));
      };
      const turn: Turn = {
        start: () => {
          forget?.();
          resolve(this.#go(step));
        },
      };
      const forget = signal === undefined ? undefined : onAbort(signal, leave);
      this.#waiting.push(turn);
    });
  }

  async #go<T>(step: () => Promise<T>): Promise<T> {
    this.#busy = true;
    try {
      return await step();
    } finally {
      this.#busy = false;
      this.#waiting.shift()?.start();
    }
  }
}
