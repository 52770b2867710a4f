"""RecordSet against a plain sorted list of keys."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed
from relay.store import recordset
from relay.store.recordset import END, FIRST, KEY_SIZE, RecordSet, item_of, key_of, kind_end, one_kind, varint

# Ids that share prefixes and ids at the edges: where order, minimal bounds and carries can go wrong.
ids = st.one_of(
    st.integers(0, 40).map(lambda n: sha256(b"%d" % n).digest()),
    st.binary(min_size=1, max_size=3).map(lambda ends: ends[:-1].ljust(31, b"\x00") + ends[-1:]),
    st.sampled_from([bytes(32), b"\xff" * 32, b"\xff" * 31 + b"\x00"]),
)
items = st.tuples(st.integers(0, 4) | st.just(15), ids)
bounds = st.one_of(
    st.just(FIRST),
    st.just(END),
    items.map(lambda item: key_of(*item)),
    st.builds(lambda item, size: key_of(*item)[:size], items, st.integers(1, KEY_SIZE)),
)


@contextmanager
def small_blocks() -> Iterator[None]:
    """Blocks of four keys, so that small examples split and merge them."""
    with patch.multiple(recordset, BLOCK=4, _FULL=8 * KEY_SIZE, _SMALL=3 * KEY_SIZE):
        yield


def fingerprint_of(keys: list[bytes]) -> bytes:
    """The protocol's definition, word by word."""
    total = sum(int.from_bytes(key[1:], "little") for key in keys) % 2**256
    return sha256(total.to_bytes(32, "little") + varint(len(keys))).digest()[:16]


def check(records: RecordSet, expected: set[bytes], lower: bytes = FIRST, upper: bytes = END) -> None:
    keys = sorted(expected)
    within = [key for key in keys if lower <= key < upper]
    assert len(records) == len(keys)
    assert list(records) == [item_of(key) for key in keys]
    assert list(records.keys(lower, upper)) == within
    assert records.count(lower, upper) == len(within)
    assert records.rank(lower) == sum(key < lower for key in keys)
    assert records.fingerprint(lower, upper) == fingerprint_of(within)
    assert [records.key_at(position) for position in range(len(keys))] == keys


@given(st.lists(items), bounds, bounds)
def test_a_built_set_is_the_sorted_set(given_items: list[tuple[int, bytes]], lower: bytes, upper: bytes) -> None:
    with small_blocks():
        check(RecordSet(given_items), {key_of(*item) for item in given_items}, lower, upper)


@given(st.lists(items), st.lists(st.tuples(st.booleans(), items, bounds, bounds), max_size=60))
def test_a_changed_set_is_the_sorted_set(
    start: list[tuple[int, bytes]], changes: list[tuple[bool, tuple[int, bytes], bytes, bytes]]
) -> None:
    with small_blocks():
        records, model = RecordSet(start), {key_of(*item) for item in start}
        for adding, item, lower, upper in changes:
            key = key_of(*item)
            assert (item in records) == (key in model)
            if adding:
                assert records.add(*item) == (key not in model)
                model.add(key)
            else:
                assert records.discard(*item) == (key in model)
                model.discard(key)
            check(records, model, lower, upper)


@given(st.lists(items, unique=True, min_size=1), bounds, bounds, st.data())
def test_a_split_covers_the_range_in_even_parts(
    given_items: list[tuple[int, bytes]], lower: bytes, upper: bytes, data: st.DataObject
) -> None:
    with small_blocks():
        records = RecordSet(given_items)
        count = records.count(lower, upper)
        if count == 0:
            return
        parts = data.draw(st.integers(1, count))
        pieces = records.split(lower, upper, parts)
        assert len(pieces) == parts
        assert (pieces[0][0], pieces[-1][1]) == (lower, upper)
        assert all(before[1] == after[0] for before, after in pairwise(pieces))
        sizes = [records.count(*piece) for piece in pieces]
        assert sizes == sorted(sizes, reverse=True)
        assert sum(sizes) == count
        assert sizes[0] - sizes[-1] <= 1


def test_blocks_of_the_real_size_split_and_merge() -> None:
    chance = random.Random(7)
    model = {key_of(4, chance.randbytes(32)) for _ in range(5_000)}
    records = RecordSet(item_of(key) for key in model)
    for _ in range(5_000):
        record = chance.randbytes(32)
        model.add(key_of(3, record))
        assert records.add(3, record)
    check(records, model, key_of(3, b"\x40" * 32), b"\x04\x80")
    for key in sorted(model)[100:9_900]:
        model.remove(key)
        assert records.discard(*item_of(key))
    check(records, model)
    assert len(records._blocks) < 10


def test_a_record_takes_less_than_forty_bytes() -> None:
    records = RecordSet((4, number.to_bytes(4, "big") * 8) for number in range(20_000))
    held = sum(block.__sizeof__() for block in records._blocks) + sum(sum_.__sizeof__() for sum_ in records._sums)
    assert held < 40 * len(records)


@pytest.mark.parametrize(("kind", "record"), [(-1, bytes(32)), (16, bytes(32)), (1, bytes(31)), (1, bytes(33))])
def test_what_is_no_record_is_refused(kind: int, record: bytes) -> None:
    with pytest.raises(Malformed):
        RecordSet([(kind, record)])
    records = RecordSet()
    with pytest.raises(Malformed):
        records.add(kind, record)
    assert len(records) == 0


def test_the_end_of_a_kind() -> None:
    assert kind_end(4) == b"\x05"
    assert kind_end(15) == END
    assert one_kind(b"\x04\x80", b"\x05")
    assert not one_kind(b"\x04\x80", b"\x05\x01")
    assert one_kind(b"\x0f", END)


def test_varints_of_the_protocol() -> None:
    assert [varint(number).hex() for number in (0, 127, 128, 300, 2**21)] == ["00", "7f", "8100", "822c", "81808000"]
