"""Good inputs to begin with, made of one small election that follows from a seed, and mutations of them.

Also the small things that targets share: the election, a set of records, an event loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from relay.errors import Malformed
from relay.limits import MAX_RECORD
from relay.log.checkpoint import Checkpoint, cosign, sign_checkpoint
from relay.log.note import NoteKey, parse_note
from relay.log.tiles import TileId, encode_entries
from relay.log.tree import Frontier
from relay.net.routes import PREFIX
from relay.records.cose import header, read_sign1, sign1
from relay.records.encoding import decode, encode
from relay.records.identifiers import HASH_SIZE, Kind, ObjectId, RecordId, StatementId, authority_uri, sha256
from relay.records.notice import (
    NOTICE_TYPE,
    Body,
    Receiver,
    Receivers,
    Register,
    Revocation,
    Revocations,
    Station,
    Witnesses,
    sign_notice,
)
from relay.records.statement import PACKAGE_TYPE, Package, sign_statement
from relay.records.tally import Tally
from relay.store.interface import Holding, Want
from relay.store.recordset import RecordSet
from relay.sync import messages
from relay.sync.messages import FRAME_HEAD, SPAN, Given, Greeting, Hello, Inquiry, InquiryReply, Taken
from relay.sync.reconcile import Initiator, respond
from relay.trust.certificates import make_request
from relay.trust.enrolment import Enrolment, write_enrolment
from relay.trust.roles import Role
from relay.trust.sealing import make_sealing_key, public_sealing_key, seal
from relay.trust.witness import log_key, public_bytes, witness_key
from tests.factory import ELECTION, Election, Node, make_election, make_file, make_node, make_receipt, make_statement

CONTENT = b"what the form says " * 8_000
"""Content of an object of three chunks."""


@dataclass(frozen=True)
class World:
    """An election with one node of each role."""

    election: Election
    island: Node
    boat: Node
    receiver: Node
    witnesses: dict[str, NoteKey]


@cache
def world() -> World:
    """The election that all seeds are of."""
    election = make_election(4)
    island = make_node(election, "island")
    boat = make_node(election, "boat", Role.CARRIER)
    receiver = make_node(election, "receiver", Role.RECEIVER)
    notice = sign_notice(ELECTION, 0, 1, _receivers(receiver), election.root, election.root_key)
    election.admission.install(election.admission.admit(Kind.NOTICE, notice))
    key = witness_key(ELECTION, "boat", public_bytes(boat.identity.key))
    return World(election, island, boat, receiver, {key.name: key})


@cache
def loop() -> asyncio.AbstractEventLoop:
    """One event loop for all that needs one."""
    return asyncio.new_event_loop()


@cache
def records() -> RecordSet:
    """Some three hundred records of all kinds."""
    dice = random.Random(7)
    kinds = (Kind.NOTICE, Kind.CHECKPOINT, Kind.RECEIPT, Kind.RECEIPT, Kind.STATEMENT, Kind.STATEMENT)
    return RecordSet((dice.choice(kinds), dice.randbytes(HASH_SIZE)) for _ in range(300))


class Stream:
    """Bytes as a stream that gives a few at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    async def read(self, size: int) -> bytes:
        """At most `size` bytes, at most a thousand."""
        part = self._data[self._at : self._at + min(size, 1000)]
        self._at += len(part)
        return part


def mutated(dice: random.Random, pool: Sequence[bytes], most: int) -> bytes:
    """A good input with a few things wrong."""
    data = bytearray(dice.choice(pool))
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << dice.randrange(8)
            case 1 if data:
                data[at % len(data)] = dice.choice((0, 0x7F, 0x80, 0xFF, 0xF6, 0x1B, 0x5B, 0x9F, 0xA1))
            case 2:
                data[at:at] = dice.randbytes(dice.randint(1, 9))
            case 3:
                del data[at : at + dice.randint(1, 9)]
            case 4:
                end = at + dice.randint(1, 64)
                data[at:at] = data[at:end]
            case 5:
                other = dice.choice(pool)
                start = dice.randrange(len(other) + 1)
                data[at : at + 16] = other[start : start + dice.randint(1, 64)]
            case _:
                del data[at:]
    return bytes(data[:most])


