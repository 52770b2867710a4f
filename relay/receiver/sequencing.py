"""Sequencing: complete bundles become entries of the log, in batches, each with its receipt.

A batch is one commit of the store: entries, receipts, frontier and signed checkpoint together, so that a power cut
leaves all of it or nothing, and so that of two sequencers one fails. What is published comes after it, and may come
later: `publish` writes what was committed, tiles first, then the checkpoint that covers them. Guards promise 6.
"""

from __future__ import annotations

import asyncio
import logging

from relay.errors import StoreError
from relay.limits import JUDGED_AT_ONCE, LOG_BATCH, MAX_UNPUBLISHED, SHELF_PATIENCE_SECONDS
from relay.log.checkpoint import Checkpoint, sign_checkpoint
from relay.log.edge import Edge
from relay.log.growth import Growth, Tail
from relay.log.tiles import TileId
from relay.log.tree import Frontier
from relay.node.home import Member
from relay.receiver.moving import check_place
from relay.receiver.publishing import CHECKPOINT, Publisher, check_age, checkpoint_of, committed_tail
from relay.receiver.remembering import LogMemory
from relay.records.identifiers import Kind, StatementId
from relay.records.receipt import Inclusion, sign_receipt
from relay.store.interface import LogBatch, LogState
from relay.sync.custody import Custody
from relay.trust.admission import Admitted
from relay.trust.witness import log_key

logger = logging.getLogger(__name__)


class Unseen(StoreError):
    """Whether the store is as new as its log cannot be told at the moment: so nothing is sequenced on it yet."""


