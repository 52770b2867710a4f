"""Merkle tree hashing and proofs (RFC 9162 §2.1, the tree of RFC 6962). Pure.

Lives here: the arithmetic that a stranger repeats to check the log. Does not live here: where hashes are kept
(`tree`, `tiles`) and who signs a root (`checkpoint`). Guards promises 6 and 8.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from relay.errors import Malformed, Refused

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf: SHA-256 of 0x00 and the entry's bytes."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256 of 0x01 and its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root of a tree of `size` leaves that `path` (lowest first) leads to from `leaf` at `index` (§2.1.3.2).

    The root binds the leaf, and `index` only together with `size`: the same path may lead to the same root from another
    place in a tree of another size. Whoever relies on a place needs the size from elsewhere: a checkpoint.

    Raises `Malformed` for an index outside the tree, a path of the wrong length, or what is not a hash.
    """
    if not 0 <= index < size:
        raise Malformed(f"An inclusion proof is for leaf {index} of a tree of {size}")
    _check_hashes(leaf, *path)
    position, last = index, size - 1
    root = leaf
    for sibling in path:
        if last == 0:
            raise Malformed("An inclusion proof is too long")
        if position & 1 or position == last:
            root = node_hash(sibling, root)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            root = node_hash(root, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise Malformed("An inclusion proof is too short")
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """Check that `leaf` is at `index` of the tree of `size` leaves with this root. Raises `Malformed` or `Refused`."""
    if root_from_inclusion(leaf, index, size, path) != root:
        raise Refused("not-in-log", f"An inclusion proof does not lead from leaf {index} to the root of the log")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check that the tree of `new_size` leaves begins with that of `old_size` (§2.1.4.2).

    Raises `Malformed` for a proof of the wrong shape and `Refused` (`inconsistent-log`) for one that shows otherwise.
    """
    if not 0 <= old_size <= new_size:
        raise Malformed(f"A consistency proof runs from {old_size} to {new_size}")
    _check_hashes(old_root, new_root, *path)
    if old_size in (0, new_size):
        if path:
            raise Malformed("A consistency proof has hashes that it does not need")
        if (old_size == 0 and old_root != EMPTY_ROOT) or (old_size == new_size and old_root != new_root):
            raise _inconsistent(old_size, new_size)
        return
    old, new = _roots_from_consistency(old_size, old_root, new_size, path)
    if old != old_root or new != new_root:
        raise _inconsistent(old_size, new_size)


def _roots_from_consistency(
    old_size: int, old_root: bytes, new_size: int, path: Sequence[bytes]
) -> tuple[bytes, bytes]:
    hashes = list(path)
    if old_size & (old_size - 1) == 0:
        hashes.insert(0, old_root)  # the old tree is one complete subtree of the new one: the proof leaves it out
    if not hashes:
        raise Malformed("A consistency proof is empty")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise Malformed("A consistency proof is too long")
        if position & 1 or position == last:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise Malformed("A consistency proof is too short")
    return old, new


def _check_hashes(*hashes: bytes) -> None:
    # Two children of other sizes, 31 and 33 bytes for instance, would join to the same bytes and so to the same hash.
    for one in hashes:
        if len(one) != HASH_SIZE:
            raise Malformed(f"A proof holds what is not a hash of {HASH_SIZE} bytes")


def _inconsistent(old_size: int, new_size: int) -> Refused:
    return Refused(
        "inconsistent-log",
        f"The log with {new_size} entries does not begin with the log that had {old_size}",
        "Keep both checkpoints and tell the election office and the public: the receiver shows two different logs.",
    )
