"""What there is to move, drawn by several streams, and how much of it is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from relay.errors import Unreachable
from relay.limits import BATCH_SECONDS, FAST_BATCH_SECONDS, FIRST_BATCH, LOW_SUPPLY, MAX_BATCH, MAX_FAST_BATCH
from relay.records.identifiers import ObjectId
from relay.sync.supply import Chunk, Supply, Window, chunks_of
from tests.fleet import CHUNK, Clock

OBJECT = ObjectId(bytes(32))


def chunks(first: int, count: int) -> list[Chunk]:
    return [Chunk(OBJECT, index, CHUNK) for index in range(first, first + count)]


class Pages:
    """Pages of a list that somebody else makes; `made` counts them."""

    def __init__(self, *pages: list[Chunk]) -> None:
        self.made = 0
        self._pages = pages

    async def __call__(self) -> AsyncIterator[list[Chunk]]:
        for page in self._pages:
            self.made += 1
            await asyncio.sleep(0)
            yield page


async def listed() -> None:
    """Let what is being listed be listed."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_page_is_listed_while_some_of_the_last_one_is_left() -> None:
    pages = Pages(chunks(0, LOW_SUPPLY + 1), chunks(1_000, 1), [], chunks(2_000, 1))
    supply = Supply(pages())
    assert await supply.draw() == chunks(0, 1)[0]
    await listed()
    assert pages.made == 1
    for place in range(1, 4):
        assert await supply.draw() == chunks(place, 1)[0]
        await listed()
        assert pages.made == 1 + place
    await supply.close()


async def test_what_is_listed_moves_while_the_next_page_is_asked_for() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def pages() -> AsyncIterator[list[Chunk]]:
        yield chunks(0, 2)
        asked.set()
        await answer.wait()
        yield chunks(2, 1)

    supply = Supply(pages())
    assert await supply.draw() == chunks(0, 1)[0]
    await asked.wait()
    assert await supply.draw() == chunks(1, 1)[0]
    waiting = asyncio.create_task(supply.draw())
    await listed()
    assert not waiting.done()
    answer.set()
    assert await waiting == chunks(2, 1)[0]
    assert await supply.draw() is None
    await supply.close()


async def test_what_listing_fails_with_is_told_when_there_is_nothing_left_to_move() -> None:
    async def pages() -> AsyncIterator[list[Chunk]]:
        yield chunks(0, 2)
        raise Unreachable("The contact ended", "It is tried again.")

    supply = Supply(pages())
    assert [await supply.draw() for _ in range(2)] == chunks(0, 2)
    for _ in range(2):
        with pytest.raises(Unreachable):
            await supply.draw()
    await supply.close()


async def test_what_is_closed_asks_for_nothing_more() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def pages() -> AsyncIterator[list[Chunk]]:
        yield chunks(0, 1)
        try:
            asked.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    supply = Supply(pages())
    assert await supply.draw()
    await asked.wait()
    await supply.close()
    assert ended.is_set()
    supply.more()
    assert await supply.draw() is None


async def test_no_page_is_listed_ahead_until_there_is_all_to_choose_from() -> None:
    pages = Pages(chunks(0, 2), chunks(100, 1), chunks(200, 1))
    supply = Supply(pages(), ahead=False)
    assert await supply.draw() == chunks(0, 1)[0]
    assert supply.take(CHUNK) == chunks(1, 1)[0]
    assert supply.take(CHUNK) is None
    await listed()
    assert pages.made == 1
    assert (await supply.draw(), pages.made) == (chunks(100, 1)[0], 2)
    supply.more()
    await listed()
    assert pages.made == 3
    assert supply.take(CHUNK) == chunks(200, 1)[0]
    await supply.close()


