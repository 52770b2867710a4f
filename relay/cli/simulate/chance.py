"""One night of a plan, drawn: which calls take place and when, when each station has counted, what the links yield.

Randomness is a parameter. Delays are even: any delay up to `late` is as likely; a late boat is late for its next call
too when there is no time between the two.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from relay.cli.simulate.plan import Plan, Span


@dataclass(frozen=True, slots=True)
class Contact:
    """A boat (index) at a place (index): content flows from `start` to `end`; `share` of the Wi-Fi's rate is content.

    `call` is the index of the call in the plan.
    """

    call: int
    boat: int
    place: int
    start: float
    end: float
    share: float


@dataclass(frozen=True, slots=True)
class Night:
    """What happens in one draw. `counted[i]` is when station i has signed its packages; `uplinks`, shares by place."""

    contacts: tuple[Contact, ...]
    counted: tuple[float, ...]
    uplinks: tuple[float, ...]


def draw_night(plan: Plan, draws: random.Random) -> Night:
    """Draw one night."""
    places = {place.name: index for index, place in enumerate(plan.places)}
    boats = {boat: index for index, boat in enumerate(plan.boats)}
    contacts: list[Contact] = []
    free = dict.fromkeys(boats, 0.0)
    for index, call in enumerate(plan.calls):
        delay = draws.uniform(0, call.late)
        settle, share = _from(plan.settle, draws), _from(plan.share, draws)
        if draws.random() < call.missed:
            continue
        arrives = max(call.start + delay, free[call.boat])
        leaves = max(call.end + delay, arrives)
        free[call.boat] = leaves
        begins = min(arrives + settle, leaves)  # a call may be over before anything moved
        contacts.append(Contact(index, boats[call.boat], places[call.place], begins, leaves, share))
    counted = tuple(_from(place.counted, draws) for _, place in plan.stations)
    return Night(tuple(contacts), counted, tuple(_from(plan.share, draws) for _ in plan.places))


def _from(span: Span, draws: random.Random) -> float:
    return draws.uniform(span.low, span.high)
