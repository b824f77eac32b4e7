import { type ReadableByteStreamController, ReadableStream, type UnderlyingByteSource } from 'node:stream/web';
import { bytesOf } from './buffer.ts';
import { invalidArgType } from './errors.ts';
import { type FileHandle, hold, openFileOf, release } from './file.ts';
import type { OpenFile } from './open-file.ts';
import { ReadAhead } from './read-ahead.ts';

/** Options of {@link readableWebStream}. */
export interface WebStreamOptions {
  /** Always a stream of bytes; anything else is warned of. */
  readonly type?: 'bytes' | undefined;
  /** Close the handle when the stream ends, fails or is canceled; default `false`. */
  readonly autoClose?: boolean | undefined;
}

const CHUNK = 64 * 1024;
const IODEPTH = 8;

/** A handle has one such stream in its life, as in Node. */
const locked = new WeakSet<FileHandle>();

/**
 * The file from its current position on as a web stream of bytes. Read ahead several transfers deep for ordinary
 * readers; those that bring their own buffer (`getReader({ mode: 'byob' })`) have it filled in place.
 *
 * The stream ends when the handle is closed.
 *
 * @throws Error `ERR_INVALID_STATE`: the handle is closed, or had such a stream already; TypeError
 * `ERR_INVALID_ARG_TYPE`.
 */
export function readableWebStream(handle: FileHandle, options: WebStreamOptions = {}): ReadableStream<Uint8Array> {
  if (handle.fd === -1) throw invalidState('The FileHandle is closed');
  if (locked.has(handle)) throw invalidState('The FileHandle is locked');
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidArgType('options', 'of type object', options);
  }
  const { type = 'bytes', autoClose = false } = options;
  if (typeof autoClose !== 'boolean') throw invalidArgType('options.autoClose', 'of type boolean', autoClose);
  if (type !== 'bytes') {
    process.emitWarning('The type of readableWebStream() is always "bytes": what was asked for has no effect', {
      type: 'ExperimentalWarning',
    });
  }
  locked.add(handle);
  return new ReadableStream(new Source(handle, autoClose));
}

/** As Node has it. */
export function invalidState(what: string): Error {
  return Object.assign(new Error(`Invalid state: ${what}`), { code: 'ERR_INVALID_STATE' });
}

class Source implements UnderlyingByteSource {
  readonly type = 'bytes';
  readonly #handle: FileHandle;
  readonly #autoClose: boolean;
  readonly #file: OpenFile;
  readonly #ahead: ReadAhead;
  readonly #abort = new AbortController();
  #notify: () => void = () => {};
  #controller: ReadableByteStreamController | undefined;
  #pulling = false;
  #ended = false;
  #released = false;
  readonly #onClose = (): void => this.#end();

  constructor(handle: FileHandle, autoClose: boolean) {
    hold(handle);
    this.#handle = handle;
    this.#autoClose = autoClose;
    this.#file = openFileOf(handle);
    const all = { chunk: CHUNK, depth: IODEPTH, start: undefined, length: Number.POSITIVE_INFINITY, own: false };
    this.#ahead = new ReadAhead(this.#file, all, () => this.#notify());
    handle.once('close', this.#onClose);
  }

  start(controller: ReadableByteStreamController): void {
    this.#controller = controller;
  }

  async pull(controller: ReadableByteStreamController): Promise<void> {
    this.#pulling = true;
    try {
      const view = controller.byobRequest?.view;
      if (view) await this.#fill(controller, view);
      else await this.#give(controller);
    } catch (error) {
      if (this.#ended) return;
      this.#controller = undefined;
      await this.#letGo();
      throw error;
    } finally {
      this.#pulling = false;
      if (this.#ended) await this.#finish(controller);
    }
  }

  async cancel(): Promise<void> {
    this.#controller = undefined;
    this.#ended = true;
    await this.#letGo();
  }

  /** Reads into memory of the reader's. It gave that to the stream, and cannot get at it before it is answered. */
  async #fill(controller: ReadableByteStreamController, view: ArrayBufferView): Promise<void> {
    const { signal } = this.#abort;
    const memory = bytesOf(view);
    hold(this.#handle);
    try {
      const read = this.#file.direct
        ? this.#file.read(memory, null, signal)
        : this.#file.readPrivate([memory], null, signal);
      const bytes = await read;
      if (bytes > 0) controller.byobRequest?.respond(bytes);
      else this.#end();
    } finally {
      release(this.#handle);
    }
  }

  async #give(controller: ReadableByteStreamController): Promise<void> {
    let chunk = this.#ahead.take();
    while (chunk === undefined) {
      await new Promise<void>((resolve) => {
        this.#notify = resolve;
      });
      chunk = this.#ahead.take();
    }
    if (this.#ended) return;
    if (chunk === null) this.#end();
    else controller.enqueue(chunk);
  }

  /** The file has no more, or is being closed. */
  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#abort.abort();
    void this.#ahead.stop();
    this.#notify();
    if (!this.#pulling && this.#controller !== undefined) this.#finish(this.#controller).catch(() => {});
  }

  async #finish(controller: ReadableByteStreamController): Promise<void> {
    const isOpen = this.#controller !== undefined;
    this.#controller = undefined;
    try {
      // First: whoever has read all of it finds the file closed.
      await this.#letGo();
    } finally {
      if (isOpen) {
        // Throws where a reader wants elements of several bytes, and got part of one: it is told so.
        controller.close();
        controller.byobRequest?.respond(0);
      }
    }
  }

  /** Once nothing is under way. */
  async #letGo(): Promise<void> {
    this.#ended = true;
    this.#abort.abort();
    await this.#ahead.stop();
    if (this.#released) return;
    this.#released = true;
    this.#handle.off('close', this.#onClose);
    release(this.#handle);
    if (this.#autoClose) await this.#handle.close();
  }
}
