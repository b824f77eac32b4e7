/** `fileaio bench` over several depths and rounds: the page that it makes, in a real browser, and what changed since another run. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { compare, formatDelta, regressionLine } from '../src/cli/baseline.ts';
import { parseBench } from '../src/cli/bench-options.ts';
import { htmlPage } from '../src/cli/html.ts';
import type { BenchDocument, ResultDocument } from '../src/cli/report.ts';
import { parseDepths } from '../src/cli/sizes.ts';
import { privateTmp, runCli } from './run-cli.ts';
import { root } from './snippets.ts';
import { child, scratch } from './support.ts';

const QUICK = ['--engine', 'threads', '--runtime', '40ms', '--size', '1m'];

function documentIn(file: string): BenchDocument {
  return JSON.parse(readFileSync(file, 'utf8')) as BenchDocument;
}

/** Figures as a run makes them, for what needs no run. */
function result(engine: string, iodepth: number, ...iops: readonly number[]): ResultDocument {
  const mean = iops.reduce((sum, each) => sum + each, 0) / iops.length;
  const latencyUs = { p50: 1e6 / mean, p99: 2e6 / mean, p999: 3e6 / mean, max: 4e6 / mean, mean: 1e6 / mean };
  return {
    engine,
    iodepth,
    iops: mean,
    mibPerSecond: mean / 256,
    latencyUs,
    cpuUsPerTransfer: 3,
    transfers: 1000,
    bytes: 4096000,
    seconds: 1,
    ratio: 1,
    rounds: iops.map((each) => ({
      iops: each,
      mibPerSecond: each / 256,
      latencyUs: { p50: 1e6 / each, p99: 2e6 / each },
    })),
  };
}

describe('--iodepth takes', () => {
  const depths = (text: string, max = 32768): number[] => parseDepths('--iodepth', text, max, 'for a reason');

  test('a number, a list, and ranges that double', () => {
    assert.deepEqual(depths('32'), [32]);
    assert.deepEqual(depths('8,1,64,8'), [1, 8, 64]);
    const doubling = [1, 2, 4, 8, 16, 32, 64, 128, 256];
    for (const text of ['1..256', '1...256', '1…256', '1,2,4,…,256', '1,2,4,...,256', '1,..,256']) {
      assert.deepEqual(depths(text), doubling, text);
    }
    assert.deepEqual(depths('3..20'), [3, 6, 12, 20]);
    assert.deepEqual(depths('1..4,100'), [1, 2, 4, 100]);
  });

  test('nothing else', () => {
    for (const text of ['', '0', '-1', '1,', ',1', 'x', '1..', '..8', '8..1', '8..8', '1..x', '1.5', '1,…', '1..2..']) {
      assert.throws(() => depths(text), { name: 'CliError', exitCode: 2 }, text);
    }
    assert.throws(() => depths('1..40000'), /from 1 to 32768 \(for a reason\)/);
  });
});

