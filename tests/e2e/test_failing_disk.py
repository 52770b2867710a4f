"""A card that does not give one photograph any more: everything else is delivered, and people are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boxes import NodeBox
from tests.e2e.world import FORM, OTHER_FORM, TPS, World, holds
from tests.processes import eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def photographed(world: World, packages: int = 4) -> Path:
    """A stick with the packages of an island."""
    island = world.box("island", "operator", tps=[TPS])
    for number in range(packages):
        photo = world.photo(200_000 + 10_000 * number, f"{number}.jpg")
        island.submit(photo, tps=TPS, form=(FORM, OTHER_FORM)[number % 2])
    stick = world.folder / "stick"
    island.export(stick)
    return stick


def spoil_the_first(box: NodeBox) -> str:
    """Have the object that is delivered first be one that cannot be read; its name."""
    objects = sorted((box.home / "store" / "objects").glob("??/*"), key=lambda path: path.stat().st_size)
    objects[0].unlink()
    objects[0].mkdir()
    return objects[0].name


def left_out_of_a_stick(box: NodeBox, bad: str) -> None:
    """See that a box writes all it holds to a stick, but for an object, and says so."""
    stick = box.home.with_name("second stick")
    export = box.relay("export", stick, check=False)
    assert export.status == 1
    assert f"left out: objects/{bad}: It cannot be read (Is a directory)" in export.stderr
    assert "1 objects cannot be read here, and are not on the stick" in export.stderr
    assert len(list((stick / "objects").iterdir())) == 3
    assert len(list((stick / "statements").iterdir())) == 4


def test_a_boat_delivers_all_but_what_its_card_does_not_give(world: World) -> None:
    receiver = world.box("receiver", "receiver")
    boat = world.box("boat", "carrier", receivers=[receiver])
    boat.import_(photographed(world))
    bad = spoil_the_first(boat)
    left_out_of_a_stick(boat, bad)
    receiver.start()
    boat.start()
    holds(boat, ("delivered", 0), ("delivered", 1), ("delivered", 2), ("waiting", None))
    holds(receiver, ("delivered", 0), ("delivered", 1), ("delivered", 2), ("partial", None))
    eventually(lambda: boat.status()["unreadable"] == 1, 10, "the boat says so")
    eventually(lambda: (boat.status()["uplink"] or {}).get("reachable"), 10, "the uplink is not blamed")
    assert "1 objects cannot be read" in boat.relay("status").text
    (told,) = [line for line in boat.log.splitlines() if bad in line]
    assert "ERROR" in told
    assert "Replace it soon, and delete nothing" in told
    doctor = boat.relay("doctor", "--json", check=False)
    assert doctor.status == 1
    assert [one["level"] for one in doctor.json() if "cannot be read" in one["what"]] == ["wrong"]


def test_a_visitor_gets_all_but_what_a_card_does_not_give(world: World) -> None:
    boat = world.box("boat", "carrier")
    visitor = world.box("visitor", "carrier", peers=[world.ports["boat"]])
    boat.import_(photographed(world))
    spoil_the_first(boat)
    boat.start()
    visitor.start()
    holds(visitor, *[("waiting", None)] * 3, ("partial", None))


def lose(path: Path) -> None:
    """Have whoever opens it go round in circles."""
    path.unlink()
    path.symlink_to(path.name)


def alter(path: Path) -> None:
    """Have it be read with other bytes than were written, and no error."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("spoil", [lose, alter])
def test_a_boat_takes_what_its_card_does_not_give_from_the_island_again(
    world: World, spoil: Callable[[Path], None]
) -> None:
    receiver = world.box("receiver", "receiver")
    island = world.box("island", "operator", tps=[TPS])
    boat = world.box("boat", "carrier", receivers=[receiver], peers=[world.ports["island"]])
    island.submit(world.photo(300_000), tps=TPS, form=FORM)
    island.export(world.folder / "stick")
    boat.import_(world.folder / "stick")
    (bad,) = (boat.home / "store" / "objects").glob("??/*")
    spoil(bad)
    receiver.start()
    boat.start()
    eventually(lambda: boat.status()["unreadable"] == 1, 60, "the boat meets it")
    holds(receiver, ("partial", None))
    island.start()
    holds(receiver, ("delivered", 0))
    eventually(lambda: boat.status()["unreadable"] == 0, 20, "the boat says that it is there again")


def test_a_receiver_publishes_all_but_what_its_disk_does_not_give(world: World) -> None:
    """At every start, too."""
    receiver = world.box("receiver", "receiver")
    receiver.import_(photographed(world))
    bad = spoil_the_first(receiver)
    published = receiver.home / "public" / "object"
    for _ in range(2):
        receiver.start()
        eventually(lambda: len(list(published.glob("*"))) == 3, 20, "the others are published")
        eventually(lambda: receiver.status()["unreadable"] == 1, 10, "people are told")
        assert not (published / bad).exists()
        receiver.stop()
