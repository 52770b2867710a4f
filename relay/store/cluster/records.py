"""Records and bundles in PostgreSQL: adding many at once, receipts, slots, revocations, what became complete.

Functions over one transaction. Receivers work side by side, so rows are locked before what depends on them is read, and
always in the order of their ids: two transactions never wait for each other in a circle, and neither overlooks what
the other does. Guards promises 6 and 7.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.limits import MAX_LAYOUTS
from relay.records.identifiers import HASH_SIZE, Kind, NodeId, ObjectId, StatementId, parse_uri, receipt_id
from relay.records.receipt import Receipt, read_receipt
from relay.records.statement import FileEntry, Statement, read_statement
from relay.store.interface import Outcome, Seen
from relay.store.layouts import layout_name
from relay.store.quota import Quota
from relay.trust.admission import Admitted

_MAX_RANK = (1 << 63) - 1
"""PostgreSQL's largest integer; no tree grows so far that it matters."""
_REHEARSED = 8_192
"""Bytes of a record that is only tried: a page of PostgreSQL's."""
_APART = 0x524C4159_0003
"""Of the advisory lock that keeps receipts and statements apart while they are added."""


@dataclass(slots=True)
class Added:
    """What adding records did: the outcome of each, what others have to load anew, the bundles complete by it."""

    outcomes: list[Outcome]
    seen: Seen = Seen.NOTHING
    completed: list[StatementId] = field(default_factory=list)


async def add(db: Any, items: Sequence[Admitted], own: NodeId | None, quota: Quota | None, now: int) -> Added:
    """Keep admitted records, within the quota where there is one."""
    await _stand_apart(db, items)
    added = Added([Outcome.KNOWN] * len(items))
    known, entries, taken = await _held(db, [one for one in items if isinstance(one.body, Statement)])
    over = _over_quota(items, known, taken, quota) if quota is not None else set()
    fresh: dict[bytes, int] = {}
    for place, item in enumerate(items):
        if item.id in over:
            added.outcomes[place] = Outcome.OVER_QUOTA
        elif isinstance(item.body, Statement | Receipt):
            fresh.setdefault(item.id, place)
        else:
            added.outcomes[place] = await _add_to_slot(db, item)
            if added.outcomes[place] is Outcome.NEW and added.seen is not Seen.RULES:
                added.seen = Seen.RULES if item.kind is Kind.NOTICE else Seen.HEADS
    places = [fresh[one] for one in sorted(fresh)]
    rows = await _insert(db, [items[place] for place in places])
    new = [items[place] for place in sorted(places) if items[place].id in rows]
    for item in new:
        added.outcomes[fresh[item.id]] = Outcome.NEW
    receipts = [one.body for one in new if isinstance(one.body, Receipt)]
    await add_receipts(db, receipts, now)
    entries |= {one.statement: one.entry for one in receipts}
    statements = [(one, one.body) for one in new if isinstance(one.body, Statement)]
    if statements:
        added.completed = await _add_statements(db, statements, entries, own)
    return added


async def rehearse(db: Any) -> None:
    """Do what adding a statement needs, room and a commit that is waited for, and take the record back before that."""
    await db.execute("SAVEPOINT rehearsal")
    await db.execute("INSERT INTO records (id, kind, rank, raw) VALUES ($1, 0, 0, $2)", *_rehearsed())
    await db.execute("ROLLBACK TO rehearsal")


def _rehearsed() -> tuple[bytes, bytes]:
    """The id and bytes of a record that is no record. They do not compress: they take a page."""
    return secrets.token_bytes(HASH_SIZE), secrets.token_bytes(_REHEARSED)


async def add_receipts(db: Any, receipts: Sequence[Receipt], now: int, times: Sequence[int] = ()) -> None:
    """Note which statements have a receipt; since when, where that is not now."""
    if not receipts:
        return
    statements, entries = [one.statement for one in receipts], [one.entry for one in receipts]
    hidden = await db.fetch(
        "SELECT supersedes FROM bundles WHERE statement = ANY($1::bytea[]) AND withheld AND supersedes IS NOT NULL",
        statements,
    )
    await db.execute(
        "UPDATE bundles b SET entry = r.entry, receipt_at = r.time, withheld = false "
        "FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS r (statement, entry, time) "
        "WHERE b.statement = r.statement AND b.entry IS NULL",
        statements,
        entries,
        list(times) or [now] * len(entries),
    )
    if hidden:
        await db.execute(_SUPERSEDED_ANEW, [row[0] for row in hidden])


async def insert_receipts(db: Any, receipts: Sequence[Admitted]) -> bool:
    """Keep receipts of which none may be held already; whether that was so."""
    return len(await _insert(db, sorted(receipts, key=lambda one: one.id))) == len(receipts)


