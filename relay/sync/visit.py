"""One visit: greet, reconcile, exchange records, exchange content. The visitor does both directions (DESIGN §6).

The road is straight: `Visit.run` calls its steps in order, and each step leaves what it did in the store. A contact
may end at any byte: whatever was checked stays, and the next visit, to anyone, goes on from there.

With a neighbour, whole sets are reconciled by ranges. A receiver's set is the whole election and a boat's a boatful:
there only notices and checkpoints are reconciled, and the visitor asks after the statements that it carries.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass

from relay.errors import Malformed, Refused
from relay.limits import (
    BATCH_SECONDS,
    BATCH_SECONDS_TO_RECEIVER,
    CONTENT_SECONDS,
    FIRST_BATCH,
    INQUIRY_PAGE,
    MAX_BATCH,
    MAX_WANTS,
    MAX_WRONG_CHUNKS,
    MIN_BATCH,
    RECEIPT_PATIENCE,
    RECORDS_BATCH,
    RECORDS_PAGE,
    STREAMS,
    WANTS_PAGE,
)
from relay.records.identifiers import Kind, ObjectId, RecordId, StatementId, receipt_id
from relay.records.statement import chunk_size_for
from relay.store.recordset import Item
from relay.sync.claims import Claims, Way
from relay.sync.custody import Custody
from relay.sync.messages import PROTOCOL, Hello, Inquiry
from relay.sync.peer import Peer
from relay.sync.reconcile import Initiator
from relay.trust.roles import Role

logger = logging.getLogger(__name__)

_QUICK = MAX_BATCH // 2
"""A stream to a receiver with batches as large as this is so quick that one object need not be spread over several:
what the receiver does for each batch counts for more."""

Watch = Callable[[Custody, Peer, Hello], Awaitable[None]]
"""What a node does with the checkpoint of a receiver it visits: see `relay.sync.watch`."""


@dataclass(slots=True)
class VisitReport:
    """What a visit achieved. `more` says that it ended for its time, with content left to exchange; `left` that some
    was left to the peer's own visit here, which may stop short of it."""

    peer: Hello
    records_in: int = 0
    records_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    more: bool = False
    left: bool = False


@dataclass(frozen=True, slots=True)
class _Chunk:
    object: ObjectId
    index: int
    length: int


