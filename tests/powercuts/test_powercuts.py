"""Promise 5, durable before acknowledged, with real cuts. `python -m tests.powercuts` makes hundreds of them."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.errors import RelayError
from relay.records.identifiers import ObjectId
from relay.store import content, durable
from tests.factory import make_node, make_statement
from tests.fleet import Fleet
from tests.powercuts.campaign import Campaign
from tests.powercuts.cuts import LONGEST, Tally, cut, kill_at_random, start
from tests.powercuts.losing_fs import Disk, File, why_not
from tests.powercuts.visits import cut_visits
from tests.powercuts.work import Intake, Violation, Work, check_statements, sync_tree


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("campaign"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with Disk(tmp_path) as disk:
        yield disk


def test_killed_at_any_instant_nothing_acknowledged_is_lost(campaign: Campaign) -> None:
    tally = Tally()
    campaign.run(10, 7, tally)
    assert tally.cuts == 10
    assert tally.told > 10


def test_with_what_was_not_synced_taken_back_nothing_acknowledged_is_lost(campaign: Campaign) -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    tally = Tally()
    campaign.run(10, 7, tally, losing=True)
    assert tally.cuts == 10
    assert tally.told > 10


@pytest.mark.timeout(300)
def test_daemons_cut_in_the_middle_of_a_visit_lose_nothing_acknowledged(campaign: Campaign) -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    tally = Tally()
    campaign.run_visits(4, 7, tally)
    assert tally.cuts == 4
    assert tally.told > 4
    assert any("losing disk" in what for what in tally.by_work)


@pytest.mark.timeout(300)
def test_whatever_was_told_is_looked_for_also_what_was_told_first(campaign: Campaign, tmp_path: Path) -> None:
    for work in campaign.works:
        folder = tmp_path / work.name
        folder.mkdir()
        work.prepare(folder)
        told: list[list[str]] = []
        for turn in range(2):
            process, words = start(work, folder, turn)
            told += cut(process, words, LONGEST)
            asyncio.run(work.check(folder, told))
        for kind in {one[0] for one in told}:
            first = next(one for one in told if one[0] == kind)
            # The content of what was freed is gone, as it has to be.
            fields = [1] if kind in ("delivering", "freed") else range(1, len(first))
            for field in fields:
                false = [*first[:field], another(first[field]), *first[field + 1 :]]
                with pytest.raises((Violation, RelayError, LookupError)):
                    asyncio.run(work.check(folder, [false, *told]))
                    pytest.fail(f"{work.name}: {false} was believed")


def another(field: str) -> str:
    """Something that is not there: another number, another hash, another name."""
    if field.isdecimal():
        return str(int(field) + 1_000_000)
    return field[:-1] + ("0" if field[-1] != "0" else "1") if len(field) == 64 else f"{field}-lost"


class Forgetful(Intake):
    """The same work by a store that does not sync what it says is durable."""

    async def run(self, folder: Path, turn: int, tell: Any) -> None:
        content.os.fdatasync = lambda _descriptor: None  # type: ignore[attr-defined]  # in a process of its own
        durable.os.fsync = lambda _descriptor: None  # type: ignore[attr-defined]
        await super().run(folder, turn, tell)


def sync_whole_objects_only() -> None:
    """Have this process's stores sync an object when it is whole, and say before that its chunks are durable."""
    sync, place = content.Content.sync_partial, content.Content.place

    def synced_and_placed(self: content.Content, object_id: ObjectId, layout: bytes) -> None:
        sync(self, object_id, layout)
        place(self, object_id, layout)

    content.Content.sync_partial = lambda *_file: True  # type: ignore[method-assign]
    content.Content.place = synced_and_placed  # type: ignore[method-assign]


class HalfSyncing(Intake):
    """The same work by a store that syncs an object when it is whole, and says before that its chunks are durable."""

    async def run(self, folder: Path, turn: int, tell: Any) -> None:
        sync_whole_objects_only()  # in a process of its own
        await super().run(folder, turn, tell)


