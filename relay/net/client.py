"""The sync protocol's visiting side: a `Peer` over HTTP.

A thin shell: one pool of TLS connections to one node, calls out, values in. Anything that ends a contact becomes
`Unreachable`; a problem that the node reports becomes the error it names.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from relay.errors import Malformed, NotYet, Refused, RelayError, StoreError, Unkept, Unreachable
from relay.limits import (
    CHUNKS_SECONDS,
    CONNECT_SECONDS,
    HANDSHAKE_SECONDS,
    LARGE_CALLS,
    MAX_GREETING,
    MAX_INQUIRY_WAIT,
    MAX_MESSAGE,
    MAX_NUMBER,
    MAX_PROBLEM,
    MAX_RECONCILE_MESSAGE,
    MAX_RECORDS_MESSAGE,
    MAX_UNSENT,
    RECEIVER_SECONDS,
    SLOWEST,
    STALL_SECONDS,
    STREAMS,
)
from relay.net import deflate, routes
from relay.net.coalescing import in_lots
from relay.net.frames import read_frames
from relay.net.patience import acknowledged, while_moving
from relay.net.sockets import abort, client_socket, takes_back
from relay.records.identifiers import Kind, NodeId, ObjectId, RecordId
from relay.records.statement import files_of
from relay.store.interface import Holding, Want
from relay.sync import messages
from relay.sync.messages import FRAME_HEAD, SPAN, Given, Greeting, Inquiry, InquiryReply, Taken
from relay.sync.peer import Frame, Span
from relay.sync.torn import Mending, TornChunks
from relay.trust.certificates import Identity
from relay.trust.roles import Role

_PLAINLY: Any = {"allow_redirects": False}
"""A node answers for itself: it cannot send this one on to any other address."""

_LOST = (aiohttp.ClientError, ConnectionError, TimeoutError, ssl.SSLError, OSError)


class HttpPeer:
    """The node that answers at `url` (`https://host:port`). Use as an async context manager. `torn` is what contacts
    that ended left of chunks."""

    def __init__(self, url: str, context: ssl.SSLContext, torn: TornChunks | None = None) -> None:
        self.url = url.rstrip("/")
        self._torn = TornChunks() if torn is None else torn
        self._torn_there: dict[Span, int] = {}
        self._connector = _OneNode(
            self._met, ssl=context, limit=2 * STREAMS + 2, keepalive_timeout=30, socket_factory=client_socket
        )
        self._expects_content = False
        self._warming: asyncio.Task[None] | None = None
        self._made = asyncio.Condition()
        self._large = asyncio.Semaphore(LARGE_CALLS)
        self._calls = 0
        """Calls under way that carry records or chunks."""
        self._warm = 0
        """Connections that were made for such calls, and are ready."""
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "relay"},
            skip_auto_headers=("Accept-Encoding",),
        )

    async def __aenter__(self) -> HttpPeer:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the contact."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        self._connector.end_broken()
        await self._session.close()

    def prepare(self) -> None:
        """See `Peer`. The connections for content are made as soon as the first one is there, beside the greeting."""
        self._expects_content = True

    async def meet(self) -> NodeId:
        """Make a connection, and see whose node answers there. Raises what a call raises."""
        await self._ask_nothing()
        identity = self._connector.identity
        assert identity is not None  # what has no certificate makes no connection
        return identity.node

    async def hello(self, mine: Greeting) -> Greeting:
        """See `Peer`."""
        answer = Greeting.decode(await self._call(routes.HELLO, mine.encode(), MAX_GREETING))
        shown, hello = self._connector.identity, answer.hello
        said = (hello.node, hello.name, hello.role, hello.election)
        if shown is None or said != (shown.node, shown.name, shown.role, shown.election):
            raise Refused("false-greeting", f"{self.url} greets as another node than its certificate names")
        self._torn_there = {(object_id, index): length for object_id, index, length in answer.torn}
        return answer

    async def news(self, heard: int, wait: float) -> int:
        """See `Peer`."""
        body = messages.encode_pair(heard, int(wait * 1000))
        return messages.decode_number(await self._call(routes.NEWS, body, MAX_NUMBER, wait + STALL_SECONDS))

    async def reconcile(self, message: bytes) -> bytes:
        """See `Peer`."""
        return await self._call(routes.RECONCILE, message, MAX_RECONCILE_MESSAGE)

    async def inquire(self, inquiry: Inquiry) -> InquiryReply:
        """See `Peer`."""
        patience = STALL_SECONDS + min(inquiry.wait, MAX_INQUIRY_WAIT)
        body = await self._call(routes.INQUIRE, inquiry.encode(), MAX_MESSAGE, patience)
        return InquiryReply.decode(body)

    async def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """See `Peer`."""
        body = await self._call(routes.CONSISTENCY, messages.encode_pair(old_size, new_size), MAX_MESSAGE)
        return messages.decode_path(body)

    async def get_records(self, ids: Sequence[RecordId]) -> Given:
        """See `Peer`."""
        if not self._is_receiver():  # content is brought there, and never fetched
            self._warm_up()
        async with self._large, self._connection():
            body = await self._call(routes.GET_RECORDS, messages.encode_ids(ids), MAX_RECORDS_MESSAGE)
        return Given.decode(body)

    async def put_records(self, records: Sequence[tuple[Kind, bytes]]) -> Taken:
        """See `Peer`."""
        # A receiver has many visitors: who brings it little does so over the one connection that is there.
        if not self._is_receiver() and any(kind is Kind.STATEMENT and files_of(raw) for kind, raw in records):
            self._warm_up()
        async with self._large, self._connection():
            body = await self._call(routes.PUT_RECORDS, messages.encode_records(records), MAX_MESSAGE)
        return Taken.decode(body)

    async def holdings(self, objects: Sequence[ObjectId]) -> list[Holding]:
        """See `Peer`."""
        body = await self._call(routes.HOLDINGS, messages.encode_ids(objects), MAX_MESSAGE)
        return messages.decode_holdings(body)

    async def wants(self, skip: Sequence[ObjectId]) -> list[Want]:
        """See `Peer`."""
        return messages.decode_wants(await self._call(routes.WANTS, messages.encode_ids(skip), MAX_MESSAGE))

    async def missing(self, objects: Sequence[ObjectId]) -> list[tuple[ObjectId, int]]:
        """See `Peer`."""
        body = await self._call(routes.MISSING, messages.encode_ids(objects), MAX_MESSAGE)
        return messages.decode_missing(body)

    async def get_chunks(self, spans: AsyncIterator[Span]) -> AsyncIterator[Frame]:
        """See `Peer`. The call goes on being made while its answer comes: aiohttp's own patience would only begin when
        it has been made."""
        timeout = aiohttp.ClientTimeout(total=CHUNKS_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            async with self._connection(), self._mending() as mending:
                body = (SPAN.pack(*span, mending.ask(span)) async for span in spans)
                async with asyncio.timeout(CONNECT_SECONDS + HANDSHAKE_SECONDS + STALL_SECONDS):
                    response = await self._session.post(
                        self.url + routes.GET_CHUNKS, data=body, timeout=timeout, **_PLAINLY
                    )
                async with response:
                    await self._check(response)
                    connection = response.connection  # none where all of it has come
                    with in_lots(connection.transport if connection else None) as came:
                        async for frame in read_frames(response.content, STALL_SECONDS, mending, came, asked=True):
                            yield frame
        except _LOST as error:
            raise self._lost(error) from error

    async def put_chunks(self, frames: AsyncIterator[Frame]) -> int:
        """See `Peer`. A receiver, whose disk others use as well, may take `RECEIVER_SECONDS` to answer."""
        patience = RECEIVER_SECONDS if self._is_receiver() else STALL_SECONDS
        body = (self._rest(*frame) async for frame in frames)
        async with self._connection():
            return messages.decode_number(await self._call(routes.PUT_CHUNKS, body, MAX_NUMBER, patience))

    @asynccontextmanager
    async def _mending(self) -> AsyncIterator[Mending]:
        """One call by which chunks come; of a node that was not met nothing is here."""
        identity = self._connector.identity
        torn, node = (TornChunks(), "") if identity is None else (self._torn, identity.node.hex())
        with torn.mending(node) as mending:
            yield mending

    def _rest(self, object_id: ObjectId, index: int, data: bytes) -> bytes:
        """The frame of a chunk: what the peer has not of it."""
        begun = self._torn_there.pop((object_id, index), 0)
        rest = data[begun:] or data
        return FRAME_HEAD.pack(object_id, index, len(data) - len(rest), len(rest)) + rest

    def _is_receiver(self) -> bool:
        identity = self._connector.identity
        return identity is not None and identity.role is Role.RECEIVER

    def _met(self) -> None:
        """There is a connection, and the peer is known by it."""
        if self._expects_content and not self._is_receiver():
            self._warm_up()

    def _warm_up(self) -> None:
        """Make the connections that content will need while what comes before it is on its way."""
        if self._warming is None:
            self._warming = asyncio.create_task(self._connect(STREAMS))

    async def _connect(self, count: int) -> None:
        # What fails shows in the calls that matter.
        await asyncio.gather(*(self._make() for _ in range(count)), return_exceptions=True)
        async with self._made:
            self._made.notify_all()

    async def _ask_nothing(self) -> None:
        await self._call(routes.NEWS, messages.encode_pair(-1, 0), MAX_NUMBER)

    async def _make(self) -> None:
        await self._ask_nothing()
        async with self._made:
            self._warm += 1
            self._made.notify_all()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[None]:
        """Within it, a call that carries records or chunks. One goes over the connection that is there; others wait for
        those that are being made, since making one more would take longer."""
        async with self._made:
            await self._made.wait_for(
                lambda: self._calls <= self._warm or self._warming is None or self._warming.done()
            )
            self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            async with self._made:
                self._made.notify_all()

    async def _call(
        self, path: str, content: bytes | AsyncIterator[bytes], limit: int, patience: float = STALL_SECONDS
    ) -> bytes:
        """One call; its answer, of at most `limit` bytes. It is over when nothing moves for `patience` seconds either
        way, and when the answer comes more slowly than `SLOWEST`: who lets it drip does not hold a visit up."""
        total = CHUNKS_SECONDS + patience + limit / SLOWEST
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT_SECONDS)
        headers: dict[str, str] = {}
        if path in deflate.ROUTES and isinstance(content, bytes):
            content, headers = await deflate.deflated(content)
            headers[deflate.ASKED] = deflate.CODING
        body = _Body(content)
        try:
            async with (
                while_moving(body.moved, patience, beginning=CONNECT_SECONDS + HANDSHAKE_SECONDS),
                self._session.post(
                    self.url + path, data=body, headers=headers, timeout=timeout, **_PLAINLY
                ) as response,
            ):
                await self._check(response)
                answer = await _read(response, limit, body)
                body.answered()
                return deflate.inflated(answer, response.headers, limit)
        except _LOST as error:
            raise self._lost(error) from error

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200:
            return
        try:
            document = json.loads(await _read(response, MAX_PROBLEM))
            what = str(document["title"])[:500]
            advice = str(document["detail"])[:500]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"{self.url} answered with status {response.status}"
            raise (Unreachable(what, "It is tried again.") if response.status >= 500 else Malformed(what)) from error
        raise _named(document, response.status, what, advice)

    def _lost(self, error: Exception) -> RelayError:
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
            return Refused(
                "bad-handshake", f"{self.url} and this node do not accept each other's certificates ({error})"
            )
        return Unreachable(f"The contact with {self.url} ended ({type(error).__name__}: {error})", "It is tried again.")


class _OneNode(aiohttp.TCPConnector):
    """Connections to one node: who it is by its certificate, and the same on every connection."""

    identity: Identity | None = None

    def __init__(self, met: Callable[[], None], **options: Any) -> None:
        """`met` is called when there is a connection; `options` are aiohttp's."""
        super().__init__(**options)
        self._tell_met = met
        self._connections: WeakSet[asyncio.Transport] = WeakSet()

    def end_broken(self) -> None:
        """End at once what broken calls left: what they had not sent is not sent any more."""
        for transport in list(self._connections):
            if transport.is_closing():
                abort(transport)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        transport = connection.transport
        secured = transport.get_extra_info("ssl_object") if transport is not None else None
        identity: Identity | None = getattr(secured, "identity", None)
        if identity is None or (self.identity is not None and identity.node != self.identity.node):
            connection.close()
            raise Refused("other-node", "An address led to one node, and then to another")
        self.identity = identity
        assert transport is not None  # it has a certificate
        self._connections.add(transport)
        self._tell_met()
        return connection


