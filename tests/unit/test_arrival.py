"""Chunks on their way in: committed while more come, and what could not be committed is said."""

from __future__ import annotations

import asyncio
import gc
import os

import pytest

from relay.errors import StoreError
from relay.limits import COMMIT_SECONDS, WHOLE_SECONDS
from relay.records.identifiers import StatementId
from relay.sync.arrival import Arrival
from relay.sync.claims import Way
from tests.factory import make_file, make_statement, object_of
from tests.fleet import CHUNK, Fleet, Ship


async def taking(fleet: Fleet, size: int) -> tuple[Ship, bytes, Arrival]:
    """A boat that knows of an object of so many chunks, the object, and what takes it in."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content(size * CHUNK)
    await boat.take(make_statement(fleet.election, island.node, make_file(content)))
    return boat, content, Arrival(boat.custody, boat.claims, Way("somebody", fetched=True), fleet.clock)


async def test_chunks_become_durable_while_more_come(fleet: Fleet) -> None:
    boat, content, arrival = await taking(fleet, 4)
    await arrival.take(object_of(content), 0, content[:CHUNK])
    fleet.clock.now += 2 * COMMIT_SECONDS
    await arrival.take(object_of(content), 1, content[CHUNK : 2 * CHUNK])
    async with asyncio.timeout(10):
        while await boat.chunks_held(content) != {0, 1}:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await arrival.take(object_of(content), 2, content[2 * CHUNK : 3 * CHUNK])
    await arrival.finish()
    assert await boat.chunks_held(content) == {0, 1, 2}
    assert (arrival.taken, arrival.rung) == (3, 0)


async def test_an_object_that_has_all_its_chunks_is_committed_before_others_come(fleet: Fleet) -> None:
    """A boat that leaves in the middle of the next package has this one."""
    boat, content, arrival = await taking(fleet, 3)
    for index in range(3):
        assert not arrival.committing
        fleet.clock.now += WHOLE_SECONDS if index == 2 else 0
        await arrival.take(object_of(content), index, content[index * CHUNK :][:CHUNK])
    while arrival.committing:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert await boat.read(content) == content
    assert arrival.rung == 1


async def test_news_rings_once_for_what_became_whole(fleet: Fleet) -> None:
    boat, content, arrival = await taking(fleet, 2)
    before, seen = boat.custody.news.count, boat.custody.content
    for index in range(2):
        await arrival.take(object_of(content), index, content[index * CHUNK :][:CHUNK])
    await arrival.finish()
    assert boat.custody.news.count - before == arrival.rung == 1
    assert boat.custody.content == seen + 2


async def test_a_commit_that_failed_beside_the_transfer_is_not_forgotten(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    boat, content, arrival = await taking(fleet, 3)
    good = os.fdatasync

    def failing(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    fleet.clock.now += 2 * COMMIT_SECONDS
    await arrival.take(object_of(content), 0, content[:CHUNK])
    while arrival.committing:  # noqa: ASYNC110
        await asyncio.sleep(0)
    monkeypatch.setattr(os, "fdatasync", good)
    with pytest.raises(StoreError):
        await arrival.finish()
    assert await boat.chunks_held(content) == set()


async def test_what_another_stream_brings_while_one_makes_its_last_chunks_durable_disturbs_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    boat, content, arrival = await taking(fleet, 4)
    commit, gates = boat.store.commit_chunks, [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    waiting = list(gates)

    async def one_by_one(since: int = 0) -> list[StatementId]:
        await waiting.pop(0).wait()
        return await commit(since)

    monkeypatch.setattr(boat.store, "commit_chunks", one_by_one)
    await arrival.take(object_of(content), 0, content[:CHUNK])
    ending = asyncio.create_task(arrival.finish())
    await asyncio.sleep(0)
    fleet.clock.now += 2 * COMMIT_SECONDS
    await arrival.take(object_of(content), 1, content[CHUNK : 2 * CHUNK])
    assert arrival.committing
    gates[0].set()
    await ending
    assert arrival.committing, "the other stream's goes on"
    assert 0 in await boat.chunks_held(content)
    for gate in gates:
        gate.set()
    await arrival.finish()
    assert await boat.chunks_held(content) == {0, 1}


async def test_chunks_that_another_streams_commit_took_are_waited_for(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said to be durable is (promise 5)."""
    boat, content, arrival = await taking(fleet, 4)
    commit, gates = boat.store.commit_chunks, [asyncio.Event(), asyncio.Event()]
    waiting = list(gates)

    async def gated(since: int = 0) -> list[StatementId]:
        if waiting:
            await waiting.pop(0).wait()
        return await commit(since)

    monkeypatch.setattr(boat.store, "commit_chunks", gated)
    fleet.clock.now += 2 * COMMIT_SECONDS
    await arrival.take(object_of(content), 0, content[:CHUNK])  # begins a commit
    await arrival.take(object_of(content), 1, content[CHUNK : 2 * CHUNK])
    under_way = arrival._commit
    assert under_way is not None
    more: list[asyncio.Task[None]] = []

    def come(_ended: object) -> None:
        """The next chunk is there in the moment in which that commit ends, and begins another one."""
        fleet.clock.now += 2 * COMMIT_SECONDS
        arrival._keep_up()
        more.extend(task for task in [arrival._commit] if task is not None and task is not under_way)

    under_way.add_done_callback(come)
    ending = asyncio.create_task(arrival.finish())
    await asyncio.sleep(0)
    gates[0].set()
    async with asyncio.timeout(10):
        while not more:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.wait((under_way,))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not ending.done(), "the commit that took chunk 1 is under way"
    gates[1].set()
    await ending
    assert await boat.chunks_held(content) == {0, 1}


async def test_where_all_commits_fail_it_is_said_once_and_left_nowhere(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    boat, content, arrival = await taking(fleet, 3)
    left: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: left.append(context))

    async def failing(since: int = 0) -> list[StatementId]:
        raise StoreError("The disk takes nothing", "Free some space.")

    monkeypatch.setattr(boat.store, "commit_chunks", failing)
    fleet.clock.now += 2 * COMMIT_SECONDS
    await arrival.take(object_of(content), 0, content[:CHUNK])
    await arrival.take(object_of(content), 1, content[CHUNK : 2 * CHUNK])
    with pytest.raises(StoreError):
        await arrival.finish()
    del arrival
    gc.collect()
    await asyncio.sleep(0)
    assert left == []
