/** Stands in for node:fs/promises. */
import real from 'node:fs/promises';
import { constantsOf, guarded } from './guard.mjs';

const module = { ...guarded(real), constants: constantsOf(real.constants) };

export default module;
export * from 'node:fs/promises';
export const {
  access,
  appendFile,
  chmod,
  chown,
  constants,
  copyFile,
  cp,
  lchmod,
  lchown,
  link,
  lstat,
  lutimes,
  mkdir,
  mkdtemp,
  open,
  opendir,
  readFile,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
  symlink,
  truncate,
  unlink,
  utimes,
  watch,
  writeFile,
} = module;
