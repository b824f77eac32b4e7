/** A page of small line charts, one above the other, as an SVG that stands alone. */

export interface Chart {
  readonly title: string;
  readonly unit: string;
  readonly values: readonly number[];
  /** Said at its right: what became of it. */
  readonly note: string;
}

const WIDTH = 860;
const LEFT = 74;
const RIGHT = 16;
const TOP = 74;
const HEIGHT = 74;
const PITCH = 116;
const TICKS = 6;

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** The top of an axis: 1, 2 or 5 times a power of ten, and not below the largest value. */
function roundUp(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const factor of [1, 1.5, 2, 3, 4, 5, 6, 8]) if (factor * power >= value) return factor * power;
  return 10 * power;
}

function short(value: number): string {
  return value.toLocaleString('en', { maximumFractionDigits: value < 10 ? 1 : 0 });
}

/** `minutes`: how long it took in all; what is before `warmUp` minutes did not count. */
export function plot(
  title: string,
  subtitle: string,
  minutes: number,
  warmUp: number,
  charts: readonly Chart[],
): string {
  const inner = WIDTH - LEFT - RIGHT;
  const x = (minute: number): string => (LEFT + (minute / minutes) * inner).toFixed(1);
  const body: string[] = [];
  for (const [index, { title: name, unit, values, note }] of charts.entries()) {
    const top = TOP + index * PITCH;
    const bottom = top + HEIGHT;
    const most = roundUp(values.reduce((a, b) => Math.max(a, b), 0));
    const y = (value: number): string => (bottom - (value / most) * HEIGHT).toFixed(1);
    const step = minutes / Math.max(values.length - 1, 1);
    body.push(
      `<rect x="${LEFT}" y="${top}" width="${((warmUp / minutes) * inner).toFixed(1)}" height="${HEIGHT}" class="warm"/>`,
      `<text x="${LEFT}" y="${top - 8}" class="name">${escaped(name)}</text>`,
      `<text x="${WIDTH - RIGHT}" y="${top - 8}" class="note">${escaped(note)}</text>`,
    );
    for (const value of [0, most / 2, most]) {
      body.push(
        `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}" class="grid"/>`,
        `<text x="${LEFT - 8}" y="${(Number(y(value)) + 4).toFixed(1)}" class="tick">${short(value)}${value === most ? ` ${escaped(unit)}` : ''}</text>`,
      );
    }
    const points = values.map((value, at) => `${x(at * step)},${y(value)}`);
    body.push(`<polyline points="${points.join(' ')}"/>`);
  }
  const bottom = TOP + charts.length * PITCH;
  for (let tick = 0; tick <= TICKS; tick++) {
    const minute = (minutes * tick) / TICKS;
    const anchor = tick === TICKS ? 'end' : tick === 0 ? 'start' : 'middle';
    body.push(
      `<text x="${x(minute)}" y="${bottom - 22}" class="time" text-anchor="${anchor}">${short(minute)} min</text>`,
    );
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${bottom}" viewBox="0 0 ${WIDTH} ${bottom}" role="img">
<title>${escaped(title)}</title>
<style>
text { font: 12px system-ui, sans-serif; fill: #444 }
.title { font-size: 17px; font-weight: 600; fill: #111 }
.name { font-weight: 600; fill: #111 }
.note, .tick { text-anchor: end }
.grid { stroke: #ddd }
.warm { fill: #f3efe2 }
polyline { fill: none; stroke: #1864ab; stroke-width: 1.5; stroke-linejoin: round }
</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="${LEFT}" y="26" class="title">${escaped(title)}</text>
<text x="${LEFT}" y="45">${escaped(subtitle)}</text>
${body.join('\n')}
</svg>
`;
}
