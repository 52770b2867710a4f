"""The visited side: what a node answers, each call on its own. Implements `Peer` over a custody.

Stateless but for the claims that keep two visitors from bringing the same object. Guards promise 2: a peer can hand
over records, which admission judges, and chunks that this node wants, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from typing import Protocol

from relay.errors import Malformed, Refused, StoreError
from relay.limits import (
    FIRST_STATEMENTS,
    GREETED_GIVEN,
    GREETED_IDS,
    GREETED_RECORDS,
    GREETED_REPLY_SECONDS,
    GREETED_SECONDS,
    INQUIRED_RECORDS,
    MAX_GREETED,
    MAX_GREETED_GIVEN,
    MAX_INQUIRY_WAIT,
    MAX_NEWS_WAIT,
    MAX_WANTS,
    RECORDS_BATCH,
    WANTS_PAGE,
)
from relay.records.identifiers import HASH_SIZE, Kind, ObjectId, RecordId, StatementId, receipt_id, sha256
from relay.records.statement import files_of
from relay.store.interface import Holding, Outcome, Want
from relay.sync.arrival import Arrival
from relay.sync.claims import Claims, Way
from relay.sync.custody import Custody
from relay.sync.messages import Given, Greeting, Hello, Inquiry, InquiryReply, Taken
from relay.sync.peer import Frame, Span
from relay.sync.reconcile import finds_nothing, respond, unlisted
from relay.sync.torn import Mending, TornChunks
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

    @property
    def is_receiver(self) -> bool:
        """Whether it answers for a receiver, with its log."""
        return self._log is not None and self._greeting().role is Role.RECEIVER

    def prepare(self) -> None:
        """There is nothing to make ready."""

    async def hello(self, mine: Greeting) -> Greeting:
        """Answer a greeting, and its message of reconciliation."""
        if self._log is None:  # a receiver has many visitors, and nobody who hands anything over
            await self._custody.take_in_before_greeting()
        hello = self._greeting()
        if mine.hello.election != hello.election:
            raise Refused("foreign-election", f"A visitor is of election {mine.hello.election}, not {hello.election}")
        if hello.role is Role.RECEIVER:
            return await self._greeted_as_receiver(hello, mine)
        compare, given = self._compared(mine), await self._given(mine)
        return Greeting(hello, compare, given=given, torn=self._custody.torn.greeted(self._who.peer))

    def _compared(self, mine: Greeting) -> bytes:
        return respond(self._store.members, mine.compare, MAX_GREETED) if mine.compare else b""

    async def _given(self, mine: Greeting) -> bytes:
        """The first records that a visitor lacks who lists what it holds: what rules and frees space, and the
        statements by which content begins."""
        lacked = unlisted(self._store.members, mine.compare) if mine.compare else iter(())
        first = list(islice(lacked, GREETED_IDS))
        before = sum(kind != Kind.STATEMENT for kind, _ in first)
        ids = [record for _, record in first[: before + FIRST_STATEMENTS]]
        if not ids:
            return b""
        try:
            async with asyncio.timeout(GREETED_SECONDS):
                given = (await self._give(ids, GREETED_GIVEN)).encode()
        except (StoreError, TimeoutError):  # the visitor asks for them, and hears why
            return b""
        return given if len(given) <= MAX_GREETED_GIVEN else b""

    async def _greeted_as_receiver(self, hello: Hello, mine: Greeting) -> Greeting:
        """Answer, with its inquiry, a visitor who knows whom he greets. Where the store does not answer at once, the
        greeting does: he inquires then, and hears why."""
        if not mine.inquiry or self._log is None:
            return Greeting(hello)
        inquiry, compare = Inquiry.decode(mine.inquiry), self._compared(mine)
        checkpoint = [] if finds_nothing(compare) else self._own_checkpoint(hello)
        try:
            async with asyncio.timeout(GREETED_REPLY_SECONDS):
                room = GREETED_RECORDS - sum(len(raw) for _, raw in checkpoint)
                reply = await self._replied(inquiry.statements, room)
        except (StoreError, TimeoutError):
            return Greeting(hello, compare)
        return Greeting(hello, compare, replace(reply, records=[*checkpoint, *reply.records]).encode())

    def _own_checkpoint(self, hello: Hello) -> list[tuple[Kind, bytes]]:
        """The newest checkpoint of this receiver's log: it is new at almost every visit."""
        newest = self._custody.admission.checkpoints.get(f"{hello.election}/{hello.name}")
        if newest is None or len(newest.raw) > GREETED_RECORDS:
            return []
        held = (int(Kind.CHECKPOINT), RecordId(sha256(newest.raw))) in self._store.members
        return [(Kind.CHECKPOINT, newest.raw)] if held else []

    async def news(self, heard: int, wait: float) -> int:
        """Tell when something new came here."""
        return await self._custody.news.wait(heard, min(wait, MAX_NEWS_WAIT))

    async def reconcile(self, message: bytes) -> bytes:
        """One round of reconciliation over everything that is held."""
        return respond(self._store.members, message)

    async def inquire(self, inquiry: Inquiry) -> InquiryReply:
        """At a receiver: what is unknown, what has its receipt; waits a little when nothing has."""
        if not self.is_receiver:
            raise Refused("not-a-receiver", "Only a receiver answers inquiries")
        return await self._replied(inquiry.statements, INQUIRED_RECORDS, min(inquiry.wait, MAX_INQUIRY_WAIT))

    async def _replied(self, asked: Sequence[StatementId], room: int, wait: float = 0.0) -> InquiryReply:
        """What is unknown of these, what has its receipt, and so many bytes of the receipts."""
        if not asked:
            return InquiryReply((), ())
        found = await self._receipted(asked, wait)
        others = [one for one in asked if one not in found]
        known = await self._store.known_statements(others) if others else set()
        ready = tuple(one for one in asked if one in found)
        receipts = await self._store.read([receipt_id(one) for one in ready], room) if ready else []
        records = [(kind, raw) for kind, _, raw in receipts if len(raw) <= room]  # a single one may be larger
        return InquiryReply(tuple(one for one in others if one not in known), ready, records)

    async def _receipted(self, asked: Sequence[StatementId], wait: float) -> set[StatementId]:
        """Which of these have their receipt; where none has, as soon as one has, or after so many seconds."""
        assert self._log is not None
        until = self._clock() + wait
        heard = self._log.batches  # before the store is asked: a batch that is committed meanwhile is not waited for
        ready = await self._store.receipted(asked)
        while not ready and wait and (left := until - self._clock()) > 0:
            await self._log.next_batch(heard, left)
            heard = self._log.batches
            ready = await self._store.receipted(asked)
        return ready

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """At a receiver: a proof that the log only grew."""
        if self._log is None:
            raise Refused("not-a-receiver", "Only a receiver proves its log")
        return await self._log.consistency(old_size, new_size)

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """Those of the records that are held and may travel, as many as fit one message."""
        if any(len(one) != HASH_SIZE for one in ids):
            raise Malformed("A visitor asks for records by what are no ids")
        return await self._give(ids, RECORDS_BATCH)

    async def _give(self, ids: Sequence[RecordId], room: int) -> Given:
        """Those of these records that are held and may travel: as many of the first as fit so many bytes, or one."""
        offered = await self._store.offered(ids)
        found = await self._store.read(offered, room)
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

    def mending(self) -> AbstractContextManager[Mending]:
        """One call by which the visitor brings chunks. A receiver keeps no beginnings: the rest may come to another
        process of it."""
        torn = TornChunks() if self.is_receiver else self._custody.torn
        return torn.mending(self._who.peer)

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
