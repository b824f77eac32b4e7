/** The page that `fileaio bench --html` writes: one file, which needs nothing else, and asks nobody for anything. */
import { readFileSync } from 'node:fs';
import { type Change, type Delta, formatDelta, noiseLine } from './baseline.ts';
import type { BenchDocument, ResultDocument, RoundDocument } from './report.ts';
import { formatSeconds, formatSize } from './sizes.ts';

/** One figure of every engine at every depth: a plot, with a table beside it. */
interface Metric {
  readonly id: string;
  readonly title: string;
  readonly label: string;
  readonly digits: number;
  readonly logarithmic: boolean;
  readonly of: (result: ResultDocument) => number;
  /** Where rounds have it. */
  readonly ofRound?: (round: RoundDocument) => number;
}

const METRICS: readonly Metric[] = [
  {
    id: 'iops',
    title: 'IOPS',
    label: 'IOPS (transfers/s)',
    digits: 0,
    logarithmic: false,
    of: ({ iops }) => iops,
    ofRound: ({ iops }) => iops,
  },
  {
    id: 'bandwidth',
    title: 'Bandwidth',
    label: 'bandwidth (MiB/s)',
    digits: 1,
    logarithmic: false,
    of: ({ mibPerSecond }) => mibPerSecond,
    ofRound: ({ mibPerSecond }) => mibPerSecond,
  },
  {
    id: 'p50',
    title: 'Latency, median',
    label: 'p50 latency (µs)',
    digits: 1,
    logarithmic: true,
    of: ({ latencyUs }) => latencyUs.p50,
    ofRound: ({ latencyUs }) => latencyUs.p50,
  },
  {
    id: 'p99',
    title: 'Latency, 99th percentile',
    label: 'p99 latency (µs)',
    digits: 1,
    logarithmic: true,
    of: ({ latencyUs }) => latencyUs.p99,
    ofRound: ({ latencyUs }) => latencyUs.p99,
  },
  {
    id: 'p999',
    title: 'Latency, 99.9th percentile',
    label: 'p99.9 latency (µs)',
    digits: 1,
    logarithmic: true,
    of: ({ latencyUs }) => latencyUs.p999,
  },
  {
    id: 'cpu',
    title: 'Processor time',
    label: 'CPU per transfer (µs)',
    digits: 2,
    logarithmic: false,
    of: ({ cpuUsPerTransfer }) => cpuUsPerTransfer,
  },
];

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => ENTITIES[char] ?? char);
}

/** JSON that cannot end the script that it stands in. */
function embed(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}

/** What the build put beside the compiled library: from src/cli and from dist/cli it is the same way. */
function asset(name: string): string {
  return readFileSync(new URL(`../../dist/cli/report/${name}`, import.meta.url), 'utf8');
}

/** 12345.678 → `12 345.7`, with the exact value for programs. */
function figure(value: number, digits: number): string {
  const [whole = '', fraction] = value.toFixed(digits).split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, '\u202f');
  return `<data value="${value}">${grouped}${fraction === undefined ? '' : `.${fraction}`}</data>`;
}

function row(cells: readonly string[], tag: 'td' | 'th' = 'td'): string {
  const [first = '', ...others] = cells;
  const scope = tag === 'th' ? 'col' : 'row';
  return `<tr><th class="left" scope="${scope}">${first}</th>${others.map((cell) => (tag === 'th' ? `<th scope="col">${cell}</th>` : `<td>${cell}</td>`)).join('')}</tr>`;
}

function table(id: string, headings: readonly string[], rows: readonly (readonly string[])[]): string {
  return `<div class="scroll"><table id="${id}"><thead>${row(headings, 'th')}</thead><tbody>\n${rows.map((cells) => row(cells)).join('\n')}\n</tbody></table></div>`;
}

/** `2026-11-27 15:37 UTC`, of what is ISO 8601. */
function formatDate(iso: string): string {
  return iso.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):[\d.]+Z$/, '$1 $2 UTC');
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)];
}

function section(metric: Metric, { results }: BenchDocument): string {
  const engines = unique(results.map(({ engine }) => engine));
  const depths = unique(results.map(({ iodepth }) => iodepth));
  const rows = depths.map((depth) => [
    `${depth}`,
    ...engines.map((name) => {
      const found = results.find(({ engine, iodepth }) => engine === name && iodepth === depth);
      return found === undefined ? '–' : figure(metric.of(found), metric.digits);
    }),
  ]);
  return `<section><h2>${escapeHtml(metric.title)}</h2><div class="measure">
<div class="plot" id="plot-${metric.id}"></div>
${table(`table-${metric.id}`, ['iodepth', ...engines.map((name) => escapeHtml(name).replace('/', '/<wbr>'))], rows)}
</div></section>`;
}

/** As report/charts.ts takes it. */
function chartOf(metric: Metric, { results }: BenchDocument): object {
  const depths = unique(results.map(({ iodepth }) => iodepth));
  const series = unique(results.map(({ engine }) => engine)).map((name) => ({
    engine: name,
    points: depths.map((depth) => {
      const found = results.find(({ engine, iodepth }) => engine === name && iodepth === depth);
      if (found === undefined) return null;
      const value = metric.of(found);
      const rounds =
        metric.ofRound === undefined || found.rounds.length < 2 ? [value] : found.rounds.map(metric.ofRound);
      return { value, least: Math.min(...rounds), most: Math.max(...rounds) };
    }),
  }));
  return { id: `plot-${metric.id}`, label: metric.label, logarithmic: metric.logarithmic, depths, series };
}

