"""The air between nodes: who reaches whom, at what speed, until when; and calls across it.

`AirPeer` stands where `relay.net.client.HttpPeer` does: the same calls, encoded and bounded in the same way, answered
by the `Host` of the other node in that node's own tasks, as `relay.net.server` answers them. Chunks go over a `Stream`:
the visited node takes or makes one after the other while others are on their way. A link carries the bytes of each
direction one after the other, whosever they are, at its speed, and may end at any one of them; what was under way then
ends for the visitor after a while, and goes on or not at the other side.

A message arrives whole or not at all. In a stream each chunk is one, and what asks for it: of a torn one nothing is
kept, which is `relay.net`'s (tests/e2e/test_transfers.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from relay.errors import Malformed, Refused, StoreError, Unreachable
from relay.limits import (
    CONNECT_SECONDS,
    DEAD_LINK_SECONDS,
    HANDSHAKE_SECONDS,
    MAX_CHUNK,
    MAX_CHUNKS_CALL,
    MAX_GREETING,
    MAX_MESSAGE,
    MAX_NUMBER,
    MAX_PAIR,
    MAX_RECONCILE_MESSAGE,
    MAX_RECORDS_MESSAGE,
    READ_AHEAD,
    RECEIVER_SECONDS,
    STALL_SECONDS,
    UNSENT,
)
from relay.records.identifiers import Kind, ObjectId, RecordId
from relay.store.interface import Holding, Want
from relay.sync import messages
from relay.sync.host import Host
from relay.sync.messages import FRAME_HEAD, SPAN, Given, Greeting, Inquiry, InquiryReply, Taken
from relay.sync.peer import Frame, Span

if TYPE_CHECKING:
    from tests.simulation.ship import Ship

T = TypeVar("T")

CALL_HEAD = 64
"""Bytes by which a call of chunks begins."""
STREAM_END = 5
"""Bytes by which one ends."""


@dataclass(eq=False)
class Link:
    """What joins two nodes during a contact: it is cut when its time is over, or after `budget` bytes."""

    chance: Random
    latency: float
    speed: float
    """Bytes a second in each direction, for all that is under way together."""
    budget: float
    stalls: float = 0.0
    """How likely it is that a message hangs for seconds."""
    up: bool = True
    _busy: dict[str, float] = field(default_factory=dict)
    """Until when what each end has sent takes the link, by its name."""
    _waiting: dict[asyncio.Future[Any], asyncio.TimerHandle | None] = field(default_factory=dict)
    """Who waits for something from the other side, and when that is given up, if ever. Whoever failed meanwhile is in
    it until then."""
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self) -> None:
        """The contact ends. Each end notices after a while."""
        self.up = False
        self._over.set()
        loop = asyncio.get_running_loop()
        for future in self._waiting:
            loop.call_later(DEAD_LINK_SECONDS * self.chance.random(), fail, future)

    async def until_cut(self, seconds: float) -> None:
        """Wait for its end, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    def ask(
        self, sender: str, size: int, patience: float, act: Callable[[asyncio.Future[Any]], None]
    ) -> asyncio.Future[Any]:
        """Bring so many bytes to the other side, where `act` is called: it is to settle the future, by `reply`.

        The future fails by itself when the link is cut, or when no answer began within so many seconds.
        """
        future = self.expect()
        if self.up:
            taken, _ = self.send(sender, size, lambda: act(future))
            self.bear(future, taken + patience)
        return future

    def reply(self, sender: str, size: int, future: asyncio.Future[T], answer: T) -> None:
        """Bring so many bytes back, and with them the answer: as long as some of it comes, nobody gives it up."""
        taken, _ = self.send(sender, size, lambda: self.settle(future, answer))
        if future in self._waiting:
            self.bear(future, taken + STALL_SECONDS)

    def expect(self) -> asyncio.Future[Any]:
        """What waits for the other side: it fails by itself when the link is cut."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if self.up:
            self._waiting[future] = None
        else:
            loop.call_later(DEAD_LINK_SECONDS * self.chance.random(), fail, future)
        return future

    def bear(self, future: asyncio.Future[Any], until: float) -> None:
        """Give up what is waited for at that time, and no more when it was to be before."""
        if (timer := self._waiting.get(future)) is not None:
            timer.cancel()
        self._waiting[future] = asyncio.get_running_loop().call_at(until, self._give_up, future)

    def settle(self, future: asyncio.Future[T], answer: T) -> None:
        """The answer is there."""
        self.leave(future)
        if not future.done():
            future.set_result(answer)

    def leave(self, future: asyncio.Future[Any]) -> None:
        """Nobody waits for it any more."""
        timer = self._waiting.pop(future, None)
        if timer is not None:
            timer.cancel()

    def send(self, sender: str, size: int, arrive: Callable[[], None], *, after: float = 0.0) -> tuple[float, float]:
        """Send so many bytes, behind all that this end has sent before; not to arrive earlier than `after`, by which
        what belongs together keeps its order. When the link has taken them, and when they arrive."""
        loop = asyncio.get_running_loop()
        begun = max(loop.time(), self._busy.get(sender, 0.0))
        taken = self._busy[sender] = begun + size / self.speed
        arrival = max(taken + self.latency, after)
        if self.stalls and self.chance.random() < self.stalls:
            arrival += 8 * self.chance.random()
        if self.up and self.budget < size:  # it ends in the middle
            loop.call_at(begun + self.latency + self.budget / self.speed, self.cut)
        else:
            loop.call_at(arrival, self._arrived, arrive)
        self.budget = max(0.0, self.budget - size)
        return taken, arrival

    def _arrived(self, arrive: Callable[[], None]) -> None:
        if self.up:
            arrive()

    def _give_up(self, future: asyncio.Future[Any]) -> None:
        self._waiting.pop(future, None)
        fail(future)


def fail(future: asyncio.Future[Any], error: Exception | None = None) -> None:
    """Have who waits fail, by the end of the contact or by an error of the other side."""
    if not future.done():
        future.set_exception(error or _ended())


def _ended() -> Unreachable:
    return Unreachable("The contact ended (simulated)", "It is tried again.")


class Stream(Generic[T]):
    """One direction of a call, piece by piece and in order: what one end sends while the other takes it, each in its
    own task. What is on its way, or waits to be taken, is no more than kernels and readers hold: then the sender waits.

    Both ends hear of the other's end as sockets tell it: by `ConnectionError`, or by `TimeoutError` after silence.
    """

    MOST = UNSENT + READ_AHEAD

    def __init__(self, link: Link, sender: str) -> None:
        self._link = link
        self._sender = sender
        self._there: deque[tuple[T, int]] = deque()
        self._untaken = 0
        """Bytes that were sent, and that nobody took yet."""
        self._moving = 0.0
        """Until when some of it is on its way: as long as bytes come, nobody gives it up."""
        self._last = 0.0
        """When the piece that was sent last arrives."""
        self._begun = False
        self._over = False
        self._stopped = False
        self._error: Exception | None = None
        self._sending: asyncio.Future[None] | None = None
        self._taking: asyncio.Future[None] | None = None
        self._since = 0.0
        """When its taker began to wait."""
        self._patience = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    # -- the end that sends

    async def put(self, piece: T, size: int, patience: float) -> None:
        """Send a piece, and wait until the link and the other side have room for the next one. Raises `OSError`."""
        self._send(size, partial(self._arrive, piece, size))
        self._begun = True
        self._untaken += size
        if self._untaken > self.MOST:
            until = asyncio.get_running_loop().time() + patience
            while self._untaken > self.MOST and not self._stopped and self._error is None:
                self._sending = self._link.expect()
                if self._link.up:
                    self._link.bear(self._sending, until)
                await self._wait(self._sending)
        if self._stopped or self._error is not None:
            raise ConnectionResetError("Nobody takes it any more (simulated)")

    def stop(self) -> None:
        """Have who sends send no more: the other side has answered."""
        self._stopped = True
        _wake(self._sending)

    def end(self) -> float:
        """Say that this was all; when the link has taken it."""
        self._send(STREAM_END, self._close)
        return self._moving

    def fail(self, error: Exception) -> None:
        """Say that there is no more, and why, if that can still be said: else the connection ends."""
        told = ConnectionResetError("The other side stopped in the middle (simulated)") if self._begun else error
        self._send(STREAM_END, lambda: self.tear(told))

    def hang_up(self, *others: Stream[Any]) -> None:
        """Leave the call in the middle: the other side hears of it on this stream, and on others of the call."""
        if self._link.up:
            left = ConnectionResetError("The visitor left (simulated)")

            def tear() -> None:
                for stream in (self, *others):
                    stream.tear(left)

            self._send(0, tear)

    def _send(self, size: int, arrive: Callable[[], None]) -> None:
        self._moving, self._last = self._link.send(self._sender, size, arrive, after=self._last)

    # -- the end that takes

    async def pieces(self, patience: float, first: float | None = None) -> AsyncGenerator[T]:
        """Each piece as it arrives, the `first` one after more patience. Raises `OSError`, or what `fail` said."""
        self._patience = patience if first is None else first
        while self._error is None:
            if self._there:
                piece, size = self._there.popleft()
                self._untaken -= size
                _wake(self._sending)
                if self._patience != patience:
                    self._patience = patience
                    self._rest()
                yield piece
            elif self._over:
                return
            else:
                self._since = asyncio.get_running_loop().time()
                self._taking = self._link.expect()
                if self._alarm is None:
                    self._look()
                await self._wait(self._taking)
        raise self._error

    def tear(self, error: Exception) -> None:
        """Whoever waits at either end waits in vain; what came and was not taken is gone, as it is of a socket."""
        self._error = error
        _wake(self._taking)
        _wake(self._sending)

    def _arrive(self, piece: T, size: int) -> None:
        self._there.append((piece, size))
        _wake(self._taking)

    def _close(self) -> None:
        self._over = True
        _wake(self._taking)

    def _rest(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look(self) -> None:
        """Look whether who takes has waited too long; one timer does for many pieces."""
        loop = asyncio.get_running_loop()
        self._alarm = None
        if self._taking is None or self._taking.done():
            return
        due = max(self._since, self._moving) + self._patience
        if due <= loop.time():
            self._taking.set_exception(TimeoutError("Nothing comes any more (simulated)"))
        else:
            self._alarm = loop.call_at(due, self._look)

    async def _wait(self, future: asyncio.Future[None]) -> None:
        try:
            await future
        except Unreachable:
            raise ConnectionResetError("The contact ended (simulated)") from None
        finally:
            self._link.leave(future)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


Answer = Callable[[Host, bytes], Awaitable[bytes]]


async def _hello(host: Host, body: bytes) -> bytes:
    return (await host.hello(Greeting.decode(body))).encode()


async def _news(host: Host, body: bytes) -> bytes:
    heard, wait = messages.decode_pair(body)
    return messages.encode_number(await host.news(heard, wait / 1000))


async def _reconcile(host: Host, body: bytes) -> bytes:
    return await host.reconcile(body)


async def _inquire(host: Host, body: bytes) -> bytes:
    return (await host.inquire(Inquiry.decode(body))).encode()


async def _consistency(host: Host, body: bytes) -> bytes:
    return messages.encode_path(await host.consistency(*messages.decode_pair(body)))


async def _get_records(host: Host, body: bytes) -> bytes:
    return (await host.get_records([RecordId(one) for one in messages.decode_ids(body)])).encode()


async def _put_records(host: Host, body: bytes) -> bytes:
    return (await host.put_records(messages.decode_records(body))).encode()


async def _holdings(host: Host, body: bytes) -> bytes:
    return messages.encode_holdings(await host.holdings([ObjectId(one) for one in messages.decode_ids(body)]))


async def _wants(host: Host, body: bytes) -> bytes:
    return messages.encode_wants(await host.wants([ObjectId(one) for one in messages.decode_ids(body)]))


async def _missing(host: Host, body: bytes) -> bytes:
    return messages.encode_missing(await host.missing([ObjectId(one) for one in messages.decode_ids(body)]))


ANSWERS: dict[str, tuple[Answer, int, int]] = {
    "hello": (_hello, MAX_GREETING, MAX_GREETING),
    "news": (_news, MAX_PAIR, MAX_NUMBER),
    "reconcile": (_reconcile, MAX_RECONCILE_MESSAGE, MAX_RECONCILE_MESSAGE),
    "inquire": (_inquire, MAX_MESSAGE, MAX_MESSAGE),
    "consistency": (_consistency, MAX_PAIR, MAX_MESSAGE),
    "get_records": (_get_records, MAX_MESSAGE, MAX_RECORDS_MESSAGE),
    "put_records": (_put_records, MAX_RECORDS_MESSAGE, MAX_MESSAGE),
    "holdings": (_holdings, MAX_MESSAGE, MAX_MESSAGE),
    "wants": (_wants, MAX_MESSAGE, MAX_MESSAGE),
    "missing": (_missing, MAX_MESSAGE, MAX_MESSAGE),
}
"""How each call is answered, and the most bytes of a call and of its answer: those of `relay.net`."""


async def _ask_for(spans: AsyncIterator[Span], asked: Stream[Span], given: Stream[Frame]) -> None:
    """Ask for one chunk after the other, beside the answer. What goes wrong meanwhile ends the call for the visitor."""
    try:
        async for one in spans:
            await asked.put(one, SPAN.size, STALL_SECONDS)
        asked.end()
    except (OSError, StoreError):
        given.tear(ConnectionResetError("The call was not made to its end (simulated)"))


class AirPeer:
    """The node at `url`, as `visitor` reaches it. A `relay.sync.peer.Peer`."""

    def __init__(self, url: str, visitor: Ship) -> None:
        self.url = url
        self._visitor = visitor
        self._target = visitor.sea.at(url)
        self._shown = False

    async def close(self) -> None:
        """End the contact."""

    def prepare(self) -> None:
        """See `Peer`: connections cost nothing here."""

    async def hello(self, mine: Greeting) -> Greeting:
        """See `Peer`."""
        answer = Greeting.decode(await self.call("hello", mine.encode()))
        shown, hello = self._target.member.identity, answer.hello
        if (hello.node, hello.name, hello.role, hello.election) != (
            shown.node,
            shown.name,
            shown.role,
            shown.election,
        ):
            raise Refused("false-greeting", f"{self.url} greets as another node than its certificate names")
        return answer

    async def news(self, heard: int, wait: float) -> int:
        """See `Peer`."""
        body = messages.encode_pair(heard, int(wait * 1000))
        return messages.decode_number(await self.call("news", body, wait + STALL_SECONDS))

    async def reconcile(self, message: bytes) -> bytes:
        """See `Peer`."""
        return await self.call("reconcile", message)

    async def inquire(self, inquiry: Inquiry) -> InquiryReply:
        """See `Peer`."""
        return InquiryReply.decode(await self.call("inquire", inquiry.encode(), STALL_SECONDS + inquiry.wait))

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """See `Peer`."""
        return messages.decode_path(await self.call("consistency", messages.encode_pair(old_size, new_size)))

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """See `Peer`."""
        return Given.decode(await self.call("get_records", messages.encode_ids(ids)))

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        """See `Peer`."""
        return Taken.decode(await self.call("put_records", messages.encode_records(records)))

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """See `Peer`."""
        return messages.decode_holdings(await self.call("holdings", messages.encode_ids(objects)))

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        """See `Peer`."""
        return messages.decode_wants(await self.call("wants", messages.encode_ids(skip)))

    async def missing(self, objects: Sequence[ObjectId]) -> list[tuple[ObjectId, int]]:
        """See `Peer`."""
        return messages.decode_missing(await self.call("missing", messages.encode_ids(objects)))

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """See `Peer`. Every frame comes for itself: what came before the end of the contact is there."""
        link = self._link()
        asked: Stream[Span] = Stream(link, self._visitor.name)
        given: Stream[Frame] = Stream(link, self._target.name)
        left = MAX_CHUNKS_CALL

        async def give(host: Host) -> None:
            await self._target.give_frames(host, asked.pieces(STALL_SECONDS), given)

        link.send(
            self._visitor.name,
            CALL_HEAD,
            lambda: self._target.serve(self._visitor, give, lambda _: given.end(), given.fail),
        )
        asking = asyncio.create_task(_ask_for(spans, asked, given))
        done = False
        try:
            patience = CONNECT_SECONDS + HANDSHAKE_SECONDS + STALL_SECONDS
            async with aclosing(given.pieces(STALL_SECONDS, patience)) as frames:
                async for frame in frames:
                    left -= FRAME_HEAD.size + len(frame[2])
                    if len(frame[2]) > MAX_CHUNK or left < 0:
                        raise Malformed("A chunk, or a call, is over its limit")
                    yield frame
            done = True
        except OSError:
            raise _ended() from None
        finally:
            asking.cancel()
            if not done:
                asked.hang_up(given)
        self._note("get_chunks", left)

    async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
        """See `Peer`. The other side takes one frame after the other as they come; what came before the end of the
        contact is kept. Its answer, where it comes before all was sent, is what became of the call."""
        link = self._link()
        body: Stream[Frame] = Stream(link, self._visitor.name)
        patience = RECEIVER_SECONDS if self._target.is_receiver else STALL_SECONDS
        answer: asyncio.Future[int] = link.expect()
        answer.add_done_callback(lambda _: body.stop())

        async def take(host: Host) -> int:
            return await self._target.take_frames(host, body.pieces(STALL_SECONDS), self._visitor.name)

        link.send(
            self._visitor.name,
            CALL_HEAD,
            lambda: self._target.serve(
                self._visitor, take, partial(link.reply, self._target.name, 16, answer), partial(fail, answer)
            ),
        )
        sent = 0
        try:
            async for frame in frames:
                await body.put(frame, FRAME_HEAD.size + len(frame[2]), patience)
                sent += 1
            link.bear(answer, body.end() + patience)
            taken = await answer
        except OSError:  # an answer that came before the end says why
            fail(answer)
            return await answer
        except StoreError as error:  # on this side: the call is left in the middle
            raise _ended() from error
        finally:
            link.leave(answer)
            if not answer.done() or answer.cancelled() or answer.exception() is not None:
                body.hang_up()
        self._note("put_chunks", sent)
        return taken

    async def call(self, name: str, body: bytes, patience: float = STALL_SECONDS) -> bytes:
        """One call and its answer, in bytes."""
        answer, most, limit = ANSWERS[name]
        if len(body) > most:
            raise Malformed("A call is over its limit")
        reply = await self._exchange(
            self._link(),
            len(body),
            patience,
            lambda host: self._target.answers.answer(name, answer, host, body),
            lambda reply: min(len(reply), limit + 1),
            visiting=name != "news",
        )
        self._note(name, len(reply))
        if len(reply) > limit:
            raise Malformed(f"A peer's answer is over its limit of {limit} bytes")
        return reply

    def _link(self) -> Link:
        """The link to the other node; over a new connection it is asked for its certificate first."""
        link = self._visitor.sea.link(self._visitor, self._target)
        if link is None:
            raise Unreachable("Nobody is there (simulated)", "It is tried again.")
        if not self._shown:
            self._visitor.custody.admission.identify(self._target.member.identity.certificate)
            self._shown = True
        return link

    async def _exchange(
        self,
        link: Link,
        size: int,
        patience: float,
        work: Callable[[Host], Awaitable[T]],
        size_of: Callable[[T], int],
        *,
        visiting: bool = True,
    ) -> T:
        """Have something done at the other side, in its own time; its answer."""

        def arrive(future: asyncio.Future[T]) -> None:
            def reply(answer: T) -> None:
                link.reply(self._target.name, size_of(answer), future, answer)

            self._target.serve(self._visitor, work, reply, partial(fail, future), visiting=visiting)

        answer: T = await link.ask(self._visitor.name, size, patience, arrive)
        return answer

    def _note(self, name: str, size: int) -> None:
        self._visitor.sea.note(name, self._visitor.name, self._target.name, size)
