"""A receipt that has the pattern of the one before says what reading it by the rules would find; any other has none."""

from __future__ import annotations

import pytest

from relay.log.growth import Tail
from relay.log.merkle import leaf_hash
from relay.records.encoding import encode
from relay.records.identifiers import StatementId, statement_id
from relay.records.receipt import Inclusion, Receipt, read_receipt, sign_receipt
from relay.trust.pattern import ReceiptPattern
from relay.trust.roles import Role
from tests.factory import ELECTION, Node, make_election, make_node


@pytest.fixture(scope="module")
def receiver() -> Node:
    return make_node(make_election(), "receiver", Role.RECEIVER)


@pytest.fixture(scope="module", params=[1, 2, 20, 300])
def receipts(request: pytest.FixtureRequest, receiver: Node) -> list[Receipt]:
    """The receipts of one tree."""
    raws = [b"entry %d" % number for number in range(request.param)]
    growth = Tail().grow(raws)
    size, root = growth.tail.edge.size, growth.tail.edge.root()
    found: list[Receipt] = []
    for index, (raw, path) in enumerate(zip(raws, growth.proofs(), strict=True)):
        found.append(receipt(receiver, statement_id(raw), leaf_hash(raw), Inclusion(size, index, path), root))
    return found


def receipt(by: Node, statement: StatementId, leaf: bytes, proof: Inclusion, root: bytes) -> Receipt:
    signer = by.identity.uri, by.identity.certificate, by.key
    return sign_receipt(ELECTION, statement, leaf, proof, root, *signer)


def test_what_is_signed_is_what_is_read(receipts: list[Receipt]) -> None:
    for one in receipts:
        assert read_receipt(one.raw) == one


def test_the_receipts_of_one_tree_have_one_pattern(receipts: list[Receipt]) -> None:
    for first in (receipts[0], receipts[-1]):
        pattern = ReceiptPattern(first)
        for one in receipts:
            fitting = pattern.fit(one.raw, one.statement, one.leaf, one.entry)
            assert fitting is not None
            assert fitting.protected == one.envelope.protected
            assert fitting.path == one.inclusion.path
            assert fitting.signature == one.envelope.signature


def test_a_receipt_of_another_statement_leaf_or_entry_has_it_not(receipts: list[Receipt]) -> None:
    one = receipts[-1]
    pattern = ReceiptPattern(receipts[0])
    assert pattern.fit(one.raw, StatementId(receipts[0].id), one.leaf, one.entry) is None
    assert pattern.fit(one.raw, one.statement, bytes(32), one.entry) is None
    assert pattern.fit(one.raw, one.statement, one.leaf, one.entry + 1) is None


def test_a_receipt_of_another_tree_or_receiver_has_it_not(receiver: Node, receipts: list[Receipt]) -> None:
    one, other = receipts[-1], make_node(make_election(99), "receiver", Role.RECEIVER)
    pattern = ReceiptPattern(receipts[0])
    larger = Inclusion(one.inclusion.size + 1, one.entry, one.inclusion.path)
    assert pattern.fit(receipt(receiver, one.statement, one.leaf, larger, bytes(32)).raw, *named(one)) is None
    assert pattern.fit(receipt(other, one.statement, one.leaf, one.inclusion, bytes(32)).raw, *named(one)) is None


def test_no_byte_may_differ_but_those_of_hashes_and_the_signature(receipts: list[Receipt]) -> None:
    one = receipts[-1]
    pattern = ReceiptPattern(receipts[0])
    free = {at for path in one.inclusion.path for at in range(one.raw.index(path), one.raw.index(path) + 32)}
    free |= set(range(len(one.raw) - 64, len(one.raw)))
    for at in range(len(one.raw)):
        changed = one.raw[:at] + bytes([one.raw[at] ^ 1]) + one.raw[at + 1 :]
        assert (pattern.fit(changed, *named(one)) is not None) == (at in free), at


def test_a_proof_that_is_spelled_otherwise_has_it_not(receipts: list[Receipt]) -> None:
    one = receipts[-1]
    pattern = ReceiptPattern(receipts[0])
    proof = encode([one.inclusion.size, one.entry, list(one.inclusion.path)])
    for other in (
        proof + b"\0",
        proof[:-1],
        b"\x9f" + proof[1:] + b"\xff",
        b"\x83\x1a" + one.inclusion.size.to_bytes(4) + encode([one.entry, list(one.inclusion.path)])[1:],
        encode([one.inclusion.size, one.entry, [*one.inclusion.path, bytes(31)]]),
        b"",
    ):
        changed = one.raw.replace(encode(proof), encode(other))
        assert changed != one.raw
        assert pattern.fit(changed, *named(one)) is None
    for cut in range(len(one.raw)):
        assert pattern.fit(one.raw[:cut], *named(one)) is None
    assert pattern.fit(one.raw + b"\0", *named(one)) is None


def test_a_path_of_another_length_is_found_as_it_is(receipts: list[Receipt]) -> None:
    """Whether it leads to the tree's root is not the pattern's to say."""
    one = receipts[-1]
    path = (*one.inclusion.path, bytes(32))
    proof = encode([one.inclusion.size, one.entry, list(one.inclusion.path)])
    changed = one.raw.replace(encode(proof), encode(encode([one.inclusion.size, one.entry, list(path)])))
    fitting = ReceiptPattern(receipts[0]).fit(changed, *named(one))
    assert fitting is not None and fitting.path == path


def named(one: Receipt) -> tuple[StatementId, bytes, int]:
    return one.statement, one.leaf, one.entry
