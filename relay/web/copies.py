"""Copies on the disk of what is served: a compressed one of a large page, a plain one of what a bucket holds.

What is sent from the disk is held nowhere in memory, however slowly it is read. A copy is made once, few at a time, and
all of them together take so many bytes at most: those that were asked for longest ago go. Nothing here needs to last: a
receiver that was started again begins with an empty folder.
"""

from __future__ import annotations

import asyncio
import gzip
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from relay.limits import KIB
from relay.store.durable import TEMPORARY, explained

_BLOCK = 64 * KIB
_LEVEL = 6
_AT_ONCE = 2
"""Copies that are made: the intake needs the processor as well."""


class Copies:
    """Files in a folder of their own, of at most `most` bytes together, by the name of their content."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        self._sizes: OrderedDict[str, int] = OrderedDict()
        """Those that are there, the one asked for longest ago first."""
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._begun = False

    async def open(self, name: str, make: Callable[[BinaryIO], None]) -> BufferedReader:
        """The copy with this name, for reading; `make` writes it where there is none. Raises `StoreError`.

        Who leaves while his copy is made is kept until it is: the thread that makes it goes on and reads what he gave
        it, and what it makes takes its room on the disk like all others.
        """
        there = await self.held(name)
        if there is not None:
            return there
        async with self._room:
            there = await self.held(name)
            if there is not None:
                return there
            making = asyncio.create_task(self._keep(name, make))
            try:
                return await asyncio.shield(making)
            except asyncio.CancelledError:
                while not making.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([making])
                if making.exception() is None:
                    making.result().close()
                raise

    async def _keep(self, name: str, make: Callable[[BinaryIO], None]) -> BufferedReader:
        """Make a copy, and let those go that are too many then."""
        if not self._begun:
            self._begun = True
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
        with explained(self._folder):
            file, size = await asyncio.to_thread(self._make, name, make)
        self._sizes[name] = size
        while sum(self._sizes.values()) > self._most:
            oldest, _ = self._sizes.popitem(last=False)
            with suppress(OSError):
                (self._folder / oldest).unlink()  # who is reading it reads on
        return file

    async def held(self, name: str) -> BufferedReader | None:
        """The copy with this name; None where there is none."""
        if name not in self._sizes:
            return None
        self._sizes.move_to_end(name)
        with suppress(OSError):  # somebody tidied
            return await asyncio.to_thread((self._folder / name).open, "rb")
        return None

    def _make(self, name: str, make: Callable[[BinaryIO], None]) -> tuple[BufferedReader, int]:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{secrets.token_hex(4)}{TEMPORARY}"
        try:
            with temporary.open("wb") as target:
                make(target)
            size = temporary.stat().st_size
            temporary.replace(self._folder / name)
        finally:
            temporary.unlink(missing_ok=True)
        return (self._folder / name).open("rb"), size


def compressed(source: BinaryIO) -> Callable[[BinaryIO], None]:
    """What writes `source` compressed. The same bytes whenever and wherever it is done."""

    def make(target: BinaryIO) -> None:
        source.seek(0)
        with gzip.GzipFile("", "wb", _LEVEL, target, mtime=0) as into:
            shutil.copyfileobj(source, into, _BLOCK)

    return make