describe('a sweep', () => {
  let document: BenchDocument;
  let html: string;
  let stdout: string;

  before(async () => {
    const directory = scratch({ after });
    const [jsonFile, htmlFile] = [join(directory, 'new.json'), join(directory, "a page's.html")];
    const args = ['bench', ...QUICK, '--iodepth', '1..4', '--rounds', '2', '--json', jsonFile, '--html', htmlFile];
    const ended = await runCli({ after }, privateTmp({ after }), args);
    assert.equal(ended.code, 0, ended.stderr);
    for (const depth of [1, 2, 4])
      assert.match(ended.stderr, new RegExp(`measuring threads, depth ${depth}, for 0.04 s \\(\\d+ of 12\\)`));
    stdout = ended.stdout;
    document = documentIn(jsonFile);
    html = readFileSync(htmlFile, 'utf8');
  });

  test('measures everybody at each depth, in rounds, and tells of all of it', () => {
    const { options, results } = document;
    assert.deepEqual([options.iodepth, options.iodepths, options.rounds], [4, [1, 2, 4], 2]);
    const expected = [1, 2, 4].flatMap((depth) => [`node:fs/promises ${depth}`, `threads ${depth}`]);
    assert.deepEqual(
      results.map(({ engine, iodepth }) => `${engine} ${iodepth}`),
      expected,
    );
    for (const { iops, transfers, seconds, rounds, ratio, engine, iodepth, bytes } of results) {
      assert.equal(rounds.length, 2);
      assert.equal(bytes, transfers * 4096);
      assert.ok(seconds >= 0.08, 'of both rounds together');
      const [least, most] = [
        Math.min(...rounds.map((each) => each.iops)),
        Math.max(...rounds.map((each) => each.iops)),
      ];
      assert.ok(iops >= least - 1 && iops <= most + 1, `${iops} of ${least} to ${most}`);
      const peer = results.find((each) => each.engine === 'node:fs/promises' && each.iodepth === iodepth);
      assert.ok(Math.abs((ratio ?? 0) - iops / (peer?.iops ?? 1)) < 0.01, engine);
    }
    for (const name of ['date', 'command', 'cpu'] as const) assert.equal(typeof document[name], 'string');
    assert.match(document.command, /^fileaio bench --engine threads .* --html '.*a page'\\''s\.html'$/);
    assert.match(stdout, /depths 1 2 4, O_DIRECT, 0\.04 s each in 2 rounds/);
    const rows = [...stdout.matchAll(/^(node:fs\/promises|threads) +(\d+) +(\d+) /gm)].map(
      ([, engine, depth, iops]) => [engine, depth, iops],
    );
    assert.deepEqual(
      rows,
      results.map(({ engine, iodepth, iops }) => [engine, `${iodepth}`, iops.toFixed(0)]),
    );
  });

  test('becomes a page whose tables hold the figures of the JSON', () => {
    const tableOf = (id: string): { values: string[]; texts: string[] } => {
      const [, body = ''] = new RegExp(`<table id="${id}">.*?<tbody>(.*?)</tbody>`, 's').exec(html) ?? [];
      const cells = [...body.matchAll(/<data value="([^"]*)">([^<]*)<\/data>/g)];
      return {
        values: cells.map(([, value = '']) => value),
        texts: cells.map(([, , text = '']) => text.replaceAll('\u202f', '')),
      };
    };
    const ofAll = (of: (figures: ResultDocument) => number): string[] => document.results.map((each) => `${of(each)}`);
    const metrics: Record<string, [(figures: ResultDocument) => number, number]> = {
      iops: [({ iops }) => iops, 0],
      bandwidth: [({ mibPerSecond }) => mibPerSecond, 1],
      p50: [({ latencyUs }) => latencyUs.p50, 1],
      p99: [({ latencyUs }) => latencyUs.p99, 1],
      p999: [({ latencyUs }) => latencyUs.p999, 1],
      cpu: [({ cpuUsPerTransfer }) => cpuUsPerTransfer, 2],
    };
    for (const [id, [of, digits]] of Object.entries(metrics)) {
      const { values, texts } = tableOf(`table-${id}`);
      assert.deepEqual(values, ofAll(of), id);
      assert.deepEqual(
        texts,
        document.results.map((each) => of(each).toFixed(digits)),
        id,
      );
    }
    const figures = tableOf('figures').values;
    for (const each of document.results) {
      for (const value of [each.iops, each.latencyUs.max, each.latencyUs.mean, each.ratio, each.transfers]) {
        assert.ok(figures.includes(`${value}`), `${value}`);
      }
    }
    assert.deepEqual(
      JSON.parse(/<script type="application\/json" id="document">(.*?)<\/script>/s.exec(html)?.[1] ?? ''),
      document,
    );
    for (const fact of [document.kernel, document.node, document.medium, '×']) assert.ok(html.includes(fact), fact);
  });

  test('becomes a page that asks nobody for anything, and brings the licence of what it brings along', () => {
    assert.match(html, /<meta http-equiv="Content-Security-Policy" content="default-src 'none'; /);
    assert.doesNotMatch(html, /\s(?:src|href|action|srcset|poster)=["']?\w/i);
    assert.doesNotMatch(html, /@import|url\(|<link|<iframe|<img/i);
    assert.match(html, /The MIT License \(MIT\)\s+Copyright \(c\) \d+ Leon Sorokin/);
    assert.ok(html.length < 400_000, `${html.length}`);
  });

  test('becomes a page that nothing in a name can change', () => {
    const evil = '</script><script>alert(1)</script>"&\'';
    const page = htmlPage({ ...document, medium: evil, file: evil, temporary: false, command: evil, cpu: evil });
    assert.ok(!page.includes('<script>alert'));
    assert.equal(page.split('&lt;script&gt;alert(1)').length, 5, 'file and medium, processor, and command');
  });

  const browser = ['chromium', 'chromium-browser', 'google-chrome'].find(
    (name) => spawnSync(name, ['--version']).status === 0,
  );

  /** What a page says of itself, loaded in a browser of its own. */
  async function load(
    t: TestContext,
    page: string,
    ...flags: readonly string[]
  ): Promise<{ probe: Probe; messages: string[] }> {
    const directory = scratch(t);
    const file = join(directory, 'page.html');
    writeFileSync(
      file,
      page.replace('<style>', () => `${BEFORE}<style>`).replace('</body>', () => `${AFTER}</body>`),
    );
    const ended = await child(browser ?? '', [
      ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-dev-shm-usage'],
      ...['--disable-background-networking', '--disable-component-update', '--disable-sync', '--enable-logging=stderr'],
      ...[`--user-data-dir=${join(directory, 'profile')}`, '--window-size=1280,1000', ...flags],
      ...['--dump-dom', `file://${file}`],
    ]);
    assert.equal(ended.code, 0, ended.stderr);
    const [, text = ''] = /<pre id="probe">(.*?)<\/pre>/s.exec(ended.stdout) ?? [];
    assert.notEqual(text, '', ended.stderr);
    const messages = ended.stderr.split('\n').filter((line) => /CONSOLE/.test(line));
    return { probe: JSON.parse(text) as Probe, messages };
  }

  test('becomes a page that a browser draws, in the light and in the dark', async (t) => {
    if (browser === undefined) return t.skip('no Chromium is installed: apt-get install chromium');
    const light = await load(t, html);
    const dark = await load(t, html, '--blink-settings=preferredColorScheme=0');
    for (const { probe, messages } of [light, dark]) {
      assert.deepEqual(probe.errors, []);
      assert.deepEqual(messages, []);
      assert.deepEqual(
        probe.canvases.map(({ id }) => id),
        ['iops', 'bandwidth', 'p50', 'p99', 'p999', 'cpu'].map((id) => `plot-${id}`),
      );
      for (const { id, width, drawn, colours } of probe.canvases) {
        assert.ok(width > 400, `${id} is ${width} wide`);
        assert.ok(drawn > 2000, `${id} has ${drawn} pixels`);
        assert.ok(colours.peer > 50 && colours.threads > 50, `${id}: ${JSON.stringify(colours)}`);
      }
      assert.deepEqual(probe.legend, ['node:fs/promises', 'threads']);
      assert.ok(probe.overflow <= 0, `${probe.overflow} pixels lie beyond the window`);
    }
    assert.notEqual(light.probe.background, dark.probe.background);
  });

  test('at one depth, or of nothing, becomes a page, too', async (t) => {
    const one = { ...document, results: document.results.filter(({ iodepth }) => iodepth === 4) };
    const none = { ...document, results: [] };
    assert.match(htmlPage(none), /Nothing was measured/);
    if (browser === undefined) return t.skip('no Chromium is installed: apt-get install chromium');
    const { probe, messages } = await load(t, htmlPage(one));
    assert.deepEqual([probe.errors, messages], [[], []]);
    // A point of one may lie on that of the other, and both between pixels, which have mixed colours then.
    for (const { id, colours } of probe.canvases)
      assert.ok(colours.threads + colours.peer > 0, `${id}: ${JSON.stringify(colours)}`);
  });

  test('is compared with another: what changed, and by how much', async (t) => {
    const directory = scratch(t);
    const old = join(directory, 'old.json');
    const slower = document.results.map((each) => ({
      ...each,
      iops: each.iops / 1000,
      rounds: each.rounds.map((round) => ({ ...round, iops: round.iops / 1000 })),
    }));
    writeFileSync(old, JSON.stringify({ ...document, results: slower, kernel: '2.6.0' }));
    const html = join(directory, 'page.html');
    const args = ['bench', ...QUICK, '--iodepth', '1,8', '--baseline', old, '--html', html];
    const faster = await runCli(t, privateTmp(t), [
      ...args,
      '--max-regression',
      '5%',
      '--json',
      join(directory, 'new.json'),
    ]);
    assert.equal(faster.code, 0, faster.stderr);
    assert.match(faster.stdout, /\nChanges since ".*old\.json" of \d{4}-/);
    assert.match(faster.stdout, /\nthreads +1 +\+\d{4,}\.\d % +[+-]\d+\.\d %/);
    assert.match(faster.stdout, /\nNot the same as it was: kernel: 2\.6\.0, then \d/);
    assert.match(faster.stdout, /\nOnly in ".*": .*threads at depth 4\n/);
    assert.match(faster.stdout, /\nNot in ".*": .*threads at depth 8\n/);
    const { baseline } = documentIn(join(directory, 'new.json'));
    assert.deepEqual(
      baseline?.changes.map(({ engine, iodepth }) => [engine, iodepth]),
      [
        ['node:fs/promises', 1],
        ['threads', 1],
      ],
    );
    assert.ok(baseline?.changes.every(({ iops }) => iops.percent > 1000 && iops.noise === false));
    assert.match(readFileSync(html, 'utf8'), /<table id="changes">.*<data class="good" value="\d/s);
  });

  test('that is slower than --max-regression allows ends with 3, after telling everything', async (t) => {
    const old = join(scratch(t), 'old.json');
    // As version 0.1.0 wrote it: one depth for all, and no rounds.
    const { options, results } = document;
    const faster = results
      .filter(({ iodepth }) => iodepth === 1)
      .map(({ rounds, iodepth, ...each }) => ({ ...each, iops: each.iops * 1000 }));
    const { iodepths, rounds, ...oldOptions } = { ...options, iodepth: 1 };
    writeFileSync(old, JSON.stringify({ version: '0.1.0', options: oldOptions, results: faster }));
    const args = ['bench', ...QUICK, '--iodepth', '1', '--baseline', old];
    const slower = await runCli(t, privateTmp(t), [...args, '--max-regression', '50']);
    assert.equal(slower.code, 3, slower.stderr);
    assert.match(
      slower.stderr,
      /\nfileaio bench: slower than --max-regression 50 allows: threads at depth 1 -\d+\.\d %\n$/,
    );
    assert.match(slower.stdout, /nobody can tell a change from noise/);
    const told = await runCli(t, privateTmp(t), args);
    assert.equal(told.code, 0, 'without it, a change is no failure');
  });

  test('of an engine that does not run any more ends with 3, unless others were named', async (t) => {
    const old = join(scratch(t), 'old.json');
    const results = [result('steam', 1, 100), result('threads', 1, 1), result('steam-turbine', 8, 100)];
    writeFileSync(old, JSON.stringify({ ...document, results }));
    const args = ['bench', '--runtime', '20ms', '--size', '1m', '--iodepth', '1', '--baseline', old];
    const gone = await runCli(t, privateTmp(t), [...args, '--max-regression', '50']);
    assert.equal(gone.code, 3, gone.stderr);
    assert.match(gone.stderr, /\nfileaio bench: --max-regression: steam, which ".*old\.json" has, did not run\. See/);
    const named = await runCli(t, privateTmp(t), [...args, '--max-regression', '50', '--engine', 'threads']);
    assert.equal(named.code, 0, named.stderr);
  });
});

describe('a change', () => {
  const deltaOf = (before: readonly number[], after: readonly number[]) =>
    compare([result('threads', 1, ...before)], [result('threads', 1, ...after)])[0]?.iops;

  test('lies within the noise where the rounds of then and now overlap', () => {
    assert.deepEqual(deltaOf([100, 120], [115, 130]), { before: 110, after: 122.5, percent: 11.36, noise: true });
    assert.equal(deltaOf([100, 120], [121, 130])?.noise, false);
    assert.equal(deltaOf([121, 130], [100, 120])?.noise, false);
    assert.equal(deltaOf([100, 200], [150])?.noise, true, 'one round among those of the other');
    assert.equal(deltaOf([100], [100])?.noise, null, 'one and one tell nothing');
  });

  test('is written with its sign, and a mark where it says nothing', () => {
    assert.equal(formatDelta({ before: 1, after: 2, percent: 100, noise: false }), '+100.0 %');
    assert.equal(formatDelta({ before: 2, after: 1, percent: -50, noise: true }), '-50.0 % ~');
    assert.equal(formatDelta({ before: 0, after: 1, percent: Infinity, noise: null }), '-');
  });

  test('is a regression where an engine lost more than allowed, and not by chance; the peer is not ours', () => {
    const before = [result('threads', 1, 100), result('io-uring', 8, 100, 110), result('node:fs/promises', 1, 100)];
    const now = [result('threads', 1, 89), result('io-uring', 8, 50, 105), result('node:fs/promises', 1, 1)];
    const changes = compare(before, now);
    assert.match(regressionLine(changes, 10) ?? '', /allows: threads at depth 1 -11\.0 %$/);
    assert.equal(regressionLine(changes, 11.5), undefined);
  });
});

describe('fileaio bench refuses', () => {
  const cases: [title: string, args: string[], pattern: RegExp, code: number][] = [
    [
      'a baseline that is not there',
      ['--baseline', '/no/such.json'],
      /cannot read --baseline .*ENOENT.*--json wrote$/,
      1,
    ],
    [
      'a baseline that is none',
      ['--baseline', join(root, 'package.json')],
      /is nothing that fileaio bench --json wrote/,
      2,
    ],
    ['a regression of nothing', ['--max-regression', '5'], /--max-regression is of --baseline/, 2],
    ['a page on standard output', ['--html', '-'], /--html "-" is no file name/, 2],
    ['a page into no directory', ['--html', '/no/such/page.html'], /cannot write --html .*ENOENT/, 1],
    [
      'a page and JSON in one file',
      ['--html', '/tmp/./x', '--json', '/tmp/x'],
      /--html and --json are both "\/tmp\/\.\/x"/,
      2,
    ],
    ['no rounds', ['--rounds', '0'], /--rounds "0" is out of range/, 2],
    ['a list of depths that is none', ['--iodepth', '8..1'], /--iodepth "8\.\.1" is no list: .* such as 1\.\.256$/, 2],
  ];
  for (const [title, args, message, exitCode] of cases) {
    test(title, () => assert.throws(() => parseBench(args), { name: 'CliError', message, exitCode }));
  }

  test('a page and JSON in one file by two names', (t) => {
    const directory = scratch(t);
    const [file, link, nowhere] = ['file', 'link', 'nowhere'].map((name) => join(directory, name));
    assert.ok(file !== undefined && link !== undefined && nowhere !== undefined);
    writeFileSync(file, '');
    symlinkSync(file, link);
    symlinkSync(join(directory, 'none'), nowhere);
    assert.throws(() => parseBench(['--html', file, '--json', link]), /--html and --json are both ".*file"/);
    assert.throws(() => parseBench(['--html', nowhere]), /cannot write --html .*link to a file that does not exist/);
  });
});

interface Probe {
  readonly errors: readonly string[];
  readonly canvases: readonly {
    id: string;
    width: number;
    drawn: number;
    colours: { peer: number; threads: number };
  }[];
  readonly legend: readonly string[];
  readonly background: string;
  readonly overflow: number;
}

/** Keeps everything that goes wrong in a page, what its policy refused included. */
const BEFORE = `<script>
var errors = [];
for (const type of ['error', 'unhandledrejection', 'securitypolicyviolation']) {
  addEventListener(type, (event) => errors.push(type + ': ' + (event.message ?? event.reason ?? event.blockedURI)));
}
</script>`;

/** After the plots are drawn: what is to be seen in them. */
const AFTER = `<script type="module">
const style = getComputedStyle(document.documentElement);
const rgb = (name) => style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/g).map((hex) => parseInt(hex, 16));
const count = (data, [red, green, blue]) => {
  let found = 0;
  for (let at = 0; at < data.length; at += 4) {
    if (data[at] === red && data[at + 1] === green && data[at + 2] === blue && data[at + 3] === 255) found++;
  }
  return found;
};
// What uPlot does last, it does after the script that asked for it.
await Promise.resolve();
await Promise.resolve();
{
  const canvases = [...document.querySelectorAll('canvas')].map((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let drawn = 0;
    for (let at = 3; at < data.length; at += 4) if (data[at] > 0) drawn++;
    const colours = { peer: count(data, rgb('--series-0')), threads: count(data, rgb('--series-1')) };
    return { id: canvas.closest('.plot').id, width: canvas.width, drawn, colours };
  });
  const probe = document.createElement('pre');
  probe.id = 'probe';
  probe.textContent = JSON.stringify({
    errors,
    canvases,
    legend: [...document.querySelectorAll('#plot-iops .u-label')].map((label) => label.textContent).slice(1),
    background: getComputedStyle(document.body).backgroundColor,
    overflow: document.documentElement.scrollWidth - innerWidth,
  });
  document.body.append(probe);
}
</script>`;