# -- records


@cache
def statements() -> Sequence[bytes]:
    """Statements of all shapes."""
    one = world()
    first = make_statement(one.election, one.island, make_file(CONTENT), make_file(b"two", "zwei.png"))
    second = make_statement(one.election, one.island, supersedes=StatementId(first.id))
    return [first.raw, second.raw, *(as_statement(package) for package in packages())]


@cache
def packages() -> Sequence[bytes]:
    """Payloads of statements."""
    one = world()
    tally = Tally({"voters": 12, "valid": 11, "invalid": 1}, {"1": 5, "2": 6})
    made = [
        Package(ELECTION, "tps-1", "form-1", 1, None, 1_700_000_000, (make_file(b"one"),)),
        Package(ELECTION, "tps-1", "form-1", 2, _statement(b"x"), -5, (), tally=tally, flags=("incomplete",)),
        Package(ELECTION, "tps-1", "f", 3, _statement(b"y"), 0, (), sealed_tally=b"\x00" * 9, sealed=True),
        Package(ELECTION, "t", "f", 1, None, 0, (make_file(CONTENT),), supersedes=_statement(b"z"), reason="r"),
    ]
    signer = one.island
    raws = [sign_statement(each, signer.identity.uri, signer.identity.certificate, signer.key) for each in made]
    return [read_sign1(raw).payload or b"" for raw in raws]


def _statement(name: bytes) -> StatementId:
    return StatementId(RecordId(sha256(name)))


def as_statement(payload: bytes) -> bytes:
    """A statement with this payload, whose claims are those of the first package; its signature is not looked at."""
    subject = f"{ELECTION}/tps-1/form-1"
    signer = world().island.identity
    return sign1(header(PACKAGE_TYPE, signer.uri, subject, signer.certificate), payload, _Nobody())


def signed_statement(payload: bytes) -> bytes:
    """A statement with this payload, truly signed by the island, whose claims are those of the payload."""
    subject = f"{ELECTION}/tps-1/form-1"
    with suppress(Malformed):
        document = decode(payload, MAX_RECORD)
        if isinstance(document, dict):
            subject = "/".join(str(document.get(key)) for key in ("election", "tps", "form"))
    signer = world().island
    return sign1(header(PACKAGE_TYPE, signer.identity.uri, subject, signer.identity.certificate), payload, signer.key)


def chains() -> Sequence[bytes]:
    """A byte that says which kind of store, then payloads, each behind its length in two bytes."""
    payloads = [len(one).to_bytes(2) + one for one in packages()]
    return [b"\x00" + b"".join(payloads), b"\x01" + b"".join(reversed(payloads)), b"\x00" + payloads[0] * 2]


def frontiers() -> Sequence[bytes]:
    """Frontiers of small logs."""
    return [b"", Frontier(5, (sha256(b"a"), sha256(b"b"))).to_bytes()]


def consistency_proofs() -> Sequence[bytes]:
    """Two sizes and a path."""
    return [encode([1, 2, [sha256(b"a")]]), encode([3, 7, [sha256(bytes([place])) for place in range(4)]])]


@cache
def sealed() -> tuple[bytes, Sequence[bytes]]:
    """A private sealing key, and what was sealed to it."""
    private = make_sealing_key()
    return private, [seal(b"content", public_sealing_key(private), "subject")]


def as_notice(payload: bytes) -> bytes:
    """A notice with this payload; the first byte chooses the topic in its claims."""
    topics = ("register", "receivers", "revocations", "witnesses")
    subject = f"{ELECTION}/{topics[payload[0] % 4] if payload else ''}/0"
    return sign1(header(NOTICE_TYPE, authority_uri(ELECTION), subject, world().election.root), payload[1:], _Nobody())


class _Nobody:
    def sign(self, data: bytes, /) -> bytes:
        return bytes(64)


