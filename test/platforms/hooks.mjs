/** Gives the sources of the library other modules for some of Node's; and what opens files for tests, so that nothing is opened with O_DIRECT. */
const OTHERS = new Map([
  ['node:fs', './node-fs.mjs'],
  ['node:fs/promises', './node-fs-promises.mjs'],
  ['node:module', './node-module.mjs'],
]);

export function resolve(specifier, context, next) {
  const other = OTHERS.get(specifier);
  if (other === undefined || !/\/(src\/[\w/-]+|test\/support)\.ts(\?.*)?$/.test(context.parentURL ?? ''))
    return next(specifier, context);
  return { url: new URL(other, import.meta.url).href, format: 'module', shortCircuit: true };
}
