"""What an audit has checked and found right so far: its state file, one SQLite database.

An audit that is interrupted goes on from here, and the next one begins where this one ended. Kept: the newest
checkpoint seen, the full tiles (so that later roots, receipts and proofs are held against what was hashed here and not
against what a server says of it again), what each entry says, and which objects and receipts are still to be fetched.
Everything of one step is one transaction.

It lives outside a node's store on purpose: an auditor has no node.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from relay.errors import Malformed, StoreError
from relay.limits import AUDIT_SIGHTINGS
from relay.log.edge import Edge
from relay.log.merkle import HASH_SIZE
from relay.log.tiles import WIDTH, TileId, tile_reader
from relay.log.tree import root_of
from relay.receiver.chains import Finding, Link, findings
from relay.receiver.statefile import StateFile
from relay.records.identifiers import NodeId, ObjectId, RecordId, StatementId
from relay.trust.auditing import Entry

_RESULTS = """
-- What entries say of results, where they were compared: about half a kilobyte of each.
CREATE TABLE IF NOT EXISTS results (
    entry INTEGER PRIMARY KEY, tps TEXT NOT NULL, form TEXT NOT NULL, said BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS results_by_form ON results (tps, form);
CREATE INDEX IF NOT EXISTS entries_by_node ON entries (node);
"""


class Ledger(StateFile):
    """The state of one audit. `path` None keeps it in memory."""

    def __init__(self, path: Path | None, root: bytes, origin: str) -> None:
        """Open or make it, for the log `origin` of the election with this root certificate.

        Raises `BadInput` for a file that is of another log, or none of relay's; `StoreError` where it cannot be used.
        """
        super().__init__(path, root)
        try:
            self._take_for(origin.encode())
        except BaseException:
            self.close()
            raise
        self._nodes: dict[bytes, int] = {node: number for number, node in self._all("SELECT number, node FROM nodes")}
        self.edge = Edge.from_bytes(self._fact("edge") or Edge().to_bytes())
        """What was hashed for good: always full bundles."""
        self.tip = self.edge
        """The edge with the last bundle's entries, which is not full: for the length of this audit."""

    # -- the log
    @property
    def checkpoint(self) -> bytes:
        """The newest checkpoint that an audit saw, as a signed note; empty at first."""
        return self._fact("checkpoint")

    def note_checkpoint(self, raw: bytes) -> None:
        """Remember a checkpoint."""
        self._set("checkpoint", raw)

    @property
    def judged(self) -> int:
        """How many entries, from the first, had their signatures checked: a multiple of 256."""
        return int(self._fact("judged") or b"0")

    def note_bundle(self, edge: Edge, full: Iterable[tuple[TileId, bytes]]) -> None:
        """Remember tiles that became full, and the edge after them."""
        rows = [(tile.level, tile.index, content) for tile, content in full]
        self._database.executemany("INSERT OR REPLACE INTO tiles VALUES (?, ?, ?)", rows)
        self._set("edge", edge.to_bytes())
        self.edge = self.tip = edge

    def note_entries(self, first: int, entries: Iterable[Entry], judged: int) -> tuple[int, int] | None:
        """Remember entries from number `first` on; where one stands in the log already, its two numbers."""
        entries = tuple(entries)
        self._number(one.node for one in entries)
        numbers = self._nodes
        rows = [(index, one.id, numbers[one.node], one.seq, one.previous) for index, one in enumerate(entries, first)]
        objects = [(index, *one) for index, entry in enumerate(entries, first) for one in entry.objects]
        try:
            self._database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.IntegrityError:
            return self._repeated(rows)
        self._database.executemany("INSERT INTO objects (entry, sha256, size) VALUES (?, ?, ?)", objects)
        self._set("judged", b"%d" % judged)
        return None

    def forget_from(self, first: int) -> None:
        """Forget entries from number `first` on: those of a bundle that was not full when it was read."""
        self._database.execute("DELETE FROM entries WHERE entry >= ?", (first,))
        self._database.execute("DELETE FROM objects WHERE entry >= ?", (first,))

    def tile(self, tile: TileId) -> bytes:
        """A tile of hashes, as it was checked. Raises `Malformed` for one that was not."""
        row = self._one("SELECT content FROM tiles WHERE level = ? AND place = ?", tile.level, tile.index)
        content = row[0] if row else self.tip.rows[tile.level]
        return bytes(content[: tile.width * HASH_SIZE])

    def leaves(self, first: int, count: int) -> bytes:
        """The leaf hashes of so many entries, joined, from number `first` on: as `tile`."""
        tiles = range(first // WIDTH, (first + count - 1) // WIDTH + 1)
        start = first % WIDTH * HASH_SIZE
        return b"".join([self.tile(TileId(0, one)) for one in tiles])[start : start + count * HASH_SIZE]

    def root_of(self, size: int) -> bytes:
        """The root of the first `size` entries, all of them hashed here."""
        if size > self.tip.size:
            raise Malformed(f"The audit has not come to entry {size} yet")
        return root_of(size, tile_reader(size, self.tile))

    # -- since when entries are known
    def note_sighting(self, size: int, now: float) -> None:
        """Remember that the log had `size` entries at this time, by the auditor's clock."""
        seen = self._sightings(now)
        if not seen or size > seen[-1][0]:
            seen.append((size, now))
        if len(seen) > AUDIT_SIGHTINGS:  # the entries between two others are then known since the later one
            seen = [*seen[:-1:2], seen[-1]]
        self._keep_sightings(seen)

    def seen_since(self, entry: int, now: float) -> float:
        """When this entry was first seen in the log; now, where it is new."""
        return next((at for size, at in self._sightings(now) if size > entry), now)

    def forget_sightings(self, entry: int) -> None:
        """Forget since when entries before this one are known."""
        self._keep_sightings([(size, at) for size, at in self._sightings() if size > entry])

    def _sightings(self, now: float | None = None) -> list[tuple[int, float]]:
        """Sizes and times, growing. What was seen later than now was seen by a clock that was set back since."""
        seen = json.loads(self._fact("sightings") or b"[]")
        return [(size, at if now is None else min(at, now)) for size, at in seen]

    def _keep_sightings(self, seen: list[tuple[int, float]]) -> None:
        self._set("sightings", json.dumps(seen).encode())

    # -- what entries say
    def entry_ids(self, first: int, limit: int) -> list[tuple[int, StatementId]]:
        """Numbers and ids of entries, from number `first` on."""
        rows = self._all("SELECT entry, id FROM entries WHERE entry >= ? ORDER BY entry LIMIT ?", first, limit)
        return [(entry, StatementId(RecordId(name))) for entry, name in rows]

    def objects(self, after: int, limit: int) -> list[tuple[int, int, ObjectId, int]]:
        """Objects to be checked: number (greater than `after`), entry, id and size in bytes."""
        query = "SELECT number, entry, sha256, size FROM objects WHERE number > ? ORDER BY number LIMIT ?"
        return [(number, entry, ObjectId(name), size) for number, entry, name, size in self._all(query, after, limit)]

    def count(self, table: str, column: str, after: int) -> int:
        """How many objects or entries are beyond `after`."""
        assert (table, column) in (("objects", "number"), ("entries", "entry"))
        row = self._one(f"SELECT count(*) FROM {table} WHERE {column} > ?", after)
        return int(row[0]) if row else 0

    def cursor(self, what: str) -> int:
        """How far `objects` or `receipts` were checked: the last number; -1 where none was."""
        return int(self._fact(f"checked {what}") or b"-1")

    def move(self, what: str, number: int) -> None:
        """Note how far they were checked."""
        self._set(f"checked {what}", b"%d" % number)

    def entries_by(self, nodes: Iterable[NodeId]) -> dict[NodeId, int]:
        """How many entries each of these devices signed; those that signed none are left out."""
        asked = {self._nodes[node]: node for node in nodes if node in self._nodes}
        query = "SELECT node, count(*) FROM entries GROUP BY node"
        return {asked[number]: count for number, count in (self._all(query) if asked else ()) if number in asked}

    def missing_of(self, path: Path) -> int | None:
        """How many statements that another log's ledger has are not in this log; None where it is not there."""
        if not path.is_file():
            return None
        with self._explained():
            self._database.execute("ATTACH ? AS other", (str(path),))
            try:
                query = "SELECT count(*) FROM other.entries WHERE id NOT IN (SELECT id FROM main.entries)"
                return int(self._database.execute(query).fetchone()[0])
            finally:
                self._database.execute("DETACH other")

    # -- what entries say of results
    def open_results(self) -> int:
        """Make room for what entries say of results, where there is none yet; the first entry of which nothing is kept
        for good. Those after it are forgotten: their bundle was not full."""
        with self._explained():
            self._database.executescript(_RESULTS)
        first = int(self._fact("results taken") or b"0")
        with self.step():
            self._database.execute("DELETE FROM results WHERE entry >= ?", (first,))
        return first

    def note_results(self, rows: Iterable[tuple[int, str, str, bytes]], taken: int) -> None:
        """Remember what entries say: number, polling station, form, all of it; `taken` entries are kept for good."""
        self._database.executemany("INSERT INTO results VALUES (?, ?, ?, ?)", rows)
        self._set("results taken", b"%d" % taken)

    def result_entries(self, tps: str) -> dict[str, list[int]]:
        """The entries of each form of a polling station, in order."""
        found: dict[str, list[int]] = {}
        for form, entry in self._all("SELECT form, entry FROM results WHERE tps = ? ORDER BY entry", tps):
            found.setdefault(form, []).append(entry)
        return found

    def said(self, tps: str, form: str, before: int) -> list[bytes]:
        """What the entries before number `before` say of a form, in order."""
        query = "SELECT said FROM results WHERE tps = ? AND form = ? AND entry < ? ORDER BY entry"
        return [bytes(said) for (said,) in self._all(query, tps, form, before)]

    def count_forms(self) -> int:
        """Of how many forms of polling stations entries say anything."""
        row = self._one("SELECT count(*) FROM (SELECT DISTINCT tps, form FROM results)")
        return int(row[0]) if row else 0

    def stations_said(self, after: str, limit: int) -> list[str]:
        """Polling stations of which entries say anything, in order, beyond `after`."""
        query = "SELECT DISTINCT tps FROM results WHERE tps > ? ORDER BY tps LIMIT ?"
        return [tps for (tps,) in self._all(query, after, limit)]

    def links_of(self, node: NodeId, before: int) -> list[Link]:
        """The chain of a device, as the entries before number `before` have it."""
        query = "SELECT seq, id, previous FROM entries WHERE node = ? AND entry < ?"
        return [Link(node, *row) for row in self._all(query, self._nodes.get(node, -1), before)]

    def around(self, node: NodeId, entry: int) -> tuple[int | None, int | None]:
        """The last entry of a device before this number, and the first from it on."""
        number = self._nodes.get(node, -1)
        last = self._one("SELECT max(entry) FROM entries WHERE node = ? AND entry < ?", number, entry)
        following = self._one("SELECT min(entry) FROM entries WHERE node = ? AND entry >= ?", number, entry)
        return last[0] if last else None, following[0] if following else None

    def lacking_since(self, what: str, entry: int | None, now: float) -> float:
        """Since when audits find this entry, or one before it, lacking in `what`: since now, where they did not. None
        for an entry is for nothing that is lacking. Remembers it."""
        known = json.loads(self._fact(f"lacking {what}") or b"null")
        since = min(known[1], now) if known and entry is not None and entry <= known[0] else now
        with self.step():
            self._set(f"lacking {what}", json.dumps(None if entry is None else [entry, since]).encode())
        return since

    def chain_findings(self) -> Iterator[Finding]:
        """Gaps and forks in the chains of the devices, one device after the other."""
        node_of = {number: NodeId(node) for node, number in self._nodes.items()}
        with self._explained():
            rows = self._database.execute("SELECT node, seq, id, previous FROM entries ORDER BY node")
            for number, entries in groupby(rows, itemgetter(0)):
                yield from findings(Link(node_of[number], *row) for _, *row in entries)

    # -- the database
    def _take_for(self, origin: bytes) -> None:
        known = self._fact("origin")
        if not known:
            with self.step():
                self._set("origin", origin)
        elif known != origin:
            raise self._of_another_log()

    def _number(self, nodes: Iterable[NodeId]) -> None:
        """Give numbers to devices that have none yet: from 1 on, as they come."""
        new = [node for node in dict.fromkeys(nodes) if node not in self._nodes]
        rows = [(number, node) for number, node in enumerate(new, len(self._nodes) + 1)]
        self._database.executemany("INSERT INTO nodes VALUES (?, ?)", rows)
        self._nodes.update((node, number) for number, node in rows)

    def _repeated(self, rows: Iterable[tuple[int, bytes, int, int, bytes | None]]) -> tuple[int, int]:
        for index, name, *_ in rows:
            row = self._one("SELECT entry FROM entries WHERE id = ? AND entry <> ?", name, index)
            if row is not None:
                return row[0], index
        raise StoreError(f"The audit's state {self._name} is damaged", "Begin the audit anew, with a new state file.")
