"""The embedded store: conformance, and what is its own: files, crashes, full disks, schemas."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from relay.errors import DiskFull, StoreError, Unreadable
from relay.records.identifiers import Kind, NodeId, ObjectId, StatementId, receipt_id
from relay.store import content as content_module
from relay.store import sqlite as sqlite_module
from relay.store.arriving import SharedCommits
from relay.store.content import Content
from relay.store.database import Database
from relay.store.interface import LogBatch, LogState, Outcome, Seen, State, Store
from relay.store.schema import VERSION
from relay.store.sqlite import SqliteStore
from tests.factory import make_file, make_revocations, object_of
from tests.store_conformance import CHUNK, CarrierConformance, Cast, Opener, full, only_bundle, stage_all


async def open_store(
    folder: Path,
    *,
    own: NodeId | None = None,
    quota_bytes: int = 1 << 30,
    quota_statements: int = 1_000,
    storage_limit: int | None = None,
    keeps_all: bool = False,
) -> SqliteStore:
    """A store with quotas that no test meets by accident."""
    return await SqliteStore.open(
        folder,
        own=own,
        quota_bytes=quota_bytes,
        quota_statements=quota_statements,
        storage_limit=storage_limit,
        keeps_all=keeps_all,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "store"


@pytest.fixture
async def opener(folder: Path) -> AsyncIterator[Opener]:
    """Opens the store; closes all that were opened."""
    stores: list[SqliteStore] = []

    async def open_again(
        *,
        own: NodeId | None = None,
        quota_bytes: int = 1 << 30,
        quota_statements: int = 1_000,
        storage_limit: int | None = None,
        keeps_all: bool = False,
    ) -> Store:
        store = await open_store(
            folder,
            own=own,
            quota_bytes=quota_bytes,
            quota_statements=quota_statements,
            storage_limit=storage_limit,
            keeps_all=keeps_all,
        )
        stores.append(store)
        return store

    yield open_again
    for store in stores:
        await store.close()


@pytest.fixture
def run_in_new_store() -> Callable[[Callable[[Store], Awaitable[None]]], None]:
    """Runs a scenario in a store of its own, for tests that run many."""

    def run(scenario: Callable[[Store], Awaitable[None]]) -> None:
        async def whole() -> None:
            with TemporaryDirectory() as folder:
                store = await open_store(Path(folder))
                try:
                    await scenario(store)
                finally:
                    await store.close()

        asyncio.run(whole())

    return run


class TestSqliteStore(CarrierConformance):
    """The conformance tests."""

    def fill_disk(self, store: Any, patch: pytest.MonkeyPatch) -> None:
        """See `StoreConformance`."""
        patch.setattr(store._content, "sync_partial", full)

    def spoil(self, store: Any, object_id: ObjectId) -> None:
        """See `CarrierConformance`."""
        path = store._content.path(object_id)
        path.unlink()
        path.symlink_to(path.name)  # whoever opens it goes round in circles

    def alter(self, store: Any, object_id: ObjectId) -> None:
        """See `CarrierConformance`."""
        path = store._content.path(object_id)
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


@pytest.fixture
def cast() -> Cast:
    """A new election with its nodes."""
    return Cast()


def files_below(folder: Path) -> list[str]:
    """The names of all content files."""
    return sorted(
        file.name for place in ("objects", "partial") for file in (folder / place).rglob("*") if file.is_file()
    )


# -- schema


async def test_a_newer_schema_is_refused_and_not_touched(folder: Path) -> None:
    await (await open_store(folder)).close()
    database = folder / "catalogue.db"
    with sqlite3.connect(database) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(StoreError, match="newer"):
        await open_store(folder)
    assert database.read_bytes() == before


async def test_a_database_of_another_program_is_refused_and_not_touched(folder: Path) -> None:
    folder.mkdir()
    database = folder / "catalogue.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        await open_store(folder)
    assert database.read_bytes() == before


async def test_a_migration_that_fails_leaves_the_old_schema(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await open_store(folder)).close()
    database = folder / "catalogue.db"
    monkeypatch.setattr("relay.store.schema.VERSION", VERSION + 1)
    monkeypatch.setattr(
        "relay.store.schema.MIGRATIONS",
        ("",) * VERSION + ("CREATE TABLE more (a);\nINSERT INTO nowhere VALUES (1);\n",),
    )
    with pytest.raises(StoreError):
        await open_store(folder)
    monkeypatch.undo()
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'more'").fetchone() is None
    connection.close()
    await (await open_store(folder)).close()


async def test_a_store_of_the_first_schema_keeps_its_log_and_its_receipts(folder: Path, cast: Cast) -> None:
    store = await open_store(folder, keeps_all=True)
    logged, waiting, early = cast.statement(), cast.statement(), cast.statement()
    await store.add([logged, waiting, cast.receipt(early, 7)])
    name = StatementId(logged.id)
    await store.append(LogBatch(0, (name,), (cast.receipt(logged, 0),), LogState(1, b"frontier", b"head")))
    await store.close()
    with sqlite3.connect(folder / "catalogue.db") as connection:
        for command in (
            "CREATE TABLE receipts (statement BLOB PRIMARY KEY, entry INTEGER NOT NULL) WITHOUT ROWID",
            "DROP TABLE unclaimed",
            "DROP TABLE unclaimed_counts",
            "DROP TABLE log",
            "DROP INDEX bundles_to_log",
            "CREATE TABLE log (entry INTEGER PRIMARY KEY, statement BLOB NOT NULL UNIQUE)",
            "PRAGMA user_version = 1",
        ):
            connection.execute(command)
        connection.executemany("INSERT INTO receipts VALUES (?, ?)", [(logged.id, 0), (early.id, 7)])
        connection.execute("INSERT INTO log VALUES (0, ?)", (logged.id,))
        connection.executemany(
            "INSERT OR REPLACE INTO journal (kind, id, present) VALUES (?, ?, ?)",
            [(Kind.STATEMENT, logged.id, 0), (Kind.STATEMENT, waiting.id, 1), (Kind.RECEIPT, receipt_id(logged.id), 1)],
        )
    connection.close()
    again = await open_store(folder, keeps_all=True)
    assert await again.log_statements(0, 10) == [logged.raw]
    statements = [StatementId(one.id) for one in (logged, waiting, early)]
    assert await again.receipted(statements) == {statements[0], statements[2]}
    assert await again.known_statements(statements) == set(statements)
    assert not [record for kind, record in again.members if kind == Kind.STATEMENT]
    assert await again.add([early]) == [Outcome.NEW]
    bundle = await again.bundle(statements[2])
    assert bundle is not None
    assert bundle.entry == 7
    assert [one for one, _ in await again.unlogged(10)] == [waiting.id]
    await again.close()


@pytest.mark.parametrize("damage", ["noise", "cut"])
async def test_a_damaged_catalogue_is_told(folder: Path, damage: str) -> None:
    await (await open_store(folder)).close()
    database = folder / "catalogue.db"
    content = database.read_bytes()
    database.write_bytes(b"no database at all" * 100 if damage == "noise" else content[:5000])
    with pytest.raises(StoreError, match="damaged"):
        await open_store(folder)


async def test_a_store_locked_for_long_is_told(folder: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.store.database.BUSY_SECONDS", 0.05)
    store = await open_store(folder)
    blocker = sqlite3.connect(folder / "catalogue.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        await store.add([cast.statement(b"a")])
    blocker.execute("ROLLBACK")
    blocker.close()
    await store.add([cast.statement(b"b")])
    await store.close()


async def test_a_closed_store_says_so(folder: Path, cast: Cast) -> None:
    store = await open_store(folder)
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.add([cast.statement(b"a")])


# -- the disk


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
async def test_a_full_disk_changes_nothing_and_is_overcome(
    folder: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store = await open_store(folder)
    content = cast.content()
    statement = cast.statement(content)
    await store.add([statement])
    await stage_all(store, content, [0])
    await store.commit_chunks()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreError, match="full"):
        await stage_all(store, content, [1, 2, 3])
        await store.commit_chunks()
    monkeypatch.undo()
    assert await store.commit_chunks() == []  # what may not have reached the disk is not believed afterwards
    (holding,) = await store.holdings([object_of(content)])
    assert holding.chunks == 1
    await stage_all(store, content, [1, 2, 3])
    assert await store.commit_chunks() == [statement.id]
    await store.close()


async def test_everyone_who_shares_a_failed_commit_hears_of_it(
    folder: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(folder)
    contents = [cast.content(9) for _ in range(3)]
    await store.add([cast.statement(*contents)])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)

    async def bring(content: bytes) -> None:
        await store.commit_chunks(await store.stage_chunk(object_of(content), 0, content))

    results = await asyncio.gather(*(bring(content) for content in contents), return_exceptions=True)
    assert [type(result) for result in results] == [DiskFull] * 3
    monkeypatch.undo()
    await store.close()


async def test_who_comes_after_the_commit_that_took_his_chunk_failed_hears_why() -> None:
    troubles = [DiskFull("The disk is full", "Make room.")]

    async def commit() -> list[StatementId]:
        if troubles:
            raise troubles.pop()
        return []

    commits = SharedCommits(commit)
    staged = commits.number
    with pytest.raises(DiskFull):
        await commits.join()
    with pytest.raises(DiskFull):
        await commits.join(staged)
    assert await commits.join(commits.number) == []


async def test_a_partial_file_that_was_damaged_is_no_proof_of_a_lie(folder: Path, cast: Cast) -> None:
    store = await open_store(folder)
    content = cast.content()
    statement = cast.statement(content)
    await store.add([statement])
    await stage_all(store, content, [0, 1, 2])
    await store.commit_chunks()
    (partial,) = (folder / "partial").iterdir()
    partial.write_bytes(bytes(CHUNK) + partial.read_bytes()[CHUNK:])
    await stage_all(store, content, [3])
    assert await store.commit_chunks() == []
    (want,) = await store.wants(10)
    await stage_all(store, content, [index for index in range(4) if want.missing >> index & 1])
    assert await store.commit_chunks() == [statement.id]
    await store.close()


async def test_what_cannot_be_read_back_when_it_is_judged_concerns_no_other_object(
    folder: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(folder)
    contents = [cast.content() for _ in range(3)]
    statements = [cast.statement(one) for one in contents]
    bad = object_of(contents[1])
    await store.add(statements)
    await stage_all(store, contents[1], [0, 1])
    await store.commit_chunks()
    pread, real = os.pread, content_module._hash
    failing = True

    def hash_of(path: Path) -> bytes:
        if failing and path.name.startswith(bad.hex()):
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    def read(descriptor: int, length: int, offset: int) -> bytes:
        if failing and offset == CHUNK and bad.hex() in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.EIO, "Input/output error")
        return pread(descriptor, length, offset)

    monkeypatch.setattr(content_module, "_hash", hash_of)
    monkeypatch.setattr(os, "pread", read)
    await stage_all(store, contents[0])
    await stage_all(store, contents[1], [2, 3])
    await stage_all(store, contents[2])
    assert set(await store.commit_chunks()) == {statements[0].id, statements[2].id}
    assert [(one.object, one.missing) for one in await store.wants(10)] == [(bad, 0b0010)]
    assert store.unreadable == {bad}
    await stage_all(store, contents[1], [1])
    assert await store.commit_chunks() == []
    failing = False  # the disk wrote it to another place
    await stage_all(store, contents[1], [1])
    assert await store.commit_chunks() == [statements[1].id]
    assert store.unreadable == frozenset()
    await store.close()


async def test_what_could_not_be_read_once_is_no_proof_of_a_lie(
    folder: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(folder)
    content = cast.content()
    statement = cast.statement(content)
    await store.add([statement])
    with monkeypatch.context() as patched:
        patched.setattr(content_module, "_hash", lambda _path: os.close(-1))
        await stage_all(store, content)
        assert await store.commit_chunks() == []
    assert [one.missing for one in await store.wants(10)] == [0b1111]
    await stage_all(store, content)
    assert await store.commit_chunks() == [statement.id]
    await store.close()


async def test_an_object_that_is_gone_from_its_place_is_told_and_tried_again(
    folder: Path, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store(folder)
    content = cast.content()
    statement = cast.statement(content)
    await store.add([statement])
    await stage_all(store, content)
    await store.commit_chunks()
    path = await store.object_path(object_of(content))
    assert path is not None
    path.rename(folder / "away")
    for index in (0, 1):
        assert await store.read_chunk(object_of(content), index) is None
    (told,) = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert object_of(content).hex() in told
    assert f"{statement.id.hex()[:16]} (tps-1, form-1)" in told
    assert "Replace it soon, and delete nothing" in told
    (folder / "away").rename(path)
    assert await store.reread() == 1
    assert await store.read_chunk(object_of(content), 0) == content[:CHUNK]
    assert (await store.holdings([object_of(content)]))[0].complete
    await store.close()


async def test_what_cannot_be_written_anew_either_is_given_up_alone(folder: Path, cast: Cast) -> None:
    store = await open_store(folder)
    bad, good = cast.content(), cast.content()
    statements = [cast.statement(bad), cast.statement(good)]
    await store.add(statements)
    await stage_all(store, bad)
    await store.commit_chunks()
    path = await store.object_path(object_of(bad))
    assert path is not None
    path.unlink()
    path.mkdir()
    assert await store.read_chunk(object_of(bad), 0) is None
    await stage_all(store, bad)
    await stage_all(store, good)
    assert await store.commit_chunks() == [statements[1].id]
    assert await store.wants(10) == []
    assert store.unreadable == {object_of(bad)}
    await store.close()


async def test_an_object_that_is_right_is_so_whatever_liars_say_of_its_chunks(
    opener: Opener, cast: Cast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Their lists took all places: what decides is its own hash, which is looked at once."""
    monkeypatch.setattr("relay.store.catalogue.MAX_LAYOUTS", 1)
    store = await opener()
    content = cast.content()
    await store.add([cast.lie(replace(make_file(content), chunks=make_file(cast.content()).chunks))])
    await store.add([cast.statement(content)])
    file = tmp_path / "photo.jpg"
    file.write_bytes(content)
    await store.adopt(object_of(content), file)
    looked = 0
    holds = Content.holds

    def counted(*arguments: Any) -> bool:
        nonlocal looked
        looked += 1
        return holds(*arguments)

    monkeypatch.setattr(Content, "holds", counted)
    for index in (0, 3, 0, 1):
        assert await store.read_chunk(object_of(content), index, doubted=True) == content[index * CHUNK :][:CHUNK]
    assert store.unreadable == frozenset()
    assert looked == 1


