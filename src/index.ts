export { AlignedPool, type AlignedPoolOptions, allocBuffer } from './buffer.ts';
export {
  AioContext,
  type AioContextOptions,
  type AioStats,
  inflight,
  type WaitOptions,
  type WaitResult,
} from './context.ts';
export type { EngineName, EngineSource, Limits } from './engine.ts';
export { type EngineInfo, engines } from './engines/select.ts';
export { AioError, type AioErrorDetails } from './errors.ts';
export { getLimits } from './limits.ts';
export type {
  AioLatency,
  AioOperation,
  CancelMessage,
  CompletedRequest,
  CompleteMessage,
  InflightRequest,
  ObservedRequest,
  SubmitMessage,
} from './observe.ts';
export { AioRequest, type FlushOptions, type RequestState } from './request.ts';
export { type Waker, wake } from './wake.ts';
