"""The audit of results: what the site shows of them, held against what its log says (promise 8).

Comes after the audit of the log (`relay.receiver.auditing`), whose ledger has each entry's hash. Each bundle is read
once more for what its entries say, which the ledger keeps; what is shown may change at any time, and is read anew by
every audit, one document after the other: region by region, and in each village the documents of its stations.

A document is right when it says what the log said at one of its entries: pages are written after entries, and each
while others still are as they were. A region's document names the entry, and is compared there; a form's shows it by
the newest statement that it has. What came in the log after that is not shown yet: it is told, and is a fault when it
stays so longer than the auditor's patience. What is newer than the log that was audited, the next audit compares. While
the site is written again (of another register, for instance), results that were not judged again yet may be judged as
they were; their statements are compared all the same.

The register is the office's, where the auditor has it. Else names and numbers of registered voters are taken from the
site itself, and everything is held against those: that is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from relay.errors import Malformed, NotHeld, Refused
from relay.limits import AUDIT_DOCUMENT, AUDIT_DOCUMENTS, MAX_SITE_DOCUMENT
from relay.net.source import Source
from relay.receiver.attachments import Progress
from relay.receiver.ledger import Ledger
from relay.trust.admission import Admission
from relay.web.site.audited import NOTHING, OF_CHAINS, Difference, difference, number_of, rows_in
from relay.web.site.audited_entries import take_in
from relay.web.site.audited_register import AuditedRegister, open_register
from relay.web.site.audited_site import TRIES, AuditedSite
from relay.web.site.compared import Compared, refused
from relay.web.site.documents import DamagedSite, parse
from relay.web.site.pages import Look
from relay.web.site.paths import STRAYS, form_path, region_path, strays_path
from relay.web.site.regions import WHOLE, Document
from relay.web.site.settled import JUDGING, SETTLED
from relay.web.site.strays import stray_row
from relay.web.site.truth import FormTruth, Place, RegionTruth, Truth, places_of

OTHER_JUDGING = "other-judging"
"""The reason of a refusal because the site is another version's, and no fault."""
_STEPS = 16
"""Places in the log at which a form may have been written, that are tried."""
_STATIONS_AT_ONCE = 256

Shown = bytes | NotHeld | Malformed


