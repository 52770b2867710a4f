"""Objects as files, and their chunks: what lies in the store's folder beside the catalogue.

    objects/ab/abcd…          an object that is held whole, named by its SHA-256
    partial/abcd….0123…       what is held of an object by one layout (list of chunk hashes); see `layouts`

Plain functions over a folder: they read, write and sync; what they mean is in the catalogue. Blocking: callers run
them in threads. Guards promise 3: nothing enters `objects` whose content has not been hashed from the disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from relay.errors import Malformed, Unreadable
from relay.limits import MIB
from relay.records.identifiers import HASH_SIZE, ObjectId
from relay.store.durable import TEMPORARY, explained, make_folder, reading, sync_folder, write_all
from relay.store.layouts import chunk_count, span

_SYNCED_AT_ONCE = 8


class Content:
    """The files below a store's folder."""

    def __init__(self, folder: Path) -> None:
        self._objects = folder / "objects"
        self._partial = folder / "partial"
        self._lock_file = folder / "open.lock"
        self._lock: int | None = None
        self._named: set[str] = set()
        """The folders of objects whose names are on the disk, as far as this process knows. That such a folder is
        there does not say so: another thread or process may have made it just now."""

    def prepare(self) -> bool:
        """Make the folders; whether no other process has the store open. Then what a crash left is removed, and others
        wait until `share`: what is half-written while nobody is at work is nobody's."""
        with explained(self._objects):
            for folder in (self._objects, self._partial):
                make_folder(folder)
            self._lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(self._lock, fcntl.LOCK_SH)
                return False
            for left in self._objects.glob(f"*{TEMPORARY}"):
                left.unlink(missing_ok=True)
        return True

    def holds_any(self) -> bool:
        """Whether an object lies here. Raises `StoreError`."""
        with explained(self._objects):
            return next(self._objects.glob("??/*"), None) is not None

    def sync_names(self) -> None:
        """Put the names of the store and of what is in it on the disk: who made them may have ended before that.
        Raises `StoreError`."""
        store = self._lock_file.parent
        with explained(store):
            for folder in (store.parent, store, self._objects):
                sync_folder(folder)

    def share(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        """This process is done with the store."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def path(self, object_id: ObjectId) -> Path:
        """Where a whole object lies."""
        name = object_id.hex()
        return self._objects / name[:2] / name

    def partial_path(self, object_id: ObjectId, layout: bytes) -> Path:
        """Where the chunks of one layout are gathered."""
        return self._partial / f"{object_id.hex()}.{layout.hex()}"

    def partials(self) -> list[tuple[ObjectId, bytes]]:
        """Object and layout of every partial file."""
        found: list[tuple[ObjectId, bytes]] = []
        for file in self._partial.iterdir():
            with suppress(ValueError):
                name, _, layout = file.name.partition(".")
                found.append((ObjectId(bytes.fromhex(name)), bytes.fromhex(layout)))
        return found

    def write_chunk(self, object_id: ObjectId, layout: bytes, offset: int, data: bytes) -> None:
        """Write a chunk into a partial file; not synced."""
        path = self.partial_path(object_id, layout)
        with explained(path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                write_all(descriptor, data, offset)
            finally:
                os.close(descriptor)

    def sync_partial(self, object_id: ObjectId, layout: bytes) -> bool:
        """Sync a partial file's content; False where another process took it away. Its name, if it is new, is synced
        with those of others by `sync_partials`."""
        path = self.partial_path(object_id, layout)
        with explained(path):
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        return True

    def sync_partials(self) -> None:
        """Sync the names of partial files."""
        with explained(self._partial):
            sync_folder(self._partial)

    def is_whole(self, object_id: ObjectId, layout: bytes) -> bool:
        """Whether a partial file's content is the object. Raises `Unreadable`."""
        path = self.partial_path(object_id, layout)
        with reading(path):
            return _hash(path) == object_id

    def right_chunks(self, object_id: ObjectId, layout: bytes, size: int, hashes: bytes) -> int:
        """The bit set of the chunks of a partial file that can be read and have their hashes."""
        bits = 0
        for index in range(chunk_count(size)):
            data = None
            with suppress(Unreadable):
                data = self.read_chunk(object_id, layout, *span(size, index))
            expected = hashes[index * HASH_SIZE : (index + 1) * HASH_SIZE]
            bits |= (data is not None and hashlib.sha256(data).digest() == expected) << index
        return bits

    def place(self, object_id: ObjectId, layout: bytes) -> None:
        """Move a synced partial file to the objects; `sync_places` puts its name there on the disk."""
        path = self.partial_path(object_id, layout)
        with explained(path):
            self._place(path, object_id)

    def sync_places(self, objects: Sequence[ObjectId]) -> None:
        """Sync the names of objects that were placed; at the same time, where there are many."""
        folders = sorted({self.path(one).parent for one in objects})
        with explained(self._objects):
            if len(folders) < 2:
                for folder in folders:
                    sync_folder(folder)
                return
            with ThreadPoolExecutor(min(_SYNCED_AT_ONCE, len(folders))) as threads:
                list(threads.map(sync_folder, folders))

    def take_back(self, object_id: ObjectId, layout: bytes) -> None:
        """Undo `place`: the catalogue did not commit."""
        with suppress(OSError):
            self.path(object_id).replace(self.partial_path(object_id, layout))

    def copy_in(self, object_id: ObjectId, source: Path, limit: int) -> tuple[Path, int]:
        """Copy a file beside the objects, synced: the copy, for `place_copy` or `unlink`, and its size.

        Raises `Malformed` if its content has another hash, `Unreadable` where `source` is not to be had.
        """
        temporary = self._objects / f".{object_id.hex()}.{secrets.token_hex(4)}{TEMPORARY}"
        with reading(source):
            content = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not hold us up
        try:
            if not stat.S_ISREG(os.fstat(content).st_mode):
                raise Malformed(f"{source} is not a file", "Name a file.")  # noqa: TRY301
            size = _copy(content, temporary, object_id, limit, source)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(content)
        return temporary, size

    def place_copy(self, temporary: Path, object_id: ObjectId) -> None:
        """Move what `copy_in` made to the objects."""
        with explained(temporary):
            self._place(temporary, object_id)
        self.sync_places([object_id])

    def read_chunk(self, object_id: ObjectId, layout: bytes | None, offset: int, length: int) -> bytes | None:
        """A chunk of a whole object, or of a layout's partial file; None where the file is gone. Raises
        `Unreadable`."""
        path = self.path(object_id) if layout is None else self.partial_path(object_id, layout)
        with reading(path):
            try:
                with path.open("rb", buffering=0) as file:
                    data = os.pread(file.fileno(), length, offset)
            except FileNotFoundError:
                return None
        return data if len(data) == length else None

    def holds(self, object_id: ObjectId, size: int) -> bool:
        """Whether an object lies there, whole: its size, then its hash. What cannot be read does not."""
        path = self.path(object_id)
        try:
            with reading(path):
                return path.is_file() and path.stat().st_size == size and _hash(path) == object_id
        except Unreadable:
            return False

    def remove(self, object_id: ObjectId) -> None:
        """Delete a whole object's file."""
        with explained(self.path(object_id)):
            self.path(object_id).unlink(missing_ok=True)

    def remove_partial(self, object_id: ObjectId, layout: bytes) -> None:
        """Delete a partial file."""
        path = self.partial_path(object_id, layout)
        with explained(path):
            path.unlink(missing_ok=True)

    def _place(self, path: Path, object_id: ObjectId) -> None:
        target = self.path(object_id)
        if target.parent.name not in self._named:
            target.parent.mkdir(exist_ok=True)
            sync_folder(self._objects)
            self._named.add(target.parent.name)
        path.replace(target)


def _copy(content: int, temporary: Path, object_id: ObjectId, limit: int, source: Path) -> int:
    digest = hashlib.sha256()
    size = 0
    with explained(temporary):
        copy = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        while block := _read_block(content, source):
            if size + len(block) > limit:
                raise Malformed(f"{source} is larger than {limit} bytes")
            digest.update(block)
            with explained(temporary):
                write_all(copy, block, size)
            size += len(block)
        if digest.digest() != object_id:
            raise Malformed(f"The content of {source} is not what its hash says", "Copy the file again.")
        with explained(temporary):
            os.fsync(copy)
    finally:
        os.close(copy)
    return size


def _read_block(content: int, source: Path) -> bytes:
    with reading(source):
        return os.read(content, MIB)


def _hash(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.digest()
