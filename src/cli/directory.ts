/** A directory that is held on to, whatever its path means by now. */
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';

/** For the directories of names only: needs no right to read them. The same on every architecture that Node runs on. */
const O_PATH = 0o10000000;

/**
 * Somebody who may rename one of the directories on the way to a file can let its path lead elsewhere, between two calls that are given the
 * path. What is made, renamed or removed through a descriptor stays in the directory that was found first. Node has no openat(2): the same
 * is had through /proc. Where there is none, it is the path after all.
 */
export class Directory {
  readonly #path: string;
  readonly #fd: number | undefined;

  /** @throws as open(2): `ENOENT`, `ENOTDIR`, `EACCES`, … */
  constructor(path: string) {
    if (process.platform !== 'linux') {
      this.#path = path;
      return;
    }
    const fd = openSync(path, O_PATH | constants.O_DIRECTORY);
    const held = `/proc/self/fd/${fd}`;
    if (existsSync(held)) {
      this.#path = held;
      this.#fd = fd;
    } else {
      closeSync(fd);
      this.#path = path;
    }
  }

  /** What a name in it is opened, renamed and removed by. */
  entry(name: string): string {
    return name === '' ? `${this.#path}/` : join(this.#path, name);
  }

  /** Opens it to be flushed. */
  open(): number {
    return openSync(this.#path, constants.O_RDONLY | constants.O_DIRECTORY);
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
  }
}
