"""A growing Merkle tree over stored hashes: its right edge, and proofs. Pure.

`read(level, index)` is how stored hashes come in: the hash of the complete subtree of 2**level leaves at that index.
What it reads from is the caller's (`tiles`, a database, a list).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from relay.errors import Malformed
from relay.log.merkle import EMPTY_ROOT, HASH_SIZE, node_hash

Read = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree of `size` leaves: the roots of its complete subtrees, largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def extend(self, leaves: Iterable[bytes]) -> Frontier:
        """The frontier after appending leaf hashes; O(log n) memory, O(1) hashes a leaf on average."""
        size, edge = self.size, list(self.hashes)
        for leaf in leaves:
            edge.append(leaf)
            carry = size
            while carry & 1:
                right = edge.pop()
                edge[-1] = node_hash(edge[-1], right)
                carry >>= 1
            size += 1
        return Frontier(size, tuple(edge))

    def root(self) -> bytes:
        """The tree's root."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """Its bytes: the size in 8 bytes, big-endian, and the hashes."""
        return self.size.to_bytes(8) + b"".join(self.hashes)

    @staticmethod
    def from_bytes(data: bytes) -> Frontier:
        """Parse; no bytes at all are the empty tree. Raises `Malformed`."""
        if not data:
            return Frontier()
        size, rest = int.from_bytes(data[:8]), data[8:]
        if len(data) < 8 or len(rest) != size.bit_count() * HASH_SIZE:
            raise Malformed("The frontier of the log is damaged", "Rebuild it from the entries.")
        return Frontier(size, tuple(rest[at : at + HASH_SIZE] for at in range(0, len(rest), HASH_SIZE)))


def root_of(size: int, read: Read) -> bytes:
    """The root of the first `size` leaves."""
    return _range_root(0, size, read) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read: Read) -> tuple[bytes, ...]:
    """The path from leaf `index` to the root of the first `size` leaves (RFC 9162 §2.1.3.1). Raises `Malformed`."""
    if not 0 <= index < size:
        raise Malformed(f"Leaf {index} is not in a log of {size} entries", "Ask for an entry that exists.")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_root(middle, high, read))
            high = middle
        else:
            path.append(_range_root(low, middle, read))
            low = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, read: Read) -> tuple[bytes, ...]:
    """The proof that the first `new` leaves begin with the first `old` (RFC 9162 §2.1.4.1). Raises `Malformed`."""
    if not 0 <= old <= new:
        raise Malformed(f"A log does not shrink from {old} to {new}", "Ask for sizes in order.")
    if old in (0, new):
        return ()
    path: list[bytes] = []
    low, high, whole = 0, new, True
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            path.append(_range_root(middle, high, read))
            high = middle
        else:
            path.append(_range_root(low, middle, read))
            low = middle
            whole = False
    if not whole:
        path.append(_range_root(low, high, read))
    return tuple(reversed(path))


def _range_root(low: int, high: int, read: Read) -> bytes:
    size = high - low
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return read(level, low >> level)
    middle = low + _split(size)
    return node_hash(_range_root(low, middle, read), _range_root(middle, high, read))


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
