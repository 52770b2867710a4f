"""Many nights of a plan, counted: when a station's packages are in, and how likely they are late.

Every figure comes with how sure it is: the chance of being late with its 95 % interval (Wilson's), the time of arrival
with the range that holds 98 nights of 100. The same plan, seed and number of draws give the same forecast.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.cli.simulate.chance import draw_night
from relay.cli.simulate.flow import NEVER, play
from relay.cli.simulate.plan import Call, Plan

_Z = 1.959964
"""Standard deviations to either side that hold 95 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Times:
    """Moments, in seconds of the plan's day, by which so many nights of a hundred it has happened; `NEVER` included."""

    first: float
    tenth: float
    median: float
    ninetieth: float
    last: float


@dataclass(frozen=True, slots=True)
class StationForecast:
    """One station: when all its packages are at the receiver, when their receipts are back, the chance to be late."""

    tps: str
    place: str
    arrival: Times
    receipt: Times
    risk: float
    risk_range: tuple[float, float]


@dataclass(frozen=True, slots=True)
class CallForecast:
    """One call: bytes moved in the mean of the nights in which it took place, and how often it was too short."""

    call: Call
    moved: float
    cut: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What `draws` nights of a plan come to; `risk` is the chance that any station is late."""

    plan: Plan
    draws: int
    seed: int
    stations: tuple[StationForecast, ...]
    calls: tuple[CallForecast, ...]
    risk: float
    risk_range: tuple[float, float]


def forecast(plan: Plan, draws: int, seed: int, progress: Callable[[], object] = lambda: None) -> Forecast:
    """Play a plan `draws` times. `progress` is called after each night."""
    random_numbers = random.Random(seed)  # noqa: S311  nothing secret: a forecast that can be repeated
    count = len(plan.stations)
    arrivals: list[list[float]] = [[] for _ in range(count)]
    receipts: list[list[float]] = [[] for _ in range(count)]
    moved = [0.0] * len(plan.calls)
    took_place = [0] * len(plan.calls)
    cut = [0] * len(plan.calls)
    late_nights = 0
    for _ in range(draws):
        outcome = play(plan, draw_night(plan, random_numbers))
        for station in range(count):
            own = slice(station * plan.packages, (station + 1) * plan.packages)
            arrivals[station].append(max(outcome.arrived[own]))
            receipts[station].append(max(outcome.receipt[own]))
        late_nights += any(times[-1] > plan.deadline for times in arrivals)
        for call, size in outcome.moved.items():
            moved[call] += size
            took_place[call] += 1
            cut[call] += call in outcome.cut
        progress()
    stations = tuple(
        _station(plan, tps, place.name, arrivals[index], receipts[index])
        for index, (tps, place) in enumerate(plan.stations)
    )
    calls = tuple(
        CallForecast(call, moved[index] / max(1, took_place[index]), cut[index] / draws)
        for index, call in enumerate(plan.calls)
    )
    return Forecast(plan, draws, seed, stations, calls, late_nights / draws, wilson(late_nights, draws))


def _station(plan: Plan, tps: str, place: str, arrivals: list[float], receipts: list[float]) -> StationForecast:
    late = sum(moment > plan.deadline for moment in arrivals)
    draws = len(arrivals)
    return StationForecast(tps, place, times_of(arrivals), times_of(receipts), late / draws, wilson(late, draws))


def times_of(moments: Sequence[float]) -> Times:
    """The ranks of a sample (nearest rank: a moment that was drawn, or `NEVER`)."""
    ordered = sorted(moments)
    return Times(*(ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in (0.01, 0.1, 0.5, 0.9, 0.99)))


def wilson(hits: int, draws: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a chance of which `hits` of `draws` were seen (E. B. Wilson, 1927)."""
    share, z2 = hits / draws, _Z * _Z
    middle = (share + z2 / (2 * draws)) / (1 + z2 / draws)
    half = _Z * math.sqrt(share * (1 - share) / draws + z2 / (4 * draws * draws)) / (1 + z2 / draws)
    return (0.0 if hits == 0 else middle - half, 1.0 if hits == draws else middle + half)


def moment_of(seconds: float) -> str | None:
    """A moment as a plan writes it: `17:30`, `1 06:00` the day after, seconds where there are some; None for never."""
    if seconds == NEVER:
        return None
    whole = round(seconds)
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}" + (f":{rest % 60:02}" if rest % 60 else "")
    return f"{days} {clock}" if days else clock


def describe(result: Forecast) -> dict[str, object]:
    """The forecast as `relay simulate --json` prints it. Moments are seconds from the day's midnight; null is never."""

    def times(of: Times) -> dict[str, float | None]:
        return {
            name: None if value == NEVER else round(value, 1)
            for name, value in (
                ("p1", of.first),
                ("p10", of.tenth),
                ("median", of.median),
                ("p90", of.ninetieth),
                ("p99", of.last),
            )
        }

    return {
        "title": result.plan.title,
        "day": result.plan.day.isoformat() if result.plan.day else None,
        "deadline": result.plan.deadline,
        "draws": result.draws,
        "seed": result.seed,
        "risk": round(result.risk, 5),
        "risk_range": [round(end, 5) for end in result.risk_range],
        "stations": [
            {
                "tps": one.tps,
                "place": one.place,
                "arrival": times(one.arrival),
                "receipt": times(one.receipt),
                "risk": round(one.risk, 5),
                "risk_range": [round(end, 5) for end in one.risk_range],
            }
            for one in result.stations
        ],
        "calls": [
            {
                "boat": one.call.boat,
                "place": one.call.place,
                "from": one.call.start,
                "to": one.call.end,
                "missed": one.call.missed,
                "bytes": round(one.moved),
                "too_short": round(one.cut, 5),
            }
            for one in result.calls
        ],
    }
