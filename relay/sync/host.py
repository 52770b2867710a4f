"""The visited side: what a node answers, each call on its own. Implements `Peer` over a custody.

Stateless but for the claims that keep two visitors from bringing the same object. Guards promise 2: a peer can hand
over records, which admission judges, and chunks that this node wants, and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from relay.errors import Malformed, Refused, StoreError
from relay.limits import MAX_GREETED, MAX_INQUIRY_WAIT, MAX_NEWS_WAIT, MAX_WANTS, RECORDS_BATCH, WANTS_PAGE
from relay.records.identifiers import HASH_SIZE, Kind, ObjectId, RecordId
from relay.records.statement import files_of
from relay.store.interface import Holding, Outcome, Want
from relay.sync.arrival import Arrival
from relay.sync.claims import Claims, Way
from relay.sync.custody import Custody
from relay.sync.messages import Given, Greeting, Hello, Inquiry, InquiryReply, Taken
from relay.sync.peer import Frame, Span
from relay.sync.reconcile import respond
from relay.trust.roles import Role


class LogReader(Protocol):
    """The receiver's log, for visitors who watch that it only grows."""

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """A consistency proof (RFC 9162 §2.1.4); raises `Malformed` for sizes that never were."""

    @property
    def batches(self) -> int:
        """How many batches of receipts there were, as far as this node heard."""

    async def next_batch(self, heard: int, seconds: float) -> None:
        """Return when there is one more than the `heard` ones, or after so long."""


class Host:
    """This node as a peer for `visitor`, one of the names that admission identified."""

    def __init__(
        self,
        custody: Custody,
        greeting: Callable[[], Hello],
        visitor: str,
        claims: Claims,
        clock: Callable[[], float],
        log: LogReader | None = None,
    ) -> None:
        self._custody = custody
        self._store = custody.store
        self._greeting = greeting
        self._who = Way(visitor, fetched=False)
        self._claims = claims
        self._clock = clock
        self._log = log

    def prepare(self) -> None:
        """There is nothing to make ready."""

    async def hello(self, mine: Greeting) -> Greeting:
        """Answer a greeting, and its message of reconciliation."""
        if self._log is None:  # a receiver has many visitors, and nobody who hands anything over
            await self._custody.take_in_before_greeting()
        hello = self._greeting()
        if mine.hello.election != hello.election:
            raise Refused("foreign-election", f"A visitor is of election {mine.hello.election}, not {hello.election}")
        if not mine.compare or hello.role is Role.RECEIVER:
            return Greeting(hello)
        return Greeting(hello, respond(self._store.members, mine.compare, MAX_GREETED))

    async def news(self, heard: int, wait: float) -> int:
        """Tell when something new came here."""
        return await self._custody.news.wait(heard, min(wait, MAX_NEWS_WAIT))

    async def reconcile(self, message: bytes) -> bytes:
        """One round of reconciliation over everything that is held."""
        return respond(self._store.members, message)

    async def inquire(self, inquiry: Inquiry) -> InquiryReply:
        """At a receiver: what is unknown, what has its receipt; waits a little when nothing has."""
        if self._log is None or self._greeting().role is not Role.RECEIVER:
            raise Refused("not-a-receiver", "Only a receiver answers inquiries")
        until = self._clock() + min(inquiry.wait, MAX_INQUIRY_WAIT)
        heard = self._log.batches  # before the store is asked: a batch that is committed meanwhile is not waited for
        ready = await self._store.receipted(inquiry.statements)
        while not ready and inquiry.wait and (left := until - self._clock()) > 0:
            await self._log.next_batch(heard, left)
            heard = self._log.batches
            ready = await self._store.receipted(inquiry.statements)
        known = await self._store.known_statements(inquiry.statements)
        return InquiryReply(
            unknown=tuple(one for one in inquiry.statements if one not in known),
            ready=tuple(one for one in inquiry.statements if one in ready),
        )

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """At a receiver: a proof that the log only grew."""
        if self._log is None:
            raise Refused("not-a-receiver", "Only a receiver proves its log")
        return await self._log.consistency(old_size, new_size)

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """Those of the records that are held and may travel, as many as fit one message."""
        if any(len(one) != HASH_SIZE for one in ids):
            raise Malformed("A visitor asks for records by what are no ids")
        offered = await self._store.offered(ids)
        found = await self._store.read(offered, RECORDS_BATCH)
        for kind, record, _ in found:
            if kind is Kind.STATEMENT:
                self._custody.handed.told(self._who.peer, record)
        records = [(kind, raw) for kind, _, raw in found]
        named = [one.sha256 for kind, raw in records if kind is Kind.STATEMENT for one in files_of(raw)]
        return Given(records, await self._store.holdings(list(dict.fromkeys(named))[: 2 * WANTS_PAGE]))

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        """Judge and keep what a visitor brings. Where the disk takes nothing the visit goes on: it may have come to
        fetch something, or have more to bring when there is room. A receiver says why instead, and is asked again."""
        try:
            verdicts = await self._custody.take(records)
        except StoreError as error:
            if self._greeting().role is Role.RECEIVER:
                raise
            self._custody.tell_failing(error)
            return Taken([str(Outcome.NO_ROOM)] * len(records))
        fresh = any(one.kind is Kind.STATEMENT and one.outcome is Outcome.NEW for one in verdicts)
        asks = fresh and self._greeting().role is not Role.RECEIVER
        return Taken([verdict.word for verdict in verdicts], await self.wants(()) if asks else [])

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """What is held of these objects."""
        if len(objects) > MAX_WANTS:
            raise Malformed(f"A visitor asks about more than {MAX_WANTS} objects at once")
        return await self._store.holdings(objects)

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        """What this node takes, but for `skip`; what another visitor brings already comes last."""
        if len(skip) > MAX_WANTS:
            raise Malformed(f"A visitor asks for wants beyond the first {MAX_WANTS}")
        wants = await self._store.wants(2 * WANTS_PAGE, frozenset(skip))
        now = self._clock()
        by_object = {want.object: want for want in wants}
        return [by_object[one] for one, _ in self._claims.order(list(by_object), self._who, now)[:WANTS_PAGE]]

    async def missing(self, objects: Sequence[ObjectId]) -> list[tuple[ObjectId, int]]:
        """Which chunks of these objects this node takes; what another visitor brings already comes last."""
        if len(objects) > MAX_WANTS:
            raise Malformed(f"A visitor asks about more than {MAX_WANTS} objects at once")
        lacked = {one: bits for one in objects if (bits := await self._store.missing(one))}
        return [(one, lacked[one]) for one, _ in self._claims.order(list(lacked), self._who, self._clock())]

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """Chunks in the order asked for; empty where one is not held."""
        async for object_id, index in spans:
            doubted = self._custody.handed.went_before(self._who.peer, object_id, index)
            data = await self._store.read_chunk(object_id, index, doubted=doubted)
            yield object_id, index, data or b""
            if data:
                self._custody.handed.went(self._who.peer, object_id, index)

    def arrival(self) -> Arrival:
        """What takes in the chunks of one call."""
        return Arrival(self._custody, self._claims, self._who, self._clock)

    async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
        """Keep the chunks that are wanted and what a statement says, each as it arrives; durably, even where the
        frames end by an error."""
        arrival = self.arrival()
        try:
            async for object_id, index, data in frames:
                await arrival.take(object_id, index, data)
        finally:
            await arrival.finish()
        return arrival.taken
