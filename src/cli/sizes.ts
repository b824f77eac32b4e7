/** Sizes and times as people write them: `4k`, `256MiB`, `300ms`. */
import { quote, usageError } from './usage.ts';

const SIZE = /^(\d+(?:\.\d+)?) ?([kmgt]?)(?:i?b)?$/i;
const POWERS = ['', 'k', 'm', 'g', 't'];

const DURATION = /^(\d+(?:\.\d+)?) ?(ms|s|m|h)?$/i;
const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `4k` → 4096. Units are powers of 1024, as fio has them. `option` is for the message. */
export function parseSize(option: string, text: string): number {
  const [, digits, unit = ''] = SIZE.exec(text) ?? [];
  const bytes = Number(digits ?? Number.NaN) * 1024 ** POWERS.indexOf(unit.toLowerCase());
  if (!Number.isSafeInteger(bytes) || bytes < 1) {
    throw usageError(`${option} ${quote(text)} is no size: give bytes, or a number with k, m or g, such as 4k or 256m`);
  }
  return bytes;
}

/** `300ms` → 300. A plain number is seconds, as in fio. */
export function parseDuration(option: string, text: string): number {
  const [, digits, unit = 's'] = DURATION.exec(text) ?? [];
  const ms = Number(digits ?? Number.NaN) * (MILLISECONDS[unit.toLowerCase()] ?? Number.NaN);
  if (!(ms >= 1 && ms <= Number.MAX_SAFE_INTEGER)) {
    throw usageError(
      `${option} ${quote(text)} is no duration from 1ms up: give seconds, or a number with ms, s or m, such as 300ms`,
    );
  }
  return ms;
}

/** A whole number from `min` to `max`. `limit` says where the maximum comes from. */
export function parseCount(option: string, text: string, min: number, max: number, limit: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) {
    throw usageError(`${option} ${quote(text)} is out of range: give a whole number from ${min} to ${max} (${limit})`);
  }
  return value;
}

/**
 * `1,2,8` → [1, 2, 8]; `1..256` and `1,2,…,256` double from the one to the other. In ascending order, each once. `limit` says where the
 * maximum comes from.
 */
export function parseDepths(option: string, text: string, max: number, limit: string): number[] {
  const found = new Set<number>();
  // A range is a list with an ellipsis in it.
  const items = text
    .replace(/\.\.\.?|…/g, ',…,')
    .replace(/,{2,}/g, ',')
    .split(',');
  for (const [index, item] of items.entries()) {
    if (item !== '…') {
      found.add(parseCount(option, item, 1, max, limit));
      continue;
    }
    const [from, to] = [items[index - 1], items[index + 1]].map((each) =>
      /^\d+$/.test(each ?? '') ? Number(each) : 0,
    );
    if (from === undefined || to === undefined || from < 1 || to <= from) {
      throw usageError(
        `${option} ${quote(text)} is no list: give numbers, or two with .. between, which doubles, such as 1..256`,
      );
    }
    for (let depth = from * 2; depth < Math.min(to, max); depth *= 2) found.add(depth);
  }
  return [...found].sort((a, b) => a - b);
}

/** 4096 → `4 KiB`. */
export function formatSize(bytes: number): string {
  let power = 0;
  let value = bytes;
  while (value >= 1024 && power < POWERS.length - 1) {
    value /= 1024;
    power++;
  }
  const unit = power === 0 ? 'B' : `${(POWERS[power] ?? '').toUpperCase()}iB`;
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${unit}`;
}

/** 3000 → `3 s`, 250 → `0.25 s`. */
export function formatSeconds(ms: number): string {
  return `${Number((ms / 1000).toFixed(ms < 10_000 ? 2 : 0))} s`;
}
