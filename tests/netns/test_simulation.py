"""The model of `relay simulate` against real daemons that live the same plan, call by call.

`plan.toml` is read by both: the example's islands, harbours and boats in two minutes. Which calls are missed is drawn
once, by the plan's chances and a seed; that night the hosts here live, with Wi-Fi and uplinks of the plan's rates. The
simulation says between which moments 98 such nights of 100 bring a station in, and its receipts back to the island:
so it must be.
"""

from __future__ import annotations

import heapq
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from relay.cli.simulate.forecast import StationForecast, forecast
from relay.cli.simulate.plan import Plan, parse_plan
from tests.boxes import Election, NodeBox
from tests.netns.harness import Host, Lab, Radio
from tests.processes import eventually

PLAN = Path(__file__).with_name("plan.toml")
REGISTER = Path(__file__).parents[2] / "relay" / "cli" / "demo" / "data" / "register.csv"
FORMS = ("C-HASIL-KWK-GUBERNUR", "C-HASIL-KWK-BUPATI")
SEED = 15
RECEIVER = "receiver"
MBIT = 125_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_real_daemons_keep_the_timetable_that_was_simulated(lab: Lab, tmp_path: Path) -> None:
    plan = drawn(parse_plan(PLAN.read_bytes()), random.Random(SEED))
    assert any(call.missed for call in plan.calls), "a night on which all goes well shows little"
    night = Night(lab, tmp_path, plan)
    night.sail()
    seen = night.arrivals()
    for one in forecast(plan, 2_000, 1).stations:
        arrival, receipt = seen[one.tps], night.receipts[one.tps]
        print(f"{one.place}: in at {arrival:.1f} s, receipt at {receipt:.1f} s; {told(one)}")
        assert one.arrival.first <= arrival <= one.arrival.last, f"{one.place} came in at {arrival:.1f} s; {told(one)}"
        assert one.receipt.first <= receipt <= one.receipt.last, f"{one.place} knew at {receipt:.1f} s; {told(one)}"


def drawn(plan: Plan, chance: random.Random) -> Plan:
    """The same plan, where every call is missed for certain or takes place for certain."""
    calls = [replace(call, missed=float(chance.random() < call.missed)) for call in plan.calls]
    return replace(plan, calls=tuple(calls))


def told(one: StationForecast) -> str:
    """What was forecast."""
    came, knew = one.arrival, one.receipt
    return f"forecast {came.first:.1f} to {came.last:.1f} s, receipt {knew.first:.1f} to {knew.last:.1f} s"


@dataclass
class Night:
    """A plan's places, boats and receiver, as hosts; and when what happened, in seconds from its beginning."""

    lab: Lab
    folder: Path
    plan: Plan
    hosts: dict[str, Host] = field(default_factory=dict)
    boxes: dict[str, NodeBox] = field(default_factory=dict)
    airs: dict[str, Radio] = field(default_factory=dict)
    entries: dict[int, float] = field(default_factory=dict)
    receipts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*(place.name for place in self.plan.places), *self.plan.boats, RECEIVER):
            self.hosts[name] = host = self.lab.host(name.replace(" ", "-").lower())
            self.boxes[name] = NodeBox(self.folder / host.name, host)
        self._enrol()
        # Nobody is told an address: boats, islands and receivers find each other as they come into reach.
        for place in self.plan.places:
            host = self.hosts[place.name]
            self.airs[place.name] = self.lab.radio(host, rate_mbit=place.rate / MBIT, delay_ms=2, shared=True)
            if place.uplink:
                self.lab.link(host, self.hosts[RECEIVER], rate_mbit=place.uplink / MBIT)
        for box in self.boxes.values():
            box.start(within=60)

    def _enrol(self) -> None:
        """Make the election; each island signs its packages, of the plan's size."""
        election = Election(self.folder / "office", REGISTER, election="simulated-2024")
        for place in self.plan.places:
            box = self.boxes[place.name]
            election.admit(box, "operator" if place.stations else "carrier", name=box.home.name, tps=place.stations)
            for tps in place.stations:
                for form in FORMS[: self.plan.packages]:
                    photo = self.folder / f"{tps}-{form}.jpg"
                    photo.write_bytes(b"\xff\xd8\xff" + os.urandom(int(self.plan.size) - 3))
                    box.submit(photo, tps=tps, form=form)
        for name in (*self.plan.boats, RECEIVER):
            box = self.boxes[name]
            election.admit(box, "carrier" if name != RECEIVER else RECEIVER, name=box.home.name)

    def sail(self) -> None:
        """Play the timetable, and look on until a moment after its last call."""
        moves = list(self._moves())
        heapq.heapify(moves)
        began = time.monotonic()
        while moves:
            moment, comes, boat, place = heapq.heappop(moves)
            eventually(lambda moment=moment: self._look(began) >= moment, 60, f"it is {moment:.0f} s")  # type: ignore[misc]
            air, host = self.airs[place], self.hosts[boat]
            if not comes:
                air.down(host)
            elif host in air.hosts:
                air.up(host)
            else:
                air.join(host)

    def _moves(self) -> Iterator[tuple[float, bool, str, str]]:
        for call in self.plan.calls:
            if not call.missed:
                yield call.start, True, call.boat, call.place
                yield call.end, False, call.boat, call.place

    def _look(self, began: float) -> float:
        """Note what has been logged meanwhile, and which island knows; what time it is."""
        now = time.monotonic() - began
        checkpoint = self.boxes[RECEIVER].home / "public" / "checkpoint"
        for entry in range(int(checkpoint.read_text().splitlines()[1]) if checkpoint.exists() else 0):
            self.entries.setdefault(entry, now)
        for tps, place in self.plan.stations:
            if tps not in self.receipts and receipts(self.boxes[place.name], tps) == self.plan.packages:
                self.receipts[tps] = now
        return now

    def arrivals(self) -> dict[str, float]:
        """When the last package of each station got its entry."""
        came: dict[str, float] = {}
        for bundle in self.boxes[RECEIVER].list():
            came[bundle["tps"]] = max(came.get(bundle["tps"], 0.0), self.entries[bundle["entry"]])
        return came


def receipts(box: NodeBox, tps: str) -> int:
    """How many receipts of a station a node holds: read from its catalogue, which costs the night no command."""
    query = "SELECT count(*) FROM bundles WHERE entry IS NOT NULL AND tps = ?"
    with closing(sqlite3.connect(f"file:{box.home / 'store' / 'catalogue.db'}?mode=ro", uri=True)) as catalogue:
        (count,) = catalogue.execute(query, (tps,)).fetchone()
    return int(count)
