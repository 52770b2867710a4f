"""A receiver that shows one log to some boats and another to others: the boats find out, and say so.

The receiver's twin has its key and a log of its own. What each signs is in order by itself; it is the boats, carrying
checkpoints and receipts to each other, who see that it cannot all be of one log.
"""

from __future__ import annotations

import base64
import shutil
import urllib.request

from relay.log.checkpoint import open_checkpoint
from relay.node.home import Home
from relay.trust.witness import log_key
from tests.boxes import NodeBox, free_port
from tests.e2e.world import FORM, OTHER_FORM, OTHER_TPS, TPS, holds
from tests.hostile.waters import Waters
from tests.processes import eventually


def twin_of(waters: Waters, receiver: NodeBox) -> NodeBox:
    """Another daemon with a receiver's key, which begins a log of its own."""
    twin = NodeBox(waters.folder / "twin")
    waters._boxes.append(twin)
    shutil.copytree(receiver.home, twin.home)
    waters.ports["twin"], waters.public["twin"] = free_port(), free_port()
    twin.config(**waters.settings(twin))
    return twin


def go(waters: Waters, box: NodeBox, *others: NodeBox) -> None:
    """Run a box that visits these."""
    peers = [waters.ports[one.home.name] for one in others if one.home.name not in ("receiver", "twin")]
    receivers = [one for one in others if one.home.name in ("receiver", "twin")]
    box.config(**waters.settings(box, peers=peers, receivers=receivers))
    box.start()


def alarmed(box: NodeBox) -> bool:
    """Whether a box tells of an alarm."""
    return bool(box.status()["alarms"])


def assert_loud(waters: Waters, box: NodeBox) -> None:
    """Assert that everybody who looks is told, and that the evidence convinces without this program's word."""
    assert "CRITICAL" in box.log
    assert "ALARM" in box.relay("status").text
    console = box.home.joinpath("config.toml").read_text().partition('console = "')[2].partition('"')[0]
    page = urllib.request.urlopen(f"http://{console}/?lang=en", timeout=20).read().decode()
    assert 'role="alert"' in page
    receiver = Home(waters.folder / "receiver").member().identity
    for alarm in box.status()["alarms"]:
        raws = [base64.b64decode(one["base64"]) for one in alarm["evidence"] if one["kind"] == "checkpoint"]
        trees = [open_checkpoint(raw, log_key(receiver)) for raw in raws]
        assert len({(tree.size, tree.root) for tree in trees}) == len(trees)
        assert alarm["evidence"]
        assert receiver.name in alarm["what"]


def test_two_logs_of_one_size_are_told_when_two_boats_meet(waters: Waters) -> None:
    receiver = waters.box("receiver", "receiver")
    twin = twin_of(waters, receiver)
    islands = [waters.box("north", "operator", tps=[TPS]), waters.box("south", "operator", tps=[OTHER_TPS])]
    for island, shown, tps in zip(islands, (receiver, twin), (TPS, OTHER_TPS), strict=True):
        shown.start()
        island.submit(waters.photo(2_000, f"{tps}.jpg"), tps=tps, form=FORM)
        go(waters, island, shown)
        holds(island, ("delivered", 0))
        island.stop()
    north, south = islands
    go(waters, north)
    go(waters, south, north)
    eventually(lambda: alarmed(north) or alarmed(south), 30, "one of them sees it")
    assert_loud(waters, south if alarmed(south) else north)


def test_a_log_that_does_not_grow_out_of_what_another_boat_saw_is_told_at_the_next_visit(waters: Waters) -> None:
    receiver = waters.box("receiver", "receiver")
    twin = twin_of(waters, receiver)
    north, south = waters.box("north", "operator", tps=[TPS]), waters.box("south", "operator", tps=[OTHER_TPS])
    boat = waters.box("boat", "carrier")
    for form in (FORM, OTHER_FORM):
        south.submit(waters.photo(2_000, f"{form}.jpg"), tps=OTHER_TPS, form=form)
    north.submit(waters.photo(2_000, "north.jpg"), tps=TPS, form=FORM)
    for island, shown in ((north, receiver), (south, twin)):
        shown.start()
        go(waters, island, shown)
        eventually(lambda box=island: {one["state"] for one in box.list()} == {"delivered"}, 30, "delivered")  # type: ignore[misc]
        island.stop()
    twin.stop()
    go(waters, south)
    go(waters, boat, south)
    eventually(lambda: any(one["connected"] for one in boat.status()["peers"]), 30, "boat and south met")
    assert not (boat.status()["uplink"] or {}).get("reachable"), "the boat has not seen a receiver"
    boat.stop()
    go(waters, boat, receiver)
    eventually(lambda: alarmed(boat), 30, "the boat has it proved, and it is not")
    assert_loud(waters, boat)


def test_an_honest_log_raises_no_alarm(waters: Waters) -> None:
    receiver = waters.box("receiver", "receiver")
    north = waters.box("north", "operator", tps=[TPS])
    receiver.start()
    boat = waters.box("boat", "carrier", peers=[waters.ports["north"]], receivers=[receiver])
    boat.start()
    for place, form in enumerate((FORM, OTHER_FORM)):
        north.submit(waters.photo(2_000, f"{form}.jpg"), tps=TPS, form=form)
        go(waters, north)
        holds(north, *(("delivered", entry) for entry in range(place + 1)))
        north.stop()
    receiver.stop()
    receiver.start()
    north.submit(waters.photo(2_000, "again.jpg"), tps=TPS, form=FORM)
    go(waters, north)
    holds(north, ("delivered", 0), ("delivered", 1), ("delivered", 2))
    assert not any(alarmed(box) for box in (receiver, north, boat))
