"""Records and bundles in the catalogue: adding, receipts, slots, quotas, the reconciliation set.

Functions over one transaction or the reading side; each says what it changes in the journal, from which the set of
members is kept. Guards promises 6 and 7: one receipt per statement, and no statement is ever replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import aiosqlite

from relay.limits import MAX_LAYOUTS
from relay.records.identifiers import Kind, NodeId, ObjectId, StatementId, parse_uri
from relay.records.receipt import Receipt
from relay.records.statement import FileEntry, Statement
from relay.store.database import Database, Row
from relay.store.interface import Bundle, BundleFile, Outcome, State
from relay.trust.admission import Admitted

_MAX_RANK = (1 << 63) - 1
"""SQLite's largest integer; no tree grows so far that it matters."""

Change = tuple[int, bytes, bool]
"""A change of the reconciliation set: kind, id, whether it is in the set now."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a store of this node keeps: quotas per signer (of others), its own node, and whether it keeps everything."""

    own: NodeId | None
    quota_bytes: int
    quota_statements: int
    keeps_all: bool


async def add(db: aiosqlite.Connection, item: Admitted, rules: Rules, now: int) -> tuple[Outcome, list[Change]]:
    """Keep one admitted record within a transaction."""
    if await _one(db, "SELECT 1 FROM records WHERE id = ?", item.id):
        return Outcome.KNOWN, []
    match item.body:
        case Statement() as statement:
            return await _add_statement(db, item, statement, rules)
        case Receipt() as receipt:
            return await _add_receipt(db, item, receipt, now)
        case _:
            return await _add_to_slot(db, item)


async def journal(db: aiosqlite.Connection, changes: Iterable[Change]) -> None:
    """Note changes of the reconciliation set, for this process and others."""
    await db.executemany(
        "INSERT OR REPLACE INTO journal (kind, id, present) VALUES (?, ?, ?)",
        [(kind, record, int(present)) for kind, record, present in changes],
    )


async def withhold(db: aiosqlite.Connection, revoked: set[NodeId]) -> list[Change]:
    """Hide undelivered statements of these signers, and of these only."""
    changes: list[Change] = []
    async with db.execute("SELECT DISTINCT node, withheld FROM bundles WHERE entry IS NULL") as cursor:
        signers = [(NodeId(row[0]), bool(row[1])) async for row in cursor]
    for node, hidden in signers:
        if hidden == (node in revoked):
            continue
        async with db.execute(
            "UPDATE bundles SET withheld = ? WHERE node = ? AND entry IS NULL RETURNING statement",
            (int(not hidden), node),
        ) as cursor:
            changes += [(int(Kind.STATEMENT), bytes(row[0]), hidden) async for row in cursor]
    return changes


async def settle(db: aiosqlite.Connection, objects: Iterable[ObjectId]) -> list[StatementId]:
    """Bring bundles up to date with what is held of these objects; those that became complete, in order."""
    statements: dict[bytes, None] = {}
    for object_id in objects:
        async with db.execute("SELECT statement FROM files WHERE object = ?", (object_id,)) as cursor:
            statements.update({bytes(row[0]): None async for row in cursor})
    completed: list[StatementId] = []
    for statement in statements:
        await db.execute("UPDATE bundles SET remaining = (" + _REMAINING + ") WHERE statement = ?", (statement,) * 2)
        async with db.execute(
            "UPDATE bundles SET completed = (SELECT coalesce(max(completed), 0) + 1 FROM bundles) "
            "WHERE statement = ? AND remaining = 0 AND completed IS NULL RETURNING statement",
            (statement,),
        ) as cursor:
            completed += [StatementId(row[0]) async for row in cursor]
    return completed


def layout_of(size: int, hashes: bytes) -> bytes:
    """The name of a size and a list of chunk hashes."""
    return hashlib.sha256(size.to_bytes(8, "big") + hashes).digest()[:8]


async def bundles(database: Database, where: str = "withheld = 0", parameters: Sequence[object] = ()) -> list[Bundle]:
    """Bundles with their files, ordered by station, form, device and sequence."""
    found: list[Bundle] = []
    names: dict[Any, Any] = {}  # what repeats from bundle to bundle is kept once
    head: tuple[Any, ...] = ()
    files: list[BundleFile] = []
    sql = (
        f"SELECT {_COLUMNS}, f.object, f.name, f.media_type, f.size FROM bundles b LEFT JOIN files f USING (statement) "
    )
    sql += f"WHERE {where} ORDER BY tps, form, device, seq, statement, place"
    async for row in database.stream(sql, parameters):
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


_COLUMNS = (
    "statement, tps, form, device, node, seq, completed, entry, b.size, remaining, own, supersedes, flags, captured_at"
)

_REMAINING = """
    SELECT coalesce(sum(CASE state WHEN 1 THEN 0 ELSE size - held END), 0) FROM (
        SELECT max(f.size) AS size, o.state, coalesce((
            SELECT max(held_bytes) FROM layouts l WHERE l.object = o.id AND l.size = f.size AND NOT refuted), 0) AS held
        FROM files f JOIN objects o ON o.id = f.object WHERE f.statement = ? GROUP BY o.id)
"""


async def _add_to_slot(db: aiosqlite.Connection, item: Admitted) -> tuple[Outcome, list[Change]]:
    changes: list[Change] = [(int(item.kind), item.id, True)]
    held = await _one(db, "SELECT id, rank FROM records WHERE slot = ?", item.slot)
    if held is not None:
        if held[1] >= min(item.rank, _MAX_RANK):
            return Outcome.STALE, []
        await db.execute("DELETE FROM records WHERE id = ?", (held[0],))
        changes.insert(0, (int(item.kind), bytes(held[0]), False))
    await _insert(db, item, item.slot)
    return Outcome.NEW, changes


