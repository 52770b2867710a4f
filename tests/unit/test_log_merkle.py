"""Tree hashing and the checks of proofs: public vectors, and every way to damage a proof."""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed, Refused
from relay.log.merkle import (
    EMPTY_ROOT,
    leaf_hash,
    node_hash,
    root_from_inclusion,
    verify_consistency,
    verify_inclusion,
)
from tests import naive_tree

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "merkle_rfc6962.json").read_text())
LEAVES = [leaf_hash(bytes.fromhex(leaf)) for leaf in VECTORS["leaves"]]
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]
FROM_NOTHING = "additional/size1-is-zero-and-size2-is-not-zero"
"""The one public case that we decide otherwise. Its authors refuse every proof from the empty log as meaningless; to us
it means what it says: any log begins with the empty one."""
MAX_SIZE = 70

sizes = st.integers(1, MAX_SIZE)


def bytes_of(text: str | None) -> bytes:
    return b64decode(text or "")


def root_of(text: str | None) -> bytes:
    """A root of a public case. Some are a few letters, stretched here so that their size decides nothing."""
    root = bytes_of(text)
    return root if len(root) == 32 else sha256(root).digest()


def named(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in VECTORS[kind]])


def damaged(path: list[bytes], data: st.DataObject) -> list[bytes]:
    """A path that differs from `path` in one place."""
    ways = ["longer"] + (["bit", "shorter", "cut"] if path else [])
    way = data.draw(st.sampled_from(ways))
    at = data.draw(st.integers(0, len(path) - (way != "longer")))
    if way == "longer":
        return [*path[:at], data.draw(st.binary(min_size=32, max_size=32)), *path[at:]]
    if way == "shorter":
        return path[:at] + path[at + 1 :]
    if way == "cut":
        return [*path[:at], path[at][: data.draw(st.integers(0, 31))], *path[at + 1 :]]
    return [*path[:at], flipped(path[at], data), *path[at + 1 :]]


def flipped(digest: bytes, data: st.DataObject) -> bytes:
    bit = data.draw(st.integers(0, 255))
    return (int.from_bytes(digest) ^ 1 << bit).to_bytes(32)


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_roots_of_the_public_tree(size: int) -> None:
    assert naive_tree.root(LEAVES[:size]) == ROOTS[size]


def test_hashes_are_those_of_the_public_tree() -> None:
    assert ROOTS[:2] == [EMPTY_ROOT, leaf_hash(b"")]
    assert node_hash(leaf_hash(b""), leaf_hash(b"\x00")) == ROOTS[2]


@named("inclusion")
def test_public_inclusion_proofs(case: dict[str, Any]) -> None:
    path = [bytes_of(one) for one in case["path"]]
    arguments = (bytes_of(case["leaf"]), case["index"], case["size"], bytes_of(case["root"]), path)
    if case["fails"]:
        with pytest.raises((Malformed, Refused)):
            verify_inclusion(*arguments)
    else:
        verify_inclusion(*arguments)


@named("consistency")
def test_public_consistency_proofs(case: dict[str, Any]) -> None:
    path = [bytes_of(one) for one in case["path"]]
    arguments = (case["old_size"], root_of(case["old_root"]), case["new_size"], root_of(case["new_root"]), path)
    if case["fails"] and case["name"] != FROM_NOTHING:
        with pytest.raises((Malformed, Refused)):
            verify_consistency(*arguments)
    else:
        verify_consistency(*arguments)


@given(size=sizes, data=st.data())
def test_inclusion_proof_holds_for_its_leaf_and_place_only(size: int, data: st.DataObject) -> None:
    leaves = naive_tree.leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    root, path = naive_tree.root(leaves), naive_tree.inclusion(index, leaves)
    verify_inclusion(leaves[index], index, size, root, path)

    for other in {*range(size)} - {index}:
        with pytest.raises((Malformed, Refused)):
            verify_inclusion(leaves[index], other, size, root, path)
    with pytest.raises(Refused) as refusal:
        verify_inclusion(flipped(leaves[index], data), index, size, root, path)
    assert refusal.value.reason == "not-in-log"
    with pytest.raises(Refused):
        verify_inclusion(leaves[index], index, size, flipped(root, data), path)
    with pytest.raises((Malformed, Refused)):
        verify_inclusion(leaves[index], index, size, root, damaged(path, data))


