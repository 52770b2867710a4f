"""The simulated store is a store: the same conformance tests as for the embedded one, and what its disk adds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from relay.errors import DiskFull, StoreError
from relay.records.identifiers import NodeId, ObjectId
from relay.store.interface import Outcome, Store
from tests.factory import object_of
from tests.simulation.catalogue import Rules
from tests.simulation.disk import Dead, Disk
from tests.simulation.store import MemoryStore
from tests.store_conformance import CHUNK, CarrierConformance, Cast, Opener, full, stage_all


@pytest.fixture
def disk() -> Disk:
    """A disk that always behaves."""
    return Disk()


@pytest.fixture
def opener(disk: Disk, tmp_path: Path) -> Opener:
    """Opens the store on that disk."""
    exports = tmp_path / "exports"
    exports.mkdir()

    async def open_again(
        *,
        own: NodeId | None = None,
        quota_bytes: int = 1 << 30,
        quota_statements: int = 1_000,
        storage_limit: int | None = None,
        keeps_all: bool = False,
    ) -> Store:
        rules = Rules(own, quota_bytes, quota_statements, keeps_all)
        return MemoryStore.open(disk, rules, storage_limit, exports=exports)

    return open_again


class TestMemoryStore(CarrierConformance):
    """What every store has to do."""

    def fill_disk(self, store: Any, patch: pytest.MonkeyPatch) -> None:
        """See `StoreConformance`."""
        patch.setattr(store, "_sync", full)

    def spoil(self, store: Any, object_id: ObjectId) -> None:
        """See `CarrierConformance`."""
        store.handle.disk.bad.add(object_id)

    def alter(self, store: Any, object_id: ObjectId) -> None:
        """See `CarrierConformance`."""
        store.handle.disk.rotten.add(object_id)

    @pytest.fixture
    def run_in_new_store(self) -> Callable[[Callable[[Store], Awaitable[None]]], None]:
        """Runs a scenario on a new store."""

        def run(scenario: Callable[[Store], Awaitable[None]]) -> None:
            with TemporaryDirectory() as folder:
                store = MemoryStore.open(Disk(), Rules(), exports=Path(folder))
                asyncio.run(scenario(store))  # type: ignore[arg-type]

        return run


async def test_a_crash_before_a_step_undoes_it_and_a_crash_after_it_does_not(opener: Opener, disk: Disk) -> None:
    cast = Cast()
    for after in (False, True):
        store = await opener()
        statement = cast.statement(b"x")
        disk.crash_in, disk.crash_after = 1, after
        with pytest.raises(Dead):
            await store.add([statement])
        with pytest.raises(Dead):
            await store.bundles()
        again = await opener()
        assert await again.add([statement]) == [Outcome.KNOWN if after else Outcome.NEW]
        await again.close()


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
async def test_chunks_are_held_after_a_crash_or_wanted(opener: Opener, disk: Disk, steps: int, after: bool) -> None:
    cast = Cast()
    content = cast.content()
    store = await opener()
    await store.add([cast.statement(content)])
    await stage_all(store, content, [0, 1])
    disk.crash_in, disk.crash_after = steps, after
    acknowledged = True
    try:
        await store.commit_chunks()
    except asyncio.CancelledError:
        acknowledged = False
    disk.crash_in = None
    disk.crash()
    again = await opener()
    held = sum(one.chunks for one in await again.holdings([object_of(content)]))
    assert held in (0, 0b11)
    assert held or not acknowledged
    if held:
        assert await again.read_chunk(object_of(content), 1) == content[CHUNK : 2 * CHUNK]
    await stage_all(again, content)
    await again.commit_chunks()
    assert (await again.holdings([object_of(content)]))[0].complete


async def test_a_full_disk_changes_nothing(opener: Opener, disk: Disk) -> None:
    cast = Cast()
    content = cast.content()
    store = await opener()
    await store.add([cast.statement(content)])
    disk.full = True
    await stage_all(store, content)
    for attempt in (store.commit_chunks(), store.add([cast.statement()])):
        with pytest.raises(StoreError):
            await attempt
    disk.full = False
    assert len(await store.bundles()) == 1
    assert (await store.wants(1))[0].missing == 0b1111


async def test_a_full_disk_takes_no_receipt_for_what_is_not_here(opener: Opener, disk: Disk) -> None:
    cast = Cast()
    store, statement, other = await opener(), cast.statement(), cast.statement()
    await store.add([statement])
    disk.full = True
    assert await store.add([cast.receipt(other), cast.receipt(statement, 1)]) == [Outcome.NO_ROOM, Outcome.NEW]
    disk.full = False
    assert await store.add([cast.receipt(other)]) == [Outcome.NEW]


async def test_a_full_disk_is_freed_of_what_was_delivered_and_takes_as_much_again(opener: Opener, disk: Disk) -> None:
    cast = Cast()
    content, store = cast.content(), await opener()
    statement = cast.statement(content)
    await store.add([statement])
    await stage_all(store, content)
    await store.commit_chunks()
    disk.full = True
    assert await store.add([cast.receipt(statement)]) == [Outcome.NEW]
    assert await store.free([object_of(content)]) == len(content)
    assert await store.add([cast.statement()]) == [Outcome.NEW]
    with pytest.raises(DiskFull):
        await store.add([cast.statement()])
    for number in range(disk.ballast):
        await store.set_note("alarms", str(number))
    with pytest.raises(DiskFull):
        await store.set_note("alarms", "no more")
    disk.full = False
    await store.set_note("alarms", "again")
    assert disk.ballast


async def test_a_disk_that_was_full_takes_content_again_once_somebody_has_looked(opener: Opener, disk: Disk) -> None:
    cast = Cast()
    content = cast.content()
    store = await opener()
    await store.add([cast.statement(content)])
    disk.full = True
    assert not await store.wants(1)
    disk.full = False
    assert not await store.missing(object_of(content))
    await stage_all(store, content, [0])
    await store.commit_chunks()
    assert not await store.holdings([object_of(content)])
    disk.full = True
    assert not await store.wants(1)
    disk.full = False
    await store.refresh()
    assert await store.missing(object_of(content))
    await stage_all(store, content)
    await store.commit_chunks()
    assert (await store.holdings([object_of(content)]))[0].complete
