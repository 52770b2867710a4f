"""What the administrator's page shows: the receiver's report, put in order for people. Pure, but for asking for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.limits import ADMIN_PATIENCE_SECONDS, ADMIN_REPORT_SECONDS, MAX_ADMIN_REPORT
from relay.node.daemon import Daemon
from relay.receiver.reporting import Reporter, describe_receiver
from relay.receiver.results import is_settled, label_of

Document = dict[str, Any]
_HERE = ("arrived", "corrected", "conflict")
_TOLD_APART = ("chain-gap", "chain-fork", "two-statements-in-conflict")


class AdminReport:
    """The report of a running receiver: the document that `relay receiver status --json` prints.

    It is made anew after some seconds, of what is new in the log. While a long log is read for the first time, and of
    a log too long to be kept in mind, there is only how the receiver is: then the command, a process of its own, tells
    the rest.
    """

    def __init__(self, daemon: Daemon, clock: Callable[[], float] = time.monotonic) -> None:
        self._daemon = daemon
        self._reporter = Reporter(daemon.home, daemon.member, daemon.custody)
        self._clock = clock
        self._made: tuple[float, Document] | None = None
        self._making: asyncio.Task[Document] | None = None

    async def __call__(self) -> Document:
        """The newest report that can be had soon."""
        due = self._made is None or self._clock() - self._made[0] > ADMIN_REPORT_SECONDS
        if due and self._making is None:
            status = await describe_receiver(self._daemon.home, self._daemon.member, self._daemon.custody)
            if status["log"]["size"] > MAX_ADMIN_REPORT:
                return status
            self._making = asyncio.create_task(self._reporter.report())
        if self._making is not None:
            await asyncio.wait([self._making], timeout=ADMIN_PATIENCE_SECONDS)
        if self._making is not None and self._making.done():
            making, self._making = self._making, None
            self._made = self._clock(), making.result()
        if self._made is not None:
            return self._made[1]
        return await describe_receiver(self._daemon.home, self._daemon.member, self._daemon.custody)

    @property
    def being_read(self) -> bool:
        """Whether the log is being read; where it is not, and is not told of either, it is too long."""
        return self._making is not None

    @property
    def entries_read(self) -> int:
        """How far the log was read."""
        return self._reporter.reading.entries


@dataclass(frozen=True, slots=True)
class StationLine:
    """A station with what is known of each of its forms; `state` is complete, begun or missing."""

    tps: str
    number: int | None
    village: str
    area: str
    forms: tuple[Mapping[str, Any], ...]
    state: str


@dataclass(frozen=True, slots=True)
class Area:
    """An island, or a district of the mainland, with its stations; `name` is empty for what is not in the register."""

    name: str
    district: str
    island: bool
    stations: tuple[StationLine, ...]

    @property
    def key(self) -> str:
        """What tells it from others."""
        return f"{self.district}/{self.name}"

    def count(self, state: str) -> int:
        """How many of its stations are in a state."""
        return sum(one.state == state for one in self.stations)


def areas_of(rows: Iterable[Mapping[str, Any]]) -> list[Area]:
    """The stations of a report, islands first: the mainland has other ways to tell what is missing."""
    found: dict[tuple[bool, str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for row in rows:
        key = (not row["island"], row["island"] or row["district"], row["district"])
        found.setdefault(key, {}).setdefault(row["tps"], []).append(row)
    areas = []
    for (mainland, name, district), stations in sorted(found.items(), key=lambda one: (one[0][1] == "", one[0])):
        lines = sorted((_line(forms, name) for forms in stations.values()), key=_by_village)
        areas.append(Area(name, district, not mainland, tuple(lines)))
    return areas


def _line(forms: list[Mapping[str, Any]], area: str) -> StationLine:
    here = sum(form["state"] in _HERE for form in forms)
    state = "complete" if here == len(forms) else "begun" if here else "missing"
    first = forms[0]
    return StationLine(first["tps"], first["number"], first["village"], area, tuple(forms), state)


def _by_village(one: StationLine) -> tuple[str, int, str]:
    return one.village, one.number or 0, one.tps


def chosen(areas: Iterable[Area], area: str, state: str) -> list[StationLine]:
    """The stations of an area (all of them where it is empty) in a state: complete, incomplete, or any."""
    lines = [line for one in areas if area in ("", one.key) for line in one.stations]
    if state == "incomplete":
        return [one for one in lines if one.state != "complete"]
    return [one for one in lines if state != "complete" or one.state == "complete"]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A form of a station with the flags that it has."""

    tps: str
    form: str
    number: int | None
    place: str
    flags: tuple[Mapping[str, Any], ...]


def doubts_of(report: Mapping[str, Any]) -> list[Doubt]:
    """The flags of a report by station and form, each said once; without those that it tells in lists of their own.

    Forms that have none left since they were corrected come last: few fit the page.
    """
    rows = {(row["tps"], row["form"]): row for row in report.get("forms", ())}
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for flag in report.get("flags", ()):
        said = found.setdefault((flag["tps"], flag["form"]), [])
        same = any((label_of(one), one["values"]) == (label_of(flag), flag["values"]) for one in said)
        if not same and flag["flag"] not in _TOLD_APART:
            said.append(flag)
    doubts = [
        Doubt(tps, form, rows[tps, form]["number"], _place(rows[tps, form]), tuple(flags))
        for (tps, form), flags in found.items()
        if flags
    ]
    return sorted(doubts, key=lambda one: all(map(is_settled, one.flags)))


def _place(row: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (row["village"], row["island"] or row["district"])))
