"""What some arrivals change, and nothing else.

    arrival → its device's chain → its station and form → village → district → … → the whole → feed

Each step reads one document, changes one row and writes it back, so that the cost of an arrival depends on the depth of
the country and not on the size of the log. What a batch changes it writes once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from relay.limits import SITE_NEWEST
from relay.receiver.results import Logged, Result, judge
from relay.records.identifiers import NodeId
from relay.records.notice import Station
from relay.store.shelf import Page
from relay.web.site.chain import Form
from relay.web.site.devices import Devices
from relay.web.site.documents import DamagedSite
from relay.web.site.history import History
from relay.web.site.islands import mark_island
from relay.web.site.paths import GATHERED, ISLANDS, NEWEST, STRAYS, device_path, form_path, region_path, strays_path
from relay.web.site.press import Press
from relay.web.site.regions import (
    ALL,
    Document,
    Region,
    Regions,
    lacking_notes,
    region_row,
    results_of,
    station_row,
    sum_up,
)
from relay.web.site.register import Register
from relay.web.site.strays import Strays
from relay.web.site.tables import table_of


class Batch:
    """One batch: `take` or `doubt`, then `climb`, then write what there is to `render`."""

    def __init__(self, press: Press, register: Register, regions: Regions) -> None:
        self._press = press
        self._documents = press.documents
        self._register = register
        self._regions = regions
        self._devices = Devices(press.documents, register.revoked)
        self._strays = Strays(press.documents)
        self._forms: dict[Form, None] = {}
        """What is judged, in the order in which that was found out."""
        self._within: dict[Region, None] = {}
        self._gathered: dict[str, None] = {}
        """Documents of the whole election, beside its region."""
        self.tables: dict[Region, None] = {}
        """Regions whose tables are no longer those of their documents."""

    async def take(self, arrivals: Sequence[Logged]) -> None:
        """Take in entries of the log."""
        self._forms |= dict.fromkeys((one.tps, one.form) for one in arrivals)
        self._forms |= dict.fromkeys(await self._devices.follow(arrivals))
        await self._tell_newest(arrivals)
        await self._judge(arrivals)

    async def doubt(self, nodes: AbstractSet[NodeId]) -> bool:
        """Judge again what these devices signed, now that others are believed than before; whether that is anything."""
        self._forms |= dict.fromkeys(await self._devices.doubt(nodes))
        if self._forms:
            await self._judge(())
        return bool(self._forms)

    async def climb(self, log: Document) -> None:
        """Add up every touched region, villages first, and put its sums into the row that its parent has for it. `log`
        is how far the site is, for people."""
        await self._documents.load(region_path(region.key) for region in self._within)
        for region in self._deepest_first():
            document = self._documents.region(region.key)
            await self._fetch_notes(document)
            sum_up(document)
            document["log"] = log
            if document["path"]:
                parent = self._documents.region(document["path"][-1]["key"])
                parent["children"][region.key] = region_row(document)

    def render(self) -> Iterable[Page]:
        """The files of whatever is touched: what the parts say first, what gathers them after."""
        look, pages = self._press.look, self._press.pages
        for key in self._forms:
            yield from pages(form_path(*key), look.form_pages)
        for node, further in self._devices.changed.items():
            yield from self._device(node, further)
        for region in self._deepest_first():
            if region != ALL:
                yield from pages(region_path(region.key), look.region_pages)
        for page in self._strays.changed:
            if page > 1:
                yield from pages(strays_path(page), look.stray_pages)
        if self._within:
            yield from self._press.whole(self._gathered)

    def _device(self, node: NodeId, further: Iterable[str]) -> Iterable[Page]:
        """The files of a device: further pages of its chain first, which its own leads to."""
        look, pages = self._press.look, self._press.pages
        head = self._documents.at(device_path(node))
        for path in further:
            yield from pages(path, lambda links: look.chain_pages(links, head))
        yield from pages(device_path(node), look.device_pages)

    def _deepest_first(self) -> list[Region]:
        return sorted(self._within, key=self._regions.depth, reverse=True)

    async def _tell_newest(self, arrivals: Sequence[Logged]) -> None:
        """Put them into the feed."""
        await self._documents.load([NEWEST])
        held = {item["id"]: item for item in self._documents.at(NEWEST).get("newest", [])}
        for one in arrivals[-SITE_NEWEST:]:
            held.setdefault(one.id.hex(), self._press.look.newest_item(one, self._register.stations.get(one.tps)))
        newest = sorted(held.values(), key=lambda item: -int(item["entry"]))[:SITE_NEWEST]
        self._documents.put(NEWEST, {"newest": newest})
        self._gathered[NEWEST] = None

    # -- results

    async def _judge(self, arrivals: Iterable[Logged]) -> None:
        """Judge every touched form, and take the results in."""
        await self._load()
        new: dict[Form, list[Logged]] = {}
        for one in arrivals:
            new.setdefault((one.tps, one.form), []).append(one)
        for key in self._forms:
            history = History(self._documents, *key)
            statements = await history.take(new.get(key, []))
            await self._tell(history, await self._result(key, statements))

    async def _load(self) -> None:
        """Bring to hand what judging reads and changes: all at once."""
        stations = (self._register.stations.get(tps) for tps, _ in self._forms)
        villages = {region_path(self._regions.path(station)[-1].key): None for station in stations if station}
        forms = [form_path(*key) for key in self._forms]
        await self._documents.load([*forms, *villages, *GATHERED, region_path(ALL.key)])

    async def _result(self, key: Form, statements: Sequence[Logged]) -> Result:
        """Judge the statements of a station and form."""
        chains = await self._devices.findings_about(statements)
        station, forms = self._register.stations.get(key[0]), frozenset(self._register.forms)
        return await asyncio.to_thread(judge, statements, station, forms, chains, self._register.revoked)

    async def _tell(self, history: History, result: Result) -> None:
        """Take a result in: its document, the pages of its history where it has any, and its station's row."""
        path = form_path(result.tps, result.form)
        strays_page = self._documents.at(path).get("strays_page")
        station = self._register.stations.get(result.tps)
        regions = self._regions.path(station) if station else ()
        room = await asyncio.to_thread(self._press.look.result_document, result, station, regions)
        self._documents.put(path, {**await history.tell(result, room), "strays_page": strays_page})
        document = self._documents.at(path)
        if history.has_pages:
            await self._write_history(history, document)
        if station:
            await self._place(station, regions, document)
        else:
            await self._keep_stray(document)

    async def _write_history(self, history: History, head: Document) -> None:
        """Write what changed of a form's history, and let go of it: it may be long."""
        look = self._press.look
        await self._press.write(
            page
            for path in history.changed
            for page in self._press.pages(path, lambda document: look.history_pages(document, head))
        )
        self._documents.release(history.used)

    async def _place(self, station: Station, path: Sequence[Region], document: Document) -> None:
        """Put a result into its station's row, beside those of the station's other forms."""
        await self._drop_stray(document)
        village = path[-1].key
        rows = self._documents.region(village)["children"]
        if station.tps not in rows:
            raise DamagedSite(region_path(village))
        results = results_of(rows[station.tps]) | {document["form"]: document}
        rows[station.tps] = station_row(station, self._register.forms, results)
        if mark_island(self._documents.needed(ISLANDS, "stations"), village, station, rows):
            self._gathered[ISLANDS] = None
        self._within |= dict.fromkeys(path)
        self.tables[table_of(self._register, path)] = None

    async def _keep_stray(self, document: Document) -> None:
        await self._strays.keep(document)
        self._gathered[STRAYS] = None
        self._within[ALL] = None

    async def _drop_stray(self, document: Document) -> None:
        await self._strays.drop(document)
        if self._strays.changed:
            self._gathered[STRAYS] = None

    # -- regions

    async def _fetch_notes(self, document: Document) -> None:
        """Fill in the notes of parts that a region lists again, now that there are few enough of them."""
        lacking = lacking_notes(document)
        await self._documents.load(map(region_path, lacking))
        for key in lacking:
            document["children"][key]["notes"] = self._documents.region(key)["notes"]
