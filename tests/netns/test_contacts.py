"""Daemons whose links come and go: who meets, what goes on where it was cut, who is visited again.

Nothing is configured: real mDNS, IPv6 link-local addresses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from relay.limits import DEAD_LINK_SECONDS, STREAMS
from relay.records.statement import chunk_size_for
from tests.bench.trace import TRACED, read_trace
from tests.boxes import RELAY, Election, NodeBox
from tests.netns.harness import Host, Lab
from tests.processes import eventually

REGISTER = Path(__file__).parents[2] / "relay" / "cli" / "demo" / "data" / "register.csv"
STATIONS = ("1906022011006", "1906012001001")
FORM = "C-HASIL-KWK-BUPATI"
CONTACT_SECONDS = 15.0
"""A boat passes for half a minute: what a contact is for has to happen in half of it."""


class Coast:
    """An election whose boxes are on hosts of their own."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        self._lab = lab
        self._election = Election(folder / "office", REGISTER, election="coast-2024")
        self._photos = 0

    def box(
        self,
        name: str,
        role: str = "carrier",
        tps: Sequence[str] = (),
        relay: Sequence[str] = RELAY,
        below: NodeBox | None = None,
    ) -> tuple[NodeBox, Host]:
        """A node, not started, and its host. It visits the box that it is `below`."""
        host = self._lab.host(name)
        return self._election.admit(NodeBox(self.folder / name, host, relay=relay), role, tps=tps, below=below), host

    def submit(self, box: NodeBox, tps: str, size: int = 100_000) -> str:
        """Submit a photo on a box; the statement's id."""
        self._photos += 1
        photo = self.folder / f"{self._photos}.jpg"
        photo.write_bytes(b"\xff\xd8\xff" + os.urandom(size - 3))
        return box.submit(photo, tps=tps, form=FORM)


@pytest.fixture
def coast(lab: Lab, tmp_path: Path) -> Coast:
    return Coast(lab, tmp_path)


def gets(box: NodeBox, *statements: str) -> None:
    """Wait until a box holds exactly these packages, whole."""

    def whole() -> bool:
        return {one["id"]: one["state"] for one in box.list()} == dict.fromkeys(statements, "waiting")

    eventually(whole, CONTACT_SECONDS, f"{box.home.name} has {len(statements)} packages")


def test_two_islands_on_one_wifi_hold_each_others_packages_and_the_ferry_takes_both(lab: Lab, coast: Coast) -> None:
    islands, hosts = zip(*[coast.box(f"island-{tps[-2:]}", "operator", [tps]) for tps in STATIONS], strict=True)
    ferry, ferry_host = coast.box("ferry")
    wifi = lab.link(*hosts)
    packages = [coast.submit(island, tps) for island, tps in zip(islands, STATIONS, strict=True)]
    for box in (*islands, ferry):
        box.start()
    for island in islands:
        gets(island, *packages)

    assert ferry.list() == []
    wifi.join(ferry_host)
    gets(ferry, *packages)
    names = {island.home.name for island in islands}
    seen = lambda: {peer["node"] for peer in ferry.status()["peers"]} == names  # noqa: E731
    eventually(seen, CONTACT_SECONDS, "the ferry's status names both islands")


def test_a_node_that_was_met_before_is_visited_again_when_its_link_returns(lab: Lab, coast: Coast) -> None:
    island, island_host = coast.box("island", "operator", STATIONS[:1])
    ferry, ferry_host = coast.box("ferry")
    wifi = lab.link(island_host, ferry_host)
    packages = [coast.submit(island, STATIONS[0])]
    for box in (island, ferry):
        box.start()
    gets(ferry, *packages)

    wifi.down(ferry_host)  # the ferry sails: the island's link does not notice
    packages.append(coast.submit(island, STATIONS[0]))
    assert len(ferry.list()) == 1
    wifi.up(ferry_host)
    gets(ferry, *packages)

    wifi.leave(ferry_host)  # its Wi-Fi is switched off, and comes back under another name
    packages.append(coast.submit(island, STATIONS[0]))
    assert len(ferry.list()) == 2
    assert wifi.join(ferry_host) == "wlan1"
    gets(ferry, *packages)


def test_a_photo_goes_on_where_the_link_was_lost_silently(lab: Lab, coast: Coast) -> None:
    """Here the island visits and brings; what is fetched is `test_weather`'s."""
    size = 3_000_000
    ferry, ferry_host = coast.box("ferry", relay=TRACED)
    island, island_host = coast.box("island", "operator", STATIONS[:1], relay=TRACED, below=ferry)
    wifi = lab.link(island_host, ferry_host, rate_mbit=6)
    package = coast.submit(island, STATIONS[0], size)  # four seconds of this link
    for box in (island, ferry):
        box.start()

    def held() -> int:
        return sum(one["bytes_held"] for one in ferry.list())

    eventually(lambda: held() > size * 0.15, CONTACT_SECONDS, "a part of the photo came")
    wifi.down(ferry_host, carrier=True)
    begun = time.monotonic()

    def given_up() -> float | None:
        moments = [read_trace(box.home).lost(begun) for box in (island, ferry)]
        return min((one for one in moments if one is not None), default=None)

    noticed = eventually(given_up, CONTACT_SECONDS, "the visitor gives the contact up") or 0.0
    assert noticed - begun <= DEAD_LINK_SECONDS + 1
    eventually(lambda: not all(_connected(box) for box in (island, ferry)), CONTACT_SECONDS, "its status says so")
    assert 0 < _came(ferry) < size * 0.9

    wifi.up(ferry_host)
    gets(ferry, package)
    trace = read_trace(ferry.home)
    assert (trace.twice, _came(ferry)) == (0, size), "what had come was not sent again"
    assert trace.again <= STREAMS * chunk_size_for(size)
    assert [box.stop() for box in (island, ferry)] == [0, 0]


def _came(box: NodeBox) -> int:
    return sum(length for _, _, _, length in read_trace(box.home).chunks)


def _connected(box: NodeBox) -> bool:
    return any(peer["connected"] for peer in box.status()["peers"])
