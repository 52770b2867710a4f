"""The cluster's store: PostgreSQL and a bucket, put together. Composes the other modules of this package.

A receiver's store and no other node's: it keeps everything that is within its signers' quotas, and frees nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from relay.clock import steady
from relay.errors import Malformed, StoreError, Unreadable
from relay.limits import (
    CONNECT_SECONDS,
    COUNTED_AT_ONCE,
    COUNTS_SECONDS,
    LOCK_SECONDS,
    LOG_LOCK_SECONDS,
    MAX_FILE,
    MAX_IDS,
    MAX_PEERS,
)
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId, StatementId, receipt_id, sha256
from relay.records.receipt import Receipt
from relay.store import listing
from relay.store.cluster import records
from relay.store.cluster.bond import Bond, WrongBucket
from relay.store.cluster.bucket import Bucket, BucketShelf
from relay.store.cluster.cache import Cache
from relay.store.cluster.database import Database
from relay.store.cluster.sharing import Shared
from relay.store.cluster.transfers import Transfers, object_path
from relay.store.cluster.watch import Watch
from relay.store.durable import reading
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
from relay.store.quota import QUOTA_AT_RECEIVER, Quota
from relay.store.recordset import RecordSet
from relay.trust.admission import Admitted

logger = logging.getLogger(__name__)

_WAIT_FOR_LOCKS = "SELECT set_config('lock_timeout', $1, true)"
"""How long this transaction waits for a lock from now on."""
_KEPT = "A receiver keeps everything: nothing is freed from a cluster's store"


class ClusterStore:
    """See `relay.store.interface.Store`. `members` has notices and checkpoints only."""

    def __init__(
        self,
        database: Database,
        bucket: Bucket,
        watch: Watch,
        own: NodeId | None,
        quota: Quota,
        cache: Path,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._bucket = bucket
        self._watch = watch
        self._own = own
        self._quota = quota
        self._cache = Cache(cache, self._fetch)
        self._clock = clock
        self._transfers = Transfers(database, bucket)
        self._adds: Shared[Admitted, Outcome] = Shared(lambda records_: self._add(records_, quota), MAX_IDS, apart=True)
        self._receipted: Shared[StatementId, bool] = Shared(self._have_receipts, MAX_IDS)
        """Whoever waits for a receipt looks for it when the log has grown: all at the same moment."""
        self._shelf = BucketShelf(bucket, watch.may_publish)
        self._members = RecordSet()
        self._summed, self._summed_until = (0, 0), 0.0
        self._lost: set[ObjectId] = set()
        """Objects that the bucket does not have, as far as this process asked for them."""

    @staticmethod
    async def open(
        url: str,
        bucket: Bucket,
        cache: Path,
        *,
        own: NodeId | None,
        quota: Quota = QUOTA_AT_RECEIVER,
        clock: Callable[[], float] = time.time,
        lease: Callable[[], float] = steady,
    ) -> ClusterStore:
        """Open the store of the database at `url` and `bucket`; make it where there is none. Raises `StoreError`, also
        where the two do not belong together; a bucket that is away is asked when it is used.

        `cache` is a folder for copies of content. `clock` (seconds since 1970) only marks when receipts came; by
        `lease` who leads sees how long he was silent, also for having slept.
        """
        database = await Database.open(url)
        store = ClusterStore(database, bucket, Watch(url, lease), own, quota, cache, clock)
        bond = Bond(database, bucket)
        bucket.ask_first(bond.check)
        try:
            await _ask_now(bond)
            await store._load_members()
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def members(self) -> RecordSet:
        """See `Store`."""
        return self._members

    @property
    def shelf(self) -> BucketShelf:
        """See `Store`."""
        return self._shelf

    @property
    def troubles(self) -> Mapping[str, int]:
        """See `Store`."""
        return {"database": self._database.failures, "bucket": self._bucket.failures}

    @property
    def unreadable(self) -> frozenset[ObjectId]:
        """See `Store`. A bucket is there or away as a whole, and what is away is the store's trouble: this is what it
        was asked for, answered, and does not have. It comes back where it is restored or imported (`adopt`)."""
        return frozenset(self._lost)

    async def reread(self) -> int:
        """See `Store`."""
        again = 0
        for object_id in self.unreadable:
            with suppress(Unreadable):
                await self._fetch(object_id)
                again += 1
        return again

    async def leads(self) -> bool:
        """See `Store`."""
        return await self._watch.leads()

    @property
    def term(self) -> int:
        """See `Store`."""
        return self._watch.term

    async def refresh(self) -> Seen:
        """See `Store`."""
        seen = self._watch.heard()
        if seen is not Seen.NOTHING:
            self._transfers.forget()
        if seen in (Seen.HEADS, Seen.RULES):
            try:
                await self._load_members()
            except BaseException:
                self._watch.note(seen)
                raise
        return seen

    async def changed(self, seconds: float) -> None:
        """See `Store`."""
        await self._watch.changed(seconds)

    async def close(self) -> None:
        """See `Store`."""
        try:
            await self._adds.finish()
            await self._receipted.finish()
            await self._cache.close()
            await self._transfers.commit()
        finally:
            await self._watch.close()
            await self._database.close()

    # -- records

    async def add(self, records_: Sequence[Admitted], *, made_here: bool = False) -> list[Outcome]:
        """See `Store`."""
        if not made_here and all(one.kind is Kind.STATEMENT for one in records_):
            return await self._adds.join(records_)
        return await self._add(records_, None if made_here else self._quota)

    async def _add(self, records_: Sequence[Admitted], quota: Quota | None) -> list[Outcome]:
        async def work(db: Any) -> records.Added:
            added = await records.add(db, records_, self._own, quota, int(self._clock()))
            if added.seen is not Seen.NOTHING or added.completed:
                await self._watch.tell(db, Seen.NEWS if added.seen is Seen.NOTHING else added.seen)
            return added

        added = await self._database.commit(work)
        self._transfers.named(objects_named(records_))
        if added.seen is not Seen.NOTHING:
            await self._load_members()
        return added.outcomes

    async def read(self, ids: Sequence[RecordId], limit: int) -> list[tuple[Kind, RecordId, bytes]]:
        """See `Store`."""
        rows = await self._database.rows(_READ, list(ids), limit) if ids else []
        return [(Kind(row[0]), RecordId(row[1]), row[2]) for row in rows]

    async def load(self, kind: Kind) -> list[bytes]:
        """See `Store`."""
        sql = "SELECT raw FROM records WHERE kind = $1 AND slot IS NOT NULL ORDER BY number"
        return [row[0] for row in await self._database.rows(sql, int(kind))]

    async def offered(self, ids: Sequence[RecordId]) -> list[RecordId]:
        """See `Store`."""
        sql = (
            "SELECT r.id FROM records r LEFT JOIN bundles b ON b.statement = r.id WHERE r.id = ANY($1::bytea[]) "
            "AND (r.kind <> $2 OR (b.entry IS NULL AND NOT b.withheld))"
        )
        held = {row[0] for row in await self._database.rows(sql, list(ids), int(Kind.STATEMENT))}
        return [one for one in ids if one in held]

    async def receipted(self, ids: Sequence[StatementId]) -> set[StatementId]:
        """See `Store`."""
        found = await self._receipted.join(ids) if ids else []
        return {one for one, has in zip(ids, found, strict=True) if has}

    async def _have_receipts(self, ids: Sequence[StatementId]) -> list[bool]:
        receipts = [receipt_id(one) for one in ids]
        rows = await self._database.rows("SELECT id FROM records WHERE id = ANY($1::bytea[])", receipts)
        held = {row[0] for row in rows}
        return [one in held for one in receipts]

    async def known_statements(self, ids: Sequence[StatementId]) -> set[StatementId]:
        """See `Store`."""
        by_receipt: dict[bytes, StatementId] = {receipt_id(one): one for one in ids}
        sql = "SELECT statement FROM bundles WHERE statement = ANY($1::bytea[]) "
        sql += "UNION ALL SELECT id FROM records WHERE id = ANY($2::bytea[])"
        rows = await self._database.rows(sql, list(ids), list(by_receipt))
        return {by_receipt.get(row[0], StatementId(row[0])) for row in rows}

    async def awaiting_receipt(self, after: bytes, limit: int) -> list[StatementId]:
        """See `Store`."""
        sql = "SELECT statement FROM bundles WHERE entry IS NULL AND NOT withheld AND statement > $1 "
        sql += "ORDER BY statement LIMIT $2"
        return [StatementId(row[0]) for row in await self._database.rows(sql, after, max(limit, 0))]

    async def to_deliver(self) -> AsyncIterator[list[StatementId]]:
        """See `Store`. A receiver delivers to nobody: this is one page."""
        turn = "row_number() OVER (PARTITION BY superseded, node ORDER BY size, statement)"
        sql = "SELECT statement FROM bundles WHERE entry IS NULL AND NOT withheld "
        sql += f"ORDER BY superseded, {turn}, statement"
        yield [StatementId(row[0]) for row in await self._database.rows(sql)]

    async def withhold(self, revoked: Iterable[NodeId]) -> int:
        """See `Store`."""
        signers = list(revoked)

        async def work(db: Any) -> None:
            if await records.withhold(db, signers):
                await self._watch.tell(db, Seen.NEWS)

        await self._database.commit(work)
        self._transfers.forget()
        row = await self._database.row("SELECT count(*) FROM bundles WHERE entry IS NULL AND withheld")
        return int(row[0])

    async def take_back(self, records: Sequence[RecordId]) -> None:
        """See `Store`. Receipts are this log's own here: of checkpoints alone there are others'."""

        sql = "DELETE FROM records WHERE id = ANY($1::bytea[]) AND kind = $2 RETURNING 1"

        async def work(db: Any) -> bool:
            gone = await db.fetch(sql, list(records), int(Kind.CHECKPOINT))
            if gone:
                await self._watch.tell(db, Seen.HEADS)
            return bool(gone)

        if await self._database.commit(work):
            await self._load_members()

    # -- bundles

    async def bundles(self) -> list[Bundle]:
        """See `Store`."""
        sql = f"{listing.SELECT} WHERE NOT b.withheld {listing.ORDER}"
        return await listing.gather(self._database.stream(sql))

    async def bundle(self, statement: StatementId) -> Bundle | None:
        """See `Store`."""
        sql = f"{listing.SELECT} WHERE b.statement = $1 AND NOT b.withheld {listing.ORDER}"
        found = await listing.gather(self._database.stream(sql, statement))
        return found[0] if found else None

    async def bundles_of(self, ids: Sequence[RecordId | ObjectId]) -> AsyncIterator[Bundle]:
        """See `Store`. A receiver hands nothing over: this is one page."""
        named = "SELECT statement FROM files WHERE object = ANY($1::bytea[])"
        where = f"NOT b.withheld AND (b.statement = ANY($1::bytea[]) OR b.statement IN ({named}))"
        sql = f"{listing.SELECT} WHERE {where} {listing.ORDER}"
        for one in await listing.gather(self._database.stream(sql, list(ids))):
            yield one

    async def undelivered(self, after: bytes, limit: int) -> list[Bundle]:
        """See `Store`."""
        page = "SELECT statement FROM bundles WHERE entry IS NULL AND statement > $1"
        sql = f"{listing.SELECT} WHERE b.statement IN ({page} ORDER BY statement LIMIT $2) {listing.ORDER}"
        found = await listing.gather(self._database.stream(sql, after, max(limit, 0)))
        return sorted(found, key=lambda one: one.id)

    async def counts(self) -> Counts:
        """See `Store`."""
        delivered, size = await self._sums()
        row = await self._database.row(_UNDER_WAY)
        return Counts(int(row[0]), int(row[1]), delivered, size + int(row[2]))

    async def _sums(self) -> tuple[int, int]:
        """Delivered bundles, and bytes of whole objects: the counts that take long where there are many."""
        now = time.monotonic()
        if self._summed[0] < COUNTED_AT_ONCE or now >= self._summed_until:
            row = await self._database.row(_SUMS)
            self._summed, self._summed_until = (int(row[0]), int(row[1])), now + COUNTS_SECONDS
        return self._summed

    async def cargo(self, first: int, last: int) -> Cargo:
        """See `Store`."""
        row = await self._database.row(_CARGO, first, last)
        return Cargo(*row)

    async def chain_head(self, node: NodeId, *, made_here: bool = False) -> tuple[int, StatementId] | None:
        """See `Store`. A receiver makes none."""
        if made_here:
            return None
        sql = "SELECT seq, statement FROM bundles WHERE node = $1 ORDER BY seq DESC LIMIT 1"
        row = await self._database.row(sql, node)
        return (int(row[0]), StatementId(row[1])) if row else None

    # -- objects

    async def wants(self, limit: int, skip: frozenset[ObjectId] = frozenset()) -> list[Want]:
        """See `Store`."""
        return await self._transfers.wants(limit, skip)

    async def missing(self, object_id: ObjectId) -> int:
        """See `Store`."""
        return await self._transfers.missing(object_id)

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """See `Store`."""
        return await self._transfers.holdings([one for one in objects if one not in self._lost])

    async def read_chunk(self, object_id: ObjectId, index: int, *, doubted: bool = False) -> bytes | None:  # noqa: ARG002
        """See `Store`. What a bucket gives, it has checked itself."""
        return await self._transfers.read(object_id, index)

    async def stage_chunk(self, object_id: ObjectId, index: int, data: bytes) -> int:
        """See `Store`."""
        return await self._transfers.stage(object_id, index, data)

    async def commit_chunks(self, since: int = 0) -> list[StatementId]:
        """See `Store`."""
        completed = await self._transfers.commit(since)
        if completed:
            await self._database.commit(lambda db: self._watch.tell(db, Seen.NEWS))
        return completed

    async def adopt(self, object_id: ObjectId, source: Path) -> bool:
        """See `Store`."""
        with reading(source):
            content = await asyncio.to_thread(_read, source)
        if len(content) > MAX_FILE:
            raise Malformed(f"{source} is larger than {MAX_FILE} bytes")
        if await asyncio.to_thread(sha256, content) != object_id:
            raise Malformed(f"The content of {source} is not what its hash says", "Copy the file again.")
        taken = await self._transfers.adopt(object_id, content, anew=object_id in self._lost)
        self._lost.discard(object_id)
        return taken

    async def object_path(self, object_id: ObjectId) -> Path | None:
        """See `Store`. A copy in the cache, which may be gone when some hundred others were asked for."""
        return await self._cache.path(object_id)

    async def _fetch(self, object_id: ObjectId) -> bytes | None:
        if not await self._database.row("SELECT 1 FROM objects WHERE id = $1 AND whole", object_id):
            return None
        content = await self._bucket.get(object_path(object_id))
        if content is None or await asyncio.to_thread(sha256, content) != object_id:
            self._lost.add(object_id)
            raise Unreadable(
                f"The bucket lost object {object_id.hex()}, or gives something else",
                "Restore it: any node that carried it may still hold it.",
            )
        self._lost.discard(object_id)
        return content

    async def free(self, objects: Sequence[ObjectId]) -> int:  # noqa: ARG002
        """See `Store`."""
        raise StoreError(_KEPT, "There is nothing to do.")

    async def freeable(self, own_before: int) -> AsyncIterator[tuple[StatementId, tuple[ObjectId, ...], int]]:  # noqa: ARG002
        """See `Store`."""
        nothing: tuple[tuple[StatementId, tuple[ObjectId, ...], int], ...] = ()
        for one in nothing:
            yield one

    async def date_receipts(self, first: int, last: int, now: int) -> None:
        """See `Store`. A receiver keeps everything."""

    # -- neighbours

    async def note_peer(self, note: PeerNote) -> None:
        """See `Store`."""
        values = (note.node, note.name, note.role, note.address, note.last_seen, note.bytes_in, note.bytes_out)
        await self._database.rows(_NOTE_PEER, *values, note.connected)

    async def peers(self) -> list[PeerNote]:
        """See `Store`."""
        rows = await self._database.rows("SELECT * FROM peers ORDER BY last_seen DESC LIMIT $1", MAX_PEERS)
        return [PeerNote(NodeId(row[0]), *tuple(row)[1:]) for row in rows]

    async def set_note(self, key: str, value: str) -> None:
        """See `Store`."""
        sql = "INSERT INTO notes VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        await self._database.rows(sql, key, value)

    async def notes(self) -> dict[str, str]:
        """See `Store`."""
        return {row[0]: row[1] for row in await self._database.rows("SELECT key, value FROM notes")}

    async def rehearse(self) -> None:
        """Write as for a new statement, durably, and leave nothing of it: see `relay.receiver.readiness`."""
        await self._database.commit(records.rehearse)

    async def finish(self) -> list[StatementId]:
        """See `Store`."""
        completed = await self._transfers.finish()
        if completed:
            await self._database.commit(lambda db: self._watch.tell(db, Seen.NEWS))
        return completed

    # -- the receiver's log

    async def unlogged(self, limit: int) -> list[tuple[StatementId, bytes]]:
        """See `Store`."""
        rows = await self._database.rows(_UNLOGGED, max(limit, 0), list(self._lost))
        return [(StatementId(row[0]), row[1]) for row in rows]

    async def log_state(self) -> LogState:
        """See `Store`."""
        row = await self._database.row("SELECT size, frontier, checkpoint FROM log_state")
        return LogState(int(row[0]), row[1], row[2])

    async def log_edge(self) -> bytes:
        """See `Store`."""
        row = await self._database.row("SELECT edge FROM log_state")
        return bytes(row[0])

    async def append(self, batch: LogBatch) -> None:
        """See `Store`."""
        receipts = [one.body for one in batch.receipts if isinstance(one.body, Receipt)]

        async def work(db: Any) -> None:
            await db.execute(_WAIT_FOR_LOCKS, f"{LOG_LOCK_SECONDS}s")
            entries = batch.check(await db.fetchval("SELECT size FROM log_state FOR UPDATE"))
            await db.execute(_WAIT_FOR_LOCKS, f"{LOCK_SECONDS}s")
            if not await records.insert_receipts(db, batch.receipts):
                raise StoreError("A statement has its receipt already", "Run one sequencer on a store.")
            await db.execute(
                "INSERT INTO log SELECT * FROM unnest($1::bigint[], $2::bytea[])",
                [entry for entry, _ in entries],
                [statement for _, statement in entries],
            )
            await records.add_receipts(db, receipts, int(self._clock()), batch.times)
            state = batch.state
            await db.execute(
                "UPDATE log_state SET size = $1, frontier = $2, checkpoint = $3, edge = coalesce($4, edge)",
                state.size,
                state.frontier,
                state.checkpoint,
                batch.edge or None,
            )
            await self._watch.tell(db, Seen.NEWS)

        await self._database.commit(work)

    async def log_statements(self, first: int, count: int) -> list[bytes]:
        """See `Store`."""
        sql = "SELECT raw FROM log JOIN records ON id = statement WHERE entry >= $1 ORDER BY entry LIMIT $2"
        return [row[0] for row in await self._database.rows(sql, first, max(count, 0))]

    async def log_times(self, first: int, count: int) -> list[int]:
        """See `Store`."""
        sql = (
            "SELECT receipt_at FROM log l JOIN bundles USING (statement) WHERE l.entry >= $1 ORDER BY l.entry LIMIT $2"
        )
        return [row[0] for row in await self._database.rows(sql, first, max(count, 0))]

    # -- within

    async def _load_members(self) -> None:
        rows = await self._database.rows("SELECT kind, id FROM records WHERE slot IS NOT NULL")
        self._members = RecordSet([(Kind(row[0]), RecordId(row[1])) for row in rows])


def _read(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(MAX_FILE + 1)


async def _ask_now(bond: Bond) -> None:
    """Have database and bucket compared, if the bucket answers soon: a receiver starts without it."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await bond.check()
    except WrongBucket:
        raise
    except (StoreError, TimeoutError) as error:
        logger.warning("the bucket does not answer yet: %s", error or "it takes long")