class Sequencer:
    """Appends to the log of one receiver. One sequencer at a time may run on a store."""

    def __init__(self, custody: Custody, member: Member, publisher: Publisher, memory: LogMemory | None = None) -> None:
        """`memory` is what this receiver knows of its log without its store; without one, nothing."""
        self._custody = custody
        self._member = member
        self._publisher = publisher
        self._key = log_key(member.identity)
        self._memory = memory or LogMemory(self._key)
        self._tail: Tail | None = None
        """The end of the log as committed; None when the store has to be asked."""
        self._unpublished = _Unpublished()
        self._publishing = asyncio.Lock()
        self._shown = b""
        """The checkpoint that was published last, with the cosignatures it had."""
        self._offered = False
        """Whether visitors have it."""

    @property
    def published(self) -> int:
        """How many entries are published."""
        shown = checkpoint_of(self._shown)
        return shown.size if shown else 0

    async def start(self) -> LogState:
        """Take the log up where the store has it, and publish what the shelf lacks; that is left to `publish` where the
        store keeps what is needed to go on: its shelf may be away. Signs the empty log once.

        Raises `StoreError` for a store that is older than its log, and `Unseen` while nothing tells whether it is.
        """
        store = self._custody.store
        await check_place(store)
        state = await store.log_state()
        self._memory.check(state)
        self._tail = None
        if not state.checkpoint:
            state = LogState(state.size, state.frontier, self._sign(Frontier.from_bytes(state.frontier)))
            await store.append(LogBatch(state.size, (), (), state, Edge().to_bytes() if not state.size else b""))
        tail = await committed_tail(state, store)
        if tail is not None:
            await self._look_at_shelf(state)
            await self._memory.note(state.checkpoint)
            self._tail, self._unpublished = tail, _Unpublished.unknown(state.checkpoint)
            return state
        async with self._publishing:
            self._unpublished = _Unpublished()
            tail = await self._publisher.catch_up(state, store)
            await self._show(state.checkpoint)
        await self._memory.note(state.checkpoint)
        self._tail = tail
        return state

    async def stand_by(self) -> None:
        """Remember how far the log is that another receiver leads, for the day that this one goes on with it and the
        shelf is away. Raises `StoreError` as `start` does."""
        state = await self._custody.store.log_state()
        self._memory.check(state)
        if state.checkpoint:
            if not self._memory.has_any:
                await self._look_at_shelf(state)
            await self._memory.note(state.checkpoint)

    async def sequence(self) -> int:
        """Append what is complete and not logged; how many entries. Raises `StoreError`."""
        store = self._custody.store
        pending = await store.unlogged(LOG_BATCH)
        if not pending:
            return 0
        if self._tail is None:
            await self.start()
        assert self._tail is not None
        state = await store.log_state()
        tail, self._tail = self._tail, None  # until this batch is known to be committed
        if state.size != tail.edge.size:
            raise StoreError("The log was changed by another receiver", "Run one sequencer on a store.")
        growth = await asyncio.to_thread(tail.grow, [raw for _, raw in pending])
        grown = Frontier.from_bytes(state.frontier).extend(growth.leaves)
        statements = tuple(statement for statement, _ in pending)
        receipts = await self._receipts(statements, growth, grown.root())
        new = LogState(grown.size, grown.to_bytes(), self._sign(grown))
        await store.append(LogBatch(growth.first, statements, receipts, new, growth.tail.edge.to_bytes()))
        self._tail = growth.tail
        self._unpublished.add(growth, new.checkpoint)
        await self._memory.note(new.checkpoint)
        logger.info("logged entries %d to %d", growth.first, grown.size - 1)
        return len(pending)

    async def publish(self) -> None:
        """Publish what was committed since. Raises `StoreError`; then it is still to be published."""
        async with self._publishing:
            if not self._unpublished.checkpoint:
                return
            work, self._unpublished = self._unpublished, _Unpublished()
            try:
                if work.too_much:
                    state = await self._custody.store.log_state()
                    await self._publisher.catch_up(state, self._custody.store)
                    work.checkpoint = state.checkpoint
                else:
                    await self._publisher.write(work.tiles.values())
                    await self._publisher.publish_checkpoint(work.checkpoint)
            except BaseException:
                self._unpublished = work.before(self._unpublished)
                raise
            await self._show(work.checkpoint)

    async def tend(self) -> None:
        """Publish the newest checkpoint again: with the cosignatures that witnesses gave it meanwhile, or when a
        receiver that led before this one wrote an older one over it at its last breath."""
        async with self._publishing:
            if not self._shown:
                return
            if not self._offered and not self._unbelieved():
                await self._offer()
            signed = self._custody.admission.checkpoints.get(self._key.name)
            if signed is not None and self._shown.startswith(signed.note.text.encode()):
                self._shown = signed.raw
            there = await self._publisher.shelf.read(CHECKPOINT)
            if there != self._shown:
                if there is not None:
                    self._publisher.own(there)
                await self._publisher.publish_checkpoint(self._shown)

    async def _look_at_shelf(self, state: LogState) -> None:
        """Raises `StoreError` for a store that is older than its shelf. A shelf that is away is looked at later, before
        anything is published, where this receiver remembers its log; `Unseen` where it does not."""
        try:
            async with asyncio.timeout(SHELF_PATIENCE_SECONDS):
                shown = await self._publisher.published()
        except (StoreError, TimeoutError) as error:
            if not self._memory.has_any:
                raise Unseen(
                    "What is published cannot be looked at, and this receiver has not seen its log before: whether the "
                    "database is the newest cannot be told",
                    "Bring the bucket back. Packages are taken in meanwhile, and get their receipts then.",
                ) from error
            logger.warning("the published log cannot be looked at: entries are made all the same, and published later")
            return
        check_age(state, shown)

    async def _receipts(self, statements: tuple[StatementId, ...], growth: Growth, root: bytes) -> tuple[Admitted, ...]:
        identity = self._member.identity
        size = growth.tail.edge.size
        proofs = await asyncio.to_thread(growth.proofs)
        receipts: list[Admitted] = []
        for place, (statement, leaf) in enumerate(zip(statements, growth.leaves, strict=True)):
            receipt = sign_receipt(
                identity.election,
                statement,
                leaf,
                Inclusion(size, growth.first + place, proofs[place]),
                root,
                identity.uri,
                identity.certificate,
                self._member.key,
            )
            if place % JUDGED_AT_ONCE == 0:
                await asyncio.sleep(0)  # visitors get their turn
            # Admitting our own receipt checks the proof and the signature before anything is committed.
            receipts.append(self._custody.admission.admit_receipt(receipt))
        return tuple(receipts)

    def _sign(self, frontier: Frontier) -> bytes:
        checkpoint = Checkpoint(self._key.name, frontier.size, frontier.root())
        return sign_checkpoint(checkpoint, self._key, self._member.key)

    async def _show(self, raw: bytes) -> None:
        """Offer a published checkpoint to visitors as a record, once a notice names this receiver. One that is revoked
        shows what it has, for whoever checks. What the store does not take now is offered again (`tend`)."""
        self._shown, self._offered = raw, False
        if why := self._unbelieved():
            logger.warning("%s: nodes do not believe its checkpoints", why)
        else:
            await self._offer()

    async def _offer(self) -> None:
        (verdict,) = await self._custody.take([(Kind.CHECKPOINT, self._shown)])
        self._offered = True
        if verdict.refusal is not None:
            raise StoreError(
                f"The log's own checkpoint is refused ({verdict.refusal.what})",
                "Stop this receiver: another one signs the same log, or its store was restored from an old backup.",
            )

    def _unbelieved(self) -> str:
        """Why nodes do not believe what this receiver signs, if so."""
        identity, admission = self._member.identity, self._custody.admission
        if identity.node in admission.revoked:
            return "this receiver is revoked"
        if identity.name not in [one.name for one in admission.receivers]:
            return "no notice names this receiver yet"
        return ""


class _Unpublished:
    """Tiles of committed entries, the widest of each place, and the newest checkpoint over them."""

    def __init__(self) -> None:
        self.tiles: dict[tuple[int, int], tuple[TileId, bytes]] = {}
        self.checkpoint = b""
        self.too_much = False
        """More than is kept in memory: it is read from the store again."""

    @classmethod
    def unknown(cls, checkpoint: bytes) -> _Unpublished:
        """Whatever the shelf lacks of the log with this checkpoint."""
        one = cls()
        one.checkpoint, one.too_much = checkpoint, True
        return one

    def add(self, growth: Growth, checkpoint: bytes) -> None:
        """Note one batch."""
        self.tiles |= {(tile.level, tile.index): (tile, content) for tile, content in growth.tiles}
        self.checkpoint = checkpoint
        if self.too_much or sum(len(content) for _, content in self.tiles.values()) > MAX_UNPUBLISHED:
            self.too_much = True
            self.tiles.clear()

    def before(self, later: _Unpublished) -> _Unpublished:
        """This, which could not be published, and what came after it."""
        both = _Unpublished()
        both.tiles = self.tiles | later.tiles
        both.checkpoint = later.checkpoint or self.checkpoint
        both.too_much = self.too_much or later.too_much
        return both
