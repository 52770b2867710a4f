"""A disk that does not give one photograph: all else is published, and the photograph when it can be read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from relay.records.identifiers import ObjectId, sha256
from relay.web.site import service
from tests.site.election import BATUN, LONG, PublicElection, object_name, picture, turn

LOST, OTHER = picture("lost"), picture("other", 5)


async def photographed(election: PublicElection) -> Path:
    """Two stations hand in a photograph each; the file of the first one's, before the site has seen it."""
    await election.submit(LONG, photographs=[LOST])
    await election.submit(BATUN, photographs=[OTHER])
    path = await election.receiver.store.object_path(ObjectId(sha256(LOST)))
    assert path is not None
    return path


def vanish(path: Path) -> Callable[[], None]:
    """The file is gone; what brings it back."""
    aside = path.rename(path.with_name("aside"))
    return lambda: cast(None, aside.rename(path))


def fail(path: Path) -> Callable[[], None]:
    """The file is there and cannot be read; what makes it well."""
    aside = path.rename(path.with_name("aside"))
    path.mkdir()

    def mend() -> None:
        path.rmdir()
        aside.rename(path)

    return mend


def published(election: PublicElection, content: bytes) -> bool:
    """Whether the public finds this photograph."""
    file = election.public / "object" / object_name(content)
    return file.is_file() and file.read_bytes() == content


@pytest.mark.parametrize("spoil", [vanish, fail])
@pytest.mark.parametrize("restarts", [False, True])
async def test_a_photograph_that_cannot_be_read_keeps_nothing_else_from_being_published(
    election: PublicElection, spoil: Callable[[Path], Callable[[], None]], *, restarts: bool
) -> None:
    lost = ObjectId(sha256(LOST))
    mend = spoil(await photographed(election))
    assert await election.publish() == 2
    assert election.receiver.store.unreadable == {lost}
    assert (published(election, LOST), published(election, OTHER)) == (False, True)
    assert election.result(LONG)["state"] == "result"
    await election.site.settle()
    if restarts:
        await election.reopen()
    assert await election.publish() == 2
    assert not published(election, LOST)
    mend()
    assert await election.receiver.store.reread() == 1
    await election.publish()
    assert published(election, LOST)
    assert election.site.has_unsettled
    await election.site.settle()
    assert election.document("settled.json")["lacking"] == []


async def test_what_cannot_be_read_is_not_tried_again_and_again(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failing disk takes seconds to say so."""
    tried: list[Path] = []
    fail(await photographed(election))
    await election.publish()
    monkeypatch.setattr(service, "type_of_file", tried.append)
    await election.publish()
    assert tried == []


async def test_a_fault_of_the_program_ends_the_site_s_turn_and_not_the_receiver(
    election: PublicElection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(election.site, "add", None)
    await photographed(election)
    assert election.receiver.log is not None
    await election.receiver.log.sequencer.sequence()
    assert await turn(election)
    assert "a fault of the program" in caplog.text
    monkeypatch.undo()
    assert await turn(election) is not None
    assert election.site.entries == 2
