"""Journeys by boat and by hand, between real daemons: exactly once, resumed where they were cut, with any clock."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boxes import RELAY, Election, NodeBox, Setting
from tests.e2e.world import FORM, OTHER_TPS, REGISTER, TPS, Cable, World, holds
from tests.processes import eventually


def boat_settings(box: NodeBox) -> dict[str, Setting]:
    """What a box is set to now."""
    return tomllib.loads((box.home / "config.toml").read_text())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def test_two_boats_and_a_stick_bring_one_entry_and_one_receipt(world: World, tmp_path: Path) -> None:
    island = world.box("island", "operator", tps=[TPS])
    statement = island.submit(world.photo(300_000), tps=TPS, form=FORM)
    receiver = world.box("receiver", "receiver")
    boats = [world.box(f"boat-{n}", "carrier", peers=[world.ports["island"]], receivers=[receiver]) for n in (1, 2)]
    stick = tmp_path / "stick"
    island.export(stick)
    for box in (island, *boats):
        box.start()
    for boat in boats:
        holds(boat, ("waiting", None))
    island.stop()

    receiver.import_(stick)  # while both boats wait at its door
    receiver.start()
    for box in (*boats, receiver):
        holds(box, ("delivered", 0))
    receiver.import_(stick)  # and once more
    for name, box in (("boat", boats[0]), ("receiver", receiver)):
        box.export(tmp_path / f"from-{name}")
    (receipt,) = (tmp_path / "from-receiver" / "receipts").iterdir()
    assert receipt.read_bytes() == (tmp_path / "from-boat" / "receipts" / f"{statement}.cose").read_bytes()
    assert (receiver.home / "public" / "checkpoint").read_text().splitlines()[1] == "1"

    island.import_(tmp_path / "from-boat")
    holds(island, ("delivered", 0))
    island.host.run([*RELAY, "verify", "--root", world.election.root, tmp_path / "from-boat"])


def test_a_photo_that_was_cut_goes_on_from_there_with_another_carrier(world: World) -> None:
    size = 3_000_000
    island = world.box("island", "operator", tps=[TPS])
    island.submit(world.photo(size), tps=TPS, form=FORM)
    island.start()
    cable = Cable(world.ports["island"], size * 4 // 10)
    boat = world.box("boat", "carrier", peers=[cable.port])
    boat.start()
    eventually(cable.cut.is_set, 30, "the way is silent from 40 % on")
    kept = lambda: any(one["bytes_held"] > size * 0.15 for one in boat.list())  # noqa: E731
    eventually(kept, 30, "what had come is kept, less what was under way on each stream")
    boat.stop()
    (bundle,) = boat.list()
    assert bundle["state"] == "partial"
    assert bundle["bytes_held"] < size * 0.4
    ferry = world.box("ferry", "carrier", peers=[world.ports["island"]])
    ferry.start()
    holds(ferry, ("waiting", None))
    island.stop()
    other = Cable(world.ports["ferry"], size * 10)
    boat.config(**{**boat_settings(boat), "peers": [f"127.0.0.1:{other.port}"]})
    boat.start()
    holds(boat, ("waiting", None))
    other.close()
    fresh = size - int(bundle["bytes_held"])
    assert fresh <= other.passed < fresh * 1.05 + 50_000, "the boat did not go on from where it was cut"


def test_clocks_of_1970_and_2038_exchange_and_deliver(world: World) -> None:
    receiver = world.box("receiver", "receiver")
    receiver.start()
    island = world.box("island", "operator", tps=[TPS])
    island.clock = "1970-01-02"
    island.submit(world.photo(200_000), tps=TPS, form=FORM)
    island.start(clock="1970-01-02")
    boat = world.box("boat", "carrier", peers=[world.ports["island"]], receivers=[receiver])
    boat.start(clock="2038-02-01")
    holds(receiver, ("delivered", 0))
    holds(island, ("delivered", 0))


def test_a_node_of_another_election_gets_nothing_in_and_nothing_out(world: World, tmp_path: Path) -> None:
    island = world.box("island", "operator", tps=[TPS])
    island.submit(world.photo(50_000), tps=TPS, form=FORM)
    island.start()
    other = Election(tmp_path / "other-office", REGISTER, election="e2e-2024")  # the same name, another root
    stranger = world.box("stranger", "operator", tps=[OTHER_TPS], peers=[world.ports["island"]], election=other)
    stranger.submit(world.photo(50_000, "other.jpg"), tps=OTHER_TPS, form=FORM)
    stranger.start()
    friend = world.box("friend", "carrier", peers=[world.ports["island"], world.ports["stranger"]])
    friend.start()
    holds(friend, ("waiting", None))
    assert [one["tps"] for one in friend.list()] == [TPS]
    assert [one["tps"] for one in island.list()] == [TPS]
    assert [one["tps"] for one in stranger.list()] == [OTHER_TPS]
