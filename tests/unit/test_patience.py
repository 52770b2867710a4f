"""Patience with slow links: a call ends when nothing moves, and not before."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay.errors import Unreachable
from relay.net import client, routes
from relay.net.client import HttpPeer, _OneNode
from relay.net.patience import acknowledged, while_moving
from relay.records.identifiers import ObjectId
from relay.sync import messages
from relay.sync.peer import Frame

SHORT = 0.05
LOOKED = 20
"""Looks that take several times `SHORT` seconds."""


class Link:
    """A link whose bytes move at each look; `looked` is set after many."""

    def __init__(self) -> None:
        self._looks = itertools.count()
        self.looked = asyncio.Event()

    def moved(self, *_of: object) -> int:
        """Bytes that moved until now."""
        look = next(self._looks)
        if look == LOOKED:
            self.looked.set()
        return look


async def test_what_moves_goes_on_for_as_long_as_it_takes() -> None:
    link = Link()
    async with while_moving(link.moved, SHORT):
        await link.looked.wait()


async def test_what_stands_still_ends() -> None:
    with pytest.raises(TimeoutError):
        async with while_moving(lambda: 0, SHORT):
            await asyncio.Event().wait()


async def test_what_moved_and_stands_still_ends() -> None:
    looks = itertools.chain(range(LOOKED), itertools.repeat(LOOKED))
    with pytest.raises(TimeoutError):
        async with while_moving(looks.__next__, SHORT, beginning=3_600):
            await asyncio.Event().wait()


async def test_the_beginning_may_take_longer() -> None:
    looks, looked = itertools.count(), asyncio.Event()

    def moved() -> int:
        if next(looks) == LOOKED:
            looked.set()
        return 0

    async with while_moving(moved, SHORT, beginning=3_600):
        await looked.wait()


async def test_bytes_are_counted_as_the_other_side_acknowledges_them() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with listening:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        before = acknowledged(writer.transport)
        accepted, _ = listening.accept()
        with accepted:
            writer.write(bytes(1_000))
            assert await asyncio.to_thread(accepted.recv, 1_000, socket.MSG_WAITALL) == bytes(1_000)
            accepted.sendall(b"!")  # carries the acknowledgement, if nothing did before
            assert await reader.readexactly(1) == b"!"
            assert acknowledged(writer.transport) == before + 1_000
        writer.close()
        await writer.wait_closed()
        assert acknowledged(writer.transport) == 0
    assert acknowledged(None) == 0


async def _frames() -> AsyncIterator[Frame]:
    yield ObjectId(bytes(32)), 0, bytes(64 << 10)


@pytest.fixture
async def bringing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[HttpPeer, Link]]:
    """A peer that answers once the link was looked at many times, and what the client takes for the link."""
    link = Link()
    monkeypatch.setattr(_OneNode, "connect", aiohttp.TCPConnector.connect)
    monkeypatch.setattr(client, "STALL_SECONDS", SHORT)

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        await link.looked.wait()
        return web.Response(body=messages.encode_number(1))

    app = web.Application()
    app.router.add_post(routes.PUT_CHUNKS, answer)
    async with TestServer(app) as server, HttpPeer(str(server.make_url("")), ssl.create_default_context()) as peer:
        yield peer, link
        link.looked.set()


async def test_a_call_outlives_its_patience_while_its_bytes_move(
    bringing: tuple[HttpPeer, Link], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, link = bringing
    monkeypatch.setattr(client, "acknowledged", link.moved)
    assert await peer.put_chunks(_frames()) == 1


async def test_a_call_of_which_nothing_moves_is_given_up(
    bringing: tuple[HttpPeer, Link], monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, _ = bringing
    monkeypatch.setattr(client, "acknowledged", lambda _: 0)
    with pytest.raises(Unreachable):
        await peer.put_chunks(_frames())
