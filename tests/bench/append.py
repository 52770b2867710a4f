"""Whether a long log grows as fast as an empty one: `python -m tests.bench.append [--store cluster]`.

Two logs of one kind of store lie side by side: one is empty, one has a million entries (`tests.bench.preload`: noise as
long as real ones, laid straight into the tables). The same fresh statements, complete as they come since they are
tallies without photographs, are admitted and kept on each in turn, batch by batch, and the real sequencer appends them:
tree, receipts, signed checkpoint, durable commit. So both meet the same moods of the machine, in one process.

    taken       admitted and kept, as when a gateway brought them
    appended    from `Sequencer.sequence` to its return: receipts are committed
    published   their tiles and the checkpoint are on the shelf; of the embedded store only, since a million entries
                would have to be put into the bucket first: where that is away the log of a cluster grows all the same

Each batch is as large as a batch of the log may be. The first on each log warms it up and is not counted. Processor
time is that of this process, and of PostgreSQL's where there is one. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from relay.limits import LOG_BATCH
from relay.node.home import Member
from relay.receiver.publishing import Publisher
from relay.receiver.sequencing import Sequencer
from relay.records.identifiers import Kind
from relay.records.notice import Receiver, Receivers, sign_notice
from relay.store.interface import Outcome, Store
from relay.store.quota import QUOTA_AT_RECEIVER
from relay.store.sqlite import SqliteStore
from relay.sync.custody import Custody
from relay.trust.admission import Admission
from relay.trust.roles import Role
from tests.bench.gateways import Stations
from tests.bench.machine import processor
from tests.bench.preload import Preload, lay_postgres, lay_sqlite
from tests.bench.receivers import FORMS, Office
from tests.cluster.postgres import Postgres, postgres
from tests.cluster.swift import Swift, swift
from tests.factory import ELECTION, Node, make_node

MOST = 1.2
"""Times what the empty log takes."""
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one step of one batch: that passed, and of processors."""

    wall: float
    cpu: float


class Log:
    """One log with its sequencer, and what each batch took."""

    def __init__(self, store: Store, office: Office, receiver: Node, *, publishes: bool, cpu: Clock) -> None:
        root = office.election.root
        admission = Admission(root)
        names = Receivers(
            (Receiver(receiver.identity.name, ("https://receiver:8470",), receiver.identity.certificate),)
        )
        raw = sign_notice(ELECTION, 0, 1, names, root, office.election.root_key)
        admission.install(admission.admit(Kind.NOTICE, raw))
        self.store = store
        self.steps: dict[str, list[Took]] = {"taken": [], "appended": []}
        if publishes:
            self.steps["published"] = []
        self._custody = Custody(admission, store, log=receiver.identity.node)
        member = Member(receiver.identity, receiver.key, root)
        self._sequencer = Sequencer(self._custody, member, Publisher(store.shelf))
        self._cpu = cpu

    async def start(self) -> int:
        """Take it up; how long it is."""
        return (await self._sequencer.start()).size

    async def grow(self, statements: Iterable[bytes]) -> None:
        """Take in one batch, and append it."""
        batch = [(Kind.STATEMENT, raw) for raw in statements]
        async with self._timed("taken"):
            verdicts = await self._custody.take(batch)
        assert all(one.outcome is Outcome.NEW for one in verdicts)
        async with self._timed("appended"):
            appended = await self._sequencer.sequence()
        assert appended == len(batch)
        if "published" in self.steps:
            async with self._timed("published"):
                await self._sequencer.publish()

    @asynccontextmanager
    async def _timed(self, step: str) -> AsyncIterator[None]:
        cpu, started = self._cpu(), time.perf_counter()
        yield
        self.steps[step].append(Took(time.perf_counter() - started, self._cpu() - cpu))


@asynccontextmanager
async def embedded(folder: Path, sizes: Sequence[int], office: Office, receiver: Node) -> AsyncIterator[list[Log]]:
    """Logs of these sizes in folders of their own."""

    async def opened(home: Path) -> SqliteStore:
        return await SqliteStore.open(
            home / "store",
            own=receiver.identity.node,
            quota_bytes=QUOTA_AT_RECEIVER.bytes,
            quota_statements=QUOTA_AT_RECEIVER.statements,
            storage_limit=None,
            keeps_all=True,
            public=home / "public",
        )

    async with AsyncExitStack() as stack:
        logs: list[Log] = []
        for size in sizes:
            home = folder / str(size)
            if size:
                await (await opened(home)).close()
                preload = Preload(receiver, size)
                await asyncio.to_thread(lay_sqlite, home / "store" / "catalogue.db", home / "public", preload)
            store = await opened(home)
            stack.push_async_callback(store.close)
            logs.append(Log(store, office, receiver, publishes=True, cpu=time.process_time))
        await asyncio.to_thread(os.sync)
        yield logs


