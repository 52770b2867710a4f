"""The documents of regions, held against what the log says of all that lies in them.

Each names how many entries of the log it shows, and is compared with what so many say.
"""

from __future__ import annotations

from collections.abc import Mapping

from relay.receiver.ledger import Ledger
from relay.web.site.audit.compared import Compared, refused
from relay.web.site.audit.difference import Difference, difference, number_of
from relay.web.site.audit.served import TRIES, AuditedSite
from relay.web.site.audit.truth import Place, RegionTruth, Truth
from relay.web.site.paths import region_path
from relay.web.site.regions import Document


class RegionsAudit:
    """Compares regions, and notes in `report` what it finds."""

    def __init__(self, site: AuditedSite, ledger: Ledger, truth: Truth, report: Compared) -> None:
        self._site = site
        self._ledger = ledger
        self._truth = truth
        self._report = report

    async def check(self, place: Place, shown: Document, known: Mapping[str, RegionTruth]) -> RegionTruth:
        """Compare a region as it was `shown`. What the log says of it, of whose parts that is `known`."""
        for attempt in range(TRIES):
            truth, found = await self._compare(place, shown, known)
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
        self._report.unnamed += number_of(shown) is None
        return truth

    async def _compare(
        self, place: Place, shown: Document, known: Mapping[str, RegionTruth]
    ) -> tuple[RegionTruth, Difference | None]:
        named, size = number_of(shown), self._report.size
        end = size if named is None else named
        truth = await self._truth.region(place, min(end, size), known)
        found = difference(truth.document, shown)
        if found is not None and end > size:
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
        entries = (self._ledger.result_entries(tps) for tps in place.all_stations())
        return any(one[0] in again for each in entries for one in each.values())
