/** How far it is: one line that is rewritten on a terminal, a line per step elsewhere. */
import { formatSeconds } from './sizes.ts';
import { oneLine } from './usage.ts';

/** The live line is rewritten at most this often. */
export const PROGRESS_MS = 100;

/** Where progress goes. Every method is cheap enough to be called whenever there is news. */
export interface Progress {
  /** A step begins: said once, in a sentence. */
  step(sentence: string): void;
  /** `fraction` of everything is done, and `leftMs` to go: not finite where nobody knows; `text` is about the step under way. */
  update(fraction: number, leftMs: number, text: string): void;
  /** Takes the live line away. */
  end(): void;
}

/** A terminal as far as the live line needs it: a `tty.WriteStream` is one. */
export interface Terminal {
  readonly columns?: number;
  write(text: string): unknown;
}

class LiveLine implements Progress {
  readonly #terminal: Terminal;
  #shown = 0;
  #next = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  step(sentence: string): void {
    this.#show(sentence);
  }

  update(fraction: number, leftMs: number, text: string): void {
    const now = performance.now();
    if (now < this.#next) return;
    this.#next = now + PROGRESS_MS;
    const percent = Math.floor(Math.min(Math.max(fraction, 0), 1) * 100);
    const left = Number.isFinite(leftMs) ? `  ETA ${formatSeconds(Math.ceil(leftMs / 1000) * 1000)}` : '';
    this.#show(`${String(percent).padStart(3)} %${left}  ${text}`);
  }

  end(): void {
    if (this.#shown === 0) return;
    // Two more: the terminal itself writes ^C behind the line.
    this.#terminal.write(`\r${' '.repeat(Math.min(this.#shown + 2, this.#width()))}\r`);
    this.#shown = 0;
  }

  #show(text: string): void {
    // Blanks over the old text need no escape sequence that a terminal may not know.
    const line = oneLine(text).slice(0, this.#width());
    this.#terminal.write(`\r${line.padEnd(this.#shown)}`);
    this.#shown = Math.max(line.length, this.#shown);
  }

  /** One column short of the edge: some terminals wrap at it, and \r would not come back then. */
  #width(): number {
    return Math.max((this.#terminal.columns || 80) - 1, 1);
  }
}

class Lines implements Progress {
  readonly #prefix: string;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  step(sentence: string): void {
    process.stderr.write(`${this.#prefix}: ${oneLine(sentence)}\n`);
  }

  update(): void {}

  end(): void {}
}

/** @param keepStdout - nothing but the result may go to standard output, even where it is a terminal. */
export function openProgress(prefix: string, keepStdout: boolean): Progress {
  if (process.stderr.isTTY) return new LiveLine(process.stderr);
  if (process.stdout.isTTY && !keepStdout) return new LiveLine(process.stdout);
  return new Lines(prefix);
}
