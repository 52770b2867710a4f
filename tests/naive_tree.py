"""Merkle trees by their definition (RFC 9162 §2.1): slow, over lists of leaf hashes, for tests to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256


def leaves_of(size: int) -> list[bytes]:
    """Leaf hashes of a tree, every one different."""
    return [sha256(b"\x00leaf %d" % number).digest() for number in range(size)]


def root(leaves: Sequence[bytes]) -> bytes:
    """MTH(D[n]) (§2.1.1)."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()


def inclusion(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]) (§2.1.3.1)."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*inclusion(index, leaves[:k]), root(leaves[k:])]
    return [*inclusion(index - k, leaves[k:]), root(leaves[:k])]


def consistency(old: int, leaves: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b) (§2.1.4.1)."""
    if old == len(leaves):
        return [] if whole else [root(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*consistency(old, leaves[:k], whole=whole), root(leaves[k:])]
    return [*consistency(old - k, leaves[k:], whole=False), root(leaves[:k])]


def split(size: int) -> int:
    """The largest power of two smaller than `size`."""
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def reader(leaves: Sequence[bytes]) -> Callable[[int, int], bytes]:
    """Complete subtrees over the leaves; an `IndexError` for one that is not complete."""

    def read(level: int, index: int) -> bytes:
        first, last = index << level, (index + 1) << level
        if not 0 <= first < last <= len(leaves):
            raise IndexError(f"subtree {index} of level {level}")
        return root(leaves[first:last])

    return read
