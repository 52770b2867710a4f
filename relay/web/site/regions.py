"""The places that results are gathered by, and sums over them. Pure.

A station lies in a village, that in a district; where codes of polling stations are the government's own (13 digits:
province 2, regency 2, district 2, village 4, station 3), regencies and provinces follow from them, and have the names
that the register gives them, or else show their codes. The sums of a
region are those of its parts, so that one arrival changes one row at each level and nothing else is read.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.limits import SITE_ISLANDS, SITE_MARKS, SITE_NOTE_FLAGS, SITE_NOTES
from relay.receiver.results import label_of
from relay.records.notice import Station
from relay.web.site.shortened import shorten

WHOLE = "index"
"""The key of the whole election."""

_LEVELS = {"province": 2, "regency": 4, "district": 6, "village": 10}
_CODE_DIGITS = 13

Document = dict[str, Any]
"""What is published as JSON."""


@dataclass(frozen=True, slots=True)
class Region:
    """A place with a page: `key` names it in paths, `level` is whole, province, regency, district or village."""

    key: str
    name: str
    level: str

    def to_map(self) -> Document:
        """As the documents of those below it name it."""
        return {"key": self.key, "name": self.name, "level": self.level}


ALL = Region(WHOLE, "", "whole")
"""The whole election."""


@dataclass(frozen=True, slots=True)
class Regions:
    """How the stations of a register are gathered: by the levels above villages that say anything.

    By code, a region has the name that most of its stations give it in `names`: one that is misspelt changes nothing.
    """

    levels: tuple[str, ...] = ("district", "village")
    by_code: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(stations: Iterable[Station]) -> Regions:
        """What fits a register: codes, where all stations have them, else the names of districts and villages."""
        given: dict[str, Counter[str]] = {}
        tops: dict[str, set[str]] = {"province": set(), "regency": set()}
        for one in stations:
            if len(one.tps) != _CODE_DIGITS or not one.tps.isdigit() or not one.tps.isascii():
                return Regions()
            for level, seen in tops.items():
                seen.add(one.tps[: _LEVELS[level]])
            for level, name in zip(_LEVELS, (one.province, one.regency, one.district, one.village), strict=True):
                given.setdefault(one.tps[: _LEVELS[level]], Counter())[name] += bool(name)
        if not given:
            return Regions()
        above = tuple(level for level, seen in tops.items() if len(seen) > 1)
        names = {key: counts.most_common(1)[0][0] for key, counts in given.items()}
        return Regions((*above, "district", "village"), by_code=True, names=names)

    def path(self, station: Station) -> tuple[Region, ...]:
        """The regions that a station lies in, from the whole election down to its village."""
        return (ALL, *(self._region(level, station) for level in self.levels))

    def depth(self, region: Region) -> int:
        """How many regions lie above this one."""
        return ("whole", *self.levels).index(region.level)

    def _region(self, level: str, station: Station) -> Region:
        if self.by_code:
            key = station.tps[: _LEVELS[level]]
            return Region(key, self.names.get(key) or ".".join(re.findall("..", key)), level)
        name = {"village": station.village, "district": station.district}[level]
        district = _slug(station.district)
        return Region(district if level == "district" else f"{district}--{_slug(station.village)}", name, level)


def fingerprint(stations: Iterable[Station], forms: Sequence[str]) -> str:
    """A short name for a register: another one means other pages."""
    whole = hashlib.sha256(repr(tuple(forms)).encode())
    for one in stations:
        whole.update(repr((one.tps, one.number, one.village, one.district, one.island, one.registered_voters)).encode())
        if one.province or one.regency:
            whole.update(repr((one.province, one.regency)).encode())
    return whole.hexdigest()[:16]


def blank_region(region: Region, above: Sequence[Region]) -> Document:
    """The document of a region without anything in it."""
    return {**region.to_map(), "path": [one.to_map() for one in above], "children": {}}


def region_row(document: Mapping[str, Any]) -> Document:
    """A region's row in the one above it."""
    return {key: document[key] for key in ("name", "level", "sums", "notes")}


def station_row(station: Station, forms: Sequence[str], results: Mapping[str, Document]) -> Document:
    """A station's row in its village: `results` are the published results of its forms that arrived."""
    results = {form: _brief(one) for form, one in results.items()}
    arrived = sum(form in results for form in forms)
    flagged = sum(bool(one["flags"]) for one in results.values())
    complete = arrived == len(forms)
    mark = "!" if flagged else "2" if complete else "1" if results else "0"
    return {
        "number": station.number,
        "island": station.island,
        "registered_voters": station.registered_voters,
        "forms": {form: _form_row(one) for form, one in sorted(results.items())},
        "sums": {
            "stations": 1,
            "complete": int(complete),
            "begun": int(bool(results)),
            "expected": len(forms),
            "arrived": arrived,
            "corrected": sum(one["corrected"] for one in results.values()),
            "flagged": flagged,
            "marks": mark,
            "islands": {station.island: {mark: 1}} if station.island else {},
            "totals": {form: _total(one) for form, one in sorted(results.items()) if form in forms},
        },
        "notes": [
            {
                "tps": station.tps,
                "number": station.number,
                "village": station.village,
                "form": form,
                "flags": one["flags"],
                "more_flags": one["more_flags"],
            }
            for form, one in sorted(results.items())
            if one["flags"]
        ],
    }


