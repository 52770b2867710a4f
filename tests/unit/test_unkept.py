"""What a node cannot keep holds nothing else up: full disks, disks that take no writes, quotas that are used up."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.errors import DiskFull, StoreError, Unkept
from relay.limits import DECLINED_SECONDS, MAX_SURPLUS, MIB, RECORDS_PAGE, STATEMENTS_RESERVE
from relay.net import client
from relay.records.identifiers import Kind, receipt_id
from relay.records.notice import Receiver, Receivers
from relay.store.interface import State
from relay.store.recordset import END, FIRST
from relay.sync.messages import Taken
from relay.sync.report import VisitReport
from relay.trust.admission import Admitted
from relay.trust.roles import Role
from tests.disks import fill, needs_mounts, small_disk
from tests.factory import Node, make_node, make_receipt, make_statement
from tests.fleet import Fleet, Link, Ship

FOUND = 64
"""Differences that a visit settles here."""


def receipts_of_nobody(fleet: Fleet, receiver: Node, count: int, first: int = 9) -> list[Admitted]:
    """Receipts for statements that no node of the fleet holds: invented, or for another region."""
    nobody = make_node(fleet.election, "nobody")
    statements = [make_statement(fleet.election, nobody) for _ in range(count)]
    return [make_receipt(fleet.election, receiver, one, entry) for entry, one in enumerate(statements, first)]


async def visit_on(visitor: Ship, host: Ship, visits: int) -> list[VisitReport]:
    """Visit again and again, each time going on where the last visit ended."""
    reports: list[VisitReport] = []
    since = FIRST
    for _ in range(visits):
        reports.append(await visitor.visit(host, since=since))
        since = FIRST if reports[-1].compared == END else reports[-1].compared
    return reports


@needs_mounts
@pytest.mark.parametrize("island_visits", [True, False])
async def test_receipts_that_find_no_room_keep_no_package_and_no_awaited_receipt_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, island_visits: bool
) -> None:
    """However many of them a boat brings home: each visit goes on where the last one ended, and none follows at once
    for what nobody keeps."""
    monkeypatch.setattr("relay.sync.visit.MAX_RECONCILE_FOUND", FOUND)
    with small_disk(tmp_path / "disk", STATEMENTS_RESERVE + 24 * MIB) as disk:
        fleet, others = Fleet(disk), Fleet(tmp_path / "elsewhere")
        others.election, others.clock = fleet.election, fleet.clock
        receiver = await others.receiver()
        fleet.notices = others.notices
        island, boat = await fleet.launch("pulau-long"), await others.carrier("km-bahari")
        first = await island.submit(b"one")
        await boat.visit(island)
        await boat.visit(receiver)
        assert await boat.state(first) is State.DELIVERED
        await boat.take(*receipts_of_nobody(fleet, receiver.node, 5 * FOUND))
        fill(disk, leave=STATEMENTS_RESERVE - MIB)
        second = await island.submit(b"two")
        visitor, host = (island, boat) if island_visits else (boat, island)
        (report,) = await visit_on(visitor, host, 1)
        assert await boat.state(second) is State.WAITING
        assert await island.state(first) is State.DELIVERED
        assert FIRST < report.compared < END
        later = await visit_on(visitor, host, 12)
        assert not any(one.more or one.kept for one in later)
        assert END in [one.compared for one in later], "all of it is gone through"
        assert len(island.store.members) < FOUND
        for ship in (island, boat, receiver):
            await ship.store.close()


async def test_one_receiver_s_inventions_shut_out_no_other_s_receipts(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are over its quota: a visit moves so many of them at the most, and none of them twice."""
    monkeypatch.setattr("relay.store.catalogue.UNCLAIMED_RECEIPTS", 2 * RECORDS_PAGE)
    thief, honest = (make_node(fleet.election, name, Role.RECEIVER) for name in ("r-1", "r-2"))
    named = [
        Receiver(one.identity.name, ("https://r.example:8470",), one.identity.certificate) for one in (thief, honest)
    ]
    fleet.publish(Receivers(tuple(named)))
    giver, taker, pusher = [await fleet.carrier(name) for name in ("km-a", "km-b", "km-c")]
    for boat in (giver, pusher):
        await boat.take(*receipts_of_nobody(fleet, thief, 2 * RECORDS_PAGE))
    await taker.take(*receipts_of_nobody(fleet, thief, 2 * RECORDS_PAGE))
    good = receipts_of_nobody(fleet, honest, 50)
    assert set(await giver.take(*good)) == {"new"}

    def held() -> int:
        return sum((Kind.RECEIPT, one.id) in taker.store.members for one in good)

    brought = [(await taker.visit(giver)).records_in for _ in range(6)]
    assert held() == 50
    assert sum(brought) == 2 * RECORDS_PAGE + 50
    assert max(brought) <= MAX_SURPLUS + RECORDS_PAGE
    assert brought[-1] == 0
    pushed = [(await pusher.visit(taker)).records_out for _ in range(6)]
    assert sum(pushed) == 2 * RECORDS_PAGE
    assert max(pushed) <= MAX_SURPLUS + RECORDS_PAGE
    assert pushed[-1] == 0


