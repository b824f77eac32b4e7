/** What the stand-ins for Node's modules have in common. */
const LINUX = /^\/(proc|sys)(\/|$)/;

/** The functions of a module, refusing paths that exist on Linux only. */
export function guarded(module) {
  const all = {};
  for (const [name, value] of Object.entries(module)) {
    all[name] = value;
    if (typeof value !== 'function' || /^[A-Z_]/.test(name)) continue;
    all[name] = (...args) => {
      const path = args[0] instanceof URL ? args[0].pathname : Buffer.isBuffer(args[0]) ? String(args[0]) : args[0];
      if (typeof path === 'string' && LINUX.test(path)) globalThis.fileaioForbidden(`${name}('${path}')`);
      return value(...args);
    };
    Object.assign(all[name], value);
  }
  return all;
}

/** What Node has on Windows; on macOS it lacks but two. */
const WINDOWS =
  /^(UV_|COPYFILE_|[FRWX]_OK$|S_IF(MT|REG|DIR|CHR|LNK)$|S_I[RW]USR$|O_(RDONLY|WRONLY|RDWR|CREAT|EXCL|TRUNC|APPEND)$)/;
const NOT_DARWIN = /^O_(DIRECT|NOATIME)$/;

export function constantsOf(constants) {
  const there =
    process.env.FILEAIO_PLATFORM === 'win32' ? (name) => WINDOWS.test(name) : (name) => !NOT_DARWIN.test(name);
  return Object.freeze(Object.fromEntries(Object.entries(constants).filter(([name]) => there(name))));
}
