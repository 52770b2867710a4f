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
from relay.node.reckoning import NOTE, Reckoning, began, from_note
from relay.store.interface import Store

logger = logging.getLogger(__name__)
_FOR_EVER = 1 << 62
"""Seconds since 1970 that no clock shows."""


class Retention:
    """What a node keeps of its own packages, and for how long, while it runs. All times are seconds.

    `wall` is what the device's clock shows; `steady` goes on as time does, whoever sets that clock, since the machine
    started, of which `boot` is the id; `enrolled` is when the node's certificate was issued. Before that nothing was
    delivered: a clock that shows less, as that of a box without a battery does when it starts, tells no time. And where
    the clock was set, forward or back, also while no daemon ran, what came since it was set before came by another
    reckoning (`relay.node.reckoning`). In both cases the time that a package is kept for begins anew.
    """

    def __init__(
        self,
        store: Store,
        kept_for: int,
        enrolled: int,
        wall: Callable[[], float],
        steady: Callable[[], float],
        boot: str,
    ) -> None:
        self._store = store
        self._kept_for = kept_for
        self._enrolled = enrolled
        self._wall = wall
        self._steady = steady
        self._boot = boot
        self._first: tuple[float, float] | None = (wall(), steady())
        """What both showed at the start, until that was compared with what they showed before it."""
        self._reckoning: Reckoning | None = None
        self._told_none = False
        """Whether the clock told no time when it was looked at last."""

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
        if self._first is not None:
            self._reckoning = from_note((await self._store.notes()).get(NOTE, ""))
            await self._see(*self._first)
            self._first = None
        return await self._see(self._wall(), self._steady())

    async def _see(self, wall: float, steady: float) -> int:
        if wall < self._enrolled:
            self._told_none = True
            return int(wall)
        before = self._reckoning
        is_same = before is not None and before.boot == self._boot
        reckoning = before if before is not None and is_same else began(before, self._boot, wall, steady)
        gained = reckoning.gained(wall, steady)
        was_set = self._told_none or gained != 0
        if was_set:
            if gained:
                logger.warning("the clock was set by %+d s: what was delivered since is kept from now on", gained)
            await self._store.date_receipts(int(reckoning.earliest), _FOR_EVER, int(wall))
            reckoning = Reckoning(self._boot, wall - steady, int(wall), is_set=True)
        await self._store.date_receipts(0, self._enrolled - 1, int(wall))
        if was_set or not is_same:
            await self._store.set_note(NOTE, reckoning.to_note())
        self._reckoning, self._told_none = reckoning.at(wall, steady), False  # not before that is on the disk
        return int(wall)


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