async def withhold(db: Any, revoked: Iterable[NodeId]) -> bool:
    """Hide undelivered statements of these signers, and of these only; whether that changed anything. Lists of chunks
    that theirs kept out come in."""
    rows = await db.fetch(
        "UPDATE bundles SET withheld = (node = ANY($1::bytea[])) "
        "WHERE entry IS NULL AND withheld <> (node = ANY($1::bytea[])) RETURNING node, withheld, supersedes",
        list(revoked),
    )
    if supersedes := [row[2] for row in rows if row[2] is not None]:
        await db.execute(_SUPERSEDED_ANEW, supersedes)
    if hidden := {row[0] for row in rows if row[1]}:
        await _let_others_in(db, sorted(hidden))
    return bool(rows)


async def _let_others_in(db: Any, hidden: Sequence[bytes]) -> None:
    """Where signers that are hidden now took all places for lists of chunks: fill the places anew."""
    for (object_id,) in await db.fetch(_CROWDED, hidden, MAX_LAYOUTS):
        for node, raw in await db.fetch(_NAMING, object_id):
            for entry in read_statement(raw).package.files:
                if entry.sha256 == object_id:
                    await _add_layout(db, NodeId(node), entry)


# What a statement supersedes is superseded by those that are not hidden.
_SUPERSEDED_ANEW = """
    UPDATE bundles b SET superseded = EXISTS (
        SELECT 1 FROM bundles c
        WHERE c.supersedes = b.statement AND c.tps = b.tps AND c.form = b.form AND NOT c.withheld)
    WHERE statement = ANY($1::bytea[])
"""

_CROWDED = """
    SELECT DISTINCT f.object FROM bundles b JOIN files f USING (statement)
    WHERE b.node = ANY($1::bytea[]) AND b.entry IS NULL AND b.withheld
    AND (SELECT count(*) FROM layouts l WHERE l.object = f.object AND NOT l.refuted) >= $2
    ORDER BY f.object
"""

_NAMING = """
    SELECT b.node, r.raw FROM bundles b JOIN records r ON r.id = b.statement
    WHERE b.completed IS NULL AND NOT b.withheld
    AND b.statement IN (SELECT statement FROM files WHERE object = $1) ORDER BY r.number
"""


async def settle(db: Any, objects: Iterable[ObjectId]) -> list[StatementId]:
    """Bring bundles up to date with what is held of these objects; those that became complete.

    The bundles are locked by one command and counted by the next, which sees all that was committed meanwhile: of two
    receivers that bring the last two objects of a bundle, the second one finds it complete.
    """
    named = await db.fetch("SELECT DISTINCT statement FROM files WHERE object = ANY($1::bytea[])", list(objects))
    return await _complete(db, [row[0] for row in named])


async def _complete(db: Any, statements: Sequence[bytes]) -> list[StatementId]:
    if not statements:
        return []
    await db.execute(
        "SELECT 1 FROM bundles WHERE statement = ANY($1::bytea[]) ORDER BY statement FOR UPDATE", statements
    )
    await db.execute(_COUNT_REMAINING, statements)
    return [StatementId(row[0]) for row in await db.fetch(_COMPLETE, statements)]


# An object that is whole with another size than a statement gives is not what was signed: that bundle stays partial.
_COUNT_REMAINING = """
    UPDATE bundles b SET remaining = (
        SELECT coalesce(sum(CASE WHEN o.whole AND o.size = n.size THEN 0 ELSE n.size - coalesce((
            SELECT max(l.held_bytes) FROM layouts l
            WHERE l.object = n.object AND l.size = n.size AND NOT l.refuted), 0) END), 0)
        FROM (SELECT DISTINCT f.object, f.size FROM files f WHERE f.statement = b.statement) n
        JOIN objects o ON o.id = n.object)
    WHERE b.statement = ANY($1::bytea[])
"""


_COMPLETE = """
    UPDATE bundles b SET completed = n.place FROM (
        SELECT due.statement, nextval('completions') AS place FROM (
            SELECT c.statement FROM bundles c JOIN unnest($1::bytea[]) WITH ORDINALITY AS a (statement, place)
                ON a.statement = c.statement
            WHERE c.remaining = 0 AND c.completed IS NULL AND NOT EXISTS (
                SELECT 1 FROM files f JOIN objects o ON o.id = f.object WHERE f.statement = c.statement AND NOT o.whole)
            ORDER BY a.place) due) n
    WHERE b.statement = n.statement RETURNING b.statement
"""
"""In the order in which they were given. That every byte is there is not enough: promise 3 counts objects that are
whole."""


