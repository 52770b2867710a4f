"""Objects that arrive chunk by chunk: what is wanted, what is held, staging and committing.

A chunk is written as soon as its hash is right; `commit` syncs what was written, hashes objects whose chunks are all
there, and only then says in the catalogue that it is held. After a power cut the catalogue may know less than the
disk, never more (promise 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from relay.errors import Malformed
from relay.records.identifiers import HASH_SIZE, ObjectId, StatementId, sha256
from relay.store import catalogue
from relay.store.content import Content, chunk_count, span
from relay.store.database import Database
from relay.store.interface import Holding, Want


@dataclass(slots=True)
class _Layout:
    """What the catalogue says of one layout, and which chunks were written since it was last asked."""

    object: ObjectId
    name: bytes
    size: int
    hashes: bytes
    held: int
    staged: int = 0

    @property
    def whole(self) -> int:
        """The bit set of all its chunks."""
        return (1 << chunk_count(self.size)) - 1

    def hash_of(self, index: int) -> bytes:
        """The hash of a chunk."""
        return self.hashes[index * HASH_SIZE : (index + 1) * HASH_SIZE]


class Transfers:
    """The partial objects of a store. Safe for concurrent callers."""

    def __init__(self, database: Database, content: Content) -> None:
        self._database = database
        self._content = content
        self._layouts: dict[ObjectId, list[_Layout]] = {}
        self._committing = asyncio.Lock()
        self._epoch = 0
        self._last: list[StatementId] = []

    def forget(self) -> None:
        """Another process changed the catalogue: ask it again. What is staged stays."""
        for object_id in [key for key, layouts in self._layouts.items() if not any(one.staged for one in layouts)]:
            del self._layouts[object_id]

    async def stage(self, object_id: ObjectId, index: int, data: bytes) -> bool:
        """See `Store.stage_chunk`."""
        layouts = await self._wanted_layouts(object_id)
        if not layouts:
            return False
        size = layouts[0].size
        if not 0 <= index < chunk_count(size) or len(data) != span(size, index)[1]:
            raise Malformed("A chunk does not fit its object")
        digest = await asyncio.to_thread(sha256, data)
        fitting = [one for one in layouts if one.hash_of(index) == digest]
        if not fitting:
            raise Malformed("A chunk's content is not what any statement says")
        taken = False
        for layout in fitting:
            if (layout.held | layout.staged) >> index & 1:
                continue
            offset = span(size, index)[0]
            await asyncio.to_thread(self._content.write_chunk, object_id, layout.name, offset, data)
            layout.staged |= 1 << index
            taken = True
        return taken

    async def commit(self) -> list[StatementId]:
        """See `Store.commit_chunks`. Callers that come while a commit runs share the next one."""
        epoch = self._epoch
        async with self._committing:
            if self._epoch > epoch + 1:
                return []  # a commit that began after this call has done its work
            self._epoch += 1
            return await self._commit()

    async def wants(self, limit: int, skip: frozenset[ObjectId], *, keeps_all: bool) -> list[Want]:
        """See `Store.wants`; whether there is room is the caller's question."""
        delivered = "" if keeps_all else "AND entry IS NULL"
        rows = await self._database.rows(
            f"SELECT statement FROM bundles b WHERE completed IS NULL AND withheld = 0 {delivered} ORDER BY "
            "EXISTS (SELECT 1 FROM bundles c WHERE c.supersedes = b.statement), remaining, statement LIMIT ?",
            (limit + len(skip),),
        )
        wants: dict[ObjectId, Want] = {}
        for (statement,) in rows:
            sql = "SELECT DISTINCT f.object FROM files f JOIN objects o ON o.id = f.object "
            sql += "WHERE f.statement = ? AND o.state != 1 ORDER BY f.place"
            for (object_id,) in await self._database.rows(sql, (statement,)):
                if object_id in skip or object_id in wants:
                    continue
                if want := _want(await self._wanted_layouts(ObjectId(object_id))):
                    wants[want.object] = want
            if len(wants) >= limit:
                break
        return list(wants.values())[:limit]

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """See `Store.holdings`."""
        found: list[Holding] = []
        for object_id in objects:
            row = await self._database.row("SELECT size, state FROM objects WHERE id = ?", (object_id,))
            if row is None:
                continue
            if row[1] == 1:
                found.append(Holding(object_id, row[0], 0, complete=True))
                continue
            held = 0
            for bits in await self._held(object_id):
                held |= bits
            if held:
                found.append(Holding(object_id, row[0], held, complete=False))
        return found

    async def read(self, object_id: ObjectId, index: int) -> bytes | None:
        """See `Store.read_chunk`."""
        row = await self._database.row("SELECT size, state FROM objects WHERE id = ?", (object_id,))
        if row is None or not 0 <= index < chunk_count(row[0]):
            return None
        offset, length = span(row[0], index)
        if row[1] == 1:
            return await asyncio.to_thread(self._content.read_chunk, object_id, None, offset, length)
        rows = await self._database.rows("SELECT layout, held FROM layouts WHERE object = ?", (object_id,))
        for layout, held in rows:
            if int.from_bytes(held, "little") >> index & 1:
                return await asyncio.to_thread(self._content.read_chunk, object_id, layout, offset, length)
        return None

    async def _held(self, object_id: ObjectId) -> list[int]:
        sql = "SELECT held FROM layouts WHERE object = ? AND NOT refuted"
        return [int.from_bytes(held, "little") for (held,) in await self._database.rows(sql, (object_id,))]

    async def _wanted_layouts(self, object_id: ObjectId) -> list[_Layout]:
        """The layouts by which an object may still come; none where no statement wants it."""
        if object_id not in self._layouts:
            rows = await self._database.rows(
                "SELECT l.layout, o.size, l.hashes, l.held FROM layouts l JOIN objects o ON o.id = l.object "
                "WHERE l.object = ? AND o.state != 1 AND NOT l.refuted AND EXISTS (SELECT 1 FROM files f "
                "JOIN bundles b USING (statement) "
                "WHERE f.object = l.object AND b.completed IS NULL AND NOT b.withheld)",
                (object_id,),
            )
            fresh = [_Layout(object_id, row[0], row[1], row[2], int.from_bytes(row[3], "little")) for row in rows]
            if not fresh:
                return []
            self._layouts.setdefault(object_id, fresh)
        return self._layouts[object_id]

    async def _commit(self) -> list[StatementId]:
        staged = [(one, one.staged) for layouts in self._layouts.values() for one in layouts if one.staged]
        if not staged:
            return []
        for layout, _ in staged:
            await asyncio.to_thread(self._content.sync_partial, layout.object, layout.name)
        completed: list[_Layout] = []
        refuted: list[_Layout] = []
        for layout, bits in staged:
            if layout.held | bits == layout.whole:
                right = await asyncio.to_thread(self._content.complete, layout.object, layout.name)
                (completed if right else refuted).append(layout)
        done = {layout.object for layout in completed}
        obsolete = [one for object_id in done for one in self._layouts[object_id] if one not in completed]
        async with self._database.transaction() as db:
            for layout, bits in staged:
                layout.held |= bits
                layout.staged &= ~bits
                await db.execute(
                    "UPDATE layouts SET held = ?, held_bytes = ? WHERE object = ? AND layout = ?",
                    (_bits(layout.held), _bytes_of(layout.size, layout.held), layout.object, layout.name),
                )
            for layout in refuted:
                await db.execute(
                    "UPDATE layouts SET refuted = 1, held = x'', held_bytes = 0 WHERE object = ? AND layout = ?",
                    (layout.object, layout.name),
                )
            for object_id in done:
                await db.execute("UPDATE objects SET state = 1 WHERE id = ?", (object_id,))
                await db.execute("UPDATE layouts SET held = x'', held_bytes = 0 WHERE object = ?", (object_id,))
            settled = await catalogue.settle(db, dict.fromkeys(layout.object for layout, _ in staged))
        for layout in (*refuted, *obsolete):
            await asyncio.to_thread(self._content.remove_partial, layout.object, layout.name)
        for object_id in {*done, *(layout.object for layout in refuted)}:
            self._layouts.pop(object_id, None)
        if len(self._layouts) > _MOST_CACHED:
            self.forget()
        return settled


_MOST_CACHED = 1_024


def _want(layouts: Sequence[_Layout]) -> Want | None:
    missing = 0
    for layout in layouts:
        missing |= layout.whole & ~(layout.held | layout.staged)
    if not missing:
        return None
    size = layouts[0].size
    return Want(layouts[0].object, size, missing, _bytes_of(size, missing))


def _bytes_of(size: int, bits: int) -> int:
    last = chunk_count(size) - 1
    total = bits.bit_count() * span(size, 0)[1]
    if bits >> last & 1:
        total += span(size, last)[1] - span(size, 0)[1]
    return total


def _bits(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
