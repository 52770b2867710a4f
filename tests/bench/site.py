"""How long the public site takes to take in one arrival, when a large election is well under way.

    python -m tests.bench.site                  # 435 000 stations, a log of 1 000 000 entries
    python -m tests.bench.site --store cluster  # the same in PostgreSQL and a bucket
    python -m tests.bench.site --stations 5000 --entries 20000

Each arrival is a signed statement with three photographs of 1 MB, taken in and logged by a real store and sequencer;
then the clock starts, and `SiteKeeper.follow` brings it to the shelf: receipt, statement and photographs, device,
form, village, and so on up to the whole, feed. The log is long already (`tests.bench.preload`), and the site's regions
are filled as that many entries would have filled them: forms of each station, sums, notes of what is flagged, islands.
Left out are the files that no arrival of these reads: regions elsewhere, pages of forms that came before, and tables of
districts, which are written now and then. Beside it, how long the same shelf takes for as many files as the last
arrival wrote, of the same sizes, and nothing else. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from relay.cli.demo.election import example_tally
from relay.limits import SITE_BATCH, SITE_CALLS
from relay.receiver.results import Logged, judge
from relay.receiver.service import give_signs_of_life
from relay.records.identifiers import NodeId, RecordId, StatementId, sha256
from relay.records.notice import Station
from relay.records.tally import read_tally
from relay.store.shelf import GuardedShelf, Page, Shelf
from relay.trust.roles import Role
from relay.web.site.builder import Site
from relay.web.site.pages import Look
from relay.web.site.regions import Document, Region, station_row
from relay.web.site.service import SiteKeeper
from tests.bench.gateways import PHOTO, Load, Stations, content_of_photo
from tests.bench.logs import STORES, Log, Took
from tests.bench.receivers import FORMS, VOTERS, Office
from tests.factory import ELECTION, make_node

MOST_MS = 100
_BARE = 25
PHOTOS = 3
_PER_VILLAGE, _VILLAGES, _DISTRICTS, _REGENCIES = 5, 12, 14, 14
"""Stations of a village, villages of a district, and so on: about Indonesia's own numbers."""
_ISLANDS = 50
"""One village in so many is an island."""
_FLAGGED = 200
"""One form in so many does not add up."""


def stations(count: int) -> Iterator[Station]:
    """A made-up country."""
    for number in range(count):
        village, at = divmod(number, _PER_VILLAGE)
        district, v = divmod(village, _VILLAGES)
        regency, d = divmod(district, _DISTRICTS)
        province, r = divmod(regency, _REGENCIES)
        code = f"{11 + province:02}{r + 1:02}{d + 1:02}{2001 + v}{at + 1:03}"
        island = "" if village % _ISLANDS else f"Pulau {village}"
        yield Station(code, at + 1, f"Desa {v + 1}", f"Kecamatan {regency}-{d + 1}", island, VOTERS, signal=True)


