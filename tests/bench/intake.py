"""How much a receiver takes in on election night: `python -m tests.bench.intake [--rows statements,packages,…]`.

A real daemon (`relay run`, its public site and all) listens with TLS on loopback; gateways are boats that visit it with
the product's own visit (`relay.sync.visit` over `relay.net.client`), each with a certificate and connections of its
own. Only what a gateway carries is kept in memory here instead of in a store, and all is signed before the clock
starts, so that the load costs little beside the receiver; it has the same processors all the same.

    statements    tallies without photographs, from the first byte to the last receipt in the gateways' hands; beside
                  what the same database takes as bare commits: rows of the same bytes, one commit a visit
    packages      three photographs of 1 MB each, beside what the same disk takes as plain files, each with its fsync,
                  and what a program takes that does TLS, two hashes, a file and its fsync and nothing else
    latency       at half of that rate, which is measured first where packages were not asked for: from the call with a
                  package's last byte until its receipt is here
    crowd         1 000 connections held open, each served: the daemons' memory

Every receipt is checked afterwards: one for each statement, its signature and proof good, no two with one entry.
`--store` names what answers; a store of its own is a `Receiver` in `STORES`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from relay.records.identifiers import Kind, StatementId, receipt_id
from relay.records.receipt import read_receipt
from relay.sync.messages import Greeting
from tests.bench.cost import verification
from tests.bench.gateways import PHOTO, Gateway, Load, Stations
from tests.bench.machine import Batch, MemoryWatch, memory, plain_files, processor, services
from tests.bench.plainest import plain_intake
from tests.bench.receivers import FORMS, STORES, Office, some_stations

PHOTOS = 3


class Bench:
    """One receiver, its gateways, and the rows of the table."""

    def __init__(self, folder: Path, chosen: argparse.Namespace) -> None:
        self.folder = folder
        self.chosen = chosen
        wanted = chosen.statements + chosen.packages * 2 + chosen.crowd
        self.office = Office(some_stations(wanted // len(FORMS) + 8))
        self.receiver = STORES[chosen.store](folder, self.office)
        self.stations = Stations(self.office)
        self.gateways = [Gateway(folder, self.office, f"boat-{n}") for n in range(chosen.gateways)]
        self.delivered: dict[StatementId, bytes] = {}
        self._full_rate: float | None = None
        """Packages a second, as fast as it goes; None until that was measured."""

    async def statements(self) -> dict[str, object]:
        """Tallies without photographs; then the same bytes as bare commits, twice, since a disk has its moods."""
        loads = self.stations.loads(self.chosen.statements, self.chosen.per_visit)
        before = services(self.receiver.services)
        seconds, busy, mine = await self._race(loads)
        after = services(self.receiver.services)
        rate, least = self.chosen.statements / seconds, self.receiver.statements_per_second
        rows = self._rows(loads)
        bare = self.chosen.statements / statistics.mean([await self.receiver.bare_commits(rows) for _ in range(2)])
        return {
            "row": "statements",
            "gateways": len(self.gateways),
            "statements": self.chosen.statements,
            "per_visit": self.chosen.per_visit,
            "visits_broken": self.broken(),
            "seconds": round(seconds, 2),
            "per_second": round(rate),
            "bare_commits_per_second": round(bare),
            "ratio_to_bare_commits": round(rate / bare, 2),
            "receiver_cpu_ms_each": round(busy / self.chosen.statements * 1000, 2),
            "load_cpu_ms_each": round(mine / self.chosen.statements * 1000, 2),
            "services_cpu_ms_each": {
                name: round((after[name] - spent) / self.chosen.statements * 1000, 2) for name, spent in before.items()
            },
            "limit": f">= {least}",
            "holds": rate >= least,
        }

    def _rows(self, loads: Sequence[Load]) -> list[Batch]:
        """What a database has to keep of loads whatever it does: statements and their receipts."""
        return [
            [
                row
                for one, raw in load.statements.items()
                for row in ((one, raw), (receipt_id(one), self.delivered[one]))
            ]
            for load in loads
        ]

    async def packages(self) -> dict[str, object]:
        """Packages with photographs; between two measurements of the plain disk, since it has its moods."""
        loads = self.stations.loads(self.chosen.packages, 1, PHOTOS)
        files = self.chosen.packages * PHOTOS
        before = await asyncio.to_thread(plain_files, self.folder, files)
        seconds, busy, mine = await self._race(loads)
        after = await asyncio.to_thread(plain_files, self.folder, files)
        keys = self.folder / "boat-0.pem", self.folder / "boat-0.key"
        bound, least = await asyncio.to_thread(plain_intake, self.folder, *keys, files)
        plain = {writers: statistics.mean((before[writers], after[writers])) for writers in before}
        taken = files * PHOTO / seconds / 1e6
        self._full_rate = self.chosen.packages / seconds
        return {
            "row": "packages",
            "packages": self.chosen.packages,
            "visits_broken": self.broken(),
            "seconds": round(seconds, 2),
            "megabytes_per_second": round(taken, 1),
            "plain_files_one_writer": round(plain[1], 1),
            "plain_files_four_writers": round(plain[4], 1),
            "plainest_intake": round(bound, 1),
            "receiver_cpu_ms_each": round(busy / self.chosen.packages * 1000, 1),
            "plainest_cpu_ms_each": round(least * PHOTOS * PHOTO / 1e6 * 1000, 1),
            "load_cpu_ms_each": round(mine / self.chosen.packages * 1000, 1),
            "ratio": round(taken / plain[1], 2),
            "ratio_to_plainest": round(taken / bound, 2),
            "ratio_to_four": round(taken / plain[4], 2),
            "limit": ">= 0.6",
            "holds": taken / plain[1] >= 0.6,
        }

    async def latency(self) -> dict[str, object]:
        """Packages at half of the rate of the row before, evenly spread."""
        if self._full_rate is None:
            seconds, _, _ = await self._race(self.stations.loads(self.chosen.packages, 1, PHOTOS))
            self._full_rate = self.chosen.packages / seconds
        loads = self.stations.loads(self.chosen.packages, 1, PHOTOS)
        rate = self._full_rate / 2
        pause = 1 / rate
        waits: list[float] = []

        async def one(place: int, gateway: Gateway, load: Load) -> None:
            await asyncio.sleep(pause * place)
            await gateway.deliver(load)
            assert gateway.peer is not None
            for statement, objects in load.needs.items():
                came, _ = gateway.receipts[receipt_id(statement)]
                waits.append(came - max(gateway.peer.brought[name] for name in objects))

        async with self._connected(), asyncio.TaskGroup() as group:
            for place, load in enumerate(loads):
                group.create_task(one(place, self.gateways[place % len(self.gateways)], load))
        self._collect(loads)
        waits.sort()
        median = statistics.median(waits)
        return {
            "row": "latency",
            "packages": len(waits),
            "per_second": round(rate, 1),
            "median_seconds": round(median, 3),
            "p95_seconds": round(waits[int(len(waits) * 0.95)], 3),
            "most_seconds": round(waits[-1], 3),
            "limit": "median <= 0.5",
            "holds": median <= 0.5,
        }

    async def crowd(self) -> dict[str, object]:
        """Many connections held open; then each gateway delivers one statement while all stay."""
        boats = [Gateway(self.folder, self.office, f"crowd-{n}") for n in range(self.chosen.crowd)]
        loads = self.stations.loads(self.chosen.crowd, 1)
        started = time.perf_counter()
        with MemoryWatch(self.receiver.daemons) as watch:
            async with self._connected(boats):
                connected = time.perf_counter() - started
                held = memory(self.receiver.daemons)
                begun = time.perf_counter()
                async with asyncio.TaskGroup() as group:
                    for boat, load in zip(boats, loads, strict=True):
                        group.create_task(boat.deliver(load))
                served = time.perf_counter() - begun
        self._collect(loads, boats)
        return {
            "row": "crowd",
            "gateways": len(boats),
            "visits_broken": self.broken(boats),
            "connected_seconds": round(connected, 1),
            "served_seconds": round(served, 1),
            "served": len(boats),
            "megabytes_connected": held,
            "megabytes_peak": watch.peak,
            "limit": "<= 500 MB",
            "holds": watch.peak <= 500,
        }

    async def _race(self, loads: Sequence[Load]) -> tuple[float, float, float]:
        """All gateways deliver all loads as fast as it goes: seconds, and processor seconds of the daemons and here."""
        waiting = list(reversed(loads))

        async def sail(gateway: Gateway) -> None:
            while waiting:
                await gateway.deliver(waiting.pop())

        async with self._connected():
            busy, mine, started = processor(self.receiver.daemons), time.process_time(), time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for gateway in self.gateways:
                    group.create_task(sail(gateway))
            seconds = time.perf_counter() - started
            busy, mine = processor(self.receiver.daemons) - busy, time.process_time() - mine
        self._collect(loads)
        return seconds, busy, mine

    @asynccontextmanager
    async def _connected(self, gateways: Sequence[Gateway] | None = None) -> AsyncIterator[None]:
        """Gateways are connected and greeted, as they are when a day's results come in."""
        boats = self.gateways if gateways is None else gateways
        doors = asyncio.Semaphore(32)

        async def connect(boat: Gateway) -> None:
            async with doors:
                await stack.enter_async_context(boat.contact(self.receiver.url))
                assert boat.peer is not None
                await boat.peer.hello(Greeting(boat.hello()))

        async with AsyncExitStack() as stack:
            async with asyncio.TaskGroup() as group:
                for boat in boats:
                    group.create_task(connect(boat))
            yield

    def _collect(self, loads: Sequence[Load], boats: Sequence[Gateway] | None = None) -> None:
        """Keep the receipts that came: one for each statement."""
        receipts = {name: raw for boat in boats or self.gateways for name, (_, raw) in boat.receipts.items()}
        for load in loads:
            self.delivered |= {one: receipts[receipt_id(one)] for one in load.statements}

    def broken(self, boats: Sequence[Gateway] | None = None) -> int:
        """How many visits were broken off until now."""
        return sum(boat.broken for boat in boats or self.gateways)

    def check(self) -> int:
        """Judge every receipt as a boat would; raises where one is missing, false or for an entry twice."""
        entries: set[int] = set()
        for statement, raw in self.delivered.items():
            receipt = read_receipt(self.office.election.admission.admit(Kind.RECEIPT, raw).raw)
            if receipt.statement != statement or receipt.entry in entries:
                raise SystemExit(f"the receipt for {statement.hex()} is wrong")
            entries.add(receipt.entry)
        if entries != set(range(len(entries))):
            raise SystemExit("the log has entries that nobody brought")
        return len(entries)


