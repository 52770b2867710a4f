"""Retention: freeing content that has been delivered, and nothing else (promise 4).

Content is freed against a receipt only. What other devices made is freed when space is asked for; what this device
made is kept for its retention time besides. New content is refused (by `Store.wants`) before anything undelivered goes.

How long something was kept is told by the device's clock, which may be wrong, and may be set at any moment. A time that
shows to be none is not reckoned with: `Retention`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from relay.errors import DiskFull, StoreError
from relay.limits import JUMP_SECONDS
from relay.store.interface import Store

logger = logging.getLogger(__name__)


class Retention:
    """What a node keeps of its own packages, and for how long, while it runs. All times are seconds.

    `wall` is what the device's clock shows; `steady` goes on as time does, whoever sets that clock; `enrolled` is when
    the node's certificate was issued. Before that nothing was delivered: a clock that shows less, as that of a box
    without a battery does when it starts, tells no time. And where the clock was set forward while this node ran, what
    came before that came by another reckoning. In both cases the time that a package is kept for begins anew.
    """

    def __init__(
        self, store: Store, kept_for: int, enrolled: int, wall: Callable[[], float], steady: Callable[[], float]
    ) -> None:
        self._store = store
        self._kept_for = kept_for
        self._enrolled = enrolled
        self._wall = wall
        self._steady = steady
        self._seen = wall(), steady()
        self._earliest = self._latest = self._seen[0]
        """What the clock showed since this node runs, at the least and at the most."""

    async def free(self) -> int:
        """Free what was delivered and has been kept for its time; bytes freed. Raises `StoreError`.

        What others made goes by no clock: it is freed also where what the clock showed cannot be put right, as on a
        disk that is full. That may be what makes room for it, at the next look.
        """
        try:
            now = await self._look_at_clock()
        except StoreError:
            if freed := await free_delivered(self._store, 0, self._kept_for):
                return freed
            raise
        return await free_delivered(self._store, now if now >= self._enrolled else 0, self._kept_for)

    async def _look_at_clock(self) -> int:
        """The time, once it is put right what came by another reckoning."""
        now, steady = self._wall(), self._steady()
        expected = self._seen[0] + steady - self._seen[1]
        self._earliest, self._latest = min(self._earliest, now), max(self._latest, expected)
        if now - expected > JUMP_SECONDS:
            logger.warning("the clock was set forward by %d s: what was delivered is kept from now on", now - expected)
            await self._store.date_receipts(int(self._earliest), int(self._latest), int(now))
        if now >= self._enrolled:
            await self._store.date_receipts(0, self._enrolled - 1, int(now))
        self._seen = now, steady  # not before that is on the disk
        return int(now)


async def free_delivered(store: Store, now: int, retention: int) -> int:
    """Free delivered content; bytes freed. `now` and `retention` are seconds. A wrong clock frees too early or too
    late, and never the only copy: a receipt is needed in any case. Raises `DiskFull` where not even that is written."""
    freed = 0
    async for statement, objects, size in store.freeable(now - retention):
        try:
            freed += await store.free(objects)
        except DiskFull:
            raise
        except StoreError as error:
            logger.info("kept the content of %s: %s", statement.hex(), error.what)
            continue
        logger.info("freed %d bytes of %s, which has its receipt", size, statement.hex()[:16])
    return freed
