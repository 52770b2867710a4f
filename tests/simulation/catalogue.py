"""A store's catalogue in memory: what `relay.store.schema` keeps in tables, as plain values.

Every method is one commit. Written anew from `relay.store.interface`, beside the SQL that does the same, so that one
can find faults in the other; `tests.store_conformance` holds both to the interface. Does not live here: content,
waiting, crashes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from relay.errors import StoreError
from relay.limits import MAX_LAYOUTS, UNCLAIMED_RECEIPTS
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId, StatementId, parse_uri, receipt_id
from relay.records.receipt import Receipt, read_receipt
from relay.records.statement import FileEntry, Statement, chunk_size_for
from relay.store.interface import Bundle, BundleFile, LogBatch, LogState, Outcome, PeerNote, State
from relay.trust.admission import Admitted


@dataclass(frozen=True)
class Rules:
    """What a store takes: see `relay.store.interface`."""

    own: NodeId | None = None
    quota_bytes: int = 1 << 30
    quota_statements: int = 1_000
    keeps_all: bool = False
    made_here: bool = False
    has_room: bool = True


@dataclass
class Record:
    """A record as it lies there."""

    kind: Kind
    raw: bytes
    slot: str
    rank: int


@dataclass(eq=False)
class Layout:
    """A size and a list of chunk hashes that some statement gives for an object; `held` are the chunks that count."""

    object: ObjectId
    size: int
    hashes: tuple[bytes, ...]
    node: NodeId
    held: int = 0
    refuted: bool = False

    @property
    def name(self) -> bytes:
        """What tells it from other layouts of the same object."""
        return self.size.to_bytes(8) + b"".join(self.hashes)

    @property
    def whole(self) -> int:
        """The bit set of all its chunks."""
        return (1 << chunk_count(self.size)) - 1

    def span(self, index: int) -> int:
        """Bytes of a chunk."""
        step = chunk_size_for(self.size)
        return min(step, self.size - index * step)

    def fits(self, index: int, length: int, digest: bytes) -> bool:
        """Whether content of this length and hash is its chunk `index`."""
        return 0 <= index < len(self.hashes) and self.span(index) == length and self.hashes[index] == digest

    def bytes_of(self, bits: int) -> int:
        """Bytes of a set of its chunks."""
        return sum(self.span(index) for index in range(chunk_count(self.size)) if bits >> index & 1)


@dataclass(eq=False)
class Object:
    """An object that some statement names or that was adopted; `whole` are its chunks when it is complete."""

    id: ObjectId
    size: int
    whole: tuple[bytes, ...] | None = None
    layouts: list[Layout] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    @property
    def held_bytes(self) -> int:
        """Bytes of content that is held of it."""
        return self.size if self.whole is not None else sum(one.bytes_of(one.held) for one in self.layouts)


@dataclass(eq=False)
class Row:
    """A statement's bundle."""

    statement: Statement
    node: NodeId
    own: bool
    made_here: bool
    weight: int
    objects: dict[ObjectId, int]
    """Its objects in order, with their sizes."""
    completed: int | None = None
    entry: int | None = None
    receipt_at: int = 0
    received: float = 0.0
    """When its receipt came in truth (virtual seconds), and `dated_in` which run of the node dated it."""
    dated_in: int = 0
    withheld: bool = False
    superseded: bool = False
    remaining: int = 0

    @property
    def id(self) -> StatementId:
        """Its statement's id."""
        return self.statement.id

    @property
    def size(self) -> int:
        """Bytes of its objects."""
        return sum(self.objects.values())


