"""What other processes committed is taken in by the daemon, also when that fails at first."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from relay.errors import StoreError
from relay.node import daemon
from relay.node.contacts import Contacts
from relay.node.daemon import Daemon
from relay.store.interface import Seen


class Failing:
    """A custody whose store heard of a notice, and gives it when it is asked for the second time."""

    def __init__(self) -> None:
        self.seen = [Seen.RULES]
        self.loads: list[bool] = []
        self.rung = asyncio.Event()
        self.store: Any = self
        self.news = SimpleNamespace(ring=self.rung.set)

    async def changed(self, _seconds: float) -> None:
        """At once."""
        await asyncio.sleep(0)

    async def refresh(self) -> Seen:
        """Once."""
        return self.seen.pop() if self.seen else Seen.NOTHING

    async def load(self, *, notices: bool) -> None:
        """Fails once."""
        self.loads.append(notices)
        if len(self.loads) == 1:
            raise StoreError("The database has no connection left", "Wait.")

    async def rule(self) -> None:
        """Nothing to free."""


async def test_a_notice_that_could_not_be_loaded_is_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a revocation would not rule here before the next one."""
    monkeypatch.setattr(daemon, "REFRESH_SECONDS", 0.0)
    custody = Failing()
    itself = SimpleNamespace(custody=custody, configure=lambda _: None)
    taking = asyncio.create_task(Daemon.take_in_changes(cast(Daemon, itself), cast(Contacts, None)))
    async with asyncio.timeout(10):
        await custody.rung.wait()
    taking.cancel()
    assert custody.loads == [True, True]