@pytest.mark.parametrize("again", [False, True], ids=["waiting", "named again"])
async def test_what_an_earlier_process_left_is_read_before_it_is_logged(
    opener: Opener, cast: Cast, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Which objects could not be read ends with a process; the receipt has every other copy freed."""
    store = await opener(keeps_all=True)
    contents = [cast.content() for _ in range(2)]
    statements = [cast.statement(content) for content in contents]
    await store.add(statements)
    for content in contents:
        await stage_all(store, content)
    await store.commit_chunks()
    if again:
        await store.add([cast.receipt(one, place) for place, one in enumerate(statements)])
    path = await store.object_path(object_of(contents[0]))
    assert path is not None
    path.unlink()
    path.symlink_to(path.name)
    await store.close()
    store = await opener(keeps_all=True)
    if again:
        statements = [cast.statement(content) for content in contents]
        await store.add(statements)
    for _ in range(2):
        assert [one for one, _ in await store.unlogged(1)] == [statements[1].id]
    assert store.unreadable == {object_of(contents[0])}
    await stage_all(store, contents[0])
    assert await store.commit_chunks() == [statements[0].id]

    def read(*_: object) -> bool:
        raise AssertionError("it reads again what it has read")

    monkeypatch.setattr(Content, "holds", read)
    assert {one for one, _ in await store.unlogged(9)} == {one.id for one in statements}


def failing_once(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Have the next call of a method of `Content` fail, and no other."""
    real = getattr(Content, name)

    def fail(*_: object) -> None:
        monkeypatch.setattr(Content, name, real)
        raise error

    monkeypatch.setattr(Content, name, fail)


@pytest.mark.parametrize("keeps_all", [False, True], ids=["carrier", "receiver"])
async def test_what_does_not_come_to_its_place_is_not_complete_and_its_chunks_stay(
    opener: Opener, cast: Cast, monkeypatch: pytest.MonkeyPatch, keeps_all: bool
) -> None:
    """Nor where it could not be read for a moment, before its last chunk came."""
    store = await opener(keeps_all=keeps_all)
    content = cast.content()
    statement = cast.statement(content)
    await store.add([statement])
    await stage_all(store, content, [0, 1, 2])
    await store.commit_chunks()
    failing_once(monkeypatch, "read_chunk", Unreadable("Input/output error", ""))
    assert await store.read_chunk(object_of(content), 0) is None
    failing_once(monkeypatch, "place", StoreError("Input/output error", ""))
    await stage_all(store, content, [3])
    with pytest.raises(StoreError):
        await store.commit_chunks()
    assert await store.unlogged(9) == []
    assert [one.missing for one in await store.wants(9)] == [0b1000]
    await store.close()
    store = await opener(keeps_all=keeps_all)
    assert [(one.chunks, one.complete) for one in await store.holdings([object_of(content)])] == [(0b111, False)]
    await stage_all(store, content, [3])
    assert await store.commit_chunks() == [statement.id]
    assert await store.read_chunk(object_of(content), 0) == content[:CHUNK]
    await store.close()


async def test_what_was_written_anew_stays_in_its_place_whatever_becomes_of_the_commit(
    opener: Opener, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue goes on saying that it lies there: it may be the only copy."""
    store = await opener()
    content = cast.content()
    await store.add([cast.statement(content)])
    await stage_all(store, content)
    await store.commit_chunks()
    failing_once(monkeypatch, "read_chunk", Unreadable("Input/output error", ""))
    assert await store.read_chunk(object_of(content), 0) is None
    failing_once(monkeypatch, "sync_places", DiskFull("The disk is full", ""))
    await stage_all(store, content)
    with pytest.raises(DiskFull):
        await store.commit_chunks()
    assert store.unreadable == frozenset()
    assert await store.wants(9) == []
    assert await store.read_chunk(object_of(content), 3) == content[3 * CHUNK :]
    await store.close()
    store = await opener()
    assert await store.read_chunk(object_of(content), 0) == content[:CHUNK]
    await store.close()


async def test_promise_2_lies_that_were_found_out_cost_nobody_anything_who_asks_what_is_wanted(
    folder: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(folder)
    for place in range(8):
        content, forged = cast.content(40 + place), cast.content(40 + place)
        await store.add([cast.lie(replace(make_file(forged), sha256=object_of(content)))])
        await store.stage_chunk(object_of(content), 0, forged)
    await store.commit_chunks()
    asked: list[object] = []
    monkeypatch.setattr(store._transfers._layouts, "of", asked.append)
    assert await store.wants(10) == []
    assert asked == []
    await store.close()


async def test_one_file_that_the_disk_does_not_let_go_of_keeps_no_other_from_being_freed(
    folder: Path, cast: Cast, caplog: pytest.LogCaptureFixture
) -> None:
    store = await open_store(folder)
    contents = [cast.content() for _ in range(3)]
    paths = []
    for place, content in enumerate(contents):
        statement = cast.statement(content)
        await store.add([statement])
        await stage_all(store, content)
        await store.commit_chunks()
        await store.add([cast.receipt(statement, place)])
        path = await store.object_path(object_of(content))
        assert path is not None
        paths.append(path)
    stuck = min(paths, key=lambda path: path.name)
    stuck.unlink()
    (stuck / "in the way").mkdir(parents=True)
    await store.free([object_of(content) for content in contents])
    assert [path for path in paths if path.exists()] == [stuck]
    (told,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert str(stuck) in told
    (stuck / "in the way").rmdir()
    stuck.rmdir()
    stuck.touch()
    await store.close()
    await (await open_store(folder)).close()
    assert not stuck.exists()


async def test_too_many_open_files_are_no_trouble_of_an_object(
    folder: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(folder)
    content = cast.content()
    await store.add([cast.statement(content)])
    await stage_all(store, content)
    await store.commit_chunks()

    def none_left(*_: object) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", none_left)
        with pytest.raises(StoreError):
            await store.read_chunk(object_of(content), 0)
    assert store.unreadable == frozenset()
    assert await store.read_chunk(object_of(content), 0) == content[:CHUNK]
    await store.close()


async def test_a_partial_file_that_is_gone_is_fetched_again(folder: Path, cast: Cast) -> None:
    store = await open_store(folder)
    content = cast.content()
    statement = cast.statement(content)
    await store.add([statement])
    await stage_all(store, content, [0, 1])
    await store.commit_chunks()
    await store.close()
    (partial,) = (folder / "partial").iterdir()
    partial.unlink()
    store = await open_store(folder)
    assert [want.missing for want in await store.wants(10)] == [0b1111]
    await stage_all(store, content)
    assert await store.commit_chunks() == [statement.id]
    await store.close()


async def test_a_chunk_is_read_in_the_instant_in_which_its_object_becomes_whole(
    folder: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue says that it lies in a partial file, and that is gone by the time it is opened."""
    store = await open_store(folder)
    content = cast.content()
    statement = cast.statement(content)
    await store.add([statement])
    await stage_all(store, content, [0, 1])
    await store.commit_chunks()
    loop = asyncio.get_running_loop()
    read = store._content.read_chunk
    asked: list[bytes | None] = []

    async def complete() -> None:
        await stage_all(store, content, [2, 3])
        assert await store.commit_chunks() == [statement.id]

    def read_late(object_id: ObjectId, layout: bytes | None, offset: int, length: int) -> bytes | None:
        asked.append(layout)
        if len(asked) == 1:
            asyncio.run_coroutine_threadsafe(complete(), loop).result(20)
        return read(object_id, layout, offset, length)

    monkeypatch.setattr(store._content, "read_chunk", read_late)
    assert await store.read_chunk(object_of(content), 1) == content[CHUNK : 2 * CHUNK]
    assert asked[0] is not None, "it was not whole when the catalogue was asked"
    assert (await only_bundle(store, statement))[0] is State.WAITING
    await store.close()


async def test_what_becomes_whole_while_the_catalogue_is_asked_is_held_all_the_same(
    opener: Opener, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a chunk of it stays behind in that visit."""
    store = await opener()
    assert isinstance(store, SqliteStore)
    contents = [cast.content() for _ in range(2)]
    for content in contents:
        await store.add([cast.statement(content)])
        await stage_all(store, content, [0, 1, 2])
    await store.commit_chunks()
    row = Database.row

    async def asked(database: Database, *arguments: Any) -> Any:
        """After the first question, the last chunk comes."""
        found = await row(database, *arguments)
        if contents:
            monkeypatch.setattr(Database, "row", row)
            await stage_all(store, contents[0], [3])
            await store.commit_chunks()
        return found

    monkeypatch.setattr(Database, "row", asked)
    assert await store.read_chunk(object_of(contents[0]), 1) == contents[0][CHUNK : 2 * CHUNK]
    del contents[0]
    monkeypatch.setattr(Database, "row", asked)
    assert len(await store.holdings([object_of(contents[0])])) == 1


async def test_opening_sweeps_what_a_crash_left(folder: Path, cast: Cast) -> None:
    store = await open_store(folder)
    content = cast.content()
    await store.add([cast.statement(content)])
    await stage_all(store, content, [0])
    await store.commit_chunks()
    await store.close()
    kept = files_below(folder)
    (folder / "partial" / f"{'ab' * 32}.{'01' * 8}").write_bytes(b"nobody's")
    (folder / "objects" / f".{'ab' * 32}.1234.tmp").write_bytes(b"half")
    await (await open_store(folder)).close()
    assert files_below(folder) == kept


@pytest.mark.parametrize("step", range(5))
async def test_a_crash_while_completing_loses_nothing(folder: Path, cast: Cast, step: int) -> None:
    """A process ends before each call that syncs or renames, in turn; what was committed before is there after."""
    store = await open_store(folder)
    content = cast.content()
    statement = cast.statement(content)
    await store.add([statement])
    await stage_all(store, content, [0, 1, 2])
    await store.commit_chunks()
    await store.close()
    process = get_context("spawn").Process(target=_complete_until, args=(folder, content, step))
    process.start()
    await asyncio.to_thread(process.join)
    assert process.exitcode == (CRASHED if step < CALLS_TO_COMPLETE else 0)
    store = await open_store(folder)
    assert (await only_bundle(store, statement))[1] >= 3 * CHUNK
    await stage_all(store, content)
    await store.commit_chunks()
    assert await only_bundle(store, statement) == (State.WAITING, len(content))
    assert await store.read_chunk(object_of(content), 0) == content[:CHUNK]
    await store.close()


CRASHED = 77
CALLS_TO_COMPLETE = 4
"""fdatasync of the partial file, fsync of objects/, rename, fsync of objects/ab/; the catalogue commits after them."""


def _complete_until(folder: Path, content: bytes, step: int) -> None:
    calls = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            if calls == step:
                os._exit(CRASHED)
            calls += 1
            return real(*arguments, **options)

        return call

    async def complete() -> None:
        store = await open_store(folder)
        for name in ("replace", "rename", "fsync", "fdatasync"):
            setattr(os, name, counted(getattr(os, name)))
        await stage_all(store, content, [3])
        await store.commit_chunks()
        os._exit(0)

    asyncio.run(complete())


async def test_who_only_looks_sees_all_without_reading_the_set(folder: Path, opener: Opener, cast: Cast) -> None:
    daemon = await opener()
    first, second = cast.statement(b"a"), cast.statement(b"b")
    await daemon.add([first])
    looking = await SqliteStore.open(
        folder, own=None, quota_bytes=1 << 30, quota_statements=1_000, storage_limit=None, looking=True
    )
    try:
        assert (len(looking.members), len(await looking.bundles())) == (0, 1)
        await daemon.add([second, make_revocations(cast.election, 1)])
        assert await looking.refresh() is Seen.RULES
        assert await looking.bundles() == await daemon.bundles()
        assert await looking.counts() == await daemon.counts()
    finally:
        await looking.close()


async def test_a_receiver_whose_disk_was_full_asks_for_content_again_when_there_is_room(
    tmp_path: Path, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is only asked what it misses: nothing else would have it look how much room there is."""
    free = 1 << 40
    monkeypatch.setattr(sqlite_module, "bytes_free", lambda _folder: free)
    store = await SqliteStore.open(
        tmp_path, own=None, quota_bytes=1 << 30, quota_statements=9, storage_limit=None, keeps_all=True
    )
    content = cast.content()
    try:
        await store.add([cast.statement(content)])
        free = 0
        await store.wants(1)
        assert await store.missing(object_of(content)) == 0
        free = 1 << 40
        await store.refresh()
        assert await store.missing(object_of(content)) == 0b1111
    finally:
        await store.close()
