"""A plan: places with their polling stations, boats with their timetable. TOML in, `Plan` out.

Times are seconds from midnight of the plan's day; sizes bytes, rates bytes per second. Anything unusable is a
`BadInput` that names the place in the file. docs/reference/plan.md lists every key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from relay.errors import BadInput
from relay.limits import MAX_PLAN, MAX_PLAN_CALLS, MAX_PLAN_PACKAGES, MAX_PLAN_PLACES, MAX_TEXT

_ADVICE = "Correct the plan (docs/reference/plan.md lists the keys) and start again."
_WHOLE = "the plan"
_MOMENT = re.compile(r"(?:(\d{1,2}) )?(\d{1,2}):(\d\d)(?::(\d\d))?", re.ASCII)
_AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?([A-Za-z/]+)", re.ASCII)
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_BYTES = {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_RATES = {"kbit/s": 125.0, "Mbit/s": 125e3, "Gbit/s": 125e6}


@dataclass(frozen=True, slots=True)
class Span:
    """Any value from `low` to `high`, each as likely."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Place:
    """An island or a harbour, with a box of its own: its stations, when they have counted, its Wi-Fi and uplink."""

    name: str
    rate: float
    stations: tuple[str, ...] = ()
    counted: Span = Span(0, 0)
    uplink: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """A boat within reach of a place's Wi-Fi, planned from `start` to `end`; `missed` is the chance that it is not."""

    boat: str
    place: str
    start: float
    end: float
    late: float
    missed: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is known beforehand. `calls` are each boat's in their order, boat by boat.

    `settle`: seconds from link up to the first byte. `share`: part of a link's rate that arrives as content.
    """

    title: str
    day: date | None
    deadline: float
    packages: int
    size: float
    settle: Span
    share: Span
    places: tuple[Place, ...]
    calls: tuple[Call, ...]

    @property
    def boats(self) -> tuple[str, ...]:
        """The boats' names."""
        return tuple(dict.fromkeys(call.boat for call in self.calls))

    @property
    def stations(self) -> tuple[tuple[str, Place], ...]:
        """Every polling station and its place."""
        return tuple((station, place) for place in self.places for station in place.stations)


def parse_plan(text: bytes) -> Plan:
    """Read a plan. Raises `BadInput`."""
    if len(text) > MAX_PLAN:
        raise BadInput(f"The plan is over {MAX_PLAN} bytes", _ADVICE)
    try:
        document = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"The plan is not TOML ({error})", _ADVICE) from error
    return _plan(_Table(_WHOLE, document))


