/** Which calls fail, how, and in what work. */
import { constants } from 'node:os';
import type { EngineName } from '../../src/index.ts';
import type { Cell, Work } from './fault.ts';

export interface Row {
  /** As the table at the end has it. */
  readonly column: string;
  readonly engine: EngineName | 'auto';
  readonly work: Work;
  readonly syscall: string;
  readonly codes: readonly string[];
  /** The last call that is made to fail; the first is the first. */
  readonly last: number;
  /** Only calls on such a descriptor count: others are the runtime's own. */
  readonly on?: string;
  /** Which call of the process the n-th is that counts. */
  readonly nth?: (n: number) => number;
  /** How many contexts it takes until the n-th comes about. */
  readonly contexts?: (n: number) => number;
  /** What fails in any case. */
  readonly forbidden?: string;
  /** Threads of the pool: calls are counted by thread. */
  readonly pool?: number;
}

export interface Injection {
  readonly row: Row;
  readonly cell: Cell;
  readonly n: number;
  /** For strace. */
  readonly options: readonly string[];
}

const COMMON = ['EAGAIN', 'EINTR', 'ENOMEM', 'EBADF', 'ENOSYS', 'EPERM'] as const;
const MAKES = [...COMMON, 'EMFILE'] as const;

const RING = 'anon_inode:[io_uring]';
const EVENTFD = 'anon_inode:[eventfd]';

/** A ring, its two mappings and the one for the end, two eventfds; and a context, with its two. */
const perContext = (calls: number) => (n: number) => Math.ceil(n / calls) + 1;
/** uv_poll_init adds a descriptor and takes it out again. Only the adding may fail: of the other libuv makes an abort(). */
const added = (n: number): number => 2 * n - 1;

function lowLevel(): Row[] {
  const ring = { column: 'io-uring', engine: 'io-uring' as const };
  const aio = { column: 'kernel-aio', engine: 'kernel-aio' as const };
  const auto = { column: 'auto', engine: 'auto' as const };
  const noRing = { column: 'auto, no io_uring', engine: 'auto' as const, forbidden: 'io_uring_setup' };
  const setup = { codes: MAKES, last: 20, contexts: perContext(1), work: 'contexts' as const };
  const two = { ...setup, contexts: perContext(2) };
  return [
    { ...ring, work: 'requests', syscall: 'io_uring_enter', codes: [...COMMON, 'EBUSY'], last: 20 },
    { ...ring, work: 'registrations', syscall: 'io_uring_register', codes: [...COMMON, 'EBUSY'], last: 20 },
    { ...ring, ...setup, syscall: 'io_uring_setup' },
    { ...ring, ...setup, contexts: perContext(3), syscall: 'mmap', codes: COMMON, on: RING },
    { ...ring, ...two, syscall: 'eventfd2' },
    { ...ring, ...two, syscall: 'epoll_ctl', codes: [...COMMON, 'ENOSPC'], on: EVENTFD, nth: added },
    { ...aio, work: 'requests', syscall: 'io_submit', codes: COMMON, last: 20 },
    { ...aio, work: 'requests', syscall: 'io_getevents', codes: COMMON, last: 20 },
    { ...aio, work: 'requests', syscall: 'io_cancel', codes: COMMON, last: 4 },
    { ...aio, ...setup, syscall: 'io_setup' },
    { ...aio, ...setup, syscall: 'io_destroy', codes: COMMON, pool: 1 },
    { ...aio, ...two, syscall: 'eventfd2' },
    { ...aio, ...two, syscall: 'epoll_ctl', codes: [...COMMON, 'ENOSPC'], on: EVENTFD, nth: added },
    { ...auto, ...setup, syscall: 'io_uring_setup' },
    { ...auto, ...setup, contexts: perContext(3), syscall: 'mmap', codes: COMMON, on: RING },
    { ...auto, ...two, syscall: 'eventfd2' },
    { ...auto, work: 'requests', syscall: 'io_uring_enter', codes: [...COMMON, 'EBUSY'], last: 20 },
    { ...noRing, ...setup, syscall: 'io_setup' },
    { ...noRing, work: 'requests', syscall: 'io_submit', codes: COMMON, last: 20 },
    { ...noRing, work: 'requests', syscall: 'io_getevents', codes: COMMON, last: 20 },
    { ...ring, work: 'workers', syscall: 'io_uring_enter', codes: COMMON, last: 2 },
    // Without it, what is in flight is canceled one by one. (With none at all, there is no such engine.)
    { ...ring, work: 'workers', syscall: 'io_uring_enter', codes: COMMON, last: 20, forbidden: 'io_uring_register' },
    { ...ring, work: 'workers', syscall: 'io_uring_register', codes: COMMON, last: 1 },
    { ...ring, work: 'workers', syscall: 'mmap', codes: COMMON, last: 3, on: RING },
    { ...aio, work: 'workers', syscall: 'io_submit', codes: COMMON, last: 1 },
    { ...aio, work: 'workers', syscall: 'io_destroy', codes: COMMON, last: 1, pool: 1 },
  ];
}

