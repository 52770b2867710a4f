"""Ballast: on a disk that somebody filled, what was delivered is freed and what rules is kept all the same."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from relay.errors import DiskFull, StoreError
from relay.limits import BALLAST, BALLAST_CLEARANCE, BALLAST_RETRY_SECONDS, KIB, LEAST_ROOM, MIB
from relay.node.retention import Retention, free_delivered
from relay.records.identifiers import Kind, NodeId, StatementId
from relay.store.ballast import NAME, Ballast
from relay.store.interface import State
from relay.store.sqlite import SqliteStore
from relay.trust.admission import Admitted
from tests.disks import fill, left, needs_mounts, small_disk
from tests.factory import make_revocations
from tests.store_conformance import Cast, stage_all

pytestmark = needs_mounts


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for a ballast, and not much else."""
    with small_disk(tmp_path / "disk", BALLAST + BALLAST_CLEARANCE + 8 * MIB) as disk:
        yield disk


@pytest.fixture(autouse=True)
def small_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Content and statements are taken on such a small disk."""
    monkeypatch.setattr("relay.store.sqlite.DISK_RESERVE", MIB)
    monkeypatch.setattr("relay.store.sqlite.STATEMENTS_RESERVE", 0)


_opened: list[SqliteStore] = []


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """Close what a test that failed left open: it keeps a thread."""
    yield
    while _opened:
        with suppress(StoreError):
            await _opened.pop().close()


async def opened(
    disk: Path, *, ballast: int = BALLAST, looking: bool = False, own: NodeId | None = None, shown: float = 1_000_000.0
) -> SqliteStore:
    """The store on it, of a device whose clock shows this."""
    store = await SqliteStore.open(
        disk / "store",
        own=own,
        quota_bytes=1 << 30,
        quota_statements=999,
        storage_limit=None,
        clock=lambda: shown,
        looking=looking,
        ballast=ballast,
    )
    _opened.append(store)
    return store


async def taken(store: SqliteStore, cast: Cast, size: int = 2 * MIB) -> Admitted:
    """A bundle that somebody brought, whole."""
    content = cast.content(size)
    statement = cast.statement(content, node=cast.other)
    await store.add([statement])
    await stage_all(store, content)
    assert await store.commit_chunks() == [statement.id]
    return statement


async def test_it_is_really_there(disk: Path) -> None:
    store = await opened(disk)
    await store.close()
    facts = (disk / "store" / NAME).stat()
    assert facts.st_size == facts.st_blocks * 512 == BALLAST
    assert len(set((disk / "store" / NAME).read_bytes()[: 64 * KIB])) == 256, "nothing that compresses"


@pytest.mark.parametrize("opened_again", [False, True])
async def test_a_disk_that_somebody_filled_is_freed_of_what_was_delivered(
    disk: Path, caplog: pytest.LogCaptureFixture, opened_again: bool
) -> None:
    cast, store = Cast(), await opened(disk)
    statements = [await taken(store, cast) for _ in range(3)]
    await store.add([cast.receipt(one, entry) for entry, one in enumerate(statements)])
    if opened_again:
        await store.close()
    fill(disk)
    assert left(disk) == 0
    if opened_again:
        store = await opened(disk)
    assert await free_delivered(store, 2_000_000, 10) == 6 * MIB
    assert left(disk) > 6 * MIB
    assert [one.held for one in await store.bundles()] == [0, 0, 0]
    errors = [one.message for one in caplog.records if one.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "gave up the ballast of 8 MiB" in errors[0]
    assert "Free some space" in errors[0]
    await store.close()


async def test_on_a_full_disk_receipts_and_notices_are_kept(disk: Path) -> None:
    cast, store = Cast(), await opened(disk)
    statement = await taken(store, cast)
    other = await taken(store, cast, 9)
    fill(disk)
    many = [cast.receipt(cast.statement(cast.content(9)), entry) for entry in range(2, 40)]
    await store.add([cast.receipt(statement, 1), *many])
    revocations = make_revocations(cast.election, 1, cast.other)
    await store.add([revocations])
    assert await store.withhold([cast.other.identity.node]) == 1
    await store.set_note("alarms", "one")
    await store.close()
    store = await opened(disk)
    assert await store.load(Kind.NOTICE) == [revocations.raw]
    bundle = await store.bundle(StatementId(statement.id))
    assert bundle is not None
    assert bundle.state is State.DELIVERED
    assert await store.bundle(StatementId(other.id)) is None
    assert (await store.notes())["alarms"] == "one"
    await store.close()


@pytest.mark.parametrize("carried", [0, 1])
async def test_a_clock_that_is_set_keeps_nothing_from_being_freed_on_a_full_disk(disk: Path, carried: int) -> None:
    """That what the device made is kept from now on is written first, for as many packages as there are."""
    cast = Cast()
    store = await opened(disk, own=cast.island.identity.node, shown=100.0)
    made = [cast.statement(cast.content(9)) for _ in range(300)]
    await store.add(made, made_here=True)
    made += [await taken(store, cast) for _ in range(carried)]
    await store.add([cast.receipt(one, entry) for entry, one in enumerate(made)])
    fill(disk)
    retention = Retention(store, 1_000, 1_700_000_000, lambda: 1_800_000_000.0, lambda: 60.0, "boot")
    assert await retention.free() == carried * 2 * MIB
    assert await _dates(store) == {1_800_000_000}


async def test_without_ballast_a_full_disk_is_told_once_while_it_lasts(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cast, store = Cast(), await opened(disk, ballast=0)
    statement = await taken(store, cast)
    fill(disk)
    receipts = [cast.receipt(cast.statement(cast.content(9)), entry) for entry in range(800)]
    for _ in range(3):
        with pytest.raises(DiskFull):
            await store.add([*receipts, cast.receipt(statement, 900)])
    errors = [one.message for one in caplog.records if one.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "There is no ballast" in errors[0]
    assert (await store.counts()).delivered == 0, "nothing of it was kept"
    await store.close()


async def test_it_is_taken_on_again_when_there_is_room_again(disk: Path) -> None:
    store = await opened(disk)
    syslog = fill(disk)
    ballast = disk / "store" / NAME
    assert await store._ballast.afloat(_failing_once()) == 7
    assert not ballast.exists()
    await store.refresh()
    assert not ballast.exists(), "there is no room but that which it gave up"
    syslog.unlink()
    (disk / "store" / f".{NAME}.0011.tmp").write_bytes(b"a power cut left this")
    await store.refresh()
    assert ballast.stat().st_size == BALLAST
    assert not list((disk / "store").glob(".*"))
    await store.close()


async def test_a_card_that_fails_to_write_it_is_left_alone_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try writes all of it; the daemon looks twice a second."""
    tried: list[Path] = []

    def failing(path: Path, _data: bytes, mode: int) -> None:
        tried.append(path)
        raise StoreError("The disk fails", f"Replace it (mode {mode}).")

    now = [0.0]
    ballast = Ballast(tmp_path, KIB, lambda: now[0])
    with monkeypatch.context() as patch:
        patch.setattr("relay.store.ballast.write_durably", failing)
        for now[0] in (0.0, 0.5, 1.0, BALLAST_RETRY_SECONDS - 1, BALLAST_RETRY_SECONDS, BALLAST_RETRY_SECONDS + 0.5):
            await ballast.renew()
        assert len(tried) == 2
        assert BALLAST_RETRY_SECONDS >= 60
    now[0] = 2 * BALLAST_RETRY_SECONDS + 1
    await ballast.renew()
    assert (tmp_path / NAME).stat().st_size == KIB


