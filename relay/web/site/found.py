"""Flags by the statements that they are about, for who tells them there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_OF_ALL = frozenset({"two-statements-in-conflict", "two-statements-agree", "two-statements-without-numbers"})
"""Flags of a form that are about everything that stands: they are not repeated at each statement."""
_OF_THE_FIRST = frozenset({"corrected-by-another-device"})
"""Flags that are told at the first statement that they name."""

Told = dict[str, Any]
"""A flag as it is told at a statement: where that stands is said beside it."""


def by_statement(flags: Iterable[Mapping[str, Any]]) -> dict[str, list[Told]]:
    """What is told at each statement, by its id, of flags as they are published."""
    found: dict[str, list[Told]] = {}
    for flag in flags:
        if flag["flag"] not in _OF_ALL:
            about = flag["statements"][:1] if flag["flag"] in _OF_THE_FIRST else flag["statements"]
            for one in about:
                found.setdefault(one, []).append({"flag": flag["flag"], "values": flag["values"]})
    return found
