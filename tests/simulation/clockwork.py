"""An event loop on virtual time: no thread, no socket, no real clock. The same calls give the same order, always.

When nothing is ready the clock jumps to the next timer. Work for threads runs at once in the loop. Tasks and futures
are hashed by their number and not by their address, since asyncio keeps them in sets; each task belongs to the node
in whose context it was made, so that a node that crashes can be stopped as a whole.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar, copy_context
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stuck(Exception):
    """Nothing is ready, and nothing ever will be."""


class Crew:
    """The tasks of one node, from its start to its end."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._sweep_at = 64
        self.context = copy_context()
        self.context.run(_crew.set, self)

    def join(self, task: asyncio.Task[Any]) -> None:
        """Count a task among them."""
        self._tasks[task] = None
        if len(self._tasks) >= self._sweep_at:
            self._tasks = {one: None for one in self._tasks if not one.done()}
            self._sweep_at = 64 + 2 * len(self._tasks)

    def dismiss(self) -> None:
        """Cancel all of them."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()


_crew: ContextVar[Crew | None] = ContextVar("crew", default=None)


class _Task(asyncio.Task[T]):
    def __init__(self, number: int, coro: Any, loop: VirtualLoop, context: Context | None) -> None:
        self._number = number
        super().__init__(coro, loop=loop, context=context)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[T]):
    def __init__(self, number: int, loop: VirtualLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. `time()` is seconds since its beginning."""

    def __init__(self) -> None:
        self._now = 0.0
        self._numbers = count(1)
        super().__init__(_Jump(self))
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float | None) -> None:
        """Let time pass. Raises `Stuck` when there is nothing to wait for."""
        if seconds is None:
            raise Stuck("every task waits for another one")
        self._now += seconds

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(next(self._numbers), self)

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

    def _make_task(self, _loop: object, coro: Any, context: Context | None = None) -> asyncio.Task[Any]:
        task: _Task[Any] = _Task(next(self._numbers), coro, self, context)
        crew = context.get(_crew) if context is not None else _crew.get()
        if crew is not None:
            crew.join(task)
        return task


class _Jump(selectors.BaseSelector):
    """A selector that never waits: it tells the loop to jump."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._keys[fileobj] = key = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self._loop.jump(timeout)
        return []
