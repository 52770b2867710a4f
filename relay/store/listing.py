"""Bundles out of a catalogue's rows: one shape of query, whatever database answers it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from relay.limits import BUNDLES_PAGE
from relay.records.identifiers import NodeId, ObjectId, StatementId
from relay.store.interface import Bundle, BundleFile, State, Store

SELECT = """
    SELECT b.statement, b.tps, b.form, b.device, b.node, b.seq, b.completed, b.entry, b.size, b.remaining, b.own,
        b.supersedes, b.flags, b.captured_at, f.object, f.name, f.media_type, f.size
    FROM bundles b LEFT JOIN files f ON f.statement = b.statement
"""
ORDER = " ORDER BY b.tps, b.form, b.device, b.seq, b.statement, f.place"


async def undelivered(store: Store) -> AsyncIterator[Bundle]:
    """Every bundle without receipt, those that are withheld too, read page by page."""
    after = b""
    while page := await store.undelivered(after, BUNDLES_PAGE):
        for bundle in page:
            yield bundle
        after = page[-1].id


async def gather(rows: AsyncIterator[Any]) -> list[Bundle]:
    """Bundles with their files, from the rows of `SELECT … ORDER`. What repeats from bundle to bundle is kept once."""
    found: list[Bundle] = []
    names: dict[Any, Any] = {}
    head: tuple[Any, ...] = ()
    files: list[BundleFile] = []
    async for row in rows:
        # Station, form, device, node.
        values = (*(names.setdefault(value, value) for value in row[1:5]), *row[5:-4])
        if head and head[0] != row[0]:
            found.append(_bundle(head, files))
            files = []
        head = (row[0], *values)
        object_id, name, media_type, size = row[-4:]
        if object_id is not None:
            name, media_type = names.setdefault(name, name), names.setdefault(media_type, media_type)
            files.append(BundleFile(ObjectId(object_id), name, media_type, size))
    if head:
        found.append(_bundle(head, files))
    return found


def _bundle(row: tuple[Any, ...], files: Sequence[BundleFile]) -> Bundle:
    (statement, tps, form, device, node, seq, completed, entry, size, remaining, own, supersedes, flags, at) = row
    state = State.DELIVERED if entry is not None else State.PARTIAL if completed is None else State.WAITING
    return Bundle(
        id=StatementId(statement),
        tps=tps,
        form=form,
        device=device,
        node=NodeId(node),
        seq=seq,
        state=state,
        size=size,
        held=size - remaining,
        entry=entry,
        own=bool(own),
        supersedes=StatementId(supersedes) if supersedes is not None else None,
        flags=tuple(flags.split()),
        captured_at=at,
        files=tuple(files),
    )
