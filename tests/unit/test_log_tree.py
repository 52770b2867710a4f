"""The growing tree against RFC 9162's definitions: roots, frontiers and proofs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed
from relay.log.merkle import EMPTY_ROOT, verify_consistency, verify_inclusion
from relay.log.tree import Frontier, consistency_proof, inclusion_proof, root_of
from tests import naive_tree

MAX_SIZE = 150
sizes = st.integers(1, MAX_SIZE)


@given(st.lists(st.integers(0, 40), max_size=8))
def test_frontier_grown_in_any_batches_has_the_trees_root(batches: list[int]) -> None:
    leaves = naive_tree.leaves_of(sum(batches))
    frontier = Frontier()
    for batch in batches:
        frontier = frontier.extend(leaves[frontier.size : frontier.size + batch])
        assert frontier.root() == naive_tree.root(leaves[: frontier.size])
        assert len(frontier.hashes) == frontier.size.bit_count()
        assert Frontier.from_bytes(frontier.to_bytes()) == frontier
    assert frontier.size == len(leaves)


def test_extending_leaves_the_old_frontier_alone() -> None:
    leaves = naive_tree.leaves_of(5)
    old = Frontier().extend(leaves[:3])
    old.extend(leaves[3:])
    assert (old.size, old.root()) == (3, naive_tree.root(leaves[:3]))


def test_no_bytes_are_the_empty_tree() -> None:
    assert Frontier.from_bytes(b"") == Frontier.from_bytes(Frontier().to_bytes()) == Frontier()
    assert Frontier().root() == root_of(0, naive_tree.reader([])) == EMPTY_ROOT


@given(size=sizes, cut=st.integers(1, 40))
def test_damaged_frontier_is_refused(size: int, cut: int) -> None:
    raw = Frontier().extend(naive_tree.leaves_of(size)).to_bytes()
    for damaged in (raw + bytes(cut), raw[: max(len(raw) - cut, 1)], (size ^ 1).to_bytes(8) + raw[8:]):
        with pytest.raises(Malformed):
            Frontier.from_bytes(damaged)


@given(size=sizes, data=st.data())
def test_inclusion_proof_is_the_standards_and_verifies(size: int, data: st.DataObject) -> None:
    leaves = naive_tree.leaves_of(MAX_SIZE)
    index = data.draw(st.integers(0, size - 1))
    read = naive_tree.reader(leaves)
    proof = inclusion_proof(index, size, read)
    assert list(proof) == naive_tree.inclusion(index, leaves[:size])
    verify_inclusion(leaves[index], index, size, root_of(size, read), proof)


@given(new=sizes, data=st.data())
def test_consistency_proof_is_the_standards_and_verifies(new: int, data: st.DataObject) -> None:
    leaves = naive_tree.leaves_of(MAX_SIZE)
    old = data.draw(st.integers(0, new))
    read = naive_tree.reader(leaves)
    proof = consistency_proof(old, new, read)
    assert list(proof) == (naive_tree.consistency(old, leaves[:new]) if old else [])
    verify_consistency(old, root_of(old, read), new, root_of(new, read), proof)


@given(size=sizes, data=st.data())
def test_proofs_read_only_complete_subtrees_of_their_tree(size: int, data: st.DataObject) -> None:
    # The reader raises for what lies beyond: a proof for an old checkpoint needs nothing newer than it.
    read = naive_tree.reader(naive_tree.leaves_of(size))
    inclusion_proof(data.draw(st.integers(0, size - 1)), size, read)
    consistency_proof(data.draw(st.integers(0, size)), size, read)


def test_proof_in_a_large_log_reads_little() -> None:
    reads: list[tuple[int, int]] = []

    def read(level: int, index: int) -> bytes:
        reads.append((level, index))
        return bytes(32)

    inclusion_proof(123_456, 1_000_003, read)
    assert len(reads) <= 2 * 20
    reads.clear()
    consistency_proof(123_456, 1_000_003, read)
    assert len(reads) <= 2 * 20


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3)])
def test_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(Malformed):
        inclusion_proof(index, size, naive_tree.reader([]))


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 1)])
def test_log_does_not_shrink(old: int, new: int) -> None:
    with pytest.raises(Malformed):
        consistency_proof(old, new, naive_tree.reader([]))
