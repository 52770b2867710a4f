"""The door: who lies idle or reads too slowly makes room, who reads steadily does not, no address takes all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from relay.limits import IDLE_CONNECTION_SECONDS, MIB, SLOWEST
from relay.net.door import Door, any_address, public_address
from relay.net.sockets import listen
from relay.web.sending import FromDisk

LARGE = 24 * MIB
"""More than what the kernel holds of an answer that nobody reads."""


@asynccontextmanager
async def serving(folder: Path, answer: str, **settings: Any) -> AsyncIterator[tuple[Door, tuple[str, int]]]:
    """A door to a large file, sent in one way or another, and its address."""
    large = folder / "large"
    with large.open("wb") as file:
        file.truncate(LARGE)

    async def give(request: web.Request) -> web.StreamResponse:
        with door.call(request.transport):
            return web.FileResponse(large) if answer == "FileResponse" else FromDisk(large.open("rb"), {})

    async def word(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="here")

    app = web.Application()
    app.add_routes([web.get("/large", give), web.get("/word", word)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    assert runner.server is not None
    door = Door(runner.server, **settings)
    listening = listen("127.0.0.1:0")
    door.open(listening)
    try:
        yield door, listening.getsockname()
    finally:
        await door.close()
        await runner.cleanup()


async def asking(crowd: ExitStack, address: tuple[str, int], path: str, *fields: str) -> socket.socket:
    """A connection that asks, and reads as the test says."""
    loop = asyncio.get_running_loop()
    talk = crowd.enter_context(socket.socket())
    talk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    talk.setblocking(False)
    await loop.sock_connect(talk, address)
    await loop.sock_sendall(talk, "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode())
    return talk


async def read(talk: socket.socket, size: int) -> int:
    """Read so many bytes, or to the end; how many came."""
    loop, came = asyncio.get_running_loop(), 0
    while came < size:
        try:
            part = await loop.sock_recv(talk, 65_536)
        except ConnectionError:
            break
        if not part:
            break
        came += len(part)
    return came


@pytest.mark.parametrize("answer", ["FileResponse", "FromDisk"])
async def test_who_reads_steadily_is_not_idle_and_who_stops_reading_is_let_go(tmp_path: Path, answer: str) -> None:
    part = int(2 * SLOWEST * IDLE_CONNECTION_SECONDS)
    with ExitStack() as crowd:
        async with serving(tmp_path, answer) as (door, address), asyncio.timeout(30):
            talk = await asking(crowd, address, "/large")
            now, came = asyncio.get_running_loop().time(), 0
            for _ in range(4):
                came += await read(talk, part)
                now += IDLE_CONNECTION_SECONDS - 5
                door.look_around(now)
            door.look_around(now + IDLE_CONNECTION_SECONDS + 5)
            left = await read(talk, LARGE)
            assert 4 * part <= came <= came + left < LARGE


@pytest.mark.parametrize("answer", ["FileResponse", "FromDisk"])
async def test_sockets_after_one_that_was_let_go_while_a_file_was_sent_are_served(tmp_path: Path, answer: str) -> None:
    """The number of a socket that the kernel sends on is not given to another one while it does."""
    with ExitStack() as crowd:
        async with serving(tmp_path, answer) as (door, address), asyncio.timeout(30):
            slow = [await asking(crowd, address, "/large") for _ in range(8)]
            for talk in slow:
                await read(talk, 1)
            door.look_around(asyncio.get_running_loop().time() + 10 * IDLE_CONNECTION_SECONDS)
            for talk in slow:
                assert await read(talk, LARGE) < LARGE
            for _ in range(16):
                talk = await asking(crowd, address, "/word", "Connection: close")
                assert await read(talk, LARGE) > 4


async def test_an_address_has_its_places_and_no_more(tmp_path: Path) -> None:
    with ExitStack() as crowd:
        async with (
            serving(tmp_path, "FromDisk", known_by=any_address, most_each=3) as (_, address),
            asyncio.timeout(30),
        ):
            first = await asking(crowd, address, "/large")
            await read(first, 1)
            others = [await asking(crowd, address, "/large") for _ in range(3)]
            for talk in others:
                await read(talk, 1)
            assert await read(first, LARGE) < LARGE, "it made room for the last one"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "10.0.0.5", "192.168.1.7", "::ffff:10.0.0.5", "fe80::1%wlan0", "fd00::7"]
)
def test_a_web_server_on_a_private_address_speaks_for_everybody(address: str) -> None:
    assert public_address(address) == b""


def test_the_public_is_known_by_its_address_and_of_ipv6_by_its_network() -> None:
    assert public_address("36.66.1.2") == public_address("::ffff:36.66.1.2") != public_address("36.66.1.3")
    assert public_address("2a03:2880::1") == public_address("2a03:2880::ffff:2") != public_address("2a03:2881::1")
