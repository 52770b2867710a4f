"""A package without files is carried, too: then its statement is all there is of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NoReturn

import pytest

from relay.limits import MAX_HANDED
from relay.node import handover
from relay.node.handover import handed_over, holders, keep_handovers, new_handovers
from relay.records.identifiers import ObjectId, RecordId
from relay.sync.handover import Handed
from tests.fleet import Fleet
from tests.operator.test_board import BOAT, NOW, board


async def test_a_package_without_files_is_carried_by_its_statement(fleet: Fleet) -> None:
    """On both sides of a visit, whoever visits; and by nobody who never got it."""
    island, boat, harbour = [await fleet.launch(name) for name in ("island", "boat", "harbour")]
    statement = await island.submit()
    await boat.visit(island)
    await boat.visit(harbour)
    (bundle,) = await harbour.store.bundles()
    assert (bundle.id, bundle.files) == (statement, ())
    for ship, other in ((island, boat), (boat, harbour)):
        node = other.node.identity.node
        peers = [BOAT, replace(BOAT, node=node, name=other.node.identity.name)]
        (line,) = new_handovers([], [bundle], peers, ship.custody.handed, NOW)
        assert (line.node, line.name) == (node.hex(), other.node.identity.name)
        assert new_handovers([line], [bundle], peers, ship.custody.handed, NOW) == []


def test_what_is_told_is_bounded() -> None:
    """What went last is forgotten last."""
    handed = Handed()
    for n in range(MAX_HANDED + 5):
        handed.told("aa", RecordId(n.to_bytes(32, "big")))
    assert handed.knows("aa", RecordId((MAX_HANDED).to_bytes(32, "big")))
    assert not handed.knows("aa", RecordId(bytes(32)))


def test_what_moved_is_told_from_what_moved_before() -> None:
    """Each once, with the last time that something of it went; and no more of it than a visit moves."""
    handed = Handed()
    first, second = ObjectId(b"o" * 32), RecordId(b"s" * 32)
    handed.went("aa", first, 0)
    handed.told("aa", second)
    assert handed.moved(0) == [second, first]
    assert handed.moved(1) == [second]
    handed.went("bb", first, 1)
    assert handed.moved(2) == [first]
    assert handed.moved(handed.count) == []
    for n in range(3 * MAX_HANDED):
        handed.told("aa", RecordId(n.to_bytes(32, "big")))
    assert len(handed.moved(0)) == 2 * MAX_HANDED


async def test_a_boat_with_many_packages_lists_those_that_go(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what was handed over, nor what is on board, is found by listing all that is held: it may be a hundred
    thousand packages, of which a list takes more memory than all the rest, every few seconds."""

    async def everything() -> NoReturn:
        pytest.fail("all packages were listed")

    monkeypatch.setattr(handover, "HANDOVER_SECONDS", 0)
    island, boat = await fleet.launch("island"), await fleet.carrier("boat")
    gone = await island.submit(fleet.content(), form="form-1")
    await island.visit(boat)
    left = await island.submit(fleet.content(), form="form-2")
    await island.store.note_peer(replace(BOAT, node=boat.node.identity.node))
    monkeypatch.setattr(island.store, "bundles", everything)
    assert [one.id for one in await handed_over(island.store, island.custody.handed, 0)] == [gone]
    assert await handed_over(island.store, island.custody.handed, island.custody.handed.count) == []
    task = asyncio.create_task(keep_handovers(island.custody))
    async with asyncio.timeout(5):
        while not task.done() and not holders(await island.store.notes(), gone):  # noqa: ASYNC110 - nothing rings
            await asyncio.sleep(0)
    task.cancel()
    notes = await island.store.notes()
    assert holders(notes, gone)
    assert not holders(notes, left)
    assert '<span class="figure">2</span>' in await board(island)
