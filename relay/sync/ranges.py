"""The messages of reconciliation, to the byte: ranges of the record space and what their sender says about each.

Lives here: `decode` and `MessageWriter`. Does not live here: who holds what (`recordset`) and what
to say next (`reconcile`). The format is the Negentropy Protocol V1 (github.com/hoytech/negentropy), whose timestamp
carries the kind of a record here. Guards promise 10: a message that strays from its format is `Malformed`, and every
count in it is checked before anything is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from relay.errors import Malformed
from relay.limits import MAX_KIND, MAX_RECONCILE_MESSAGE, MAX_RECONCILE_RANGES
from relay.store.recordset import END, FINGERPRINT_SIZE, FIRST, ID_SIZE, varint

VERSION = 0x61
"""Version 1. A responder that is asked in another answers with this byte alone."""
VERSIONS = range(0x60, 0x70)


class Mode(IntEnum):
    """What a range says: nothing more to do, a fingerprint of what I hold there, or every id I hold there."""

    SKIP = 0
    FINGERPRINT = 1
    ID_LIST = 2


@dataclass(frozen=True, slots=True)
class Range:
    """What a message says about the keys from `lower` up to but not including `upper`."""

    lower: bytes
    upper: bytes
    mode: Mode
    fingerprint: bytes = b""
    ids: tuple[bytes, ...] = ()


class _Reader:
    """A cursor over a message that never reads beyond its end."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._message)

    def take(self, size: int) -> bytes:
        if size > len(self._message) - self._at:
            raise Malformed("A reconciliation message ends in the middle of a range")
        self._at += size
        return self._message[self._at - size : self._at]

    def varint(self, most: int, what: str) -> int:
        """The next varint; refused above `most` or when it is longer than it has to be."""
        number = 0
        first = True
        while True:
            byte = self.take(1)[0]
            if first and byte == 0x80:
                raise Malformed(f"The {what} of a range is not encoded in its shortest form")
            number = number << 7 | byte & 0x7F
            if number > most:
                raise Malformed(f"The {what} of a range is over {most}")
            if byte < 0x80:
                return number
            first = False


def version_of(message: bytes) -> int:
    """The protocol version byte of a message; `Malformed` when there is none or the message is over its limit."""
    if len(message) > MAX_RECONCILE_MESSAGE:
        raise Malformed(f"A reconciliation message has {len(message)} bytes, over {MAX_RECONCILE_MESSAGE}")
    if not message or message[0] not in VERSIONS:
        raise Malformed("A reconciliation message does not begin with a protocol version")
    return message[0]


def decode(message: bytes) -> list[Range]:
    """The ranges of a version 1 message, adjacent and ascending from `FIRST`; what follows the last is skipped.

    Raises `Malformed` for anything else, and for more than `MAX_RECONCILE_RANGES`.
    """
    if version_of(message) != VERSION:
        raise Malformed(
            f"The peer speaks version {message[0] - 0x60} of the reconciliation protocol, not 1",
            "Bring both nodes to the same version of relay.",
        )
    reader = _Reader(message)
    reader.take(1)
    ranges: list[Range] = []
    lower = FIRST
    while reader:
        if len(ranges) == MAX_RECONCILE_RANGES:
            raise Malformed(f"A reconciliation message has more than {MAX_RECONCILE_RANGES} ranges")
        upper = _read_bound(reader, lower)
        ranges.append(_read_payload(reader, lower, upper))
        lower = upper
    return ranges


def _read_bound(reader: _Reader, lower: bytes) -> bytes:
    """An upper bound, whose kind is coded relative to that of the bound before it."""
    step = reader.varint(MAX_KIND + 2, "kind")
    prefix = reader.take(reader.varint(ID_SIZE, "prefix length"))
    if step == 0:
        if prefix:
            raise Malformed("The infinite bound of a range has an id")
        return END
    if lower == END:
        raise Malformed("A range follows the one that ends at infinity")
    kind = lower[0] + step - 1
    if kind > MAX_KIND + 1:
        raise Malformed(f"A bound has the kind {kind}, over {MAX_KIND}")
    # Omitted bytes are zeros: without its trailing zeros a bound has one spelling, and compares as it should.
    upper = bytes([kind]) + prefix.rstrip(b"\x00")
    if upper < lower:
        raise Malformed("The ranges of a reconciliation message are out of order")
    return upper


