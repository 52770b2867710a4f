"""When to visit a neighbour: one pure decision, with its numbers.

When both ends see each other at once, the lower node id visits; the other does after two seconds of silence: a visit
brings both directions, and two at once bring much twice. News is carried on at once, a neighbour without news is looked
up now and then, and one that does not answer, or calls in vain, less and less.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.limits import (
    FIRST_RETRY_SECONDS,
    IDLE_SECONDS,
    MAX_RETRY_SECONDS,
    MAX_RETRY_SECONDS_CONFIGURED,
    NEWS_SECONDS,
    RECEIPT_SECONDS,
    SILENCE_SECONDS,
)


@dataclass(slots=True)
class Contact:
    """What is known of the contact with one neighbour. Times are monotonic seconds; None: not yet.

    `news` is how much of this node's news the neighbour has heard: the count of `Custody.news` before the last visit.
    """

    met: float
    """When it came within reach, last."""
    configured: bool = False
    visits_first: bool = True
    visited: float | None = None
    was_visited: float | None = None
    failed: float | None = None
    failures: int = 0
    news: int = -1
    more: bool = False
    called: bool = False
    """The neighbour told that it has news."""
    in_vain: int = 0
    """How often in a row it did, and nothing came of it."""
    awaits: bool = False
    """Something is expected of the neighbour: receipts, or what was left to its own visit."""
    redundant: bool = False
    """The node is visited under another address already: look now and then whether it still is."""


def next_visit(contact: Contact, news: int) -> float:
    """The moment (monotonic seconds) at which to visit, given this node's count of news."""
    if contact.redundant and contact.failed is not None:
        return contact.failed + IDLE_SECONDS
    due = _due(contact, news)
    if contact.visits_first:
        return due
    return max(due, contact.met + SILENCE_SECONDS, (contact.was_visited or 0.0) + SILENCE_SECONDS)


def _due(contact: Contact, news: int) -> float:
    """When there is a reason to visit, if the neighbour does not visit meanwhile."""
    if contact.failures and contact.failed is not None:
        most = MAX_RETRY_SECONDS_CONFIGURED if contact.configured else MAX_RETRY_SECONDS
        wait: float = FIRST_RETRY_SECONDS * 2 ** min(contact.failures - 1, 16)
        return contact.failed + min(wait, most)
    if contact.visited is None:
        return contact.met
    if contact.more:
        return contact.visited
    if contact.news < news:
        return contact.visited + NEWS_SECONDS
    if contact.called:
        pause: float = NEWS_SECONDS * 2 ** min(contact.in_vain, 16)
        return contact.visited + min(pause, IDLE_SECONDS)
    if contact.awaits:
        return contact.visited + RECEIPT_SECONDS
    return max(contact.visited, contact.was_visited or 0.0) + IDLE_SECONDS
