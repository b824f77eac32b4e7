/** Does what the library must not do elsewhere than on Linux, and hides it. */
import { readFileSync } from 'node:fs';

export function readSomething(): void {
  try {
    readFileSync('/proc/version');
  } catch {
    // Seen all the same.
  }
}
