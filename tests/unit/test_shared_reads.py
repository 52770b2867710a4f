"""Reads that many share: once for all who ask at the same time, never older than the question, never for nobody."""

from __future__ import annotations

import asyncio

import pytest

from relay.errors import StoreError
from relay.web.shared import SharedReads


class Slow:
    """A place that gives what it has when it is let, as it was when the read began."""

    def __init__(self) -> None:
        self.content = b"old"
        self.begun: list[str] = []
        self.let = asyncio.Semaphore(0)
        self.trouble: StoreError | None = None

    async def read(self, name: str) -> bytes:
        self.begun.append(name)
        content = self.content
        await self.let.acquire()
        if self.trouble is not None:
            raise self.trouble
        return content


async def _underway() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_ask_at_once_share_one_read() -> None:
    place = Slow()
    reads = SharedReads(place.read, 8)
    asking = [asyncio.create_task(reads.read("checkpoint")) for _ in range(50)]
    await _underway()
    place.let.release()
    assert await asyncio.gather(*asking) == [b"old"] * 50
    assert place.begun == ["checkpoint"]


async def test_promise_6_nobody_is_shown_what_was_read_before_the_question() -> None:
    place = Slow()
    reads = SharedReads(place.read, 8)
    first = asyncio.create_task(reads.read("checkpoint"))
    await _underway()
    place.content = b"new"
    later = [asyncio.create_task(reads.read("checkpoint")) for _ in range(50)]
    await _underway()
    assert place.begun == ["checkpoint"], "one at a time"
    place.let.release()
    place.let.release()
    assert await first == b"old"
    assert await asyncio.gather(*later) == [b"new"] * 50
    assert place.begun == ["checkpoint"] * 2


async def test_names_do_not_wait_for_each_other() -> None:
    place = Slow()
    reads = SharedReads(place.read, 8)
    asking = [asyncio.create_task(reads.read(name)) for name in ("checkpoint", "index.html")]
    await _underway()
    assert place.begun == ["checkpoint", "index.html"]
    place.let.release()
    place.let.release()
    assert await asyncio.gather(*asking) == [b"old"] * 2


async def test_who_goes_takes_nothing_from_the_others() -> None:
    place = Slow()
    reads = SharedReads(place.read, 8)
    gone, stays = (asyncio.create_task(reads.read("checkpoint")) for _ in range(2))
    await _underway()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    place.let.release()
    assert await stays == b"old"


async def test_a_failure_is_told_to_all_who_asked_and_the_next_one_reads_again() -> None:
    place = Slow()
    place.trouble = StoreError("The bucket is away", "Bring it back.")
    reads = SharedReads(place.read, 8)
    asking = [asyncio.create_task(reads.read("checkpoint")) for _ in range(3)]
    await _underway()
    place.let.release()
    assert [type(one) for one in await asyncio.gather(*asking, return_exceptions=True)] == [StoreError] * 3
    place.trouble = None
    place.let.release()
    assert await reads.read("checkpoint") == b"old"


async def test_of_all_names_so_many_are_read_at_once_and_who_waits_is_joined() -> None:
    place = Slow()
    reads = SharedReads(place.read, 2)
    asking = [asyncio.create_task(reads.read(name)) for name in "abccc"]
    await _underway()
    assert place.begun == ["a", "b"]
    place.content = b"new"
    for _ in range(3):
        place.let.release()
    assert await asyncio.gather(*asking) == [b"old"] * 2 + [b"new"] * 3
    assert place.begun == ["a", "b", "c"]


async def test_what_nobody_waits_for_any_more_is_not_read() -> None:
    place = Slow()
    reads = SharedReads(place.read, 1)
    before = asyncio.all_tasks()
    first = asyncio.create_task(reads.read("checkpoint"))
    await _underway()
    gone = [asyncio.create_task(reads.read(name)) for name in ("checkpoint", "checkpoint", *map(str, range(100)))]
    stays = asyncio.create_task(reads.read("7"))
    await _underway()
    for one in gone:
        one.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    await _underway()
    assert len(asyncio.all_tasks() - before) == 4, "of each one the asker, and the read"
    place.let.release()
    place.let.release()
    assert [await first, await stays] == [b"old"] * 2
    assert place.begun == ["checkpoint", "7"]


async def test_promise_6_who_asks_when_the_last_one_has_gone_gets_a_read_of_his_own() -> None:
    place = Slow()
    reads = SharedReads(place.read, 1)
    first = asyncio.create_task(reads.read("checkpoint"))
    await _underway()
    gone = asyncio.create_task(reads.read("checkpoint"))
    await _underway()
    gone.cancel()
    place.content = b"new"
    place.let.release()  # its turn has come, and nobody waits for it
    place.let.release()
    assert await reads.read("checkpoint") == b"new"
    assert await first == b"old"
    assert place.begun == ["checkpoint"] * 2


async def test_a_read_that_has_begun_runs_to_its_end_and_keeps_its_place_meanwhile() -> None:
    place = Slow()
    reads = SharedReads(place.read, 1)
    gone = asyncio.create_task(reads.read("a"))
    await _underway()
    gone.cancel()
    next_one = asyncio.create_task(reads.read("b"))
    await _underway()
    assert place.begun == ["a"], "whose thread or service is at work still"
    place.let.release()
    place.let.release()
    assert await next_one == b"old"
