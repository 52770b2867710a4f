"""The way to the receiver, as it was when it was tried last: what people are told of it. Pure.

Times are this device's clock, seconds since 1970: claims, good for telling how long ago something was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from relay.limits import CONTACT_SECONDS

UPLINK = "uplink"
"""The store's note of it."""


@dataclass(frozen=True, slots=True)
class Uplink:
    """`at`: when it was tried last, or, while it fails, when it failed so first. `failing_since` is None while it
    works, `reached_at` as long as it never did."""

    url: str
    reachable: bool
    trouble: str
    at: int
    reached_at: int | None = None
    failing_since: int | None = None

    def to_note(self) -> str:
        """The text of the note."""
        return json.dumps(asdict(self))

    def works(self, now: int) -> bool:
        """Whether it was reached when it was tried last, and that was just now: one that works is tried often."""
        return self.reachable and now - self.at < CONTACT_SECONDS


def tried(before: Uplink | None, url: str, trouble: str, now: int) -> Uplink:
    """What to note after a try; no `trouble` means that it was reached."""
    if not trouble:
        return Uplink(url, True, "", now, now, None)
    if before is None:
        return Uplink(url, False, trouble, now, None, now)
    since = now if before.failing_since is None else before.failing_since
    return Uplink(url, False, trouble, now, before.reached_at, since)


def read_uplink(notes: Mapping[str, str]) -> Uplink | None:
    """What was noted last; None where no receiver was ever tried."""
    if UPLINK not in notes:
        return None
    told: dict[str, Any] = json.loads(notes[UPLINK])
    known = {name: told[name] for name in Uplink.__slots__ if name in told}
    if known.get("reachable") and "reached_at" not in known:  # noted by an earlier version
        known["reached_at"] = known.get("at")
    return Uplink(**{"url": "", "reachable": False, "trouble": "", "at": 0, **known})
