"""The reconciliation set of the embedded store, kept in step with its journal: what this process and others commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from relay.records.identifiers import Kind, RecordId
from relay.store.database import Database
from relay.store.interface import Seen
from relay.store.recordset import KEY_SIZE, RecordSet, item_of, key_of
from relay.trust.admission import Admitted

_JOURNAL_PAGE = 10_000
_HEARD = {int(Kind.NOTICE): Seen.RULES, int(Kind.CHECKPOINT): Seen.HEADS}


class Membership:
    """`members` are the records that may be reconciled: none of the kind that is `left_out`."""

    def __init__(self, database: Database, left_out: Kind | None) -> None:
        self.members = RecordSet()
        self._database = database
        self._left_out = left_out  # an older version noted them
        self._serial = 0
        self._heard = Seen.NEWS
        """What others committed since `heard` was asked."""
        self._adding: set[RecordId] = set()
        """Notices and checkpoints that this process is adding: it knows them."""
        self._following = asyncio.Lock()

    async def load(self, *, empty: bool = False) -> None:
        """Read the set; `empty` reads nothing, and follows what comes later."""
        newest = await self._database.row("SELECT coalesce(max(serial), 0) FROM journal")
        if not empty:
            self.members = await self._read()
        # What changed while the pages were read is applied once more, in order.
        self._serial = int(newest[0]) if newest else 0
        await self.follow()

    async def follow(self, until: int | None = None) -> None:
        """Take in what was committed since, in the order of commits: by this process and by others. Nothing is left to
        do where that was done `until` a serial number already, by one who committed together with the caller."""
        async with self._following:
            if until is not None and self._serial >= until:
                return
            sql = "SELECT serial, kind, id, present FROM journal WHERE serial > ? ORDER BY serial"
            for serial, kind, record, present in await self._database.rows(sql, (self._serial,)):
                if present:
                    self.members.add(kind, record)
                else:
                    self.members.discard(kind, record)
                self._serial = int(serial)
                if present and kind in _HEARD and record not in self._adding and self._heard is not Seen.RULES:
                    self._heard = _HEARD[kind]

    def heard(self) -> Seen:
        """What others committed since this was asked."""
        heard, self._heard = self._heard, Seen.NEWS
        return heard

    @contextmanager
    def adding(self, records: Iterable[Admitted]) -> Iterator[None]:
        """Within it, these records are this process's own and are heard of no further."""
        mine = {item.id for item in records if item.kind in _HEARD}
        self._adding |= mine
        try:
            yield
        finally:
            self._adding -= mine

    async def _read(self) -> RecordSet:
        """Packed page by page: as rows, a million records would take several times their memory."""
        packed = bytearray()
        after = 0
        sql = "SELECT serial, kind, id, present FROM journal WHERE serial > ? ORDER BY serial LIMIT ?"
        while rows := await self._database.rows(sql, (after, _JOURNAL_PAGE)):
            after = int(rows[-1][0])
            for row in rows:
                if row[3] and row[1] != self._left_out:
                    packed += key_of(row[1], row[2])
        items = (item_of(bytes(packed[at : at + KEY_SIZE])) for at in range(0, len(packed), KEY_SIZE))
        return await asyncio.to_thread(RecordSet, items)
