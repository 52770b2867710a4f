"""When a receiver tells balancers that it is ready: while its store answers, and takes something in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.errors import DiskFull, StoreError
from relay.limits import DISK_RESERVE, READY_SECONDS
from relay.receiver.readiness import Readiness
from tests.fleet import Fleet, Ship


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    await fleet.close()


async def test_a_receiver_is_ready_while_its_store_answers(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = await fleet.receiver()
    now = 0.0
    readiness = Readiness(receiver.store, lambda: now)
    assert await readiness.ready()

    async def away() -> None:
        raise StoreError("The database is away", "Wait.")

    with monkeypatch.context() as patch:
        patch.setattr(receiver.store, "log_state", away)
        assert await readiness.ready()  # what was said stands for a moment
        now = READY_SECONDS
        assert not await readiness.ready()
    now = 2 * READY_SECONDS
    assert await readiness.ready()


class Disk:
    """What a store can write to, or cannot; rings when it was tried."""

    def __init__(self, receiver: Ship) -> None:
        self.full = False
        self.tried = asyncio.Semaphore(0)
        self._set_note = receiver.store.set_note

    async def set_note(self, key: str, value: str) -> None:
        """As the store does, where there is room."""
        self.tried.release()
        if self.full:
            raise DiskFull("The disk is full", "Free some space.")
        await self._set_note(key, value)


async def test_a_receiver_that_answers_and_takes_nothing_in_is_not_ready(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("READY_WRITE_SECONDS", "READY_SECONDS"):
        monkeypatch.setattr(f"relay.receiver.readiness.{pause}", 0.001)
    receiver = await fleet.receiver()
    disk = Disk(receiver)
    monkeypatch.setattr(receiver.store, "set_note", disk.set_note)
    readiness = Readiness(receiver.store, fleet.clock)
    writing = asyncio.create_task(readiness.keep_writing())

    async def becomes(ready: bool) -> None:
        while await readiness.ready() is not ready:
            await disk.tried.acquire()
            fleet.clock.now += READY_SECONDS

    async with asyncio.timeout(30):
        await becomes(True)
        disk.full = True
        await becomes(False)
        disk.full = False
        await becomes(True)
    writing.cancel()


async def test_nothing_is_written_where_nobody_asks(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = await fleet.receiver()
    disk = Disk(receiver)
    monkeypatch.setattr(receiver.store, "set_note", disk.set_note)
    readiness = Readiness(receiver.store, fleet.clock)
    writing = asyncio.create_task(readiness.keep_writing())
    for _ in range(5):
        await asyncio.sleep(0)
    assert disk.tried.locked()
    for _ in range(5):
        assert await readiness.ready()
    await disk.tried.acquire()
    assert disk.tried.locked()  # once, however many ask
    writing.cancel()


async def test_a_receiver_whose_disk_has_no_room_for_content_is_not_ready(fleet: Fleet) -> None:
    receiver = await fleet.receiver()
    free = DISK_RESERVE
    readiness = Readiness(receiver.store, fleet.clock, lambda: free)
    assert not await readiness.ready()
    free += 1
    fleet.clock.now += READY_SECONDS
    assert await readiness.ready()
