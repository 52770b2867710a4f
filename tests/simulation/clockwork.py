"""An event loop on virtual time: no thread, no socket, no real clock. The same calls give the same order, always.

When nothing is ready the clock jumps to the next timer. Work for threads runs at once in the loop. Tasks are hashed by
their number and not by their address, since asyncio keeps them in sets; each task belongs to the node in whose context
it was made, so that a node that crashes can be stopped as a whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar, TypeVarTuple
from unittest.mock import patch

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stuck(Exception):
    """Nothing is ready, and nothing ever will be."""


class Crew:
    """The tasks of one node, from its start to its end."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._sweep_at = 64
        self.context = copy_context()
        self.context.run(_crew.set, self)

    def join(self, task: asyncio.Task[Any]) -> None:
        """Count a task among them."""
        self._tasks.append(task)
        if len(self._tasks) >= self._sweep_at:
            self._tasks = [one for one in self._tasks if not one.done()]
            self._sweep_at = 64 + 2 * len(self._tasks)

    def dismiss(self) -> None:
        """Cancel all of them."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()


_crew: ContextVar[Crew | None] = ContextVar("crew", default=None)


class _Task(asyncio.Task[T]):
    number = 0
    """Its own once it is made, and before anybody but the set of all tasks (see `uncounted_tasks`) hashes it."""

    def __hash__(self) -> int:
        return self.number


class _Handle(list[Any]):
    """A call that is due, or will be: what is called, with what, where, and when. It is `asyncio.Handle`, as far as
    anybody here looks at it; a list, because a run makes a hundred thousand of them."""

    __slots__ = ()

    def cancel(self) -> None:
        """Do not do it."""
        self[0] = None

    def cancelled(self) -> bool:
        """Whether it is not to be done."""
        return self[0] is None

    def when(self) -> float:
        """When it is due."""
        return float(self[3])


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. `time()` is seconds since its beginning."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._stopping = False
        self._numbers = count(1)
        self._due: deque[_Handle] = deque()
        self._later: list[tuple[float, int, _Handle]] = []

    def time(self) -> float:
        return self._now

    get_debug = staticmethod(bool)  # no; this is asked for each future

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> Any:
        handle = _Handle((callback, args, copy_context() if context is None else context, self._now))
        self._due.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # there is one thread; generators that nobody holds are closed by it

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Any:
        handle = _Handle((callback, args, copy_context() if context is None else context, when))
        heappush(self._later, (when, next(self._numbers), handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Any:
        when = self._now + delay
        handle = _Handle((callback, args, copy_context() if context is None else context, when))
        heappush(self._later, (when, next(self._numbers), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def run_in_executor(self, executor: object, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                done = func(*args)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it goes to who waits
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(done)

        self.call_soon(run)
        return future

    def _asyncgen_firstiter_hook(self, agen: object) -> None:
        """Nobody here asks which generators there are."""

    def _write_to_self(self) -> None:
        """There is no other thread, and nothing to wake."""

    def _run_once(self) -> None:
        """What `asyncio` does between two looks at its sockets, again and again until the loop is to stop. Raises
        `Stuck` when there is nothing to wait for."""
        due, later = self._due, self._later
        while not self._stopping:
            while later and later[0][2][0] is None:
                heappop(later)
            if not due:
                if not later:
                    raise Stuck("every task waits for another one")
                self._now = max(self._now, later[0][0])
            now = self._now
            while later and later[0][0] <= now:
                due.append(heappop(later)[2])
            for _ in range(len(due)):
                act, arguments, context, _when = due.popleft()
                if act is not None:
                    try:
                        context.run(act, *arguments)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told to who asked for it
                        self.call_exception_handler({"message": f"Exception in {act!r}", "exception": error})

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> Any:
        task: _Task[Any] = _Task(coro, loop=self, name=str(name or ""), context=context)
        task.number = next(self._numbers)
        crew = context.get(_crew) if context is not None else _crew.get()
        if crew is not None:
            crew.join(task)
        return task


@contextmanager
def uncounted_tasks() -> Iterator[None]:
    """Within it asyncio does not enter each task in the set of all tasks, which nobody here asks for."""
    with patch.object(asyncio.tasks._all_tasks, "add", lambda _task: None):  # type: ignore[attr-defined]
        yield