class ResultsAudit:
    """One audit of the results in `source`, of whose log the first `size` entries were found right: `ledger`."""

    def __init__(
        self,
        source: Source,
        admission: Admission,
        ledger: Ledger,
        size: int,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        self._site = AuditedSite(source, admission, size)
        self._admission = admission
        self._ledger = ledger
        self._size = size
        self._progress = progress
        self._clock = clock
        self._report = Compared(size)
        self._there = 0
        """Forms that there are to be compared."""
        self._register: AuditedRegister
        self._truth: Truth

    async def run(self, patience: float) -> Compared:
        """Compare everything. Raises what is wrong first."""
        try:
            return await self._run(patience)
        except Refused as error:
            if error.reason != "wrong-result" or self._report.same_pages:
                raise
            raise Refused(
                error.reason,
                error.what,
                "The site says that another version of relay wrote its pages: audit it with that version before you "
                "tell anybody. If it ends here too, keep a copy of that file and its page, and tell the election "
                "office and the public.",
            ) from error

    async def _run(self, patience: float) -> Compared:
        await self._site.read_state()
        self._report.entries = self._site.entries
        await self._check_version()
        await take_in(self._site.source, self._ledger, self._size, self._progress)
        self._there = self._ledger.count_forms()
        self._register = await open_register(self._admission, self._site)
        self._report.has_register = self._register.is_office
        revoked = frozenset(self._admission.revoked)
        look = self._look()
        self._truth = Truth(self._ledger, look, self._size, self._register.stations, self._register.forms, revoked)
        await self._check_region(places_of(self._register.stations, self._truth.regions))
        await self._check_strays()
        self._wait(patience)
        return self._report

    def _look(self) -> Look:
        return Look(self._admission.election, self._admission.root.certificate, b"")

    # -- how far the site is

    async def _check_version(self) -> None:
        """Ask the site which version wrote it: another one may judge otherwise. Raises `Refused`."""
        try:
            settled = await self._site.document(SETTLED)
        except NotHeld:
            return
        words = str(settled.get("print", "")).split()
        if len(words) == 3:
            self._report.same_pages = words[1] == self._look().fingerprint
            if words[2] != str(JUDGING):
                raise Refused(
                    OTHER_JUDGING,
                    "The site was written by another version of relay, which judges results otherwise",
                    "Audit it with the version that the receiver has: its administrator knows which.",
                )

    def _wait(self, patience: float) -> None:
        """Tell since when something is not as it should be in the end. Raises `Refused` after so long."""
        now = self._clock()
        behind = self._report.behind
        again = self._site.again.start if self._report.rewritten else None
        for what, entry in (("behind", behind), ("again", again)):
            waited = now - self._ledger.lacking_since(f"results {what}", entry, now)
            if entry is None:
                continue
            self._report.waiting[what] = waited
            if waited >= patience:
                late = f"Entry {entry} is in the log, and the site does not show it where it belongs"
                old = f"The site says that it is written again from entry {entry} on, and does not come to an end"
                raise Refused(
                    "not-shown",
                    late if what == "behind" else old,
                    "Ask the receiver's administrator why; if it stays so, tell the election office and the public.",
                )

    # -- regions

    async def _check_region(self, place: Place) -> RegionTruth:
        """Compare a region, and all below it."""
        known: dict[str, RegionTruth] = {}
        shown = await self._site.region(place.region.key)
        for key, below in place.below.items():
            known[key] = await self._check_region(below)
        if place.stations:
            await self._check_forms(place.stations)
        for attempt in range(TRIES):
            truth, found = await self._compare_region(place, shown, known)
            if found is None:
                break
            if self._is_again(place):
                self._report.rewritten += 1
                break
            if attempt + 1 == TRIES:
                raise refused(region_path(place.region.key), found)
            await self._site.read_state()
            shown = await self._site.region(place.region.key)
        self._report.regions += 1
        if place.region.level == ("district" if self._truth.is_large else "whole"):
            await self._check_tables(place)
        return truth

    async def _compare_region(
        self, place: Place, shown: Document, known: dict[str, RegionTruth]
    ) -> tuple[RegionTruth, Difference | None]:
        named = number_of(shown)
        self._report.unnamed += named is None
        end = self._size if named is None else named
        truth = await self._truth.region(place, min(end, self._size), known)
        found = difference(truth.document, shown)
        if found is not None and end > self._size:
            await self._site.reach(end)
            self._report.newer += 1
            return truth, None
        if found is None:
            self._report.lag_from(truth.span.until)
        return truth, found

    def _is_again(self, place: Place) -> bool:
        """Whether a result in this region may not be judged again yet."""
        again = self._site.again
        if not again:
            return False
        stations = [place.stations, *(below.stations for below in _all_below(place))]
        entries = (self._ledger.result_entries(tps) for each in stations for tps in each)
        return any(one[0] in again for each in entries for one in each.values())

    # -- forms

    async def _check_forms(self, stations: Iterable[str]) -> None:
        """Compare the documents of these stations: also where the log has nothing of a form there should be nothing."""
        asked = [
            (tps, form, said)
            for tps in stations
            for form, said in self._register.returned(self._ledger.result_entries(tps))
        ]
        for at in range(0, len(asked), AUDIT_DOCUMENTS):
            part = asked[at : at + AUDIT_DOCUMENTS]
            found = await self._site.source.read_all([form_path(tps, form) for tps, form, _ in part], AUDIT_DOCUMENT)
            for (tps, form, entries), shown in zip(part, found, strict=True):
                await self._check_form(tps, form, entries, shown)
            self._report.forms += sum(bool(entries) for _, _, entries in part)
            self._progress("results", self._report.forms, self._there)

    async def _check_form(self, tps: str, form: str, entries: list[int], shown: Shown) -> None:
        path = form_path(tps, form)
        for attempt in range(TRIES):
            found = await self._compare_form(tps, form, entries, shown)
            if found is None:
                return
            if attempt + 1 == TRIES:
                raise refused(path, found)
            await self._site.read_state()
            (shown,) = await self._site.source.read_all([path], AUDIT_DOCUMENT)

    async def _compare_form(self, tps: str, form: str, entries: list[int], shown: Shown) -> Difference | None:
        if isinstance(shown, NotHeld):
            if entries:
                self._report.lag(entries[0])
            return None
        try:
            page = await self._read_page(tps, form, shown, len(entries))
        except (DamagedSite, NotHeld, Malformed, KeyError, TypeError, AttributeError, ValueError):
            return Difference((), None, None)
        if self._register.take_names(tps, page.head):
            self._truth.rename(tps)
        if page.newest >= self._size:
            return await self._compare_newer(tps, form, entries, page)
        if not entries:
            return Difference(("state",), page.head.get("state"), "nothing")
        return await self._compare_page(tps, form, entries, page)

    async def _compare_newer(self, tps: str, form: str, entries: list[int], page: _Page) -> Difference | None:
        """Compare what is shown with more of the log than was audited: it has what was, and what is made of all of it
        the next audit compares."""
        await self._site.reach(page.newest + 1)
        if entries:
            truth = await self._truth.form(tps, form, self._size)
            found = page.lacks_statements_of(truth, self._size)
            if found is not None:
                return found
        self._report.newer += 1
        return None

    async def _compare_page(self, tps: str, form: str, entries: list[int], page: _Page) -> Difference | None:
        """Compare what is shown with what the log said when it was written: as late as it may be first."""
        last = self._truth.span_of(entries, page.newest + 1).until
        first: Difference | None = None
        end = last
        for _ in range(_STEPS):
            truth = await self._truth.form(tps, form, max(end, entries[0] + 1))
            found = page.differs_from(truth)
            if found is None:
                self._report.lag_from(truth.span.until)
                return None
            first = first or found
            end = page.newest + 1 if end == last else truth.span.until + 1
            if end >= last:
                break
        if page.lacks_statements_of(truth, page.newest + 1) is None:
            if entries[0] in self._site.again:
                self._report.rewritten += 1
                return None
            if self._site.entries > self._size and page.differs_from(truth, OF_CHAINS) is None:
                await self._site.reach(self._site.entries)
                self._report.newer += 1
                return None
        return first

    async def _read_page(self, tps: str, form: str, shown: bytes | Malformed, entries: int) -> _Page:
        """A form's document, and the pages of its history where it has any. Raises for what is none."""
        if isinstance(shown, Malformed):
            raise shown
        path = form_path(tps, form)
        head = parse(path, shown)
        page = _Page(head)
        if head["pages"] is None:
            page.newest = _newest(head["statements"])
            return page
        folder = path.removesuffix(".json")
        for kind, number in (("history-", head["pages"]["history"]), ("", head["pages"]["statements"])):
            if number > entries + 1:
                raise ValueError
            for at in range(1, number + 1):
                name = f"{folder}/{kind}{at}.json"
                found = parse(name, await self._site.source.read(name, AUDIT_DOCUMENT))
                for key, row in found.get("rows", {}).items():
                    if page.rows.setdefault(key, row) != row:
                        raise ValueError
                page.statements += found.get("statements", ())
        _newest(page.statements)
        page.newest = _newest(page.rows.values())
        return page

    # -- tables

    async def _check_tables(self, place: Place) -> None:
        """Compare the tables of a region. They follow with a rest and do not say how far they are: a row is right when
        it says what the log said at any of its entries."""
        name = "results" if place.region.key == WHOLE else f"region/{place.region.key}-results"
        for path in (f"{name}.csv", f"{name}.json"):
            stations = [tps for each in (place, *_all_below(place)) for tps in each.stations]
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
        start = int(entry) + 1 if entry.isdecimal() else entries[0] if entries else self._size
        first: Difference | None = None
        end = self._size
        for _ in range(_STEPS):
            pages, span = await self._truth.table(tps, end)
            said = next(rows_in(one.path, one.content) for one in pages if one.path[-4:] == path[-4:])
            found = difference(said.get((tps, form), {}), row)
            if found is None:
                self._report.lag_from(span.until)
                return None
            first = first or found
            end = min(start, self._size) if end == self._size else span.until + 1
            if end >= self._size:
                break
        return first

    # -- what the register does not know

    async def _check_strays(self) -> None:
        """Compare what the register does not know: its forms, and that they are listed."""
        listed, after = await self._read_strays(), ""
        while stations := self._ledger.stations_said(after, _STATIONS_AT_ONCE):
            after = stations[-1]
            strays = [tps for tps in stations if tps not in self._register.stations]
            await self._check_forms(strays)
            for tps in strays:
                for form, entries in self._ledger.result_entries(tps).items():
                    for row in listed.pop(f"{tps}/{form}", None) or [None]:
                        await self._check_stray(tps, form, entries, row)
        if not listed or self._site.again:
            return
        if self._site.entries <= self._size:
            raise refused(STRAYS, Difference(("children", next(iter(listed))), listed, NOTHING))
        await self._site.reach(self._site.entries)
        self._report.newer += 1

    async def _read_strays(self) -> dict[str, list[object]]:
        """What is listed, by station and form: once, unless a power cut left an older page behind."""
        listed: dict[str, list[object]] = {}
        try:
            pages = page = 1
            while page <= pages:
                path = strays_path(page)
                found = parse(path, await self._site.source.read(path, MAX_SITE_DOCUMENT))
                for key, row in found["strays"].items():
                    listed.setdefault(key, []).append(row)
                pages = min(found["pages"], self._site.newest + 1) if page == 1 else pages
                page += 1
        except (DamagedSite, NotHeld, Malformed, KeyError, TypeError, AttributeError, ValueError) as error:
            raise refused(STRAYS, Difference((), None, None)) from error
        return listed

    async def _check_stray(self, tps: str, form: str, entries: list[int], row: object) -> None:
        if row is None:
            self._report.lag(entries[0])
            return
        first: Difference | None = None
        end = self._size
        for _ in range(_STEPS):
            truth = await self._truth.form(tps, form, end)
            found = difference(stray_row(truth.head), row)
            if found is None:
                self._report.lag_from(truth.span.until)
                return
            first = first or found
            end = entries[0] + 1 if end == self._size else truth.span.until + 1
            if end >= self._size:
                break
        if first and entries[0] not in self._site.again and self._site.entries <= self._size:
            raise refused(f"{STRAYS} ({tps} {form})", first)
        await self._site.reach(self._site.entries)
        self._report.newer += 1


@dataclass(slots=True)
class _Page:
    """What is shown of a form: its document, and what the pages of its history have together."""

    head: Document
    rows: Document = field(default_factory=dict)
    statements: list[Document] = field(default_factory=list)
    newest: int = 0

    def differs_from(self, truth: FormTruth, besides: AbstractSet[str] = frozenset()) -> Difference | None:
        """The first difference, besides some flags."""
        pages = {"rows": self.rows, "statements": self.statements}
        said = {"rows": truth.rows, "statements": truth.statements}
        return difference(said, pages, besides) or difference(truth.head, self.head, besides)

    def lacks_statements_of(self, truth: FormTruth, end: int) -> Difference | None:
        """The first difference in the statements before an entry, wherever each stands."""
        mine = [one for one in self.statements or self.head["statements"] if one["entry"] < end]
        said = [one for one in truth.statements or truth.head["statements"] if one["entry"] < end]
        return difference({"statements": _bare(said)}, {"statements": _bare(mine)})


def _bare(statements: Iterable[Document]) -> list[Document]:
    return [{key: one for key, one in each.items() if key != "standing"} for each in statements]


def _newest(statements: Iterable[Document]) -> int:
    """The last entry that is shown. Raises `TypeError` or `ValueError` where that is no number, or there is none."""
    entries: list[int] = [one["entry"] for one in statements]
    if not all(type(one) is int for one in entries):
        raise TypeError
    return max(entries)


def _all_below(place: Place) -> Iterator[Place]:
    for below in place.below.values():
        yield below
        yield from _all_below(below)
