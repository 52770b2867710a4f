"""The tables of many stations, held against what the log says of each.

They follow with a rest and do not say how far they are: a row is right when it says what the log said at any of its
entries.
"""

from __future__ import annotations

from relay.errors import NotHeld
from relay.limits import MAX_SITE_DOCUMENT
from relay.web.site.audit.case import Case
from relay.web.site.audit.compared import refused
from relay.web.site.audit.difference import NOTHING, Difference, difference, rows_in
from relay.web.site.audit.served import DIGITS
from relay.web.site.audit.sizes import Tried, try_sizes
from relay.web.site.audit.truth import Place
from relay.web.site.regions import WHOLE, Document


class TablesAudit:
    """Compares tables, and notes in the report what it finds."""

    def __init__(self, case: Case) -> None:
        self._case = case

    async def check(self, place: Place) -> None:
        """Compare the tables of a region, where it has any."""
        if place.region.level != ("district" if self._case.truth.is_large else "whole"):
            return
        name = "results" if place.region.key == WHOLE else f"region/{place.region.key}-results"
        for path in (f"{name}.csv", f"{name}.json"):
            self._case.site.looked_at = path
            stations = list(place.all_stations())
            try:
                rows = rows_in(path, await self._case.site.source.read(path, MAX_SITE_DOCUMENT))
            except NotHeld:  # it is written after all else
                for entries in (one for tps in stations for one in self._case.ledger.result_entries(tps).values()):
                    self._case.report.lag(entries[0])
                continue
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise refused(path, Difference((), None, None)) from error
            for tps in stations:
                await self._check_rows(path, tps, rows)
            if rows and self._case.register.knows_all_forms:
                more = " ".join(next(iter(rows)))
                raise refused(path, Difference(("children", more), rows, NOTHING))
            self._case.report.tables += 1

    async def _check_rows(self, path: str, tps: str, rows: dict[tuple[str, str], Document]) -> None:
        """Compare the rows of a station, and take them out of `rows`."""
        for form, entries in self._case.register.returned(self._case.ledger.result_entries(tps)):
            row = rows.pop((tps, form), None)
            if row is None:
                raise refused(path, Difference(("children", f"{tps} {form}"), NOTHING, None))
            found = await self._compare_row(path, tps, form, entries, row)
            if found is None:
                continue
            if entries and entries[0] in self._case.site.again:
                self._case.report.rewritten += 1
            else:
                raise refused(f"{path} ({tps} {form})", found)

    async def _compare_row(
        self, path: str, tps: str, form: str, entries: list[int], row: Document
    ) -> Difference | None:
        """Compare a row with what it should be now, and where it is not that, with what it was since its entry."""
        entry = str(row.get("entry") or "")
        is_entry = entry.isdecimal() and len(entry) <= DIGITS
        start = int(entry) + 1 if is_entry else entries[0] if entries else self._case.report.size

        async def compare(end: int) -> Tried:
            pages, span = await self._case.truth.table(tps, end)
            said = next(rows_in(one.path, one.content) for one in pages if one.path[-4:] == path[-4:])
            return difference(said.get((tps, form), {}), row), span

        first, span = await try_sizes(start, self._case.report.size, compare)
        if first is None:
            self._case.report.lag_from(span.until)
        return first
