"""While the content of a visit moves, what comes to either side goes with it, and does not wait for its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from relay.limits import CONTENT_SECONDS, MAX_CONTENT_SECONDS, STREAMS
from relay.records.identifiers import Kind, RecordId, StatementId
from relay.store.interface import Outcome, State
from relay.sync import visit
from relay.sync.host import Host
from relay.sync.messages import Taken
from relay.sync.peer import Frame, Span
from tests.fleet import CHUNK, Fleet, Link, Ship

WAYS = pytest.mark.parametrize("fetches", [True, False], ids=["fetched", "brought"])


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "LOOK_SECONDS", 0.02)


class Interrupted(Link):
    """A link on which something happens beside each chunk: the next one crosses when that is over."""

    def __init__(self, host: Host, beside: Callable[[int], Awaitable[None]]) -> None:
        super().__init__(host)
        self._beside = beside
        self._chunks = 0
        self._looks = 0
        self._looked = asyncio.Condition()

    async def look(self) -> None:
        """Wait until the visitor has looked again, from its beginning to its end."""
        async with self._looked:
            before = self._looks
            await asyncio.wait_for(self._looked.wait_for(lambda: self._looks >= before + 2), 20)

    async def reconcile(self, message: bytes) -> bytes:
        async with self._looked:
            self._looks += 1
            self._looked.notify_all()
        return await super().reconcile(message)

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        async for frame in super().get_chunks(spans):
            await self._interrupt()
            yield frame

    async def _outgoing(self, frames: AsyncIterator[Frame]) -> AsyncIterator[Frame]:
        async for frame in super()._outgoing(frames):
            await self._interrupt()
            yield frame

    async def _interrupt(self) -> None:
        self._chunks += 1
        await self._beside(self._chunks)


def _ends(fetches: bool, giver: Ship, taker: Ship) -> tuple[Ship, Ship]:
    return (taker, giver) if fetches else (giver, taker)


@WAYS
async def test_new_packages_of_both_sides_move_in_the_visit_under_way(fleet: Fleet, fetches: bool) -> None:
    """Also those of the side of which nothing moved until then."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    other = await fleet.launch("pulau-batun")
    bulk, from_island, from_boat = fleet.content(20 * CHUNK), fleet.content(), fleet.content()
    await island.submit(bulk)
    statements: list[StatementId] = []

    async def beside(chunk: int) -> None:
        if chunk == 5:
            statements.append(await island.submit(from_island, form="form-2"))
            statements.append(await other.submit(from_boat))
            await boat.visit(other)
            await link.look()

    visitor, visited = _ends(fetches, island, boat)
    link = Interrupted(visited.host(visitor), beside)
    report = await visitor.visit(link)
    assert not report.more
    assert [await boat.read(bulk), await boat.read(from_island)] == [bulk, from_island]
    assert await island.read(from_boat) == from_boat
    assert [await ship.state(one) for ship in (boat, island) for one in statements] == [State.WAITING] * 4


@WAYS
async def test_an_object_that_came_to_one_side_meanwhile_moves_in_the_visit_under_way(
    fleet: Fleet, fetches: bool
) -> None:
    """Its statement was known to both before, and its content to neither."""
    island, boat, other = [await fleet.launch(one) for one in ("pulau-long", "pulau-batun", "pulau-jauh")]
    content, bulk = fleet.content(), fleet.content(20 * CHUNK)
    statement = await other.submit(content)
    for ship in (island, boat):
        found = await other.store.read([RecordId(statement)], 1 << 20)
        await ship.custody.take([(kind, raw) for kind, _, raw in found])
    await boat.submit(bulk)

    async def beside(chunk: int) -> None:
        if chunk == 5:
            await island.adopt(content)
            await link.look()

    visitor, visited = _ends(fetches, boat, island)
    link = Interrupted(visited.host(visitor), beside)
    await visitor.visit(link)
    assert await island.read(bulk) == bulk
    assert await boat.read(content) == content


@WAYS
async def test_content_goes_on_while_there_are_looks_and_ends_all_the_same(fleet: Fleet, fetches: bool) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    step = CONTENT_SECONDS / 4
    await island.submit(fleet.content(4 * int(MAX_CONTENT_SECONDS / step) * CHUNK))

    async def beside(_chunk: int) -> None:
        fleet.clock.now += step
        if fleet.clock.now - begun < MAX_CONTENT_SECONDS:
            await link.look()

    visitor, visited = _ends(fetches, island, boat)
    begun, link = fleet.clock.now, Interrupted(visited.host(visitor), beside)
    report = await visitor.visit(link)
    assert report.more
    assert MAX_CONTENT_SECONDS <= fleet.clock.now - begun <= MAX_CONTENT_SECONDS + 2 * STREAMS * step


async def test_promise_2_what_found_no_room_is_not_brought_again_while_content_moves(fleet: Fleet) -> None:
    island, other = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    bulk = fleet.content(20 * CHUNK)
    await other.submit(bulk)
    await island.submit()
    brought = 0

    async def beside(chunk: int) -> None:
        if chunk == 5:
            await link.look()

    class Full(Interrupted):
        async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
            nonlocal brought
            brought += sum(kind is Kind.STATEMENT for kind, _ in records)
            return Taken([str(Outcome.NO_ROOM)] * len(records))

    link = Full(other.host(island), beside)
    await island.visit(link)
    assert await island.read(bulk) == bulk
    assert brought == 1
