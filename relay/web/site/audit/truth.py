"""What the log says of results at any of its entries, in the very documents that the site would publish of it.

An audit's ledger has what each entry says. Judging, histories and sums are those of the site itself: whatever a
document comes to say, is what it is held against. Nothing of it is kept, but what was asked last.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from relay.receiver.chains import findings
from relay.receiver.ledger import Ledger
from relay.receiver.results import Logged, judge
from relay.receiver.showing import Showing
from relay.records.identifiers import NodeId
from relay.records.notice import Station
from relay.store.shelf import Page, Shelf
from relay.web.site.audit.difference import ANY_TIME
from relay.web.site.documents import Documents
from relay.web.site.downloads import table
from relay.web.site.history import History
from relay.web.site.pages import Look
from relay.web.site.paths import form_path
from relay.web.site.regions import ALL, Document, Region, Regions, blank_region, region_row, station_row, sum_up
from relay.web.site.register import Register
from relay.web.site.tables import rows_of

_KEPT = 512
"""Forms, and devices, of which what was found last is kept."""


@dataclass(slots=True)
class Span:
    """For which sizes of the log something holds: from `since` to `until` entries."""

    since: int
    until: int

    def holds(self, end: int) -> bool:
        """Whether it holds for a log of so many entries."""
        return self.since <= end <= self.until

    def narrow(self, other: Span) -> None:
        """Hold no longer than the other does."""
        self.since, self.until = max(self.since, other.since), min(self.until, other.until)


@dataclass(frozen=True, slots=True)
class FormTruth:
    """The documents of a station and form: its own, and what the pages of its history have together."""

    head: Document
    rows: Document
    statements: tuple[Document, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class RegionTruth:
    """The document of a region."""

    document: Document
    span: Span


@dataclass(slots=True)
class Place:
    """A region, those above it and below it, and the stations of a village."""

    region: Region
    above: tuple[Region, ...] = ()
    below: dict[str, Place] = field(default_factory=dict)
    stations: list[str] = field(default_factory=list)

    def all_stations(self) -> Iterator[str]:
        """Its stations, and those of all regions below it."""
        yield from self.stations
        for below in self.below.values():
            yield from below.all_stations()


def pack(one: Logged) -> bytes:
    """What an entry says, as the ledger keeps it."""
    return zlib.compress(json.dumps(one.to_map(), ensure_ascii=False, separators=(",", ":")).encode(), 6)


def places_of(stations: Mapping[str, Station], regions: Regions) -> Place:
    """The regions of a register, from the whole down."""
    whole = Place(ALL)
    for tps, station in stations.items():
        place = whole
        path = regions.path(station)
        for at, region in enumerate(path[1:], 1):
            place = place.below.setdefault(region.key, Place(region, path[:at]))
        place.stations.append(tps)
    return whole


_NONE: Mapping[str, RegionTruth] = {}


class Truth:
    """What the ledger of a log of `size` entries says. `stations` may get other names meanwhile."""

    def __init__(
        self,
        ledger: Ledger,
        look: Look,
        size: int,
        stations: Mapping[str, Station],
        forms: Sequence[str],
        revoked: frozenset[NodeId],
    ) -> None:
        self._ledger = ledger
        self._look = look
        self._size = size
        self._stations = stations
        self._forms = tuple(forms)
        self._register = Register(stations, self._forms)
        self._revoked = revoked
        self.regions = Regions.of(stations.values())
        self._asked: OrderedDict[tuple[str, str], list[FormTruth]] = OrderedDict()
        self._chains: OrderedDict[tuple[NodeId, int | None], Showing] = OrderedDict()

    # -- a station and form

    async def form(self, tps: str, form: str, end: int) -> FormTruth:
        """What a log of `end` entries says of a form; one of them is of it."""
        asked = self._asked.setdefault((tps, form), [])
        self._asked.move_to_end((tps, form))
        if len(self._asked) > _KEPT:
            self._asked.popitem(last=False)
        for one in asked:
            if one.span.holds(end):
                return one
        found = await self._judge(tps, form, end)
        asked[:] = [*asked[-1:], found]
        return found

    def rename(self, tps: str) -> None:
        """Forget what was found of a station, which has other names now."""
        for key in [key for key in self._asked if key[0] == tps]:
            del self._asked[key]

    async def _judge(self, tps: str, form: str, end: int) -> FormTruth:
        logged = [_unpack(one) for one in self._ledger.said(tps, form, end)]
        span = self._span(logged, end)
        documents = Documents(cast(Shelf, _Nowhere()))
        documents.put(form_path(tps, form), {})
        history = History(documents, tps, form)
        statements = await history.take(logged)
        chains = [
            found
            for node in dict.fromkeys(one.node for one in statements)
            for found in self._showing(node, end).among(one.link for one in statements if one.node == node)
        ]
        station = self._stations.get(tps)
        result = judge(statements, station, frozenset(self._forms), chains, self._revoked)
        path = self.regions.path(station) if station else ()
        head = await history.tell(result, self._look.result_document(result, station, path))
        pages = [documents.at(path) for path in history.used] if history.has_pages else []
        rows = {key: row for page in pages for key, row in page.get("rows", {}).items()}
        shown = tuple(one for page in pages for one in page.get("statements", ()))
        return FormTruth(head, rows, shown, span)

    def _span(self, logged: Sequence[Logged], end: int) -> Span:
        """Until another entry of the form comes, or of a device that signed for it, whose chain may change."""
        span = self.span_of([one.entry for one in logged], end)
        for node in {one.node for one in logged}:
            last, following = self._ledger.around(node, end)
            span.narrow(Span(0 if last is None else last + 1, self._size if following is None else following))
        return span

    def span_of(self, entries: Sequence[int], end: int) -> Span:
        """For which sizes of the log the same of these entries are in it."""
        before = [one for one in entries if one < end]
        after = [one for one in entries if one >= end]
        return Span(before[-1] + 1 if before else 0, after[0] if after else self._size)

    def _showing(self, node: NodeId, end: int) -> Showing:
        key = node, self._ledger.around(node, end)[0]
        if key not in self._chains:
            self._chains[key] = Showing(findings(self._ledger.links_of(node, end)))
            if len(self._chains) > _KEPT:
                self._chains.popitem(last=False)
        return self._chains[key]

    # -- tables

    @property
    def is_large(self) -> bool:
        """Whether each district has a table of its own."""
        return self._register.is_large

    async def table(self, tps: str, end: int) -> tuple[tuple[Page, ...], Span]:
        """The tables of one station, in a log of `end` entries."""
        span = Span(0, self._size)
        *_, district, village = self.regions.path(self._stations[tps])
        row = await self._station(tps, end, span)
        document = {"name": village.name, "path": [district.to_map()], "children": {tps: row}}
        return table("results", list(rows_of(self._register, document))), span

    # -- regions

    async def region(self, place: Place, end: int, known: Mapping[str, RegionTruth] = _NONE) -> RegionTruth:
        """What a log of `end` entries says of a region; `known` may be what it says of its parts."""
        span = Span(0, self._size)
        document = blank_region(place.region, place.above)
        children = document["children"]
        for tps in place.stations:
            children[tps] = await self._station(tps, end, span)
        for key, below in sorted(place.below.items()):
            part = known.get(key)
            if part is None or not part.span.holds(end):
                part = await self.region(below, end)
            children[key] = region_row(part.document)
            span.narrow(part.span)
        sum_up(document)
        return RegionTruth(document, span)

    async def _station(self, tps: str, end: int, span: Span) -> Document:
        results: dict[str, Document] = {}
        for form, entries in self._ledger.result_entries(tps).items():
            span.narrow(self.span_of(entries, end))
            if entries[0] < end:
                truth = await self.form(tps, form, end)
                span.narrow(truth.span)
                results[form] = truth.head
        return station_row(self._stations[tps], self._forms, results)


class _Nowhere:
    """A shelf on which nothing is."""

    async def read(self, path: str) -> bytes | None:  # noqa: ARG002
        return None


def _unpack(said: bytes) -> Logged:
    return Logged.from_map({**json.loads(zlib.decompress(said)), "arrived": ANY_TIME})
