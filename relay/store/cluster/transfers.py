"""Objects that arrive chunk by chunk, at any of several receivers, and come to lie whole in the bucket.

A staged chunk is in this process's memory. `commit` puts it in the bucket and then says so in the catalogue: an object
that is whole at once goes where it will be published; of others, the chunks go there as a piece. Whoever brings the
last chunk of such an object puts the pieces together. A process may end between any two of these steps, and the bucket
may go away: what is in the bucket and not in the catalogue is garbage, and what the catalogue says is full and not
whole is put together by `finish`. Guards promises 3 and 5.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from relay.errors import Malformed, StoreError
from relay.limits import MAX_STAGED
from relay.records.identifiers import HASH_SIZE, ObjectId, StatementId, sha256
from relay.records.pictures import HEAD, media_type
from relay.store.arriving import SharedCommits, gather_wants
from relay.store.cluster import records
from relay.store.cluster.bucket import PUBLIC, Bucket
from relay.store.cluster.database import Database
from relay.store.interface import Holding, Want
from relay.store.layoutcache import LayoutCache
from relay.store.layouts import Layout, bytes_of, chunk_count, pack_bits, span, unpack_bits, want_of
from relay.store.shelf import FOR_EVER

logger = logging.getLogger(__name__)

_MOST_CACHED = 4_096


@dataclass(slots=True, eq=False)
class _Layout(Layout):
    """A layout, and its chunks that are in this process."""

    staged: dict[int, bytes] = field(default_factory=dict)
    committing: dict[int, bytes] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """See `Layout`."""
        brought = self.held
        for index in (*self.staged, *self.committing):
            brought |= 1 << index
        return self.whole & ~brought

    @property
    def in_use(self) -> bool:
        """See `Layout`."""
        return bool(self.staged or self.committing)


@dataclass(slots=True)
class _Batch:
    """What one commit makes durable: objects that are whole, and pieces of others by the name that they have."""

    whole: list[_Layout] = field(default_factory=list)
    refuted: list[_Layout] = field(default_factory=list)
    pieces: list[tuple[_Layout, str, int]] = field(default_factory=list)


class Transfers:
    """The partial objects of a store. Safe for concurrent callers, here and in other processes."""

    def __init__(self, database: Database, bucket: Bucket) -> None:
        self._database = database
        self._bucket = bucket
        self._layouts = LayoutCache(self._ask_layouts, _MOST_CACHED)
        self._staged_bytes = 0
        self._commits = SharedCommits(self._commit)

    def forget(self) -> None:
        """The catalogue was changed by others: ask it again. What is staged stays."""
        self._layouts.forget()

    def named(self, objects: Iterable[ObjectId]) -> None:
        """Statements came that name these objects: they may give other lists of chunks."""
        self._layouts.changed(objects)

    async def stage(self, object_id: ObjectId, index: int, data: bytes) -> int:
        """See `Store.stage_chunk`."""
        if not await self._layouts.of(object_id):
            return 0
        digest = await asyncio.to_thread(sha256, data)
        if self._staged_bytes + len(data) > MAX_STAGED:
            await self.commit()
        # Looked up once more, and nothing is awaited from here on: what was forgotten meanwhile would take a chunk that
        # no commit sees.
        layouts = await self._layouts.of(object_id)
        fitting = [one for one in layouts if one.fits(index, len(data), digest)]
        if layouts and not fitting:
            raise Malformed("A chunk's content is not what any statement says")
        taken = False
        for layout in fitting:
            if layout.missing >> index & 1:
                layout.staged[index] = data
                self._staged_bytes += len(data)
                taken = True
        return self._commits.number if taken else 0

    async def commit(self, since: int = 0) -> list[StatementId]:
        """See `Store.commit_chunks`."""
        return await self._commits.join(since)

    async def finish(self) -> list[StatementId]:
        """Put together what a receiver that ended had all chunks of; the bundles that became complete."""
        return await self._assemble([_layout(row) for row in await self._database.rows(_FILLED)])

    async def wants(self, limit: int, skip: frozenset[ObjectId]) -> list[Want]:
        """See `Store.wants`."""
        return await gather_wants(self._wanted, self._layouts.of, limit, skip)

    async def missing(self, object_id: ObjectId) -> int:
        """See `Store.missing`."""
        want = want_of(await self._layouts.of(object_id))
        return want.missing if want else 0

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """See `Store.holdings`."""
        rows = await self._database.rows(_HELD, list(objects)) if objects else []
        found = {
            row[0]: Holding(row[0], row[1], (1 << chunk_count(row[1])) - 1 if row[2] else unpack_bits(row[3]), row[2])
            for row in rows
        }
        return [found[one] for one in objects if one in found]

    async def read(self, object_id: ObjectId, index: int) -> bytes | None:
        """See `Store.read_chunk`."""
        row = await self._database.row(_HELD, [object_id])
        if row is None or not 0 <= index < chunk_count(row[1]):
            return None
        offset, length = span(row[1], index)
        if row[2]:
            return await self._bucket.get_range(object_path(object_id), offset, length)
        pieces = await self._database.rows(_PIECES_OF, object_id, row[4])
        for name, chunks in pieces:
            bits = unpack_bits(chunks)
            if bits >> index & 1:
                before = bytes_of(row[1], bits & ((1 << index) - 1)) if bits & ((1 << index) - 1) else 0
                return await self._bucket.get_range(name, before, length)
        return None

    async def adopt(self, object_id: ObjectId, content: bytes, *, anew: bool) -> bool:
        """Take in a whole object whose hash was checked; False when it is held already, and is not put `anew`."""
        if not anew and await self._database.row("SELECT 1 FROM objects WHERE id = $1 AND whole", object_id):
            return False
        await self._put_whole(object_id, content)

        async def work(db: Any) -> list[str]:
            await db.execute(
                "INSERT INTO objects VALUES ($1, $2, true) "
                "ON CONFLICT (id) DO UPDATE SET whole = true, size = excluded.size",
                object_id,
                len(content),
            )
            freed = await _drop_pieces(db, [object_id])
            await records.settle(db, [object_id])
            return freed

        freed = await self._database.commit(work)
        self._layouts.changed((object_id,))
        await self._tidy(freed)
        return True

    async def _wanted(self, skip: Set[ObjectId], count: int) -> list[ObjectId]:
        async def find(db: Any) -> list[ObjectId]:
            found: list[ObjectId] = []
            for superseded in (False, True):
                turn, turns = 0, 1
                while len(found) < count and (rows := await db.fetch(_WANTED, superseded, turn, turns)):
                    found += [ObjectId(row[0]) for row in rows if row[0] is not None and row[0] not in skip]
                    turn, turns = turn + turns, 2 * turns
            return found

        return await self._database.read(find)

    async def _ask_layouts(self, object_id: ObjectId) -> list[_Layout]:
        return [_layout(row) for row in await self._database.rows(_LAYOUTS, object_id)]

    async def _commit(self) -> list[StatementId]:
        staged = [one for one in self._layouts if one.staged]
        if not staged:
            return []
        for layout in staged:
            layout.committing, layout.staged = layout.staged, {}
        size = sum(len(data) for layout in staged for data in layout.committing.values())
        try:
            batch = await self._put(staged)
            completed, filled, freed = await self._database.commit(lambda db: _record(db, batch))
            for layout in staged:
                for index in layout.committing:
                    layout.held |= 1 << index
        finally:
            self._staged_bytes -= size
            for layout in staged:
                layout.committing = {}
        for dropped in self._layouts.drop((*batch.whole, *batch.refuted)):
            self._staged_bytes -= sum(len(data) for data in dropped.staged.values())
        await self._tidy(freed)
        return completed + await self._assemble(filled)

    async def _put(self, staged: Sequence[_Layout]) -> _Batch:
        """Put what was staged into the bucket: whole objects where they belong, pieces beside."""
        batch = _Batch()

        async def one(layout: _Layout) -> None:
            chunks = [layout.committing[index] for index in sorted(layout.committing)]
            bits = sum(1 << index for index in layout.committing)
            content = b"".join(chunks)
            if bits != layout.whole:
                name = f"piece/{layout.object.hex()}/{secrets.token_hex(12)}"
                await self._bucket.put(name, content)
                batch.pieces.append((layout, name, bits))
            elif await asyncio.to_thread(sha256, content) == layout.object:
                await self._put_whole(layout.object, content)
                batch.whole.append(layout)
            else:
                batch.refuted.append(layout)

        await asyncio.gather(*map(one, staged))
        return batch

    async def _assemble(self, layouts: Sequence[_Layout]) -> list[StatementId]:
        """Put together objects of which all chunks are in the bucket, as far as it answers: their chunks are safe, and
        `finish` goes on."""
        completed: list[StatementId] = []
        with _tolerated():
            for layout in layouts:
                completed += await self._assemble_one(layout)
        return completed

    async def _assemble_one(self, layout: _Layout) -> list[StatementId]:
        content = await self._content(layout)
        batch, damaged = _Batch(), False
        if await asyncio.to_thread(sha256, content) == layout.object:
            await self._put_whole(layout.object, content)
            batch.whole.append(layout)
        elif await asyncio.to_thread(_all_right, layout, content):
            batch.refuted.append(layout)
        else:
            damaged = True  # a piece is gone, or not what was put: the bucket's fault, and not the signer's

        async def work(db: Any) -> tuple[list[StatementId], list[str]]:
            if damaged:
                await db.execute("SELECT 1 FROM objects WHERE id = $1 FOR UPDATE", layout.object)
                return [], await _drop_pieces(db, [layout.object])
            done, _, freed = await _record(db, batch)
            return done, freed

        completed, freed = await self._database.commit(work)
        for dropped in self._layouts.drop((layout,)):
            self._staged_bytes -= sum(len(data) for data in dropped.staged.values())
        await self._tidy(freed)
        return completed

    async def _content(self, layout: _Layout) -> bytes:
        """The pieces of an object put together; zeros where there is none."""
        content = bytearray(layout.size)
        for name, chunks in await self._database.rows(_PIECES_OF, layout.object, layout.name):
            piece, at = await self._bucket.get(name) or b"", 0
            for index in _indices(unpack_bits(chunks)):
                offset, length = span(layout.size, index)
                part = piece[at : at + length]
                content[offset : offset + len(part)] = part
                at += length
        return bytes(content)

    async def _tidy(self, pieces: Sequence[str]) -> None:
        """Take away pieces that the catalogue has forgotten. Those that stay take room and do no harm."""
        with _tolerated():
            await self._bucket.remove(pieces)

    async def _put_whole(self, object_id: ObjectId, content: bytes) -> None:
        await self._bucket.put(object_path(object_id), content, media_type(content[:HEAD]), FOR_EVER)


@contextmanager
def _tolerated() -> Iterator[None]:
    """Within it, trouble is only told of: nothing that was said depends on what is done there."""
    try:
        yield
    except StoreError as error:
        logger.warning("%s", error)


def object_path(object_id: ObjectId) -> str:
    """Where an object lies in the bucket: where it will be published, once a page names it. Nobody guesses a hash."""
    return f"{PUBLIC}object/{object_id.hex()}"


async def _record(db: Any, batch: _Batch) -> tuple[list[StatementId], list[_Layout], list[str]]:
    """Say what was put; the bundles that are complete by it, the layouts that have all their chunks now, and the names
    of pieces that are needed no more."""
    layouts = [*batch.whole, *batch.refuted, *(one for one, _, _ in batch.pieces)]
    objects = sorted({one.object for one in layouts})
    states = await db.fetch("SELECT id, whole FROM objects WHERE id = ANY($1::bytea[]) ORDER BY id FOR UPDATE", objects)
    whole = {row[0] for row in states if row[1]}
    freed = [name for layout, name, _ in batch.pieces if layout.object in whole]  # another receiver was quicker
    filled: list[_Layout] = []
    for layout, name, bits in batch.pieces:
        if layout.object in whole:
            continue
        await db.execute(
            "INSERT INTO pieces VALUES ($1, $2, $3, $4)", name, layout.object, layout.name, pack_bits(bits)
        )
        held = unpack_bits(
            await db.fetchval("SELECT held FROM layouts WHERE object = $1 AND layout = $2", layout.object, layout.name)
            or b""
        )
        held |= bits
        await _hold(db, layout, held, refuted=False)
        if held == layout.whole:
            filled.append(layout)
    for layout in batch.refuted:
        await _hold(db, layout, 0, refuted=True)
        freed += await _drop(db, "object = $1 AND layout = $2", layout.object, layout.name)
    if batch.whole:
        await db.execute(
            "UPDATE objects o SET whole = true, size = w.size "
            "FROM unnest($1::bytea[], $2::bigint[]) AS w (id, size) WHERE o.id = w.id",
            [one.object for one in batch.whole],
            [one.size for one in batch.whole],
        )
        freed += await _drop_pieces(db, [one.object for one in batch.whole])
    return await records.settle(db, objects), filled, freed


async def _hold(db: Any, layout: Layout, held: int, *, refuted: bool) -> None:
    await db.execute(
        "UPDATE layouts SET held = $3, held_bytes = $4, refuted = $5 WHERE object = $1 AND layout = $2",
        layout.object,
        layout.name,
        pack_bits(held),
        bytes_of(layout.size, held),
        refuted,
    )


async def _drop_pieces(db: Any, objects: Sequence[ObjectId]) -> list[str]:
    """Forget the pieces of objects; their names."""
    await db.execute(
        "UPDATE layouts SET held = ''::bytea, held_bytes = 0 WHERE object = ANY($1::bytea[]) AND held_bytes > 0",
        list(objects),
    )
    return await _drop(db, "object = ANY($1::bytea[])", list(objects))


async def _drop(db: Any, where: str, *parameters: object) -> list[str]:
    return [row[0] for row in await db.fetch(f"DELETE FROM pieces WHERE {where} RETURNING name", *parameters)]


def _layout(row: Any) -> _Layout:
    return _Layout(ObjectId(row[0]), row[1], row[2], row[3], unpack_bits(row[4]))


def _all_right(layout: Layout, content: bytes) -> bool:
    """Whether every chunk is what the layout says: then it is the layout that lies about the object."""
    for index in range(chunk_count(layout.size)):
        offset, length = span(layout.size, index)
        if sha256(content[offset : offset + length]) != layout.hashes[index * HASH_SIZE : (index + 1) * HASH_SIZE]:
            return False
    return True


def _indices(bits: int) -> list[int]:
    return [index for index in range(bits.bit_length()) if bits >> index & 1]


_WANTED = """
    SELECT o.id FROM (
        SELECT b.statement, b.remaining, row_number() OVER (
            PARTITION BY b.node ORDER BY b.remaining, b.statement) AS turn
        FROM bundles b WHERE b.completed IS NULL AND NOT b.withheld AND b.superseded = $1) d
    LEFT JOIN files f ON f.statement = d.statement LEFT JOIN objects o ON o.id = f.object AND NOT o.whole
        AND EXISTS (SELECT 1 FROM layouts l WHERE l.object = o.id AND NOT l.refuted)
    WHERE d.turn > $2 AND d.turn <= $2 + $3
    ORDER BY d.turn, d.remaining, d.statement, f.place
