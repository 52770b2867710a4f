"""The site's upkeep: what one arrival changes, and nothing else.

    arrival → its device's chain → its station and form → village → district → … → the whole → feed

Each step reads one document, changes one row and writes it back, so that the cost of an arrival depends on the depth of
the country and not on the size of the log. What is read back is what was published: the site has no other memory.

`site.json` says how far the site is, and is written last. What was written is settled now and then only: `settled.json`
is on the disk, and says what certainly is there. Whatever came later is brought again when the site is opened, and
bringing an entry twice changes nothing.

When the register, the pages or a damaged region ask for it, all regions are written again. They begin with what was
published of their stations, so that nobody sees less than before; then the log is brought `again` from its beginning,
behind what arrives meanwhile, and each result is judged by what is in force now.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import islice

from relay.errors import StoreError
from relay.limits import SITE_ISLAND_PARTS, SITE_MARKS, SITE_NEWEST, SITE_NOTE_FLAGS, SITE_NOTES, SITE_WHOLE_FORMS
from relay.receiver.auditing import STATE
from relay.receiver.chains import Finding, Gap, Link, findings
from relay.receiver.results import Logged, Result, judge
from relay.receiver.showing import Showing, shown_otherwise
from relay.records.identifiers import NodeId, RecordId, StatementId
from relay.records.notice import Station
from relay.store.shelf import FRESH, Page, Shelf
from relay.web.site.documents import DamagedSite, Documents, encode, parse
from relay.web.site.downloads import table
from relay.web.site.history import History
from relay.web.site.history import form_path as _form_path
from relay.web.site.pages import JSON, Look
from relay.web.site.regions import (
    WHOLE,
    Document,
    Region,
    Regions,
    fingerprint,
    lacking_notes,
    results_of,
    station_row,
    sum_up,
)
from relay.web.site.shortened import shorten

logger = logging.getLogger(__name__)

SETTLED = "settled.json"
"""Where the site goes on when it is opened."""
_FORMAT = 2
"""Of the documents. A site of another format is written from nothing."""
NEWEST = "newest.json"
STRAYS = "strays.json"
ISLANDS = "islands.json"
_GATHERED = (NEWEST, STRAYS, ISLANDS)
_WHOLE = Region(WHOLE, "", "whole")
_AT_ONCE = 64
"""Pages that are rendered, then written, at a time."""

_Form = tuple[str, str]
"""A polling station and a form."""


@dataclass(frozen=True, slots=True)
class Register:
    """What the notices in force say: stations, forms, and signers whose keys are no longer believed."""

    stations: Mapping[str, Station]
    forms: tuple[str, ...]
    revoked: AbstractSet[NodeId] = frozenset()


@dataclass(slots=True)
class _Touched:
    """What a batch changes, each once, in the order in which it was found out."""

    forms: dict[_Form, None] = field(default_factory=dict)
    devices: dict[NodeId, None] = field(default_factory=dict)
    regions: dict[Region, None] = field(default_factory=dict)
    strays: dict[int, None] = field(default_factory=dict)
    """Pages of what the register does not know."""
    gathered: dict[str, None] = field(default_factory=dict)
    """Documents of the whole election, beside its region."""


class Site:
    """The published site of one election on a shelf. One at a time may write to it."""

    def __init__(self, shelf: Shelf, look: Look) -> None:
        self.entries = 0
        self.size = 0
        """Entries of the log, as far as the caller told."""
        self.again = range(0)
        """Entries that the site has taken in, and that are to be brought once more."""
        self.has_unsettled = False
        """Whether anything was written since it was settled."""
        self._arrived: int | None = None
        """When the last entry was logged."""
        self._shelf = shelf
        self._look = look
        self._documents = Documents(shelf)
        self._register = Register({}, ())
        self._regions = Regions()
        self._print = ""
        self._begun: list[str] = []
        """Which times of writing all regions those that are current come from: of more than one after a cut."""
        self._noted: Document = {}
        self._untold: dict[Region, None] = {}
        """Regions whose tables are not those of their documents."""

    @property
    def has_untold(self) -> bool:
        """Whether there are tables to be written."""
        return bool(self._untold)

    async def open(self, register: Register, *, anew: bool = False) -> None:
        """Go on where the site was settled. Where the register or the pages are others, all regions are written again;
        `anew`, or where there is nothing to go on from, everything is, from nothing.

        Raises `DamagedSite` when a region cannot be read back: see `mend`.
        """
        self._print = f"{fingerprint(register.stations, register.forms)} {self._look.fingerprint}"
        self._regions = await asyncio.to_thread(Regions.of, register.stations.values())
        settled = {} if anew else await self._settled()
        if settled:
            self._documents.open(settled["generation"])
            self.entries, self._arrived = settled["entries"], settled["arrived"]
            self.again, self._begun = range(*settled["again"]), settled["begun"]
            self._noted = settled
            revoked = frozenset(NodeId(bytes.fromhex(one)) for one in settled["revoked"])
            self._register = replace(register, revoked=revoked)
        else:
            self._documents.open(secrets.token_hex(8))
            self.entries, self._arrived, self.again, self._begun = 0, None, range(0), []
            self._register = register
        self._untold = dict.fromkeys(await asyncio.to_thread(self._tables))
        await self._shelf.write(STATE, self._state(), JSON, FRESH)  # what is not settled may not be there
        if settled.get("print") != self._print:
            await self._begin()
        elif settled["dress"] != self._look.dress:
            await self._dress()
        await self.believe(register)

    async def mend(self, register: Register) -> None:
        """Write all regions again, where one is damaged."""
        self._register = register
        self._documents.open(self._documents.generation)
        await self._shelf.settle()
        await self._begin()

    async def add(self, arrivals: Sequence[Logged]) -> None:
        """Bring entries of the log to the site, in order. Their objects, statements and receipts must be there."""
        if not arrivals:
            return
        before = self.entries, self._arrived, self.again
        self._count(arrivals)
        touched = _Touched({(one.tps, one.form): None for one in arrivals})
        try:
            await self._follow_devices(arrivals, touched)
            await self._tell_newest(arrivals, touched)
            await self._work(arrivals, touched)
        except StoreError:
            self.entries, self._arrived, self.again = before
            raise
        await self._shelf.write(STATE, self._state(), JSON, FRESH)
        self._documents.trim()

    async def believe(self, register: Register) -> None:
        """Take in which signers are believed; what others signed is flagged."""
        changed = register.revoked ^ self._register.revoked
        self._register = register
        await self._documents.load(map(_device_path, changed))
        touched = _Touched()
        for node in changed:
            document = self._documents.at(_device_path(node))
            if document:
                document["revoked"] = node in register.revoked
                touched.devices[node] = None
                touched.forms |= {(link["tps"], link["form"]): None for link in document["links"]}
        if touched.forms:
            await self._work((), touched)
        self.has_unsettled |= bool(changed)

    async def settle(self) -> None:
        """Return when all this is on the disk, and what the site goes on from with it."""
        await self._shelf.settle()
        await self._note(self._print)
        self.has_unsettled = False

    def _count(self, arrivals: Sequence[Logged]) -> None:
        """What the site has taken in, once these are in it."""
        first, end = arrivals[0].entry, arrivals[-1].entry + 1
        if end >= self.entries:
            self.entries, self._arrived = end, arrivals[-1].arrived
        self.size = max(self.size, self.entries)
        if first <= self.again.start < end:
            self.again = range(min(end, self.again.stop), self.again.stop)
        self.has_unsettled = True

    async def _settled(self) -> Document:
        """What the site goes on from; empty where there is nothing to go on from."""
        content = await self._shelf.read(SETTLED)
        try:
            found = parse(SETTLED, content or b"{}")
        except DamagedSite as error:
            logger.warning("the site is written from nothing: %s", error)
            return {}
        if found.get("format") != _FORMAT:
            return {}
        if not _is_sound(found):
            logger.warning("the site is written from nothing: what is in %s is not what belongs there", SETTLED)
            return {}
        return found

    async def _note(self, fitting: str) -> None:
        """Note durably where the site goes on when it is opened, and which register and pages all of it fits."""
        self._noted = {
            "format": _FORMAT,
            "generation": self._documents.generation,
            "print": fitting,
            "dress": self._look.dress,
            "entries": self.entries,
            "arrived": self._arrived,
            "again": [self.again.start, self.again.stop],
            "begun": self._begun,
            "revoked": sorted(node.hex() for node in self._register.revoked),
        }
        await self._shelf.write(SETTLED, encode(self._noted), JSON, FRESH, durable=True)

    async def _note_damage(self) -> None:
        """Note that the log is to be brought again, before what was damaged is written and looks whole."""
        self._noted |= {"again": [0, self._noted["entries"]]}
        await self._shelf.write(SETTLED, encode(self._noted), JSON, FRESH, durable=True)

    # -- one batch

    async def _work(self, arrivals: Sequence[Logged], touched: _Touched) -> None:
        """Judge, add up, render and write whatever is touched."""
        await self._judge(arrivals, touched)
        if self._documents.found_damage():
            self.again = range(self.entries)
            await self._note_damage()
        await self._climb(touched)
        pages = iter(self._render(touched))
        while part := await asyncio.to_thread(lambda: list(islice(pages, _AT_ONCE))):
            await self._write(part)

    async def _follow_devices(self, arrivals: Sequence[Logged], touched: _Touched) -> None:
        """Put each arrival into its device's chain. Forms at which something else shows by it are judged again."""
        by_node: dict[NodeId, list[Logged]] = {}
        for one in arrivals:
            by_node.setdefault(one.node, []).append(one)
        await self._documents.load(map(_device_path, by_node))
        for node, new in by_node.items():
            touched.forms |= dict.fromkeys(await asyncio.to_thread(self._follow_device, node, new))
            touched.devices[node] = None

    def _follow_device(self, node: NodeId, new: Sequence[Logged]) -> list[_Form]:
        """Put a device's arrivals into its chain; the forms at which something else shows now."""
        document = self._documents.at(_device_path(node))
        before = document.get("links", [])
        known = {link["id"]: link for link in before} | {one.id.hex(): _link_map(one) for one in new}
        chain = sorted(known.values(), key=lambda link: int(link["entry"]))
        links = _links(node, chain)
        found = findings(links)
        self._documents.put(
            _device_path(node),
            {
                "node": node.hex(),
                "device": new[-1].device,
                "revoked": node in self._register.revoked,
                "links": chain,
                "findings": [_finding_map(one) for one in found],
            },
        )
        forms = {link.id: (one["tps"], one["form"]) for link, one in zip(links, chain, strict=True)}
        return [forms[link.id] for link in shown_otherwise(links, findings(_links(node, before)), found)]

    async def _judge(self, arrivals: Iterable[Logged], touched: _Touched) -> None:
        """Judge every touched form, and put the result into its station's row."""
        stations = (self._register.stations.get(tps) for tps, _ in touched.forms)
        villages = {_region_path(self._regions.path(station)[-1]): None for station in stations if station}
        forms = [_form_path(*key) for key in touched.forms]
        await self._documents.load([*forms, *villages, *_GATHERED, _region_path(_WHOLE)])
        new: dict[_Form, list[Logged]] = {}
        for one in arrivals:
            new.setdefault((one.tps, one.form), []).append(one)
        shown: dict[NodeId, Showing] = {}
        for key in list(touched.forms):
            history = History(self._documents, *key)
            statements = await history.take(new.get(key, []))
            nodes = {one.node for one in statements} - shown.keys()
            await self._documents.load(map(_device_path, nodes))
            shown |= {node: await asyncio.to_thread(self._showing, node) for node in nodes}
            result = await asyncio.to_thread(self._result, key, statements, shown)
            await self._tell(history, result, touched)

    def _result(self, key: _Form, statements: Sequence[Logged], shown: Mapping[NodeId, Showing]) -> Result:
        """Judge the statements of a station and form."""
        links: dict[NodeId, list[Link]] = {}
        for one in statements:
            links.setdefault(one.node, []).append(one.link)
        chains = [found for node, those in links.items() for found in shown[node].among(those)]
        forms = frozenset(self._register.forms)
        return judge(statements, self._register.stations.get(key[0]), forms, chains, self._register.revoked)

    async def _tell(self, history: History, result: Result, touched: _Touched) -> None:
        """Take a result in: its document, the pages of its history where it has any, and its station's row."""
        path = _form_path(result.tps, result.form)
        strays_page = self._documents.at(path).get("strays_page")
        station = self._register.stations.get(result.tps)
        regions = self._regions.path(station) if station else ()
        room = await asyncio.to_thread(self._look.result_document, result, station, regions)
        document = {**await history.tell(result, room), "strays_page": strays_page}
        self._documents.put(path, document)
        if history.has_pages:
            await self._write_history(history, document)
        touched.regions |= dict.fromkeys(regions or (_WHOLE,))
        document = self._documents.at(path)
        if station:
            self._untold[self._table_of(regions)] = None
            await self._take_from_strays(document, touched)
            self._place(station, regions[-1], result.form, document, touched)
        else:
            await self._keep_stray(document, touched)

    async def _write_history(self, history: History, head: Document) -> None:
        """Write what changed of a form's history, and let go of it: it may be long."""
        pages = (
            page
            for path in history.changed
            for page in self._pages(path, lambda document: self._look.history_pages(document, head))
        )
        while part := await asyncio.to_thread(lambda: list(islice(pages, _AT_ONCE))):
            await self._write(part)
        self._documents.release(history.used)

    def _showing(self, node: NodeId) -> Showing:
        document = self._documents.at(_device_path(node))
        return Showing(findings(_links(node, document["links"])) if document.get("findings") else ())

    def _place(self, station: Station, village: Region, form: str, document: Document, touched: _Touched) -> None:
        """Put a result into its station's row, beside those of the station's other forms."""
        rows = self._region(_region_path(village))["children"]
        if station.tps not in rows:
            raise DamagedSite(_region_path(village))
        results = results_of(rows[station.tps]) | {form: document}
        rows[station.tps] = station_row(station, self._register.forms, results)
        islands = self._documents.at(ISLANDS)
        if "stations" not in islands:
            raise DamagedSite(ISLANDS)
        if _mark_island(islands, village, station, rows):
            touched.gathered[ISLANDS] = None

    async def _take_from_strays(self, document: Document, touched: _Touched) -> None:
        """A station that the register did not know and knows now has its region."""
        page, document["strays_page"] = document["strays_page"], None
        if page:
            await self._documents.load([_strays_path(page)])
            self._documents.at(_strays_path(page)).get("strays", {}).pop(f"{document['tps']}/{document['form']}", None)
            touched.strays[page] = touched.gathered[STRAYS] = None

    async def _keep_stray(self, document: Document, touched: _Touched) -> None:
        """A statement for a station that the register does not know has no region, and is not hidden.

        They are listed page by page, in the order of arrival; each result says on which page it is.
        """
        tps, form = document["tps"], document["form"]
        first = self._documents.at(STRAYS)
        if "strays" not in first:
            raise DamagedSite(STRAYS)
        last = _strays_path(first["pages"])
        await self._documents.load([last])
        page = document["strays_page"] or first["pages"]
        if not document["strays_page"] and len(self._documents.at(last).get("strays", {})) >= SITE_NOTES:
            page = first["pages"] = first["pages"] + 1
        first["pages"] = max(first["pages"], page)
        path = _strays_path(page)
        await self._documents.load([path])
        if not self._documents.at(path):
            self._documents.put(path, {"page": page, "strays": {}})
        document["strays_page"] = page
        flags, more = shorten(document["flags"], document["more_flags"], SITE_NOTE_FLAGS)
        row = {"tps": tps, "form": form, "number": 0, "village": "", "flags": flags, "more_flags": more}
        self._documents.at(path)["strays"][f"{tps}/{form}"] = row
        touched.strays[page] = touched.gathered[STRAYS] = None

    def _region(self, path: str) -> Document:
        """The document of a region: from the beginning on there is one."""
        document = self._documents.at(path)
        if "children" not in document:
            raise DamagedSite(path)
        return document

    async def _climb(self, touched: _Touched) -> None:
        """Add up every touched region, villages first, and put its sums into the row that its parent has for it."""
        await self._documents.load(map(_region_path, touched.regions))
        for region in sorted(touched.regions, key=self._depth, reverse=True):
            document = self._region(_region_path(region))
            await self._fetch_notes(document)
            sum_up(document)
            document["log"] = self._log()
            if document["path"]:
                parent = _region_path(Region(**document["path"][-1]))
                self._region(parent)["children"][region.key] = _row(document)

    def _log(self) -> Document:
        """How far the site is in the log, for people."""
        again = [self.again.start, self.again.stop] if self.again else None
        return {"entries": self.entries, "size": self.size, "arrived": self._arrived, "again": again}

    async def _fetch_notes(self, document: Document) -> None:
        """Fill in the notes of parts that a region lists again, now that there are few enough of them."""
        lacking = {key: _region_path(Region(key, "", "")) for key in lacking_notes(document)}
        await self._documents.load(lacking.values())
        for key, path in lacking.items():
            document["children"][key]["notes"] = self._region(path)["notes"]

    async def _tell_newest(self, arrivals: Sequence[Logged], touched: _Touched) -> None:
        await self._documents.load([NEWEST])
        held = {item["id"]: item for item in self._documents.at(NEWEST).get("newest", [])}
        for one in arrivals[-SITE_NEWEST:]:
            held.setdefault(one.id.hex(), self._look.newest_item(one, self._register.stations.get(one.tps)))
        newest = sorted(held.values(), key=lambda item: -int(item["entry"]))[:SITE_NEWEST]
        self._documents.put(NEWEST, {"newest": newest})
        touched.gathered[NEWEST] = None

    def _render(self, touched: _Touched) -> Iterable[Page]:
        """The files of whatever is touched: what the parts say first, what gathers them after."""
        for tps, form in touched.forms:
            yield from self._pages(_form_path(tps, form), self._look.form_pages)
        for node in touched.devices:
            yield from self._pages(_device_path(node), self._look.device_pages)
        for region in sorted(touched.regions, key=self._depth, reverse=True):
            if region.level != "whole":
                yield from self._pages(_region_path(region), self._look.region_pages)
        for page in touched.strays:
            if page > 1:
                yield from self._pages(_strays_path(page), self._look.stray_pages)
        if touched.regions:
            gathered = [self._documents.at(path) for path in _GATHERED]
            for path in touched.gathered:
                yield Page(path, self._documents.content(path), JSON)
            yield from self._pages(_region_path(_WHOLE), lambda whole: self._look.whole_pages(whole, *gathered))

    def _pages(self, path: str, render: Callable[[Document], Iterable[Page]]) -> Iterable[Page]:
        document = self._documents.at(path)
        yield Page(path, self._documents.content(path), JSON)
        yield from render(document)

    async def _write(self, pages: Iterable[Page]) -> None:
        await asyncio.gather(*(self._shelf.write(one.path, one.content, one.content_type, FRESH) for one in pages))

    # -- downloads

    async def write_tables(self, most: int | None = None) -> bool:
        """Write tables that gather many stations, where anything in them changed: one for the election, or one for each
        district of a large one, at most so many of these. Whether all are written now.

        They cost what the election is large: the caller decides how often.
        """
        for region in list(islice(self._untold, most)):
            villages = await self._villages(_region_path(region))
            rows = await asyncio.to_thread(lambda found: [row for one in found for row in self._rows(one)], villages)
            name = "results" if region == _WHOLE else f"region/{region.key}-results"
            await self._write(await asyncio.to_thread(table, name, rows))
            del self._untold[region]
            self._documents.trim()
        return not self._untold

    async def _villages(self, path: str) -> list[Document]:
        """The documents of the villages of a region."""
        await self._documents.load([path])
        document = self._region(path)
        if document["level"] == "village":
            return [document]
        below = [_region_path(Region(key, row["name"], row["level"])) for key, row in document["children"].items()]
        await self._documents.load(below)
        return [village for one in below for village in await self._villages(one)]

    def _table_of(self, path: Sequence[Region]) -> Region:
        """The region whose table a station stands in."""
        return next(one for one in path if one.level == "district") if self._is_large else _WHOLE

    @property
    def _is_large(self) -> bool:
        return len(self._register.stations) * len(self._register.forms) > SITE_WHOLE_FORMS

    def _tables(self) -> list[Region]:
        paths = (self._regions.path(one) for one in self._register.stations.values())
        return list(dict.fromkeys(map(self._table_of, paths))) or [_WHOLE]

    def _rows(self, document: Document) -> Iterator[Document]:
        """One row for each station and form of a village, arrived or not."""
        district = document["path"][-1]["name"]
        for tps, station in sorted(document["children"].items()):
            place = {"tps": tps, "village": document["name"], "district": district, **station}
            for form in dict.fromkeys((*self._register.forms, *station["forms"])):
                yield {**place, "form": form, **station["forms"].get(form, {})}

    # -- beginning

    async def _begin(self) -> None:
        """Write all regions with what was published of their stations, if anything was; the log is brought again then,
        as far as it was before."""
        self.again = range(self.entries)
        self._begun = [*self._begun, secrets.token_hex(4)]
        await self._note("")  # cut from here on, it is begun again
        await self._shelf.write(STATE, self._state(), JSON, FRESH)
        await self._write(self._look.files(by_district=self._is_large))
        await self._lay_out()
        await self._find_places()
        everything = _Touched(regions={_WHOLE: None}, gathered=dict.fromkeys(_GATHERED))
        await self._write(await asyncio.to_thread(lambda: list(self._render(everything))))
        await self.write_tables()
        self._documents.found_damage()  # all will be brought again
        self._begun = self._begun[-1:]
        await self.settle()

    async def _dress(self) -> None:
        """Write what shows this receiver's own certificate and map."""
        await self._write(self._look.files(by_district=self._is_large))
        await self._documents.load([*_GATHERED, _region_path(_WHOLE)])
        self._region(_region_path(_WHOLE))
        everything = _Touched(regions={_WHOLE: None})
        await self._write(await asyncio.to_thread(lambda: list(self._render(everything))))
        await self.settle()

    async def _lay_out(self) -> None:
        """Write all regions, villages first; but for the whole and its islands, which are left in hand."""
        found, within = self._blank()
        islands = self._on_islands()
        ordered = sorted(found, key=lambda region: (-self._depth(region), region.key))
        for at in range(0, len(ordered), _AT_ONCE):
            self._documents.trim()
            part = {region: found[region] for region in ordered[at : at + _AT_ONCE]}
            rows = await self._rows_before({region: within[region] for region in part if region in within})
            for region, children in rows.items():
                part[region]["children"] = children
                for station in within[region]:
                    _mark_island(islands, region, station, children)
            await self._write(await asyncio.to_thread(self._lay, part, found))
        self._documents.put(ISLANDS, islands)

    def _lay(self, part: Mapping[Region, Document], found: dict[Region, Document]) -> list[Page]:
        """Take in regions whose rows are there, and put theirs into those above; their files."""
        pages: list[Page] = []
        for region, document in part.items():
            document["begun"] = self._begun[-1]
            sum_up(document)
            document["log"] = self._log()
            if document["path"]:
                found[Region(**document["path"][-1])]["children"][region.key] = _row(document)
            pages += self._lay_one(region, document)
            del found[region]
        return pages

    def _lay_one(self, region: Region, document: Document) -> Iterable[Page]:
        """Take in one region; its files, but for the whole, which has more to show."""
        path = _region_path(region)
        self._documents.put(path, document)
        return () if region == _WHOLE else self._pages(path, self._look.region_pages)

    def _blank(self) -> tuple[dict[Region, Document], dict[Region, list[Station]]]:
        """The documents of all regions without anything in them, and the stations of the villages."""
        found: dict[Region, Document] = {_WHOLE: _blank_document(_WHOLE, ())}
        within: dict[Region, list[Station]] = {}
        for station in self._register.stations.values():
            path = self._regions.path(station)
            for at, region in enumerate(path):
                if region not in found:
                    found[region] = _blank_document(region, path[:at])
                    found[region]["has_table"] = region.level == "district" and self._is_large
            within.setdefault(path[-1], []).append(station)
        return found, within

    async def _rows_before(self, villages: Mapping[Region, Sequence[Station]]) -> dict[Region, Document]:
        """The rows of the stations of these villages, with what was published of them."""
        forms = self._register.forms
        known = [_region_path(region) for region in villages if self._begun[:-1]]
        await self._documents.load(known)
        held: dict[str, dict[str, Document]] = {}
        for document in map(self._documents.at, known):
            if document.get("begun") in self._begun:
                held |= {tps: results_of(row) for tps, row in document["children"].items()}
        wanted = [one.tps for stations in villages.values() for one in stations if one.tps not in held]
        paths = {(tps, form): _form_path(tps, form) for tps in wanted for form in forms if self.entries}
        await self._documents.load(paths.values())  # they lay elsewhere, or their village is damaged
        for (tps, form), path in paths.items():
            if self._documents.at(path):
                held.setdefault(tps, {})[form] = self._documents.at(path)
        return {
            region: {one.tps: station_row(one, forms, held.get(one.tps, {})) for one in stations}
            for region, stations in villages.items()
        }

    async def _find_places(self) -> None:
        """What is gathered of the whole election, with the places that the register names now."""
        await self._documents.load([NEWEST, STRAYS])
        if "newest" not in self._documents.at(NEWEST):
            self._documents.put(NEWEST, {"newest": []})
        for item in self._documents.at(NEWEST)["newest"]:
            item.update(self._look.place_of(self._register.stations.get(item["tps"])))
        if "strays" not in self._documents.at(STRAYS):
            self._documents.put(STRAYS, {"page": 1, "pages": 1, "strays": {}})

    def _on_islands(self) -> Document:
        """The stations on islands, one by one, or by village and island where there are many."""
        on = [(one, self._regions.path(one)[-1].key) for one in self._register.stations.values() if one.island]
        if len(on) <= SITE_MARKS:
            keys = ("number", "island", "village")
            found = {one.tps: {key: getattr(one, key) for key in keys} | {"region": at, "mark": "0"} for one, at in on}
            return {"stations": found, "parts": {}}
        counts = Counter((at, one.island) for one, at in on)
        parts = {f"{at}/{island}": {"island": island, "marks": "0" * count} for (at, island), count in counts.items()}
        return {"stations": {}, "parts": parts if len(parts) <= SITE_ISLAND_PARTS else {}}

    def _depth(self, region: Region) -> int:
        return ("whole", *self._regions.levels).index(region.level)

    def _state(self) -> bytes:
        return encode({"election": self._look.election, **self._log()})


