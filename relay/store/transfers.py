"""Objects that arrive chunk by chunk: what is wanted, what is held, staging and committing.

A chunk is written as soon as its hash is right; `commit` syncs what was written, hashes objects whose chunks are all
there, and only then says in the catalogue that it is held. After a power cut the catalogue may know less than the
disk, never more (promise 5).

An object may have several layouts, since a statement may lie about its chunks: each is gathered in a file of its own,
and the first whose whole content has the object's hash is the object (promise 3).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from relay.errors import DiskFull, Malformed, StoreError, Unreadable
from relay.records.identifiers import ObjectId, StatementId, sha256
from relay.store import catalogue
from relay.store.arriving import SharedCommits, gather_wants
from relay.store.content import Content
from relay.store.database import Database
from relay.store.interface import Holding, Want
from relay.store.layoutcache import LayoutCache
from relay.store.layouts import Layout, bytes_of, chunk_count, least_of, pack_bits, span, unpack_bits, want_of
from relay.store.unreadable import CHANGED, LOST, UnreadableObjects

logger = logging.getLogger(__name__)

_MOST_CACHED = 1_024
_MOST_REMEMBERED = 16_384


@dataclass(slots=True, eq=False)
class _Layout(Layout):
    """A layout, and which of its chunks were written since the catalogue was last asked."""

    staged: int = 0
    writing: int = 0
    """Chunks that are being written now."""
    committing: int = 0
    """Staged chunks that a commit is at: neither to be asked for again, nor held yet."""

    @property
    def missing(self) -> int:
        """See `Layout`."""
        return self.whole & ~(self.held | self.staged | self.committing)

    @property
    def in_use(self) -> bool:
        """See `Layout`."""
        return bool(self.staged or self.writing or self.committing)


@dataclass(slots=True)
class _Batch:
    """What one commit makes durable: chunks by layout, and what the layouts that have all chunks turned out to be."""

    staged: list[tuple[_Layout, int]]
    completed: list[_Layout]
    refuted: list[_Layout]
    damaged: list[tuple[_Layout, int]]
    """With the chunks that are right."""


@dataclass(frozen=True, slots=True, eq=False)
class _Arrived:
    """A chunk that waits to be written, to those of the layouts that it fits, and who waits for that."""

    layouts: list[_Layout]
    index: int
    data: bytes
    done: asyncio.Future[int]


class Transfers:
    """The partial objects of a store. Safe for concurrent callers."""

    def __init__(self, database: Database, content: Content, unreadable: UnreadableObjects, *, keeps_all: bool) -> None:
        self._database = database
        self._content = content
        self._unreadable = unreadable
        self._undelivered = "1" if keeps_all else "b.entry IS NULL"
        self._layouts = LayoutCache(self._ask_layouts, _MOST_CACHED)
        self._sound: dict[ObjectId, None] = {}
        """Objects that this process read whole lately, and that had their hash."""
        self._right: dict[ObjectId, None] = {}
        """Objects that were found right as a whole, of which no list of chunks that is kept is."""
        self._arrived: list[_Arrived] = []
        self.coming: Counter[ObjectId] = Counter()
        """Bytes of chunks that are being written, by object. None of them is counted as staged at the same time."""
        self._writing: asyncio.Task[None] | None = None
        self._commits = SharedCommits(self._commit)

    @property
    def uncommitted(self) -> int:
        """Bytes that are staged, and that the catalogue does not count yet."""
        return sum(bytes_of(one.size, one.staged | one.committing) for one in self._layouts if one.in_use)

    @property
    def arriving(self) -> set[ObjectId]:
        """The objects of which chunks came since the last commit."""
        return {one.object for one in self._layouts if one.in_use}

    @property
    def settling(self) -> int:
        """Those of them that a commit is at: when it ends, the catalogue counts them a moment before this does not."""
        return sum(bytes_of(one.size, one.committing) for one in self._layouts if one.committing)

    def forget(self) -> None:
        """The catalogue was changed by others than `commit`: ask it again. What is staged stays."""
        self._layouts.forget()

    def named(self, objects: Iterable[ObjectId]) -> None:
        """Statements came that name these objects: they may give other lists of chunks."""
        self._layouts.changed(objects)

    async def stage(self, object_id: ObjectId, index: int, data: bytes) -> int:
        """See `Store.stage_chunk`."""
        layouts = await self._layouts.of(object_id)
        if not layouts:
            return 0
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        for layout in layouts:
            layout.writing += 1
        self.coming[object_id] += len(data)
        self._arrived.append(_Arrived(layouts, index, data, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_arrived())
        return await done  # which is cancelled with the caller, and nothing else is

    async def commit(self, since: int = 0) -> list[StatementId]:
        """See `Store.commit_chunks`."""
        return await self._commits.join(since)

    async def wants(self, limit: int, skip: frozenset[ObjectId]) -> list[Want]:
        """See `Store.wants`; whether there is room is the caller's question."""
        wants = await gather_wants(self._wanted, self._layouts.of, limit, skip)
        known = {one.object for one in wants}
        for object_id in sorted(self._unreadable.objects - skip - known):
            if len(wants) < limit and (want := want_of(await self._layouts.of(object_id))):
                wants.append(want)
        return wants

    async def missing(self, object_id: ObjectId) -> int:
        """See `Store.missing`."""
        want = want_of(await self._layouts.of(object_id))
        return want.missing if want else 0

    async def look_up(self, objects: Iterable[ObjectId]) -> None:
        """Ask the catalogue about objects, as far as that was not done."""
        for one in list(objects):
            await self._layouts.of(one)

    def least(self, object_id: ObjectId) -> int:
        """How many bytes have to come until an object is whole that the catalogue was asked about, besides those that
        are being written; 0 of others."""
        return least_of(self._layouts.known(object_id)) - self.coming[object_id]

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """See `Store.holdings`."""
        found = [await self._holding(one) for one in objects if one not in self._unreadable]
        return [one for one in found if one is not None]

    async def _holding(self, object_id: ObjectId) -> Holding | None:
        row = await self._database.row(_WHERE_IT_LIES, (object_id, object_id))
        if row is None:
            return None
        if row[1] is None:
            return Holding(object_id, row[0], (1 << chunk_count(row[0])) - 1, complete=True)
        return Holding(object_id, row[0], unpack_bits(row[2]), complete=False)

    async def read(self, object_id: ObjectId, index: int, *, doubted: bool) -> bytes | None:
        """See `Store.read_chunk`."""
        if object_id in self._unreadable:
            return None
        try:
            data = await self._read(object_id, index)
            if doubted and data is not None and not await self._is_right(object_id, index, data):
                data = await self._read(object_id, index)
        except Unreadable as error:
            await self._unreadable.note(object_id, error)
            self._layouts.changed((object_id,))
            return None
        return data

    async def reread(self) -> int:
        """See `Store.reread`."""
        again = 0
        for object_id in self._unreadable.objects:
            try:
                await self._read_through(object_id)
            except Unreadable:
                continue
            self._unreadable.forget(object_id)
            self._layouts.changed((object_id,))
            logger.info("object %s can be read again", object_id.hex())
            again += 1
        return again

    async def look_through(self, objects: Iterable[ObjectId]) -> bool:
        """Read those of these objects that this process has not read; whether all of them are what they should be. The
        others are noted."""
        before = len(self._unreadable.objects)
        for object_id in objects:
            if object_id in self._sound:
                continue
            try:
                await self._read_through(object_id)
            except Unreadable as error:
                await self._unreadable.note(object_id, error)
                self._layouts.changed((object_id,))
            else:
                _remember(self._sound, object_id)
        return len(self._unreadable.objects) == before

    def is_sound(self, object_id: ObjectId) -> None:
        """It was read whole just now."""
        _remember(self._sound, object_id)

    async def _is_right(self, object_id: ObjectId, index: int, data: bytes) -> bool:
        """Whether a chunk that was read is what some statement says; False where the object is right, and the chunk has
        to be read again. Raises `Unreadable` where the disk gave other content than was written to it."""
        if object_id in self._right:
            return True
        digest = await asyncio.to_thread(sha256, data)
        rows = await self._database.rows("SELECT size, hashes FROM layouts WHERE object = ?", (object_id,))
        if any(Layout(object_id, b"", row[0], row[1], 0).fits(index, len(data), digest) for row in rows):
            return True
        # Lists of liars may have taken the place of the true one: what counts is the object's own hash.
        await self._read_through(object_id)
        if await self._is_held(object_id):
            _remember(self._right, object_id)
        return False

    async def _read_through(self, object_id: ObjectId) -> None:
        """Read all that is held of an object, and see that it is what its hashes say. Raises `Unreadable`."""
        row = await self._database.row(_WHERE_IT_LIES, (object_id, object_id))
        if row is None:
            return
        if row[1] is None:
            right = await asyncio.to_thread(self._content.holds, object_id, row[0])
        else:
            chunks = await asyncio.to_thread(self._content.right_chunks, object_id, row[1], row[0], row[3])
            right = not unpack_bits(row[2]) & ~chunks
        if not right:
            raise Unreadable(CHANGED, "Check the disk or card.")

    async def _read(self, object_id: ObjectId, index: int) -> bytes | None:
        row = await self._database.row(_WHERE_IT_LIES, (object_id, object_id))
        if row is None or not 0 <= index < chunk_count(row[0]):
            return None
        layout: bytes | None = row[1]
        if layout is not None and not unpack_bits(row[2]) >> index & 1:
            return None
        where = span(row[0], index)
        data = await asyncio.to_thread(self._content.read_chunk, object_id, layout, *where)
        if data is None and layout is not None:  # it became whole since the catalogue was asked
            data = await asyncio.to_thread(self._content.read_chunk, object_id, None, *where)
        if data is None and layout is None and await self._is_held(object_id):  # not freed since it was asked
            raise Unreadable(LOST, "Check the disk or card.")
        return data

    async def _is_held(self, object_id: ObjectId) -> bool:
        return bool(await self._database.row("SELECT 1 FROM objects WHERE id = ? AND state = 1", (object_id,)))

    async def _write_arrived(self) -> None:
        """Hash and write what arrived, and what arrives meanwhile: one way to a thread and back for all of it, since
        that takes longer than a chunk."""
        try:
            while self._arrived:
                chunks, self._arrived = self._arrived, []
                try:
                    outcomes = await asyncio.to_thread(self._write, chunks)
                except asyncio.CancelledError:
                    for chunk in chunks:
                        self.coming -= Counter({chunk.layouts[0].object: len(chunk.data)})
                        chunk.done.cancel()
                    raise
                for chunk, outcome in zip(chunks, outcomes, strict=True):
                    self._note(chunk, outcome)
        finally:
            self._writing = None

    def _note(self, chunk: _Arrived, outcome: list[_Layout] | Exception) -> None:
        """Stage a chunk that was written, and tell who brought it."""
        for layout in chunk.layouts:
            layout.writing -= 1
        self.coming -= Counter({chunk.layouts[0].object: len(chunk.data)})
        if isinstance(outcome, Exception):
            if not chunk.done.done():  # else the caller is gone
                chunk.done.set_exception(outcome)
            return
        new = any(layout.missing >> chunk.index & 1 for layout in outcome)
        for layout in outcome:
            layout.staged |= 1 << chunk.index
        if not chunk.done.done():
            chunk.done.set_result(self._commits.number if new else 0)

    def _write(self, chunks: Sequence[_Arrived]) -> list[list[_Layout] | Exception]:
        """For each chunk the layouts that it was written to, or what is wrong with it. In a thread."""
        outcomes: list[list[_Layout] | Exception] = []
        for chunk in chunks:
            try:
                outcomes.append(self._write_one(chunk))
            except Exception as error:  # noqa: BLE001 - it is raised where the chunk came from
                outcomes.append(error)
        return outcomes

    def _write_one(self, chunk: _Arrived) -> list[_Layout]:
        digest = sha256(chunk.data)
        fitting = [one for one in chunk.layouts if one.fits(chunk.index, len(chunk.data), digest)]
        if not fitting:
            raise Malformed("A chunk's content is not what any statement says")
        lacking = [one for one in fitting if one.missing >> chunk.index & 1]
        for one in lacking:
            offset = span(one.size, chunk.index)[0]
            self._content.write_chunk(one.object, one.name, offset, chunk.data)
        return lacking

    async def _wanted(self, skip: Set[ObjectId], count: int) -> list[ObjectId]:
        sql = _WANTED.format(self._undelivered)

        def find(db: sqlite3.Connection) -> list[ObjectId]:
            found: list[ObjectId] = []
            for superseded in (0, 1):
                turn, turns = 0, 1
                while len(found) < count and (rows := db.execute(sql, (superseded, turn, turns)).fetchall()):
                    found += [ObjectId(row[0]) for row in rows if row[0] is not None and row[0] not in skip]
                    turn, turns = turn + turns, 2 * turns
            return found

        return await self._database.read(find)

    async def _ask_layouts(self, object_id: ObjectId) -> list[_Layout]:
        if not self._unreadable.may_come_again(object_id):
            return []
        sql = _LAYOUTS_ANEW if object_id in self._unreadable else _LAYOUTS
        rows = await self._database.rows(sql.format(self._undelivered), (object_id,))
        return [_Layout(object_id, row[0], row[1], row[2], unpack_bits(row[3])) for row in rows]

    async def _commit(self) -> list[StatementId]:
        staged = [(one, one.staged) for one in self._layouts if one.staged]
        if not staged:
            return []
        for layout, bits in staged:
            layout.staged &= ~bits  # whatever happens now: what failed once is not believed later
            layout.committing |= bits
        try:
            batch = await self._judge(staged)
            settled, gone = await self._record(batch)
            for layout, bits in batch.staged:
                layout.held |= bits
            for layout, right in batch.damaged:
                layout.held = right
        finally:
            for layout, bits in staged:
                layout.committing &= ~bits
        self._layouts.drop(gone)
        return settled

    async def _judge(self, staged: list[tuple[_Layout, int]]) -> _Batch:
        """Sync what was staged, and hash what may be whole; many files at once, as far as threads and disk go."""
        there = await asyncio.gather(
            *(asyncio.to_thread(self._content.sync_partial, layout.object, layout.name) for layout, _ in staged)
        )
        if any(not layout.held for layout, _ in staged):
            await asyncio.to_thread(self._content.sync_partials)
        batch = _Batch([one for one, is_there in zip(staged, there, strict=True) if is_there], [], [], [])
        full = [layout for layout, bits in batch.staged if layout.held | bits == layout.whole]
        whole = await asyncio.gather(*(self._is_whole(layout) for layout in full))
        for layout, is_whole in zip(full, whole, strict=True):
            if is_whole:
                batch.completed.append(layout)
                continue
            arguments = (layout.object, layout.name, layout.size, layout.hashes)
            right = await asyncio.to_thread(self._content.right_chunks, *arguments)
            if right == layout.whole and is_whole is not None:
                batch.refuted.append(layout)
            elif right == layout.whole:  # it can be read this time: what was staged comes once more, and is judged anew
                batch.damaged.append((layout, right & ~(layout.staged | layout.committing)))
            else:
                batch.damaged.append((layout, right))  # the disk's fault and not the signer's
        return batch

    async def _is_whole(self, layout: _Layout) -> bool | None:
        """Whether a layout's file is the object; None where it cannot be read back: that concerns no other object."""
        try:
            return await asyncio.to_thread(self._content.is_whole, layout.object, layout.name)
        except Unreadable as error:
            await self._unreadable.note(layout.object, error)
            return None

    def _place(self, layout: _Layout, *, again: bool) -> bool:
        """Move a whole object to its place; False where that holds something that is neither read nor replaced, and
        the catalogue said before that it lies there (`again`)."""
        try:
            self._content.place(layout.object, layout.name)
        except DiskFull:
            raise
        except StoreError:
            if not again:
                raise
            return False
        return True

    async def _record(self, batch: _Batch) -> tuple[list[StatementId], list[_Layout]]:
        """Commit what `_judge` found; the bundles that became complete, and the layouts that are done with. An object
        counts as complete once it is in its place, and no sooner: else its chunks stay where they are."""
        placed: list[_Layout] = []
        renewed: list[_Layout] = []
        given_up: list[_Layout] = []
        useless = list(batch.refuted)
        stale: list[_Layout] = []
        anew = self._unreadable.objects

        def record(db: sqlite3.Connection) -> list[StatementId]:
            for layout, others in _hold(db, batch, anew):
                (stale if others else useless).append(layout)
            for layout in batch.completed:
                if layout in useless or layout in stale:
                    continue
                again = layout.object in anew and _is_complete(db, layout.object)
                if self._place(layout, again=again):
                    (renewed if again else placed).append(layout)
                    useless.extend(_complete(db, layout))
                else:
                    given_up.append(layout)
                    useless.extend((layout, *_drop_chunks(db, layout)))
            there = [layout.object for layout in (*placed, *renewed)]
            self._content.sync_places(there)
            settled = catalogue.settle(db, dict.fromkeys(layout.object for layout, _ in batch.staged))
            again_complete = _complete_again(db, [one for one in there if one in anew])
            return list(dict.fromkeys((*settled, *again_complete)))

        try:
            settled = await self._database.write(record)
        except BaseException:
            for layout in placed:
                await asyncio.to_thread(self._content.take_back, layout.object, layout.name)
            for layout in renewed:  # it is where the catalogue says: taken back, it would be nowhere
                self._unreadable.forget(layout.object)
            self._layouts.changed([layout.object for layout in renewed])
            raise
        for layout in (*placed, *renewed):
            self._unreadable.forget(layout.object)
            self.is_sound(layout.object)
        for layout in given_up:
            self._unreadable.give_up(layout.object)
        for layout in useless:
            await asyncio.to_thread(self._content.remove_partial, layout.object, layout.name)
        return settled, [*batch.completed, *useless, *stale]


