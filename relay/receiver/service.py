"""The receiver's own work within its daemon: sequence what becomes complete, answer visitors about the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.errors import Malformed, StoreError
from relay.limits import LOG_IDLE_SECONDS
from relay.log.tree import consistency_proof
from relay.node.daemon import Daemon
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

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Prove that the log only grew; raises `Malformed` for sizes that it never had."""
        state = await self._store.log_state()
        if not 0 <= old_size <= new_size <= state.size:
            raise Malformed(f"The log has {state.size} entries: it cannot prove {old_size} to {new_size}")
        read = self._publisher.reader(state.size)
        return list(await asyncio.to_thread(consistency_proof, old_size, new_size, read))

    async def next_batch(self, seconds: float) -> None:
        """Wait for the next batch of receipts."""
        await self.grown.wait(self.grown.count, seconds)


@asynccontextmanager
async def receiver_service(daemon: Daemon) -> AsyncIterator[None]:
    """Sequence while the daemon runs. An extension of `relay.node.daemon`."""
    publisher = Publisher(daemon.home.public_folder)
    sequencer = Sequencer(daemon.custody, daemon.member, publisher)
    log = ReceiverLog(daemon.custody.store, publisher)
    daemon.log = log
    await sequencer.start()
    board = _NoticeBoard(daemon.custody.store, publisher)
    daemon.work.append(_sequence_for_ever(daemon, sequencer, log, board))
    identity = daemon.member.identity
    origin = f"{identity.election}/{identity.name}"
    daemon.work.append(Witnessing(daemon.custody, log, origin, daemon.config.witnesses).run())
    yield


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


async def _sequence_for_ever(daemon: Daemon, sequencer: Sequencer, log: ReceiverLog, board: _NoticeBoard) -> None:
    while True:
        heard = daemon.custody.news.count
        try:
            while await sequencer.sequence():
                log.grown.ring()
            await sequencer.publish_cosigned()
            await board.follow()
        except StoreError as error:
            logger.error("%s", error)  # nothing was acknowledged: what is complete is taken up again
        await daemon.custody.news.wait(heard, LOG_IDLE_SECONDS)
