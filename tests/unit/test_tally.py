"""The arithmetic of a form: each flag by itself, and what is no tally."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import BadInput, Malformed
from relay.limits import MAX_PAIRS, MAX_TALLY, MAX_TALLY_VALUE
from relay.records.encoding import decode, encode
from relay.records.tally import COUNTS, Tally, check_tally, mismatches, parse_tally, read_tally, reserve

SOUND = {
    "registered_voters": 500,
    "voters": 400,
    "ballots_received": 513,
    "ballots_used": 400,
    "ballots_spoiled": 3,
    "ballots_unused": 110,
    "valid": 390,
    "invalid": 10,
    "votes": {"01": 200, "02": 190},
}
FLAGS = {
    "incomplete",
    "negative-number",
    "valid-is-not-sum-of-votes",
    "used-is-not-valid-plus-invalid",
    "received-is-not-used-spoiled-unused",
    "voters-is-not-ballots-used",
    "received-is-not-registered-plus-reserve",
    "registered-differs-from-register",
    "more-voters-than-ballots",
}


def flags(changes: dict[str, Any], registered: int | None = 500) -> set[str]:
    """The flags of the sound form with some changes; a key changed to None is left out."""
    document = {key: value for key, value in (SOUND | changes).items() if value is not None}
    return set(check_tally(read_tally(document), registered))


def test_a_form_that_adds_up_has_no_flag() -> None:
    assert flags({}) == set()
    assert flags({}, None) == set()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"votes": {"01": 201, "02": 190}}, {"valid-is-not-sum-of-votes"}),
        ({"invalid": 11}, {"used-is-not-valid-plus-invalid"}),
        ({"ballots_spoiled": 4}, {"received-is-not-used-spoiled-unused"}),
        ({"voters": 399}, {"voters-is-not-ballots-used"}),
        (
            {"ballots_received": 514, "ballots_unused": 111},
            {"received-is-not-registered-plus-reserve"},
        ),
        ({"voters": 514}, {"voters-is-not-ballots-used", "more-voters-than-ballots"}),
        ({"votes": None}, {"incomplete"}),
        ({"votes": {}}, {"incomplete"}),
        ({"voters": None}, {"incomplete"}),
        (
            {"ballots_received": None, "voters": 501},
            {"incomplete", "voters-is-not-ballots-used", "more-voters-than-ballots"},
        ),
        ({"votes": {"01": 391, "02": -1}}, {"negative-number"}),
        ({"ballots_spoiled": -3, "ballots_unused": 116}, {"negative-number"}),
    ],
)
def test_each_flag(changes: dict[str, Any], expected: set[str]) -> None:
    assert flags(changes) == expected


def test_the_register_is_compared() -> None:
    assert flags({}, 501) == {"registered-differs-from-register"}


@pytest.mark.parametrize(("registered", "extra"), [(0, 0), (1, 1), (40, 1), (41, 2), (500, 13), (600, 15)])
def test_the_reserve_is_rounded_up(registered: int, extra: int) -> None:
    assert reserve(registered) == extra


@given(
    st.dictionaries(st.sampled_from(COUNTS), st.integers(-5, 600)),
    st.dictionaries(st.sampled_from("123"), st.integers(-5, 600)),
    st.none() | st.integers(0, 600),
)
def test_any_tally_is_flagged_never_refused(
    counts: dict[str, int], votes: dict[str, int], registered: int | None
) -> None:
    tally = read_tally(decode(encode(Tally(counts, votes).to_map()), MAX_TALLY))
    assert tally == Tally(counts, votes)
    found = check_tally(tally, registered)
    assert set(found) <= FLAGS
    assert list(found) == sorted(set(found))
    assert ("incomplete" in found) == (len(counts) < len(COUNTS) or not votes)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ([], "map"),
        (None, "map"),
        ({"voter": 1}, "voter"),
        ({"voters": "1"}, "voters"),
        ({"voters": 1.0}, "voters"),
        ({"voters": True}, "voters"),
        ({"voters": None}, "voters"),
        ({"voters": MAX_TALLY_VALUE + 1}, "voters"),
        ({"voters": -MAX_TALLY_VALUE - 1}, "voters"),
        ({"votes": [1]}, "votes"),
        ({"votes": {"01": "1"}}, "pair 01"),
        ({"votes": {"../01": 1}}, "../01"),
        ({"votes": {"": 1}}, "pair number"),
        ({"votes": {1: 1}}, "pair number"),
        ({"votes": {str(pair): 1 for pair in range(MAX_PAIRS + 1)}}, "at most"),
    ],
)
def test_promise_10_what_is_no_tally_is_named(document: object, named: str) -> None:
    with pytest.raises(Malformed) as caught:
        read_tally(document)
    assert named in caught.value.what


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"voters": 1, "voters": 2}',
        b'{"voters": NaN}',
        b'{"voters": 1e3}',
        b'{"voters": ' + b"9" * 5_000 + b"}",
        b"[" * 30_000,
        b" " * (MAX_TALLY + 1),
    ],
)
def test_promise_10_a_file_that_is_no_tally_is_bad_input(text: bytes) -> None:
    with pytest.raises(BadInput):
        parse_tally(text)


def test_a_file_as_typed() -> None:
    assert parse_tally(json.dumps(SOUND).encode()).to_map() == {**SOUND, "votes": {"1": 200, "2": 190}}


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_promise_10_any_bytes_are_a_tally_or_bad_input(text: bytes) -> None:
    try:
        parse_tally(text)
    except BadInput:
        return


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "holds no number"),
        ('{"votes": {}}', "holds no number"),
        ('{"votes": {"21": 5}}', "no pair '21'"),
        ('{"votes": {"0": 5}}', "no pair '0'"),
        ('{"votes": {"blank": 5}}', "no pair 'blank'"),
        ('{"votes": {"1": 5, "01": 5}}', "one pair twice"),
        ('{"valid": ' + "9" * 5_000 + "}", "far too large"),
        ('{"valid": 1,\n oh}', r"line 2, column 2"),
    ],
)
def test_a_file_that_nobody_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        parse_tally(text.encode())
    assert "sys." not in str(refused.value)


def test_what_does_not_add_up_is_told_with_its_numbers() -> None:
    tally = read_tally(SOUND | {"registered_voters": 501, "valid": 391})
    found = {one.flag: (one.found, one.expected) for one in mismatches(tally, 500)}
    assert found["registered-differs-from-register"] == (501, 500)
    assert found["valid-is-not-sum-of-votes"] == (391, 390)
    assert tuple(sorted(found)) == check_tally(tally, 500)
