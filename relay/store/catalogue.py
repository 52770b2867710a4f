"""Records and bundles in the catalogue: adding, receipts, slots, quotas, the reconciliation set.

Functions over one transaction, in the thread of its connection, or over the reading side; each says what it changes in
the journal, from which the set of members is kept. Guards promises 6 and 7: one receipt per statement, and no statement
is ever replaced.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from relay.limits import MAX_LAYOUTS, UNCLAIMED_RECEIPTS
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId, StatementId, parse_uri, receipt_id
from relay.records.receipt import Receipt, read_receipt
from relay.records.statement import FileEntry, Statement, read_statement
from relay.store import listing
from relay.store.database import Database, Row
from relay.store.interface import Bundle, Outcome
from relay.store.layouts import layout_name
from relay.trust.admission import Admitted

_MAX_RANK = (1 << 63) - 1
"""SQLite's largest integer; no tree grows so far that it matters."""

_NEXT = "(SELECT coalesce(max(completed), 0) + 1 FROM bundles)"
"""The next place in the order in which bundles become complete."""

Change = tuple[int, bytes, bool]
"""A change of the reconciliation set: kind, id, whether it is in the set now."""


MADE_HERE, IN_ITS_NAME = 1, 2
"""Of bundles that this node's key signed: made here, or brought by others. Others may have a copy of the key."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a store of this node keeps: quotas per signer (of others), its own node, and whether it keeps everything.

    A store that keeps everything counts all statements of a signer, others those without receipt.
    """

    own: NodeId | None
    quota_bytes: int
    quota_statements: int
    keeps_all: bool
    made_here: bool = False
    """Whether this node made just now what it is to keep: that has no quota."""
    has_room: bool = True
    """Whether there is room for what others made, and for receipts of what is not here."""

    @property
    def left_out(self) -> Kind | None:
        """The kind of record that no set of members has here: nobody reconciles statements with a store that keeps
        everything."""
        return Kind.STATEMENT if self.keeps_all else None


def add(db: sqlite3.Connection, item: Admitted, rules: Rules, now: int) -> tuple[Outcome, list[Change]]:
    """Keep one admitted record within a transaction."""
    if _one(db, "SELECT 1 FROM records WHERE id = ?", item.id):
        return Outcome.KNOWN, []
    match item.body:
        case Statement() as statement:
            return _add_statement(db, item, statement, rules)
        case Receipt() as receipt:
            return _add_receipt(db, item, receipt, rules, now)
        case _:
            return _add_to_slot(db, item)


def journal(db: sqlite3.Connection, changes: Iterable[Change], rules: Rules) -> int:
    """Note changes of the reconciliation set, for this process and others; the serial number of the newest one."""
    db.executemany(
        "INSERT OR REPLACE INTO journal (kind, id, present) VALUES (?, ?, ?)",
        [(kind, record, int(present)) for kind, record, present in changes if kind != rules.left_out],
    )
    newest = _one(db, "SELECT coalesce(max(serial), 0) FROM journal")
    return int(newest[0]) if newest else 0


def withhold(db: sqlite3.Connection, revoked: set[NodeId]) -> list[Change]:
    """Hide undelivered statements of these signers, and of these only. Lists of chunks that theirs kept out come in."""
    changes: list[Change] = []
    signers = db.execute("SELECT DISTINCT node, withheld FROM bundles WHERE entry IS NULL").fetchall()
    for node, hidden in ((NodeId(row[0]), bool(row[1])) for row in signers):
        if hidden == (node in revoked):
            continue
        rows = db.execute(
            "UPDATE bundles SET withheld = ? WHERE node = ? AND entry IS NULL RETURNING statement",
            (int(not hidden), node),
        ).fetchall()
        changes += [(int(Kind.STATEMENT), bytes(row[0]), hidden) for row in rows]
        for (statement,) in rows:
            db.execute(_SUPERSEDED_ANEW, (statement,))
        if not hidden:
            _let_others_in(db, node)
    return changes


# What a statement supersedes is superseded by those that are not hidden.
_SUPERSEDED_ANEW = """
    UPDATE bundles SET superseded = EXISTS (
        SELECT 1 FROM bundles c
        WHERE c.supersedes = bundles.statement AND c.tps = bundles.tps AND c.form = bundles.form AND c.withheld = 0)
    WHERE statement = (SELECT supersedes FROM bundles WHERE statement = ?)
"""


