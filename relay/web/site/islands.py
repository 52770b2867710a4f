"""The islands of the map: which stations lie on them, and what has arrived from these. Pure.

They are told one by one, or by village and island where there are many; the map gathers them. Of more than can be
written again for each arrival there are only those that regions tell in their sums (`relay.web.site.regions`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from relay.limits import SITE_ISLAND_PARTS, SITE_MARKS
from relay.records.notice import Station
from relay.web.site.regions import Document

Marks = Mapping[str, Mapping[str, int]]
"""By island, how many stations have which mark."""


def blank_islands(villages: Iterable[tuple[Station, str]]) -> Document:
    """The islands before anything has arrived, from the stations with the keys of their villages."""
    on = [(station, village) for station, village in villages if station.island]
    if len(on) <= SITE_MARKS:
        return {"stations": {station.tps: _blank(station, village) for station, village in on}, "parts": {}}
    counts = Counter((village, station.island) for station, village in on)
    parts = {f"{at}/{island}": {"island": island, "marks": "0" * count} for (at, island), count in counts.items()}
    return {"stations": {}, "parts": parts if len(parts) <= SITE_ISLAND_PARTS else {}}


def mark_island(islands: Document, village: str, station: Station, rows: Mapping[str, Document]) -> bool:
    """Mark the state of a station's island, from the rows of its village; whether it is shown as one."""
    if station.tps in islands["stations"]:
        islands["stations"][station.tps]["mark"] = rows[station.tps]["sums"]["marks"]
        return True
    part = islands["parts"].get(f"{village}/{station.island}")
    if part:
        on = [row for _, row in sorted(rows.items()) if row["island"] == station.island]
        part["marks"] = "".join(row["sums"]["marks"] for row in on)
    return part is not None


def marks_of(islands: Document) -> Marks:
    """The islands that are told here, as regions tell of theirs."""
    found: dict[str, Counter[str]] = {}
    for one in islands["stations"].values():
        found.setdefault(one["island"], Counter())[one["mark"]] += 1
    for one in islands["parts"].values():
        found.setdefault(one["island"], Counter()).update(one["marks"])
    return found


def state_of(marks: Mapping[str, int]) -> str:
    """The mark of several stations: flagged when one is, whole or nothing when all are, else in part."""
    if "!" in marks:
        return "!"
    return next(iter(marks)) if len(marks) == 1 else "1"


def _blank(station: Station, village: str) -> Document:
    place = {key: getattr(station, key) for key in ("number", "island", "village")}
    return {**place, "region": village, "mark": "0"}
