"""From the embedded store to the cluster's, without loss: the log, what is under way, what was partly there."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.cli.receiver import _move as move
from relay.errors import Refused, StoreError
from relay.node.config import read_config
from relay.node.home import Home
from relay.receiver.moving import Move
from relay.receiver.publishing import Publisher
from relay.receiver.remembering import NEWEST, LogMemory
from relay.receiver.sequencing import Sequencer, Unseen
from relay.records.identifiers import StatementId, receipt_id
from relay.store.cluster.bucket import Bucket
from relay.store.cluster.store import ClusterStore
from relay.store.interface import State, Store
from relay.store.quota import Quota
from relay.sync.custody import Custody
from relay.trust.witness import log_key
from tests.cluster.postgres import Postgres
from tests.cluster.swift import Swift
from tests.factory import make_revocations, object_of
from tests.fleet import Fleet, Ship
from tests.store_conformance import CHUNK


@pytest.fixture
async def target(
    database: str, bucket: str, swift: Swift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ClusterStore]:
    """An empty store."""
    for key, value in swift.environment(bucket).items():
        monkeypatch.setenv(key, value)
    place = Bucket.open(bucket, swift.endpoint, swift.region)
    store = await ClusterStore.open(database, place, tmp_path / "cache", own=None)
    yield store
    await store.close()


async def laden(fleet: Fleet) -> tuple[Ship, bytes, StatementId]:
    """A receiver with five entries in its log, one bundle half there and one of a device that was revoked since; the
    content of the half one, and the revoked device's statement."""
    receiver = await fleet.receiver()
    assert receiver.log is not None
    island, other = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    for place in range(5):
        await island.submit(fleet.content(3 * CHUNK), form=f"form-{place}")
    await island.visit(receiver)
    await receiver.log.sequencer.sequence()
    await receiver.log.sequencer.publish()
    revoked = await other.submit(form="form-r")
    half = fleet.content(3 * CHUNK)
    partial = await island.submit(half, form="form-p")
    for ship, statement in ((other, revoked), (island, partial)):
        await receiver.custody.take([(kind, raw) for kind, _, raw in await ship.store.read([statement], 1 << 20)])
    await receiver.store.stage_chunk(object_of(half), 1, half[CHUNK : 2 * CHUNK])
    await receiver.store.commit_chunks()
    await receiver.take(make_revocations(fleet.election, 1, other.node))
    return receiver, half, revoked


async def moved(receiver: Ship, target: Store, place: str = "there") -> None:
    """Move the whole store."""
    await Move(receiver.store, target, receiver.custody.admission, place, lambda _what, _done, _total: None).run()


async def test_promise_6_everything_is_there_and_the_log_goes_on(fleet: Fleet, target: ClusterStore) -> None:
    receiver, half, revoked = await laden(fleet)
    await moved(receiver, target)
    state = await receiver.store.log_state()
    assert state.size == 5
    assert await target.log_state() == state
    assert await target.log_statements(0, 9) == await receiver.store.log_statements(0, 9)
    times = await receiver.store.log_times(0, 9)
    assert (len(times), await target.log_times(0, 9)) == (5, times)
    source = {bundle.id: bundle for bundle in await receiver.store.bundles()}
    copies = {bundle.id: bundle for bundle in await target.bundles()}
    assert {one: (two.state, two.held, two.entry) for one, two in source.items()} == {
        one: (two.state, two.held, two.entry) for one, two in copies.items()
    }
    for bundle in copies.values():
        if bundle.state is State.DELIVERED:
            path = await target.object_path(bundle.files[0].sha256)
            assert path is not None
            assert object_of(path.read_bytes()) == bundle.files[0].sha256
    assert await target.bundle(revoked) is None
    assert await target.known_statements([revoked]) == {revoked}
    for index in (0, 2):
        assert await target.stage_chunk(object_of(half), index, half[index * CHUNK : (index + 1) * CHUNK])
    assert len(await target.commit_chunks()) == 1
    custody = Custody(receiver.custody.admission, target)
    await custody.load()
    sequencer = Sequencer(custody, receiver.member, publisher_on(receiver, target))
    await sequencer.start()
    assert await sequencer.sequence() == 1
    await sequencer.publish()
    published = await publisher_on(receiver, target).published()
    assert published is not None
    assert published.size == 6


