"""All regions of a site, written at once: of another register, with other pages, or where one was damaged.

They begin with what was published of their stations, so that nobody sees less than before. In a large election they are
many: they are written a slice at a time, with a rest after each. How far that is is noted now and then: from there it
goes on after a cut, or when another receiver leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from relay.records.notice import Station
from relay.store.shelf import Page, Shelf
from relay.web.site.documents import Documents
from relay.web.site.islands import blank_islands, mark_island
from relay.web.site.pace import Pace
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
_STATIONS_AT_ONCE = 512
"""Stations of these, unless one village has more."""
_NOTED = 64
"""Slices, after which it is noted how far the regions are: the disk is made to keep them first."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be written."""

    found: dict[Region, Document]
    """All regions, without anything in them."""
    within: dict[Region, list[Station]]
    """The stations of the villages."""
    islands: Document
    order: list[Region]
    """The parts of a region come before it."""

    def slices(self) -> Iterator[list[Region]]:
        """The regions, a few at a time."""
        part: list[Region] = []
        stations = 0
        for region in self.order:
            count = len(self.within.get(region, ()))
            if part and (len(part) == _AT_ONCE or stations + count > _STATIONS_AT_ONCE):
                yield part
                part, stations = [], 0
            part.append(region)
            stations += count
        yield part

    def up_to(self, key: str) -> frozenset[Region]:
        """The regions up to this one; none where there is no such one."""
        keys = [region.key for region in self.order]
        return frozenset(self.order[: keys.index(key) + 1]) if key in keys else frozenset()


class Layout:
    """A site that can be written from its register. What its stations begin with is for a subclass to say otherwise."""

    def __init__(self, shelf: Shelf, look: Look, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        """How fast it works."""
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

    async def _lay_out(self, log: Document, laid: str) -> None:
        """Write all regions, and what is gathered of them. `log` is how far the site is, for people; `laid` is the
        region up to which they were written before a cut."""
        plan = await asyncio.to_thread(self._plan)
        before = plan.up_to(laid)
        for number, regions in enumerate(plan.slices(), 1):
            self._documents.trim()
            kept = await self._kept(before.intersection(regions))
            await self._lay_slice(plan, regions, kept, log)
            if number % _NOTED == 0 and regions[-1] != ALL and regions[-1] not in before:
                await self._note_laid(regions[-1].key)
            await self.pace.rest()
        self._documents.put(ISLANDS, plan.islands)
        await self._find_places()
        await self._press.write(self._press.whole(GATHERED))

    async def _note_laid(self, key: str) -> None:
        """Note that all regions up to this one are written; for a subclass, now and then."""

    def _plan(self) -> _Plan:
        """What is to be written; in a thread of its own, which gives way."""
        stations = self._register.stations.values()
        found, within = self._blank()
        on = (one for one in self.pace.giving_way(stations) if one.island)
        islands = blank_islands((one, self._regions.path(one)[-1].key) for one in on)
        order = sorted(self.pace.giving_way(found), key=lambda region: (-self._regions.depth(region), region.key))
        return _Plan(found, within, islands, order)

    def _blank(self) -> tuple[dict[Region, Document], dict[Region, list[Station]]]:
        """The documents of all regions without anything in them, and the stations of the villages."""
        found: dict[Region, Document] = {ALL: blank_region(ALL, ())}
        within: dict[Region, list[Station]] = {}
        for station in self.pace.giving_way(self._register.stations.values()):
            path = self._regions.path(station)
            for at, region in enumerate(path):
                if region not in found:
                    found[region] = blank_region(region, path[:at])
                    found[region]["has_table"] = region.level == "district" and self._register.is_large
            within.setdefault(path[-1], []).append(station)
        return found, within

    async def _kept(self, regions: Iterable[Region]) -> dict[Region, Document]:
        """Those of these regions that were written before a cut, and are whole."""
        paths = {region: region_path(region.key) for region in regions}
        await self._documents.load(paths.values())
        documents = {region: self._documents.at(path) for region, path in paths.items()}
        return {region: one for region, one in documents.items() if one.get("begun") == self._begun[-1]}

    async def _lay_slice(
        self, plan: _Plan, regions: Sequence[Region], kept: Mapping[Region, Document], log: Document
    ) -> None:
        """Write some regions, those above which are still to be written, but for those that are there."""
        rows = await self._rows_before(
            {one: plan.within[one] for one in regions if one in plan.within and one not in kept}
        )
        part = {region: kept.get(region) or plan.found[region] for region in regions}
        for region, children in rows.items():
            part[region]["children"] = children
        for region in regions:
            for station in plan.within.get(region, ()):
                if station.island:
                    mark_island(plan.islands, region.key, station, part[region]["children"])
        await self._press.write(self._lay(part, kept, plan.found, log))
        for region in regions:
            del plan.found[region]

    def _lay(
        self,
        part: Mapping[Region, Document],
        kept: Mapping[Region, Document],
        found: Mapping[Region, Document],
        log: Document,
    ) -> Iterator[Page]:
        """Take in regions whose rows are there, and put theirs into those above, in `found`; the files of those that
        were not `kept`."""
        for region, document in part.items():
            if region not in kept:
                document["begun"] = self._begun[-1]
                sum_up(document)
                document["log"] = log
            if document["path"]:
                found[Region(**document["path"][-1])]["children"][region.key] = region_row(document)
            if region not in kept:
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

        def rows() -> dict[Region, Document]:
            return {
                region: {one.tps: station_row(one, forms, held.get(one.tps, {})) for one in stations}
                for region, stations in villages.items()
            }

        return await asyncio.to_thread(rows)

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
