"""The layouts of objects that are on their way, as the catalogue gave them.

Every chunk asks for its object's layouts, so they are kept; a layout of which chunks are staged stays whatever the
catalogue says meanwhile. What changes the catalogue says so here, since a statement that comes while its object is
brought by another one's list of chunks may be the one that is true.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from relay.records.identifiers import ObjectId
from relay.records.statement import Statement
from relay.store.layouts import Layout
from relay.trust.admission import Admitted

L = TypeVar("L", bound=Layout)


def objects_named(records: Iterable[Admitted]) -> list[ObjectId]:
    """The objects that the statements among these records name."""
    statements = (item.body for item in records if isinstance(item.body, Statement))
    return [file.sha256 for statement in statements for file in statement.package.files]


class LayoutCache(Generic[L]):
    """At most about `most` objects; `ask` asks the catalogue for the layouts by which an object may still come."""

    def __init__(self, ask: Callable[[ObjectId], Awaitable[Sequence[L]]], most: int) -> None:
        self._ask = ask
        self._most = most
        self._known: dict[ObjectId, list[L]] = {}
        self._stale: set[ObjectId] = set()
        self._changes = 0
        """How often the catalogue changed: what was asked before is not trusted after."""

    def __iter__(self) -> Iterator[L]:
        """Every layout that is kept."""
        return (one for layouts in self._known.values() for one in layouts)

    async def of(self, object_id: ObjectId) -> list[L]:
        """The layouts of an object, those in use among them; none where no statement wants it."""
        if object_id not in self._known or object_id in self._stale:
            await self._learn(object_id)
        return self._known.get(object_id, [])

    def known(self, object_id: ObjectId) -> list[L]:
        """The same as it was learned last; none where it was not."""
        return self._known.get(object_id, [])

    def changed(self, objects: Iterable[ObjectId]) -> None:
        """Statements came that name these objects, or something else happened to them."""
        self._changes += 1
        self._stale.update(one for one in objects if one in self._known)

    def forget(self) -> None:
        """The catalogue was changed all over: ask it again."""
        self._changes += 1
        for object_id in list(self._known):
            self._keep(object_id, [one for one in self._known[object_id] if one.in_use])

    def drop(self, layouts: Iterable[L]) -> list[L]:
        """These are done with, also where chunks of them are staged; those that were kept."""
        self._changes += 1
        dropped: list[L] = []
        for layout in layouts:
            known = self._known.get(layout.object, [])
            dropped += [one for one in known if one.name == layout.name]
            self._keep(layout.object, [one for one in known if one.in_use and one.name != layout.name])
        return dropped

    def _keep(self, object_id: ObjectId, layouts: list[L]) -> None:
        """Keep only these of an object, and ask for the others when it is asked for."""
        self._known.pop(object_id, None)
        self._stale.discard(object_id)
        if layouts:
            self._known[object_id] = layouts
            self._stale.add(object_id)

    async def _learn(self, object_id: ObjectId) -> None:
        changes = self._changes
        fresh = await self._ask(object_id)
        used = {one.name: one for one in self._known.get(object_id, []) if one.in_use}
        layouts = [used.pop(one.name, one) for one in fresh]
        layouts += used.values()
        trusted = changes == self._changes
        if len(self._known) >= self._most and object_id not in self._known:
            self.forget()
        self._keep(object_id, layouts)
        if trusted:
            self._stale.discard(object_id)