def _read_payload(reader: _Reader, lower: bytes, upper: bytes) -> Range:
    match reader.varint(max(Mode), "mode"):
        case Mode.FINGERPRINT:
            return Range(lower, upper, Mode.FINGERPRINT, fingerprint=reader.take(FINGERPRINT_SIZE))
        case Mode.ID_LIST:
            count = reader.varint(MAX_RECONCILE_MESSAGE // ID_SIZE, "number of ids")
            packed = reader.take(count * ID_SIZE)
            ids = tuple(packed[at : at + ID_SIZE] for at in range(0, len(packed), ID_SIZE))
            return Range(lower, upper, Mode.ID_LIST, ids=ids)
        case _:
            return Range(lower, upper, Mode.SKIP)


class MessageWriter:
    """A message in the making: ranges in ascending order, never more than `limit` bytes.

    A gap between one range and the next becomes one Skip. `end` is the bound up to which the message speaks. Room is
    kept for one last range to infinity (`finish`), so that a message that is full can say that there is more.
    """

    _LAST = 2 * (2 + ID_SIZE + 1) + FINGERPRINT_SIZE

    def __init__(self, limit: int) -> None:
        self._message = bytearray([VERSION])
        self._room = limit - len(self._message) - self._LAST
        self._ranges = 0
        self.end = FIRST

    def __bytes__(self) -> bytes:
        return bytes(self._message)

    def add_fingerprint(self, lower: bytes, upper: bytes, fingerprint: bytes) -> bool:
        """Say that what the sender holds in the range has this fingerprint; False, and nothing done, if it is full."""
        return self._add(lower, upper, varint(Mode.FINGERPRINT) + fingerprint)

    def add_ids(self, lower: bytes, upper: bytes, ids: list[bytes]) -> bool:
        """Say that `ids` is all that the sender holds in the range; False, and nothing done, if it is full."""
        return self._add(lower, upper, varint(Mode.ID_LIST) + varint(len(ids)) + b"".join(ids))

    def ids_that_fit(self) -> int:
        """How many ids the next `add_ids` can take for sure; may be negative."""
        return (self._room - self._LAST) // ID_SIZE

    def finish(self, lower: bytes, fingerprint: bytes) -> None:
        """Close the message with the fingerprint of everything from `lower` on, in the room kept for it."""
        self._write(self._encode(lower, END, varint(Mode.FINGERPRINT) + fingerprint), END)

    def _add(self, lower: bytes, upper: bytes, payload: bytes) -> bool:
        encoded = self._encode(lower, upper, payload)
        # With its Skip a range may be two, and so may the last one.
        if len(encoded) > self._room or self._ranges + 4 > MAX_RECONCILE_RANGES:
            return False
        self._write(encoded, upper)
        return True

    def _encode(self, lower: bytes, upper: bytes, payload: bytes) -> bytes:
        if lower > self.end:
            return _bound(self.end[0], lower) + varint(Mode.SKIP) + _bound(lower[0], upper) + payload
        return _bound(self.end[0], upper) + payload

    def _write(self, encoded: bytes, upper: bytes) -> None:
        self._message += encoded
        self._room -= len(encoded)
        self._ranges += 2
        self.end = upper


def _bound(kind: int, bound: bytes) -> bytes:
    """A bound as it is sent after one of `kind`."""
    if bound == END:
        return b"\x00\x00"
    return varint(1 + bound[0] - kind) + varint(len(bound) - 1) + bound[1:]