_READ = """
    SELECT kind, id, raw FROM (
        SELECT r.kind, r.id, r.raw, a.place, sum(length(r.raw)) OVER (ORDER BY a.place) - length(r.raw) AS before,
            sum(length(r.raw)) OVER (ORDER BY a.place) AS size
        FROM unnest($1::bytea[]) WITH ORDINALITY AS a (id, place) JOIN records r ON r.id = a.id) found
    WHERE before = 0 OR size <= $2 ORDER BY place
"""
_UNDER_WAY = """
    SELECT count(*) FILTER (WHERE completed IS NULL), count(*) FILTER (WHERE completed IS NOT NULL),
        (SELECT coalesce(sum(held_bytes), 0) FROM layouts WHERE held_bytes > 0)
    FROM bundles WHERE entry IS NULL AND NOT withheld
"""
_CARGO = """
    SELECT count(*), count(DISTINCT tps), count(*) FILTER (WHERE completed IS NULL),
        min(captured_at) FILTER (WHERE captured_at BETWEEN $1 AND $2)
    FROM bundles WHERE entry IS NULL AND NOT withheld
"""
_SUMS = """
    SELECT (SELECT count(*) FROM bundles WHERE entry IS NOT NULL),
        (SELECT coalesce(sum(size), 0) FROM objects WHERE whole)
"""
_UNLOGGED = """
    SELECT b.statement, r.raw FROM bundles b JOIN records r ON r.id = b.statement
    WHERE b.completed IS NOT NULL AND b.entry IS NULL AND NOT b.withheld
        AND NOT EXISTS (SELECT 1 FROM records c WHERE c.id = sha256('relay receipt\\000'::bytea || b.statement))
        AND NOT EXISTS (SELECT 1 FROM files f WHERE f.statement = b.statement AND f.object = ANY($2::bytea[]))
    ORDER BY b.completed LIMIT $1
"""
_NOTE_PEER = """
    INSERT INTO peers VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (node) DO UPDATE SET
        name = excluded.name, role = excluded.role,
        address = CASE excluded.address WHEN '' THEN peers.address ELSE excluded.address END,
        last_seen = excluded.last_seen, bytes_in = peers.bytes_in + excluded.bytes_in,
        bytes_out = peers.bytes_out + excluded.bytes_out, connected = excluded.connected
"""
