"""The ids of all records a node holds, in order, ready to be compared range by range with another node's.

Lives here: `RecordSet`, its fingerprints and its splitting into buckets. Does not live here: messages and the
conversation. Order, fingerprint and minimal bounds are those of the Negentropy Protocol V1
(github.com/hoytech/negentropy), whose timestamp carries the kind of a record here.

A *key* is a kind (one byte) followed by the 32 bytes of an id; keys sort as the protocol sorts items. A *bound* is
the beginning of a key: it stands for the lowest key that begins so. A range holds its lower bound and not its upper.

Keys rest packed in blocks of a few hundred, each with the sum of its ids: a million
records take some 40 MB, one more record moves a few kilobytes, and a fingerprint adds up two parts of blocks and two
prefix sums. Reading needs no snapshot: between two rounds the set may change as it likes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise

from relay.errors import Malformed
from relay.limits import MAX_KIND
from relay.records.identifiers import RecordId

ID_SIZE = 32
KEY_SIZE = 1 + ID_SIZE
FINGERPRINT_SIZE = 16

FIRST = b"\x00"
"""The bound below every key."""
END = b"\xff"
"""The bound above every key: the protocol's infinity."""

Item = tuple[int, RecordId]
"""The kind and the id of a record."""

BLOCK = 512
"""Keys in a block when a set is built; it is split at twice as many and merged with a neighbour when both are small."""
_FULL = 2 * BLOCK * KEY_SIZE
_SMALL = BLOCK // 2 * KEY_SIZE

_SLOT = 2 * 8 * KEY_SIZE
_EVEN_IDS = int.from_bytes((bytes(1) + b"\xff" * ID_SIZE + bytes(KEY_SIZE)) * (BLOCK + 1), "little")
"""Selects the id of every other key of a block that is read as one little-endian number."""


def key_of(kind: int, record: bytes) -> bytes:
    """The 33 bytes by which a record is ordered; `Malformed` when the kind or the id's length cannot be."""
    if len(record) != ID_SIZE or not 0 <= kind <= MAX_KIND:
        raise Malformed(f"A record of kind {kind} with an id of {len(record)} bytes cannot be reconciled")
    return bytes([kind]) + record


def item_of(key: bytes) -> Item:
    """The kind and the id that a key was made of."""
    return key[0], RecordId(key[1:])


