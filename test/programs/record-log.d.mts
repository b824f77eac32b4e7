import type { AioContext, AioRequest, EngineName, EngineSource } from '../../src/index.ts';
import type { FileHandle } from '../../src/promises.ts';

export interface RecordFile {
  write(record: Buffer, position: number): Promise<void>;
  writev(records: Buffer[], position: number): Promise<number>;
  datasync(): Promise<unknown>;
}

export interface Appending {
  readonly number: number;
  readonly position: number;
  readonly block: number;
  readonly acknowledge: (below: number) => void;
  readonly copy?: (record: Buffer) => Buffer;
  readonly when?: 'durable' | 'written' | 'submitted';
}

export const MOST_UNACKNOWLEDGED: number;
export function recordOf(number: number, block: number): Buffer;
export function recover(bytes: Buffer): { count: number; end: number };
export function problemOf(bytes: Buffer, acknowledged: number, block: number): string | undefined;
export function throughHandle(handle: FileHandle): RecordFile;
export function throughContext(
  library: { AioContext: typeof AioContext; AioRequest: typeof AioRequest },
  engine: EngineName | EngineSource,
  fd: number,
): RecordFile;
export function append(file: RecordFile, appending: Appending): Promise<never>;
