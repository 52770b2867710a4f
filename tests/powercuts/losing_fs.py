"""A file system that loses, at a cut, what was not synced. A test tool, on FUSE (`mfusepy`), all in memory.

What survives a cut: of a file, its content at its last fsync(2), and any of the 4 KiB blocks written since, each by
chance, as a disk writes in any order; of directories, what was there when the directory was last synced, and a
beginning of the changes since, as file systems keep those in order. A file that was never synced may be there and
empty, or not be there at all. So says POSIX, and no file system is worse.

`Disk` mounts an image, cuts, and mounts what is left. The cut is an extended attribute set on the root.
"""

from __future__ import annotations

import errno
import os
import pickle
import random
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.processes import eventually

BLOCK = 4096
CUT = "user.cut"
Image = dict[str, tuple[int, bytes | None]]
"""Modes and contents by path; a directory has no content."""


@dataclass(slots=True, eq=False)
class File:
    """A file: its content, what is durable of it, and the blocks written since."""

    mode: int
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    dirty: set[int] = field(default_factory=set)

    def write(self, data: bytes, offset: int) -> None:
        """Write, not durably."""
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.dirty.update(range(offset // BLOCK, -(-(offset + len(data)) // BLOCK)))

    def truncate(self, size: int) -> None:
        """Cut off or fill up, not durably."""
        before = len(self.data)
        if size < before:
            del self.data[size:]
        else:
            self.data.extend(bytes(size - before))
        self.dirty.update(range(min(size, before) // BLOCK, -(-max(size, before, 1) // BLOCK)))

    def sync(self) -> None:
        """Make durable what is there."""
        self.durable = bytes(self.data)
        self.dirty.clear()

    def surviving(self, dice: random.Random) -> bytes:
        """What a cut leaves."""
        left = bytearray(self.durable)
        for block in sorted(self.dirty):
            if dice.random() < 0.5:
                continue
            new = self.data[block * BLOCK : (block + 1) * BLOCK]
            if not new:
                del left[block * BLOCK :]
                continue
            if len(left) < block * BLOCK:
                left.extend(bytes(block * BLOCK - len(left)))
            left[block * BLOCK : block * BLOCK + len(new)] = new
        return bytes(left)


@dataclass(slots=True, eq=False)
class Folder:
    """A directory: what is in it, and what is durably in it."""

    mode: int
    entries: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)


Change = list[tuple[Folder, str, File | Folder | None]]
"""Entries that are set or removed together."""


class Losing:
    """The operations, as `mfusepy.FUSE` calls them."""

    use_ns = True

    def __init__(self, image: Image, keep: Path) -> None:
        """Begin with an image, all of it durable; at a cut write to `keep` what is left."""
        self._root = Folder(stat.S_IFDIR | 0o755)
        self._keep = keep
        self._journal: list[Change] = []
        self._handles: dict[int, File] = {}
        self._next = 1
        self._cut = False
        for path in sorted(image):
            mode, content = image[path]
            if path == "/":
                continue
            parent, name = self._parent(path)
            node: File | Folder = Folder(mode) if content is None else File(mode, bytearray(content), content)
            parent.entries[name] = parent.durable[name] = node

    # -- finding things

    def _find(self, path: str) -> File | Folder:
        node: File | Folder = self._root
        for part in filter(None, path.split("/")):
            if not isinstance(node, Folder) or part not in node.entries:
                raise _error(errno.ENOENT)
            node = node.entries[part]
        return node

    def _parent(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        node = self._find(above or "/")
        if not isinstance(node, Folder):
            raise _error(errno.ENOTDIR)
        return node, name

    def _file(self, path: str, handle: int | None) -> File:
        node = self._handles.get(handle) if handle else self._find(path)
        if not isinstance(node, File):
            raise _error(errno.EISDIR)
        return node

    def _open(self, file: File) -> int:
        self._next += 1
        self._handles[self._next] = file
        return self._next

    def _change(self, *changes: tuple[Folder, str, File | Folder | None]) -> None:
        for folder, name, node in changes:
            _apply(folder.entries, name, node)
        self._journal.append(list(changes))

    # -- looking

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """See stat(2)."""
        node = self._handles[fh] if fh in self._handles else self._find(path)
        size = len(node.data) if isinstance(node, File) else 0
        return {
            "st_mode": node.mode,
            "st_nlink": 1,
            "st_size": size,
            "st_blocks": -(-size // 512),
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
            "st_atime": 0,
            "st_mtime": 0,
            "st_ctime": 0,
        }

    def readdir(self, path: str, fh: int) -> Iterator[str]:
        """See readdir(3)."""
        folder = self._find(path)
        assert isinstance(folder, Folder)
        return iter([".", "..", *folder.entries])

    def statfs(self, path: str) -> dict[str, int]:
        """See statvfs(3)."""
        free = 1 << 20
        return {"f_bsize": BLOCK, "f_frsize": BLOCK, "f_blocks": free, "f_bfree": free, "f_bavail": free}

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """See pread(2)."""
        return bytes(self._file(path, fh).data[offset : offset + size])

    # -- changing

    def open(self, path: str, flags: int) -> int:
        """See open(2)."""
        return self._open(self._file(path, None))

    def create(self, path: str, mode: int, fi: object = None) -> int:
        """See open(2), O_CREAT."""
        parent, name = self._parent(path)
        file = File(stat.S_IFREG | (mode & 0o7777))
        self._change((parent, name, file))
        return self._open(file)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """See pwrite(2)."""
        self._file(path, fh).write(data, offset)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """See truncate(2)."""
        self._file(path, fh).truncate(length)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        """See mkdir(2)."""
        parent, name = self._parent(path)
        self._change((parent, name, Folder(stat.S_IFDIR | (mode & 0o7777))))
        return 0

    def unlink(self, path: str) -> int:
        """See unlink(2)."""
        parent, name = self._parent(path)
        self._find(path)
        self._change((parent, name, None))
        return 0

    def rmdir(self, path: str) -> int:
        """See rmdir(2)."""
        folder = self._find(path)
        if isinstance(folder, Folder) and folder.entries:
            raise _error(errno.ENOTEMPTY)
        return self.unlink(path)

    def rename(self, old: str, new: str, flags: int = 0) -> int:
        """See rename(2)."""
        (source, old_name), (target, new_name) = self._parent(old), self._parent(new)
        node = self._find(old)
        self._change((source, old_name, None), (target, new_name, node))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """See chmod(2)."""
        node = self._find(path)
        node.mode = stat.S_IFMT(node.mode) | (mode & 0o7777)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        """See chown(2)."""
        return 0

    def utimens(self, path: str, times: object = None) -> int:
        """See utimensat(2)."""
        return 0

    def release(self, path: str, fh: int) -> int:
        """See close(2)."""
        self._handles.pop(fh, None)
        return 0

    def flush(self, path: str, fh: int) -> int:
        """close(2) makes nothing durable."""
        return 0

    # -- making durable, and losing

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        """See fsync(2): the file's content; not its name."""
        self._file(path, fh).sync()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        """See fsync(2), of a directory: what is in it."""
        folder = self._find(path)
        assert isinstance(folder, Folder)
        folder.durable = dict(folder.entries)
        for change in self._journal:
            change[:] = [one for one in change if one[0] is not folder]
        self._journal = [change for change in self._journal if change]
        return 0

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
        """The cut, with a seed for what chance leaves."""
        if name != CUT:
            raise _error(errno.ENOTSUP)
        if not self._cut:
            self._cut = True
            self._keep.write_bytes(pickle.dumps(self._left(random.Random(value))))
        return 0

    def _left(self, dice: random.Random) -> Image:
        for change in self._journal[: dice.randint(0, len(self._journal))]:
            for folder, name, node in change:
                _apply(folder.durable, name, node)
        image: Image = {"/": (self._root.mode, None)}
        folders = [("", self._root)]
        for above, folder in folders:
            for name, node in folder.durable.items():
                path = f"{above}/{name}"
                if isinstance(node, Folder):
                    folders.append((path, node))
                    image[path] = (node.mode, None)
                else:
                    image[path] = (node.mode, node.surviving(dice))
        return image


def _apply(entries: dict[str, File | Folder], name: str, node: File | Folder | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node


def _error(number: int) -> OSError:
    import mfusepy  # type: ignore[import-untyped]

    error: OSError = mfusepy.FuseOSError(number)
    return error


class Disk:
    """A losing file system, mounted on `mount`; an empty one at first. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.mount = folder / "mount"
        self._image = folder / "image"
        self._process = 0
        self.mount.mkdir()
        self._image.write_bytes(pickle.dumps({"/": (stat.S_IFDIR | 0o755, None)}))

    def __enter__(self) -> Disk:
        self._start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop()

    def cut(self, seed: int) -> None:
        """Lose what was not synced, and mount what is left."""
        os.setxattr(self.mount, CUT, str(seed).encode())
        self._stop()
        self._start()

    def _start(self) -> None:
        self._process = os.fork()
        if not self._process:
            try:
                import mfusepy

                image = pickle.loads(self._image.read_bytes())
                options = {"foreground": True, "nothreads": True, "attr_timeout": 0, "entry_timeout": 0}
                mfusepy.FUSE(Losing(image, self._image), str(self.mount), **options)
            finally:
                os._exit(0)
        eventually(self.mount.is_mount, 10, "the file system is mounted")

    def _stop(self) -> None:
        subprocess.run(["fusermount3", "-u", "-z", str(self.mount)], check=True, capture_output=True)
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


def why_not() -> str | None:
    """Why no losing file system can be mounted here, and the command that helps; None where one can."""
    try:
        import mfusepy  # noqa: F401 - whether it can be
    except (ImportError, OSError) as error:
        return f"no FUSE ({error}): apt-get install fuse3 libfuse3-3 && pip install mfusepy"
    if shutil.which("fusermount3") is None:
        return "no FUSE: apt-get install fuse3 libfuse3-3"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened: modprobe fuse, and run as root"
    return None
