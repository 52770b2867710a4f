"""The register that an audit of results holds everything against: the office's, or the one that the site lists itself.

Of the site's own, forms of which nothing arrived have no name, and a station's village and district are called what the
station's documents call them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
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
        whether these are others than before."""
        station, told = self.stations.get(tps), head.get("station")
        if self.is_office or station is None or not isinstance(told, dict):
            return False
        names = {key: str(told.get(key, "")) for key in ("village", "district")}
        if all(getattr(station, key) == name for key, name in names.items()):
            return False
        self.stations[tps] = replace(station, village=names["village"], district=names["district"])
        return True


async def open_register(admission: Admission, site: AuditedSite) -> AuditedRegister:
    """The office's where the auditor has it, else the site's own."""
    if admission.stations:
        return AuditedRegister(admission.stations, admission.forms, is_office=True)
    stations: dict[str, Station] = {}
    whole = await site.region(WHOLE)
    async for tps, station in _stations_below(site, whole, 0):
        stations[tps] = station
        if len(stations) > AUDIT_STATIONS:
            raise wrong("wrong-result", f"The site lists more than {AUDIT_STATIONS} polling stations")
    return AuditedRegister(stations, _forms_of(whole), is_office=False)


async def _stations_below(site: AuditedSite, document: Document, level: int) -> AsyncIterator[tuple[str, Station]]:
    """The stations of a region, as the site has them."""
    try:
        if document["level"] == "village":
            for tps, row in document["children"].items():
                yield tps, _station_of(tps, row, document)
            return
        keys = list(document["children"])
    except (KeyError, TypeError, AttributeError) as error:
        raise refused("region/…", Difference((), document, None)) from error
    for key in keys:
        below = await site.region(key)
        at = _LEVELS.index(below["level"]) if below.get("level") in _LEVELS else 0
        if at <= level:
            raise refused(region_path(key), Difference((), below, None))
        async for one in _stations_below(site, below, at):
            yield one


def _forms_of(whole: Document) -> tuple[str, ...]:
    """The forms that each station returns, as the overview has them; those of which nothing arrived have no name."""
    try:
        sums = whole["sums"]
        named = sorted(sums["totals"])
        if not all(map(is_code, named)):  # they become paths
            raise refused(region_path(WHOLE), Difference((), None, None))
        count = sums["expected"] // sums["stations"] if sums["stations"] else 0
        return (*named, *(f"{_NAMELESS}{number}" for number in range(len(named), min(count, 64))))
    except (KeyError, TypeError, AttributeError) as error:
        raise refused(region_path(WHOLE), Difference((), None, None)) from error


def _station_of(tps: str, row: Any, village: Document) -> Station:
    """A station from its village's document."""
    names = {one["level"]: str(one["name"]) for one in village["path"]}
    match row:
        case {"number": int(number), "island": str(island), "registered_voters": int(voters)}:
            return Station(
                tps,
                number,
                str(village["name"]),
                names.get("district", ""),
                island,
                voters,
                signal=False,
                province=names.get("province", ""),
                regency=names.get("regency", ""),
            )
    raise refused(region_path(str(village["key"])), Difference(("children", tps), row, None))
