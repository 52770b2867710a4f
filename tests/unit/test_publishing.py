"""The log's static files: whatever way it grew, a stranger's proofs verify; after any crash the files come back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import StoreError
from relay.limits import MAX_UNPUBLISHED
from relay.log.checkpoint import Checkpoint, sign_checkpoint
from relay.log.edge import Edge
from relay.log.growth import Tail
from relay.log.merkle import leaf_hash, verify_consistency, verify_inclusion
from relay.log.note import NoteKey
from relay.log.tiles import ENTRIES, WIDTH, TileId, decode_entries, parse_path, tile_reader
from relay.log.tree import Frontier, consistency_proof, inclusion_proof
from relay.node.daemon import Daemon
from relay.receiver import sequencing, service
from relay.receiver.publishing import Publisher
from relay.receiver.remembering import NEWEST, LogMemory
from relay.records.receipt import Receipt, sign_receipt
from relay.store.interface import LogBatch, LogState, Store
from relay.store.shelf import FolderShelf
from relay.store.sqlite import SqliteStore
from relay.sync.custody import Custody
from relay.trust.admission import Admission
from relay.trust.witness import log_key
from tests.factory import make_revocations
from tests.fleet import Fleet, Ship

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY = NoteKey("log", SIGNER.public_key().public_bytes_raw())


class Committed:
    """The part of a store that publishing reads."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []

    def grow(self, count: int) -> list[bytes]:
        """Commit more entries."""
        fresh = [b"entry %d" % number for number in range(len(self.entries), len(self.entries) + count)]
        self.entries += fresh
        return fresh

    @property
    def state(self) -> LogState:
        """As the store has it."""
        frontier = Frontier().extend(leaf_hash(one) for one in self.entries)
        signed = sign_checkpoint(Checkpoint("log", frontier.size, frontier.root()), KEY, SIGNER)
        return LogState(frontier.size, frontier.to_bytes(), signed)

    async def log_statements(self, first: int, count: int) -> list[bytes]:
        """See `Store`."""
        return self.entries[first : first + count]

    def __call__(self) -> Store:
        return cast(Store, self)


def publisher_of(folder: Path) -> Publisher:
    """One that writes into a folder."""
    return Publisher(FolderShelf(folder), KEY)


