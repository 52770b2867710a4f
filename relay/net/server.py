"""The sync protocol's listening side: HTTP calls in, `Host` answers out.

A thin shell: it finds out who visits (TLS has the certificate), bounds what is read, and translates errors into RFC
9457 problems. Slow and silent visitors are let go; what they brought and was checked stays.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from socket import socket

from aiohttp import web

from relay.errors import REVOKED, Malformed, Refused, RelayError, Unreachable
from relay.limits import (
    CHUNKS_SECONDS,
    LINGERING_SECONDS,
    MAX_BODIES,
    MAX_CALLS_PER_PEER,
    MAX_CHUNKS_CALL,
    MAX_CONNECTIONS,
    MAX_GREETING,
    MAX_HANDSHAKES,
    MAX_LARGE_CALLS_PER_PEER,
    MAX_MESSAGE,
    MAX_PAIR,
    MAX_RECONCILE_MESSAGE,
    MAX_RECORDS_MESSAGE,
    MAX_UNSENT,
    READ_AHEAD,
    RECORDS_AT_WORK,
    SLOWEST,
    STALL_SECONDS,
)
from relay.net import deflate, routes
from relay.net.bodies import Bodies
from relay.net.coalescing import in_lots
from relay.net.door import Door
from relay.net.frames import read_frames, read_spans
from relay.net.patience import acknowledged, while_moving
from relay.net.sockets import abort
from relay.records.identifiers import ObjectId, RecordId
from relay.sync import messages
from relay.sync.host import Host
from relay.sync.messages import FRAME_HEAD, Greeting, Inquiry
from relay.sync.peer import Span
from relay.trust.certificates import Identity

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request, Host], Awaitable[web.StreamResponse]]
Presence = Callable[[Identity, bool], AbstractContextManager[None]]
"""What every call is within: who calls, and whether it is in a visit (a call for news only waits)."""


_BODIES = web.AppKey("bodies", Bodies)
_WAITING = web.AppKey("waiting", set[int])
"""Calls that wait for more of their body, or for their answer to be read."""
_RECORDS = web.AppKey("records", asyncio.Semaphore)
"""Turns at batches of records, which take several times their bytes. Nobody waits for a visitor within one."""


class SyncServer:
    """Listens for visitors on one socket."""

    def __init__(
        self,
        host_for: Callable[[Identity], Host],
        identify: Callable[[bytes], Identity],
        context: ssl.SSLContext,
        presence: Presence = lambda _identity, _visiting: nullcontext(),
        most: int = MAX_CONNECTIONS,
        handshakes: int = MAX_HANDSHAKES,
        bodies: int = MAX_BODIES,
    ) -> None:
        self._host_for = host_for
        self._identify = identify
        self._context = context
        self._presence = presence
        self._most, self._handshakes = most, handshakes
        self._calls: Counter[bytes] = Counter()
        self._large: dict[bytes, dict[int, web.Request]] = {}
        """Large calls under way by node, the oldest first."""
        self._waiting: set[int] = set()
        self._bodies = Bodies(bodies)
        self._runner: web.AppRunner | None = None
        self._door: Door | None = None

    async def start(self, listening: socket) -> None:
        """Serve on a socket that listens already."""
        self._runner = self.runner()
        await self._runner.setup()
        assert self._runner.server is not None
        self._door = Door(self._runner.server, self._context, self._most, self._handshakes)
        self._door.open(listening)

    def runner(self) -> web.AppRunner:
        """What answers on connections, wherever they come from. Nothing is inflated but records, within their limit."""
        app = web.Application(client_max_size=MAX_RECORDS_MESSAGE)
        app[_BODIES] = self._bodies
        app[_WAITING] = self._waiting
        app[_RECORDS] = asyncio.Semaphore(RECORDS_AT_WORK)
        for path, handler in _HANDLERS.items():
            app.router.add_post(path, self._guarded(path, handler))
        return web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            auto_decompress=False,
            lingering_time=LINGERING_SECONDS,
            read_bufsize=READ_AHEAD,
            shutdown_timeout=1.0,
        )

    async def stop(self) -> None:
        """Stop listening and let visitors go."""
        if self._door is not None:
            await self._door.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def _guarded(self, path: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                identity = self._visitor(request)
                with self._at_work(request, identity, path), self._presence(identity, path != routes.NEWS):
                    response = await handler(request, self._host_for(identity))
                    if isinstance(response, web.Response) and isinstance(response.body, bytes):
                        response = await _send(request, response.body, response.headers)
                    return response
            except RelayError as error:
                logger.info("answered %s with a problem: %s", path, error.what)
                answer = problem(error)
                if isinstance(error, Refused) and error.reason == REVOKED:
                    answer.force_close()  # that was all it had to hear
                return answer
            except TimeoutError:
                request.protocol.force_close()
                return problem(Malformed("A visitor stalled in the middle of a call"))
            except OSError:  # boats sail, interfaces go: no fault of this program's, and nobody is left to be answered
                logger.debug("a visitor left in the middle of %s", path)
                request.protocol.force_close()
                return problem(Unreachable("A visitor left in the middle of a call", "It goes on at the next visit."))

        return guarded

    @contextmanager
    def _at_work(self, request: web.Request, identity: Identity, path: str) -> Iterator[None]:
        """Within it, a visitor's call counts. Raises `Refused` when it makes more at once than a visit needs."""
        node = identity.node
        if self._calls[node] >= MAX_CALLS_PER_PEER or (path in _LARGE and not self._has_turn(node)):
            raise Refused("too-many-calls", f"{identity.name} makes more calls at once than a visit needs")
        self._calls[node] += 1
        if path in _LARGE:
            self._large.setdefault(node, {})[id(request)] = request
        self._bodies.begin(request, node)
        try:
            with self._door.call(request.transport) if self._door is not None else nullcontext():
                yield
        finally:
            self._bodies.release(request)
            self._large.get(node, {}).pop(id(request), None)
            self._calls[node] -= 1
            if not self._calls[node]:
                del self._calls[node]
                self._large.pop(node, None)

    def _has_turn(self, node: bytes) -> bool:
        """Whether a node may begin one more large call. The oldest one that waits for the node itself gives way: it is
        of a contact that broke, and of which nobody else has told yet."""
        begun = self._large.get(node, {})
        if len(begun) < MAX_LARGE_CALLS_PER_PEER:
            return True
        stale = next((request for call, request in begun.items() if call in self._waiting), None)
        if stale is not None:
            del begun[id(stale)]
            if stale.transport is not None:
                abort(stale.transport)
        return stale is not None

    def _visitor(self, request: web.Request) -> Identity:
        transport = request.transport
        connection = transport.get_extra_info("ssl_object") if transport is not None else None
        certificate = connection.getpeercert(binary_form=True) if connection is not None else None
        if not certificate:
            raise Refused("no-certificate", "A visitor has no certificate")
        return self._identify(certificate)


