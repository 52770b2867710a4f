"""Flags where there is not room for all: those that say most, and how many more there are. Pure.

A device may raise sixteen flags of its own in each of a thousand statements. All of them are told at the statement;
pages above it tell a few, and lead there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from relay.limits import SITE_FLAG_STATEMENTS
from relay.receiver.results import is_settled, label_of
from relay.records.tally import IMPOSSIBLE

Told = dict[str, Any]
"""A flag as it is published."""


def shorten(flags: Sequence[Told], more: int, most: int) -> tuple[list[Told], int]:
    """At most so many of these flags, and how many are left out beside `more`. What was shortened stays as it is.

    Of each kind one comes first, what the receiver found before what devices say of themselves, and what stands before
    what was corrected: whoever raises a thousand flags, and corrects them, hides none of another kind.
    """
    chosen = list(flags)
    if len(flags) > most:
        kinds: dict[str, Told] = {}
        for flag in sorted(flags, key=lambda one: (_is_devices_own(one), is_settled(one))):
            kinds.setdefault(label_of(flag), flag)
        firsts = list(kinds.values())[:most]
        rest = [flag for flag in flags if flag is not kinds[label_of(flag)]]
        chosen = [*firsts, *rest[: most - len(firsts)]]
    return [_few(flag) for flag in chosen], more + len(flags) - len(chosen)


def _is_devices_own(flag: Mapping[str, Any]) -> bool:
    """Whether a flag may be any word that a device chose: nothing was computed for it."""
    return not flag["values"] and flag["flag"] not in IMPOSSIBLE


def _few(flag: Told) -> Told:
    """A flag that names a few of its statements, and says how many there are."""
    if len(flag["statements"]) <= SITE_FLAG_STATEMENTS:
        return flag
    return {**flag, "statements": flag["statements"][:SITE_FLAG_STATEMENTS], "of": len(flag["statements"])}
