"""Messages in fewer bytes: they come back as they were, and nothing is inflated beyond its limit."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed
from relay.limits import DEFLATED_AT_ONCE, DEFLATED_FROM
from relay.net.deflate import deflated, inflated

DEFLATE = {"Content-Encoding": "deflate"}
CONTENTS = st.binary(max_size=4096) | st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 4000)).map(
    lambda pair: pair[0] * pair[1]
)


@given(CONTENTS)
async def test_what_is_deflated_comes_back_as_it_was_in_no_more_bytes(content: bytes) -> None:
    short, headers = await deflated(content)
    assert len(short) <= len(content)
    assert headers in ({}, DEFLATE)
    assert inflated(short, headers, len(content)) == content


async def test_what_is_short_is_left_as_it_is_and_what_is_long_is_not() -> None:
    assert await deflated(bytes(DEFLATED_FROM - 1)) == (bytes(DEFLATED_FROM - 1), {})
    for size in (DEFLATED_FROM, 2 * DEFLATED_AT_ONCE):
        short, headers = await deflated(bytes(size))
        assert len(short) < size // 10
        assert headers == DEFLATE


@given(st.binary(max_size=200))
def test_any_bytes_are_a_deflated_message_or_malformed(data: bytes) -> None:
    try:
        content = inflated(data, DEFLATE, 1000)
    except Malformed as error:
        assert error.what
    else:
        assert len(content) <= 1000


@pytest.mark.parametrize("limit", [0, 1, 999_999])
def test_nothing_is_inflated_beyond_its_limit(limit: int) -> None:
    content = zlib.compress(bytes(1_000_000), 9)
    assert inflated(content, DEFLATE, 1_000_000) == bytes(1_000_000)
    with pytest.raises(Malformed, match="limit"):
        inflated(content, DEFLATE, limit)


def test_no_room_is_made_for_what_is_beyond_the_limit() -> None:
    bomb = zlib.compress(bytes(100_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match="limit"):
            inflated(bomb, DEFLATE, 1_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[1:]])
def test_what_is_cut_short_or_goes_on_is_malformed(spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(Malformed):
        inflated(spoil(zlib.compress(b"a record")), DEFLATE, 100)


@pytest.mark.parametrize("coding", ["gzip", "br", "identity", "deflate, gzip", ""])
def test_no_other_coding_is_undone(coding: str) -> None:
    with pytest.raises(Malformed, match="coding"):
        inflated(b"anything", {"Content-Encoding": coding}, 100)
