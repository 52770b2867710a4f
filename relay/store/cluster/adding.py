"""Statements that several callers bring at the same time, added in one transaction.

A transaction takes seven ways to PostgreSQL and back, however much is in it, and one sync of its disk: what comes while
one is under way waits for the next, and shares it. Nothing else is shared: what one caller brings cannot make another
one's fail, and who is cancelled takes nobody along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from relay.store.interface import Outcome
from relay.trust.admission import Admitted

Add = Callable[[Sequence[Admitted]], Awaitable[list[Outcome]]]
"""Adds records durably; the outcome of each."""


@dataclass(frozen=True, slots=True)
class _Call:
    records: Sequence[Admitted]
    outcomes: asyncio.Future[list[Outcome]]


class SharedAdds:
    """Adds by `add`, one transaction at a time."""

    def __init__(self, add: Add) -> None:
        self._add = add
        self._waiting: list[_Call] = []
        self._work: asyncio.Task[None] | None = None

    async def join(self, records: Sequence[Admitted]) -> list[Outcome]:
        """Add these with what others bring; the outcome of each. Raises what `add` raises for these alone."""
        call = _Call(records, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._work is None:
            self._work = asyncio.create_task(self._run())
        return await call.outcomes

    async def finish(self) -> None:
        """Return when nobody waits any more."""
        if self._work is not None:
            await asyncio.wait([self._work])

    async def _run(self) -> None:
        try:
            while self._waiting:
                calls, self._waiting = self._waiting, []
                await self._add_together(calls)
        finally:
            self._work = None
            for call in self._waiting:  # this was ended in the middle
                call.outcomes.cancel()

    async def _add_together(self, calls: Sequence[_Call]) -> None:
        try:
            outcomes = await self._add([one for call in calls for one in call.records])
        except Exception as error:  # noqa: BLE001 - it is raised where the records came from
            if len(calls) > 1:
                await asyncio.gather(*(self._add_together([call]) for call in calls))
            elif not calls[0].outcomes.done():
                calls[0].outcomes.set_exception(error)
            return
        except BaseException:
            for call in calls:
                call.outcomes.cancel()
            raise
        at = 0
        for call in calls:
            if not call.outcomes.done():  # else the caller is gone
                call.outcomes.set_result(outcomes[at : at + len(call.records)])
            at += len(call.records)
