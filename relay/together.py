"""Several things at once: all of it, of which the first failure ends the rest (`asyncio.TaskGroup`, with one error out
of it), some of it in order, and as many as there is room for."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Room:
    """So many bytes that may be held at once. Whoever has waited longest is next, however much the others want."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._turn = asyncio.Lock()
        self._given = asyncio.Event()

    async def take(self, size: int) -> None:
        """Wait for room. There must be as much of it in all."""
        async with self._turn:
            while self._free < size:
                self._given.clear()
                await self._given.wait()
            self._free -= size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._free += size
        self._given.set()


def note_end(ended: asyncio.Future[Any]) -> None:
    """A callback for work that goes on when whoever asked for it is gone: its failure is nobody's trouble then."""
    if not ended.cancelled():
        ended.exception()


async def in_order(
    work: Iterable[Coroutine[Any, Any, T]] | AsyncIterable[Coroutine[Any, Any, T]], ahead: int
) -> AsyncGenerator[T]:
    """The results in order, while up to `ahead` more are worked out; what is under way ends with the generator."""
    waiting: deque[asyncio.Task[T]] = deque()
    try:
        async for one in _each(work):
            waiting.append(asyncio.create_task(one))
            if len(waiting) > ahead:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _each(work: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T]:
    if isinstance(work, AsyncIterable):
        async for one in work:
            yield one
    else:
        for one in work:
            yield one


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Do all of it at the same time. Raises what failed first, once the rest has ended; other failures are logged."""
    group = asyncio.TaskGroup()
    try:
        async with group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as failures:
        _take_back_cancellation(group)
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


async def unless_cancelled(work: Coroutine[Any, Any, T]) -> T:
    """The result of work in a task that somebody may cancel. Raises `RuntimeError` where it ends by a cancellation that
    nobody asked for: a task group would take that for an end, and go on without it."""
    try:
        return await work
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError(f"{work} was cancelled, and nobody asked for it") from error


def _take_back_cancellation(group: asyncio.TaskGroup) -> None:
    """Before Python 3.13 a group of which something failed leaves its own request to cancel with the task that waited
    for it (gh-116720): the next timeout there, in Python 3.11.2 of Debian 12, would end the task instead."""
    task = asyncio.current_task()
    if sys.version_info < (3, 13) and task is not None and getattr(group, "_parent_cancel_requested", False):
        task.uncancel()
