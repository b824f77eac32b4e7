/** What several test files need: scratch files, direct descriptors, child processes, loop devices. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AioContext, type AioContextOptions, type AioRequest } from '../src/index.ts';
import { loadNative } from '../src/native.ts';
import { gc, runScript, runTypeScript } from './runtime.ts';

export const { O_DIRECT, O_RDONLY, O_RDWR, O_WRONLY, O_CREAT } = constants;

/** Anything that a test registers clean-up with: node:test's context and suite hooks both fit. */
export interface Cleanup {
  after(fn: () => void | Promise<void>): void;
}

/** A directory of its own on a real file system that does direct I/O, removed after the test. */
export function scratch(t: Cleanup, parent = tmpdir()): string {
  const directory = mkdtempSync(join(parent, 'fileaio-test-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface Scratch {
  readonly path: string;
  readonly fd: number;
  readonly data: Buffer;
}

/** A file with random content, open for reading and writing; `flags` adds to that, O_DIRECT for instance. */
export function scratchFile(t: Cleanup, size: number, flags = 0, parent = tmpdir()): Scratch {
  const path = join(scratch(t, parent), 'data');
  const data = randomBytes(size);
  writeFileSync(path, data);
  return { path, fd: open(t, path, O_RDWR | flags), data };
}

export function open(t: Cleanup, path: string, flags: number): number {
  const fd = openSync(path, flags, 0o600);
  t.after(() => closeSync(fd));
  return fd;
}

/** A context that is drained and closed after the test, whatever the test left in it. */
export function context(t: Cleanup, options: AioContextOptions): AioContext {
  const made = new AioContext(options);
  t.after(() => made[Symbol.asyncDispose]());
  return made;
}

/** Matches an error of this library or of Node by its code, and its message by a pattern. */
export function coded(code: string, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Error, 'an Error was thrown');
    assert.equal('code' in error ? error.code : undefined, code, error.message);
    if (message !== undefined) assert.match(error.message, message);
    return true;
  };
}

/** Submits and waits until all of these are complete, in steps that also fit small contexts. */
export async function run(ctx: AioContext, requests: readonly AioRequest[]): Promise<void> {
  ctx.submit(requests);
  for (let left = requests.length; left > 0; ) left -= (await ctx.wait({ min: left })).completed.length;
}

/** Memory that JavaScript allocated itself, at a page boundary: direct I/O takes it, and nobody but V8 holds it. */
export function aligned(size: number, Store: new (bytes: number) => ArrayBufferLike): Uint8Array {
  const store = new Store(size + 4096);
  const address = loadNative().native?.address(new Uint8Array(store)) ?? 0;
  return new Uint8Array(store, (4096 - (address % 4096)) % 4096, size);
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const root = fileURLToPath(new URL('..', import.meta.url));

/** Runs a module of `test/programs/` in a process of its own. A program that hangs is killed, and says so by its signal. */
export function program(name: string, args: readonly string[] = []): Promise<Ended> {
  const file = fileURLToPath(new URL(`./programs/${name}`, import.meta.url));
  return child(process.execPath, [...runTypeScript, file, ...args]);
}

/**
 * The arguments that make this runtime run a program of the test's own, in JavaScript; in it, './src/' is the library, compiled: translating it
 * in each process would take longer than most programs do, and under strace many times as long.
 */
export function script(t: Cleanup, text: string): string[] {
  const file = join(scratch(t), 'script.mjs');
  writeFileSync(file, compiled(text));
  return [...runScript, file];
}

function compiled(text: string): string {
  return text.replaceAll(/'\.\/src\/(.*?)\.ts'/g, (_, name: string) => `'${root}dist/${name}.js'`);
}

/** The same for a program with types. */
export function typedScript(t: Cleanup, text: string): string[] {
  const file = join(scratch(t), 'script.mts');
  writeFileSync(file, compiled(text));
  return [...runTypeScript, file];
}

export function child(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  cwd = root,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const spawned = spawn(command, args, {
      cwd,
      env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A build that is several times slower, as under sanitizers, asks for more.
      timeout: Number(process.env.FILEAIO_CHILD_TIMEOUT_MS ?? 60_000),
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    spawned.stdout.setEncoding('utf8').on('data', (chunk) => {
      stdout += chunk;
    });
    spawned.stderr.setEncoding('utf8').on('data', (chunk) => {
      stderr += chunk;
    });
    spawned.on('error', reject);
    spawned.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** A loop block device over a new file, or why there is none. */
export function loopDevice(t: Cleanup, size: number): { path: string } | { why: string } {
  if (process.getuid?.() !== 0) return { why: 'only root may make a loop device' };
  const file = join(scratch(t, '/dev/shm'), 'backing');
  try {
    execFileSync('truncate', ['-s', String(size), file]);
    const path = execFileSync('losetup', ['-f', '--show', file], { encoding: 'utf8', stdio: 'pipe' }).trim();
    t.after(() => void execFileSync('losetup', ['-d', path]));
    return { path };
  } catch (error) {
    return { why: `no loop device can be made: ${error instanceof Error ? error.message.split('\n')[0] : error}` };
  }
}

/** Collects what can be collected. Tests run with --expose-gc. */
export function collectGarbage(): void {
  assert.ok(gc, 'run with --expose-gc');
  gc();
}

/** A tmpfs of its own that is soon full. For root only. */
export function smallFileSystem(t: Cleanup, size: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'fileaio-test-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', directory]);
  t.after(() => {
    execFileSync('umount', ['-l', directory]);
    rmSync(directory, { recursive: true });
  });
  return directory;
}
