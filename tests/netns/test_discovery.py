"""Discovery between hosts that have link-local IPv6 addresses and nothing else: who meets whom, how soon, and again.

Each host runs `lookout.py`: `relay.net.discovery` on every interface, alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from relay.limits import ANNOUNCE_SECONDS
from tests.netns.harness import Host, Lab, Link, eventually
from tests.processes import Failed

ELECTION = "0badcafe"
LOOKOUT = Path(__file__).with_name("lookout.py")
ROOT = str(Path(__file__).parents[2])

PATIENCE = 10.0
"""For what must come; how soon it came is looked at afterwards."""
MEET_SECONDS = 0.8
"""From the moment both have a usable address. A tenth of a second is usual; probing for a name alone takes 1.2."""
NOTICE_SECONDS = 0.4
"""From a change of the own link until it is known: less than the second of a poll, since the kernel tells."""
AWAY_SECONDS = 1.5
"""Longer than signs of life that say nothing new are held back (`SIGHTING_SECONDS`)."""
STARTUP_SECONDS = 6.0
"""An instance asks when it begins, a second and five seconds later, and then not for nine."""

Event = dict[str, Any]


class Lookout:
    """Discovery running on a host, and what it was told. Times are the monotonic clock's."""

    _ports = count(8470)

    def __init__(self, host: Host, node: str) -> None:
        self.host = host
        self.node = node * 64
        self.port = next(self._ports)
        argv = [sys.executable, str(LOOKOUT), self.node, ELECTION, str(self.port)]
        self._process = host.popen(argv, env={"PYTHONPATH": ROOT}, name="lookout")

    def told(self, since: float = 0.0) -> list[Event]:
        # What it logs comes between the events.
        lines = [line for line in self._process.output.split("\n")[:-1] if line.startswith("{")]
        return [event for event in map(json.loads, lines) if event["at"] > since]

    def usable(self, since: float = 0.0) -> float:
        """When it first had a usable address."""
        return self._when(lambda event: bool(event.get("usable")), since, PATIENCE, "a usable address")

    def without_address(self) -> None:
        """Wait until it has told that no interface is usable."""
        self._when(lambda event: event.get("usable") == [], 0.0, PATIENCE, "the list of interfaces")

    def finds(self, other: Lookout, since: float = 0.0) -> float:
        """When it found the other."""
        return self._when(
            lambda event: event.get("found") == other.node, since, PATIENCE, f"{other.host.name} in sight"
        )

    def loses(self, other: Lookout, since: float) -> float:
        """When it lost the other."""
        return self._when(lambda event: event.get("lost") == other.node, since, PATIENCE, f"{other.host.name} lost")

    def addresses(self, other: Lookout) -> list[list[str]]:
        """The addresses of each sighting of the other."""
        return [event["addresses"] for event in self.told() if event.get("found") == other.node]

    def saw(self, since: float = 0.0) -> set[str]:
        """The nodes it found."""
        return {event["found"] for event in self.told(since) if "found" in event}

    def lost(self) -> set[str]:
        """The nodes it lost."""
        return {event["lost"] for event in self.told() if "lost" in event}

    def _when(self, holds: Callable[[Event], bool], since: float, within: float, what: str) -> float:
        def look() -> Event | None:
            return next((event for event in self.told(since) if holds(event)), None)

        event = eventually(look, within, f"{self.host.name}: {what}", while_running=[self._process])
        assert event is not None
        at: float = event["at"]
        return at


def both_usable(*lookouts: Lookout, since: float = 0.0) -> float:
    return max(lookout.usable(since) for lookout in lookouts)


def meet(one: Lookout, other: Lookout, since: float = 0.0) -> float:
    """Wait until each found the other after `since`; when the later one did."""
    return max(one.finds(other, since), other.finds(one, since))


def two_that_met(lab: Lab) -> tuple[Link, Lookout, Lookout]:
    island, ferry = lab.host("island"), lab.host("ferry")
    wifi = lab.link(island, ferry)
    on_island, on_ferry = Lookout(island, "a"), Lookout(ferry, "b")
    meet(on_island, on_ferry)
    return wifi, on_island, on_ferry


