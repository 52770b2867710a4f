"""One visit: greet, reconcile, exchange records, exchange content. The visitor does both directions (DESIGN §6).

The road is straight: `Visit.run` calls its steps in order, and each step leaves what it did in the store. A contact
may end at any byte: whatever was checked stays, and the next visit, to anyone, goes on from there. Does not live here:
how content moves (`content`).

With a neighbour, whole sets are reconciled by ranges, as much of them as a visit has time and memory for: the report
says how far it came, and the next visit goes on there. What cannot be kept, on either side, keeps nothing else from
being given: that needs no room. A receiver's set is the whole election and a boat's a boatful:
there only notices and checkpoints are reconciled, and the visitor asks after the statements that it carries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from relay.errors import Refused, Unreachable
from relay.limits import (
    FIRST_RECORDS_PAGE,
    FIRST_STATEMENTS,
    INQUIRY_PAGE,
    LAST_STATEMENTS,
    LOOK_SECONDS,
    MAX_RECONCILE_FOUND,
    MAX_SURPLUS,
    RECEIPT_PATIENCE,
    RECORDS_BATCH,
    RECORDS_PAGE,
    RECORDS_SECONDS,
    SOON_SECONDS,
)
from relay.records.identifiers import Kind, RecordId, StatementId, receipt_id
from relay.store.interface import Outcome
from relay.store.recordset import END, FIRST, Item, key_of
from relay.sync.claims import Claims
from relay.sync.content import Exchange
from relay.sync.custody import Custody, Verdict
from relay.sync.messages import PROTOCOL, Greeting, Hello, Inquiry, Taken
from relay.sync.peer import Peer
from relay.sync.reconcile import Initiator
from relay.sync.report import VisitReport
from relay.together import together
from relay.trust.roles import Role

Watch = Callable[[Custody, Peer, Hello], Awaitable[None]]
"""What a node does with the checkpoint of a receiver it visits: see `relay.node.witness`."""


class Visit:
    """A visit to `peer`. `greeting` is what this node says of itself; `clock` is monotonic, in seconds; `settled` says
    of a peer's greeting whether no content came or went on either side since the last visit left none to exchange, and
    `expecting` says before it whether there is likely to be some. `since` is how far the last visit compared, if it did
    not come to the end."""

    _content: Exchange

    def __init__(
        self,
        custody: Custody,
        peer: Peer,
        greeting: Hello,
        claims: Claims,
        clock: Callable[[], float],
        watch: Watch | None = None,
        settled: Callable[[Hello], bool] = lambda _hello: False,
        *,
        expecting: bool = False,
        since: bytes = FIRST,
    ) -> None:
        self._custody = custody
        self._store = custody.store
        self._peer = peer
        self._greeting = greeting
        self._claims = claims
        self._clock = clock
        self._watch = watch
        self._settled = settled
        self._expecting = expecting
        self._since = since
        self._until = float("inf")
        """When records have had their time."""
        self._full_here: set[Kind] = set()
        self._full_there: set[Kind] = set()
        """The kinds of records, but for notices, for which there is no room here or there, as far as is known."""

    async def run(self, expected: Callable[[Hello], None] | None = None) -> VisitReport:
        """Visit. `expected` may refuse the peer by its greeting. Raises what the peer raises, and what it deserves; and
        at the end, when all was given that could be, why something could not be kept."""
        initiator = Initiator(self._store.members, most=MAX_RECONCILE_FOUND, since=self._since)
        if self._expecting:
            self._peer.prepare()
        answer = await self._peer.hello(Greeting(self._greeting, initiator.start()))
        hello = self._checked(answer.hello, expected)
        report = VisitReport(hello)
        self._content = Exchange(self._custody, self._peer, self._claims, self._clock, report)
        if hello.role is Role.RECEIVER:
            await self._to_receiver(report)
        else:
            self._until = self._clock() + RECORDS_SECONDS
            await self._compare(initiator, answer.compare)
            report.compared = initiator.reached
            await self._with_neighbour(initiator, report)
            report.more |= report.compared != END and report.kept > 0
        if unkept := report.unkept_here or report.unkept_there:
            raise unkept
        return report

    def _checked(self, hello: Hello, expected: Callable[[Hello], None] | None) -> Hello:
        """Who it is comes first: whom this node cannot speak with, people are to hear of all the same."""
        if hello.election != self._greeting.election:
            raise Refused("foreign-election", f"{hello.name} is of election {hello.election}")
        if expected is not None:
            expected(hello)
        if hello.version != PROTOCOL:
            raise Refused(
                "other-version", f"{hello.name} speaks version {hello.version} of the sync protocol", "Update it."
            )
        return hello

    async def _to_receiver(self, report: VisitReport) -> None:
        await self._exchange_ruling(await self._compare_rules(), report)
        await self._inquire(report)
        if self._watch is not None:
            with report.keeping(here=True):
                await self._watch(self._custody, self._peer, report.peer)
        await self._content.to_receiver()
        await self._await_receipts(report)

    async def _with_neighbour(self, initiator: Initiator, report: VisitReport) -> None:
        """Records before content, but for the last statements: while the first ones are judged the last ones are on
        their way, and while those are judged the content of the first begins. Where records go quickly it begins
        sooner: few processors judge as fast as a quick link brings, which would stand still meanwhile."""
        await self._exchange_ruling(initiator, report)
        # Receipts that came just now took statements out of the set: those need no carrying.
        need = _cut(await self._unknown(initiator.need))
        have = _cut(_statements(initiator.have))
        if not (need.first or have.first or report.moved) and self._settled(report.peer):
            return

        soon = _Soon(self._clock, need, have)

        async def tell() -> None:
            await together(tell_most(), tell_the_last())
            self._content.all_told()
            await self._look_again(report)

        async def tell_most() -> None:
            await self._both_ways(need.first, have.first, report)
            soon.here.moved(len(need.first))
            soon.there.moved(len(have.first))
            await self._both_ways(need.most, have.most, report, soon)
            soon.came.set()

        async def tell_the_last() -> None:
            if not self._expecting:
                await self._content.begun()  # the connection that is there is for content first
            await self._both_ways(need.last, have.last, report)

        async def move_content() -> None:
            await soon.came.wait()
            await self._content.with_neighbour()

        await together(tell(), move_content())

    async def _look_again(self, report: VisitReport) -> None:
        """While content moves, exchange what came to either side since, every now and then, where the first comparison
        was of everything. A look that does not come to its end is the last one: content has its time, and the next
        visit goes on."""
        if self._since != FIRST:
            return
        while report.compared == END and not (report.unkept_here or report.unkept_there):
            if await self._content.is_over(LOOK_SECONDS):
                return
            with self._content.looking():
                try:
                    await self._look(report)
                except Unreachable:  # beside photographs, on a slow link: where it is gone their calls say so
                    report.left = True
                    return

    async def _look(self, report: VisitReport) -> None:
        self._until = self._clock() + RECORDS_SECONDS
        initiator = Initiator(self._store.members, most=MAX_RECONCILE_FOUND)
        await self._compare(initiator, await self._peer.reconcile(initiator.start()))
        report.compared = initiator.reached
        ruled = report.kept
        await self._exchange_ruling(initiator, report)
        if report.kept > ruled:  # a receipt frees space, and a notice may
            for full in (self._full_here, self._full_there):
                full.discard(Kind.STATEMENT)
        await self._both_ways(await self._unknown(initiator.need), _statements(initiator.have), report)
        self._content.all_told()

    # -- records

    async def _compare(self, initiator: Initiator, reply: bytes) -> None:
        """Reconcile as far as there is time, from the reply to the first message on."""
        message = initiator.step(reply)
        while message is not None and not self._is_late():
            message = initiator.step(await self._peer.reconcile(message))

    async def _compare_rules(self) -> Initiator:
        """With a receiver: notices and checkpoints alone."""
        initiator = Initiator(self._store.members, below=Kind.RECEIPT)
        await self._compare(initiator, await self._peer.reconcile(initiator.start()))
        return initiator

    async def _exchange_ruling(self, initiator: Initiator, report: VisitReport) -> None:
        """Both ways at once: what rules, and what frees space."""
        awaited_here, awaited_there = _awaited(initiator.have), _awaited(initiator.need)
        if initiator.knows_receipts:  # else the peer may hold more of them than it told of
            awaited_here &= set(initiator.need)
        awaited_there = {item for item in awaited_there if item in self._store.members}
        taken = _ruling(self._chosen(initiator.need), awaited_here)
        given = _ruling(initiator.have, awaited_there)
        await self._both_ways(taken, given, report)

    async def _both_ways(
        self, taken: Sequence[Item], given: Sequence[Item], report: VisitReport, soon: _Soon | None = None
    ) -> None:
        if taken or given:
            here, there = (soon.here, soon.there) if soon is not None else (None, None)
            await together(self._pull_records(taken, report, here), self._push_records(given, report, there))

    def _chosen(self, need: Sequence[Item]) -> list[Item]:
        """What to take of what the peer offers, in the order of kinds: nothing that was refused before."""
        return sorted(item for item in need if item not in self._custody.refused)

    async def _unknown(self, need: Sequence[Item]) -> list[Item]:
        """The statements to take: none that was refused before, or is kept back here."""
        statements = [item for item in self._chosen(need) if item[0] == Kind.STATEMENT]
        ids = [StatementId(RecordId(one)) for _, one in statements]
        known = await self._store.known_statements(ids) if ids else set()
        return [item for item in statements if item[1] not in known]

    async def _pull_records(self, items: Sequence[Item], report: VisitReport, pace: _Pace | None = None) -> None:
        waiting = deque(RecordId(record) for kind, record in items if kind not in self._full_here)
        surplus = 0
        for size in self._pages(items, waiting, report, pace):
            if report.unkept_here:
                return
            page = [waiting.popleft() for _ in range(min(size, len(waiting)))]
            given = await self._peer.get_records(page)
            records = given.records
            self._content.held_there(given.holdings)
            report.records_in += len(records)
            report.bytes_in += sum(len(raw) for _, raw in records)
            verdicts: list[Verdict] = []
            with report.keeping(here=True):
                verdicts = await self._custody.take(records, asked=frozenset(page))
            fresh = sum(verdict.outcome is Outcome.NEW for verdict in verdicts)
            report.rung += fresh > 0
            report.kept += fresh
            surplus += sum((one.kind, one.outcome) == (Kind.RECEIPT, Outcome.OVER_QUOTA) for one in verdicts)
            if full := _full([(one.kind, one.outcome) for one in verdicts], surplus):
                self._full_here |= full - {Kind.NOTICE}
                return  # there is none for the rest either: those that count all the same came first
            got = {verdict.asked for verdict in verdicts}
            rest = [one for one in page if one not in got]
            if len(rest) < len(page):  # else the peer holds none of the rest, or sends something else for ever
                waiting.extendleft(reversed(rest))

    async def _push_records(self, items: Sequence[Item], report: VisitReport, pace: _Pace | None = None) -> None:
        node, now = report.peer.node.hex(), self._clock()
        handed, members = self._custody.handed, self._store.members
        offered = [item for item in items if item in members and item[0] not in self._full_there]
        waiting = [RecordId(item[1]) for item in offered if not handed.declines(node, item, now)]
        surplus = 0
        for size in self._pages(items, waiting, report, pace):
            records = await self._store.read(waiting[:size], RECORDS_BATCH)
            if not records:
                del waiting[:size]
                continue
            taken = Taken([])
            with report.keeping(here=False):
                taken = await self._peer.put_records([(kind, raw) for kind, _, raw in records])
            if report.unkept_there:
                return
            report.records_out += len(records)
            report.bytes_out += sum(len(raw) for _, _, raw in records)
            self._content.wanted_there(taken.wants)
            self._note_taken(records, taken.outcomes, report)
            said = [(kind, outcome) for (kind, _, _), outcome in zip(records, taken.outcomes, strict=False)]
            surplus += sum(one == (Kind.RECEIPT, Outcome.OVER_QUOTA) for one in said)
            if full := _full(said, surplus):
                self._full_there |= full - {Kind.NOTICE}
                return
            del waiting[: waiting.index(records[-1][1]) + 1]

    def _note_taken(
        self, records: Sequence[tuple[Kind, RecordId, bytes]], outcomes: Sequence[str], report: VisitReport
    ) -> None:
        """Note who has what now, and what it has no quota for: that is not brought again at every visit."""
        node, handed = report.peer.node.hex(), self._custody.handed
        for (kind, record, _), outcome in zip(records, outcomes, strict=False):
            if outcome == Outcome.OVER_QUOTA:
                handed.declined(node, kind, record, self._clock())
            elif kind is Kind.STATEMENT and outcome != Outcome.NO_ROOM:
                handed.told(node, record)
            report.kept += outcome == Outcome.NEW

    def _is_late(self) -> bool:
        return self._clock() > self._until

    def _pages(
        self, items: Sequence[Item], waiting: Collection[RecordId], report: VisitReport, pace: _Pace | None
    ) -> Iterator[int]:
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
        report.compared = min([report.compared, *(key_of(*item) for item in items if item[1] in left)])

    # -- a receiver

    async def _inquire(self, report: VisitReport) -> None:
        """Collect the receipts that are ready, then hand over what the receiver has not seen."""
        unknown: list[Item] = []
        after = b""
        while ids := await self._store.awaiting_receipt(after, INQUIRY_PAGE):
            after = ids[-1]
            reply = await self._peer.inquire(Inquiry(tuple(ids)))
            await self._collect(ids, reply.ready, report)
            unknown += [(int(Kind.STATEMENT), one) for one in reply.unknown if one in set(ids)]
        await self._push_records(sorted(unknown), report)

    async def _await_receipts(self, report: VisitReport) -> None:
        """Wait a little for receipts of what was just handed over."""
        until = self._clock() + RECEIPT_PATIENCE
        while (left := until - self._clock()) > 0:
            ids = await self._store.awaiting_receipt(b"", INQUIRY_PAGE)
            if not ids or not report.bytes_out:
                return
            reply = await self._peer.inquire(Inquiry(tuple(ids), wait=min(1.0, left)))
            await self._collect(ids, reply.ready, report)
            if reply.ready and ids == await self._store.awaiting_receipt(b"", INQUIRY_PAGE):
                return  # its receipts are not believed here: asking again brings the same ones

    async def _collect(self, asked: Sequence[StatementId], ready: Sequence[StatementId], report: VisitReport) -> None:
        wanted = set(ready) & set(asked)
        await self._pull_records([(int(Kind.RECEIPT), receipt_id(one)) for one in sorted(wanted)], report)


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


def _statements(items: Iterable[Item]) -> list[Item]:
    return sorted(item for item in items if item[0] == Kind.STATEMENT)


@dataclass(frozen=True, slots=True)
class _Told:
    """Statements by when they are told of: the first and most of the others before any content, the last beside it."""

    first: list[Item]
    most: list[Item]
    last: list[Item]


def _cut(statements: list[Item]) -> _Told:
    at = max(FIRST_STATEMENTS, len(statements) - LAST_STATEMENTS)
    return _Told(statements[:FIRST_STATEMENTS], statements[FIRST_STATEMENTS:at], statements[at:])


class _Pace:
    """How quickly records move in one direction, of which so many are `left`; `changed` is called as they do."""

    def __init__(self, left: int, changed: Callable[[], None]) -> None:
        self._moved = 0
        self._left = left
        self._changed = changed

    def moved(self, count: int) -> None:
        """So many records more are there."""
        self._moved += count
        self._left -= count
        self._changed()

    def is_over_within(self, seconds: float, passed: float) -> bool:
        """Whether the rest takes no longer, after so many seconds until now."""
        return self._left * passed <= seconds * self._moved


class _Soon:
    """When content may begin: once what is told before it is there, or will be within `SOON_SECONDS` in both directions
    by the pace so far."""

    def __init__(self, clock: Callable[[], float], need: _Told, have: _Told) -> None:
        self._clock = clock
        self._begun = clock()
        self.here, self.there = (_Pace(len(one.first) + len(one.most), self._judge) for one in (need, have))
        self.came = asyncio.Event()

    def _judge(self) -> None:
        passed = self._clock() - self._begun
        if all(one.is_over_within(SOON_SECONDS, passed) for one in (self.here, self.there)):
            self.came.set()
