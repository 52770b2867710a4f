"""The place for the site's files fails for a moment: the site goes on with what it has, and is not opened anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from relay.cli.demo.election import example_stations
from relay.errors import StoreError
from relay.limits import SITE_RETRY_SECONDS
from relay.records.notice import Register
from relay.store.shelf import FRESH, FolderShelf
from relay.store.sqlite import SqliteStore
from tests.site.election import BATUN, BUPATI, GUBERNUR, KETAPANG, LONG, PublicElection, turn
from tests.site.test_site import files

ISLANDERS = [one for one in example_stations() if one.tps in (LONG, BATUN, KETAPANG)]


class Failing(FolderShelf):
    """A folder that fails after so many calls, while `left` is not negative."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.left = -1
        self.reading = False
        """Whether it fails at reading, and not at writing."""
        self.calls: list[str] = []

    async def write(
        self, path: str, content: bytes, content_type: str, cache: str = FRESH, *, durable: bool = False
    ) -> None:
        """See `Shelf`."""
        self._call(path, now=not self.reading)
        await super().write(path, content, content_type, cache, durable=durable)

    async def read(self, path: str) -> bytes | None:
        """See `Shelf`."""
        self._call(path, now=self.reading)
        return await super().read(path)

    def _call(self, path: str, *, now: bool) -> None:
        if now and self.left == 0:
            raise StoreError("The bucket is away", "Look after it.")
        self.left -= now
        self.calls.append(path)


@pytest_asyncio.fixture
async def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PublicElection]:
    """A large election: each district has its table. Of three stations, one has sent nothing yet."""
    monkeypatch.setattr("relay.web.site.register.SITE_WHOLE_FORMS", 0)
    made = PublicElection(tmp_path, ISLANDERS)
    made.shelf = Failing(made.public)
    try:
        await made.open()
        for tps in (LONG, BATUN):
            await made.submit(tps)
        await made.publish()
        await made.site.write_tables()
        await made.site.settle()
        yield made
    finally:
        await made.close()


def shelf(election: PublicElection) -> Failing:
    """What fails."""
    assert isinstance(election.shelf, Failing)
    return election.shelf


async def arrive(election: PublicElection) -> None:
    """A device numbers what it reports as it did before, which shows at what came before; another one corrects."""
    await election.submit(LONG, GUBERNUR, seq=1)
    await election.submit(BATUN, supersedes=election.device(BATUN).chain[0])
    assert election.receiver.log is not None
    await election.receiver.log.sequencer.sequence()


def refuse_to_open(monkeypatch: pytest.MonkeyPatch, election: PublicElection) -> None:
    """The site is not to be opened anew."""
    monkeypatch.setattr(election.site, "open", None)


@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize("left", [0, 1, 2, 4, 6, 8, 11, 15, 20, 26, 33])
async def test_what_could_not_be_written_is_made_up_for(
    failing: PublicElection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    left: int,
    *,
    reading: bool,
) -> None:
    await failing.reopen()
    await failing.site.write_tables()
    await arrive(failing)
    shelf(failing).reading = reading
    shelf(failing).left = left
    with monkeypatch.context() as patch:
        refuse_to_open(patch, failing)
        failed = await turn(failing) == SITE_RETRY_SECONDS
        assert failed or left > (6 if reading else 11)
        shelf(failing).left = -1
        shelf(failing).calls.clear()
        await turn(failing)
        assert failing.site.entries == 4
        assert "a fault of the program" not in caplog.text
        assert failing.document("site.json")["entries"] == 4
        assert not [one for one in shelf(failing).calls if one.startswith("region/190607")], "nothing changed there"
    await failing.publish()
    await failing.site.write_tables()
    right = files(failing.public)
    await failing.reopen(anew=True)
    await failing.publish()
    await failing.site.write_tables()
    assert right == files(failing.public)


async def test_a_revocation_that_could_not_be_shown_is_shown_then(
    failing: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_to_open(monkeypatch, failing)
    await failing.revoke(1, failing.device(LONG))
    for reading in (True, False):
        failing.site._documents.drop()
        shelf(failing).reading, shelf(failing).left = reading, 0
        assert await turn(failing) == SITE_RETRY_SECONDS
        assert failing.flags(LONG) == []
    shelf(failing).left = -1
    await turn(failing)
    assert failing.flags(LONG) == ["device-revoked"]


async def test_damage_found_when_reading_failed_is_not_forgotten(failing: PublicElection) -> None:
    await failing.reopen()
    (failing.public / f"tps/{BATUN}/{BUPATI}.json").write_bytes(b"")
    await arrive(failing)
    shelf(failing).left = 4  # receipts and statements, and not the note of the damage
    assert await turn(failing) == SITE_RETRY_SECONDS
    assert failing.site.again == range(2)
    shelf(failing).left = -1
    await turn(failing)
    await failing.publish()
    assert failing.document("region/index.json")["sums"]["arrived"] == 3
    assert failing.result(BATUN)["corrected"]


async def test_the_site_is_opened_anew_when_another_receiver_may_have_led(
    failing: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though this one leads again before anybody asked."""
    opened: list[str] = []
    open_ = failing.site.open

    async def open_site(*known: object, **more: object) -> None:
        opened.append("")
        await open_(*known, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(failing.site, "open", open_site)
    await turn(failing)
    assert opened == []
    monkeypatch.setattr(SqliteStore, "term", 2)
    await turn(failing)
    assert opened == [""]
    await turn(failing)
    assert opened == [""]


async def test_another_register_that_could_not_be_laid_out_is_then(failing: PublicElection) -> None:
    stations = [replace(one, registered_voters=7) for one in ISLANDERS]
    failing.stations = {one.tps: one for one in stations}
    await failing.receiver.take(failing.fleet.publish(Register((GUBERNUR, BUPATI), tuple(stations)), 2))
    shelf(failing).left = 20
    assert await turn(failing) == SITE_RETRY_SECONDS
    assert not failing.keeper.is_open
    shelf(failing).left = -1
    await turn(failing)
    await failing.publish()
    assert failing.document("region/index.json")["sums"]["flagged"] == 2