@asynccontextmanager
async def cluster(folder: Path, sizes: Sequence[int], office: Office, receiver: Node) -> AsyncIterator[list[Log]]:
    """Logs of these sizes in databases and buckets of their own, of one PostgreSQL and one S3 service."""
    from relay.store.cluster.bucket import Bucket
    from relay.store.cluster.store import ClusterStore

    async with AsyncExitStack() as stack:
        database: Postgres = stack.enter_context(postgres(folder / "postgres", {"max_wal_size": "4GB"}))
        service: Swift = stack.enter_context(swift(folder / "swift"))
        os.environ |= {"AWS_ACCESS_KEY_ID": service.access_key, "AWS_SECRET_ACCESS_KEY": service.secret_key}

        def cpu() -> float:
            pid = database.process.pid
            children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            return time.process_time() + processor(list(children))

        logs: list[Log] = []
        for size in sizes:
            url = database.fresh_database()
            bucket = Bucket.open(service.fresh_bucket(), service.endpoint, service.region)
            store = await ClusterStore.open(url, bucket, folder / f"cache-{size}", own=receiver.identity.node)
            stack.push_async_callback(store.close)
            if size:
                await lay_postgres(url, Preload(receiver, size))
            logs.append(Log(store, office, receiver, publishes=False, cpu=cpu))
        await asyncio.to_thread(os.sync)
        yield logs


STORES = {"embedded": embedded, "cluster": cluster}


async def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, object]:
    """Lay the logs, let both grow in turn, compare."""
    rounds: int = chosen.rounds + 1
    office = Office(rounds * chosen.batch // len(FORMS) + 1)
    receiver = make_node(office.election, "receiver", Role.RECEIVER)
    loads = Stations(office).loads(rounds * chosen.batch, chosen.batch)
    started = time.perf_counter()
    async with STORES[chosen.store](folder, (0, chosen.entries), office, receiver) as logs:
        empty, large = logs
        sizes = [await log.start() for log in logs]
        assert sizes == [0, chosen.entries]
        prepared = time.perf_counter() - started
        for load in loads:
            for log in logs:
                await log.grow(load.statements.values())
        grown = [(await log.store.log_state()).size for log in logs]
    assert grown == [size + rounds * chosen.batch for size in sizes]
    found = {step: _compared(empty.steps[step][1:], large.steps[step][1:]) for step in empty.steps}
    return {
        "row": "append",
        "store": chosen.store,
        "entries": chosen.entries,
        "batch": chosen.batch,
        "rounds": chosen.rounds,
        "prepared_seconds": round(prepared, 1),
        **found,
        "limit": f"appended: ratio <= {MOST}",
        "holds": found["appended"]["ratio"] <= MOST,
    }


def _compared(empty: Sequence[Took], large: Sequence[Took]) -> dict[str, float]:
    """Medians of both, and how many times that of the empty log the large one takes."""
    wall = [statistics.median(one.wall for one in some) for some in (empty, large)]
    cpu = [statistics.median(one.cpu for one in some) for some in (empty, large)]
    return {
        "empty_ms": round(wall[0] * 1000, 1),
        "large_ms": round(wall[1] * 1000, 1),
        "ratio": round(wall[1] / wall[0], 3),
        "cpu_empty_ms": round(cpu[0] * 1000, 1),
        "cpu_large_ms": round(cpu[1] * 1000, 1),
        "cpu_ratio": round(cpu[1] / max(cpu[0], 1e-9), 3),
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", choices=sorted(STORES), default="embedded")
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch", type=int, default=LOG_BATCH)
    parser.add_argument("--folder", type=Path, default=None, help="where the disk is")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-bench-append-", dir=chosen.folder) as folder:
        row = asyncio.run(measure(Path(folder), chosen))
    print(json.dumps(row, indent=2))
    raise SystemExit(0 if row["holds"] else 1)


if __name__ == "__main__":
    main()