async def measure(folder: Path, chosen: argparse.Namespace) -> list[dict[str, object]]:
    """The rows that were asked for."""
    bench = Bench(folder, chosen)
    rows: list[dict[str, object]] = []
    with bench.receiver:
        for name in chosen.rows.split(","):
            yardstick = round(await asyncio.to_thread(verification) * 1e6, 1)
            rows.append(await getattr(bench, name)() | {"openssl_verification_us": yardstick})
            print(json.dumps(rows[-1]), flush=True)
        if "Traceback" in bench.receiver.log:
            raise SystemExit(bench.receiver.log)
    print(f"{bench.check()} receipts are good", flush=True)
    return rows


ROWS = ("statements", "packages", "latency", "crowd")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--store", choices=sorted(STORES), default="embedded")
    parser.add_argument("--gateways", type=int, default=50)
    parser.add_argument("--statements", type=int, default=10_000)
    parser.add_argument("--per-visit", type=int, default=10)
    parser.add_argument("--packages", type=int, default=100)
    parser.add_argument("--crowd", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the receiver's disk is")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-intake-", dir=chosen.folder) as folder:
        rows = asyncio.run(measure(Path(folder), chosen))
    raise SystemExit(0 if all(row["holds"] for row in rows) else 1)


if __name__ == "__main__":
    main()
