"""Custody: what this node takes in, whoever brings it. Admission stands in front of the store.

The one road by which records enter a node: a visit's pull, a peer's push, a stick's import and the node's own
capture all come through `Custody.take`. Guards promises 1 and 10: what is refused changes nothing and is named.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from relay.errors import REVOKED, Malformed, Refused, StoreError
from relay.limits import (
    GREETED_SECONDS,
    JUDGED_AT_ONCE,
    MAX_HEADS,
    MAX_RECORD,
    MAX_REFUSALS,
    RECORDS_PAGE,
    TOLD_REFUSALS,
)
from relay.log.merkle import leaf_hash
from relay.records.identifiers import Kind, NodeId, RecordId, receipt_id, sha256
from relay.records.receipt import Receipt, read_receipt
from relay.records.statement import Statement
from relay.store.interface import Outcome, Seen, Store
from relay.store.recordset import item_of, kind_end
from relay.sync.alarm import raise_alarm
from relay.sync.handover import Handed
from relay.sync.signal import Signal
from relay.sync.torn import TornChunks
from relay.together import note_end
from relay.trust.admission import Admission, Admitted
from relay.trust.heads import Head, Heads, head_of, head_of_checkpoint, origin_of
from relay.trust.witness import SPLIT_VIEW

logger = logging.getLogger(__name__)

UNASKED = "unasked"
_RECEIVERS = "receivers"
"""The note that keeps which receivers notices named."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one record: its outcome, or the reason for which it was refused."""

    kind: Kind
    id: RecordId | None
    outcome: Outcome | None
    refusal: Refused | Malformed | None = None
    asked: bytes = b""
    """The id under which it was offered, as far as its bytes tell."""

    @property
    def word(self) -> str:
        """One word for peers and logs."""
        if self.outcome is not None:
            return str(self.outcome)
        return self.refusal.reason if isinstance(self.refusal, Refused) else "malformed"


