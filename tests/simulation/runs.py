"""Many runs: on all cores, in any order, each by its seed alone."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path

from tests.simulation.company import Company
from tests.simulation.voyage import Outcome, run


@cache
def company() -> Company:
    """Who takes part, made once in each process."""
    folder = tempfile.TemporaryDirectory(prefix="relay-simulation-")
    _folders.append(folder)
    mustered = Company.muster(Path(folder.name))
    gc.collect()
    gc.freeze()  # what is the same for all runs is not looked at after each
    return mustered


_folders: list[tempfile.TemporaryDirectory[str]] = []
"""Kept until the process ends."""


RUN_SECONDS = 300
"""Seconds of a processor after which a run counts as one that never ends: hundreds of times what one takes."""


REAL_SECONDS = 1_200
"""The same in real seconds, of which a run may have to leave many to other processes."""


class Endless(KeyboardInterrupt):
    """A run did not come to its end. A kind of interrupt, since `asyncio` lets no other error out of a task."""


def outcome(seed: int) -> Outcome:
    """One run, and its garbage collected."""
    try:
        return _outcome(seed)
    finally:
        gc.collect(0)  # what is left of it is remembered for the runs to come, and not looked at again


def _outcome(seed: int) -> Outcome:
    """One run. One that fails, or does not come to its end, is a broken promise of its seed, and ends no other."""
    members = company()

    def give_up(*_: object) -> None:
        raise Endless(f"did not end within {RUN_SECONDS} s of a processor, or {REAL_SECONDS} s")

    collecting = gc.isenabled()
    gc.disable()  # a run's garbage is collected once, when all of it is garbage
    before = [signal.signal(number, give_up) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, RUN_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, REAL_SECONDS)
    try:
        return run(seed, members)
    except (Exception, Endless) as error:  # noqa: BLE001 - whatever it is, its seed must not be lost
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"[10] the run ended by {type(error).__name__}: {error} (in {last.name}, line {last.lineno})"
        return Outcome(seed, "", (what,), 0, 0, 0, 0, 0, 0, 0.0)
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)
        if collecting:
            gc.enable()


def outcomes(seeds: Iterable[int], jobs: int, seconds: float | None = None) -> Iterator[Outcome]:
    """What these seeds come to, as they are done; no more are begun after so many seconds."""
    until = None if seconds is None else time.monotonic() + seconds
    left = iter(seeds)
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawning, max_tasks_per_child=2_000) as pool:
        under_way: dict[Future[Outcome], int] = {}
        while True:
            while len(under_way) < 2 * jobs and (until is None or time.monotonic() < until):
                seed = next(left, None)
                if seed is None:
                    break
                under_way[pool.submit(outcome, seed)] = seed
            if not under_way:
                return
            for one in wait(under_way, return_when=FIRST_COMPLETED).done:
                try:
                    yield one.result()
                except BrokenProcessPool as error:
                    raise RuntimeError(f"a process died with one of the seeds {sorted(under_way.values())}") from error
                del under_way[one]