async def test_an_empty_log_is_moved_as_well(fleet: Fleet, target: ClusterStore) -> None:
    receiver = await fleet.receiver()
    await moved(receiver, target)
    assert await target.log_state() == await receiver.store.log_state()
    await sequencer_on(receiver, target).start()


async def test_a_move_that_was_cut_goes_on(fleet: Fleet, target: ClusterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, _, _ = await laden(fleet)
    monkeypatch.setattr("relay.receiver.moving.LOG_BATCH", 2)
    appended = 0
    good = target.append

    async def cut(batch: object) -> None:
        nonlocal appended
        appended += 1
        if appended == 2:
            raise StoreError("The power went", "Start again.")
        await good(batch)  # type: ignore[arg-type]

    monkeypatch.setattr(target, "append", cut)
    with pytest.raises(StoreError, match="power"):
        await moved(receiver, target)
    assert (await target.log_state()).size == 2
    await moved(receiver, target)
    assert await target.log_state() == await receiver.store.log_state()
    await moved(receiver, target)  # and once more, with nothing left to do


def publisher_on(receiver: Ship, store: Store) -> Publisher:
    """The receiver's publisher."""
    return Publisher(store.shelf, log_key(receiver.member.identity))


def sequencer_on(receiver: Ship, store: Store, file: Path | None = None) -> Sequencer:
    """The receiver's sequencer, as it starts on a store; `file` is its memory."""
    custody = Custody(receiver.custody.admission, store)
    memory = LogMemory(log_key(receiver.member.identity), file)
    return Sequencer(custody, receiver.member, publisher_on(receiver, store), memory)


async def test_promise_6_nobody_sequences_on_what_was_moved_or_is_half_there(
    fleet: Fleet, target: ClusterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, _, _ = await laden(fleet)

    async def cut(*_arguments: object) -> None:
        raise StoreError("The power went", "Start again.")

    with monkeypatch.context() as patch:
        patch.setattr(Move, "_move_under_way", cut)
        with pytest.raises(StoreError, match="power"):
            await moved(receiver, target)
    with pytest.raises(StoreError, match="not finished"):
        await sequencer_on(receiver, target).start()
    await sequencer_on(receiver, receiver.store).start()  # it may go on where it was
    await moved(receiver, target)
    await sequencer_on(receiver, target).start()
    with pytest.raises(StoreError, match="moved to there"):
        await sequencer_on(receiver, receiver.store).start()
    with pytest.raises(StoreError, match="moved to there already"):
        await moved(receiver, target, "elsewhere")


async def test_nothing_is_moved_under_a_receiver_that_runs(
    fleet: Fleet, target: ClusterStore, database: str, bucket: str, swift: Swift, tmp_path: Path
) -> None:
    receiver, _, _ = await laden(fleet)
    place = Bucket.open(bucket, swift.endpoint, swift.region)
    running = await ClusterStore.open(database, place, tmp_path / "other", own=None)
    assert await running.leads()
    with pytest.raises(StoreError, match="runs on the other store"):
        await moved(receiver, target)
    await running.close()


async def test_promise_1_what_is_moved_is_judged_again(
    fleet: Fleet, target: ClusterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, _, _ = await laden(fleet)
    good = receiver.store.log_statements

    async def damaged(first: int, count: int) -> list[bytes]:
        raws = await good(first, count)
        return [*raws[:-1], raws[-1][:-1] + bytes([raws[-1][-1] ^ 1])]

    monkeypatch.setattr(receiver.store, "log_statements", damaged)
    with pytest.raises(Refused, match="signature"):
        await moved(receiver, target)
    assert (await target.log_state()).size == 0


async def test_a_tile_that_the_bucket_lost_is_written_again(
    fleet: Fleet, target: ClusterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, _, _ = await laden(fleet)
    await moved(receiver, target)
    await published(receiver, target)
    lost = "tile/entries/000.p/5"
    before = await target.shelf.read(lost)
    assert before
    for limit in (16, 0):
        monkeypatch.setattr("relay.store.cluster.bucket._ASKED_ONE_BY_ONE", limit)
        assert await target.shelf.holds([lost])
        await target._bucket.remove([f"public/{lost}"])
        assert not await target.shelf.holds([lost])
        await published(receiver, target)
        assert await target.shelf.read(lost) == before


async def published(receiver: Ship, store: Store, file: Path | None = None) -> None:
    """A receiver that starts on a store, and publishes what is missing."""
    sequencer = sequencer_on(receiver, store, file)
    await sequencer.start()
    await sequencer.publish()


async def test_promise_5_a_leader_starts_without_the_bucket(
    fleet: Fleet, target: ClusterStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    receiver, half, _ = await laden(fleet)
    await moved(receiver, target)
    file = tmp_path / NEWEST
    await published(receiver, target, file)
    for index in (0, 2):
        await target.stage_chunk(object_of(half), index, half[index * CHUNK : (index + 1) * CHUNK])
    await target.commit_chunks()
    sequencer = sequencer_on(receiver, target, file)
    assert await sequencer.sequence() == 1  # which leaves the edge in the database
    island = await fleet.launch("seberang")
    statement = await island.submit(form="form-q")
    records = [(kind, raw) for kind, _, raw in await island.store.read([statement], 1 << 20)]
    again = sequencer_on(receiver, target, file)
    with monkeypatch.context() as patch:
        take_bucket_away(patch, target)
        await Custody(receiver.custody.admission, target).take(records)
        assert await again.sequence() == 1
        with pytest.raises(StoreError, match="away"):
            await again.publish()
    await again.publish()
    shown = await publisher_on(receiver, target).published()
    assert shown is not None
    assert shown.size == 7


async def test_a_move_takes_all_that_was_taken_whatever_the_quotas_say_now(
    fleet: Fleet, target: ClusterStore, database: str, bucket: str, swift: Swift
) -> None:
    receiver, _, _ = await laden(fleet)
    home = home_of(receiver)
    home.config_file.write_text("quota_statements = 1\nquota_bytes = 1\n")
    place = {"database": database, "bucket": bucket, "bucket_endpoint": swift.endpoint, "bucket_region": swift.region}
    await move(home, read_config(place))
    assert await target.log_statements(0, 9) == await receiver.store.log_statements(0, 9)
    assert len(await target.bundles()) == 6
    await sequencer_on(receiver, target).start()


def home_of(ship: Ship) -> Home:
    """The folder of a ship, as commands find it."""
    home = Home(ship.folder)
    home.key_file.write_bytes(ship.node.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    home.certificate_file.write_text(ssl.DER_cert_to_PEM_cert(ship.node.identity.certificate))
    home.root_file.write_text(ssl.DER_cert_to_PEM_cert(ship.election.root))
    return home


async def test_a_store_that_leaves_something_out_is_not_moved_to(
    fleet: Fleet, target: ClusterStore, database: str, bucket: str, swift: Swift, tmp_path: Path
) -> None:
    receiver, _, _ = await laden(fleet)
    place = Bucket.open(bucket, swift.endpoint, swift.region)
    small = await ClusterStore.open(database, place, tmp_path / "other", own=None, quota=Quota(1 << 40, 3))
    with pytest.raises(StoreError, match="quota is too small"):
        await moved(receiver, small)
    await small.close()
    await sequencer_on(receiver, receiver.store).start()  # it may go on where it was
    await moved(receiver, target)
    await sequencer_on(receiver, target).start()


@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM log WHERE entry = 1",
        "DELETE FROM records WHERE id = (SELECT statement FROM log WHERE entry = 1)",
        "DELETE FROM records WHERE id = (SELECT sha256('relay receipt\\000'::bytea || statement) FROM log "
        "WHERE entry = 1)",
        "UPDATE log l SET statement = (SELECT statement FROM log WHERE entry = 7 - l.entry) WHERE entry IN (3, 4)",
        "UPDATE log SET statement = (SELECT statement FROM log WHERE entry = 2) WHERE entry = 1",
    ],
    ids=["entry", "statement", "receipt", "place", "another"],
)
async def test_promise_5_what_is_there_is_read_back_before_it_counts_as_moved(
    fleet: Fleet, target: ClusterStore, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    receiver, _, _ = await laden(fleet)
    monkeypatch.setattr("relay.receiver.moving.LOG_BATCH", 2)
    last = target.withhold

    async def lose(revoked: object) -> int:
        postgres.execute(loss, database)
        return await last(revoked)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(target, "withhold", lose)
        with pytest.raises(StoreError, match="lacks entries, or has others"):
            await moved(receiver, target)
    await sequencer_on(receiver, receiver.store).start()
    with pytest.raises(StoreError, match="not finished"):
        await sequencer_on(receiver, target).start()


async def test_a_move_into_the_wrong_bucket_does_not_go_on_in_the_right_one(
    fleet: Fleet, target: ClusterStore, database: str, swift: Swift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver, _, _ = await laden(fleet)

    async def cut(*_arguments: object) -> None:
        raise StoreError("The power went", "Start again.")

    with monkeypatch.context() as patch:
        patch.setattr(Move, "_move_under_way", cut)
        with pytest.raises(StoreError, match="power"):
            await moved(receiver, target)
    right = Bucket.open(swift.fresh_bucket(), swift.endpoint, swift.region)
    with pytest.raises(StoreError, match=r"not the one .* empty the database and move again"):
        await ClusterStore.open(database, right, tmp_path / "other", own=None)


def take_bucket_away(patch: pytest.MonkeyPatch, store: ClusterStore) -> None:
    """No call of the bucket is answered."""

    async def away(*_arguments: object, **_options: object) -> None:
        raise StoreError("The bucket is away", "Wait.")

    for call in ("get", "put", "has", "names"):
        patch.setattr(store._bucket, call, away)


async def test_promise_6_a_database_that_was_restored_is_not_gone_on_with_while_the_bucket_is_away(
    fleet: Fleet, target: ClusterStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The receiver that ran on the newer one remembers it; a new one, which remembers nothing, waits for the bucket. No
    receipt of a second log goes out."""
    receiver, _, _ = await laden(fleet)
    await moved(receiver, target)
    file = tmp_path / NEWEST
    island = await fleet.launch("seberang")
    for place in range(2):
        statement = await island.submit(form=f"form-{place}")
        records = [(kind, raw) for kind, _, raw in await island.store.read([statement], 1 << 20)]
        await Custody(receiver.custody.admission, target).take(records)
        if place:
            old = await target._database.row("SELECT size, frontier, checkpoint, edge FROM log_state")
        sequencer = sequencer_on(receiver, target, file)
        assert await sequencer.sequence() == 1
        await sequencer.publish()
    await target._database.rows("DELETE FROM log WHERE entry >= $1", old[0])
    await target._database.rows("DELETE FROM records WHERE id = $1", receipt_id(statement))
    await target._database.rows("UPDATE bundles SET entry = NULL WHERE statement = $1", statement)
    await target._database.rows("UPDATE log_state SET size = $1, frontier = $2, checkpoint = $3, edge = $4", *old)
    with monkeypatch.context() as patch:
        take_bucket_away(patch, target)
        with pytest.raises(StoreError, match="7 entries and the store has only 6"):
            await sequencer_on(receiver, target, file).sequence()
        stranger = sequencer_on(receiver, target)
        with pytest.raises(Unseen):
            await stranger.sequence()
    with pytest.raises(StoreError, match="The published log has 7 entries and the store only 6"):
        await stranger.sequence()
    assert (await target.log_state()).size == 6
    assert not await target.receipted([statement])


async def test_another_log_is_not_mixed_in(fleet: Fleet, target: ClusterStore) -> None:
    receiver, _, _ = await laden(fleet)
    await moved(receiver, target)
    stranger = await fleet.launch("elsewhere")
    other = await fleet.receiver("receiver-2")
    assert other.log is not None
    for place in range(7):
        await stranger.submit(form=f"form-{place}")
    await stranger.visit(other)
    await other.log.sequencer.sequence()
    with pytest.raises(StoreError, match="another log"):
        await moved(other, target)
