"""All regions of a large election are written: the receiver is not silent meanwhile, and what is written stays so."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, UserDict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from relay.cli.demo.election import FORMS, example_stations
from relay.errors import StoreError
from relay.limits import SITE_SHARE
from relay.records.notice import Register as Notice
from relay.records.notice import Station
from relay.store.shelf import FRESH, FolderShelf
from relay.web.site import layout, pace
from relay.web.site.builder import Site
from relay.web.site.pace import Pace
from relay.web.site.regions import Region, Regions, station_row
from relay.web.site.register import Register
from tests.bench.site import stations
from tests.site.election import BATUN, KETAPANG, LONG, PublicElection, turn
from tests.site.test_going_on import Witness
from tests.site.test_site import files

MOST_STEPS = 512
"""Of the loop at a stretch: a few milliseconds."""


class Steps:
    """Counts what is done for each station: how much of it the loop does at a stretch, and how much threads do."""

    def __init__(self) -> None:
        self.most = self.aside = 0
        self._now = 0
        self._loop = threading.get_ident()

    def step(self) -> None:
        """One was done."""
        if threading.get_ident() == self._loop:
            self._now += 1
            self.most = max(self.most, self._now)
        else:
            self.aside += 1

    async def watch(self) -> None:
        """Have a turn as often as the loop gives one."""
        while True:
            self._now = 0
            await asyncio.sleep(0)


class Stations(UserDict[str, Station]):
    """A register that counts who goes through it."""

    def __init__(self, count: int, steps: Steps) -> None:
        super().__init__({one.tps: one for one in stations(count)})
        self._steps = steps

    def __getitem__(self, tps: str) -> Station:
        """Which all ways through it ask for."""
        self._steps.step()
        return super().__getitem__(tps)


class Resting(Pace):
    """Keeps count of rests instead of taking them."""

    def __init__(self) -> None:
        self.in_threads = self.in_loop = 0
        super().__init__(SITE_SHARE, pause=self._count)

    def _count(self, _seconds: float) -> None:
        self.in_threads += 1

    async def rest(self) -> None:
        """See `Pace`."""
        self.in_loop += 1


class Nothing(FolderShelf):
    """Takes all, and has nothing."""

    async def write(
        self, path: str, content: bytes, content_type: str, cache: str = FRESH, *, durable: bool = False
    ) -> None:
        """See `Shelf`."""

    async def read(self, path: str) -> bytes | None:
        """See `Shelf`."""
        return None


async def test_the_loop_is_never_silent_for_long_while_a_large_register_is_laid_out(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, steps, resting = 3_000, Steps(), Resting()
    register = Register(Stations(count, steps), FORMS)
    path = Regions.path

    def counted_path(self: Regions, station: Station) -> tuple[Region, ...]:
        steps.step()
        return path(self, station)

    def counted_row(*known: Any) -> dict[str, Any]:
        steps.step()
        return station_row(*known)

    monkeypatch.setattr(Regions, "path", counted_path)
    monkeypatch.setattr(layout, "station_row", counted_row)
    monkeypatch.setattr(Site, "write_tables", lambda *_: asyncio.sleep(0, result=True))
    site = Site(Nothing(election.public), election.site._look, resting)
    ticker = asyncio.create_task(steps.watch())
    await site.open(register)
    ticker.cancel()
    assert steps.most <= MOST_STEPS
    assert steps.aside > 6 * count, "it was counted"
    assert resting.in_threads >= 5 * (count // pace._STEPS), "whenever all of the register is gone through"
    assert resting.in_loop >= count // layout._STATIONS_AT_ONCE, "after each slice"


@pytest.mark.parametrize(("share", "rest"), [(0.25, 3.0), (1.0, 0.0)])
async def test_work_rests_as_its_share_of_the_time_says(share: float, rest: float) -> None:
    now, worked = 100.0, 7.0
    pauses: list[float] = []
    kept = Pace(share, lambda: now, lambda: worked, pauses.append)
    for _ in kept.giving_way(range(1_000)):
        worked += 0.5
    assert pauses == [pytest.approx(0.5 * pace._STEPS * rest)] * (1_000 // pace._STEPS)
    kept.begin()
    now += 0.001
    assert kept.due == pytest.approx(0.001 * rest)
    rested = kept.rested
    await kept.rest()
    assert kept.due == 0
    assert kept.rested - rested == pytest.approx(0.001 * rest)


async def test_rests_are_no_work(election: PublicElection) -> None:
    election.fleet.clock.now += 5
    worked = election.keeper.worked
    election.fleet.clock.now += 5
    election.site.pace.rested += 4
    assert election.keeper.worked - worked == pytest.approx(1)


def test_a_slice_has_no_more_stations_than_are_in_hand_at_a_time() -> None:
    """Villages may be towns."""
    towns = [Region(str(number), "", "village") for number in range(10)]
    (station,) = stations(1)
    plan = layout._Plan({}, {one: [station] * (200 + number) for number, one in enumerate(towns)}, {}, towns)
    assert [len(part) for part in plan.slices()] == [2, 2, 2, 2, 2]
    assert [one for part in plan.slices() for one in part] == towns


# -- cut


ISLANDERS = [one for one in example_stations() if one.tps in (LONG, BATUN, KETAPANG)]


@pytest_asyncio.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PublicElection]:
    """An election of three stations, each of which has sent something, laid out one region at a time."""
    monkeypatch.setattr(layout, "_AT_ONCE", 1)
    monkeypatch.setattr(layout, "_NOTED", 1)
    made = PublicElection(tmp_path, ISLANDERS)
    made.shelf = Witness(made.public)
    try:
        await made.open()
        for tps in (LONG, BATUN, KETAPANG):
            await made.submit(tps)
        await made.publish()
        await made.site.settle()
        yield made
    finally:
        await made.close()


def witness(election: PublicElection) -> Witness:
    """Who saw each file that was written."""
    assert isinstance(election.shelf, Witness)
    return election.shelf


async def cut(election: PublicElection, left: int, register: Sequence[Station], version: int = 2) -> list[str]:
    """Let another register be laid out until so many files are written; the documents of regions among them."""
    election.stations = {one.tps: one for one in register}
    await election.receiver.take(election.fleet.publish(Notice(FORMS, tuple(register)), version))
    witness(election).written.clear()
    witness(election).left = left
    with suppress(StoreError):
        await election.publish()
    assert witness(election).left == 0, "it was cut"
    witness(election).left = -1
    return regions(election)


def regions(election: PublicElection) -> list[str]:
    """The documents of regions that were written."""
    return [one for one in witness(election).written if one.startswith("region/") and one.endswith(".json")]


def another(stations: Sequence[Station]) -> list[Station]:
    """Another register of the same places."""
    return [replace(one, registered_voters=7) for one in stations]


@pytest.mark.parametrize("left", [6, 12, 20, 28, 36])
async def test_what_was_written_before_a_cut_is_not_written_again(watched: PublicElection, left: int) -> None:
    """By a receiver that starts, or leads now."""
    first = await cut(watched, left, another(ISLANDERS))
    witness(watched).written.clear()
    await watched.reopen()
    twice = Counter(first) & Counter(regions(watched))
    assert len(first) == 0 or len(twice) <= 1, "but for the one in hand"
    assert set(first) | set(regions(watched)) == {
        f"region/{path.name}" for path in watched.public.glob("region/*.json")
    }
    assert witness(watched).less == []
    assert watched.document("region/index.json")["sums"]["arrived"] == 3
    await watched.publish()
    await watched.site.write_tables()
    right = files(watched.public)
    await watched.reopen(anew=True)
    await watched.publish()
    await watched.site.write_tables()
    assert right == files(watched.public)


async def test_what_is_damaged_after_a_cut_is_written_again(watched: PublicElection) -> None:
    first = await cut(watched, 20, another(ISLANDERS))
    (watched.public / first[0]).write_bytes(b"")
    await watched.reopen()
    assert watched.document(first[0])["sums"]["arrived"] == 1
    assert watched.document("region/index.json")["sums"]["arrived"] == 3


async def test_of_yet_another_register_all_is_written(watched: PublicElection) -> None:
    (village,) = (await cut(watched, 20, another(ISLANDERS)))[:1]
    last = [replace(one, registered_voters=8) for one in ISLANDERS]
    await watched.receiver.take(watched.fleet.publish(Notice(FORMS, tuple(last)), 3))
    await watched.reopen()
    assert {one["registered_voters"] for one in watched.document(village)["children"].values()} == {8}
    assert (watched.document("settled.json")["laying"], watched.document("settled.json")["laid"]) == ("", "")
    assert witness(watched).less == []


async def test_laying_out_and_what_comes_then_rest_once(watched: PublicElection) -> None:
    """Else a receiver would stand still for as long as it took, three times over."""
    rests: list[float] = []
    now = [100.0]

    class Slow(Pace):
        async def rest(self) -> None:
            now[0] += 50
            rests.append(self.due)
            self.rested += self.due
            self.begin()

    watched.site.pace = Slow(SITE_SHARE, lambda: now[0])
    await watched.receiver.take(watched.fleet.publish(Notice(FORMS, tuple(another(ISLANDERS))), 2))
    await watched.submit(LONG, FORMS[0])
    assert watched.receiver.log is not None
    await watched.receiver.log.sequencer.sequence()
    assert await turn(watched) == 0
    assert sum(rests) >= 150 * 5
