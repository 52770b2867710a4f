"""Neighbours that promise and do not keep: honest ones get their things through all the same."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import pytest

from relay.limits import MAX_FILE, MAX_GREETED, MAX_RECONCILE_MESSAGE, MAX_RESIDENT
from relay.records.identifiers import Kind, ObjectId, RecordId, sha256
from relay.store.interface import Holding, Want
from relay.store.recordset import RecordSet
from relay.sync.messages import Given, Greeting
from relay.sync.peer import Frame, Span
from relay.sync.reconcile import respond
from tests.e2e.world import FORM, TPS, holds
from tests.hostile.waters import Liar, Waters, free_port, peak, posing
from tests.processes import eventually


class Counted(Liar):
    """A liar of whom it is known how often somebody fell for it."""

    asked = 0


class Braggart(Counted):
    """Claims to have everything, and sends nothing."""

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        return [Holding(one, MAX_FILE, 0, complete=True) for one in objects]

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        type(self).asked += 1
        nothing: tuple[Frame, ...] = ()
        for frame in nothing:
            yield frame


class Sleeper(Counted):
    """Claims to have everything, and keeps who asks for it waiting."""

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        return [Holding(one, MAX_FILE, 0, complete=True) for one in objects]

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        type(self).asked += 1
        await asyncio.Event().wait()
        yield *(await anext(spans)), b""


class Forger(Counted):
    """Sends other content."""

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        return [Holding(one, MAX_FILE, 0, complete=True) for one in objects]

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        type(self).asked += 1
        async for object_id, index in spans:
            yield object_id, index, b"false" * 13_000


class Glutton(Counted):
    """Wants everything that there could be, again and again."""

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        type(self).asked += 1
        return [Want(ObjectId(sha256(bytes([place]))), MAX_FILE, (1 << 1024) - 1, MAX_FILE) for place in range(64)]


class Collector(Counted):
    """Claims to hold hundreds of thousands of records, and has none of them."""

    held: RecordSet = RecordSet()

    async def hello(self, mine: Greeting) -> Greeting:
        return Greeting((await super().hello(mine)).hello, self._claimed(mine.compare, MAX_GREETED))

    async def reconcile(self, message: bytes) -> bytes:
        return self._claimed(message, MAX_RECONCILE_MESSAGE)

    def _claimed(self, message: bytes, limit: int) -> bytes:
        if not len(Collector.held):
            Collector.held = RecordSet((Kind.STATEMENT, sha256(place.to_bytes(4))) for place in range(263_000))
        return respond(Collector.held, message, limit)

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        type(self).asked += 1
        return Given([])


class Hoarder(Collector):
    """The same, and keeps who asks for them waiting."""

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        type(self).asked += 1
        await asyncio.Event().wait()
        return Given([])


@pytest.mark.parametrize("liar", [Braggart, Sleeper, Forger, Glutton, Collector])
async def test_a_neighbour_that_lies_keeps_nothing_from_coming_through(waters: Waters, liar: type[Counted]) -> None:
    pirate = waters.box("pirate", "carrier")
    island = waters.box("island", "operator", tps=[TPS])
    hideout = free_port()
    boat = waters.box("boat", "carrier", peers=[hideout, waters.ports["island"]])
    await asyncio.to_thread(island.submit, waters.photo(3_000_000), tps=TPS, form=FORM)
    stick = waters.folder / "stick"
    await asyncio.to_thread(island.export, stick)
    shutil.rmtree(stick / "objects")
    await asyncio.to_thread(boat.import_, stick)
    liar.asked = 0
    async with posing(pirate, hideout, liar):
        await asyncio.to_thread(boat.start)
        await asyncio.to_thread(eventually, lambda: liar.asked > 0, 30, "the boat believed the pirate")
        await asyncio.to_thread(island.start)
        await asyncio.to_thread(holds, boat, ("waiting", None))
    bundles = await asyncio.to_thread(boat.list)
    content = await asyncio.to_thread(boat.cat, bundles[0]["objects"][0]["sha256"])
    assert sha256(content).hex() == bundles[0]["objects"][0]["sha256"]
    assert len(content) == 3_000_000


async def test_a_crowd_that_claims_hundreds_of_thousands_of_records_takes_no_memory(waters: Waters) -> None:
    """Each of them is visited, and each visit keeps what it is told of while it waits. See `assert_well`."""
    hideouts = [free_port() for _ in range(12)]
    crew = waters.crew(len(hideouts))
    boat = waters.box("boat", "carrier", peers=hideouts)
    Hoarder.asked = 0
    async with AsyncExitStack() as stack:
        for pirate, hideout in zip(crew, hideouts, strict=True):
            await stack.enter_async_context(posing(pirate, hideout, Hoarder))
        await asyncio.to_thread(boat.start)
        everybody = len(hideouts)
        await asyncio.to_thread(eventually, lambda: Hoarder.asked >= everybody, 60, "the boat believed all of them")
        assert peak(boat) < MAX_RESIDENT
