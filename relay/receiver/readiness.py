"""Whether a receiver can do its work at the moment: for balancers, which ask every second or so.

That the store answers is not enough: a full disk, and a database that became a standby, answer all questions and take
nothing. So something is written besides, now and then, beside the asking: a disk that is slow because everybody
uploads keeps no balancer waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from relay.errors import StoreError
from relay.limits import DATABASE_SECONDS, DISK_RESERVE, READY_SECONDS, READY_WRITE_SECONDS
from relay.store.interface import Store

TRIED = "ready"
"""The note that is written to see whether anything can be; where the store has no better way."""


@runtime_checkable
class Rehearsing(Protocol):
    """A store that can try what taking a package in needs."""

    async def rehearse(self) -> None:
        """Write as for a new statement, durably, and leave nothing of it. Raises `StoreError`."""


class Readiness:
    """Asks the store, and stands by its answer for a moment, however many ask. `clock` is seconds that only grow;
    `room` tells the bytes that are free, where the store takes no content when they are few."""

    def __init__(self, store: Store, clock: Callable[[], float], room: Callable[[], int] | None = None) -> None:
        self._store = store
        self._clock = clock
        self._room = room
        self._asking = asyncio.Lock()
        self._asked = asyncio.Event()
        self._writes = True
        self._ready = False
        self._until = float("-inf")

    async def ready(self) -> bool:
        """Whether the store answers and takes in. Content may be on a service of its own that is away: tallies do not
        need it."""
        self._asked.set()
        async with self._asking:
            if self._clock() >= self._until:
                try:
                    async with asyncio.timeout(READY_SECONDS):
                        await self._store.log_state()
                except (StoreError, TimeoutError):
                    self._ready = False
                else:
                    self._ready = self._room is None or self._room() > DISK_RESERVE
                self._until = self._clock() + READY_SECONDS
            return self._ready and self._writes

    async def keep_writing(self) -> None:
        """See whether anything can be written, now and then, as long as somebody asks; for ever."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._writes = await self.write()
            await asyncio.sleep(READY_WRITE_SECONDS if self._writes else READY_SECONDS)

    async def write(self) -> bool:
        """Whether the store takes something in now, and keeps it."""
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                if isinstance(self._store, Rehearsing):
                    await self._store.rehearse()
                else:
                    await self._store.set_note(TRIED, "")
        except (StoreError, TimeoutError):
            return False
        return True