@pytest.mark.parametrize("work", [Forgetful(), HalfSyncing()], ids=lambda work: type(work).__name__)
def test_the_losing_disk_catches_a_store_that_does_not_sync(disk: Disk, work: Intake) -> None:
    work.prepare(disk.mount)
    sync_tree(disk.mount)
    dice = random.Random(1)
    with pytest.raises(Violation):
        kill_at_random(work, disk.mount, 10, dice, Tally(), lose=lambda: disk.cut(dice.getrandbits(32)))


class NewBoat(Work):
    """A boat's store that is as new as the first statement in it."""

    name = "new store"

    def prepare(self, folder: Path) -> None:
        (folder / "boat").mkdir(parents=True)

    async def run(self, folder: Path, turn: int, tell: Any) -> None:
        fleet = Fleet(folder)
        ship = await fleet.carrier("boat")
        statement = make_statement(fleet.election, make_node(fleet.election, "island"))
        await ship.take(statement)
        tell("statement", statement.id.hex())
        await asyncio.Event().wait()

    async def check(self, folder: Path, told: Sequence[list[str]]) -> None:
        fleet = Fleet(folder)
        try:
            await check_statements((await fleet.carrier("boat")).store, [bytes.fromhex(one[1]) for one in told])
        finally:
            await fleet.close()


class Nameless(NewBoat):
    """The same by a store that does not sync the names in its folders."""

    async def run(self, folder: Path, turn: int, tell: Any) -> None:
        content.sync_folder = durable.sync_folder = lambda _folder: None  # type: ignore[assignment,attr-defined]
        await super().run(folder, turn, tell)


def cut_new_boats(work: Work, disk: Disk) -> None:
    """A new store is cut, four times. Raises `Violation`."""
    dice = random.Random(1)
    for number in range(4):
        folder = disk.mount / str(number)
        work.prepare(folder)
        sync_tree(folder)
        kill_at_random(work, folder, 1, dice, Tally(), lose=lambda: disk.cut(dice.getrandbits(32)))


def test_a_new_store_is_there_after_a_cut(disk: Disk) -> None:
    """Where the names of its new folders are not on the disk, all that lies in them is gone."""
    cut_new_boats(NewBoat(), disk)


def test_the_losing_disk_catches_a_store_whose_names_are_not_synced(disk: Disk) -> None:
    with pytest.raises(Violation, match="is lost"):
        cut_new_boats(Nameless(), disk)


@pytest.mark.timeout(300)
def test_the_losing_disk_catches_a_daemon_that_syncs_whole_objects_only(campaign: Campaign, tmp_path: Path) -> None:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    half_syncing = f"from {__name__} import sync_whole_objects_only as only\nonly()\nfrom relay.cli import main\nmain()"
    afloat = (sys.executable, "-c", half_syncing)
    with pytest.raises(Violation, match="its content is lost"):
        cut_visits(campaign.election, tmp_path, 10, random.Random(7), Tally(), losing=True, afloat=afloat)


def test_a_file_of_the_losing_disk_keeps_what_was_synced_and_some_blocks_of_the_rest() -> None:
    file = File(0o644)
    file.write(b"a" * 10_000, 0)
    file.sync()
    file.write(b"b" * 8192, 4096)
    left = {file.surviving(random.Random(seed)) for seed in range(50)}
    assert all(one.startswith(b"a" * 4096) for one in left)
    assert b"a" * 10_000 in left
    assert b"a" * 4096 + b"b" * 8192 in left
    assert len(left) == 4


def test_a_name_that_was_not_synced_may_be_lost_and_a_synced_one_is_not(disk: Disk) -> None:
    (disk.mount / "kept").write_bytes(b"x")
    sync_tree(disk.mount)
    lost = 0
    for seed in range(8):
        (disk.mount / "new").write_bytes(b"y")
        disk.cut(seed)
        assert (disk.mount / "kept").read_bytes() == b"x"
        lost += not (disk.mount / "new").exists()
        (disk.mount / "new").unlink(missing_ok=True)
    assert 0 < lost < 8
