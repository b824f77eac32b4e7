/**
 * Directories: names, and the journal through which they get to the medium. Operations on names are atomic and in order; those since
 * the last flush of their directory may be lost, the latest first.
 */
import { posix } from 'node:path';
import { errnoOf, nodeError } from '../errors.ts';
import type { SimulatedRandom } from './random.ts';
import type { SimulatedFile } from './simulated-file.ts';

export class SimulatedDirectory {
  readonly id: number;
  changedMs = 0;
  mode = 0o755;

  constructor(id: number) {
    this.id = id;
  }
}

export type Inode = SimulatedFile | SimulatedDirectory;

type Step =
  | { readonly kind: 'add'; readonly path: string; readonly inode: Inode }
  | { readonly kind: 'remove'; readonly path: string }
  | { readonly kind: 'rename'; readonly path: string; readonly to: string };

/** In the journal: what was done, and in which directories. */
interface Entry {
  readonly step: Step;
  readonly directories: readonly Inode[];
}

function apply(names: Map<string, Inode>, step: Step): void {
  if (step.kind === 'add') {
    names.set(step.path, step.inode);
  } else if (step.kind === 'remove') {
    names.delete(step.path);
  } else {
    const moved = [...names].filter(([path]) => path === step.path || path.startsWith(`${step.path}/`));
    for (const [path] of moved) names.delete(path);
    for (const [path, inode] of moved) names.set(step.to + path.slice(step.path.length), inode);
  }
}

const ENOENT = errnoOf('ENOENT', 2);
const EEXIST = errnoOf('EEXIST', 17);
const ENOTDIR = errnoOf('ENOTDIR', 20);
const EISDIR = errnoOf('EISDIR', 21);
const EINVAL = errnoOf('EINVAL', 22);
const ENOTEMPTY = errnoOf('ENOTEMPTY', 39);
const EBUSY = errnoOf('EBUSY', 16);

export class Names {
  #current = new Map<string, Inode>();
  #durable = new Map<string, Inode>();
  #journal: Entry[] = [];

  constructor(root: SimulatedDirectory) {
    this.#current.set('/', root);
    this.#durable.set('/', root);
  }

  /** From the root, without `.`, `..` and slashes that say nothing. */
  static normalize(path: string): string {
    return posix.resolve('/', path);
  }

  get(path: string): Inode | undefined {
    return this.#current.get(path);
  }

  /** Every inode that has a name, each once. */
  inodes(): Set<Inode> {
    return new Set(this.#current.values());
  }

  /** Of an inode, for people; its last name may be gone. */
  pathOf(inode: Inode): string {
    for (const [path, named] of this.#current) if (named === inode) return path;
    return '(unlinked)';
  }

  need(path: string, syscall: string): Inode {
    const inode = this.#current.get(path);
    if (inode !== undefined) return inode;
    this.#parent(path, syscall);
    throw nodeError(-ENOENT, syscall, path);
  }

  #parent(path: string, syscall: string, shown = path): SimulatedDirectory {
    const up = posix.dirname(path);
    const parent = this.#current.get(up);
    if (parent instanceof SimulatedDirectory) return parent;
    if (parent !== undefined) throw nodeError(-ENOTDIR, syscall, shown);
    if (up !== '/') this.#parent(up, syscall, shown);
    throw nodeError(-ENOENT, syscall, shown);
  }

  #do(step: Step, ...directories: Inode[]): void {
    apply(this.#current, step);
    this.#journal.push({ step, directories });
  }

  /** For a path that has no inode yet. */
  add(path: string, inode: Inode, syscall: string): void {
    const parent = this.#parent(path, syscall);
    if (this.#current.has(path)) throw nodeError(-EEXIST, syscall, path);
    this.#do({ kind: 'add', path, inode }, parent);
  }

  remove(path: string, directory: boolean, syscall: string): void {
    const inode = this.need(path, syscall);
    if (inode instanceof SimulatedDirectory !== directory) {
      throw nodeError(directory ? -ENOTDIR : -EISDIR, syscall, path);
    }
    if (path === '/') throw nodeError(-EBUSY, syscall, path);
    if (directory && this.list(path).length > 0) throw nodeError(-ENOTEMPTY, syscall, path);
    this.#do({ kind: 'remove', path }, this.#parent(path, syscall));
  }

  rename(from: string, to: string): void {
    const inode = this.need(from, 'rename');
    const target = this.#current.get(to);
    if (target === inode) return;
    if (from === '/' || to === '/') throw nodeError(-EBUSY, 'rename', from, to);
    if (to.startsWith(`${from}/`)) throw nodeError(-EINVAL, 'rename', from, to);
    const parent = this.#parent(to, 'rename');
    if (target instanceof SimulatedDirectory) {
      if (!(inode instanceof SimulatedDirectory)) throw nodeError(-EISDIR, 'rename', from, to);
      if (this.list(to).length > 0) throw nodeError(-ENOTEMPTY, 'rename', from, to);
    } else if (target !== undefined && inode instanceof SimulatedDirectory) {
      throw nodeError(-ENOTDIR, 'rename', from, to);
    }
    this.#do({ kind: 'rename', path: from, to }, this.#parent(from, 'rename'), parent);
  }

  list(path: string): string[] {
    if (!(this.need(path, 'scandir') instanceof SimulatedDirectory)) throw nodeError(-ENOTDIR, 'scandir', path);
    const prefix = path === '/' ? '/' : `${path}/`;
    return [...this.#current.keys()]
      .filter((each) => each.length > prefix.length && each.startsWith(prefix) && !each.includes('/', prefix.length))
      .map((each) => each.slice(prefix.length))
      .sort();
  }

  /** How far the journal has to be written for all that was done by now in a directory. */
  mark(directory: Inode): Entry | undefined {
    return this.#journal.findLast(({ directories }) => directories.includes(directory));
  }

  /** Writes the journal up to a mark: it is written in order, so that what stands before it comes along. */
  flush(mark: Entry | undefined): void {
    const count = mark === undefined ? 0 : this.#journal.indexOf(mark) + 1;
    for (const { step } of this.#journal.splice(0, count)) apply(this.#durable, step);
  }

  /** Returns how many operations were lost: those after a point of the journal. */
  losePower(random: SimulatedRandom): number {
    const written = this.#journal.length === 0 ? 0 : random.below(this.#journal.length + 1);
    const lost = this.#journal.length - written;
    for (const { step } of this.#journal.slice(0, written)) apply(this.#durable, step);
    this.#journal = [];
    this.#current = new Map(this.#durable);
    return lost;
  }

  /** Puts a name where there is none, and the directories on the way to it, on the medium at once. */
  plant(path: string, inode: Inode, makeDirectory: () => SimulatedDirectory): void {
    const up = posix.dirname(path);
    const parent = this.#current.get(up);
    if (parent !== undefined && !(parent instanceof SimulatedDirectory)) throw nodeError(-ENOTDIR, 'open', path);
    if (this.#current.has(path)) throw nodeError(-EEXIST, 'open', path);
    if (parent === undefined) this.plant(up, makeDirectory(), makeDirectory);
    this.#current.set(path, inode);
    this.#durable.set(path, inode);
  }
}

export type JournalMark = Entry | undefined;