# Signers are found by leaping over the index, and of each only the bundles whose turn it is: whatever is under way.
# A bundle none of whose objects is missing has a row without one, so that who reads does not take its turn for the end.
_WANTED = """
    WITH RECURSIVE signers (node) AS (
        SELECT min(node) FROM bundles INDEXED BY bundles_wanted
            WHERE completed IS NULL AND withheld = 0 AND superseded = ?1
        UNION ALL SELECT (SELECT min(node) FROM bundles INDEXED BY bundles_wanted
            WHERE completed IS NULL AND withheld = 0 AND superseded = ?1 AND node > s.node)
        FROM signers s WHERE s.node IS NOT NULL),
    due AS (
        SELECT d.statement, d.remaining,
            row_number() OVER (PARTITION BY d.node ORDER BY d.remaining, d.statement) AS turn
        FROM signers s CROSS JOIN bundles d ON d.number IN (
            SELECT b.number FROM bundles b INDEXED BY bundles_wanted
            WHERE b.completed IS NULL AND b.withheld = 0 AND b.superseded = ?1 AND b.node = s.node AND {}
            ORDER BY b.remaining, b.statement LIMIT ?3 OFFSET ?2)
        WHERE s.node IS NOT NULL)
    SELECT o.id FROM due d LEFT JOIN files f ON f.statement = d.statement
    LEFT JOIN objects o ON o.id = f.object AND o.state != 1
        AND EXISTS (SELECT 1 FROM layouts l WHERE l.object = o.id AND NOT l.refuted)
    ORDER BY d.turn, d.remaining, d.statement, f.place
"""

