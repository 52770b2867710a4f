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
from relay.limits import MAX_PAIRS, MAX_PAIRS_TYPED, MAX_TALLY, MAX_TALLY_VALUE
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
IMPOSSIBLE = frozenset(
    {
        "negative-number",
        "valid-is-not-sum-of-votes",
        "used-is-not-valid-plus-invalid",
        "more-voters-than-ballots",
        "more-votes-than-voters",
        "more-votes-than-register",
        "unknown-pair",
    }
)
"""Flags of a tally that cannot be true. Such a tally is shown and never added up, until a correction stands."""
_ADVICE = "See docs/reference/tally.md for the keys; every value is a whole number."
_DIGITS = 20
"""Of a number in a tally file; no count of people is near it."""
_RESERVE_PER_THOUSAND = 25
"""Ballots delivered beyond the number of registered voters: 2.5 %, rounded up."""
_SLACK_PER_CENT, _SLACK = 10, 20
"""Voters beyond the register's number that a station may well have, moved or added on the day: the larger of both."""


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
    if len(text) > MAX_TALLY:
        raise BadInput(f"The tally file is over {MAX_TALLY} bytes", _ADVICE)
    try:
        tally = read_tally(_document(text))
    except Malformed as error:
        raise BadInput(error.what, _ADVICE) from error
    if not tally.counts and not tally.votes:
        raise BadInput("The tally holds no number", "Type the form's numbers, or leave --tally out.")
    if unknown := [pair for pair in tally.votes if not _is_number(pair)]:
        raise BadInput(f"There is no pair {unknown[0]!r}", f"Pairs are numbered from 1 to {MAX_PAIRS_TYPED}.")
    votes = {str(int(pair)): value for pair, value in tally.votes.items()}
    if len(votes) < len(tally.votes):
        raise BadInput("The tally has votes for one pair twice", _ADVICE)
    return Tally(tally.counts, votes)


def _document(text: bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_no_repeats, parse_int=_parse_int)
    except json.JSONDecodeError as error:
        raise BadInput(f"The tally file is not JSON (line {error.lineno}, column {error.colno})", _ADVICE) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The tally file is not UTF-8 (byte {error.start + 1})", _ADVICE) from error
    except RecursionError as error:
        raise BadInput("The tally file is not JSON that relay reads: it is nested too deeply", _ADVICE) from error


def _parse_int(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise Malformed("A tally has a number that is far too large")
    return int(digits)


def _is_number(pair: str) -> bool:
    return pair.isascii() and pair.isdecimal() and 1 <= int(pair) <= MAX_PAIRS_TYPED


def is_pair(name: str) -> bool:
    """Whether this names a pair as everybody names it: 1, not 01, and not a word."""
    return _is_number(name) and name == str(int(name))


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


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A rule that a tally does not satisfy: its `flag`; where two numbers differ, the form's and what it should be."""

    flag: str
    found: int | None = None
    expected: int | None = None


def check_tally(tally: Tally, registered_voters: int | None) -> tuple[str, ...]:
    """The flags of a tally, sorted: one short slug for each rule that it does not satisfy, none when it adds up.

    `registered_voters` is the register's number for the station, None where the register is not known.
    """
    return tuple(sorted(one.flag for one in mismatches(tally, registered_voters)))


def judge_tally(tally: Tally, registered_voters: int | None) -> frozenset[str]:
    """The flags that the receiver finds in a tally: those of its device, and what no device signs."""
    found = set(check_tally(tally, registered_voters))
    counts = tally.counts
    if votes_cast(tally) > counts.get("voters", votes_cast(tally)):
        found.add("more-votes-than-voters")
    if "voters" in counts and counts["voters"] > counts.get("ballots_received", counts["voters"]):
        found.add("more-voters-than-ballots")  # also where no ballots at all were received
    if registered_voters is not None and people(tally) > most_people(registered_voters):
        found.add("more-votes-than-register")
    if not all(map(is_pair, tally.votes)):
        found.add("unknown-pair")
    return frozenset(found)


def people(tally: Tally) -> int:
    """How many people voted by what the form says, whichever of its numbers says most."""
    return max(votes_cast(tally), tally.counts.get("voters", 0))


def most_people(registered_voters: int) -> int:
    """How many may have voted at a station with so many in the register. More is flagged and not added up: one device
    could otherwise outvote an island."""
    return registered_voters + max(registered_voters * _SLACK_PER_CENT // 100, _SLACK)


def votes_cast(tally: Tally) -> int:
    """Votes on the form, valid and invalid: by the sum that the form gives, or the pairs' own if that is larger."""
    return max(tally.counts.get("valid", 0), sum(tally.votes.values())) + tally.counts.get("invalid", 0)


def mismatches(tally: Tally, registered_voters: int | None) -> tuple[Mismatch, ...]:
    """What of a tally does not add up, with the numbers."""
    count = tally.counts.get
    found: list[Mismatch] = []
    if len(tally.counts) < len(COUNTS) or not tally.votes:
        found.append(Mismatch("incomplete"))
    if any(value < 0 for value in (*tally.counts.values(), *tally.votes.values())):
        found.append(Mismatch("negative-number"))

    def differ(flag: str, left: int | None, *right: int | None) -> None:
        known = [value for value in right if value is not None]
        if left is not None and len(known) == len(right) and left != sum(known):
            found.append(Mismatch(flag, left, sum(known)))

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
        voters, most = count("voters") or 0, count("ballots_received") or registered
        if voters > most:
            found.append(Mismatch("more-voters-than-ballots", voters, most))
    return tuple(found)


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
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise Malformed(f"A tally has the key {repeated[:40]!r} twice")
    return dict(pairs)
