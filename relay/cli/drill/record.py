"""What a polling station's drill left behind: its steps, who did each, how long it took, what went wrong.

Pure: values in, JSON out and back. The record travels to the receiver as a package of the drill's own form, so that it
tells of a whole way there: it is signed only after the station's receipts have come back. Times are seconds on the
device's monotonic clock (promise 9).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from relay.errors import Malformed
from relay.limits import MAX_DRILL_RECORD, MAX_DRILL_STEPS, MAX_TEXT
from relay.records.identifiers import DRILL_FORM

FORM = DRILL_FORM
"""The form of the package that carries the record."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `login`, or `pictures <form> <tps>` and the like (see `steps`). `trouble`: parts, with `; ` between."""

    name: str
    seconds: float
    trouble: str = ""
    who: str = ""

    @property
    def kind(self) -> str:
        """What was done, whatever for."""
        return self.name.partition(" ")[0]


def write_record(steps: tuple[Step, ...]) -> bytes:
    """The record as a file."""
    document = [
        {"step": one.name, "seconds": round(one.seconds, 1), "trouble": one.trouble, "who": one.who} for one in steps
    ]
    return json.dumps({"steps": document}, indent=1).encode()


def read_record(text: bytes) -> tuple[Step, ...]:
    """The steps of a record. Raises `Malformed`: it may come from any device."""
    if len(text) > MAX_DRILL_RECORD:
        raise Malformed("The drill's record is too large")
    try:
        steps = json.loads(text)["steps"]
        if not isinstance(steps, list) or len(steps) > MAX_DRILL_STEPS:
            raise Malformed("The drill's record has too many steps")
        return tuple(
            Step(_text(one["step"]), _seconds(one["seconds"]), _text(one["trouble"]), _text(one["who"]))
            for one in steps
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Malformed("The drill's record cannot be read") from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_TEXT:
        raise Malformed("A text of the drill's record is unfit")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise Malformed("A time of the drill's record is unfit")
    return float(value)
