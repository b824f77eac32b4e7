/**
 * Draws the plots of `fileaio bench --html`: runs in the page, after uPlot and the figures, which stand in it as JSON. The tables are there
 * without it.
 */

interface Point {
  readonly value: number;
  /** Of several rounds. */
  readonly least: number;
  readonly most: number;
}

interface Chart {
  readonly id: string;
  /** What stands at the y axis, with its unit. */
  readonly label: string;
  readonly logarithmic: boolean;
  readonly depths: readonly number[];
  /** For each depth a point, where it was measured. */
  readonly series: readonly { readonly engine: string; readonly points: readonly (Point | null)[] }[];
}

const charts = JSON.parse(document.getElementById('charts')?.textContent ?? '[]') as Chart[];

/** For each series: a colour of the style sheet, and a pattern for those who cannot tell colours apart. */
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** 1500 → `1.5k`. */
function compact(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  return value >= 1e4 ? `${Number((value / 1e3).toPrecision(3))}k` : `${Number(value.toPrecision(4))}`;
}

/** Whole powers of ten around them: what a logarithmic axis names. */
function decades(least: number, most: number): [number, number] {
  const from = Math.floor(Math.log10(least));
  return [10 ** from, 10 ** Math.max(Math.ceil(Math.log10(most)), from + 1)];
}

/** Lines from the least to the most of several rounds. */
function drawSpread(plot: uPlot, { series, depths }: Chart): void {
  const { ctx } = plot;
  ctx.save();
  ctx.lineWidth = 1.5 * devicePixelRatio;
  for (const [index, { points }] of series.entries()) {
    if (plot.series[index + 1]?.show === false) continue;
    ctx.strokeStyle = colour(`series-${index % 6}`);
    ctx.beginPath();
    for (const [at, point] of points.entries()) {
      if (point === null || point.least === point.most) continue;
      const x = plot.valToPos(depths[at] ?? 1, 'x', true);
      ctx.moveTo(x, plot.valToPos(point.least, 'y', true));
      ctx.lineTo(x, plot.valToPos(point.most, 'y', true));
    }
    ctx.stroke();
  }
  ctx.restore();
}

function draw(chart: Chart): void {
  const place = document.getElementById(chart.id);
  if (place === null) return;
  const { depths, series, logarithmic } = chart;
  const size = (): { width: number; height: number } => ({ width: Math.max(280, place.clientWidth), height: 320 });
  const most = Math.max(1e-9, ...series.flatMap(({ points }) => points.map((point) => point?.most ?? 0)));
  const values = series.flatMap(({ points }) => points.flatMap((point) => point?.least ?? []));
  const least = Math.max(1e-9, Math.min(...values));
  const axis: uPlot.Axis = {
    stroke: () => colour('text'),
    grid: { stroke: () => colour('grid'), width: 1 },
    ticks: { stroke: () => colour('grid'), width: 1 },
    font: '12px system-ui, sans-serif',
    labelFont: '13px system-ui, sans-serif',
    labelSize: 24,
  };
  const plot = new uPlot(
    {
      ...size(),
      scales: {
        x: { time: false, distr: 3, log: 2, range: [(depths[0] ?? 1) / 1.25, (depths.at(-1) ?? 1) * 1.25] },
        y: logarithmic ? { distr: 3, log: 10, range: decades(least, most) } : { range: [0, most * 1.06] },
      },
      axes: [
        {
          ...axis,
          size: 36,
          label: 'iodepth (transfers in flight)',
          // What was measured, and nothing in between. Two that would touch are not both named.
          splits: () => [...depths],
          filter: (_, splits) => splits.map((depth, index) => (isApart(splits, index) ? depth : null)),
          values: (_, splits) => splits.map((depth) => (depth === null ? '' : `${depth}`)),
        },
        {
          ...axis,
          label: chart.label,
          size: 64,
          values: (_, splits) => splits.map((value) => (value === null ? '' : compact(value))),
        },
      ],
      series: [
        { label: 'iodepth', value: (_, value) => (value === null ? '' : `${value}`) },
        ...series.map(
          ({ engine }, index): uPlot.Series => ({
            label: engine,
            stroke: () => colour(`series-${index % 6}`),
            width: 2,
            dash: DASHES[index % DASHES.length] ?? [],
            points: { show: true, size: 7, stroke: () => colour(`series-${index % 6}`), fill: () => colour('page') },
            value: (_, value) => (value === null ? '' : compact(value)),
          }),
        ),
      ],
      legend: { markers: { fill: (_, index) => colour(`series-${(index - 1) % 6}`) } },
      cursor: { points: { size: 9 }, drag: { x: false, y: false } },
      hooks: { draw: [(self) => drawSpread(self, chart)] },
    },
    [[...depths], ...series.map(({ points }) => points.map((point) => point?.value ?? null))],
    place,
  );
  // The colours are the style sheet's, which has others in the dark.
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => plot.redraw(false, true));
  new ResizeObserver(() => {
    if (place.clientWidth !== plot.width) plot.setSize(size());
  }).observe(place);
}

/** On a logarithmic axis with room for some twelve numbers. */
function isApart(depths: readonly (number | null)[], index: number): boolean {
  const known = depths.filter((depth) => depth !== null);
  const octaves = Math.log2((known.at(-1) ?? 1) / (known[0] ?? 1));
  const room = Math.max(octaves / 12, 0.01);
  const depth = depths[index] ?? 1;
  const before = index === 0 ? 0 : (depths[index - 1] ?? 0);
  return index === 0 || Math.log2(depth / before) >= room;
}

for (const chart of charts) draw(chart);

export {};
