"""The site's upkeep: opened where it was settled, brought further entry by entry, settled now and then.

What is read back is what was published: the site has no other memory. `relay.web.site.batch` says what an arrival
changes, `relay.web.site.layout` how all regions are written.

`site.json` says how far the site is, and is written last. What was written is settled now and then only: `settled.json`
is on the disk, and says what certainly is there. Whatever came later is brought again when the site is opened, and
bringing an entry twice changes nothing.

What could not be written, since the place for it was away, is kept at hand and written first when it is tried again:
the site does not have to be opened anew for that.

When the register, the pages, the judging or a damaged region ask for it, all regions are written again; then the log is
brought `again` from its beginning, behind what arrives meanwhile, and each result is judged by what is in force now.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

from relay.errors import StoreError
from relay.receiver.auditing import STATE
from relay.receiver.results import Logged
from relay.records.identifiers import ObjectId
from relay.store.shelf import FRESH, Shelf
from relay.web.site.batch import Batch
from relay.web.site.documents import encode
from relay.web.site.layout import Layout
from relay.web.site.pace import Pace
from relay.web.site.pages import JSON, Look
from relay.web.site.paths import GATHERED, region_path
from relay.web.site.regions import ALL, Document, Region, Regions, fingerprint
from relay.web.site.register import Register
from relay.web.site.settled import JUDGING, Settled, read_settled
from relay.web.site.tables import tables_of, write_table


class Site(Layout):
    """The published site of one election on a shelf. One at a time may write to it."""

    def __init__(self, shelf: Shelf, look: Look, pace: Pace | None = None) -> None:
        super().__init__(shelf, look, pace)
        self.size = 0
        """Entries of the log, as far as the caller told."""
        self.again = range(0)
        """Entries that the site has taken in, and that are to be brought once more."""
        self.lacking: dict[int, frozenset[ObjectId]] = {}
        """Entries of which not all objects could be published, with these; with none where it is not known which."""
        self.has_unsettled = False
        """Whether anything was written since it was settled."""
        self._arrived: int | None = None
        """When the last entry was logged."""
        self._print = ""
        self._settled = Settled()
        self._unwritten: Batch | None = None
        """What was taken in, and is not all written."""
        self._found_damage = False
        """Whether damage was found for which it is not noted, or not certain, that the log is brought again."""
        self._untold: dict[Region, None] = {}
        """Regions whose tables are not those of their documents."""

    @property
    def has_untold(self) -> bool:
        """Whether there are tables to be written."""
        return bool(self._untold)

    async def open(self, register: Register, *, anew: bool = False) -> None:
        """Go on where the site was settled. Where the register, the pages or the judging are others, all regions are
        written again; `anew`, or where there is nothing to go on from, everything is, from nothing.

        Raises `DamagedSite` when a region cannot be read back: see `mend`.
        """
        stations, giving_way = register.stations.values(), self.pace.giving_way
        named = await asyncio.to_thread(fingerprint, giving_way(stations), register.forms)
        self._print = f"{named} {self._look.fingerprint} {JUDGING}"
        self._regions = await asyncio.to_thread(Regions.of, giving_way(stations))
        settled = None if anew else await read_settled(self._shelf)
        self._go_on(settled or Settled(generation=secrets.token_hex(8), revoked=frozenset(register.revoked)), register)
        self._untold = dict.fromkeys(await asyncio.to_thread(self._tables))
        await self._tell_state()  # what is not settled may not be there
        if self._settled.print != self._print:
            await self._begin()
        elif self._settled.dress != self._look.dress:
            await self._dress()
        await self.believe(register)

    async def mend(self, register: Register) -> None:
        """Write all regions again, where one is damaged."""
        self._register = register
        self._unwritten = None
        self._documents.open(self._documents.generation)
        await self._shelf.settle()
        await self._begin()

    async def add(self, arrivals: Sequence[Logged]) -> None:
        """Bring entries of the log to the site, in order. Their objects, statements and receipts must be there."""
        if not arrivals:
            return
        await self.write_left()
        batch = Batch(self._press, self._register, self._regions)
        with self._or_as_before():
            self._count(arrivals)
            await batch.take(arrivals)
            await self._prepare(batch)
        self._unwritten = batch
        await self.write_left()

    async def believe(self, register: Register) -> None:
        """Take in which signers are believed; what others signed is flagged."""
        await self.write_left()
        batch = Batch(self._press, register, self._regions)
        with self._or_as_before():
            changed, self._register = register.revoked ^ self._register.revoked, register
            if await batch.doubt(changed):
                await self._prepare(batch)
                self._unwritten = batch
        self.has_unsettled |= bool(changed)
        await self.write_left()

    async def write_left(self) -> None:
        """Write what was taken in and is not all written: the place for it may have been away."""
        if self._unwritten is not None:
            await self._press.write(self._unwritten.render())
            await self._tell_state()
            self._unwritten = None
            self._documents.trim()

    async def settle(self) -> None:
        """Return when all this is on the disk, and what the site goes on from with it."""
        await self.write_left()
        await self._shelf.settle()
        await self._note(self._print)
        self.has_unsettled = False

    async def write_tables(self, most: int | None = None) -> bool:
        """Write tables that gather many stations, where anything in them changed, at most so many. Whether all are
        written now. They cost what the election is large: the caller decides how often."""
        await self.write_left()
        for region in list(islice(self._untold, most)):
            await write_table(self._press, self._register, region)
            del self._untold[region]
            self._documents.trim()
        return not self._untold

    # -- going on

    def _go_on(self, settled: Settled, register: Register) -> None:
        self._settled = settled
        self._unwritten = None
        self._documents.open(settled.generation)
        self.entries, self._arrived = settled.entries, settled.arrived
        self.again, self._begun = settled.again, settled.begun
        self.lacking = dict.fromkeys(settled.lacking, frozenset())
        self._register = replace(register, revoked=settled.revoked)

    def _count(self, arrivals: Sequence[Logged]) -> None:
        """What the site has taken in, once these are in it."""
        first, end = arrivals[0].entry, arrivals[-1].entry + 1
        if end >= self.entries:
            self.entries, self._arrived = end, arrivals[-1].arrived
        self.size = max(self.size, self.entries)
        if first <= self.again.start < end:
            self.again = range(min(end, self.again.stop), self.again.stop)
        self.has_unsettled = True

    async def _note(self, fitting: str, laid: str = "") -> None:
        """Note durably where the site goes on when it is opened, and what all of it fits: nothing yet, while regions
        are written, up to the one that is `laid`."""
        self._settled = Settled(
            generation=self._documents.generation,
            print=fitting,
            dress=self._look.dress,
            entries=self.entries,
            arrived=self._arrived,
            again=self.again,
            begun=self._begun,
            revoked=frozenset(self._register.revoked),
            lacking=tuple(sorted(self.lacking)),
            laying="" if fitting else self._print,
            laid=laid,
        )
        await self._settled.note(self._shelf)

    async def _note_damage(self) -> None:
        """Note that the log is to be brought again, before what was damaged is written and looks whole."""
        self.again = range(self.entries)
        self._settled = replace(self._settled, again=range(self._settled.entries))
        await self._settled.note(self._shelf)

    @contextmanager
    def _or_as_before(self) -> Iterator[None]:
        """Within it, nothing is written of what is taken in; on trouble of the store the site is as it was before."""
        before = self.entries, self._arrived, self.again, self._register
        try:
            yield
        except StoreError:
            self.entries, self._arrived, again, self._register = before
            self._found_damage |= self._documents.found_damage()
            self.again = range(self.entries) if self._found_damage else again
            self._documents.drop()
            raise

    async def _prepare(self, batch: Batch) -> None:
        """Take in what a batch changes further up, so that it can be written."""
        self._untold |= batch.tables
        self._found_damage |= self._documents.found_damage()
        if self._found_damage:
            await self._note_damage()
        await batch.climb(self._log())
        self._found_damage = False

    def _log(self) -> Document:
        """How far the site is in the log, for people."""
        again = [self.again.start, self.again.stop] if self.again else None
        return {"entries": self.entries, "size": self.size, "arrived": self._arrived, "again": again}

    async def _tell_state(self) -> None:
        state = {"election": self._look.election, **self._log()}
        await self._shelf.write(STATE, encode(state), JSON, FRESH)

    # -- beginning

    async def _begin(self) -> None:
        """Write all regions with what was published of their stations, if anything was; the log is brought again then,
        as far as it was before."""
        self.again = range(self.entries)
        goes_on = self._begun and self._settled.laying == self._print
        laid = self._settled.laid if goes_on else ""
        if not goes_on:
            self._begun = (*self._begun, secrets.token_hex(4))
        await self._note("", laid)  # cut from here on, it goes on with what was written
        await self._tell_state()
        await self._press.write(self._look.files(by_district=self._register.is_large))
        await self._lay_out(self._log(), laid)
        while not await self.write_tables(1):
            await self.pace.rest()
        self._documents.found_damage()  # all will be brought again
        self._found_damage = False
        self._begun = self._begun[-1:]
        await self.settle()

    async def _note_laid(self, key: str) -> None:
        await self._shelf.settle()
        await self._note("", key)

    async def _dress(self) -> None:
        """Write what shows this receiver's own certificate and map."""
        await self._press.write(self._look.files(by_district=self._register.is_large))
        await self._documents.load([*GATHERED, region_path(ALL.key)])
        self._documents.region(ALL.key)
        await self._press.write(self._press.whole(()))
        await self.settle()

    def _tables(self) -> list[Region]:
        """The regions that have a table."""
        paths = map(self._regions.path, self.pace.giving_way(self._register.stations.values()))
        return tables_of(self._register, paths)