def _mark_island(islands: Document, village: Region, station: Station, rows: Mapping[str, Document]) -> bool:
    """Mark the state of a station's island, from the rows of its village; whether it is shown as one."""
    if station.tps in islands["stations"]:
        islands["stations"][station.tps]["mark"] = rows[station.tps]["sums"]["marks"]
        return True
    part = islands["parts"].get(f"{village.key}/{station.island}")
    if part:
        on = [row for _, row in sorted(rows.items()) if row["island"] == station.island]
        part["marks"] = "".join(row["sums"]["marks"] for row in on)
    return part is not None


def _is_sound(settled: Document) -> bool:
    """Whether what a site goes on from has all that it goes on with."""
    try:
        first, end = settled["again"]
        for one in settled["revoked"]:
            NodeId(bytes.fromhex(one))
        numbers = (settled["entries"], first, end)
        return (
            all(type(number) is int and number >= 0 for number in numbers)
            and isinstance(settled["arrived"], int | None)
            and all(isinstance(word, str) for word in (*settled["begun"], settled["generation"], settled["print"]))
            and isinstance(settled["dress"], str)
        )
    except (KeyError, TypeError, ValueError):
        return False


def _device_path(node: NodeId) -> str:
    return f"device/{node.hex()}.json"


def _strays_path(page: int) -> str:
    return STRAYS if page == 1 else f"strays-{page}.json"


