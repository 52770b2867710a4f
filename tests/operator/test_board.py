"""The carrier's board, and what it knows of handovers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace

import pytest
from aiohttp.test_utils import TestClient, TestServer

from relay.cli.status import lines_of
from relay.limits import (
    CONTACT_SECONDS,
    DISK_RESERVE,
    DRAFTS_RESERVE,
    MAX_HANDED,
    PACKAGE_BYTES,
    REREAD_SECONDS,
)
from relay.node import handover, overquota, unreadable
from relay.node.config import Config
from relay.node.daemon import Daemon
from relay.node.handover import NOTE, Handover, holders, keep_handovers, new_handovers, read_handovers
from relay.node.home import Home
from relay.node.overquota import is_over_quota, keep_over_quota
from relay.node.report import describe_node, in_contact
from relay.node.unreadable import keep_unreadable
from relay.records.identifiers import NodeId, ObjectId, RecordId, StatementId
from relay.store.interface import Bundle, BundleFile, PeerNote, State
from relay.store.quota import Quota
from relay.sync.handover import Handed
from relay.trust.roles import Role
from relay.web.board import LastContact, last_contact, own_room, room
from relay.web.console import board_application
from tests.factory import make_revocations, object_of
from tests.fleet import Fleet, Ship

NOW = 1_732_700_000
BOAT = PeerNote(NodeId(b"b" * 32), "KM Sinar", "carrier", "", NOW, 0, 0, connected=True)
PHOTO = BundleFile(ObjectId(b"o" * 32), "a.jpg", "image/jpeg", 200_000)


async def board(ship: Ship) -> str:
    """What a boat's board shows."""
    daemon = Daemon(Home(ship.folder), Config(), ship.member, ship.custody)
    async with TestClient(TestServer(board_application(daemon))) as client:
        return await (await client.get("/board?lang=id")).text()


def package(n: int, **changes: object) -> Bundle:
    """A package that waits."""
    blank = Bundle(
        StatementId(RecordId(bytes([n]) * 32)), f"tps-{n}", "form-1", "island", NodeId(b"n" * 32), n, State.WAITING,
        1, 1, None, False, None, (), NOW - 60 * n, (PHOTO,),
    )  # fmt: skip
    return replace(blank, **changes)  # type: ignore[arg-type]


def test_the_last_contact() -> None:
    """All that the last neighbour took, however many commits it needed."""
    lines = [
        Handover("01", "aa", "KM Satu", "carrier", NOW - 9_000),
        Handover("02", "bb", "KM Dua", "carrier", NOW - 5_000),
        Handover("03", "bb", "KM Dua", "carrier", NOW - 40),
        Handover("04", "bb", "KM Dua", "carrier", NOW - 10),
    ]
    assert last_contact(reversed(lines)) == LastContact("KM Dua", "carrier", 2, NOW - 10)
    assert last_contact([]) is None


def test_the_room_that_is_left() -> None:
    """In packages: what the disk has beyond its reserve, or what the configuration allows."""
    assert room(DISK_RESERVE + 10 * PACKAGE_BYTES, 0, None) == 10
    assert room(DISK_RESERVE - 1, 0, None) == room(DISK_RESERVE * 9, 5, 4) == 0
    assert room(DISK_RESERVE * 1_000, PACKAGE_BYTES, 4 * PACKAGE_BYTES) == 3


def test_the_room_that_is_left_to_an_operator() -> None:
    """For what is made there: neither others, who stop earlier, nor `storage_limit` is in its way."""
    assert own_room(DISK_RESERVE) == (DISK_RESERVE - DRAFTS_RESERVE) // PACKAGE_BYTES > 4
    assert own_room(DRAFTS_RESERVE + PACKAGE_BYTES) == 1
    assert own_room(DRAFTS_RESERVE + PACKAGE_BYTES - 1) == own_room(0) == 0


def test_who_is_near() -> None:
    """Connected, and heard of lately; not who was heard of before the clock was set back, perhaps long ago."""
    old, later = replace(BOAT, last_seen=NOW - CONTACT_SECONDS), replace(BOAT, last_seen=NOW + 1)
    assert in_contact([BOAT, old, later, replace(BOAT, connected=False)], NOW) == [BOAT]


