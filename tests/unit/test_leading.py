"""Who leads in a cluster reckons by a clock that sleep does not stop, and waits for no database without an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from relay.clock import steady
from relay.errors import StoreError
from relay.limits import LEAD_SECONDS
from relay.store.cluster.bucket import Bucket
from relay.store.cluster.database import Database
from relay.store.cluster.store import ClusterStore
from relay.store.cluster.watch import Watch


async def test_promise_6_the_lease_runs_by_the_clock_that_is_given_or_by_one_that_goes_on_in_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Callable[[], float]] = []

    async def reached(url: str) -> Database:
        return Database(url, None)

    def watch(_url: str, clock: Callable[[], float]) -> Watch:
        given.append(clock)
        raise StoreError("That is all there is to see", "Go on.")

    monkeypatch.setattr(Database, "open", reached)
    monkeypatch.setattr("relay.store.cluster.store.Watch", watch)
    bucket = Bucket(MemoryStore())
    with pytest.raises(StoreError, match="all there is"):
        await ClusterStore.open("", bucket, tmp_path, own=None, lease=time.process_time)
    with pytest.raises(StoreError, match="all there is"):
        await ClusterStore.open("", bucket, tmp_path, own=None)
    assert given == [time.process_time, steady]
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_BOOTTIME: 5.0}.__getitem__)
    assert steady() == 5.0


class Connection:
    """A connection to PostgreSQL, which answers when the test lets it."""

    def __init__(self, *, answers: bool) -> None:
        self.answers = asyncio.Event()
        self.is_gone = False
        if answers:
            self.answers.set()

    def is_closed(self) -> bool:
        """See asyncpg."""
        return self.is_gone

    def terminate(self) -> None:
        """See asyncpg."""
        self.is_gone = True

    def add_termination_listener(self, _told: object) -> None:
        """See asyncpg."""

    async def add_listener(self, _channel: str, _told: object) -> None:
        """See asyncpg."""

    async def execute(self, _sql: str) -> None:
        """See asyncpg."""
        await self.answers.wait()

    async def fetchval(self, _sql: str, _value: int) -> bool:
        """See asyncpg."""
        await self.answers.wait()
        return True


@pytest.mark.parametrize("led", [False, True], ids=["before it led", "while it leads"])
async def test_a_database_that_goes_silent_is_left_and_asked_on_a_new_connection(
    monkeypatch: pytest.MonkeyPatch, *, led: bool
) -> None:
    """Asked again on the old one, it would be waited for without an end: its last answer has to come first."""
    monkeypatch.setattr("relay.store.cluster.watch.DATABASE_SECONDS", 0.01)
    silent, well = Connection(answers=led), Connection(answers=True)
    connections = [silent, well]

    async def connect(_url: str) -> Connection:
        return connections.pop(0)

    monkeypatch.setattr("relay.store.cluster.watch.connect", connect)
    now = 100.0
    watch = Watch("", lambda: now)
    async with asyncio.timeout(30):
        if led:
            assert await watch.leads()
            silent.answers.clear()
            now += 60
        with pytest.raises(StoreError, match="does not do as it is asked"):
            await watch.leads()
        assert silent.is_gone
        assert watch.may_publish() is not led
        if led:  # who lost the lead leaves it to others for a moment
            assert not await watch.leads()
            now += LEAD_SECONDS
        assert await watch.leads()
        assert (watch.term, well.is_gone) == (1 + led, False)


async def test_a_connection_on_which_nothing_can_be_heard_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(Connection):
        """It takes no listener."""

        async def add_listener(self, _channel: str, _told: object) -> None:
            """See asyncpg."""
            raise TimeoutError

    deaf, well = Deaf(answers=True), Connection(answers=True)
    connections = [deaf, well]

    async def connect(_url: str) -> Connection:
        return connections.pop(0)

    monkeypatch.setattr("relay.store.cluster.watch.connect", connect)
    watch = Watch("", lambda: 100.0)
    with pytest.raises(StoreError):
        await watch.leads()
    assert deaf.is_gone
    assert await watch.leads()
    assert not well.is_gone
