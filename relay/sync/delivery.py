"""The visit to a receiver: what rules, the statements and content that it lacks, and the receipts.

A receiver's set is the whole election and a boat's a boatful: so only notices and checkpoints are reconciled, and the
visitor asks after the statements that it carries. Who knows beforehand that it visits a receiver asks with its greeting
(`Questions`), and has the answer, with receipts that are ready and the newest checkpoint, one round trip later: over a
satellite each takes most of a second. Does not live here: how records and content move (`recordexchange`, `content`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from relay.limits import GREETED_STATEMENTS, INQUIRY_PAGE, RECEIPT_PATIENCE
from relay.records.identifiers import Kind, RecordId, StatementId, receipt_id
from relay.store.interface import Store
from relay.store.recordset import Item, item_of, kind_end
from relay.sync.content import Exchange
from relay.sync.custody import Custody
from relay.sync.messages import Greeting, Hello, Inquiry, InquiryReply
from relay.sync.peer import Peer
from relay.sync.reconcile import Initiator
from relay.sync.recordexchange import RecordExchange, offered_as
from relay.sync.report import VisitReport

Watch = Callable[[Custody, Peer, Hello], Awaitable[None]]
"""What a node does with the checkpoint of a receiver it visits: see `relay.node.witness`."""


class Questions:
    """What a visitor asks with its greeting, where it knows that it visits a receiver."""

    def __init__(self, store: Store, statements: Sequence[StatementId]) -> None:
        self.initiator = Initiator(store.members, below=Kind.RECEIPT)
        self.statements = statements

    @staticmethod
    async def of(store: Store) -> Questions:
        """Ask after what rules, and after the first statements that wait for their receipts."""
        return Questions(store, await store.awaiting_receipt(b"", GREETED_STATEMENTS))

    def greeting(self, hello: Hello) -> Greeting:
        """The greeting that asks them."""
        return Greeting(hello, self.initiator.start(), Inquiry(tuple(self.statements)).encode())


class Delivery:
    """One visit to a receiver that was greeted. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        custody: Custody,
        peer: Peer,
        records: RecordExchange,
        content: Exchange,
        clock: Callable[[], float],
        report: VisitReport,
        watch: Watch | None,
    ) -> None:
        self._custody = custody
        self._store = custody.store
        self._peer = peer
        self._records = records
        self._content = content
        self._clock = clock
        self._report = report
        self._watch = watch

    async def run(self, questions: Questions | None, answer: Greeting) -> None:
        """Deliver. `questions` went with the greeting that was answered; None where nobody knew that it was one of
        a receiver. Raises what the peer raises."""
        ids: Sequence[StatementId] = ()
        reply: InquiryReply | None = None
        if questions is not None and answer.inquiry:
            ids, reply = questions.statements, InquiryReply.decode(answer.inquiry)
        initiator = await self._compared(questions, answer.compare)
        await self._exchange_rules(initiator, ids, reply)
        await self._inquire(ids, reply)
        if self._watch is not None:
            with self._report.keeping(here=True):
                await self._watch(self._custody, self._peer, self._report.peer)
        await self._content.to_receiver()
        await self._await_receipts()

    async def _compared(self, questions: Questions | None, reply: bytes) -> Initiator:
        if questions is not None and reply:
            await self._records.compare(questions.initiator, reply)
            return questions.initiator
        initiator = Initiator(self._store.members, below=Kind.RECEIPT)
        await self._records.compare(initiator, await self._peer.reconcile(initiator.start()))
        return initiator

    async def _exchange_rules(
        self, initiator: Initiator, ids: Sequence[StatementId], reply: InquiryReply | None
    ) -> None:
        """Take first, since what comes may replace what would be given: the log grows between two visits. What came
        with the greeting is kept before anything more is asked: the link may be cut there."""
        before = self._checkpoints()
        need = set(self._records.chosen(initiator.need))
        if reply is not None:
            need -= await self._take_rules(reply, need)
        ruled = any(kind == Kind.NOTICE for kind, _ in need)  # by what is still to come: receipts are judged after it
        if reply is not None and not ruled:
            await self._collect(ids, reply)
        await self._records.pull(sorted(need))
        gained = self._checkpoints() - before - set(initiator.need)  # with the cosignatures of both sides
        await self._records.push(sorted({*initiator.have, *gained}))
        if reply is not None and ruled:
            await self._collect(ids, reply)

    async def _take_rules(self, reply: InquiryReply, need: set[Item]) -> set[Item]:
        """Take what came of the rules that are needed; which ones that were."""
        came = [(kind, raw) for kind, raw in reply.records if (int(kind), offered_as(kind, raw)) in need]
        if not came:
            return set()
        verdicts = await self._records.keep(came, frozenset(record for _, record in need))
        return {(int(verdict.kind), RecordId(verdict.asked)) for verdict in verdicts}

    def _checkpoints(self) -> set[Item]:
        keys = self._store.members.keys(bytes([Kind.CHECKPOINT]), kind_end(Kind.CHECKPOINT))
        return {item_of(key) for key in keys}

    async def _inquire(self, greeted: Sequence[StatementId], reply: InquiryReply | None) -> None:
        """Collect the receipts that are ready, then hand over what the receiver has not seen. The reply is to the ids
        that went with the greeting; what began to wait since, by a notice that revokes a receiver for instance, is
        asked after as well."""
        asked = set(greeted)
        unknown = asked.intersection(reply.unknown) if reply is not None else set()
        after = b""
        while ids := await self._store.awaiting_receipt(after, INQUIRY_PAGE):
            after = ids[-1]
            if left := [one for one in ids if one not in asked]:
                reply = await self._peer.inquire(Inquiry(tuple(left)))
                await self._collect(left, reply)
                unknown |= set(left).intersection(reply.unknown)
        await self._records.push(sorted((int(Kind.STATEMENT), one) for one in unknown))

    async def _await_receipts(self) -> None:
        """Wait a little for receipts of what was just handed over."""
        until = self._clock() + RECEIPT_PATIENCE
        while (left := until - self._clock()) > 0:
            ids = await self._store.awaiting_receipt(b"", INQUIRY_PAGE)
            if not ids or not self._report.bytes_out:
                return
            reply = await self._peer.inquire(Inquiry(tuple(ids), wait=min(1.0, left)))
            await self._collect(ids, reply)
            if reply.ready and ids == await self._store.awaiting_receipt(b"", INQUIRY_PAGE):
                return  # its receipts are not believed here: asking again brings the same ones

    async def _collect(self, asked: Sequence[StatementId], reply: InquiryReply) -> None:
        """Take the receipts that came with a reply, and fetch the rest of those that are ready."""
        wanted = {receipt_id(one) for one in set(reply.ready) & set(asked)}
        came = [(kind, raw) for kind, raw in reply.records if kind == Kind.RECEIPT][: len(wanted)]
        if came:
            verdicts = await self._records.keep(came, frozenset(wanted))
            wanted -= {verdict.asked for verdict in verdicts}
            # One that is refused is not fetched at once to be refused again.
            wanted -= {offered_as(kind, raw) for (kind, raw), one in zip(came, verdicts, strict=False) if one.refusal}
        await self._records.pull(sorted((int(Kind.RECEIPT), one) for one in wanted))