def problem(error: RelayError) -> web.Response:
    """An error as problem details (RFC 9457)."""
    document: dict[str, object] = {
        "type": f"relay:problem/{error.kind}",
        "title": error.what,
        "status": error.status,
        "detail": error.advice,
    }
    if isinstance(error, Refused):
        document["reason"] = error.reason
        if error.evidence:
            document["evidence"] = base64.b64encode(error.evidence).decode()
    body = json.dumps(document, ensure_ascii=False)
    return web.Response(status=error.status, text=body, content_type=routes.PROBLEM_TYPE)


async def _body(request: web.Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes, while it keeps coming."""
    if request.content_length is not None and request.content_length > limit:
        raise Malformed(f"A call of {request.content_length} bytes is over its limit of {limit}")
    parts: list[bytes] = []
    size = 0
    while True:
        if request.content.is_eof():  # all has come with the head, as small bodies do
            part = request.content.read_nowait()
        else:
            async with asyncio.timeout(STALL_SECONDS):
                with _waiting(request):
                    part = await request.content.readany()
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > limit:
            raise Malformed(f"A call is over its limit of {limit} bytes")
        parts.append(part)
        request.app[_BODIES].add(request, len(part))


@contextmanager
def _waiting(request: web.Request) -> Iterator[None]:
    """Within it, a call waits for its visitor."""
    waiting = request.app[_WAITING]
    waiting.add(id(request))
    try:
        yield
    finally:
        waiting.discard(id(request))


def _inflated(request: web.Request, body: bytes, limit: int) -> bytes:
    """A question as it was meant, which counts among what calls hold by what it is and not by what came of it."""
    content = deflate.inflated(body, request.headers, limit)
    request.app[_BODIES].add(request, len(content) - len(body))
    return content


def _reply(body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=body, content_type=routes.MEDIA_TYPE, headers=headers)


async def _deflated(request: web.Request, body: bytes) -> web.Response:
    """An answer with records, in fewer bytes for who takes it so; it counts among what calls hold."""
    headers: dict[str, str] = {}
    if request.headers.get(deflate.ASKED) == deflate.CODING:
        body, headers = await deflate.deflated(body)
    request.app[_BODIES].add(request, len(body))
    return _reply(body, headers)


async def _send(request: web.Request, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send an answer while its call counts, part by part: a visitor that does not read holds one part up, and is let
    go."""
    response = web.StreamResponse(headers=headers)
    response.content_length = left = len(body)
    async with (
        asyncio.timeout(CHUNKS_SECONDS + left / SLOWEST),
        while_moving(lambda: (left, acknowledged(request.transport)), STALL_SECONDS),
    ):
        await _prepare(request, response)
        with _waiting(request):
            for start in range(0, len(body), MAX_UNSENT):
                await response.write(body[start : start + MAX_UNSENT])
                left -= MAX_UNSENT
            await response.write_eof()
    return response


async def _prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Begin an answer of which no more than `MAX_UNSENT` bytes are to wait."""
    if request.transport is not None:
        request.transport.set_write_buffer_limits(MAX_UNSENT)
    await response.prepare(request)


async def _hello(request: web.Request, host: Host) -> web.StreamResponse:
    mine = Greeting.decode(_inflated(request, await _body(request, MAX_GREETING), MAX_GREETING))
    return await _deflated(request, (await host.hello(mine)).encode())


async def _news(request: web.Request, host: Host) -> web.StreamResponse:
    heard, wait = messages.decode_pair(await _body(request, MAX_PAIR))
    return _reply(messages.encode_number(await host.news(heard, max(wait, 0) / 1000)))


async def _reconcile(request: web.Request, host: Host) -> web.StreamResponse:
    return _reply(await host.reconcile(await _body(request, MAX_RECONCILE_MESSAGE)))


async def _inquire(request: web.Request, host: Host) -> web.StreamResponse:
    inquiry = Inquiry.decode(_inflated(request, await _body(request, MAX_MESSAGE), MAX_MESSAGE))
    return await _deflated(request, (await host.inquire(inquiry)).encode())


async def _consistency(request: web.Request, host: Host) -> web.StreamResponse:
    sizes = messages.decode_pair(await _body(request, MAX_PAIR))
    return _reply(messages.encode_path(await host.consistency(*sizes)))


async def _get_records(request: web.Request, host: Host) -> web.StreamResponse:
    body = _inflated(request, await _body(request, MAX_MESSAGE), MAX_MESSAGE)
    ids = [RecordId(one) for one in messages.decode_ids(body)]
    async with request.app[_RECORDS]:
        return await _deflated(request, (await host.get_records(ids)).encode())


async def _put_records(request: web.Request, host: Host) -> web.StreamResponse:
    body = await _body(request, MAX_RECORDS_MESSAGE)
    async with request.app[_RECORDS]:
        body = _inflated(request, body, MAX_RECORDS_MESSAGE)
        return await _deflated(request, (await host.put_records(messages.decode_records(body))).encode())


async def _holdings(request: web.Request, host: Host) -> web.StreamResponse:
    objects = [ObjectId(one) for one in messages.decode_ids(await _body(request, MAX_MESSAGE))]
    return _reply(messages.encode_holdings(await host.holdings(objects)))


async def _wants(request: web.Request, host: Host) -> web.StreamResponse:
    skip = [ObjectId(one) for one in messages.decode_ids(await _body(request, MAX_MESSAGE))]
    return _reply(messages.encode_wants(await host.wants(skip)))


async def _missing(request: web.Request, host: Host) -> web.StreamResponse:
    objects = [ObjectId(one) for one in messages.decode_ids(await _body(request, MAX_MESSAGE))]
    return _reply(messages.encode_missing(await host.missing(objects)))


async def _get_chunks(request: web.Request, host: Host) -> web.StreamResponse:
    """The answer comes while the visitor goes on asking, which it may do no sooner than a slow link brings it."""
    response = web.StreamResponse(headers={"Content-Type": routes.MEDIA_TYPE})
    left = MAX_CHUNKS_CALL
    there = 0

    async def asked() -> AsyncIterator[Span]:
        nonlocal there
        async for span, begun in read_spans(request.content):
            there = begun
            yield span

    try:
        async with (
            asyncio.timeout(CHUNKS_SECONDS),
            while_moving(lambda: (left, acknowledged(request.transport)), STALL_SECONDS),
        ):
            async for object_id, index, data in host.get_chunks(asked()):
                rest = data[there:]
                left -= FRAME_HEAD.size + len(data)  # which was read, however little of it goes
                if left < 0:
                    raise Malformed(f"A visitor asks for more than {MAX_CHUNKS_CALL} bytes of chunks in one call")
                if not response.prepared:
                    await _prepare(request, response)
                await response.write(FRAME_HEAD.pack(object_id, index, there if rest else 0, len(rest)) + rest)
            if not response.prepared:
                await _prepare(request, response)
            await response.write_eof()
    except RelayError as error:
        if not response.prepared:
            raise
        # The stream has begun: it can only be cut, which the visitor notices.
        logger.info("stopped sending chunks: %s", error.what)
        request.protocol.force_close()
    return response


async def _put_chunks(request: web.Request, host: Host) -> web.StreamResponse:
    with in_lots(request.transport) as came, host.mending() as mending:
        held = partial(request.app[_BODIES].add, request)
        frames = read_frames(request.content, STALL_SECONDS, mending, came, held)
        return _reply(messages.encode_number(await host.put_chunks(frames)))


_HANDLERS: dict[str, Handler] = {
    routes.HELLO: _hello,
    routes.NEWS: _news,
    routes.RECONCILE: _reconcile,
    routes.INQUIRE: _inquire,
    routes.CONSISTENCY: _consistency,
    routes.GET_RECORDS: _get_records,
    routes.PUT_RECORDS: _put_records,
    routes.HOLDINGS: _holdings,
    routes.WANTS: _wants,
    routes.MISSING: _missing,
    routes.GET_CHUNKS: _get_chunks,
    routes.PUT_CHUNKS: _put_chunks,
}

_LARGE = frozenset({routes.HELLO, routes.RECONCILE, routes.GET_RECORDS, routes.PUT_RECORDS})
"""Calls that may take some memory or time; a visit makes two of them at a time: it gives records, and takes some."""
