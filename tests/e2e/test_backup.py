"""Backup and restoring, with real daemons: what is copied while they run, and that nothing is ever signed twice."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boxes import RELAY, NodeBox
from tests.e2e.world import FORM, OTHER_FORM, TPS, World, holds
from tests.processes import Outcome, eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def administer(box: NodeBox, *arguments: str | Path, check: bool = True) -> Outcome:
    """Run `relay receiver ARGUMENTS` on a node."""
    return box.host.run([*RELAY, "receiver", *arguments, "--home", box.home], check=check)


def elsewhere(world: World, box: NodeBox) -> NodeBox:
    """The same node on another machine: a folder that is not there yet."""
    return world.ends(NodeBox(world.folder / f"{box.home.name}-again"))


def island(world: World, *, receivers: tuple[NodeBox, ...] = ()) -> NodeBox:
    return world.box("pulau", "operator", tps=[TPS], receivers=receivers)


def settings_of(box: NodeBox, old: NodeBox) -> None:
    """The restored config.toml is the old machine's, and here it is right."""
    assert (box.home / "config.toml").read_text() == (old.home / "config.toml").read_text()


def test_a_node_is_copied_while_it_runs_and_restored_with_everything(world: World, tmp_path: Path) -> None:
    receiver = world.box("receiver", "receiver")
    old = island(world, receivers=(receiver,))
    receiver.start()
    old.start()
    photo = world.photo(90_000)
    old.submit(photo, tps=TPS, form=FORM)
    holds(old, ("delivered", 0))
    receiver.stop()
    old.submit(world.photo(70_000, "other.jpg"), tps=TPS, form=OTHER_FORM)
    said = old.relay("backup", tmp_path / "backup")
    assert "2 objects" in said.text and "key" in said.stderr
    assert (tmp_path / "backup").stat().st_mode & 0o77 == 0
    before = old.list()
    old.kill()
    shutil.rmtree(old.home)

    new = elsewhere(world, old)
    new.relay("restore", tmp_path / "backup", "--newest")
    assert (new.home / "key.pem").stat().st_mode & 0o77 == 0
    assert new.list() == before
    assert new.cat(before[0]["objects"][0]["sha256"]) == photo.read_bytes()
    third = new.submit(world.photo(5_000, "third.jpg"), tps=TPS, form=FORM, supersedes=before[0]["id"])
    assert sorted((one["seq"], one["id"] == third) for one in new.list()) == [(1, False), (2, False), (3, True)]
    receiver.start()
    new.start()
    eventually(lambda: {one["entry"] for one in receiver.list()} == {0, 1, 2}, 30, "all of it is delivered")


def test_a_backup_is_brought_up_to_date_and_is_always_a_whole_one(world: World, tmp_path: Path) -> None:
    box = island(world)
    box.submit(world.photo(40_000), tps=TPS, form=FORM)
    backup = tmp_path / "backup"
    box.relay("backup", backup)
    (first,) = (backup / "objects").glob("??/*")
    written = first.stat().st_mtime_ns
    box.submit(world.photo(30_000, "other.jpg"), tps=TPS, form=OTHER_FORM)
    # A run that is cut off at its last step leaves the backup before as it was.
    (backup / "copy-00000000").mkdir()
    (backup / "copy-00000000" / "key.pem").write_text("half")
    assert len(NodeBox(restored(world, backup, "one")).list()) == 1
    box.relay("backup", backup)
    assert first.stat().st_mtime_ns == written, "what is there is not copied again"
    assert len(list(backup.glob("copy-*"))) == 1
    assert len(NodeBox(restored(world, backup, "two")).list()) == 2


def restored(world: World, backup: Path, name: str) -> Path:
    """Where a backup was restored to."""
    home = world.folder / name
    NodeBox(home).relay("restore", backup)
    return home