class Visit:
    """A visit to `peer`. `greeting` is what this node says of itself; `clock` is monotonic, in seconds."""

    def __init__(
        self,
        custody: Custody,
        peer: Peer,
        greeting: Hello,
        claims: Claims,
        clock: Callable[[], float],
        watch: Watch | None = None,
    ) -> None:
        self._custody = custody
        self._store = custody.store
        self._peer = peer
        self._greeting = greeting
        self._claims = claims
        self._clock = clock
        self._watch = watch
        self._who = Way("", fetched=True)
        self._deadline = 0.0
        self._wrong_chunks = 0

    async def run(self, expected: Callable[[Hello], None] | None = None) -> VisitReport:
        """Visit. `expected` may refuse the peer by its greeting. Raises what the peer raises, and what it deserves."""
        hello = await self._greet(expected)
        report = VisitReport(hello)
        self._who = Way(hello.node.hex(), fetched=True)
        if hello.role is Role.RECEIVER:
            await self._reconcile(report, below=Kind.RECEIPT)
            await self._inquire(report)
        else:
            await self._reconcile(report)
        if self._watch is not None:
            await self._watch(self._custody, self._peer, hello)
        self._deadline = self._clock() + CONTENT_SECONDS
        try:
            async with asyncio.TaskGroup() as group:
                if hello.role is Role.RECEIVER:
                    group.create_task(self._bring_content(report))
                else:
                    group.create_task(self._push_content(report))
                    group.create_task(self._pull_content(report))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            self._claims.release(self._who)
        if hello.role is Role.RECEIVER:
            await self._await_receipts(report)
        return report

    # -- greeting

    async def _greet(self, expected: Callable[[Hello], None] | None) -> Hello:
        hello = await self._peer.hello(self._greeting)
        if hello.version != PROTOCOL:
            raise Refused(
                "other-version", f"{hello.name} speaks version {hello.version} of the sync protocol", "Update it."
            )
        if hello.election != self._greeting.election:
            raise Refused("foreign-election", f"{hello.name} is of election {hello.election}")
        if expected is not None:
            expected(hello)
        return hello

    # -- records

    async def _reconcile(self, report: VisitReport, below: Kind | None = None) -> None:
        initiator = Initiator(self._store.members, below=below)
        message: bytes | None = initiator.start()
        while message is not None:
            message = initiator.step(await self._peer.reconcile(message))
        notices = [item for item in initiator.need if item[0] == Kind.NOTICE]
        await self._pull_records(await self._chosen(notices), report)  # they rule what else may be taken
        others = [item for item in initiator.need if item[0] != Kind.NOTICE]
        await self._pull_records(await self._chosen(others), report)
        # Receipts that came just now took statements out of the set: those need no carrying.
        await self._push_records(sorted(item for item in initiator.have if item in self._store.members), report)

    async def _chosen(self, need: Sequence[Item]) -> list[Item]:
        """What to take of what the peer offers: nothing that was refused before, or that is kept back here."""
        statements = [StatementId(RecordId(one)) for kind, one in need if kind == Kind.STATEMENT]
        known = await self._store.known_statements(statements) if statements else set()
        return sorted(item for item in need if item[1] not in known and item not in self._custody.refused)

    async def _pull_records(self, items: Sequence[Item], report: VisitReport) -> None:
        waiting = deque(RecordId(record) for _, record in items)
        while waiting:
            page = [waiting.popleft() for _ in range(min(RECORDS_PAGE, len(waiting)))]
            records = await self._peer.get_records(page)
            verdicts = await self._custody.take(records, asked=frozenset(page))
            report.records_in += len(records)
            report.bytes_in += sum(len(raw) for _, raw in records)
            got = {verdict.asked for verdict in verdicts}
            rest = [one for one in page if one not in got]
            if len(rest) < len(page):  # else the peer holds none of the rest, or sends something else for ever
                waiting.extendleft(reversed(rest))

    async def _push_records(self, items: Sequence[Item], report: VisitReport) -> None:
        waiting = [RecordId(record) for _, record in items]
        while waiting:
            records = await self._store.read(waiting[:RECORDS_PAGE], RECORDS_BATCH)
            if not records:
                waiting = waiting[RECORDS_PAGE:]
                continue
            await self._peer.put_records([(kind, raw) for kind, _, raw in records])
            report.records_out += len(records)
            report.bytes_out += sum(len(raw) for _, _, raw in records)
            waiting = waiting[waiting.index(records[-1][1]) + 1 :]

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
        await self._push_records(unknown, report)

    async def _await_receipts(self, report: VisitReport) -> None:
        """Wait a little for receipts of what was just handed over."""
        until = self._clock() + RECEIPT_PATIENCE
        while (left := until - self._clock()) > 0:
            ids = await self._store.awaiting_receipt(b"", INQUIRY_PAGE)
            if not ids or not report.bytes_out:
                return
            reply = await self._peer.inquire(Inquiry(tuple(ids), wait=min(1.0, left)))
            await self._collect(ids, reply.ready, report)

    async def _collect(self, asked: Sequence[StatementId], ready: Sequence[StatementId], report: VisitReport) -> None:
        wanted = set(ready) & set(asked)
        await self._pull_records([(int(Kind.RECEIPT), receipt_id(one)) for one in sorted(wanted)], report)

    # -- content

    async def _pull_content(self, report: VisitReport) -> None:
        """Take what is wanted here and held there: bundle by bundle, over a few streams."""
        tried: set[ObjectId] = set()
        while wants := await self._store.wants(WANTS_PAGE, frozenset(tried)):
            if self._out_of_time(report):
                return
            tried.update(want.object for want in wants)
            held = {one.object: one for one in await self._peer.holdings([want.object for want in wants])}
            chunks: deque[_Chunk] = deque()
            by_object = {want.object: want for want in wants if want.object in held}
            ordered = self._claims.order(list(by_object), self._who, self._clock())
            report.left |= len(ordered) < len(by_object)
            for object_id, forward in ordered:
                want, holding = by_object[object_id], held[object_id]
                there = want.missing if holding.complete else want.missing & holding.chunks
                # The size that counts is that of what is held: what is wanted may be a hostile statement's claim.
                found = list(_chunks(object_id, holding.size, there))
                chunks.extend(found if forward else reversed(found))
            await self._fetch(chunks, report)

    async def _fetch(self, chunks: deque[_Chunk], report: VisitReport) -> None:
        try:
            await _in_parallel(lambda group: self._fetch_stream(chunks, report, group))
        finally:
            await self._commit()

    async def _fetch_stream(self, chunks: deque[_Chunk], report: VisitReport, group: asyncio.TaskGroup) -> None:
        size = FIRST_BATCH
        committing: asyncio.Task[None] | None = None
        while batch := _next_batch(chunks, size):
            if self._out_of_time(report):
                return
            begun = self._clock()
            # What another visit brought meanwhile is not asked for again.
            wanted = {one: await self._store.missing(one) for one in {chunk.object for chunk in batch}}
            elsewhere = {one for one in wanted if self._claims.comes_otherwise(one, self._who, self._clock())}
            report.left |= bool(elsewhere)
            wants = [one for one in batch if one.object not in elsewhere and wanted[one.object] >> one.index & 1]
            spans = [(one.object, one.index) for one in wants]
            asked = set(spans)
            if not spans:
                continue
            async for object_id, index, data in self._peer.get_chunks(spans):
                if (object_id, index) not in asked:
                    raise Malformed("A peer sent a chunk that it was not asked for")
                asked.remove((object_id, index))
                await self._take_chunk(object_id, index, data)
                report.bytes_in += len(data)
            if committing is not None:
                await committing
            committing = group.create_task(self._commit())  # the link does not wait for the disk
            size = _worthwhile(batch, self._clock() - begun)

    async def _take_chunk(self, object_id: ObjectId, index: int, data: bytes) -> None:
        """Keep a chunk. A wrong one proves nothing against the peer: a hostile statement may name an honest object
        with false chunk hashes. Many wrong ones do: raises `Malformed`."""
        try:
            if await self._store.stage_chunk(object_id, index, data):
                self._claims.claim(object_id, self._who, self._clock())
        except Malformed as error:
            self._wrong_chunks += 1
            logger.info("a chunk of %s was not taken: %s", object_id.hex(), error.what)
            if self._wrong_chunks > MAX_WRONG_CHUNKS:
                raise

    async def _commit(self) -> None:
        if await self._store.commit_chunks():
            self._custody.news.ring()

    async def _bring_content(self, report: VisitReport) -> None:
        """At a receiver: bring what it lacks of the packages that wait here, one after the other, old versions last.

        It wants more than it could list, and this node carries a boatful: so the visitor asks after what it has.
        """
        after = b""
        while statements := await self._store.awaiting_receipt(after, WANTS_PAGE):
            after = statements[-1]
            objects = await self._objects_of(statements)
            for at in range(0, len(objects), MAX_WANTS):
                if self._out_of_time(report):
                    return
                held = {one.object: one for one in await self._store.holdings(objects[at : at + MAX_WANTS])}
                chunks: deque[_Chunk] = deque()
                for object_id, missing in await self._peer.missing(list(held)) if held else []:
                    if holding := held.pop(object_id, None):
                        here = missing if holding.complete else missing & holding.chunks
                        chunks.extend(_chunks(object_id, holding.size, here))
                await _in_parallel(lambda _, chunks=chunks: self._send_stream(chunks, report))  # type: ignore[misc]

    async def _objects_of(self, statements: Sequence[StatementId]) -> list[ObjectId]:
        found = [await self._store.bundle(one) for one in statements]
        bundles = [one for one in found if one is not None]
        old = {one.supersedes for one in bundles}
        bundles.sort(key=lambda one: one.id in old)
        return list(dict.fromkeys(file.sha256 for one in bundles for file in one.files))

    async def _push_content(self, report: VisitReport) -> None:
        """Bring what is wanted there and held here, in the order in which the peer wants it."""
        sent: set[tuple[ObjectId, int]] = set()
        offset = 0
        while offset <= MAX_WANTS and (wants := await self._peer.wants(offset)):
            if self._out_of_time(report):
                return
            held = {one.object: one for one in await self._store.holdings([want.object for want in wants])}
            chunks: deque[_Chunk] = deque()
            for want in wants:
                holding = held.get(want.object)
                if holding is None:
                    continue
                # The size that counts is that of what is held: what is wanted may be a hostile statement's claim.
                here = want.missing if holding.complete else want.missing & holding.chunks
                chunks.extend(c for c in _chunks(want.object, holding.size, here) if (c.object, c.index) not in sent)
            sent.update((chunk.object, chunk.index) for chunk in chunks)
            offset += len(wants) - len({chunk.object for chunk in chunks})
            await _in_parallel(lambda _, chunks=chunks: self._send_stream(chunks, report))  # type: ignore[misc]

    async def _send_stream(self, chunks: deque[_Chunk], report: VisitReport) -> None:
        size = FIRST_BATCH
        patience = BATCH_SECONDS_TO_RECEIVER if report.peer.role is Role.RECEIVER else BATCH_SECONDS
        while batch := _next_batch(chunks, size, shared=size < _QUICK or report.peer.role is not Role.RECEIVER):
            if self._out_of_time(report):
                return
            begun = self._clock()
            contents = [(one.object, one.index, await self._store.read_chunk(one.object, one.index)) for one in batch]
            frames = [(object_id, index, data) for object_id, index, data in contents if data is not None]
            await self._peer.put_chunks(frames)
            for object_id, index, _ in frames:
                self._custody.handed.went(self._who.peer, object_id, index)
            report.bytes_out += sum(len(data) for _, _, data in frames)
            size = _worthwhile(batch, self._clock() - begun, patience)

    def _out_of_time(self, report: VisitReport) -> bool:
        """Whether content is to end here, looked at between batches. Raises `Refused` once the peer is revoked."""
        if report.peer.node in self._custody.admission.revoked:
            raise Refused("revoked", f"{report.peer.name} was revoked during the visit")
        report.more = report.more or self._clock() > self._deadline
        return report.more


