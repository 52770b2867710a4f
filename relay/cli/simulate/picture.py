"""The picture of a forecast: an SVG that any browser shows, without scripts, fonts or links.

Above, the timetable as railways draw it: time runs to the right, each line is a place, each boat a path from call to
call; a call is as thick as what moves in it, and as pale as it is likely to be missed. Below, on the same scale, when
each station's packages are in: a bar for 80 nights of 100, a mark for half of them, the chance to be late beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.sax.saxutils import escape

from relay.cli.simulate.flow import NEVER
from relay.cli.simulate.forecast import Forecast, moment_of

_WIDTH, _LEFT, _RIGHT = 1000, 190, 120
_ROW, _STATION, _TOP = 56, 30, 74
_COLOURS = ("#0b6e99", "#b3541e", "#5b3f8c", "#2f7d32", "#9c2a55", "#6b5b00")
_STEPS = (10, 30, 60, 300, 600, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)
_STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#1c1c1c}.small{font-size:12px;fill:#444}"
    ".grid{stroke:#ccc;stroke-width:1}.row{stroke:#888;stroke-width:1.5}.title{font-size:18px;font-weight:600}"
    ".deadline{stroke:#b00020;stroke-width:2;stroke-dasharray:6 4}.late{fill:#b00020;font-weight:600}"
)


def draw(result: Forecast, told: Callable[[str], str] = str, number: Callable[[str], str] = str) -> str:
    """The SVG document, in the language of `told`, with decimals as `number` writes them."""
    return "\n".join(_Drawing(result, told, number).lines()) + "\n"


class _Drawing:
    def __init__(self, result: Forecast, told: Callable[[str], str], number: Callable[[str], str]) -> None:
        self._result = result
        self.told = told
        self._number = number
        plan = result.plan
        moments = [plan.deadline, *(call.start for call in plan.calls), *(call.end for call in plan.calls)]
        for station in result.stations:
            moments += [moment for moment in (station.arrival.tenth, station.arrival.ninetieth) if moment != NEVER]
        moments += [place.counted.low for place in plan.places if place.stations]
        self._first, self._last = min(moments), max(moments)
        margin = max(1.0, self._last - self._first) * 0.03
        self._first, self._last = max(0.0, self._first - margin), self._last + margin
        self._rows = {place.name: _TOP + _ROW // 2 + index * _ROW for index, place in enumerate(plan.places)}
        self._middle = _TOP + _ROW * len(plan.places)
        self._bottom = self._middle + 44 + _STATION * len(result.stations)

    def lines(self) -> Iterator[str]:
        plan = self._result.plan
        height = self._bottom + 46
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
            f'aria-label="{_text(plan.title)}">'
        )
        yield f'<style>{_STYLE}</style><rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
        yield f'<text class="title" x="16" y="28">{_text(plan.title)}</text>'
        day = f"{plan.day.isoformat()}, " if plan.day else ""
        said = self.told(
            f"{self._result.draws} nights drawn; any station late in {self._share(self._result.risk)} of them"
        )
        yield f'<text class="small" x="16" y="48">{_text(day + said)}</text>'
        yield from self._grid()
        yield from self._timetable()
        yield from self._stations()
        x = self._x(plan.deadline)
        yield f'<line class="deadline" x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{self._bottom}"/>'
        yield f'<text class="late" x="{x + 5}" y="{self._bottom + 36}">{moment_of(plan.deadline)}</text>'
        yield "</svg>"

    def _x(self, moment: float) -> float:
        share = (moment - self._first) / (self._last - self._first)
        return round(_LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT), 1)

    def _grid(self) -> Iterator[str]:
        step = next((one for one in _STEPS if (self._last - self._first) / one <= 12), _STEPS[-1])
        moment = (self._first // step + 1) * step
        while moment < self._last:
            x = self._x(moment)
            yield f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{self._bottom}"/>'
            yield f'<text class="small" x="{x}" y="{self._bottom + 18}" text-anchor="middle">{moment_of(moment)}</text>'
            moment += step

    def _timetable(self) -> Iterator[str]:
        for place in self._result.plan.places:
            y = self._rows[place.name]
            yield f'<line class="row" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
            yield f'<text x="{_LEFT - 12}" y="{y + 5}" text-anchor="end">{_text(place.name)}</text>'
            if place.uplink:
                said = _text(self.told("→ receiver"))
                yield f'<text class="small" x="{_WIDTH - _RIGHT + 8}" y="{y + 4}">{said}</text>'
            if place.stations and place.counted.high > place.counted.low:
                x, end = self._x(place.counted.low), self._x(place.counted.high)
                yield f'<rect x="{x}" y="{y - 4}" width="{end - x}" height="8" fill="#999" opacity=".45"/>'
        most = max((call.moved for call in self._result.calls), default=0.0)
        for index, boat in enumerate(self._result.plan.boats):
            yield from self._boat(boat, _COLOURS[index % len(_COLOURS)], most)

    def _boat(self, boat: str, colour: str, most: float) -> Iterator[str]:
        calls = [one for one in self._result.calls if one.call.boat == boat]
        path: list[str] = []
        for one in calls:
            y = self._rows[one.call.place]
            path += [f"{self._x(one.call.start)},{y}", f"{self._x(one.call.end)},{y}"]
        yield f'<polyline points="{" ".join(path)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        for one in calls:
            y, x, end = self._rows[one.call.place], self._x(one.call.start), self._x(one.call.end)
            thick = round(4 + 18 * (one.moved / most if most else 0), 1)
            said = self.told(
                f"{boat} at {one.call.place}, {moment_of(one.call.start)} to {moment_of(one.call.end)}: "
                f"{self._number(f'{one.moved / 1e6:.1f}')} MB; "
                f"missed {self._share(one.call.missed)}, too short {self._share(one.cut)}"
            )
            yield (
                f'<rect x="{x}" y="{y - thick / 2}" width="{max(2.0, round(end - x, 1))}" height="{thick}" rx="2" '
                f'fill="{colour}" opacity="{max(0.25, 1 - one.call.missed):.2f}"><title>{_text(said)}</title></rect>'
            )
        first = calls[0].call
        x, y = self._x(first.start), self._rows[first.place] - 16
        yield f'<text class="small" x="{x}" y="{y}" style="fill:{colour}">{_text(boat)}</text>'

    def _stations(self) -> Iterator[str]:
        yield f'<text class="small" x="16" y="{self._middle + 22}">{_text(self.told("At the receiver:"))}</text>'
        for index, one in enumerate(self._result.stations):
            y = self._middle + 44 + index * _STATION
            yield f'<text x="{_LEFT - 12}" y="{y + 5}" text-anchor="end">{_text(one.tps)}</text>'
            if one.arrival.tenth != NEVER:
                x, end = self._x(one.arrival.tenth), self._x(min(one.arrival.ninetieth, self._last))
                yield f'<rect x="{x}" y="{y - 6}" width="{max(2.0, round(end - x, 1))}" height="12" fill="#8fb8c9"/>'
            if one.arrival.median != NEVER:
                x = self._x(one.arrival.median)
                yield f'<line x1="{x}" x2="{x}" y1="{y - 9}" y2="{y + 9}" stroke="#0b3c5d" stroke-width="3"/>'
            style = "late" if one.risk >= 0.05 else "small"
            late = _text(self.told(f"late: {self._share(one.risk)}"))
            yield f'<text class="{style}" x="{_WIDTH - _RIGHT + 8}" y="{y + 5}">{late}</text>'

    def _share(self, value: float) -> str:
        """A chance in per cent; never rounded to none, or to certainty."""
        if 0 < value < 0.001:
            return self._number("<0.1 %")
        if 0.999 < value < 1:
            return self._number(">99.9 %")
        return self._number(f"{value * 100:.1f} %".replace(".0 %", " %"))


def _text(value: str) -> str:
    return escape(value, {'"': "&quot;"})
