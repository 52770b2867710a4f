"""The receiver's own work within its daemon: sequence what becomes complete, answer visitors about the log.

Several receivers may share one store. All take packages in and answer about the log; one of them leads, which the
store decides, and only that one sequences, publishes and asks witnesses. A leader that dies is followed by another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from relay.errors import Malformed, StoreError
from relay.limits import LEAD_SECONDS, LOG_IDLE_SECONDS, PUBLISH_SECONDS
from relay.log.tree import consistency_proof
from relay.node.daemon import Daemon
from relay.receiver.moving import check_place
from relay.receiver.publishing import Publisher
from relay.receiver.sequencing import Sequencer
from relay.receiver.witnessing import Witnessing
from relay.records.identifiers import Kind
from relay.store.interface import Store
from relay.store.recordset import kind_end
from relay.sync.signal import Signal

logger = logging.getLogger(__name__)


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
        """Prove that the log only grew; raises `Malformed` for sizes that it never had."""
        state = await self._store.log_state()
        if not 0 <= old_size <= new_size <= state.size:
            raise Malformed(f"The log has {state.size} entries: it cannot prove {old_size} to {new_size}")
        heard = self.published.count
        try:
            return await self._prove(old_size, new_size)
        except StoreError:  # committed, and not published yet
            await self.published.wait(heard, PUBLISH_SECONDS)
            return await self._prove(old_size, new_size)

    async def next_batch(self, seconds: float) -> None:
        """Wait for the next batch of receipts."""
        await self.grown.wait(self.grown.count, seconds)

    async def _prove(self, old_size: int, new_size: int) -> list[bytes]:
        return list(await self._publisher.prove(new_size, lambda read: consistency_proof(old_size, new_size, read)))


@asynccontextmanager
async def receiver_service(daemon: Daemon) -> AsyncIterator[None]:
    """Sequence while the daemon runs. An extension of `relay.node.daemon`."""
    store = daemon.custody.store
    publisher = Publisher(store.shelf)
    log = ReceiverLog(store, publisher)
    daemon.log = log
    sequencing = _Sequencing(daemon, Sequencer(daemon.custody, daemon.member, publisher), log)
    await sequencing.begin()
    daemon.work.append(sequencing.run())
    daemon.work.append(sequencing.publish())
    daemon.work.append(give_signs_of_life(store))
    daemon.work.append(sequencing.finish())
    daemon.work.append(_notice_growth(daemon, log))
    identity = daemon.member.identity
    origin = f"{identity.election}/{identity.name}"
    daemon.work.append(Witnessing(daemon.custody, log, origin, daemon.config.witnesses).run())
    yield


class _Sequencing:
    """The sequencer at work, as long as this receiver leads."""

    def __init__(self, daemon: Daemon, sequencer: Sequencer, log: ReceiverLog) -> None:
        self._custody = daemon.custody
        self._sequencer = sequencer
        self._log = log
        self._board = _NoticeBoard(daemon.custody.store, Publisher(daemon.custody.store.shelf))
        self._leading = False

    async def begin(self) -> None:
        """Take up the log before anybody is answered, if this receiver leads: what keeps it from that, ends it."""
        await check_place(self._custody.store)
        if await self._custody.store.leads():
            await self._sequencer.start()
            self._leading = True

    async def run(self) -> None:
        """Sequence, for ever."""
        news = self._custody.news
        while True:
            heard = news.count
            try:
                while await self._lead() and await self._sequencer.sequence():
                    self._log.grown.ring()
            except StoreError as error:
                logger.error("%s", error)  # nothing was acknowledged: what is complete is taken up again
                self._leading = False
            await news.wait(heard, LOG_IDLE_SECONDS if self._leading else LEAD_SECONDS)

    async def finish(self) -> None:
        """Complete what was left unfinished, now and then, for ever. The log does not wait for it: the content may be
        in a place that is away."""
        while True:
            try:
                if self._leading and await self._custody.store.finish():
                    self._custody.news.ring()
            except StoreError as error:
                logger.error("%s", error)
            await asyncio.sleep(LOG_IDLE_SECONDS)

    async def publish(self) -> None:
        """Publish what was sequenced, for ever. Entries do not wait for it: a shelf may be away for a while."""
        while True:
            heard = self._log.grown.count
            pause = LOG_IDLE_SECONDS
            try:
                if self._leading:
                    await self._sequencer.publish()
                    self._log.published.ring()
                    await self._sequencer.tend()
                    await self._board.follow()
            except StoreError as error:
                logger.error("the log is not published yet: %s", error)
                pause = LEAD_SECONDS
            await self._log.grown.wait(heard, pause)

    async def _lead(self) -> bool:
        """Whether this receiver leads; who comes to it takes the log up anew."""
        leads = await self._custody.store.leads()
        if leads and not self._leading:
            await self._sequencer.start()
            logger.info("this receiver sequences now")
            self._log.grown.ring()  # there may be something to publish
        self._leading = leads
        return leads


class _NoticeBoard:
    """Keeps the published notices those in force."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher
        self._shown: tuple[bytes, ...] = ()

    async def follow(self) -> None:
        """Publish them again if they changed. Cheap when nothing did."""
        keys = tuple(self._store.members.keys(bytes([Kind.NOTICE]), kind_end(Kind.NOTICE)))
        if keys and keys != self._shown:
            await self._publisher.publish_notices(await self._store.load(Kind.NOTICE))
            self._shown = keys


async def give_signs_of_life(store: Store) -> None:
    """Tell the store that this process is there, for ever: one that leads and is silent is followed by another, and a
    batch may take long."""
    while True:
        with suppress(StoreError):  # who needs the store says so
            await store.leads()
        await asyncio.sleep(LEAD_SECONDS)


async def _notice_growth(daemon: Daemon, log: ReceiverLog) -> None:
    """Wake who waits for receipts, and for proofs, when another receiver sequenced; for ever."""
    news, size = daemon.custody.news, 0
    while True:
        heard = news.count
        try:
            grown = (await daemon.custody.store.log_state()).size
        except StoreError:
            grown = size  # whoever needs the store says so
        if grown != size:
            size = grown
            log.grown.ring()
            log.published.ring()
        await news.wait(heard, LOG_IDLE_SECONDS)