async def publish(publisher: Publisher, log: Committed, batches: Sequence[int]) -> None:
    """Grow and publish in batches, as the sequencer does."""
    tail = Tail().grow(log.entries).tail
    for count in batches:
        growth = tail.grow(log.grow(count))
        await publisher.write(growth.tiles)
        await publisher.publish_checkpoint(log.state.checkpoint)
        tail = growth.tail


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stranger(folder: Path, log: Committed, dice: random.Random) -> None:
    """Check the published log as a stranger does: by the checkpoint and the files it leads to."""
    size = int((folder / "checkpoint").read_bytes().split(b"\n")[1])
    assert size == len(log.entries)

    def fetch(tile: TileId) -> bytes:
        return (folder / tile.path).read_bytes()

    read, leaves = tile_reader(size, fetch), [leaf_hash(one) for one in log.entries]
    root = Frontier().extend(leaves).root()
    for index in {0, size - 1, dice.randrange(size or 1)} if size else ():
        bundle = TileId(ENTRIES, index // WIDTH, min(WIDTH, size - index // WIDTH * WIDTH))
        entry = decode_entries(fetch(bundle))[index % WIDTH]
        assert entry == log.entries[index]
        verify_inclusion(leaf_hash(entry), index, size, root, inclusion_proof(index, size, read))
    for old in {0, size, dice.randrange(size + 1)}:
        old_root = Frontier().extend(leaves[:old]).root()
        verify_consistency(old, old_root, size, root, consistency_proof(old, size, read))


BATCHES = st.lists(st.integers(1, 40) | st.sampled_from([255, 256, 257, 600]), min_size=1, max_size=5)


@settings(max_examples=12)
@given(BATCHES, st.randoms(use_true_random=False))
async def test_promise_8_after_any_growth_every_proof_out_of_the_files_verifies(
    batches: list[int], dice: random.Random
) -> None:
    with TemporaryDirectory() as name:
        log = Committed()
        publisher = publisher_of(Path(name))
        for count in batches:
            await publish(publisher, log, [count])
            stranger(Path(name), log, dice)
        assert all(name == "checkpoint" or parse_path(name).path == name for name in files(Path(name)))


@settings(max_examples=12)
@given(BATCHES, st.randoms(use_true_random=False))
async def test_files_that_were_deleted_come_back(batches: list[int], dice: random.Random) -> None:
    with TemporaryDirectory() as name:
        folder, log = Path(name), Committed()
        publisher = publisher_of(folder)
        await publish(publisher, log, batches)
        before = files(folder)
        for victim in dice.sample(sorted(before), dice.randint(1, len(before))):
            (folder / victim).unlink()
        await publisher.catch_up(log.state, log())
        stranger(folder, log, dice)
        await publish(publisher, log, [dice.randint(1, 300)])
        stranger(folder, log, dice)


@settings(max_examples=15)
@given(BATCHES, st.integers(1, 300), st.integers(1, 300), st.randoms(use_true_random=False))
async def test_promise_8_what_is_damaged_is_written_again(
    batches: list[int], first: int, second: int, dice: random.Random
) -> None:
    """Files on the edge that are not what the checkpoint covers, of a copy that went wrong, say."""
    with TemporaryDirectory() as name:
        folder, log = Path(name), Committed()
        await publish(publisher_of(folder), log, [*batches, first])
        size = len(log.entries)
        edge = [TileId(level, size // WIDTH, size % WIDTH) for level in (ENTRIES, 0)] if size % WIDTH else []
        for tile in edge:
            content = bytearray((folder / tile.path).read_bytes())
            content[dice.randrange(len(content))] ^= 1
            (folder / tile.path).write_bytes(content)
        await publisher_of(folder).catch_up(log.state, log())
        stranger(folder, log, dice)
        await publish(publisher_of(folder), log, [second])
        stranger(folder, log, dice)


async def test_entries_that_are_not_those_of_the_checkpoint_are_not_published(tmp_path: Path) -> None:
    log = Committed()
    log.grow(7)
    state = log.state
    log.entries[3] = b"another"
    with pytest.raises(StoreError, match="not those that its log's checkpoint signs"):
        await publisher_of(tmp_path).catch_up(state, log())
    assert not (tmp_path / "checkpoint").exists()


@settings(max_examples=15)
@given(BATCHES, st.integers(1, 1_500), st.randoms(use_true_random=False))
async def test_promise_5_a_commit_without_its_checkpoint_is_published_at_start(
    batches: list[int], more: int, dice: random.Random
) -> None:
    with TemporaryDirectory() as name:
        folder, log = Path(name), Committed()
        await publish(publisher_of(folder), log, batches)
        log.grow(more)
        await publisher_of(folder).catch_up(log.state, log())
        stranger(folder, log, dice)


async def test_a_full_tile_never_changes(tmp_path: Path) -> None:
    log, publisher = Committed(), publisher_of(tmp_path)
    await publish(publisher, log, [300])
    full = {name: content for name, content in files(tmp_path).items() if name != "checkpoint" and ".p/" not in name}
    assert set(full) == {"tile/0/000", "tile/entries/000"}
    await publish(publisher, log, [300, 1])
    assert {name: files(tmp_path)[name] for name in full} == full


async def test_a_store_older_than_what_is_published_is_refused(tmp_path: Path) -> None:
    """A store restored from an old backup would sign a second log."""
    log = Committed()
    await publish(publisher_of(tmp_path), log, [10])
    before = files(tmp_path)
    log.entries = log.entries[:7]
    with pytest.raises(StoreError, match="10 entries and the store only 7"):
        await publisher_of(tmp_path).catch_up(log.state, log())
    assert files(tmp_path) == before


FALSE = {
    "of a stranger's key": sign_checkpoint(
        Checkpoint("log", 10**9, bytes(32)),
        NoteKey("log", Ed25519PrivateKey.from_private_bytes(bytes([1] * 32)).public_key().public_bytes_raw()),
        Ed25519PrivateKey.from_private_bytes(bytes([1] * 32)),
    ),
    "of another log": sign_checkpoint(
        Checkpoint("other", 10**9, bytes(32)), NoteKey("other", SIGNER.public_key().public_bytes_raw()), SIGNER
    ),
    "without a signature": b"log\n1000000000\n" + b"A" * 43 + b"=\n",
    "of no form": b"gone",
    "empty": b"",
}


@pytest.mark.parametrize("what", [*FALSE])
async def test_a_checkpoint_that_somebody_else_wrote_is_told_and_written_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Who may write to the bucket cannot stop the log by a note of a thousand million entries."""
    log = Committed()
    await publish(publisher_of(tmp_path), log, [10])
    (tmp_path / "checkpoint").write_bytes(FALSE[what])
    publisher = publisher_of(tmp_path)
    assert await publisher.published() is None
    await publisher.catch_up(log.state, log())
    stranger(tmp_path, log, random.Random(1))
    assert (tmp_path / "checkpoint").read_bytes() == log.state.checkpoint
    assert caplog.text.count("is not this receiver's") == 1, "said once, however often it is looked at"


async def submit_some(fleet: Fleet, receiver: Ship, count: int) -> None:
    """Packages that are complete at the receiver, and not in the log yet."""
    name = f"island-{len(fleet.ships)}"
    island = await fleet.launch(name)
    for place in range(count):
        await island.submit(form=f"form-{place}")
    records = [
        (kind, raw) for kind, _, raw in await island.store.read([b.id for b in await island.store.bundles()], 1 << 20)
    ]
    await receiver.custody.take(records)


class PowerCut(BaseException):
    """The receiver stops here."""


@pytest.mark.parametrize("after", ["append", "write", "publish_checkpoint"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_promise_6_a_power_cut_anywhere_leaves_one_log(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, after: str, before: bool
) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    await submit_some(fleet, receiver, 3)
    await receiver.log.sequencer.sequence()
    await receiver.log.sequencer.publish()
    await submit_some(fleet, receiver, 2)
    target: object = receiver.store if after == "append" else receiver.log.publisher
    good = getattr(target, after)

    async def cut(*arguments: object) -> None:
        if not before:
            await good(*arguments)
        raise PowerCut

    monkeypatch.setattr(target, after, cut)
    with pytest.raises(PowerCut):
        await receiver.log.sequencer.sequence()
        await receiver.log.sequencer.publish()
    monkeypatch.undo()
    folder = receiver.log.folder
    again = sequencing.Sequencer(receiver.custody, receiver.member, receiver.log.publisher)
    await again.start()
    await submit_some(fleet, receiver, 1)
    while await again.sequence():
        pass
    await again.publish()
    state = await receiver.store.log_state()
    assert state.size == 6
    log = Committed()
    log.entries = await receiver.store.log_statements(0, 10)
    assert len(set(log.entries)) == 6
    stranger(folder, log, random.Random(1))
    assert (folder / "checkpoint").read_bytes() == state.checkpoint


async def test_a_receiver_that_starts_writes_what_is_missing(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    await submit_some(fleet, receiver, 3)
    await receiver.log.sequencer.sequence()
    await receiver.log.sequencer.publish()
    folder = receiver.log.folder
    before = files(folder)
    (folder / "tile/0/000.p/3").unlink()
    await receiver.log.sequencer.start()
    assert files(folder) == before


@pytest.mark.parametrize("entries", [0, 2])
async def test_a_receiver_that_was_revoked_starts_and_shows_what_it_has(fleet: Fleet, entries: int) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    await submit_some(fleet, receiver, entries)
    await receiver.log.sequencer.sequence()
    await receiver.log.sequencer.publish()
    before = files(receiver.log.folder)
    await receiver.take(make_revocations(fleet.election, 1, receiver.node))
    assert (await receiver.log.sequencer.start()).size == entries
    assert files(receiver.log.folder) == before


async def test_batches_are_bounded(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencing, "LOG_BATCH", 2)
    receiver = await fleet.receiver()
    assert receiver.log is not None
    await submit_some(fleet, receiver, 5)
    assert [await receiver.log.sequencer.sequence() for _ in range(4)] == [2, 2, 1, 0]


async def test_visitors_get_their_turn_while_receipts_are_signed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencing, "JUDGED_AT_ONCE", 4)
    receiver = await fleet.receiver()
    assert receiver.log is not None
    await submit_some(fleet, receiver, 20)
    turns = 0
    signed_at: list[int] = []

    async def visitor() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def sign(*arguments: Any) -> Receipt:
        signed_at.append(turns)
        return sign_receipt(*arguments)

    monkeypatch.setattr(sequencing, "sign_receipt", sign)
    visiting = asyncio.create_task(visitor())
    assert await receiver.log.sequencer.sequence() == 20
    visiting.cancel()
    assert len(signed_at) == 20
    assert len(set(signed_at)) >= 5


async def test_what_could_not_be_published_is_published_later(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries do not wait for a shelf that is away; when it is back, all of them are there."""
    receiver = await fleet.receiver()
    assert receiver.log is not None
    sequencer, folder = receiver.log.sequencer, receiver.log.folder

    for limit in (MAX_UNPUBLISHED, 0):
        monkeypatch.setattr(sequencing, "MAX_UNPUBLISHED", limit)
        for _ in range(3):
            await submit_some(fleet, receiver, 2)
            assert await sequencer.sequence() == 2
            with monkeypatch.context() as patch:
                patch.setattr(receiver.log.publisher, "write", away)
                patch.setattr(receiver.log.publisher, "catch_up", away)
                with pytest.raises(StoreError):
                    await sequencer.publish()
        await sequencer.publish()
        log = Committed()
        log.entries = await receiver.store.log_statements(0, 100)
        stranger(folder, log, random.Random(1))


async def test_an_older_checkpoint_that_a_dying_receiver_wrote_is_replaced(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    sequencer, file = receiver.log.sequencer, receiver.log.folder / "checkpoint"
    await sequencer.start()
    old = file.read_bytes()
    await submit_some(fleet, receiver, 2)
    await sequencer.sequence()
    await sequencer.publish()
    new = file.read_bytes()
    file.write_bytes(old)
    await sequencer.tend()
    assert file.read_bytes() == new


async def test_a_checkpoint_that_the_store_could_not_take_is_offered_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the last one of a night would never be carried by boats."""
    receiver = await fleet.receiver()
    assert receiver.log is not None
    sequencer, custody = receiver.log.sequencer, receiver.custody
    await sequencer.start()
    await submit_some(fleet, receiver, 2)
    await sequencer.sequence()

    async def fail(*_: object, **__: object) -> None:
        raise StoreError("The database is away", "Bring it back.")

    with monkeypatch.context() as away, pytest.raises(StoreError):
        away.setattr(custody, "take", fail)
        await sequencer.publish()
    name = log_key(receiver.node.identity).name
    assert custody.admission.checkpoints[name].checkpoint.size == 0
    await sequencer.publish()  # nothing is left to be published
    await sequencer.tend()
    assert custody.admission.checkpoints[name].checkpoint.size == 2


async def test_a_checkpoint_is_offered_once_a_notice_names_the_receiver(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    sequencer, admission = receiver.log.sequencer, receiver.custody.admission
    name = log_key(receiver.node.identity).name
    await submit_some(fleet, receiver, 2)
    await sequencer.sequence()
    with monkeypatch.context() as before:
        before.setattr(type(admission), "receivers", property(lambda _: ()))
        await sequencer.publish()
        await sequencer.tend()
    assert admission.checkpoints[name].checkpoint.size == 0
    await sequencer.tend()
    assert admission.checkpoints[name].checkpoint.size == 2


async def test_a_false_checkpoint_is_replaced_while_the_receiver_runs(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    sequencer, file = receiver.log.sequencer, receiver.log.folder / "checkpoint"
    await sequencer.start()
    good = file.read_bytes()
    file.write_bytes(FALSE["of another log"])
    await sequencer.tend()
    assert file.read_bytes() == good
    assert "Find out who may write there" in caplog.text


def keeps_edge(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a store with an empty log keep the edge, as that of a cluster does: it goes on without its shelf."""
    append, kept = store.append, Edge().to_bytes()

    async def appended(batch: LogBatch) -> None:
        nonlocal kept
        await append(batch)
        kept = batch.edge or kept

    async def log_edge() -> bytes:
        return kept

    monkeypatch.setattr(store, "append", appended)
    monkeypatch.setattr(store, "log_edge", log_edge)


async def away(*_arguments: object, **_options: object) -> None:
    """What a shelf says that is away."""
    raise StoreError("The shelf is away", "Wait.")


async def test_promise_6_without_the_shelf_only_who_remembers_the_log_goes_on(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    keeps_edge(receiver.store, monkeypatch)
    key, file = log_key(receiver.member.identity), receiver.log.folder.parent / NEWEST

    def started(memory: LogMemory) -> sequencing.Sequencer:
        assert receiver.log is not None
        return sequencing.Sequencer(receiver.custody, receiver.member, receiver.log.publisher, memory)

    first = started(LogMemory(key, file))
    await submit_some(fleet, receiver, 2)
    with monkeypatch.context() as patch:
        patch.setattr(receiver.log.publisher, "published", away)
        for _ in range(2):  # also when it is tried again
            with pytest.raises(sequencing.Unseen, match="cannot be told"):
                await first.sequence()
        with pytest.raises(sequencing.Unseen):
            await first.stand_by()
    assert (await receiver.store.log_state()).size == 0
    assert await first.sequence() == 2
    bystander = started(LogMemory(key))
    await bystander.stand_by()
    await submit_some(fleet, receiver, 1)
    with monkeypatch.context() as patch:
        patch.setattr(receiver.log.publisher, "published", away)
        assert await first.sequence() == 1, "a receiver that runs goes on"
        await submit_some(fleet, receiver, 1)
        assert await started(LogMemory(key, file)).sequence() == 1, "and one that is started again"
        await submit_some(fleet, receiver, 1)
        assert await bystander.sequence() == 1, "and one that stood by"
        file.write_bytes(b"damaged")
        await submit_some(fleet, receiver, 1)
        with pytest.raises(sequencing.Unseen):
            await started(LogMemory(key, file)).sequence()


async def test_a_receiver_that_cannot_tell_yet_whether_its_store_is_the_newest_waits_and_does_not_end(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    keeps_edge(receiver.store, monkeypatch)
    daemon = cast(Daemon, SimpleNamespace(custody=receiver.custody, config=SimpleNamespace(listen="here")))
    board = service.NoticeBoard(receiver.store, receiver.log.publisher, fleet.clock)
    log = service.ReceiverLog(receiver.store, receiver.log.publisher)
    sequencer = sequencing.Sequencer(receiver.custody, receiver.member, receiver.log.publisher)
    work = service.Sequencing(daemon, sequencer, log, board, fleet.clock)
    with monkeypatch.context() as patch:
        patch.setattr(receiver.log.publisher, "published", away)
        await work.begin()
        assert not work.leading
        await work.stand_by()
        await work.stand_by()
        assert caplog.text.count("Bring the bucket back") == 2, "once by each, however often it is tried"
    await work.begin()
    assert work.leading


@pytest.mark.parametrize("site", [b"[]", b"{}", b'{"entries": []}', b"7", b"\xff", b"[" * 100_000])
async def test_whatever_lies_in_the_place_of_the_sites_state_ends_nothing(tmp_path: Path, site: bytes) -> None:
    shelf = FolderShelf(tmp_path)
    await shelf.write(service.SITE, site, "application/json")
    assert await service.site_entries(shelf) == 0
    await shelf.write(service.SITE, b'{"entries": 3}', "application/json")
    assert await service.site_entries(shelf) == 3


@pytest.mark.parametrize("shelf", ["away", "empty"])
async def test_promise_6_an_older_store_is_refused_by_who_remembers_the_log_whatever_the_shelf_says(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, shelf: str
) -> None:
    """A database restored from an old backup, whose notes are as old, and a bucket that is away or was emptied."""
    receiver = await fleet.receiver()
    assert receiver.log is not None
    keeps_edge(receiver.store, monkeypatch)
    key, file = log_key(receiver.member.identity), receiver.log.folder.parent / NEWEST
    sequencer = sequencing.Sequencer(receiver.custody, receiver.member, receiver.log.publisher, LogMemory(key, file))
    await submit_some(fleet, receiver, 2)
    await sequencer.sequence()
    old, edge = await receiver.store.log_state(), await receiver.store.log_edge()
    await submit_some(fleet, receiver, 2)
    await sequencer.sequence()

    async def restored() -> LogState:
        return old

    async def edge_then() -> bytes:
        return edge

    monkeypatch.setattr(receiver.store, "log_state", restored)
    monkeypatch.setattr(receiver.store, "log_edge", edge_then)
    if shelf == "away":
        monkeypatch.setattr(receiver.log.publisher, "published", away)
    else:
        (receiver.log.folder / "checkpoint").unlink()
    again = sequencing.Sequencer(receiver.custody, receiver.member, receiver.log.publisher, LogMemory(key, file))
    for call in (again.start, again.stand_by):
        with pytest.raises(StoreError, match="4 entries and the store has only 2"):
            await call()


async def test_who_signed_the_empty_log_starts_on_a_fresh_store(fleet: Fleet, tmp_path: Path) -> None:
    """A receiver that is set up once more before the election: nothing was logged that could be contradicted."""
    receiver = await fleet.receiver()
    key, file = log_key(receiver.member.identity), tmp_path / NEWEST
    started = []
    for place in ("first", "second"):
        fresh = await SqliteStore.open(
            tmp_path / place, own=receiver.node.identity.node, quota_bytes=1, quota_statements=1, storage_limit=None
        )
        custody = Custody(Admission(fleet.election.root), fresh)
        publisher = Publisher(FolderShelf(tmp_path / f"public-{place}"), key)
        sequencer = sequencing.Sequencer(custody, receiver.member, publisher, LogMemory(key, file))
        started.append((await sequencer.start()).size)
        await fresh.close()
    assert file.exists()
    assert started == [0, 0]


async def test_promise_6_another_log_of_the_same_size_is_not_what_was_remembered(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    key = log_key(receiver.member.identity)
    memory = LogMemory(key)
    signed = [sign_checkpoint(Checkpoint(key.name, 3, bytes([n] * 32)), key, receiver.member.key) for n in range(2)]
    await memory.note(signed[0])
    memory.check(LogState(3, b"", signed[0]))
    memory.check(LogState(4, b"", signed[1]))
    with pytest.raises(StoreError, match="not the one that this receiver knew"):
        memory.check(LogState(3, b"", signed[1]))
    with pytest.raises(StoreError, match="another key"):
        await memory.note(FALSE["of a stranger's key"])


async def test_a_smaller_checkpoint_does_not_take_a_larger_ones_place_in_memory(tmp_path: Path) -> None:
    log = Committed()
    log.grow(2)
    old = log.state.checkpoint
    log.grow(2)
    memory = LogMemory(KEY, tmp_path / NEWEST)
    await memory.note(log.state.checkpoint)
    await memory.note(old)
    with pytest.raises(StoreError, match="4 entries"):
        LogMemory(KEY, tmp_path / NEWEST).check(LogState(2, b"", old))


async def test_a_disk_that_takes_no_note_does_not_stop_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Committed()
    log.grow(2)
    memory = LogMemory(KEY, tmp_path / "missing" / NEWEST)
    await memory.note(log.state.checkpoint)
    assert memory.has_any
    assert "cannot be noted" in caplog.text


async def test_two_sequencers_on_one_store_make_one_log(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = await fleet.receiver()
    assert receiver.log is not None
    await submit_some(fleet, receiver, 2)
    other = sequencing.Sequencer(receiver.custody, receiver.member, receiver.log.publisher)
    good = receiver.store.append

    async def overtaken(batch: LogBatch) -> None:
        monkeypatch.undo()
        assert await other.sequence() == 2
        await good(batch)

    await receiver.log.sequencer.start()
    monkeypatch.setattr(receiver.store, "append", overtaken)
    with pytest.raises(StoreError, match="another receiver"):
        await receiver.log.sequencer.sequence()
    assert (await receiver.store.log_state()).size == 2
    assert await receiver.log.sequencer.sequence() == 0
