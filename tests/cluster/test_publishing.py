"""Of receivers on one bucket only the one that surely leads puts the files that change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from relay.errors import StoreError
from relay.limits import LEAD_SECONDS, LEADER_SILENT_SECONDS
from relay.store.cluster.bucket import PUBLIC, Bucket, BucketShelf
from relay.store.cluster.database import Database
from relay.store.cluster.watch import Watch
from relay.store.shelf import FOR_EVER
from tests.cluster.postgres import Postgres
from tests.cluster.traffic import until

TEXT = "text/plain"


@dataclass
class Clock:
    """Seconds that pass when they are told to."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def clock_and_watch(database: str) -> AsyncIterator[tuple[Clock, Watch]]:
    """A receiver's watch over a database, by a clock of its own."""
    await (await Database.open(database)).close()
    clock = Clock()
    watch = Watch(database, clock)
    yield clock, watch
    await watch.close()


async def test_promise_6_a_leader_that_hung_puts_nothing_in_a_newer_ones_place(
    clock_and_watch: tuple[Clock, Watch],
) -> None:
    clock, watch = clock_and_watch
    place = MemoryStore()
    shelf = BucketShelf(Bucket(place), watch.may_publish)
    assert await watch.leads()
    await shelf.write("checkpoint", b"size 1", TEXT)
    clock.now += LEADER_SILENT_SECONDS
    with pytest.raises(StoreError, match="another one may lead by now"):
        await shelf.write("checkpoint", b"size 2", TEXT)
    assert await shelf.read("checkpoint") == b"size 1"
    await shelf.write("tile/0/000", b"the same, whoever puts it", TEXT, FOR_EVER)
    assert await watch.leads(), "the database says whether anybody followed"
    await shelf.write("checkpoint", b"size 2", TEXT)
    assert await shelf.read("checkpoint") == b"size 2"


async def test_promise_6_who_lost_the_database_does_not_know_whether_he_leads(
    clock_and_watch: tuple[Clock, Watch], postgres: Postgres
) -> None:
    _, watch = clock_and_watch
    assert watch.may_publish(), "whoever never led uses the store alone: a move, a restored copy"
    assert await watch.leads()
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    await until(lambda: not watch.may_publish(), 10, "the watch hears that its session ended")


async def test_promise_6_who_lost_the_lead_leaves_it_to_others_for_a_moment(
    clock_and_watch: tuple[Clock, Watch], postgres: Postgres
) -> None:
    """What it has under way ends in it, and knows no more than what was read in the term before."""
    clock, watch = clock_and_watch
    assert await watch.leads()
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    await until(lambda: not watch.may_publish(), 10, "the watch hears that its session ended")
    assert not await watch.leads()
    assert not watch.may_publish()
    clock.now += LEAD_SECONDS
    assert await watch.leads()
    assert (watch.may_publish(), watch.term) == (True, 2)


async def test_what_fails_is_tried_again_only_while_it_is_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    async def fail(_store: Any, path: str, *_: Any, **__: Any) -> None:
        tries.append(path)
        raise GenericError("the service is away")

    monkeypatch.setattr(obstore, "put_async", fail)
    bucket = Bucket(MemoryStore())
    shelf = BucketShelf(bucket, lambda: not tries)
    with pytest.raises(StoreError, match="another one may lead by now"):
        await shelf.write("checkpoint", b"size 1", TEXT)
    assert (tries, bucket.failures) == ([f"{PUBLIC}checkpoint"], 0)
    with pytest.raises(StoreError, match="does not take or give"):
        await BucketShelf(bucket).write("checkpoint", b"size 1", TEXT)
    assert (len(tries), bucket.failures) == (4, 1)
