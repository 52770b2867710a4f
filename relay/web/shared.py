"""Reads of a place that is slow, shared by all who ask for the same at once, and few at a time.

Nobody gets what was read before he asked. A read may hang for long, in a service that is away or in a process that was
stopped; what it finds is old by then, and whoever asks later may have seen newer elsewhere: a log that shrinks.

Nothing is read for those who are gone: a read that waits for its turn goes with the last who asked for it. One that has
begun runs to its end, since to call a service off may cost it more than to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from relay.together import note_end

Name = TypeVar("Name", bound=Hashable)
Found = TypeVar("Found")


@dataclass(slots=True, eq=False)
class _Turn(Generic[Found]):
    """A read that has not begun, and how many ask for it."""

    task: asyncio.Task[Found]
    askers: int = 0


class SharedReads(Generic[Name, Found]):
    """Of each name one read is under way and one waits, whoever asks; of all names `at_once` are under way."""

    def __init__(self, read: Callable[[Name], Awaitable[Found]], at_once: int) -> None:
        self._read = read
        self._places = asyncio.Semaphore(at_once)
        self._under_way: dict[Name, asyncio.Task[Found]] = {}
        self._waiting: dict[Name, _Turn[Found]] = {}
        """Has not begun: what it will find is new for whoever asks now."""

    async def read(self, name: Name) -> Found:
        """What is there now. Raises what the read raises. A read that has begun goes on when who asked is gone."""
        turn = self._waiting.get(name)
        if turn is None:
            task = asyncio.create_task(self._take_turn(name, self._under_way.get(name)))
            task.add_done_callback(note_end)
            turn = self._waiting[name] = _Turn(task)
        turn.askers += 1
        try:
            return await asyncio.shield(turn.task)
        finally:
            turn.askers -= 1
            if not turn.askers and self._waiting.get(name) is turn:
                del self._waiting[name]
                turn.task.cancel()

    async def _take_turn(self, name: Name, before: asyncio.Task[Found] | None) -> Found:
        if before is not None:
            await asyncio.wait([before])
        async with self._places:
            self._under_way[name] = self._waiting.pop(name).task
            try:
                return await self._read(name)
            finally:
                del self._under_way[name]
