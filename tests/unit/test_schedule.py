"""When to visit a neighbour: the decision as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits import (
    FIRST_RETRY_SECONDS,
    IDLE_SECONDS,
    MAX_RETRY_SECONDS,
    MAX_RETRY_SECONDS_CONFIGURED,
    NEWS_SECONDS,
    RECEIPT_SECONDS,
    SILENCE_SECONDS,
)
from relay.node.schedule import Contact, next_visit


@pytest.mark.parametrize(
    ("contact", "when"),
    [
        pytest.param(Contact(100.0), 100.0, id="the lower id visits at once"),
        pytest.param(Contact(100.0, visits_first=False), 100.0 + SILENCE_SECONDS, id="the higher id waits"),
        pytest.param(
            Contact(100.0, visits_first=False, was_visited=101.0), 101.0 + SILENCE_SECONDS, id="and while it is visited"
        ),
        pytest.param(
            Contact(100.0, visits_first=False, was_visited=7.0),
            100.0 + SILENCE_SECONDS,
            id="a visit long ago counts not",
        ),
        pytest.param(
            Contact(100.0, visits_first=False, visited=105.0, was_visited=110.0, news=4),
            110.0 + SILENCE_SECONDS,
            id="news waits for the end of the neighbour's visit",
        ),
        pytest.param(
            Contact(100.0, visits_first=False, was_visited=111.0, failed=110.0, failures=1),
            111.0 + SILENCE_SECONDS,
            id="who visits need not be tried again yet",
        ),
        pytest.param(Contact(100.0, visited=110.0, news=5), 110.0 + IDLE_SECONDS, id="nothing new"),
        pytest.param(
            Contact(100.0, visited=110.0, was_visited=120.0, news=5),
            120.0 + IDLE_SECONDS,
            id="nothing new, was visited",
        ),
        pytest.param(Contact(100.0, visited=110.0, news=4), 110.0 + NEWS_SECONDS, id="news here"),
        pytest.param(Contact(100.0, visited=110.0, news=5, called=True), 110.0 + NEWS_SECONDS, id="news there"),
        pytest.param(
            Contact(100.0, visited=110.0, news=5, called=True, in_vain=3),
            110.0 + 8 * NEWS_SECONDS,
            id="news there, three times in vain",
        ),
        pytest.param(
            Contact(100.0, visited=110.0, news=5, called=True, in_vain=10_000),
            110.0 + IDLE_SECONDS,
            id="news there, always in vain",
        ),
        pytest.param(
            Contact(100.0, visited=110.0, news=4, called=True, in_vain=10_000),
            110.0 + NEWS_SECONDS,
            id="news here goes to whoever calls in vain, too",
        ),
        pytest.param(Contact(100.0, visited=110.0, news=5, more=True), 110.0, id="content is left"),
        pytest.param(
            Contact(100.0, visited=110.0, news=5, awaits=True), 110.0 + RECEIPT_SECONDS, id="receipts awaited"
        ),
        pytest.param(
            Contact(100.0, visited=110.0, news=4, awaits=True), 110.0 + NEWS_SECONDS, id="news before receipts"
        ),
        pytest.param(Contact(100.0, failed=110.0, failures=1), 110.0 + FIRST_RETRY_SECONDS, id="failed once"),
        pytest.param(Contact(100.0, failed=110.0, failures=2), 110.0 + 2 * FIRST_RETRY_SECONDS, id="failed twice"),
        pytest.param(Contact(100.0, failed=110.0, failures=10_000), 110.0 + MAX_RETRY_SECONDS, id="failed for long"),
        pytest.param(
            Contact(100.0, configured=True, failed=110.0, failures=10_000),
            110.0 + MAX_RETRY_SECONDS_CONFIGURED,
            id="a configured address is tried for ever",
        ),
        pytest.param(
            Contact(100.0, visited=105.0, more=True, failed=110.0, failures=1),
            110.0 + FIRST_RETRY_SECONDS,
            id="a failure goes before what is left",
        ),
    ],
)
def test_next_visit(contact: Contact, when: float) -> None:
    assert next_visit(contact, news=5) == when


@given(st.integers(1, 100_000), st.booleans())
def test_retries_grow_apart_and_never_stop(failures: int, configured: bool) -> None:
    def wait(count: int) -> float:
        return next_visit(Contact(0.0, configured=configured, failed=0.0, failures=count), 0)

    assert FIRST_RETRY_SECONDS <= wait(failures) <= wait(failures + 1) <= MAX_RETRY_SECONDS
