"""The model of `relay simulate` against real daemons that live the same plan, call by call.

`plan.toml` is read by both. The simulation says between which moments 98 nights of 100 bring a station in; the hosts
here have Wi-Fi of the plan's rate, come and go by the plan's clock, and must bring it in between the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.boxes import RELAY, Election, NodeBox
from tests.netns.harness import Host, Lab, Radio
from tests.processes import eventually

PLAN = Path(__file__).with_name("plan.toml")
REGISTER = Path(__file__).parents[2] / "relay" / "cli" / "demo" / "data" / "register.csv"
FORM = "C-HASIL-KWK-BUPATI"
BYTES = 3_000_000
RATE_MBIT = 8


@pytest.mark.timeout(240)
def test_real_daemons_keep_the_timetable_that_was_simulated(lab: Lab, tmp_path: Path) -> None:
    plan = tomllib.loads(PLAN.read_text())
    forecast = simulated(tmp_path)
    homes = {station: place["name"] for place in plan["place"] for station in place.get("stations", ())}
    hosts = {name: lab.host(name) for name in ("west", "east", "harbour", "ferry", "receiver")}
    boxes = {name: NodeBox(tmp_path / name, host) for name, host in hosts.items()}
    enrol(tmp_path, boxes, homes)
    # Nobody is told an address: boats and islands find each other as they come into reach.
    airs = {
        place["name"]: lab.radio(hosts[place["name"]], rate_mbit=RATE_MBIT, delay_ms=2, shared=True)
        for place in plan["place"]
    }
    lab.link(hosts["harbour"], hosts["receiver"], rate_mbit=RATE_MBIT)
    for box in boxes.values():
        box.start()
    arrived = sail(plan, airs, hosts["ferry"], boxes["receiver"])

    entries = {bundle["entry"]: bundle["tps"] for bundle in boxes["receiver"].list()}
    measured = {entries[entry]: moment for entry, moment in arrived.items()}
    print(f"measured {measured}, simulated {forecast}")
    for station, moment in measured.items():
        first, last = forecast[station]
        assert first <= moment <= last, f"{station} came after {moment:.1f} s, not within {first} to {last}"
    assert set(measured) == set(homes)


def simulated(folder: Path) -> dict[str, tuple[float, float]]:
    """When each station comes in, as `relay simulate` has it: the range that holds 98 nights of 100."""
    done = subprocess.run(
        [*RELAY, "simulate", str(PLAN), "--json"], capture_output=True, check=True, cwd=Path(__file__).parents[2]
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return {one["tps"]: (one["arrival"]["p1"], one["arrival"]["p99"]) for one in document["stations"]}


def enrol(folder: Path, boxes: dict[str, NodeBox], homes: dict[str, str]) -> None:
    """Make the election; each island signs one package of the plan's size."""
    election = Election(folder / "office", REGISTER, election="simulated-2024")
    for name, box in boxes.items():
        stations = [station for station, place in homes.items() if place == name]
        role = "operator" if stations else "receiver" if name == "receiver" else "carrier"
        election.admit(box, role, name=name, tps=stations)
        for station in stations:
            photo = folder / f"{name}.jpg"
            photo.write_bytes(os.urandom(BYTES))
            box.submit(photo, tps=station, form=FORM)


def sail(plan: dict[str, Any], airs: dict[str, Radio], ferry: Host, receiver: NodeBox) -> dict[int, float]:
    """Play the timetable; when each log entry was published, in seconds from its beginning."""
    (boat,) = plan["boat"]
    moves: list[tuple[float, str, bool]] = []
    for call in boat["calls"]:
        if call.get("missed", 0) < 1:
            moves += [(seconds(call["from"]), call["at"], True), (seconds(call["to"]), call["at"], False)]
    checkpoint = receiver.home / "public" / "checkpoint"
    arrived: dict[int, float] = {}
    began = time.monotonic()

    def due(moment: float) -> bool:
        """Note what was logged meanwhile; whether the moment has come."""
        size = int(checkpoint.read_text().splitlines()[1]) if checkpoint.exists() else 0
        for entry in range(size):
            arrived.setdefault(entry, time.monotonic() - began)
        return time.monotonic() - began >= moment

    for moment, place, comes in moves:
        eventually(lambda moment=moment: due(moment), 60, f"it is {moment:.0f} s")  # type: ignore[misc]
        if not comes:
            airs[place].down(ferry)
        elif ferry in airs[place].hosts:
            airs[place].up(ferry)
        else:
            airs[place].join(ferry)
    return arrived


def seconds(moment: str) -> float:
    """A moment of the plan, `h:mm:ss`."""
    hours, minutes, rest = moment.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)
