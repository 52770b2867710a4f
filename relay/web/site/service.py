"""The site beside a receiver: follows the log, publishes what each entry needs, and lets the site take it in.

The intake comes first. The site is brought up in batches, with a pause after each that depends on how much work it was
(waiting for a service elsewhere is none, unless the processors here are crowded while more arrives), and it may lag
behind the log while much arrives; `site.json` says how far it is. The further it lags, the larger the batches, as far
as they can be written in a few seconds: what many arrivals change is written once.

Of several receivers on one store the one that leads keeps the site. One that hung in the middle of a batch and was
followed writes no more (`GuardedShelf`); what it had sent before may still arrive, and write over what its follower
wrote. So the follower brings what it brought at first once more, when nothing can arrive any longer.

When the place for its files is away for a moment, or a call to the store fails, it goes on with what it has as soon as
that is there again. It is opened anew where its documents are damaged, or another receiver may have led meanwhile.

A photograph that the disk does not give keeps nothing else from being published: it is tried again when the store could
read it again.

When regions were written again, of another register for instance, the log is brought again from its beginning, a batch
at a time whenever the site is up to it: what arrives meanwhile does not wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

from relay.clock import waited_for_processor
from relay.errors import RelayError, StoreError, Unreadable
from relay.limits import (
    LEAD_SECONDS,
    LOG_IDLE_SECONDS,
    MAX_MAP,
    MIB,
    SITE_AGAIN_SECONDS,
    SITE_BATCH,
    SITE_BATCH_SECONDS,
    SITE_CALLS,
    SITE_LARGEST_BATCH,
    SITE_LEAST_BATCH,
    SITE_RETRY_SECONDS,
    SITE_SETTLE_SECONDS,
    SITE_SETTLE_SECONDS_ELSEWHERE,
    SITE_SHARE,
    SITE_TABLES,
)
from relay.node.daemon import Daemon
from relay.node.home import Home, Member
from relay.receiver.results import Logged
from relay.records.identifiers import RecordId, receipt_id
from relay.records.pictures import HEAD, media_type
from relay.records.statement import FileEntry, Statement, read_statement
from relay.store.durable import reading
from relay.store.interface import Store
from relay.store.layouts import chunk_count
from relay.store.shelf import FOR_EVER, GuardedShelf
from relay.sync.custody import Custody
from relay.sync.signal import Signal
from relay.trust.admission import Admission
from relay.trust.certificates import read_certificate
from relay.web.site.builder import Site
from relay.web.site.chart import Place, read_places
from relay.web.site.documents import DamagedSite
from relay.web.site.pace import Pace
from relay.web.site.pages import Look
from relay.web.site.register import Register

logger = logging.getLogger(__name__)

MAP_FILE = "map.csv"
"""In the node's folder: the islands of the map, where there is to be one."""
_COSE = "application/cose"
_RECEIPTS_AT_ONCE = 1 * MIB
"""Bytes of receipts that are read at a time."""
_TABLES_REST = 20
"""After the tables of everything were written, they rest for so many times what that took."""


