"""Torn chunks: what is kept of a chunk that a contact cut off, for whom, and how much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Malformed
from relay.limits import MAX_CHUNK, MAX_CHUNKS_PER_PACKAGE, MAX_TORN, MAX_TORN_OF_ONE, TORN_FROM
from relay.records.encoding import decode, encode
from relay.records.identifiers import ObjectId, sha256
from relay.sync.messages import Greeting
from relay.sync.torn import Mending, TornChunks
from tests.fuzz.inputs import greetings

PHOTO = ObjectId(sha256(b"photo"))
PART = bytes(range(256)) * 16


def torn_in_the_middle(mending: Mending, index: int, data: bytes) -> None:
    """So much of a chunk comes, and no more."""
    parts: list[bytes] = []
    with mending.coming((PHOTO, index), parts):
        parts += [data[:7], data[7:]]
        raise TimeoutError


def test_a_chunk_that_came_whole_leaves_nothing() -> None:
    torn = TornChunks()
    with torn.mending("boat") as mending, mending.coming((PHOTO, 3), [PART]):
        pass
    assert torn.greeted("boat") == ()


def test_who_comes_back_goes_on_with_what_a_broken_call_still_waits_for() -> None:
    torn = TornChunks()
    with torn.mending("ferry") as other, other.coming((PHOTO, 2), [PART]), torn.mending("boat") as broken:
        with pytest.raises(TimeoutError), broken.coming((PHOTO, 3), parts := [PART]):
            assert torn.greeted("boat") == ((PHOTO, 3, len(PART)),)
            parts.append(PART)  # it was too late, and longer
            with torn.mending("boat") as mending:
                assert mending.before((PHOTO, 3), len(PART)) == PART
            raise TimeoutError
        assert torn.of("boat") == ()
    assert torn.of("ferry") == ()


def test_no_beginning_gives_way_to_a_shorter_one() -> None:
    torn = TornChunks()
    torn.keep("boat", (PHOTO, 3), 2 * PART)
    torn.keep("boat", (PHOTO, 3), PART)
    torn.keep("boat", (PHOTO, 3), b"")
    assert torn.of("boat") == ((PHOTO, 3, 2 * len(PART)),)
    assert torn.bytes == 2 * len(PART)


def test_what_came_of_a_chunk_is_put_before_the_rest_of_it_once() -> None:
    torn = TornChunks()
    with pytest.raises(TimeoutError), torn.mending("boat") as mending:
        torn_in_the_middle(mending, 3, PART)
    assert torn.of("boat") == ((PHOTO, 3, len(PART)),)
    with torn.mending("boat") as mending:
        assert mending.before((PHOTO, 3), len(PART)) == PART
        assert mending.before((PHOTO, 3), len(PART)) is None
    assert not torn.bytes


def test_nobody_goes_on_with_what_another_one_began() -> None:
    torn = TornChunks()
    torn.keep("boat", (PHOTO, 3), PART)
    with torn.mending("ferry") as mending:
        assert mending.ask((PHOTO, 3)) == 0
        assert mending.before((PHOTO, 3), len(PART)) is None
    assert torn.of("ferry") == ()
    assert torn.of("boat")


def test_a_chunk_that_comes_whole_or_goes_on_elsewhere_ends_its_beginning() -> None:
    torn = TornChunks()
    for length in (0, len(PART) - 1, len(PART) + 1):
        torn.keep("boat", (PHOTO, 3), PART)
        with torn.mending("boat") as mending:
            assert mending.before((PHOTO, 3), length) == (b"" if length == 0 else None)
        assert not torn.of("boat")


def test_what_was_asked_for_and_did_not_come_is_kept() -> None:
    torn = TornChunks()
    torn.keep("boat", (PHOTO, 3), PART)
    with torn.mending("boat") as mending:
        assert mending.ask((PHOTO, 3)) == len(PART)
        for index in range(10, 11 + MAX_TORN_OF_ONE):  # nothing that is torn meanwhile takes it away
            torn.keep("boat", (PHOTO, index), PART)
        assert mending.before((PHOTO, 3), len(PART)) == PART
        with pytest.raises(TimeoutError):
            torn_in_the_middle(mending, 3, 2 * PART)
    assert torn.of("boat")[-1] == (PHOTO, 3, 2 * len(PART))
    with torn.mending("boat") as mending:
        assert mending.ask((PHOTO, 3)) == 2 * len(PART)
    assert torn.of("boat")[-1] == (PHOTO, 3, 2 * len(PART))


def test_little_is_not_kept() -> None:
    torn = TornChunks()
    torn.keep("boat", (PHOTO, 3), bytes(TORN_FROM - 1))
    assert not torn.bytes
    assert torn.of("boat") == ()


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9), st.integers(0, MAX_CHUNK - 1), st.booleans()),
        max_size=60,
    )
)
def test_no_neighbour_fills_the_memory(deeds: list[tuple[str, int, int, bool]]) -> None:
    torn = TornChunks()
    content = bytes(MAX_CHUNK)
    for node, index, length, taken in deeds:
        if taken:
            torn.take(node, (PHOTO, index))
        else:
            before = {one: size for _, one, size in torn.of(node)}.get(index, 0)
            torn.keep(node, (PHOTO, index), content[:length])
            assert length < max(TORN_FROM, before) or torn.of(node)[-1] == (PHOTO, index, length)
        kept = [one for name in "abcdefgh" for one in torn.of(name)]
        assert torn.bytes == sum(length for _, _, length in kept) <= MAX_TORN
        assert all(len(torn.of(name)) <= MAX_TORN_OF_ONE for name in "abcdefgh")


@pytest.mark.parametrize(
    "torn",
    [
        [[bytes(32), 0, 5]] * (MAX_TORN_OF_ONE + 1),
        [[bytes(31), 0, 5]],
        [[bytes(32), -1, 5]],
        [[bytes(32), MAX_CHUNKS_PER_PACKAGE, 5]],
        [[bytes(32), 0, 0]],
        [[bytes(32), 0, MAX_CHUNK]],
        [[bytes(32), 0]],
        [5],
    ],
)
def test_a_greeting_that_tells_of_no_beginnings_is_refused(torn: list[object]) -> None:
    fields = decode(greetings()[0], 1 << 20)
    assert isinstance(fields, dict)
    with pytest.raises(Malformed):
        Greeting.decode(encode({**fields, "torn": torn}))


def test_a_greeting_tells_of_beginnings() -> None:
    greeting = Greeting.decode(greetings()[0])
    told = Greeting(greeting.hello, torn=((PHOTO, 3, len(PART)), (PHOTO, 9, 1)))
    assert Greeting.decode(told.encode()) == told