@pytest.mark.parametrize("call", ["stat", "scandir"])
async def test_a_ballast_that_a_damaged_disk_does_not_show_keeps_no_store_from_its_work(
    disk: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    cast, store = Cast(), await opened(disk)
    statement = await taken(store, cast)
    await store.close()
    real = getattr(os, call)

    def damaged(path: Path, *rest: Any, **more: Any) -> Any:
        if Path(path) == disk / "store" / NAME or (call == "scandir" and Path(path) == disk / "store"):
            raise OSError(errno.EUCLEAN, "Structure needs cleaning")
        return real(path, *rest, **more)

    monkeypatch.setattr(os, call, damaged)
    store = await opened(disk)
    await store.refresh()
    fill(disk)
    with suppress(DiskFull):  # there may be room for it
        await store.add([cast.receipt(statement)])
    (disk / "syslog").unlink()
    await store.refresh()
    await store.add([cast.receipt(statement)])
    assert (await store.counts()).delivered == 1
    await store.close()


async def test_none_is_taken_on_where_it_would_take_the_last_room(disk: Path) -> None:
    fill(disk, leave=BALLAST + BALLAST_CLEARANCE - MIB)
    store = await opened(disk)
    assert not (disk / "store" / NAME).exists()
    await store.close()


async def test_who_only_looks_takes_none_on(disk: Path) -> None:
    await (await opened(disk)).close()
    (disk / "store" / NAME).unlink()
    looking = await opened(disk, looking=True)
    await looking.refresh()
    assert not (disk / "store" / NAME).exists()
    await looking.close()


async def test_what_another_process_gave_up_makes_room_here(disk: Path) -> None:
    cast, daemon = Cast(), await opened(disk)
    command = await opened(disk)
    statements = [await taken(daemon, cast) for _ in range(2)]
    await daemon.add([cast.receipt(one, entry) for entry, one in enumerate(statements)])
    fill(disk)
    await command.set_note("what a command keeps", "x" * 2 * MIB)
    assert not (disk / "store" / NAME).exists()
    fill(disk, "kern.log", leave=LEAST_ROOM + 64 * KIB)
    objects = [one.sha256 for bundle in await daemon.bundles() for one in bundle.files]
    assert await daemon.free(objects) == 4 * MIB
    await daemon.close()
    await command.close()


def _failing_once() -> Callable[[], Awaitable[int]]:
    """Work that a full disk refuses once."""
    tried: list[int] = []

    async def work() -> int:
        tried.append(0)
        if len(tried) == 1:
            raise DiskFull("The disk is full", "Free some space.")
        return 7

    return work


async def _dates(store: SqliteStore) -> set[int]:
    """When the receipts of what the device made came, as far as it reckons."""
    rows = await store._database.rows("SELECT DISTINCT receipt_at FROM bundles WHERE own <> 0")
    return {int(row[0]) for row in rows}
