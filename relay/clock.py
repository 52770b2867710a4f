"""The clock by which time is reckoned that passes, whatever anybody sets and whether the machine sleeps or not."""

from __future__ import annotations

import time


def steady() -> float:
    """Seconds by a clock that nobody sets. It goes on while the machine sleeps, where there is one that does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
