"""Writing together: one transaction for all who come while another one is synced, and each as if it were alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.errors import StoreError
from relay.store.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """An empty one."""
    database = await Database.open(tmp_path / "catalogue.db")
    yield database
    await database.close()


class Note:
    """Writes a note; remembers in which transaction, by the changes that were made in it before."""

    def __init__(self, key: str, wrong: Exception | None = None) -> None:
        self._key = key
        self._wrong = wrong
        self.saw: list[str] = []

    def __call__(self, db: sqlite3.Connection) -> str:
        self.saw = [row[0] for row in db.execute("SELECT key FROM notes ORDER BY key")]
        db.execute("INSERT INTO notes VALUES (?, '')", (self._key,))
        if self._wrong is not None:
            raise self._wrong
        return self._key


async def kept(database: Database) -> list[str]:
    """The notes that were committed."""
    return [row[0] for row in await database.rows("SELECT key FROM notes ORDER BY key")]


async def test_those_who_come_together_share_a_commit(database: Database, tmp_path: Path) -> None:
    commits: list[str] = []
    async with database.transaction() as db:
        await db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
        works = [asyncio.create_task(database.write(Note(str(number)))) for number in range(5)]
        await asyncio.sleep(0)  # all of them wait for this transaction
    assert await asyncio.gather(*works) == ["0", "1", "2", "3", "4"]
    assert len(commits) == 2, "this transaction's, and one for the five"
    assert await kept(database) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("failing", ["a", "ab", "ac", "abc"])
async def test_the_first_that_fails_takes_nobody_with_it(database: Database, failing: str) -> None:
    """It has no savepoint of its own: its transaction is begun anew, and is that of all the others."""
    commits: list[str] = []
    works = {key: Note(key, ValueError(key) if key in failing else None) for key in "abc"}
    async with database.transaction() as db:
        await db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    results = await asyncio.gather(*(database.write(work) for work in works.values()), return_exceptions=True)
    assert [isinstance(result, ValueError) for result in results] == [key in failing for key in works]
    written = [key for key in works if key not in failing]
    assert [result for result in results if isinstance(result, str)] == written
    for key, work in works.items():
        assert work.saw == [one for one in written if one < key]
    assert await kept(database) == written
    assert len(commits) == 2, "the one above, and one for the three"


@pytest.mark.parametrize("wrong", [StoreError("No", "Never."), ValueError("a fault"), sqlite3.IntegrityError("twice")])
async def test_one_that_fails_leaves_nothing_and_harms_nobody(database: Database, wrong: Exception) -> None:
    works = [Note("a"), Note("b", wrong), Note("c")]
    results = await asyncio.gather(*(database.write(work) for work in works), return_exceptions=True)
    assert results[0::2] == ["a", "c"]
    assert isinstance(results[1], StoreError if isinstance(wrong, sqlite3.Error) else type(wrong))
    assert works[2].saw == ["a"], "what failed is gone before the next one writes"
    assert await kept(database) == ["a", "c"]


async def test_a_caller_that_is_cancelled_is_not_waited_for_and_its_work_is_done(database: Database) -> None:
    async with database.transaction():
        gone = asyncio.create_task(database.write(Note("gone")))
        stays = asyncio.create_task(database.write(Note("stays")))
        await asyncio.sleep(0)
        gone.cancel()
    assert await stays == "stays"
    assert gone.cancelled()
    assert await kept(database) == ["gone", "stays"]


async def test_several_queries_see_what_was_committed_at_one_moment(database: Database, tmp_path: Path) -> None:
    await database.write(Note("before"))
    other = sqlite3.connect(tmp_path / "catalogue.db", check_same_thread=False)

    def look_twice(db: sqlite3.Connection) -> list[int]:
        counts = [db.execute("SELECT count(*) FROM notes").fetchone()[0]]
        other.execute("INSERT INTO notes VALUES ('between', '')")
        other.commit()
        return [*counts, db.execute("SELECT count(*) FROM notes").fetchone()[0]]

    assert await database.read(look_twice) == [1, 1]
    other.close()
    assert await kept(database) == ["before", "between"]


async def test_what_fails_while_it_is_read_says_what_failed_and_keeps_nothing_open(database: Database) -> None:
    def given_up(db: sqlite3.Connection) -> None:
        db.rollback()  # as SQLite does when the disk fails
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
        raise error

    def wrong(_: sqlite3.Connection) -> None:
        raise KeyError("wrong")

    with pytest.raises(StoreError, match="disk"):
        await database.read(given_up)
    with pytest.raises(KeyError):
        await database.read(wrong)
    await database.write(Note("after"))
    assert await database.read(lambda db: db.execute("SELECT key FROM notes").fetchall()) != []


async def test_a_closed_store_says_so_to_all(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "catalogue.db")
    await database.close()
    results = await asyncio.gather(*(database.write(Note(key)) for key in "ab"), return_exceptions=True)
    assert [type(result) for result in results] == [StoreError, StoreError]
