"""Objects that the disk does not give: noted, so that `relay status` beside the daemon tells of them, and tried again.

The store knows them for as long as it is open. A card that fails goes on failing; a disk that was away for a moment is
there again, and what was on it has to travel.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from relay.errors import StoreError
from relay.limits import HANDOVER_SECONDS, REREAD_SECONDS
from relay.store.interface import Store
from relay.sync.custody import Custody

NOTE = "unreadable"
"""The store's note of them: how many there are; empty where there are none."""
logger = logging.getLogger(__name__)


def count_unreadable(store: Store, notes: Mapping[str, str]) -> int:
    """How many objects cannot be read, as far as this process, or the node's daemon, tried to."""
    noted = notes.get(NOTE, "")
    return max(len(store.unreadable), int(noted) if noted.isdecimal() else 0)


async def keep_unreadable(custody: Custody, clock: Callable[[], float] = time.monotonic) -> None:
    """Note how many objects cannot be read, and try them again now and then, for ever. Writes only what is new."""
    store = custody.store
    noted: str | None = None
    known = store.unreadable
    tried_at = clock()
    while True:
        try:
            if store.unreadable and clock() - tried_at >= REREAD_SECONDS:
                await store.reread()
                tried_at = clock()
            if known != store.unreadable:
                known = store.unreadable
                custody.content += 1  # other things are held, and wanted, than neighbours know
                custody.news.ring()
            wanted = str(len(store.unreadable) or "")
            if noted is None:
                noted = (await store.notes()).get(NOTE, "")
            if wanted != noted:
                await store.set_note(NOTE, wanted)
                noted = wanted
        except StoreError as error:
            logger.error("%s", error)  # it is noted as soon as the disk takes it
        await asyncio.sleep(HANDOVER_SECONDS)
