/** Allocates 4 GiB, one MiB at a time, and drops each. Prints how many MiB were resident at most. */
import { allocBuffer } from '../../src/index.ts';

let most = 0;
for (let i = 0; i < 4096; i++) {
  allocBuffer(2 ** 20)[0] = 1;
  if (i % 256 === 0) {
    await new Promise((resolve) => setImmediate(resolve));
    most = Math.max(most, process.memoryUsage.rss() / 2 ** 20);
  }
}
console.log(Math.round(most));
