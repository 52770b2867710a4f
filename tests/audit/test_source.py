"""Whoever serves a log can neither keep its reader nor send him elsewhere (promises 8 and 10)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from aiohttp import web

from relay.errors import BadInput, Malformed, NotHeld, Unreachable
from relay.net.source import open_source

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served_by(handler: Handler) -> AsyncIterator[str]:
    """A web server that answers everything in one way; its URL."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["http://127.0.0.1:{port}/log/checkpoint", "/secret"])
async def test_a_server_sends_nobody_elsewhere(status: int, to: str) -> None:
    asked: list[str] = []

    async def inside(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=b"a secret of this network")

    async def away(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=status, headers={"Location": place})

    async with served_by(inside) as network, served_by(away) as url, open_source(url) as source:
        place = to.format(port=network.rpartition(":")[2])
        with pytest.raises(BadInput, match="is not followed") as told:
            await source.read("checkpoint", 1_000)
        assert asked == ["/checkpoint"]
        if place != "/secret":  # where it goes to is a log's address: that is what to give instead
            assert told.value.advice.endswith(f"{network}/log")


async def test_a_file_that_hardly_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(0.0, 30.0)
    monkeypatch.setattr("relay.net.source._now", lambda: next(clock))
    monkeypatch.setattr("relay.net.source.SOURCE_PATIENCE_SECONDS", 0.0)
    gone = asyncio.Event()

    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await gone.wait()
        return response

    async with served_by(dripping) as url, open_source(url) as source:
        await asyncio.gather(*(_hardly(work) for work in (source.read("a", 9), source.digest("b", 9))))
        gone.set()


async def _hardly(work: Awaitable[object]) -> None:
    with pytest.raises(Unreachable, match="hardly anything"):
        async with asyncio.timeout(10):
            await work


async def test_an_answer_that_does_not_begin_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.net.source.SOURCE_ANSWER_SECONDS", 0.05)
    monkeypatch.setattr("relay.net.source.SOURCE_PATIENCE_SECONDS", 0.0)
    gone = asyncio.Event()

    async def silent(_request: web.Request) -> web.Response:
        await gone.wait()
        return web.Response()

    async with served_by(silent) as url, open_source(url) as source:
        with pytest.raises(Unreachable):
            async with asyncio.timeout(10):
                await source.read("a", 9)
        gone.set()


async def test_many_files_wait_for_their_turn_and_not_against_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that queue behind others are not late: their time begins when the server is asked."""
    monkeypatch.setattr("relay.net.source.SOURCE_STREAMS", 1)
    open_now: list[int] = []
    most = 0

    async def counting(_request: web.Request) -> web.Response:
        nonlocal most
        open_now.append(1)
        most = max(most, len(open_now))
        await asyncio.sleep(0)  # others would come in here
        open_now.pop()
        return web.Response(body=b"x")

    async with served_by(counting) as url, open_source(url) as source:
        assert await source.read_all([str(one) for one in range(40)], 9) == [b"x"] * 40
    assert most == 1


async def test_a_folder_has_plain_files_only(tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "log"
    folder.mkdir()
    secret.write_bytes(b"of this machine")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(secret)
    (folder / "device").symlink_to("/dev/zero")
    (folder / "folder").mkdir()
    (folder / "file").write_bytes(b"plain")
    async with open_source(folder.as_uri()) as source:
        for path in ("pipe", "link", "device"):
            for read in (source.read, source.digest):
                with pytest.raises(Malformed, match=f"{path} is no plain file"):
                    async with asyncio.timeout(10):
                        await read(path, 1_000)
        with pytest.raises(NotHeld):
            await source.read("folder", 1_000)
        assert await source.read("file", 1_000) == b"plain"


async def test_a_folder_that_is_reached_by_a_link_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "file").write_bytes(b"plain")
    (tmp_path / "stick").symlink_to(tmp_path / "log")
    async with open_source((tmp_path / "stick").as_uri()) as source:
        assert await source.read("file", 1_000) == b"plain"