async def _stand_apart(db: Any, items: Sequence[Admitted]) -> None:
    """Wait until whoever adds what these depend on has committed, and keep the others waiting until this is.

    A statement takes its entry from a receipt that is held, a receipt gives it to a statement that is held: of two
    transactions that do so at once, neither would see the other. Statements go side by side: of receipts few come this
    way, and those of the log itself, whose statements are held long since, not at all (`insert_receipts`). One that is
    held changes nothing, and keeps nobody waiting: anybody can bring it again and again.
    """
    receipts = list({item.id for item in items if item.kind is Kind.RECEIPT})
    held = "SELECT count(*) FROM records WHERE id = ANY($1::bytea[])"
    if receipts and await db.fetchval(held, receipts) < len(receipts):
        await db.execute("SELECT pg_advisory_xact_lock($1)", _APART)
    elif any(item.kind is Kind.STATEMENT for item in items):
        await db.execute("SELECT pg_advisory_xact_lock_shared($1)", _APART)


async def _held(
    db: Any, statements: Sequence[Admitted]
) -> tuple[set[bytes], dict[StatementId, int], dict[NodeId, tuple[int, int]]]:
    """Of what is held: the ids of those statements, and the entries of those whose receipts are; and how many
    statements, and how many bytes, of each of their signers."""
    if not statements:
        return set(), {}, {}
    ids = [name for one in statements for name in (one.id, receipt_id(StatementId(one.id)))]
    rows = await db.fetch(_HELD, ids, int(Kind.RECEIPT), list({one.signer for one in statements}))
    held = [row for row in rows if row[2] is None]
    receipts = [read_receipt(row[1]) for row in held if row[1] is not None]
    taken = {NodeId(row[0]): (int(row[2]), int(row[3])) for row in rows if row[2] is not None}
    return {row[0] for row in held}, {one.statement: one.entry for one in receipts}, taken


_HELD = """
    SELECT id, CASE kind WHEN $2 THEN raw END, NULL::bigint, NULL::numeric FROM records WHERE id = ANY($1::bytea[])
    UNION ALL SELECT b.node, NULL, count(*), sum(b.size + octet_length(r.raw))
    FROM bundles b JOIN records r ON r.id = b.statement WHERE b.node = ANY($3::bytea[]) GROUP BY b.node
"""


def _over_quota(
    items: Sequence[Admitted], known: set[bytes], taken: dict[NodeId, tuple[int, int]], quota: Quota
) -> set[bytes]:
    """The statements that would take their signers over the quota, of which so much was `taken`. Receivers that take
    statements of one signer at the same instant may take one batch too many: that fills no disk."""
    statements = {one.id: (one.signer, one.body) for one in items if isinstance(one.body, Statement)}
    over: set[bytes] = set()
    for name, (signer, statement) in statements.items():
        if name in known:
            continue
        count, size = taken.get(signer, (0, 0))
        if quota.holds(count + 1, size + statement.size):
            taken[signer] = count + 1, size + statement.size
        else:
            over.add(name)
    return over


async def _add_to_slot(db: Any, item: Admitted) -> Outcome:
    rank = min(item.rank, _MAX_RANK)
    await db.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", item.slot)
    if await db.fetchval("SELECT 1 FROM records WHERE id = $1", item.id):
        return Outcome.KNOWN
    held = await db.fetchval("SELECT rank FROM records WHERE slot = $1", item.slot)
    if held is not None and held >= rank:
        return Outcome.STALE
    await db.execute("DELETE FROM records WHERE slot = $1", item.slot)
    await db.execute(
        "INSERT INTO records (id, kind, slot, rank, raw) VALUES ($1, $2, $3, $4, $5)",
        item.id,
        int(item.kind),
        item.slot,
        rank,
        item.raw,
    )
    return Outcome.NEW


async def _insert(db: Any, items: Sequence[Admitted]) -> set[bytes]:
    """Insert records without a slot, in the order given; the ids of those that were not held."""
    if not items:
        return set()
    rows = await db.fetch(
        "INSERT INTO records (id, kind, rank, raw) "
        "SELECT * FROM unnest($1::bytea[], $2::smallint[], $3::bigint[], $4::bytea[]) "
        "ON CONFLICT DO NOTHING RETURNING id",
        [one.id for one in items],
        [int(one.kind) for one in items],
        [min(one.rank, _MAX_RANK) for one in items],
        [one.raw for one in items],
    )
    return {row[0] for row in rows}


