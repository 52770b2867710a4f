"""The drafts that are under way, each as it is on the disk. Whoever changes one holds `changing` meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from relay.errors import BadInput, NotHeld
from relay.limits import MAX_DRAFTS, MAX_SENT_DRAFTS
from relay.node.drafts.draft import OPEN, PAIRS, SENDING, SENT, AlreadySent, Draft
from relay.node.drafts.shelf import Shelf
from relay.store.interface import Bundle


class Table:
    """Drafts by id, and the shelf on which each is kept before it is shown."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.changing = asyncio.Lock()
        self._drafts: dict[str, Draft] = {}

    async def load(self) -> list[Draft]:
        """Take up what is on the disk; returns what was being signed when it ended."""
        self._drafts = await asyncio.to_thread(self.shelf.read_all)
        return [one for one in self._drafts.values() if one.state == SENDING]

    def under_way(self) -> list[Draft]:
        """Drafts that are not sent, by station and form."""
        return sorted((one for one in self._drafts.values() if one.state != SENT), key=lambda one: (one.tps, one.form))

    def get(self, draft_id: str) -> Draft:
        """One draft. Raises `NotHeld`."""
        if draft_id not in self._drafts:
            raise NotHeld("There is no such draft", "Begin at the list of forms.")
        return self._drafts[draft_id]

    def pairs(self, form: str) -> int:
        """As many pairs as somebody said last that this form has."""
        said = [one.pairs for one in self._drafts.values() if one.form == form]
        return said[-1] if said else PAIRS

    async def begin(self, draft: Draft) -> Draft:
        """The draft under way that is for the same, or this one. Raises `BadInput` when there are too many."""
        async with self.changing:
            for one in self.under_way():
                if (one.tps, one.form, one.supersedes) == (draft.tps, draft.form, draft.supersedes):
                    return one
            if len(self.under_way()) >= MAX_DRAFTS:
                raise BadInput(f"{MAX_DRAFTS} drafts are under way", "Send or discard one of them.")
            return await self.keep(draft)

    # -- for whoever holds `changing`

    def open(self, draft_id: str) -> Draft:
        """A draft that may be changed. Raises `NotHeld`, `AlreadySent`."""
        draft = self.get(draft_id)
        if draft.state != OPEN:
            raise AlreadySent(draft.statement)
        return draft

    async def keep(self, draft: Draft) -> Draft:
        """Write a draft down as it is now. Raises `BadInput` when it is too long, `StoreError`."""
        await asyncio.to_thread(self.shelf.write, draft)
        self._drafts[draft.id] = draft
        return draft

    def note(self, draft: Draft) -> None:
        """Show a draft as it is now, where the disk says it already."""
        self._drafts[draft.id] = draft

    async def remove(self, draft_id: str) -> None:
        """Throw a draft away with its pictures."""
        del self._drafts[draft_id]
        await asyncio.to_thread(self.shelf.remove, draft_id)

    async def tidy(self) -> None:
        """Forget the oldest of those that were sent."""
        done = sorted((one for one in self._drafts.values() if one.state == SENT), key=lambda one: one.captured_at)
        for one in done[:-MAX_SENT_DRAFTS]:
            await self.remove(one.id)


def newest(bundles: Iterable[Bundle], tps: str, form: str) -> Bundle | None:
    """The package of a form that no other one supersedes; of several the last one of the list."""
    heads = standing(bundles, tps, form)
    return heads[-1] if heads else None


def standing(bundles: Iterable[Bundle], tps: str, form: str) -> tuple[Bundle, ...]:
    """The packages of a form that no other one supersedes: one, unless there is a conflict."""
    listed = [one for one in bundles if (one.tps, one.form) == (tps, form)]
    superseded = {one.supersedes for one in listed}
    return tuple(one for one in listed if one.id not in superseded)
