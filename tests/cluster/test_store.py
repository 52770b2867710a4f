"""The cluster's store is a store: the conformance tests of all, over a real PostgreSQL and a real S3 endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from relay.errors import StoreError, Unreadable
from relay.receiver.readiness import Readiness
from relay.records.identifiers import NodeId, StatementId
from relay.store.cluster import records
from relay.store.cluster.bucket import MARK, Bucket
from relay.store.cluster.database import bring_up_to_date
from relay.store.cluster.store import ClusterStore
from relay.store.cluster.transfers import object_path
from relay.store.interface import LogBatch, LogState, Outcome, Store
from relay.store.quota import Quota
from tests.cluster.postgres import Postgres
from tests.cluster.swift import Swift
from tests.factory import object_of
from tests.store_conformance import Cast, Opener, StoreConformance, full, stage_all


@pytest.fixture
async def opener(
    database: str, bucket: str, swift: Swift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Opener]:
    """Opens the store, as one receiver more; closes all that were opened."""
    for key, value in swift.environment(bucket).items():
        monkeypatch.setenv(key, value)
    stores: list[ClusterStore] = []

    async def open_again(
        *,
        own: NodeId | None = None,
        quota_bytes: int = 1 << 30,
        quota_statements: int = 1_000,
        storage_limit: int | None = None,
        keeps_all: bool = True,
    ) -> Store:
        place = Bucket.open(bucket, swift.endpoint, swift.region)
        quota = Quota(quota_bytes, quota_statements)
        cache = tmp_path / f"cache-{len(stores)}"
        stores.append(await ClusterStore.open(database, place, cache, own=own, quota=quota))
        return stores[-1]

    yield open_again
    for store in stores:
        await store.close()


@pytest.fixture
def run_in_new_store(
    postgres: Postgres, swift: Swift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Store], Awaitable[None]]], None]:
    """Runs a scenario in a store of its own, for tests that run many."""
    for key, value in swift.environment(swift.fresh_bucket()).items():
        monkeypatch.setenv(key, value)

    def run(scenario: Callable[[Store], Awaitable[None]]) -> None:
        async def whole() -> None:
            place = Bucket.open(swift.fresh_bucket(), swift.endpoint, swift.region)
            store = await ClusterStore.open(postgres.emptied_database(), place, tmp_path, own=None)
            try:
                await scenario(store)
            finally:
                await store.close()

        asyncio.run(whole())

    return run


async def test_calls_that_fail_are_counted(opener: Opener, postgres: Postgres, swift: Swift) -> None:
    store = await opener()
    assert dict(store.troubles) == {"database": 0, "bucket": 0}
    swift.stop()
    try:
        with pytest.raises(StoreError):
            await store.shelf.read("checkpoint")
    finally:
        swift.start()
    assert store.troubles["bucket"] == 1
    postgres.stop()
    try:
        with pytest.raises(StoreError):
            await store.notes()
    finally:
        postgres.start()
    assert store.troubles["database"] == 1


@pytest.mark.parametrize(
    ("trouble", "mended"),
    [
        (
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE 'No space left on device' USING ERRCODE = 'disk_full'; END$$;"
            "CREATE TRIGGER full_disk BEFORE INSERT ON records EXECUTE FUNCTION full_disk()",
            "DROP TRIGGER full_disk ON records",
        ),
        (
            "ALTER ROLE relay IN DATABASE relay SET default_transaction_read_only = on; "
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'relay'",
            "SET TRANSACTION READ WRITE; ALTER ROLE relay IN DATABASE relay RESET ALL; "
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'relay'",
        ),
    ],
    ids=["full", "read-only"],
)
async def test_a_database_that_answers_and_takes_nothing_in_makes_a_receiver_not_ready(
    opener: Opener, postgres: Postgres, database: str, trouble: str, mended: str
) -> None:
    store = await opener()
    readiness = Readiness(store, time.monotonic)
    try:
        postgres.execute(trouble, database)
        with suppress(StoreError):
            await store.log_state()  # by a connection that is gone
        assert await readiness.ready()
        assert not await readiness.write()
    finally:
        postgres.execute(mended, database)
    with suppress(StoreError):
        await store.log_state()
    assert await readiness.write()
    assert postgres.execute("SELECT count(*) FROM records", database) == ["0"]
    assert await store.notes() == {}


async def test_what_a_receiver_writes_to_see_whether_it_can_is_a_commit_like_any_other(
    opener: Opener, postgres: Postgres, database: str
) -> None:
    store = await opener()
    assert isinstance(store, ClusterStore)
    (before,) = postgres.execute("SELECT pg_current_wal_flush_lsn()", database)
    await store.rehearse()
    (written,) = postgres.execute(f"SELECT pg_current_wal_flush_lsn() - '{before}'::pg_lsn", database)
    assert int(written) > 8_000


async def test_a_bucket_that_is_not_there_is_trouble(opener: Opener, swift: Swift) -> None:
    """A service that has just started may say so for a moment: nothing may end by it, and nothing count as lost."""
    await opener()
    nowhere = Bucket.open("nowhere", swift.endpoint, swift.region)
    for call in (nowhere.put("public/checkpoint", b"x"), nowhere.get("public/checkpoint"), nowhere.names("public")):
        with pytest.raises(StoreError):
            await call


async def test_the_counts_of_very_many_are_some_seconds_old(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.store.cluster.store.COUNTED_AT_ONCE", 1)
    cast = Cast()
    store = await opener()
    statements = [cast.statement() for _ in range(3)]
    await store.add(statements)
    for number, statement in enumerate(statements[:2]):
        await store.add([cast.receipt(statement, number)])
        counts = await store.counts()
        assert (counts.delivered, counts.waiting) == (1, 2 - number)
    monkeypatch.setattr("relay.store.cluster.store.COUNTED_AT_ONCE", 1_000)
    assert (await store.counts()).delivered == 2


async def test_a_database_of_an_older_schema_keeps_its_log_and_its_receipts(
    opener: Opener, postgres: Postgres, database: str
) -> None:
    cast = Cast()
    store = await opener()
    logged, waiting, early = cast.statement(), cast.statement(), cast.statement()
    await store.add([logged, waiting, cast.receipt(early, 7)])
    name = StatementId(logged.id)
    await store.append(LogBatch(0, (name,), (cast.receipt(logged, 0),), LogState(1, b"frontier", b"head")))
    await store._bucket.remove([MARK])  # type: ignore[attr-defined]
    await store.close()
    for command in (
        "CREATE TABLE receipts (statement bytea PRIMARY KEY, entry bigint NOT NULL)",
        f"INSERT INTO receipts VALUES ('\\x{logged.id.hex()}', 0), ('\\x{early.id.hex()}', 7)",
        "ALTER TABLE log ADD CONSTRAINT log_statement_key UNIQUE (statement)",
        "DROP TABLE bucket",
        "UPDATE relay_schema SET version = 2",
    ):
        postgres.execute(command, database)
    await bring_up_to_date(database)
    again = await opener()
    assert await again.log_statements(0, 10) == [logged.raw]
    statements = [StatementId(one.id) for one in (logged, waiting, early)]
    assert await again.receipted(statements) == {statements[0], statements[2]}
    assert await again.known_statements(statements) == set(statements)
    assert await again.add([early]) == [Outcome.NEW]
    bundle = await again.bundle(statements[2])
    assert bundle is not None
    assert bundle.entry == 7
    assert [one for one, _ in await again.unlogged(10)] == [waiting.id]


class TestClusterStore(StoreConformance):
    """Every promise of a receiver's store."""

    def fill_disk(self, store: Any, patch: pytest.MonkeyPatch) -> None:
        """See `StoreConformance`."""
        patch.setattr(store._bucket, "put", full)


