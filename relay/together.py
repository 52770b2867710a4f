"""Several things at once, of which the first failure ends all: `asyncio.TaskGroup`, with one error out of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)


async def in_order(work: Iterable[Coroutine[Any, Any, T]], ahead: int) -> AsyncGenerator[T]:
    """The results in order, while up to `ahead` more are worked out; what is under way ends with the generator."""
    waiting: deque[asyncio.Task[T]] = deque()
    try:
        for one in work:
            waiting.append(asyncio.create_task(one))
            if len(waiting) > ahead:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Do all of it at the same time. Raises what failed first, once the rest has ended; other failures are logged."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as failures:
        failures.with_traceback(None)
        first, *others = failures.exceptions
        for other in others:
            logger.debug("failed as well: %s", other)
    else:
        return
    # Out here, and let go of: else the error holds the group and this frame, and they hold it, with all that was
    # under way, until garbage is collected.
    try:
        raise first
    finally:
        del first, others
