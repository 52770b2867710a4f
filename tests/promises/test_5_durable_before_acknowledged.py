"""Promise 5: fsync, then commit, then say so. What a node acknowledged is there after a power cut at any instant.

In-process: the store is opened anew without having been closed, as after a power cut; what the kernel lost is played by
undoing writes that were never synced (tests/unit/test_store_sqlite.py has the order of the system calls).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.node.byhand import export_to
from relay.records.identifiers import StatementId
from relay.store.interface import State
from relay.store.sqlite import SqliteStore
from tests.factory import make_file, make_statement, object_of
from tests.fleet import CHUNK, Fleet, Ship, each


async def opened_again(fleet: Fleet, ship: Ship) -> SqliteStore:
    """The store as a new process finds it, while the old one never closed it."""
    return await SqliteStore.open(
        ship.folder / "store",
        own=ship.node.identity.node,
        quota_bytes=1 << 30,
        quota_statements=1_000,
        storage_limit=None,
        clock=fleet.clock,
    )


async def test_what_a_peer_was_told_is_there_after_a_power_cut(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = make_statement(fleet.election, island.node, make_file(content))
    host = boat.host(island)
    assert (await host.put_records([(statement.kind, statement.raw)])).outcomes == ["new"]
    chunks = [(object_of(content), index, content[index * CHUNK : (index + 1) * CHUNK]) for index in range(3)]
    assert await host.put_chunks(each(chunks)) == 3
    store = await opened_again(fleet, boat)
    bundle = await store.bundle(StatementId(statement.id))
    assert bundle is not None
    assert (bundle.state, bundle.held) == (State.PARTIAL, 3 * CHUNK)
    for object_id, index, data in chunks:
        assert await store.read_chunk(object_id, index) == data
    await store.close()


async def test_what_was_not_acknowledged_is_not_claimed(fleet: Fleet) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content()
    statement = make_statement(fleet.election, island.node, make_file(content))
    host = boat.host(island)
    await host.put_records([(statement.kind, statement.raw)])
    await boat.store.stage_chunk(object_of(content), 0, content[:CHUNK])
    assert await boat.chunks_held(content) == set(), "staged is not durable"
    store = await opened_again(fleet, boat)
    assert await store.holdings([object_of(content)]) == []
    await store.close()
    await boat.store.commit_chunks()
    assert await boat.chunks_held(content) == {0}


async def test_content_is_synced_before_the_catalogue_says_so(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    content = fleet.content(CHUNK * 2)
    statement = make_statement(fleet.election, island.node, make_file(content))
    await boat.take(statement)
    host = boat.host(island)
    synced: list[set[int]] = []
    good: Callable[[int], None] = os.fdatasync

    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(Exception, match="disk fails"):
        await host.put_chunks(each([(object_of(content), 0, content[:CHUNK])]))
    synced.append(await boat.chunks_held(content))
    monkeypatch.setattr(os, "fdatasync", good)
    assert synced == [set()], "a sync that failed acknowledges nothing"


async def test_an_export_is_whole_or_not_there(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    island = await fleet.launch("pulau-long")
    contents = [fleet.content(), fleet.content()]
    await island.submit(*contents)
    stick = tmp_path / "stick"
    good = os.fsync
    calls: list[int] = []

    def pulled_out(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        good(descriptor)

    monkeypatch.setattr(os, "fsync", pulled_out)
    with pytest.raises(Exception, match="disk fails"):
        await export_to(island.custody, stick)
    monkeypatch.setattr(os, "fsync", good)
    for file in stick.rglob("*"):
        assert file.is_dir() or object_of(file.read_bytes()).hex() == file.name
    await export_to(island.custody, stick)
    assert {file.name for file in (stick / "objects").iterdir()} == {object_of(one).hex() for one in contents}
