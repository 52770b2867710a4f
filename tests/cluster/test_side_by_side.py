"""Several receivers' stores side by side on one database and bucket: in any order, and when one ends between two steps.

Each store is what a process of its own would have. What is hammered here in one process, real daemons do in
`test_receivers`; here the instants are chosen.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from relay.errors import StoreError
from relay.receiver import service
from relay.records.identifiers import Kind, RecordId, StatementId
from relay.store.cluster import records, watch
from relay.store.cluster.bucket import Bucket
from relay.store.cluster.database import connected
from relay.store.cluster.store import ClusterStore
from relay.store.interface import LogBatch, LogState, Outcome, Seen, State
from relay.store.layouts import span
from relay.trust.admission import Admitted
from tests.cluster.swift import Swift
from tests.factory import Node, make_node, make_revocations, object_of
from tests.store_conformance import CHUNK, Cast, stage_all

ROUNDS = 3
STORES = 3
SIGNERS = 3
BUNDLES = 16
Open = Callable[[], Awaitable[ClusterStore]]


@pytest.fixture
async def opened(
    database: str, bucket: str, swift: Swift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Open]:
    """Opens the store once more, as another receiver does."""
    for key, value in swift.environment(bucket).items():
        monkeypatch.setenv(key, value)
    stores: list[ClusterStore] = []

    async def again() -> ClusterStore:
        place = Bucket.open(bucket, swift.endpoint, swift.region)
        stores.append(await ClusterStore.open(database, place, tmp_path / f"cache-{len(stores)}", own=None))
        return stores[-1]

    yield again
    for store in stores:
        await store.close()


class Company(Cast):
    """Who acts here: as many signers as are wanted, and what they have signed."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Admitted] = []

    def another(self) -> Node:
        """One more island."""
        return make_node(self.election, f"island-{len(self.made)}-{self.dice.randrange(1 << 30)}")

    def statement(self, *contents: bytes, node: Node | None = None, supersedes: StatementId | None = None) -> Admitted:
        """A statement, noted."""
        self.made.append(super().statement(*contents, node=node, supersedes=supersedes))
        return self.made[-1]


@pytest.fixture
def cast() -> Company:
    """A new election with its nodes."""
    return Company()


class _Killed(BaseException):
    """What ends a process between two steps. Nothing in the store answers to it."""


def killed_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """The process of `owner` ends when it comes to this step."""

    async def end(*_arguments: object, **_options: object) -> None:
        raise _Killed

    monkeypatch.setattr(owner, name, end)


async def log_all(cast: Company, store: ClusterStore) -> list[StatementId]:
    """Log what is complete, as a sequencer that has no proofs; the statements."""
    pending = await store.unlogged(1_000)
    if not pending:
        return []
    state = await store.log_state()
    statements = tuple(statement for statement, _ in pending)
    read = {one.id: one for one in cast.made}
    receipts = tuple(cast.receipt(read[RecordId(one)], entry) for entry, one in enumerate(statements, state.size))
    size = state.size + len(statements)
    await store.append(LogBatch(state.size, statements, receipts, LogState(size, b"", b"")))
    return list(statements)


# -- in any order


@dataclass
class _Package:
    statement: Admitted
    contents: list[bytes]


