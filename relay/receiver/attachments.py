"""What belongs to the entries of a published log: a receipt for each, and the objects that they name.

The second half of an audit (`auditing`): the entries themselves were checked, and the ledger has their tree. A receipt
has to be signed, and to prove its entry in this very log; an object has to be there, whole. Both are fetched one by
one, some at once, and the ledger notes how far this is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
from itertools import takewhile
from typing import TypeVar

from relay.errors import Malformed, NotHeld, Refused
from relay.limits import (
    AUDIT_COMMIT,
    AUDIT_RECEIPT,
    AUDIT_RECEIPTS,
    AUDIT_ROOM,
    AUDIT_SIZES,
    KIB,
    MAX_FILE,
    SOURCE_STREAMS,
)
from relay.log.checkpoint import Checkpoint
from relay.log.tiles import WIDTH
from relay.net.source import Source
from relay.receiver.ledger import Ledger
from relay.records.identifiers import StatementId
from relay.together import Room, in_order
from relay.trust.admission import Admission
from relay.trust.auditing import Fault, Proved

T = TypeVar("T")
Entries = Sequence[tuple[int, StatementId]]
Lack = Fault | NotHeld | None
"""What is wrong with the receipt after those that are right, or that there is none; or nothing."""
JudgeReceipts = Callable[
    [int, Sequence[StatementId], bytes, Sequence[bytes]], Awaitable[tuple[list[Proved], Fault | None]]
]
"""Judges receipts: see `relay.trust.auditing.judge_receipts`."""
Progress = Callable[[str, int, int], None]
"""Told what is being checked, how much of it is done, and how much there is."""


def wrong(reason: str, what: str) -> Refused:
    """What an audit raises for a fault of the log."""
    return Refused(reason, what, "Keep what was served as evidence, and tell the election office and the public.")


class Attachments:
    """Checks what the entries in `ledger` name, against `source`."""

    def __init__(
        self, source: Source, admission: Admission, ledger: Ledger, shown: int | None, progress: Progress
    ) -> None:
        """`shown`: how many entries the site shows; None where those of all must be there."""
        self.unpublished: int | None = None
        """The first entry that is not published yet."""
        self.lack = ""
        """What of it is not."""
        self._shown = shown
        self._sizes: dict[bytes, int] = {}
        self._signer = b""
        """The certificate of the receipt that was looked at last."""
        self._root: tuple[int, bytes] = (-1, b"")
        self._source = source
        self._admission = admission
        self._ledger = ledger
        self._progress = progress
        self.missized = 0
        """Objects, of those that were checked, of which a signer gave another size: his fault, and not the log's."""

    async def check_receipts(self, head: Checkpoint, judge: JudgeReceipts, ahead: int) -> int:
        """Check the receipts of the entries whose were not checked before; how many. `head` is the log's. Up to `ahead`
        batches are under way at once, and are taken in order."""
        before = checked = self._ledger.cursor("receipts")
        total = self._ledger.count("entries", "entry", before)
        batches = self._receipts(judge, ahead)
        try:
            async for first, proved, fault in batches:
                entry = self._compare_all(first, proved, fault, head)
                checked = entry - 1
                self._progress("receipts", checked - before, total)
                if isinstance(fault, NotHeld):
                    if not self._may_come(entry):
                        raise wrong("missing-receipt", f"Entry {entry} has no receipt: {fault.what}") from fault
                    self._leave(entry, fault.what)
                    break
                if checked - self._ledger.cursor("receipts") >= AUDIT_COMMIT * WIDTH:
                    self._note("receipts", [checked])
        finally:
            await batches.aclose()
            self._note("receipts", [checked])
        return checked - before

    def _receipts(self, judge: JudgeReceipts, ahead: int) -> AsyncGenerator[tuple[int, list[Proved], Lack]]:
        """The first entry of each batch, what its receipts prove, and what is wrong with the one after those."""
        room = Room(AUDIT_ROOM)

        async def one(batch: Entries) -> tuple[int, list[Proved], Lack]:
            first, names = batch[0][0], [name for _, name in batch]
            held = len(names) * AUDIT_RECEIPT
            await room.take(held)
            try:
                found = await self._source.read_all([f"receipt/{name.hex()}" for name in names], AUDIT_RECEIPT)
                raws = [raw for raw in takewhile(lambda raw: isinstance(raw, bytes), found) if isinstance(raw, bytes)]
                there, size = len(raws), sum(map(len, raws))
                room.give(held - size)
                held = size
                proved, fault = await judge(first, names[:there], self._ledger.leaves(first, there), raws)
            finally:
                room.give(held)
            if fault is not None or there == len(batch):
                return first, proved, fault
            return first, proved, _absence(first + there, found[there])

        return in_order(map(one, self._batches()), ahead)

    def _batches(self) -> Iterator[Entries]:
        after = self._ledger.cursor("receipts")
        while batch := self._ledger.entry_ids(after + 1, AUDIT_RECEIPTS):
            after = batch[-1][0]
            yield batch

    def _compare_all(self, entry: int, proved: Sequence[Proved], fault: Lack, head: Checkpoint) -> int:
        """Take a batch, from this entry on; the first entry after it of which there is no receipt."""
        for some in proved:
            self._compare(entry, some, head)
            entry += some.count
        if isinstance(fault, Fault):
            raise wrong("wrong-receipt", f"The receipt of entry {entry} is not right: {fault.why}")
        return entry

    def _compare(self, entry: int, proved: Proved, head: Checkpoint) -> None:
        """Hold receipts that are right, from this entry's on, against the log as it was hashed here."""
        if proved.certificate != self._signer:
            try:
                self._admission.identify(proved.certificate)  # it may be revoked
            except Refused as error:
                raise wrong("wrong-receipt", f"The receipt of entry {entry} is not right: {error.what}") from error
            self._signer = proved.certificate
        if proved.size > head.size:
            raise wrong(
                "wrong-receipt", f"The receipt of entry {entry} is of a log of {proved.size} entries: there is none"
            )
        if proved.size != self._root[0]:
            self._root = proved.size, self._ledger.root_of(proved.size)
        if proved.root != self._root[1]:
            raise wrong("split-view", f"The receipt of entry {entry} is of another log than the one that is shown")

    async def check_objects(self) -> tuple[int, int]:
        """Check the objects that were not checked before; how many, and their bytes."""
        ledger, done, moved = self._ledger, 0, 0
        total = ledger.count("objects", "number", ledger.cursor("objects"))
        while batch := ledger.objects(ledger.cursor("objects"), SOURCE_STREAMS):
            found = await _all_of([self._check_object(entry, name, size) for _, entry, name, size in batch])
            there = sum(1 for _ in takewhile(lambda lack: lack is None, found))
            done += there
            moved += sum(size for *_, size in batch[:there])
            self._note("objects", [number for number, *_ in batch[:there]])
            self._progress("objects", done, total)
            if there < len(batch) and (lack := found[there]) is not None:
                self._leave(batch[there][1], lack)
                break
        return done, moved

    def _note(self, what: str, numbers: Sequence[int]) -> None:
        if numbers:
            with self._ledger.step():
                self._ledger.move(what, numbers[-1])

    def _may_come(self, entry: int) -> bool:
        """Whether the site is not as far as this entry yet."""
        return self._shown is not None and entry >= self._shown

    def _leave(self, entry: int, lack: str) -> None:
        """Leave this entry, and those after it, to the next audit."""
        if self.unpublished is None or entry < self.unpublished:
            self.unpublished, self.lack = entry, lack

    async def _check_object(self, entry: int, name: bytes, size: int) -> str | None:
        """Check an object, which many entries may name: it is fetched once. What is missing, where it is not published
        yet."""
        if name in self._sizes:
            self.missized += self._sizes[name] != size
            return None
        try:
            digest, found = await self._source.digest(f"object/{name.hex()}", MAX_FILE + 64 * KIB)
        except NotHeld as error:
            if self._may_come(entry):
                return error.what
            raise wrong("missing-object", f"An object of entry {entry} is missing: {error.what}") from error
        if digest != name:
            raise wrong("wrong-object", f"object/{name.hex()} of entry {entry} is not what was signed")
        self.missized += found != size
        if len(self._sizes) >= AUDIT_SIZES:
            self._sizes.clear()
        self._sizes[name] = found
        return None


def _absence(entry: int, found: bytes | NotHeld | Malformed) -> Fault | NotHeld:
    """Why there is no receipt of this entry to be judged: it is not there, or too long to be one."""
    assert not isinstance(found, bytes)
    return found if isinstance(found, NotHeld) else Fault(entry, found.what)


async def _all_of(work: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """The results of all, in order; of several that fail, the first one's failure, so that the same log always has the
    same first fault."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
