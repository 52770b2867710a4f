"""A visit: what goes first, what a cut contact leaves, and how two halves make a whole."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from relay.errors import Malformed, Refused, StoreError, Unreachable
from relay.limits import (
    CONTENT_SECONDS,
    FIRST_RECORDS_PAGE,
    FIRST_STATEMENTS,
    GREETED_IDS,
    LAST_STATEMENTS,
    MAX_FILES,
    MAX_RECORD,
    MAX_WANTS,
    RECORDS_SECONDS,
    STREAMS,
    WANTS_PAGE,
)
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId, sha256
from relay.store.interface import Holding, State, Want
from relay.store.recordset import END, FIRST, key_of
from relay.sync import content as exchange
from relay.sync.host import Host
from relay.sync.messages import Given, Greeting, Inquiry, Taken
from relay.sync.peer import Frame
from relay.sync.reconcile import Initiator
from tests.factory import make_file, make_node, make_revocations, make_statement, object_of
from tests.fleet import CHUNK, Busy, Curt, Cut, CutCalls, Fleet, Late, Link, Ship
from tests.promises.adversaries import Glutton

SIZE = 12 * CHUNK + 5
CHUNKS = 13
SIZE_OF = 3 * CHUNK + 5
"""Of what a fleet makes."""


async def test_receipts_and_notices_before_statements_before_content(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    delivered = await island.submit(fleet.content())
    await boat.visit(island)
    await boat.visit(receiver)
    fresh = await island.submit(fleet.content())
    other = await fleet.launch("pulau-batun")
    mine = await other.submit(fleet.content())
    await boat.visit(other)
    link = Link(island.host(boat))
    await boat.visit(link)
    order = [name.partition(" ")[0] for name in link.steps]
    ranks = ["NOTICE", "CHECKPOINT", "RECEIPT", "STATEMENT", "CHUNK"]
    for way in ("in", "out"):
        steps = [step.partition(" ")[0] for step in link.steps if step.endswith(way)]
        assert steps == sorted(steps, key=ranks.index)
    assert order[order.index("CHUNK") :] == ["CHUNK"] * 8, "content comes after all records"
    first = order.index("STATEMENT")
    assert not {"NOTICE", "CHECKPOINT", "RECEIPT"} & set(order[first:]), "of both ways"
    assert {"CHECKPOINT", "RECEIPT", "STATEMENT"} <= set(order)
    assert await island.state(delivered) is State.DELIVERED
    assert await boat.state(fresh) is await island.state(mine) is State.WAITING


@pytest.mark.parametrize("pull", [True, False], ids=["fetched", "brought"])
async def test_content_does_not_wait_for_the_last_statements(fleet: Fleet, pull: bool) -> None:
    """They are judged while the link works. Of what is told of meanwhile, the best goes next."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    count = FIRST_STATEMENTS + 6
    statements = [await island.submit(fleet.content(4 * CHUNK), form=f"form-{place}") for place in range(count)]
    begun = STREAMS * 4  # chunks of two objects
    link = Late(island.host(boat) if pull else boat.host(island), begun)
    await (boat if pull else island).visit(link)
    kinds = [step.partition(" ")[0] for step in link.steps if not step.startswith(("NOTICE", "CHECKPOINT"))]
    first = kinds.index("CHUNK")
    assert kinds[:first] == ["STATEMENT"] * FIRST_STATEMENTS
    assert begun <= kinds[first:].index("STATEMENT") < 2 * begun, "little is begun until all is told"
    assert {await boat.state(one) for one in statements} == {State.WAITING}


