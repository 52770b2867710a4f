"""Several things at once: the first failure ends the rest, and leaves nothing behind with whoever waited for it."""

from __future__ import annotations

import asyncio

import pytest

from relay.together import together


async def fails() -> None:
    raise ConnectionError("the link is gone")


async def never_ends() -> None:
    await asyncio.Event().wait()


async def test_a_failure_ends_the_rest_and_is_raised_by_itself() -> None:
    with pytest.raises(ConnectionError, match="the link is gone"):
        await together(never_ends(), fails(), fails())


async def test_whoever_caught_a_failure_is_not_cancelled_by_the_next_timeout() -> None:
    """Else a boat whose contact was lost ends at the next one that stands still, without a word."""
    with pytest.raises(ConnectionError):
        await together(never_ends(), fails())
    task = asyncio.current_task()
    assert task is not None and not task.cancelling()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await never_ends()


async def test_who_is_cancelled_meanwhile_is_cancelled() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await never_ends()
        finally:
            ended.set()

    task = asyncio.create_task(together(work(), never_ends()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set() and task.cancelling() == 1
