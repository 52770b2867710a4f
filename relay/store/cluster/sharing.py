"""What several callers ask of the database at the same time, asked in one go.

A transaction takes seven ways to PostgreSQL and back, however much is in it, and one sync of its disk; a query takes
one: what comes while one is under way waits for the next, and shares it. Nothing else is shared: where what one caller
brings could make another one's fail each is done alone then, and who is cancelled takes nobody along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Call(Generic[A, R]):
    items: Sequence[A]
    results: asyncio.Future[list[R]]


class Shared(Generic[A, R]):
    """Does `work`, which gives one result for each item in order, for all callers; one call of it at a time."""

    def __init__(self, work: Callable[[Sequence[A]], Awaitable[list[R]]], most: int, *, apart: bool = False) -> None:
        """No further caller shares a call of `work` with `most` items, which may have more by one caller's. `apart`:
        each brings something, which is done for him though he is gone, and alone where it failed together, since what
        one brings may be the reason. Else all ask something, and who is gone needs no answer."""
        self._work = work
        self._most = most
        self._apart = apart
        self._waiting: list[_Call[A, R]] = []
        self._running: asyncio.Task[None] | None = None

    async def join(self, items: Sequence[A]) -> list[R]:
        """Have these done with what others bring; the result of each. Raises what `work` raises."""
        call: _Call[A, R] = _Call(items, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await call.results

    async def finish(self) -> None:
        """Return when nobody waits any more."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            while self._waiting:
                if calls := self._next():
                    await self._do_together(calls)
        finally:
            self._running = None
            for call in self._waiting:  # this was ended in the middle
                call.results.cancel()

    def _next(self) -> list[_Call[A, R]]:
        """The callers whose turn it is."""
        if not self._apart:
            self._waiting = [call for call in self._waiting if not call.results.done()]
        count = items = 0
        while count < len(self._waiting) and items < self._most:
            items += len(self._waiting[count].items)
            count += 1
        calls, self._waiting = self._waiting[:count], self._waiting[count:]
        return calls

    async def _do_together(self, calls: Sequence[_Call[A, R]]) -> None:
        try:
            results = await self._work([one for call in calls for one in call.items])
        except Exception as error:  # noqa: BLE001 - it is raised where the items came from
            if self._apart and len(calls) > 1:
                await asyncio.gather(*(self._do_together([call]) for call in calls))
                return
            for call in calls:
                if not call.results.done():
                    call.results.set_exception(error)
            return
        except BaseException:
            for call in calls:
                call.results.cancel()
            raise
        at = 0
        for call in calls:
            if not call.results.done():  # else the caller is gone
                call.results.set_result(results[at : at + len(call.items)])
            at += len(call.items)
