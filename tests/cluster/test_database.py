"""What is wrong with the database is told in words, whatever it is; who leads again knows that it did not."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.errors import StoreError
from relay.store.cluster.database import Database, bring_up_to_date
from relay.store.cluster.watch import Watch


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://relay@127.0.0.1:99999/relay",
        "postgresql://relay@127.0.0.1:-1/relay",
        "postgresql://relay@127.0.0.1:port/relay",
        "postgresql://relay@[::1/relay",
        "postgresql://relay@127.0.0.1:1/relay?sslmode=perhaps",
        "postgresql://relay@127.0.0.1:1/relay?sslmode=verify-full&sslrootcert=/nothing-here",
    ],
)
async def test_a_url_that_names_no_database_is_told_in_words(url: str) -> None:
    for opening in (Database.open(url), bring_up_to_date(url)):
        with pytest.raises(StoreError, match=r"`database` in config\.toml"):
            await opening


async def test_who_leads_again_knows_that_another_may_have_led(database: str) -> None:
    """Though nobody asked meanwhile: the session, and the lock with it, was gone."""
    await (await Database.open(database)).close()  # its tables are there
    watch = Watch(database, time.monotonic)
    try:
        assert await leads_soon(watch)
        assert await watch.leads()
        assert watch.term == 1
        watch._connection.terminate()
        assert await leads_soon(watch)
        assert watch.term == 2
    finally:
        await watch.close()


async def leads_soon(watch: Watch) -> bool:
    """Whether it comes to lead within some seconds: a session that ended has its lock for a moment more."""
    async with asyncio.timeout(20):
        while not await watch.leads():
            await watch.changed(0.1)
    return True
