"""What an audit holds of what it reads ahead is bounded in bytes, on however many processors it judges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from relay.errors import Malformed, Refused
from relay.limits import AUDIT_RECEIPT, AUDIT_ROOM, MAX_CERTIFICATE, MAX_PROOF_PATH
from relay.net.source import Folder
from relay.receiver.auditing import Audit, Scope, read_checkpoint, read_notices
from relay.receiver.bundles import MAX_BUNDLE
from relay.receiver.ledger import Ledger
from relay.records.identifiers import Kind
from relay.together import Room
from relay.trust.admission import Admission
from tests.audit.published import Published
from tests.audit.test_audit import audited, forge, nothing, wrong

LONG = bytes(MAX_BUNDLE)


class Endless(Folder):
    """A log whose server has any number of bundles, each as long as one may be."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sent = 0

    async def read(self, path: str, limit: int) -> bytes:
        if not path.startswith("tile/"):
            return await super().read(path, limit)
        if not path.startswith("tile/entries/"):
            return bytes(limit)
        if limit < len(LONG):
            raise Malformed(f"{path} is over the limit of {limit} bytes")
        self.sent += len(LONG)
        return LONG


@pytest.mark.parametrize("jobs", [1, 64])
async def test_no_number_of_processors_makes_it_hold_more(
    log: Published, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging: list[int] = []

    @asynccontextmanager
    async def workers(*_: Any) -> AsyncIterator[Any]:
        def at_work(_judge: Any, _root: bytes, bundles: list[tuple[int, bytes, int]], _signatures: bool) -> Any:
            judging.append(len(bundles))
            return asyncio.get_running_loop().create_future()  # never judged

        yield at_work

    monkeypatch.setattr("relay.receiver.auditing._workers", workers)
    log.sign(10_000_000, bytes(32))
    source, admission = Endless(log.folder), Admission(log.election.root)
    for raw in await read_notices(source):
        admission.install(admission.admit(Kind.NOTICE, raw))
    signed = await read_checkpoint(source, admission)
    ledger = Ledger(None, log.election.root, signed.checkpoint.origin)
    running = asyncio.create_task(
        Audit(source, admission, signed, ledger, Scope(jobs=jobs), nothing, lambda: 0.0).run()
    )
    for _ in range(2_000):
        await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    ledger.close()
    assert judging
    assert source.sent <= AUDIT_ROOM


async def test_bundles_that_are_longer_than_expected_are_read_all_the_same(
    log: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.receiver.bundles.AUDIT_USUAL_BUNDLE", 100)
    monkeypatch.setattr("relay.receiver.bundles.AUDIT_GROUP_BYTES", 1)
    assert (await audited(log)).entries == 530
    forge(log, 300)
    assert "Entry 300 " in await wrong(log, "wrong-entry")


async def test_a_room_that_hardly_holds_one_bundle_is_enough(log: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    size = max(file.stat().st_size for file in (log.folder / "tile/entries").iterdir() if file.is_file())
    monkeypatch.setattr("relay.receiver.bundles.AUDIT_USUAL_BUNDLE", size)
    monkeypatch.setattr("relay.receiver.bundles.MAX_BUNDLE", size)
    monkeypatch.setattr("relay.receiver.bundles.AUDIT_GROUP_BYTES", 1)
    monkeypatch.setattr("relay.receiver.auditing.AUDIT_ROOM", 2 * size)
    async with asyncio.timeout(30):
        assert (await audited(log, Scope(jobs=1))).entries == 530


async def test_who_waits_longest_for_room_is_next() -> None:
    room, had = Room(10), []

    async def take(size: int) -> None:
        await room.take(size)
        had.append(size)

    await room.take(10)
    waiting = [asyncio.create_task(take(size)) for size in (10, 1, 2)]
    for given in (0, 9):
        room.give(given)
        for _ in range(5):
            await asyncio.sleep(0)
        assert had == [], "the small ones wait for the large one"
    for given, then in ((1, [10]), (1, [10, 1]), (2, [10, 1, 2])):
        room.give(given)
        for _ in range(5):
            await asyncio.sleep(0)
        assert had == then
    await asyncio.gather(*waiting)
    assert had == [10, 1, 2]


async def test_no_receipt_is_as_long_as_what_is_not_read(log: Published) -> None:
    assert MAX_CERTIFICATE + MAX_PROOF_PATH * 34 + 2_000 < AUDIT_RECEIPT
    log.put(f"receipt/{log.device.chain[7].hex()}", bytes(AUDIT_RECEIPT + 1))
    with pytest.raises(Refused, match=r"entry 7 is not right.*over the limit"):
        await audited(log)
