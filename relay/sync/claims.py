"""Who is bringing which object, so that two peers do not bring the same one at once. Pure; time is a parameter.

A claim is only a courtesy among visits of one node: what one peer brings, another takes last and from the other end,
so that two that bring the same things meet in the middle, and a peer that promises everything and sends nothing holds
nobody up. What a peer brings on one way (its visit, or ours to it) it does not bring on the other as well. A claim
fades after `CLAIM_SECONDS` without progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from relay.limits import CLAIM_SECONDS, MAX_CLAIMS
from relay.records.identifiers import ObjectId


class Way(NamedTuple):
    """A way on which content comes: the peer that brings it (a node id in hex), and whether this node fetches it."""

    peer: str
    fetched: bool


class Claims:
    """The claims of one node. `now` is a monotonic clock in seconds."""

    def __init__(self) -> None:
        self._held: dict[ObjectId, tuple[Way, float]] = {}

    def order(self, objects: Sequence[ObjectId], who: Way, now: float) -> list[tuple[ObjectId, bool]]:
        """Claim what is free; these objects in the order in which `who` should bring them, and whether from the front.

        What other peers bring comes last and is taken from its end; what the same peer brings already is left out.
        """
        free = {object_id: self.claim(object_id, who, now) for object_id in objects}
        mine = [(object_id, True) for object_id in objects if free[object_id]]
        others = [one for one in reversed(objects) if not free[one] and self._held[one][0].peer != who.peer]
        return mine + [(object_id, False) for object_id in others]

    def claim(self, object_id: ObjectId, who: Way, now: float) -> bool:
        """Claim an object, or renew the claim; False while somebody else's is fresh."""
        holder = self._held.get(object_id)
        if holder is not None and holder[0] != who and now - holder[1] < CLAIM_SECONDS:
            return False
        if len(self._held) >= MAX_CLAIMS and holder is None:
            self._sweep(now)
        self._held[object_id] = (who, now)
        return True

    def release(self, who: Way) -> None:
        """Give up every claim of a visit that ended."""
        for object_id in [key for key, (holder, _) in self._held.items() if holder == who]:
            del self._held[object_id]

    def _sweep(self, now: float) -> None:
        self._held = {key: held for key, held in self._held.items() if now - held[1] < CLAIM_SECONDS}
        if len(self._held) >= MAX_CLAIMS:
            self._held.clear()
