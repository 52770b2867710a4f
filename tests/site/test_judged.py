"""Whoever changes how results are judged, changes what receivers published before: they are told so by a number."""

from __future__ import annotations

from relay.web.site.pages import texts
from relay.web.site.settled import JUDGING
from tests.vectors.judged import all_told, held

RAISE = "raise JUDGING in relay/web/site/settled.py, then run python -m tests.vectors.judged"


def test_results_are_judged_as_the_number_of_the_judging_says() -> None:
    now, before = all_told(), held()
    differing = [key for key in {**now, **before["told"]} if now.get(key) != before["told"].get(key)]
    assert differing == [], RAISE
    assert before["judging"] == JUDGING, RAISE


def test_the_examples_raise_every_flag_that_is_explained() -> None:
    raised = {flag["flag"] for one in held()["told"].values() for flag in one["flags"]}
    assert set(texts("en")["reasons"]) - {"other"} <= raised


def test_the_examples_have_every_state() -> None:
    told = held()["told"].values()
    assert {one["state"] for one in told} == {"result", "conflict", "sealed", "photographs"}
    assert {(one["counted"], bool(one["flags"])) for one in told} == {
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    }
