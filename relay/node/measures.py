"""What a receiver's own work comes to, as it goes: kept by `relay.receiver`, told by `relay.node.metrics`."""

from __future__ import annotations

from dataclasses import dataclass, field

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""


@dataclass
class Durations:
    """How long something took, counted by upper bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def note(self, seconds: float) -> None:
        """Count one."""
        self.counts[next((place for place, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))] += 1
        self.total += seconds


@dataclass
class Measures:
    """Since the daemon started."""

    leads: bool = False
    """Whether this receiver sequences and publishes at the moment."""
    published: int = 0
    """Entries of the log that it published, while it leads."""
    site: int = 0
    """Entries that the public site has taken in, while it leads."""
    receipts: Durations = field(default_factory=Durations)
    """From the last byte of a package to its receipt: the slowest of each batch."""
