"""A dozen faults drawn at random, in CI: `python -m tests.cluster --faults N` has more of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.balancer import why_not
from tests.cluster.company import company
from tests.cluster.faults import Campaign
from tests.cluster.postgres import Postgres
from tests.cluster.swift import Swift

FAULTS = 12
SEED = 1


@pytest.mark.timeout(400)
async def test_promises_5_and_6_under_faults_drawn_at_random(postgres: Postgres, swift: Swift, tmp_path: Path) -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with company(tmp_path, postgres, swift) as receivers:
        tally = await Campaign(receivers, postgres, swift, SEED).run(FAULTS)
        print(tally.line())
