"""Several things at once, of which the first failure ends all: `asyncio.TaskGroup`, with one error out of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Do all of it at the same time. Raises what failed first, once the rest has ended; other failures are logged."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as failures:
        first, *others = failures.exceptions
        for other in others:
            logger.debug("failed as well: %s", other)
        raise first from None
