"""Who is bringing which object, so that two peers do not bring the same one at once. Pure; time is a parameter.

A claim is only a courtesy among visits of one node: what one peer brings, another takes last and from the other end,
so that two that bring the same things meet in the middle, and a peer that promises everything and sends nothing holds
nobody up. What a peer brings on one way (its visit, or ours to it) it does not bring on the other as well. The claims
of a way fade when it brought nothing for `CLAIM_SECONDS`; who brought something may claim anew when it comes again, and
who brings nothing at all has none for a good while.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from relay.limits import CLAIM_REST_SECONDS, CLAIM_SECONDS, MAX_CLAIMS
from relay.records.identifiers import ObjectId


class Way(NamedTuple):
    """A way on which content comes: the peer that brings it (a node id in hex), and whether this node fetches it."""

    peer: str
    fetched: bool


class Claims:
    """The claims of one node. `now` is a monotonic clock in seconds."""

    def __init__(self) -> None:
        self._held: dict[ObjectId, Way] = {}
        self._progress: dict[Way, float] = {}
        """When each way last brought something, or began."""
        self._brought: set[Way] = set()
        """Ways that brought something since they began."""

    def order(self, objects: Sequence[ObjectId], who: Way, now: float) -> list[tuple[ObjectId, bool]]:
        """Claim what is free; these objects in the order in which `who` should bring them, and whether from the front.

        What other peers bring comes last and is taken from its end; what the same peer brings already is left out.
        """
        free = {object_id: self._is_free(object_id, who, now) for object_id in objects}
        mine = [(object_id, True) for object_id in objects if free[object_id]]
        others = [one for one in reversed(objects) if not free[one] and self._held[one].peer != who.peer]
        if mine:
            self._begin(who, now)
            for object_id, _ in mine:
                self._claim(object_id, who, now)
        return mine + [(object_id, False) for object_id in others]

    def claim(self, object_id: ObjectId, who: Way, now: float) -> bool:
        """Claim an object, and tell of progress; False while somebody else who makes progress has it."""
        self._progress[who] = now
        self._brought.add(who)
        return self._claim(object_id, who, now)

    def _begin(self, who: Way, now: float) -> None:
        """A way has something to bring: it begins, if it did not lately. Who only asks, again and again, makes no
        progress."""
        rested = now - self._progress.get(who, float("-inf")) > CLAIM_REST_SECONDS
        if rested or (who in self._brought and not self._is_alive(who, now)):
            self._progress[who] = now
            self._brought.discard(who)

    def _is_free(self, object_id: ObjectId, who: Way, now: float) -> bool:
        holder = self._held.get(object_id)
        return holder is None or holder == who or not self._is_alive(holder, now)

    def _claim(self, object_id: ObjectId, who: Way, now: float) -> bool:
        if not self._is_free(object_id, who, now):
            return False
        if len(self._held) >= MAX_CLAIMS and object_id not in self._held:
            self._sweep(now)
        self._held[object_id] = who
        return True

    def comes_otherwise(self, object_id: ObjectId, who: Way, now: float) -> bool:
        """Whether the same peer brings an object on its other way now, as after a silence in which `who` lost it."""
        holder = self._held.get(object_id)
        return holder is not None and holder != who and holder.peer == who.peer and self._is_alive(holder, now)

    def release(self, who: Way) -> None:
        """Give up every claim of a visit that ended."""
        self._progress.pop(who, None)
        self._brought.discard(who)
        for object_id in [key for key, holder in self._held.items() if holder == who]:
            del self._held[object_id]

    def _is_alive(self, who: Way, now: float) -> bool:
        return now - self._progress.get(who, float("-inf")) < CLAIM_SECONDS

    def _sweep(self, now: float) -> None:
        self._held = {key: holder for key, holder in self._held.items() if self._is_alive(holder, now)}
        self._progress = {who: when for who, when in self._progress.items() if self._is_alive(who, now)}
        self._brought &= self._progress.keys()
        if len(self._held) >= MAX_CLAIMS:
            self._held.clear()
