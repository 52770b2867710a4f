"""What stores of different kinds do alike while content arrives: commits that callers share, and what to want next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set

from relay.errors import StoreError
from relay.records.identifiers import ObjectId, StatementId
from relay.store.interface import Want
from relay.store.layouts import Layout, want_of

Listed = Callable[[Set[ObjectId], int], Awaitable[Sequence[ObjectId]]]
"""Objects of bundles that are wanted, best first, but for some, as the catalogue had them at one moment: at least so
many, where there are so many. One that several bundles name may stand there several times."""


class SharedCommits:
    """Commits one at a time: callers that come while one runs share the next one, and its failure.

    A commit takes whatever is staged when it begins, also what its callers know nothing of. Commits are numbered, so
    that whoever staged something hears of the failure of the commit that took it, whoever asked for that one.

    A commit runs to its end even if every caller is cancelled, as a visit is when the link is lost.
    """

    def __init__(self, commit: Callable[[], Awaitable[list[StatementId]]]) -> None:
        self._commit = commit
        self._running: asyncio.Task[list[StatementId]] | None = None
        self._next: asyncio.Task[list[StatementId]] | None = None
        self.number = 1
        """Of the commit that takes what is staged now."""
        self._failed = 0
        """The number of the last one that failed."""
        self._trouble: StoreError | None = None
        """Why it failed, where that is the store's."""

    async def join(self, since: int = 0) -> list[StatementId]:
        """Have everything committed that is staged by now; what that commit reports.

        Raises `StoreError` where an earlier one failed that may have taken what the caller staged: `since` is the
        least number that there was when it staged, 0 if it staged nothing before.
        """
        if self._next is None:
            self._next = asyncio.ensure_future(self._run_after(self._running))
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        completed = await asyncio.shield(self._next)
        if since and self._failed >= since:
            lost = StoreError("What was staged is lost: a commit failed", "It is taken again when it comes again.")
            raise self._trouble or lost
        return completed

    async def _run_after(self, before: asyncio.Task[list[StatementId]] | None) -> list[StatementId]:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        number, self.number = self.number, self.number + 1
        try:
            return await self._commit()
        except BaseException as error:
            self._failed = number
            self._trouble = error if isinstance(error, StoreError) else None
            raise


async def gather_wants(
    listed: Listed,
    layouts_of: Callable[[ObjectId], Awaitable[Sequence[Layout]]],
    limit: int,
    skip: frozenset[ObjectId],
) -> list[Want]:
    """The first `limit` wanted objects of which something is missing, but those in `skip`.

    Signers take turns, so that nobody can fill the list: whoever has a thousand small packages under way comes no
    sooner with the second one than others with their first. What is wanted all the while is not passed over, whatever
    is committed meanwhile.
    """
    wants: list[Want] = []
    seen = set(skip)
    while len(wants) < limit:
        # More each time: of a long list nothing may be missing that is not on its way.
        count = limit - len(wants) + len(seen) - len(skip)
        found = await listed(seen, count)
        for object_id in found:
            if len(wants) == limit:
                break
            if object_id not in seen:
                seen.add(object_id)
                if want := want_of(await layouts_of(object_id)):
                    wants.append(want)
        if len(found) < count:
            break
    return wants
