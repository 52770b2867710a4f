"""Receipts: the receiver's signed proof that a statement is in its log (COSE Receipt, RFC 9942).

Lives here: the format. The payload is detached: it is the Merkle root that the inclusion proof leads to. Checking a
receipt takes the proof's arithmetic (`relay.log.merkle`) first and the signature second: `relay.trust.admission`.

Beyond RFC 9942 the protected header carries, under private-use labels, the leaf's hash, so that a boat can check a
receipt for a statement that it does not hold, and the tree's size: the proof alone is not signed, and a path leads to
the same root from another index of a tree of another size. The subject names the statement:
`<election>/statement/<id in hex>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.errors import Malformed
from relay.limits import MAX_PROOF_PATH, MAX_RECORD
from relay.records.cose import Sign1, Signer, envelope, header, read_sign1
from relay.records.encoding import decode, encode
from relay.records.identifiers import HASH_SIZE, RecordId, StatementId, is_code, parse_hash, receipt_id

VDS = 395  # verifiable data structure
VDP = 396  # verifiable data structure proofs
RFC9162_SHA256 = 1
INCLUSION = -1
LEAF_HASH = -65_537
"""Private-use header label: the RFC 9162 leaf hash of the statement, 32 bytes."""
TREE_SIZE = -65_538
"""Private-use header label: the size of the tree whose root is signed; with the path it settles the index."""


@dataclass(frozen=True, slots=True)
class Inclusion:
    """An inclusion proof: the leaf's index, in a tree of `size` leaves, and the path to its root, lowest first."""

    size: int
    index: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A parsed receipt. `id` is what it is reconciled under, `statement` what it is for."""

    id: RecordId
    raw: bytes
    envelope: Sign1
    election: str
    statement: StatementId
    leaf: bytes
    inclusion: Inclusion

    @property
    def entry(self) -> int:
        """The statement's index in the log, from 0."""
        return self.inclusion.index


def sign_receipt(
    election: str,
    statement: StatementId,
    leaf: bytes,
    inclusion: Inclusion,
    root: bytes,
    issuer: str,
    certificate: bytes,
    signer: Signer,
) -> Receipt:
    """A receipt for the statement whose leaf `inclusion` ties to `root`: what `read_receipt` reads from its bytes."""
    parameters = header(None, issuer, f"{election}/statement/{statement.hex()}", certificate)
    parameters |= {VDS: RFC9162_SHA256, LEAF_HASH: leaf, TREE_SIZE: inclusion.size}
    proof = encode([inclusion.size, inclusion.index, list(inclusion.path)])
    signed = envelope(parameters, root, signer, unprotected={VDP: {INCLUSION: [proof]}}, detached=True)
    return Receipt(receipt_id(statement), signed.to_bytes(), signed, election, statement, leaf, inclusion)


def read_receipt(raw: bytes) -> Receipt:
    """Parse a receipt; neither proof nor signature is checked here. Raises `Malformed`."""
    signed = read_sign1(raw)
    match signed.header:
        case {395: 1, -65_537: bytes(leaf), -65_538: int(size)} if len(leaf) == HASH_SIZE and len(signed.header) == 6:
            pass
        case _:
            raise Malformed("A record is not a receipt: its header differs")
    match signed.unprotected:
        case {396: {-1: [bytes(proof)], **other_proofs}, **other} if not other and not other_proofs:
            pass
        case _:
            raise Malformed("A receipt does not have exactly one inclusion proof")
    if signed.payload is not None:
        raise Malformed("A receipt's payload is not detached")
    election, statement = _read_subject(signed.subject)
    inclusion = _read_inclusion(proof)
    if isinstance(size, bool) or inclusion.size != size:
        raise Malformed("A receipt's proof is for a tree of another size than was signed")
    return Receipt(receipt_id(statement), raw, signed, election, statement, leaf, inclusion)


def _read_subject(subject: str) -> tuple[str, StatementId]:
    election, _, digest = subject.partition("/statement/")
    if not is_code(election):
        raise Malformed("A receipt's subject names no statement")
    statement = parse_hash(digest, "statement id")
    if statement.hex() != digest:
        raise Malformed("A receipt's subject is not in lower case")
    return election, StatementId(RecordId(statement))


def _read_inclusion(proof: bytes) -> Inclusion:
    match decode(proof, MAX_RECORD):
        case [int(size), int(index), list(path)] if not isinstance(size, bool) and not isinstance(index, bool):
            if 0 <= index < size < 1 << 62 and len(path) <= MAX_PROOF_PATH:
                return Inclusion(size, index, _hashes(path))
    raise Malformed("A receipt's inclusion proof is not [size, index, path]")


def _hashes(path: Sequence[object]) -> tuple[bytes, ...]:
    hashes = tuple(item for item in path if isinstance(item, bytes) and len(item) == HASH_SIZE)
    if len(hashes) != len(path):
        raise Malformed("A receipt's inclusion path is not made of hashes")
    return hashes
