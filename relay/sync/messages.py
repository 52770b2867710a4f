"""What crosses the wire in a visit: messages as values, and their bytes. Pure.

Every message is deterministic CBOR, bounded before it is decoded; chunks travel as frames of their own, so that each
can be checked and kept as it arrives. Does not live here: HTTP (`relay.net`), and what is answered (`host`).
The paths and the order are described in docs/reference/visit.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.errors import Malformed
from relay.limits import (
    MAX_CHUNK,
    MAX_CHUNKS_PER_PACKAGE,
    MAX_FILE,
    MAX_GREETING,
    MAX_IDS,
    MAX_MESSAGE,
    MAX_NUMBER,
    MAX_PAIR,
    MAX_RECORD,
    MAX_TORN_OF_ONE,
    MAX_WANTS,
)
from relay.records.encoding import decode, encode
from relay.records.identifiers import HASH_SIZE, Kind, NodeId, ObjectId, RecordId, StatementId, is_code
from relay.store.interface import Holding, Want
from relay.trust.roles import NODE_ROLES, Role

PROTOCOL = 1
"""The version of the sync protocol that this code speaks."""

RECORD_HEAD = struct.Struct(">BI")
"""Head of a record in a message: kind, length in bytes."""

_KINDS = frozenset(int(kind) for kind in Kind)

FRAME_HEAD = struct.Struct(">32sIII")
"""Head of a chunk's frame: object id, chunk index, how many bytes of the chunk the taker has already, and length in
bytes of the rest (1 at least), which follows."""

LENGTH = struct.Struct(">I")
"""Length in bytes of what comes first in an answer with records."""

SPAN = struct.Struct(">32sII")
"""A chunk that is asked for: object id, chunk index, how many of its bytes are there already."""

TornChunk = tuple[ObjectId, int, int]
"""A chunk of which a taker has the beginning: its object, its index there, and how many bytes of it are there."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who speaks, how many bytes are free here, and two counts that tell whether there is something to exchange: of
    news (see `relay.sync.signal`), and of chunks that came or went (`Custody.content`)."""

    node: NodeId
    name: str
    role: Role
    election: str
    free: int
    news: int = 0
    content: int = 0
    version: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Greeting:
    """A greeting with what shares its round trip: a message of reconciliation, and an `Inquiry` where a receiver is
    greeted. The answer brings the reply to each; records that the visitor lacks by what it listed (`Given`); and of
    which chunks of the visitor's the beginning is there. A receiver's set is the whole election: it compares with
    nobody who does not know whom he greets."""

    hello: Hello
    compare: bytes = b""
    inquiry: bytes = b""
    given: bytes = b""
    torn: tuple[TornChunk, ...] = ()

    def encode(self) -> bytes:
        """Its bytes."""
        hello = self.hello
        fields = {"node": hello.node, "name": hello.name, "role": str(hello.role), "election": hello.election}
        counts = {"free": hello.free, "news": hello.news, "content": hello.content}
        rest = {"compare": self.compare, "inquiry": self.inquiry, "given": self.given}
        torn = [list(one) for one in self.torn]
        return encode({**fields, **counts, "version": hello.version, **rest, "torn": torn})

    @staticmethod
    def decode(data: bytes) -> Greeting:
        """Parse; keys of later versions are passed over. Raises `Malformed`."""
        match decode(data, MAX_GREETING):
            case {
                "node": bytes(node),
                "name": str(name),
                "role": str(role),
                "election": str(election),
                "free": int(free),
                "news": int(news),
                "content": int(content),
                "version": int(version),
                "compare": bytes(compare),
                "inquiry": bytes(inquiry),
                "given": bytes(given),
                "torn": list(torn),
            } if len(node) == HASH_SIZE and is_code(name) and is_code(election) and role in list(NODE_ROLES):
                hello = Hello(NodeId(node), name, Role(role), election, free, news, content, version)
                return Greeting(hello, compare, inquiry, given, _torn(torn))
            case _:
                raise Malformed("A peer's greeting lacks what it must say")


def _torn(rows: Sequence[Any]) -> tuple[TornChunk, ...]:
    if len(rows) > MAX_TORN_OF_ONE:
        raise Malformed(f"A peer tells of more than {MAX_TORN_OF_ONE} beginnings of chunks")
    found: list[TornChunk] = []
    for row in rows:
        match row:
            case [bytes(object_id), int(index), int(length)] if (
                len(object_id) == HASH_SIZE and 0 <= index < MAX_CHUNKS_PER_PACKAGE and 0 < length < MAX_CHUNK
            ):
                found.append((ObjectId(object_id), index, length))
            case _:
                raise Malformed("A peer's greeting tells of the beginning of no chunk")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """To a receiver: which of these does it lack, which have receipts? It may wait `wait` seconds for one to come."""

    statements: tuple[StatementId, ...]
    wait: float = 0.0

    def encode(self) -> bytes:
        """Its bytes; `wait` travels in milliseconds."""
        return encode({"statements": b"".join(self.statements), "wait": int(self.wait * 1000)})

    @staticmethod
    def decode(data: bytes) -> Inquiry:
        """Parse. Raises `Malformed`."""
        match decode(data, MAX_MESSAGE):
            case {"statements": bytes(ids), "wait": int(wait)} if 0 <= wait <= 60_000:
                return Inquiry(_statements(ids), wait / 1000)
            case _:
                raise Malformed("An inquiry does not list statements")


@dataclass(frozen=True, slots=True)
class InquiryReply:
    """Statements that the receiver has never seen, and those whose receipts are ready; and `records`: as many of these
    receipts as fit, and with a greeting's answer what the visitor is likely to lack besides."""

    unknown: tuple[StatementId, ...]
    ready: tuple[StatementId, ...]
    records: list[tuple[Kind, bytes]] = field(default_factory=list)

    def encode(self) -> bytes:
        """Its bytes."""
        records = encode_records(self.records)
        return encode({"unknown": b"".join(self.unknown), "ready": b"".join(self.ready), "records": records})

    @staticmethod
    def decode(data: bytes) -> InquiryReply:
        """Parse. Raises `Malformed`."""
        match decode(data, MAX_MESSAGE):
            case {"unknown": bytes(unknown), "ready": bytes(ready), "records": bytes(records)}:
                return InquiryReply(_statements(unknown), _statements(ready), decode_records(records))
            case _:
                raise Malformed("A receiver's reply to an inquiry is not one")