def test_a_restored_node_signs_nothing_before_somebody_says_that_it_may(world: World, tmp_path: Path) -> None:
    """And not even then, once a package that it signed after the backup has come back to it."""
    old = island(world)
    old.start()
    old.submit(world.photo(9_000), tps=TPS, form=FORM)
    old.relay("backup", tmp_path / "backup")
    lost = old.submit(world.photo(8_000, "other.jpg"), tps=TPS, form=OTHER_FORM)
    boat = world.box("km-bahari", "carrier", peers=[world.ports["pulau"]])
    boat.start()
    holds(boat, ("waiting", None), ("waiting", None))
    old.kill()

    new = elsewhere(world, old)
    assert "signs nothing yet" in new.relay("restore", tmp_path / "backup").stderr
    photo = world.photo(7_000, "third.jpg")
    refused = new.relay("submit", "--tps", TPS, "--form", FORM, "--anyway", photo, check=False)
    assert refused.status == 1 and "restored from a backup" in refused.stderr
    doctor = new.relay("doctor", check=False)
    assert "restored from a backup" in doctor.text
    assert "restored from a backup" in new.relay("status").text

    new.start()
    eventually(lambda: lost in [one["id"] for one in new.list()], 30, "the boat brings back what it has")
    refused = new.relay("restore", "--newest", check=False)
    assert refused.status == 1 and "no. 2 came back" in refused.stderr
    refused = new.relay("submit", "--tps", TPS, "--form", FORM, "--anyway", photo, check=False)
    assert refused.status == 1
    assert sorted(one["seq"] for one in new.list()) == [1, 2]


def test_a_folder_that_is_not_empty_and_a_backup_that_is_damaged_are_refused(world: World, tmp_path: Path) -> None:
    box = island(world)
    box.submit(world.photo(20_000), tps=TPS, form=FORM)
    backup = tmp_path / "backup"
    box.relay("backup", backup)
    refused = box.relay("restore", backup, check=False)
    assert refused.status == 1 and "a node in" in refused.stderr
    assert len(box.list()) == 1
    refused = box.relay("backup", box.home / "within", check=False)
    assert refused.status == 1 and not (box.home / "within").exists()
    other = world.box("lain", "operator", tps=[TPS])
    assert "another node" in other.relay("backup", backup, check=False).stderr
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("years of work")
    assert "not empty" in box.relay("backup", taken, check=False).stderr

    (photo,) = (backup / "objects").glob("??/*")
    photo.write_bytes(photo.read_bytes()[:-1] + b"x")
    new = elsewhere(world, box)
    refused = new.relay("restore", backup, check=False)
    assert refused.status == 1 and "damaged" in refused.stderr
    assert not new.home.exists(), "nothing of it is left"
    photo.unlink()
    assert "damaged" in new.relay("restore", backup, check=False).stderr
    box.relay("backup", backup)
    told = json.loads((backup / "backup.json").read_text())
    told["files"]["../../outside"] = told["files"]["root.pem"]
    (backup / "backup.json").write_text(json.dumps(told))
    assert "no backup that this relay knows" in new.relay("restore", backup, check=False).stderr


def test_a_receiver_goes_on_from_a_backup_that_is_as_new_as_its_published_log(world: World, tmp_path: Path) -> None:
    old, mirror = delivered(world, 1), tmp_path / "mirror"
    administer(old, "backup", tmp_path / "backup")
    shutil.copytree(old.home / "public", mirror)
    old.kill()
    new = elsewhere(world, old)
    assert "does not start yet" in administer(new, "restore", tmp_path / "backup").stderr
    started = new.relay("run", check=False)
    assert started.status == 1 and "receiver restore --home" in started.stderr
    assert log_size(new) == 1
    said = administer(new, "restore", "--published", mirror.as_uri())
    assert "goes on after 1 entries" in said.stderr
    settings_of(new, old)
    new.start()
    deliver(world, OTHER_FORM, 2)
    eventually(lambda: log_size(new) == 2, 30, "the log goes on")
    remembers: list[str | Path] = ["--root", world.election.root, "--state", tmp_path / "state", "--json"]
    audit = [*RELAY, "audit", mirror.as_uri(), *remembers]
    assert new.host.run(audit).json()["size"] == 1
    audit[len(RELAY) + 1] = (new.home / "public").as_uri()
    eventually(lambda: "\n2\n" in (new.home / "public" / "checkpoint").read_text(), 30, "it is published")
    audited = new.host.run(audit).json()
    assert (audited["size"], audited["grown_from"]) == (2, 1), "one log: the new one extends the old one"


