"""The visiting side of the sync protocol: which calls wait for connections that are being made, and how long."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from relay.errors import Unreachable
from relay.limits import STREAMS
from relay.net import routes
from relay.net.client import HttpPeer
from relay.records.identifiers import Kind, RecordId
from relay.sync import messages
from relay.sync.messages import Given, Taken

_ANSWERS = {
    routes.NEWS: messages.encode_number(0),
    routes.GET_RECORDS: Given([]).encode(),
    routes.PUT_RECORDS: Taken([]).encode(),
}
_GREW = 100
"""Rounds of the loop after which whatever could be called has been."""


class Contact:
    """A peer whose calls are answered when the test says so, and who asks it for records."""

    def __init__(self, peer: HttpPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        self._peer = peer
        self._calls: list[tuple[str, asyncio.Future[bytes]]] = []
        self._asking: list[asyncio.Task[object]] = []
        monkeypatch.setattr(peer, "_call", self._call)

    async def _call(self, path: str, *_more: object) -> bytes:
        self._calls.append((path, asyncio.get_running_loop().create_future()))
        return await self._calls[-1][1]

    def take(self) -> None:
        """Ask for a record, which is a call like any that carries records or chunks."""
        self._asking.append(asyncio.create_task(self._peer.get_records([RecordId(bytes(32))])))

    def give(self) -> None:
        """Hand a record over."""
        self._asking.append(asyncio.create_task(self._peer.put_records([(Kind.NOTICE, b"notice")])))

    async def under_way(self) -> list[str]:
        """The calls that were made and have no answer yet."""
        for _ in range(_GREW):
            await asyncio.sleep(0)
        return sorted(path for path, answer in self._calls if not answer.done())

    def answer(self, path: str, error: Exception | None = None) -> None:
        """Answer one of the calls to `path`, or let it fail."""
        answer = next(answer for called, answer in self._calls if called == path and not answer.done())
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(_ANSWERS[path])

    async def end(self) -> None:
        """All that was asked for has come."""
        await asyncio.gather(*self._asking)


@pytest.fixture
async def contact(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Contact]:
    """With a node that nobody knows yet: content may be fetched from it."""
    async with HttpPeer("https://node.example:8470", ssl.create_default_context()) as peer:
        yield Contact(peer, monkeypatch)


MAKING = [routes.NEWS] * STREAMS


async def test_records_both_ways_wait_for_a_connection_that_is_being_made(contact: Contact) -> None:
    contact.take()
    contact.give()
    assert await contact.under_way() == sorted([*MAKING, routes.GET_RECORDS]), "one takes the connection that is there"
    contact.answer(routes.NEWS)
    assert await contact.under_way() == sorted([*MAKING[1:], routes.GET_RECORDS, routes.PUT_RECORDS])
    contact.give()
    assert await contact.under_way() == sorted([*MAKING[1:], routes.GET_RECORDS, routes.PUT_RECORDS])
    contact.answer(routes.NEWS)
    assert await contact.under_way() == [routes.GET_RECORDS, routes.PUT_RECORDS], "two of them at a time"
    contact.answer(routes.GET_RECORDS)
    assert await contact.under_way() == [routes.PUT_RECORDS, routes.PUT_RECORDS]
    for _ in range(2):
        contact.answer(routes.PUT_RECORDS)
    await contact.end()


async def test_records_that_wait_go_over_a_connection_that_is_free_again(contact: Contact) -> None:
    contact.take()
    contact.give()
    assert await contact.under_way() == sorted([*MAKING, routes.GET_RECORDS])
    contact.answer(routes.GET_RECORDS)
    assert await contact.under_way() == sorted([*MAKING, routes.PUT_RECORDS])
    contact.answer(routes.PUT_RECORDS)
    await contact.end()


async def test_where_no_connection_can_be_made_records_wait_no_longer(contact: Contact) -> None:
    contact.take()
    contact.give()
    for _ in MAKING:
        assert routes.PUT_RECORDS not in await contact.under_way()
        contact.answer(routes.NEWS, Unreachable("Nobody is there", "It is tried again."))
    assert await contact.under_way() == [routes.GET_RECORDS, routes.PUT_RECORDS]
    contact.answer(routes.GET_RECORDS)
    contact.answer(routes.PUT_RECORDS)
    await contact.end()