async def _add_receipt(
    db: aiosqlite.Connection, item: Admitted, receipt: Receipt, now: int
) -> tuple[Outcome, list[Change]]:
    await _insert(db, item, None)
    await db.execute("INSERT INTO receipts VALUES (?, ?)", (receipt.statement, receipt.entry))
    changes: list[Change] = [(int(Kind.RECEIPT), item.id, True)]
    async with db.execute(
        "UPDATE bundles SET entry = ?, receipt_at = ?, withheld = 0 WHERE statement = ?",
        (receipt.entry, now, receipt.statement),
    ) as cursor:
        if cursor.rowcount:
            changes.append((int(Kind.STATEMENT), receipt.statement, False))
    return Outcome.NEW, changes


async def _add_statement(
    db: aiosqlite.Connection, item: Admitted, statement: Statement, rules: Rules
) -> tuple[Outcome, list[Change]]:
    own = item.signer == rules.own
    receipt = await _one(db, "SELECT entry FROM receipts WHERE statement = ?", statement.id)
    if receipt is not None and not own and not rules.keeps_all:
        return Outcome.KNOWN, []
    if not own and not rules.keeps_all and await _over_quota(db, item.signer, statement.size, rules):
        return Outcome.OVER_QUOTA, []
    await _insert(db, item, None)
    package = statement.package
    sizes: dict[ObjectId, int] = {}
    for entry in package.files:
        sizes[entry.sha256] = max(entry.size, sizes.get(entry.sha256, 0))
    await db.execute(
        "INSERT INTO bundles (statement, node, device, tps, form, seq, supersedes, captured_at, flags, size, "
        "remaining, weight, own, entry) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            statement.id,
            item.signer,
            parse_uri(statement.envelope.issuer)[2],
            package.tps,
            package.form,
            package.seq,
            package.supersedes,
            package.captured_at,
            " ".join(package.flags),
            sum(sizes.values()),
            sum(sizes.values()),
            statement.size,
            int(own),
            receipt[0] if receipt else None,
        ),
    )
    await _mark_superseded(db, statement)
    for place, entry in enumerate(package.files):
        await _add_file(db, item, place, entry)
    if package.files:
        await settle(db, sizes)
    else:
        await db.execute(
            "UPDATE bundles SET completed = (SELECT coalesce(max(completed), 0) + 1 FROM bundles) WHERE statement = ?",
            (statement.id,),
        )
    return Outcome.NEW, [(int(Kind.STATEMENT), statement.id, True)] if receipt is None else []


async def _mark_superseded(db: aiosqlite.Connection, statement: Statement) -> None:
    """Mark what this statement supersedes, and itself if it is: by one for the same station and form, no other."""
    package = statement.package
    await db.execute(
        "UPDATE bundles SET superseded = 1 WHERE statement = ? AND tps = ? AND form = ?",
        (package.supersedes, package.tps, package.form),
    )
    await db.execute(
        "UPDATE bundles SET superseded = 1 WHERE statement = ?1 AND EXISTS "
        "(SELECT 1 FROM bundles WHERE supersedes = ?1 AND tps = ?2 AND form = ?3)",
        (statement.id, package.tps, package.form),
    )


async def _add_file(db: aiosqlite.Connection, item: Admitted, place: int, entry: FileEntry) -> None:
    """Keep a file of a statement. Of one object's layouts a few are kept, and one by each signer: who gives two lies
    in one of them, and may not crowd out what others say."""
    await db.execute(
        "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)",
        (item.id, place, entry.sha256, entry.name, entry.media_type, entry.size),
    )
    await db.execute("INSERT OR IGNORE INTO objects VALUES (?, ?, 0)", (entry.sha256, entry.size))
    hashes = b"".join(entry.chunks)
    await db.execute(
        "INSERT OR IGNORE INTO layouts (object, layout, node, size, hashes) SELECT ?1, ?2, ?3, ?4, ?5 "
        "WHERE (SELECT count(*) FROM layouts WHERE object = ?1 AND NOT refuted) < ?6 "
        "AND NOT EXISTS (SELECT 1 FROM layouts WHERE object = ?1 AND node = ?3 AND NOT refuted)",
        (entry.sha256, layout_of(entry.size, hashes), item.signer, entry.size, hashes, MAX_LAYOUTS),
    )


async def _over_quota(db: aiosqlite.Connection, signer: NodeId, size: int, rules: Rules) -> bool:
    row = await _one(
        db, "SELECT count(*), coalesce(sum(weight), 0) FROM bundles WHERE node = ? AND entry IS NULL", signer
    )
    assert row is not None
    return int(row[0]) + 1 > rules.quota_statements or int(row[1]) + size > rules.quota_bytes


async def _insert(db: aiosqlite.Connection, item: Admitted, slot: str | None) -> None:
    await db.execute(
        "INSERT INTO records (id, kind, slot, rank, raw) VALUES (?, ?, ?, ?, ?)",
        (item.id, int(item.kind), slot, min(item.rank, _MAX_RANK), item.raw),
    )


async def _one(db: aiosqlite.Connection, sql: str, *parameters: object) -> Row | None:
    async with db.execute(sql, parameters) as cursor:
        row: Row | None = await cursor.fetchone()
        return row


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
