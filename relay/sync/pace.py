"""When content may begin, while statements are still told of: in which parts they go, and how quickly. Pure but for the
events that tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.limits import FIRST_STATEMENTS, LAST_STATEMENTS, SOON_SECONDS
from relay.store.recordset import Item


@dataclass(frozen=True, slots=True)
class Told:
    """Statements of one direction by when they are told of: the first and most of the others before any of its content,
    the last beside it."""

    first: Sequence[Item]
    most: Sequence[Item]
    last: Sequence[Item]

    @staticmethod
    def of(statements: Sequence[Item], came: int = 0) -> Told:
        """Divide them, before which so many came already."""
        first = max(0, FIRST_STATEMENTS - came)
        at = max(first, len(statements) - LAST_STATEMENTS)
        return Told(statements[:first], statements[first:at], statements[at:])


class Pace:
    """How quickly records move in one direction, of which so many are `left`; `changed` is called as they do."""

    def __init__(self, left: int, changed: Callable[[], None]) -> None:
        self.came = asyncio.Event()
        """Set when content may begin in this direction."""
        self._moved = 0
        self.left = left
        self._changed = changed

    def moved(self, count: int) -> None:
        """So many records more are there."""
        self._moved += count
        self.left -= count
        self._changed()

    def waits_for(self, count: int) -> None:
        """So many records are left, and others will not come."""
        self.left = count
        self._changed()

    @property
    def is_short(self) -> bool:
        """Whether there is so little left that content beside it keeps nobody waiting."""
        return self.left <= FIRST_STATEMENTS

    def is_over_within(self, seconds: float, passed: float) -> bool:
        """Whether the rest takes no longer, after so many seconds until now."""
        return not self.left or (self._moved > 0 and self.left * passed <= seconds * self._moved)


class Soon:
    """When content may begin, in each direction: once what is told before it is there, or will be within `SOON_SECONDS`
    by the pace so far, and what is told in the other direction is nearly there as well. `clock` is monotonic, in
    seconds."""

    def __init__(self, clock: Callable[[], float], need: Told, have: Told) -> None:
        self._clock = clock
        self._begun = clock()
        self.here, self.there = (Pace(len(one.first) + len(one.most), self._judge) for one in (need, have))
        self.begun = asyncio.Event()
        """Set when content may begin in one direction."""
        self._judge()

    def all_came(self) -> None:
        """Say that all is there that is told before content, or will not come."""
        for one in (self.here, self.there):
            self._begin(one)

    def _judge(self) -> None:
        passed = self._clock() - self._begun
        for one, other in ((self.here, self.there), (self.there, self.here)):
            soon = other.is_short or other.is_over_within(SOON_SECONDS, passed)
            if soon and one.is_over_within(SOON_SECONDS, passed):
                self._begin(one)

    def _begin(self, direction: Pace) -> None:
        direction.came.set()
        self.begun.set()
