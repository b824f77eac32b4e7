/** strace, attached to a process that runs already: what it counts begins there, and what a runtime does at its start is left alone. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

/** Why nothing can be injected here. */
export function whyNoStrace(): string | undefined {
  const ended = spawnSync('strace', ['-V'], { encoding: 'utf8' });
  if (ended.status !== 0) return 'strace is not installed';
  const probe = spawnSync('strace', ['-o', '/dev/null', '-e', 'trace=none', 'true'], { encoding: 'utf8' });
  if (probe.status !== 0) return `strace may not trace here: ${probe.stderr.trim().split('\n')[0]}`;
  if (process.getuid?.() === 0) return undefined;
  try {
    if (readFileSync('/proc/sys/kernel/yama/ptrace_scope', 'utf8').trim() === '0') return undefined;
  } catch {
    return undefined; // no such restriction in this kernel
  }
  return 'only root may trace a process that runs already (kernel.yama.ptrace_scope is not 0)';
}

export class Strace {
  readonly #child: ChildProcess;
  readonly #log: string;

  private constructor(child: ChildProcess, log: string) {
    this.#child = child;
    this.#log = log;
  }

  /** Attaches to every thread of a process, and to those that it starts later. */
  static async attach(pid: number, options: readonly string[], log: string): Promise<Strace> {
    const child = spawn('strace', ['-f', '-p', String(pid), '-o', log, ...options], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let text = '';
    await new Promise<void>((resolve, reject) => {
      child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (/attached/.test(text)) resolve();
      });
      child.on('error', reject);
      child.on('close', () => reject(new Error(`strace ended: ${text}`)));
    });
    return new Strace(child, log);
  }

  /** Leaves the process alone again. Says whether a call of `syscall` was made to fail. */
  async detach(syscall: string): Promise<boolean> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const closed = once(this.#child, 'close');
      this.#child.kill('SIGTERM');
      await closed;
    }
    // A call that another thread's came in between of has two lines, and the second one's says so.
    const failed = new RegExp(`(?:^| )${syscall}(?:\\(| resumed).*\\(INJECTED\\)`, 'm');
    return failed.test(readFileSync(this.#log, 'utf8'));
  }

  /** Whether the call that was made to fail had this descriptor for its first argument. */
  failedOn(fd: string): boolean {
    return new RegExp(`(?:^| )\\w+\\(${fd},.*\\(INJECTED\\)`, 'm').test(readFileSync(this.#log, 'utf8'));
  }
}
