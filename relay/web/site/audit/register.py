"""The register that an audit of results holds everything against: the office's, or the one that the site lists itself.

Of the site's own, forms of which nothing arrived have no name, and a station's village and district are called what the
station's documents call them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from relay.limits import AUDIT_STATIONS
from relay.receiver.attachments import wrong
from relay.records.identifiers import is_code
from relay.records.notice import Station
from relay.trust.admission import Admission
from relay.web.site.audit.compared import refused
from relay.web.site.audit.difference import Difference
from relay.web.site.audit.served import AuditedSite
from relay.web.site.paths import region_path
from relay.web.site.regions import WHOLE, Document

_LEVELS = ("whole", "province", "regency", "district", "village")
_NAMELESS = "?"
"""How the name of a form begins that nobody knows."""


class AuditedRegister:
    """Stations, and the forms that each of them returns."""

    def __init__(self, stations: dict[str, Station], forms: tuple[str, ...], *, is_office: bool) -> None:
        self.stations = stations
        self.forms = forms
        self.is_office = is_office
        """Whether it is the office's, and not the site's own."""

    @property
    def knows_all_forms(self) -> bool:
        """Whether each form has a name."""
        return not any(form.startswith(_NAMELESS) for form in self.forms)

    def returned(self, entries: Mapping[str, list[int]]) -> Iterator[tuple[str, list[int]]]:
        """The forms of a station, those of the register and others, each with its `entries`."""
        for form in dict.fromkeys((*self.forms, *entries)):
            if not form.startswith(_NAMELESS):
                yield form, entries.get(form, [])

    def take_names(self, tps: str, head: Document) -> bool:
        """Without the office's, a station's village and district have the names that its documents give them. Returns
        whether these are others than before. Raises `ValueError` for what is no name."""
        station, told = self.stations.get(tps), head.get("station")
        if self.is_office or station is None or not isinstance(told, dict):
            return False
        names = {key: _name(told.get(key, "")) for key in ("village", "district")}
        if all(getattr(station, key) == name for key, name in names.items()):
            return False
        self.stations[tps] = replace(station, village=names["village"], district=names["district"])
        return True


async def open_register(admission: Admission, site: AuditedSite) -> AuditedRegister:
    """The office's where the auditor has it, else the site's own."""
    if admission.stations:
        return AuditedRegister(admission.stations, admission.forms, is_office=True)
    whole = await site.region(WHOLE)
    stations = await _SiteStations(site).below(WHOLE, whole, 0)
    return AuditedRegister(stations, _forms_of(whole), is_office=False)


class _SiteStations:
    """Reads the stations of a site region by region, and no more of either than there can be: one village may be named
    in every district, and a district by thousands of names."""

    def __init__(self, site: AuditedSite) -> None:
        self._site = site
        self._found: dict[str, Station] = {}
        self._regions = self._rows = 0

    async def below(self, key: str, document: Document, level: int) -> dict[str, Station]:
        """Read those of a region, beside what was read before."""
        if document.get("level") == "village":
            self._take(key, document)
            return self._found
        for below in _children(key, document):
            self._regions += 1
            if self._regions > AUDIT_STATIONS:
                raise wrong("wrong-result", f"The site lists more than {AUDIT_STATIONS} regions")
            part = await self._site.region(below)
            at = _LEVELS.index(part["level"]) if part.get("level") in _LEVELS else 0
            if at <= level:
                raise refused(region_path(below), Difference((), part, None))
            await self.below(below, part, at)
        return self._found

    def _take(self, key: str, village: Document) -> None:
        rows = _children(key, village)
        self._rows += len(rows)
        if self._rows > AUDIT_STATIONS:
            raise wrong("wrong-result", f"The site lists more than {AUDIT_STATIONS} polling stations")
        try:
            for tps, row in rows.items():
                self._found[tps] = _station_of(tps, row, village)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise refused(region_path(key), Difference((), None, None)) from error


def _children(key: str, document: Document) -> Document:
    """The rows of a region. Raises `Refused` where it has none."""
    rows = document.get("children")
    if not isinstance(rows, dict):
        raise refused(region_path(key), Difference((), None, None))
    return rows


def _forms_of(whole: Document) -> tuple[str, ...]:
    """The forms that each station returns, as the overview has them; those of which nothing arrived have no name."""
    try:
        sums = whole["sums"]
        named = sorted(sums["totals"])
        if not all(map(is_code, named)):  # they become paths
            raise refused(region_path(WHOLE), Difference((), None, None))
        expected, stations = sums["expected"], sums["stations"]
        if not type(expected) is type(stations) is int:
            raise refused(region_path(WHOLE), Difference((), None, None))
        count = expected // stations if stations else 0
        return (*named, *(f"{_NAMELESS}{number}" for number in range(len(named), min(count, 64))))
    except (KeyError, TypeError, AttributeError) as error:
        raise refused(region_path(WHOLE), Difference((), None, None)) from error


def _station_of(tps: str, row: Any, village: Document) -> Station:
    """A station from its village's document. Raises `KeyError`, `TypeError`, `AttributeError` or `ValueError` where
    that is none."""
    if not is_code(tps):  # it becomes a path
        raise ValueError
    names = {one["level"]: _name(one["name"]) for one in village["path"]}
    match row:
        case {"number": int(number), "island": str(island), "registered_voters": int(voters)}:
            return Station(
                tps,
                number,
                _name(village["name"]),
                names.get("district", ""),
                _name(island),
                voters,
                signal=False,
                province=names.get("province", ""),
                regency=names.get("regency", ""),
            )
    raise ValueError


def _name(shown: object) -> str:
    """The name of a place, which is written and hashed. Raises `ValueError` for what no text can be."""
    name = str(shown)
    name.encode()  # half a character, as JSON can have it, is none
    return name
