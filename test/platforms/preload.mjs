/**
 * Makes the library believe that it runs on another platform: `FILEAIO_PLATFORM`, darwin or win32. For its sources alone, not for the tests
 * and their tools: process.platform, no constants that the platform lacks, and nothing of Linux: whatever opens /proc or /sys, loads native code or
 * asks process.binding is refused, written down, and makes the process fail at its end, also where the library caught the error.
 */
import { writeSync } from 'node:fs';
import { register } from 'node:module';

const platform = process.env.FILEAIO_PLATFORM;
const touched = new Set();
const { platform: real, binding } = process;

globalThis.fileaioForbidden = (what) => {
  touched.add(what);
  throw new Error(`this is ${platform}: ${what}`);
};

/** Who asks: the line of the stack below the getter's. */
const LIBRARY = /^(.*\n){2}.*\/src\/.*\.ts/;

Object.defineProperty(process, 'platform', {
  configurable: true,
  enumerable: true,
  get: () => (LIBRARY.test(new Error().stack ?? '') ? platform : real),
});
process.binding = (name) => {
  if (LIBRARY.test(new Error().stack ?? '')) globalThis.fileaioForbidden(`process.binding('${name}')`);
  return binding.call(process, name);
};
process.on('exit', () => {
  if (touched.size === 0) return;
  process.exitCode = 1;
  writeSync(2, `touched on ${platform}: ${[...touched].join(', ')}\n`);
});

register('./hooks.mjs', import.meta.url);