@dataclass(frozen=True, slots=True)
class Given:
    """Records that were asked for, and what is held of the objects that their statements name, so that it need not be
    asked for next."""

    records: list[tuple[Kind, bytes]]
    holdings: list[Holding] = field(default_factory=list)

    def encode(self) -> bytes:
        """Its bytes: the length of the holdings, the holdings, the records."""
        holdings = encode_holdings(self.holdings)
        return LENGTH.pack(len(holdings)) + holdings + encode_records(self.records)

    @staticmethod
    def decode(data: bytes) -> Given:
        """Parse. Raises `Malformed`."""
        if len(data) < LENGTH.size:
            raise Malformed("An answer with records is cut short")
        (length,) = LENGTH.unpack_from(data)
        if length > len(data) - LENGTH.size:
            raise Malformed("An answer with records is cut short")
        end = LENGTH.size + length
        return Given(decode_records(data[end:]), decode_holdings(data[LENGTH.size : end]))


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of each record that was handed over, in order: an outcome, or the reason of a refusal; and, where
    there were statements among them, what is wanted now."""

    outcomes: list[str]
    wants: list[Want] = field(default_factory=list)

    def encode(self) -> bytes:
        """Its bytes."""
        return encode([self.outcomes, [_row(want) for want in self.wants]])

    @staticmethod
    def decode(data: bytes) -> Taken:
        """Parse. Raises `Malformed`."""
        match decode(data, MAX_MESSAGE):
            case [list(outcomes), list(wants)] if (
                all(isinstance(outcome, str) for outcome in outcomes) and len(wants) <= MAX_WANTS
            ):
                return Taken(outcomes, [_want(row) for row in wants])
            case _:
                raise Malformed("A message does not say what became of records")


def encode_ids(ids: Sequence[bytes]) -> bytes:
    """A list of 32-byte ids."""
    return encode(b"".join(ids))


def decode_ids(data: bytes) -> list[bytes]:
    """Parse a list of ids, at most `MAX_IDS`. Raises `Malformed`."""
    match decode(data, MAX_MESSAGE):
        case bytes(ids):
            return _hashes(ids)
        case _:
            raise Malformed("A message is not a list of ids")


def encode_records(records: Sequence[tuple[Kind, bytes]]) -> bytes:
    """Records, each behind a head of its kind and length."""
    return b"".join(RECORD_HEAD.pack(kind, len(raw)) + raw for kind, raw in records)


def decode_records(data: bytes) -> list[tuple[Kind, bytes]]:
    """Parse records, at most `MAX_IDS`; each is judged later, by admission. Raises `Malformed`."""
    records: list[tuple[Kind, bytes]] = []
    at = 0
    while at < len(data):
        if len(data) - at < RECORD_HEAD.size or len(records) == MAX_IDS:
            raise Malformed("A message of records is cut short, or has too many")
        kind, length = RECORD_HEAD.unpack_from(data, at)
        at += RECORD_HEAD.size
        if kind not in _KINDS or not 0 < length <= min(MAX_RECORD, len(data) - at):
            raise Malformed("A record in a message has no known kind, or a wrong length")
        records.append((Kind(kind), data[at : at + length]))
        at += length
    return records


def encode_number(number: int) -> bytes:
    """A count."""
    return encode(number)


def decode_number(data: bytes) -> int:
    """Parse a count. Raises `Malformed`."""
    match decode(data, MAX_NUMBER):
        case int(number) if number >= 0:
            return number
        case _:
            raise Malformed("A message is no number")


def encode_pair(first: int, second: int) -> bytes:
    """Two counts: what was heard of news and how many milliseconds to wait, or two sizes of a log."""
    return encode([first, second])


def decode_pair(data: bytes) -> tuple[int, int]:
    """Parse two counts. Raises `Malformed`."""
    match decode(data, MAX_PAIR):
        case [int(first), int(second)]:
            return first, second
        case _:
            raise Malformed("A message is not made of two numbers")


def encode_holdings(holdings: Sequence[Holding]) -> bytes:
    """What is held of some objects; a complete one has no bit set."""
    return encode([[one.object, one.size, None if one.complete else _bits(one.chunks)] for one in holdings])


def decode_holdings(data: bytes) -> list[Holding]:
    """Parse holdings. Raises `Malformed`."""
    rows = decode(data, MAX_MESSAGE)
    if not isinstance(rows, list) or len(rows) > MAX_WANTS:
        raise Malformed("A message is not a short list of holdings")
    return [_holding(row) for row in rows]


def encode_wants(wants: Sequence[Want]) -> bytes:
    """What this node takes, best first."""
    return encode([_row(want) for want in wants])


def decode_wants(data: bytes) -> list[Want]:
    """Parse wants. Raises `Malformed`."""
    rows = decode(data, MAX_MESSAGE)
    if not isinstance(rows, list) or len(rows) > MAX_WANTS:
        raise Malformed("A message is not a short list of wants")
    return [_want(row) for row in rows]


def encode_missing(objects: Sequence[tuple[ObjectId, int]]) -> bytes:
    """Which chunks of objects are lacked."""
    return encode([[object_id, _bits(bits)] for object_id, bits in objects])


def decode_missing(data: bytes) -> list[tuple[ObjectId, int]]:
    """Parse what is lacked. Raises `Malformed`."""
    rows = decode(data, MAX_MESSAGE)
    if not isinstance(rows, list) or len(rows) > MAX_WANTS:
        raise Malformed("A message is not a short list of what is lacked")
    found: list[tuple[ObjectId, int]] = []
    for row in rows:
        match row:
            case [bytes(digest), bytes(bits)] if len(digest) == HASH_SIZE and len(bits) <= MAX_CHUNKS_PER_PACKAGE // 8:
                found.append((ObjectId(digest), int.from_bytes(bits, "little")))
            case _:
                raise Malformed("What a peer lacks is malformed")
    return found


def encode_path(path: Sequence[bytes]) -> bytes:
    """A consistency proof."""
    return encode(b"".join(path))


def decode_path(data: bytes) -> list[bytes]:
    """Parse a consistency proof. Raises `Malformed`."""
    return decode_ids(data)


def _row(want: Want) -> list[object]:
    return [want.object, want.size, _bits(want.missing), want.remaining]


def _bits(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _statements(joined: bytes) -> tuple[StatementId, ...]:
    return tuple(StatementId(RecordId(one)) for one in _hashes(joined))


def _hashes(joined: bytes) -> list[bytes]:
    if len(joined) % HASH_SIZE or len(joined) > MAX_IDS * HASH_SIZE:
        raise Malformed(f"A list of ids is not made of at most {MAX_IDS} hashes")
    return [joined[start : start + HASH_SIZE] for start in range(0, len(joined), HASH_SIZE)]


def _holding(row: Any) -> Holding:
    match row:
        case [bytes(digest), int(size), None] if len(digest) == HASH_SIZE and 0 < size <= MAX_FILE:
            return Holding(ObjectId(digest), size, 0, complete=True)
        case [bytes(digest), int(size), bytes(bits)] if (
            len(digest) == HASH_SIZE and 0 < size <= MAX_FILE and len(bits) <= MAX_CHUNKS_PER_PACKAGE // 8
        ):
            return Holding(ObjectId(digest), size, int.from_bytes(bits, "little"), complete=False)
        case _:
            raise Malformed("A peer's holding is malformed")


def _want(row: Any) -> Want:
    match row:
        case [bytes(digest), int(size), bytes(bits), int(remaining)] if (
            len(digest) == HASH_SIZE and 0 < size <= MAX_FILE and len(bits) <= MAX_CHUNKS_PER_PACKAGE // 8
        ):
            return Want(ObjectId(digest), size, int.from_bytes(bits, "little"), remaining)
        case _:
            raise Malformed("A peer's want is malformed")
