/** A simulated disk as an engine: the contract. What only it has is tested in sim-*.test.ts. */
import { randomBytes } from 'node:crypto';
import { createSimulatedDisk } from '../src/sim.ts';
import { conformance } from './conformance.ts';
import { type Cleanup, O_RDWR } from './support.ts';

const disk = createSimulatedDisk({ seed: 1 });
let files = 0;

function open(t: Cleanup, path: string, flags: number): number {
  const fd = disk.openSync(path, flags);
  t.after(() => disk.closeSync(fd));
  return fd;
}

conformance({
  engine: 'simulated',
  waitSync: true,
  cancelOfFileRead: ['canceled'],
  elsewhere: {
    engine: disk,
    why: 'a simulated disk has no mounts, devices, signals and limits of the kernel: sim-faults.test.ts shows its own',
    now: () => disk.nowMs,
    open,
    scratchFile(t, size, flags = 0) {
      const path = `/scratch/${++files}`;
      const data = randomBytes(size);
      disk.install(path, data);
      t.after(() => disk.unlinkSync(path));
      return { path, data, fd: open(t, path, O_RDWR | flags) };
    },
    readFileSync: (path) => disk.readFileSync(path),
    ftruncateSync: (fd, size) => disk.ftruncateSync(fd, size),
  },
});
