"""Logs with a sequencer at work, for benchmarks: on an embedded store or on a cluster's, empty or with many entries."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from relay.node.home import Member
from relay.receiver.publishing import Publisher
from relay.receiver.sequencing import Sequencer
from relay.records.identifiers import Kind
from relay.records.notice import Receiver
from relay.store.interface import Outcome, Store
from relay.store.quota import QUOTA_AT_RECEIVER
from relay.store.sqlite import SqliteStore
from relay.sync.custody import Custody
from relay.trust.admission import Admission
from relay.trust.witness import log_key
from tests.bench.machine import processor
from tests.bench.preload import Preload, lay_postgres, lay_sqlite
from tests.bench.receivers import Office
from tests.cluster.postgres import Postgres, postgres
from tests.cluster.swift import Swift, swift
from tests.factory import Node

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
        self.admission = admission = Admission(root)
        named = Receiver(receiver.identity.name, ("https://receiver:8470",), receiver.identity.certificate)
        for raw in office.notices((named,)):
            admission.install(admission.admit(Kind.NOTICE, raw))
        self.store = store
        self.steps: dict[str, list[Took]] = {"taken": [], "appended": []}
        if publishes:
            self.steps["published"] = []
        self._custody = Custody(admission, store, log=receiver.identity.node)
        member = Member(receiver.identity, receiver.key, root)
        self._sequencer = Sequencer(self._custody, member, Publisher(store.shelf, log_key(receiver.identity)))
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
