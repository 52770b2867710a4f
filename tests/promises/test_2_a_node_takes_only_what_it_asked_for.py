"""Promise 2: no peer can fill a disk. Wants are chosen by the taker; quotas per signer bound what an enrolled signer
can make others carry."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from relay.errors import Malformed
from relay.limits import MAX_RECORD, MIB, RECORDS_BATCH, STATEMENTS_RESERVE
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId, sha256
from relay.records.notice import Register
from relay.records.statement import Package, sign_statement
from relay.store.interface import State
from tests.disks import fill, left, needs_mounts, small_disk
from tests.factory import ELECTION, Node, make_file, make_node, make_receipt, make_statement, object_of
from tests.fleet import CHUNK, Fleet, Link, each
from tests.promises.adversaries import Babbler, Braggart, Glutton, Pusher, Smuggler

PHOTO = 1_500_000


async def test_a_record_that_was_not_asked_for_is_not_kept(fleet: Fleet) -> None:
    island, other = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    boat = await fleet.carrier("km-bahari")
    wanted = await island.submit()
    stray = make_statement(fleet.election, other.node)
    await boat.visit(Smuggler(island.host(boat), [(Kind.STATEMENT, stray.raw)]))
    assert (Kind.STATEMENT, stray.id) not in boat.store.members
    assert await boat.state(wanted) is State.WAITING


@pytest.mark.parametrize("kind", list(Kind))
async def test_a_smuggler_cannot_make_a_good_record_unwanted(fleet: Fleet, kind: Kind) -> None:
    """Sent unasked, or as a record of another kind, it is refused; from an honest peer it is still taken."""
    island, liar = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    boat = await fleet.carrier("km-bahari")
    statement = await island.submit()
    await liar.submit()
    ((_, _, raw),) = await island.store.read([statement], 1)
    await boat.visit(Smuggler(liar.host(boat), [(kind, raw)]))
    assert await boat.state(statement) is None
    await boat.visit(island)
    assert await boat.state(statement) is State.WAITING


async def test_a_peer_that_sends_rubbish_for_ever_is_left(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    await island.submit()
    babbler = Babbler(island.host(boat))
    await boat.visit(babbler)
    assert babbler.asked == 1
    assert len(boat.store.members) == 0


async def test_what_was_refused_is_not_fetched_at_every_visit(fleet: Fleet) -> None:
    island = await fleet.launch("pulau-long")
    boat = await fleet.launch("km-bahari", quota_statements=1)
    await island.submit()
    await island.submit()
    first = await boat.visit(island)
    assert len(boat.store.members) == 1
    second = await boat.visit(island)
    assert (first.records_in, second.records_in) == (2, 0)


async def test_a_signer_is_held_to_its_quota_by_bytes(fleet: Fleet) -> None:
    island, other = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    boat = await fleet.carrier("km-bahari", quota_bytes=4 * CHUNK)
    contents = [fleet.content(2 * CHUNK - 2_000) for _ in range(3)]
    for content in contents:
        await island.submit(content)
    mine = fleet.content(3 * CHUNK)
    theirs = await other.submit(mine)
    await boat.visit(island)
    assert (await boat.store.counts()).waiting == 2
    await boat.visit(other)
    assert await boat.state(theirs) is State.WAITING, "a signer's quota is its own"
    assert (await boat.store.counts()).bytes_held <= 2 * 4 * CHUNK


async def test_the_own_device_has_no_quota(fleet: Fleet) -> None:
    """But for what others bring in its name: a copy of its key fills no disk."""
    island, boat = await fleet.launch("pulau-long", quota_statements=3), await fleet.carrier("km-bahari")
    for _ in range(4):
        await island.submit()
    assert (await island.store.counts()).waiting == 4
    for _ in range(2):
        await boat.take(make_statement(fleet.election, island.node))
    await island.visit(boat)
    assert (await island.store.counts()).waiting == 4


async def test_receipts_make_room_in_the_quota(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    boat = await fleet.launch("km-bahari", tps=("tps-9",), quota_statements=1)
    statements = [await island.submit(), await island.submit()]
    for _ in statements:
        await boat.visit(island)
        await boat.visit(receiver)
    assert (await receiver.store.log_state()).size == 2


async def test_a_store_at_its_limit_takes_no_content_of_others(fleet: Fleet) -> None:
    island = await fleet.launch("pulau-long")
    boat = await fleet.carrier("km-bahari", storage_limit=CHUNK)
    for _ in range(3):
        await island.submit(fleet.content(CHUNK))
    await boat.visit(island)
    assert (await boat.store.counts()).bytes_held == CHUNK
    report = await boat.visit(island)
    assert report.bytes_in == 0
    await island.visit(boat)
    assert (await boat.store.counts()).bytes_held == CHUNK


@pytest.mark.parametrize("limit", [10_000_000, 12_345_678, 16_000_000])
@pytest.mark.parametrize("fetches", [True, False])
async def test_what_a_node_asks_for_within_its_room_crosses_once_and_is_kept(
    fleet: Fleet, limit: int, fetches: bool
) -> None:
    """Whoever visits: as many whole objects as fit, nothing in vain, and no half that takes the last room."""
    island = await fleet.launch("pulau-long")
    boat = await fleet.carrier("km-bahari", storage_limit=limit)
    for place in range(16):
        await island.submit(fleet.content(PHOTO), fleet.content(PHOTO), form=f"form-{place}")
    photos = limit // PHOTO
    for crossed in (photos * -(-PHOTO // CHUNK), 0):
        link = Link(island.host(boat) if fetches else boat.host(island))
        await (boat if fetches else island).visit(link)
        assert (await boat.store.counts()).bytes_held == photos * PHOTO
        assert all(one.held % PHOTO == 0 for one in await boat.store.bundles())
        assert len(link.crossed) == len(set(link.crossed)) == crossed


async def test_who_brings_chunks_that_find_no_room_fills_no_disk(fleet: Fleet) -> None:
    island = await fleet.launch("pulau-long")
    boat = await fleet.carrier("km-bahari", storage_limit=2 * CHUNK)
    content = fleet.content(5 * CHUNK)
    await boat.take(make_statement(fleet.election, island.node, make_file(content)))
    chunks = [(object_of(content), place, content[place * CHUNK :][:CHUNK]) for place in range(5)]
    assert await boat.host(island).wants([]) == []
    assert await boat.host(island).put_chunks(each(chunks)) == 2
    assert (await boat.store.counts()).bytes_held == 2 * CHUNK
    assert await boat.host(island).put_chunks(each(chunks)) == 0


async def test_chunks_that_were_not_asked_for_end_the_visit(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content, stray = fleet.content(), fleet.content(CHUNK)
    await island.submit(content)
    with pytest.raises(Malformed, match="not asked for"):
        await boat.visit(Pusher(island.host(boat), (object_of(stray), 0, stray)))
    assert (await boat.store.counts()).bytes_held == 0


async def test_a_visitor_cannot_hand_over_content_that_nobody_wants(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    stray = fleet.content(CHUNK)
    assert await boat.host(island).put_chunks(each([(object_of(stray), 0, stray)])) == 0
    assert (await boat.store.counts()).bytes_held == 0
    assert not list((boat.folder / "store").rglob("*.part*"))


async def test_a_braggart_holds_nobody_up(fleet: Fleet) -> None:
    """It claims to hold everything and sends nothing; the next peer brings it all."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = await island.submit(content)
    report = await boat.visit(Braggart(island.host(boat)))
    assert await boat.state(statement) is State.PARTIAL
    assert not report.more
    await boat.visit(island)
    assert await boat.read(content) == content