async def test_nobody_is_near_after_a_restart_before_they_answer(fleet: Fleet) -> None:
    """A box that was off for a minute has not met the boat that sailed meanwhile; what went with it stays known."""
    boat = await fleet.carrier("boat")
    await boat.store.note_peer(replace(BOAT, address="[fe80::1]:8470", bytes_in=5))
    await Daemon(Home(boat.folder), Config(), boat.member, boat.custody).forget_contacts()
    assert await boat.store.peers() == [replace(BOAT, address="[fe80::1]:8470", bytes_in=5, connected=False)]


def test_a_handover_is_a_whole_package() -> None:
    """Every chunk of every file to the same neighbour; told once."""
    handed = Handed()
    chunks = -(-PHOTO.size // 65_536)
    for index in range(chunks - 1):
        handed.went(BOAT.node.hex(), PHOTO.sha256, index)
    assert new_handovers([], [package(1)], [BOAT], handed, NOW) == []
    handed.went("cc" * 32, PHOTO.sha256, chunks - 1)
    assert new_handovers([], [package(1)], [BOAT], handed, NOW) == []
    handed.went(BOAT.node.hex(), PHOTO.sha256, chunks - 1)
    (line,) = new_handovers([], [package(1), package(2, files=())], [BOAT], handed, NOW)
    assert (line.name, line.statement) == ("KM Sinar", package(1).id.hex())
    assert new_handovers([line], [package(1)], [BOAT], handed, NOW) == []
    notes = {NOTE: json.dumps([asdict(line)])}
    assert read_handovers(notes) == holders(notes, package(1).id) == [line]
    assert read_handovers({}) == holders(notes, package(2).id) == []


def test_what_is_counted_is_bounded() -> None:
    """What moved last is forgotten last."""
    handed = Handed()
    for n in range(MAX_HANDED + 5):
        handed.went("aa", ObjectId(n.to_bytes(32, "big")), 0)
        handed.went("aa", ObjectId(bytes(32)), 0)
    assert handed.whole("aa", ObjectId(bytes(32)), 1)
    assert not handed.whole("aa", ObjectId((2).to_bytes(32, "big")), 1)


async def test_a_neighbour_that_is_known_by_name_later(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A visit is noted when it ends, content goes before: that is not forgotten."""
    monkeypatch.setattr(handover, "HANDOVER_SECONDS", 0)
    island, boat = await fleet.launch("island"), await fleet.launch("boat")
    statement = await island.submit(fleet.content())
    await island.visit(boat)
    peers = island.store.peers
    asked = 0

    async def late() -> list[PeerNote]:
        nonlocal asked
        asked += 1
        if asked == 2:
            await island.store.note_peer(replace(BOAT, node=boat.node.identity.node))
        return await peers()

    monkeypatch.setattr(island.store, "peers", late)
    task = asyncio.create_task(keep_handovers(island.custody))
    async with asyncio.timeout(5):
        while not holders(await island.store.notes(), statement):  # noqa: ASYNC110 - nothing rings
            await asyncio.sleep(0)
    task.cancel()
    assert asked == 2


async def test_packages_that_were_not_taken_for_quota_are_told(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until receipts made room, and after a restart; under another quota it is seen anew."""
    monkeypatch.setattr(overquota, "HANDOVER_SECONDS", 0)
    island = await fleet.launch("island")
    boat = await fleet.launch("boat", Role.CARRIER, quota_statements=1)
    quota = Quota(1 << 30, 1)

    async def told(quota: Quota, expected: bool) -> None:
        task = asyncio.create_task(keep_over_quota(boat.custody, quota))
        async with asyncio.timeout(5):
            for _ in range(5):
                await asyncio.sleep(0)
            while is_over_quota(await boat.store.notes()) != expected:  # noqa: ASYNC110 - nothing rings
                await asyncio.sleep(0)
        task.cancel()

    await island.submit(fleet.content())
    await boat.visit(island)
    await told(quota, False)
    await island.submit(fleet.content())
    await boat.visit(island)
    await told(quota, True)
    assert boat.custody.verdicts["statement", "over-quota"] == 1
    assert "jatahnya di kapal ini sudah penuh. Hubungi pengelola" in await board(boat)
    report = await describe_node(Home(boat.folder), boat.member, boat.custody)
    assert any("quota_bytes" in line for line in lines_of(report))
    boat.custody.verdicts.clear()
    await told(quota, True)
    await told(Quota(1 << 30, 2), False)
    assert "jatah" not in await board(boat)


async def test_what_cannot_be_read_is_told_until_it_can_be(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreadable, "HANDOVER_SECONDS", 0)
    island = await fleet.launch("island")
    content = fleet.content()
    await island.submit(content)
    path = await island.store.object_path(object_of(content))
    assert path is not None
    away = path.rename(island.folder / "away")
    await island.store.set_note("unreadable", "7")  # of a run that ended
    task = asyncio.create_task(keep_unreadable(island.custody, fleet.clock))

    async def noted(count: str) -> None:
        async with asyncio.timeout(5):
            while (await island.store.notes()).get("unreadable") != count:  # noqa: ASYNC110 - nothing rings
                await asyncio.sleep(0)

    await noted("")
    before = island.custody.content
    await island.store.read_chunk(object_of(content), 0)
    await noted("1")
    assert island.custody.content > before, "neighbours ask anew"
    assert "1 foto di kotak ini tidak dapat dibaca" in await board(island)
    report = await describe_node(Home(island.folder), island.member, island.custody)
    assert report["unreadable"] == 1
    assert any("1 objects cannot be read" in line for line in lines_of(report))
    away.rename(path)
    fleet.clock.now += REREAD_SECONDS
    await noted("")
    task.cancel()
    assert "tidak dapat dibaca" not in await board(island)
    assert not any("cannot be read" in line for line in lines_of({**report, "unreadable": 0}))


async def test_receipts_make_room_for_what_was_not_taken(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overquota, "HANDOVER_SECONDS", 0)
    boat = await fleet.carrier("boat")
    boat.custody.verdicts["statement", "over-quota"] += 1
    task = asyncio.create_task(keep_over_quota(boat.custody, Quota(1, 1)))
    async with asyncio.timeout(5):
        while not is_over_quota(await boat.store.notes()):  # noqa: ASYNC110 - nothing rings
            await asyncio.sleep(0)
        boat.custody.verdicts["receipt", "new"] += 1
        while is_over_quota(await boat.store.notes()):  # noqa: ASYNC110 - nothing rings
            await asyncio.sleep(0)
    task.cancel()


async def test_a_revoked_boat_says_how_its_packages_get_on(fleet: Fleet) -> None:
    """Nobody fetches them there, and its crew has no forms to hand in again."""
    island, boat = await fleet.launch("island"), await fleet.carrier("boat")
    await island.submit(fleet.content())
    await boat.visit(island)
    await boat.take(make_revocations(fleet.election, 1, boat.node))
    shown = await board(boat)
    command = f"relay export --home {boat.folder} ST"
    assert f"1 paket masih di sini: {command}" in shown and "formulirnya dikirim lagi" not in shown
    report = await describe_node(Home(boat.folder), boat.member, boat.custody)
    assert any(command in line for line in lines_of(report))
    assert not any("relay init" in line for line in lines_of(report))


async def test_a_revoked_boat_shows_no_tick(fleet: Fleet) -> None:
    """Also where everything was delivered: nothing comes on board any more."""
    island, receiver = await fleet.launch("island"), await fleet.receiver()
    boat = await fleet.carrier("boat")
    await island.submit(fleet.content())
    for there in (island, receiver, receiver):
        await boat.visit(there)
        if there is receiver and receiver.log is not None:
            await receiver.log.next_batch(0, 1)
    assert "✓" in await board(boat)
    await boat.take(make_revocations(fleet.election, 1, boat.node))
    shown = await board(boat)
    assert "✓" not in shown and "masih di sini" not in shown


async def test_both_sides_of_a_visit_know_what_went(fleet: Fleet) -> None:
    """The visitor pushes, the visited is pulled from."""
    island, boat, harbour = [await fleet.launch(name) for name in ("island", "boat", "harbour")]
    statement = await island.submit(fleet.content())
    await boat.visit(island)
    await boat.visit(harbour)
    bundle = await harbour.store.bundle(statement)
    assert bundle is not None and bundle.state is State.WAITING
    for ship, other in ((island, boat), (boat, harbour)):
        handed, name = ship.custody.handed, other.node.identity.node.hex()
        assert all(handed.whole(name, file.sha256, file.size) for file in bundle.files)
        assert handed.nodes() == {name}
