"""A database and a bucket that do not belong together are never used together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from relay.errors import StoreError
from relay.records.identifiers import RecordId, StatementId
from relay.store.cluster.bond import WrongBucket
from relay.store.cluster.bucket import MARK, Bucket
from relay.store.cluster.store import ClusterStore
from tests.cluster.postgres import Postgres
from tests.store_conformance import Cast, stage_all

Open = Callable[[str, MemoryStore], Awaitable[ClusterStore]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a store of a database and a bucket."""
    stores: list[ClusterStore] = []

    async def one_more(url: str, content: MemoryStore) -> ClusterStore:
        stores.append(await ClusterStore.open(url, Bucket(content), tmp_path / f"cache-{len(stores)}", own=None))
        return stores[-1]

    yield one_more
    for store in stores:
        await store.close()


async def test_a_database_goes_with_the_bucket_with_which_it_was_begun(opened: Open, database: str) -> None:
    right, wrong = MemoryStore(), MemoryStore()
    await opened(database, right)
    await opened(database, right)
    with pytest.raises(WrongBucket, match="not the one with which the database was begun"):
        await opened(database, wrong)
    assert await Bucket(wrong).names("") == set()


async def test_a_bucket_goes_with_the_database_that_used_it_first(
    opened: Open, database: str, postgres: Postgres
) -> None:
    bucket = MemoryStore()
    await opened(database, bucket)
    with pytest.raises(WrongBucket, match="belongs to another database"):
        await opened(postgres.fresh_database(), bucket)
    await opened(database, bucket)


async def test_a_bucket_that_took_its_name_before_the_database_knew_is_the_right_one(
    opened: Open, database: str, postgres: Postgres
) -> None:
    bucket = MemoryStore()
    await opened(database, bucket)
    postgres.execute("UPDATE bucket SET written = false", database)  # the power went between the two
    await opened(database, bucket)
    with pytest.raises(WrongBucket):
        await opened(database, MemoryStore())


async def test_promise_5_no_photograph_goes_to_the_wrong_bucket_when_that_was_away_at_the_start(
    opened: Open, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(database, MemoryStore())
    wrong = MemoryStore()

    async def away(*_arguments: object) -> None:
        raise StoreError("The bucket is away", "Wait.")

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "get", away)
        store = await opened(database, wrong)
    cast = Cast()
    tally, photograph = cast.statement(), cast.content()
    package = cast.statement(photograph)
    await store.add([tally, package])
    assert [one for one, _ in await store.unlogged(9)] == [tally.id]  # which needs no bucket
    await stage_all(store, photograph)
    with pytest.raises(WrongBucket):
        await store.commit_chunks()
    with pytest.raises(WrongBucket):
        await store.shelf.write("checkpoint", b"x", "text/plain")
    assert [one for one, _ in await store.unlogged(9)] == [StatementId(RecordId(tally.id))]
    assert await Bucket(wrong).names("") == set()


async def test_what_says_which_database_a_bucket_goes_with_is_not_public(opened: Open, database: str) -> None:
    bucket = MemoryStore()
    await opened(database, bucket)
    assert await Bucket(bucket).names("") == {MARK}
    assert not MARK.startswith("public/")
