"""The list of what the register does not know, held against what the log says of it."""

from __future__ import annotations

from relay.errors import Malformed, NotHeld
from relay.limits import MAX_SITE_DOCUMENT
from relay.web.site.audit.case import Case
from relay.web.site.audit.compared import refused
from relay.web.site.audit.difference import NOTHING, Difference, difference
from relay.web.site.audit.sizes import Tried, try_sizes
from relay.web.site.documents import DamagedSite, parse
from relay.web.site.paths import STRAYS, strays_path
from relay.web.site.strays import stray_row


class StraysAudit:
    """Compares what is listed, and notes in the report what it finds."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._listed: dict[str, list[object]] = {}
        """Rows that were not compared yet, by station and form: one each, unless a power cut left an older page."""

    async def read(self) -> None:
        """Read the list, page by page."""
        try:
            pages = page = 1
            while page <= pages:
                path = strays_path(page)
                found = parse(path, await self._case.site.source.read(path, MAX_SITE_DOCUMENT))
                for key, row in found["strays"].items():
                    self._listed.setdefault(key, []).append(row)
                pages = min(found["pages"], self._case.site.newest + 1) if page == 1 else pages
                page += 1
        except (DamagedSite, NotHeld, Malformed, KeyError, TypeError, AttributeError, ValueError) as error:
            raise refused(STRAYS, Difference((), None, None)) from error

    async def check(self, tps: str) -> None:
        """Compare what is listed of a station that the register does not know."""
        for form, entries in self._case.ledger.result_entries(tps).items():
            for row in self._listed.pop(f"{tps}/{form}", None) or [None]:
                await self._check_row(tps, form, entries, row)

    async def check_rest(self) -> None:
        """See that nothing else is listed, once all stations were compared."""
        if not self._listed or self._case.site.again:
            return
        if self._case.site.entries <= self._case.report.size:
            raise refused(STRAYS, Difference(("children", next(iter(self._listed))), self._listed, NOTHING))
        await self._case.site.reach(self._case.site.entries)
        self._case.report.newer += 1

    async def _check_row(self, tps: str, form: str, entries: list[int], row: object) -> None:
        if row is None:
            self._case.report.lag(entries[0])
            return

        async def compare(end: int) -> Tried:
            truth = await self._case.truth.form(tps, form, end)
            return difference(stray_row(truth.head), row), truth.span

        first, span = await try_sizes(entries[0] + 1, self._case.report.size, compare)
        if first is None:
            self._case.report.lag_from(span.until)
            return
        if entries[0] not in self._case.site.again and self._case.site.entries <= self._case.report.size:
            raise refused(f"{STRAYS} ({tps} {form})", first)
        await self._case.site.reach(self._case.site.entries)
        self._case.report.newer += 1