async def _add_statements(
    db: Any, items: Sequence[tuple[Admitted, Statement]], entries: Mapping[StatementId, int], own: NodeId | None
) -> list[StatementId]:
    ids = [statement.id for _, statement in items]
    packages = [statement.package for _, statement in items]
    sizes = [_sizes(statement) for _, statement in items]
    await db.execute(
        "INSERT INTO bundles (statement, node, device, tps, form, seq, supersedes, captured_at, flags, size, "
        "entry, remaining, own, completed, superseded) SELECT s.statement, s.node, s.device, s.tps, s.form, s.seq, "
        "s.supersedes, s.captured_at, s.flags, s.size, s.entry, s.size, s.node = $13, "
        "CASE WHEN s.alone THEN nextval('completions') END, EXISTS (SELECT 1 FROM bundles c "
        "WHERE c.supersedes = s.statement AND c.tps = s.tps AND c.form = s.form AND NOT c.withheld) "
        "FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], "
        "$8::bigint[], $9::text[], $10::bigint[], $11::bigint[], $12::boolean[]) "
        "AS s (statement, node, device, tps, form, seq, supersedes, captured_at, flags, size, entry, alone)",
        ids,
        [item.signer for item, _ in items],
        [parse_uri(statement.envelope.issuer)[2] for _, statement in items],
        [one.tps for one in packages],
        [one.form for one in packages],
        [one.seq for one in packages],
        [one.supersedes for one in packages],
        [one.captured_at for one in packages],
        [" ".join(one.flags) for one in packages],
        [sum(one.values()) for one in sizes],
        [entries.get(one) for one in ids],
        [not one for one in sizes],
        own or b"",
    )
    await _add_files(db, items)
    # Locked until this is committed: an object that another receiver completes meanwhile is counted by one of us.
    objects = sorted({one for each in sizes for one in each})
    if objects:
        await db.execute("SELECT 1 FROM objects WHERE id = ANY($1::bytea[]) ORDER BY id FOR SHARE", objects)
    await _mark_superseded(db, [statement for _, statement in items])
    completed = set(await _complete(db, [one for one, files in zip(ids, sizes, strict=True) if files]))
    return [one for one, files in zip(ids, sizes, strict=True) if not files or one in completed]


async def _mark_superseded(db: Any, statements: Sequence[Statement]) -> None:
    """Mark what these supersede, of what was held and of themselves: by one for the same station and form, no other.
    Those of them that are superseded by what was held are marked already."""
    correcting = [one for one in statements if one.package.supersedes is not None]
    if correcting:
        await db.execute(
            "UPDATE bundles b SET superseded = true "
            "FROM unnest($1::bytea[], $2::text[], $3::text[]) AS c (statement, tps, form) "
            "WHERE b.statement = c.statement AND b.tps = c.tps AND b.form = c.form",
            [one.package.supersedes for one in correcting],
            [one.package.tps for one in correcting],
            [one.package.form for one in correcting],
        )


async def _add_files(db: Any, items: Sequence[tuple[Admitted, Statement]]) -> None:
    """Keep the files of statements."""
    files = [
        (item, statement.id, place, entry)
        for item, statement in items
        for place, entry in enumerate(statement.package.files)
    ]
    if not files:
        return
    objects = {entry.sha256: entry.size for _, _, _, entry in files}
    await db.execute(
        "INSERT INTO objects SELECT *, false FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT DO NOTHING",
        sorted(objects),
        [objects[one] for one in sorted(objects)],
    )
    # Of `executemany` PostgreSQL waits for the rest without a limit, should this process hang within it.
    await db.execute(
        "INSERT INTO files SELECT * FROM "
        "unnest($1::bytea[], $2::integer[], $3::bytea[], $4::text[], $5::text[], $6::bigint[])",
        [name for _, name, _, _ in files],
        [at for _, _, at, _ in files],
        [entry.sha256 for _, _, _, entry in files],
        [entry.name for _, _, _, entry in files],
        [entry.media_type for _, _, _, entry in files],
        [entry.size for _, _, _, entry in files],
    )
    for item, _, _, entry in sorted(files, key=lambda one: one[3].sha256):
        await _add_layout(db, item.signer, entry)


async def _add_layout(db: Any, signer: NodeId, entry: FileEntry) -> None:
    """Of one object's layouts a few are kept, and one by each signer: who gives two lies in one of them, and may not
    crowd out what others say. Those of signers that are hidden take no place."""
    hashes = b"".join(entry.chunks)
    name = layout_name(entry.size, hashes)
    await db.execute(_INSERT_LAYOUT, entry.sha256, name, signer, entry.size, hashes, MAX_LAYOUTS)


_INSERT_LAYOUT = """
    INSERT INTO layouts (object, layout, node, size, hashes) SELECT $1::bytea, $2, $3::bytea, $4, $5
    WHERE (SELECT count(*) FROM layouts l WHERE l.object = $1 AND NOT l.refuted AND NOT EXISTS (
        SELECT 1 FROM bundles WHERE node = l.node AND withheld AND entry IS NULL)) < $6
    AND NOT EXISTS (SELECT 1 FROM layouts WHERE object = $1 AND node = $3 AND NOT refuted)
    ON CONFLICT DO NOTHING
"""


def _sizes(statement: Statement) -> dict[ObjectId, int]:
    """The objects of a statement, each once, with their sizes."""
    return {entry.sha256: entry.size for entry in statement.package.files}
