/** Whether a series of measurements grows, whatever single ones do: by the slopes between all pairs of them (Theil and Sen). */

export interface Trend {
  /** Over the whole series, by the median slope. */
  readonly growth: number;
  /** The least growth that the series speaks for (99 %, one-sided, by Kendall's variance): above 0 only where it does grow. */
  readonly certain: number;
}

/** More points than these are averaged (by their median) in equal parts: pairs grow with the square. */
const MOST_POINTS = 200;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? 0)) / 2;
}

function condensed(values: readonly number[]): number[] {
  if (values.length <= MOST_POINTS) return [...values];
  return Array.from({ length: MOST_POINTS }, (_, part) => {
    const from = Math.floor((part * values.length) / MOST_POINTS);
    const to = Math.floor(((part + 1) * values.length) / MOST_POINTS);
    return median(values.slice(from, to));
  });
}

/** Of values that were taken at equal distances. */
export function trendOf(values: readonly number[]): Trend {
  const points = condensed(values);
  const count = points.length;
  if (count < 3) return { growth: 0, certain: 0 };
  const slopes = new Float64Array((count * (count - 1)) / 2);
  let at = 0;
  for (let right = 1; right < count; right++) {
    for (let left = 0; left < right; left++) {
      slopes[at++] = ((points[right] ?? 0) - (points[left] ?? 0)) / (right - left);
    }
  }
  slopes.sort();
  const spread = 2.326 * Math.sqrt((count * (count - 1) * (2 * count + 5)) / 18);
  const low = Math.max(Math.floor((slopes.length - spread) / 2), 0);
  const growth = median([slopes[(slopes.length - 1) >> 1] ?? 0, slopes[slopes.length >> 1] ?? 0]) * (count - 1);
  return { growth, certain: (slopes[low] ?? 0) * (count - 1) };
}
