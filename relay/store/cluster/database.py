"""PostgreSQL, through asyncpg: a pool of connections, transactions that are tried again, errors in a user's words.

A commit is on the disk of the server when it returns (`synchronous_commit`, its default): promise 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import asyncpg

from relay.errors import StoreError
from relay.limits import DATABASE_CONNECTIONS, DATABASE_SECONDS, LOCK_SECONDS, TRANSACTION_IDLE_SECONDS
from relay.store.cluster.schema import SESSIONS, check, migrate, prepare

T = TypeVar("T")
Work = Callable[[Any], Awaitable[T]]

_AGAIN = (asyncpg.exceptions.DeadlockDetectedError, asyncpg.exceptions.SerializationError)
_TRIES = 5
_TROUBLE = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.exceptions.InternalClientError,  # what a connection says that was lost in the middle of a transaction
    OSError,
    TimeoutError,
)
_ADVICE = "Check that PostgreSQL runs and that `database` in config.toml is right; relay goes on when it is back."
_ALIVE = {
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": str(int(LOCK_SECONDS * 1_000)),
}
"""A server that can no longer reach us ends our session, and with it our locks, within eight seconds."""
_PROMPT = {
    "idle_in_transaction_session_timeout": str(int(TRANSACTION_IDLE_SECONDS * 1_000)),
    "lock_timeout": str(int(LOCK_SECONDS * 1_000)),
}
"""A process that hangs in the middle of a transaction, whose kernel goes on answering, loses it and its locks; who
waits for these waits a little longer than that."""
_END_HUNG = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = 'relay'
    AND pid <> pg_backend_pid() AND state = 'active' AND wait_event = 'ClientRead'
    AND state_change < now() - make_interval(secs => $1)
"""
"""Of a process that hangs when it has sent half of what makes a statement, PostgreSQL waits for the rest without a
limit, and holds its locks: to it such a session is neither idle nor at work. Who was kept waiting by it ends it."""
_WORKS, _WATCHES = SESSIONS
_OLDEST = 14
"""`idle_session_timeout` came with it: without that, nobody follows a leader that hangs."""


class Database:
    """A database, reached at `url`."""

    def __init__(self, url: str, pool: Any) -> None:
        self.url = url
        self._pool = pool
        self.failures = 0
        """Calls that it did not answer as it should."""

    @classmethod
    async def open(cls, url: str) -> Database:
        """Connect; make the tables of an empty database. Raises `StoreError`, also for one of another version."""
        with explained():
            async with _connected(url, DATABASE_SECONDS) as connection:
                await prepare(connection)
            pool = await asyncpg.create_pool(
                url,
                min_size=0,  # kept up by asyncpg, one that cannot be would be told as a fault of the program
                max_size=DATABASE_CONNECTIONS,
                timeout=DATABASE_SECONDS,
                command_timeout=DATABASE_SECONDS,
                server_settings={"application_name": _WORKS, **_ALIVE, **_PROMPT},
                init=check,
                reset=_leave,
            )
        return cls(url, pool)

    async def close(self) -> None:
        """Let go of the connections."""
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                await self._pool.close()
        except _TROUBLE:
            self._pool.terminate()

    async def commit(self, work: Work[T]) -> T:
        """Do `work` with a connection in one transaction (`READ COMMITTED`), durable on return.

        It is done again when another transaction stood in its way. Raises `StoreError`; then nothing was changed, or,
        when the connection was lost during the commit itself, all of it.
        """
        with self._explained():
            for left in reversed(range(_TRIES)):
                try:
                    async with self._pool.acquire() as connection, connection.transaction():
                        return await work(connection)
                except _AGAIN:
                    if not left:
                        raise
                except asyncpg.LockNotAvailableError:
                    await self._pool.execute(_END_HUNG, TRANSACTION_IDLE_SECONDS)
                    raise
        raise AssertionError

    async def read(self, work: Work[T]) -> T:
        """What `work` finds with a connection, as it is at one moment (`REPEATABLE READ`)."""
        with self._explained():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await work(connection)

    async def rows(self, sql: str, *parameters: object) -> list[Any]:
        """All rows of a query."""
        with self._explained():
            return list(await self._pool.fetch(sql, *parameters))

    async def row(self, sql: str, *parameters: object) -> Any:
        """The first row of a query, or None."""
        with self._explained():
            return await self._pool.fetchrow(sql, *parameters)

    async def stream(self, sql: str, *parameters: object) -> AsyncIterator[Any]:
        """The rows of a query, some at a time."""
        with self._explained():
            async with self._pool.acquire() as connection, connection.transaction(readonly=True):
                async for row in connection.cursor(sql, *parameters, prefetch=2_000):
                    yield row

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained():
                yield
        except StoreError as error:
            self.failures += isinstance(error.__cause__, _TROUBLE)
            raise


async def bring_up_to_date(url: str) -> None:
    """Bring the database at `url` to this version of the schema: what a receiver does before it starts, and nothing
    else. Receivers of an older version lose it. Raises `StoreError`."""
    with explained():
        async with _connected(url, None) as connection:
            await migrate(connection)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection of its own, beside the pool."""
    with explained():
        connection = await connect(url)
        try:
            yield connection
        finally:
            connection.terminate()


async def connect(url: str) -> Any:
    """Connect beside the pool. Raises what asyncpg raises, and `StoreError` for a database of another version."""
    connection = await _connect(url, _WATCHES, DATABASE_SECONDS)
    try:
        await check(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


@asynccontextmanager
async def _connected(url: str, patience: float | None) -> AsyncIterator[Any]:
    """A connection that is let in whatever the schema is."""
    connection = await _connect(url, "relay schema", patience)
    try:
        _check_version(connection)
        yield connection
    finally:
        connection.terminate()


async def _connect(url: str, name: str, patience: float | None) -> Any:
    settings = {"application_name": name, **_ALIVE}
    return await asyncpg.connect(url, timeout=DATABASE_SECONDS, command_timeout=patience, server_settings=settings)


@contextmanager
def explained() -> Iterator[None]:
    """Within it, trouble with the database is a `StoreError`."""
    try:
        yield
    except asyncpg.exceptions.DiskFullError as error:
        raise StoreError("The disk of the database is full", "Give PostgreSQL more room.") from error
    except (*_TROUBLE, ValueError, OverflowError) as error:  # the last two are URLs that name no database, or no port
        raise StoreError(f"The database does not do as it is asked ({_in_words(error)})", _ADVICE) from error


async def _leave(_connection: Any) -> None:
    """What a connection needs before the next one has it: nothing. A transaction that was left open asyncpg ends by
    itself, and beyond its transaction nothing here changes a session; asked to be reset each time, the server would be
    gone to twice for each query."""


def _check_version(connection: Any) -> None:
    found = connection.get_server_version().major
    if found < _OLDEST:
        raise StoreError(
            f"The database is PostgreSQL {found}, and receivers that share one need {_OLDEST} or newer",
            "Upgrade PostgreSQL; nothing was changed.",
        )


def _in_words(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text.splitlines()[0][:200]