async def test_a_signer_of_many_objects_that_never_come_holds_nobody_up(fleet: Fleet) -> None:
    """They are small, and would come first: signers take turns in what a node asks for."""
    island, liar = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    boat = await fleet.carrier("km-bahari")
    for number in range(40):
        files = [make_file(f"{number} {place}".encode(), f"{place}.jpg") for place in range(32)]
        await liar.take(make_statement(fleet.election, liar.node, *files))
    await boat.visit(liar)
    content = fleet.content()
    statement = await island.submit(content)
    for _, _, raw in await island.store.read([statement], 1):
        await boat.custody.take([(Kind.STATEMENT, raw)])
    offered = {one.object for one in await boat.host(island).wants([])}
    assert object_of(content) in offered
    fleet.clock.now += 60  # what was offered is claimed by the visitor for a while
    await boat.visit(island)
    assert await boat.state(statement) is State.WAITING


async def test_content_that_a_receiver_was_told_otherwise_of_holds_nobody_up(fleet: Fleet) -> None:
    """A stolen key gave a boat and the receiver different chunks of its objects: signers take turns in what is brought,
    and what was brought in vain comes last from then on."""
    receiver = await fleet.receiver()
    island, thief = await fleet.launch("pulau-long"), await fleet.launch("pulau-batun")
    boat = await fleet.carrier("km-bahari")
    false = [fleet.content() for _ in range(6)]
    for content in false:
        file = make_file(content, "0.jpg")
        lie = replace(file, chunks=tuple(sha256(chunk) for chunk in file.chunks))
        await receiver.take(make_statement(fleet.election, thief.node, lie))
        await boat.take(make_statement(fleet.election, thief.node, file))
        await boat.adopt(content)

    async def brought(content: bytes) -> list[ObjectId]:
        """The objects of which chunks crossed, in order, once an honest package was there as well."""
        await island.submit(content)
        await boat.visit(island)
        link = Link(receiver.host(boat))
        await boat.visit(link)
        assert await receiver.read(content) == content
        return list(dict.fromkeys(object_id for _, object_id, _ in link.crossed))

    first, second = fleet.content(9 * CHUNK), fleet.content(9 * CHUNK)
    assert (await brought(first)).index(object_of(first)) <= 1
    order = await brought(second)
    assert order[0] == object_of(second)
    assert set(order[1:]) <= {object_of(content) for content in false}


