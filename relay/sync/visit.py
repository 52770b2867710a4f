"""One visit: greet, reconcile, exchange records, exchange content. The visitor does both directions (DESIGN §6).

The road is straight: `Visit.run` calls its steps in order, and each step leaves what it did in the store. A contact
may end at any byte: whatever was checked stays, and the next visit, to anyone, goes on from there.

With a neighbour, whole sets are reconciled by ranges, as much of them as a visit has time and memory for: the report
says how far it came, and the next visit goes on there. Does not live here: the visit to a receiver (`delivery`), and
how records and content move (`recordexchange`, `content`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from relay.errors import Refused, Unreachable
from relay.limits import GREETED_IDS, LOOK_SECONDS, MAX_RECONCILE_FOUND, RECORDS_SECONDS
from relay.records.identifiers import Kind
from relay.store.recordset import END, FIRST, Item
from relay.sync.claims import Claims
from relay.sync.content import Exchange
from relay.sync.custody import Custody
from relay.sync.delivery import Delivery, Questions, Watch
from relay.sync.messages import PROTOCOL, Given, Greeting, Hello
from relay.sync.pace import Soon, Told
from relay.sync.peer import Peer
from relay.sync.reconcile import Initiator
from relay.sync.recordexchange import RecordExchange
from relay.sync.report import VisitReport
from relay.together import together
from relay.trust.roles import Role


class Visit:
    """A visit to `peer`. `greeting` is what this node says of itself; `clock` is monotonic, in seconds; `settled` says
    of a peer's greeting whether no content came or went on either side since the last visit left none to exchange, and
    `expecting` says before it whether there is likely to be some; `at_receiver`, whether it is likely to be one.
    `since` is how far the last visit compared, if it did not come to the end."""

    _records: RecordExchange
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
        at_receiver: bool = False,
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
        self._at_receiver = at_receiver
        self._since = since

    async def run(self, expected: Callable[[Hello], None] | None = None) -> VisitReport:
        """Visit. `expected` may refuse the peer by its greeting. Raises what the peer raises, and what it deserves; and
        at the end, when all was given that could be, why something could not be kept."""
        listed = GREETED_IDS if self._expecting else 0
        initiator = Initiator(self._store.members, most=MAX_RECONCILE_FOUND, since=self._since, listed=listed)
        questions = await Questions.of(self._store) if self._at_receiver else None
        if self._expecting:
            self._peer.prepare()
        mine = questions.greeting(self._greeting) if questions else Greeting(self._greeting, initiator.start())
        answer = await self._peer.hello(mine)
        hello = self._checked(answer.hello, expected)
        report = VisitReport(hello)
        self._content = Exchange(self._custody, self._peer, self._claims, self._clock, report)
        self._records = RecordExchange(self._custody, self._peer, self._content, self._clock, report)
        if hello.role is Role.RECEIVER:
            delivery = Delivery(
                self._custody, self._peer, self._records, self._content, self._clock, report, self._watch
            )
            await delivery.run(questions, answer)
        else:
            self._records.begin(RECORDS_SECONDS)
            reply = answer.compare if questions is None else await self._peer.reconcile(initiator.start())
            await self._records.compare(initiator, reply)
            report.compared = initiator.reached
            came = 0
            if answer.given and report.compared == END:  # else there is enough to take of what was found
                came = await self._records.take_given(Given.decode(answer.given), initiator.need)
            await self._with_neighbour(initiator, report, came)
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

    async def _with_neighbour(self, initiator: Initiator, report: VisitReport, came: int) -> None:
        """Records before content, but for the last statements: while the first ones are judged the last ones are on
        their way, and while those are judged the content of the first begins. Where records go quickly it begins
        sooner: few processors judge as fast as a quick link brings, which would stand still meanwhile. So does each
        direction, where there are few of them: one is ready a round trip before the other. So many statements `came`
        with the greeting: these are the first ones."""
        await self._records.ruling(initiator)
        # Receipts that came just now took statements out of the set: those need no carrying.
        need = Told.of(await self._records.unknown(initiator.need), came)
        have = Told.of(_statements(initiator.have))
        if not (need.first or have.first or report.moved) and self._settled(report.peer):
            return

        soon = Soon(self._clock, need, have)

        async def tell() -> None:
            await together(tell_most(), tell_the_last())
            self._content.all_told()
            await self._look_again(report)

        async def tell_most() -> None:
            await self._records.both_ways(need.first, have.first, soon.here, soon.there)
            await self._records.both_ways(need.most, have.most, soon.here, soon.there)
            soon.all_came()

        async def tell_the_last() -> None:
            if came or not self._expecting:
                await self._content.begun()  # the connection that is there is for content first
            await self._records.both_ways(need.last, have.last)

        async def move_content() -> None:
            await soon.begun.wait()
            await self._content.with_neighbour(soon.here.came, soon.there.came)

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
        self._records.begin(RECORDS_SECONDS)
        initiator = Initiator(self._store.members, most=MAX_RECONCILE_FOUND)
        await self._records.compare(initiator, await self._peer.reconcile(initiator.start()))
        report.compared = initiator.reached
        ruled = report.kept
        await self._records.ruling(initiator)
        if report.kept > ruled:  # a receipt frees space, and a notice may
            self._records.hear_of_room()
        await self._records.both_ways(await self._records.unknown(initiator.need), _statements(initiator.have))
        self._content.all_told()


def _statements(items: Iterable[Item]) -> list[Item]:
    return sorted(item for item in items if item[0] == Kind.STATEMENT)
