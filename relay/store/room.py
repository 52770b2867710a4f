"""What a store has room for: what it says that it takes, and what it keeps that room for. Pure. Guards promise 2.

Room is bytes of content of others that may still come. What somebody was told that this node takes keeps its room until
it is whole, so that nothing crosses in vain and no half takes the room of a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set

from relay.limits import MAX_LISTED
from relay.records.identifiers import ObjectId
from relay.store.interface import Want


class Room:
    """The room of one store. `left_of` says how many bytes of an object have to come until it is whole, besides those
    that are coming just now, for which room was made."""

    def __init__(self, left_of: Callable[[ObjectId], int]) -> None:
        self.left = 0
        """As measured last, less what came since. Its owner measures it."""
        self._left_of = left_of
        self._listed: dict[ObjectId, None] = {}

    @property
    def listed(self) -> Iterable[ObjectId]:
        """What somebody was told that this node takes, since there was room for all of it."""
        return list(self._listed)

    def choose(self, wants: Sequence[Want], skip: Set[ObjectId], arriving: Iterable[ObjectId]) -> list[Want]:
        """Of these wants, best first, those that fit whole and all together beside what was listed before, but for
        `skip`, and what is `arriving`. They are listed from now on."""
        kept = self._keep(skip, list(arriving))
        room = self.left - sum(kept.values())
        fitting: list[Want] = []
        for want in wants:
            left = 0 if want.object in kept else self._left_of(want.object) or want.remaining
            if left <= room:
                room -= left
                fitting.append(want)
        self._listed.update(dict.fromkeys(want.object for want in fitting))
        while len(self._listed) > MAX_LISTED:
            del self._listed[next(iter(self._listed))]
        return fitting

    def fits(self, object_id: ObjectId) -> bool:
        """Whether the rest of an object does."""
        return self._left_of(object_id) <= self.left

    def take(self, size: int) -> bool:
        """Make room for so many bytes that come now; whether there is any."""
        if self.left < size:
            return False
        self.left -= size
        return True

    def give_back(self, size: int) -> None:
        """So many bytes did not come to stay."""
        self.left += size

    def _keep(self, skip: Set[ObjectId], arriving: Sequence[ObjectId]) -> dict[ObjectId, int]:
        """What still lacks so many bytes of what was listed before, or is coming just now, as far as there is room:
        what came to be wanted more since does not take the room of what is on its way."""
        if not (skip or arriving):
            self._listed.clear()  # nothing is on its way: it is for the order of what is wanted alone
        kept: dict[ObjectId, int] = {}
        room = self.left
        listed = [one for one in self._listed if one not in skip]
        for object_id in dict.fromkeys((*listed, *arriving)):
            left = self._left_of(object_id)
            if left <= 0:
                self._listed.pop(object_id, None)
            elif left <= room:
                room -= left
                kept[object_id] = left
        return kept
