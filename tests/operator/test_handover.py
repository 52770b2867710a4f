"""A package without files is carried, too: then its statement is all there is of it."""

from __future__ import annotations

from dataclasses import replace

from relay.limits import MAX_HANDED
from relay.node.handover import new_handovers
from relay.records.identifiers import RecordId
from relay.sync.handover import Handed
from tests.fleet import Fleet
from tests.operator.test_board import BOAT, NOW


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