def _let_others_in(db: sqlite3.Connection, hidden: NodeId) -> None:
    """Where a signer that is hidden now, and others, took all places for lists of chunks: fill the places anew."""
    crowded = db.execute(
        "SELECT DISTINCT f.object FROM bundles b JOIN files f USING (statement) "
        "WHERE b.node = ? AND b.entry IS NULL AND b.withheld = 1 AND "
        "(SELECT count(*) FROM layouts l WHERE l.object = f.object AND NOT l.refuted) >= ?",
        (hidden, MAX_LAYOUTS),
    ).fetchall()
    for (object_id,) in crowded:
        rows = db.execute(
            "SELECT DISTINCT b.number, b.node, r.raw FROM files f JOIN bundles b USING (statement) "
            "JOIN records r ON r.id = b.statement "
            "WHERE f.object = ? AND b.completed IS NULL AND b.withheld = 0 ORDER BY b.number",
            (object_id,),
        )
        for _, node, raw in rows:
            for entry in read_statement(raw).package.files:
                if entry.sha256 == object_id:
                    _add_layout(db, NodeId(node), entry)


def take_back(db: sqlite3.Connection, records: Sequence[RecordId]) -> list[Change]:
    """Let go of receipts and checkpoints; what those receipts delivered is undelivered again."""
    changes: list[Change] = []
    for record in records:
        held = _one(db, "SELECT kind, raw FROM records WHERE id = ?", record)
        if held is None or held[0] not in (Kind.RECEIPT, Kind.CHECKPOINT):
            continue
        db.execute("DELETE FROM records WHERE id = ?", (record,))
        changes.append((held[0], record, False))
        if held[0] == Kind.RECEIPT:
            db.execute("DELETE FROM unclaimed WHERE receipt = ?", (record,))
            statement = read_receipt(held[1]).statement
            updated = db.execute(
                "UPDATE bundles SET entry = NULL, receipt_at = NULL, "
                "completed = CASE WHEN remaining = 0 THEN completed END WHERE statement = ?",
                (statement,),
            )
            if updated.rowcount:
                changes.append((int(Kind.STATEMENT), statement, True))
    return changes


def settle(db: sqlite3.Connection, objects: Iterable[ObjectId]) -> list[StatementId]:
    """Bring bundles up to date with what is held of these objects; those that became complete, in order."""
    statements: dict[bytes, None] = {}
    for object_id in objects:
        rows = db.execute("SELECT statement FROM files WHERE object = ?", (object_id,))
        statements.update({bytes(row[0]): None for row in rows})
    completed: list[StatementId] = []
    for statement in statements:
        db.execute("UPDATE bundles SET remaining = (" + _REMAINING + ") WHERE statement = ?", (statement,) * 2)
        rows = db.execute(
            f"UPDATE bundles SET completed = {_NEXT} "
            "WHERE statement = ? AND remaining = 0 AND completed IS NULL RETURNING statement",
            (statement,),
        )
        completed += [StatementId(row[0]) for row in rows.fetchall()]
    return completed


def unlogged(db: sqlite3.Connection, limit: int, unreadable: Sequence[ObjectId]) -> list[tuple[StatementId, bytes]]:
    """Complete statements that have no entry, in the order of completion, with their bytes: none that names an object
    which cannot be read. A receipt for it would have every other copy freed (promise 4)."""
    waiting: set[bytes] = set()
    for object_id in unreadable:
        waiting.update(row[0] for row in db.execute("SELECT statement FROM files WHERE object = ?", (object_id,)))
    rows = db.execute(
        "SELECT b.statement, r.raw FROM bundles b JOIN records r ON r.id = b.statement "
        "WHERE b.completed IS NOT NULL AND b.entry IS NULL AND b.withheld = 0 ORDER BY b.completed LIMIT ?",
        (max(limit, 0) + len(waiting),),
    )
    found = ((StatementId(row[0]), row[1]) for row in rows if row[0] not in waiting)
    return list(islice(found, max(limit, 0)))


def objects_of(db: sqlite3.Connection, statements: Iterable[StatementId]) -> list[ObjectId]:
    """The objects that these statements name, each once."""
    sql = "SELECT object FROM files WHERE statement = ?"
    return list(dict.fromkeys(ObjectId(row[0]) for one in statements for row in db.execute(sql, (one,))))


