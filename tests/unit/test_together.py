"""Several things at once: the first failure ends the rest, and leaves nothing behind with whoever waited for it."""

from __future__ import annotations

import asyncio

import pytest

from relay.together import together, unless_cancelled


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


async def test_a_cancellation_that_nobody_asked_for_is_a_fault_and_no_end() -> None:
    """Or a daemon would go on without one of its parts, and nobody would know."""

    async def waits_for(future: asyncio.Future[str]) -> str:
        return await future

    done, lost, asked = (asyncio.get_running_loop().create_future() for _ in range(3))
    tasks = [asyncio.create_task(unless_cancelled(waits_for(one))) for one in (done, lost, asked)]
    await asyncio.sleep(0)
    done.set_result("done")
    lost.cancel()
    tasks[2].cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert ended[0] == "done"
    assert isinstance(ended[1], RuntimeError)
    assert isinstance(ended[2], asyncio.CancelledError)