def results_of(row: Mapping[str, Any]) -> dict[str, Document]:
    """What a station's row says of its forms, as `station_row` takes it: none of them has to be read again."""
    flags = {note["form"]: note["flags"] for note in row["notes"]}
    return {form: {**one, "flags": flags.get(form, [])} for form, one in row["forms"].items()}


def add_up(rows: Collection[Mapping[str, Any]]) -> tuple[Document, list[Document]]:
    """The sums and the notes of a region from the rows of its parts.

    Marks (one character a station), notes and islands go up as long as they stay few; further up there are numbers
    only.
    """
    sums: Document = dict.fromkeys(("stations", "complete", "begun", "expected", "arrived", "corrected", "flagged"), 0)
    marks: list[str] = []
    notes: list[Document] = []
    totals: dict[str, Document] = {}
    for row in rows:
        part = row["sums"]
        for key in sums:
            sums[key] += part[key]
        marks.append(part["marks"])
        notes += row["notes"]
        for form, total in part["totals"].items():
            _add_total(totals.setdefault(form, _no_total()), total)
    every = "".join(marks)
    sums["marks"] = every if len(every) == sums["stations"] <= SITE_MARKS else ""
    sums["islands"] = _islands(row["sums"]["islands"] for row in rows)
    sums["totals"] = dict(sorted(totals.items()))
    return sums, notes if len(notes) == sums["flagged"] <= SITE_NOTES else []


def lacking_notes(document: Document) -> list[str]:
    """The parts of a region whose notes it will list, and does not have in its rows."""
    rows: dict[str, Document] = document["children"]
    few = sum(row["sums"]["flagged"] for row in rows.values()) <= SITE_NOTES
    return [key for key, row in rows.items() if len(row["notes"]) < row["sums"]["flagged"]] if few else []


def sum_up(document: Document) -> None:
    """Give a region its sums and notes. Notes and islands that are too many for it to list are not kept in the rows of
    its parts either: a country's would be megabytes, written again for every arrival."""
    rows = document["children"].values()
    document["sums"], document["notes"] = add_up(rows)
    if document["level"] == "village":
        return
    if document["sums"]["flagged"] > SITE_NOTES:
        for row in rows:
            row["notes"] = []
    if document["sums"]["islands"] is None:
        for row in rows:
            row["sums"] = {**row["sums"], "islands": None}  # the part's own document has them on


def _islands(parts: Iterable[Mapping[str, Mapping[str, int]] | None]) -> Document | None:
    """The islands of some parts, each with how many of its stations have which mark; None where these are too many, and
    so they stay: a register's islands are all there before anything arrives."""
    found: dict[str, dict[str, int]] = {}
    for part in parts:
        if part is None:
            return None
        for island, marks in part.items():
            held = found.setdefault(island, {})
            for mark, count in marks.items():
                held[mark] = held.get(mark, 0) + count
    return dict(sorted(found.items())) if len(found) <= SITE_ISLANDS else None


def _brief(result: Mapping[str, Any]) -> Document:
    """A result with as many of its flags as regions tell."""
    flags, more = shorten(result["flags"], result.get("more_flags", 0), SITE_NOTE_FLAGS)
    return {**result, "flags": flags, "more_flags": more}


def _form_row(result: Mapping[str, Any]) -> Document:
    keys = ("entry", "arrived", "state", "counted", "corrected", "tally", "more_flags")
    return {**{key: result[key] for key in keys}, "flags": [label_of(flag) for flag in result["flags"]]}


def _total(result: Mapping[str, Any]) -> Document:
    total = _no_total()
    total["arrived"] = 1
    if result["counted"]:
        tally = result["tally"]
        total["counted"] = 1
        total["flagged"] = int(bool(result["flags"]))
        for key in ("voters", "valid", "invalid"):
            total[key] = tally.get(key, 0)
        total["votes"] = dict(tally["votes"])
    return total


def _no_total() -> Document:
    return {"arrived": 0, "counted": 0, "flagged": 0, "voters": 0, "valid": 0, "invalid": 0, "votes": {}}


def _add_total(total: Document, part: Mapping[str, Any]) -> None:
    for key in ("arrived", "counted", "flagged", "voters", "valid", "invalid"):
        total[key] += part[key]
    for pair, votes in part["votes"].items():
        total["votes"][pair] = total["votes"].get(pair, 0) + votes


def _slug(name: str) -> str:
    """A name as part of a path; one that loses something by it gets a few digits of its hash."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    plain = re.fullmatch(r"[A-Za-z0-9]+( [A-Za-z0-9]+)*", name) is not None and len(name) <= 40
    return slug if plain and name == name.title() else f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
