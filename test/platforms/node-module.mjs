/** Stands in for node:module: no native code. */
export * from 'node:module';
export { default } from 'node:module';

export function createRequire() {
  return (path) => globalThis.fileaioForbidden(`require(${path})`);
}