function fileLayer(): Row[] {
  const ring = { column: 'files: io-uring', engine: 'io-uring' as const };
  const aio = { column: 'files: kernel-aio', engine: 'kernel-aio' as const };
  const auto = { column: 'files: auto', engine: 'auto' as const };
  const noRing = { column: 'files: auto, no io_uring', engine: 'auto' as const, forbidden: 'io_uring_setup' };
  const make = { work: 'handles' as const, codes: MAKES, last: 3, contexts: (n: number) => n + 1 };
  const two = { ...make, last: 4, contexts: perContext(2) };
  return [
    { ...ring, work: 'files', syscall: 'io_uring_enter', codes: [...COMMON, 'EBUSY'], last: 20 },
    { ...ring, ...make, syscall: 'io_uring_setup' },
    { ...ring, ...make, syscall: 'mmap', codes: COMMON, on: RING },
    { ...ring, ...two, syscall: 'eventfd2' },
    { ...ring, ...make, last: 2, syscall: 'io_uring_register', codes: [...COMMON, 'EBUSY'] },
    { ...aio, work: 'files', syscall: 'io_submit', codes: COMMON, last: 20 },
    { ...aio, work: 'files', syscall: 'io_getevents', codes: COMMON, last: 20 },
    { ...aio, ...make, syscall: 'io_setup' },
    { ...aio, ...two, syscall: 'eventfd2' },
    { ...aio, ...make, last: 2, syscall: 'io_destroy', codes: COMMON, pool: 1 },
    { ...auto, work: 'files', syscall: 'io_uring_enter', codes: [...COMMON, 'EBUSY'], last: 20 },
    { ...auto, ...make, syscall: 'io_uring_setup' },
    { ...auto, ...make, syscall: 'mmap', codes: COMMON, on: RING },
    { ...auto, ...two, syscall: 'eventfd2' },
    { ...noRing, work: 'files', syscall: 'io_submit', codes: COMMON, last: 20 },
    { ...noRing, work: 'files', syscall: 'io_getevents', codes: COMMON, last: 20 },
    { ...noRing, ...make, syscall: 'io_setup' },
  ];
}

/** With a ring of its own in the runtime, what the event loop does there is not to be told from what is done here. */
const ALSO_OF_LIBUV = ['io_uring_setup', 'io_uring_enter', 'io_uring_register', 'mmap'];

export function rows(libuvHasRings: boolean): Row[] {
  const all = [...lowLevel(), ...fileLayer()];
  if (!libuvHasRings) return all;
  return all.filter(
    ({ work, syscall }) => syscall !== 'epoll_ctl' && !(work === 'workers' && ALSO_OF_LIBUV.includes(syscall)),
  );
}

function injection(row: Row, code: string, n: number): Injection {
  const { syscall, work, engine, forbidden, on } = row;
  const nth = row.nth?.(n) ?? n;
  const errno = constants.errno[code as keyof typeof constants.errno];
  const fault = { syscall, code, errno, nth };
  const calls = forbidden === undefined ? [syscall] : [syscall, forbidden];
  return {
    row,
    n,
    cell: { work, engine, fault, contexts: row.contexts?.(n) ?? 0 },
    options: [
      ...(on === undefined ? [] : ['-P', on]),
      ...['-e', `trace=${calls.join()}`, '-e', `inject=${syscall}:error=${code}:when=${nth}`],
      ...(forbidden === undefined
        ? []
        : ['-e', `inject=${forbidden}:error=EPERM${forbidden === 'io_uring_register' ? ':when=2+' : ''}`]),
    ],
  };
}

/** Every call up to the last, with every error. */
export function everything(row: Row): Injection[] {
  return row.codes.flatMap((code) => Array.from({ length: row.last }, (_, index) => injection(row, code, index + 1)));
}

/** One call for each error, of handles for two (closing takes long): others for each row, the same in each run. */
export function sample(row: Row, index: number): Injection[] {
  // As many contexts as that take their time, too.
  const calls = [1, 2, 3, 5, 8, 13, 20].filter((n) => n <= Math.min(row.last, row.work === 'contexts' ? 5 : Infinity));
  const codes = row.codes.map((_, at) => row.codes[(index + at) % row.codes.length] ?? '');
  const some = row.work === 'handles' ? codes.slice(0, 2) : codes;
  return some.map((code, at) => injection(row, code, calls[(index + at) % calls.length] ?? 1));
}
