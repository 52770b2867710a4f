"""What other processes committed is taken in: also when that fails at first, and before a greeting."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest

from relay.errors import StoreError
from relay.node import daemon
from relay.node.contacts import Contacts
from relay.node.daemon import Daemon
from relay.records.identifiers import Kind
from relay.store.interface import Seen, Store
from relay.sync import custody as module
from relay.sync.custody import Custody
from relay.trust.admission import Admission
from relay.trust.roles import Role
from tests.factory import make_revocations
from tests.fleet import Beside, Fleet, Ship


class Hearing:
    """A store that heard of a notice, and says so when it may."""

    def __init__(self) -> None:
        self.seen = [Seen.RULES]
        self.may_tell = asyncio.Event()
        self.may_tell.set()

    async def changed(self, _seconds: float) -> None:
        """At once."""
        await asyncio.sleep(0)

    async def refresh(self) -> Seen:
        """Once."""
        await self.may_tell.wait()
        return self.seen.pop() if self.seen else Seen.NOTHING


class Failing(Custody):
    """It can read the notice when it tries for the second time."""

    def __init__(self) -> None:
        self.hearing = Hearing()
        super().__init__(cast(Admission, None), cast(Store, self.hearing))
        self.loads: list[bool] = []

    async def load(self, *, notices: bool = True) -> None:
        """Fails once."""
        self.loads.append(notices)
        if len(self.loads) == 1:
            raise StoreError("The database has no connection left", "Wait.")


async def test_a_notice_that_could_not_be_loaded_is_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a revocation would not rule here before the next one."""
    monkeypatch.setattr(daemon, "REFRESH_SECONDS", 0.0)
    custody = Failing()
    itself = SimpleNamespace(custody=custody, configure=lambda _: None)
    taking = asyncio.create_task(Daemon.take_in_changes(cast(Daemon, itself), cast(Contacts, None)))
    assert await custody.news.wait(0, 10) == 1
    taking.cancel()
    assert custody.loads == [True, True]


async def test_a_greeting_does_not_wait_for_what_fails_or_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves nothing out, or half done, for that."""
    custody = Failing()
    monkeypatch.setattr(module, "GREETED_SECONDS", 0.01)
    custody.hearing.may_tell.clear()
    for _ in range(3):
        await custody.take_in_before_greeting()
    assert custody.loads == []
    custody.hearing.may_tell.set()
    await custody.close()
    assert custody.loads == [True], "it went on alone, and failed"
    await custody.take_in_before_greeting()
    assert custody.loads == [True, True]
    assert custody.news.count == 1


async def test_a_look_goes_on_when_the_visitor_that_caused_it_is_gone(fleet: Fleet, beside: Beside) -> None:
    """Else what follows a commit would be left out: a revoked island's statement would still be offered."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    statement = await island.submit(fleet.content())
    await boat.visit(island)
    await (await beside(boat)).add([make_revocations(fleet.election, 1, island.node)])
    greeting = asyncio.create_task(boat.custody.take_in_before_greeting())
    committed = asyncio.Event()
    write = boat.store._database.write

    async def write_and_tell(*arguments: Any) -> Any:
        found = await write(*arguments)
        committed.set()
        await asyncio.sleep(0)
        return found

    with patch.object(boat.store._database, "write", write_and_tell):
        await committed.wait()
        greeting.cancel()
        await boat.custody.close()
    assert (Kind.STATEMENT, statement) not in boat.store.members


@pytest.mark.parametrize("island_visits", [True, False])
async def test_what_is_handed_over_as_a_boat_comes_in_goes_with_it(
    fleet: Fleet,
    beside: Beside,
    island_visits: bool,
) -> None:
    """A command handed it over; the daemon did not look since."""
    island, boat = await fleet.launch("pulau-long"), await fleet.carrier("km-bahari")
    command = Ship(
        island.node,
        island.election,
        Custody(Admission(fleet.election.root), await beside(island)),
        fleet.clock,
        island.folder,
    )
    statement = await command.submit(fleet.content())
    assert island.custody.news.count == 0
    if island_visits:
        await island.custody.take_in_before_greeting()  # as `Contacts` does
        await island.visit(boat)
    else:
        await boat.visit(island)
    assert await boat.state(statement) is not None
    assert island.custody.news.count > 0


async def test_a_receiver_greets_its_many_visitors_as_it_is(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, boat = await fleet.receiver(), await fleet.carrier("km-bahari")
    assert receiver.greeting().role is Role.RECEIVER
    looks: list[None] = []

    async def look() -> Seen:
        looks.append(None)
        return Seen.NOTHING

    monkeypatch.setattr(receiver.store, "refresh", look)
    await boat.visit(receiver)
    assert looks == []
