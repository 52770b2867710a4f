"""Many runs: on all cores, in any order, each by its seed alone."""

from __future__ import annotations

import gc
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
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


def outcome(seed: int) -> Outcome:
    """One run."""
    return run(seed, company())


def outcomes(seeds: Iterable[int], jobs: int, seconds: float | None = None) -> Iterator[Outcome]:
    """What these seeds come to, as they are done; no more are begun after so many seconds."""
    until = None if seconds is None else time.monotonic() + seconds
    left = iter(seeds)
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawning, max_tasks_per_child=2_000) as pool:
        under_way: set[Future[Outcome]] = set()
        while True:
            while len(under_way) < 2 * jobs and (until is None or time.monotonic() < until):
                seed = next(left, None)
                if seed is None:
                    break
                under_way.add(pool.submit(outcome, seed))
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for one in done:
                yield one.result()