class Catalogue:
    """Everything but content. Members of the reconciliation set are followed through `journal`."""

    def __init__(self) -> None:
        self.records: dict[RecordId, Record] = {}
        self.slots: dict[str, RecordId] = {}
        self.receipts: dict[StatementId, int] = {}
        self.unclaimed: dict[NodeId, set[RecordId]] = {}
        """Receipts for statements that are not here, by who signed them."""
        self.rows: dict[StatementId, Row] = {}
        self.objects: dict[ObjectId, Object] = {}
        self.open: dict[StatementId, Row] = {}
        """Bundles that are not complete."""
        self.journal: list[tuple[Kind, RecordId, bool]] = []
        self.completions = 0
        self.peers: dict[NodeId, PeerNote] = {}
        self.notes: dict[str, str] = {}
        self.log: list[StatementId] = []
        self.log_state = LogState(0, b"", b"")
        self.commits: dict[int, int] = {}
        """Commits by process."""

    # -- records

    def add(self, item: Admitted, rules: Rules, now: int) -> Outcome:
        """Keep one record."""
        if item.id in self.records:
            return Outcome.KNOWN
        match item.body:
            case Statement() as statement:
                return self._add_statement(item, statement, rules)
            case Receipt() as receipt:
                return self._add_receipt(item, receipt, rules, now)
            case _:
                return self._add_to_slot(item)

    def withhold(self, revoked: set[NodeId]) -> bool:
        """Hide undelivered statements of these signers, and of these only; whether anything changed."""
        changed = False
        for row in self.rows.values():
            hide = row.node in revoked
            if row.entry is None and row.withheld != hide:
                row.withheld = hide
                self.journal.append((Kind.STATEMENT, row.id, not hide))
                changed = True
        if changed:
            for row in self.rows.values():
                row.superseded = any(self._supersedes(one, row) for one in self.rows.values() if not one.withheld)
            self._fill_places()
        return changed

    def _fill_places(self) -> None:
        for row in self.rows.values():
            if row.completed is None and not row.withheld:
                for file in row.statement.package.files:
                    self._add_file(row, file)

    def take_back(self, records: Sequence[RecordId]) -> None:
        """Let go of receipts and checkpoints; what those receipts delivered is undelivered again."""
        for one in records:
            record = self.records.get(one)
            if record is None or record.kind not in (Kind.RECEIPT, Kind.CHECKPOINT):
                continue
            del self.records[one]
            self.slots.pop(record.slot, None)
            self.journal.append((record.kind, one, False))
            if record.kind is Kind.RECEIPT:
                self._claim(one)
                self._undeliver(read_receipt(record.raw).statement)

    def _undeliver(self, statement: StatementId) -> None:
        del self.receipts[statement]
        row = self.rows.get(statement)
        if row is None:
            return
        row.entry, row.receipt_at = None, 0
        if row.remaining:
            row.completed = None
            self.open[row.id] = row
        self.journal.append((Kind.STATEMENT, row.id, True))

    def append(self, batch: LogBatch, rules: Rules, now: int) -> None:
        """Commit entries, receipts and state. Raises `StoreError`, before anything is changed."""
        batch.check(self.log_state.size)
        if any(one in self.receipts or one in self.log for one in batch.statements):
            raise StoreError("A statement has its receipt already", "Run one sequencer on a store.")
        self.log += batch.statements
        for receipt, logged_at in zip(batch.receipts, batch.times or repeat(now), strict=False):
            self.add(receipt, rules, logged_at)
        self.log_state = batch.state

    def _add_to_slot(self, item: Admitted) -> Outcome:
        held = self.slots.get(item.slot)
        if held is not None:
            if self.records[held].rank >= item.rank:
                return Outcome.STALE
            self.journal.append((self.records.pop(held).kind, held, False))
        self.slots[item.slot] = item.id
        self.records[item.id] = Record(item.kind, item.raw, item.slot, item.rank)
        self.journal.append((item.kind, item.id, True))
        return Outcome.NEW

    def _add_receipt(self, item: Admitted, receipt: Receipt, rules: Rules, now: int) -> Outcome:
        if not rules.keeps_all and receipt.statement not in self.rows:
            unclaimed = self.unclaimed.setdefault(item.signer, set())
            if len(unclaimed) >= UNCLAIMED_RECEIPTS:
                return Outcome.OVER_QUOTA
            if not rules.has_room:
                return Outcome.NO_ROOM
            unclaimed.add(item.id)
        self.records[item.id] = Record(item.kind, item.raw, "", 0)
        self.receipts[receipt.statement] = receipt.entry
        self.journal.append((Kind.RECEIPT, item.id, True))
        row = self.rows.get(receipt.statement)
        if row is not None:
            row.entry, row.receipt_at, row.withheld = receipt.entry, now, False
            for other in self.rows.values():
                other.superseded |= self._supersedes(row, other)
            self.journal.append((Kind.STATEMENT, row.id, False))
        return Outcome.NEW

    def _add_statement(self, item: Admitted, statement: Statement, rules: Rules) -> Outcome:
        own = item.signer == rules.own
        entry = self.receipts.get(statement.id)
        if entry is not None and not own and not rules.keeps_all:
            return Outcome.KNOWN
        if not rules.has_room and not rules.made_here:
            return Outcome.NO_ROOM
        if entry is None and not rules.made_here and self._is_over_quota(item.signer, statement.size, rules):
            return Outcome.OVER_QUOTA
        self._claim(receipt_id(statement.id))
        sizes = {file.sha256: file.size for file in statement.package.files}
        row = Row(statement, item.signer, own, own and rules.made_here, statement.size, sizes, entry=entry)
        self.records[item.id] = Record(item.kind, item.raw, "", 0)
        self.rows[statement.id] = self.open[statement.id] = row
        self._mark_superseded(row)
        for file in statement.package.files:
            self._add_file(row, file)
        self.settle_rows([row])
        if entry is None:
            self.journal.append((Kind.STATEMENT, item.id, True))
        return Outcome.NEW

    def _claim(self, receipt: RecordId) -> None:
        for unclaimed in self.unclaimed.values():
            unclaimed.discard(receipt)

    def _is_over_quota(self, signer: NodeId, size: int, rules: Rules) -> bool:
        rows = [row for row in self.rows.values() if row.node == signer and (rules.keeps_all or row.entry is None)]
        return len(rows) + 1 > rules.quota_statements or sum(row.weight for row in rows) + size > rules.quota_bytes

    def _mark_superseded(self, row: Row) -> None:
        for other in self.rows.values():
            other.superseded |= self._supersedes(row, other)
            row.superseded |= self._supersedes(other, row) and not other.withheld

    @staticmethod
    def _supersedes(row: Row, other: Row) -> bool:
        mine, theirs = row.statement.package, other.statement.package
        return mine.supersedes == other.id and (mine.tps, mine.form) == (theirs.tps, theirs.form)

    def _add_file(self, row: Row, file: FileEntry) -> None:
        item = self.objects.setdefault(file.sha256, Object(file.sha256, file.size))
        if row not in item.rows:
            item.rows.append(row)
        layout = Layout(file.sha256, file.size, file.chunks, row.node)
        standing = [one for one in item.layouts if not one.refuted]
        if any(one.name == layout.name for one in item.layouts) or self._is_crowded(standing):
            return
        if all(one.node != row.node for one in standing):
            item.layouts.append(layout)

    def _is_crowded(self, standing: Sequence[Layout]) -> bool:
        if len(standing) < MAX_LAYOUTS:
            return False
        hidden = {row.node for row in self.rows.values() if row.withheld}
        return sum(one.node not in hidden for one in standing) >= MAX_LAYOUTS

    # -- bundles and objects

    def wanted(self, object_id: ObjectId, rules: Rules) -> list[Layout]:
        """The layouts by which an object may still come."""
        item = self.objects.get(object_id)
        if item is None or item.whole is not None or not any(self._takes(row, rules) for row in item.rows):
            return []
        sizes = {row.objects[object_id] for row in item.rows if self._takes(row, rules)}
        return [one for one in item.layouts if not one.refuted and one.size in sizes]

    def wanting(self, rules: Rules) -> Iterator[ObjectId]:
        """Objects of bundles that are to become complete, the best first; signers take turns."""
        turns: Counter[tuple[bool, NodeId]] = Counter()
        queue: list[tuple[bool, int, int, StatementId, Row]] = []
        rows = [row for row in self.open.values() if self._takes(row, rules)]
        for row in sorted(rows, key=lambda row: (row.remaining, row.id)):
            turns[row.superseded, row.node] += 1
            queue.append((row.superseded, turns[row.superseded, row.node], row.remaining, row.id, row))
        for *_, row in sorted(queue, key=lambda one: one[:4]):
            yield from row.objects

    def settle(self, objects: Iterable[ObjectId]) -> list[StatementId]:
        """Bring bundles up to date with what is held of these objects; those that became complete, in order."""
        found = [self.objects[one] for one in objects if one in self.objects]
        rows = {row.id: row for item in found for row in item.rows}
        return self.settle_rows(rows.values())

    def settle_rows(self, rows: Iterable[Row]) -> list[StatementId]:
        """Bring bundles up to date; those that became complete, in order."""
        completed: list[StatementId] = []
        for row in rows:
            row.remaining = sum(self._remaining(one, size) for one, size in row.objects.items())
            if row.remaining == 0 and row.completed is None:
                self.completions += 1
                row.completed = self.completions
                del self.open[row.id]
                completed.append(row.id)
        return completed

    def bundle(self, row: Row) -> Bundle:
        """A row as the interface shows it."""
        package = row.statement.package
        delivered, complete = row.entry is not None, row.completed is not None
        return Bundle(
            id=row.id,
            tps=package.tps,
            form=package.form,
            device=parse_uri(row.statement.envelope.issuer)[2],
            node=row.node,
            seq=package.seq,
            state=State.DELIVERED if delivered else State.WAITING if complete else State.PARTIAL,
            size=row.size,
            held=row.size - row.remaining,
            entry=row.entry,
            own=row.own,
            supersedes=package.supersedes,
            flags=package.flags,
            captured_at=package.captured_at,
            files=tuple(BundleFile(one.sha256, one.name, one.media_type, one.size) for one in package.files),
        )

    def free(self, objects: Sequence[ObjectId]) -> int:
        """Let go of content; bytes freed. Raises `StoreError` for what an undelivered bundle needs."""
        items = [self.objects[one] for one in objects if one in self.objects]
        for item in items:
            if any(self._is_awaited(row, item) for row in item.rows):
                raise StoreError(
                    f"Object {item.id.hex()} is of a bundle without receipt", "It is kept until it has one."
                )
        freed = 0
        for item in items:
            freed += item.held_bytes
            item.whole = None
            for layout in item.layouts:
                layout.held = 0
        self.settle(objects)
        return freed

    def freeable(self, row: Row, own_before: int) -> dict[ObjectId, int]:
        """The objects of a delivered bundle that no other one needs, with their bytes."""
        found = {one: self.objects[one].held_bytes for one in row.objects if not self._is_needed(one, own_before)}
        return {one: size for one, size in found.items() if size}

    @property
    def bytes_held(self) -> int:
        """Bytes of content."""
        return sum(one.held_bytes for one in self.objects.values())

    def _takes(self, row: Row, rules: Rules) -> bool:
        return row.completed is None and not row.withheld and (rules.keeps_all or row.entry is None)

    def _is_needed(self, object_id: ObjectId, own_before: int) -> bool:
        item = self.objects[object_id]
        return any(self._is_awaited(row, item) or (row.own and row.receipt_at >= own_before) for row in item.rows)

    def _is_awaited(self, row: Row, item: Object) -> bool:
        """Whether an undelivered bundle keeps content: not with a false size of a whole object."""
        return row.entry is None and not (item.whole is not None and row.objects[item.id] != item.size)

    def _remaining(self, object_id: ObjectId, size: int) -> int:
        item = self.objects[object_id]
        if item.whole is not None:
            return 0 if item.size == size else size
        held = [one.bytes_of(one.held) for one in item.layouts if one.size == size and not one.refuted]
        return size - max(held, default=0)


def chunk_count(size: int) -> int:
    """How many chunks an object of `size` bytes has."""
    return -(-size // chunk_size_for(size))
