"""Where published files go: one small interface, and the folder behind it. A bucket has the same calls.

Readers see a file whole, old or new. What is written `durable` is on the disk when the call returns: tiles of the log,
before the checkpoint that covers them. All else is not synced one by one (an arrival touches some twenty files, and a
synced write of each would cost more than all else): `settle` puts everything written so far on the disk, and only what
was settled is counted on after a power cut. Whatever is published can be written again from the log.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from relay.errors import StoreError
from relay.store.durable import TEMPORARY, copy_durably, explained, make_folder, write_durably

FOR_EVER = "public, max-age=31536000, immutable"
"""Cache header of what is named by its hash, and of tiles."""
FRESH = "public, max-age=1, s-maxage=2"
"""Cache header of what changes: a crowd of readers is one question in a while to whoever stands behind the cache."""


@dataclass(frozen=True, slots=True)
class Page:
    """A file to publish."""

    path: str
    content: bytes
    content_type: str


class Shelf(Protocol):
    """A place for published files. Paths are relative, with slashes. Every call may raise `StoreError`."""

    async def write(
        self, path: str, content: bytes, content_type: str, cache: str = FRESH, *, durable: bool = False
    ) -> None:
        """Put a file there, in place of what was."""

    async def read(self, path: str) -> bytes | None:
        """What was written, or None."""

    async def copy(self, path: str, source: Path, content_type: str, cache: str) -> None:
        """Put a large file that never changes there, unless it is there already. `Unreadable` where the trouble is with
        `source`."""

    async def holds(self, paths: Sequence[str]) -> bool:
        """Whether all of these are there still. A place that loses nothing it took may say so without looking."""

    async def settle(self) -> None:
        """Return when everything written is on the disk."""


class FolderShelf:
    """A folder. Types and cache headers are for the web server that serves it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def write(
        self,
        path: str,
        content: bytes,
        content_type: str,  # noqa: ARG002
        cache: str = FRESH,  # noqa: ARG002
        *,
        durable: bool = False,
    ) -> None:
        """See `Shelf`."""
        await asyncio.to_thread(_write_durably if durable else _write, self.file(path), content)

    async def read(self, path: str) -> bytes | None:
        """See `Shelf`."""
        return await asyncio.to_thread(_read, self.file(path))

    async def copy(self, path: str, source: Path, content_type: str, cache: str) -> None:  # noqa: ARG002
        """See `Shelf`. A hard link where that is possible: the content takes its room once, and is on the disk."""
        await asyncio.to_thread(_copy, self.file(path), source)

    async def holds(self, paths: Sequence[str]) -> bool:
        """See `Shelf`. A folder may have lost anything: somebody tidied, or a copy of it was not complete."""
        return await asyncio.to_thread(lambda: all(_is_there(self.file(path)) for path in paths))

    async def settle(self) -> None:
        """See `Shelf`."""
        await asyncio.to_thread(os.sync)

    def file(self, path: str) -> Path:
        """The file of a path."""
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts:
            raise ValueError(f"{path!r} is no path of a published file")
        return self.folder.joinpath(*parts)


_CROWDED = 5
"""Processors are crowded where whoever needs one waits for it for a fifth of the time."""


class GuardedShelf:
    """Another shelf, for one of several writers: it writes only while `leads` says so, so that one that hung and was
    followed by another does not write over that one's files; and not more than so many calls are under way at once.
    `clock` is seconds that only grow, `delayed` those of them in which this thread waited for a processor."""

    def __init__(
        self,
        shelf: Shelf,
        leads: Callable[[], Awaitable[bool]],
        most: int,
        clock: Callable[[], float] = time.monotonic,
        delayed: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.waited = 0.0
        """Seconds in which calls were under way to a service elsewhere: they are no load on this machine."""
        self.crowded = 0.0
        """Those of them in which its processors were crowded: the service may be on it, too."""
        self.is_elsewhere = not isinstance(shelf, FolderShelf)
        self._shelf = shelf
        self._leads = leads
        self._room = asyncio.Semaphore(most)
        self._clock = clock
        self._delayed = delayed
        self._under_way = 0
        self._since = self._delayed_before = 0.0

    async def write(
        self, path: str, content: bytes, content_type: str, cache: str = FRESH, *, durable: bool = False
    ) -> None:
        """See `Shelf`. Raises `StoreError` when another writer leads."""
        async with self._call():
            await self._check()
            await self._shelf.write(path, content, content_type, cache, durable=durable)

    async def read(self, path: str) -> bytes | None:
        """See `Shelf`."""
        async with self._call():
            return await self._shelf.read(path)

    async def copy(self, path: str, source: Path, content_type: str, cache: str) -> None:
        """See `Shelf`. Raises `StoreError` when another writer leads."""
        async with self._call():
            await self._check()
            await self._shelf.copy(path, source, content_type, cache)

    async def holds(self, paths: Sequence[str]) -> bool:
        """See `Shelf`."""
        return await self._shelf.holds(paths)

    async def settle(self) -> None:
        """See `Shelf`."""
        await self._shelf.settle()

    async def _check(self) -> None:
        if not await self._leads():
            raise StoreError("Another receiver writes the site now", "There is nothing to do: this one stands by.")

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        async with self._room:
            if not self._under_way:
                self._since = self._clock()
                self._delayed_before = self._delayed() if self.is_elsewhere else 0.0
            self._under_way += 1
            try:
                yield
            finally:
                self._under_way -= 1
                if not self._under_way and self.is_elsewhere:
                    passed, delayed = self._clock() - self._since, self._delayed() - self._delayed_before
                    self.waited += passed
                    self.crowded += min(passed, max(0.0, delayed * _CROWDED))


def _write_durably(target: Path, content: bytes) -> None:
    with explained(target.parent):
        make_folder(target.parent)
    write_durably(target, content)


def _write(target: Path, content: bytes) -> None:
    temporary = _beside(target)
    with explained(target):
        try:
            _open_new(temporary, content)
            temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _is_there(target: Path) -> bool:
    with explained(target):
        return target.is_file()


def _copy(target: Path, source: Path) -> None:
    with explained(target):
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            try:
                target.hardlink_to(source)
            except FileExistsError:
                raise
            except OSError:  # another file system, or one without links
                copy_durably(source, target)  # what never changes is not written again


def _open_new(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _read(path: Path) -> bytes | None:
    with explained(path):
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}{TEMPORARY}")
