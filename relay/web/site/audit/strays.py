"""The list of what the register does not know, held against what the log says of it."""

from __future__ import annotations

from relay.errors import Malformed, NotHeld
from relay.limits import MAX_SITE_DOCUMENT
from relay.records.identifiers import is_code
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
        self._again = range(0)
        """Which entries the site brought again before the list was read, and may have brought since."""

    async def read(self) -> None:
        """Read the list, page by page."""
        self._again = self._case.site.again
        self._case.site.looked_at = STRAYS
        try:
            pages = page = 1
            rows = 0
            while page <= pages:
                path = strays_path(page)
                found = parse(path, await self._case.site.source.read(path, MAX_SITE_DOCUMENT))
                rows += len(found["strays"])
                await self._check_count(rows)
                for key, row in found["strays"].items():
                    self._listed.setdefault(key, []).append(row)
                pages = min(found["pages"], self._case.site.newest + 1) if page == 1 else pages
                page += 1
        except (DamagedSite, NotHeld, Malformed, KeyError, TypeError, AttributeError, ValueError) as error:
            raise refused(STRAYS, Difference((), None, None)) from error

    async def check(self, tps: str) -> None:
        """Compare what is listed of a station that the register does not know."""
        self._case.site.looked_at = STRAYS
        for form, entries in self._case.ledger.result_entries(tps).items():
            for row in self._listed.pop(f"{tps}/{form}", None) or [None]:
                await self._check_row(tps, form, entries, row)

    async def check_rest(self) -> None:
        """See that nothing else is listed, once all stations were compared."""
        self._case.site.looked_at = STRAYS
        for key in self._listed:
            tps, _, form = key.partition("/")
            entries = self._case.ledger.result_entries(tps).get(form, []) if is_code(tps) else []
            await self._excuse(entries, STRAYS, Difference(("children", key), self._listed, NOTHING))

    async def _check_count(self, rows: int) -> None:
        """See that there are no more rows than entries, each once more where a power cut left an older page."""
        if rows > 2 * self._case.site.newest:
            await self._case.site.ask_log()
        if rows > 2 * self._case.site.newest:
            raise refused(STRAYS, Difference((), None, None))

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
        await self._excuse(entries, f"{STRAYS} ({tps} {form})", first)

    async def _excuse(self, entries: list[int], where: str, found: Difference) -> None:
        """Note why a row may be another than it should be: its `entries` are brought again, or it is newer than the log
        that was audited. Raises `Refused` where neither is so."""
        site, report = self._case.site, self._case.report
        if not self._is_again(entries) and site.entries <= report.size:
            await site.read_state()  # it may show more by now than when the audit began
        if self._is_again(entries):
            report.rewritten += 1
        elif site.entries <= report.size:
            raise refused(where, found)
        else:
            await site.reach(site.entries)
            report.newer += 1

    def _is_again(self, entries: list[int]) -> bool:
        """Whether what has these entries may not be judged again yet."""
        return any(entry in again for entry in entries[:1] for again in (self._again, self._case.site.again))
