"""A bell that many can wait for: rings are counted, so that none is missed between two waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Signal:
    """`ring` wakes all who wait; `count` is the number of rings so far, counted from `first` on."""

    def __init__(self, first: int = 0) -> None:
        self.count = first
        self.heard_by: list[Callable[[], None]] = []
        """Who is told of each ring at once: whoever waits for more than one thing."""
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Ring once."""
        self.count += 1
        self._event.set()
        self._event = asyncio.Event()
        for hear in self.heard_by:
            hear()

    async def wait(self, heard: int, seconds: float | None = None) -> int:
        """Return when `count` has passed `heard`, or after so many seconds; the count then."""
        try:
            async with asyncio.timeout(seconds):
                while self.count <= heard:
                    await self._event.wait()
        except TimeoutError:
            pass
        return self.count