async def test_content_of_several_packages_is_brought_to_a_receiver_once(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    content = fleet.content()
    first = await island.submit(content)
    await island.submit(content, supersedes=first)
    link = Link(receiver.host(island))
    await island.visit(link)
    assert sorted(index for _, _, index in link.crossed) == [0, 1, 2, 3]


async def test_a_glutton_gets_each_chunk_once(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    await island.submit(content)
    glutton = Glutton(boat.host(island), [(object_of(content), len(content)), (object_of(b"other"), 1 << 20)])
    await island.visit(glutton)
    assert glutton.taken == 4
    assert glutton.asked < 1_100


async def test_a_receiver_takes_no_form_that_the_register_does_not_list(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    statements = [make_statement(fleet.election, island.node, form=form) for form in ("form-1", "form-9")]
    assert await receiver.take(*statements) == ["new", "new"], "without a register there is nothing to compare it with"
    await receiver.take(fleet.publish(Register(("form-1", "form-2"), ())))
    more = [make_statement(fleet.election, island.node, form=form) for form in ("form-2", "form-9")]
    assert await receiver.take(*more) == ["new", "unknown-form"]


def flood(thief: Node, count: int) -> list[tuple[Kind, bytes]]:
    """The largest statements that a stolen key can sign, each a record of its own."""
    records: list[tuple[Kind, bytes]] = []
    dice, previous = random.Random(thief.identity.name), None
    for seq in range(1, count + 1):
        rubbish = dice.randbytes(MAX_RECORD - 2_000)
        package = Package(ELECTION, "tps-1", "form-1", seq, previous, 0, (), sealed_tally=rubbish, sealed=True)
        raw = sign_statement(package, thief.identity.uri, thief.identity.certificate, thief.key)
        records.append((Kind.STATEMENT, raw))
        previous = StatementId(RecordId(sha256(raw)))
    return records


@needs_mounts
async def test_statements_of_stolen_keys_fill_no_disk(tmp_path: Path) -> None:
    """Each is within its quota. What this node makes still finds room."""
    with small_disk(tmp_path / "disk", STATEMENTS_RESERVE + 16 * MIB) as disk:
        fleet = Fleet(disk)
        boat = await fleet.launch("km-bahari")
        thieves = [make_node(fleet.election, f"thief-{number}") for number in range(2)]
        records = [record for thief in thieves for record in flood(thief, 200)]
        assert sum(len(raw) for _, raw in records) > 20 * MIB
        said: list[str] = []
        for at in range(0, len(records), 16):
            said += [one.word for one in await boat.custody.take(records[at : at + 16])]
        assert set(said) == {"new", "no-room"}
        assert said[0] == "new"
        assert said[-1] == "no-room"
        assert left(disk) > STATEMENTS_RESERVE - 8 * MIB, "so much may the write-ahead log take besides"
        assert [one.word for one in await boat.custody.take(records[:1])] == ["known"]
        assert await boat.state(await boat.submit()) is State.WAITING
        await boat.store.close()


@needs_mounts
async def test_what_found_no_room_is_taken_when_there_is_some_and_costs_little_until_then(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", STATEMENTS_RESERVE + 24 * MIB) as disk:
        fleet, others = Fleet(disk), Fleet(tmp_path / "elsewhere")
        others.election = fleet.election
        boat = await fleet.carrier("km-bahari")
        island = await others.launch("pulau-long", quota_statements=10)
        thief = make_node(fleet.election, "thief")
        await island.custody.take(flood(thief, 100), made_here=True)
        syslog = fill(disk, leave=STATEMENTS_RESERVE - MIB)
        for visits in (1, 2):
            report = await boat.visit(island)
            assert report.bytes_in < 2 * RECORDS_BATCH, visits
            assert not report.rung
            assert (await island.visit(boat)).bytes_out < 2 * RECORDS_BATCH, visits
        assert not await boat.store.bundles()
        syslog.unlink()
        await boat.visit(island)
        assert len(await boat.store.bundles()) == 100
        for ship in (boat, island):
            await ship.store.close()


async def test_receipts_that_a_receiver_invents_grow_no_store_without_bound(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do they cost every visit their bytes, or keep those back that somebody waits for."""
    monkeypatch.setattr("relay.store.catalogue.UNCLAIMED_RECEIPTS", 700)
    receiver = await fleet.receiver()
    liar, island = await fleet.carrier("liar"), await fleet.launch("pulau-long")
    boats = [await fleet.carrier("km-bahari"), await fleet.carrier("km-sinar")]
    waiting = [await island.submit(b"a"), await island.submit(b"b")]
    for other in (island, receiver):
        await liar.visit(other)
    nobody = make_node(fleet.election, "nobody")
    statements = [make_statement(fleet.election, nobody) for _ in range(2_000)]
    invented = [make_receipt(fleet.election, receiver.node, one, 9 + entry) for entry, one in enumerate(statements)]
    words = await liar.take(*invented)
    assert (words.count("new"), words.count("over-quota")) == (700, 1_300)
    monkeypatch.setattr("relay.store.catalogue.UNCLAIMED_RECEIPTS", 100)
    for boat in boats:
        await boat.visit(island)
        kept = len(boat.store.members)
        for visits in (1, 2):
            brought = (await boat.visit(liar)).records_in if boat is boats[0] else (await liar.visit(boat)).records_out
            assert brought <= 512 + 8, visits
        assert len(boat.store.members) - kept <= 100 + 2
        assert [await boat.state(one) for one in waiting] == [State.DELIVERED] * 2
