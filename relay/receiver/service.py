"""The receiver's own work within its daemon: sequence what becomes complete, answer visitors about the log.

Several receivers may share one store. All take packages in and answer about the log; one of them leads, which the
store decides, and only that one sequences, publishes and asks witnesses. A leader that dies is followed by another.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from relay.errors import Malformed, NotYet, Outgrown, Refused, StoreError
from relay.limits import (
    LEAD_SECONDS,
    LOG_BATCH_SECONDS,
    LOG_IDLE_SECONDS,
    MAX_SITE_DOCUMENT,
    NOTICES_LOOK_SECONDS,
    PUBLISH_PAUSE_SECONDS,
    PUBLISH_SECONDS,
)
from relay.log.tree import consistency_proof
from relay.node.daemon import Daemon
from relay.node.measures import Measures
from relay.receiver.moving import check_place
from relay.receiver.publishing import NOTICES, Publisher
from relay.receiver.remembering import NEWEST, LogMemory
from relay.receiver.sequencing import Sequencer, Unseen
from relay.receiver.witnessing import Witnessing
from relay.records.identifiers import Kind
from relay.store.interface import Store
from relay.store.recordset import kind_end
from relay.store.shelf import Shelf
from relay.sync.signal import Signal
from relay.trust.witness import log_key

logger = logging.getLogger(__name__)

SEQUENCING = "sequencing"
"""The note in which the receiver that leads says where it is, and how far."""
SITE = "site.json"


class ReceiverLog:
    """The log, for visitors (a `relay.sync.host.LogReader`)."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher
        self.grown = Signal()
        """Rings when entries were committed."""
        self.published = Signal()
        """Rings when they were published."""

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Prove that the log only grew; raises `Malformed` for sizes that it never had, and `NotYet` for one that is
        committed, and is not published soon either. Another receiver may be the one that publishes: so it is looked
        for now and then."""
        state = await self._store.log_state()
        if not 0 <= old_size <= new_size <= state.size:
            raise Malformed(f"The log has {state.size} entries: it cannot prove {old_size} to {new_size}")
        for _ in range(int(PUBLISH_SECONDS / PUBLISH_PAUSE_SECONDS)):
            heard = self.published.count
            with suppress(NotYet):
                return await self._prove(old_size, new_size)
            await self.published.wait(heard, PUBLISH_PAUSE_SECONDS)
        return await self._prove(old_size, new_size)

    @property
    def batches(self) -> int:
        """See `LogReader`."""
        return self.grown.count

    async def next_batch(self, heard: int, seconds: float) -> None:
        """See `LogReader`."""
        await self.grown.wait(heard, seconds)

    async def _prove(self, old_size: int, new_size: int) -> list[bytes]:
        return list(await self._publisher.prove(new_size, lambda read: consistency_proof(old_size, new_size, read)))


@asynccontextmanager
async def receiver_service(daemon: Daemon) -> AsyncIterator[None]:
    """Sequence while the daemon runs. An extension of `relay.node.daemon`."""
    store = daemon.custody.store
    key = log_key(daemon.member.identity)
    publisher = Publisher(store.shelf, key)
    log = ReceiverLog(store, publisher)
    daemon.log = log
    memory = LogMemory(key, daemon.home.path / NEWEST)
    sequencer = Sequencer(daemon.custody, daemon.member, publisher, memory)
    clock = asyncio.get_running_loop().time
    sequencing = Sequencing(daemon, sequencer, log, NoticeBoard(store, publisher, clock), clock)
    await sequencing.begin()
    daemon.work.append(sequencing.run)
    daemon.work.append(sequencing.publish)
    daemon.work.append(lambda: give_signs_of_life(store))
    daemon.work.append(sequencing.finish)
    daemon.work.append(lambda: _notice_growth(daemon, log, sequencing))
    daemon.measures = sequencing.measures
    identity = daemon.member.identity
    origin = f"{identity.election}/{identity.name}"
    daemon.work.append(Witnessing(daemon.custody, log, origin, daemon.config.witnesses).run)
    yield


class Sequencing:
    """The sequencer at work, as long as this receiver leads. `clock` is seconds that only grow."""

    def __init__(
        self,
        daemon: Daemon,
        sequencer: Sequencer,
        log: ReceiverLog,
        board: NoticeBoard,
        clock: Callable[[], float],
    ) -> None:
        self._custody = daemon.custody
        self._sequencer = sequencer
        self._log = log
        self._board = board
        self._clock = clock
        self._place = f"{socket.gethostname()} {daemon.config.listen}"
        self._said = self._doubt = ""
        self.measures = Measures()
        self.leading = False
        self._term = 0
        """The term of leading in which the log was taken up last."""

    async def begin(self) -> None:
        """Take up the log before anybody is answered, if this receiver leads: what keeps it from that, ends it, unless
        it only has to be waited for."""
        await check_place(self._custody.store)
        if await self._custody.store.leads():
            try:
                await self._take_up()
            except Unseen as error:
                logger.error("%s", error)

    async def stand_by(self) -> None:
        """While another receiver leads, keep in mind how far the log is."""
        try:
            await self._sequencer.stand_by()
        except StoreError as error:
            if error.what != self._doubt:
                logger.error("%s", error)
            self._doubt = error.what
        else:
            self._doubt = ""

    async def run(self) -> None:
        """Sequence, for ever."""
        news, clock = self._custody.news, self._clock
        since: float | None = None
        while True:
            heard = news.count
            since = clock() if since is None else since
            try:
                # What came while one batch was under way waits for the next one.
                while await self._lead() and (began := clock()) and await self._sequencer.sequence():
                    self._log.grown.ring()
                    self.measures.receipts.note(clock() - since)
                    since = began
                    await asyncio.sleep(max(0.0, began + LOG_BATCH_SECONDS - clock()))
                since = None  # nothing waits here any more
            except (StoreError, Refused) as error:
                # Nothing was acknowledged: what is complete is taken up again, and has waited all the while. A receiver
                # that is revoked itself logs nothing more, and shows what it has.
                logger.error("%s", error)
                self.leading = False
            await news.wait(heard, LOG_IDLE_SECONDS if self.leading else LEAD_SECONDS)

    async def finish(self) -> None:
        """Complete what was left unfinished, now and then, for ever. The log does not wait for it: the content may be
        in a place that is away."""
        while True:
            try:
                if self.leading and await self._custody.store.finish():
                    self._custody.news.ring()
                await self._tell()
            except StoreError as error:
                logger.error("%s", error)
            await asyncio.sleep(LOG_IDLE_SECONDS)

    async def _tell(self) -> None:
        """Measure what is to be told, and leave word of it to commands, and to the other receivers."""
        self.measures.leads = self.leading
        if not self.leading:
            return
        self.measures.published = self._sequencer.published
        with suppress(StoreError):  # the shelf is away: what was known stands
            self.measures.site = await site_entries(self._custody.store.shelf)
        word = json.dumps({"at": self._place, "published": self.measures.published, "site": self.measures.site})
        if word != self._said:
            await self._custody.store.set_note(SEQUENCING, word)
            self._said = word

    async def publish(self) -> None:
        """Publish what was sequenced, for ever. Entries do not wait for it: a shelf may be away for a while."""
        while True:
            heard = self._log.grown.count
            pause = LOG_IDLE_SECONDS
            try:
                if self.leading and self._term == self._custody.store.term:
                    await self._sequencer.publish()
                    self._log.published.ring()
                    await self._sequencer.tend()
                    await self._board.follow()
            except StoreError as error:
                logger.error("the log is not published yet: %s", error)
                pause = LEAD_SECONDS
            # What is sequenced meanwhile goes out under one checkpoint: each costs some calls of the shelf's service,
            # and everybody who visits fetches it.
            await asyncio.sleep(PUBLISH_PAUSE_SECONDS)
            await self._log.grown.wait(heard, pause)

    async def _lead(self) -> bool:
        """Whether this receiver leads. Who comes to it takes the log up anew, also who did before: another one may have
        led meanwhile."""
        leads = await self._custody.store.leads()
        if not leads:
            self.leading = False
        elif not self.leading or self._term != self._custody.store.term:
            await self._take_up()
            logger.info("this receiver sequences now")
            self._log.grown.ring()  # there may be something to publish
        return leads

    async def _take_up(self) -> None:
        self.leading, self._said, self._term = False, "", self._custody.store.term
        await self._sequencer.start()
        self.leading = True


async def site_entries(shelf: Shelf) -> int:
    """How many entries the site says that it has taken in; 0 where there is none, or something else in its place."""
    raw = await shelf.read(SITE) or b"{}"
    try:
        site = json.loads(raw) if len(raw) <= MAX_SITE_DOCUMENT else None
    except (ValueError, RecursionError):
        return 0
    entries = site.get("entries") if isinstance(site, dict) else None
    return entries if isinstance(entries, int) else 0


class NoticeBoard:
    """Keeps the published notices those in force. `clock` is seconds that only grow."""

    def __init__(self, store: Store, publisher: Publisher, clock: Callable[[], float]) -> None:
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._shown: tuple[bytes, ...] = ()
        self._content: bytes | None = None
        self._look_at = 0.0

    async def follow(self) -> None:
        """Publish them again if they changed, or if somebody put others in their place: that is looked for now and
        then. Cheap when nothing did."""
        keys = tuple(self._store.members.keys(bytes([Kind.NOTICE]), kind_end(Kind.NOTICE)))
        if not keys or (keys == self._shown and await self._is_there()):
            return
        self._shown = ()  # until it is done
        self._content = await self._publisher.publish_notices(await self._store.load(Kind.NOTICE))
        self._shown, self._look_at = keys, self._clock() + NOTICES_LOOK_SECONDS

    async def _is_there(self) -> bool:
        if self._content is None or self._clock() < self._look_at:
            return True
        if await self._publisher.shelf.read(NOTICES) != self._content:
            logger.error("somebody else wrote to the published files: the notices there are not those in force")
            return False
        self._look_at = self._clock() + NOTICES_LOOK_SECONDS
        return True


async def give_signs_of_life(store: Store) -> None:
    """Tell the store that this process is there, for ever: one that leads and is silent is followed by another, and a
    batch may take long. Raises `Outgrown`, which ends the daemon: its store is a newer version's now."""
    while True:
        try:
            await store.leads()
        except Outgrown:
            raise
        except StoreError:
            pass  # who needs the store says so
        await asyncio.sleep(LEAD_SECONDS)


async def _notice_growth(daemon: Daemon, log: ReceiverLog, sequencing: Sequencing) -> None:
    """Wake who waits for receipts, and for proofs, when another receiver sequenced; for ever. What is sequenced here is
    told at once: told again, it would wake those in vain who began to wait meanwhile."""
    news, size = daemon.custody.news, 0
    while True:
        heard = news.count
        try:
            grown = size if sequencing.leading else (await daemon.custody.store.log_state()).size
        except StoreError:
            grown = size  # whoever needs the store says so
        if not sequencing.leading:
            await sequencing.stand_by()
        if grown != size:
            size = grown
            log.grown.ring()
            log.published.ring()
        await news.wait(heard, LOG_IDLE_SECONDS)
