"""The cluster's store is a store: the conformance tests of all, over a real PostgreSQL and a real S3 endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from relay.records.identifiers import NodeId
from relay.store.cluster.bucket import Bucket
from relay.store.cluster.store import ClusterStore
from relay.store.interface import Store
from tests.cluster.postgres import Postgres
from tests.cluster.swift import Swift
from tests.store_conformance import Opener, StoreConformance, full


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
        stores.append(await ClusterStore.open(database, place, tmp_path / f"cache-{len(stores)}", own=own))
        return stores[-1]

    yield open_again
    for store in stores:
        await store.close()


@pytest.fixture
def run_in_new_store(
    postgres: Postgres, swift: Swift, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Store], Awaitable[None]]], None]:
    """Runs a scenario in a store of its own, for tests that run many."""
    for key, value in swift.environment(bucket).items():
        monkeypatch.setenv(key, value)

    def run(scenario: Callable[[Store], Awaitable[None]]) -> None:
        async def whole() -> None:
            place = Bucket.open(bucket, swift.endpoint, swift.region)
            store = await ClusterStore.open(postgres.emptied_database(), place, tmp_path, own=None)
            try:
                await scenario(store)
            finally:
                await store.close()

        asyncio.run(whole())

    return run


class TestClusterStore(StoreConformance):
    """Every promise of a receiver's store."""

    def fill_disk(self, store: Any, patch: pytest.MonkeyPatch) -> None:
        """See `StoreConformance`."""
        patch.setattr(store._bucket, "put", full)
