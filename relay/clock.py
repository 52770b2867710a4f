"""Time by clocks that nobody sets: what passes, also while the machine sleeps, and what a thread waits."""

from __future__ import annotations

import time
from pathlib import Path

_OF_THIS_THREAD = Path("/proc/thread-self/schedstat")
"""Nanoseconds on a processor, nanoseconds of waiting for one, turns (Linux, Documentation/scheduler/sched-stats)."""


def steady() -> float:
    """Seconds by a clock that nobody sets. It goes on while the machine sleeps, where there is one that does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def waited_for_processor() -> float:
    """Seconds in which this thread could have worked, and others had the processors; 0 where nobody counts them."""
    try:
        return int(_OF_THIS_THREAD.read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