"""
_LAYOUTS = """
    SELECT l.object, l.layout, l.size, l.hashes, l.held FROM layouts l JOIN objects o ON o.id = l.object
    WHERE l.object = $1 AND NOT o.whole AND NOT l.refuted AND EXISTS (
        SELECT 1 FROM files f JOIN bundles b USING (statement)
        WHERE f.object = l.object AND f.size = l.size AND b.completed IS NULL AND NOT b.withheld)
    ORDER BY l.number
"""
_FILLED = """
    SELECT l.object, l.layout, l.size, l.hashes, l.held FROM layouts l JOIN objects o ON o.id = l.object
    WHERE l.held_bytes = l.size AND NOT l.refuted AND NOT o.whole ORDER BY random() LIMIT 100
"""
"""In any order: one that cannot be put together keeps no other one from it for ever."""
_HELD = """
    SELECT o.id, CASE WHEN o.whole THEN o.size ELSE l.size END, o.whole, l.held, l.layout FROM objects o
    LEFT JOIN LATERAL (
        SELECT size, held, layout FROM layouts l
        WHERE l.object = o.id AND l.held_bytes > 0
        ORDER BY EXISTS (SELECT 1 FROM bundles WHERE node = l.node AND withheld AND entry IS NULL), l.held_bytes DESC
        LIMIT 1) l ON true
    WHERE o.id = ANY($1::bytea[]) AND (o.whole OR l.size IS NOT NULL)
"""
_PIECES_OF = "SELECT name, chunks FROM pieces WHERE object = $1 AND layout = $2"
