"""The numbers on a result form, and the arithmetic they should satisfy.

Lives here: reading a tally (from JSON as typed by people, from CBOR as signed), and the pure check whose result is a
list of flags. What does not add up is flagged, never refused or corrected: the form on paper is what it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.errors import BadInput, Malformed
from relay.limits import MAX_PAIRS, MAX_TALLY, MAX_TALLY_VALUE
from relay.records.identifiers import is_code

COUNTS = (
    "registered_voters",
    "voters",
    "ballots_received",
    "ballots_used",
    "ballots_spoiled",
    "ballots_unused",
    "valid",
    "invalid",
)
_RESERVE_PER_THOUSAND = 25
"""Ballots delivered beyond the number of registered voters: 2.5 %, rounded up."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a form says: `counts` by the names in `COUNTS` (a count left out was not typed), `votes` per pair."""

    counts: Mapping[str, int]
    votes: Mapping[str, int] = field(default_factory=dict)

    def to_map(self) -> dict[str, Any]:
        """The map that is signed, and printed as JSON."""
        return {**self.counts, "votes": dict(self.votes)}


def parse_tally(text: bytes) -> Tally:
    """Read a tally file (JSON). Raises `BadInput` naming the key that is wrong."""
    advice = "See docs/reference/tally.md for the keys; every value is a whole number."
    if len(text) > MAX_TALLY:
        raise BadInput(f"The tally file is over {MAX_TALLY} bytes", advice)
    try:
        document = json.loads(text, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The tally file is not JSON ({error})", advice) from error
    try:
        return read_tally(document)
    except Malformed as error:
        raise BadInput(error.what, advice) from error


def read_tally(document: Any) -> Tally:
    """A tally from a decoded map. Raises `Malformed`."""
    if not isinstance(document, dict):
        raise Malformed("A tally is not a map of names to numbers")
    if unknown := sorted(str(key)[:40] for key in document if key not in COUNTS and key != "votes"):
        raise Malformed(f"A tally has keys that relay does not know: {', '.join(unknown[:5])}")
    votes = document.get("votes", {})
    if not isinstance(votes, dict) or len(votes) > MAX_PAIRS:
        raise Malformed(f"A tally's votes are not a map of at most {MAX_PAIRS} pairs")
    for pair, value in votes.items():
        if not is_code(pair):
            raise Malformed(f"A tally has votes for {str(pair)[:40]!r}, which is no pair number")
        _whole(f"votes of pair {pair}", value)
    counts = {name: _whole(name, document[name]) for name in COUNTS if name in document}
    return Tally(counts, dict(votes))


def check_tally(tally: Tally, registered_voters: int | None) -> tuple[str, ...]:
    """The flags of a tally, sorted: one short slug for each rule that it does not satisfy, none when it adds up.

    `registered_voters` is the register's number for the station, None where the register is not known.
    """
    count = tally.counts.get
    flags = set()
    if len(tally.counts) < len(COUNTS) or not tally.votes:
        flags.add("incomplete")
    if any(value < 0 for value in (*tally.counts.values(), *tally.votes.values())):
        flags.add("negative-number")

    def differ(flag: str, left: int | None, *right: int | None) -> None:
        known = [value for value in right if value is not None]
        if left is not None and len(known) == len(right) and left != sum(known):
            flags.add(flag)

    if tally.votes:
        differ("valid-is-not-sum-of-votes", count("valid"), *tally.votes.values())
    differ("used-is-not-valid-plus-invalid", count("ballots_used"), count("valid"), count("invalid"))
    differ(
        "received-is-not-used-spoiled-unused",
        count("ballots_received"),
        count("ballots_used"),
        count("ballots_spoiled"),
        count("ballots_unused"),
    )
    differ("voters-is-not-ballots-used", count("voters"), count("ballots_used"))
    registered = count("registered_voters")
    if registered is not None:
        differ(
            "received-is-not-registered-plus-reserve",
            count("ballots_received"),
            registered,
            reserve(registered),
        )
        differ("registered-differs-from-register", registered, registered_voters)
        if (count("voters") or 0) > (count("ballots_received") or registered):
            flags.add("more-voters-than-ballots")
    return tuple(sorted(flags))


def reserve(registered_voters: int) -> int:
    """Reserve ballots for a number of registered voters: 2.5 %, rounded up."""
    return -(-registered_voters * _RESERVE_PER_THOUSAND // 1000)


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAX_TALLY_VALUE:
        raise Malformed(f"A tally's {name} is not a whole number up to {MAX_TALLY_VALUE}")
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError("a key stands twice")
    return dict(pairs)
