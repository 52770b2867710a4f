"""The SQLite database of a store: one connection that writes and one that reads beside it, through aiosqlite.

Commits are synced before they return (WAL, `synchronous = FULL`): promise 5. A transaction belongs to one coroutine
at a time, and to one process at a time; or to all who came with a function to `write` while the one before it was
synced: on election night many write at once, and a sync takes the same time for all of them. Errors of SQLite leave
here as `StoreError` with advice.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import aiosqlite

from relay.errors import DiskFull, StoreError
from relay.limits import BUSY_SECONDS, LEAST_ROOM
from relay.store.durable import bytes_free
from relay.store.schema import check_readable, prepare

Row: TypeAlias = sqlite3.Row
T = TypeVar("T")

_CACHE_KIB = 8 * 1024
_LARGE_CACHE_KIB = 32 * 1024
_LARGE_WAL_PAGES = 16_000
"""Of a catalogue as large as an election: what a batch changes lies all over it, and stays in memory until its commit;
it goes from the write-ahead log to its place together with what some more batches change there."""
_SETTINGS: dict[str, Any] = {"timeout": BUSY_SECONDS, "isolation_level": None, "cached_statements": 256}


class Connection(aiosqlite.Connection):
    """A connection, and the thread that it lives in."""

    async def begin(self) -> None:
        """Connect. When that fails, the thread has ended: it must not speak to a loop that is closed meanwhile."""
        try:
            await self
        except BaseException:
            await asyncio.to_thread(self._thread.join)
            raise

    async def run(self, work: Callable[..., T], *parameters: object) -> T:
        """Call `work(connection, *parameters)` in the connection's thread: all that it does costs one way there."""
        result: T = await self._execute(  # type: ignore[no-untyped-call]
            lambda: work(self._conn, *parameters)
        )
        return result


