"""What a contact of one second has to carry: receipts, notices and statements, before any photograph.

The ferry comes with news from the mainland (receipts of packages that reached the receiver another way, on a stick, and
a revocation), the island has packages that nobody saw yet. The two nodes never met.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.contestant import End
from tests.bench.contestants import FORM, TPS, Relay
from tests.boxes import NodeBox
from tests.netns.harness import Host
from tests.processes import eventually

DELIVERED = 8
"""Packages that are delivered already."""
PATIENCE = 60.0


def bring_news(relay: Relay, harbour: Host, folder: Path) -> None:
    """Have the island's first packages delivered by stick, and the receipts and a notice on the ferry."""
    island, ferry = (relay.boxes[end] for end in relay.ends)
    photo = folder / "delivered.jpg"
    for _ in range(DELIVERED):
        photo.write_bytes(b"\xff\xd8\xff" + os.urandom(20_000))
        island.submit(photo, tps=TPS[0], form=FORM)
    receiver = relay.election.admit(NodeBox(folder / "receiver", harbour), "receiver")
    island.export(folder / "there")
    receiver.start()
    receiver.import_(folder / "there")
    eventually(lambda: _delivered(receiver) == DELIVERED, PATIENCE, "the receiver has logged what came by stick")
    receiver.export(folder / "back")
    receiver.stop()
    ferry.import_(folder / "back")
    lost = relay.election.admit(NodeBox(folder / "lost", harbour), "carrier")
    ferry.import_(relay.election.revoke(lost.home.name))


def crossed(relay: Relay, statements: int, island: End) -> dict[str, list[int]]:
    """What came over, and of how much: statements to the ferry, receipts and the notice to the island."""
    ferry = relay.held(relay.other(island))
    box = relay.boxes[island]
    return {
        # What came by stick is on the ferry as well, as statements that are delivered.
        "statements": [ferry.small - _delivered(relay.boxes[relay.other(island)]), statements],
        "receipts": [_delivered(box), DELIVERED],
        "notices": [len(box.status()["revoked"]), 1],
    }


def _delivered(box: NodeBox) -> int:
    return sum(bundle["state"] == "delivered" for bundle in box.list())