@cache
def notices() -> Sequence[bytes]:
    """A notice of each topic."""
    one = world()
    stations = (Station("tps-1", 1, "Batun", "Dendang", "Pulau Batun", 299, signal=False),)
    key = public_bytes(one.boat.identity.key)
    bodies: list[Body] = [
        Register(("form-1", "form-2"), stations),
        _receivers(one.receiver),
        Revocations((Revocation(one.boat.identity.node, "boat", "lost"),)),
        Witnesses((("boat", key),)),
    ]
    return [sign_notice(ELECTION, 0, 1, body, one.election.root, one.election.root_key) for body in bodies]


@cache
def notice_bodies() -> Sequence[bytes]:
    """Payloads of notices, behind the number of their topic."""
    return [bytes([place]) + (read_sign1(raw).payload or b"") for place, raw in enumerate(notices())]


@cache
def receipts() -> Sequence[bytes]:
    """Receipts of small and larger trees."""
    one = world()
    statement = make_statement(one.election, one.island)
    return [make_receipt(one.election, one.receiver, statement, entry).raw for entry in (0, 1, 6, 1000)]


@cache
def checkpoints() -> Sequence[bytes]:
    """Checkpoints, one with a cosignature."""
    one = world()
    key = log_key(one.receiver.identity)
    plain = sign_checkpoint(Checkpoint(key.name, 5, sha256(b"root")), key, one.receiver.key)
    (witness,) = one.witnesses.values()
    return [plain, cosign(parse_note(plain), witness, one.boat.key, 1_700_000_000).to_bytes()]


def all_records() -> Sequence[bytes]:
    """Every COSE record."""
    return [*statements(), *notices(), *receipts()]


def records_with_kind() -> Sequence[bytes]:
    """Records behind a byte that says their kind."""
    kinds = {Kind.NOTICE: notices(), Kind.CHECKPOINT: checkpoints(), Kind.RECEIPT: receipts()}
    kinds[Kind.STATEMENT] = statements()
    return [bytes([kind - 1]) + raw for kind, raws in kinds.items() for raw in raws]


def cbor() -> Sequence[bytes]:
    """Documents of all types."""
    values = (
        0,
        -1,
        2**64 - 1,
        -(2**64),
        b"x" * 300,
        "tëxt",
        [1, [2, [3]]],
        {"a": 1, "bb": [None, True, False]},
        {1: 2},
    )
    return [encode(value) for value in values]


def tallies() -> Sequence[bytes]:
    """Tallies, as typed and as signed."""
    document = Tally({"voters": 12, "valid": 11}, {"1": 5, "2": 6}).to_map()
    return [encode(document), b'{"voters": 12, "registered_voters": 300, "votes": {"1": 5}}']


# -- the log


def verifier_keys() -> Sequence[bytes]:
    """Keys of a log and of a witness."""
    one = world()
    return [log_key(one.receiver.identity).vkey.encode(), *(key.vkey.encode() for key in one.witnesses.values())]


def tile_paths() -> Sequence[bytes]:
    """Paths of tiles."""
    tiles = (TileId(0, 0, 7), TileId(-1, 1_234_067), TileId(7, 999), TileId(2, 1000, 255))
    return [tile.path.encode() for tile in tiles]


def entry_bundles() -> Sequence[bytes]:
    """Bundles of entries."""
    return [encode_entries([b"", b"one", b"x" * 300]), encode_entries([b"e"] * 256)]


# -- sync


def greetings() -> Sequence[bytes]:
    """Greetings, with the first message of a reconciliation."""
    greeting = _greeting()
    more = {
        "node": greeting.node,
        "name": "b",
        "role": "carrier",
        "election": ELECTION,
        "free": 1,
        "news": 2,
        "content": 3,
        "version": 1,
        "compare": b"",
        "inquiry": b"",
        "given": b"",
        "torn": [[_object(), 3, 40_000]],
    }
    first = Initiator(records()).start()
    asked, replied = inquiries()[0], inquiry_replies()[0]
    greetings = [Greeting(greeting, first), Greeting(greeting, first, asked), Greeting(greeting, first, replied)]
    return [*(one.encode() for one in greetings), encode({**more, "zz": [1, 2]})]


def _greeting() -> Hello:
    who = world().boat.identity
    return Hello(who.node, who.name, who.role, who.election, 1 << 30, 7)


