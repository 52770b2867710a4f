"""The embedded store: a SQLite catalogue and a folder of objects. Composes the other modules of this room."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from relay.limits import DISK_RESERVE, MAX_FILE, MAX_PEERS, STATEMENTS_MARGIN, STATEMENTS_RESERVE
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId, StatementId, receipt_id
from relay.store import catalogue, entries
from relay.store.ballast import Ballast
from relay.store.catalogue import Change, Rules
from relay.store.content import Content
from relay.store.database import Database
from relay.store.durable import bytes_free
from relay.store.interface import (
    Bundle,
    Cargo,
    Counts,
    Holding,
    LogBatch,
    LogState,
    Outcome,
    PeerNote,
    Seen,
    Want,
)
from relay.store.layoutcache import objects_named
from relay.store.membership import Membership
from relay.store.recordset import RecordSet
from relay.store.room import Room
from relay.store.schema import lost
from relay.store.shelf import FolderShelf
from relay.store.transfers import Transfers
from relay.store.unreadable import UnreadableObjects
from relay.store.upkeep import Upkeep
from relay.trust.admission import Admitted

_VARIABLES = 500
"""Parameters in one query."""
_CARGO = """
    SELECT count(*), count(DISTINCT tps), count(*) FILTER (WHERE completed IS NULL),
        min(captured_at) FILTER (WHERE captured_at BETWEEN ? AND ?)
    FROM bundles WHERE entry IS NULL AND withheld = 0