class SiteKeeper:
    """Keeps a site in step with the log of a store."""

    def __init__(
        self,
        site: Site,
        shelf: GuardedShelf,
        store: Store,
        admission: Admission,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` is seconds that only grow."""
        self._site = site
        self._shelf = shelf
        self._store = store
        self._admission = admission
        self._clock = clock
        self._register = Register({}, ())
        self._term: int | None = None
        """The term of leading in which the site was opened; None while it is not open."""
        self._began = store.term
        """The term in which opening it was begun last."""
        self._taken_over = 0
        """Where the site was when it was opened."""
        self._again_at: float | None = None
        """When what was brought since then is brought once more."""
        self._most = SITE_BATCH
        """Entries of one batch that do not take too long, as far as the last one tells."""

    @property
    def is_open(self) -> bool:
        """Whether the site is open, and nobody else can have kept it since it was."""
        return self._term == self._store.term

    async def leads(self) -> bool:
        """Whether this receiver leads, and has all the while since the site was opened: what is still to be written
        follows from what was read then."""
        return await self._store.leads() and self._began == self._store.term

    def let_go(self) -> None:
        """The site is to be opened anew: it may be another than the one that is known here."""
        self._term = None

    async def open(self, *, anew: bool = False) -> None:
        """Go on where the site is; where it cannot be read back, mend it."""
        self._term, self._began = None, self._store.term
        self._register = self._in_force()
        self._site.size = (await self._store.log_state()).size
        try:
            await self._site.open(self._register, anew=anew)
        except DamagedSite as error:
            await self._mend(error)
        if self.is_elsewhere:
            self._taken_over = self._site.entries
            self._again_at = self._clock() + SITE_AGAIN_SECONDS
        self._term = self._began

    @property
    def is_elsewhere(self) -> bool:
        """Whether the site lies where other receivers write as well."""
        return self._shelf.is_elsewhere

    @property
    def worked(self) -> float:
        """Seconds that passed without those in which a service elsewhere was waited for, and without rests."""
        return self._clock() - self._shelf.waited - self._site.pace.rested

    @property
    def crowded(self) -> float:
        """Of the seconds in which a service elsewhere was waited for, those in which processors here were crowded."""
        return self._shelf.crowded

    async def follow(self) -> int:
        """Bring one batch of entries, and what notices changed, to the site; how many entries."""
        try:
            return await self._follow()
        except DamagedSite as error:
            await self._mend(error)
            return await self._follow()

    async def write_tables(self, most: int | None = None) -> bool:
        """Write tables that are due, at most so many; whether all are written now. They read the regions back."""
        try:
            return await self._site.write_tables(most)
        except DamagedSite as error:
            await self._mend(error)
            return await self._site.write_tables(most)

    async def _mend(self, error: DamagedSite) -> None:
        logger.warning("the site's regions are written again: %s", error)
        self._term, term = None, self._term
        await self._site.mend(self._in_force())
        self._term = term

    async def _follow(self) -> int:
        await self._site.write_left()
        await self._follow_notices()
        first = self._site.entries
        state = await self._store.log_state()
        if first > state.size:
            self.let_go()
            raise StoreError(f"The site shows {first} entries and the log has {state.size}", "Write the site anew.")
        self._site.size = state.size
        brought = await self._bring(first, self._batch(state.size - first))
        await self._publish_lacking()
        return brought + (await self._follow_again() if self._site.entries >= state.size else 0)

    def _batch(self, lag: int) -> int:
        """How many entries come next: the more, the further the site lags, and no more than can be written in their
        time; but where the lag grows for all that, what many arrivals change is written for more of them at once."""
        fitting = max(self._most, min(lag // 64, SITE_LARGEST_BATCH))
        return min(lag, max(SITE_BATCH, min(lag // 8, SITE_LARGEST_BATCH)), fitting)

    async def _follow_again(self) -> int:
        """Bring one batch once more, of what is due: what arrives comes first. How many entries."""
        if self._again_at is not None and self._clock() >= self._again_at:
            again, self._again_at = self._site.again, None
            self._site.again = range(again.start if again else self._taken_over, self._site.entries)
        again = self._site.again
        return await self._bring(again.start, min(SITE_BATCH, len(again)), published=True) if again else 0

    async def _bring(self, first: int, count: int, *, published: bool = False) -> int:
        """Bring entries to the site, and their own files, unless these are `published` already; how many."""
        entries = await self._store.log_statements(first, count) if count else []
        if entries:
            began, self._most = self._clock(), max(SITE_LEAST_BATCH, len(entries) // 2)  # should it fail
            times = await self._store.log_times(first, len(entries))
            statements = await asyncio.to_thread(lambda: [read_statement(raw) for raw in entries])
            numbered = dict(enumerate(statements, first))
            if not published:
                await self._publish(numbered)
            arrivals = zip(numbered.items(), times, strict=False)
            await self._site.add([_logged(one, entry, at) for (entry, one), at in arrivals])
            self._most = _entries_in_time(len(entries), self._clock() - began)
        return len(entries)

    async def _follow_notices(self) -> None:
        held, now = self._register, self._in_force()
        if now.stations is not held.stations or now.forms != held.forms:
            await self._site.settle()  # it goes on from there
            await self.open()  # which looks whether anything in it changed
        elif now.revoked != held.revoked:
            await self._site.believe(now)
            self._register = now

    def _in_force(self) -> Register:
        admission = self._admission
        return Register(admission.stations, admission.forms, frozenset(admission.revoked))

    async def _publish(self, statements: Mapping[int, Statement]) -> None:
        """Put the entries' own files where the public finds them: the statements, their receipts, their objects."""
        names = {receipt_id(one.id): one.id.hex() for one in statements.values()}
        left: list[RecordId] = list(names)
        while found := await self._store.read(left, _RECEIPTS_AT_ONCE) if left else []:
            await asyncio.gather(
                *(self._shelf.write(f"receipt/{names[one]}", raw, _COSE, FOR_EVER) for _, one, raw in found)
            )
            left = left[left.index(found[-1][1]) + 1 :]
        await asyncio.gather(*(self._publish_one(entry, one) for entry, one in statements.items()))

    async def _publish_one(self, entry: int, statement: Statement) -> None:
        await self._shelf.write(f"statement/{statement.id.hex()}", statement.raw, _COSE, FOR_EVER)
        await self._publish_objects(entry, statement)

    async def _publish_lacking(self) -> None:
        """Publish what could not be read and, as far as the store knows, can be read now; a few at a time."""
        lacking, unreadable = self._site.lacking, self._store.unreadable
        due = (entry for entry, objects in lacking.items() if not objects or not objects <= unreadable)
        for entry in list(islice(due, SITE_BATCH)):
            for raw in await self._store.log_statements(entry, 1):
                await self._publish_objects(entry, await asyncio.to_thread(read_statement, raw))

    async def _publish_objects(self, entry: int, statement: Statement) -> None:
        """Publish an entry's objects, and keep in mind those that cannot be read."""
        sealed = statement.package.sealed
        files = {file.sha256: file for file in statement.package.files}
        lost = frozenset([name for name, file in files.items() if not await self._publish_object(file, sealed=sealed)])
        was_lacking = self._site.lacking.pop(entry, None) is not None
        if lost:
            self._site.lacking[entry] = lost  # behind the others, which have their turn first
        self._site.has_unsettled |= was_lacking != bool(lost)

    async def _publish_object(self, file: FileEntry, *, sealed: bool) -> bool:
        """Publish an object; whether it is there now."""
        target = f"object/{file.sha256.hex()}"
        if await self._shelf.holds([target]):
            return True
        try:
            path = await self._store.object_path(file.sha256)
            if path is None:
                return False
            kind = "application/octet-stream" if sealed else await asyncio.to_thread(type_of_file, path)
            await self._shelf.copy(target, path, kind, FOR_EVER)
        except Unreadable:
            await self._have_it_noted(file)
            return False
        return True

    async def _have_it_noted(self, file: FileEntry) -> None:
        """Have the store find out that it cannot read an object: it notes that, and tells people."""
        for index in range(chunk_count(file.size)):
            if await self._store.read_chunk(file.sha256, index) is None:
                return


def _entries_in_time(brought: int, seconds: float) -> int:
    """How many entries a batch may have, where so many took so long."""
    return max(SITE_LEAST_BATCH, min(SITE_LARGEST_BATCH, int(brought * SITE_BATCH_SECONDS / max(seconds, 0.001))))


def _logged(statement: Statement, entry: int, arrived: int) -> Logged:
    signer = read_certificate(statement.envelope.certificate)  # issued by our root: admission saw to that
    return Logged.of(statement, signer.name, signer.node, entry, arrived)


def type_of_file(path: Path) -> str:
    """The media type of a file. `Unreadable` where it is gone, or the disk does not give it."""
    with reading(path), path.open("rb") as file:
        return media_type(file.read(HEAD))


def read_map(home: Home) -> tuple[Place, ...]:
    """The map of islands in a node's folder; empty where there is none, or none that can be read."""
    try:
        with (home.path / MAP_FILE).open("rb") as file:
            return read_places(file.read(MAX_MAP + 1))
    except FileNotFoundError:
        return ()
    except (OSError, RelayError) as error:
        logger.warning("no map is shown: %s", error)
        return ()


def site_of(home: Home, member: Member, custody: Custody, share: float = 1.0) -> tuple[Site, SiteKeeper]:
    """The site among a receiver's published files, and its keeper; it may take this share of the time."""
    identity = member.identity

    async def leads() -> bool:
        return await keeper.leads()

    shelf = GuardedShelf(custody.store.shelf, leads, SITE_CALLS, delayed=waited_for_processor)
    pace = Pace(share, lambda: time.monotonic() - shelf.waited)
    site = Site(shelf, Look(identity.election, member.root, identity.certificate, read_map(home)), pace)
    keeper = SiteKeeper(site, shelf, custody.store, custody.admission)
    return site, keeper


@asynccontextmanager
async def site_service(daemon: Daemon) -> AsyncIterator[None]:
    """Keep the site while the daemon runs. An extension of `relay.node.daemon`, after the receiver's own."""
    site, keeper = site_of(daemon.home, daemon.member, daemon.custody, SITE_SHARE)
    daemon.work.append(lambda: _keep_for_ever(daemon, site, keeper))
    yield


async def _keep_for_ever(daemon: Daemon, site: Site, keeper: SiteKeeper) -> None:
    upkeep, news = _Upkeep(site, keeper), daemon.custody.news
    while True:
        heard = news.count
        rest = await _take_turn(daemon.custody.store, keeper, upkeep, site.pace, news)
        if rest is None:
            await news.wait(heard, upkeep.patience)
        else:
            await asyncio.sleep(rest)


async def _take_turn(store: Store, keeper: SiteKeeper, upkeep: _Upkeep, pace: Pace, news: Signal) -> float | None:
    """Do what there is to do, a batch at most; seconds to rest then. None where there was nothing."""
    heard, crowded = news.count, keeper.crowded
    pace.begin()
    try:
        if not await store.leads():
            keeper.let_go()  # another receiver keeps it
            return LEAD_SECONDS
        if not keeper.is_open:
            await keeper.open()
        brought = await keeper.follow()
        await upkeep.tend()
    except StoreError as error:
        logger.error("the site stays behind: %s", error)
        if isinstance(error, DamagedSite):  # mending it did not help
            keeper.let_go()
        return SITE_RETRY_SECONDS
    except Exception:
        logger.exception("the site stays behind: a fault of the program. The intake goes on; report it")
        keeper.let_go()
        return LOG_IDLE_SECONDS
    # The service that was waited for may be on this machine. It crowds nobody out where nothing arrives.
    load = keeper.crowded - crowded if news.count != heard else 0.0
    return pace.due + pace.rest_for(load) if brought else None


class _Upkeep:
    """What is done now and then: tables of everything, and settling. Each takes a small share of the time."""

    def __init__(self, site: Site, keeper: SiteKeeper, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is seconds that only grow."""
        self._site = site
        self._keeper = keeper
        self._clock = clock
        # Where nothing is lost, settling costs one file, and spares a follower what it would bring again.
        self._settle_seconds = SITE_SETTLE_SECONDS_ELSEWHERE if keeper.is_elsewhere else SITE_SETTLE_SECONDS
        self._settle_at = clock() + self._settle_seconds
        self._tell_at = clock()

    @property
    def patience(self) -> float:
        """How long nothing needs to be done, unless something arrives."""
        due = [self._tell_at] if self._site.has_untold else []
        due += [self._settle_at] if self._site.has_unsettled else []
        return max(0.1, min([LOG_IDLE_SECONDS, *(one - self._clock() for one in due)]))

    async def tend(self) -> None:
        """Do what is due."""
        now, worked = self._clock(), self._keeper.worked
        if self._site.has_untold and now >= self._tell_at:
            await self._keeper.write_tables(SITE_TABLES)
            self._tell_at = self._clock() + (self._keeper.worked - worked) * _TABLES_REST
        if self._site.has_unsettled and now >= self._settle_at:
            await self._site.settle()
            self._settle_at = self._clock() + self._settle_seconds