# Signers are found by leaping over the index, and of each only the bundles whose turn it is, however many wait.
TO_DELIVER = """
    WITH RECURSIVE signers (node) AS (
        SELECT min(node) FROM bundles INDEXED BY bundles_underway WHERE entry IS NULL
        UNION ALL SELECT (
            SELECT min(node) FROM bundles INDEXED BY bundles_underway WHERE entry IS NULL AND node > s.node)
        FROM signers s WHERE s.node IS NOT NULL),
    due AS (
        SELECT d.statement, row_number() OVER (PARTITION BY d.node ORDER BY d.weight, d.number) AS turn
        FROM signers s CROSS JOIN bundles d ON d.number IN (
            SELECT b.number FROM bundles b INDEXED BY bundles_underway
            WHERE b.entry IS NULL AND b.withheld = 0 AND b.superseded = ?1 AND b.node = s.node
            ORDER BY b.weight, b.number LIMIT ?3 OFFSET ?2)
        WHERE s.node IS NOT NULL)
    SELECT statement FROM due ORDER BY turn, statement
"""


async def bundles(database: Database, where: str = "b.withheld = 0", parameters: Sequence[object] = ()) -> list[Bundle]:
    """Bundles with their files, ordered by station, form, device and sequence."""
    return await listing.gather(database.stream(f"{listing.SELECT} WHERE {where} {listing.ORDER}", parameters))


# An object that is whole with another size than a statement gives is not what was signed: that bundle stays partial.
_REMAINING = """
    SELECT coalesce(sum(CASE WHEN whole THEN 0 ELSE size - held END), 0) FROM (
        SELECT f.size, o.state = 1 AND o.size = f.size AS whole, coalesce((
            SELECT max(held_bytes) FROM layouts l WHERE l.object = o.id AND l.size = f.size AND NOT refuted), 0) AS held
        FROM files f JOIN objects o ON o.id = f.object WHERE f.statement = ? GROUP BY o.id, f.size)
"""


def _add_to_slot(db: sqlite3.Connection, item: Admitted) -> tuple[Outcome, list[Change]]:
    changes: list[Change] = [(int(item.kind), item.id, True)]
    held = _one(db, "SELECT id, rank FROM records WHERE slot = ?", item.slot)
    if held is not None:
        if held[1] >= min(item.rank, _MAX_RANK):
            return Outcome.STALE, []
        db.execute("DELETE FROM records WHERE id = ?", (held[0],))
        changes.insert(0, (int(item.kind), bytes(held[0]), False))
    _insert(db, item, item.slot)
    return Outcome.NEW, changes


def _add_receipt(
    db: sqlite3.Connection, item: Admitted, receipt: Receipt, rules: Rules, now: int
) -> tuple[Outcome, list[Change]]:
    if not rules.keeps_all and not _one(db, "SELECT 1 FROM bundles WHERE statement = ?", receipt.statement):
        if _unclaimed(db, item.signer) >= UNCLAIMED_RECEIPTS:
            return Outcome.OVER_QUOTA, []
        if not rules.has_room:
            return Outcome.NO_ROOM, []
        db.execute("INSERT INTO unclaimed VALUES (?, ?)", (item.id, item.signer))
    _insert(db, item, None)
    changes: list[Change] = [(int(Kind.RECEIPT), item.id, True)]
    updated = db.execute(
        "UPDATE bundles SET entry = ?, receipt_at = ?, withheld = 0 WHERE statement = ?",
        (receipt.entry, now, receipt.statement),
    )
    if updated.rowcount:
        changes.append((int(Kind.STATEMENT), receipt.statement, False))
        db.execute(_SUPERSEDED_ANEW, (receipt.statement,))  # its signer may have been hidden
    return Outcome.NEW, changes


def _unclaimed(db: sqlite3.Connection, signer: NodeId) -> int:
    """Receipts of a receiver for statements that are not held: it may have invented them."""
    row = _one(db, "SELECT receipts FROM unclaimed_counts WHERE node = ?", signer)
    return int(row[0]) if row else 0


