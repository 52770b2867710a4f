"""Whose call is ended when calls hold too much together: neither who holds nothing, nor who holds little for long."""

from __future__ import annotations

import asyncio
from typing import cast

from aiohttp import web

from relay.limits import KIB, MAX_BODIES, MAX_CALLS_PER_PEER, MAX_CHUNK, MAX_LARGE_CALLS_PER_PEER, MAX_RECORDS_MESSAGE
from relay.net.bodies import Bodies

HALF = MAX_CHUNK - 4 * KIB
"""Most of a chunk, of which the end never comes."""


class Call(asyncio.Transport):
    """A call, and what it comes over."""

    def __init__(self, bodies: Bodies, visitor: str) -> None:
        super().__init__()
        self.transport = self
        self.ended = False
        self._bodies = bodies
        bodies.begin(cast(web.Request, self), visitor.encode())

    def holds(self, size: int) -> Call:
        """So many bytes more, or fewer."""
        self._bodies.add(cast(web.Request, self), size)
        return self

    def over(self) -> None:
        """It was answered."""
        self._bodies.release(cast(web.Request, self))

    def abort(self) -> None:
        """See `asyncio.Transport`."""
        self.ended = True


def all_that_one_may(bodies: Bodies, visitor: str) -> list[Call]:
    """The calls of a visitor that begins as many as it may, and ends none."""
    large = [Call(bodies, visitor).holds(MAX_RECORDS_MESSAGE - 1) for _ in range(MAX_LARGE_CALLS_PER_PEER)]
    return large + [Call(bodies, visitor).holds(HALF) for _ in range(MAX_CALLS_PER_PEER - len(large))]


def test_a_call_that_holds_nothing_just_then_is_not_ended_for_others() -> None:
    bodies = Bodies(MAX_BODIES)
    slow = Call(bodies, "boat").holds(64 * KIB).holds(-64 * KIB)
    hostile = [call for _ in range(20) for name in ("pirate-1", "pirate-2") for call in all_that_one_may(bodies, name)]
    assert not slow.ended
    assert sum(call.ended for call in hostile) > len(hostile) / 2


def test_two_that_hold_all_they_may_do_not_have_a_slow_ones_chunks_cut() -> None:
    """Its chunk is on its way for longer than any of theirs."""
    bodies = Bodies(MAX_BODIES)
    slow = [Call(bodies, "boat").holds(KIB) for _ in range(2)]
    for _ in range(100):
        for name in ("pirate-1", "pirate-2"):
            all_that_one_may(bodies, name)
        for call in slow:
            call.holds(2 * KIB)
    assert not any(call.ended for call in slow)


def test_a_crowd_that_holds_little_each_does_not_have_a_quick_ones_records_cut() -> None:
    """It holds more than any of them, for a moment."""
    bodies = Bodies(MAX_BODIES)
    crowd = [Call(bodies, f"pirate-{place}").holds(HALF) for place in range(60)]
    for _ in range(10):
        quick = Call(bodies, "boat").holds(MAX_RECORDS_MESSAGE // 2).holds(MAX_RECORDS_MESSAGE // 2)
        assert not quick.ended
        quick.over()
        crowd += [Call(bodies, f"pirate-{place}").holds(HALF) for place in range(10)]


def test_what_is_held_stays_within_the_bound_whoever_calls() -> None:
    bodies = Bodies(MAX_BODIES)
    calls: list[tuple[Call, int]] = []
    for place in range(300):
        size = 1 + place * 7_919 % MAX_CHUNK
        calls.append((Call(bodies, f"boat-{place % 7}").holds(size), size))
        if place % 5 == 0:
            ended = calls[place // 2][0]
            ended.holds(-calls[place // 2][1])
            calls[place // 2] = (ended, 0)
        assert sum(size for call, size in calls if not call.ended) <= MAX_BODIES
    for call, _ in calls:
        call.over()
    alone = Call(bodies, "boat").holds(MAX_BODIES)
    assert not alone.ended, "nothing is left of the calls that are over"
