"""`python -m tests.simulation`: run simulated elections.

    python -m tests.simulation --seed 7            one run, and its digest; --tell prints every event
    python -m tests.simulation --seeds 1000        seeds 0 to 999; --from N begins at N
    python -m tests.simulation --minutes 3 --random
    python -m tests.simulation --random --idle     until SIGTERM, in the time that other processes leave

Exits with 1 when a promise was broken, and says by which seed.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count, takewhile

from tests.simulation.runs import company, outcomes
from tests.simulation.voyage import Outcome, run


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Run simulated elections.")
    parser.add_argument("--seed", type=int, help="run this one seed")
    parser.add_argument("--seeds", type=int, metavar="COUNT", help="run so many seeds")
    parser.add_argument("--from", type=int, default=0, dest="first", metavar="N", help="the first of them")
    parser.add_argument("--random", action="store_true", help="begin at a seed drawn at random")
    parser.add_argument("--minutes", type=float, help="go on for so long")
    parser.add_argument("--idle", action="store_true", help="take no time that others want, and end by SIGTERM")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--tell", action="store_true", help="print every event")
    options = parser.parse_args()
    if options.seed is not None:
        outcome = run(options.seed, company(), tell=options.tell)
        print(_told(outcome))
        return 1 if outcome.violations else 0
    first = secrets.randbits(40) if options.random else options.first
    print(f"the first seed is {first}; `python -m tests.simulation --seed N` replays any of them", flush=True)
    endless = options.seeds is None and (options.minutes or options.idle)
    seeds: Iterable[int] = count(first) if endless else range(first, first + (options.seeds or 100))
    if options.idle:
        seeds = _until_stopped(seeds)
    return _summary(outcomes(seeds, options.jobs, 60 * options.minutes if options.minutes else None))


def _until_stopped(seeds: Iterable[int]) -> Iterator[int]:
    """These seeds, with a processor that nobody else wants, until this process is told to end."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    return takewhile(lambda _: not stopped.is_set(), seeds)


def _summary(outcomes: Iterable[Outcome]) -> int:
    begun = time.monotonic()
    runs = broken = packages = entries = visits = crashes = 0
    seconds = 0.0
    with suppress(KeyboardInterrupt):  # whoever has seen enough is told how much that was
        for outcome in outcomes:
            runs += 1
            packages += outcome.packages
            entries += outcome.entries
            visits += outcome.visits
            crashes += outcome.crashes
            seconds += outcome.seconds
            if outcome.violations:
                broken += 1
                print(_told(outcome), flush=True)
    took = time.monotonic() - begun
    print(
        f"{runs} elections, {broken} with a broken promise; {packages} packages, {entries} entries, {visits} visits, "
        f"{crashes} crashes, {seconds / 86_400:.1f} days of virtual time; {took:.0f} s, {runs / took:.2f} elections/s"
    )
    return 1 if broken else 0


def _told(outcome: Outcome) -> str:
    lines = [
        f"seed {outcome.seed}: digest {outcome.digest}, {outcome.nodes} nodes, {outcome.packages} packages, "
        f"{outcome.entries} entries, {outcome.visits} visits, {outcome.crashes} crashes, {outcome.events} events, "
        f"{outcome.seconds:.0f} virtual seconds",
        *(f"  BROKEN {what}" for what in outcome.violations),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of bytes have to be in the same order in every process
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {"PYTHONHASHSEED": "0"})
    sys.exit(main())
