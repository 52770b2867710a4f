"""One published log for all tests of the audit, copied for each."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest

from tests.audit.published import Published


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A log of 530 entries in three batches; three of the first have objects."""
    log = Published.make(tmp_path_factory.mktemp("published") / "public")
    dice = log.election.dice
    log.publish([log.say(dice.randbytes(1_000 + number), dice.randbytes(70_000)).raw for number in range(3)])
    log.publish([log.say().raw for _ in range(300)])
    log.publish([log.say().raw for _ in range(227)])
    return log


@pytest.fixture
def log(original: Published, tmp_path: Path) -> Published:
    """A copy of it, to be altered."""
    mine = copy.deepcopy(original.device.chain)
    shutil.copytree(original.folder, tmp_path / "public")
    device = type(original.device)(original.device.identity, original.device.key, mine)
    return Published(
        tmp_path / "public",
        original.election,
        original.receiver,
        device,
        list(original.notices),
        list(original.raws),
        original.tail,
    )
