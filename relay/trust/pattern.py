"""Receipts that one receiver wrote side by side, read by what they have in common. Pure.

The receipts of one tree differ in nothing but their statement's id, its leaf hash, the inclusion proof and the
signature, which stand at the same places. So after one was read by the rules (`relay.records.receipt`), another one
that is the same byte for byte, but for an id and a leaf hash of the same length and a proof that is spelled as it has
to be, keeps those rules as well: it needs no reading. Any other one is no fault, but has to be read.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.log.merkle import HASH_SIZE
from relay.records.cose import SIGNATURE_SIZE
from relay.records.encoding import encode
from relay.records.identifiers import StatementId
from relay.records.receipt import Receipt

_STEP = HASH_SIZE + 2
"""Bytes of a hash of a proof's path, behind its head. All that stands before the path is shorter."""
_DETACHED = b"\xf6\x58\x40"
"""What stands between a proof and the signature: no payload, and the head of a string of 64 bytes."""
_TAIL = len(_DETACHED) + SIGNATURE_SIZE


@dataclass(frozen=True, slots=True)
class Fitting:
    """What a receipt says that fits a pattern, besides what it has to say: header, path of its proof, signature."""

    protected: bytes
    path: tuple[bytes, ...]
    signature: bytes


class ReceiptPattern:
    """What other receipts have in common with this one, which was read."""

    def __init__(self, receipt: Receipt) -> None:
        raw, protected = receipt.raw, receipt.envelope.protected
        name = receipt.statement.hex().encode()
        self.size = receipt.inclusion.size
        self._begin = raw.index(protected)
        self._end = self._begin + len(protected)
        # The first such word is the subject's end: names are shorter. After the leaf hash there is only the size.
        named = self._begin + protected.index(name)
        hashed = self._begin + protected.rindex(receipt.leaf)
        self._before = raw[:named]
        self._between = raw[named + len(name) : hashed]
        self._after = raw[hashed + HASH_SIZE : -_TAIL].removesuffix(
            _proof(self.size, receipt.entry, receipt.inclusion.path)
        )

    def fit(self, raw: bytes, statement: StatementId, leaf: bytes, entry: int) -> Fitting | None:
        """What this receipt says, if it is of this statement and entry and has the pattern; None where it has to be
        read."""
        common = b"".join((self._before, statement.hex().encode(), self._between, leaf, self._after))
        path, signature = _path(raw[len(common) : -_TAIL]), raw[-SIGNATURE_SIZE:]
        if b"".join((common, _proof(self.size, entry, path), _DETACHED, signature)) != raw:
            return None
        return Fitting(common[self._begin : self._end], path, signature)


def _proof(size: int, entry: int, path: tuple[bytes, ...]) -> bytes:
    """An inclusion proof as it stands in a receipt."""
    return encode(encode([size, entry, path]))


def _path(proof: bytes) -> tuple[bytes, ...]:
    """Its path, if this is a proof."""
    return tuple([proof[at - HASH_SIZE : at] for at in range(len(proof) % _STEP + _STEP, len(proof) + 1, _STEP)])
