"""A file system that misbehaves: usage: fuse-server.py MOUNTPOINT. Says "mounted" when it is there; is gone when its input ends.

Every file is 1 MiB long. The first half of a name says how the kernel treats it: "cached-…" goes through the page cache, "direct-…"
reaches this program with every read and write (FOPEN_DIRECT_IO). The second half says what goes wrong:

  good    nothing
  late    answers after 50 ms
  short   gives and takes 1,000 bytes at most (only "direct-": the kernel takes a short answer to a cached read for the file's end)
  broken  answers EIO to what reaches beyond 64 KiB, and to every fsync
  never   never answers reads that reach beyond 64 KiB
  strict  holds O_DIRECT against who opened it so, for as long as it is open: writes of anything but whole blocks get EINVAL, and are
          told of on the standard error output
"""

import errno
import os
import stat
import subprocess
import sys
import threading
import time

try:
    from fusepy import FUSE, FuseOSError, Operations
except ImportError:
    from fuse import FUSE, FuseOSError, Operations

SIZE = 1 << 20
SOUND = 1 << 16
SHORT = 1000
KINDS = ("good", "late", "short", "broken", "never", "strict")
NAMES = [f"{way}-{kind}" for way in ("cached", "direct") for kind in KINDS]


class Misbehaving(Operations):
    def __init__(self):
        # Each 4 KiB hold their number, again and again.
        block = b"".join((n).to_bytes(4, "little") * 1024 for n in range(SIZE // 4096))
        self.data = {name: bytearray(block) for name in NAMES}
        self.opened = 0
        self.direct = set()

    def getattr(self, path, fh=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path[1:] not in self.data:
            raise FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": len(self.data[path[1:]])}

    def readdir(self, path, fh):
        return [".", "..", *NAMES]

    def open(self, path, fi):
        if path[1:] not in self.data:
            raise FuseOSError(errno.ENOENT)
        fi.direct_io = path.startswith("/direct-")
        # Otherwise the kernel drops what it has cached, and open(2) waits for reads that are under way.
        fi.keep_cache = not fi.direct_io
        self.opened += 1
        fi.fh = self.opened
        if fi.flags & os.O_DIRECT:
            self.direct.add(fi.fh)
        return 0

    def truncate(self, path, length, fh=None):
        raise FuseOSError(errno.EPERM)

    def misbehave(self, name, end):
        """How many bytes there are for one answer, at most."""
        if name.endswith("-late"):
            time.sleep(0.05)
        if name.endswith("-broken") and end > SOUND:
            raise FuseOSError(errno.EIO)
        return SHORT if name.endswith("-short") else SIZE

    def read(self, path, size, offset, fi):
        name = path[1:]
        if name.endswith("-never") and offset + size > SOUND:
            threading.Event().wait()
        return bytes(self.data[name][offset : offset + min(size, self.misbehave(name, offset + size))])

    def write(self, path, data, offset, fi):
        name = path[1:]
        if name.endswith("-strict") and fi.fh in self.direct and (offset % 512 or len(data) % 512):
            os.write(2, b"refused\n")
            raise FuseOSError(errno.EINVAL)
        taken = data[: self.misbehave(name, offset + len(data))]
        self.data[name][offset : offset + len(taken)] = taken
        return len(taken)

    def flush(self, path, fi):
        return 0

    def release(self, path, fi):
        return 0

    def fsync(self, path, datasync, fi):
        if path.endswith("-broken"):
            raise FuseOSError(errno.EIO)
        return 0

    def init(self, path):
        threading.Thread(target=self.leave, daemon=True).start()
        os.write(1, b"mounted\n")

    def leave(self):
        sys.stdin.buffer.read()
        subprocess.run(["umount", "-l", sys.argv[1]])
        # At once, whoever still waits for an answer: the kernel gives them an error.
        os._exit(0)


FUSE(Misbehaving(), sys.argv[1], raw_fi=True, foreground=True, nothreads=False, fsname="fileaio-test", big_writes=True)
