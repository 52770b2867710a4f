"""The receiver's bag: what its store lost is left out and named, and all else is in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.errors import Unreadable
from relay.receiver.exporting import Exporter
from relay.records.identifiers import ObjectId
from tests.factory import object_of
from tests.fleet import Fleet


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path / "fleet")
    yield fleet
    await fleet.close()


async def test_an_object_that_the_bucket_lost_is_left_out_and_named(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = await fleet.receiver()
    island = await fleet.launch("pulau-long")
    lost, *others = (fleet.content(1_000) for _ in range(3))
    await island.submit(lost, others[0])
    await island.submit(others[1], form="form-2")
    await island.visit(receiver)
    found = receiver.store.object_path

    async def object_path(object_id: ObjectId) -> Path | None:
        if object_id == object_of(lost):
            raise Unreadable("The bucket lost it", "Restore it.")
        return await found(object_id)

    monkeypatch.setattr(receiver.store, "object_path", object_path)
    bag = tmp_path / "bag"
    bagged = await Exporter(receiver.custody, receiver.member, bag, lambda *_: None).export()
    assert (bagged.entries, bagged.incomplete, bagged.unreadable) == (2, 0, (object_of(lost).hex(),))
    assert {one.name for one in (bag / "data/object").iterdir()} == {object_of(one).hex() for one in others}
    assert (bag / "manifest-sha256.txt").is_file()