def varint(number: int) -> bytes:
    """`number` in base 128, most significant digit first, the high bit set on every byte but the last."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))


def one_kind(lower: bytes, upper: bytes) -> bool:
    """Whether the range holds keys of one kind only, so that an id in it needs no kind."""
    return upper <= kind_end(lower[0])


def kind_end(kind: int) -> bytes:
    """The bound above the last key of `kind`."""
    return bytes([kind + 1]) if kind < MAX_KIND else END


class RecordSet:
    """A sorted set of (kind, id) that knows the fingerprint of each of its ranges.

    Built from items in any order, it takes a second or so for a million;
    `add` and `discard` take microseconds.
    """

    def __init__(self, items: Iterable[tuple[int, bytes]] = ()) -> None:
        self._blocks: list[bytearray] = []
        self._firsts: list[bytes] = []
        self._sums: list[int] = []
        self._length = 0
        # Keys and sums before each block, computed as far as they were asked for since the last change.
        self._counts_before = [0]
        self._sums_before = [0]
        self._build(items)

    def _build(self, items: Iterable[tuple[int, bytes]]) -> None:
        # Small heaps by first bytes, sorted one at a time, so that the keys never exist as a million objects at once.
        heaps: dict[bytes, bytearray] = {}
        for kind, record in items:
            key = key_of(kind, record)
            heap = heaps.get(key[:2])
            if heap is None:
                heap = heaps[key[:2]] = bytearray()
            heap += key
        spill = b""
        for start in sorted(heaps):
            spill += b"".join(sorted(set(_keys(heaps.pop(start)))))
            whole = len(spill) - len(spill) % (BLOCK * KEY_SIZE)
            self._append_blocks(spill[:whole])
            spill = spill[whole:]
        self._append_blocks(spill)

    def _append_blocks(self, packed: bytes) -> None:
        for at in range(0, len(packed), BLOCK * KEY_SIZE):
            self._put(len(self._blocks), bytearray(packed[at : at + BLOCK * KEY_SIZE]))
        self._length += len(packed) // KEY_SIZE

    def __len__(self) -> int:
        return self._length

    def __contains__(self, item: tuple[int, bytes]) -> bool:
        key = key_of(*item)
        index, offset = self._locate(key)
        return index < len(self._blocks) and self._blocks[index].startswith(key, offset)

    def __iter__(self) -> Iterator[Item]:
        return map(item_of, self.keys())

    def add(self, kind: int, record: bytes) -> bool:
        """Add a record; False if it is already there."""
        key = key_of(kind, record)
        if not self._blocks:
            self._put(0, bytearray(key))
            self._length = 1
            return True
        index = max(bisect_right(self._firsts, key) - 1, 0)
        block = self._blocks[index]
        offset = _search(block, key)
        if block.startswith(key, offset):
            return False
        block[offset:offset] = key
        self._changed(index, _number(record), 1)
        if len(block) > _FULL:
            half = len(block) // KEY_SIZE // 2 * KEY_SIZE
            self._drop(index)
            self._put(index, block[half:])
            self._put(index, block[:half])
        return True

    def discard(self, kind: int, record: bytes) -> bool:
        """Remove a record; False if it is not there."""
        key = key_of(kind, record)
        index, offset = self._locate(key)
        if index == len(self._blocks) or not self._blocks[index].startswith(key, offset):
            return False
        block = self._blocks[index]
        del block[offset : offset + KEY_SIZE]
        if not block:
            self._drop(index)
            self._length -= 1
            return True
        self._changed(index, -_number(record), -1)
        if index + 1 < len(self._blocks) and len(block) + len(self._blocks[index + 1]) <= _SMALL:
            merged = block + self._blocks[index + 1]
            self._drop(index + 1)
            self._drop(index)
            self._put(index, merged)
        return True

    def keys(self, lower: bytes = FIRST, upper: bytes = END) -> Iterator[bytes]:
        """The keys of a range in order. The set must not change while they are read."""
        index, offset = self._locate(lower)
        last, end = self._locate(upper)
        while index <= last and index < len(self._blocks):
            block = self._blocks[index]
            yield from _keys(block[offset : end if index == last else len(block)])
            index, offset = index + 1, 0

    def key_at(self, position: int) -> bytes:
        """The key that has `position` keys before it."""
        self._sum_up(len(self._blocks))
        index = bisect_right(self._counts_before, position, hi=len(self._blocks)) - 1
        at = (position - self._counts_before[index]) * KEY_SIZE
        return bytes(self._blocks[index][at : at + KEY_SIZE])

    def rank(self, bound: bytes) -> int:
        """How many keys are below `bound`."""
        return self._rank(self._locate(bound))

    def count(self, lower: bytes = FIRST, upper: bytes = END) -> int:
        """How many keys the range holds."""
        return max(self.rank(upper) - self.rank(lower), 0)

    def fingerprint(self, lower: bytes = FIRST, upper: bytes = END) -> bytes:
        """SHA-256, cut to 16 bytes, over the sum of the range's ids mod 2**256 and their number."""
        start, end = self._locate(lower), self._locate(upper)
        total = self._sum(start, end) % (1 << 8 * ID_SIZE)
        number = max(self._rank(end) - self._rank(start), 0)
        digest = hashlib.sha256(total.to_bytes(ID_SIZE, "little") + varint(number))
        return digest.digest()[:FINGERPRINT_SIZE]

    def split(self, lower: bytes, upper: bytes, parts: int) -> list[tuple[bytes, bytes]]:
        """The range cut into `parts` ranges that hold equally many keys, or one more in the first ones.

        Each cut is the shortest bound between its two keys. There have to be at least as many keys as parts.
        """
        start = self.rank(lower)
        size, extra = divmod(self.rank(upper) - start, parts)
        cuts = [lower]
        for part in range(1, parts):
            position = start + part * size + min(part, extra)
            cuts.append(_between(self.key_at(position - 1), self.key_at(position)))
        cuts.append(upper)
        return list(pairwise(cuts))

    def _locate(self, bound: bytes) -> tuple[int, int]:
        """Block and byte offset of the first key that is not below `bound`; one block too far if there is none."""
        if bound == END:
            return len(self._blocks), 0
        index = bisect_right(self._firsts, bound) - 1
        if index < 0:
            return 0, 0
        offset = _search(self._blocks[index], bound)
        return (index, offset) if offset < len(self._blocks[index]) else (index + 1, 0)

    def _rank(self, place: tuple[int, int]) -> int:
        """How many keys are before a block and byte offset."""
        index, offset = place
        self._sum_up(index)
        return self._counts_before[index] + offset // KEY_SIZE

    def _sum(self, lower: tuple[int, int], upper: tuple[int, int]) -> int:
        """The sum of the ids between two places."""
        (first, offset), (last, end) = lower, upper
        if (last, end) <= (first, offset):
            return 0
        if first == last:
            return _sum_of_ids(self._blocks[first][offset:end])
        self._sum_up(last)
        between = self._sums_before[last] - self._sums_before[first]
        head = _sum_of_ids(self._blocks[first][:offset]) if offset else 0
        tail = _sum_of_ids(self._blocks[last][:end]) if end else 0
        return between - head + tail

    def _sum_up(self, index: int) -> None:
        """Bring the sums before the blocks up to date, as far as block `index`."""
        for at in range(len(self._counts_before) - 1, index):
            self._counts_before.append(self._counts_before[at] + len(self._blocks[at]) // KEY_SIZE)
            self._sums_before.append(self._sums_before[at] + self._sums[at])

    def _changed(self, index: int, number: int, count: int) -> None:
        self._firsts[index] = bytes(self._blocks[index][:KEY_SIZE])
        self._sums[index] += number
        self._length += count
        self._forget(index)

    def _put(self, index: int, block: bytearray) -> None:
        self._blocks.insert(index, block)
        self._firsts.insert(index, bytes(block[:KEY_SIZE]))
        self._sums.insert(index, _sum_of_ids(block))
        self._forget(index)

    def _drop(self, index: int) -> None:
        del self._blocks[index], self._firsts[index], self._sums[index]
        self._forget(index)

    def _forget(self, index: int) -> None:
        del self._counts_before[index + 1 :], self._sums_before[index + 1 :]


def _search(block: bytearray, bound: bytes) -> int:
    """Byte offset of the first key of the block that is not below `bound`."""
    low, high = 0, len(block) // KEY_SIZE
    while low < high:
        middle = (low + high) // 2
        if block[middle * KEY_SIZE : (middle + 1) * KEY_SIZE] < bound:
            low = middle + 1
        else:
            high = middle
    return low * KEY_SIZE


def _keys(packed: bytearray) -> Iterator[bytes]:
    data = bytes(packed)
    return (data[at : at + KEY_SIZE] for at in range(0, len(data), KEY_SIZE))


def _number(record: bytes) -> int:
    return int.from_bytes(record, "little")


def _sum_of_ids(packed: bytearray) -> int:
    """The exact sum of the ids of packed keys, read as little-endian numbers.

    The whole block is one number whose digits are the keys. Every other digit is moved aside, which gives each sum
    a key's width to grow into; then the upper half is added to the lower until one digit is left. A handful of
    big-number operations does what a loop over the keys does five times slower.
    """
    number = int.from_bytes(packed, "little")
    sums = (number & _EVEN_IDS) + (number >> 8 * KEY_SIZE & _EVEN_IDS)
    slots = (len(packed) // KEY_SIZE + 1) // 2
    while slots > 1:
        slots = (slots + 1) // 2
        sums = (sums & (1 << slots * _SLOT) - 1) + (sums >> slots * _SLOT)
    return sums >> 8


def _between(before: bytes, after: bytes) -> bytes:
    """The shortest bound above the key `before` and not above the key `after`."""
    same = next(at for at in range(KEY_SIZE) if before[at] != after[at])
    return after[: same + 1]
