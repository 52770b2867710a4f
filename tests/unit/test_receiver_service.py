"""The sequencer at work: what it measures while its store fails, and when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from relay.errors import StoreError
from relay.limits import NOTICES_LOOK_SECONDS
from relay.node.daemon import Daemon
from relay.receiver.publishing import NOTICES, Publisher
from relay.receiver.sequencing import Sequencer
from relay.receiver.service import NoticeBoard, ReceiverLog, Sequencing
from relay.trust.witness import log_key
from tests.fleet import Clock, Fleet, Ship


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    await fleet.close()


class Batches:
    """A sequencer whose batches take so many seconds each: entries, or a failure where there are None. Then `over`."""

    def __init__(self, clock: Clock, *batches: tuple[float, int | None]) -> None:
        self.over = asyncio.Event()
        self._clock = clock
        self._left = list(batches)

    async def start(self) -> None:
        """Nothing to take up."""

    async def sequence(self) -> int:
        """The next batch."""
        if not self._left:
            self.over.set()
            return 0
        seconds, entries = self._left.pop(0)
        self._clock.now += seconds
        if entries is None:
            raise StoreError("The database does not commit", "Wait.")
        return entries


class Lead:
    """Which term of leading the store says it is."""

    term = 1


class Noted(Batches):
    """A sequencer that notes what is asked of it, and in which term."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.asked: list[tuple[str, int]] = []

    async def start(self) -> None:
        """The log is taken up."""
        self.asked.append(("start", Lead.term))

    async def publish(self) -> None:
        """What is not published yet is."""
        self.asked.append(("publish", Lead.term))

    async def tend(self) -> None:
        """What is published is looked after."""
        self.asked.append(("tend", Lead.term))


def sequencing_of(fleet: Fleet, receiver: Ship, sequencer: object) -> Sequencing:
    """A receiver that sequences by this sequencer."""
    daemon = SimpleNamespace(custody=receiver.custody, config=SimpleNamespace(listen="[::]:8470"))
    publisher = Publisher(receiver.store.shelf, log_key(receiver.member.identity))
    log, board = ReceiverLog(receiver.store, publisher), NoticeBoard(receiver.store, publisher, fleet.clock)
    return Sequencing(cast(Daemon, daemon), cast(Sequencer, sequencer), log, board, fleet.clock)


async def test_promise_6_who_lost_the_lead_and_has_it_again_takes_the_log_up_anew_before_it_publishes(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one may have led meanwhile: what was known of the log is older than what that one published."""
    receiver = await fleet.receiver()
    monkeypatch.setattr(Lead, "term", 1)
    monkeypatch.setattr(type(receiver.store), "term", property(lambda _: Lead.term))
    monkeypatch.setattr("relay.receiver.service.PUBLISH_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("relay.receiver.service.LOG_IDLE_SECONDS", 0.0)
    sequencer = Noted(fleet.clock)
    sequencing = sequencing_of(fleet, receiver, sequencer)
    await sequencing.begin()
    monkeypatch.setattr(Lead, "term", 2)
    publishing = asyncio.create_task(sequencing.publish())
    for _ in range(20):
        await asyncio.sleep(0)
    assert sequencer.asked == [("start", 1)]
    assert await sequencing._lead()
    async with asyncio.timeout(10):
        while len(sequencer.asked) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert sequencer.asked[:4] == [("start", 1), ("start", 2), ("publish", 2), ("tend", 2)]
    publishing.cancel()


async def failing(*_: object) -> None:
    """A shelf that is away."""
    raise StoreError("It is away", "Wait.")


async def test_notices_that_somebody_put_back_do_not_stay(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An old copy of them knows nothing of who was revoked since."""
    receiver = await fleet.receiver()
    board = NoticeBoard(receiver.store, Publisher(receiver.store.shelf, log_key(receiver.member.identity)), fleet.clock)
    file = receiver.folder / "public" / NOTICES
    await board.follow()
    right = file.read_bytes()
    file.write_bytes(b"older ones")
    await board.follow()
    assert file.read_bytes() == b"older ones", "it is not looked for all the time"
    for wrong in (b"older ones", None):
        fleet.clock.now += NOTICES_LOOK_SECONDS
        if wrong is None:
            file.unlink()
        await board.follow()
        assert file.read_bytes() == right
    assert caplog.text.count("somebody else wrote to the published files") == 2
    written = file.stat().st_ino
    fleet.clock.now += NOTICES_LOOK_SECONDS
    await board.follow()
    assert file.stat().st_ino == written, "nothing is written twice"
    file.write_bytes(b"older ones")
    fleet.clock.now += NOTICES_LOOK_SECONDS
    with monkeypatch.context() as away:
        away.setattr(Publisher, "publish_notices", failing)
        with pytest.raises(StoreError):
            await board.follow()
    await board.follow()
    assert file.read_bytes() == right, "where it fails it is tried again at once"


async def measured(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, *batches: tuple[float, int | None]) -> list[float]:
    """How long packages waited, by what a receiver says that sequences so."""
    for pause in ("LOG_IDLE_SECONDS", "LEAD_SECONDS", "LOG_BATCH_SECONDS"):
        monkeypatch.setattr(f"relay.receiver.service.{pause}", 0.0)
    receiver = await fleet.receiver()
    sequencer = Batches(fleet.clock, *batches)
    sequencing = sequencing_of(fleet, receiver, sequencer)
    noted: list[float] = []
    monkeypatch.setattr(sequencing.measures.receipts, "note", noted.append)
    running = asyncio.create_task(sequencing.run())
    await asyncio.wait_for(sequencer.over.wait(), 30)
    running.cancel()
    return noted


async def test_what_waited_through_commits_that_failed_is_measured_from_when_it_came(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await measured(fleet, monkeypatch, (20.0, None), (20.0, None), (0.5, 3)) == [40.5]


async def test_what_came_while_a_batch_was_under_way_waited_since_that_began(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await measured(fleet, monkeypatch, (2.0, 3), (1.0, None), (1.0, 2)) == [2.0, 4.0]


async def test_nothing_waits_once_all_is_logged(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await measured(fleet, monkeypatch, (5.0, None), (3_600.0, 0), (0.5, 1)) == [0.5]
