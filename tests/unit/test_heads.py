"""Heads of logs: what a receiver signed at one size and with two roots, in whatever records, is found."""

from __future__ import annotations

from relay.limits import MAX_HEADS
from relay.log.checkpoint import Checkpoint
from relay.log.merkle import leaf_hash
from relay.records.identifiers import Kind, sha256
from relay.records.receipt import Receipt
from relay.trust.heads import Head, Heads, head_of
from relay.trust.roles import Role
from tests.factory import ELECTION, make_election, make_node, make_receipt, make_statement

ORIGIN = f"{ELECTION}/receiver"


def head(size: int, root: bytes = b"one", origin: str = ORIGIN) -> Head:
    """A head whose record does not matter."""
    return Head(Checkpoint(origin, size, sha256(root)), Kind.CHECKPOINT, b"%d %s" % (size, root))


def test_two_roots_of_one_size_contradict_each_other() -> None:
    heads = Heads()
    assert heads.hear(head(3)) is None
    assert heads.hear(head(3)) is None
    assert heads.hear(head(4, b"other")) is None
    assert heads.hear(head(3, b"other", "another/log")) is None
    assert heads.hear(head(3, b"other")) == head(3)


def test_what_was_heard_waits_until_it_is_proved() -> None:
    heads = Heads()
    for size in (9, 2, 5):
        heads.hear(head(size))
    newest = head(5).tree
    assert [one.tree.size for one in heads.waiting(newest, 10)] == [2, 9]
    assert [one.tree.size for one in heads.waiting(newest, 1)] == [2]
    heads.settle(head(2))
    heads.settle(head(77))
    assert [one.tree.size for one in heads.waiting(newest, 10)] == [9]
    assert heads.waiting(Checkpoint("another/log", 5, bytes(32)), 10) == []


def test_no_more_are_kept_than_a_few_and_the_first_ones_stay() -> None:
    heads = Heads()
    for size in range(2 * MAX_HEADS):
        assert heads.hear(head(size)) is None
    assert [one.tree.size for one in heads.waiting(head(10_000).tree, 10_000)] == list(range(MAX_HEADS))


def test_a_receipt_says_what_its_log_was() -> None:
    election = make_election()
    receiver = make_node(election, "receiver", Role.RECEIVER)
    statement = make_statement(election, make_node(election, "island"))
    assert head_of(statement, statement.raw) is None
    first = make_receipt(election, receiver, statement, 0)
    assert head_of(first, first.raw) == Head(Checkpoint(ORIGIN, 1, leaf_hash(statement.raw)), Kind.RECEIPT, first.raw)
    later = make_receipt(election, receiver, statement, 6)
    said = head_of(later, later.raw)
    assert said is not None
    assert isinstance(later.body, Receipt)
    assert said.tree.size == 7
