"""Logs that are long already, for benchmarks: entries laid straight into a receiver's tables, and on its shelf.

Signing and admitting a million statements would take longer than all that is measured. So the entries and their
receipts are noise, each as long as a real one; what refers to them (names, indices, the tree, its tiles, the signed
checkpoint, the set that is reconciled) is what it would be, and a sequencer goes on from there as from any log.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.log.checkpoint import Checkpoint, sign_checkpoint
from relay.log.edge import Edge
from relay.log.merkle import leaf_hash
from relay.log.tiles import ENTRIES, WIDTH, TileId, encode_entries
from relay.log.tree import Frontier
from relay.records.identifiers import Kind, RecordId, receipt_id, sha256, statement_id
from relay.trust.witness import log_key
from tests.factory import ELECTION, Node

STATEMENT, RECEIPT = 940, 1_430
"""Bytes of a statement with a tally and without photographs, and of its receipt, about."""
_PER_DEVICE = 5
_AT_ONCE = 32 * WIDTH
_CACHE_KIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that says nothing."""

    index: int
    statement: bytes
    receipt: bytes

    @property
    def id(self) -> bytes:
        """Of its statement."""
        return statement_id(self.statement)

    @property
    def node(self) -> bytes:
        """Its device: each signs a few in a row."""
        return sha256(b"device %d" % (self.index // _PER_DEVICE))

    @property
    def bundle(self) -> tuple[Any, ...]:
        """The beginning of its row among the bundles."""
        at = self.index // _PER_DEVICE
        return self.id, self.node, f"op-{at}", f"tps-{at}", f"form-{self.index % _PER_DEVICE}", self.index % _PER_DEVICE


_BUNDLE = ("statement", "node", "device", "tps", "form", "seq")


@dataclass(slots=True)
class Preload:
    """So many entries, for the log of a receiver."""

    receiver: Node
    count: int
    edge: Edge = field(default_factory=Edge)
    frontier: Frontier = field(default_factory=Frontier)

    def batches(self, public: Path | None) -> Iterator[list[Entry]]:
        """The entries, some thousands at a time; their tiles are written to `public`, where it is given."""
        dice = random.Random(1)
        for first in range(0, self.count, _AT_ONCE):
            some = range(first, min(first + _AT_ONCE, self.count))
            batch = [Entry(index, dice.randbytes(STATEMENT), dice.randbytes(RECEIPT)) for index in some]
            self._grow([one.statement for one in batch], public)
            yield batch
        if public is not None:
            for tile, content in self.edge.partial():
                _put(public, tile, content)
            (public / "checkpoint").write_bytes(self.checkpoint)

    def _grow(self, raws: Sequence[bytes], public: Path | None) -> None:
        leaves = [leaf_hash(raw) for raw in raws]
        first = self.edge.size
        self.frontier = self.frontier.extend(leaves)
        self.edge, full = self.edge.extend(b"".join(leaves))
        if public is None:
            return
        for at in range(0, len(raws), WIDTH):
            some = raws[at : at + WIDTH]
            _put(public, TileId(ENTRIES, (first + at) // WIDTH, len(some)), encode_entries(some))
        for tile, content in full:
            _put(public, tile, content)

    @property
    def checkpoint(self) -> bytes:
        """Signed by the receiver."""
        tree = Checkpoint(f"{ELECTION}/{self.receiver.identity.name}", self.frontier.size, self.frontier.root())
        return sign_checkpoint(tree, log_key(self.receiver.identity), self.receiver.key)


def _put(folder: Path, tile: TileId, content: bytes) -> None:
    path = folder / tile.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def lay_sqlite(database: Path, public: Path, preload: Preload) -> None:
    """Into an embedded store that was made and closed again. Nothing is synced until the end."""
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        for pragma in (
            "journal_mode = DELETE",
            "journal_mode = OFF",
            "synchronous = OFF",
            f"cache_size = -{_CACHE_KIB}",
        ):
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN")
        for batch in preload.batches(public):
            for sql, rows in _sqlite_rows(batch):
                db.executemany(sql, rows)
        state = preload.frontier.size, preload.frontier.to_bytes(), preload.checkpoint
        db.execute("INSERT OR REPLACE INTO log_state VALUES (1, ?, ?, ?)", state)
        db.execute("COMMIT")


def _sqlite_rows(batch: Sequence[Entry]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    yield "INSERT INTO records (id, kind, rank, raw) VALUES (?, ?, 0, ?)", list(_records(batch))
    yield (
        f"INSERT INTO bundles ({', '.join(_BUNDLE)}, captured_at, flags, size, remaining, weight, own, completed, "
        f"entry, receipt_at) VALUES (?, ?, ?, ?, ?, ?, 0, '', 0, 0, {STATEMENT}, 0, ?, ?, 0)",
        [(*one.bundle, one.index + 1, one.index) for one in batch],
    )
    yield "INSERT INTO log VALUES (?, ?)", [(one.index, one.id) for one in batch]


async def lay_postgres(url: str, preload: Preload) -> None:
    """Into a cluster's database that was made. Its shelf stays empty: a sequencer there goes on without."""
    import asyncpg

    db: Any = await asyncpg.connect(url)
    try:
        for batch in preload.batches(None):
            for table, columns, rows in _postgres_rows(batch):
                await db.copy_records_to_table(table, records=rows, columns=columns)
        await db.execute("SELECT setval('completions', $1)", preload.count)
        state = preload.frontier.size, preload.frontier.to_bytes(), preload.checkpoint, preload.edge.to_bytes()
        await db.execute("UPDATE log_state SET size = $1, frontier = $2, checkpoint = $3, edge = $4", *state)
        await db.execute("VACUUM ANALYZE")  # which would begin by itself in the middle of what is measured
        await db.execute("CHECKPOINT")
    finally:
        await db.close()


def _postgres_rows(batch: Sequence[Entry]) -> Iterator[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
    yield "records", ("id", "kind", "raw", "rank"), [(*row, 0) for row in _records(batch)]
    rest = ("captured_at", "flags", "size", "remaining", "own", "completed", "entry", "receipt_at")
    rows = [(*one.bundle, 0, "", 0, 0, False, one.index + 1, one.index, 0) for one in batch]
    yield "bundles", (*_BUNDLE, *rest), rows
    yield "log", ("entry", "statement"), [(one.index, one.id) for one in batch]


def _records(batch: Sequence[Entry]) -> Iterator[tuple[bytes, int, bytes]]:
    for one in batch:
        yield one.id, int(Kind.STATEMENT), one.statement
        yield receipt_id(RecordId(one.id)), int(Kind.RECEIPT), one.receipt
