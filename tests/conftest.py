"""Fixtures that several rooms of tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fleet import Fleet

# How long an example takes is this machine's affair, and no property of the code.
settings.register_profile("relay", deadline=None)
settings.load_profile("relay")


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """An election whose nodes meet without sockets."""
    fleet = Fleet(tmp_path)
    yield fleet
    await fleet.close()
