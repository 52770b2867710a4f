"""What a stranger checks in a published log's entries, with nothing but the election's root. Pure.

An entry is judged by the rules by which it had to be admitted (`relay.trust.admission`): certificate, role, polling
station, signature. Revocations are not held against it: a receiver may have logged it before its signer's key was lost
(docs/architecture.md, "Revocation hides"); they are told of beside the findings. Reading the log, comparing its tiles
and remembering what was checked is `relay.receiver.auditing`'s. Guards promise 8.

Signatures are most of the work (`verifying`), and there are millions. What is right is found so in the quickest way
that is sure; what is not so plainly right is judged by `Admission`, which says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature

from relay.errors import Malformed, Refused
from relay.log.merkle import HASH_SIZE, leaf_hash, root_from_inclusion
from relay.log.tiles import HEIGHT, WIDTH, decode_entries
from relay.records.cose import to_be_signed
from relay.records.identifiers import Kind, NodeId, ObjectId, StatementId
from relay.records.receipt import read_receipt
from relay.records.statement import Statement
from relay.trust.admission import Admission
from relay.trust.certificates import Identity
from relay.trust.pattern import ReceiptPattern
from relay.trust.verifying import QuickKey


class Entry(NamedTuple):
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
    try:
        raws = decode_entries(bundle)
    except Malformed as error:
        return Fault(first, error.what)
    if len(raws) < width:
        return Fault(first + len(raws), f"it is missing: its bundle has {len(raws)} entries of {width}")
    leaves = b"".join([leaf_hash(raw) for raw in raws[:width]])
    if not signatures:
        return Judged(leaves, ())
    admission = _by_root_alone(root)
    entries: list[Entry] = []
    for index, raw in enumerate(raws[:width], first):
        try:
            admitted = admission.admit(Kind.STATEMENT, raw)
        except (Malformed, Refused) as error:
            return Fault(index, error.what)
        if isinstance(admitted.body, Statement):
            entries.append(_entry(admitted.body, admitted.signer))
    return Judged(leaves, tuple(entries))


def judge_bundles(root: bytes, bundles: Iterable[tuple[int, bytes, int]], signatures: bool = True) -> list[Judgement]:
    """Judge several bundles, each with its first entry and its width, up to the first one that is not right. A device's
    entries often stand near each other: then its certificate is read once for all of them."""
    found: list[Judgement] = []
    for first, bundle, width in bundles:
        found.append(judge_bundle(root, first, bundle, width, signatures))
        if isinstance(found[-1], Fault):
            break
    return found


@dataclass(slots=True)
class Proved:
    """So many receipts side by side that are right: in which tree they prove their entries, and by whose
    certificate."""

    count: int
    size: int
    root: bytes
    certificate: bytes


def judge_receipts(
    root: bytes, first: int, statements: Sequence[StatementId], leaves: bytes, raws: Sequence[bytes]
) -> tuple[list[Proved], Fault | None]:
    """Judge the receipts of entries from number `first` on, of these ids and leaf hashes: certificate, role, signature,
    and that each proves its own entry. What they prove, up to the first that does not. As `judge_bundle`."""
    judge = _receipts_by_root_alone(root)
    found: list[Proved] = []
    for place, (statement, raw) in enumerate(zip(statements, raws, strict=True)):
        index, leaf = first + place, leaves[place * HASH_SIZE : (place + 1) * HASH_SIZE]
        try:
            size, tree, certificate = judge.prove(raw, statement, leaf, index)
        except (Malformed, Refused) as error:
            return found, Fault(index, error.what)
        last = found[-1] if found else None
        if last and (last.size, last.root, last.certificate) == (size, tree, certificate):
            last.count += 1
        else:
            found.append(Proved(1, size, tree, certificate))
    return found, None


class _Receipts:
    """Judges receipts, most of them by the pattern of the one before."""

    def __init__(self, root: bytes) -> None:
        self._admission = _by_root_alone(root)
        self._last: tuple[ReceiptPattern, Identity] | None = None
        """What the last one that was read says of those beside it: one value, since threads may share this."""

    def prove(self, raw: bytes, statement: StatementId, leaf: bytes, index: int) -> tuple[int, bytes, bytes]:
        """Judge the receipt of this entry: size and root of the tree that it proves, and its signer's certificate.
        Raises `Malformed` or `Refused`."""
        return self._quickly(raw, statement, leaf, index) or self._by_the_rules(raw, statement, leaf, index)

    def _quickly(self, raw: bytes, statement: StatementId, leaf: bytes, index: int) -> tuple[int, bytes, bytes] | None:
        if self._last is None:
            return None
        pattern, signer = self._last
        fitting = pattern.fit(raw, statement, leaf, index)
        if fitting is None:
            return None
        try:
            tree = _root_above(leaf, index, pattern.size, fitting.path)
            QuickKey(signer.key).verify(fitting.signature, to_be_signed(fitting.protected, tree))
        except (Malformed, InvalidSignature):
            return None
        return pattern.size, tree, signer.certificate

    def _by_the_rules(self, raw: bytes, statement: StatementId, leaf: bytes, index: int) -> tuple[int, bytes, bytes]:
        receipt = read_receipt(raw)
        signer, tree = self._admission.prove(receipt)
        if receipt.statement != statement:
            raise Malformed("It is the receipt of another statement")
        if receipt.entry != index or receipt.leaf != leaf:
            raise Malformed("It proves another entry")
        self._last = ReceiptPattern(receipt), signer
        return receipt.inclusion.size, tree, signer.certificate


def _root_above(leaf: bytes, index: int, size: int, path: tuple[bytes, ...]) -> bytes:
    """As `root_from_inclusion`. Entries of one full tile share what is above it: that is computed once."""
    tile, last = index // WIDTH, (size - 1) // WIDTH
    if tile >= last:
        return root_from_inclusion(leaf, index, size, path)
    top = root_from_inclusion(leaf, index % WIDTH, WIDTH, path[:HEIGHT])
    return _root_from_tile(top, tile, last + 1, path[HEIGHT:])


_root_from_tile = lru_cache(maxsize=16)(root_from_inclusion)


@lru_cache(maxsize=1)
def _by_root_alone(root: bytes) -> Admission:
    """One that knows no notices, for all bundles: a device's certificate is checked once."""
    return Admission(root)


@lru_cache(maxsize=1)
def _receipts_by_root_alone(root: bytes) -> _Receipts:
    return _Receipts(root)


def _entry(statement: Statement, node: NodeId) -> Entry:
    package = statement.package
    objects = {entry.sha256: entry.size for entry in package.files}
    return Entry(statement.id, node, package.seq, package.previous, tuple(objects.items()))