def _hashes(count: int) -> list[bytes]:
    return [sha256(bytes([place])) for place in range(count)]


def inquiries() -> Sequence[bytes]:
    """Inquiries."""
    ids = tuple(_statement(bytes([place])) for place in range(3))
    return [Inquiry(ids, 1.5).encode(), Inquiry(()).encode()]


def inquiry_replies() -> Sequence[bytes]:
    """Their replies."""
    ids = tuple(_statement(bytes([place])) for place in range(3))
    records = [(Kind.RECEIPT, receipts()[0]), (Kind.CHECKPOINT, b"checkpoint")]
    return [InquiryReply(ids[:1], ids[1:]).encode(), InquiryReply(ids[:1], ids[1:], records).encode()]


def ids() -> Sequence[bytes]:
    """Lists of ids."""
    held = [bytes(record) for _, record in list(records())[:5]]
    return [messages.encode_ids([]), messages.encode_ids(held)]


def record_messages() -> Sequence[bytes]:
    """Records in messages."""
    kinds = [(Kind(raw[0] + 1), raw[1:]) for raw in records_with_kind()]
    return [messages.encode_records(kinds[:3]), messages.encode_records(kinds[-2:]), b""]


def givens() -> Sequence[bytes]:
    """Records with what is held of their objects."""
    held = [Holding(_object(), len(CONTENT), 0, complete=True)]
    return [Given([]).encode(), *(Given(messages.decode_records(one), held).encode() for one in record_messages())]


def takens() -> Sequence[bytes]:
    """What became of records, and what is wanted."""
    return [Taken(["new", "over-quota"], [Want(_object(), 9, 1, 9)]).encode(), Taken([]).encode()]


def _object() -> ObjectId:
    return ObjectId(sha256(CONTENT))


def holdings() -> Sequence[bytes]:
    """Holdings, whole and in part."""
    whole, part = Holding(_object(), len(CONTENT), 0, complete=True), Holding(_object(), 99, 5, complete=False)
    return [messages.encode_holdings([whole, part])]


def wants() -> Sequence[bytes]:
    """Wants."""
    return [messages.encode_wants([Want(_object(), len(CONTENT), 7, len(CONTENT))])]


def missing() -> Sequence[bytes]:
    """What is lacked of objects."""
    return [messages.encode_missing([(_object(), 5), (_object(), 1)])]


def spans() -> Sequence[bytes]:
    """Requests for chunks."""
    return [SPAN.pack(_object(), 0, 0) + SPAN.pack(_object(), 2, 40_000)]


def numbers() -> Sequence[bytes]:
    """Counts."""
    return [messages.encode_number(0), messages.encode_number(1 << 40)]


def pairs() -> Sequence[bytes]:
    """Two counts."""
    return [messages.encode_pair(-1, 0), messages.encode_pair(7, 25_000)]


def frames() -> Sequence[bytes]:
    """Chunks on a stream."""
    first, short = CONTENT[:65_536], b"short"
    return [
        FRAME_HEAD.pack(_object(), 0, 0, len(short)) + short + FRAME_HEAD.pack(_object(), 1, 0, 1) + b"x",
        FRAME_HEAD.pack(_object(), 0, 0, len(first)) + first,
        FRAME_HEAD.pack(_object(), 0, 9, len(short)) + short + FRAME_HEAD.pack(_object(), 1, 9, 0),
    ]


def _other_records() -> RecordSet:
    both = list(records())
    return RecordSet([*both[:280], *((Kind.STATEMENT, one) for one in _hashes(20))])


@cache
def reconcile_messages() -> Sequence[bytes]:
    """What an initiator says, in every round."""
    return [message for message, _ in _conversation(_other_records(), records())]


@cache
def reconcile_replies() -> Sequence[bytes]:
    """What a responder says, in every round."""
    return [reply for _, reply in _conversation(records(), _other_records())]


def _conversation(left: RecordSet, right: RecordSet) -> list[tuple[bytes, bytes]]:
    initiator = Initiator(left)
    said: list[tuple[bytes, bytes]] = []
    message: bytes | None = initiator.start()
    while message is not None:
        said.append((message, respond(right, message)))
        message = initiator.step(said[-1][1])
    return said


