"""That a database and a bucket belong together: both have one name, and nothing is put or given before it was compared.

A database says which content is there; with another bucket it would give receipts for photographs that are somewhere
else. The name is made with the database. A bucket gets it when a database first uses it, which the database then knows:
it begins with no second one.
"""

from __future__ import annotations

import asyncio

from relay.errors import StoreError
from relay.store.cluster.bucket import MARK, Bucket
from relay.store.cluster.database import Database


class WrongBucket(StoreError):
    """The bucket is not the one that goes with the database."""


class Bond:
    """Compares the names, once."""

    def __init__(self, database: Database, bucket: Bucket) -> None:
        self._database = database
        self._bucket = bucket
        self._comparing = asyncio.Lock()
        self._right = False

    async def check(self) -> None:
        """Raises `WrongBucket`; and `StoreError` where one of the two is away."""
        async with self._comparing:
            if not self._right:
                await self._compare()
                self._right = True

    async def _compare(self) -> None:
        name, written = await self._database.row("SELECT id, written FROM bucket")
        found = await self._bucket.get(MARK)
        if found is None and written:
            raise WrongBucket(
                "This bucket is not the one with which the database was begun",
                "Correct `bucket` and `bucket_endpoint`. After a move that began with the wrong one, empty the "
                f"database and move again; where all content was copied to a new bucket, copy {MARK} as well.",
            )
        if found is None:
            await self._bucket.put(MARK, name.encode())
        elif found != name.encode():
            raise WrongBucket(
                "This bucket belongs to another database",
                "Correct `database`, `bucket` and `bucket_endpoint`: each database has a bucket of its own, which is "
                "empty at first.",
            )
        if not written:
            await self._database.rows("UPDATE bucket SET written = true")
