"""Layouts: how an object is cut into chunks, by what a statement says. Pure.

An object may have several layouts, since a statement may lie about its size and its chunks. Which chunks are held is
counted for each of them; sets of chunks are bit sets, least significant first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from relay.records.identifiers import HASH_SIZE, ObjectId
from relay.records.statement import chunk_size_for
from relay.store.interface import Want


@dataclass(slots=True, eq=False)
class Layout:
    """What a catalogue says of one layout: its name, the object's size in bytes, the hashes of its chunks one after
    the other, and the bit set of those that are held."""

    object: ObjectId
    name: bytes
    size: int
    hashes: bytes
    held: int

    @property
    def whole(self) -> int:
        """The bit set of all its chunks."""
        return (1 << chunk_count(self.size)) - 1

    @property
    def missing(self) -> int:
        """The bit set of the chunks that nobody brought yet."""
        return self.whole & ~self.held

    @property
    def in_use(self) -> bool:
        """Whether chunks of it are staged, so that it has to stay until they are committed."""
        return False

    def fits(self, index: int, length: int, digest: bytes) -> bool:
        """Whether content of this length and hash is its chunk `index`."""
        if not 0 <= index < chunk_count(self.size) or span(self.size, index)[1] != length:
            return False
        return self.hashes[index * HASH_SIZE : (index + 1) * HASH_SIZE] == digest


def layout_name(size: int, hashes: bytes) -> bytes:
    """The name of a size and a list of chunk hashes."""
    return hashlib.sha256(size.to_bytes(8, "big") + hashes).digest()[:8]


def span(size: int, index: int) -> tuple[int, int]:
    """Offset and length in bytes of a chunk of an object of `size` bytes."""
    step = chunk_size_for(size)
    return index * step, min(step, size - index * step)


def chunk_count(size: int) -> int:
    """How many chunks an object of `size` bytes has."""
    return -(-size // chunk_size_for(size))


def bytes_of(size: int, bits: int) -> int:
    """How many bytes a set of chunks has."""
    last = chunk_count(size) - 1
    total = bits.bit_count() * span(size, 0)[1]
    if bits >> last & 1:
        total += span(size, last)[1] - span(size, 0)[1]
    return total


def pack_bits(bits: int) -> bytes:
    """A bit set as bytes: bit i % 8 of byte i / 8 is chunk i."""
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def unpack_bits(data: bytes) -> int:
    """A bit set from its bytes."""
    return int.from_bytes(data, "little")


def least_of(layouts: Sequence[Layout]) -> int:
    """How many bytes have to come until an object is whole, by the layout that lacks the least: one that lies about the
    size of others' content does not shut it out where there is little room. 0 where none is known."""
    return min((bytes_of(one.size, one.missing) for one in layouts), default=0)


def want_of(layouts: Sequence[Layout]) -> Want | None:
    """What is missing of an object, by any of its layouts: a statement that gives it a false size, or false chunks,
    must not hide what the true one lacks. The size is the largest one that is claimed."""
    if not layouts:
        return None
    missing = 0
    for layout in layouts:
        missing |= layout.missing
    size = max(layout.size for layout in layouts)
    return Want(layouts[0].object, size, missing, bytes_of(size, missing)) if missing else None