# -- what people hand in, and what the link says


def certificates() -> Sequence[bytes]:
    """Certificates of each role."""
    one = world()
    return [one.election.root, *(node.identity.certificate for node in (one.island, one.boat, one.receiver))]


def requests() -> Sequence[bytes]:
    """A request for a certificate."""
    return [make_request("boat", world().boat.key)]


def enrolments() -> Sequence[bytes]:
    """Enrolments, and a file of notices."""
    one = world()
    whole = Enrolment(one.boat.identity.certificate, one.election.root, (notices()[2],))
    return [write_enrolment(whole), write_enrolment(Enrolment(None, None, (notices()[1],)))]


def configs() -> Sequence[bytes]:
    """Configurations."""
    return [
        b'listen = "[::]:8470"\nconsole = "127.0.0.1:8471"\npublic = "0.0.0.0:8480"\ndiscovery = false\n',
        b'interfaces = ["wlan0"]\npeers = ["boat.local:8470"]\nreceivers = ["https://rx.example:8470"]\n',
        b'storage_limit = "8 GiB"\nretention = "90 days"\nquota_bytes = 1\nquota_statements = "7"\n',
    ]


def registers() -> Sequence[bytes]:
    """A register."""
    head = "tps,number,village,district,island,registered_voters,signal\n"
    return [(head + 'tps-1,1,"Batun, Utara",Dendang,Pulau Batun,299,no\n').encode(), head.encode("utf-8-sig")]


def addresses() -> Sequence[bytes]:
    """Addresses, receivers, URIs."""
    texts = ("[fe80::1%wlan0]:8470", "127.0.0.1:1", "host.local:65535", "https://rx.example:8470", authority_uri("e"))
    return [text.encode() for text in (*texts, "relay://e/node/boat", "[::]:0")]


def plans() -> Sequence[bytes]:
    """Plans of `relay simulate`."""
    examples = Path(__file__).parents[2] / "docs/examples"
    return [file.read_bytes()[:4096] for file in sorted(examples.glob("*.toml"))] + [b"packages = 1\n"]


def sightings() -> Sequence[bytes]:
    """Announcements: instance, then pairs."""
    node = "0123456789abcdef" * 4
    return [f"{node[:16]}\0v=1\0id={node}\0e=abcd\0a=fe80::1\0a=10.0.0.7\0a=fe80::1%wlan0".encode()]


# -- a whole visit

PATHS = (
    "hello",
    "news",
    "reconcile",
    "inquire",
    "consistency",
    "records/get",
    "records/put",
    "holdings",
    "wants",
    "chunks/get",
    "chunks/put",
    "missing",
)


def calls() -> Sequence[bytes]:
    """Calls: a byte for the path and the node that is called, then a body."""
    bodies = {
        "hello": greetings(),
        "news": [encode([0, 0]), encode([-1, 60_000])],
        "reconcile": reconcile_messages(),
        "inquire": inquiries(),
        "consistency": [encode([0, 1]), encode([1, 1])],
        "records/get": ids(),
        "records/put": record_messages(),
        "holdings": [messages.encode_ids([_object()])],
        "wants": ids(),
        "missing": [messages.encode_ids([_object()])],
        "chunks/get": spans(),
        "chunks/put": frames(),
    }
    return [
        bytes([PATHS.index(path) | receiver << 7]) + body
        for receiver in (0, 1)
        for path, several in bodies.items()
        for body in several
    ]


def requests_over_http() -> Sequence[bytes]:
    """Requests as they stand on the wire."""
    body = encode([0, 0])
    head = f"POST {PREFIX}/news HTTP/1.1\r\nHost: relay\r\n"
    return [
        f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body,
        f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\n".encode() + body + b"\r\n0\r\n\r\n",
        f"{head}Content-Encoding: gzip\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n".encode(),
        b"GET / HTTP/1.0\r\n\r\n",
    ]


def _receivers(receiver: Node) -> Receivers:
    return Receivers((Receiver("receiver", ("https://rx.example:8470",), receiver.identity.certificate),))
