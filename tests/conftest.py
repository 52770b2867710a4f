"""Fixtures that several rooms of tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fleet import Fleet


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """An election whose nodes meet without sockets."""
    fleet = Fleet(tmp_path)
    yield fleet
    await fleet.close()
