// Steps of a script that checks things: each prints one line; what went wrong, its output.
let passed = 0;
let failed = 0;
let skipped = 0;

/** Why something cannot be done here. */
export class Skip extends Error {}

export async function step(name, run) {
  const begun = performance.now();
  const seconds = () => `(${((performance.now() - begun) / 1000).toFixed(1)} s)`;
  try {
    const said = await run();
    passed++;
    console.log(`ok    ${name}${typeof said === 'string' && said !== '' ? `: ${said}` : ''} ${seconds()}`);
  } catch (error) {
    if (error instanceof Skip) {
      skipped++;
      console.log(`skip  ${name}: ${error.message}`);
      return;
    }
    failed++;
    console.log(`FAIL  ${name} ${seconds()}\n${error instanceof Error ? error.message : error}`);
  }
}

/** Prints the sums, and ends the process as they say. */
export function finish() {
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exit(failed > 0 ? 1 : 0);
}