async def test_a_receipt_that_was_over_quota_is_taken_once_its_statement_is_here(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.store.catalogue.UNCLAIMED_RECEIPTS", 0)
    receiver = await fleet.receiver()
    island, boat, other = await fleet.launch("pulau-long"), await fleet.carrier("km-a"), await fleet.carrier("km-b")
    statement = await island.submit(b"one")
    await boat.visit(island)
    await boat.visit(receiver)
    await other.visit(boat)
    assert (int(Kind.RECEIPT), receipt_id(statement)) not in other.store.members
    await other.visit(island)
    await other.visit(boat)
    assert await other.state(statement) is State.DELIVERED


@pytest.mark.parametrize("ways", ["in", "out"])
async def test_what_is_over_quota_crosses_once(fleet: Fleet, ways: str) -> None:
    """Of more signers than one; and again once a receipt has made room, or some time has passed."""
    receiver = await fleet.receiver()
    rich = await fleet.launch("km-a")
    poor = await fleet.launch("km-b", quota_statements=2, tps=("tps-9",))
    thieves = [make_node(fleet.election, f"thief-{number}") for number in range(3)]
    flood = [make_statement(fleet.election, thief) for thief in thieves for _ in range(5)]
    assert set(await rich.take(*flood)) == {"new"}

    async def cross() -> int:
        report = await (poor.visit(rich) if ways == "in" else rich.visit(poor))
        return report.records_in + report.records_out

    assert [await cross() for _ in range(3)] == [15, 0, 0]
    assert len(await poor.store.bundles()) == 6
    await poor.take(make_receipt(fleet.election, receiver.node, make_statement(fleet.election, thieves[0]), 5))
    kept = [one for one in flood if (Kind.STATEMENT, one.id) in poor.store.members]
    await poor.take(make_receipt(fleet.election, receiver.node, kept[0], 6))
    assert await cross() >= 9, "the receipts, and what there may be room for"
    assert len(await poor.store.bundles()) == 7
    assert await cross() == 0
    if ways == "out":
        fleet.clock.now += DECLINED_SECONDS
        assert await cross() == 8


async def test_as_many_refusals_are_remembered_as_several_signers_have_under_way(fleet: Fleet) -> None:
    rich, poor = await fleet.launch("km-a"), await fleet.launch("km-b", quota_statements=1)
    thieves = [make_node(fleet.election, f"thief-{number}") for number in range(2)]
    assert set(await rich.take(*(make_statement(fleet.election, one) for one in thieves for _ in range(600)))) == {
        "new"
    }
    assert [(await poor.visit(rich)).records_in for _ in range(2)] == [1_200, 0]


async def test_words_for_what_is_over_quota_name_the_signer_and_come_once(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Room is no cure for a receiver that invents receipts."""
    monkeypatch.setattr("relay.store.catalogue.UNCLAIMED_RECEIPTS", 5)
    caplog.set_level(logging.WARNING)
    receiver, boat = await fleet.receiver(), await fleet.carrier("km-bahari")
    nobody = make_node(fleet.election, "nobody")
    for entry in range(4):
        await boat.take(*receipts_of_nobody(fleet, receiver.node, 9, 10 * entry))
        statement = make_statement(fleet.election, nobody)
        await boat.take(statement)
        await boat.take(make_receipt(fleet.election, receiver.node, statement, 99 + entry))
    (words,) = [one.message for one in caplog.records]
    assert receiver.node.identity.uri in words
    assert "revoke" in words
    assert "free some space" not in words


async def test_that_there_is_no_room_is_told_once_whatever_is_kept_without_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, boat = await fleet.receiver(), await fleet.carrier("km-bahari")
    island = await fleet.launch("pulau-long")
    held = [make_statement(fleet.election, island.node) for _ in range(3)]
    await boat.take(*held)
    monkeypatch.setattr("relay.store.sqlite.STATEMENTS_RESERVE", 1 << 60)
    caplog.set_level(logging.WARNING)
    for entry, one in enumerate(held):
        assert await boat.take(make_statement(fleet.election, island.node)) == ["no-room"]
        assert await boat.take(make_receipt(fleet.election, receiver.node, one, entry)) == ["new"]
    assert len(caplog.records) == 1
    monkeypatch.undo()
    assert await boat.take(make_statement(fleet.election, island.node)) == ["new"]
    monkeypatch.setattr("relay.store.sqlite.STATEMENTS_RESERVE", 1 << 60)
    assert await boat.take(make_statement(fleet.election, island.node)) == ["no-room"]
    assert len(caplog.records) == 2, "there was room in between"


# -- a disk that takes no writes


def take_no_writes(ship: Ship, monkeypatch: pytest.MonkeyPatch) -> None:
    """The card of a running node turns read-only."""

    async def fail(*_what: object, **_how: object) -> None:
        raise DiskFull("The disk is read-only", "Replace the card.")

    for name in ("add", "stage_chunk", "commit_chunks", "set_note", "take_back", "withhold"):
        monkeypatch.setattr(ship.store, name, fail)


@pytest.mark.parametrize("stuck_visits", [True, False])
async def test_a_node_whose_disk_takes_no_writes_gives_all_that_it_has(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stuck_visits: bool
) -> None:
    """It is offered notices, a checkpoint, receipts, statements and content all the while."""
    receiver = await fleet.receiver()
    island, stuck, boat = [await fleet.launch(name) for name in ("pulau-long", "pulau-batun", "km-bahari")]
    delivered = await island.submit(b"one")
    await stuck.visit(island)
    await boat.visit(island)
    await boat.visit(receiver)
    theirs = await boat.submit(fleet.content())
    content = fleet.content()
    mine = await stuck.submit(content)
    take_no_writes(stuck, monkeypatch)
    for _ in range(2):
        if stuck_visits:
            with pytest.raises(StoreError, match="read-only"):
                await stuck.visit(boat)
        else:
            await boat.visit(stuck)
        assert await boat.read(content) == content
        assert await boat.state(mine) is State.WAITING
    told = [one for one in caplog.records if "read-only" in one.message]
    assert len(told) == (0 if stuck_visits else 1), "a visitor says it where it visits"
    monkeypatch.undo()
    await stuck.visit(boat)
    assert await stuck.state(delivered) is State.DELIVERED
    assert await stuck.state(theirs) is State.WAITING


async def test_a_node_whose_disk_takes_no_writes_delivers(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, island, boat = await fleet.receiver(), await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    first, second = await island.submit(b"one"), await island.submit(fleet.content())
    await boat.visit(island)
    other = await fleet.launch("pulau-batun")
    await other.submit()
    await other.visit(receiver)  # which has a checkpoint then
    take_no_writes(boat, monkeypatch)
    with pytest.raises(StoreError, match="read-only"):
        await boat.visit(receiver)
    assert await receiver.store.receipted([first, second]) == {first, second}


class Full(Link):
    """The way to a peer whose program answers with a problem when its disk is full, as older ones do."""

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        raise client._named({"type": "relay:problem/store"}, 507, "The disk is full", "Free some space.")


async def test_what_a_peer_with_a_full_disk_has_is_fetched_all_the_same(fleet: Fleet) -> None:
    other, island, boat = [await fleet.launch(name) for name in ("pulau-batun", "pulau-long", "km-bahari")]
    content = fleet.content()
    await island.submit(content)
    await boat.visit(other)
    await boat.submit(b"two")
    full = Full(island.host(boat))
    with pytest.raises(Unkept, match="full"):
        await boat.visit(full)
    assert await boat.read(content) == content
