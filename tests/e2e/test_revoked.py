"""A device that was revoked learns so from whoever refuses it, by the office's own notice, and says so plainly."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.boxes import NodeBox
from tests.e2e.world import FORM, OTHER_FORM, TPS, World, holds
from tests.processes import eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def revoked_by(box: NodeBox) -> str | None:
    reason: str | None = box.status()["revocation"]
    return reason


def knows_of_a_revocation(box: NodeBox) -> bool:
    """Whether the daemon does: it says so itself."""
    console = tomllib.loads((box.home / "config.toml").read_text())["console"]
    with urlopen(f"http://{console}/metrics") as answer:
        return re.search(rb"^relay_revoked_nodes\S* 1", answer.read(), re.MULTILINE) is not None


def test_a_receiver_tells_a_device_that_it_is_revoked(world: World) -> None:
    receiver = world.box("receiver", "receiver")
    island = world.box("island", "operator", tps=[TPS], receivers=[receiver])
    receiver.start()
    island.start()
    island.submit(world.photo(5_000), tps=TPS, form=FORM)
    holds(receiver, ("delivered", 0))
    assert revoked_by(island) is None
    receiver.import_(world.election.revoke("island", "stolen at the harbour"))
    eventually(lambda: knows_of_a_revocation(receiver), 30, "the running receiver hears of it")
    island.submit(world.photo(6_000, "other.jpg"), tps=TPS, form=OTHER_FORM)
    eventually(lambda: revoked_by(island) == "stolen at the harbour", 60, "the island hears of it")
    said = island.relay("status").text
    assert "This node is revoked (stolen at the harbour)" in said
    assert "make a new node in another one (relay init)" in said
    assert "out of reach for" in said and "last reached" in said
    doctor = island.relay("doctor", check=False)
    assert doctor.status == 1 and "This node is revoked (stolen at the harbour)" in doctor.text
    assert "This node is revoked (stolen at the harbour)" in island.relay("pair", "--json").stderr
    photo = world.photo(7_000, "third.jpg")
    refused = island.relay("submit", "--tps", TPS, "--form", FORM, "--anyway", photo, check=False)
    assert refused.status == 1 and "revoked" in refused.stderr
    holds(receiver, ("delivered", 0))


def test_a_boat_tells_it_as_well(world: World) -> None:
    """The island visits the boat, which will not visit it any more."""
    boat = world.box("boat", "carrier")
    island = world.box("island", "operator", tps=[TPS], peers=[world.ports["boat"]])
    boat.import_(world.election.revoke("island", "lost"))
    boat.start()
    island.start()
    eventually(lambda: revoked_by(island) == "lost", 60, "the island hears of it")
    assert boat.status()["peers"] == [], "it is met by nobody"
    assert "config.toml sets public, and no page of this node's role is there" in boat.log


def test_what_a_revoked_boat_carries_gets_on_as_it_says(world: World) -> None:
    """By a stick: nobody fetches it from there."""
    island = world.box("island", "operator", tps=[TPS])
    boat, other = world.box("boat", "carrier"), world.box("other", "carrier")
    island.submit(world.photo(5_000), tps=TPS, form=FORM)
    island.export(world.folder / "there")
    boat.import_(world.folder / "there")
    revoked = world.election.revoke("boat", "sunk")
    for box in (boat, other):
        box.import_(revoked)
    command = f"relay export --home {boat.home} STICK"
    assert command in boat.relay("status").text and command in boat.relay("doctor", check=False).text
    boat.export(world.folder / "on")
    other.import_(world.folder / "on")
    holds(other, ("waiting", None))


def test_how_long_ago_the_receiver_was_reached(world: World) -> None:
    receiver = world.box("receiver", "receiver")
    boat = world.box("boat", "carrier", receivers=[receiver])
    assert "none yet" in boat.relay("status").text
    receiver.start()
    boat.start()
    eventually(lambda: (boat.status()["uplink"] or {}).get("reachable"), 30, "it was reached")
    assert " s ago" in boat.relay("status").text
    reached = boat.status()["uplink"]["reached_at"]
    receiver.kill()
    eventually(lambda: not boat.status()["uplink"]["reachable"], 90, "it is missed")
    uplink = boat.status()["uplink"]
    assert uplink["reached_at"] >= reached and uplink["failing_since"] >= uplink["reached_at"]
    assert "out of reach for" in boat.relay("status").text
    since = uplink["failing_since"]
    receiver.start()
    eventually(lambda: boat.status()["uplink"]["reachable"], 90, "it is reached again")
    assert boat.status()["uplink"]["failing_since"] is None
    assert boat.status()["uplink"]["reached_at"] >= since
