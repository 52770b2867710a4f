"""Reads of a place that is slow, shared by all who ask for the same at once.

Nobody gets what was read before he asked. A read may hang for long, in a service that is away or in a process that was
stopped; what it finds is old by then, and whoever asks later may have seen newer elsewhere: a log that shrinks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Found = TypeVar("Found")


class SharedReads(Generic[Found]):
    """Of each name one read is under way and one waits, whoever asks."""

    def __init__(self, read: Callable[[str], Awaitable[Found]]) -> None:
        self._read = read
        self._under_way: dict[str, asyncio.Task[Found]] = {}
        self._waiting: dict[str, asyncio.Task[Found]] = {}
        """Has not begun: what it will find is new for whoever asks now."""

    async def read(self, name: str) -> Found:
        """What is there now. Raises what the read raises. The read goes on when who asked is gone."""
        task = self._waiting.get(name)
        if task is None:
            task = self._waiting[name] = asyncio.create_task(self._take_turn(name, self._under_way.get(name)))
            task.add_done_callback(_noticed)
        return await asyncio.shield(task)

    async def _take_turn(self, name: str, before: asyncio.Task[Found] | None) -> Found:
        if before is not None:
            await asyncio.wait([before])
        self._under_way[name] = self._waiting.pop(name)
        try:
            return await self._read(name)
        finally:
            del self._under_way[name]


def _noticed(task: asyncio.Task[Found]) -> None:
    """A failure that nobody waits for any more is no trouble."""
    if not task.cancelled():
        task.exception()