def _chunks(object_id: ObjectId, size: int, bits: int) -> Iterator[_Chunk]:
    """The chunks of an object whose bits are set, in order; bits beyond the object's end are passed over."""
    step = chunk_size_for(size)
    for index in range(-(-size // step)):
        if bits >> index & 1:
            yield _Chunk(object_id, index, min(step, size - index * step))


def _next_batch(chunks: deque[_Chunk], most: int, shared: bool = True) -> list[_Chunk]:
    """The next chunks, one at least, of at most so many bytes.

    Of what is left of an object a stream takes its share, so that all end it together: whole packages come first. Not
    less than a quarter, though: each batch costs both sides some work. Unless it is `shared`, one stream takes it all.
    """
    left = 0 if shared else most * STREAMS
    for chunk in chunks:
        if chunk.object != chunks[0].object or left >= most * STREAMS:
            break
        left += chunk.length
    most = max(min(most, left // STREAMS), most // 4, MIN_BATCH)
    batch: list[_Chunk] = []
    size = 0
    while chunks and (not batch or size + chunks[0].length <= most):
        batch.append(chunks.popleft())
        size += batch[-1].length
    return batch


def _worthwhile(batch: Sequence[_Chunk], seconds: float, most: float = BATCH_SECONDS) -> int:
    """Bytes of the next batch of a stream whose last one took so long, when one is to take `most` seconds."""
    moved = sum(chunk.length for chunk in batch)
    return int(min(max(moved * most / max(seconds, 0.001), MIN_BATCH), MAX_BATCH))


async def _in_parallel(stream: Callable[[asyncio.TaskGroup], Coroutine[None, None, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(STREAMS):
                group.create_task(stream(group))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
