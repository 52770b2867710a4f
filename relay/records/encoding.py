"""The one encoding: CBOR, core deterministic (RFC 8949 §4.2.1).

Lives here: `encode`, and a `decode` that refuses every other spelling of the same value. Does not live here: what the
values mean. Guards promise 10, and with it promise 6: since a value has one spelling, a record has one id.

The data model is the part of CBOR that relay needs: integers of 64 bits, byte and text strings, arrays, maps with
integer or text keys, false, true and null. No tags (a COSE tag is handled where COSE is), no floats, no indefinite
lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import cbor2

from relay.errors import Malformed
from relay.limits import MAX_CBOR_DEPTH

Value: TypeAlias = "int | bytes | str | bool | None | Sequence[Value] | Mapping[int, Value] | Mapping[str, Value]"

_UINT, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES = frozenset({0xF4, 0xF5, 0xF6})  # false, true, null
_PLAIN = (bytes, str, int, type(None))
"""Types of values that hold no others."""
_MIN_FOR_WIDTH = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}
_RANKS_KEPT = 256


def encode(value: Any) -> bytes:
    """The deterministic encoding of `value`, a tree of the types that the module's docstring lists."""
    return bytes(cbor2.dumps(_ordered(value)))


def byte_string(data: bytes) -> bytes:
    """The encoding of one byte string: what `encode` gives, in a fraction of its time."""
    size = len(data)
    if size < 24:
        return bytes((0x40 | size,)) + data
    width = 0 if size < 1 << 8 else 1 if size < 1 << 16 else 2 if size < 1 << 32 else 3
    return bytes((0x58 | width,)) + size.to_bytes(1 << width) + data


def decode(data: bytes, limit: int) -> Any:
    """The value that `data` spells, if it is its deterministic encoding and at most `limit` bytes long.

    Raises `Malformed` for anything else: longer, truncated, trailing bytes, unsorted or repeated keys, lengths not in
    shortest form, a type outside the data model, nesting deeper than `MAX_CBOR_DEPTH`.
    """
    if len(data) > limit:
        raise Malformed(f"A CBOR document of {len(data)} bytes is over its limit of {limit}")
    end = _check(data, 0, MAX_CBOR_DEPTH)
    if end != len(data):
        raise Malformed(f"{len(data) - end} bytes follow the end of a CBOR document")
    try:
        return cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError) as error:  # text that is not UTF-8
        raise Malformed(f"A CBOR document cannot be read: {error}") from error


def _ordered(value: Any) -> Any:
    """The same value with map keys in the bytewise order of their encodings (RFC 8949 §4.2.1, not RFC 7049's)."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [item if isinstance(item, _PLAIN) else _ordered(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value, key=_rank)}
    return value


@lru_cache(_RANKS_KEPT)
def _rank(key: int | str) -> tuple[int, int, bytes]:
    """What sorts keys as their encodings sort: by major type, by number or length, by content."""
    if isinstance(key, str):
        content = key.encode()
        return _TEXT, len(content), content
    return (_UINT, key, b"") if key >= 0 else (_NEGATIVE, -1 - key, b"")


def _check(data: bytes, at: int, depth: int) -> int:
    """Walk one item that starts at `at`; its end, or `Malformed`. Allocates nothing that a length field asks for."""
    if at + 1 < len(data):  # most items are short, and right: the rest is for what follows
        initial = data[at]
        low = initial & 0x1F
        if initial < 0x40 and (low < 24 or (low == 24 and data[at + 1] >= 24)):
            return at + 1 + (low == 24)
        if 0x40 <= initial < 0x80 and low <= 24:
            argument, end = (low, at + 1) if low < 24 else (data[at + 1], at + 2)
            if (low < 24 or argument >= 24) and argument <= len(data) - end:
                return end + argument
    major, argument, at = _head(data, at)
    if major in (_UINT, _NEGATIVE, _SIMPLE):
        return at
    if major in (_BYTES, _TEXT):
        if argument > len(data) - at:
            raise Malformed("A CBOR string is longer than its document")
        return at + argument
    if depth == 0:
        raise Malformed(f"A CBOR document is nested deeper than {MAX_CBOR_DEPTH}")
    if major == _ARRAY:
        for _ in range(argument):
            at = _check(data, at, depth - 1)
        return at
    return _check_map(data, at, argument, depth)


def _check_map(data: bytes, at: int, pairs: int, depth: int) -> int:
    previous = b""
    for _ in range(pairs):
        key_end = _check(data, at, 0)
        key = data[at:key_end]
        if key[0] >> 5 not in (_UINT, _NEGATIVE, _TEXT):
            raise Malformed("A CBOR map has a key that is neither a number nor a text")
        if key <= previous:
            raise Malformed("The keys of a CBOR map repeat or are out of order")
        previous = key
        at = _check(data, key_end, depth - 1)
    return at


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Major type, argument and end of the head at `at` (RFC 8949 §3)."""
    if at >= len(data):
        raise Malformed("A CBOR document ends in the middle of an item")
    initial = data[at]
    major, low = initial >> 5, initial & 0x1F
    if major == _TAG or (major == _SIMPLE and initial not in _SIMPLE_VALUES):
        raise Malformed(f"A CBOR document has an item of a type that relay does not use (0x{initial:02x})")
    at += 1
    if low < 24 or major == _SIMPLE:
        return major, low, at
    if low > 27:
        raise Malformed("A CBOR document has an item of indefinite length")
    width = 1 << (low - 24)
    if at + width > len(data):
        raise Malformed("A CBOR document ends in the middle of an item")
    argument = int.from_bytes(data[at : at + width])
    if argument < _MIN_FOR_WIDTH[width]:
        raise Malformed("A CBOR number or length is not in its shortest form")
    return major, argument, at + width