class FilledSite(Site):
    """A site that begins as if entries had arrived from all stations but those from which more will come: what these
    arrivals read is there, as large as it would be."""

    def __init__(self, shelf: GuardedShelf, look: Look, entries: int, coming: Mapping[str, Station]) -> None:
        super().__init__(shelf, look)
        self._before = entries
        self._coming = coming
        self._read: set[Region] = set()
        self._at = 0
        self._results = {form: [_result(look, form, flagged=flagged) for flagged in (False, True)] for form in FORMS}

    def _tables(self) -> list[Region]:
        return []

    async def _rows_before(self, villages: Mapping[Region, Sequence[Station]]) -> dict[Region, Document]:
        """The rows that the stations would have."""
        rows: dict[Region, Document] = {}
        for region, stations in villages.items():
            rows[region] = {}
            for one in stations:
                rows[region][one.tps] = station_row(one, FORMS, self._came(one, self._at))
                self._at += 1
        return rows

    def _lay_one(self, region: Region, document: Document) -> Iterable[Page]:
        """Only what arrivals read is written."""
        self._read = self._read or {region for one in self._coming.values() for region in self._regions.path(one)}
        return super()._lay_one(region, document) if region in self._read else ()

    def _came(self, station: Station, at: int) -> dict[str, Document]:
        """What came from the station at this place: all together bring what came."""
        if station.tps in self._coming:
            return {}
        total = len(self._register.stations)
        entries = range(self._before * at // total, self._before * (at + 1) // total)
        return {
            form: {**self._results[form][entry % _FLAGGED == 0], "entry": entry}
            for form, entry in zip(FORMS, entries, strict=False)
        }


def _result(look: Look, form: str, *, flagged: bool) -> Document:
    """What is published of a form."""
    station = next(stations(1))
    tally = example_tally(station.tps, form, station.registered_voters)
    if flagged:
        tally["valid"] = int(str(tally["valid"])) + 1
    one = Logged(
        id=StatementId(RecordId(sha256(form.encode()))),
        entry=0,
        arrived=1_732_708_800,
        tps=station.tps,
        form=form,
        device=f"island-{station.tps}",
        node=NodeId(sha256(station.tps.encode())),
        seq=1,
        previous=None,
        supersedes=None,
        reason="",
        captured_at=1_732_708_000,
        sealed=False,
        tally=read_tally(tally),
        flags=(),
        files=(),
    )
    result = judge([one], station, frozenset(FORMS), [], frozenset())
    assert bool(result.flags) == flagged
    return look.result_document(result, station, ())


class Noted:
    """A shelf that notes how long the files are that are written there: `sizes`, since somebody emptied it."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shelf, name)

    async def write(self, path: str, content: bytes, *how: Any, **more: Any) -> None:
        """See `Shelf`."""
        self.sizes.append(len(content))
        await self._shelf.write(path, content, *how, **more)


async def bare_files(shelf: Shelf, sizes: Sequence[int]) -> float:
    """Milliseconds in which the shelf takes so many files of these sizes, all at once, and nothing else; the median."""
    took: list[float] = []
    for again in range(_BARE):
        started = time.perf_counter()
        files = (f"bare/{again}/{place}" for place in range(len(sizes)))
        await asyncio.gather(
            *(shelf.write(name, bytes(size), "text/plain") for name, size in zip(files, sizes, strict=False))
        )
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)


class Course:
    """A log, its site, and statements that come in."""

    def __init__(self, folder: Path, log: Log, keeper: SiteKeeper) -> None:
        self._photo = folder / "photo.jpg"
        self._log = log
        self._keeper = keeper

    async def bring(self, loads: Iterable[Load]) -> Took:
        """Log what is in these loads; the seconds until the site has it, that passed and of this process."""
        await self._log.grow([raw for load in loads for raw in await self._with_objects(load)])
        started, cpu = time.perf_counter(), time.process_time()
        brought = await self._keeper.follow()
        took = Took(time.perf_counter() - started, time.process_time() - cpu)
        assert brought == sum(len(load.statements) for load in loads)
        return took

    async def _with_objects(self, load: Load) -> list[bytes]:
        for name, head in load.objects.items():
            self._photo.write_bytes(content_of_photo(head, 0, PHOTO))
            await self._log.store.adopt(name, self._photo)
        return list(load.statements.values())


async def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, object]:
    """Lay a log, begin a site, bring one batch, then time single arrivals."""
    office = Office(stations(chosen.stations))
    random.Random(1).shuffle(office.stations)
    every = {one.tps: one for one in office.stations}
    receiver = make_node(office.election, "receiver", Role.RECEIVER)
    async with STORES[chosen.store](folder, (chosen.entries,), office, receiver) as (log,):
        loads = Stations(office).loads(SITE_BATCH + chosen.arrivals, 1, PHOTOS)
        coming = {tps: every[tps] for tps in every.keys() - {one.tps for one in office.stations}}
        await log.start()
        assert await log.store.leads()
        alive = asyncio.create_task(give_signs_of_life(log.store))  # or it would not lead any more after a long silence
        noted = Noted(log.store.shelf)
        shelf = GuardedShelf(cast(Shelf, noted), log.store.leads, SITE_CALLS)
        look = Look(ELECTION, office.election.root, receiver.identity.certificate)
        site = FilledSite(shelf, look, chosen.entries, coming)
        keeper = SiteKeeper(site, shelf, log.store, log.admission)
        started = time.perf_counter()
        await keeper.open()
        begun = time.perf_counter() - started
        site.entries = chosen.entries
        course = Course(folder, log, keeper)
        batch = await course.bring(loads[:SITE_BATCH])
        each: list[Took] = []
        for load in loads[SITE_BATCH:]:
            noted.sizes.clear()
            each.append(await course.bring([load]))
        bare = await bare_files(log.store.shelf, noted.sizes)
        alive.cancel()
    took = sorted(one.wall * 1000 for one in each)
    median = statistics.median(took)
    return {
        "row": "site",
        "store": chosen.store,
        "stations": chosen.stations,
        "entries": chosen.entries,
        "photographs": PHOTOS,
        "begun_seconds": round(begun, 1),
        "arrivals": len(took),
        "median_ms": round(median, 1),
        "p95_ms": round(took[int(len(took) * 0.95)], 1),
        "most_ms": round(took[-1], 1),
        "processor_ms": round(statistics.median(one.cpu for one in each) * 1000, 1),
        f"each_in_a_batch_of_{SITE_BATCH}_ms": round(batch.wall / SITE_BATCH * 1000, 1),
        "files": len(noted.sizes),
        "as_many_bare_files_ms": round(bare, 1),
        "limit": f"median <= {MOST_MS} ms",
        "holds": median <= MOST_MS,
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=sorted(STORES), default="embedded")
    parser.add_argument("--stations", type=int, default=435_000)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--arrivals", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=None, help="where the disk is")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-site-", dir=chosen.folder) as folder:
        row = asyncio.run(measure(Path(folder), chosen))
    print(json.dumps(row, indent=2))
    raise SystemExit(0 if row["holds"] else 1)


if __name__ == "__main__":
    main()
