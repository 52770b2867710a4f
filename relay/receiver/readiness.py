"""Whether a receiver can do its work at the moment: for balancers, which ask every second or so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from relay.errors import StoreError
from relay.limits import READY_SECONDS
from relay.store.interface import Store


class Readiness:
    """Asks the store, and stands by its answer for a moment, however many ask. `clock` is seconds that only grow."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._asking = asyncio.Lock()
        self._ready = False
        self._until = float("-inf")

    async def ready(self) -> bool:
        """Whether the store answers. Content may be on a service of its own that is away: tallies do not need it."""
        async with self._asking:
            if self._clock() >= self._until:
                try:
                    async with asyncio.timeout(READY_SECONDS):
                        await self._store.log_state()
                except (StoreError, TimeoutError):
                    self._ready = False
                else:
                    self._ready = True
                self._until = self._clock() + READY_SECONDS
            return self._ready
