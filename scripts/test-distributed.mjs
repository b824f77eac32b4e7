// fileaio on a distributed file system: `npm run test:distributed`. A GlusterFS volume of three replicas, each a server of its own, in a network that
// nobody else sees, mounted with FUSE; see test/distributed/. Debian's glusterfs-server is installed where it is missing. Where something cannot be
// had, that is said, and it is no failure.
//
// Everything lives in namespaces of its own: when the first process there has ended, however, the kernel ends all the others, takes the mounts away
// and the network with them.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile, end, root, testCommand, testFiles } from './run-tests.mjs';

const PROGRAMS = ['glusterd', 'gluster', 'mount.glusterfs', 'ip', 'unshare'];
const PACKAGES = ['glusterfs-server', 'glusterfs-client', 'iproute2', 'util-linux'];
/** Each step has a limit of its own; this is for when even that is stuck. */
const MOST_MINUTES = 30;
const NAMESPACES = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc'];

/** What a command says of why it failed, in one line; `undefined` if it did not. */
function failure(program, args, timeout = 30_000) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const { status, error, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout, env });
  if (status === 0) return undefined;
  const said = stderr?.trim().split('\n').at(-1);
  return error?.message ?? (said || `${program} ended with ${status}`);
}

function missing() {
  const path = `${process.env.PATH}:/usr/sbin:/sbin`.split(':');
  return PROGRAMS.filter((program) => !path.some((folder) => existsSync(join(folder, program))));
}

/** Why there can be no volume here, or `undefined`. */
function whyNot() {
  if (process.platform !== 'linux') return 'it needs the namespaces of Linux';
  if (process.getuid() !== 0) return 'only root may mount, and make networks';
  if (!existsSync('/dev/fuse')) spawnSync('modprobe', ['fuse']);
  if (!existsSync('/dev/fuse')) return 'this kernel has no FUSE, or hides it';
  if (missing().length > 0) {
    console.log(`test:distributed: installing ${PACKAGES.join(', ')} for ${missing().join(', ')}`);
    const install = () => failure('apt-get', ['install', '-y', '--no-install-recommends', ...PACKAGES], 300_000);
    if (install() !== undefined) {
      const why = failure('apt-get', ['update'], 300_000) ?? install();
      if (why !== undefined) return `${missing().join(', ')} cannot be installed: ${why}`;
    }
    if (missing().length > 0) return `${PACKAGES.join(', ')} are installed, but have no ${missing().join(', ')}`;
  }
  const link = 'ip link add g0 type dummy 2>&- || ip link add g0 type veth peer name g1';
  const why = failure('unshare', [...NAMESPACES, 'sh', '-c', link]);
  return why === undefined ? undefined : `there can be no network of its own: ${why}`;
}

process.env.PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
const why = whyNot();
if (why !== undefined) {
  console.log(`Skipped: ${why}.`);
  end(0);
}
// Children of the tests use it: the file system sees what users run.
compile();
const directory = mkdtempSync(join(tmpdir(), 'fileaio-distributed-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
// The shell is there to wait for the daemons that end: as the first process of its namespace it inherits them.
const shell = ['sh', '-c', '"$@"; exit $?', 'sh'];
const ended = spawnSync('unshare', [...NAMESPACES, ...shell, ...testCommand(testFiles('test/distributed'))], {
  cwd: root,
  stdio: 'inherit',
  timeout: MOST_MINUTES * 60_000,
  killSignal: 'SIGKILL',
  env: { ...process.env, FILEAIO_DISTRIBUTED: directory },
});
if (ended.error?.code === 'ETIMEDOUT')
  console.log(`Everything was ended after ${MOST_MINUTES} minutes: the step that was begun last hangs.`);
const version = spawnSync('gluster', ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0];
end(ended.status, version);
