"""The services that the cluster's tests stand on are real, and end and come back as their tests are told."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from obstore.exceptions import BaseError, PermissionDeniedError
from obstore.store import S3Store

from tests.boxes import free_port
from tests.cluster.balancer import balancer
from tests.cluster.balancer import why_not as why_no_balancer
from tests.cluster.postgres import Postgres
from tests.cluster.swift import Swift
from tests.processes import Failed, eventually


def store(swift: Swift, bucket: str) -> S3Store:
    """A client that gives up soon."""
    return S3Store(
        bucket,
        endpoint=swift.endpoint,
        region=swift.region,
        access_key_id=swift.access_key,
        secret_access_key=swift.secret_key,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=1)},
    )


async def committed_row(url: str) -> asyncpg.Connection:
    """A connection to a database that has just acknowledged one row, and began another."""
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE entries (number bigint PRIMARY KEY)")
    await connection.execute("INSERT INTO entries VALUES (1)")
    await connection.execute("BEGIN; INSERT INTO entries VALUES (2)")
    return connection


@pytest.mark.parametrize("end", [Postgres.stop, Postgres.kill], ids=["stopped", "killed"])
async def test_postgres_comes_back_with_what_was_committed(
    postgres: Postgres, database: str, end: Callable[[Postgres], None]
) -> None:
    connection = await committed_row(database)
    end(postgres)
    try:
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await asyncpg.connect(database, timeout=5)
    finally:
        postgres.start()
    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        await connection.close(timeout=1)

    connection = await asyncpg.connect(database)
    assert [row["number"] for row in await connection.fetch("SELECT number FROM entries")] == [1]
    await connection.close()


async def test_a_killed_postgres_leaves_no_process(postgres: Postgres, database: str) -> None:
    connection = await asyncpg.connect(database)
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    postmaster = postgres.process.pid
    assert Path(f"/proc/{backend}").exists()
    postgres.kill()
    try:
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (postmaster, backend)), 5, "all ended")
    finally:
        postgres.start()
        connection.terminate()


async def test_postgres_syncs_and_does_not_run_as_root(postgres: Postgres, database: str) -> None:
    connection = await asyncpg.connect(database)
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert await connection.fetchval(f"SHOW {setting}") == "on"
    await connection.close()
    assert Path(f"/proc/{postgres.process.pid}").stat().st_uid != 0


async def test_each_test_has_its_database_empty_and_to_itself(postgres: Postgres, database: str) -> None:
    before = await committed_row(database)
    assert postgres.emptied_database() == database
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await before.fetch("SELECT number FROM entries")
    assert postgres.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == ["0"]


def test_databases_and_buckets_are_fresh(postgres: Postgres, swift: Swift) -> None:
    fresh = postgres.fresh_database()
    for database in (postgres.emptied_database(), fresh):
        postgres.execute("CREATE TABLE entries ()", database)
    assert swift.fresh_bucket() != swift.fresh_bucket()


def test_psql_says_what_is_wrong(postgres: Postgres) -> None:
    with pytest.raises(Failed, match="nothing_here"):
        postgres.execute("SELECT * FROM nothing_here")


def test_objects_are_put_read_listed_and_deleted(swift: Swift, bucket: str) -> None:
    objects = store(swift, bucket)
    content = os.urandom(100_000)
    for name in ("tile/0/001", "tile/0/002", "entry/1"):
        objects.put(name, content, attributes={"Cache-Control": "public, immutable"})

    found = objects.get("tile/0/001")
    assert bytes(found.bytes()) == content
    assert found.attributes["Cache-Control"] == "public, immutable"
    assert bytes(objects.get_range("tile/0/001", start=10, length=5)) == content[10:15]
    assert objects.head("entry/1")["size"] == len(content)
    assert [entry["path"] for entry in objects.list("tile/0").collect()] == ["tile/0/001", "tile/0/002"]
    assert objects.list_with_delimiter()["common_prefixes"] == ["entry", "tile"]

    objects.put("entry/1", b"newer")
    assert bytes(objects.get("entry/1").bytes()) == b"newer"
    objects.delete(["entry/1", "tile/0/002", "never/was"])
    assert [entry["path"] for entry in objects.list().collect()] == ["tile/0/001"]
    with pytest.raises(FileNotFoundError):
        objects.head("entry/1")


def test_a_large_object_arrives_in_parts(swift: Swift, bucket: str) -> None:
    objects = store(swift, bucket)
    content = os.urandom(12 << 20)
    objects.put("object/large", content)
    assert bytes(objects.get("object/large").bytes()) == content
    assert objects.head("object/large")["e_tag"] != objects.put("object/small", b"x")["e_tag"]
    assert [entry["path"] for entry in objects.list().collect()] == ["object/large", "object/small"]


def test_no_put_is_conditional(swift: Swift, bucket: str) -> None:
    objects = store(swift, bucket)
    with pytest.raises(BaseError, match="NotImplemented"):
        objects.put("checkpoint", b"1", mode="create")


def test_a_wrong_secret_is_refused(swift: Swift, bucket: str) -> None:
    stranger = S3Store(
        bucket,
        endpoint=swift.endpoint,
        region=swift.region,
        access_key_id=swift.access_key,
        secret_access_key="guessed",
        client_options={"allow_http": True},
    )
    with pytest.raises(PermissionDeniedError):
        stranger.put("checkpoint", b"1")


def test_the_environment_is_all_that_a_client_needs(swift: Swift, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in swift.environment(bucket).items():
        monkeypatch.setenv(name, value)
    S3Store().put("checkpoint", b"1")
    assert bytes(store(swift, bucket).get("checkpoint").bytes()) == b"1"


def test_swift_goes_away_and_comes_back_with_what_was_put(swift: Swift, bucket: str) -> None:
    objects = store(swift, bucket)
    objects.put("tile/0/000", b"before")
    swift.stop()
    try:
        with pytest.raises(BaseError):
            objects.put("tile/0/001", b"meanwhile")
    finally:
        swift.start()
    objects.put("tile/0/002", b"after")
    assert bytes(objects.get("tile/0/000").bytes()) == b"before"
    assert [entry["path"] for entry in objects.list().collect()] == ["tile/0/000", "tile/0/002"]


class Receiver:
    """Something that takes connections and says which port it is, until it is closed."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    connection.sendall(str(self.port).encode())

    def close(self) -> None:
        """Take no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def answer(port: int) -> int:
    """Which receiver takes a connection to this port."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        return int(connection.recv(10))


def test_the_balancer_shares_and_leaves_out_the_dead(tmp_path: Path) -> None:
    reason = why_no_balancer()
    if reason is not None:
        pytest.skip(reason)
    one, other = Receiver(), Receiver()
    never = free_port()
    try:
        with balancer(tmp_path, [one.port, other.port, never]) as haproxy:
            eventually(lambda: haproxy.up() == {one.port, other.port}, 5, "both are up")
            assert {answer(haproxy.port) for _ in range(4)} == {one.port, other.port}
            other.close()
            # From the first moment on: a refused connection goes to the next.
            assert {answer(haproxy.port) for _ in range(4)} == {one.port}
            eventually(lambda: haproxy.up() == {one.port}, 5, "the dead one is found")
            haproxy.stop()
            with pytest.raises(OSError, match="refused"):
                answer(haproxy.port)
            haproxy.start()
            assert answer(haproxy.port) == one.port
    finally:
        one.close()
        other.close()
