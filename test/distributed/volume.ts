/** A replicated GlusterFS volume, and steps that may take only so long: what hangs is a failure that says where. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const NAME = 'fileaio';
const ADDRESS = '10.213.0.1';
const REPLICAS = 3;

interface Brick {
  readonly folder: string;
  readonly pid: number;
}

/** Called when a step takes too long, so that whoever waits in the kernel for an answer gets an error. */
let giveUp = (): void => undefined;

/** Rejects with the name of the step when it takes too long. */
export async function within<T>(step: string, seconds: number, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const late = delay(seconds * 1000, undefined, { signal: stop.signal }).then(() => {
    giveUp();
    throw new Error(`${step}: it hangs: no end within ${seconds} s`);
  });
  try {
    return await Promise.race([run(stop.signal), late]);
  } finally {
    stop.abort();
    late.catch(() => undefined);
  }
}

export interface Said {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, whatever that is. */
export function ended(
  step: string,
  seconds: number,
  [program = '', ...args]: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Said> {
  return within(step, seconds, (signal) => {
    const child = spawn(program, args, {
      env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    signal.addEventListener('abort', () => child.kill('SIGKILL'));
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => resolve({ code, stdout, stderr }));
    });
  });
}

/** Runs a program that must succeed; resolves with what it printed. */
export async function command(
  step: string,
  seconds: number,
  args: readonly string[],
  env?: NodeJS.ProcessEnv,
): Promise<string> {
  const { code, stdout, stderr } = await ended(step, seconds, args, env);
  assert.equal(code, 0, `${step}: ${args.join(' ')}\n${stdout}${stderr}`);
  return stdout;
}

/** Asks again until it is so. */
export async function until(step: string, seconds: number, question: () => Promise<boolean>): Promise<void> {
  await within(step, seconds, async (signal) => {
    while (!(await question())) await delay(300, undefined, { signal });
  });
}

function gluster(step: string, ...args: string[]): Promise<string> {
  return command(step, 60, ['gluster', '--mode=script', ...args]);
}

export class Volume {
  readonly mountPoint: string;
  readonly #folders: readonly string[];
  readonly #log: string;

  private constructor(directory: string) {
    this.mountPoint = join(directory, 'mount');
    this.#folders = Array.from({ length: REPLICAS }, (_, index) => join(directory, `brick${index}`));
    this.#log = join(directory, 'mount.log');
  }

