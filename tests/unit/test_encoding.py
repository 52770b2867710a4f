"""The one encoding: exactly the core deterministic CBOR of relay's data model (RFC 8949 §4.2.1)."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.errors import Malformed
from relay.limits import MAX_CBOR_DEPTH
from relay.records.encoding import byte_string, decode, encode

NUMBERS = st.integers(-(1 << 64), (1 << 64) - 1)
KEYS = st.integers(-(1 << 64), (1 << 64) - 1) | st.text(max_size=30)
VALUES = st.recursive(
    NUMBERS | st.binary(max_size=300) | st.text(max_size=100) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
LIMIT = 1 << 20


def depth(value: object) -> int:
    """How deep a value is nested."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def in_model(value: object) -> bool:
    """Whether a value, read by a lenient decoder, is of relay's data model."""
    if isinstance(value, dict):
        return all(type(key) in (int, str) and in_model(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(in_model, value))
    if type(value) is int:
        return -(1 << 64) <= value < 1 << 64
    return value is None or type(value) in (bool, bytes, str)


@given(VALUES)
def test_what_is_encoded_is_decoded(value: Any) -> None:
    if depth(value) <= MAX_CBOR_DEPTH:
        assert decode(encode(value), LIMIT) == value
    else:
        with pytest.raises(Malformed, match="nested"):
            decode(encode(value), LIMIT)


@given(VALUES)
def test_another_library_reads_it(value: Any) -> None:
    assert cbor2.loads(encode(value)) == value


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
def test_a_byte_string_has_the_same_encoding_the_short_way(size: int) -> None:
    assert byte_string(bytes(size)) == encode(bytes(size))


@given(st.dictionaries(KEYS, st.none(), max_size=8))
def test_keys_stand_in_the_bytewise_order_of_their_encodings(value: dict[Any, None]) -> None:
    keys = [encode(key) for key in cbor2.loads(encode(value))]
    assert keys == sorted(keys)


@given(
    st.binary(max_size=60)
    | st.builds(
        lambda raw, at, byte: raw[:at] + bytes([byte]) + raw[at + 1 :],
        VALUES.map(encode),
        st.integers(0, 40),
        st.integers(0, 255),
    )
    | st.builds(lambda raw, cut: raw[:cut], VALUES.map(encode), st.integers(0, 40))
    | st.builds(lambda raw, more: raw + more, VALUES.map(encode), st.binary(min_size=1, max_size=3))
    | VALUES.map(cbor2.dumps)
)
@example(b"")
def test_promise_10_exactly_the_deterministic_encodings_are_accepted(data: bytes) -> None:
    """The judge is another library: a lenient read, then relay's spelling of what was read."""
    try:
        value = decode(data, LIMIT)
    except Malformed:
        try:
            lenient = cbor2.loads(data)
        except Exception:  # noqa: BLE001 - whatever ails the other library
            return
        if in_model(lenient) and depth(lenient) <= MAX_CBOR_DEPTH:
            assert encode(lenient) != data, "a deterministic encoding was refused"
    else:
        assert encode(value) == data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("1817", "shortest"),  # 23 in two bytes
        ("190018", "shortest"),
        ("1a0000ffff", "shortest"),
        ("1b00000000ffffffff", "shortest"),
        ("3800", "shortest"),  # -1 in two bytes
        ("580100", "shortest"),  # a byte string's length
        ("7801" + "61", "shortest"),
        ("980101", "shortest"),
        ("b8010101", "shortest"),
        ("5f4100ff", "indefinite"),
        ("7f6161ff", "indefinite"),
        ("9f01ff", "indefinite"),
        ("bf0101ff", "indefinite"),
        ("1c", "indefinite"),  # reserved additional information
        ("a201010102", "repeat"),
        ("a202010101", "out of order"),
        ("a2616201616101", "out of order"),
        ("a2626161016162" + "01", "out of order"),  # length first, as encodings go
        ("a14101" + "01", "neither a number nor a text"),
        ("a1f401", "neither a number nor a text"),
        ("a18001", "nested"),
        ("c100", "type"),  # a tag
        ("c249010000000000000000", "type"),  # a bignum
        ("d9d9f700", "type"),  # self-described CBOR
        ("f90000", "type"),  # floats
        ("fa47c35000", "type"),
        ("fb3ff199999999999a", "type"),
        ("f7", "type"),  # undefined
        ("f818", "type"),  # simple values
        ("e0", "type"),
        ("ff", "type"),
        ("0000", "follow"),
        ("f600", "follow"),
        ("", "middle"),
        ("18", "middle"),
        ("8201", "middle"),
        ("a101", "middle"),
        ("42ff", "longer"),
        ("5bffffffffffffffff", "longer"),
        ("7bffffffffffffffff", "longer"),
        ("9bffffffffffffffff", "middle"),  # no room is made for what a length announces
        ("bbffffffffffffffff", "middle"),
        ("61ff", "read"),  # not UTF-8
        ("63eda080", "read"),  # a surrogate
        ("a161ff01", "read"),
        ("81" * MAX_CBOR_DEPTH + "80", "nested"),
        ("a100" * MAX_CBOR_DEPTH + "a0", "nested"),
        ("81" * 50_000, "nested"),
    ],
)
def test_promise_10_other_spellings_are_refused(data: str, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        decode(bytes.fromhex(data), LIMIT)


def test_the_limit_counts_bytes() -> None:
    assert decode(encode(b"1234"), 5) == b"1234"
    with pytest.raises(Malformed, match="limit"):
        decode(encode(b"12345"), 5)


def test_depth_up_to_the_bound() -> None:
    assert depth(decode(bytes.fromhex("81" * (MAX_CBOR_DEPTH - 1) + "80"), LIMIT)) == MAX_CBOR_DEPTH


@pytest.mark.parametrize(
    ("hexadecimal", "value"),
    [  # RFC 8949, appendix A
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1a000f4240", 1_000_000),
        ("1b000000e8d4a51000", 1_000_000_000_000),
        ("1bffffffffffffffff", 18_446_744_073_709_551_615),
        ("3bffffffffffffffff", -18_446_744_073_709_551_616),
        ("20", -1),
        ("3903e7", -1000),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("40", b""),
        ("4401020304", b"\x01\x02\x03\x04"),
        ("60", ""),
        ("6449455446", "IETF"),
        ("62c3bc", "\u00fc"),
        ("64f0908591", "\U00010151"),
        ("80", []),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a0", {}),
        ("a201020304", {1: 2, 3: 4}),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ],
)
def test_the_examples_of_the_rfc(hexadecimal: str, value: object) -> None:
    assert encode(value).hex() == hexadecimal
    assert decode(bytes.fromhex(hexadecimal), LIMIT) == value
