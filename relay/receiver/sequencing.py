"""Sequencing: complete bundles become entries of the log, in batches, each with its receipt.

A batch is one commit of the store: entries, receipts, frontier and signed checkpoint together, so that a power cut
leaves all of it or nothing. The order around it: tiles are written first (they say nothing before a checkpoint covers
them), then the commit, then the checkpoint is published. Guards promise 6.
"""

from __future__ import annotations

import logging

from relay.errors import StoreError
from relay.limits import LOG_BATCH
from relay.log.checkpoint import Checkpoint, sign_checkpoint
from relay.log.merkle import leaf_hash
from relay.log.tree import Frontier, inclusion_proof
from relay.node.home import Member
from relay.receiver.publishing import Publisher
from relay.records.identifiers import Kind, StatementId
from relay.records.receipt import Inclusion, sign_receipt
from relay.store.interface import LogBatch, LogState
from relay.sync.custody import Custody
from relay.trust.admission import Admitted
from relay.trust.witness import log_key

logger = logging.getLogger(__name__)


class Sequencer:
    """Appends to the log of one receiver. One sequencer at a time may run on a store."""

    def __init__(self, custody: Custody, member: Member, publisher: Publisher) -> None:
        self._custody = custody
        self._member = member
        self._publisher = publisher
        self._key = log_key(member.identity)
        self._shown = b""
        """The newest checkpoint that was published with the cosignatures it had."""

    async def start(self) -> LogState:
        """Publish what the store has committed: after a crash the files may be behind. Signs the empty log once."""
        state = await self._custody.store.log_state()
        if not state.checkpoint:
            state = LogState(0, Frontier().to_bytes(), self._sign(Frontier()))
            await self._custody.store.append(LogBatch(0, (), (), state))
        await self._publisher.catch_up(state, self._custody.store)
        await self._take_checkpoint(state.checkpoint)
        return state

    async def sequence(self) -> int:
        """Append what is complete and not logged; how many entries. Raises `StoreError`."""
        store = self._custody.store
        pending = await store.unlogged(LOG_BATCH)
        if not pending:
            return 0
        state = await store.log_state()
        frontier = Frontier.from_bytes(state.frontier)
        leaves = [leaf_hash(raw) for _, raw in pending]
        grown = frontier.extend(leaves)
        await self._publisher.write_tiles(frontier.size, [raw for _, raw in pending], leaves)
        receipts = self._receipts(frontier.size, grown, [statement for statement, _ in pending], leaves)
        new = LogState(grown.size, grown.to_bytes(), self._sign(grown))
        batch = LogBatch(frontier.size, tuple(statement for statement, _ in pending), receipts, new)
        await store.append(batch)
        await self._publisher.publish_checkpoint(new.checkpoint)
        await self._take_checkpoint(new.checkpoint)
        logger.info("logged entries %d to %d", frontier.size, grown.size - 1)
        return len(pending)

    async def publish_cosigned(self) -> None:
        """Publish the newest checkpoint again when witnesses cosigned it meanwhile."""
        signed = self._custody.admission.checkpoints.get(self._key.name)
        state = await self._custody.store.log_state()
        if signed is None or signed.raw == self._shown or not state.checkpoint.startswith(signed.note.text.encode()):
            return
        await self._publisher.publish_checkpoint(signed.raw)
        self._shown = signed.raw

    def _receipts(
        self, first: int, grown: Frontier, statements: list[StatementId], leaves: list[bytes]
    ) -> tuple[Admitted, ...]:
        read = self._publisher.reader(grown.size)
        root = grown.root()
        identity = self._member.identity
        receipts: list[Admitted] = []
        for place, (statement, leaf) in enumerate(zip(statements, leaves, strict=True)):
            proof = Inclusion(grown.size, first + place, inclusion_proof(first + place, grown.size, read))
            raw = sign_receipt(
                identity.election,
                statement,
                leaf,
                proof,
                root,
                identity.uri,
                identity.certificate,
                self._member.key,
            )
            # Admitting our own receipt checks the tiles, the proof and the signature before anything is committed.
            receipts.append(self._custody.admission.admit(Kind.RECEIPT, raw))
        return tuple(receipts)

    def _sign(self, frontier: Frontier) -> bytes:
        checkpoint = Checkpoint(self._key.name, frontier.size, frontier.root())
        return sign_checkpoint(checkpoint, self._key, self._member.key)

    async def _take_checkpoint(self, raw: bytes) -> None:
        """Offer the checkpoint to visitors as a record, once a notice names this receiver."""
        names = [one.name for one in self._custody.admission.receivers]
        if self._member.identity.name not in names:
            logger.warning("no notice names this receiver yet: nodes will not believe its checkpoints")
            return
        (verdict,) = await self._custody.take([(Kind.CHECKPOINT, raw)])
        if verdict.refusal is not None:
            raise StoreError(
                f"The log's own checkpoint is refused ({verdict.refusal.what})",
                "Stop this receiver: another one signs the same log, or its store was restored from an old backup.",
            )
