"""A shelf elsewhere, and who may write to it: so many calls at once, waiting that is no work, only while one leads."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from relay.cli.receiver import _site as bring_up
from relay.errors import StoreError
from relay.node.home import Home
from relay.store.shelf import FOR_EVER, FRESH, FolderShelf, GuardedShelf
from relay.web.site.pace import Pace
from relay.web.site.service import SiteKeeper, _take_turn, _Upkeep
from tests.site.election import LONG, PublicElection


class Bucket:
    """A service that answers when the test lets it."""

    def __init__(self) -> None:
        self.under_way = self.most = 0
        self.answer = asyncio.Event()
        self.content: dict[str, bytes] = {}

    async def write(
        self, path: str, content: bytes, content_type: str, cache: str = FRESH, *, durable: bool = False
    ) -> None:
        """See `Shelf`."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.answer.wait()
        self.under_way -= 1
        self.content[path] = content

    async def read(self, path: str) -> bytes | None:
        """See `Shelf`."""
        await self.answer.wait()
        return self.content.get(path)

    async def copy(self, path: str, source: Path, content_type: str, cache: str) -> None:
        """See `Shelf`."""

    async def holds(self, paths: Sequence[str]) -> bool:
        """See `Shelf`."""
        return True

    async def settle(self) -> None:
        """See `Shelf`."""


async def always() -> bool:
    """It leads."""
    return True


async def test_files_go_side_by_side_and_the_time_of_it_is_no_work() -> None:
    now = 100.0
    bucket = Bucket()
    shelf = GuardedShelf(bucket, always, 3, lambda: now)
    writes = [asyncio.create_task(shelf.write(str(place), b"", "text/plain")) for place in range(10)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert bucket.under_way == 3
    now += 7
    bucket.answer.set()
    await asyncio.gather(*writes)
    assert (bucket.most, len(bucket.content), shelf.waited) == (3, 10, 7.0)
    now += 50  # between calls it works
    await shelf.read("1")
    assert shelf.waited == 7.0


@pytest.mark.parametrize(("delay", "crowded"), [(0.0, 0.0), (0.7, 3.5), (1.4, 7.0), (5.0, 7.0), (-30.0, 0.0)])
async def test_where_processors_are_crowded_a_service_may_be_on_this_machine(delay: float, crowded: float) -> None:
    now, delayed = 100.0, 30.0
    bucket = Bucket()
    shelf = GuardedShelf(bucket, always, 3, lambda: now, lambda: delayed)
    write = asyncio.create_task(shelf.write("a", b"", "text/plain"))
    await asyncio.sleep(0)
    now, delayed = now + 7, delayed + delay
    bucket.answer.set()
    await write
    assert shelf.waited == 7.0
    assert shelf.crowded == pytest.approx(crowded)


async def test_a_folder_is_on_this_machine_and_counts(tmp_path: Path) -> None:
    times = iter(range(100))
    shelf = GuardedShelf(FolderShelf(tmp_path), always, 3, lambda: float(next(times)))
    await shelf.write("a/b", b"content", "text/plain")
    assert (await shelf.read("a/b"), shelf.waited, shelf.is_elsewhere) == (b"content", 0.0, False)


async def test_who_was_followed_writes_nothing_from_the_next_file_on() -> None:
    leading = True

    async def leads() -> bool:
        return leading

    bucket = Bucket()
    bucket.answer.set()
    shelf = GuardedShelf(bucket, leads, 1)
    await shelf.write("a", b"1", "text/plain")
    leading = False
    for work in (shelf.write("a", b"2", "text/plain"), shelf.copy("b", Path("b"), "image/jpeg", FRESH)):
        with pytest.raises(StoreError, match="Another receiver"):
            await work
    assert bucket.content == {"a": b"1"}


async def test_what_was_to_be_written_in_another_term_is_not(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who led before, and leads again, may have been followed meanwhile: it opens the site first."""
    terms = [1]
    monkeypatch.setattr(type(election.receiver.store), "term", property(lambda _: terms[-1]))
    await election.keeper.open()
    assert await election.keeper.leads()
    terms.append(2)
    assert not await election.keeper.leads()
    await election.keeper.open()
    assert await election.keeper.leads()


async def test_the_keeper_counts_work_without_waiting(election: PublicElection) -> None:
    await election.submit(LONG)
    election.elsewhere = True
    await election.reopen()
    assert await election.publish() == 1
    worked = election.keeper.worked
    election.fleet.clock.now += 5
    assert election.keeper.worked - worked == 5


@pytest.mark.parametrize(("arrives", "rest"), [(True, 9.0), (False, 0.0)])
async def test_where_processors_are_crowded_and_more_arrives_the_wait_for_a_bucket_is_rested_for(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch, *, arrives: bool, rest: float
) -> None:
    news, clock = election.receiver.custody.news, election.fleet.clock
    await election.submit(LONG)
    election.elsewhere = True
    await election.reopen()
    assert election.receiver.log is not None
    await election.receiver.log.sequencer.sequence()
    monkeypatch.setattr(SiteKeeper, "crowded", property(lambda _: clock.now))
    pace = Pace(0.25, lambda: 0.0)
    follow = election.keeper.follow

    async def follow_slowly() -> int:
        clock.now += 3
        if arrives:
            news.ring()
        return await follow()

    monkeypatch.setattr(election.keeper, "follow", follow_slowly)
    upkeep = _Upkeep(election.site, election.keeper, clock)
    assert await _take_turn(election.receiver.store, election.keeper, upkeep, pace, news) == pytest.approx(rest)


async def test_the_site_is_not_written_beside_another_receiver() -> None:
    async def another_leads() -> bool:
        return False

    custody = SimpleNamespace(store=SimpleNamespace(leads=another_leads))
    home = SimpleNamespace(daemon_lock=nullcontext, custody=lambda: nullcontext(custody))
    with pytest.raises(StoreError, match="Another receiver of this store keeps the site"):
        await bring_up(cast(Home, home), False)


async def test_a_photograph_that_cannot_be_linked_is_copied_onto_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken for published as soon as it is there, and never written again."""
    synced: list[int] = []

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr(os, "fsync", synced.append)
    (tmp_path / "photo").write_bytes(b"photo")
    await FolderShelf(tmp_path / "public").copy("object/1", tmp_path / "photo", "image/jpeg", FOR_EVER)
    assert (tmp_path / "public/object/1").read_bytes() == b"photo"
    assert synced


@pytest.mark.parametrize("look", ["holds", "copy"])
async def test_trouble_with_looking_at_a_published_file_is_a_store_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    def fail(path: Path, **_: object) -> bool:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "is_file", fail)
    monkeypatch.setattr(Path, "exists", fail)
    shelf = FolderShelf(tmp_path)
    with pytest.raises(StoreError, match="The disk fails"):
        await (shelf.holds(["object/1"]) if look == "holds" else shelf.copy("a", tmp_path / "b", "", FOR_EVER))
