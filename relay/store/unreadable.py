"""Objects whose content the disk does not give: a dying card loses one photograph, and not the node.

What cannot be read counts as not held, and is wanted again until it is delivered: a boat whose copy is gone takes
another at its next call. So does what can be read and is not what was written: some cards give other bytes without an
error, which shows where a neighbour lacks what it got (`Store.read_chunk`). Everything else goes on. It is known to
this process and written nowhere: a disk that was only away for a moment is tried again (`Store.reread`), and so is one
after a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from relay.errors import StoreError, Unreadable
from relay.records.identifiers import ObjectId

logger = logging.getLogger(__name__)

LOST = "its file is gone, or cut short"
CHANGED = "the disk gives other content than was written to it, or none"


class UnreadableObjects:
    """Those of one store. `packages_of` names the packages of an object, for people."""

    def __init__(self, packages_of: Callable[[ObjectId], Awaitable[str]]) -> None:
        self._packages_of = packages_of
        self._objects: set[ObjectId] = set()
        self._given_up: set[ObjectId] = set()

    def __contains__(self, object_id: ObjectId) -> bool:
        return object_id in self._objects

    @property
    def objects(self) -> frozenset[ObjectId]:
        """All of them."""
        return frozenset(self._objects)

    def may_come_again(self, object_id: ObjectId) -> bool:
        """Whether it can be written anew, as far as is known."""
        return object_id not in self._given_up

    def give_up(self, object_id: ObjectId) -> None:
        """It cannot be written anew either: it is not asked for again."""
        self._given_up.add(object_id)
        logger.error("object %s cannot be written anew in its place: it is not taken again here", object_id.hex())

    async def note(self, object_id: ObjectId, error: Unreadable | None = None) -> None:
        """An object could not be read, by an error or since it is not there. Told once."""
        if object_id in self._objects:
            return
        self._objects.add(object_id)
        try:
            packages = await self._packages_of(object_id)
        except StoreError:
            packages = "unknown"  # the catalogue's own trouble is told where it is asked for something
        logger.error(
            "object %s cannot be read (%s), of package %s: the disk or card is failing. Replace it soon, and delete "
            "nothing: all else goes on from here, and this object is taken again from any node that has it.",
            object_id.hex(),
            error.what if error is not None else LOST,
            packages,
        )

    def forget(self, object_id: ObjectId) -> None:
        """It was written anew, can be read again, or is not held any more."""
        self._objects.discard(object_id)
        self._given_up.discard(object_id)