class Custody:
    """Admission and store of one node, kept in step: a notice that comes into force rules at once.

    Its counts begin at `first`, drawn at random by a daemon: after a restart they are not what they were before. `log`
    is a receiver's own node id: whose log this is; None at other nodes.
    """

    def __init__(self, admission: Admission, store: Store, first: int = 0, log: NodeId | None = None) -> None:
        self.admission = admission
        self.store = store
        self._log = log
        self._receivers: set[NodeId] = set()
        """The receivers that notices named: in force now, or known to this node before."""
        self._over_quota: set[tuple[Kind, NodeId]] = set()
        """Signers of whom was told that they are over their quota, of statements or of receipts."""
        self._crowded = False
        """Whether it was told that there is no room, since something that needs it was kept last."""
        self._failing = False
        """Whether it was told that the store fails, since it last did not."""
        self.news = Signal(first)
        """Rings whenever something new was taken, or a bundle became complete."""
        self.content = first
        """How often content came or went: while it stays the same, nothing is wanted or held that was not before."""
        self.heads = Heads()
        """What receivers signed about their logs and did not prove to this node yet."""
        self.verdicts: Counter[tuple[str, str]] = Counter()
        """How many records came, by kind and by what became of them."""
        self.handed = Handed()
        """What went to whom."""
        self.torn = TornChunks()
        """What contacts that ended left of chunks."""
        self._recalled = False
        self._disowned: frozenset[NodeId] = frozenset()
        """Revoked receivers whose records were taken back: many receipts are not read for each notice."""
        self._taken_back = 0
        """How often records were taken back: of revoked receivers, and receipts that prove another entry."""
        self._looking: asyncio.Task[None] | None = None
        self._seen = Seen.NOTHING
        """What other processes did that was not taken in yet."""
        self._ruling = asyncio.Lock()
        self._rules_anew = False
        """Whether a notice came into force since `rule` was done last."""
        self.refused: dict[tuple[int, bytes], None] = {}
        """Kinds and ids refused lately, so that they are not fetched again at every visit; the oldest is forgotten
        first. Nobody can have a good record passed over: an id follows from the bytes that were judged as that kind.
        A receipt's follows from its statement alone: those that somebody waits for are asked for whatever is here."""

    async def load(self, *, notices: bool = True) -> None:
        """Put in force what the store kept: at start, and after another process changed the store. Checkpoints come
        and go all the time: where nothing else changed, the notices need not be read for them."""
        for kind in (Kind.NOTICE, Kind.CHECKPOINT) if notices else (Kind.CHECKPOINT,):
            refused = self.admission.load([(kind, raw) for raw in await self.store.load(kind)])
            for raw, error in refused:
                if error.reason == SPLIT_VIEW:
                    await self._hear(head_of_checkpoint(raw))
                if (kind, sha256(raw)) not in self.refused:
                    logger.warning("left a %s that was kept out of force: %s", kind.name.lower(), error.what)
                    self._remember_refused(kind, sha256(raw))
        if notices:
            noted = (await self.store.notes()).get(_RECEIVERS, "")
            self._receivers.update(NodeId(bytes.fromhex(one)) for one in noted.split())
            self._know_receivers()
        for signed in self.admission.checkpoints.values():
            await self._hear(head_of_checkpoint(signed.raw))
        if not self._recalled:
            self._recalled = True
            await self._recall_receipts()
        if notices:
            self._rules_anew = True
            self._disowned = frozenset()
        await self.rule()

    async def take_in(self) -> None:
        """See what commands beside the daemon committed, and put it in force. Raises `StoreError`: what could not be
        taken in is, the next time. Goes on when whoever asked for it is gone, and is done once at a time."""
        await asyncio.shield(self._look())

    async def take_in_before_greeting(self) -> None:
        """The same, as far as it takes no time: what keeps it from being done is the daemon's to tell, which looks
        anyhow."""
        await asyncio.wait((self._look(),), timeout=GREETED_SECONDS)

    async def close(self) -> None:
        """Let a look that is under way come to its end: the store is still needed for it."""
        if self._looking is not None:
            await asyncio.wait((self._looking,))

    def _look(self) -> asyncio.Task[None]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._take_in())
            self._looking.add_done_callback(note_end)
        return self._looking

    async def _take_in(self) -> None:
        self._seen = max(self._seen, await self.store.refresh(), key=list(Seen).index)
        if self._seen in (Seen.HEADS, Seen.RULES):
            await self.load(notices=self._seen is Seen.RULES)
        await self.rule()
        if self._seen is not Seen.NOTHING:
            self.news.ring()
        self._seen = Seen.NOTHING

    async def rule(self) -> None:
        """Withhold what revoked signers made, and take back what revoked receivers signed, where notices came since
        that was done last. A full disk may have kept it from being done when they came: it is done as soon as it can
        be."""
        async with self._ruling:  # who comes while it is being done waits until it is
            if self._rules_anew:
                self._rules_anew = False
                try:
                    await self._note_receivers()
                    await self._take_back()
                    await self.store.withhold(self.admission.revoked)
                except BaseException:
                    self._rules_anew = True
                    raise

    async def take(
        self,
        records: Sequence[tuple[Kind, bytes]],
        asked: frozenset[bytes] | None = None,
        *,
        made_here: bool = False,
    ) -> list[Verdict]:
        """Judge records and keep what is admitted, durably; a verdict for each, in the order given.

        Notices rule the records that come with them: they are judged first. With `asked`, the ids that were asked
        for, anything else is refused (promise 2). `made_here`: this node made them just now, and has no quota.
        """
        verdicts: dict[int, Verdict] = {}
        admitted: list[tuple[int, Admitted]] = []
        judged = refused = 0
        for place in sorted(range(len(records)), key=lambda place: records[place][0]):
            kind, raw = records[place]
            judged += 1
            if judged % JUDGED_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                item = await self._judge(kind, raw, asked)
            except (Refused, Malformed) as error:
                refused += 1
                if refused <= TOLD_REFUSALS:
                    logger.warning("refused a %s: %s", kind.name.lower(), error.what)
                if not isinstance(error, Refused) or error.reason != UNASKED:
                    self._remember_refused(kind, sha256(raw))
                verdicts[place] = Verdict(kind, None, None, error, sha256(raw))
                continue
            if self.admission.install(item) and kind is Kind.NOTICE:
                self._rules_anew = True
                self.refused.clear()
                self.handed.offer_again()
                self._know_receivers()
            admitted.append((place, item))
        if refused > TOLD_REFUSALS:
            logger.warning("refused %d records more that came with these", refused - TOLD_REFUSALS)
        outcomes = await self._keep_and_rule([item for _, item in admitted], made_here)
        kept = [item for (_, item), outcome in zip(admitted, outcomes, strict=True) if outcome is Outcome.NEW]
        self._make_way(kept)
        for (place, item), outcome in zip(admitted, outcomes, strict=True):
            name = _offered_as(item, records[place][1])
            if outcome is Outcome.OVER_QUOTA:
                self._tell_over_quota(item)
            if outcome in (Outcome.STALE, Outcome.OVER_QUOTA):
                self._remember_refused(item.kind, name)
            verdicts[place] = Verdict(item.kind, item.id, outcome, None, name)
        self._tell_no_room(outcomes, any(one.kind is Kind.STATEMENT for one in kept) and not made_here)
        if kept:
            self._failing = False
            self.news.ring()
        self.verdicts.update((one.kind.name.lower(), one.word) for one in verdicts.values())
        return [verdicts[place] for place in range(len(records))]

    def _make_way(self, kept: Sequence[Admitted]) -> None:
        """Have taken what there is room for now. A receipt makes some for other statements of its signer, here and at
        the neighbours; one for a statement that is held counts in any case."""
        if any(item.kind is Kind.RECEIPT for item in kept):
            self.refused = {key: None for key in self.refused if key[0] != Kind.STATEMENT}
            self.handed.offer_again(Kind.STATEMENT)
        for item in kept:
            if isinstance(item.body, Statement):
                self.refused.pop((int(Kind.RECEIPT), receipt_id(item.body.id)), None)

    async def _keep_and_rule(self, items: Sequence[Admitted], made_here: bool) -> list[Outcome]:
        """Keep what was admitted, and do what notices demand that came with it, or while it was judged."""
        taken_back = self._taken_back
        outcomes = await self._keep(items, made_here)
        if self._log is None:
            await self._check_pairs(items)
        # Others got their turn while these were judged: who was believed then may have been revoked since.
        late = {item.signer for item in items} & self.admission.revoked.keys()
        self._rules_anew |= bool(late)
        self._disowned -= late
        await self.rule()
        while taken_back != self._taken_back:  # what was known by a receipt that is gone is not known any more
            taken_back = self._taken_back
            known = [place for place, outcome in enumerate(outcomes) if outcome is Outcome.KNOWN]
            places = [place for place in known if items[place].kind is Kind.STATEMENT]
            again = await self.store.add([items[place] for place in places], made_here=made_here)
            for place, outcome in zip(places, again, strict=True):
                outcomes[place] = outcome
            self._rules_anew = True
            await self.rule()
        return outcomes

    async def _keep(self, items: Sequence[Admitted], made_here: bool) -> list[Outcome]:
        """Keep what was admitted, in the order of kinds: what notices take away is gone before anything leans on it."""
        rules = sum(item.kind is Kind.NOTICE for item in items)
        outcomes = await self.store.add(items[:rules]) if rules else []
        if self._takes_back:
            await self.rule()
        rest = items[rules:]
        return outcomes + (await self.store.add(rest, made_here=made_here) if rest else [])

    @property
    def _takes_back(self) -> bool:
        """Whether a receiver is revoked, and what it signed may still be held."""
        return self._rules_anew and not self._receivers.isdisjoint(self.admission.revoked)

    async def _judge(self, kind: Kind, raw: bytes, asked: frozenset[bytes] | None) -> Admitted:
        try:
            item = self.admission.admit(kind, raw)
        except Refused as error:
            if error.reason == SPLIT_VIEW:
                await self._hear(head_of_checkpoint(raw))
            raise
        head = head_of(item, raw)
        if head is not None:
            await self._hear(head)
        if isinstance(item.body, Receipt):
            self._check_log(item)
            await self._check_leaf(item.body)
        if isinstance(item.body, Statement) and self._log is not None:
            self._check_form(item.body)
        if asked is not None and _offered_as(item, raw) not in asked:
            raise Refused(UNASKED, f"A peer sent a {kind.name.lower()} that it was not asked for")
        return item

    def _check_log(self, receipt: Admitted) -> None:
        """A receipt frees content: so the office has to have named whose log it is of. One that was replaced stays
        good for what it signed. What stands in another log is not in a receiver's own."""
        if receipt.signer not in self._receivers:
            raise Refused(
                "unknown-log",
                "A receipt is by a receiver that no notice names",
                "Ask the election office for the notice that names its receivers.",
            )
        if self._log is not None and receipt.signer != self._log:
            raise Refused("foreign-log", "A receipt is of the log of another receiver")

    def _check_form(self, statement: Statement) -> None:
        """A receiver logs for good, and whoever reads the log: what the register does not list has no place in it."""
        forms, form = self.admission.forms, statement.package.form
        if forms and form not in forms:
            raise Refused("unknown-form", f"A statement is for form {form}, which the register does not list")

    def _tell_over_quota(self, item: Admitted) -> None:
        """Once of each signer, however often more of it comes."""
        if (item.kind, item.signer) in self._over_quota:
            return
        self._over_quota.add((item.kind, item.signer))
        if isinstance(item.body, Statement):
            logger.warning("%s signed more than this node takes of one signer", item.body.envelope.issuer)
        elif isinstance(item.body, Receipt):
            logger.warning(
                "%s signed more receipts for packages that are not here than this node keeps of one receiver: if they "
                "are of no election's packages its key was stolen; tell the election office, which can revoke it",
                item.body.envelope.issuer,
            )

    def _tell_no_room(self, outcomes: Sequence[Outcome], there_was: bool) -> None:
        """Once while it lasts. It is no refusal that is remembered: what came is taken as soon as there is room. What
        needs none is kept all the while."""
        crowded = Outcome.NO_ROOM in outcomes
        if crowded and not self._crowded:
            logger.warning("there is no room left for what others made: free some space, or raise storage_limit")
        self._crowded = crowded or (self._crowded and not there_was)

    def tell_failing(self, error: StoreError) -> None:
        """Say once while it lasts that the store cannot keep what others bring."""
        if not self._failing:
            logger.warning("what others bring is not kept: %s", error)
        self._failing = True

    def _know_receivers(self) -> None:
        self._receivers |= self.admission.receiver_nodes

    async def _note_receivers(self) -> None:
        """Keep who was named, for when the notice that did so is replaced."""
        named = " ".join(sorted(one.hex() for one in self._receivers))
        if (await self.store.notes()).get(_RECEIVERS, "") != named:
            await self.store.set_note(_RECEIVERS, named)

    async def _take_back(self) -> None:
        """A revoked receiver's receipts prove nothing more: what it said it had is to be delivered to another one, and
        its content is kept until then. A receiver holds no receipts but its own, and its log stays as it is."""
        revoked = frozenset(self._receivers.intersection(self.admission.revoked))
        known, self._disowned = self._disowned, revoked  # at once: what comes late meanwhile is taken back later
        if revoked <= known:
            return
        try:
            gone = [one async for one in self._disowned_records()]
            if gone:
                await self.store.take_back(gone)
                self._taken_back += 1
                self.content += 1
                logger.warning("took back %d records of revoked receivers: what those had is delivered anew", len(gone))
        except BaseException:
            self._disowned = frozenset()
            raise

    async def _disowned_records(self) -> AsyncIterator[RecordId]:
        for raw in await self.store.load(Kind.CHECKPOINT):
            if self._is_disowned(Kind.CHECKPOINT, raw):
                yield RecordId(sha256(raw))
        keys = self.store.members.keys(bytes([Kind.RECEIPT]), kind_end(Kind.RECEIPT)) if self._log is None else ()
        ids = [item_of(key)[1] for key in keys]
        for at in range(0, len(ids), RECORDS_PAGE):
            for kind, record, raw in await self.store.read(ids[at : at + RECORDS_PAGE], RECORDS_PAGE * MAX_RECORD):
                if self._is_disowned(kind, raw):
                    yield record

    def _is_disowned(self, kind: Kind, raw: bytes) -> bool:
        """Whether a receipt or a checkpoint that was believed is so no more."""
        try:
            if kind is Kind.RECEIPT:
                self.admission.identify(read_receipt(raw).envelope.certificate)
            else:
                self.admission.admit(kind, raw)
        except Refused as error:
            return error.reason in (REVOKED, "unknown-log")
        return False

    async def _check_leaf(self, receipt: Receipt) -> None:
        for _, _, statement in await self.store.read([receipt.statement], MAX_RECORD):
            if await self._is_wrong(receipt, statement):
                raise Refused("wrong-leaf", "A receipt names a statement, and proves another entry of the log")

    async def _check_pairs(self, items: Sequence[Admitted]) -> None:
        """A receipt that came before its statement, or with it, is let go if it proves another entry: nothing was
        delivered by it."""
        for item in items:
            if isinstance(item.body, Statement) and (int(Kind.RECEIPT), receipt_id(item.body.id)) in self.store.members:
                statement, receipt = item.raw, receipt_id(item.body.id)
                found = [raw for _, _, raw in await self.store.read([receipt], MAX_RECORD)]
                pairs = [(read_receipt(raw), statement) for raw in found]
            elif isinstance(item.body, Receipt):
                found = [raw for _, _, raw in await self.store.read([item.body.statement], MAX_RECORD)]
                pairs = [(item.body, raw) for raw in found]
            else:
                continue
            for one, raw in pairs:
                if await self._is_wrong(one, raw):
                    await self.store.take_back([one.id])
                    self._taken_back += 1

    async def _is_wrong(self, receipt: Receipt, statement: bytes) -> bool:
        """Whether a receipt proves another entry than its statement: told loudly."""
        if leaf_hash(statement) == receipt.leaf:
            return False
        what = f"{receipt.envelope.issuer} signed a receipt for a statement that it proves another entry with"
        await raise_alarm(self.store, origin_of(receipt), what, [(Kind.RECEIPT, receipt.raw)])
        return True

    async def _recall_receipts(self) -> None:
        """Hear what receipts that were kept say of the logs: of some, where there are many."""
        keys = self.store.members.keys(bytes([Kind.RECEIPT]), kind_end(Kind.RECEIPT))
        ids = [item_of(key)[1] for key in islice(keys, MAX_HEADS)]
        for kind, _, raw in await self.store.read(ids, MAX_HEADS * MAX_RECORD):
            with suppress(Refused):  # its signer was revoked since
                head = head_of(self.admission.admit(kind, raw), raw)
                if head is not None:
                    await self._hear(head)

    async def _hear(self, head: Head) -> None:
        other = self.heads.hear(head)
        if other is not None:
            what = f"{head.tree.origin} signed two different logs of {head.tree.size} entries"
            await raise_alarm(self.store, head.tree.origin, what, [(other.kind, other.raw), (head.kind, head.raw)])

    def _remember_refused(self, kind: Kind, name: bytes) -> None:
        self.refused[kind, name] = None
        while len(self.refused) > MAX_REFUSALS:
            del self.refused[next(iter(self.refused))]


def _offered_as(item: Admitted, raw: bytes) -> bytes:
    """The id under which a peer offers a record: a checkpoint may have gained cosignatures here since."""
    return item.id if item.kind is Kind.RECEIPT else sha256(raw)
