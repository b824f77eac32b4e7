/** The directions of imports, which DESIGN.md draws: what is below knows nothing of what is above it. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const src = fileURLToPath(new URL('../src', import.meta.url));

const imports = new Map(
  readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => {
      const text = readFileSync(join(src, file), 'utf8');
      const found = [...text.matchAll(/(?:from|import)\s*\(?'(\.[^']+)'/g)].map((match) =>
        relative(src, join(src, dirname(file), match[1] ?? '')),
      );
      return [file, found] as const;
    }),
);

/** Layers from below to above; a file may import from its own layer and from those before it. */
const layers: readonly RegExp[] = [
  /^(abi\/|abort\.ts|errors\.ts|native\.ts|time\.ts)/,
  /^(alignment|buffer|wake|transfer|outcome|request|engine|user-space)\.ts/,
  /^sim\/(?!disk)/,
  /^engines\/(?!select)/,
  /^engines\/select\.ts/,
  /^(context|limits|observe)\.ts/,
  /^(queue|line|bounce|open-file|file|file-arguments|whole-file|stream|stream-file|read-ahead|read-stream|write-stream|web-stream|sim\/disk)\.ts/,
  /^(index|promises|fs|sim)\.ts/,
  /^cli\//,
];

function layerOf(file: string): number {
  return layers.findIndex((layer) => layer.test(file));
}

describe('the architecture', () => {
  test('every file has its layer', () => {
    assert.ok(imports.size > 10);
    for (const file of imports.keys()) assert.ok(layerOf(file) >= 0, `${file} is in no layer`);
  });

  test('imports go down, never up', () => {
    for (const [file, found] of imports) {
      for (const imported of found) {
        assert.ok(layerOf(imported) <= layerOf(file), `${file} imports ${imported}`);
      }
    }
  });

  test('only select.ts knows the engines, the command line what they are called, and a simulated disk its own', () => {
    for (const [file, found] of imports) {
      if (file === join('engines', 'select.ts') || file.startsWith('cli')) continue;
      for (const imported of found) {
        if (file === join('sim', 'disk.ts') && imported === join('engines', 'simulated.ts')) continue;
        assert.ok(!/^engines\/(?!select)/.test(imported) || file.startsWith('engines'), `${file} imports ${imported}`);
      }
    }
  });

  test('only native.ts loads the native shim', () => {
    for (const file of imports.keys()) {
      const text = readFileSync(join(src, file), 'utf8');
      if (file !== 'native.ts') assert.ok(!/createRequire|\.node'|dlopen/.test(text), `${file} loads native code`);
    }
  });
});
