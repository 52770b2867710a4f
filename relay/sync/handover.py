"""What went to whom: the statements, and the chunks of each object, that a neighbour got from this node.

Counted where chunks leave, on both sides of a visit, in memory and bounded. It tells people where a package is, and
which chunks a receiver answered for and did not keep: those come last. Nothing is freed or believed because of it
(promise 4 is the receipt's).
"""

from __future__ import annotations

from relay.limits import DECLINED_SECONDS, MAX_HANDED, MAX_REFUSALS
from relay.records.identifiers import Kind, ObjectId, RecordId
from relay.store.layouts import chunk_count


class Handed:
    """Statements and chunks by neighbour (its node id in hex)."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[str, ObjectId], int] = {}
        self._answered: dict[tuple[str, ObjectId], int] = {}
        self._statements: dict[tuple[str, RecordId], None] = {}
        self._moved: dict[RecordId | ObjectId, int] = {}
        """The count with which each object and statement went last; what went last is last."""
        self._declined: dict[tuple[str, int, RecordId], float] = {}
        """What a neighbour has no quota for, and when it said so (monotonic seconds)."""
        self.count = 0
        """How often something went, so that it is seen when there is news."""

    def went(self, node: str, object_id: ObjectId, index: int) -> None:
        """A chunk was handed to a neighbour."""
        key = node, object_id
        self._chunks[key] = self._chunks.pop(key, 0) | 1 << index  # what moved last is forgotten last
        self._note_moved(object_id)
        if len(self._chunks) > MAX_HANDED:
            del self._chunks[next(iter(self._chunks))]

    def answered(self, node: str, object_id: ObjectId, index: int) -> None:
        """A neighbour answered the call with which a chunk came: it keeps it, or never will."""
        key = node, object_id
        self._answered[key] = self._answered.pop(key, 0) | 1 << index
        if len(self._answered) > MAX_HANDED:
            del self._answered[next(iter(self._answered))]

    def went_before(self, node: str, object_id: ObjectId, index: int) -> bool:
        """Whether a chunk went to a neighbour already: lacked still, it did not come there, or was not right."""
        return bool(self._chunks.get((node, object_id), 0) >> index & 1)

    def in_vain(self, node: str, object_id: ObjectId, missing: int) -> bool:
        """Whether a neighbour answered for one of the chunks that it says it lacks."""
        return bool(self._answered.get((node, object_id), 0) & missing)

    def turns(self, node: str) -> dict[ObjectId, int]:
        """The objects of which a neighbour answered for something, and a number for each: the least for what it
        answered for longest ago."""
        return {object_id: place for place, (one, object_id) in enumerate(self._answered) if one == node}

    def told(self, node: str, statement: RecordId) -> None:
        """A statement was handed to a neighbour: of a package without files, all there is."""
        self._statements[node, statement] = None
        self._note_moved(statement)
        if len(self._statements) > MAX_HANDED:
            del self._statements[next(iter(self._statements))]

    def moved(self, since: int) -> list[RecordId | ObjectId]:
        """The objects and statements of which something went since the count was `since`."""
        found: list[RecordId | ObjectId] = []
        for one in reversed(self._moved):
            if self._moved[one] <= since:
                break
            found.append(one)
        return found

    def declined(self, node: str, kind: Kind, record: RecordId, now: float) -> None:
        """A neighbour said that it has no quota for a record."""
        self._declined[node, int(kind), record] = now
        if len(self._declined) > MAX_REFUSALS:
            del self._declined[next(iter(self._declined))]

    def declines(self, node: str, item: tuple[int, RecordId], now: float) -> bool:
        """Whether a neighbour said so lately: it need not tell when that changes."""
        said = self._declined.get((node, *item))
        return said is not None and now - said < DECLINED_SECONDS

    def offer_again(self, kind: Kind | None = None) -> None:
        """Receipts make room in the quotas of whoever hears of them, which is before the statements come, and notices
        in all: have records of this kind, or of any, offered again."""
        self._declined = {key: said for key, said in self._declined.items() if kind is not None and key[1] != kind}

    def nodes(self) -> set[str]:
        """The neighbours that got something."""
        return {node for node, _ in (*self._chunks, *self._statements)}

    def knows(self, node: str, statement: RecordId) -> bool:
        """Whether a neighbour got a statement."""
        return (node, statement) in self._statements

    def whole(self, node: str, object_id: ObjectId, size: int) -> bool:
        """Whether a neighbour got every chunk of an object of `size` bytes."""
        return self._chunks.get((node, object_id), 0) == (1 << chunk_count(size)) - 1

    def _note_moved(self, one: RecordId | ObjectId) -> None:
        self.count += 1
        self._moved.pop(one, None)
        self._moved[one] = self.count
        if len(self._moved) > 2 * MAX_HANDED:
            del self._moved[next(iter(self._moved))]
