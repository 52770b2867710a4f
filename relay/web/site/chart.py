"""The map of islands: where they lie, and whether their polling stations have arrived. Pure, and optional.

The input is a CSV of places with coordinates (`island,latitude,longitude`, degrees, WGS 84). Places are matched with
the register's islands and the largest regions by their names, or by a region's code in a column `region`; those
without a station are drawn as what they are, islands. Plate carrée, stretched for
the latitude: at the size of a regency nobody could tell it from a better projection.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.errors import BadInput
from relay.limits import MAX_MAP, MAX_MAP_PLACES, MAX_TEXT

_WIDTH = 480.0
_MARGIN = 24.0
_MOST_HEIGHT = 640.0
_ADVICE = "Give a CSV with the columns island, latitude, longitude (degrees)."


@dataclass(frozen=True, slots=True)
class Place:
    """An island, or the middle of a region, and where it lies in degrees; `region` is the region's code, if given."""

    name: str
    latitude: float
    longitude: float
    region: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place as drawn: `x` and `y` in the drawing's units; `state` of its stations, empty where there are none."""

    name: str
    x: float
    y: float
    state: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of `width` by `height` units; `scale` is the length in units of 10 km."""

    width: float
    height: float
    scale: float
    marks: tuple[Mark, ...]


def read_places(text: bytes) -> tuple[Place, ...]:
    """The places of a map file. Raises `BadInput` naming the line that is wrong."""
    if len(text) > MAX_MAP:
        raise BadInput(f"The map is over {MAX_MAP} bytes", _ADVICE)
    try:
        rows = csv.DictReader(io.StringIO(text.decode("utf-8-sig")), strict=True)
        places = [_place(row, line) for line, row in enumerate(rows, 2)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"The map is not a CSV ({error})", _ADVICE) from error
    if len(places) > MAX_MAP_PLACES:
        raise BadInput(f"The map has more than {MAX_MAP_PLACES} places", _ADVICE)
    return tuple(places)


def draw(places: Sequence[Place], states: Mapping[str, str]) -> Chart | None:
    """The chart of these places; `states` is the state of islands by name, and of regions by name and code. None where
    there is nothing to draw."""
    if not places:
        return None
    south, north = min(one.latitude for one in places), max(one.latitude for one in places)
    west, east = min(one.longitude for one in places), max(one.longitude for one in places)
    narrow = math.cos(math.radians((south + north) / 2))
    span_x, span_y = max((east - west) * narrow, 0.05), max(north - south, 0.05)
    scale = min((_WIDTH - 2 * _MARGIN) / span_x, (_MOST_HEIGHT - 2 * _MARGIN) / span_y)
    marks = [
        Mark(
            one.name,
            round(_MARGIN + (one.longitude - west) * narrow * scale, 1),
            round(_MARGIN + (north - one.latitude) * scale, 1),
            states.get(one.region or one.name, ""),
        )
        for one in places
    ]
    return Chart(
        round(span_x * scale + 2 * _MARGIN),
        round(span_y * scale + 2 * _MARGIN),
        round(scale * 10 / 111.2, 1),
        tuple(sorted(marks, key=lambda mark: (bool(mark.state), mark.name))),
    )


def _place(row: Mapping[str | None, str | None], line: int) -> Place:
    try:
        name = str(row["island"]).strip()
        latitude, longitude = float(str(row["latitude"])), float(str(row["longitude"]))
    except (KeyError, ValueError) as error:
        raise BadInput(f"Line {line} of the map is no place", _ADVICE) from error
    if not 0 < len(name) <= MAX_TEXT or not -90 <= latitude <= 90 or not -180 <= longitude <= 180:
        raise BadInput(f"Line {line} of the map is no place", _ADVICE)
    return Place(name, latitude, longitude, str(row.get("region") or "").strip()[:MAX_TEXT])