# Of an object's partial layouts l the one to offer: none of a revoked signer before others'.
_BEST = """
    EXISTS (SELECT 1 FROM bundles WHERE node = l.node AND withheld = 1 AND entry IS NULL), held_bytes DESC LIMIT 1
"""

# Size, and layout with chunks and hashes where an object is partial. It is one question: between two, it becomes whole.
_WHERE_IT_LIES = f"""
    SELECT size, NULL, NULL, NULL FROM objects WHERE id = ? AND state = 1
    UNION ALL SELECT * FROM (
        SELECT size, layout, held, hashes FROM layouts l WHERE object = ? AND held_bytes > 0 ORDER BY {_BEST})
    LIMIT 1
"""

# CROSS JOIN fixes the order of the loops: SQLite would begin with all that is wanted.
_LAYOUTS = """
    SELECT l.layout, l.size, l.hashes, l.held FROM layouts l JOIN objects o ON o.id = l.object
    WHERE l.object = ? AND o.state != 1 AND NOT l.refuted AND EXISTS (
        SELECT 1 FROM files f CROSS JOIN bundles b USING (statement)
        WHERE f.object = l.object AND f.size = l.size AND b.completed IS NULL AND b.withheld = 0 AND {})
    ORDER BY l.number
"""


# The same for what is whole, and cannot be read.
_LAYOUTS_ANEW = """
    SELECT l.layout, l.size, l.hashes, l.held FROM layouts l JOIN objects o ON o.id = l.object
    WHERE l.object = ? AND NOT l.refuted AND EXISTS (
        SELECT 1 FROM files f CROSS JOIN bundles b USING (statement)
        WHERE f.object = l.object AND f.size = l.size AND b.entry IS NULL AND b.withheld = 0
        AND (o.state = 1 OR b.completed IS NULL) AND {})
    ORDER BY l.number
"""


