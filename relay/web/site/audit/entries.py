"""What the entries of a log say of results, taken into an audit's ledger: each bundle is read once more for it.

The ledger has each entry's hash from the audit of the log: what is taken is what was hashed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import aclosing
from functools import lru_cache
from typing import Any

from relay.log.merkle import leaf_hash
from relay.log.tiles import ENTRIES, WIDTH, TileId, decode_entries
from relay.net.source import Source
from relay.receiver.attachments import Progress, wrong
from relay.receiver.bundles import MAX_BUNDLE, fetch_tile
from relay.receiver.ledger import Ledger
from relay.receiver.results import Logged
from relay.records.identifiers import NodeId
from relay.records.statement import read_statement
from relay.together import in_order
from relay.trust.certificates import read_certificate
from relay.web.site.audit.truth import pack

_AHEAD = 4
"""Bundles that are read ahead."""


async def take_in(source: Source, ledger: Ledger, size: int, progress: Progress) -> None:
    """Have the ledger keep what the entries say, as far as it does not; each is the one whose hash it has."""
    first = ledger.open_results()

    def reads() -> Iterator[Coroutine[Any, Any, tuple[int, int, bytes]]]:
        for at in range(first, size, WIDTH):
            yield read(at, min(WIDTH, size - at))

    async def read(at: int, width: int) -> tuple[int, int, bytes]:
        return at, width, await fetch_tile(source, TileId(ENTRIES, at // WIDTH, width), MAX_BUNDLE)

    async with aclosing(in_order(reads(), _AHEAD)) as bundles:
        async for at, width, bundle in bundles:
            raws = decode_entries(bundle)[:width]
            if b"".join(map(leaf_hash, raws)) != ledger.leaves(at, width):
                raise wrong(
                    "altered-entry", f"Entries {at} to {at + width - 1} are not what they were when they were hashed"
                )
            logged = await asyncio.to_thread(_logged, at, raws)
            with ledger.step():
                rows = [(one.entry, one.tps, one.form, pack(one)) for one in logged]
                ledger.note_results(rows, at + width if width == WIDTH else at)
            progress("entries read for results", at + width - first, size - first)


def _logged(first: int, raws: Iterable[bytes]) -> list[Logged]:
    found: list[Logged] = []
    for entry, raw in enumerate(raws, first):
        statement = read_statement(raw)
        name, node = _signer(statement.envelope.certificate)
        found.append(Logged.of(statement, name, node, entry, None))
    return found


@lru_cache(maxsize=4_096)
def _signer(certificate: bytes) -> tuple[str, NodeId]:
    identity = read_certificate(certificate)  # of the election's: the audit of the log saw to that
    return identity.name, identity.node