async def test_a_connection_is_handed_on_without_another_way_to_the_server(
    opener: Opener, postgres: Postgres, database: str
) -> None:
    store = await opener()
    await store.notes()
    last = postgres.execute("SELECT query FROM pg_stat_activity WHERE application_name = 'relay'", database)
    assert last == ["SELECT key, value FROM notes"]


async def test_who_is_cancelled_in_a_transaction_leaves_nothing_of_it_to_the_next(
    opener: Opener, postgres: Postgres, database: str
) -> None:
    store = await opener()
    assert isinstance(store, ClusterStore)
    begun = asyncio.Event()

    async def work(db: Any) -> None:
        await db.execute("SELECT set_config('lock_timeout', '1ms', true), pg_advisory_xact_lock(7)")
        await db.execute("INSERT INTO notes VALUES ('half', '')")
        begun.set()
        await asyncio.Event().wait()

    caller = asyncio.create_task(store._database.commit(work))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await store.notes() == {}
    assert (await store._database.row("SELECT current_setting('lock_timeout')"))[0] == "8s"
    assert postgres.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'", database) == []
    states = postgres.execute("SELECT state FROM pg_stat_activity WHERE application_name = 'relay'", database)
    assert set(states) == {"idle"}


async def test_statements_that_come_at_once_share_a_transaction(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast, store = Cast(), await opener()
    transactions: list[int] = []
    real = records.add

    async def counted(db: Any, items: Any, *rest: Any) -> Any:
        transactions.append(len(items))
        return await real(db, items, *rest)

    monkeypatch.setattr(records, "add", counted)
    statements = [cast.statement() for _ in range(12)]
    calls = [store.add([one, again]) for one, again in zip(statements, [statements[0], *statements], strict=False)]
    outcomes = await asyncio.gather(*calls)
    assert outcomes == [[Outcome.NEW, Outcome.KNOWN]] * 12
    assert transactions == [24]
    assert {one for one, _ in await store.unlogged(100)} == {one.id for one in statements}


async def test_promise_4_what_the_bucket_lost_is_not_logged_until_it_is_there_again(
    postgres: Postgres, database: str, tmp_path: Path
) -> None:
    cast, bucket = Cast(), Bucket(MemoryStore())
    store = await ClusterStore.open(database, bucket, tmp_path / "copies", own=None)
    try:
        contents = [cast.content() for _ in range(2)]
        statements = [cast.statement(content) for content in contents]
        await store.add(statements)
        for content in contents:
            await stage_all(store, content)
        await store.commit_chunks()
        lost = object_of(contents[0])
        await bucket.remove([object_path(lost)])
        with pytest.raises(Unreadable):
            await store.object_path(lost)
        assert store.unreadable == {lost}
        assert await store.holdings([lost]) == []
        assert [one for one, _ in await store.unlogged(1)] == [statements[1].id]
        assert await store.reread() == 0
        file = tmp_path / "photo.jpg"
        file.write_bytes(contents[0])
        assert await store.adopt(lost, file)
        assert [one for one, _ in await store.unlogged(9)] == [one.id for one in statements]
        await bucket.put(object_path(lost), b"something else")
        with pytest.raises(Unreadable):
            await store.object_path(lost)
        await bucket.put(object_path(lost), contents[0])
        assert await store.reread() == 1
        assert store.unreadable == frozenset()
        assert not await store.adopt(lost, file)
    finally:
        await store.close()
