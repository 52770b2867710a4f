"""The air between nodes: who reaches whom, at what speed, until when; and calls across it.

`AirPeer` stands where `relay.net.client.HttpPeer` does: the same calls, encoded and bounded in the same way, answered
by the `Host` of the other node in that node's own tasks, as `relay.net.server` answers them. A link carries bytes at
its speed and may end at any one of them; what was under way then ends for the visitor after a while, and goes on or
not at the other side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, cast

from relay.errors import Malformed, Refused, RelayError, StoreError, Unreachable
from relay.limits import (
    DEAD_LINK_SECONDS,
    MAX_CHUNK,
    MAX_CHUNKS_CALL,
    MAX_GREETING,
    MAX_MESSAGE,
    MAX_NUMBER,
    MAX_PAIR,
    MAX_RECONCILE_MESSAGE,
    MAX_RECORDS_MESSAGE,
    STALL_SECONDS,
)
from relay.records.identifiers import Kind, ObjectId, RecordId
from relay.store.interface import Holding, Want
from relay.sync import messages
from relay.sync.host import Host
from relay.sync.messages import FRAME_HEAD, SPAN, Given, Greeting, Inquiry, InquiryReply, Taken
from relay.sync.peer import Frame, Span
from tests.simulation.disk import Dead

if TYPE_CHECKING:
    from tests.simulation.ship import Ship

T = TypeVar("T")


@dataclass(eq=False)
class Link:
    """What joins two nodes during a contact: it is cut when its time is over, or after `budget` bytes."""

    chance: Random
    latency: float
    speed: float
    """Bytes a second."""
    budget: float
    stalls: float = 0.0
    """How likely it is that a message hangs for seconds."""
    up: bool = True
    _waiting: dict[asyncio.Future[Any], asyncio.TimerHandle] = field(default_factory=dict)
    """Who waits for an answer, and when that is given up. Whoever failed meanwhile is in it until then."""
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

    def ask(self, size: int, patience: float, act: Callable[[asyncio.Future[Any]], None]) -> asyncio.Future[Any]:
        """Bring so many bytes to the other side, where `act` is called: it is to settle the future, by `reply`.

        The future fails by itself when the link is cut, or when no answer began within so many seconds.
        """
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._waiting[future] = loop.call_later(patience + size / self.speed, self._give_up, future)
        if self.up:
            self._send(size, lambda: act(future))
        else:
            loop.call_later(DEAD_LINK_SECONDS * self.chance.random(), fail, future)
        return future

    def reply(self, size: int, future: asyncio.Future[T], answer: T) -> None:
        """Bring so many bytes back, and with them the answer: as long as some of it comes, nobody gives it up."""
        if (timer := self._waiting.get(future)) is not None:
            timer.cancel()
            loop = asyncio.get_running_loop()
            self._waiting[future] = loop.call_later(STALL_SECONDS + size / self.speed, self._give_up, future)
        self._send(size, lambda: self.settle(future, answer))

    def settle(self, future: asyncio.Future[T], answer: T) -> None:
        """The answer is there."""
        timer = self._waiting.pop(future, None)
        if timer is not None:
            timer.cancel()
        if not future.done():
            future.set_result(answer)

    async def carry(self, size: int) -> None:
        """Bring so many bytes across. Raises `Unreachable`."""
        await self.ask(size, STALL_SECONDS, lambda future: self.settle(future, None))

    def _send(self, size: int, arrive: Callable[[], None]) -> None:
        seconds = self.latency + size / self.speed
        if self.stalls and self.chance.random() < self.stalls:
            seconds += 8 * self.chance.random()
        loop = asyncio.get_running_loop()
        if self.up and self.budget < size:  # it ends in the middle
            loop.call_later(seconds * self.budget / size, self.cut)
        else:
            loop.call_later(seconds, self._arrived, arrive)
        self.budget = max(0.0, self.budget - size)

    def _arrived(self, arrive: Callable[[], None]) -> None:
        if self.up:
            arrive()

    def _give_up(self, future: asyncio.Future[Any]) -> None:
        self._waiting.pop(future, None)
        fail(future)


def fail(future: asyncio.Future[Any], error: RelayError | None = None) -> None:
    """Have who waits fail, by the end of the contact or by an error of the other side."""
    if not future.done():
        future.set_exception(error or Unreachable("The contact ended (simulated)", "It is tried again."))


async def _itself(host: Host) -> Host:
    return host


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


class AirPeer:
    """The node at `url`, as `visitor` reaches it. A `relay.sync.peer.Peer`."""

    def __init__(self, url: str, visitor: Ship) -> None:
        self.url = url
        self._visitor = visitor
        self._target = visitor.sea.at(url)
        self._shown = False

    async def close(self) -> None:
        """End the contact."""

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
        host = await self._exchange(link, SPAN.size, STALL_SECONDS, _itself, lambda _: 0)
        left = MAX_CHUNKS_CALL
        try:
            async with aclosing(cast(AsyncGenerator[Frame, None], self._target.answers.frames(host, spans))) as frames:
                async for frame in frames:
                    await link.carry(FRAME_HEAD.size + len(frame[2]))
                    left -= FRAME_HEAD.size + len(frame[2])
                    if len(frame[2]) > MAX_CHUNK or left < 0:
                        raise Malformed("A chunk, or a call, is over its limit")
                    yield frame
        except (Dead, StoreError) as error:
            if self._visitor.dead:
                raise
            raise Unreachable("The contact ended (simulated)", "It is tried again.") from error
        self._note("get_chunks", left)

    async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
        """See `Peer`. What came before the end of the contact is kept."""
        link = self._link()
        arrived: list[Frame] = []

        def take(host: Host) -> Coroutine[Any, Any, int]:
            return self._target.take_frames(host, arrived, self._visitor.name)

        try:
            async for frame in frames:
                await link.carry(FRAME_HEAD.size + len(frame[2]))
                arrived.append(frame)
        except RelayError:
            with suppress(RelayError):
                host = self._target.receive(self._visitor)
                self._target.serve(take(host), asyncio.get_running_loop().create_future(), lambda _: None)
            raise
        self._note("put_chunks", len(arrived))
        return await self._exchange(link, 64, STALL_SECONDS, take, lambda _: 16)

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
            try:
                host = self._target.receive(self._visitor, visiting=visiting)
            except RelayError as error:
                fail(future, error)
                return

            def reply(answer: T) -> None:
                with suppress(RelayError):
                    self._target.receive(
                        self._visitor, visiting=visiting
                    )  # the server tells of the end of calls as well
                link.reply(size_of(answer), future, answer)

            self._target.serve(work(host), future, reply)

        answer: T = await link.ask(size, patience, arrive)
        return answer

    def _note(self, name: str, size: int) -> None:
        self._visitor.sea.note(name, self._visitor.name, self._target.name, size)
