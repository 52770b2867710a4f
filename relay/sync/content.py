"""The content of a visit: what to fetch and what to bring, chunk by chunk, over a few streams in each direction.

The taker chooses. A neighbour says what it wants, and is asked for what is wanted here. A receiver wants more than it
could list, and this node carries a boatful: there the visitor asks after what it has.

A taker lists what it has room for. What is on its way is asked about again with each page, so that its room is counted:
nothing crosses in vain, and no half takes the room of a whole.

With a neighbour, a direction with nothing to move rests while the other one goes on, until more is told: a visit looks
for new records while its content moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from relay.errors import REVOKED, Malformed, Refused, Unreachable
from relay.limits import (
    CALL_SECONDS,
    CONTENT_SECONDS,
    MAX_CHUNKS_CALL,
    MAX_CONTENT_SECONDS,
    MAX_TO_DELIVER,
    MAX_TOLD_HOLDINGS,
    MAX_WANTS,
    MAX_WRONG_CHUNKS,
    STREAM_AT_RECEIVER_SECONDS,
    STREAMS,
    WANTS_PAGE,
)
from relay.records.identifiers import ObjectId
from relay.store.interface import Holding, Want
from relay.sync.arrival import Arrival
from relay.sync.claims import Claims, Way
from relay.sync.custody import Custody
from relay.sync.messages import FRAME_HEAD
from relay.sync.peer import Frame, Peer, Span
from relay.sync.report import VisitReport
from relay.sync.signal import Signal
from relay.sync.supply import Chunk, Supply, Window, chunks_of
from relay.together import together

T = TypeVar("T")


class Exchange:
    """Content to and from the peer of one visit, noted in its report. `clock` is monotonic, in seconds."""

    def __init__(
        self, custody: Custody, peer: Peer, claims: Claims, clock: Callable[[], float], report: VisitReport
    ) -> None:
        self._custody = custody
        self._store = custody.store
        self._peer = peer
        self._claims = claims
        self._clock = clock
        self._report = report
        self._who = Way(report.peer.node.hex(), fetched=True)
        self._deadline = self._last = float("inf")
        self._arrival = Arrival(custody, claims, self._who, clock)
        self._fetching = asyncio.Event()
        """Set when the first chunk is asked for, or there is none to ask for yet."""
        self._tellings = 0
        """How often all statements were there that were found."""
        self._looking = False
        self._resting: set[Supply] = set()
        """Directions in which there is no more to list for now."""
        self._ended: set[Supply] = set()
        self._turns = Signal()
        """Rings when more is told, and whenever everything may have come to rest."""
        self._over = asyncio.Event()
        self._in, self._out = (
            Supply(one, ahead=False, emptied=self._turns.ring) for one in (self._wanted_here(), self._wanted_there())
        )
        self._held_there: dict[ObjectId, Holding] = {}
        self._wants_there: list[Want] = []

    def held_there(self, holdings: Sequence[Holding]) -> None:
        """What the peer said that it holds, when it handed over the statements. What is told beyond a limit is asked
        about when it is wanted."""
        for one in holdings:
            if len(self._held_there) < MAX_TOLD_HOLDINGS:
                self._held_there[one.object] = one

    def wanted_there(self, wants: Sequence[Want]) -> None:
        """What the peer said that it wants, when it had taken the statements."""
        self._wants_there = list(wants)

    async def with_neighbour(self, here: asyncio.Event, there: asyncio.Event) -> None:
        """Fetch and bring at the same time, beside `all_told`: what is wanted here once `here` is set, and what is
        wanted there once `there` is. Raises what the peer raises, and what it deserves."""
        self._last = self._clock() + MAX_CONTENT_SECONDS
        self._go_on()
        try:
            await together(self._fetch(self._in, here), self._send(self._out, there))
        finally:
            self._over.set()
            self._claims.release(self._who)
            for supply in (self._in, self._out):
                await supply.close()

    async def begun(self) -> None:
        """Wait until a first chunk is asked for, where there is one: it takes the connection that is there."""
        await self._fetching.wait()

    def all_told(self) -> None:
        """Say that all statements are there that were found. Until then few objects are begun at a time: a better one
        may be told of. Each time both directions look for more."""
        self._tellings += 1
        self._in.more()
        self._out.more()
        self._turns.ring()

    async def is_over(self, seconds: float) -> bool:
        """Whether the exchange with a neighbour is over, waited for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
        return self._over.is_set()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Within it the visit looks for new records. Content goes on meanwhile, and for its time from here."""
        self._looking = True
        self._go_on()
        try:
            yield
        finally:
            self._looking = False
            self._turns.ring()

    def _go_on(self) -> None:
        self._deadline = min(self._clock() + CONTENT_SECONDS, self._last)

    async def _await_more(self, supply: Supply, told: int) -> bool:
        """Wait, with no more to list in one direction of what was `told` of, until more was told; False when nothing
        moves in either direction, or the time is over."""
        self._resting.add(supply)
        self._turns.ring()
        while self._tellings == told and not (told and self._is_still()):
            turn = self._turns.count
            if await self._turns.wait(turn, self._deadline - self._clock()) == turn:
                self._report.more = True
                break
        self._resting.discard(supply)
        return self._tellings > told

    def _is_still(self) -> bool:
        """Whether nothing moves, and nobody looks whether there is more."""
        ways = (self._in, self._out)
        return not self._looking and all(one in self._ended or (one in self._resting and one.is_still) for one in ways)

    def _end(self, supply: Supply) -> None:
        self._ended.add(supply)
        self._turns.ring()

    async def to_receiver(self) -> None:
        """Bring what a receiver lacks of the packages that wait here. One stream does for little; others help it while
        there is more, since they cost the receiver something, which has many visitors."""
        self._deadline = self._clock() + CONTENT_SECONDS
        self._out = Supply(self._lacked_there())
        done = asyncio.Event()

        async def bring(pause: float) -> None:
            try:
                async with asyncio.timeout(pause):
                    await done.wait()
            except TimeoutError:
                await self._send_stream(self._out)
                done.set()

        try:
            await together(*(bring(place * STREAM_AT_RECEIVER_SECONDS) for place in range(STREAMS)))
        finally:
            await self._out.close()

    # -- what there is to move

    async def _wanted_here(self) -> AsyncIterator[list[Chunk]]:
        """What is wanted here and held there: bundle by bundle."""
        tried: set[ObjectId] = set()
        while not (self._report.unkept_here or self._is_late()):
            told = self._tellings
            coming = tried & self._in.under_way
            wants = await self._store.wants(WANTS_PAGE + len(coming), frozenset(tried - coming))
            wants = [want for want in wants if want.object not in coming]
            held = self._held_there
            if not wants:
                self._fetching.set()
                if not await self._await_more(self._in, told):
                    return
                if told:  # what the peer did not hold, or not whole, it may hold by now
                    tried &= self._in.under_way
                    held = self._held_there = {name: one for name, one in held.items() if one.complete}
                continue
            if unknown := [want.object for want in wants if want.object not in held]:
                answer = await self._answer(self._peer.holdings(unknown))
                held.update((one.object, one) for one in answer if one.object in unknown)
            there = [want for want in wants if want.object in held]
            by_object = {want.object: want for want in (there if told else there[:STREAMS])}
            # What waits for its turn until all is told is wanted again then.
            tried.update(want.object for want in wants if want.object in by_object or want.object not in held)
            ordered = self._claims.order(list(by_object), self._who, self._clock())
            self._report.left |= len(ordered) < len(by_object)
            page: list[Chunk] = []
            for object_id, forward in ordered:
                # The size that counts is that of what is held: what is wanted may be a hostile statement's claim.
                holding = held[object_id]
                found = list(chunks_of(object_id, holding.size, holding.offers(by_object[object_id].missing)))
                page.extend(found if forward else reversed(found))
            if not page:  # a long list of what is not to be had there holds nothing up
                self._fetching.set()
            yield page

    async def _wanted_there(self) -> AsyncIterator[list[Chunk]]:
        """What is wanted there and held here, in the order in which the peer wants it. What it answered for before and
        wants again comes last, and no more of that than of what is wrong: nobody draws the same content for ever."""
        tried: dict[ObjectId, None] = {}
        partly: set[ObjectId] = set()
        again: list[Chunk] = []
        if not self._wants_there:
            await self._fetching.wait()  # the connection that is free is for chunks first
        while not (self._report.unkept_there or self._is_late()):
            told = self._tellings
            if fresh := await self._fresh_wants(tried) if told or self._wants_there else []:
                if not told:
                    fresh = fresh[:STREAMS]
                tried.update(dict.fromkeys(want.object for want in fresh))
                held = {one.object: one for one in await self._store.holdings([want.object for want in fresh])}
                partly.update(one.object for one in fresh if one.object not in held or not held[one.object].complete)
                page: list[Chunk] = []
                for want in fresh:
                    if holding := held.get(want.object):
                        vain = self._custody.handed.in_vain(self._who.peer, want.object, want.missing)
                        found = chunks_of(want.object, holding.size, holding.offers(want.missing))
                        (again if vain else page).extend(found)
                yield page
                continue
            if len(tried) >= MAX_WANTS:  # it wants more than it can tell: of what is here can be asked all the same
                async for page in self._lacked_there(tried.keys() | self._out.under_way):
                    yield page
            if told:
                yield self._in_turn(again)
                again = []
            if not await self._await_more(self._out, told):
                return
            for one in partly - self._out.under_way:  # what was not held here, or not whole, may be by now
                del tried[one]
            partly &= tried.keys()

    async def _fresh_wants(self, tried: Collection[ObjectId]) -> list[Want]:
        """What the peer wants besides; nothing when it wants no more, says the same for ever, or wants more than it
        could be asked about."""
        if len(tried) >= MAX_WANTS:
            return []
        going = self._out.under_way
        wants = self._wants_there or await self._answer(self._peer.wants([one for one in tried if one not in going]))
        self._wants_there = []
        fresh = [want for want in wants if want.object not in tried]
        if not fresh and len(wants) >= WANTS_PAGE:  # a page of what is on its way says nothing of the rest
            wants = await self._answer(self._peer.wants(list(tried)))
            fresh = [want for want in wants if want.object not in tried]
        return fresh

    async def _lacked_there(self, besides: Collection[ObjectId] = ()) -> AsyncIterator[list[Chunk]]:
        """What the peer lacks of the packages that wait here, `besides` some: one after the other, their signers in
        turn, old versions last. Last of all comes what it answered for before and still lacks, since a signer may have
        told it other chunks; and of that no more than it bears with."""
        again: list[Chunk] = []
        async for listed in self._to_deliver():
            objects = [one for one in listed if one not in besides]
            if self._is_late():
                break
            held = {one.object: one for one in await self._store.holdings(objects)}
            page: list[Chunk] = []
            for object_id, missing in await self._answer(self._peer.missing(list(held))) if held else []:
                if holding := held.pop(object_id, None):
                    vain = self._custody.handed.in_vain(self._who.peer, object_id, missing)
                    (again if vain else page).extend(chunks_of(object_id, holding.size, holding.offers(missing)))
            yield page
        yield self._in_turn(again)

    def _in_turn(self, again: list[Chunk]) -> list[Chunk]:
        """What of it goes this time: what went longest ago, so that nothing that the disk gives wrong hides for ever
        behind what a liar says it lacks."""
        turns = self._custody.handed.turns(self._who.peer)
        return sorted(again, key=lambda one: turns.get(one.object, 0))[: MAX_WRONG_CHUNKS // 2]

    async def _to_deliver(self) -> AsyncIterator[list[ObjectId]]:
        """The objects of what waits here, a few packages at a time, each once."""
        listed: set[ObjectId] = set()
        left = MAX_TO_DELIVER
        async for page in self._store.to_deliver():
            statements = page[:left]
            left -= len(statements)
            for at in range(0, len(statements), WANTS_PAGE):
                found = [await self._store.bundle(one) for one in statements[at : at + WANTS_PAGE]]
                named = dict.fromkeys(file.sha256 for one in found if one is not None for file in one.files)
                objects = [one for one in named if one not in listed]
                listed.update(objects)
                for part in range(0, len(objects), MAX_WANTS):
                    yield objects[part : part + MAX_WANTS]
            if not left:
                return

    async def _answer(self, question: Awaitable[list[T]]) -> list[T]:
        """What the peer says; nothing where no answer comes while content moves. On a slow link it may wait behind that
        for too long, and what moves goes on: where the link is gone, the calls that move it say so."""
        try:
            return await question
        except Unreachable:
            if self._in.is_still and self._out.is_still:
                raise
            self._report.left = True
            return []

    # -- fetching

    async def _fetch(self, supply: Supply, may_begin: asyncio.Event) -> None:
        try:
            await may_begin.wait()
            with self._report.keeping(here=True):
                await _in_streams(supply, self._fetch_stream)
        finally:
            self._fetching.set()
            with self._report.keeping(here=True):
                await self._arrival.finish()
            self._report.rung += self._arrival.rung
            self._report.kept += self._arrival.taken
            self._end(supply)

    async def _fetch_stream(self, supply: Supply) -> None:
        while (first := await self._draw_wanted(supply)) and not self._is_over():
            window = Window(self._clock)
            asked: dict[Span, int] = {(first.object, first.index): first.length}
            self._fetching.set()
            async for object_id, index, data in self._peer.get_chunks(self._ask(first, supply, window, asked)):
                length = asked.pop((object_id, index), None)
                if length is None:
                    raise Malformed("A peer sent a chunk that it was not asked for")
                window.came(length)
                if data:
                    await self._arrival.take(object_id, index, data)
                    self._report.bytes_in += len(data)
                supply.done(object_id)
            for object_id, _ in asked:  # it sent less than it was asked for
                supply.done(object_id)
            if supply.is_still:  # it may rest for long
                await self._arrival.finish()

    async def _ask(self, first: Chunk, supply: Supply, window: Window, asked: dict[Span, int]) -> AsyncIterator[Span]:
        """Ask for one chunk after the other as others come, in one call."""
        chunk: Chunk | None = first
        left, until = MAX_CHUNKS_CALL, self._clock() + CALL_SECONDS
        try:
            while chunk is not None and not self._ends():
                if chunk is first or await self._is_wanted(chunk):
                    await window.open(chunk.length)
                    asked[chunk.object, chunk.index] = chunk.length
                    left -= FRAME_HEAD.size + chunk.length
                    span, chunk = (chunk.object, chunk.index), None
                    yield span
                else:
                    supply.done(chunk.object)
                chunk = supply.take(left) if self._clock() < until else None
        finally:
            if chunk is not None and chunk is not first:  # the answer is over
                supply.done(chunk.object)

    async def _draw_wanted(self, supply: Supply) -> Chunk | None:
        while (chunk := await supply.draw()) and not await self._is_wanted(chunk):
            supply.done(chunk.object)
        return chunk

    async def _is_wanted(self, chunk: Chunk) -> bool:
        """Whether it still has to come: no other visit brought it meanwhile, or is bringing it. Where the peer holds a
        liar's chunks of an object, the rest of them is left, and the visit goes on."""
        if chunk.object in self._arrival.wrong:
            return False
        if self._claims.comes_otherwise(chunk.object, self._who, self._clock()):
            self._report.left = True
            return False
        return bool(await self._store.missing(chunk.object) >> chunk.index & 1)

    # -- bringing

    async def _send(self, supply: Supply, may_begin: asyncio.Event) -> None:
        try:
            await may_begin.wait()
            with self._report.keeping(here=False):
                await _in_streams(supply, self._send_stream)
        finally:
            self._end(supply)

    async def _send_stream(self, supply: Supply) -> None:
        while (first := await supply.draw()) and not self._is_over():
            drawn: list[Chunk] = [first]
            handed: list[Span] = []
            try:
                taken = await self._peer.put_chunks(self._hand_over(drawn, supply, handed))
            except (Malformed, Refused):
                self._note_answered(handed)
                raise
            self._note_answered(handed)
            for chunk in drawn:
                supply.done(chunk.object)
            self._report.kept += taken

    def _note_answered(self, handed: Sequence[Span]) -> None:
        """The peer answered a call. Where a link is cut instead, nobody knows how far it came."""
        for object_id, index in handed:
            self._custody.handed.answered(self._who.peer, object_id, index)

    async def _hand_over(self, drawn: list[Chunk], supply: Supply, handed: list[Span]) -> AsyncIterator[Frame]:
        """Read one chunk after the other as the link takes them, for one call, from the one that is `drawn` already on.
        What went before and is lacked still is compared with its hash as it goes: that costs a liar's victim nothing
        that the link does not cost more."""
        left, until = MAX_CHUNKS_CALL, self._clock() + CALL_SECONDS
        chunk: Chunk | None = drawn[0]
        while chunk is not None and not self._ends():
            doubted = self._custody.handed.went_before(self._who.peer, chunk.object, chunk.index)
            data = await self._store.read_chunk(chunk.object, chunk.index, doubted=doubted)
            if data is not None:
                yield chunk.object, chunk.index, data
                self._custody.handed.went(self._who.peer, chunk.object, chunk.index)
                handed.append((chunk.object, chunk.index))
                self._report.bytes_out += len(data)
                left -= FRAME_HEAD.size + len(data)
            if chunk := supply.take(left) if self._clock() < until else None:
                drawn.append(chunk)

    # -- the end

    def _is_over(self) -> bool:
        """Whether content is to end here. Raises `Refused` once the peer is revoked."""
        if self._is_revoked():
            raise Refused(REVOKED, f"{self._report.peer.name} was revoked during the visit")
        return self._ends()

    def _ends(self) -> bool:
        return self._is_late() or self._is_revoked()

    def _is_late(self) -> bool:
        self._report.more = self._report.more or self._clock() > self._deadline
        return self._report.more

    def _is_revoked(self) -> bool:
        return self._report.peer.node in self._custody.admission.revoked


async def _in_streams(supply: Supply, stream: Callable[[Supply], Coroutine[None, None, None]]) -> None:
    """Move what there is over several streams; most visits have nothing to move, and open none."""
    if not await supply.is_empty():
        await together(*(stream(supply) for _ in range(STREAMS)))