function facts(document: BenchDocument): string {
  const { options } = document;
  const list: readonly (readonly [string, string])[] = [
    [
      'measured',
      `${options.rw}, blocks of ${formatSize(options.bs)}, ${options.direct ? 'O_DIRECT' : 'through the page cache'}, ${times(document)}`,
    ],
    [
      'file',
      `${formatSize(options.size)} of ${document.temporary ? 'a temporary file' : document.file}: ${document.medium}`,
    ],
    ['processor', `${document.cpus} × ${document.cpu === '' ? document.arch : document.cpu}`],
    ['memory', formatSize(document.memoryBytes)],
    ['kernel', `${document.kernel} (${document.arch})`],
    ['Node.js', `${document.node}, ${document.poolThreads} pool threads`],
    ['fileaio', document.version],
    ['date', formatDate(document.date)],
  ];
  const lines = list.map(([name, value]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(value)}</dd>`);
  return `<dl class="facts">\n${lines.join('\n')}\n<dt>command</dt><dd><code>${escapeHtml(document.command)}</code></dd>\n</dl>`;
}

function times({ options, interrupted }: BenchDocument): string {
  const rounds = options.rounds === 1 ? '' : `, in ${options.rounds} rounds`;
  return `${formatSeconds(options.runtimeMs)} each${rounds}${interrupted ? ', interrupted' : ''}`;
}

function allFigures({ results }: BenchDocument): string {
  const headings = [
    'engine',
    'iodepth',
    'IOPS',
    'MiB/s',
    'p50 µs',
    'p99 µs',
    'p99.9 µs',
    'max µs',
    'mean µs',
    'CPU µs',
    'ratio',
    'transfers',
  ];
  const rows = results.map(({ engine, iodepth, latencyUs, ...result }) => [
    escapeHtml(engine),
    `${iodepth}`,
    figure(result.iops, 0),
    figure(result.mibPerSecond, 1),
    ...[latencyUs.p50, latencyUs.p99, latencyUs.p999, latencyUs.max, latencyUs.mean].map((us) => figure(us, 1)),
    figure(result.cpuUsPerTransfer, 2),
    result.ratio === null ? '–' : figure(result.ratio, 2),
    figure(result.transfers, 0),
  ]);
  return `<section><h2>All figures</h2>
<p class="quiet">CPU is processor time of the process for each transfer; ratio is to the IOPS of node:fs/promises at the same depth.</p>
${table('figures', headings, rows)}</section>`;
}

function changesOf({ baseline }: BenchDocument): string {
  if (baseline === undefined) return '';
  const cell = (delta: Delta, moreIsBetter: boolean): string => {
    const better = delta.percent > 0 === moreIsBetter;
    const look = delta.noise === true || delta.percent === 0 ? 'quiet' : better ? 'good' : 'bad';
    return `<data class="${look}" value="${delta.percent}">${escapeHtml(formatDelta(delta))}</data>`;
  };
  const rows = baseline.changes.map(({ engine, iodepth, iops, mibPerSecond, p50Us, p99Us }: Change) => [
    escapeHtml(engine),
    `${iodepth}`,
    cell(iops, true),
    cell(mibPerSecond, true),
    cell(p50Us, false),
    cell(p99Us, false),
  ]);
  const notes = [
    noiseLine(baseline.changes),
    ...baseline.differences.map((difference) => `Not the same as it was: ${difference}`),
    ...(baseline.onlyBefore.length > 0 ? [`Measured then only: ${baseline.onlyBefore.join(', ')}`] : []),
    ...(baseline.onlyNow.length > 0 ? [`Measured now only: ${baseline.onlyNow.join(', ')}`] : []),
  ];
  return `<section><h2>Changes since ${escapeHtml(baseline.file)}${baseline.date === null ? '' : ` of ${escapeHtml(formatDate(baseline.date))}`}</h2>
${table('changes', ['engine', 'iodepth', 'IOPS', 'MiB/s', 'p50', 'p99'], rows)}
${notes.map((note) => `<p class="quiet">${escapeHtml(note)}</p>`).join('\n')}</section>`;
}

/** The whole page. The policy in it forbids any request, so that none can come in by mistake. */
export function htmlPage(document: BenchDocument): string {
  const measured = document.results.length > 0;
  const charts = METRICS.map((metric) => chartOf(metric, document));
  const sections = measured ? METRICS.map((metric) => section(metric, document)) : ['<p>Nothing was measured.</p>'];
  const spread = document.options.rounds > 1 ? ' Vertical lines reach from the least to the most of the rounds.' : '';
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>fileaio bench: ${escapeHtml(document.options.rw)}, ${escapeHtml(formatSize(document.options.bs))}</title>
<style>
${asset('uPlot.min.css')}
${asset('style.css')}
</style>
</head>
<body>
<h1>fileaio bench</h1>
<p class="quiet">The engines beside node:fs/promises, by the number of transfers in flight.${spread}</p>
${facts(document)}
${sections.join('\n')}
${changesOf(document)}
${measured ? allFigures(document) : ''}
<script type="application/json" id="document">${embed(document)}</script>
<script type="application/json" id="charts">${embed(measured ? charts : [])}</script>
<!-- The plots are drawn by uPlot:
${asset('uPlot.LICENSE')}-->
<script>
${asset('uPlot.iife.min.js')}
</script>
<script type="module">
${asset('charts.js')}
</script>
</body>
</html>
`;
}
