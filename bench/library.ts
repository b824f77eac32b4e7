/** The parts of the library, which is not imported but named by a URL: it is whichever is to be measured. */
import type * as Promises from '../src/promises.ts';

/** `fileaio/promises`, of the library whose `index.js` has this URL. */
export async function promisesBeside(library: string): Promise<typeof Promises> {
  return (await import(new URL('promises.js', library).href)) as typeof Promises;
}
