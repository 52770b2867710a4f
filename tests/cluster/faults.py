"""A campaign of faults drawn at random, alone and combined, against receivers under load.

What holds afterwards is what `tests.cluster.traffic` looks at: no acknowledged package lost, none twice, one log that
only grew, and an audit that finds it right. A seed gives the same faults again, though not the same instants.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.boxes import NodeBox
from tests.cluster.company import Company
from tests.cluster.postgres import Postgres
from tests.cluster.swift import Swift
from tests.cluster.traffic import grown, traffic

COMBINED = 0.35
"""How often a second fault comes while the first one lasts."""
APART_SECONDS = 1.5
LASTING_SECONDS = 3.0
RECOVERED_SECONDS = 60.0
RECOVERED_ENTRIES = 3
BOATS = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong, and its end. Both may take a while."""

    name: str
    begin: Callable[[], object]
    end: Callable[[], object]


@dataclass
class Tally:
    """What a campaign came to."""

    faults: Counter[str] = field(default_factory=Counter)
    combined: int = 0
    made: int = 0
    acknowledged: int = 0
    cut: int = 0
    """Contacts that were lost."""
    entries: int = 0
    longest: float = 0.0
    """Seconds from the end of a fault until the log grew again."""
    seconds: float = 0.0

    def line(self) -> str:
        """In words."""
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        return (
            f"{self.faults.total()} faults ({kinds}; {self.combined} combined) in {self.seconds:.0f} s: "
            f"{self.made} packages, {self.acknowledged} acknowledged and none lost, {self.entries} entries and none "
            f"twice, {self.cut} contacts cut; the log grew again at most {self.longest:.1f} s after a fault ended"
        )


class Campaign:
    """Draws faults and has them happen."""

    def __init__(self, company: Company, postgres: Postgres, swift: Swift, seed: int) -> None:
        self._company = company
        self._postgres = postgres
        self._swift = swift
        self._dice = random.Random(seed)

    async def run(self, count: int) -> Tally:
        """Have so many faults happen under load, then look whether every promise was kept."""
        tally, begun = Tally(), time.monotonic()
        async with traffic(self._company, BOATS) as (running, onlookers):
            await grown(self._company)
            while tally.faults.total() < count:
                some = self._draw(min(2, count - tally.faults.total()))
                tally.faults.update(one.name for one in some)
                tally.combined += len(some) > 1
                await self._suffer(some)
                ended = time.monotonic()
                await grown(self._company, RECOVERED_ENTRIES, RECOVERED_SECONDS)
                tally.longest = max(tally.longest, time.monotonic() - ended)
        assert onlookers.sizes == sorted(onlookers.sizes)
        account = running.account
        tally.made, tally.acknowledged, tally.cut = len(account.made), len(account.acknowledged), account.cut
        tally.entries = await asyncio.to_thread(self._company.size)
        tally.seconds = time.monotonic() - begun
        return tally

    async def _suffer(self, some: list[Fault]) -> None:
        """Have faults begin one after the other, last, and end; then everything runs again."""
        suffered: list[Fault] = []
        try:
            for fault in some:
                suffered.append(fault)
                await asyncio.to_thread(fault.begin)
                await asyncio.sleep(self._dice.uniform(0, APART_SECONDS))
            await asyncio.sleep(self._dice.uniform(0, LASTING_SECONDS))
        finally:
            for fault in suffered:
                await asyncio.to_thread(fault.end)
        await asyncio.to_thread(self._company.start)

    def _draw(self, most: int) -> list[Fault]:
        """One fault, or two of different kinds."""
        leader = self._company.known_leader()
        follower = next(box for box in self._company.boxes if box is not leader)
        kinds = [
            [self._killed("leader killed", leader), self._hung("leader hung", leader)],
            [self._killed("follower killed", follower), self._hung("follower hung", follower)],
            [
                Fault("database stopped", self._postgres.stop, self._postgres.start),
                Fault("database killed", self._postgres.kill, self._postgres.start),
            ],
            [Fault("bucket away", self._swift.stop, self._swift.start)],
        ]
        several = 2 if most > 1 and self._dice.random() < COMBINED else 1
        return [self._dice.choice(kind) for kind in self._dice.sample(kinds, several)]

    def _killed(self, name: str, box: NodeBox) -> Fault:
        return Fault(name, box.kill, lambda: None)  # it is started again when all else is back

    def _hung(self, name: str, box: NodeBox) -> Fault:
        return Fault(name, lambda: _send(box, signal.SIGSTOP), lambda: _send(box, signal.SIGCONT))


def _send(box: NodeBox, what: signal.Signals) -> None:
    if box.daemon is not None and box.daemon.poll() is None:
        os.kill(box.daemon.pid, what)