@dataclass(frozen=True, slots=True)
class _Job:
    """Something to be written, and who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]


class Database:
    """The database at `path`, open."""

    def __init__(self, path: Path, writer: Connection, reader: Connection) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._writing = asyncio.Lock()
        self._jobs: list[_Job] = []
        self._together: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, path: Path, *, known: bool = False, reading: bool = False, large: bool = False) -> Database:
        """Open or make the database. Raises `StoreError`: of another version, damaged, unusable; `known` and empty.

        `reading` leaves the disk as it is: nothing can be written then. `large` is for a receiver's, which grows.
        """
        connect = partial(_connect_to_read, path) if reading else partial(_connect, path, known)
        connect_to_write = partial(_connect_large, path, known) if large and not reading else connect
        with _explained(path):
            writer = Connection(connect_to_write, iter_chunk_size=1_000)
            await writer.begin()
            try:
                reader = Connection(connect, iter_chunk_size=1_000)
                await reader.begin()
            except BaseException:
                await writer.close()
                raise
        return cls(path, writer, reader)

    async def close(self) -> None:
        """Close both connections, after the transaction that may be under way."""
        async with self._writing:
            await self._reader.close()
            await self._writer.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction: on the disk when it is left, or, when it is left by an error, as if it never was."""
        async with self._writing:
            with _explained(self._path):
                # A cancelled caller does not stop what the connection's thread has begun: its end is waited for, so
                # that no transaction stays open behind the lock.
                try:
                    await _to_its_end(self._writer, "BEGIN IMMEDIATE")
                    yield self._writer
                    await _to_its_end(self._writer, "COMMIT")
                finally:
                    if self._writer.in_transaction:
                        await _to_its_end(self._writer, "ROLLBACK")

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` returns, once what it wrote is on the disk; an error in it leaves nothing of it behind.

        It runs in the connection's thread, in one transaction with what others write at the same time, each as if it
        were alone. It runs to its end even if the caller is cancelled.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda future: future.cancelled() or future.exception())  # the caller may be gone
        self._jobs.append(_Job(work, done))
        if len(self._jobs) == 1:
            task = asyncio.create_task(self._write_together())
            self._together.add(task)
            task.add_done_callback(self._together.discard)
        with _explained(self._path):
            return await asyncio.shield(done)

    async def _write_together(self) -> None:
        async with self._writing:
            jobs, self._jobs = self._jobs, []
            try:
                outcomes = await self._writer.run(_in_one_transaction, [job.work for job in jobs])
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the callers' error, every one's
                outcomes = [(None, error)] * len(jobs)
        for job, (result, failure) in zip(jobs, outcomes, strict=True):
            if failure is not None:
                job.done.set_exception(failure)
            elif not job.done.done():
                job.done.set_result(result)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` finds in what is committed, as it is at one moment (while somebody reads a `stream`, when that
        began): for several queries, one way to the connection's thread and back."""
        with _explained(self._path):
            return await self._reader.run(_at_one_moment, work)

    async def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """The rows of a query over what is committed."""
        with _explained(self._path):
            return list(await self._reader.execute_fetchall(sql, parameters))

    async def stream(self, sql: str, parameters: Sequence[object] = ()) -> AsyncIterator[Row]:
        """The rows of a query one by one: where all of them would take much memory."""
        with _explained(self._path):
            async with self._reader.execute(sql, parameters) as cursor:
                async for row in cursor:
                    yield row

    async def row(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        """The first row of a query, or None."""
        rows = await self.rows(sql, parameters)
        return rows[0] if rows else None

    async def foreign_changes(self) -> int:
        """A number that changes when another process commits (`PRAGMA data_version`), not by our own commits."""
        async with self._writing:
            with _explained(self._path):
                ((version,),) = await self._writer.execute_fetchall("PRAGMA data_version")
                return int(version)


def _in_one_transaction(
    connection: sqlite3.Connection, works: Sequence[Callable[[sqlite3.Connection], Any]]
) -> list[tuple[Any, BaseException | None]]:
    """The result or the error of each work. Raises what concerns them all: no lock, no commit.

    The first one has nothing before it that its error must leave: it needs no savepoint, within which SQLite copies
    each page before it is changed.
    """
    outcomes: list[tuple[Any, BaseException | None]] = []
    try:
        connection.execute("BEGIN IMMEDIATE")
        for place, work in enumerate(works):
            if place:
                connection.execute("SAVEPOINT work")
            try:
                outcomes.append((work(connection), None))
            except Exception as error:
                if not connection.in_transaction:  # SQLite gave the whole transaction up: a full disk
                    raise
                connection.execute("ROLLBACK TO work" if place else "ROLLBACK")
                outcomes.append((None, error))
                if not place:
                    connection.execute("BEGIN IMMEDIATE")
            if place:
                connection.execute("RELEASE work")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return outcomes


def _at_one_moment(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        if connection.in_transaction:  # SQLite gives it up itself when the disk fails
            connection.execute("COMMIT")


async def _to_its_end(connection: aiosqlite.Connection, command: str) -> None:
    """Run a command, and wait for its end even if the caller is cancelled meanwhile."""
    running = asyncio.ensure_future(connection.execute_fetchall(command))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _connect_large(path: Path, known: bool) -> sqlite3.Connection:
    with _closed_on_error(_connect(path, known, _LARGE_CACHE_KIB)) as connection:
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LARGE_WAL_PAGES}")
    return connection


def _connect(path: Path, known: bool, cache: int = _CACHE_KIB) -> sqlite3.Connection:
    with _closed_on_error(sqlite3.connect(path, **_SETTINGS)) as connection:
        prepare(connection, path, known=known)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{cache}")
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    # Without a write-ahead log there is nothing that SQLite would have to lock, and no place where it could.
    unlogged = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    uri = f"{path.absolute().as_uri()}?mode=ro{unlogged}"
    with _closed_on_error(sqlite3.connect(uri, uri=True, **_SETTINGS)) as connection:
        check_readable(connection, path)
    return connection


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _told(error, path) from error
    except ValueError as error:
        if str(error) not in ("Connection closed", "no active connection"):  # what aiosqlite says
            raise
        raise StoreError("The store is closed", "The node is stopping; try again when it runs.") from error


def _told(error: sqlite3.Error, path: Path) -> StoreError:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the primary code of SQLite's extended ones
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(
                f"The store is locked by another process ({path})",
                "Wait until the other relay command has ended, then try again.",
            )
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreError(
                f"The store's catalogue is damaged ({path}: {error})",
                "Keep the folder as it is for the election office, and join again in a new one to go on.",
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return StoreError(
                f"The store cannot be opened ({path}: {error})", "Check the folder, its owner and its disk."
            )
        case sqlite3.SQLITE_IOERR if _has_no_room(path):  # what it says of its index in shared memory, and of a sync
            return _full(path)
        case sqlite3.SQLITE_IOERR:
            return StoreError(f"The disk fails ({path}: {error})", "Check the disk before you start this node again.")
        case _:
            return StoreError(f"The store cannot do this ({path}: {error})", "Run `relay doctor`, and report it.")


def _full(path: Path) -> DiskFull:
    return DiskFull(f"The disk is full ({path})", "Free some space; what was acknowledged is safe.")


def _has_no_room(path: Path) -> bool:
    try:
        return bytes_free(path.parent) < LEAST_ROOM
    except StoreError:
        return False
