"""A small election made of real keys, certificates and signatures, for tests. Everything follows from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.log.merkle import leaf_hash
from relay.records.identifiers import Kind, ObjectId, StatementId, sha256
from relay.records.notice import Revocation, Revocations, sign_notice
from relay.records.receipt import Inclusion, sign_receipt
from relay.records.statement import FileEntry, Package, describe_file, sign_statement
from relay.records.tally import Tally
from relay.trust.admission import Admission, Admitted
from relay.trust.certificates import Identity, issue, make_request, make_root, read_certificate, read_request
from relay.trust.roles import Role

ELECTION = "test-2024"
ISSUED_AT = datetime(2024, 11, 1, tzinfo=UTC)


@dataclass
class Node:
    """An enrolled node, and the chain of what it signed."""

    identity: Identity
    key: Ed25519PrivateKey
    chain: list[StatementId] = field(default_factory=list)


@dataclass
class Election:
    """An election: its root, its dice, and an admission that trusts it."""

    root: bytes
    root_key: Ed25519PrivateKey
    dice: random.Random
    admission: Admission


def make_election(seed: int = 1) -> Election:
    """A new election."""
    dice = random.Random(seed)
    key = _key(dice)
    root = make_root(ELECTION, key, dice.getrandbits(64) | 1, ISSUED_AT)
    return Election(root, key, dice, Admission(root))


def make_node(election: Election, name: str, role: Role = Role.OPERATOR, tps: Sequence[str] = ("tps-1",)) -> Node:
    """Enrol a node; `tps` counts for operators only."""
    key = _key(election.dice)
    request = read_request(make_request(name, key))
    stations = tps if role is Role.OPERATOR else ()
    serial = election.dice.getrandbits(64) | 1
    der = issue(election.root, election.root_key, request, role, stations, serial, ISSUED_AT)
    return Node(read_certificate(der), key)


def make_file(content: bytes, name: str = "photo.jpg") -> FileEntry:
    """The entry of a file with this content."""
    return describe_file(name, "image/jpeg", [content], len(content))


def make_statement(
    election: Election,
    node: Node,
    *files: FileEntry,
    form: str = "form-1",
    tps: str = "tps-1",
    supersedes: StatementId | None = None,
    tally: Tally | None = None,
    captured_at: int = 1_700_000_000,
) -> Admitted:
    """The next statement of a node's chain, admitted; with some `tally` where it has no files."""
    package = Package(
        election=ELECTION,
        tps=tps,
        form=form,
        seq=len(node.chain) + 1,
        previous=node.chain[-1] if node.chain else None,
        captured_at=captured_at,
        files=files,
        tally=tally or (None if files else Tally({"voters": 1})),
        supersedes=supersedes,
    )
    raw = sign_statement(package, node.identity.uri, node.identity.certificate, node.key)
    admitted = election.admission.admit(Kind.STATEMENT, raw)
    node.chain.append(StatementId(admitted.id))
    return admitted


def make_receipt(election: Election, receiver: Node, statement: Admitted, entry: int = 0) -> Admitted:
    """A receipt that proves `statement` to be the entry `entry`, the last one of its log."""
    leaf = leaf_hash(statement.raw)
    path: list[bytes] = []
    root, index, last = leaf, entry, entry
    while last:  # RFC 9162 §2.1.3.2, for the last leaf: every subtree to its left is one made-up hash
        if index & 1:
            path.append(sha256(b"left" + len(path).to_bytes(2, "big")))
            root = sha256(b"\x01" + path[-1] + root)
        index, last = index >> 1, last >> 1
    raw = sign_receipt(
        ELECTION,
        StatementId(statement.id),
        leaf,
        Inclusion(entry + 1, entry, tuple(path)),
        root,
        receiver.identity.uri,
        receiver.identity.certificate,
        receiver.key,
    ).raw
    return election.admission.admit(Kind.RECEIPT, raw)


def make_revocations(election: Election, version: int, *nodes: Node) -> Admitted:
    """A notice that revokes these nodes, admitted and not installed."""
    revoked = tuple(Revocation(one.identity.node, one.identity.name, "lost") for one in nodes)
    raw = sign_notice(ELECTION, 0, version, Revocations(revoked), election.root, election.root_key)
    return election.admission.admit(Kind.NOTICE, raw)


def content_of(dice: random.Random, size: int) -> bytes:
    """Bytes that do not compress."""
    return dice.randbytes(size)


def object_of(content: bytes) -> ObjectId:
    """The id of an object with this content."""
    return ObjectId(sha256(content))


def _key(dice: random.Random) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(dice.randbytes(32))
