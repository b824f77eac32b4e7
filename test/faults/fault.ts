/** What one run of a workload is told, and what it says of it. */
import { readdirSync, readFileSync } from 'node:fs';
import { AioError, type EngineName } from '../../src/index.ts';

/** The n-th call of a system call, counted from where the workload begins, answers with an error. */
export interface Fault {
  readonly syscall: string;
  readonly code: string;
  readonly errno: number;
  readonly nth: number;
}

export type Work = 'requests' | 'contexts' | 'registrations' | 'files' | 'handles' | 'workers';

export interface Cell {
  readonly work: Work;
  readonly engine: EngineName | 'auto';
  readonly fault: Fault | undefined;
  /** How many contexts `contexts` makes. */
  readonly contexts: number;
}

export interface Verdict {
  readonly problems: readonly string[];
  /** How often the error came to the program, in whatever shape. */
  readonly surfaced: number;
}

/** What the library promises to live with by itself: the calls are simply made again (DESIGN.md, errno policy). */
const ABSORBED: Readonly<Record<string, readonly string[]>> = {
  io_submit: ['EAGAIN', 'EINTR', 'ENOMEM'],
  io_uring_enter: ['EAGAIN', 'EINTR', 'EBUSY'],
  io_getevents: ['EINTR'],
};

/** Of these no error may ever come to the program: cancelling is a try, giving back is the library's own affair. */
const SILENT = ['io_cancel', 'io_destroy'];

/** As `error.syscall` names them. */
const SHOWN: Readonly<Record<string, string>> = { eventfd2: 'eventfd' };

/** Collects what a workload finds wrong, and judges the errors that it meets. */
export class Judge {
  readonly problems: string[] = [];
  surfaced = 0;
  readonly #fault: Fault | undefined;

  constructor(fault: Fault | undefined) {
    this.#fault = fault;
  }

  check(condition: boolean, what: string): void {
    if (!condition && this.problems.length < 20) this.problems.push(what);
  }

  /** Whether the error is the injected one, with everything that a caller needs to tell. */
  is(error: unknown): boolean {
    const fault = this.#fault;
    if (fault === undefined || !(error instanceof Error)) return false;
    const { code, errno, syscall } = error as NodeJS.ErrnoException;
    return (
      errno === -fault.errno &&
      (code === fault.code || (error instanceof AioError && (code ?? '').startsWith('ERR_AIO_'))) &&
      syscall === (SHOWN[fault.syscall] ?? fault.syscall)
    );
  }

  /** An error came to the program where only the injected one may come. */
  meet(error: unknown, where: string): void {
    this.surfaced++;
    this.check(this.is(error), `${where}: ${told(error)}`);
    this.#mayCome(where);
  }

  /** The kernel's answer to a submission is the outcome of a request: `syscall` is the request's own then. */
  meetOutcome(error: unknown, where: string): void {
    this.surfaced++;
    const { code, errno, syscall } = error as NodeJS.ErrnoException;
    const fault = this.#fault;
    this.check(
      fault?.syscall === 'io_submit' &&
        errno === -fault.errno &&
        code === fault.code &&
        /^(read|write|fsync|fdatasync)$/.test(syscall ?? ''),
      `${where}: ${told(error)}`,
    );
    this.#mayCome(where);
  }

  #mayCome(where: string): void {
    const fault = this.#fault;
    if (fault === undefined) return;
    const never = SILENT.includes(fault.syscall) || (ABSORBED[fault.syscall] ?? []).includes(fault.code);
    this.check(!never, `${where}: ${fault.code} of ${fault.syscall} must not come to the program`);
  }
}

export function told(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code, errno, syscall, stack } = error as NodeJS.ErrnoException;
  return `${error.name} ${code} ${errno} ${syscall}: ${error.message}\n${stack?.split('\n').slice(1, 4).join('\n')}`;
}

/** What the process has of the kernel. */
export interface Holdings {
  readonly descriptors: number;
  readonly mappings: number;
}

export function holdings(): Holdings {
  const mappings = readFileSync('/proc/self/maps', 'utf8').match(/\[io_uring\]|\/\[aio\]/g)?.length ?? 0;
  return { descriptors: readdirSync('/proc/self/fd').length, mappings };
}

/** Waits until everything has been given back: a context that closes does so on a thread. */
export async function settled(before: Holdings, judge: Judge, what: string): Promise<void> {
  const deadline = performance.now() + 5000;
  let now = holdings();
  while (now.descriptors > before.descriptors || now.mappings > before.mappings) {
    if (performance.now() > deadline) {
      judge.check(false, `${what}: leaves ${JSON.stringify(now)}, had ${JSON.stringify(before)}`);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
    now = holdings();
  }
}
