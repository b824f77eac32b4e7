/** Runs the real command-line tool as a child process, in a private directory for temporary files. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Cleanup } from './support.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What a shell would type to get the tool, without arguments: what is installed, which also starts in a third of the time of the source. */
export const cli: readonly string[] = [process.execPath, join(root, 'dist/cli/main.js')];

/** What comes before a command to have system calls of it fail, as strace's `inject` says it. Those alone stop: the others take no longer. */
export function injecting(expression: string): readonly string[] {
  const [calls] = expression.split(':');
  return [
    'strace',
    '-f',
    '--seccomp-bpf',
    '-qq',
    '-o',
    '/dev/null',
    '-e',
    `trace=${calls}`,
    '-e',
    `inject=${expression}`,
  ];
}

/** How a run ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A run under way. */
export interface Running {
  readonly child: ChildProcess;
  /** Resolves when what both outputs said so far matches; rejects if the run ends without that. */
  said(pattern: RegExp): Promise<void>;
  readonly ended: Promise<Ended>;
}

/** A directory that must be empty when the test ends, or the test fails. */
export function privateTmp(t: Cleanup): string {
  const directory = mkdtempSync(join(tmpdir(), 'fileaio-cli-'));
  t.after(() => {
    const left = readdirSync(directory);
    rmSync(directory, { recursive: true, force: true });
    assert.deepEqual(left, [], 'nothing is left behind in TMPDIR');
  });
  return directory;
}

/** Starts `command` with `tmp` as TMPDIR. It is killed if it still runs when the test ends. */
export function start(t: Cleanup, tmp: string, command: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const [program = '', ...args] = command;
  const child = spawn(program, args, {
    cwd: root,
    env: { ...process.env, TMPDIR: tmp, ...env },
  });
  t.after(() => void child.kill('SIGKILL'));
  let stdout = '';
  let stderr = '';
  let onNews = (): void => {};
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    onNews();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    onNews();
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  const said = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      onNews = () => {
        if (pattern.test(stdout) || pattern.test(stderr)) resolve();
      };
      onNews();
      void ended.then(() => reject(new Error(`ended without saying ${pattern}: ${stdout}${stderr}`)));
    });
  return { child, said, ended };
}

/** Runs the tool to its end. */
export function runCli(t: Cleanup, tmp: string, args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ended> {
  return start(t, tmp, [...cli, ...args], env).ended;
}

/** Asserts one line on stderr that begins with `prefix` and matches, and nothing on stdout. */
export function assertOneLine(ended: Ended, prefix: string, pattern: RegExp, code: number): void {
  assert.equal(ended.stdout, '');
  const lines = ended.stderr.trimEnd().split('\n');
  const last = lines.pop() ?? '';
  assert.ok(last.startsWith(`${prefix}: `), ended.stderr);
  assert.match(last, pattern);
  // What was begun before the mistake could show may have been announced.
  for (const line of lines) assert.match(line, /^fileaio bench: (making|measuring) /);
  assert.ok(!isControlled(ended.stderr.replaceAll('\n', '')), 'no control characters');
  assert.equal(ended.code, code, ended.stderr);
}

/** Whether a terminal would do something other than show it. */
export function isControlled(text: string): boolean {
  return Array.from(text).some((char) => char < ' ' || (char >= '\u007f' && char <= '\u009f'));
}
