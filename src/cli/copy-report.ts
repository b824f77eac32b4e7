/** What was copied, for people and for programs. */
import { release } from 'node:os';
import type { EngineName } from '../index.ts';
import type { CopyOptions, Sparse } from './copy-options.ts';
import { formatSeconds, formatSize } from './sizes.ts';
import { quote } from './usage.ts';
import { version } from './version.ts';

/** A copy that was made. */
export interface Copied {
  /** The length of the copy. */
  readonly bytes: number;
  /** How many of them were not written, since they are zeros without room on the disk. */
  readonly holes: number;
  /** What became of zeros. */
  readonly sparse: Sparse;
  /** Whether it has the mode and times of SRC. */
  readonly preserved: boolean;
  /** From the first look at SRC until DST was in its place, on the disk. */
  readonly seconds: number;
  readonly engine: EngineName;
  /** Transfers in flight, at most. */
  readonly depth: number;
  /** Past the page cache: how SRC was read, and DST written. */
  readonly direct: { readonly source: boolean; readonly destination: boolean };
  /** `undefined`: not asked for. */
  readonly verified: 'past the page cache' | 'through the page cache' | undefined;
  /** What is worth knowing, in sentences. */
  readonly notes: readonly string[];
  /** Bytes that SRC had more at the end than at the beginning: they are not in the copy. */
  readonly sourceGrewBy: number;
  /** Whether somebody wrote to SRC meanwhile: the copy may be of no single moment. */
  readonly sourceChanged: boolean;
}

function mibPerSecond({ bytes, holes, seconds }: Copied): number {
  return (bytes - holes) / seconds / 1024 ** 2;
}

/** One line, as dd ends with it. */
export function line(copied: Copied): string {
  const { bytes, holes, seconds, verified } = copied;
  const size = bytes < 1024 ? `${bytes} bytes` : `${formatSize(bytes)} (${bytes} bytes)`;
  const parts = [`${size} copied in ${formatSeconds(seconds * 1000)}`, `${mibPerSecond(copied).toFixed(1)} MiB/s`];
  if (holes > 0) parts.push(`${formatSize(holes)} of holes kept`);
  if (verified !== undefined) parts.push(`verified ${verified}`);
  return `${parts.join(', ')}\n`;
}

/** To a thousandth of a MiB/s, to a microsecond: more digits would only be noise. */
function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** The same as JSON, and how it was done. */
export function json(options: CopyOptions, copied: Copied): string {
  const { bytes, holes, seconds, engine, depth, direct, verified } = copied;
  const { sparse, preserved, sourceGrewBy, sourceChanged } = copied;
  const document = {
    version: version(),
    kernel: release(),
    node: process.version,
    source: options.source,
    destination: options.destination,
    bytes,
    holes,
    seconds: round(seconds, 6),
    mibPerSecond: round(mibPerSecond(copied), 3),
    engine,
    direct: direct.source && direct.destination,
    directSource: direct.source,
    directDestination: direct.destination,
    bs: options.blockSize,
    iodepth: depth,
    sparse,
    preserved,
    verified: verified !== undefined,
    verifiedPastCache: verified === 'past the page cache',
    sourceGrewBy,
    sourceChanged,
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** `1 GiB from "a" to "b"`. */
export function errand(size: number | undefined, options: CopyOptions): string {
  return `${size === undefined ? '' : `${formatSize(size)} `}from ${quote(options.source)} to ${quote(options.destination)}`;
}
