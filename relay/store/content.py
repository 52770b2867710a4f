"""Objects as files, and their chunks: what lies in the store's folder beside the catalogue.

    objects/ab/abcd…          an object that is held whole, named by its SHA-256
    partial/abcd….0123…       what is held of an object by one layout (list of chunk hashes); see `layouts`

Plain functions over a folder: they read, write and sync; what they mean is in the catalogue. Blocking: callers run
them in threads. Guards promise 3: nothing enters `objects` whose content has not been hashed from the disk.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from relay.errors import Malformed, StoreError
from relay.limits import MIB
from relay.records.identifiers import ObjectId
from relay.records.statement import chunk_size_for
from relay.store.durable import TEMPORARY, explained, sync_folder


class Content:
    """The files below a store's folder."""

    def __init__(self, folder: Path) -> None:
        self._objects = folder / "objects"
        self._partial = folder / "partial"

    def prepare(self) -> None:
        """Make the folders; remove what a crash left half-written."""
        with explained(self._objects):
            for folder in (self._objects, self._partial):
                folder.mkdir(parents=True, exist_ok=True)
            for left in self._objects.glob(f"*{TEMPORARY}"):
                left.unlink(missing_ok=True)

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
                view = memoryview(data)
                while view:
                    written = os.pwrite(descriptor, view, offset)
                    view, offset = view[written:], offset + written
            finally:
                os.close(descriptor)

    def sync_partial(self, object_id: ObjectId, layout: bytes) -> None:
        """Sync a partial file's content."""
        path = self.partial_path(object_id, layout)
        with explained(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

    def complete(self, object_id: ObjectId, layout: bytes) -> bool:
        """Move a synced partial file to the objects if its content has its hash; whether it has."""
        path = self.partial_path(object_id, layout)
        with explained(path):
            if _hash(path) != object_id:
                return False
            self._place(path, object_id)
            sync_folder(self._partial)
        return True

    def adopt(self, object_id: ObjectId, source: Path, limit: int) -> int:
        """Copy a file in as an object, synced; its size. Raises `Malformed` if its content has another hash."""
        temporary = self._objects / f".{object_id.hex()}.{os.getpid()}{TEMPORARY}"
        with explained(temporary):
            digest = hashlib.sha256()
            size = 0
            try:
                with source.open("rb") as content, temporary.open("wb") as copy:
                    while block := content.read(MIB):
                        size += len(block)
                        if size > limit:
                            raise Malformed(f"{source} is larger than {limit} bytes")
                        digest.update(block)
                        copy.write(block)
                    copy.flush()
                    os.fsync(copy.fileno())
                if digest.digest() != object_id:
                    raise Malformed(f"The content of {source} is not what its hash says", "Copy the file again.")
                self._place(temporary, object_id)
            finally:
                temporary.unlink(missing_ok=True)
        return size

    def read_chunk(self, object_id: ObjectId, layout: bytes | None, offset: int, length: int) -> bytes | None:
        """A chunk of a whole object, or of a layout's partial file; None where the file is gone."""
        path = self.path(object_id) if layout is None else self.partial_path(object_id, layout)
        try:
            with path.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), length, offset)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{path} cannot be read ({error.strerror})", "Check the disk or card.") from error
        return data if len(data) == length else None

    def holds(self, object_id: ObjectId, size: int) -> bool:
        """Whether an object lies there, whole: its size, then its hash."""
        path = self.path(object_id)
        return path.is_file() and path.stat().st_size == size and _hash(path) == object_id

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
        if not target.parent.exists():
            target.parent.mkdir(exist_ok=True)
            sync_folder(self._objects)
        path.replace(target)
        sync_folder(target.parent)


def span(size: int, index: int) -> tuple[int, int]:
    """Offset and length in bytes of a chunk of an object of `size` bytes."""
    step = chunk_size_for(size)
    return index * step, min(step, size - index * step)


def chunk_count(size: int) -> int:
    """How many chunks an object of `size` bytes has."""
    return -(-size // chunk_size_for(size))


def _hash(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(MIB):
            digest.update(block)
    return digest.digest()