class _Body(aiohttp.AsyncIterablePayload):
    """What is sent with a call: whole, with its length, or part by part as the link takes it."""

    def __init__(self, content: bytes | AsyncIterator[bytes]) -> None:
        super().__init__(_alone(content) if isinstance(content, bytes) else content)
        self._size = len(content) if isinstance(content, bytes) else None
        self._transport: asyncio.Transport | None = None
        self.steps = 0
        """Parts that were written, and parts of the answer that came."""

    def moved(self) -> tuple[int, int]:
        """What changes while a call gets on."""
        return self.steps, acknowledged(self._transport)

    def answered(self) -> None:
        """Say that it has come whole: nothing of it is under way."""
        takes_back(self._transport, False)

    async def write_with_length(self, writer: AbstractStreamWriter, _length: int | None) -> None:
        """Write it to a connection, on which no more than `MAX_UNSENT` bytes are to wait."""
        assert isinstance(writer, StreamWriter)
        self._transport = writer.transport
        takes_back(self._transport, True)
        if self._transport is not None:
            self._transport.set_write_buffer_limits(MAX_UNSENT)
        async for part in self._value:
            self.steps += 1
            await writer.write(part)


async def _alone(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _named(document: dict[str, Any], status: int, what: str, advice: str) -> RelayError:
    if status == Refused.status:
        return Refused(str(document.get("reason", "refused"))[:64], what, advice, _evidence(document))
    if status >= 500:
        kinds = {f"relay:problem/{NotYet.kind}": NotYet, f"relay:problem/{StoreError.kind}": Unkept}
        return kinds.get(str(document.get("type")), Unreachable)(what, advice)
    return Malformed(what, advice)


def _evidence(document: dict[str, Any]) -> bytes:
    """The record that a refusal comes with: to be judged like any other."""
    try:
        return base64.b64decode(str(document.get("evidence", "")), validate=True)
    except ValueError:
        return b""


async def _read(response: aiohttp.ClientResponse, limit: int, body: _Body | None = None) -> bytes:
    """The whole answer, at most `limit` bytes; what comes of it is noted with what was sent."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > limit:
            raise Malformed(f"A peer's answer is over its limit of {limit} bytes")
        parts.append(part)
        if body is not None:
            body.steps += 1
    return b"".join(parts)
