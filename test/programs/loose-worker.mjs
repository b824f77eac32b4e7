// A worker that has a context, a ring and descriptors from the shim which nothing owns yet, as between two lines of a constructor, and stays there.
import { parentPort } from 'node:worker_threads';
import { loadNative } from '../../dist/native.js';

const { native } = loadNative();
const made = [native.ioSetup(8), native.ringSetup(8, new Uint8Array(120)), native.eventfd(), native.eventfd()];
native.closeFd(native.eventfd());
native.ioDestroy(native.ioSetup(8));
parentPort.postMessage(made.filter((each) => each >= 0).length);
for (;;);