async def test_streams_draw_each_chunk_once_and_in_order() -> None:
    supply = Supply(Pages(chunks(0, 10), chunks(10, 90))())
    drawn: list[int] = []

    async def stream() -> None:
        while chunk := await supply.draw():
            drawn.append(chunk.index)
            await asyncio.sleep(0)

    await asyncio.gather(*(stream() for _ in range(3)))
    assert drawn == list(range(100))
    assert await supply.draw() is None


async def test_what_does_not_fit_a_call_is_left_for_the_next() -> None:
    supply = Supply(Pages(chunks(0, 2))())
    assert supply.take(CHUNK) is None, "nothing is listed yet"
    assert await supply.draw()
    assert supply.take(CHUNK - 1) is None
    assert supply.take(CHUNK) == chunks(1, 1)[0]
    assert supply.take(CHUNK) is None


def test_bits_beyond_an_objects_end_are_passed_over() -> None:
    found = list(chunks_of(OBJECT, CHUNK + 5, 0b1111))
    assert found == [Chunk(OBJECT, 0, CHUNK), Chunk(OBJECT, 1, 5)]
    assert list(chunks_of(OBJECT, 3 * CHUNK, 0b100)) == [Chunk(OBJECT, 2, CHUNK)]


async def asked_ahead(seconds: float) -> int:
    """What a stream asks for and has not got when a chunk came every so many seconds for a while, in bytes."""
    clock = Clock()
    window = Window(clock)
    ahead = 0
    for _ in range(400):
        while True:
            asking = asyncio.ensure_future(window.open(CHUNK))
            await asyncio.sleep(0)
            if not asking.done():
                break
            ahead += CHUNK
        clock.now += seconds
        window.came(CHUNK)
        await asking  # as much as came, at least
    return ahead


@pytest.mark.parametrize(
    ("rate", "most"),
    [
        (10_000, FIRST_BATCH),
        (500_000, 500_000 * BATCH_SECONDS),
        (1_250_000, MAX_BATCH),
        (4_000_000, 4_000_000 * FAST_BATCH_SECONDS),
        (100_000_000, MAX_FAST_BATCH),
    ],
)
async def test_a_window_grows_with_the_rate_so_that_no_link_is_idle_and_none_is_filled_with_what_comes_late(
    rate: float, most: float
) -> None:
    assert await asked_ahead(CHUNK / rate) == pytest.approx(most, abs=CHUNK)


async def test_a_window_opens_as_chunks_come() -> None:
    window = Window(Clock())
    for _ in range(FIRST_BATCH // CHUNK):
        await window.open(CHUNK)
    waiting = asyncio.create_task(window.open(CHUNK))
    await asyncio.sleep(0)
    assert not waiting.done()
    window.came(CHUNK)
    await waiting


async def test_a_chunk_larger_than_any_window_gets_through() -> None:
    window = Window(Clock())
    await window.open(10 * MAX_BATCH)
    window.came(10 * MAX_BATCH)
    await window.open(10 * MAX_BATCH)


async def test_a_look_at_whether_there_is_anything_takes_nothing_away() -> None:
    supply = Supply(Pages(chunks(0, 2))())
    assert not await supply.is_empty()
    assert [await supply.draw() for _ in range(3)] == [*chunks(0, 2), None]
    assert await Supply(Pages([])()).is_empty()


async def test_what_is_under_way_is_listed_or_drawn_and_not_done_with() -> None:
    first, second = ObjectId(b"1" * 32), ObjectId(b"2" * 32)
    page = [Chunk(first, 0, CHUNK), Chunk(first, 1, CHUNK), Chunk(second, 0, CHUNK)]
    supply = Supply(Pages(page)(), ahead=False)
    assert supply.under_way == set()
    assert await supply.draw() == page[0]
    assert supply.take(CHUNK) == page[1]
    assert supply.under_way == {first, second}
    supply.done(first)
    assert supply.under_way == {first, second}
    supply.done(first)
    assert supply.under_way == {second}
    assert supply.take(CHUNK) == page[2]
    assert supply.under_way == {second}
    supply.done(second)
    assert supply.under_way == set()