def _add_statement(
    db: sqlite3.Connection, item: Admitted, statement: Statement, rules: Rules
) -> tuple[Outcome, list[Change]]:
    own = 0 if item.signer != rules.own else MADE_HERE if rules.made_here else IN_ITS_NAME
    receipt = _one(db, "SELECT raw FROM records WHERE id = ?", receipt_id(statement.id))
    if receipt is not None and not own and not rules.keeps_all:
        return Outcome.KNOWN, []
    if not rules.has_room and not rules.made_here:
        return Outcome.NO_ROOM, []
    if receipt is None and not rules.made_here and _over_quota(db, item.signer, statement.size, rules):
        return Outcome.OVER_QUOTA, []
    _insert(db, item, None)
    if receipt is not None:
        db.execute("DELETE FROM unclaimed WHERE receipt = ?", (receipt_id(statement.id),))
    package = statement.package
    sizes = {entry.sha256: entry.size for entry in package.files}
    db.execute(
        "INSERT INTO bundles (statement, node, device, tps, form, seq, supersedes, captured_at, flags, size, "
        "remaining, weight, own, entry, completed) "
        f"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {'NULL' if package.files else _NEXT})",
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
            own,
            read_receipt(receipt[0]).entry if receipt else None,
        ),
    )
    _mark_superseded(db, statement)
    for place, entry in enumerate(package.files):
        _add_file(db, item, place, entry)
    if package.files:
        settle(db, sizes)
    return Outcome.NEW, [(int(Kind.STATEMENT), statement.id, True)] if receipt is None else []


def _mark_superseded(db: sqlite3.Connection, statement: Statement) -> None:
    """Mark what this statement supersedes, and itself if it is: by one for the same station and form, no other."""
    package = statement.package
    if package.supersedes is not None:
        db.execute(
            "UPDATE bundles SET superseded = 1 WHERE statement = ? AND tps = ? AND form = ?",
            (package.supersedes, package.tps, package.form),
        )
    db.execute(
        "UPDATE bundles SET superseded = 1 WHERE statement = ?1 AND EXISTS "
        "(SELECT 1 FROM bundles WHERE supersedes = ?1 AND tps = ?2 AND form = ?3 AND withheld = 0)",
        (statement.id, package.tps, package.form),
    )


def _add_file(db: sqlite3.Connection, item: Admitted, place: int, entry: FileEntry) -> None:
    """Keep a file of a statement."""
    db.execute(
        "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)",
        (item.id, place, entry.sha256, entry.name, entry.media_type, entry.size),
    )
    db.execute("INSERT OR IGNORE INTO objects VALUES (?, ?, 0)", (entry.sha256, entry.size))
    _add_layout(db, item.signer, entry)


def _add_layout(db: sqlite3.Connection, signer: NodeId, entry: FileEntry) -> None:
    """Of one object's layouts a few are kept, and one by each signer: who gives two lies in one of them, and may not
    crowd out what others say. Those of signers that are hidden take no place."""
    hashes = b"".join(entry.chunks)
    db.execute(
        "INSERT OR IGNORE INTO layouts (object, layout, node, size, hashes) SELECT ?1, ?2, ?3, ?4, ?5 "
        "WHERE (SELECT count(*) FROM layouts l WHERE l.object = ?1 AND NOT l.refuted AND NOT EXISTS "
        "(SELECT 1 FROM bundles WHERE node = l.node AND withheld = 1 AND entry IS NULL)) < ?6 "
        "AND NOT EXISTS (SELECT 1 FROM layouts WHERE object = ?1 AND node = ?3 AND NOT refuted)",
        (entry.sha256, layout_name(entry.size, hashes), signer, entry.size, hashes, MAX_LAYOUTS),
    )


def _over_quota(db: sqlite3.Connection, signer: NodeId, size: int, rules: Rules) -> bool:
    counted = "node = ?" if rules.keeps_all else "node = ? AND entry IS NULL"
    row = _one(db, f"SELECT count(*), coalesce(sum(weight), 0) FROM bundles WHERE {counted}", signer)
    assert row is not None
    return int(row[0]) + 1 > rules.quota_statements or int(row[1]) + size > rules.quota_bytes


def _insert(db: sqlite3.Connection, item: Admitted, slot: str | None) -> None:
    db.execute(
        "INSERT INTO records (id, kind, slot, rank, raw) VALUES (?, ?, ?, ?, ?)",
        (item.id, int(item.kind), slot, min(item.rank, _MAX_RANK), item.raw),
    )


def _one(db: sqlite3.Connection, sql: str, *parameters: object) -> Row | None:
    row: Row | None = db.execute(sql, parameters).fetchone()
    return row
