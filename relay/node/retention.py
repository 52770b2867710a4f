"""Retention: freeing content that has been delivered, and nothing else (promise 4).

Content is freed against a receipt only. What other devices made is freed when space is asked for; what this device
made is kept for its retention time besides. New content is refused (by `Store.wants`) before anything undelivered goes.
"""

from __future__ import annotations

import logging

from relay.errors import StoreError
from relay.store.interface import Store

logger = logging.getLogger(__name__)


async def free_delivered(store: Store, now: int, retention: int) -> int:
    """Free delivered content; bytes freed. `now` and `retention` are seconds. A wrong clock frees too early or too
    late, and never the only copy: a receipt is needed in any case."""
    freed = 0
    async for statement, objects, size in store.freeable(now - retention):
        try:
            freed += await store.free(objects)
        except StoreError as error:
            logger.info("kept the content of %s: %s", statement.hex(), error.what)
            continue
        logger.info("freed %d bytes of %s, which has its receipt", size, statement.hex()[:16])
    return freed