def _remember(objects: dict[ObjectId, None], object_id: ObjectId) -> None:
    """Note an object, and forget the one that was noted first where they are many."""
    objects[object_id] = None
    if len(objects) > _MOST_REMEMBERED:
        del objects[next(iter(objects))]


def _hold(db: sqlite3.Connection, batch: _Batch, anew: frozenset[ObjectId]) -> list[tuple[_Layout, bool]]:
    """Say which chunks are held. Not of layouts of objects that another process completed meanwhile, or that were
    freed, and with them the file that these chunks were written to: those, and whether others brought new chunks. What
    is whole and cannot be read comes `anew`."""
    left: list[tuple[_Layout, bool]] = []
    damaged = dict(batch.damaged)
    for layout, bits in batch.staged:
        row = db.execute(
            "SELECT held, o.state FROM layouts JOIN objects o ON o.id = object WHERE object = ? AND layout = ?",
            (layout.object, layout.name),
        ).fetchone()
        held = 0 if row is None else unpack_bits(row[0])
        if row is None or (row[1] == 1 and layout.object not in anew) or layout.held & ~held:
            left.append((layout, held != 0))
            continue
        held = damaged.get(layout, held | bits)
        if layout in batch.refuted:
            held = 0
        db.execute(
            "UPDATE layouts SET held = ?, held_bytes = ?, refuted = ? WHERE object = ? AND layout = ?",
            (pack_bits(held), bytes_of(layout.size, held), layout in batch.refuted, layout.object, layout.name),
        )
    return left


