"""The `lab` of a test in network namespaces. Its users are marked `netns`, and skipped where there can be none."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.harness import Lab, why_not


@pytest.fixture(scope="session")
def no_lab() -> str | None:
    """Why there can be no lab on this machine, if so."""
    return why_not()


@pytest.fixture
def lab(no_lab: str | None, tmp_path: Path) -> Iterator[Lab]:
    """An empty world of hosts and links, gone after the test."""
    if no_lab is not None:
        pytest.skip(no_lab)
    with Lab(tmp_path / "lab") as lab:
        yield lab


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that uses a lab."""
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.netns)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Show what the processes said beside a failure."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(lab, Lab):
        report.sections += lab.report()
    return report
