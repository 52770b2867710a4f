"""What every store has to do, whatever lies behind it: the promises of `relay.store.interface.Store` as tests.

A test module of a store subclasses `StoreConformance` and provides the fixture `opener`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import Malformed, StoreError
from relay.limits import MAX_LAYOUTS, MAX_RECORD
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId, StatementId, receipt_id, sha256
from relay.records.statement import FileEntry, chunk_size_for
from relay.store.interface import Cargo, LogBatch, LogState, Outcome, PeerNote, Seen, State, Store
from relay.sync.arrival import Arrival
from relay.sync.claims import Claims, Way
from relay.sync.custody import Custody
from relay.trust.admission import Admission, Admitted
from relay.trust.roles import Role
from tests.factory import (
    Election,
    Node,
    content_of,
    make_election,
    make_file,
    make_node,
    make_receipt,
    make_revocations,
    make_statement,
    object_of,
)

CHUNK = chunk_size_for(1)


class Opener(Protocol):
    """Opens the store under test; again, for a second process on the same store."""

    async def __call__(
        self,
        *,
        own: NodeId | None = None,
        quota_bytes: int = 1 << 30,
        quota_statements: int = 1_000,
        storage_limit: int | None = None,
        keeps_all: bool = False,
    ) -> Store:
        """The store, open; the fixture closes it."""


class Cast:
    """Who acts in these tests."""

    def __init__(self) -> None:
        self.election: Election = make_election()
        self.island: Node = make_node(self.election, "pulau-long")
        self.other: Node = make_node(self.election, "pulau-batun")
        self.receiver: Node = make_node(self.election, "receiver", Role.RECEIVER)
        self.dice = random.Random(7)

    def content(self, size: int = 3 * CHUNK + 5) -> bytes:
        """New content."""
        return content_of(self.dice, size)

    def statement(self, *contents: bytes, node: Node | None = None, supersedes: StatementId | None = None) -> Admitted:
        """A statement over files with these contents."""
        files = [make_file(content, f"{place}.jpg") for place, content in enumerate(contents)]
        return make_statement(self.election, node or self.island, *files, supersedes=supersedes)

    def lie(self, entry: FileEntry, node: Node | None = None) -> Admitted:
        """A statement over a file entry that need not be true."""
        return make_statement(self.election, node or self.other, entry)

    def receipt(self, statement: Admitted, entry: int = 0) -> Admitted:
        """A receipt for a statement."""
        return make_receipt(self.election, self.receiver, statement, entry)


async def stage_all(store: Store, content: bytes, chunks: Sequence[int] | None = None) -> None:
    """Stage chunks of an object, all of them by default."""
    step = chunk_size_for(len(content))
    for index in range(-(-len(content) // step)) if chunks is None else chunks:
        await store.stage_chunk(object_of(content), index, content[index * step : (index + 1) * step])


async def only_bundle(store: Store, statement: Admitted) -> tuple[State, int]:
    """State and held bytes of a bundle."""
    bundle = await store.bundle(StatementId(statement.id))
    assert bundle is not None
    return bundle.state, bundle.held


async def to_deliver(store: Store) -> list[StatementId]:
    """All that waits for a receipt, in the order in which it is brought."""
    return [statement async for page in store.to_deliver() for statement in page]


def full(*_arguments: object) -> NoReturn:
    """What every way to the disk says when there is no room."""
    raise StoreError("The disk is full", "Free some space.")


async def noticed(store: Store) -> Seen:
    """What a process sees of others as soon as it sees anything."""
    async with asyncio.timeout(10):
        while (seen := await store.refresh()) is Seen.NOTHING:
            await store.changed(0.01)
    return seen


class StoreConformance:
    """The tests of every store. `opener` opens the same one every time; a store for receivers keeps everything."""

    @pytest.fixture
    def cast(self) -> Cast:
        """A new election with its nodes."""
        return Cast()

    def fill_disk(self, store: Any, patch: pytest.MonkeyPatch) -> None:
        """Have chunks no longer find room where they go when they are committed: by `full`, within `store`."""
        raise NotImplementedError

    # -- records

    async def test_a_record_is_new_once_and_read_back(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        statement = cast.statement(cast.content())
        assert await store.add([statement, statement]) == [Outcome.NEW, Outcome.KNOWN]
        assert await store.add([statement]) == [Outcome.KNOWN]
        assert await store.read([RecordId(bytes(32)), statement.id], 1) == [
            (Kind.STATEMENT, statement.id, statement.raw)
        ]
        assert await store.offered([RecordId(bytes(32)), statement.id]) == [statement.id]

    async def test_reading_stops_at_its_limit(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        statements = [cast.statement(cast.content(10)) for _ in range(3)]
        await store.add(statements)
        ids = [one.id for one in statements]
        two = len(statements[0].raw) + len(statements[1].raw)
        assert [record for _, record, _ in await store.read(ids, two)] == ids[:2]
        assert [record for _, record, _ in await store.read(ids, 1)] == ids[:1]
        assert await store.read([], MAX_RECORD) == []

    async def test_the_higher_rank_fills_a_slot(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        first = make_revocations(cast.election, 1)
        second = make_revocations(cast.election, 2, cast.island)
        assert await store.add([first, second, first]) == [Outcome.NEW, Outcome.NEW, Outcome.STALE]
        assert await store.add([second]) == [Outcome.KNOWN]
        assert await store.load(Kind.NOTICE) == [second.raw]
        assert list(store.members) == [(Kind.NOTICE, second.id)]

    async def test_a_rank_may_be_larger_than_a_machine_word(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        huge = replace(make_revocations(cast.election, 1), rank=1 << 70)
        assert await store.add([huge]) == [Outcome.NEW]
        assert await store.add([make_revocations(cast.election, 2)]) == [Outcome.STALE]

    async def test_a_receipt_takes_its_statement_out_of_the_set(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        statement = cast.statement(cast.content())
        receipt = cast.receipt(statement, 5)
        await store.add([statement])
        assert await store.awaiting_receipt(b"", 10) == [statement.id]
        assert await store.add([receipt, receipt]) == [Outcome.NEW, Outcome.KNOWN]
        assert await store.offered([statement.id, receipt_id(statement.id)]) == [receipt_id(statement.id)]
        assert await store.receipted([StatementId(statement.id)]) == {statement.id}
        assert await store.awaiting_receipt(b"", 10) == []
        bundle = await store.bundle(StatementId(statement.id))
        assert bundle is not None
        assert (bundle.state, bundle.entry) == (State.DELIVERED, 5)

    async def test_its_maker_and_a_receiver_keep_a_delivered_statement(self, opener: Opener, cast: Cast) -> None:
        statement = cast.statement(cast.content())
        store = await opener(own=cast.island.identity.node)
        await store.add([cast.receipt(statement)])
        assert await store.add([statement]) == [Outcome.NEW]
        assert (await only_bundle(store, statement))[0] is State.DELIVERED
        assert await store.offered([statement.id]) == []

    async def test_awaiting_receipt_is_paged_by_id(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        statements = [cast.statement(cast.content(5)) for _ in range(5)]
        await store.add(statements)
        ids = sorted(one.id for one in statements)
        first = await store.awaiting_receipt(b"", 2)
        assert first + await store.awaiting_receipt(first[-1], 10) == ids

    async def test_signers_take_turns_in_what_is_to_be_delivered(self, opener: Opener, cast: Cast) -> None:
        """The least of each first; superseded ones last, and none that is delivered or withheld."""
        store = await opener()
        sizes = (3, 1, 2, 4)
        flood = [cast.statement(cast.content(size * CHUNK)) for size in sizes]
        one = cast.statement(cast.content(5 * CHUNK), node=cast.other)
        corrected = cast.statement(cast.content(), node=cast.other, supersedes=StatementId(one.id))
        await store.add([*flood, one, cast.receipt(flood[3])])
        rest = [flood[2].id, flood[0].id]
        assert await to_deliver(store) == [*sorted([flood[1].id, one.id]), *rest]
        await store.add([corrected])
        assert await to_deliver(store) == [*sorted([flood[1].id, corrected.id]), *rest, one.id]
        await store.withhold([cast.island.identity.node])
        assert await to_deliver(store) == [corrected.id, one.id]

    async def test_a_page_of_nothing_is_empty(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        statement = cast.statement()
        await store.add([statement])
        for limit in (0, -1):
            assert await store.awaiting_receipt(b"", limit) == []
            assert await store.undelivered(b"", limit) == []
            assert await store.unlogged(limit) == []
        await store.append(
            LogBatch(0, (StatementId(statement.id),), (cast.receipt(statement, 0),), LogState(1, b"frontier", b"head"))
        )
        for limit in (0, -1):
            assert await store.log_statements(0, limit) == []
            assert await store.log_times(0, limit) == []

    # -- quotas, revocations

    async def test_what_a_node_makes_has_no_quota(self, opener: Opener, cast: Cast) -> None:
        """What others bring in its name has: its key may have been copied."""
        store = await opener(own=cast.island.identity.node, quota_statements=1)
        statements = [cast.statement(cast.content(9)) for _ in range(3)]
        assert await store.add(statements, made_here=True) == [Outcome.NEW] * 3
        assert await store.add([cast.statement(cast.content(9))]) == [Outcome.OVER_QUOTA]

    async def test_a_receiver_takes_so_much_of_one_signer_altogether(self, opener: Opener, cast: Cast) -> None:
        """What is in the log already counts: a stolen key may not go on for ever."""
        store = await opener(keeps_all=True, quota_statements=2)
        first, *more = (cast.statement() for _ in range(4))
        other = cast.statement(node=cast.other)
        assert await store.add([first, first]) == [Outcome.NEW, Outcome.KNOWN]
        batch = LogBatch(0, (StatementId(first.id),), (cast.receipt(first),), LogState(1, b"", b"checkpoint"))
        await store.append(batch)
        said = await store.add([*more, other, first])
        assert said == [Outcome.NEW, Outcome.OVER_QUOTA, Outcome.OVER_QUOTA, Outcome.NEW, Outcome.KNOWN]
        assert await store.add([more[0], more[1]]) == [Outcome.KNOWN, Outcome.OVER_QUOTA]
        assert len(await store.bundles()) == 3

    async def test_a_receivers_quota_counts_bytes(self, opener: Opener, cast: Cast) -> None:
        first, second = cast.statement(cast.content()), cast.statement(cast.content())
        store = await opener(keeps_all=True, quota_bytes=getattr(first.body, "size", 0) + 1)
        assert await store.add([first]) == [Outcome.NEW]
        assert await store.add([second]) == [Outcome.OVER_QUOTA]

    async def test_a_revoked_signer_is_withheld_and_may_come_back(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        delivered, pending = cast.statement(), cast.statement(content)
        await store.add([delivered, pending, cast.receipt(delivered)])
        await stage_all(store, content, [0])
        await store.commit_chunks()
        assert await store.withhold([cast.island.identity.node]) == 1
        assert [one.id for one in await store.bundles()] == [delivered.id]
        assert await store.bundle(StatementId(pending.id)) is None
        assert [(one.id, one.held) for one in await store.undelivered(b"", 10)] == [(pending.id, CHUNK)]
        assert await store.offered([pending.id]) == []
        assert await store.wants(10) == []
        assert await store.awaiting_receipt(b"", 10) == []
        assert (await store.counts()).partial == 0
        assert not await store.stage_chunk(object_of(content), 1, content[CHUNK : 2 * CHUNK])
        assert await store.withhold([]) == 0
        assert await store.offered([pending.id]) == [pending.id]
        assert (await only_bundle(store, pending)) == (State.PARTIAL, CHUNK)

    # -- bundles

    async def test_bundles_are_listed_in_order_and_counted(self, opener: Opener, cast: Cast) -> None:
        store = await opener(own=cast.island.identity.node)
        content = cast.content()
        partial = cast.statement(content, node=cast.other)
        waiting, delivered = cast.statement(), cast.statement(b"x", b"y")
        await store.add([delivered, waiting, partial, cast.receipt(delivered, 3)])
        await stage_all(store, content, [3])
        await store.commit_chunks()
        shown = await store.bundles()
        assert [(one.device, one.seq, one.state, one.own, one.entry) for one in shown] == [
            ("pulau-batun", 1, State.PARTIAL, False, None),
            ("pulau-long", 1, State.WAITING, True, None),
            ("pulau-long", 2, State.DELIVERED, True, 3),
        ]
        assert (shown[0].size, shown[0].held) == (len(content), 5)
        assert [(one.name, one.size, one.sha256) for one in shown[2].files] == [
            ("0.jpg", 1, sha256(b"x")),
            ("1.jpg", 1, sha256(b"y")),
        ]
        counts = await store.counts()
        assert (counts.partial, counts.waiting, counts.delivered, counts.bytes_held) == (1, 1, 1, 5)

    async def test_what_has_no_receipt_is_listed_by_page(self, opener: Opener, cast: Cast) -> None:
        store = await opener(keeps_all=True)
        left = [cast.statement(cast.content(9), b"x"), cast.statement(), cast.statement(b"y")]
        delivered, revoked = cast.statement(), cast.statement(node=cast.other)
        await store.add([*left, delivered, revoked, cast.receipt(delivered)])
        await store.withhold([cast.other.identity.node])
        ids = sorted(one.id for one in (*left, revoked))
        first = await store.undelivered(b"", 2)
        assert [one.id for one in first] == ids[:2]
        assert [one.id for one in await store.undelivered(ids[1], 9)] == ids[2:]
        assert first[0] == await store.bundle(StatementId(ids[0]))

    async def test_bundles_are_found_by_what_they_name(self, opener: Opener, cast: Cast) -> None:
        store = await opener(keeps_all=True)
        shared = cast.content(9)
        both = [cast.statement(shared, b"x"), cast.statement(shared)]
        bare, other, revoked = cast.statement(), cast.statement(b"y"), cast.statement(shared, node=cast.other)
        await store.add([*both, bare, other, revoked])
        await store.withhold([cast.other.identity.node])
        ids: list[ObjectId | RecordId] = [object_of(shared), bare.id, both[1].id, revoked.id, RecordId(bytes(32))]
        found = [one async for one in store.bundles_of(ids)]
        assert sorted(one.id for one in found) == sorted(one.id for one in (*both, bare))
        assert all([one == await store.bundle(one.id) for one in found])
        assert [one async for one in store.bundles_of([])] == []

    async def test_the_cargo(self, opener: Opener, cast: Cast) -> None:
        """What is delivered is no longer on board, nor shown what is withheld; a clock that was never set is no age."""
        store = await opener(keeps_all=True)
        assert await store.cargo(0, 1 << 40) == Cargo(0, 0, 0, None)
        village = make_node(cast.election, "pulau-ketapang", tps=("tps-2",))
        partial, delivered = make_file(cast.content()), make_statement(cast.election, cast.island, captured_at=100)
        records = [
            make_statement(cast.election, cast.island, captured_at=12),
            make_statement(cast.election, cast.island, partial, captured_at=500),
            make_statement(cast.election, village, tps="tps-2", captured_at=400),
            make_statement(cast.election, cast.island, captured_at=901),
            delivered,
            make_statement(cast.election, cast.other, captured_at=200),
        ]
        await store.add([*records, cast.receipt(delivered)])
        await store.withhold([cast.other.identity.node])
        assert await store.cargo(13, 900) == Cargo(4, 2, 1, 400)
        assert await store.cargo(12, 900) == Cargo(4, 2, 1, 12)
        assert await store.cargo(902, 903) == Cargo(4, 2, 1, None)

    async def test_the_head_of_a_chain(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        first, second = cast.statement(b"a"), cast.statement(b"b")
        assert await store.chain_head(cast.island.identity.node) is None
        await store.add([second, first])
        assert await store.chain_head(cast.island.identity.node) == (2, second.id)

    async def test_a_file_named_twice_counts_once(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        statement = cast.statement(content, content)
        await store.add([statement])
        assert [one.object for one in await store.wants(10)] == [object_of(content)]
        await stage_all(store, content)
        assert await store.commit_chunks() == [statement.id]
        assert await only_bundle(store, statement) == (State.WAITING, len(content))

    async def test_a_false_size_never_counts_as_complete(self, opener: Opener, cast: Cast) -> None:
        """Whether the object is whole before the statement that lies about it comes, or after."""
        store = await opener(keeps_all=True)
        content = cast.content()
        truth = cast.statement(content)
        lie = FileEntry("x.jpg", "image/jpeg", 5, object_of(content), (bytes(32),))
        before = cast.lie(lie)
        await store.add([truth, before])
        await stage_all(store, content)
        assert await store.commit_chunks() == [truth.id]
        after = cast.lie(lie)
        await store.add([after])
        assert [one for one, _ in await store.unlogged(10)] == [truth.id]
        for one in (before, after):
            assert await only_bundle(store, one) == (State.PARTIAL, 0)
        assert await store.wants(10) == []

    # -- wants

    async def test_signers_take_turns(self, opener: Opener, cast: Cast) -> None:
        """Whoever names a thousand small objects that never come holds nobody else's up."""
        store = await opener()
        small = [[f"{statement} {place}".encode() for place in range(4)] for statement in range(5)]
        large, larger = cast.content(2 * CHUNK), cast.content(3 * CHUNK)
        await store.add([cast.statement(*contents, node=cast.other) for contents in small])
        await store.add([cast.statement(larger), cast.statement(large)])
        order = [want.object for want in await store.wants(100)]
        assert len(order) == 22
        assert (order.index(object_of(large)), order.index(object_of(larger))) == (4, 9)
        assert [want.object for want in await store.wants(3, frozenset(order[:3]))] == order[3:6]
        assert [want.object for want in await store.wants(9)] == order[:9]

    async def test_whole_packages_before_many_halves(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        small, large = cast.content(2 * CHUNK), cast.content(6 * CHUNK)
        pair = cast.content(CHUNK), cast.content(2 * CHUNK)
        await store.add([cast.statement(large), cast.statement(*pair), cast.statement(small)])
        order = [object_of(one) for one in (small, *pair, large)]
        assert [want.object for want in await store.wants(10)] == order
        assert [want.object for want in await store.wants(2)] == order[:2]
        assert [want.object for want in await store.wants(2, frozenset(order[:3]))] == order[3:]
        await stage_all(store, large, range(5))
        await store.commit_chunks()
        first = (await store.wants(10))[0]
        assert (first.object, first.missing, first.remaining) == (object_of(large), 1 << 5, CHUNK)

    async def test_what_is_wanted_all_the_while_is_listed_whatever_is_committed(
        self, opener: Opener, cast: Cast
    ) -> None:
        store = await opener()
        contents = [cast.content(40 + place) for place in range(60)]
        await store.add([cast.statement(one) for one in contents])
        order = [want.object for want in await store.wants(100)]
        by_object = {object_of(one): one for one in contents}

        came: list[ObjectId] = []

        async def come(objects: Sequence[ObjectId]) -> None:
            for object_id in objects:
                came.append(object_id)
                await stage_all(store, by_object[object_id])
                await store.commit_chunks()

        for place in range(0, len(order), 6):
            coming = asyncio.create_task(come(order[place : place + 6]))
            for _ in range(20):
                listed = {want.object for want in await store.wants(100)}
                assert listed >= set(order) - set(came)
            await coming
        assert await store.wants(100) == []

    async def test_the_superseded_come_last(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        old, new = cast.content(9), cast.content()
        mistake = cast.statement(old)
        await store.add([mistake, cast.statement(new, supersedes=StatementId(mistake.id))])
        assert [want.object for want in await store.wants(10)] == [object_of(new), object_of(old)]

    async def test_a_stranger_to_the_station_supersedes_nothing(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        honest, foreign = cast.content(9), cast.content()
        victim = cast.statement(honest)
        stranger = make_node(cast.election, "stranger", tps=("tps-9",))
        attack = make_statement(
            cast.election, stranger, make_file(foreign), tps="tps-9", supersedes=StatementId(victim.id)
        )
        await store.add([victim, attack])
        assert [want.object for want in await store.wants(10)] == [object_of(honest), object_of(foreign)]

    # -- chunks

    async def test_chunks_in_any_order_make_an_object(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        statement = cast.statement(content)
        await store.add([statement])
        await stage_all(store, content, [3, 0])
        assert await store.holdings([object_of(content)]) == []  # staged is not held
        assert await store.commit_chunks() == []
        (holding,) = await store.holdings([object_of(content), ObjectId(bytes(32))])
        assert (holding.size, holding.chunks, holding.complete) == (len(content), 0b1001, False)
        assert await store.read_chunk(object_of(content), 3) == content[3 * CHUNK :]
        assert await store.read_chunk(object_of(content), 1) is None
        assert await store.object_path(object_of(content)) is None
        await stage_all(store, content, [2, 1])
        assert await store.commit_chunks() == [statement.id]
        path = await store.object_path(object_of(content))
        assert path is not None
        assert path.read_bytes() == content
        assert await store.read_chunk(object_of(content), 1) == content[CHUNK : 2 * CHUNK]
        assert await store.read_chunk(object_of(content), 4) is None
        assert await store.read_chunk(object_of(content), -1) is None
        assert (await store.counts()).bytes_held == len(content)

    async def test_a_chunk_is_taken_once_and_only_where_wanted(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        assert not await store.stage_chunk(object_of(content), 0, content[:CHUNK])
        await store.add([cast.statement(content)])
        assert await store.stage_chunk(object_of(content), 0, content[:CHUNK])
        assert not await store.stage_chunk(object_of(content), 0, content[:CHUNK])
        await store.commit_chunks()
        assert not await store.stage_chunk(object_of(content), 0, content[:CHUNK])

    @pytest.mark.parametrize(
        ("index", "data"), [(0, b"wrong"), (0, bytes(CHUNK)), (4, b"x"), (-1, b"x"), (1 << 40, b"x")]
    )
    async def test_content_that_no_statement_names(self, opener: Opener, cast: Cast, index: int, data: bytes) -> None:
        store = await opener()
        content = cast.content()
        await store.add([cast.statement(content)])
        with pytest.raises(Malformed):
            await store.stage_chunk(object_of(content), index, data)
        assert await store.commit_chunks() == []
        assert await store.holdings([object_of(content)]) == []

    # Each store's tests run it from a class of their own.
    @settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(data=st.data())
    def test_any_interleaving_of_streams(self, run_in_new_store: object, data: st.DataObject) -> None:
        """Parallel streams stage and commit as they like; what one commit said is held afterwards."""
        cast = Cast()
        contents = [
            cast.content(size * CHUNK + 1) for size in data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
        ]
        chunks = [(c, i) for c in contents for i in range(-(-len(c) // CHUNK))]
        order = data.draw(st.permutations(chunks))
        streams = [order[at::3] for at in range(3)]
        commits = data.draw(st.integers(1, 3))

        async def scenario(store: Store) -> None:
            statement = cast.statement(*contents)
            await store.add([statement])
            completed: list[StatementId] = []

            async def stream(part: Sequence[tuple[bytes, int]]) -> None:
                for place, (content, index) in enumerate(part):
                    await stage_all(store, content, [index])
                    if place % commits == 0:
                        completed.extend(await store.commit_chunks())
                        (holding,) = await store.holdings([object_of(content)])
                        assert holding.complete or holding.chunks >> index & 1
                completed.extend(await store.commit_chunks())

            await asyncio.gather(*(stream(part) for part in streams))
            assert set(completed) == {statement.id}
            assert (await only_bundle(store, statement))[0] is State.WAITING

        run_in_new_store(scenario)  # type: ignore[operator]

    async def test_a_commit_outlives_its_caller(self, opener: Opener, cast: Cast) -> None:
        """A link that is lost cancels whoever commits, at any await; the next commit goes on as if nothing was."""
        store = await opener()
        for turns in range(12):
            content = cast.content()
            statement = cast.statement(content)
            await store.add([statement])
            await stage_all(store, content)
            task = asyncio.ensure_future(store.commit_chunks())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await store.commit_chunks()
            assert (await only_bundle(store, statement))[0] is State.WAITING
            assert await store.read_chunk(object_of(content), 0) == content[:CHUNK]

    async def test_promise_5_a_failed_commit_is_told_to_all_whose_chunks_it_took(
        self, opener: Opener, cast: Cast, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A commit takes whatever is staged: of two visitors, the one who did not ask for it hears of it as well."""
        store = await opener()
        mine, theirs = cast.content(), cast.content()
        await store.add([cast.statement(mine), cast.statement(theirs)])
        first = await store.stage_chunk(object_of(mine), 0, mine[:CHUNK])
        await store.commit_chunks(first)
        second = await store.stage_chunk(object_of(mine), 1, mine[CHUNK : 2 * CHUNK])
        await stage_all(store, theirs)
        with monkeypatch.context() as patch:
            self.fill_disk(store, patch)
            with pytest.raises(StoreError):
                await store.commit_chunks()
        await store.commit_chunks()  # of one who had staged nothing
        with pytest.raises(StoreError, match="full"):
            await store.commit_chunks(second)
        (holding,) = await store.holdings([object_of(mine), object_of(theirs)])
        assert (holding.object, holding.chunks) == (object_of(mine), 1)
        again = await store.stage_chunk(object_of(mine), 1, mine[CHUNK : 2 * CHUNK])
        await store.commit_chunks(again)
        (holding,) = await store.holdings([object_of(mine)])
        assert holding.chunks == 0b11

    async def test_promise_5_a_visitor_whose_chunks_another_ones_commit_lost_is_told(
        self, opener: Opener, cast: Cast, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = await opener()
        contents = [cast.content(9), cast.content(9)]
        await store.add([cast.statement(*contents)])
        custody, claims = Custody(Admission(cast.election.root), store), Claims()
        # Time stands still: nothing is committed because it is time to.
        mine, theirs = (Arrival(custody, claims, Way(name, fetched=False), lambda: 0.0) for name in ("a", "b"))
        await mine.take(object_of(contents[0]), 0, contents[0])
        await theirs.take(object_of(contents[1]), 0, contents[1])
        with monkeypatch.context() as patch:
            self.fill_disk(store, patch)
            with pytest.raises(StoreError):
                await theirs.finish()
        with pytest.raises(StoreError):
            await mine.finish()
        for content in contents:
            await mine.take(object_of(content), 0, content)
        await mine.finish()
        assert len(await store.holdings([object_of(content) for content in contents])) == 2

    async def test_what_was_staged_survives_other_work(self, opener: Opener, cast: Cast) -> None:
        """Revocations, adoptions and other processes come between staging and committing."""
        store = await opener()
        content, other = cast.content(8 * CHUNK), cast.content(9)
        statement = cast.statement(content)
        await store.add([statement, cast.statement(other)])

        async def interrupt() -> None:
            for _ in range(8):
                await store.withhold([])
                await store.refresh()

        await asyncio.gather(stage_all(store, content), interrupt())
        assert await store.commit_chunks() == [statement.id]

    async def test_an_object_serves_several_statements(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        first, second = cast.statement(content), cast.statement(content, node=cast.other)
        await store.add([first, second])
        assert len(await store.wants(10)) == 1
        await stage_all(store, content)
        assert sorted(await store.commit_chunks()) == sorted([first.id, second.id])
        third = cast.statement(content)
        await store.add([third])
        assert (await only_bundle(store, third))[0] is State.WAITING

    async def test_what_was_committed_is_there_after_reopening(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        statement = cast.statement(content)
        await store.add([statement, make_revocations(cast.election, 1)])
        await stage_all(store, content, [1, 2])
        await store.commit_chunks()
        await store.close()
        again = await opener()
        assert list(again.members) == list(store.members)
        (want,) = await again.wants(10)
        assert want.missing == 0b1001
        await stage_all(again, content, [0, 3])
        assert await again.commit_chunks() == [statement.id]

    async def test_closing_keeps_what_was_staged(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        await store.add([cast.statement(content)])
        await stage_all(store, content, [2])
        await store.close()
        (holding,) = await (await opener()).holdings([object_of(content)])
        assert holding.chunks == 0b100

    # -- lies about chunks

    async def test_false_chunk_hashes_do_not_keep_the_truth_out(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content, forged = cast.content(), cast.content()
        lie = replace(make_file(forged), sha256=object_of(content))
        await store.add([cast.lie(lie)])
        step = CHUNK
        for index in range(4):
            assert await store.stage_chunk(object_of(content), index, forged[index * step : (index + 1) * step])
        honest = cast.statement(content)
        await store.add([honest])
        assert await store.commit_chunks() == []
        assert [want.missing for want in await store.wants(10)] == [0b1111]  # the lie is found out
        await stage_all(store, content)
        assert honest.id in await store.commit_chunks()
        path = await store.object_path(object_of(content))
        assert path is not None
        assert path.read_bytes() == content

    async def test_promise_3_false_chunks_that_come_one_by_one_complete_nothing(
        self, opener: Opener, cast: Cast
    ) -> None:
        store = await opener()
        content, forged = cast.content(), cast.content()
        lie = cast.lie(replace(make_file(forged), sha256=object_of(content)))
        await store.add([lie])
        for index in range(4):
            await store.stage_chunk(object_of(content), index, forged[index * CHUNK : (index + 1) * CHUNK])
            assert await store.commit_chunks() == []
        assert (await only_bundle(store, lie))[0] is State.PARTIAL
        assert await store.unlogged(10) == []

    async def test_a_false_size_does_not_keep_the_truth_out(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        lie = replace(make_file(content[: 2 * CHUNK]), sha256=object_of(content))
        honest = cast.statement(content)
        await store.add([cast.lie(lie), honest])
        await stage_all(store, content)
        assert honest.id in await store.commit_chunks()

    async def test_a_false_size_heard_first_hides_nothing_that_is_missing(self, opener: Opener, cast: Cast) -> None:
        """Found by the simulator (seed 28): only the first chunk was asked for, for ever."""
        store = await opener()
        content = cast.content()
        lie = replace(make_file(b"forged"), sha256=object_of(content))
        honest = cast.statement(content)
        await store.add([cast.lie(lie), honest])
        await stage_all(store, content, [0])
        await store.commit_chunks()
        (want,) = await store.wants(10)
        assert want.size == len(content)
        assert want.missing & 0b1110 == 0b1110
        assert await store.missing(object_of(content)) & 0b1110 == 0b1110

    async def test_a_lie_that_is_being_brought_does_not_keep_the_truth_out(self, opener: Opener, cast: Cast) -> None:
        """The true statement comes when an object is under way already, by the liar's chunks."""
        store = await opener()
        content, forged = cast.content(), cast.content()
        await store.add([cast.lie(replace(make_file(forged), sha256=object_of(content)))])
        step = chunk_size_for(len(forged))
        assert await store.stage_chunk(object_of(content), 0, forged[:step])
        honest = cast.statement(content)
        await store.add([honest])
        await stage_all(store, content)
        await store.commit_chunks()
        assert (await only_bundle(store, honest))[0] is State.WAITING

    async def test_a_revoked_liars_half_does_not_stand_before_the_true_half(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content, forged = cast.content(), cast.content()
        lie = cast.lie(replace(make_file(forged), sha256=object_of(content)))
        await store.add([lie, cast.statement(content)])
        await stage_all(store, content, [3])
        for index in range(3):
            await store.stage_chunk(object_of(content), index, forged[index * CHUNK : (index + 1) * CHUNK])
        await store.commit_chunks()
        await store.withhold([cast.other.identity.node])
        (holding,) = await store.holdings([object_of(content)])
        assert holding.chunks == 0b1000
        assert await store.read_chunk(object_of(content), 3) == content[3 * CHUNK :]
        assert await store.read_chunk(object_of(content), 0) is None

    async def test_what_a_revoked_signer_superseded_is_superseded_no_more(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        small, large = cast.statement(cast.content(9)), cast.statement(cast.content())
        await store.add([small, large])
        await store.add([cast.statement(cast.content(), node=cast.other, supersedes=StatementId(small.id))])
        sizes = [9, 3 * CHUNK + 5]
        assert [one.remaining for one in await store.wants(10)][-1] == sizes[0], "it comes last"
        await store.withhold([cast.other.identity.node])
        assert [one.remaining for one in await store.wants(10)] == sizes
        await store.withhold([])
        assert [one.remaining for one in await store.wants(10)][-1] == sizes[0]

    async def test_lies_do_not_crowd_out_what_is_wanted(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        lies = []
        for _ in range(4):
            content, forged = cast.content(9), cast.content(9)
            lies.append((object_of(content), forged))
            await store.add([cast.lie(replace(make_file(forged), sha256=object_of(content)))])
        for object_id, forged in lies:
            await store.stage_chunk(object_id, 0, forged)
        await store.commit_chunks()
        content = cast.content()
        await store.add([cast.statement(content)])
        assert [want.object for want in await store.wants(2)] == [object_of(content)]

    async def test_many_lists_of_chunks_for_one_object(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        for _ in range(12):
            lie = replace(make_file(cast.content()), sha256=object_of(content))
            assert await store.add([cast.lie(lie)]) == [Outcome.NEW]
        honest = cast.statement(content)
        await store.add([honest])
        await stage_all(store, content)
        assert honest.id in await store.commit_chunks()

    @pytest.mark.parametrize("late", [False, True])
    async def test_when_liars_are_revoked_their_lists_of_chunks_make_room(
        self, opener: Opener, cast: Cast, late: bool
    ) -> None:
        """Stolen keys took all places; whether the true list came before they were revoked, or comes after."""
        store = await opener()
        content = cast.content()
        liars = [make_node(cast.election, f"liar-{n}") for n in range(MAX_LAYOUTS)]
        for liar in liars:
            await store.add([cast.lie(replace(make_file(cast.content()), sha256=object_of(content)), liar)])
        honest = cast.statement(content)
        if not late:
            await store.add([honest])
            with pytest.raises(Malformed):
                await stage_all(store, content)
        await store.withhold([liar.identity.node for liar in liars])
        if late:
            await store.add([honest])
        await stage_all(store, content)
        assert honest.id in await store.commit_chunks()

    # -- adopting and freeing

    async def test_adopting_before_and_after_the_statement(self, opener: Opener, cast: Cast, tmp_path: Path) -> None:
        store = await opener()
        content = cast.content()
        source = tmp_path / "photo.jpg"
        source.write_bytes(content)
        assert await store.adopt(object_of(content), source)
        assert not await store.adopt(object_of(content), source)
        before = cast.statement(content)
        await store.add([before])
        assert (await only_bundle(store, before))[0] is State.WAITING
        other = cast.content()
        after = cast.statement(other)
        await store.add([after])
        await stage_all(store, other, [1])
        await store.commit_chunks()
        source.write_bytes(other)
        assert await store.adopt(object_of(other), source)
        assert (await only_bundle(store, after))[0] is State.WAITING
        assert (await store.counts()).bytes_held == len(content) + len(other)
        source.unlink()
        assert await store.read_chunk(object_of(other), 0) == other[:CHUNK]

    async def test_adopting_what_is_not_what_its_hash_says(self, opener: Opener, cast: Cast, tmp_path: Path) -> None:
        store = await opener()
        content = cast.content()
        await store.add([cast.statement(content)])
        source = tmp_path / "photo.jpg"
        source.write_bytes(content + b"!")
        with pytest.raises(Malformed):
            await store.adopt(object_of(content), source)
        assert await store.holdings([object_of(content)]) == []
        assert await store.object_path(object_of(content)) is None

    async def test_the_same_file_adopted_at_once(self, opener: Opener, cast: Cast, tmp_path: Path) -> None:
        store, beside = await opener(), await opener()
        content = cast.content()
        source = tmp_path / "photo.jpg"
        source.write_bytes(content)
        await asyncio.gather(*(one.adopt(object_of(content), source) for one in (store, store, beside)))
        path = await store.object_path(object_of(content))
        assert path is not None
        assert path.read_bytes() == content

    async def test_opening_does_not_disturb_another_process(self, opener: Opener, cast: Cast, tmp_path: Path) -> None:
        store = await opener()
        content = cast.content(8 << 20)
        source = tmp_path / "photo.jpg"
        source.write_bytes(content)
        adopting = asyncio.ensure_future(store.adopt(object_of(content), source))
        while not adopting.done():
            await (await opener()).close()
        assert await adopting

    # -- several processes

    async def test_another_process_is_noticed(self, opener: Opener, cast: Cast) -> None:
        daemon, command = await opener(), await opener()
        first, second = cast.statement(b"a"), cast.statement(b"b")
        await daemon.changed(0)
        await daemon.add([first])
        await daemon.refresh()
        assert await daemon.refresh() is Seen.NOTHING
        await command.add([second, cast.receipt(first), make_revocations(cast.election, 1)])
        assert await noticed(daemon) is Seen.RULES
        assert await daemon.refresh() is Seen.NOTHING
        await command.refresh()
        assert list(daemon.members) == list(command.members)
        await command.withhold([cast.island.identity.node])
        assert await noticed(daemon)
        assert await daemon.offered([second.id]) == []

    async def test_processes_write_side_by_side(self, opener: Opener, cast: Cast) -> None:
        stores = [await opener(), await opener()]
        statements = [cast.statement(bytes([number])) for number in range(30)]

        async def write(store: Store, part: Sequence[Admitted]) -> None:
            for one in part:
                assert await store.add([one]) == [Outcome.NEW]
                await store.refresh()

        await asyncio.gather(*(write(store, statements[at::2]) for at, store in enumerate(stores)))
        for store in stores:
            await store.refresh()
            assert len(await store.offered([one.id for one in statements])) == len(statements)

    async def test_content_of_another_process_completes_what_is_staged(
        self, opener: Opener, cast: Cast, tmp_path: Path
    ) -> None:
        daemon, command = await opener(), await opener()
        content = cast.content()
        statement = cast.statement(content)
        await daemon.add([statement])
        await stage_all(daemon, content, [0, 1])
        source = tmp_path / "photo.jpg"
        source.write_bytes(content)
        assert await command.adopt(object_of(content), source)
        await daemon.commit_chunks()
        await daemon.refresh()
        await stage_all(daemon, content, [2, 3])
        await daemon.commit_chunks()
        assert (await only_bundle(daemon, statement)) == (State.WAITING, len(content))
        assert await daemon.read_chunk(object_of(content), 3) == content[3 * CHUNK :]
        assert (await daemon.counts()).bytes_held == len(content)

    # -- neighbours and notes

    async def test_neighbours_and_notes(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        node = cast.other.identity.node
        await store.note_peer(PeerNote(node, "km-bahari", "carrier", "[::1]:1", 100, 5, 6, connected=True))
        later = PeerNote(cast.island.identity.node, "pulau-long", "operator", "[::1]:2", 200, 0, 0, connected=False)
        await store.note_peer(later)
        assert [one.name for one in await store.peers()] == ["pulau-long", "km-bahari"]
        assert (await store.peers())[0] == later
        await store.set_note("uplink", "waiting")
        await store.set_note("uplink", "delivering")
        assert await store.notes() == {"uplink": "delivering"}

    # -- the receiver's log

    async def test_the_log_takes_each_statement_once(self, opener: Opener, cast: Cast) -> None:
        store = await opener(keeps_all=True)
        content = cast.content()
        incomplete, first, second = cast.statement(content), cast.statement(), cast.statement()
        await store.add([incomplete, first, second])
        assert await store.log_state() == LogState(0, b"", b"")
        assert await store.unlogged(10) == [(first.id, first.raw), (second.id, second.raw)]
        assert await store.unlogged(1) == [(first.id, first.raw)]
        state = LogState(2, b"frontier", b"checkpoint")
        ids = (StatementId(first.id), StatementId(second.id))
        batch = LogBatch(0, ids, (cast.receipt(first, 0), cast.receipt(second, 1)), state)
        await store.append(batch)
        assert await store.log_state() == state
        assert await store.unlogged(10) == []
        assert await store.log_statements(0, 10) == [first.raw, second.raw]
        assert await store.log_statements(1, 1) == [second.raw]
        now = await store.log_times(0, 10)
        third = cast.statement()
        await store.add([third])
        moved = LogState(3, b"frontier", b"checkpoint")
        await store.append(
            LogBatch(2, (StatementId(third.id),), (cast.receipt(third, 2),), moved, times=(1_700_000_007,))
        )
        assert await store.log_times(0, 10) == [*now, 1_700_000_007]
        assert await store.log_times(1, 1) == now[1:]
        assert now[0] == now[1] != 1_700_000_007
        assert await store.offered([first.id, receipt_id(first.id)]) == [receipt_id(first.id)]
        assert await store.receipted(ids) == set(ids)
        with pytest.raises(StoreError):
            await store.append(batch)
        with pytest.raises(StoreError):
            await store.append(LogBatch(3, ids[:1], (cast.receipt(first, 3),), LogState(4, b"", b"")))
        assert await store.log_state() == moved

    async def test_a_log_entry_needs_its_own_receipt(self, opener: Opener, cast: Cast) -> None:
        store = await opener(keeps_all=True)
        first, second = cast.statement(), cast.statement()
        await store.add([first, second])
        for receipts in ((), (cast.receipt(second, 0),), (cast.receipt(first, 1),)):
            with pytest.raises(StoreError):
                await store.append(LogBatch(0, (StatementId(first.id),), receipts, LogState(1, b"", b"")))
        assert (await store.log_state()).size == 0
        assert len(await store.unlogged(10)) == 2

    async def test_the_log_is_filled_in_the_order_of_completion(self, opener: Opener, cast: Cast) -> None:
        store = await opener(keeps_all=True)
        contents = [cast.content(9) for _ in range(3)]
        statements = [cast.statement(content) for content in contents]
        await store.add(statements)
        for at in (2, 0, 1):
            await stage_all(store, contents[at])
            await store.commit_chunks()
        assert [one for one, _ in await store.unlogged(10)] == [statements[at].id for at in (2, 0, 1)]

    async def test_a_revoked_signer_is_not_logged(self, opener: Opener, cast: Cast) -> None:
        store = await opener(keeps_all=True)
        await store.add([cast.statement()])
        await store.withhold([cast.island.identity.node])
        assert await store.unlogged(10) == []


class CarrierConformance(StoreConformance):
    """And what a node has to do that does not keep everything: quotas, a limit, freeing against receipts, living on a
    card that fails."""

    def spoil(self, store: Any, object_id: ObjectId) -> None:
        """Have a whole object not be given by the disk any more, until it is written anew."""
        raise NotImplementedError

    def alter(self, store: Any, object_id: ObjectId) -> None:
        """Have the disk give other bytes of a whole object than were written, and no error."""
        raise NotImplementedError

    async def test_an_object_that_cannot_be_read_is_not_held_and_all_else_is(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        lost, kept = cast.content(), cast.content()
        statements = [cast.statement(lost), cast.statement(kept)]
        await store.add(statements)
        for content in (lost, kept):
            await stage_all(store, content)
        await store.commit_chunks()
        self.spoil(store, object_of(lost))
        assert await store.read_chunk(object_of(lost), 0) is None
        assert store.unreadable == {object_of(lost)}
        assert await store.read_chunk(object_of(lost), 1) is None
        assert await store.read_chunk(object_of(kept), 0) == kept[:CHUNK]
        assert [one.object for one in await store.holdings([object_of(lost), object_of(kept)])] == [object_of(kept)]
        assert await store.object_path(object_of(lost)) is None
        assert sorted(await store.offered([one.id for one in statements])) == sorted(one.id for one in statements)
        assert await store.reread() == 0
        assert store.unreadable == {object_of(lost)}

    async def test_an_object_that_cannot_be_read_is_wanted_until_it_is_delivered(
        self, opener: Opener, cast: Cast
    ) -> None:
        store = await opener()
        content, other = cast.content(), cast.content()
        statement, more = cast.statement(content), cast.statement(other)
        await store.add([statement, more])
        await stage_all(store, content)
        await store.commit_chunks()
        self.spoil(store, object_of(content))
        await store.read_chunk(object_of(content), 0)
        assert [one.object for one in await store.wants(10)] == [object_of(other), object_of(content)]
        assert [one.object for one in await store.wants(1)] == [object_of(other)]
        assert [one.object for one in await store.wants(10, frozenset([object_of(content)]))] == [object_of(other)]
        await stage_all(store, content, [2])
        assert await store.commit_chunks() == []
        assert await store.missing(object_of(content)) == 0b1011
        await stage_all(store, content, [0, 1, 3])
        assert await store.commit_chunks() == [statement.id], "it can be delivered again"
        assert store.unreadable == frozenset()
        assert await store.read_chunk(object_of(content), 1) == content[CHUNK : 2 * CHUNK]
        assert [one.object for one in await store.wants(10)] == [object_of(other)]
        self.spoil(store, object_of(content))
        await store.read_chunk(object_of(content), 0)
        await store.add([cast.receipt(statement)])
        assert [one.object for one in await store.wants(10)] == [object_of(other)]
        await store.free([object_of(content)])
        assert store.unreadable == frozenset()

    async def test_promise_3_other_bytes_than_were_written_are_noticed_where_they_are_doubted(
        self, opener: Opener, cast: Cast
    ) -> None:
        store = await opener()
        content, other = cast.content(), cast.content()
        statement = cast.statement(content, other)
        await store.add([statement])
        for one in (content, other):
            await stage_all(store, one)
        await store.commit_chunks()
        self.alter(store, object_of(content))
        assert await store.read_chunk(object_of(other), 0, doubted=True) == other[:CHUNK]
        assert await store.read_chunk(object_of(content), 0) != content[:CHUNK], "else this test shows nothing"
        assert store.unreadable == frozenset()
        assert await store.read_chunk(object_of(content), 0, doubted=True) is None
        assert store.unreadable == {object_of(content)}
        assert [one.object for one in await store.holdings([object_of(content)])] == []
        assert await store.reread() == 0
        assert [(one.object, one.missing) for one in await store.wants(10)] == [(object_of(content), 0b1111)]
        await stage_all(store, content)
        assert await store.commit_chunks() == [statement.id]
        assert await store.read_chunk(object_of(content), 0, doubted=True) == content[:CHUNK]

    async def test_an_object_that_cannot_be_read_is_handed_in_again(
        self, opener: Opener, cast: Cast, tmp_path: Path
    ) -> None:
        store = await opener()
        content = cast.content()
        await store.add([cast.statement(content)])
        await stage_all(store, content)
        await store.commit_chunks()
        self.spoil(store, object_of(content))
        await store.read_chunk(object_of(content), 0)
        file = tmp_path / "photo.jpg"
        file.write_bytes(content)
        assert await store.adopt(object_of(content), file)
        assert await store.read_chunk(object_of(content), 0) == content[:CHUNK]
        assert not await store.adopt(object_of(content), file)

    async def test_promise_4_what_needs_an_object_that_cannot_be_read_is_not_logged(
        self, opener: Opener, cast: Cast
    ) -> None:
        store = await opener(keeps_all=True)
        lost, kept, late = cast.content(), cast.content(), cast.content()
        statements = [cast.statement(lost), cast.statement(kept)]
        await store.add(statements)
        for content in (lost, kept):
            await stage_all(store, content)
        await store.commit_chunks()
        self.spoil(store, object_of(lost))
        await store.read_chunk(object_of(lost), 0)
        assert [one for one, _ in await store.unlogged(1)] == [statements[1].id], "others do not wait behind it"
        again, two = cast.statement(lost), cast.statement(lost, late)
        await store.add([again, two])  # one is complete at once, the other one with its second file
        await stage_all(store, late)
        await store.commit_chunks()
        assert [one for one, _ in await store.unlogged(9)] == [statements[1].id]
        await stage_all(store, lost)
        assert set(await store.commit_chunks()) == {statements[0].id, again.id, two.id}
        assert {one for one, _ in await store.unlogged(9)} == {*(one.id for one in statements), again.id, two.id}

    async def test_a_delivered_statement_is_not_carried_again(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        statement = cast.statement(cast.content())
        await store.add([cast.receipt(statement)])
        assert await store.add([statement]) == [Outcome.KNOWN]
        assert await store.bundles() == []
        assert await store.known_statements([StatementId(statement.id), StatementId(RecordId(bytes(32)))]) == {
            statement.id
        }

    async def test_what_a_receipt_delivered_is_wanted_and_offered_again_when_it_is_taken_back(
        self, opener: Opener, cast: Cast
    ) -> None:
        store = await opener()
        content, freed = cast.content(), cast.content()
        kept, gone = cast.statement(content), cast.statement(freed)
        receipts = [cast.receipt(kept), cast.receipt(gone)]
        await store.add([kept, gone])
        await stage_all(store, content)
        await stage_all(store, freed)
        await store.commit_chunks()
        await store.add(receipts)
        await store.free([object_of(freed)])
        await store.take_back([one.id for one in receipts])
        assert await store.offered([kept.id, gone.id, *(one.id for one in receipts)]) == [kept.id, gone.id]
        assert await store.awaiting_receipt(b"", 10) == sorted([kept.id, gone.id])
        assert {one.id: one.state for one in await store.bundles()} == {kept.id: State.WAITING, gone.id: State.PARTIAL}
        assert [one.object for one in await store.wants(10)] == [object_of(freed)]
        assert (await store.counts()).delivered == 0
        assert [item async for item in store.freeable(1 << 40)] == []
        with pytest.raises(StoreError):
            await store.free([object_of(content)])
        assert await store.add([receipts[0]]) == [Outcome.NEW]
        assert (await only_bundle(store, kept))[0] is State.DELIVERED

    async def test_a_signer_is_held_to_its_quota_until_receipts_come(self, opener: Opener, cast: Cast) -> None:
        store = await opener(quota_statements=2)
        mine = [cast.statement(cast.content(9)) for _ in range(3)]
        theirs = cast.statement(cast.content(9), node=cast.other)
        assert await store.add([*mine, theirs]) == [Outcome.NEW, Outcome.NEW, Outcome.OVER_QUOTA, Outcome.NEW]
        await store.add([cast.receipt(mine[0])])
        assert await store.add([mine[2]]) == [Outcome.NEW]

    async def test_the_quota_counts_bytes(self, opener: Opener, cast: Cast) -> None:
        first, second = cast.statement(cast.content()), cast.statement(cast.content())
        size = getattr(first.body, "size", 0)
        store = await opener(quota_bytes=size + 1)
        assert await store.add([first, second]) == [Outcome.NEW, Outcome.OVER_QUOTA]

    async def test_receipts_for_what_is_not_here_are_bounded_and_those_for_what_is_always_count(
        self, opener: Opener, cast: Cast, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of each receiver so many: whose key was stolen keeps nobody else's out."""
        for catalogue in ("relay.store.catalogue", "tests.simulation.catalogue"):
            monkeypatch.setattr(f"{catalogue}.UNCLAIMED_RECEIPTS", 3)
        store = await opener(own=cast.other.identity.node)
        mine, held = cast.statement(cast.content(9), node=cast.other), cast.statement(cast.content(9))
        await store.add([held])
        nobodys = [cast.receipt(cast.statement(cast.content(9)), entry) for entry in range(5)]
        claimed = cast.receipt(held, 9)
        words = await store.add([cast.receipt(mine, 10), *nobodys, claimed, nobodys[0]])
        assert words == [*[Outcome.NEW] * 3, *[Outcome.OVER_QUOTA] * 3, Outcome.NEW, Outcome.KNOWN]
        assert (await only_bundle(store, held))[0] is State.DELIVERED
        assert len(await store.offered([one.id for one in nobodys])) == 2
        successor = make_node(cast.election, "successor", Role.RECEIVER)
        other = make_receipt(cast.election, successor, cast.statement(cast.content(9)), 1)
        assert await store.add([other]) == [Outcome.NEW]
        await store.add([mine])  # whose receipt is claimed then
        await store.take_back([nobodys[0].id])
        words = await store.add(nobodys)
        assert words == [Outcome.NEW, Outcome.KNOWN, Outcome.NEW, *[Outcome.OVER_QUOTA] * 2]

    async def test_a_receiver_keeps_every_receipt_of_its_log(
        self, opener: Opener, cast: Cast, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for catalogue in ("relay.store.catalogue", "tests.simulation.catalogue"):
            monkeypatch.setattr(f"{catalogue}.UNCLAIMED_RECEIPTS", 0)
        store = await opener(keeps_all=True)
        assert await store.add([cast.receipt(cast.statement(cast.content(9)))]) == [Outcome.NEW]

    async def test_delivered_content_is_wanted_by_a_receiver_only(self, opener: Opener, cast: Cast) -> None:
        carrier = await opener()
        content = cast.content()
        statement = cast.statement(content)
        await carrier.add([statement, cast.receipt(statement)])
        assert await carrier.wants(10) == []
        assert not await carrier.stage_chunk(object_of(content), 0, content[:CHUNK])
        receiver = await opener(keeps_all=True)
        assert [want.object for want in await receiver.wants(10)] == [object_of(content)]
        assert await receiver.stage_chunk(object_of(content), 0, content[:CHUNK])

    async def test_content_stops_being_wanted_when_the_receipt_comes(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        statement = cast.statement(content)
        await store.add([statement])
        await stage_all(store, content, [0])
        await store.commit_chunks()
        await store.add([cast.receipt(statement)])
        assert not await store.stage_chunk(object_of(content), 1, content[CHUNK : 2 * CHUNK])

    async def test_nothing_is_wanted_or_taken_over_the_limit(self, opener: Opener, cast: Cast) -> None:
        store = await opener(storage_limit=5 * CHUNK)
        first, second = cast.content(), cast.content()
        await store.add([cast.statement(first), cast.statement(second)])
        assert len(await store.wants(10)) == 1, "both do not fit"
        await stage_all(store, first)
        assert await store.wants(10) == [], "what is staged counts before it is committed"
        await store.commit_chunks()
        assert await store.wants(10) == []
        assert await store.stage_chunk(object_of(second), 0, second[:CHUNK]), "there is room for that"
        assert not await store.stage_chunk(object_of(second), 1, second[CHUNK : 2 * CHUNK])
        await store.commit_chunks()
        assert not await store.stage_chunk(object_of(second), 1, second[CHUNK : 2 * CHUNK])
        assert await store.add([cast.statement(b"small")]) == [Outcome.NEW]  # statements still travel

    async def test_what_does_not_fit_whole_is_not_asked_for(self, opener: Opener, cast: Cast) -> None:
        """A half takes the room of a whole, and is none: whole packages come before many halves."""
        store = await opener(storage_limit=5 * CHUNK)
        large, small = cast.content(4 * CHUNK), cast.content(2 * CHUNK)
        await store.add([cast.statement(large), cast.statement(small)])
        assert await store.missing(object_of(large)) == 0b1111
        await stage_all(store, small, [0])
        assert await store.missing(object_of(large)) == 0b1111
        await stage_all(store, small, [1])
        assert await store.missing(object_of(large)) == 0
        await store.commit_chunks()
        assert await store.missing(object_of(large)) == 0

    async def test_what_is_begun_is_asked_for_to_its_end(self, opener: Opener, cast: Cast) -> None:
        """Where there is room for exactly the rest of it, also while chunks of it are being written."""
        store = await opener(storage_limit=4 * CHUNK)
        content = cast.content(4 * CHUNK)
        await store.add([cast.statement(content)])
        for index in range(4):
            assert await store.missing(object_of(content)) == 0b1111 & ~((1 << index) - 1)
            chunk = content[index * CHUNK : (index + 1) * CHUNK]
            staging = asyncio.create_task(store.stage_chunk(object_of(content), index, chunk))
            while not staging.done():
                assert await store.missing(object_of(content)) or index == 3
                assert len(await store.wants(10)) == 1 or index == 3
                await asyncio.sleep(0)
            assert staging.result()
            if index == 1:
                await asyncio.gather(store.commit_chunks(), *(store.wants(10) for _ in range(9)))
        assert await store.missing(object_of(content)) == 0
        assert len(await store.commit_chunks()) == 1

    async def test_a_false_size_shuts_nobody_out_where_there_is_little_room(self, opener: Opener, cast: Cast) -> None:
        store = await opener(storage_limit=5 * CHUNK)
        content = cast.content(3 * CHUNK)
        truth = make_file(content)
        lie = replace(truth, size=9 * CHUNK, chunks=truth.chunks * 3)
        await store.add([cast.lie(lie), cast.statement(content)])
        assert [one.object for one in await store.wants(10)] == [truth.sha256]
        assert await store.missing(truth.sha256)

    async def test_what_was_listed_keeps_its_room_while_it_comes(self, opener: Opener, cast: Cast) -> None:
        """Nothing crosses in vain: what came to be wanted more since waits, until nothing is on its way."""
        store = await opener(storage_limit=6 * CHUNK)
        first, second, better = (cast.content(size * CHUNK) for size in (3, 3, 1))
        await store.add([cast.statement(first, second)])
        assert len(await store.wants(10)) == 2
        await stage_all(store, first, [0])
        await store.add([cast.statement(better, node=cast.other)])
        assert {one.object for one in await store.wants(10)} == {object_of(first), object_of(second)}
        others = frozenset([object_of(first)])
        assert object_of(better) not in {one.object for one in await store.wants(10, others)}
        await stage_all(store, first)
        await store.commit_chunks()
        assert {one.object for one in await store.wants(10)} == {object_of(better)}

    async def test_the_only_copy_is_never_freed(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        delivered, pending = cast.statement(content), cast.statement(content, node=cast.other)
        await store.add([delivered, pending])
        await stage_all(store, content)
        await store.commit_chunks()
        await store.add([cast.receipt(delivered)])
        with pytest.raises(StoreError):
            await store.free([object_of(content)])
        assert [one async for one in store.freeable(1 << 62)] == []
        assert await store.read_chunk(object_of(content), 0) == content[:CHUNK]
        await store.add([cast.receipt(pending, 1)])
        freeable = [one async for one in store.freeable(1 << 62)]
        assert [(one[0], one[1], one[2]) for one in freeable] == [
            (delivered.id, (object_of(content),), len(content)),
            (pending.id, (object_of(content),), len(content)),
        ]
        assert await store.free([object_of(content)]) == len(content)
        assert await store.free([object_of(content)]) == 0
        assert await store.object_path(object_of(content)) is None
        assert await store.holdings([object_of(content)]) == []
        assert [one async for one in store.freeable(1 << 62)] == []
        assert (await store.counts()).bytes_held == 0

    async def test_a_liar_pins_no_content_of_others(self, opener: Opener, cast: Cast) -> None:
        """Nobody's key fills a disk with what others delivered, by naming it with a false size: such a bundle never
        becomes complete, and would wait for ever."""
        store = await opener()
        content = cast.content()
        honest = cast.statement(content)
        await store.add([honest, cast.lie(replace(make_file(content), size=1, chunks=(bytes(32),)))])
        await stage_all(store, content)
        await store.commit_chunks()
        await store.add([cast.receipt(honest)])
        assert [one[1] for one in [one async for one in store.freeable(1 << 62)]] == [(object_of(content),)]
        assert await store.free([object_of(content)]) == len(content)
        assert [one for one in await store.wants(10) if one.remaining > 1] == [], "and it is not fetched again"

    async def test_a_receipt_that_came_when_the_clock_told_no_time_counts_from_now_on(
        self, opener: Opener, cast: Cast
    ) -> None:
        """Of what this node made; what others made is freed whenever it came."""
        store = await opener(own=cast.island.identity.node)
        own, other = cast.content(), cast.content()
        mine, theirs = cast.statement(own), cast.statement(other, node=cast.other)
        await store.add([mine], made_here=True)
        await store.add([theirs])
        for content in (own, other):
            await stage_all(store, content)
        await store.commit_chunks()
        await store.add([cast.receipt(mine), cast.receipt(theirs, 1)])

        async def freeable(own_before: int) -> list[RecordId]:
            return [one[0] async for one in store.freeable(own_before)]

        assert await freeable(1 << 40) == [mine.id, theirs.id]
        await store.date_receipts(0, 1 << 40, 1 << 50)
        assert await freeable(1 << 50) == [theirs.id]
        assert await freeable((1 << 50) + 1) == [mine.id, theirs.id]
        await store.date_receipts(0, (1 << 50) - 1, 7)
        await store.date_receipts((1 << 50) + 1, 1 << 60, 7)
        assert await freeable(1 << 50) == [theirs.id], "it came at another time"
        await store.date_receipts(1 << 50, 1 << 50, 7)
        assert await freeable(8) == [mine.id, theirs.id]

    async def test_freed_content_may_be_wanted_again(self, opener: Opener, cast: Cast) -> None:
        store = await opener()
        content = cast.content()
        first = cast.statement(content)
        await store.add([first])
        await stage_all(store, content)
        await store.commit_chunks()
        await store.add([cast.receipt(first)])
        await store.free([object_of(content)])
        again = cast.statement(content)
        await store.add([again])
        assert [want.missing for want in await store.wants(10)] == [0b1111]
        await stage_all(store, content)
        assert await store.commit_chunks() == [again.id]

    async def test_the_rest_of_a_delivered_bundle_is_freed(self, opener: Opener, cast: Cast) -> None:
        """What is freed already, and what another bundle needs, is not offered for freeing."""
        store = await opener()
        shared, alone, part = cast.content(), cast.content(), cast.content()
        delivered = cast.statement(shared, alone, part)
        pending = cast.statement(shared, node=cast.other)
        await store.add([delivered, pending])
        for content, chunks in ((shared, None), (alone, None), (part, [0])):
            await stage_all(store, content, chunks)
        await store.commit_chunks()
        await store.add([cast.receipt(delivered)])
        ((_, objects, size),) = [one async for one in store.freeable(1 << 62)]
        assert (set(objects), size) == ({object_of(alone), object_of(part)}, len(alone) + CHUNK)
        assert await store.free(objects) == len(alone) + CHUNK
        assert [one async for one in store.freeable(1 << 62)] == []
        assert (await store.counts()).bytes_held == len(shared)

    async def test_promise_3_what_is_freed_while_it_is_committed_is_not_held(self, opener: Opener, cast: Cast) -> None:
        """A receipt came, and content is freed of which a chunk was on its way: whatever is said to be held is there,
        and the object comes again when the receipt is taken back. In simulated election 2308 it was not there."""
        store = await opener()

        async def free_after(turns: int, object_id: ObjectId) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await store.free([object_id])

        for entry in range(12):
            content = cast.content()
            object_id = object_of(content)
            statement = cast.statement(content)
            receipt = cast.receipt(statement, entry)
            await store.add([statement])
            await stage_all(store, content, [0])
            await store.commit_chunks()
            await stage_all(store, content, [1, 2])
            await store.add([receipt])
            await asyncio.gather(store.commit_chunks(), free_after(entry, object_id))
            for held in await store.holdings([object_id]):
                for index in (index for index in range(4) if held.chunks >> index & 1):
                    assert await store.read_chunk(object_id, index) == content[index * CHUNK : (index + 1) * CHUNK]
            await store.take_back([receipt.id])
            (want,) = await store.wants(10)
            await stage_all(store, content, [index for index in range(4) if want.missing >> index & 1])
            assert await store.commit_chunks() == [statement.id]

    async def test_own_content_is_kept_for_its_time(self, opener: Opener, cast: Cast) -> None:
        store = await opener(own=cast.island.identity.node)
        content = cast.content()
        own, foreign = cast.statement(content), cast.statement(content, node=cast.other)
        await store.add([own, foreign])
        await stage_all(store, content)
        await store.commit_chunks()
        await store.add([cast.receipt(own), cast.receipt(foreign, 1)])
        assert [one async for one in store.freeable(0)] == []
        assert len([one async for one in store.freeable(1 << 62)]) == 2
