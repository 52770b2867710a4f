"""What all nodes of one run share: the loop, the one source of chance, the links between them, the trace, ledger."""

from __future__ import annotations

import hashlib
from random import Random

from tests.simulation.air import Link
from tests.simulation.clockwork import VirtualLoop
from tests.simulation.company import Company
from tests.simulation.promises import Ledger
from tests.simulation.ship import Ship


class Sea:
    """One run's world. `tell` gets every event in words, where somebody wants to read along."""

    def __init__(self, loop: VirtualLoop, chance: Random, company: Company) -> None:
        self.loop = loop
        self.chance = chance
        self.company = company
        self.ledger = Ledger(company)
        self.ships: list[Ship] = []
        self.events = 0
        self.visits = 0
        self.crashes = 0
        self.tell = False
        self._links: dict[tuple[str, str], Link] = {}
        self._trace = hashlib.sha256()

    # -- the trace

    def note(self, what: str, who: str, whom: str = "", size: int = 0) -> None:
        """Something happened: it enters the digest of the run."""
        line = f"{self.loop.time():.6f} {what} {who} {whom} {size}"
        self._trace.update(line.encode())
        self.events += 1
        self.visits += what == "hello"
        if self.tell:
            print(line)

    @property
    def digest(self) -> str:
        """The digest of everything that happened so far."""
        return self._trace.hexdigest()[:16]

    # -- who reaches whom

    def at(self, url: str) -> Ship:
        """The node at an address."""
        return next(one for one in self.ships if url == one.url)

    @property
    def receivers(self) -> list[Ship]:
        """All receivers that there are, the first one first."""
        return [one for one in self.ships if one.is_receiver]

    def link(self, one: Ship, other: Ship) -> Link | None:
        """What joins two nodes now."""
        return self._links.get(_pair(one, other))

    def join(self, one: Ship, other: Ship, link: Link) -> None:
        """Two nodes come within reach."""
        self.note("meet", one.name, other.name)
        self._links[_pair(one, other)] = link
        one.sees(other)
        other.sees(one)

    def part(self, one: Ship, other: Ship) -> None:
        """They are out of reach."""
        link = self._links.pop(_pair(one, other), None)
        if link is not None:
            self.note("part", one.name, other.name)
            link.cut()

    def went_down(self, ship: Ship) -> None:
        """A node crashed: nobody reaches it."""
        self.note("down", ship.name)
        self.crashes += 1
        for pair in [pair for pair in self._links if ship.name in pair]:
            self._links.pop(pair).cut()


def _pair(one: Ship, other: Ship) -> tuple[str, str]:
    return (one.name, other.name) if one.name < other.name else (other.name, one.name)
