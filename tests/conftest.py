"""Fixtures that several rooms of tests share, and what continuous integration may not skip."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from relay.store.sqlite import SqliteStore
from tests.fleet import Beside, Fleet, Ship

# How long an example takes is this machine's affair, and no property of the code.
settings.register_profile("relay", deadline=None)
settings.load_profile("relay")

_INSTALLABLE = re.compile(r"apt-get install|pip install")


@pytest.fixture
async def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """An election whose nodes meet without sockets; greetings wait for a receiver's store on a busy machine, too."""
    monkeypatch.setattr("relay.sync.host.GREETED_REPLY_SECONDS", 30.0)
    fleet = Fleet(tmp_path)
    yield fleet
    await fleet.close()


@pytest.fixture
async def beside() -> AsyncIterator[Beside]:
    """Opens a node's store as another process would."""
    stores: list[SqliteStore] = []

    async def open_beside(ship: Ship) -> SqliteStore:
        folder = ship.folder / "store"
        stores.append(await SqliteStore.open(folder, own=None, quota_bytes=1, quota_statements=1, storage_limit=None))
        return stores[-1]

    yield open_beside
    for store in stores:
        await store.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a `slow` test first, then those with the most tests: where several workers take file by file, none is
    left alone with a long one at the end."""
    counts = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: (item.path not in slow, -counts[item.path]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With `CI` set, a test that is skipped for want of something that can be installed has failed, and so has one that
    is marked `ci`, whatever it wants: a skip that nobody reads would hide that it never runs."""
    report = yield
    reason = _reason(report.longrepr) if report.skipped and not hasattr(report, "wasxfail") else ""
    wanted = item.get_closest_marker("ci") is not None or _INSTALLABLE.search(reason)
    if reason and wanted and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} is not to be skipped here (CI is set; see .ci/run): {reason}"
    return report


def _reason(skipped: Any) -> str:
    return str(skipped[2]) if isinstance(skipped, tuple) else str(skipped)