  /** Makes and mounts one. This process is in namespaces of its own, where it may do as it likes (scripts/test-distributed.mjs). */
  static async start(directory: string): Promise<Volume> {
    const volume = new Volume(directory);
    for (const folder of [...volume.#folders, volume.mountPoint, join(directory, 'state')]) mkdirSync(folder);
    // Where its daemons have their sockets, states and logs, whatever they are told.
    for (const folder of ['/run', '/var/lib/glusterd', '/var/log/glusterfs']) {
      await command(`a ${folder} of our own`, 10, ['mount', '-t', 'tmpfs', 'tmpfs', folder]);
    }
    for (const folder of ['/run/gluster', '/var/log/glusterfs/bricks']) mkdirSync(folder);
    await volume.#network();
    const options = join(directory, 'glusterd.vol');
    writeFileSync(
      options,
      [
        'volume management',
        '  type mgmt/glusterd',
        `  option working-directory ${join(directory, 'state')}`,
        '  option transport-type socket',
        `  option transport.socket.bind-address ${ADDRESS}`,
        'end-volume\n',
      ].join('\n'),
    );
    await command('glusterd', 60, ['glusterd', `--volfile=${options}`, '--pid-file=/run/glusterd.pid']);
    await until('glusterd answers', 60, async () => {
      return (await ended('gluster pool list', 30, ['gluster', '--mode=script', 'pool', 'list'])).code === 0;
    });
    const bricks = volume.#folders.map((folder) => `${ADDRESS}:${folder}`);
    await gluster('a volume', 'volume', 'create', NAME, 'replica', String(REPLICAS), ...bricks, 'force');
    await volume.set('performance.strict-o-direct', 'on');
    // What it remembers of a file's size may be older than a write that made the file larger.
    await volume.set('performance.stat-prefetch', 'off');
    await volume.set('network.ping-timeout', '5');
    await gluster('its start', 'volume', 'start', NAME);
    await volume.mount();
    return volume;
  }

  async #network(): Promise<void> {
    const ip = (...args: string[]): Promise<Said> => ended('a network', 10, ['ip', ...args]);
    if ((await ip('link', 'add', 'g0', 'type', 'dummy')).code !== 0) {
      await ip('link', 'add', 'g0', 'type', 'veth', 'peer', 'name', 'g1');
      await ip('link', 'set', 'g1', 'up');
    }
    await ip('link', 'set', 'lo', 'up');
    await ip('link', 'set', 'g0', 'up');
    const { code, stderr } = await ip('address', 'add', `${ADDRESS}/24`, 'dev', 'g0');
    assert.equal(code, 0, stderr);
  }

  async set(option: string, value: string): Promise<void> {
    await gluster(`${option} ${value}`, 'volume', 'set', NAME, option, value);
  }

  async mount(): Promise<void> {
    const from = `${ADDRESS}:/${NAME}`;
    await command('mount', 60, ['mount', '-t', 'glusterfs', '-o', `log-file=${this.#log}`, from, this.mountPoint]);
    giveUp = () => {
      // Without it the kernel answers everything that waits with an error.
      for (const pid of this.#clients()) process.kill(pid, 'SIGKILL');
    };
  }

  /** A mount that has nothing in its memory. */
  async mountAnew(): Promise<void> {
    await command('umount', 60, ['umount', this.mountPoint]);
    await this.mount();
  }

  #clients(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        try {
          const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
          return args[0]?.endsWith('glusterfs') === true && args.includes(this.mountPoint);
        } catch {
          return false;
        }
      });
  }

  /** A server and its folder; the pid is -1 while it does not run. */
  async brick(index: number): Promise<Brick> {
    const folder = this.#folders[index] ?? '';
    const xml = await gluster('its status', 'volume', 'status', NAME, '--xml');
    const node = xml.split('<node>').find((text) => text.includes(`<path>${folder}</path>`)) ?? '';
    const [, running = '', pid = ''] = /<status>(\d)<\/status>[\s\S]*<pid>(-?\d+)<\/pid>/.exec(node) ?? [];
    assert.notEqual(pid, '', xml);
    return { folder, pid: running === '1' ? Number(pid) : -1 };
  }

  /** Ends a server as a loss of power would. */
  async kill(index: number): Promise<void> {
    const { pid } = await this.brick(index);
    assert.ok(pid > 0, `brick ${index} runs`);
    process.kill(pid, 'SIGKILL');
    await until(`brick ${index} is gone`, 30, async () => (await this.brick(index)).pid === -1);
  }

  /** Lets a server answer nothing, as one that has lost its network; what it returns lets it go on. */
  async silence(index: number): Promise<() => void> {
    const { pid } = await this.brick(index);
    assert.ok(pid > 0, `brick ${index} runs`);
    process.kill(pid, 'SIGSTOP');
    return () => void process.kill(pid, 'SIGCONT');
  }

  /** Starts the servers that do not run. */
  async restart(): Promise<void> {
    await gluster('start force', 'volume', 'start', NAME, 'force');
    for (const index of this.#folders.keys()) {
      await until(`brick ${index} is back`, 60, async () => (await this.brick(index)).pid > 0);
    }
  }

  /** How many entries a server lacks, as each of the servers that can be asked has noted down. */
  async #lacking(): Promise<number[]> {
    const { stdout } = await ended('heal info', 60, ['gluster', 'volume', 'heal', NAME, 'info', '--xml']);
    return [...stdout.matchAll(/<numberOfEntries>(\d+)<\/numberOfEntries>/g)].map(([, count]) => Number(count));
  }

  /** How many entries a server lacks that is not there. */
  async lacking(): Promise<number> {
    return Math.max(0, ...(await this.#lacking()));
  }

  /** Has what a server missed copied to it. */
  async heal(): Promise<void> {
    // Refused while the daemon that heals has not yet found the server.
    await until('heal', 60, async () => {
      return (await ended('heal', 60, ['gluster', '--mode=script', 'volume', 'heal', NAME])).code === 0;
    });
  }

  /** Until every server is there and none lacks anything. */
  async healed(): Promise<void> {
    await until('every server has everything', 180, async () => {
      const lacking = await this.#lacking();
      if (lacking.some((count) => count > 0)) await ended('heal', 60, ['gluster', 'volume', 'heal', NAME]);
      return lacking.length === REPLICAS && lacking.every((count) => count === 0);
    });
  }

  /** The digests of a file, one for each server, read where that has it. */
  copies(name: string): string[] {
    return this.#folders.map((folder) => digest(readFileSync(join(folder, name))));
  }
}

export function digest(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
