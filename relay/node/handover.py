"""Which neighbour holds which package: what this node saw for itself while it handed content over.

`relay.sync.handover` counts chunks as they go; here that becomes lines for people, kept in the store's notes so that a
restart forgets nothing. It is a help for the eye and proves nothing: only a receipt does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from relay.errors import StoreError
from relay.limits import HANDOVER_SECONDS, MAX_HANDOVERS
from relay.records.identifiers import StatementId
from relay.store.interface import Bundle, PeerNote, Store
from relay.sync.custody import Custody
from relay.sync.handover import Handed

NOTE = "handovers"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handover:
    """A package that a neighbour took whole; `at` is this device's clock, a claim."""

    statement: str
    node: str
    name: str
    role: str
    at: int


def read_handovers(notes: Mapping[str, str]) -> list[Handover]:
    """All handovers that are remembered, oldest first."""
    found: list[dict[str, Any]] = json.loads(notes.get(NOTE, "[]"))
    return [Handover(**one) for one in found]


def holders(notes: Mapping[str, str], statement: StatementId) -> list[Handover]:
    """Who took a package, oldest first."""
    return [one for one in read_handovers(notes) if one.statement == statement.hex()]


async def keep_handovers(custody: Custody) -> None:
    """Write down what neighbours took, for ever. Looks at nothing while no content goes, and then at the packages of
    which something went: a boat may hold a hundred thousand."""
    seen = 0
    while True:
        await asyncio.sleep(HANDOVER_SECONDS)
        if custody.handed.count == seen:
            continue
        count = custody.handed.count
        try:
            known = read_handovers(await custody.store.notes())
            peers = await custody.store.peers()
            bundles = await handed_over(custody.store, custody.handed, seen)
            if new := new_handovers(known, bundles, peers, custody.handed, int(time.time())):
                lines = [asdict(one) for one in [*known, *new][-MAX_HANDOVERS:]]
                await custody.store.set_note(NOTE, json.dumps(lines))
            if custody.handed.nodes() <= {peer.node.hex() for peer in peers}:
                seen = count  # else look again: who is being visited has a name here when the visit ends
        except StoreError as error:
            logger.error("%s", error)  # nothing hangs on it


async def handed_over(store: Store, handed: Handed, since: int) -> list[Bundle]:
    """The packages that somebody has whole, and of which something went since the count of `handed` was `since`."""
    nodes = handed.nodes()
    moved = handed.moved(since)
    return [one async for one in store.bundles_of(moved) if any(_has_all(node, one, handed) for node in nodes)]


def new_handovers(
    known: Iterable[Handover], bundles: Sequence[Bundle], peers: Iterable[PeerNote], handed: Handed, now: int
) -> list[Handover]:
    """Packages that a neighbour got whole and that are not written down yet. Pure."""
    written = {(one.statement, one.node) for one in known}
    nodes = handed.nodes()
    return [
        Handover(bundle.id.hex(), peer.node.hex(), peer.name, peer.role, now)
        for peer in peers
        if peer.node.hex() in nodes
        for bundle in bundles
        if (bundle.id.hex(), peer.node.hex()) not in written and _has_all(peer.node.hex(), bundle, handed)
    ]


def _has_all(node: str, bundle: Bundle, handed: Handed) -> bool:
    if not bundle.files:
        return handed.knows(node, bundle.id)
    return all(handed.whole(node, file.sha256, file.size) for file in bundle.files)
