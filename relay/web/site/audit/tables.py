"""The tables of many stations, held against what the log says of each.

They follow with a rest and do not say how far they are: a row is right when it says what the log said at any of its
entries.
"""

from __future__ import annotations

from relay.errors import NotHeld
from relay.limits import MAX_SITE_DOCUMENT
from relay.receiver.ledger import Ledger
from relay.web.site.audit.compared import Compared, refused
from relay.web.site.audit.difference import NOTHING, Difference, difference, rows_in
from relay.web.site.audit.register import AuditedRegister
from relay.web.site.audit.served import AuditedSite
from relay.web.site.audit.sizes import Tried, try_sizes
from relay.web.site.audit.truth import Place, Truth
from relay.web.site.regions import WHOLE, Document

_DIGITS = 18
"""Of an entry's number. What has more is none: Python reads no number of thousands of them."""


class TablesAudit:
    """Compares tables, and notes in `report` what it finds."""

    def __init__(
        self, site: AuditedSite, ledger: Ledger, register: AuditedRegister, truth: Truth, report: Compared
    ) -> None:
        self._site = site
        self._ledger = ledger
        self._register = register
        self._truth = truth
        self._report = report

    async def check(self, place: Place) -> None:
        """Compare the tables of a region, where it has any."""
        if place.region.level != ("district" if self._truth.is_large else "whole"):
            return
        name = "results" if place.region.key == WHOLE else f"region/{place.region.key}-results"
        for path in (f"{name}.csv", f"{name}.json"):
            stations = list(place.all_stations())
            try:
                rows = rows_in(path, await self._site.source.read(path, MAX_SITE_DOCUMENT))
            except NotHeld:  # it is written after all else
                for entries in (one for tps in stations for one in self._ledger.result_entries(tps).values()):
                    self._report.lag(entries[0])
                continue
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise refused(path, Difference((), None, None)) from error
            for tps in stations:
                await self._check_rows(path, tps, rows)
            if rows and self._register.knows_all_forms:
                more = " ".join(next(iter(rows)))
                raise refused(path, Difference(("children", more), rows, NOTHING))
            self._report.tables += 1

    async def _check_rows(self, path: str, tps: str, rows: dict[tuple[str, str], Document]) -> None:
        """Compare the rows of a station, and take them out of `rows`."""
        for form, entries in self._register.returned(self._ledger.result_entries(tps)):
            row = rows.pop((tps, form), None)
            if row is None:
                raise refused(path, Difference(("children", f"{tps} {form}"), NOTHING, None))
            found = await self._compare_row(path, tps, form, entries, row)
            if found is None:
                continue
            if entries and entries[0] in self._site.again:
                self._report.rewritten += 1
            else:
                raise refused(f"{path} ({tps} {form})", found)

    async def _compare_row(
        self, path: str, tps: str, form: str, entries: list[int], row: Document
    ) -> Difference | None:
        """Compare a row with what it should be now, and where it is not that, with what it was since its entry."""
        entry = str(row.get("entry") or "")
        is_entry = entry.isdecimal() and len(entry) <= _DIGITS
        start = int(entry) + 1 if is_entry else entries[0] if entries else self._report.size

        async def compare(end: int) -> Tried:
            pages, span = await self._truth.table(tps, end)
            said = next(rows_in(one.path, one.content) for one in pages if one.path[-4:] == path[-4:])
            return difference(said.get((tps, form), {}), row), span

        first, span = await try_sizes(start, self._report.size, compare)
        if first is None:
            self._report.lag_from(span.until)
        return first