async def test_of_more_differences_than_a_visit_takes_half_are_what_rules_and_come_first(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each visit goes on where the last one ended, until nothing is left; whole packages come all the way."""
    monkeypatch.setattr("relay.sync.visit.MAX_RECONCILE_FOUND", 10)
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    receiver = await fleet.receiver()
    delivered = [await island.submit(form=f"sent-{place}") for place in range(6)]
    await island.take(*fleet.notices)
    await island.visit(receiver)
    waiting = [await island.submit(fleet.content(9), form=f"form-{place}") for place in range(25)]
    since, reports, links = FIRST, [], []
    while since != END:
        links.append(Curt(island.host(boat)))
        reports.append(await boat.visit(links[-1], since=since))
        since = reports[-1].compared
        assert reports[-1].records_in <= 10
        assert sum(step == "CHUNK" for step in links[-1].steps) == links[-1].steps.count("STATEMENT in")
    visits = [[step for step in link.steps if step != "CHUNK"] for link in links]
    steps = [step for visit in visits for step in visit]
    ruling = [step for step in steps if step != "STATEMENT in"]
    assert set(ruling) >= {"NOTICE in", "CHECKPOINT in", "RECEIPT in"}
    left = len(ruling)
    for visit in visits:
        rules = len(visit) - visit.count("STATEMENT in")
        assert "STATEMENT in" not in visit[:rules], "not one statement before the last receipt of a visit"
        assert rules >= min(left, 5)
        left -= rules
    assert [report.more for report in reports] == [True] * (len(reports) - 1) + [False]
    assert await boat.store.receipted(delivered) == set(delivered)
    assert {await boat.state(one) for one in waiting} == {State.WAITING}
    assert len(reports) == -(-len(steps) // 10)


class Trickle(Link):
    """A contact over which each page of records takes more than half of the time that there is for records."""

    def __init__(self, ship: Ship, visitor: Ship) -> None:
        super().__init__(ship.host(visitor))
        self._clock = ship.clock

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        self._clock.now += 0.6 * RECORDS_SECONDS
        return await super().get_records(ids)

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        self._clock.now += 0.6 * RECORDS_SECONDS
        return await super().put_records(records)


@pytest.mark.parametrize("pull", [True, False], ids=["fetched", "brought"])
async def test_records_have_their_time_and_then_content_has_its_turn(fleet: Fleet, pull: bool) -> None:
    """The next visit goes on with the first one that was left."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    count = 8 * FIRST_RECORDS_PAGE
    statements = [await island.submit(fleet.content(9), form=f"form-{place}") for place in range(count)]
    visitor, visited = (boat, island) if pull else (island, boat)
    report = await visitor.visit(Trickle(visited, visitor))
    moved = report.records_in if pull else report.records_out
    assert FIRST_RECORDS_PAGE <= moved < count - LAST_STATEMENTS
    assert (report.more, report.compared) == (True, key_of(Kind.STATEMENT, sorted(statements)[moved]))
    assert [await boat.state(one) for one in sorted(statements)[:moved]] == [State.WAITING] * moved
    while report.more:
        report = await visitor.visit(Trickle(visited, visitor), since=report.compared)
    assert {await boat.state(one) for one in statements} == {State.WAITING}


class Hesitant(Link):
    """A contact over which nothing is ever the same, and each round takes its time."""

    def __init__(self, ship: Ship, visitor: Ship, seconds: float) -> None:
        super().__init__(ship.host(visitor))
        self._clock, self._seconds = ship.clock, seconds
        self.rounds = 0

    async def hello(self, mine: Greeting) -> Greeting:
        return Greeting((await super().hello(mine)).hello, await self.reconcile(mine.compare))

    async def reconcile(self, message: bytes) -> bytes:
        self.rounds += 1
        self._clock.now += self._seconds
        return bytes.fromhex("61000001") + bytes(16)


async def test_who_compares_without_end_is_left_when_its_time_is_over(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    for place in range(40):
        await boat.take(make_statement(fleet.election, island.node, form=f"form-{place}"))
    slow, quick = Hesitant(island, boat, RECORDS_SECONDS), Hesitant(island, boat, 0.1)
    await boat.visit(slow)
    assert slow.rounds == 3
    await boat.visit(quick)
    assert quick.rounds > 30


async def test_what_a_neighbour_lacks_costs_a_question_a_page(fleet: Fleet) -> None:
    """A boat that knows of many packages whose content is elsewhere does not go through them object by object."""
    lost, island, boat = await fleet.launch("pulau-jauh"), await fleet.launch("pulau-long"), await fleet.carrier("km")
    for place in range(10):
        files = [make_file(fleet.content(8), f"{which}.jpg") for which in range(6)]
        await boat.take(make_statement(fleet.election, lost.node, *files, form=f"form-{place}"))
    count = FIRST_STATEMENTS + 6
    statements = [await island.submit(fleet.content(CHUNK), form=f"form-{place}") for place in range(count)]
    asked: list[int] = []

    class Counted(Link):
        async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
            asked.append(len(objects))
            return await super().holdings(objects)

    await boat.visit(Counted(island.host(boat)))
    assert {await boat.state(one) for one in statements} == {State.WAITING}
    assert asked == [60], "what it was told of with the statements is not asked about"


class Asked(Link):
    """A contact over which each question takes a while: from the third of its kind on, until content has crossed."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._asked: Counter[str] = Counter()
        self._moved = asyncio.Event()

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        await self._wait("holdings")
        return await super().holdings(objects)

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        await self._wait("wants")
        return await super().wants(skip)

    def _cross(self, way: str, object_id: ObjectId, index: int) -> None:
        super()._cross(way, object_id, index)
        self._moved.set()

    async def _wait(self, kind: str) -> None:
        self._asked[kind] += 1
        if self._asked[kind] > 2:
            async with asyncio.timeout(10):
                await self._moved.wait()


@pytest.mark.parametrize("expecting", [True, False])
@pytest.mark.parametrize("fetches", [True, False])
async def test_content_that_is_there_does_not_wait_until_all_is_asked_about(
    fleet: Fleet, fetches: bool, expecting: bool
) -> None:
    """A boat knows of hundreds of photographs that are elsewhere, and so does the island; one package is there."""
    lost, island, boat = await fleet.launch("pulau-jauh"), await fleet.launch("pulau-long"), await fleet.carrier("km")
    for place in range(6 * WANTS_PAGE // MAX_FILES):
        files = [make_file(fleet.content(8), f"{which}.jpg") for which in range(MAX_FILES)]
        statement = make_statement(fleet.election, lost.node, *files, form=f"form-{place}")
        await boat.take(statement)
        await island.take(statement)
    mine = await island.submit(fleet.content(5 * CHUNK))
    link = Asked(island.host(boat) if fetches else boat.host(island))
    await (boat if fetches else island).visit(link, expecting=expecting)
    assert await boat.state(mine) is State.WAITING


async def test_who_wants_more_than_it_can_tell_is_brought_what_is_here(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    for place in range(MAX_WANTS // MAX_FILES + 1):  # so many signers take turns before anybody's second object
        files = [make_file(fleet.content(8), f"{which}.jpg") for which in range(MAX_FILES)]
        await boat.take(make_statement(fleet.election, make_node(fleet.election, f"pulau-{place}"), *files))
    mine = await island.submit(fleet.content(3 * CHUNK))
    await boat.custody.take([(Kind.STATEMENT, (await island.store.read([mine], MAX_RECORD))[0][2])])
    link = Link(boat.host(island))
    await island.visit(link)
    assert await boat.state(mine) is State.WAITING
    assert len(link.crossed) == 3


@pytest.mark.parametrize("question", ["wants", "holdings"])
async def test_who_has_itself_asked_without_end_is_left_when_its_time_is_over(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    lost, island, boat = await fleet.launch("pulau-jauh"), await fleet.launch("pulau-long"), await fleet.carrier("km")
    for place in range(6 * WANTS_PAGE // MAX_FILES):
        files = [make_file(fleet.content(8), f"{which}.jpg") for which in range(MAX_FILES)]
        await island.take(make_statement(fleet.election, lost.node, *files, form=f"form-{place}"))
    asked = 0

    async def slowly(*_: object) -> list[Want]:
        nonlocal asked
        asked += 1
        fleet.clock.now += CONTENT_SECONDS / 3
        return [Want(ObjectId(asked.to_bytes(32, "big")), 8, 1, 8)] if question == "wants" else []

    link = Link(boat.host(island))
    monkeypatch.setattr(link, question, slowly)
    report = await island.visit(link)
    assert report.more
    assert asked <= 4


class Paced(Link):
    """A contact over which each record takes so many seconds."""

    def __init__(self, host: Host, fleet: Fleet, seconds_each: float) -> None:
        super().__init__(host)
        self._clock = fleet.clock
        self._seconds_each = seconds_each

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        self._clock.now += self._seconds_each * len(ids)
        return await super().get_records(ids)

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        self._clock.now += self._seconds_each * len(records)
        return await super().put_records(records)


@pytest.mark.parametrize("fetches", [True, False])
@pytest.mark.parametrize(("seconds_each", "waits"), [(0.0, False), (0.1, True)])
async def test_most_statements_come_before_any_content_unless_they_go_quickly(
    fleet: Fleet, seconds_each: float, waits: bool, fetches: bool
) -> None:
    """A contact of a second brings all statements that a slow link can bring in it; a quick one does not stand still
    while they are judged."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    before = FIRST_STATEMENTS + 4 * FIRST_RECORDS_PAGE
    for place in range(before + LAST_STATEMENTS):
        await island.submit(fleet.content(1), form=f"form-{place}")

    visitor, visited = (boat, island) if fetches else (island, boat)
    link = Paced(visited.host(visitor), fleet, seconds_each)
    await visitor.visit(link)
    kinds = [step.partition(" ")[0] for step in link.steps]
    assert (kinds[: kinds.index("CHUNK")].count("STATEMENT") >= before) is waits


class Silent(Link):
    """A contact over which no statement is told of in one direction until content moved in the other."""

    def __init__(self, host: Host, *, tells: bool) -> None:
        super().__init__(host)
        self._tells = tells
        self._moved = asyncio.Event()

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        if not self._tells:
            await self._moved.wait()
        return await super().get_records(ids)

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        if self._tells:
            await self._moved.wait()
        return await super().put_records(records)

    def _cross(self, way: str, object_id: ObjectId, index: int) -> None:
        super()._cross(way, object_id, index)
        self._moved.set()


@pytest.mark.parametrize("fetches", [True, False])
async def test_content_of_one_direction_does_not_wait_for_few_statements_of_the_other(
    fleet: Fleet, fetches: bool
) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    mine = await island.submit(fleet.content())
    for place in range(FIRST_STATEMENTS):
        await boat.submit(form=f"form-{place}")
    visitor, visited = (boat, island) if fetches else (island, boat)
    async with asyncio.timeout(30):
        await visitor.visit(Silent(visited.host(visitor), tells=fetches))
    assert await boat.state(mine) is State.WAITING


@pytest.mark.parametrize("fetches", [True, False])
async def test_content_of_one_direction_waits_for_most_of_many_statements_of_the_other(
    fleet: Fleet, fetches: bool
) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    await island.submit(fleet.content())
    before = FIRST_STATEMENTS + FIRST_RECORDS_PAGE
    for place in range(before + LAST_STATEMENTS):
        await boat.submit(form=f"form-{place}")
    visitor, visited = (boat, island) if fetches else (island, boat)
    link = Paced(visited.host(visitor), fleet, 0.1)
    await visitor.visit(link)
    told = f"STATEMENT {'out' if fetches else 'in'}"
    assert link.steps[: link.steps.index("CHUNK")].count(told) >= before


async def test_content_does_not_wait_for_statements_that_are_not_offered_again(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    before = FIRST_STATEMENTS + FIRST_RECORDS_PAGE
    for place in range(before + LAST_STATEMENTS):
        await island.submit(fleet.content(1), form=f"form-{place}")
        name = await boat.submit(form=f"form-{place}")
        boat.custody.handed.declined(island.node.identity.node.hex(), Kind.STATEMENT, name, fleet.clock())
    link = Paced(island.host(boat), fleet, 0.0)
    await boat.visit(link)
    kinds = [step.partition(" ")[0] for step in link.steps]
    assert "STATEMENT out" not in link.steps
    assert kinds[: kinds.index("CHUNK")].count("STATEMENT") < before


class Drowned(Link):
    """A contact over which a question finds no answer once, while content moves; the first chunk takes until then."""

    def __init__(self, host: Host, question: str, spared: int) -> None:
        super().__init__(host)
        self._question = question
        self._spared = spared
        self._moves, self.drowned = asyncio.Event(), asyncio.Event()

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        await self._drown("wants")
        return await super().wants(skip)

    async def missing(self, objects: Sequence[ObjectId]) -> list[tuple[ObjectId, int]]:
        await self._drown("missing")
        return await super().missing(objects)

    async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
        async def slowly() -> AsyncIterator[Frame]:
            async for frame in frames:
                await self._move()
                yield frame

        return await super().put_chunks(slowly())

    async def _move(self) -> None:
        self._moves.set()
        await self.drowned.wait()

    async def _drown(self, question: str) -> None:
        if question != self._question or self.drowned.is_set():
            return
        if self._spared:
            self._spared -= 1
            return
        await self._moves.wait()
        self.drowned.set()
        raise Unreachable("Nothing was heard for five seconds", "It is tried again.")


@pytest.mark.parametrize("question", ["wants", "missing"])
async def test_a_question_that_drowns_in_content_ends_none_of_it(fleet: Fleet, question: str) -> None:
    island = await fleet.launch("pulau-long")
    other = await (fleet.receiver() if question == "missing" else fleet.carrier("km-bahari"))
    count = WANTS_PAGE + 6 if question == "missing" else 1  # more than a receiver is asked after at once
    mine = [await island.submit(fleet.content(CHUNK), form=f"mine-{place}") for place in range(count)]
    link = Drowned(other.host(island), question, spared=question == "missing")
    async with asyncio.timeout(60):
        report = await island.visit(link)
    assert link.drowned.is_set()
    assert report.left
    whole = State.DELIVERED if question == "missing" else State.WAITING
    assert whole in [await other.state(one) for one in mine]


async def test_a_question_without_an_answer_ends_a_visit_where_nothing_moves(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await island.submit(fleet.content(CHUNK))

    class Mute(Link):
        async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
            raise Unreachable("Nothing was heard for five seconds", "It is tried again.")

    statement = make_statement(fleet.election, (await fleet.launch("pulau-jauh")).node, make_file(fleet.content(8)))
    await boat.take(statement)
    await island.take(statement)
    await boat.visit(island)
    with pytest.raises(Unreachable):
        await boat.visit(Mute(island.host(boat)))


async def test_whole_packages_before_many_halves(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "STREAMS", 1)  # several streams are as many chunks apart
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    pairs = [[fleet.content(size * CHUNK) for _ in range(2)] for size in (3, 1, 2)]
    statements = [await island.submit(*pair, form=f"form-{place}") for place, pair in enumerate(pairs)]
    with pytest.raises(Unreachable):
        await boat.visit(Cut(island.host(boat), 2 + 4 + 3))
    states = [await boat.state(statement) for statement in statements]
    assert states == [State.PARTIAL, State.WAITING, State.WAITING]


async def test_a_receiver_that_waits_for_more_than_it_could_list_gets_what_a_visitor_has(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    lost, island = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    for _ in range(MAX_WANTS // MAX_FILES + 1):  # of boats that sank: smaller than anything, so wanted before it
        files = [make_file(fleet.content(8), f"{place}.jpg") for place in range(MAX_FILES)]
        await receiver.take(make_statement(fleet.election, lost.node, *files))
    assert len(await receiver.store.wants(MAX_WANTS)) == MAX_WANTS
    statement = await island.submit(fleet.content(3 * CHUNK))
    link = Link(receiver.host(island))
    await island.visit(link)
    assert await island.state(statement) is State.DELIVERED
    assert len(link.crossed) == 3


async def test_what_another_visitor_brings_a_receiver_comes_last(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    files = [make_file(fleet.content(CHUNK), f"{place}.jpg") for place in range(3)]
    await receiver.take(make_statement(fleet.election, island.node, *files))
    first, *others = (one.sha256 for one in files)
    assert await receiver.host(island).missing([first]) == [(first, 1)]
    assert await receiver.host(boat).missing([first, *others]) == [*((one, 1) for one in others), (first, 1)]
    assert await receiver.host(boat).missing([object_of(b"of nobody's statement")]) == []
    with pytest.raises(Malformed):
        await receiver.host(boat).missing([first] * (MAX_WANTS + 1))


@pytest.mark.parametrize("pull", [True, False], ids=["pull", "push"])
@pytest.mark.parametrize("cut", range(CHUNKS + 1))
async def test_a_visit_cut_at_any_chunk_goes_on_from_there(fleet: Fleet, pull: bool, cut: int) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content(SIZE)
    statement = await island.submit(content)
    visitor, visited = (boat, island) if pull else (island, boat)
    first = Cut(visited.host(visitor), cut)
    if cut < CHUNKS:
        with pytest.raises(Unreachable):
            await visitor.visit(first)
    else:
        await visitor.visit(first)
    kept = await boat.chunks_held(content)
    assert kept <= {index for _, _, index in first.crossed}
    assert len(kept) >= cut - STREAMS, "what crossed is kept, but for what was on its way"
    second = Link(visited.host(visitor))
    await visitor.visit(second)
    again = [index for _, _, index in second.crossed]
    assert not kept & set(again), "what was kept is not sent again"
    assert len(set(again)) == len(again), "and nothing is sent twice"
    assert await boat.read(content) == content
    assert await boat.state(statement) is State.WAITING


async def test_a_visit_cut_at_any_call_goes_on_from_there(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = await island.submit(content)

    async def until_whole(visitor: Ship, visited: Ship) -> int:
        for calls in range(100):
            try:
                await visitor.visit(CutCalls(visited.host(visitor), calls))
            except Unreachable:
                continue
            return calls
        raise AssertionError("the visit never came to its end")

    assert await until_whole(boat, island) >= 2
    assert await boat.read(content) == content
    assert await until_whole(boat, receiver) >= 2
    assert receiver.log is not None
    await receiver.log.next_batch(0, 1.0)
    assert await until_whole(boat, receiver) == 1, "the receipt comes with the greeting"
    assert await until_whole(island, boat) >= 2
    assert await island.state(statement) is State.DELIVERED
    assert (await receiver.store.log_state()).size == 1


async def test_two_carriers_with_complementary_halves(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    boats = [await fleet.carrier(name) for name in ("km-bahari", "kp-anis")]
    content = fleet.content(SIZE)
    statement = await island.submit(content)
    ((kind, _, raw),) = await island.store.read([statement], 1)
    for place, boat in enumerate(boats):
        await boat.custody.take([(kind, raw)])
        await boat.stage(content, range(place, CHUNKS, 2))
        assert await boat.state(statement) is State.PARTIAL
    links = [Link(receiver.host(boat)) for boat in boats]
    for boat, link in zip(boats, links, strict=True):
        await boat.visit(link)
    assert await receiver.read(content) == content
    crossed = [index for link in links for _, _, index in link.crossed]
    assert sorted(crossed) == list(range(CHUNKS))
    assert (await receiver.store.log_state()).size == 1


async def test_two_halves_that_meet_at_sea_make_two_wholes(fleet: Fleet) -> None:
    island = await fleet.launch("pulau-long")
    boats = [await fleet.carrier(name) for name in ("km-bahari", "kp-anis")]
    content = fleet.content(SIZE)
    statement = await island.submit(content)
    ((kind, _, raw),) = await island.store.read([statement], 1)
    for place, boat in enumerate(boats):
        await boat.custody.take([(kind, raw)])
        await boat.stage(content, range(place, CHUNKS, 2))
    link = Link(boats[1].host(boats[0]))
    report = await boats[0].visit(link)
    assert len(link.crossed) == CHUNKS
    assert report.bytes_in + report.bytes_out == len(content)
    for boat in boats:
        assert await boat.read(content) == content


async def test_a_second_visit_costs_nothing(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await island.submit(fleet.content())
    first = await boat.visit(island)
    assert (first.records_in, first.more) == (1, False)
    second = await boat.visit(island)
    assert (second.records_in, second.records_out, second.bytes_in, second.bytes_out) == (0, 0, 0, 0)


@pytest.mark.parametrize("pull", [True, False], ids=["fetched", "brought"])
async def test_where_content_is_expected_the_last_statements_come_while_the_first_are_judged(
    fleet: Fleet, pull: bool
) -> None:
    """The link is not idle until the first chunk can be asked for."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await (boat if pull else island).visit(island if pull else boat)  # they know the same notices then
    for place in range(FIRST_STATEMENTS + 6):
        await island.submit(fleet.content(4 * CHUNK), form=f"form-{place}")
    await (boat if pull else island).visit(Busy(island.host(boat) if pull else boat.host(island)), expecting=True)
    assert [one.state for one in await boat.store.bundles()] == [State.WAITING] * (FIRST_STATEMENTS + 6)


async def test_where_there_are_no_last_statements_the_first_ones_are_waited_for(fleet: Fleet) -> None:
    """Else there would seem to be no content to fetch or to bring."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    contents = [fleet.content() for _ in range(2)]
    statements = [await ship.submit(one) for ship, one in zip((island, await fleet.launch("x")), contents, strict=True)]
    await boat.visit(fleet.ships[-1])
    await boat.visit(island, expecting=True)
    assert [await ship.state(one) for ship in (island, boat) for one in statements] == [State.WAITING] * 4


async def test_who_holds_little_has_the_first_statements_with_the_greeting(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    contents = [fleet.content() for _ in range(FIRST_STATEMENTS + 2)]
    statements = [await island.submit(one, form=f"form-{place}") for place, one in enumerate(contents)]
    link = Link(island.host(boat))
    report = await boat.visit(link, expecting=True)
    assert link.calls == ["hello", "get_records"]
    assert link.steps.count("STATEMENT in") == FIRST_STATEMENTS + 2
    assert report.records_in == FIRST_STATEMENTS + 2
    assert {await boat.state(one) for one in statements} == {State.WAITING}
    assert all(island.custody.handed.knows(boat.node.identity.node.hex(), one) for one in statements)


@pytest.mark.parametrize(
    ("held", "expecting", "comes"), [(1, True, True), (1, False, False), (GREETED_IDS + 1, True, False)]
)
async def test_where_nothing_is_expected_or_much_is_held_nothing_comes_with_a_greeting(
    fleet: Fleet, held: int, expecting: bool, comes: bool
) -> None:
    island, other = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    for place in range(held):
        await other.submit(form=f"form-{place}")
    fresh = await island.submit(form="form")
    link = Link(island.host(other))
    await other.visit(link, expecting=expecting)
    assert ("get_records" not in link.calls) is comes
    assert await other.state(fresh) is State.WAITING


async def test_what_rules_comes_with_a_greeting_before_statements(fleet: Fleet) -> None:
    """A device that is revoked there, which is not known here yet."""
    island, other, boat = await fleet.launch("pulau-long"), await fleet.launch("x"), await fleet.carrier("km-bahari")
    kept, withheld = await island.submit(form="form-1"), await other.submit(form="form-2")
    await boat.visit(island)
    await boat.visit(other)
    revocation = make_revocations(fleet.election, 2, other.node)
    await island.custody.take([(Kind.NOTICE, revocation.raw)])
    fresh = await island.submit(form="form-3")
    link = Link(island.host(boat))
    await boat.visit(link, expecting=True)
    assert link.steps == ["NOTICE in", "STATEMENT in"]
    assert "get_records" not in link.calls
    assert other.node.identity.node in boat.custody.admission.revoked
    assert [await boat.state(one) for one in (kept, fresh)] == [State.WAITING] * 2
    assert await boat.state(withheld) is None


async def test_a_store_that_cannot_read_keeps_nobody_from_being_greeted(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    statement = await island.submit(form="form-1")
    offered = island.store.offered
    calls = iter([StoreError("The disk cannot be read", "Look at its cable.")])

    async def once(ids: Sequence[RecordId]) -> list[RecordId]:
        if error := next(calls, None):
            raise error
        return await offered(ids)

    monkeypatch.setattr(island.store, "offered", once)
    await boat.visit(island, expecting=True)
    assert await boat.state(statement) is State.WAITING


async def test_what_was_refused_and_comes_with_every_greeting_moves_nothing(fleet: Fleet) -> None:
    """The neighbour cannot know of it; without this the two would never settle."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    statement = await island.submit(form="form-1")
    boat.custody.refused[int(Kind.STATEMENT), statement] = None
    link = Link(island.host(boat))
    report = await boat.visit(link, expecting=True)
    assert "STATEMENT in" in link.steps
    assert not report.moved
    assert not boat.custody.verdicts
    assert await boat.state(statement) is None


async def test_a_greeting_stays_within_its_bounds_whatever_is_held(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A register of which a part takes 54 KB, and ids for 32 KB."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    for place in range(900):
        island.store.members.add(Kind.STATEMENT, sha256(place.to_bytes(4)))

    async def offered(asked: Sequence[RecordId]) -> list[RecordId]:
        return list(asked)

    async def read(asked: Sequence[RecordId], _room: int) -> list[tuple[Kind, RecordId, bytes]]:
        return [(Kind.NOTICE, asked[0], bytes(MAX_RECORD))]

    monkeypatch.setattr(island.store, "offered", offered)
    monkeypatch.setattr(island.store, "read", read)
    compare = Initiator(boat.store.members, listed=GREETED_IDS).start()
    answer = await island.host(boat).hello(Greeting(boat.greeting(), compare))
    assert not answer.given
    assert len(answer.compare) > 16_000
    assert Greeting.decode(answer.encode()) == answer


async def test_a_greeting_in_another_version_of_reconciliation_is_answered(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await island.submit()
    answer = await island.host(boat).hello(Greeting(boat.greeting(), b"\x62"))
    assert (answer.compare, answer.given) == (b"\x61", b"")


async def test_what_comes_with_a_greeting_and_is_not_needed_is_not_taken(fleet: Fleet) -> None:
    island, boat, liar = [await fleet.launch(name) for name in ("pulau-long", "x", "y")]
    statement, unasked = await island.submit(form="form-1"), await liar.submit(form="form-2")
    raw = [(Kind.STATEMENT, one) for _, _, one in await liar.store.read([unasked], MAX_RECORD)]

    class Pushing(Link):
        async def hello(self, mine: Greeting) -> Greeting:
            return replace(await super().hello(mine), given=Given(raw).encode())

    await boat.visit(Pushing(island.host(boat)), expecting=True)
    assert await boat.state(statement) is State.WAITING
    assert await boat.state(unasked) is None


async def test_of_many_records_few_come_at_first(fleet: Fleet) -> None:
    """Of a batch nothing is kept where the link is cut in it: a slow link gets on all the same."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    for place in range(4 * FIRST_RECORDS_PAGE + LAST_STATEMENTS):
        await island.submit(form=f"form-{place}")
    asked: list[int] = []

    class Counted(Curt):
        async def get_records(self, ids: Sequence[RecordId]) -> Given:
            asked.append(len(ids))
            return await super().get_records(ids)

    await boat.visit(Counted(island.host(boat)))
    most = [FIRST_RECORDS_PAGE, 2 * FIRST_RECORDS_PAGE, FIRST_RECORDS_PAGE - FIRST_STATEMENTS]
    last = [FIRST_RECORDS_PAGE, LAST_STATEMENTS - FIRST_RECORDS_PAGE]
    statements = asked[-1 - len(most) - len(last) :]
    assert statements[0] == FIRST_STATEMENTS
    assert sorted(statements[1:]) == sorted([*most, *last])
    assert statements.index(2 * FIRST_RECORDS_PAGE) > statements.index(FIRST_RECORDS_PAGE)


async def test_what_a_neighbour_answered_for_and_wants_again_comes_last_and_bounded(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who says for ever that it lacks what it took draws no more than that from each visit."""
    monkeypatch.setattr(exchange, "MAX_WRONG_CHUNKS", CHUNKS)
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    old = fleet.content(SIZE)
    await island.submit(old)
    await island.visit(boat)
    fresh = fleet.content(CHUNK)
    await island.submit(fresh, form="form-2")

    class Greedy(Link):
        async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
            return [want for want in self.wanted if want.object not in skip]

        async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
            return replace(await super().put_records(records), wants=await self.wants(()))

        wanted = tuple(Want(object_of(one), len(one), (1 << 1_000) - 1, len(one)) for one in (old, fresh))

    drawn: list[ObjectId] = []
    read_chunk = island.store.read_chunk

    async def read(object_id: ObjectId, index: int, *, doubted: bool = False) -> bytes | None:
        drawn.append(object_id)  # streams read in threads: who is ready first says nothing of the order
        return await read_chunk(object_id, index, doubted=doubted)

    monkeypatch.setattr(island.store, "read_chunk", read)
    link = Greedy(boat.host(island))
    await island.visit(link)
    objects = [object_id for _, object_id, _ in link.crossed]
    assert drawn[0] == object_of(fresh)
    assert objects.count(object_of(old)) == CHUNKS // 2


async def test_a_visit_ends_for_its_time_and_says_that_more_is_left(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content(40 * CHUNK)
    await island.submit(content)

    class Slow(Link):
        def _cross(self, way: str, object_id: object, index: int) -> None:
            fleet.clock.now += CONTENT_SECONDS / 3

    report = await boat.visit(Slow(island.host(boat)))
    assert report.more
    assert 0 < len(await boat.chunks_held(content)) < 40
    report = await boat.visit(island)
    assert not report.more
    assert await boat.read(content) == content


async def test_everybody_visits_everybody_at_once(fleet: Fleet) -> None:
    islands = [await fleet.launch(f"pulau-{place}") for place in range(2)]
    boats = [await fleet.carrier(f"boat-{place}") for place in range(2)]
    contents = [fleet.content() for _ in islands]
    for island, content in zip(islands, contents, strict=True):
        await island.submit(content)
    ships = [*islands, *boats]
    pairs = [(one, other) for one in ships for other in ships if one is not other]
    for _ in range(2):
        await asyncio.gather(*(one.visit(other) for one, other in pairs))
    for ship in ships:
        assert [await ship.read(content) for content in contents] == contents
        assert [one.state for one in await ship.store.bundles()] == [State.WAITING] * 2


async def test_only_a_receiver_answers_inquiries_and_proves_its_log(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    with pytest.raises(Refused, match="receiver"):
        await boat.host(island).inquire(Inquiry(()))
    with pytest.raises(Refused, match="receiver"):
        await boat.host(island).consistency(0, 1)


async def test_a_receiver_is_not_asked_for_what_others_brought(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    for place in range(5):
        await island.submit(fleet.content(1), form=f"form-{place}")
    await island.visit(receiver)
    link = Link(receiver.host(boat))
    await boat.visit(link)
    assert set(link.steps) <= {"CHECKPOINT in", "NOTICE in"}
    assert not await boat.store.bundles()


async def test_a_statement_travels_ahead_of_its_content(fleet: Fleet) -> None:
    """A boat that knows of a package takes its chunks from whoever has some."""
    island = await fleet.launch("pulau-long")
    boats = [await fleet.carrier(name) for name in ("km-bahari", "kp-anis")]
    content = fleet.content()
    statement = make_statement(fleet.election, island.node, make_file(content))
    await boats[0].take(statement)
    await boats[1].visit(boats[0])
    assert [want.object for want in await boats[1].store.wants(10)] == [object_of(content)]
    await island.take(statement)
    await island.adopt(content)
    await boats[1].visit(island)
    await boats[1].visit(boats[0])
    assert await boats[0].read(content) == content


async def test_a_batch_that_is_logged_while_a_receiver_is_asked_for_receipts_is_not_missed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who asked just then waits for the next one, which may be a second away."""
    receiver, island = await fleet.receiver(), await fleet.launch("pulau-long")
    statement = await island.submit()
    await receiver.custody.take([(kind, raw) for kind, _, raw in await island.store.read([statement], 1 << 20)])
    log = receiver.log
    assert log is not None

    class Batches:
        batches = 0

        async def next_batch(self, heard: int, seconds: float) -> None:
            assert heard < self.batches, f"waits {seconds} s for another batch"

        async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
            raise AssertionError("nobody asks for proofs here")

    batches, receipted = Batches(), receiver.store.receipted

    async def asked(ids: Sequence[StatementId]) -> set[StatementId]:
        found = await receipted(ids)
        if not batches.batches:
            await log.sequencer.sequence()
            batches.batches = 1
        return found

    monkeypatch.setattr(receiver.store, "receipted", asked)
    name = island.node.identity.node.hex()
    host = Host(receiver.custody, receiver.greeting, name, receiver.claims, receiver.clock, batches)
    reply = await host.inquire(Inquiry((statement,), wait=1.0))
    assert reply.ready == (statement,)


def spoil(ship: Ship, content: bytes) -> None:
    """Have a ship's disk give an object no more: whoever opens it goes round in circles."""
    path = ship.store._content.path(object_of(content))
    path.unlink()
    path.symlink_to(path.name)


async def laden(fleet: Fleet) -> tuple[Ship, list[bytes], list[StatementId]]:
    """A boat with the packages of six islands; and these, the one that goes first the first."""
    boat = await fleet.carrier("km-bahari")
    of: dict[StatementId, bytes] = {}
    for place in range(6):
        island = await fleet.launch(f"island-{place}")
        content = fleet.content()
        of[await island.submit(content)] = content
        await boat.visit(island)
    order = [one async for page in boat.store.to_deliver() for one in page]
    return boat, [of[one] for one in order], order


@pytest.mark.parametrize("place", [0, 3, 5])
async def test_a_visit_brings_all_but_what_cannot_be_read(fleet: Fleet, place: int) -> None:
    receiver = await fleet.receiver()
    boat, contents, statements = await laden(fleet)
    spoil(boat, contents[place])
    await boat.visit(receiver)
    states = [await receiver.state(one) for one in statements]
    assert states == [State.PARTIAL if one == place else State.DELIVERED for one in range(6)]
    assert [len(await receiver.read(one)) for one in contents] == [0 if n == place else SIZE_OF for n in range(6)]


@pytest.mark.parametrize("visits", [True, False], ids=["it visits", "it is visited"])
async def test_a_neighbour_gets_all_but_what_cannot_be_read(fleet: Fleet, visits: bool) -> None:
    boat, contents, statements = await laden(fleet)
    other = await fleet.carrier("km-sinar")
    spoil(boat, contents[2])
    await (boat.visit(other) if visits else other.visit(boat))
    states = [await other.state(one) for one in statements]
    assert states == [State.PARTIAL if one == 2 else State.WAITING for one in range(6)]
    assert boat.store.unreadable == {object_of(contents[2])}


@pytest.mark.parametrize("visits", [True, False], ids=["it visits", "it is visited"])
async def test_a_boat_whose_copy_is_gone_takes_another_and_delivers_it(fleet: Fleet, visits: bool) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = await island.submit(content)
    await boat.visit(island)
    spoil(boat, content)
    await boat.visit(receiver)
    assert await receiver.state(statement) is State.PARTIAL
    await (boat.visit(island) if visits else island.visit(boat))
    await boat.visit(receiver)
    assert await receiver.state(statement) is State.DELIVERED
    assert boat.store.unreadable == frozenset()


@pytest.mark.parametrize("fetches", [True, False])
async def test_pages_of_what_is_on_its_way_end_no_visit(fleet: Fleet, fetches: bool) -> None:
    """Each page is listed while all of the one before is on its way, where that is small; what is there besides is
    listed all the same, and everything crosses once."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    for place in range(3 * WANTS_PAGE // 2):
        await island.submit(fleet.content(CHUNK // 32), fleet.content(CHUNK // 32), form=f"form-{place}")
    link = Link(island.host(boat) if fetches else boat.host(island))
    await (boat if fetches else island).visit(link)
    assert len(link.crossed) == len(set(link.crossed)) == 3 * WANTS_PAGE
    assert (await boat.store.counts()).waiting == 3 * WANTS_PAGE // 2


class Lagging(Link):
    """What was handed over has not come yet when the next page is asked for."""

    page: Sequence[Want] = ()

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        """The last page again, until all of it is passed over; what is listed when there is less than a page is all."""
        if len(self.page) >= WANTS_PAGE and not {want.object for want in self.page} <= set(skip):
            return list(self.page)
        self.page = await super().wants(skip)
        return list(self.page)


async def test_a_page_of_nothing_but_what_is_on_its_way_ends_no_visit(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    for place in range(3 * WANTS_PAGE // 2):
        await island.submit(fleet.content(CHUNK // 32), fleet.content(CHUNK // 32), form=f"form-{place}")
    link = Lagging(boat.host(island))
    await island.visit(link)
    assert len(link.crossed) == len(set(link.crossed)) == 3 * WANTS_PAGE


def alter(ship: Ship, content: bytes, place: int = CHUNK + 7) -> None:
    """Have a ship's card give other bytes than were written, and no error."""
    path = ship.store._content.path(object_of(content))
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@pytest.mark.parametrize("visits", [True, False], ids=["it visits", "it is visited"])
async def test_a_boat_whose_card_gives_other_bytes_takes_another_copy_and_delivers_it(
    fleet: Fleet, visits: bool
) -> None:
    receiver = await fleet.receiver()
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = await island.submit(content)
    await boat.visit(island)
    alter(boat, content)
    for _ in range(2):  # the receiver refuses the chunk, which is compared before it goes again
        await boat.visit(receiver)
        assert await receiver.chunks_held(content) == {0, 2, 3}
    assert boat.store.unreadable == {object_of(content)}
    assert await boat.store.reread() == 0
    await (boat.visit(island) if visits else island.visit(boat))
    await boat.visit(receiver)
    assert await receiver.state(statement) is State.DELIVERED
    assert await receiver.read(content) == content
    assert boat.store.unreadable == frozenset()


async def test_other_bytes_are_not_given_to_the_same_visitor_twice(fleet: Fleet) -> None:
    island, boat, other = await fleet.launch("pulau-long"), *[await fleet.carrier(name) for name in ("km-a", "km-b")]
    content = fleet.content()
    statement = await island.submit(content)
    await boat.visit(island)
    alter(boat, content)
    for _ in range(2):
        await other.visit(boat)
        assert await other.state(statement) is State.PARTIAL
    assert boat.store.unreadable == {object_of(content)}
    await island.visit(boat)
    await other.visit(boat)
    assert await other.read(content) == content


async def test_a_half_of_which_a_chunk_changed_is_made_whole_with_what_comes(fleet: Fleet) -> None:
    island, boat, other = await fleet.launch("pulau-long"), *[await fleet.carrier(name) for name in ("km-a", "km-b")]
    content = fleet.content()
    statement = await island.submit(content)
    for ship in (boat, other):
        await ship.custody.take([(kind, raw) for kind, _, raw in await island.store.read([statement], 1)])
    await boat.stage(content, range(3))
    (partial,) = (boat.folder / "store" / "partial").iterdir()
    partial.write_bytes(bytes(CHUNK) + partial.read_bytes()[CHUNK:])
    for _ in range(2):
        await other.visit(boat)
    assert await other.chunks_held(content) == {1, 2}
    assert boat.store.unreadable == {object_of(content)}
    assert await boat.store.reread() == 0
    for _ in range(2):
        await boat.visit(island)
    assert await boat.read(content) == content
    assert boat.store.unreadable == frozenset()


async def test_what_a_neighbour_goes_on_lacking_takes_turns(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a liar would keep from being seen what the card gives wrong."""
    monkeypatch.setattr("relay.sync.content.MAX_WRONG_CHUNKS", 8)
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    contents = [fleet.content() for _ in range(3)]
    for content in contents:
        await island.submit(content)
    liar = Glutton(boat.host(island), [(object_of(content), len(content)) for content in contents])
    went: list[set[ObjectId]] = []

    async def taken(frames: AsyncIterator[Frame]) -> int:
        went[-1] |= {object_id async for object_id, _, _ in frames}
        return 0

    monkeypatch.setattr(liar, "put_chunks", taken)
    for _ in range(7):
        went.append(set())
        await island.visit(liar)
    assert [len(one) for one in went] == [3, 1, 1, 1, 1, 1, 1]
    assert went[1] | went[2] | went[3] == went[4] | went[5] | went[6] == went[0]
