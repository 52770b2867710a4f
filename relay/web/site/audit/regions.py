"""The documents of regions, held against what the log says of all that lies in them.

Each names how many entries of the log it shows, and is compared with what so many say.
"""

from __future__ import annotations

from collections.abc import Mapping

from relay.web.site.audit.case import Case
from relay.web.site.audit.compared import refused
from relay.web.site.audit.difference import Difference, difference, number_of
from relay.web.site.audit.served import TRIES
from relay.web.site.audit.truth import Place, RegionTruth
from relay.web.site.paths import region_path
from relay.web.site.regions import Document


class RegionsAudit:
    """Compares regions, and notes in the report what it finds."""

    def __init__(self, case: Case) -> None:
        self._case = case

    async def check(self, place: Place, shown: Document, known: Mapping[str, RegionTruth]) -> RegionTruth:
        """Compare a region as it was `shown`. What the log says of it, of whose parts that is `known`."""
        self._case.site.looked_at = region_path(place.region.key)
        for attempt in range(TRIES):
            truth, found = await self._compare(place, shown, known)
            if found is None:
                break
            if self._is_again(place):
                self._case.report.rewritten += 1
                break
            if attempt + 1 == TRIES:
                raise refused(region_path(place.region.key), found)
            await self._case.site.read_state()
            shown = await self._case.site.region(place.region.key)
        self._case.report.regions += 1
        self._case.report.unnamed += number_of(shown) is None
        return truth

    async def _compare(
        self, place: Place, shown: Document, known: Mapping[str, RegionTruth]
    ) -> tuple[RegionTruth, Difference | None]:
        named, size = number_of(shown), self._case.report.size
        end = size if named is None else named
        truth = await self._case.truth.region(place, min(end, size), known)
        found = difference(truth.document, shown)
        if end > size:
            await self._case.site.reach(end)
        if found is not None and end > size:
            self._case.report.newer += 1
            return truth, None
        if found is None:
            self._case.report.lag_from(truth.span.until)
        return truth, found

    def _is_again(self, place: Place) -> bool:
        """Whether a result in this region may not be judged again yet."""
        again = self._case.site.again
        if not again:
            return False
        entries = (self._case.ledger.result_entries(tps) for tps in place.all_stations())
        return any(one[0] in again for each in entries for one in each.values())
