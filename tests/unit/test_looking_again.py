"""While the content of a visit moves, what comes to either side goes with it, and does not wait for its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from relay.errors import Unreachable
from relay.limits import CONTENT_SECONDS, MAX_CONTENT_SECONDS, STREAMS
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId
from relay.store.interface import Outcome, State, Want
from relay.store.recordset import FIRST, key_of
from relay.sync import content, visit
from relay.sync.host import Host
from relay.sync.messages import Taken
from relay.sync.peer import Frame, Span
from tests.factory import object_of
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
    late, bulk = fleet.content(), fleet.content(20 * CHUNK)
    statement = await other.submit(late)
    for ship in (island, boat):
        found = await other.store.read([RecordId(statement)], 1 << 20)
        await ship.custody.take([(kind, raw) for kind, _, raw in found])
    await boat.submit(bulk)

    async def beside(chunk: int) -> None:
        if chunk == 5:
            await island.adopt(late)
            await link.look()

    visitor, visited = _ends(fetches, boat, island)
    link = Interrupted(visited.host(visitor), beside)
    await visitor.visit(link)
    assert await island.read(bulk) == bulk
    assert await boat.read(late) == late


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


@pytest.mark.parametrize(("since", "looks"), [(FIRST, True), (key_of(Kind.STATEMENT, RecordId(bytes(32))), False)])
async def test_a_visit_that_goes_on_with_a_comparison_is_not_set_back_by_a_look(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, since: bytes, looks: bool
) -> None:
    """What stays different for ever, as what finds no room does, would else be found first again and again."""
    is_over = content.Exchange.is_over
    pauses = iter([0.0])

    async def at_once(exchange: content.Exchange, seconds: float) -> bool:
        """The first look comes without a pause."""
        return await is_over(exchange, next(pauses, seconds))

    monkeypatch.setattr(content.Exchange, "is_over", at_once)
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await island.submit(fleet.content(20 * CHUNK))
    compared = 0

    class Counted(Link):
        async def reconcile(self, message: bytes) -> bytes:
            nonlocal compared
            compared += 1
            return await super().reconcile(message)

    await boat.visit(Counted(island.host(boat)), since=since)
    assert (compared > 0) is looks


@WAYS
async def test_a_look_that_finds_no_answer_ends_no_content(fleet: Fleet, fetches: bool) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    bulk = fleet.content(20 * CHUNK)
    await island.submit(bulk)

    class Deaf(Interrupted):
        async def reconcile(self, message: bytes) -> bytes:
            asked.set()
            raise Unreachable("The link is full (simulated)", "Wait.")

    async def beside(chunk: int) -> None:
        if chunk == 5:
            await asyncio.wait_for(asked.wait(), 20)

    asked = asyncio.Event()
    visitor, visited = _ends(fetches, island, boat)
    report = await visitor.visit(Deaf(visited.host(visitor), beside))
    assert await boat.read(bulk) == bulk
    assert report.left
    assert not report.more


async def test_what_a_look_that_outlasts_content_tells_of_moves_in_the_visit_under_way(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    bulk, late = fleet.content(5 * CHUNK), fleet.content()
    await island.submit(bulk)

    class Long(Interrupted):
        async def reconcile(self, message: bytes) -> bytes:
            looking.set()
            async with asyncio.timeout(20):
                await moved.wait()
                heard = boat.custody.news.count
                while not await boat.read(bulk):  # also what came last is kept at once, and not when the visit ends
                    heard = await boat.custody.news.wait(heard)
            if not await island.read(late):
                await island.submit(late, form="form-2")
            return await super().reconcile(message)

    async def beside(chunk: int) -> None:
        await asyncio.wait_for(looking.wait(), 20)
        if chunk == 5:
            moved.set()

    looking, moved = asyncio.Event(), asyncio.Event()
    await boat.visit(Long(island.host(boat), beside))
    assert await boat.read(late) == late


async def test_what_is_told_while_the_peer_says_that_it_wants_no_more_is_brought(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await island.submit(fleet.content())
    late = fleet.content()

    async def beside(_chunk: int) -> None:
        return

    class Slow(Interrupted):
        async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
            wanted = await super().wants(skip)
            if not await island.read(late):
                await island.submit(late, form="form-2")
                await self.look()
            return wanted

    await island.visit(Slow(boat.host(island), beside))
    assert await boat.read(late) == late


async def test_more_is_brought_to_who_wanted_more_than_it_could_tell(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_WANTS", 2)
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    first, late = [fleet.content(4 * CHUNK) for _ in range(4)], fleet.content()
    await island.submit(*first)

    async def beside(chunk: int) -> None:
        if chunk == 5:
            await island.submit(late, form="form-2")
            await link.look()

    link = Interrupted(boat.host(island), beside)
    await island.visit(link)
    assert [await boat.read(one) for one in (*first, late)] == [*first, late]


async def test_who_says_for_ever_that_it_lacks_what_it_took_gets_it_once(fleet: Fleet) -> None:
    """Also where there was a look since, and whatever page of what it wants it was on."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    contents = [fleet.content(CHUNK) for _ in range(5)]
    for place, one in enumerate(contents):
        await island.submit(one, form=f"form-{place}")

    async def beside(chunk: int) -> None:
        if chunk == 5:
            await link.look()

    class Greedy(Interrupted):
        async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
            every = (Want(object_of(one), CHUNK, 1, CHUNK) for one in contents)
            return [want for want in every if want.object not in skip]

        async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
            return replace(await super().put_records(records), wants=await self.wants(()))

    link = Greedy(boat.host(island), beside)
    await island.visit(link)
    assert Counter(object_id for _, object_id, _ in link.crossed) == Counter(object_of(one) for one in contents)


@WAYS
async def test_a_visit_to_who_answers_early_ends_at_once(fleet: Fleet, fetches: bool) -> None:
    """What it was asked for, or brought, and did not answer for, is not waited for."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await island.submit(fleet.content(20 * CHUNK))

    async def nothing() -> AsyncIterator[Span]:
        spans: tuple[Span, ...] = ()
        for span in spans:
            yield span

    class Early(Link):
        async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
            await anext(spans)
            await anext(spans)
            async for frame in super().get_chunks(nothing()):
                yield frame

        async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
            return len([await anext(frames)])

    visitor, visited = _ends(fetches, island, boat)
    async with asyncio.timeout(CONTENT_SECONDS / 2):
        report = await visitor.visit(Early(visited.host(visitor)))
    assert not report.more
