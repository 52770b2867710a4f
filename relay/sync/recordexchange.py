"""The exchange of records in a visit: what is pulled, what is pushed, in which order, and when it stops.

What rules and frees space comes first. What cannot be kept, on either side, keeps nothing else from being given: that
needs no room. Does not live here: which records differ (`reconcile`), and when their turn comes (`visit`, `delivery`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence

from relay.errors import Malformed
from relay.limits import FIRST_RECORDS_PAGE, MAX_SURPLUS, RECORDS_BATCH, RECORDS_PAGE
from relay.records.identifiers import Kind, RecordId, StatementId, receipt_id, sha256
from relay.records.receipt import read_receipt
from relay.store.interface import Outcome
from relay.store.recordset import Item, key_of
from relay.sync.content import Exchange
from relay.sync.custody import Custody, Verdict
from relay.sync.messages import Given, Taken
from relay.sync.pace import Pace
from relay.sync.peer import Peer
from relay.sync.reconcile import Initiator
from relay.sync.report import VisitReport
from relay.together import together


class RecordExchange:
    """Records of one visit, both ways. `clock` is monotonic, in seconds; `content` hears what comes to light of it."""

    def __init__(
        self, custody: Custody, peer: Peer, content: Exchange, clock: Callable[[], float], report: VisitReport
    ) -> None:
        self._custody = custody
        self._store = custody.store
        self._peer = peer
        self._content = content
        self._clock = clock
        self._report = report
        self._until = float("inf")
        self._full_here: set[Kind] = set()
        self._full_there: set[Kind] = set()
        """The kinds of records, but for notices, for which there is no room here or there, as far as is known."""

    def begin(self, seconds: float) -> None:
        """Give records so much time from now on."""
        self._until = self._clock() + seconds

    async def compare(self, initiator: Initiator, reply: bytes) -> None:
        """Reconcile as far as there is time, from the reply to the first message on."""
        message = initiator.step(reply)
        while message is not None and not self._is_late():
            message = initiator.step(await self._peer.reconcile(message))

    async def take_given(self, given: Given, need: Iterable[Item]) -> int:
        """Take what came with the greeting of what is needed; how many statements of it are new here. The peer cannot
        know what was refused here: that is passed over, and moved nothing."""
        chosen = set(self.chosen(need))
        came = [(kind, raw) for kind, raw in given.records if (int(kind), offered_as(kind, raw)) in chosen]
        if not came:
            return 0
        self._content.held_there(given.holdings)
        verdicts = await self.keep(came, frozenset(record for _, record in chosen))
        return sum((one.kind, one.outcome) == (Kind.STATEMENT, Outcome.NEW) for one in verdicts)

    async def ruling(self, initiator: Initiator) -> None:
        """Both ways at once: what rules, and what frees space."""
        awaited_here, awaited_there = _awaited(initiator.have), _awaited(initiator.need)
        if initiator.knows_receipts:  # else the peer may hold more of them than it told of
            awaited_here &= set(initiator.need)
        awaited_here = {item for item in awaited_here if item not in self._store.members}
        awaited_there = {item for item in awaited_there if item in self._store.members}
        taken = _ruling(self.chosen(initiator.need), awaited_here)
        given = _ruling(initiator.have, awaited_there)
        await self.both_ways(taken, given)

    async def both_ways(
        self, taken: Sequence[Item], given: Sequence[Item], here: Pace | None = None, there: Pace | None = None
    ) -> None:
        """Pull some and push others, at once; `here` and `there` are told of it, also of what did not move."""
        if taken or given:
            await together(_all_of(taken, self.pull, here), _all_of(given, self.push, there))

    def chosen(self, need: Iterable[Item]) -> list[Item]:
        """What to take of what the peer offers, in the order of kinds: nothing that was refused, or came since."""
        refused, members = self._custody.refused, self._store.members
        return sorted(item for item in need if item not in refused and item not in members)

    async def unknown(self, need: Iterable[Item]) -> list[Item]:
        """The statements to take: none that was refused before, or is kept back here."""
        statements = [item for item in self.chosen(need) if item[0] == Kind.STATEMENT]
        ids = [StatementId(RecordId(one)) for _, one in statements]
        known = await self._store.known_statements(ids) if ids else set()
        return [item for item in statements if item[1] not in known]

    def hear_of_room(self) -> None:
        """There may be room for statements again, here and there."""
        for full in (self._full_here, self._full_there):
            full.discard(Kind.STATEMENT)

    async def pull(self, items: Sequence[Item], pace: Pace | None = None) -> None:
        """Fetch records, page by page, as long as they are kept."""
        waiting = deque(RecordId(record) for kind, record in items if kind not in self._full_here)
        surplus = 0
        for size in self._pages(items, waiting, pace):
            if self._report.unkept_here:
                return
            page = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            given = await self._peer.get_records(page)
            self._content.held_there(given.holdings)
            verdicts = await self.keep(given.records, frozenset(page))
            surplus += sum((one.kind, one.outcome) == (Kind.RECEIPT, Outcome.OVER_QUOTA) for one in verdicts)
            if full := _full([(one.kind, one.outcome) for one in verdicts], surplus):
                self._full_here |= full - {Kind.NOTICE}
                return  # there is none for the rest either: those that count all the same came first
            got = {verdict.asked for verdict in verdicts}
            rest = [one for one in page if one not in got]
            if len(rest) < len(page):  # else the peer holds none of the rest, or sends something else for ever
                waiting.extendleft(reversed(rest))

    async def keep(self, records: Sequence[tuple[Kind, bytes]], asked: frozenset[bytes]) -> list[Verdict]:
        """Take in what the peer gave, of which nothing counts but what was asked for; none where it cannot be kept."""
        report = self._report
        report.records_in += len(records)
        report.bytes_in += sum(len(raw) for _, raw in records)
        verdicts: list[Verdict] = []
        with report.keeping(here=True):
            verdicts = await self._custody.take(records, asked=asked)
        self._full_here |= {one.kind for one in verdicts if one.outcome is Outcome.NO_ROOM} - {Kind.NOTICE}
        fresh = sum(verdict.outcome is Outcome.NEW for verdict in verdicts)
        report.rung += fresh > 0
        report.kept += fresh
        return verdicts

    async def push(self, items: Sequence[Item], pace: Pace | None = None) -> None:
        """Hand records over, page by page, as long as they are kept there."""
        node, now = self._report.peer.node.hex(), self._clock()
        handed, members = self._custody.handed, self._store.members
        offered = [item for item in items if item in members and item[0] not in self._full_there]
        waiting = [RecordId(item[1]) for item in offered if not handed.declines(node, item, now)]
        surplus = 0
        for size in self._pages(items, waiting, pace):
            records = await self._store.read(waiting[:size], RECORDS_BATCH)
            if not records:
                del waiting[:size]
                continue
            taken = Taken([])
            with self._report.keeping(here=False):
                taken = await self._peer.put_records([(kind, raw) for kind, _, raw in records])
            if self._report.unkept_there:
                return
            self._report.records_out += len(records)
            self._report.bytes_out += sum(len(raw) for _, _, raw in records)
            self._content.wanted_there(taken.wants)
            self._note_taken(records, taken.outcomes)
            said = [(kind, outcome) for (kind, _, _), outcome in zip(records, taken.outcomes, strict=False)]
            surplus += sum(one == (Kind.RECEIPT, Outcome.OVER_QUOTA) for one in said)
            if full := _full(said, surplus):
                self._full_there |= full - {Kind.NOTICE}
                return
            del waiting[: waiting.index(records[-1][1]) + 1]

    def _note_taken(self, records: Sequence[tuple[Kind, RecordId, bytes]], outcomes: Sequence[str]) -> None:
        """Note who has what now, and what it has no quota for: that is not brought again at every visit."""
        node, handed = self._report.peer.node.hex(), self._custody.handed
        for (kind, record, _), outcome in zip(records, outcomes, strict=False):
            if outcome == Outcome.OVER_QUOTA:
                handed.declined(node, kind, record, self._clock())
            elif kind is Kind.STATEMENT and outcome != Outcome.NO_ROOM:
                handed.told(node, record)
            self._report.kept += outcome == Outcome.NEW

    def _is_late(self) -> bool:
        return self._clock() > self._until

    def _pages(self, items: Sequence[Item], waiting: Collection[RecordId], pace: Pace | None) -> Iterator[int]:
        """How many records to move at a time, while some of the items wait and there is time; then those that still
        wait are left to the next visit. Few at first, since of a batch nothing is kept where the link is cut in it, and
        more and more while it holds."""
        size = FIRST_RECORDS_PAGE
        while waiting and not self._is_late():
            before = len(waiting)
            yield size
            if pace is not None:
                pace.moved(before - len(waiting))
            size = min(2 * size, RECORDS_PAGE)
        left = set(waiting)
        report = self._report
        report.compared = min([report.compared, *(key_of(*item) for item in items if item[1] in left)])


def offered_as(kind: Kind, raw: bytes) -> RecordId | None:
    """The id under which a peer offers a record; None where it is to be a receipt, and is none."""
    if kind is not Kind.RECEIPT:
        return RecordId(sha256(raw))
    try:
        return read_receipt(raw).id
    except Malformed:
        return None


async def _all_of(
    items: Sequence[Item], move: Callable[[Sequence[Item], Pace | None], Awaitable[None]], pace: Pace | None
) -> None:
    """Move them; those that were left out are not waited for."""
    after = 0 if pace is None else pace.left - len(items)
    await move(items, pace)
    if pace is not None:
        pace.waits_for(after)


def _awaited(items: Iterable[Item]) -> set[Item]:
    """The receipts that somebody waits for who still carries these statements."""
    statements = (StatementId(RecordId(one)) for kind, one in items if kind == Kind.STATEMENT)
    return {(int(Kind.RECEIPT), receipt_id(one)) for one in statements}


def _ruling(items: Iterable[Item], awaited: set[Item]) -> list[Item]:
    """What rules and these receipts, in the order of kinds: of receipts first those that somebody waits for."""
    ruling = awaited.union(item for item in items if item[0] != Kind.STATEMENT)
    return sorted(ruling, key=lambda one: (one[0], one not in awaited, one[1]))


def _full(outcomes: Iterable[tuple[Kind, str | None]], surplus: int) -> set[Kind]:
    """The kinds of which no more is kept, by what became of some; `surplus` is how many receipts were over a quota."""
    full = {kind for kind, outcome in outcomes if outcome == Outcome.NO_ROOM}
    return full | {Kind.RECEIPT} if surplus > MAX_SURPLUS else full