def packages(cast: Company, dice: random.Random) -> list[_Package]:
    """Packages of several signers; some have photographs in common, some have none."""
    signers = [cast.island, *(cast.another() for _ in range(SIGNERS - 1))]
    shared = [cast.content(dice.choice((CHUNK // 2, 2 * CHUNK, 3 * CHUNK + 5))) for _ in range(4)]
    made: list[_Package] = []
    for _ in range(BUNDLES):
        contents = [cast.content(dice.choice((10, CHUNK, 2 * CHUNK + 1))) for _ in range(dice.randrange(3))]
        contents += dice.sample(shared, dice.randrange(3))
        made.append(_Package(cast.statement(*contents, node=dice.choice(signers)), contents))
    return made


async def bring(stores: Sequence[ClusterStore], everything: Sequence[_Package], seed: int) -> None:
    """One visitor: all packages, in an order of its own, each call at any of the stores."""
    dice = random.Random(seed)
    for package in dice.sample(everything, len(everything)):
        several = dice.sample(everything, dice.randrange(4))
        await dice.choice(stores).add([one.statement for one in (package, *several)])
        chunks = [(content, index) for content in package.contents for index in range(-(-len(content) // CHUNK))]
        for content, index in dice.sample(chunks, len(chunks)):
            offset, length = span(len(content), index)
            store = dice.choice(stores)
            await store.stage_chunk(object_of(content), index, content[offset : offset + length])
            if dice.random() < 0.5:
                await store.commit_chunks()
    for store in stores:
        await store.commit_chunks()


async def sequence(cast: Company, store: ClusterStore, over: asyncio.Event) -> None:
    """A sequencer among several: of two that append at once, one is told that it was late."""
    while not over.is_set():
        try:
            await log_all(cast, store)
        except StoreError as error:
            assert "another receiver" in error.what or "its receipt already" in error.what, error
        await store.refresh()


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_promise_6_any_order_at_any_receiver(opened: Open, cast: Company, seed: int) -> None:
    stores = [await opened() for _ in range(STORES)]
    everything = packages(cast, random.Random(seed))
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for store in stores[:2]:
            group.create_task(sequence(cast, store, over))
        async with asyncio.TaskGroup() as visitors:
            for number in range(4):
                visitors.create_task(bring(stores, everything, 10 * seed + number))
        over.set()
    await log_all(cast, stores[0])
    expected = {one.statement.id for one in everything}
    bundles = {bundle.id: bundle for bundle in await stores[1].bundles()}
    assert set(bundles) == expected
    assert {bundle.state for bundle in bundles.values()} == {State.DELIVERED}
    assert all(bundle.held == bundle.size for bundle in bundles.values())
    assert sorted(bundle.entry for bundle in bundles.values() if bundle.entry is not None) == [*range(len(expected))]
    assert not await stores[2].wants(100)
    for content in {content for one in everything for content in one.contents}:
        path = await stores[2].object_path(object_of(content))
        assert path is not None
        assert path.read_bytes() == content


# -- a receipt and its statement, at once


@dataclass
class _Meeting:
    """Where in the transaction of the one the other one comes: after this step of `relay.store.cluster.records`."""

    statement_first: bool
    step: str

    @contextmanager
    def at(self, come: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Within it, `come` is called there."""
        step = getattr(records, self.step)

        async def stepped(*arguments: object) -> object:
            done = await step(*arguments)
            await come()
            return done

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, self.step, stepped)
            yield


@pytest.fixture(
    params=[
        _Meeting(True, "_held"),
        _Meeting(True, "_insert"),
        _Meeting(True, "_add_statements"),
        _Meeting(False, "_insert"),
        _Meeting(False, "add_receipts"),
    ],
    ids=lambda one: f"{'statement' if one.statement_first else 'receipt'}-{one.step.strip('_')}",
)
def meeting(request: pytest.FixtureRequest) -> _Meeting:
    """Each of the instants at which they may meet."""
    return request.param  # type: ignore[no-any-return]


async def test_a_receipt_and_its_statement_that_come_at_once_find_each_other(
    opened: Open, cast: Company, meeting: _Meeting
) -> None:
    """Whichever is first, and wherever in its transaction it is when the other one comes."""
    first, second, looking = await opened(), await opened(), await opened()
    statement = cast.statement()
    pair = [statement, cast.receipt(statement, 7)]
    sooner, later = pair if meeting.statement_first else reversed(pair)
    others: list[asyncio.Task[object]] = []

    async def come() -> None:
        """The other one comes, as far as it is let."""
        if not others:
            others.append(asyncio.create_task(second.add([later])))
            while not others[0].done() and not await kept_waiting(looking):
                pass

    with meeting.at(come):
        await first.add([sooner])
    await others[0]
    bundle = await looking.bundle(StatementId(statement.id))
    assert bundle is not None
    assert (bundle.entry, bundle.state) == (7, State.DELIVERED)


async def test_a_receipt_that_is_held_keeps_nobody_waiting_and_waits_for_nobody(opened: Open, cast: Company) -> None:
    first, second = await opened(), await opened()
    receipt = cast.receipt(cast.statement(), 7)
    await second.add([receipt])

    async def come() -> None:
        if not came:
            came.append(True)
            assert await second.add([receipt]) == [Outcome.KNOWN]

    came: list[bool] = []
    with _Meeting(True, "_add_statements").at(come):
        assert await first.add([cast.statement()]) == [Outcome.NEW]
    assert came


async def kept_waiting(store: ClusterStore) -> bool:
    """Whether anybody waits for a lock."""
    sql = "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted "
    return bool(await store._database.rows(sql + "AND a.datname = current_database()"))


# -- what is taken back


async def test_what_is_taken_back_is_told_and_nothing_else_is(opened: Open, cast: Company, database: str) -> None:
    store, other = await opened(), await opened()
    statement = cast.statement()
    receipt = cast.receipt(statement)
    head = replace(make_revocations(cast.election, 1), kind=Kind.CHECKPOINT, slot="the log of another receiver")
    await store.add([statement, receipt, head])
    async with listening(database) as told:
        await store.take_back([receipt.id, statement.id, RecordId(bytes(32))])
        assert await told() == []
        assert await store.receipted([StatementId(statement.id)]), "the log's own receipts stay"
        assert list(store.members) == [(Kind.CHECKPOINT, head.id)]
        await store.take_back([receipt.id, head.id])
        assert await told() == [Seen.HEADS]
        assert not list(store.members)
        await other.refresh()
        assert not list(other.members)
        await store.take_back([head.id])
        assert await told() == [], "it is gone already"


@asynccontextmanager
async def listening(database: str) -> AsyncIterator[Callable[[], Awaitable[list[Seen]]]]:
    """Within it, what receivers tell each other; each call says what was told since the last one."""
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def told() -> list[Seen]:
        await connection.execute("SELECT pg_notify('relay', 'enough')")  # heard after whatever was committed before
        words: list[str] = []
        async with asyncio.timeout(10):
            while (word := (await heard.get()).partition(" ")[0]) != "enough":
                words.append(word)
        return [Seen(word) for word in words]

    async with connected(database) as connection:
        await connection.add_listener("relay", lambda *said: heard.put_nowait(said[3]))
        yield told


# -- who leads


async def led(store: ClusterStore, seconds: float) -> bool:
    """Whether a store comes to lead within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            while not await store.leads():
                await store.changed(0.1)
    except TimeoutError:
        return False
    return True


async def test_a_leader_whose_batch_takes_long_goes_on_leading(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LEADER_SILENT_SECONDS", 5.0)  # longer than a database on a busy machine stands still
    monkeypatch.setattr(service, "LEAD_SECONDS", 0.2)
    store, other = await opened(), await opened()
    alive = asyncio.create_task(service.give_signs_of_life(store))
    assert await led(store, 5)
    assert not await led(other, 11)
    alive.cancel()
    assert await led(other, 20)
    assert not await store.leads()


# -- a bucket that is away


async def test_an_object_that_cannot_be_put_together_yet_keeps_nothing_from_the_log(
    opened: Open, cast: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = await opened(), await opened()
    content = cast.content()
    photograph, tally = cast.statement(content), cast.statement()
    await store.add([photograph])
    await stage_all(store, content, [0, 1])
    await store.commit_chunks()

    async def away(*_arguments: object) -> None:
        raise StoreError("The bucket is away", "Wait.")

    with monkeypatch.context() as patch:
        for one in (store, other):
            patch.setattr(one._bucket, "get", away)
        first = [await store.stage_chunk(object_of(content), at, part) for at, part in list(parts_of(content))[2:]]
        assert await store.commit_chunks(first[0]) == []  # the chunks are safe
        await store.add([tally])
        for one in (store, other):
            assert await one.finish() == []
            assert [statement for statement, _ in await one.unlogged(10)] == [tally.id]
    assert await other.finish() == [photograph.id]
    assert await log_all(cast, store) == [tally.id, photograph.id]


def parts_of(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The chunks of a content."""
    for index in range(-(-len(content) // CHUNK)):
        yield index, content[index * CHUNK : (index + 1) * CHUNK]


# -- an end between two steps


async def test_promise_5_an_end_before_the_pieces_are_put_together(
    opened: Open, cast: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying, other = await opened(), await opened()
    content = cast.content()
    statement = cast.statement(content)
    await dying.add([statement])
    await stage_all(dying, content, [0, 1])
    await dying.commit_chunks()
    await stage_all(dying, content, [2, 3])
    killed_at(monkeypatch, dying._transfers, "_assemble")
    with pytest.raises(_Killed):
        await dying.commit_chunks()
    assert not await other.wants(10)
    assert await log_all(cast, other) == []
    assert await other.finish() == [statement.id]
    assert await log_all(cast, other) == [statement.id]
    path = await other.object_path(object_of(content))
    assert path is not None
    assert path.read_bytes() == content
