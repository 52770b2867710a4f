"""Copies of content from the bucket, to hand out as files: the public reads one photograph many times.

A file here is believed only after it was hashed: by this process, when it fetched it or first met it. Several
processes of one machine may keep their copies in one folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from relay.limits import LEFT_OVER_SECONDS, MAX_CACHED_OBJECTS
from relay.records.identifiers import ObjectId, sha256
from relay.store.durable import TEMPORARY, explained, make_folder, write_durably

Fetch = Callable[[ObjectId], Awaitable[bytes | None]]
"""The content of an object, checked against its hash; None where there is none."""


class Cache:
    """Copies in `folder` of what `fetch` gives. For one event loop; whoever asks at once waits for the same fetch."""

    def __init__(self, folder: Path, fetch: Fetch) -> None:
        self._folder = folder
        self._fetch = fetch
        self._sizes: dict[ObjectId, int] = {}
        """Of the copies that this process hashed."""
        self._coming: dict[ObjectId, asyncio.Task[Path | None]] = {}

    async def path(self, object_id: ObjectId) -> Path | None:
        """A copy of an object, which may be gone when some hundred others were asked for; None where there is no such
        object. Raises `StoreError`."""
        path = self._folder / object_id.hex()
        if object_id in self._sizes and _size(path) == self._sizes[object_id]:
            return path
        coming = self._coming.get(object_id)
        if coming is None:
            coming = asyncio.create_task(self._bring(object_id, path))
            self._coming[object_id] = coming
            coming.add_done_callback(lambda done: self._came(object_id, done))
        return await asyncio.shield(coming)  # who leaves takes nobody along

    async def close(self) -> None:
        """Leave no fetch behind."""
        for coming in list(self._coming.values()):
            coming.cancel()
            await asyncio.wait([coming])

    def _came(self, object_id: ObjectId, done: asyncio.Task[Path | None]) -> None:
        self._coming.pop(object_id, None)
        if not done.cancelled():
            done.exception()  # whoever still waits for it raises it

    async def _bring(self, object_id: ObjectId, path: Path) -> Path | None:
        size = await asyncio.to_thread(_size_if_right, path, object_id)
        if size is None:
            content = await self._fetch(object_id)
            if content is None:
                return None
            await asyncio.to_thread(_keep, path, content)
            size = len(content)
        if len(self._sizes) >= 2 * MAX_CACHED_OBJECTS:
            self._sizes.pop(next(iter(self._sizes)))
        self._sizes[object_id] = size
        return path


def _size(path: Path) -> int | None:
    """The size of a file; None where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _size_if_right(path: Path, object_id: ObjectId) -> int | None:
    """The size of a copy whose content is the object's; None for one that is not, and where there is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return len(content) if sha256(content) == object_id else None


def _keep(path: Path, content: bytes) -> None:
    """Keep a copy; the ones that were made first go. Raises `StoreError`."""
    with explained(path):
        make_folder(path.parent)
    write_durably(path, content)
    with explained(path):
        _make_room(path.parent)


def _make_room(folder: Path) -> None:
    """Let go of copies that are too many, and of what a process that ended was writing. Others may do the same."""
    copies: list[tuple[float, Path]] = []
    unfinished: list[tuple[float, Path]] = []
    for one in folder.iterdir():
        with suppress(FileNotFoundError):
            (unfinished if one.name.endswith(TEMPORARY) else copies).append((one.stat().st_mtime, one))
    copies.sort()
    left = [one for written, one in unfinished if copies and written < copies[-1][0] - LEFT_OVER_SECONDS]
    for gone in (*left, *(one for _, one in copies[:-MAX_CACHED_OBJECTS])):
        with suppress(FileNotFoundError):
            gone.unlink()
