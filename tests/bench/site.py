"""How long the public site takes to take in one arrival, when the log has many entries already.

    python -m tests.bench.site                 # 435 000 stations, 1 000 000 entries, of which each brings one page
    python -m tests.bench.site --stations 5000 --entries 20000

Statements are made up without signatures: what is measured is the site's own work, from an admitted statement to its
files. The first entries are counted only (their pages would take hours and do not change what one more costs): the
documents that an arrival reads and writes are as large as they would be. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from relay.cli.demo.election import FORMS, example_tally
from relay.receiver.results import Logged
from relay.records.identifiers import NodeId, RecordId, StatementId, sha256
from relay.records.notice import Station
from relay.records.tally import read_tally
from relay.store.shelf import FolderShelf
from relay.web.site.builder import Register, Site
from relay.web.site.pages import Look
from tests.factory import make_election, make_node

_PER_VILLAGE, _VILLAGES, _DISTRICTS, _REGENCIES = 5, 12, 14, 14
"""Stations of a village, villages of a district, and so on: about Indonesia's own numbers."""


def stations(count: int) -> Iterator[Station]:
    """A made-up country."""
    for number in range(count):
        village, at = divmod(number, _PER_VILLAGE)
        district, v = divmod(village, _VILLAGES)
        regency, d = divmod(district, _DISTRICTS)
        province, r = divmod(regency, _REGENCIES)
        code = f"{11 + province:02}{r + 1:02}{d + 1:02}{2001 + v}{at + 1:03}"
        yield Station(code, at + 1, f"Desa {v + 1}", f"Kecamatan {regency}-{d + 1}", "", 300, signal=True)


def arrival(entry: int, station: Station, form: str) -> Logged:
    """One made-up statement in the log."""
    name = f"{station.tps}/{form}/{entry}".encode()
    return Logged(
        id=StatementId(RecordId(sha256(name))),
        entry=entry,
        arrived=1_732_708_800,
        tps=station.tps,
        form=form,
        device=f"tps-{station.tps}",
        node=NodeId(sha256(station.tps.encode())),
        seq=FORMS.index(form) + 1,
        previous=StatementId(RecordId(sha256(b"first"))) if FORMS.index(form) else None,
        supersedes=None,
        reason="",
        captured_at=1_732_708_000,
        sealed=False,
        tally=read_tally(example_tally(station.tps, form, station.registered_voters)),
        flags=(),
        files=(),
    )


async def measure(folder: Path, count: int, entries: int, arrivals: int) -> dict[str, object]:
    """Begin a site, say that it has so many entries, and time single arrivals."""
    everything = {one.tps: one for one in stations(count)}
    election = make_election()
    look = Look("bench-2024", election.root, make_node(election, "receiver").identity.certificate)
    site = Site(FolderShelf(folder), look)
    started = time.perf_counter()
    await site.open(Register(everything, FORMS))
    begun = time.perf_counter() - started
    dice = random.Random(1)
    codes = list(everything)
    took: list[float] = []
    for entry in range(entries, entries + arrivals):
        one = arrival(entry, everything[dice.choice(codes)], dice.choice(FORMS))
        started = time.perf_counter()
        await site.add([one])
        took.append((time.perf_counter() - started) * 1000)
    batch = [arrival(entries + arrivals + n, everything[dice.choice(codes)], FORMS[0]) for n in range(64)]
    started = time.perf_counter()
    await site.add(batch)
    in_batch = (time.perf_counter() - started) / len(batch) * 1000
    took.sort()
    return {
        "stations": count,
        "entries": entries,
        "begun_seconds": round(begun, 1),
        "arrivals": arrivals,
        "median_ms": round(statistics.median(took), 1),
        "p99_ms": round(took[int(len(took) * 0.99)], 1),
        "most_ms": round(took[-1], 1),
        "each_in_a_batch_of_64_ms": round(in_batch, 1),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stations", type=int, default=435_000)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--arrivals", type=int, default=300)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-site-") as folder:
        found = asyncio.run(measure(Path(folder), chosen.stations, chosen.entries, chosen.arrivals))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
