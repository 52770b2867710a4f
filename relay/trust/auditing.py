"""What a stranger checks in a published log's entries, with nothing but the election's root. Pure.

An entry is judged by the rules by which it had to be admitted (`relay.trust.admission`): certificate, role, polling
station, signature. Revocations are not held against it: a receiver may have logged it before its signer's key was lost
(docs/architecture.md, "Revocation hides"); they are told of beside the findings. Reading the log, comparing its tiles
and remembering what was checked is `relay.receiver.auditing`'s. Guards promise 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from relay.errors import Malformed, Refused
from relay.log.merkle import leaf_hash
from relay.log.tiles import decode_entries
from relay.records.identifiers import Kind, NodeId, ObjectId, StatementId
from relay.records.receipt import read_receipt
from relay.records.statement import Statement
from relay.trust.admission import Admission


@dataclass(frozen=True, slots=True)
class Entry:
    """What an entry that was found right says: its id, its place in a device's chain, its objects and their sizes."""

    id: StatementId
    node: NodeId
    seq: int
    previous: StatementId | None
    objects: tuple[tuple[ObjectId, int], ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """The entries of a bundle, all right; `leaves` are their leaf hashes, joined. No `entries` where only hashed."""

    leaves: bytes
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """The first entry (its index in the log) that is not right, and why."""

    index: int
    why: str


Judgement: TypeAlias = Judged | Fault


def judge_bundle(root: bytes, first: int, bundle: bytes, width: int, signatures: bool = True) -> Judgement:
    """Judge the first `width` entries of a bundle whose first is number `first` of the log.

    `root` is the election's root certificate, DER. Without `signatures` the entries are hashed only. Takes and returns
    plain values, so that other processes can do it.
    """
    admission = _by_root_alone(root)
    try:
        raws = decode_entries(bundle)
    except Malformed as error:
        return Fault(first, error.what)
    if len(raws) < width:
        return Fault(first + len(raws), f"it is missing: its bundle has {len(raws)} entries of {width}")
    leaves = b"".join(leaf_hash(raw) for raw in raws[:width])
    entries: list[Entry] = []
    for index, raw in enumerate(raws[:width] if signatures else (), first):
        try:
            body = admission.admit(Kind.STATEMENT, raw).body
        except (Malformed, Refused) as error:
            return Fault(index, error.what)
        if isinstance(body, Statement):
            entries.append(_entry(body, admission))
    return Judged(leaves, tuple(entries))


@dataclass(frozen=True, slots=True)
class Proof:
    """What a receipt says whose signature is right: its statement, the entry and the tree that it proves; and by whose
    certificate."""

    statement: StatementId
    index: int
    size: int
    leaf: bytes
    root: bytes
    certificate: bytes


def judge_receipts(root: bytes, raws: Sequence[bytes]) -> list[Proof | str]:
    """Judge receipts by certificate, role and signature: what each proves, or why it does not. As `judge_bundle`."""
    admission = _by_root_alone(root)
    found: list[Proof | str] = []
    for raw in raws:
        try:
            receipt = read_receipt(raw)
            _, tree = admission.prove(receipt)
        except (Malformed, Refused) as error:
            found.append(error.what)
            continue
        proof, certificate = receipt.inclusion, receipt.envelope.certificate
        found.append(Proof(receipt.statement, proof.index, proof.size, receipt.leaf, tree, certificate))
    return found


@lru_cache(maxsize=1)
def _by_root_alone(root: bytes) -> Admission:
    """An admission that knows no notices. One for all bundles: a device's certificate is checked once."""
    return Admission(root)


def _entry(statement: Statement, admission: Admission) -> Entry:
    package = statement.package
    objects = {entry.sha256: entry.size for entry in package.files}
    node = admission.identify(statement.envelope.certificate).node
    return Entry(statement.id, node, package.seq, package.previous, tuple(objects.items()))
