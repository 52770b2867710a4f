"""By what reckoning a device's clock tells the time. Pure.

A box without a battery starts with whatever time it has, and may be put right hours or weeks later, while the daemon
runs or between two of its runs. That a clock was set shows where it gained or lost against seconds that only grow;
those begin anew whenever the machine starts. So a reckoning says of which start it is, and is kept in a note, which
outlives the daemon.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Self

from relay.limits import JUMP_SECONDS

NOTE = "clock"
"""The store's note of it."""


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What a clock showed since it was set. All times are seconds."""

    boot: str
    """Of which start of the machine it is."""
    offset: float
    """What the clock showed last beyond the seconds that only grow."""
    earliest: float
    """What it showed at the least: where nobody saw it set since the machine started, also before that."""
    is_set: bool = False
    """Whether somebody set it since the machine started: then what it shows is believed, until it is set again."""

    def at(self, wall: float, steady: float) -> Self:
        """This reckoning once the clock shows `wall`, and was not set."""
        return replace(self, offset=wall - steady, earliest=min(self.earliest, wall))

    def gained(self, wall: float, steady: float) -> float:
        """By how much the clock was set forward, or back (negative), before it showed `wall`; 0 where it was not."""
        gained = wall - steady - self.offset
        return gained if abs(gained) > JUMP_SECONDS else 0.0

    def to_note(self) -> str:
        """This reckoning as it is kept."""
        return json.dumps(asdict(self))


def began(before: Reckoning | None, boot: str, wall: float, steady: float) -> Reckoning:
    """The reckoning of a machine that started since. How long it was off nobody knows; where its clock was not seen to
    be set before that, it may have been as wrong then as it is now."""
    if before is not None and before.is_set:
        return Reckoning(boot, wall - steady, wall)
    return Reckoning(boot, wall - steady, 0.0 if before is None else min(before.earliest, wall))


def from_note(text: str) -> Reckoning | None:
    """A reckoning that was kept; None where there is none."""
    try:
        return Reckoning(**json.loads(text))
    except (ValueError, TypeError):
        return None