def test_a_receiver_of_an_old_backup_signs_no_second_tree(world: World, tmp_path: Path) -> None:
    """It is told how far its log is published, and stays where it is, whatever is said."""
    old, mirror = delivered(world, 1), tmp_path / "mirror"
    administer(old, "backup", tmp_path / "backup")
    deliver(world, OTHER_FORM, 2)
    eventually(lambda: "\n2\n" in (old.home / "public" / "checkpoint").read_text(), 30, "both are published")
    shutil.copytree(old.home / "public", mirror)
    old.kill()
    new = elsewhere(world, old)
    refused = administer(new, "restore", tmp_path / "backup", "--published", mirror.as_uri(), check=False)
    assert refused.status == 1 and "has 2 entries, and this backup only 1" in refused.stderr
    assert "new receiver with a key of its own" in refused.stderr
    assert new.relay("run", check=False).status == 1
    assert log_size(new) == 1

    other = world.box("receiver-2", "receiver")
    other.start()
    wrong = (other.home / "public").as_uri()
    refused = administer(new, "restore", "--published", wrong, check=False)
    assert refused.status == 1, "another receiver's log is no proof"
    assert new.relay("run", check=False).status == 1
    assert "is no receiver" in administer(NodeBox(world.folder / "pulau"), "restore", "--newest", check=False).stderr
    assert "receiver restore" in elsewhere(world, other).relay("restore", tmp_path / "backup", check=False).stderr


def test_a_copy_that_was_made_by_hand_is_found_out_by_what_boats_saw(world: World, tmp_path: Path) -> None:
    """`--newest` is believed only as far as the store itself does not know better."""
    old = delivered(world, 1)
    administer(old, "backup", tmp_path / "backup")
    deliver(world, OTHER_FORM, 2)
    eventually(lambda: log_size(old) == 2, 30, "both are logged")
    boat = world.box("km-bahari", "carrier", receivers=[old])
    boat.start()
    eventually(lambda: (boat.status()["uplink"] or {}).get("reachable"), 30, "the boat called")
    new = elsewhere(world, old)
    administer(new, "restore", tmp_path / "backup")
    boat.stop()
    old.kill()
    boat.export(tmp_path / "stick")
    new.import_(tmp_path / "stick")
    refused = administer(new, "restore", "--newest", check=False)
    assert refused.status == 1 and "boats saw has 2 entries" in refused.stderr


def delivered(world: World, entries: int) -> NodeBox:
    """A receiver with so many entries, its daemon running."""
    receiver = world.box("receiver", "receiver")
    receiver.start()
    deliver(world, FORM, entries, receiver)
    checkpoint = receiver.home / "public" / "checkpoint"
    eventually(lambda: f"\n{entries}\n" in checkpoint.read_text(), 30, "the entry is published")
    return receiver


def deliver(world: World, form: str, entries: int, receiver: NodeBox | None = None) -> None:
    """One package more of the device, and its receipt."""
    device = NodeBox(world.folder / "pulau")
    if receiver is not None:
        device = island(world, receivers=(receiver,))
    device.submit(world.photo(9_000, f"{form}.jpg"), tps=TPS, form=form)
    device.start()
    try:
        eventually(lambda: [one["state"] for one in device.list()] == ["delivered"] * entries, 60, "it is delivered")
    finally:
        device.stop()
        device.close()


def log_size(box: NodeBox) -> int:
    """How many entries the log of a receiver has, by its store."""
    database = sqlite3.connect(box.home / "store" / "catalogue.db")
    try:
        return int(database.execute("SELECT size FROM log_state").fetchone()[0])
    finally:
        database.close()
