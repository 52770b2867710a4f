"""Letting go of content, and bringing catalogue and files into step after a crash.

What is freed is marked in the catalogue before its file goes (promise 5), and never while a bundle without receipt
names it (promise 4).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

from relay.errors import DiskFull, StoreError
from relay.records.identifiers import ObjectId, StatementId
from relay.store import catalogue
from relay.store.ballast import Ballast
from relay.store.content import Content
from relay.store.database import Connection, Database

logger = logging.getLogger(__name__)

# Of bundles b with files f that name objects o: who keeps content from being freed. Not who gives a whole object
# another size, since that bundle never becomes complete.
_AWAITED = "(b.entry IS NULL AND NOT (o.state = 1 AND f.size <> o.size))"


class Upkeep:
    """Of one store's catalogue and files."""

    def __init__(self, database: Database, content: Content, ballast: Ballast) -> None:
        self._database = database
        self._content = content
        self._ballast = ballast
        self._stuck: set[ObjectId] = set()
        """Objects of which people were told that the disk does not let go of them."""

    async def mend(self) -> None:
        """Bring catalogue and files into step after a crash, and let go of what nothing needs."""
        for step in (self._remove_freed, self._mend_partials, self._remove_orphans):
            await self._ballast.afloat(step)

    async def _mend_partials(self) -> None:
        """A partial file that is gone was completed or freed just before a crash; one without a row is left over."""
        rows = await self._database.rows("SELECT object, layout, size FROM layouts WHERE held_bytes > 0")
        known = {(ObjectId(row[0]), bytes(row[1])): int(row[2]) for row in rows}
        present = set(await asyncio.to_thread(self._content.partials))
        gone = {key: size for key, size in known.items() if key not in present}
        for (object_id, layout), size in gone.items():
            whole = await asyncio.to_thread(self._content.holds, object_id, size)
            async with self._database.transaction() as db:
                await db.execute(
                    "UPDATE layouts SET held = x'', held_bytes = 0 WHERE object = ? AND (layout = ? OR ?)",
                    (object_id, layout, whole),
                )
                if whole:
                    await db.execute("UPDATE objects SET state = 1, size = ? WHERE id = ?", (size, object_id))
                await db.run(catalogue.settle, [object_id])
        for object_id, layout in present - known.keys():
            await asyncio.to_thread(self._content.remove_partial, object_id, layout)

    async def _remove_orphans(self) -> None:
        """Objects that no statement names: of submissions that never came to their end."""
        rows = await self._database.rows(
            "SELECT id FROM objects o WHERE state = 1 AND NOT EXISTS (SELECT 1 FROM files f WHERE f.object = o.id)"
        )
        if rows:
            async with self._database.transaction() as db:
                await db.executemany("UPDATE objects SET state = 2 WHERE id = ?", rows)
            await self._remove_freed()

    async def _remove_freed(self) -> None:
        """Delete the files of objects marked for it: the mark is committed before the file goes. A file that the disk
        does not let go of stays marked, keeps no other from going, and is tried again with the next."""
        if not await self._database.rows("SELECT 1 FROM objects WHERE state = 2 LIMIT 1"):
            return
        async with self._database.transaction() as db:
            # Asked again under the write lock: another process may have brought one of them back.
            async with db.execute("SELECT id FROM objects WHERE state = 2") as cursor:
                objects = [ObjectId(row[0]) async for row in cursor]
            gone = [object_id for object_id in objects if await self._remove(object_id)]
            await db.executemany("UPDATE objects SET state = 0 WHERE id = ?", [(object_id,) for object_id in gone])

    async def _remove(self, object_id: ObjectId) -> bool:
        try:
            await asyncio.to_thread(self._content.remove, object_id)
        except DiskFull:
            raise  # some file systems need room to remove a file: whoever has ballast gives it up for that
        except StoreError as error:
            if object_id not in self._stuck:
                self._stuck.add(object_id)
                logger.warning("%s. It is not needed any more, and stays until it can be deleted", error.what)
            return False
        self._stuck.discard(object_id)
        return True

    async def free(self, objects: Sequence[ObjectId]) -> int:
        """See `Store.free`. Also on a disk that is full: what frees it has to be written first."""
        freed = await self._ballast.afloat(lambda: self._mark(objects))
        await self._ballast.afloat(self._remove_freed)
        return freed

    async def _mark(self, objects: Sequence[ObjectId]) -> int:
        """Say that these objects are to be deleted, and delete what is partial of them; how many bytes that is."""
        freed = 0
        async with self._database.transaction() as db:
            for object_id in objects:
                async with db.execute(
                    f"SELECT 1 FROM objects o JOIN files f ON f.object = o.id JOIN bundles b USING (statement) "
                    f"WHERE o.id = ? AND {_AWAITED}",
                    (object_id,),
                ) as cursor:
                    if await cursor.fetchone():
                        raise StoreError(
                            f"Object {object_id.hex()} is of a bundle without receipt", "It is kept until it has one."
                        )
                async with db.execute(
                    "UPDATE objects SET state = 2 WHERE id = ? AND state = 1 RETURNING size", (object_id,)
                ) as cursor:
                    freed += sum([row[0] async for row in cursor])
                for layout, size in (await self.drop_partials(db, object_id)).items():
                    await asyncio.to_thread(self._content.remove_partial, object_id, layout)
                    freed += size
            await db.run(catalogue.settle, objects)
        return freed

    async def freeable(self, own_before: int) -> AsyncIterator[tuple[StatementId, tuple[ObjectId, ...], int]]:
        """See `Store.freeable`."""
        rows = await self._database.rows(
            "SELECT statement FROM bundles WHERE entry IS NOT NULL AND remaining < size "
            "AND (own = 0 OR receipt_at < ?) ORDER BY entry",
            (own_before,),
        )
        for (statement,) in rows:
            held = await self._database.rows(
                "SELECT DISTINCT o.id, CASE o.state WHEN 1 THEN o.size ELSE coalesce("
                "(SELECT sum(held_bytes) FROM layouts l WHERE l.object = o.id), 0) END AS bytes "
                "FROM files d JOIN objects o ON o.id = d.object WHERE d.statement = ? AND bytes > 0 "
                "AND NOT EXISTS (SELECT 1 FROM files f JOIN bundles b USING (statement) WHERE f.object = o.id "
                f"AND ({_AWAITED} OR (b.own <> 0 AND b.receipt_at >= ?)))",
                (statement, own_before),
            )
            if held:
                yield StatementId(statement), tuple(ObjectId(row[0]) for row in held), sum(row[1] for row in held)

    async def date_receipts(self, first: int, last: int, now: int) -> None:
        """See `Store.date_receipts`. Also on a disk that is full: nothing of its own is freed before that."""
        dated = "own <> 0 AND entry IS NOT NULL AND receipt_at BETWEEN ? AND ?"

        async def date() -> None:
            async with self._database.transaction() as db:
                await db.execute(f"UPDATE bundles SET receipt_at = ? WHERE {dated}", (now, first, last))

        if await self._database.rows(f"SELECT 1 FROM bundles WHERE {dated} LIMIT 1", (first, last)):
            await self._ballast.afloat(date)

    async def drop_partials(self, db: Connection, object_id: ObjectId) -> dict[bytes, int]:
        """Say that nothing is held of an object by chunks; its layouts with the bytes that were."""
        async with db.execute(
            "SELECT layout, held_bytes FROM layouts WHERE object = ? AND held_bytes > 0", (object_id,)
        ) as cursor:
            partials = {bytes(row[0]): int(row[1]) async for row in cursor}
        await db.execute("UPDATE layouts SET held = x'', held_bytes = 0 WHERE object = ?", (object_id,))
        return partials
