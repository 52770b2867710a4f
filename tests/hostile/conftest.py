"""Waters to meet pirates in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.waters import Waters


@pytest.fixture
def waters(tmp_path: Path) -> Iterator[Waters]:
    """An election of the test's own; its daemons have to be well at the end."""
    with Waters(tmp_path, "hostile-2024") as waters:
        yield waters
