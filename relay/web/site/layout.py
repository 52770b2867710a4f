"""All regions of a site, written at once: of another register, with other pages, or where one was damaged.

They begin with what was published of their stations, so that nobody sees less than before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from relay.records.notice import Station
from relay.store.shelf import Page, Shelf
from relay.web.site.documents import Documents
from relay.web.site.islands import blank_islands, mark_island
from relay.web.site.pages import Look
from relay.web.site.paths import GATHERED, ISLANDS, NEWEST, STRAYS, form_path, region_path
from relay.web.site.press import Press
from relay.web.site.regions import (
    ALL,
    Document,
    Region,
    Regions,
    blank_region,
    region_row,
    results_of,
    station_row,
    sum_up,
)
from relay.web.site.register import Register

_AT_ONCE = 64
"""Regions that are in hand at a time."""


class Layout:
    """A site that can be written from its register. What its stations begin with is for a subclass to say otherwise."""

    def __init__(self, shelf: Shelf, look: Look) -> None:
        self._shelf = shelf
        self._look = look
        self._documents = Documents(shelf)
        self._press = Press(self._documents, look, shelf)
        self._register = Register({}, ())
        self._regions = Regions()
        self.entries = 0
        """Entries of the log that the site has taken in."""
        self._begun: tuple[str, ...] = ()
        """Which times of writing all regions those that are current come from: of more than one after a cut."""

    async def _lay_out(self, log: Document) -> None:
        """Write all regions, and what is gathered of them. `log` is how far the site is, for people."""
        found, within = self._blank()
        stations = self._register.stations.values()
        islands = blank_islands((one, self._regions.path(one)[-1].key) for one in stations)
        ordered = sorted(found, key=lambda region: (-self._regions.depth(region), region.key))
        for at in range(0, len(ordered), _AT_ONCE):
            self._documents.trim()
            part = {region: found[region] for region in ordered[at : at + _AT_ONCE]}
            rows = await self._rows_before({region: within[region] for region in part if region in within})
            for region, children in rows.items():
                part[region]["children"] = children
                for station in within[region]:
                    mark_island(islands, region.key, station, children)
            await self._press.write(self._lay(part, found, log))
            for region in part:
                del found[region]
        self._documents.put(ISLANDS, islands)
        await self._find_places()
        await self._press.write(self._press.whole(GATHERED))

    def _blank(self) -> tuple[dict[Region, Document], dict[Region, list[Station]]]:
        """The documents of all regions without anything in them, and the stations of the villages."""
        found: dict[Region, Document] = {ALL: blank_region(ALL, ())}
        within: dict[Region, list[Station]] = {}
        for station in self._register.stations.values():
            path = self._regions.path(station)
            for at, region in enumerate(path):
                if region not in found:
                    found[region] = blank_region(region, path[:at])
                    found[region]["has_table"] = region.level == "district" and self._register.is_large
            within.setdefault(path[-1], []).append(station)
        return found, within

    def _lay(self, part: Mapping[Region, Document], found: Mapping[Region, Document], log: Document) -> Iterator[Page]:
        """Take in regions whose rows are there, and put theirs into those above, in `found`; their files."""
        for region, document in part.items():
            document["begun"] = self._begun[-1]
            sum_up(document)
            document["log"] = log
            if document["path"]:
                found[Region(**document["path"][-1])]["children"][region.key] = region_row(document)
            yield from self._lay_one(region, document)

    def _lay_one(self, region: Region, document: Document) -> Iterable[Page]:
        """Take in one region; its files, but for the whole, which has more to show."""
        path = region_path(region.key)
        self._documents.put(path, document)
        return () if region == ALL else self._press.pages(path, self._look.region_pages)

    # -- what was published before

    async def _rows_before(self, villages: Mapping[Region, Sequence[Station]]) -> dict[Region, Document]:
        """The rows of the stations of these villages, with what was published of them."""
        forms = self._register.forms
        held = await self._held_by_villages(villages)
        lacking = [one.tps for stations in villages.values() for one in stations if one.tps not in held]
        held |= await self._held_by_forms(lacking)
        return {
            region: {one.tps: station_row(one, forms, held.get(one.tps, {})) for one in stations}
            for region, stations in villages.items()
        }

    async def _held_by_villages(self, villages: Iterable[Region]) -> dict[str, dict[str, Document]]:
        """By station and form: what the published documents of these villages say."""
        known = [region_path(region.key) for region in villages if self._begun[:-1]]
        await self._documents.load(known)
        current = (one for one in map(self._documents.at, known) if one.get("begun") in self._begun)
        return {tps: results_of(row) for document in current for tps, row in document["children"].items()}

    async def _held_by_forms(self, stations: Sequence[str]) -> dict[str, dict[str, Document]]:
        """The same from the documents of forms: the stations lay elsewhere, or their village is damaged."""
        forms = self._register.forms if self.entries else ()
        paths = {(tps, form): form_path(tps, form) for tps in stations for form in forms}
        await self._documents.load(paths.values())
        held: dict[str, dict[str, Document]] = {}
        for (tps, form), path in paths.items():
            if self._documents.at(path):
                held.setdefault(tps, {})[form] = self._documents.at(path)
        return held

    async def _find_places(self) -> None:
        """What is gathered of the whole election, with the places that the register names now."""
        await self._documents.load([NEWEST, STRAYS])
        if "newest" not in self._documents.at(NEWEST):
            self._documents.put(NEWEST, {"newest": []})
        for item in self._documents.at(NEWEST)["newest"]:
            item.update(self._look.place_of(self._register.stations.get(item["tps"])))
        if "strays" not in self._documents.at(STRAYS):
            self._documents.put(STRAYS, {"page": 1, "pages": 1, "strays": {}})
