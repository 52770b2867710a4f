"""The drill's report: who has done what, how long it took, what went wrong. From the receiver's records alone.

Pure but for `gather`. A station that sent nothing is missing; one whose record has not come is under way; one whose
record is here has seen its receipts, and is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from relay.cli.drill.record import FORM, Step, read_record
from relay.errors import RelayError
from relay.limits import MAX_DRILL_RECORD
from relay.node.byhand import read_plain
from relay.records.notice import Station
from relay.store.interface import Bundle, State
from relay.sync.custody import Custody


@dataclass(frozen=True, slots=True)
class StationReport:
    """One station: `state` is missing, under-way or done; `seconds` are all its steps together, once it is done."""

    tps: str
    place: str
    device: str
    state: str
    forms: tuple[str, ...]
    seconds: float | None
    steps: tuple[Step, ...]
    troubles: tuple[str, ...]


async def gather(custody: Custody) -> list[StationReport]:
    """The report of every station of the register, in its order."""
    bundles = await custody.store.bundles()
    records: dict[str, tuple[Step, ...] | RelayError] = {}
    for bundle in bundles:
        if bundle.form == FORM and bundle.state is State.DELIVERED and bundle.files:
            path = await custody.store.object_path(bundle.files[0].sha256)
            try:
                records[bundle.tps] = read_record(read_plain(path, MAX_DRILL_RECORD)) if path else ()
            except RelayError as error:
                records[bundle.tps] = error
    return report(custody.admission.stations.values(), custody.admission.forms, bundles, records)


def report(
    stations: Iterable[Station],
    forms: Iterable[str],
    bundles: Iterable[Bundle],
    records: Mapping[str, tuple[Step, ...] | RelayError],
) -> list[StationReport]:
    """Put together what came from where. `records` are by station; one that could not be read is its error."""
    expected = tuple(form for form in forms if form != FORM)
    sent: dict[str, list[Bundle]] = {}
    for bundle in bundles:
        if bundle.form != FORM:
            sent.setdefault(bundle.tps, []).append(bundle)
    return [_station(station, expected, sent.get(station.tps, []), records) for station in stations]


def _station(
    station: Station,
    expected: tuple[str, ...],
    bundles: list[Bundle],
    records: Mapping[str, tuple[Step, ...] | RelayError],
) -> StationReport:
    place = station.island or f"{station.village}, {station.district}"
    devices = dict.fromkeys(one.device for one in bundles)
    record = records.get(station.tps)
    here = tuple(form for form in expected if any(one.form == form for one in bundles))
    steps = record if isinstance(record, tuple) else ()
    troubles = list(_troubles(expected, bundles)) if bundles else []
    if isinstance(record, RelayError):
        troubles.append(record.what)
    troubles += [f"{step.name}: {trouble}" for step in steps if step.trouble for trouble in step.trouble.split("; ")]
    state = "missing" if not bundles else "done" if steps and here == expected else "under-way"
    seconds = sum(step.seconds for step in steps) if state == "done" else None
    return StationReport(station.tps, place, ", ".join(devices), state, here, seconds, steps, tuple(troubles))


def sums(steps: Iterable[Step]) -> dict[str, dict[str, float]]:
    """Who did what for how many seconds: by person, the kinds of steps in their order."""
    people: dict[str, dict[str, float]] = {}
    for step in steps:
        kinds = people.setdefault(step.who, {})
        kinds[step.kind] = kinds.get(step.kind, 0.0) + step.seconds
    return people


def _troubles(expected: tuple[str, ...], bundles: list[Bundle]) -> Iterable[str]:
    for form in expected:
        of_form = [one for one in bundles if one.form == form]
        if not of_form:
            yield f"{form}: not sent"
        elif not any(one.files for one in of_form):
            yield f"{form}: no photograph"
        if any(one.state is not State.DELIVERED for one in of_form):
            yield f"{form}: not complete here yet"
        flags = sorted({flag for one in of_form for flag in one.flags})
        if flags:
            yield f"{form}: the numbers do not add up ({', '.join(flags)})"
        corrected = sum(one.supersedes is not None for one in of_form)
        if corrected:
            yield f"{form}: corrected {corrected} times" if corrected > 1 else f"{form}: corrected"
        if len(of_form) - corrected > 1:
            yield f"{form}: sent {len(of_form) - corrected} times"


def describe(election: str, stations: list[StationReport]) -> dict[str, Any]:
    """The report as `relay drill report --json` prints it."""
    seconds = [one.seconds for one in stations if one.seconds is not None]
    return {
        "election": election,
        "stations": len(stations),
        "done": sum(one.state == "done" for one in stations),
        "under_way": sum(one.state == "under-way" for one in stations),
        "missing": [one.tps for one in stations if one.state == "missing"],
        "median_seconds": round(median(seconds), 1) if seconds else None,
        "reports": [
            {
                "tps": one.tps,
                "place": one.place,
                "device": one.device,
                "state": one.state,
                "forms": list(one.forms),
                "seconds": None if one.seconds is None else round(one.seconds, 1),
                "people": [
                    {"who": who, "seconds": {kind: round(seconds, 1) for kind, seconds in kinds.items()}}
                    for who, kinds in sums(one.steps).items()
                ],
                "steps": [
                    {"step": step.name, "seconds": step.seconds, "trouble": step.trouble, "who": step.who}
                    for step in one.steps
                ],
                "troubles": list(one.troubles),
            }
            for one in stations
            if one.state != "missing"
        ],
    }
