"""What the operator's pages show, put together from the register, the drafts and the bundles. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay.node.drafts import Draft, standing
from relay.records.notice import Station
from relay.records.tally import COUNTS, IMPOSSIBLE, Tally, check_tally, judge_tally
from relay.store.interface import Bundle, State

VOTERS = ("registered_voters", "voters")
BALLOTS = ("ballots_received", "ballots_used", "ballots_spoiled", "ballots_unused")
TOTALS = ("valid", "invalid")
SECTION_OF = {
    "registered-differs-from-register": "voters",
    "more-voters-than-ballots": "voters",
    "voters-is-not-ballots-used": "ballots",
    "received-is-not-used-spoiled-unused": "ballots",
    "received-is-not-registered-plus-reserve": "ballots",
    "valid-is-not-sum-of-votes": "totals",
    "used-is-not-valid-plus-invalid": "totals",
}
"""In which part of the form a rule's warning stands."""


@dataclass(frozen=True, slots=True)
class FormLine:
    """One form of a station: nothing done yet, a draft under way, or its packages that no other one supersedes.

    More than one contradict each other.
    """

    form: str
    draft: Draft | None
    bundles: tuple[Bundle, ...]


@dataclass(frozen=True, slots=True)
class StationCard:
    """A station with its forms; `place` is empty where the register is not known."""

    tps: str
    number: int | None
    place: str
    forms: tuple[FormLine, ...]


def station_cards(
    own: Iterable[str],
    stations: Mapping[str, Station],
    forms: Sequence[str],
    drafts: Iterable[Draft],
    bundles: Sequence[Bundle],
) -> list[StationCard]:
    """One card for each of one's own stations, with every form that it must return."""
    under_way = {(draft.tps, draft.form): draft for draft in drafts}
    cards = []
    for tps in sorted(own):
        lines = [FormLine(form, under_way.get((tps, form)), standing(bundles, tps, form)) for form in forms]
        station = stations.get(tps)
        cards.append(StationCard(tps, station.number if station else None, place_of(station), tuple(lines)))
    return cards


def changed(form: Mapping[str, str]) -> dict[str, str]:
    """The fields of a form that are no longer what `was-` and their name says that they were."""
    return {name: text for name, text in form.items() if form.get(f"was-{name}") != text}


def place_of(station: Station | None) -> str:
    """Where a station is, in words."""
    return ", ".join(filter(None, (station.village, station.district, station.island))) if station else ""


def draft_flags(draft: Draft, station: Station | None) -> tuple[str, ...]:
    """The flags that a draft would be signed with."""
    tally = draft.tally
    return check_tally(tally, station.registered_voters if station else None) if tally else ()


def is_summed(draft: Draft, station: Station | None) -> bool:
    """Whether the receiver would add a draft's numbers up: not where they cannot be true."""
    tally = draft.tally
    return tally is None or not IMPOSSIBLE & judge_tally(tally, station.registered_voters if station else None)


def tally_lines(tally: Tally | None) -> dict[str, Any] | None:
    """The numbers of a tally by the parts of the form; None for a count that was not typed."""
    if tally is None:
        return None
    valid, invalid = tally.counts.get("valid"), tally.counts.get("invalid")
    return {
        "counts": {name: tally.counts.get(name) for name in COUNTS},
        "votes": sorted(tally.votes.items(), key=lambda item: (len(item[0]), item[0])),
        "sum": None if valid is None or invalid is None else valid + invalid,
    }


def is_delivered(bundle: Bundle) -> bool:
    """Whether the bundle has its log entry."""
    return bundle.state is State.DELIVERED


def moment(seconds: int) -> str:
    """A time as the device's clock claims it; empty where that clock was never set."""
    if seconds < 1_600_000_000:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%d-%m-%Y %H:%M")
    except (ValueError, OverflowError, OSError):  # a claim may be anything
        return str(seconds)
