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

Here is the audit's course: what is read and compared after what, and for how long something may lack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from relay.errors import NotHeld, Refused
from relay.limits import AUDIT_AGAIN_ENTRIES
from relay.net.source import Source
from relay.receiver.attachments import Progress
from relay.receiver.ledger import Ledger
from relay.trust.admission import Admission
from relay.web.site.audit.case import Case
from relay.web.site.audit.compared import Compared, refused
from relay.web.site.audit.difference import Difference
from relay.web.site.audit.entries import take_in
from relay.web.site.audit.forms import FormsAudit
from relay.web.site.audit.regions import RegionsAudit
from relay.web.site.audit.register import AuditedRegister, open_register
from relay.web.site.audit.served import AuditedSite
from relay.web.site.audit.strays import StraysAudit
from relay.web.site.audit.tables import TablesAudit
from relay.web.site.audit.truth import Place, RegionTruth, Truth, places_of
from relay.web.site.pages import Look
from relay.web.site.settled import JUDGING, SETTLED

OTHER_JUDGING = "other-judging"
"""The reason of a refusal because the site is another version's, and no fault."""
_STATIONS_AT_ONCE = 256
_ASK = "Ask the receiver's administrator why; if it stays so, tell the election office and the public."


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

    async def run(self, patience: float) -> Compared:
        """Compare everything. Raises what is wrong first."""
        try:
            return await self._run_or_refuse(patience)
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

    async def _run_or_refuse(self, patience: float) -> Compared:
        """Compare everything. What is shown may hold anything that can be parsed: where something of it has a
        comparison fail, it is wrong, and is told like all that is."""
        try:
            return await self._run(patience)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            raise refused(self._site.looked_at, Difference((), None, None)) from error

    async def _run(self, patience: float) -> Compared:
        await self._site.read_state()
        self._report.entries = self._site.entries
        await self._check_version()
        await take_in(self._site.source, self._ledger, self._size, self._progress)
        register = await open_register(self._admission, self._site)
        self._report.has_register = register.is_office
        await self._compare(register)
        self._wait(patience)
        return self._report

    def _look(self) -> Look:
        return Look(self._admission.election, self._admission.root.certificate, b"")

    # -- what is shown, one document after the other

    async def _compare(self, register: AuditedRegister) -> None:
        revoked = frozenset(self._admission.revoked)
        truth = Truth(self._ledger, self._look(), self._size, register.stations, register.forms, revoked)
        case = Case(self._site, self._ledger, register, truth, self._report)
        forms, regions = FormsAudit(case, self._progress), RegionsAudit(case)
        tables, strays = TablesAudit(case), StraysAudit(case)

        async def check(place: Place) -> RegionTruth:
            """Compare a region, and all below it."""
            shown = await self._site.region(place.region.key)
            known = {key: await check(below) for key, below in place.below.items()}
            if place.stations:
                await forms.check(place.stations)
            found = await regions.check(place, shown, known)
            await tables.check(place)
            return found

        await check(places_of(register.stations, truth.regions))
        await strays.read()
        for stations in self._stations_said():
            unknown = [tps for tps in stations if tps not in register.stations]
            await forms.check(unknown)
            for tps in unknown:
                await strays.check(tps)
        await strays.check_rest()

    def _stations_said(self) -> Iterator[list[str]]:
        """The stations of which the log says anything, some at a time."""
        after = ""
        while stations := self._ledger.stations_said(after, _STATIONS_AT_ONCE):
            after = stations[-1]
            yield stations

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
        """Tell since when something is not as it should be in the end. Raises `Refused` after so long, with all of it
        remembered."""
        behind = self._report.behind
        again = self._site.again.start if self._report.rewritten else None
        late = self._waited("behind", behind)
        stuck = self._waited("again", again)
        whole = self._waited("rewritten", None if again is None else 0)  # also while it goes on, from entry to entry
        if behind is not None:
            self._report.waiting["behind"] = late
        if again is not None:
            self._report.waiting["again"] = whole
        if behind is not None and late >= patience:
            what = f"Entry {behind} is in the log, and the site does not show it where it belongs"
            raise Refused("not-shown", what, _ASK)
        if again is not None and (stuck >= patience or whole >= patience * (1 + self._size // AUDIT_AGAIN_ENTRIES)):
            what = f"The site says that it is written again from entry {again} on, and does not come to an end"
            raise Refused("not-shown", what, _ASK)

    def _waited(self, what: str, entry: int | None) -> float:
        """For how many seconds audits found this entry, or one before it, lacking."""
        now = self._clock()
        return now - self._ledger.lacking_since(f"results {what}", entry, now)
