"""The diary of a drill: what happened on a node and when, a line each, so that everyone can be told how it went.

Only nodes of a practice election keep one. The operator's page writes what phones did, `relay drill walk` what it saw
in the store; both append whole lines to `drill-diary.jsonl` in the node's folder. Times are seconds on the monotonic
clock, which all processes of one boot share (promise 9): two moments can be compared where `boot` is the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from relay.limits import MAX_DRILL_DIARY, MAX_TEXT
from relay.node.pairing import this_boot
from relay.store.durable import explained


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `who` is a paired phone's name and id, or where somebody unknown came from.

    `what`: opened, wrong-code, paired; began, arriving, resumed, arrived, refused, sent; package, delivered; gave-up.
    `tps` and `form` are empty where it was about none; `detail` is the id of a picture, where a phone came
    from before it was paired, or a reason.
    """

    what: str
    at: float
    boot: str
    who: str = ""
    tps: str = ""
    form: str = ""
    detail: str = ""


class Diary:
    """The diary in a node's folder. `clock` is monotonic, the same for all processes of one `boot`."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic, boot: str | None = None) -> None:
        self._file = folder / "drill-diary.jsonl"
        self._clock = clock
        self._boot = this_boot() if boot is None else boot

    def note(self, what: str, *, who: str = "", tps: str = "", form: str = "", detail: str = "") -> None:
        """Write down what happened now. Past its bound nothing more is kept. Raises `StoreError`."""
        event = Event(what, round(self._clock(), 3), self._boot, who[:MAX_TEXT], tps, form, detail[:MAX_TEXT])
        with explained(self._file):
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_size < MAX_DRILL_DIARY:
                    os.write(descriptor, json.dumps(asdict(event)).encode() + b"\n")
            finally:
                os.close(descriptor)

    def read(self) -> list[Event]:
        """What was written down, in order; a line that a power cut left by half is passed over. Raises `StoreError`."""
        if not self._file.exists():
            return []
        with explained(self._file), self._file.open("rb") as file:
            lines = file.read(MAX_DRILL_DIARY + MAX_TEXT * 8).splitlines()
        events = []
        for line in lines:
            try:
                events.append(Event(**json.loads(line)))
            except (ValueError, TypeError):
                continue
        return events
