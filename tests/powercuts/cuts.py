"""Cutting work short: a process that works, a kill at a random instant, a check, and on it goes with what is left."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.powercuts.work import Violation, Work

LONGEST = 0.4
"""Seconds until the cut, at most, after the work's first word; more than any step takes."""
START_SECONDS = 20.0


@dataclass(slots=True)
class Tally:
    """What a series of cuts came to."""

    cuts: int = 0
    told: int = 0
    """Things that were said to be durable, and were looked for after every cut that followed."""
    by_work: dict[str, int] = field(default_factory=dict)


def kill_at_random(
    work: Work,
    folder: Path,
    cuts: int,
    dice: random.Random,
    tally: Tally,
    *,
    lose: Callable[[], None] = lambda: None,
) -> None:
    """Work, cut and check, again and again on one folder. `lose` is what a power cut does besides ending processes.

    Raises `Violation`, naming the work and the turn.
    """
    told: list[list[str]] = []
    for turn in range(cuts):
        process, words = start(work, folder, turn)
        told += cut(process, words, dice.uniform(0, LONGEST))
        lose()
        try:
            asyncio.run(work.check(folder, told))
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{work.name}, cut {turn}: {error}") from error
        tally.cuts += 1
        tally.by_work[work.name] = tally.by_work.get(work.name, 0) + 1
    tally.told += len(told)


def start(work: Work, folder: Path, turn: int) -> tuple[int, int]:
    """Start the work in a process of its own; its id, and where its words are read."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    os.close(reading)
    try:
        asyncio.run(work.run(folder, turn, lambda *words: _tell(writing, words)))
    except BaseException:  # noqa: BLE001 - it is told, and the process ends
        os.write(writing, b"failed\n")
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(1)


def _tell(writing: int, words: tuple[object, ...]) -> None:
    os.write(writing, (" ".join(str(word) for word in words) + "\n").encode())


def cut(process: int, reading: int, seconds: float) -> list[list[str]]:
    """Kill the process so many seconds after its first word; all that it told. Raises `Violation` if it failed."""
    select.select([reading], [], [], START_SECONDS)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    with os.fdopen(reading, "rb") as words:
        lines = [line.decode().split() for line in words.read().splitlines()]
    if ["failed"] in lines:
        raise Violation("the work failed by itself: see standard error")
    return lines
