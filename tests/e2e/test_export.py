"""The receiver's export: a BagIt bag that other tools take, that is complete, that goes on, and that can be audited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bagit  # type: ignore[import-untyped]
import pytest

from tests.boxes import RELAY, NodeBox
from tests.e2e.world import FORM, OTHER_FORM, TPS, World, holds
from tests.processes import Outcome, eventually


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def administer(box: NodeBox, *arguments: str | Path, check: bool = True) -> Outcome:
    """Run `relay receiver ARGUMENTS` on a node."""
    return box.host.run([*RELAY, "receiver", *arguments, "--home", box.home], check=check)


def delivered(world: World) -> NodeBox:
    """A receiver that has two packages logged, its daemon running."""
    receiver = world.box("receiver", "receiver")
    receiver.start()
    device = world.box("pulau", "operator", tps=[TPS], receivers=[receiver])
    device.submit(world.photo(90_000), tps=TPS, form=FORM)
    device.submit(world.photo(70_000, "other.jpg"), tps=TPS, form=OTHER_FORM)
    device.start()
    holds(receiver, ("delivered", 0), ("delivered", 1))
    eventually(lambda: len(device.list()) == 2, 10, "the device has both")
    return receiver


def test_a_bag_that_is_valid_goes_on_and_passes_its_audit(world: World, tmp_path: Path) -> None:
    with world:
        receiver, bag = delivered(world), tmp_path / "bag"
        told = administer(receiver, "export", bag, "--json").json()
        assert (told["entries"], told["incomplete"]) == (2, 0)
        check(bag)

        # What was cut off and what was altered is made good by the same command.
        photo = next((bag / "data" / "object").iterdir())
        photo.write_bytes(photo.read_bytes()[:-1])
        (bag / "data" / "object" / ".half.tmp").write_bytes(b"half")
        (bag / "manifest-sha256.txt").unlink()
        assert not bagit_says(bag)
        assert administer(receiver, "export", bag, "--json").json()["files"] == told["files"]
        check(bag)

        altered = bytearray(photo.read_bytes())
        altered[10] ^= 1
        photo.write_bytes(altered)
        refused = administer(receiver, "export", bag, check=False)
        assert refused.status == 1 and "was not written as it was read" in refused.stderr
        assert not bagit_says(bag)
        administer(receiver, "export", bag)
        check(bag)

        url, root = (bag / "data").as_uri(), world.election.root
        audited = receiver.host.run([*RELAY, "audit", url, "--root", root, "--json"]).json()
        assert audited["ok"]
        assert (audited["size"], audited["checked"]["receipts"], audited["checked"]["objects"]) == (2, 2, 2)


def test_a_photograph_that_the_disk_does_not_give_is_left_out_and_named(world: World, tmp_path: Path) -> None:
    with world:
        receiver, bag = delivered(world), tmp_path / "bag"
        whole, damaged = sorted((receiver.home / "store" / "objects").glob("??/*"))
        damaged.write_bytes(bytes(damaged.stat().st_size))
        export = administer(receiver, "export", bag, check=False)
        assert export.status == 1
        assert f"left out: object {damaged.name}: this disk does not give it as it was" in export.stderr
        assert [one.name for one in (bag / "data" / "object").iterdir()] == [whole.name]
        check(bag)
        again = administer(receiver, "export", bag, "--json", check=False)
        assert (again.status, again.json()["unreadable"]) == (1, [damaged.name])
        backup = administer(receiver, "backup", tmp_path / "backup", check=False)
        assert backup.status == 1
        assert f"left out: object {damaged.name}" in backup.stderr


def test_folders_that_are_no_place_for_a_bag(world: World, tmp_path: Path) -> None:
    with world:
        receiver = world.box("receiver", "receiver")
        receiver.start()
        taken = tmp_path / "taken"
        taken.mkdir()
        (taken / "thesis.txt").write_text("years of work")
        refused = administer(receiver, "export", taken, check=False)
        assert refused.status == 1 and "not empty" in refused.stderr
        assert [path.name for path in taken.iterdir()] == ["thesis.txt"]

        bag = tmp_path / "bag"
        administer(receiver, "export", bag)
        assert bagit_says(bag)
        (bag / "bag-info.txt").write_text("External-Identifier: other-2024/receiver\n")
        assert "another log" in administer(receiver, "export", bag, check=False).stderr

        boat = world.box("km-bahari", "carrier")
        assert "is no receiver" in administer(boat, "export", tmp_path / "x", check=False).stderr


def test_the_reports(world: World) -> None:
    with world:
        receiver = delivered(world)
        status = administer(receiver, "status", "--json").json()
        assert (status["log"]["size"], status["running"]) == (2, True)
        report = administer(receiver, "report", "--json").json()
        assert report["summary"]["stations_complete"] == 1
        assert report["summary"]["forms_arrived"] == 2
        # Who visited is noted beside the visit: what it brought does not wait for that.
        eventually(lambda: device_of(receiver)["last_visit"], 30, "the device's visit is noted")
        assert device_of(receiver)["statements"] == 2
        table = administer(receiver, "report", "--csv").text.splitlines()
        assert len(table) == report["summary"]["forms"] + 1
        assert "2 of" in administer(receiver, "report").text
        assert administer(receiver, "report", "--json", "--csv", check=False).status == 2


def device_of(receiver: NodeBox) -> dict[str, Any]:
    """What the receiver reports of the device."""
    nodes: list[dict[str, Any]] = administer(receiver, "report", "--json").json()["nodes"]
    return next(one for one in nodes if one["node"] == "pulau")


def check(bag: Path) -> None:
    """Whether the Library of Congress's own tool finds the bag valid, with nothing in it that no manifest names."""
    bagit.Bag(str(bag)).validate()
    names = {path.name for path in bag.rglob("*") if path.is_file()}
    assert not any(name.startswith(".") for name in names)
    assert {"bagit.txt", "bag-info.txt", "checkpoint", "notices.pem", "root.pem"} <= names


def bagit_says(bag: Path) -> bool:
    """Whether the bag is valid."""
    try:
        bagit.Bag(str(bag)).validate()
    except bagit.BagError:
        return False
    return True
