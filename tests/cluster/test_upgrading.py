"""Receivers that share a database are brought to a newer version one after the other, and no two versions write to it
at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from relay.errors import Outgrown, StoreError
from relay.receiver.service import give_signs_of_life
from relay.store.cluster import schema
from relay.store.cluster.bucket import Bucket
from relay.store.cluster.database import bring_up_to_date
from relay.store.cluster.store import ClusterStore
from tests.cluster.postgres import Postgres
from tests.store_conformance import Cast

Open = Callable[[], Awaitable[ClusterStore]]


@pytest.fixture
async def opened(database: str, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the store once more, as a process of the version that is installed."""
    stores: list[ClusterStore] = []
    content = MemoryStore()

    async def again() -> ClusterStore:
        stores.append(await ClusterStore.open(database, Bucket(content), tmp_path / f"cache-{len(stores)}", own=None))
        return stores[-1]

    yield again
    for store in stores:
        await store.close()


LATER = "ALTER TABLE peers ADD COLUMN later text"
"""What the next version of the program does to the schema."""
NEWER = f"""
import asyncio, sys
from relay.store.cluster import database, schema

schema.MIGRATIONS, schema.VERSION = (*schema.MIGRATIONS, {LATER!r}), schema.VERSION + 1

async def start():
    await asyncio.gather(*(database.bring_up_to_date(sys.argv[1]) for _ in range(2)))
    opened = await database.Database.open(sys.argv[1])
    print(*[row[0] for row in await opened.rows("SELECT key FROM notes")])
    await opened.close()

asyncio.run(start())
"""


@contextmanager
def next_version() -> Iterator[None]:
    """Within it, a newer version of the program is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, LATER))
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        yield


async def newer_receivers_start(database: str) -> str:
    """Two receivers of a newer version start at once, in a process that is not ours; the notes that they see."""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", NEWER, database], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


def version(postgres: Postgres, database: str) -> int:
    """The version of the schema."""
    return int(postgres.execute("SELECT version FROM relay_schema", database)[0])


async def test_only_a_receiver_that_starts_brings_the_database_up_to_date(
    opened: Open, postgres: Postgres, database: str
) -> None:
    old = await opened()
    with next_version(), pytest.raises(StoreError, match=r"older relay .* brings it up to date"):
        await opened()  # as `relay receiver status` does
    assert version(postgres, database) == schema.VERSION
    assert await old.notes() == {}
    await newer_receivers_start(database)
    assert version(postgres, database) == schema.VERSION + 1


async def test_a_receiver_of_an_older_version_writes_nothing_more_and_stops(
    opened: Open, postgres: Postgres, database: str
) -> None:
    old = await opened()
    assert await old.leads()
    await newer_receivers_start(database)
    with pytest.raises(Outgrown, match="newer relay"):
        await asyncio.wait_for(give_signs_of_life(old), 30)
    with pytest.raises(Outgrown, match="newer relay"):
        await old.add([Cast().statement()])
    assert postgres.execute("SELECT count(*) FROM records", database) == ["0"]
    with pytest.raises(Outgrown):
        await bring_up_to_date(database)  # when systemd starts it again


async def test_what_was_under_way_under_the_older_version_is_whole_or_not_there(opened: Open, database: str) -> None:
    old = await opened()
    await old.set_note("whole", "")
    begun = asyncio.Event()

    async def work(db: Any) -> None:
        await db.execute("INSERT INTO notes VALUES ('half', '')")
        begun.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(old._database.commit(work))
    await begun.wait()
    assert await newer_receivers_start(database) == "whole"
    writing.cancel()
    with pytest.raises((asyncio.CancelledError, StoreError)):
        await writing


async def test_an_empty_database_is_left_to_whoever_opens_the_store(opened: Open, database: str) -> None:
    await bring_up_to_date(database)
    assert await (await opened()).notes() == {}
