"""How much of the time the site's work takes. It is done in slices: after each, others have their turn.

What costs as the register is large must not be done at a stretch in the loop: while that is silent a receiver takes
nothing in, tells no watchdog that it lives, and loses its lead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_T = TypeVar("_T")
_STEPS = 128
"""Of a thread, until it gives way: a millisecond or two, less than others would wait for it otherwise."""


class Pace:
    """Keeps work to a share of the time; of all of it, where there is nobody to give way to."""

    def __init__(
        self,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.thread_time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`clock` is seconds in which work is done, `processor` those that a thread has worked."""
        self.rested = 0.0
        """Seconds of rest so far."""
        self._ratio = 1 / share - 1
        self._clock = clock
        self._processor = processor
        self._pause = pause
        self._since = clock()

    @property
    def due(self) -> float:
        """Seconds to rest for the work since it began, or since the last rest."""
        return self.rest_for(self._clock() - self._since)

    def rest_for(self, seconds: float) -> float:
        """Seconds to rest for so many of work."""
        return seconds * self._ratio

    def begin(self) -> None:
        """Work begins now."""
        self._since = self._clock()

    async def rest(self) -> None:
        """Rest for what was done since the last rest."""
        seconds = self.due
        await asyncio.sleep(seconds)
        self.rested += seconds
        self.begin()

    def giving_way(self, items: Iterable[_T]) -> Iterator[_T]:
        """These, one by one, for a thread that works with each: it rests after every few."""
        worked = self._processor()
        for number, one in enumerate(items, 1):
            yield one
            if number % _STEPS == 0:
                seconds = (self._processor() - worked) * self._ratio
                self._pause(seconds)
                self.rested += seconds
                self.begin()
                worked = self._processor()
