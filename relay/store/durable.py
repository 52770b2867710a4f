"""The one durable write: a file is whole under its name, or it is not there. Guards promise 5.

The system calls, in this order:

    1. open(temporary, O_CREAT | O_EXCL)    beside the target, hence on the same file system
    2. write, until all is written
    3. fsync(temporary)                     the content is on the disk
    4. close
    5. rename(temporary, target)            atomic: readers see the old file or the new one
    6. fsync(folder)                        the name is on the disk

When an fsync fails, the kernel has dropped the pages it could not write and marks them clean: a second fsync would
succeed and reading back would show what never reached the disk. So an error of fsync ends the write: the temporary
file is removed, the target stays as it was (after step 5 it may be either), and nothing is read again to find out.

These functions block; coroutines call them through `asyncio.to_thread`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from relay.errors import DiskFull, StoreError, Unreadable
from relay.limits import MIB

TEMPORARY = ".tmp"
"""How the names of files end that are not whole yet; they begin with a dot."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_THE_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What keeps a file from being read that has nothing to do with the file."""
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""What file systems say that keep no folders to sync (some FUSE mounts of sticks)."""


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file and its name to the disk, replacing what was there. Raises `StoreError`; then nothing changed."""
    _replace(path, [data], mode)


def copy_durably(source: Path, target: Path, mode: int = 0o644) -> bytes:
    """Copy a file, as `write_durably` does; the SHA-256 of what was copied. Raises `StoreError`; then `target` is as it
    was. It is `Unreadable` where the trouble is with `source`."""
    digest = hashlib.sha256()

    def blocks(file: BinaryIO) -> Iterator[bytes]:
        while block := _next_block(file, source):
            digest.update(block)
            yield block

    with ExitStack() as stack:
        with reading(source):
            file = stack.enter_context(source.open("rb"))
        _replace(target, blocks(file), mode)
    return digest.digest()


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write `data` at `offset`, whole: one call may write less, as it does before a disk is full."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Make a folder and those above it, where they are missing, and put their names on the disk. Raises `OSError`."""
    if not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent, mode)
        folder.mkdir(mode=mode, exist_ok=True)
        sync_folder(folder.parent)


def bytes_free(path: Path) -> int:
    """Bytes that this process may still write to the disk of `path`. Raises `StoreError`."""
    with explained(path):
        facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Within it, trouble of the disk with `path` is a `StoreError`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Within it, trouble of the disk with reading `path` is `Unreadable`."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_THE_PROCESS:
            raise disk_error(error, path) from error
        raise Unreadable(f"{path} cannot be read ({error.strerror})", "Check the disk, card or stick.") from error


def disk_error(error: OSError, path: Path) -> StoreError:
    """The `StoreError` that tells a user about a disk's trouble with `path`."""
    if error.errno in _FULL:
        return DiskFull(
            f"The disk is full ({path})",
            "Free some space; what was acknowledged is safe, and the rest is fetched again.",
        )
    if error.errno == errno.EIO:
        return StoreError(f"The disk fails ({path}: {error.strerror})", "Stop this node, replace the disk, join again.")
    return StoreError(f"{path} cannot be used ({error.strerror})", "Check the folder, its owner and its disk.")


def _replace(path: Path, blocks: Iterable[bytes] | Iterator[bytes], mode: int) -> None:
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            offset = 0
            for block in blocks:
                write_all(descriptor, block, offset)
                offset += len(block)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, Unreadable) as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, Unreadable):  # what was to be written, and not where
            raise
        raise disk_error(error, path) from error


def _next_block(file: BinaryIO, source: Path) -> bytes:
    with reading(source):
        return file.read(MIB)
