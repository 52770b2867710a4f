"""Ballast: a file that only takes up room, and goes overboard when the disk is full.

Whatever frees a disk writes to it first: what is to be deleted is marked in the catalogue (promise 5), and a receipt or
a notice is kept before it counts. On a disk without a byte none of that could be done, and it would stay full for ever,
whoever filled it. So a store keeps some room back for what frees space or rules, as a file of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from relay.errors import DiskFull, StoreError
from relay.limits import BALLAST_CLEARANCE, BALLAST_RETRY_SECONDS, LEAST_ROOM, MIB
from relay.store.durable import TEMPORARY, bytes_free, explained, sync_folder, write_durably

T = TypeVar("T")
NAME = "ballast"
logger = logging.getLogger(__name__)


class Ballast:
    """Of the store in `folder`: `size` bytes of it, none where 0. Several processes may have the same. `steady` is
    seconds that only grow."""

    def __init__(self, folder: Path, size: int, steady: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._file = folder / NAME
        self._size = size
        self._steady = steady
        self._told = False
        """Whether it was said that the disk is full, since there was room last."""
        self._not_before = steady()
        """When to take it on at the earliest."""

    async def renew(self) -> None:
        """Take it on where it is not there, and there is room. A store needs none to work: what keeps it from that is
        no trouble of whoever asks, and is not tried again at once."""
        if not self._size or self._steady() < self._not_before:
            return
        try:
            if self._is_missing() and self._has_room():
                await asyncio.to_thread(self._take_on)
        except StoreError as error:
            self._not_before = self._steady() + BALLAST_RETRY_SECONDS
            logger.info("no ballast: %s", error.what)

    async def make_way(self) -> None:
        """Give it up where a catalogue could not even be opened: its write-ahead log takes room, too."""
        if bytes_free(self._folder) < LEAST_ROOM:
            await asyncio.to_thread(self._give_up)

    async def afloat(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what frees space or rules; where the disk is full, give the ballast up and do it once more. What is begun
        anew must have left nothing behind."""
        try:
            return await work()
        except DiskFull as error:
            if not await asyncio.to_thread(self._give_up):
                self._tell(f"{error.what}. {_STUCK}")
                raise
        try:
            return await work()
        except DiskFull as error:
            self._tell(f"{error.what}. {_STUCK}")
            raise

    def _is_missing(self) -> bool:
        with explained(self._file):  # a damaged file system may not even say
            return not self._file.exists()

    def _has_room(self) -> bool:
        return bytes_free(self._folder) >= self._size + BALLAST_CLEARANCE

    def _take_on(self) -> None:
        """Write it, in bytes that no file system can hold in less room."""
        self._clear()
        try:
            write_durably(self._file, os.urandom(self._size), mode=0o600)
        except StoreError:
            self._clear()
            raise
        if self._told:
            logger.info("there is room on the disk again: took %d MiB of ballast on", self._size // MIB)
        self._told = False

    def _give_up(self) -> bool:
        """Whether there is room now: by this, or since something else went."""
        size = self._clear(self._file)
        if size:
            self._told = True
            logger.error(
                "the disk is full (%s): gave up the ballast of %d MiB, so that receipts and notices are kept and what "
                "was delivered is freed. Free some space: the ballast is taken on again by itself",
                self._folder,
                size // MIB,
            )
        return bool(size) or bytes_free(self._folder) >= LEAST_ROOM

    def _clear(self, *files: Path) -> int:
        """Delete these, and what a power cut left of a ballast: how many bytes that were."""
        size = 0
        for file in (*files, *self._left_over()):
            with suppress(OSError):
                its_size = file.stat().st_size
                file.unlink()
                size += its_size
        with suppress(OSError):
            if size:
                sync_folder(self._folder)  # some file systems give the room back with that only
        return size

    def _left_over(self) -> list[Path]:
        with suppress(OSError):
            return list(self._folder.glob(f".{NAME}.*{TEMPORARY}"))
        return []

    def _tell(self, text: str) -> None:
        if not self._told:
            self._told = True
            logger.error("%s", text)


_STUCK = "There is no ballast to give up: nothing can be kept or freed before somebody frees some space"