def _region_path(region: Region) -> str:
    return f"region/{region.key}.json"


def _blank_document(region: Region, above: Sequence[Region]) -> Document:
    path = [{"key": one.key, "name": one.name, "level": one.level} for one in above]
    return {"key": region.key, "name": region.name, "level": region.level, "path": path, "children": {}}


def _row(document: Document) -> Document:
    return {key: document[key] for key in ("name", "level", "sums", "notes")}


def _link_map(one: Logged) -> Document:
    return {
        "id": one.id.hex(),
        "seq": one.seq,
        "previous": one.previous.hex() if one.previous else None,
        "tps": one.tps,
        "form": one.form,
        "entry": one.entry,
    }


def _links(node: NodeId, links: Iterable[Mapping[str, object]]) -> list[Link]:
    return [
        Link(node, int(str(one["seq"])), _id(one["id"]), _id(one["previous"]) if one["previous"] else None)
        for one in links
    ]


def _id(text: object) -> StatementId:
    return StatementId(RecordId(bytes.fromhex(str(text))))


def _finding_map(found: Finding) -> Document:
    named = [one.hex() for one in found.named]
    if isinstance(found, Gap):
        return {"finding": "gap", "first": found.first, "last": found.last, "named": named}
    return {"finding": "fork", "seq": found.seq, "held": [one.hex() for one in found.held], "named": named}
