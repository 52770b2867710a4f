"""When content may begin, while statements are still told of: in which parts they go, and how quickly. Pure but for the
event that tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.limits import FIRST_STATEMENTS, LAST_STATEMENTS, SOON_SECONDS
from relay.store.recordset import Item


@dataclass(frozen=True, slots=True)
class Told:
    """Statements by when they are told of: the first and most of the others before any content, the last beside it."""

    first: Sequence[Item]
    most: Sequence[Item]
    last: Sequence[Item]

    @staticmethod
    def of(statements: Sequence[Item]) -> Told:
        """Divide them."""
        at = max(FIRST_STATEMENTS, len(statements) - LAST_STATEMENTS)
        return Told(statements[:FIRST_STATEMENTS], statements[FIRST_STATEMENTS:at], statements[at:])


class Pace:
    """How quickly records move in one direction, of which so many are `left`; `changed` is called as they do."""

    def __init__(self, left: int, changed: Callable[[], None]) -> None:
        self._moved = 0
        self._left = left
        self._changed = changed

    def moved(self, count: int) -> None:
        """So many records more are there."""
        self._moved += count
        self._left -= count
        self._changed()

    def is_over_within(self, seconds: float, passed: float) -> bool:
        """Whether the rest takes no longer, after so many seconds until now."""
        return self._left * passed <= seconds * self._moved


class Soon:
    """When content may begin: once what is told before it is there, or will be within `SOON_SECONDS` in both directions
    by the pace so far. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], need: Told, have: Told) -> None:
        self._clock = clock
        self._begun = clock()
        self.here, self.there = (Pace(len(one.first) + len(one.most), self._judge) for one in (need, have))
        self.came = asyncio.Event()

    def _judge(self) -> None:
        passed = self._clock() - self._begun
        if all(one.is_over_within(SOON_SECONDS, passed) for one in (self.here, self.there)):
            self.came.set()