class _Table:
    """A table of the file, each key of which is asked for once; the one left over is unknown."""

    def __init__(self, where: str, values: object) -> None:
        if not isinstance(values, dict):
            raise BadInput(f"{where} is not a table", _ADVICE)
        self.where = where
        self._left: dict[str, Any] = dict(values)

    def is_not(self, key: str, expected: str) -> BadInput:
        return BadInput(f"{self.where}: {key} is not {expected}", _ADVICE)

    def take(self, key: str, default: object = None) -> Any:
        """The value of a key. Raises `BadInput` where it is missing and has no default."""
        value = self._left.pop(key, default)
        if value is None:
            raise BadInput(f"{self.where} has no {key}", _ADVICE)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_TEXT:
            raise self.is_not(key, f"a text of at most {MAX_TEXT} characters")
        return value

    def number(self, key: str, default: float | None, low: float, high: float) -> float:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self.is_not(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def moment(self, key: str, default: str | None = None) -> float:
        return self._moment(key, self.take(key, default))

    def moments(self, key: str) -> Span:
        """Two moments, or one."""
        value = self.take(key)
        ends = [self._moment(key, one) for one in (value if isinstance(value, list) and len(value) == 2 else [value])]
        return self._span(key, ends)

    def amount(self, key: str, units: Mapping[str, float], default: str | None = None) -> float:
        return self._amount(key, self.take(key, default), units)

    def amounts(self, key: str, units: Mapping[str, float], default: list[str]) -> Span:
        """Two amounts, or one."""
        value = self.take(key, default)
        pair = value if isinstance(value, list) and len(value) == 2 else [value]
        return self._span(key, [self._amount(key, one, units) for one in pair])

    def shares(self, key: str, default: list[float]) -> Span:
        """Two numbers above 0 and up to 1, or one."""
        value = self.take(key, default)
        pair = value if isinstance(value, list) and len(value) == 2 else [value]
        if not all(isinstance(one, (int, float)) and not isinstance(one, bool) and 0 < one <= 1 for one in pair):
            raise self.is_not(key, "one or two numbers above 0 and up to 1")
        return self._span(key, [float(one) for one in pair])

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.take(key, [])
        if not isinstance(values, list) or not all(isinstance(one, str) and one.isprintable() for one in values):
            raise self.is_not(key, "a list of texts")
        return tuple(one[:MAX_TEXT] for one in values)

    def tables(self, key: str, most: int, name: str = "name") -> list[_Table]:
        """The tables of a list; each is called by the value of its `name`."""
        values = self.take(key, [])
        if not isinstance(values, list) or len(values) > most:
            raise self.is_not(key, f"a list of at most {most} tables")
        within = "" if self.where == _WHOLE else f"{self.where}, "
        return [
            _Table(f"{within}{key} {one.get(name, number)!r:.60}" if isinstance(one, dict) else key, one)
            for number, one in enumerate(values, 1)
        ]

    def end(self) -> None:
        """Raise `BadInput` for a key that nobody asked for."""
        if self._left:
            raise BadInput(f"{self.where} has the unknown key {min(self._left)[:80]!r}", _ADVICE)

    def _moment(self, key: str, value: object) -> float:
        match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self.is_not(key, 'a time such as "17:30", or "1 06:00" for the day after')
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        if minutes > 59 or seconds > 59 or hours > 24:
            raise self.is_not(key, "a time of the day")
        return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds

    def _amount(self, key: str, value: object, units: Mapping[str, float]) -> float:
        match = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
        if match is None or match[2] not in units or (float(match[1]) <= 0 and units is not _SECONDS):
            example = next(unit for unit in units)
            raise self.is_not(key, f'an amount such as "8 {example}" ({", ".join(units)})')
        return float(match[1]) * units[match[2]]

    def _span(self, key: str, ends: list[float]) -> Span:
        if ends[0] > ends[-1]:
            raise self.is_not(key, "a pair of which the smaller comes first")
        return Span(ends[0], ends[-1])


def _plan(table: _Table) -> Plan:
    day = table.take("day", "")
    if day != "" and type(day) is not date:
        raise table.is_not("day", "a date such as 2024-11-27")
    places = tuple(_place(one) for one in table.tables("place", MAX_PLAN_PLACES))
    calls = tuple(call for boat in table.tables("boat", MAX_PLAN_PLACES) for call in _boat(boat))
    plan = Plan(
        title=table.text("title", "A plan"),
        day=day or None,
        deadline=table.moment("deadline"),
        packages=int(table.number("packages", 2, 1, MAX_PLAN_PACKAGES)),
        size=table.amount("size", _BYTES, "6 MiB"),
        settle=table.amounts("settle", _SECONDS, ["1 s", "8 s"]),
        share=table.shares("share", [0.5, 0.9]),
        places=places,
        calls=calls,
    )
    table.end()
    _check(plan)
    return plan


def _place(table: _Table) -> Place:
    stations = table.texts("stations")
    place = Place(
        name=table.text("name"),
        rate=table.amount("rate", _RATES, "20 Mbit/s"),
        stations=stations,
        counted=table.moments("counted") if stations else Span(0, 0),
        uplink=table.amount("uplink", _RATES) if "uplink" in table._left else 0.0,
    )
    table.end()
    return place


def _boat(table: _Table) -> list[Call]:
    name = table.text("name")
    late = table.amount("late", _SECONDS, "0 s")
    missed = table.number("missed", 0.0, 0.0, 1.0)
    calls: list[Call] = []
    for one in table.tables("calls", MAX_PLAN_CALLS, "at"):
        call = Call(
            boat=name,
            place=one.text("at"),
            start=one.moment("from"),
            end=one.moment("to"),
            late=one.amount("late", _SECONDS) if "late" in one._left else late,
            missed=one.number("missed", missed, 0.0, 1.0),
        )
        one.end()
        if call.end <= call.start:
            raise one.is_not("to", "a time after `from`")
        if calls and call.start < calls[-1].end:
            raise one.is_not("from", "a time after the end of the call before")
        calls.append(call)
    table.end()
    return calls


def _check(plan: Plan) -> None:
    """Raise `BadInput` for what fits no plan as a whole."""
    names = [place.name for place in plan.places]
    stations = [station for station, _ in plan.stations]
    for what, found in (("place", names), ("polling station", stations)):
        if twice := {one for one in found if found.count(one) > 1}:
            raise BadInput(f"The plan has the {what} {min(twice)!r} twice", _ADVICE)
    for call in plan.calls:
        if call.place not in names:
            raise BadInput(f"{call.boat} calls at {call.place!r}, which is no place of the plan", _ADVICE)
    if not stations:
        raise BadInput("The plan has no polling station", "Give a [[place]] its stations.")
    if len(stations) * plan.packages > MAX_PLAN_PACKAGES:
        raise BadInput(f"The plan has over {MAX_PLAN_PACKAGES} packages", "Leave out stations that have a network.")
    if len(plan.calls) > MAX_PLAN_CALLS:
        raise BadInput(f"The plan has over {MAX_PLAN_CALLS} calls", "Plan one night at a time.")
    if not any(place.uplink for place in plan.places):
        raise BadInput("No place of the plan has an uplink", 'Give the harbour one: uplink = "10 Mbit/s".')