def _complete_again(db: sqlite3.Connection, objects: Sequence[ObjectId]) -> list[StatementId]:
    """The complete bundles without receipt that had lost these objects: they can be delivered now."""
    sql = (
        "SELECT DISTINCT statement FROM files JOIN bundles USING (statement) "
        "WHERE object = ? AND entry IS NULL AND completed IS NOT NULL"
    )
    return [StatementId(row[0]) for one in objects for row in db.execute(sql, (one,))]


def _is_complete(db: sqlite3.Connection, object_id: ObjectId) -> bool:
    return db.execute("SELECT 1 FROM objects WHERE id = ? AND state = 1", (object_id,)).fetchone() is not None


def _complete(db: sqlite3.Connection, layout: _Layout) -> list[_Layout]:
    """Say that an object is complete; the layouts that it proves false."""
    db.execute("UPDATE objects SET state = 1, size = ? WHERE id = ?", (layout.size, layout.object))
    return _drop_chunks(db, layout)


def _drop_chunks(db: sqlite3.Connection, layout: _Layout) -> list[_Layout]:
    """Say that no chunks of a layout's object are held; its other layouts."""
    rows = db.execute(
        "UPDATE layouts SET held = x'', held_bytes = 0 WHERE object = ? RETURNING layout, size", (layout.object,)
    ).fetchall()
    return [_Layout(layout.object, row[0], row[1], b"", 0) for row in rows if row[0] != layout.name]
