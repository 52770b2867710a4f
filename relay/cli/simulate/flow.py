"""One night played: who holds what when, and when each package reaches the receiver.

A contact plan (as in CCSDS 734.3, "schedule-aware bundle routing") is a graph whose edges exist for a while and have a
capacity. Nodes here do what relay's nodes do: they copy, they do not hand over; both ways at once; package after
package, the least remaining first; a part is passed on like a whole, and what was cut off goes on at the next contact
with anyone; what has a receipt is carried no further. So the earliest arrival over every path is found by playing the
flood, event by event, rather than by choosing a route.

Of one package two nodes are taken to hold the same first part, so that two boats with a part each are never reckoned
together. A place's Wi-Fi is shared evenly by whatever moves there at the moment. Receipts take no time.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.cli.simulate.chance import Contact, Night
from relay.cli.simulate.plan import Plan

NEVER = math.inf
_COUNTED, _OPENS, _CLOSES = range(3)
"""Kinds of events; at the same moment in this order."""
_CRUMB = 1e-6
"""Bytes that rounding may leave over."""
_PART = 16
"""Of a package that still comes in, so many parts are passed on one by one."""


@dataclass(slots=True)
class Outcome:
    """By package: when it reached the receiver, when its receipt was back at its island (`NEVER` where it was not).

    By call: bytes that moved towards and away from the boat, and whether the boat left while something still moved.
    """

    arrived: list[float]
    receipt: list[float]
    moved: dict[int, float] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Way:
    """One direction of a link: from one node to another, over an air (a place's Wi-Fi, or an uplink of its own)."""

    source: int
    target: int
    air: int
    rate: float
    call: int
    package: int = -1
    goal: float = 0.0
    """Bytes of the package that the target will hold then."""


def play(plan: Plan, night: Night) -> Outcome:
    """Play one night. Package `i` is of station `i // plan.packages`."""
    return _Play(plan, night).run()


class _Play:
    """The state of a night. Nodes are numbered: the places, then the boats, then the receiver."""

    def __init__(self, plan: Plan, night: Night) -> None:
        self._plan = plan
        self._places = len(plan.places)
        self._receiver = self._places + len(plan.boats)
        homes = {place.name: index for index, place in enumerate(plan.places)}
        self._home = [homes[place.name] for _, place in plan.stations for _ in range(plan.packages)]
        count = len(self._home)
        self._held: list[dict[int, float]] = [{} for _ in range(self._receiver + 1)]
        self._receipts: list[set[int]] = [set() for _ in range(self._receiver + 1)]
        self._outcome = Outcome([NEVER] * count, [NEVER] * count)
        self._ways: list[_Way] = []
        self._now = 0.0
        self._events: list[tuple[float, int, int, object]] = []
        self._serial = itertools.count()
        for station, moment in enumerate(night.counted):
            self._at(moment, _COUNTED, station)
        for contact in night.contacts:
            self._at(contact.start, _OPENS, contact)
        for index, place in enumerate(plan.places):
            if place.uplink:
                rate = place.uplink * night.uplinks[index]
                self._ways.append(_Way(index, self._receiver, -1 - index, rate, -1))

    def run(self) -> Outcome:
        """Go from event to event until nothing is left to happen."""
        while True:
            self._choose()
            done, moment = self._first_done()
            if self._events and self._events[0][0] <= moment:
                moment, kind, _, what = heapq.heappop(self._events)
                self._advance(moment)
                self._happen(kind, what)
            elif done is not None:
                self._advance(moment)
                self._complete(done)
            else:
                return self._outcome

    def _at(self, moment: float, kind: int, what: object) -> None:
        heapq.heappush(self._events, (moment, kind, next(self._serial), what))

    def _happen(self, kind: int, what: object) -> None:
        if kind == _COUNTED and isinstance(what, int):
            for package in range(what * self._plan.packages, (what + 1) * self._plan.packages):
                self._held[self._home[package]][package] = self._plan.size
        elif kind == _OPENS and isinstance(what, Contact):
            boat = self._places + what.boat
            rate = self._plan.places[what.place].rate * what.share
            self._ways.append(_Way(what.place, boat, what.place, rate, what.call))
            self._ways.append(_Way(boat, what.place, what.place, rate, what.call))
            self._outcome.moved.setdefault(what.call, 0.0)
            self._spread_receipts()
            self._at(what.end, _CLOSES, what)
        elif isinstance(what, Contact):
            leaving = [way for way in self._ways if way.call == what.call]
            if any(way.package >= 0 for way in leaving):
                self._outcome.cut.add(what.call)
            self._ways = [way for way in self._ways if way.call != what.call]

    def _choose(self) -> None:
        """Give every idle way the package of which least is missing, unless another way brings it there already."""
        coming = {(way.target, way.package) for way in self._ways if way.package >= 0}
        for way in self._ways:
            if way.package >= 0:
                continue
            best = min(self._offers(way, coming), default=None)
            if best is not None:
                way.package = best[1]
                way.goal = self._goal(way)
                coming.add((way.target, way.package))

    def _goal(self, way: _Way) -> float:
        """What the source holds of the package; or but one part more, where the target could pass it on meanwhile."""
        held = self._held[way.source][way.package]
        if any(other.source == way.target and other.target != way.source for other in self._ways):
            return min(held, self._held[way.target].get(way.package, 0.0) + self._plan.size / _PART)
        return held

    def _offers(self, way: _Way, coming: set[tuple[int, int]]) -> Iterator[tuple[float, int]]:
        size, there = self._plan.size, self._held[way.target]
        known = self._receipts[way.source] | self._receipts[way.target]
        for package, held in self._held[way.source].items():
            new = held - there.get(package, 0.0)
            worth = new >= size / _PART - _CRUMB or (held >= size and new > 0)
            if worth and package not in known and (way.target, package) not in coming:
                yield size - there.get(package, 0.0), package

    def _rates(self) -> Iterator[tuple[_Way, float]]:
        busy = [way for way in self._ways if way.package >= 0]
        for way in busy:
            yield way, way.rate / sum(other.air == way.air for other in busy)

    def _first_done(self) -> tuple[_Way | None, float]:
        first: tuple[_Way | None, float] = (None, NEVER)
        for way, rate in self._rates():
            moment = self._now + (way.goal - self._held[way.target].get(way.package, 0.0)) / rate
            if moment < first[1]:
                first = (way, moment)
        return first

    def _advance(self, moment: float) -> None:
        seconds = max(0.0, moment - self._now)
        for way, rate in list(self._rates()) if seconds else ():
            there = self._held[way.target]
            there[way.package] = there.get(way.package, 0.0) + rate * seconds
            if way.call >= 0:
                self._outcome.moved[way.call] += rate * seconds
        self._now = max(self._now, moment)

    def _complete(self, done: _Way) -> None:
        """A way has brought what it began with, and so has whatever else came to its goal at the same instant."""
        for way in self._ways:
            there = way.package >= 0 and self._held[way.target].get(way.package, 0.0) >= way.goal - _CRUMB
            if way is not done and not there:
                continue
            self._held[way.target][way.package] = way.goal
            if way.target == self._receiver and way.goal >= self._plan.size:
                self._outcome.arrived[way.package] = min(self._outcome.arrived[way.package], self._now)
                self._receipts[self._receiver].add(way.package)
            way.package = -1
        self._spread_receipts()

    def _spread_receipts(self) -> None:
        """Receipts run over all that is linked now; what has one is not moved on."""
        changed = True
        while changed:
            changed = False
            for way in self._ways:
                for one, other in ((way.source, way.target), (way.target, way.source)):
                    if new := self._receipts[one] - self._receipts[other]:
                        self._receipts[other] |= new
                        changed = True
        for way in self._ways:
            if way.package in self._receipts[way.target] and way.target != self._receiver:
                way.package = -1
        for package, home in enumerate(self._home):
            if self._outcome.receipt[package] == NEVER and package in self._receipts[home]:
                self._outcome.receipt[package] = self._now
