"""The services of a cluster, one of each for all tests of a session: each test has an empty database and bucket.

Whoever stops or kills a service starts it again. Their data is outside pytest's folders, which are kept for days.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import postgres as postgresql
from tests.cluster import swift as s3
from tests.cluster.company import Company
from tests.cluster.postgres import Postgres
from tests.cluster.swift import Swift


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL."""
    reason = postgresql.why_not()
    if reason is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="relay-postgres-") as folder, postgresql.postgres(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def swift() -> Iterator[Swift]:
    """A running S3 endpoint."""
    with tempfile.TemporaryDirectory(prefix="relay-s3-") as folder:
        reason = s3.why_not(Path(folder))
        if reason is not None:
            pytest.skip(reason)
        with s3.swift(Path(folder)) as endpoint:
            yield endpoint


@pytest.fixture
def database(postgres: Postgres) -> str:
    """The URL of an empty database, nobody else's while the test runs."""
    return postgres.emptied_database()


@pytest.fixture
def bucket(swift: Swift) -> str:
    """The name of an empty bucket of this test's own."""
    return swift.fresh_bucket()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show what the services said beside a failure."""
    report = yield
    if report.failed:
        for service in getattr(item, "funcargs", {}).values():
            if isinstance(service, Postgres | Swift | Company):
                report.sections += service.report()
    return report
