"""What belongs to the entries of a published log: a receipt for each, and the objects that they name.

The second half of an audit (`auditing`): the entries themselves were checked, and the ledger has their tree. A receipt
has to be signed, and to prove its entry in this very log; an object has to be there, whole. Both are fetched one by
one, some at once, and the ledger notes how far this is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import takewhile
from typing import TypeVar

from relay.errors import Malformed, NotHeld, Refused
from relay.limits import AUDIT_COMMIT, AUDIT_SIZES, KIB, MAX_FILE, MAX_RECORD, SOURCE_STREAMS
from relay.log.checkpoint import Checkpoint
from relay.log.merkle import HASH_SIZE, root_from_inclusion
from relay.log.tiles import WIDTH, TileId
from relay.net.source import Source
from relay.receiver.ledger import Ledger
from relay.records.identifiers import Kind, StatementId
from relay.records.receipt import Receipt
from relay.trust.admission import Admission

T = TypeVar("T")
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
        self._shown = shown
        self._sizes: dict[bytes, int] = {}
        self._source = source
        self._admission = admission
        self._ledger = ledger
        self._progress = progress
        self.missized = 0
        """Objects, of those that were checked, of which a signer gave another size: his fault, and not the log's."""

    async def check_receipts(self, head: Checkpoint) -> int:
        """Check the receipts of the entries whose were not checked before; how many. `head` is the log's."""
        ledger, done = self._ledger, 0
        roots: dict[int, bytes] = {}
        total = ledger.count("entries", "entry", ledger.cursor("receipts"))
        while batch := ledger.entry_ids(ledger.cursor("receipts") + 1, AUDIT_COMMIT):
            receipts = await _all_of([self._receipt(entry, statement) for entry, statement in batch])
            there = list(takewhile(lambda receipt: receipt is not None, receipts))
            for (entry, _), receipt in zip(batch, there, strict=False):
                assert receipt is not None
                self._compare(entry, receipt, head, roots)
            done += len(there)
            self._note("receipts", [entry for entry, _ in batch[: len(there)]])
            self._progress("receipts", done, total)
            if len(there) < len(batch):
                self._leave(batch[len(there)][0])
                break
        return done

    async def _receipt(self, entry: int, statement: StatementId) -> Receipt | None:
        """The receipt of an entry, if its signature is right; None where it is not published yet."""
        path = f"receipt/{statement.hex()}"
        try:
            body = self._admission.admit(Kind.RECEIPT, await self._source.read(path, MAX_RECORD)).body
        except NotHeld as error:
            if self._may_come(entry):
                return None
            raise wrong("missing-receipt", f"Entry {entry} has no receipt: {error.what}") from error
        except (Malformed, Refused) as error:
            raise wrong("wrong-receipt", f"The receipt of entry {entry} is not right: {error.what}") from error
        assert isinstance(body, Receipt)
        if body.statement != statement:
            raise wrong("wrong-receipt", f"{path} is the receipt of another statement")
        return body

    def _compare(self, entry: int, receipt: Receipt, head: Checkpoint, roots: dict[int, bytes]) -> None:
        """Hold a receipt whose signature is right against the log as it was hashed here."""
        proof = receipt.inclusion
        leaf = self._ledger.tile(TileId(0, entry // WIDTH))[entry % WIDTH * HASH_SIZE :][:HASH_SIZE]
        if proof.index != entry or receipt.leaf != leaf:
            raise wrong("wrong-receipt", f"The receipt of entry {entry} proves another entry")
        if proof.size > head.size:
            raise wrong(
                "wrong-receipt", f"The receipt of entry {entry} is of a log of {proof.size} entries: there is none"
            )
        if proof.size not in roots:
            roots.clear()  # receipts of one batch share their tree, and stand side by side
            roots[proof.size] = self._ledger.root_of(proof.size)
        if root_from_inclusion(leaf, proof.index, proof.size, proof.path) != roots[proof.size]:
            raise wrong("split-view", f"The receipt of entry {entry} is of another log than the one that is shown")

    async def check_objects(self) -> tuple[int, int]:
        """Check the objects that were not checked before; how many, and their bytes."""
        ledger, done, moved = self._ledger, 0, 0
        total = ledger.count("objects", "number", ledger.cursor("objects"))
        while batch := ledger.objects(ledger.cursor("objects"), SOURCE_STREAMS):
            found = await _all_of([self._check_object(entry, name, size) for _, entry, name, size in batch])
            there = sum(1 for _ in takewhile(bool, found))
            done += there
            moved += sum(size for *_, size in batch[:there])
            self._note("objects", [number for number, *_ in batch[:there]])
            self._progress("objects", done, total)
            if there < len(batch):
                self._leave(batch[there][1])
                break
        return done, moved

    def _note(self, what: str, numbers: Sequence[int]) -> None:
        if numbers:
            with self._ledger.step():
                self._ledger.move(what, numbers[-1])

    def _may_come(self, entry: int) -> bool:
        """Whether the site is not as far as this entry yet."""
        return self._shown is not None and entry >= self._shown

    def _leave(self, entry: int) -> None:
        """Leave this entry, and those after it, to the next audit."""
        self.unpublished = entry if self.unpublished is None else min(entry, self.unpublished)

    async def _check_object(self, entry: int, name: bytes, size: int) -> bool:
        """Check an object; False where it is not published yet. Many entries may name one: it is fetched once."""
        if name in self._sizes:
            self.missized += self._sizes[name] != size
            return True
        try:
            digest, found = await self._source.digest(f"object/{name.hex()}", MAX_FILE + 64 * KIB)
        except NotHeld as error:
            if self._may_come(entry):
                return False
            raise wrong("missing-object", f"An object of entry {entry} is missing: {error.what}") from error
        if digest != name:
            raise wrong("wrong-object", f"object/{name.hex()} of entry {entry} is not what was signed")
        self.missized += found != size
        if len(self._sizes) >= AUDIT_SIZES:
            self._sizes.clear()
        self._sizes[name] = found
        return True


async def _all_of(work: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """The results of all, in order; of several that fail, the first one's failure, so that the same log always has the
    same first fault."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
