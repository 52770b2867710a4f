"""Claims order what several peers bring, and exclude nobody; one peer does not bring a thing on two ways at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits import CLAIM_REST_SECONDS, CLAIM_SECONDS
from relay.records.identifiers import ObjectId
from relay.sync import claims as module
from relay.sync.claims import Claims, Way

BOAT, FERRY = Way("boat", fetched=True), Way("ferry", fetched=True)
ONE, TWO, THREE = (ObjectId(bytes([number]) * 32) for number in range(3))


def test_a_claim_is_anothers_until_it_fades() -> None:
    claims = Claims()
    assert claims.claim(ONE, BOAT, 0.0)
    assert not claims.claim(ONE, FERRY, CLAIM_SECONDS - 0.01)
    assert claims.claim(ONE, FERRY, CLAIM_SECONDS)
    assert not claims.claim(ONE, BOAT, CLAIM_SECONDS)


def test_progress_renews_and_leaving_releases() -> None:
    claims = Claims()
    claims.claim(ONE, BOAT, 0.0)
    claims.claim(ONE, BOAT, 1.5)
    assert not claims.claim(ONE, FERRY, 3.0)
    claims.release(BOAT)
    assert claims.claim(ONE, FERRY, 3.0)
    claims.release(BOAT)
    assert not claims.claim(ONE, BOAT, 3.0)


def test_progress_on_one_object_keeps_all_that_a_way_claims() -> None:
    claims = Claims()
    claims.order([ONE, TWO], BOAT, 0.0)
    claims.claim(ONE, BOAT, 1.5)
    assert not claims.claim(TWO, FERRY, 3.0)
    assert claims.claim(TWO, FERRY, 1.5 + CLAIM_SECONDS)


def test_two_that_bring_the_same_meet_in_the_middle() -> None:
    claims = Claims()
    assert claims.order([ONE, TWO, THREE], BOAT, 0.0) == [(ONE, True), (TWO, True), (THREE, True)]
    assert claims.order([ONE, TWO, THREE], FERRY, 0.0) == [(THREE, False), (TWO, False), (ONE, False)]


def test_what_is_free_comes_first() -> None:
    claims = Claims()
    claims.claim(ONE, BOAT, 0.0)
    assert claims.order([ONE, TWO, THREE], FERRY, 0.0) == [(TWO, True), (THREE, True), (ONE, False)]


def test_what_a_peer_brings_on_its_visit_is_not_fetched_from_it_as_well() -> None:
    claims = Claims()
    claims.claim(ONE, BOAT._replace(fetched=False), 0.0)
    assert claims.order([ONE, TWO], BOAT, 1.0) == [(TWO, True)]
    assert claims.order([ONE], BOAT, CLAIM_SECONDS) == [(ONE, True)]


def test_a_way_that_was_silent_yields_to_the_other_of_the_same_peer() -> None:
    claims = Claims()
    claims.claim(ONE, BOAT, 0.0)
    visit = BOAT._replace(fetched=False)
    assert not claims.comes_otherwise(ONE, BOAT, 1.0)
    assert claims.claim(ONE, visit, CLAIM_SECONDS)
    assert claims.comes_otherwise(ONE, BOAT, CLAIM_SECONDS + 1.0)
    assert not claims.comes_otherwise(ONE, FERRY, CLAIM_SECONDS + 1.0)


def test_who_brought_something_claims_anew_when_it_comes_again() -> None:
    """Else two nodes that visit each other at once, soon after the link was cut, bring the same on both ways."""
    claims, brings = Claims(), BOAT._replace(fetched=False)
    claims.claim(ONE, brings, 0.0)
    again = CLAIM_SECONDS + 3.0
    assert again < CLAIM_REST_SECONDS
    assert claims.order([TWO, THREE], brings, again) == [(TWO, True), (THREE, True)]
    assert claims.order([TWO, THREE], BOAT, again + 0.1) == []
    assert claims.order([TWO, THREE], brings, again + CLAIM_SECONDS) == [(TWO, True), (THREE, True)]
    assert claims.order([TWO], BOAT, again + CLAIM_SECONDS) == [(TWO, True)], "it only asked again"


def test_who_found_nothing_to_bring_has_not_begun() -> None:
    """All was being fetched from it when it asked; when it comes again soon after, what it brings is its own."""
    claims, brings = Claims(), BOAT._replace(fetched=False)
    claims.order([ONE, TWO], BOAT, 0.0)
    assert claims.order([ONE, TWO], brings, 0.1) == []
    claims.release(BOAT)
    again = CLAIM_SECONDS + 3.0
    assert claims.order([ONE, TWO], brings, again) == [(ONE, True), (TWO, True)]
    assert claims.order([ONE, TWO], BOAT, again + 0.1) == []


def test_who_only_asks_claims_nothing_for_long() -> None:
    """Else who asks every second and a half what is wanted, and brings nothing, turns everybody's order round."""
    claims = Claims()
    now = 0.0
    while now < CLAIM_REST_SECONDS:
        claims.order([ONE, TWO], BOAT, now)
        now += 1.5
        if now > CLAIM_SECONDS:
            assert claims.order([ONE, TWO], FERRY, now) == [(ONE, True), (TWO, True)]
            claims.release(FERRY)
    claims.order([ONE, TWO], BOAT, now + CLAIM_REST_SECONDS)
    assert claims.order([ONE], FERRY, now + CLAIM_REST_SECONDS) == [(ONE, False)], "it may have come again"


@given(st.lists(st.tuples(st.sampled_from([BOAT, FERRY]), st.integers(0, 5)), max_size=20))
def test_nothing_is_ever_left_out(history: list[tuple[Way, int]]) -> None:
    claims = Claims()
    for who, now in history:
        assert sorted(one for one, _ in claims.order([ONE, TWO, THREE], who, float(now))) == [ONE, TWO, THREE]


def test_promise_2_claims_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CLAIMS", 8)
    claims = Claims()
    for number in range(100):
        claims.claim(ObjectId(number.to_bytes(32)), BOAT, 0.0)
    assert len(claims._held) <= 8
