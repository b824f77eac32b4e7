/** `fileaio/sim`: a simulated disk, to test what programs make of faults and of losing power. */
export type { PowerLoss, SimulatedEvent } from './sim/device.ts';
export { createSimulatedDisk, SimulatedDisk, type SimulatedOpenOptions } from './sim/disk.ts';
export type {
  ErrorChances,
  Latency,
  SimulatedDiskOptions,
  SimulatedErrors,
  SimulatedLatencies,
  SimulatedOperation,
  SimulatedOperationKind,
} from './sim/options.ts';
export type { SimulatedRandom } from './sim/random.ts';
export type { SimulatedStats } from './sim/stats.ts';
