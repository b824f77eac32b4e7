/** What a file lies on, for people: a figure without its medium says nothing. */
import { readFileSync, realpathSync, type Stats, statfsSync } from 'node:fs';

/** `st_rdev` → `254:0`. Linux has 12 bits of major and 20 of minor numbers, spread as makedev(3) does it. */
function deviceNumber(rdev: number): string {
  const word = rdev % 2 ** 32;
  return `${(word >>> 8) & 0xfff}:${(word & 0xff) | ((word >>> 12) & 0xfff00)}`;
}

/** The size of a block device in bytes, or `undefined`: its stat has none. */
export function deviceSize(stat: Stats): number | undefined {
  // In units of 512 bytes, whatever the device's own sectors are.
  const sectors = Number(read(`/sys/dev/block/${deviceNumber(stat.rdev)}/size`) ?? Number.NaN);
  return Number.isSafeInteger(sectors * 512) ? sectors * 512 : undefined;
}

function read(path: string): string | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** `ext4 on /dev/vda`, `tmpfs`, `block device /dev/loop0 (loop device)`. */
export function mediumOf(path: string, stat: Stats): string {
  if (stat.isBlockDevice()) {
    const device = `/sys/dev/block/${deviceNumber(stat.rdev)}`;
    const name = /^DEVNAME=(.+)$/m.exec(read(`${device}/uevent`) ?? '')?.[1];
    return `block device ${name === undefined ? deviceNumber(stat.rdev) : `/dev/${name}`}${loopNote(name)}`;
  }
  const mount = mountOf(path);
  if (mount === undefined) return `file system of type 0x${typeNumber(path)}`;
  const isDevice = mount.source.startsWith('/dev/');
  return isDevice ? `${mount.type} on ${mount.source}${loopNote(mount.source.slice(5))}` : mount.type;
}

function loopNote(name: string | undefined): string {
  return name?.startsWith('loop') ? ' (loop device)' : '';
}

function typeNumber(path: string): string {
  try {
    return statfsSync(path).type.toString(16);
  } catch {
    return '0';
  }
}

/** The mount that a path lies on: the longest mount point above it, the last one where several are at one place. */
function mountOf(path: string): { type: string; source: string } | undefined {
  const real = realPath(path);
  if (real === undefined) return undefined;
  let found: { type: string; source: string; length: number } | undefined;
  for (const line of (read('/proc/self/mountinfo') ?? '').split('\n')) {
    // See proc_pid_mountinfo(5): optional fields, of which there may be none, end with a hyphen.
    const [left, right] = line.split(' - ');
    const point = decodeOctal(left?.split(' ')[4] ?? '');
    const [type, source] = right?.split(' ') ?? [];
    if (point === '' || type === undefined || source === undefined) continue;
    if (isBelow(real, point) && point.length >= (found?.length ?? 0)) {
      found = { type, source: decodeOctal(source), length: point.length };
    }
  }
  return found;
}

/** `undefined` where it cannot be written down: it is not UTF-8, or longer than any path may be. */
function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

function isBelow(path: string, point: string): boolean {
  return path === point || point === '/' || path.startsWith(`${point}/`);
}

/** Blanks and the like are written as octal numbers there. */
function decodeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