def test_two_hosts_meet_the_moment_their_addresses_are_usable(lab: Lab) -> None:
    island, ferry = lab.host("island"), lab.host("ferry")
    on_island, on_ferry = Lookout(island, "a"), Lookout(ferry, "b")
    on_island.without_address()
    on_ferry.without_address()

    wifi = lab.link(island, ferry)
    met = meet(on_island, on_ferry)

    assert met - both_usable(on_island, on_ferry) < MEET_SECONDS
    assert on_island.addresses(on_ferry)[0] == [wifi.address(ferry, seen_from=island)]
    assert on_ferry.addresses(on_island)[0] == [wifi.address(island, seen_from=ferry)]
    assert (on_island.saw(), on_ferry.saw()) == ({on_ferry.node}, {on_island.node})  # and not themselves


def test_a_ferry_that_sails_and_returns_is_met_again(lab: Lab) -> None:
    wifi, on_island, on_ferry = two_that_met(lab)

    sailed = time.monotonic()
    wifi.down(on_ferry.host)
    assert on_ferry.loses(on_island, sailed) - sailed < NOTICE_SECONDS
    with pytest.raises(Failed, match="not within"):
        eventually(lambda: on_island.saw(sailed) | on_ferry.saw(sailed), AWAY_SECONDS, "a sign of life")

    returned = time.monotonic()
    wifi.up(on_ferry.host)
    usable = on_ferry.usable(returned)
    assert usable - returned < NOTICE_SECONDS
    assert meet(on_island, on_ferry, returned) - usable < MEET_SECONDS
    assert not on_island.lost(), "its own link never changed: whether the ferry is there, a visit finds out"


def test_an_interface_that_is_taken_away_and_another_that_comes(lab: Lab) -> None:
    wifi, on_island, on_ferry = two_that_met(lab)

    left = time.monotonic()
    wifi.leave(on_ferry.host)
    on_ferry.loses(on_island, left)

    joined = time.monotonic()
    assert wifi.join(on_ferry.host) == "wlan1"
    meet(on_island, on_ferry, joined)
    assert on_ferry.addresses(on_island)[-1] == [wifi.address(on_island.host, seen_from=on_ferry.host)]
    assert on_ferry.addresses(on_island)[-1][0].endswith("%wlan1")


def test_who_comes_into_reach_while_no_link_changes_is_met(lab: Lab) -> None:
    island, ferry = lab.host("island"), lab.host("ferry")
    wifi = lab.link(island, ferry)
    wifi.down(ferry, carrier=True)  # as over a mesh, or behind a radio bridge
    on_island, on_ferry = Lookout(island, "a"), Lookout(ferry, "b")
    both_usable(on_island, on_ferry)
    with pytest.raises(Failed, match="not within"):
        eventually(lambda: on_island.saw() | on_ferry.saw(), STARTUP_SECONDS, "somebody in sight")

    came = time.monotonic()
    wifi.up(ferry)
    assert meet(on_island, on_ferry, came) - came < 1.2 * ANNOUNCE_SECONDS + MEET_SECONDS


def test_links_are_kept_apart(lab: Lab) -> None:
    island, ferry, harbour = (lab.host(name) for name in ("island", "ferry", "harbour"))
    lagoon, quay = lab.link(island, ferry), lab.link(ferry, harbour)
    on_island, on_ferry, on_harbour = Lookout(island, "a"), Lookout(ferry, "b"), Lookout(harbour, "c")

    meet(on_island, on_ferry)
    meet(on_ferry, on_harbour)

    # Another announcement each has time to stray before the look.
    heard = time.monotonic()
    meet(on_island, on_ferry, heard)
    meet(on_ferry, on_harbour, heard)
    assert on_ferry.saw() == {on_island.node, on_harbour.node}
    assert on_island.saw() == on_harbour.saw() == {on_ferry.node}
    for link, one, other in ((lagoon, on_island, on_ferry), (quay, on_harbour, on_ferry)):
        for seeing, seen in ((one, other), (other, one)):
            address = link.address(seen.host, seen_from=seeing.host)
            assert all(addresses == [address] for addresses in seeing.addresses(seen))
