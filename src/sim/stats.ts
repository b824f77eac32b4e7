/** What stat says of a simulated file, in the shape of Node's Stats. */
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;

const BLOCK_BYTES = 4096;
const UNIT_BYTES = 512;

export interface Facts {
  readonly inode: number;
  readonly isDirectory: boolean;
  readonly permissions: number;
  readonly size: number;
  /** In bytes. */
  readonly allocated: number;
  readonly changedMs: number;
}

/** The members of Node's Stats. Times are virtual, from 1970 on; user, group and device are 0. */
export class SimulatedStats {
  readonly dev = 0;
  readonly ino: number;
  readonly mode: number;
  readonly nlink = 1;
  readonly uid = 0;
  readonly gid = 0;
  readonly rdev = 0;
  readonly size: number;
  readonly blksize = BLOCK_BYTES;
  readonly blocks: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs = 0;
  readonly atime: Date;
  readonly mtime: Date;
  readonly ctime: Date;
  readonly birthtime = new Date(0);

  constructor({ inode, isDirectory, permissions, size, allocated, changedMs }: Facts) {
    this.ino = inode;
    this.mode = (isDirectory ? S_IFDIR : S_IFREG) | permissions;
    this.size = size;
    this.blocks = Math.ceil(allocated / UNIT_BYTES);
    this.atimeMs = this.mtimeMs = this.ctimeMs = changedMs;
    this.atime = new Date(changedMs);
    this.mtime = new Date(changedMs);
    this.ctime = new Date(changedMs);
  }

  /** The same with bigints, and times in nanoseconds too. */
  toBigInt(): object {
    const big = Object.create(Object.getPrototypeOf(this)) as Record<string, unknown>;
    for (const [name, value] of Object.entries(this)) {
      big[name] = typeof value === 'number' ? BigInt(Math.floor(value)) : value;
      if (typeof value === 'number' && name.endsWith('Ms')) {
        big[name.replace('Ms', 'Ns')] = BigInt(Math.round(value * 1000)) * 1000n;
      }
    }
    return big;
  }

  isFile(): boolean {
    return (Number(this.mode) & S_IFMT) === S_IFREG;
  }

  isDirectory(): boolean {
    return (Number(this.mode) & S_IFMT) === S_IFDIR;
  }

  isBlockDevice(): boolean {
    return false;
  }

  isCharacterDevice(): boolean {
    return false;
  }

  isSymbolicLink(): boolean {
    return false;
  }

  isFIFO(): boolean {
    return false;
  }

  isSocket(): boolean {
    return false;
  }
}
