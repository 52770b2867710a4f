"""The documents of stations and forms, held against what the log says of them.

A form's document does not say how far it is, but by the newest statement that it has.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.errors import Malformed, NotHeld
from relay.limits import AUDIT_DOCUMENT, AUDIT_DOCUMENTS
from relay.receiver.attachments import Progress
from relay.web.site.audit.case import Case
from relay.web.site.audit.compared import refused
from relay.web.site.audit.difference import OF_CHAINS, Difference
from relay.web.site.audit.served import TRIES
from relay.web.site.audit.shown import FormShown, read_form
from relay.web.site.audit.sizes import Tried, try_sizes
from relay.web.site.documents import DamagedSite
from relay.web.site.paths import form_path

Served = bytes | NotHeld | Malformed


class FormsAudit:
    """Compares forms, and notes in the report what it finds."""

    def __init__(self, case: Case, progress: Progress) -> None:
        self._case = case
        self._progress = progress
        self._there = case.ledger.count_forms()
        """Forms that there are to be compared."""

    async def check(self, stations: Iterable[str]) -> None:
        """Compare the documents of these stations: also where the log has nothing of a form there should be nothing."""
        asked = [
            (tps, form, said)
            for tps in stations
            for form, said in self._case.register.returned(self._case.ledger.result_entries(tps))
        ]
        for at in range(0, len(asked), AUDIT_DOCUMENTS):
            part = asked[at : at + AUDIT_DOCUMENTS]
            found = await self._case.site.source.read_all(
                [form_path(tps, form) for tps, form, _ in part], AUDIT_DOCUMENT
            )
            for (tps, form, entries), served in zip(part, found, strict=True):
                await self._check_form(tps, form, entries, served)
            self._case.report.forms += sum(bool(entries) for _, _, entries in part)
            self._progress("results", self._case.report.forms, self._there)

    async def _check_form(self, tps: str, form: str, entries: list[int], served: Served) -> None:
        path = form_path(tps, form)
        for attempt in range(TRIES):
            self._case.site.looked_at = path
            found = await self._compare(tps, form, entries, served)
            if found is None:
                return
            if attempt + 1 == TRIES:
                raise refused(path, found)
            await self._case.site.read_state()
            (served,) = await self._case.site.source.read_all([path], AUDIT_DOCUMENT)

    async def _compare(self, tps: str, form: str, entries: list[int], served: Served) -> Difference | None:
        if isinstance(served, NotHeld):
            if entries:
                self._case.report.lag(entries[0])
            return None
        if isinstance(served, Malformed):
            return Difference((), None, None)
        try:
            shown = await read_form(self._case.site.source, form_path(tps, form), served, len(entries))
            if self._case.register.take_names(tps, shown.head):
                self._case.truth.rename(tps)
        except (DamagedSite, NotHeld, Malformed, KeyError, TypeError, AttributeError, ValueError):
            return Difference((), None, None)
        if shown.newest >= self._case.report.size:
            return await self._compare_newer(tps, form, entries, shown)
        if not entries:
            return Difference(("state",), shown.head.get("state"), "nothing")
        return await self._compare_shown(tps, form, entries, shown)

    async def _compare_newer(self, tps: str, form: str, entries: list[int], shown: FormShown) -> Difference | None:
        """Compare what is shown with more of the log than was audited: it has what was, and what is made of all of it
        the next audit compares."""
        await self._case.site.reach(shown.newest + 1)
        if entries:
            truth = await self._case.truth.form(tps, form, self._case.report.size)
            found = shown.lacks_statements_of(truth, self._case.report.size)
            if found is not None:
                return found
        self._case.report.newer += 1
        return None

    async def _compare_shown(self, tps: str, form: str, entries: list[int], shown: FormShown) -> Difference | None:
        """Compare what is shown with what the log said when it was written: as late as it may be first."""

        async def compare(end: int) -> Tried:
            truth = await self._case.truth.form(tps, form, max(end, entries[0] + 1))
            return shown.differs_from(truth), truth.span

        end = shown.newest + 1
        first, span = await try_sizes(end, self._case.truth.span_of(entries, end).until, compare)
        if first is None:
            self._case.report.lag_from(span.until)
            return None
        truth = await self._case.truth.form(tps, form, span.until)
        if shown.lacks_statements_of(truth, end) is None:
            if entries[0] in self._case.site.again:
                self._case.report.rewritten += 1
                return None
            if self._case.site.entries > self._case.report.size and shown.differs_from(truth, OF_CHAINS) is None:
                await self._case.site.reach(self._case.site.entries)
                self._case.report.newer += 1
                return None
        return first