@given(size=sizes, data=st.data())
def test_inclusion_path_of_the_wrong_length_is_malformed(size: int, data: st.DataObject) -> None:
    leaves = naive_tree.leaves_of(size)
    index = data.draw(st.integers(0, size - 1))
    path = naive_tree.inclusion(index, leaves)
    for wrong in [[*path, bytes(32)], *([path[:-1]] if path else [])]:
        with pytest.raises(Malformed):
            root_from_inclusion(leaves[index], index, size, wrong)


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (0, 0), (1, 1), (5, 4), (0, -1)])
def test_place_outside_the_tree_is_malformed(index: int, size: int) -> None:
    with pytest.raises(Malformed):
        root_from_inclusion(bytes(32), index, size, [])


def test_children_of_other_sizes_do_not_pass() -> None:
    left, right = naive_tree.leaves_of(2)
    for shift in (left + right[:1], right[1:]), (left[:-1], left[-1:] + right), (left + right, b""):
        with pytest.raises(Malformed):
            root_from_inclusion(shift[0], 0, 2, [shift[1]])


@given(data=st.data(), wrong=st.binary(max_size=70).filter(lambda one: len(one) != 32))
def test_what_is_no_hash_is_malformed(data: st.DataObject, wrong: bytes) -> None:
    leaves = naive_tree.leaves_of(7)
    proof = [naive_tree.root(leaves[:4]), naive_tree.root(leaves), *naive_tree.consistency(4, leaves)]
    at = data.draw(st.integers(0, len(proof) - 1))
    proof[at] = wrong
    old_root, new_root, path = proof[0], proof[1], proof[2:]
    with pytest.raises(Malformed):
        verify_consistency(4, old_root, 7, new_root, path)
    with pytest.raises(Malformed):
        root_from_inclusion(wrong, 2, 7, naive_tree.inclusion(2, leaves))


def test_root_does_not_bind_the_size() -> None:
    """What `root_from_inclusion` warns of: leaf 2 of three has the way to the root of leaf 1 of two."""
    leaves = naive_tree.leaves_of(3)
    root, path = naive_tree.root(leaves), naive_tree.inclusion(2, leaves)
    assert root_from_inclusion(leaves[2], 2, 3, path) == root_from_inclusion(leaves[2], 1, 2, path) == root


@given(new=sizes, data=st.data())
def test_consistency_proof_holds_for_its_two_roots_only(new: int, data: st.DataObject) -> None:
    leaves = naive_tree.leaves_of(new)
    old = data.draw(st.integers(0, new))
    old_root, new_root = naive_tree.root(leaves[:old]), naive_tree.root(leaves)
    path = naive_tree.consistency(old, leaves) if old else []
    verify_consistency(old, old_root, new, new_root, path)

    for roots in (flipped(old_root, data), new_root), (old_root, flipped(new_root, data)):
        if old == 0 and roots[0] == old_root:
            continue  # any log begins with the empty one
        with pytest.raises(Refused) as refusal:
            verify_consistency(old, roots[0], new, roots[1], path)
        assert refusal.value.reason == "inconsistent-log"
    with pytest.raises((Malformed, Refused)):
        verify_consistency(old, old_root, new, new_root, damaged(path, data))
    for other in {*range(new + 1)} - {old}:
        with pytest.raises((Malformed, Refused)):
            verify_consistency(other, old_root, new, new_root, path)


@given(new=st.integers(2, MAX_SIZE), data=st.data())
def test_rewritten_log_has_no_proof(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    leaves = naive_tree.leaves_of(new)
    rewritten = [*leaves]
    at = data.draw(st.integers(0, old - 1))
    rewritten[at] = leaf_hash(b"another")
    path = naive_tree.consistency(old, rewritten)
    with pytest.raises(Refused) as refusal:
        verify_consistency(old, naive_tree.root(leaves[:old]), new, naive_tree.root(rewritten), path)
    assert refusal.value.reason == "inconsistent-log"


@pytest.mark.parametrize(("old", "new"), [(-1, 1), (2, 1), (-2, -1)])
def test_sizes_out_of_order_are_malformed(old: int, new: int) -> None:
    with pytest.raises(Malformed):
        verify_consistency(old, bytes(32), new, bytes(32), [])


def test_empty_log_has_one_root() -> None:
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    for roots in (EMPTY_ROOT, bytes(32)), (bytes(32), EMPTY_ROOT), (bytes(32), bytes(32)):
        with pytest.raises(Refused):
            verify_consistency(0, roots[0], 0, roots[1], [])
