"""Readers of a shared store that hangs: those who are gone cost nothing, and those who wait leave `/ready` a place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web

from relay.limits import (
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    MAX_OBJECT_READS,
    MAX_PUBLIC_CALLS,
    MAX_RECORD_READS,
    MAX_SHELF_READS,
    PUBLIC_PATIENCE_SECONDS,
)
from relay.net.sockets import listen
from relay.store.interface import Store
from relay.web.missing import with_way_back
from relay.web.public import PublicSite, serving_public

DIGEST = f"{{:0{64}x}}"
PLACES = (
    ("/page-{}.html", MAX_SHELF_READS),
    (f"/object/{DIGEST}", MAX_OBJECT_READS),
    (f"/receipt/{DIGEST}", MAX_RECORD_READS),
)


class Hanging:
    """A store that answers nobody, and says itself that it is well. Counts the calls that it has begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.answers = asyncio.Event()
        self.shelf = SimpleNamespace(read=self.hang)
        self.object_path = self.bundle = self.hang

    async def hang(self, _name: object) -> None:
        """Answer when the test lets it."""
        self.begun += 1
        await self.answers.wait()

    async def log_state(self) -> None:
        """See `Store`."""


class Public:
    """A public port, and what strangers do to it."""

    def __init__(self, store: Hanging, address: tuple[str, int]) -> None:
        self.store = store
        self.address = address

    async def ask(self, path: str, *fields: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which something was asked for."""
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode())
        return reader, writer

    async def ready(self) -> bytes:
        """What a balancer is told."""
        reader, writer = await self.ask("/ready", "Connection: close")
        try:
            return (await reader.read()).partition(b"\r\n")[0]
        finally:
            writer.close()


@pytest.fixture
async def public(tmp_path: Path) -> AsyncIterator[Public]:
    """The public port of a receiver whose bucket hangs."""
    store = Hanging()
    app = web.Application(middlewares=[with_way_back("/static/site.css")])
    app.add_routes(PublicSite(cast(Store, store), tmp_path / "served").routes())
    listening = listen("127.0.0.1:0")
    async with serving_public(app, listening):
        yield Public(store, listening.getsockname())
        store.answers.set()


async def until(seen: Callable[[], bool]) -> None:
    """Return when something is to be seen."""
    async with asyncio.timeout(60):
        while not seen():  # noqa: ASYNC110 - nothing rings
            await asyncio.sleep(0)


async def head(reader: asyncio.StreamReader) -> bytes:
    """The head of an answer, if it comes soon."""
    async with asyncio.timeout(20):
        return await reader.readuntil(b"\r\n\r\n")


def tasks() -> int:
    """How many there are."""
    return len(asyncio.all_tasks())


@pytest.mark.parametrize(("path", "at_once"), PLACES, ids=["pages", "objects", "records"])
async def test_readers_who_have_gone_leave_nothing_to_be_done(public: Public, path: str, at_once: int) -> None:
    before = tasks()
    for crowd in range(4):  # of each reader his connection, his call and his read
        leaving = [(await public.ask(path.format(crowd * 250 + place)))[1] for place in range(250)]
        here = before + 3 * len(leaving) + (at_once if crowd else 0)
        await until(lambda here=here: tasks() >= here)  # type: ignore[misc]
        for one in leaving:
            one.transport.abort()
        await until(lambda: tasks() <= before + at_once)
    assert public.store.begun == at_once, "nothing was begun for those who had gone"
    public.store.answers.set()
    await until(lambda: tasks() <= before)
    assert public.store.begun == at_once


async def test_ready_is_answered_while_as_many_wait_as_are_let_in_and_the_others_are_told_to_come_again(
    public: Public,
) -> None:
    assert MAX_PUBLIC_CALLS + 2 * MAX_CONNECTIONS_PER_ADDRESS <= MAX_CONNECTIONS
    waiting = [await public.ask(f"/page-{place}.html") for place in range(MAX_PUBLIC_CALLS)]
    assert await public.ready() == b"HTTP/1.1 200 OK"
    sent_away = [await public.ask(f"/other-{place}.html") for place in range(MAX_CONNECTIONS - MAX_PUBLIC_CALLS + 20)]
    for reader, _ in sent_away:
        told = b""
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # it made room for one who came later
            told = await head(reader)
        assert not told or (told.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 5\r\n" in told)
    assert await public.ready() == b"HTTP/1.1 200 OK"
    public.store.answers.set()
    for reader, _ in waiting:
        assert (await head(reader)).startswith(b"HTTP/1.1 404 "), "who waited is answered"
    for _, writer in waiting + sent_away:
        writer.close()


@pytest.mark.parametrize(("lang", "said"), [("id", "Terlalu banyak"), ("en", "Too many are reading")])
async def test_a_person_for_whom_there_is_no_place_is_told_so_and_the_page_comes_again_by_itself(
    public: Public, lang: str, said: str
) -> None:
    waiting = [await public.ask(f"/page-{place}.html") for place in range(MAX_PUBLIC_CALLS)]
    assert await public.ready() == b"HTTP/1.1 200 OK"  # they were before it
    reader, writer = await public.ask("/", "Accept: text/html", f"Accept-Language: {lang}", "Connection: close")
    told, _, page = (await reader.read()).decode().partition("\r\n\r\n")
    assert told.startswith("HTTP/1.1 503 ") and "\r\nRefresh: 5" in told and said in page
    for _, one in [*waiting, (reader, writer)]:
        one.close()


async def test_who_waited_for_too_long_is_told_to_come_again(public: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it that nobody sees that he has gone: a stranger who sends ever more is not read, and neither is his end."""
    loop, before = asyncio.get_running_loop(), tasks()
    asked = [await public.ask(f"/page-{place}.html") for place in range(20)]
    await until(lambda: tasks() >= before + 3 * len(asked))  # of each its connection, its call and its read
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + PUBLIC_PATIENCE_SECONDS + 1)
    for reader, writer in asked:
        assert (await head(reader)).startswith(b"HTTP/1.1 503 ")
        writer.close()