"""
_MOST_TURNS = 16
"""Statements of one signer on a page of what is to be delivered."""


class SqliteStore:
    """See `relay.store.interface.Store`."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        content: Content,
        rules: Rules,
        storage_limit: int | None,
        clock: Callable[[], float],
        shelf: FolderShelf,
        ballast: Ballast,
        *,
        reading: bool = False,
    ) -> None:
        self._folder = folder
        self._database = database
        self._content = content
        self._rules = rules
        self._storage_limit = storage_limit
        self._clock = clock
        self._shelf = shelf
        self._reading = reading
        self._ballast = ballast
        self._upkeep = Upkeep(database, content, ballast)
        self._unreadable = UnreadableObjects(self._packages_of)
        self._transfers = Transfers(database, content, self._unreadable, keeps_all=rules.keeps_all)
        self._room = Room(self._transfers.least)
        self._membership = Membership(database, rules.left_out)
        self._foreign_changes = -1

    @staticmethod
    async def open(
        folder: Path,
        *,
        own: NodeId | None,
        quota_bytes: int,
        quota_statements: int,
        storage_limit: int | None,
        keeps_all: bool = False,
        clock: Callable[[], float] = time.time,
        public: Path | None = None,
        known: bool = False,
        reading: bool = False,
        looking: bool = False,
        ballast: int = 0,
    ) -> SqliteStore:
        """Open the store in `folder`, making it where there is none, and mend what a crash left. Raises `StoreError`.

        `public` is the folder of published files, beside the store's where nothing else is said. `clock` (seconds since
        1970) only marks when receipts came and files were left behind. Where the store is `known` to have been made, or
        objects lie in it, a catalogue that is gone is an error: an empty one would begin a second history. With
        `reading` nothing is written: for a disk that can only be read. With `looking` the set of all members is left
        unread, and `members` has only what comes later: for who shows what is held and compares it with nobody. Of
        `ballast` so many bytes are taken on where there is room; what is there is given up on a full disk.
        """
        content = Content(folder)
        spare = Ballast(folder, 0 if reading or looking else ballast)
        catalogue_file = folder / "catalogue.db"
        known = known or await asyncio.to_thread(content.holds_any)
        if known and not _has_content(catalogue_file):
            raise lost(catalogue_file)
        try:
            alone = not reading and await asyncio.to_thread(content.prepare)
            if not reading:
                await spare.make_way()
            database = await Database.open(catalogue_file, known=known, reading=reading, large=keeps_all)
            rules = Rules(own, quota_bytes, quota_statements, keeps_all)
            store = SqliteStore(
                folder,
                database,
                content,
                rules,
                storage_limit,
                clock,
                FolderShelf(public or folder.with_name("public")),
                spare,
                reading=reading,
            )
            try:
                if alone and not looking:
                    await asyncio.to_thread(content.sync_names)
                    await store._upkeep.mend()
                    await spare.renew()
                content.share()
                store._foreign_changes = await database.foreign_changes()
                await store._membership.load(empty=looking)
                await store._measure_room()
            except BaseException:
                await database.close()
                raise
        except BaseException:
            content.close()
            raise
        return store

    @property
    def members(self) -> RecordSet:
        """See `Store`."""
        return self._membership.members

    @property
    def shelf(self) -> FolderShelf:
        """See `Store`."""
        return self._shelf

    @property
    def troubles(self) -> Mapping[str, int]:
        """See `Store`. It needs none."""
        return {}

    @property
    def unreadable(self) -> frozenset[ObjectId]:
        """See `Store`."""
        return self._unreadable.objects

    async def reread(self) -> int:
        """See `Store`."""
        return await self._transfers.reread()

    async def leads(self) -> bool:
        """See `Store`. There is one daemon on a folder, which its lock sees to."""
        return True

    @property
    def term(self) -> int:
        """See `Store`."""
        return 1

    async def refresh(self) -> Seen:
        """See `Store`."""
        await self._ballast.renew()
        if self._room.left <= 0:
            await self._measure_room()  # a receiver is asked what it misses, and for nothing that would measure it
        changes = await self._database.foreign_changes()
        if changes == self._foreign_changes:
            return Seen.NOTHING
        self._transfers.forget()
        await self._measure_room()
        await self._membership.follow()
        self._foreign_changes = changes
        return self._membership.heard()

    async def changed(self, seconds: float) -> None:
        """See `Store`. SQLite tells nobody: it has to be asked."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """See `Store`."""
        try:
            await self._transfers.commit()
        finally:
            await self._database.close()
            self._content.close()

    # -- records

    async def add(self, records: Sequence[Admitted], *, made_here: bool = False) -> list[Outcome]:
        """See `Store`."""
        outcomes: list[Outcome] = []
        changes: list[Change] = []
        rules = replace(self._rules, made_here=made_here, has_room=await self._has_room())
        now = int(self._clock())

        def keep(db: sqlite3.Connection) -> int:
            outcomes.clear()
            changes.clear()
            for item in records:
                outcome, changed = catalogue.add(db, item, rules, now)
                outcomes.append(outcome)
                changes.extend(changed)
            return catalogue.journal(db, changes, rules)

        with self._membership.adding(records):
            if all(item.kind is Kind.STATEMENT for item in records):
                serial = await self._database.write(keep)
            else:  # they rule, and free space
                serial = await self._ballast.afloat(lambda: self._database.write(keep))
            self._transfers.named(objects_named(records))
            if any(item.kind is Kind.RECEIPT for item in records):
                self._transfers.forget()  # delivered content is wanted no more
            await self._membership.follow(serial)
        return outcomes

    async def read(self, ids: Sequence[RecordId], limit: int) -> list[tuple[Kind, RecordId, bytes]]:
        """See `Store`."""

        def held(db: sqlite3.Connection) -> list[tuple[Kind, RecordId, bytes]]:
            found: list[tuple[Kind, RecordId, bytes]] = []
            size = 0
            for record in ids:
                row = db.execute("SELECT kind, raw FROM records WHERE id = ?", (record,)).fetchone()
                if row is None:
                    continue
                size += len(row[1])
                if found and size > limit:
                    break
                found.append((Kind(row[0]), record, row[1]))
            return found

        return await self._database.read(held) if ids else []

    async def load(self, kind: Kind) -> list[bytes]:
        """See `Store`."""
        sql = "SELECT raw FROM records WHERE kind = ? AND slot IS NOT NULL ORDER BY number"
        rows = await self._database.rows(sql, (int(kind),))
        return [row[0] for row in rows]

    async def offered(self, ids: Sequence[RecordId]) -> list[RecordId]:
        """See `Store`."""
        held: set[bytes] = set()
        for page in _pages(ids):
            sql = (
                "SELECT r.id FROM records r LEFT JOIN bundles b ON b.statement = r.id "
                f"WHERE r.id IN ({_marks(page)}) AND (r.kind <> ? OR (b.entry IS NULL AND b.withheld = 0))"
            )
            held.update(row[0] for row in await self._database.rows(sql, (*page, int(Kind.STATEMENT))))
        return [one for one in ids if one in held]

    async def receipted(self, ids: Sequence[StatementId]) -> set[StatementId]:
        """See `Store`."""
        return await self._with_receipt(ids)

    async def known_statements(self, ids: Sequence[StatementId]) -> set[StatementId]:
        """See `Store`."""
        known: set[StatementId] = set()
        for page in _pages(ids):
            rows = await self._database.rows(f"SELECT statement FROM bundles WHERE statement IN ({_marks(page)})", page)
            known.update(StatementId(row[0]) for row in rows)
        return known | await self._with_receipt([one for one in ids if one not in known])

    async def _with_receipt(self, statements: Sequence[StatementId]) -> set[StatementId]:
        by_receipt: dict[bytes, StatementId] = {receipt_id(one): one for one in statements}
        found: set[StatementId] = set()
        for page in _pages(list(by_receipt)):
            rows = await self._database.rows(f"SELECT id FROM records WHERE id IN ({_marks(page)})", page)
            found.update(by_receipt[row[0]] for row in rows)
        return found

    async def awaiting_receipt(self, after: bytes, limit: int) -> list[StatementId]:
        """See `Store`."""
        sql = "SELECT statement FROM bundles WHERE entry IS NULL AND withheld = 0 AND statement > ? "
        rows = await self._database.rows(sql + "ORDER BY statement LIMIT ?", (after, max(limit, 0)))
        return [StatementId(row[0]) for row in rows]

    async def to_deliver(self) -> AsyncIterator[list[StatementId]]:
        """See `Store`."""
        for superseded in (0, 1):
            turn, turns = 0, 1
            while rows := await self._database.rows(catalogue.TO_DELIVER, (superseded, turn, turns)):
                yield [StatementId(row[0]) for row in rows]
                turn, turns = turn + turns, min(2 * turns, _MOST_TURNS)

    async def withhold(self, revoked: Iterable[NodeId]) -> int:
        """See `Store`."""
        if not self._reading:
            await self._withhold(set(revoked))
        row = await self._database.row("SELECT count(*) FROM bundles WHERE withheld = 1")
        return int(row[0]) if row else 0

    async def _withhold(self, revoked: set[NodeId]) -> None:
        await self._change(lambda db: catalogue.withhold(db, revoked))

    async def take_back(self, records: Sequence[RecordId]) -> None:
        """See `Store`."""
        await self._change(lambda db: catalogue.take_back(db, records))

    async def _change(self, work: Callable[[sqlite3.Connection], list[Change]]) -> None:
        """Do what rules demand, also on a full disk."""

        def do(db: sqlite3.Connection) -> None:
            catalogue.journal(db, work(db), self._rules)

        await self._ballast.afloat(lambda: self._database.write(do))
        # Whether or not something changed now: who was cancelled here after a commit left this to the next one.
        await self._membership.follow()
        self._transfers.forget()

    # -- bundles

    async def bundles(self) -> list[Bundle]:
        """See `Store`."""
        return await catalogue.bundles(self._database)

    async def bundle(self, statement: StatementId) -> Bundle | None:
        """See `Store`."""
        found = await catalogue.bundles(self._database, "b.statement = ? AND b.withheld = 0", (statement,))
        return found[0] if found else None

    async def bundles_of(self, ids: Sequence[RecordId | ObjectId]) -> AsyncIterator[Bundle]:
        """See `Store`."""
        found: dict[bytes, None] = {}
        for page in _pages(ids):
            for column in ("bundles WHERE statement", "files WHERE object"):
                rows = await self._database.rows(f"SELECT statement FROM {column} IN ({_marks(page)})", page)
                found.update({bytes(row[0]): None for row in rows})
        for page in _pages(list(found)):
            where = f"b.withheld = 0 AND b.statement IN ({_marks(page)})"
            for one in await catalogue.bundles(self._database, where, page):
                yield one

    async def undelivered(self, after: bytes, limit: int) -> list[Bundle]:
        """See `Store`."""
        page = "SELECT statement FROM bundles WHERE entry IS NULL AND statement > ? "
        where = f"b.statement IN ({page} ORDER BY statement LIMIT ?)"
        return sorted(await catalogue.bundles(self._database, where, (after, max(limit, 0))), key=lambda one: one.id)

    async def counts(self) -> Counts:
        """See `Store`."""
        return Counts(**{row[0]: int(row[1]) for row in await self._database.rows("SELECT name, value FROM counters")})

    async def cargo(self, first: int, last: int) -> Cargo:
        """See `Store`."""
        ((packages, stations, partial, oldest),) = await self._database.rows(_CARGO, (first, last))
        return Cargo(packages, stations, partial, oldest)

    async def chain_head(self, node: NodeId, *, made_here: bool = False) -> tuple[int, StatementId] | None:
        """See `Store`."""
        which = f"AND own = {catalogue.MADE_HERE}" if made_here else ""
        sql = f"SELECT seq, statement FROM bundles WHERE node = ? {which} ORDER BY seq DESC LIMIT 1"
        row = await self._database.row(sql, (node,))
        return (int(row[0]), StatementId(row[1])) if row else None

    # -- objects

    async def wants(self, limit: int, skip: frozenset[ObjectId] = frozenset()) -> list[Want]:
        """See `Store`."""
        await self._measure_room()
        wants = await self._transfers.wants(limit, skip) if self._room.left > 0 else []
        await self._transfers.look_up(self._room.listed)
        # From here on no chunk comes in between: what it takes of the room it no longer lacks.
        return self._room.choose(wants, skip, self._transfers.arriving)

    async def missing(self, object_id: ObjectId) -> int:
        """See `Store`."""
        missing = await self._transfers.missing(object_id)
        return missing if missing and self._room.fits(object_id) else 0

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """See `Store`."""
        return await self._transfers.holdings(objects)

    async def read_chunk(self, object_id: ObjectId, index: int, *, doubted: bool = False) -> bytes | None:
        """See `Store`."""
        return await self._transfers.read(object_id, index, doubted=doubted)

    async def stage_chunk(self, object_id: ObjectId, index: int, data: bytes) -> int:
        """See `Store`."""
        await self._transfers.look_up((object_id,))
        if not self._room.take(len(data)):
            return 0
        taken = 0
        try:
            taken = await self._transfers.stage(object_id, index, data)
        finally:
            self._room.give_back(0 if taken else len(data))
        return taken

    async def commit_chunks(self, since: int = 0) -> list[StatementId]:
        """See `Store`."""
        try:
            return await self._transfers.commit(since)
        finally:
            await self._measure_room()

    async def adopt(self, object_id: ObjectId, source: Path) -> bool:
        """See `Store`."""
        row = await self._database.row("SELECT state FROM objects WHERE id = ?", (object_id,))
        if row is not None and row[0] == 1 and object_id not in self._unreadable:
            return False
        copy, size = await asyncio.to_thread(self._content.copy_in, object_id, source, MAX_FILE)
        async with self._database.transaction() as db:
            # The write lock is held while names change, so that nobody deletes what another process brings.
            await asyncio.to_thread(self._content.place_copy, copy, object_id)
            await db.execute(
                "INSERT INTO objects VALUES (?, ?, 1) ON CONFLICT (id) DO UPDATE SET state = 1, size = excluded.size",
                (object_id, size),
            )
            partials = await self._upkeep.drop_partials(db, object_id)
            await db.run(catalogue.settle, [object_id])
        for layout in partials:
            await asyncio.to_thread(self._content.remove_partial, object_id, layout)
        self._transfers.forget()
        self._transfers.is_sound(object_id)
        self._unreadable.forget(object_id)
        return True

    async def object_path(self, object_id: ObjectId) -> Path | None:
        """See `Store`."""
        if object_id in self._unreadable:
            return None
        row = await self._database.row("SELECT 1 FROM objects WHERE id = ? AND state = 1", (object_id,))
        return self._content.path(object_id) if row else None

    async def free(self, objects: Sequence[ObjectId]) -> int:
        """See `Store`."""
        freed = await self._upkeep.free(objects)
        for one in objects:
            self._unreadable.forget(one)
        self._transfers.forget()
        return freed

    def freeable(self, own_before: int) -> AsyncIterator[tuple[StatementId, tuple[ObjectId, ...], int]]:
        """See `Store`."""
        return self._upkeep.freeable(own_before)

    async def date_receipts(self, first: int, last: int, now: int) -> None:
        """See `Store`."""
        await self._upkeep.date_receipts(first, last, now)

    # -- neighbours

    async def note_peer(self, note: PeerNote) -> None:
        """See `Store`."""
        async with self._database.transaction() as db:
            await db.execute(
                "INSERT INTO peers VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node) DO UPDATE SET "
                "name = excluded.name, role = excluded.role, "
                "address = CASE excluded.address WHEN '' THEN address ELSE excluded.address END, "
                "last_seen = excluded.last_seen, bytes_in = bytes_in + excluded.bytes_in, "
                "bytes_out = bytes_out + excluded.bytes_out, connected = excluded.connected",
                (
                    note.node,
                    note.name,
                    note.role,
                    note.address,
                    note.last_seen,
                    note.bytes_in,
                    note.bytes_out,
                    int(note.connected),
                ),
            )

    async def peers(self) -> list[PeerNote]:
        """See `Store`."""
        rows = await self._database.rows("SELECT * FROM peers ORDER BY last_seen DESC LIMIT ?", (MAX_PEERS,))
        return [PeerNote(NodeId(row[0]), row[1], row[2], row[3], row[4], row[5], row[6], bool(row[7])) for row in rows]

    async def set_note(self, key: str, value: str) -> None:
        """See `Store`."""
        if self._reading:
            return  # an alarm that was raised while looking: it is in the log, and is raised again
        sql = "INSERT OR REPLACE INTO notes VALUES (?, ?)"  # alarms, and whose receipts count: as good as a rule
        await self._ballast.afloat(lambda: self._database.write(lambda db: db.execute(sql, (key, value)).close()))

    async def notes(self) -> dict[str, str]:
        """See `Store`."""
        return {row[0]: row[1] for row in await self._database.rows("SELECT key, value FROM notes")}

    # -- the receiver's log

    async def finish(self) -> list[StatementId]:
        """See `Store`. A commit completes what it fills."""
        return []

    async def unlogged(self, limit: int) -> list[tuple[StatementId, bytes]]:
        """See `Store`."""
        while True:
            unreadable = list(self._unreadable.objects)
            found = await self._database.read(lambda db: catalogue.unlogged(db, limit, unreadable))  # noqa: B023
            named = await self._database.read(lambda db: catalogue.objects_of(db, (one for one, _ in found)))  # noqa: B023
            # What came by this process was read as it came; what an earlier one left is not known to be there still.
            if await self._transfers.look_through(named):
                return found

    async def log_state(self) -> LogState:
        """See `Store`."""
        row = await self._database.row("SELECT size, frontier, checkpoint FROM log_state")
        return LogState(*row) if row else LogState(0, b"", b"")

    async def log_edge(self) -> bytes:
        """See `Store`. The shelf is a folder beside this one, which has it."""
        return b""

    async def append(self, batch: LogBatch) -> None:
        """See `Store`."""
        now = int(self._clock())
        await self._membership.follow(
            await self._database.write(lambda db: entries.append(db, batch, self._rules, now))
        )

    async def log_statements(self, first: int, count: int) -> list[bytes]:
        """See `Store`."""
        rows = await self._database.rows(
            "SELECT raw FROM log JOIN records ON id = statement WHERE entry >= ? ORDER BY entry LIMIT ?",
            (first, max(count, 0)),
        )
        return [row[0] for row in rows]

    async def log_times(self, first: int, count: int) -> list[int]:
        """See `Store`."""
        rows = await self._database.rows(
            "SELECT receipt_at FROM log JOIN bundles USING (statement) WHERE log.entry >= ? ORDER BY log.entry LIMIT ?",
            (first, max(count, 0)),
        )
        return [row[0] for row in rows]

    # -- within

    async def _packages_of(self, object_id: ObjectId) -> str:
        """The packages that have an object, for people: the first few of them."""
        rows = await self._database.rows(
            "SELECT DISTINCT statement, tps, form FROM files JOIN bundles USING (statement) WHERE object = ? LIMIT 3",
            (object_id,),
        )
        return ", ".join(f"{bytes(row[0]).hex()[:16]} ({row[1]}, {row[2]})" for row in rows) or "none"

    async def _has_room(self) -> bool:
        """Whether others' statements are taken. Content stops earlier (`wants`): they are small, and go on travelling
        for a while."""
        if bytes_free(self._folder) < STATEMENTS_RESERVE:
            return False
        limit = self._storage_limit
        return limit is None or self._rules.keeps_all or await self._bytes_held() < limit + STATEMENTS_MARGIN

    async def _bytes_held(self) -> int:
        row = await self._database.row("SELECT value FROM counters WHERE name = 'bytes_held'")
        return int(row[0]) if row else 0

    async def _measure_room(self) -> None:
        """See how many bytes of content of others may still come, by the limit and by the disk. Chunks count from then
        on: whoever brings what was not asked for fills no disk either (promise 2)."""
        held = await self._bytes_held() if self._storage_limit is not None else 0
        coming = self._transfers.coming.total()
        room = bytes_free(self._folder) - DISK_RESERVE - coming
        if self._storage_limit is not None:
            left = self._storage_limit - held - coming - self._transfers.uncommitted
            # What a commit is at may have been counted twice. Then what was known before is no less true.
            room = min(room, left + self._transfers.settling, max(left, self._room.left))
        self._room.left = room


def _pages(ids: Sequence[bytes]) -> Iterator[tuple[bytes, ...]]:
    """As many at a time as one query takes."""
    return (tuple(ids[start : start + _VARIABLES]) for start in range(0, len(ids), _VARIABLES))


def _marks(page: Sequence[bytes]) -> str:
    return ",".join("?" * len(page))


def _has_content(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False
