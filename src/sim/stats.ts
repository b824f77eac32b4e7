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
  /** Of the device: 0. */
  readonly dev = 0;
  /** Of the file: it keeps the number under other names. */
  readonly ino: number;
  /** Kind and permissions. */
  readonly mode: number;
  /** Names: 1. */
  readonly nlink = 1;
  /** Owner: 0. */
  readonly uid = 0;
  /** Group: 0. */
  readonly gid = 0;
  /** Of a device file, which there are none of: 0. */
  readonly rdev = 0;
  /** In bytes; 0 for a directory. */
  readonly size: number;
  /** For I/O, in bytes. */
  readonly blksize = BLOCK_BYTES;
  /** Of 512 bytes each, that hold data: holes take none. */
  readonly blocks: number;
  /** As `mtimeMs`. */
  readonly atimeMs: number;
  /** Of the last change, in milliseconds of virtual time. */
  readonly mtimeMs: number;
  /** As `mtimeMs`. */
  readonly ctimeMs: number;
  /** Always 0. */
  readonly birthtimeMs = 0;
  /** As `mtime`. */
  readonly atime: Date;
  /** Of the last change, in virtual time from 1970 on. */
  readonly mtime: Date;
  /** As `mtime`. */
  readonly ctime: Date;
  /** 1970. */
  readonly birthtime = new Date(0);

  /** @internal */
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

  /** Whether it is a regular file. */
  isFile(): boolean {
    return (Number(this.mode) & S_IFMT) === S_IFREG;
  }

  /** Whether it is a directory. */
  isDirectory(): boolean {
    return (Number(this.mode) & S_IFMT) === S_IFDIR;
  }

  /** `false`: there are none. */
  isBlockDevice(): boolean {
    return false;
  }

  /** `false`: there are none. */
  isCharacterDevice(): boolean {
    return false;
  }

  /** `false`: there are none. */
  isSymbolicLink(): boolean {
    return false;
  }

  /** `false`: there are none. */
  isFIFO(): boolean {
    return false;
  }

  /** `false`: there are none. */
  isSocket(): boolean {
    return false;
  }
}
