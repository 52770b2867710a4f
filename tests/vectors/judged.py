"""Statements as they may come for one form, and what is published of them: `judged.json` holds it fast.

`python -m tests.vectors.judged` writes that file, once `JUDGING` (`relay.web.site.settled`) is another number than the
one in it: a receiver that judges otherwise than the one before judges again what was published.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relay.receiver.chains import findings
from relay.receiver.results import Logged, judge
from relay.records.identifiers import NodeId, RecordId, StatementId, sha256
from relay.records.notice import Station
from relay.records.tally import COUNTS, Tally
from relay.web.site.pages import Look
from relay.web.site.regions import station_row
from relay.web.site.settled import JUDGING

FILE = Path(__file__).parent / "judged.json"
FORM, UNASKED = "C-HASIL-KWK-BUPATI", "C-HASIL-KWK-WALIKOTA"
SMALL = Station("1906022011006", 6, "Limbongan", "Gantung", "Pulau Long", 148, signal=False)
LARGE = replace(SMALL, registered_voters=1_001)
ISLAND, OTHER = NodeId(sha256(b"island")), NodeId(sha256(b"other"))
_SUMS = ("complete", "corrected", "flagged", "marks", "totals")


@dataclass(frozen=True, slots=True)
class Example:
    """Statements for one form, and what else is known when they are judged."""

    statements: Sequence[Logged]
    station: Station | None = SMALL
    elsewhere: Sequence[Logged] = ()
    """What the same devices signed for other forms."""
    revoked: frozenset[NodeId] = frozenset()


def good(registered: int = 148) -> dict[str, Any]:
    """A tally in which everything adds up: everybody voted, and every ballot of the reserve is left."""
    reserve = -(-registered * 25 // 1_000)
    return {
        "registered_voters": registered,
        "voters": registered,
        "ballots_received": registered + reserve,
        "ballots_used": registered,
        "ballots_spoiled": 0,
        "ballots_unused": reserve,
        "valid": registered - 8,
        "invalid": 8,
        "votes": {"1": 60, "2": registered - 68},
    }


def statement(entry: int = 0, tally: Mapping[str, Any] | None = None, **changes: Any) -> Logged:
    """A logged statement, of the good tally unless told; its id follows from its entry."""
    made = Logged(
        id=name(entry),
        entry=entry,
        arrived=1_732_708_800 + entry,
        tps=SMALL.tps,
        form=FORM,
        device="pulau-long",
        node=ISLAND,
        seq=entry + 1,
        previous=name(entry - 1) if entry else None,
        supersedes=None,
        reason="",
        captured_at=1_732_705_200,
        sealed=False,
        tally=read(good() if tally is None else tally),
        flags=(),
        files=(),
    )
    return replace(made, **changes)


def read(tally: Mapping[str, Any]) -> Tally:
    """A tally as it is, whatever it says."""
    return Tally({key: tally[key] for key in COUNTS if key in tally}, tally["votes"])


def name(entry: int) -> StatementId:
    """The id of the statement at an entry."""
    return StatementId(RecordId(sha256(b"judged %d" % entry)))


def examples() -> dict[str, Example]:
    """Every way that a result may be, by a name."""
    return {**dict(_tallies()), **_several(), **_chains(), **_registers()}


def _tallies() -> Iterator[tuple[str, Example]]:
    """Each number one off, far off, negative and missing; and the largest ones that are believed, and one more."""
    yield "everything adds up", Example([statement()])
    for key in COUNTS:
        for change in (-1, 1, 100):
            yield f"{key} {change:+}", Example([statement(0, {**good(), key: good()[key] + change})])
        yield f"{key} missing", Example([statement(0, {k: v for k, v in good().items() if k != key})])
        yield f"{key} negative", Example([statement(0, {**good(), key: -1})])
    for word, votes in (("no", {}), ("a pair's negative", {"1": -1}), ("unknown", {"1": 60, "x" * 20: 80})):
        yield f"{word} votes", Example([statement(0, {**good(), "votes": votes})])
    for station in (SMALL, LARGE, None):
        of = station.registered_voters if station else "nobody"
        yield f"registered {of}", Example([statement(0, good(1_001))], station)
    for station in (SMALL, LARGE):
        registered = station.registered_voters
        slack = max(20, registered // 10)
        for people in range(registered + slack - 1, registered + slack + 2):
            numbers = {"votes": {"1": people}, "valid": people, "invalid": 0, "voters": people}
            yield f"{people} people of {registered}", Example([statement(0, numbers)], station)
    few = {"votes": {"1": 90}, "valid": 90, "invalid": 0, "voters": 151, "ballots_received": 150}
    yield "more voters than ballots, and else nothing", Example([statement(0, few)])
    yield "flags of the device's own", Example([statement(flags=("blurred", "incomplete"))])


def _several() -> dict[str, Example]:
    """More than one statement, and none with numbers."""
    other = {**good(), "votes": {"1": 61, "2": 79}}
    elsewhere: dict[str, Any] = {"device": "laptop", "node": OTHER, "seq": 1, "previous": None}
    bare = replace(statement(), tally=None)
    found = {
        "photographs only": [bare],
        "photographs only, and flags": [replace(bare, flags=("blurred",))],
        "sealed": [replace(bare, sealed=True)],
        "photographs twice": [bare, replace(bare, id=name(1), entry=1, **elsewhere)],
        "photographs and numbers": [bare, statement(1, **elsewhere)],
        "two agree": [statement(), statement(1, **elsewhere)],
        "two contradict": [statement(), statement(1, other, **elsewhere)],
        "corrected": [statement(0, other), statement(1, supersedes=name(0), reason="typing error")],
        "corrected twice": [statement(), statement(1, other, supersedes=name(0)), statement(2, supersedes=name(1))],
        "corrected in two ways": [
            statement(),
            statement(1, supersedes=name(0)),
            statement(2, other, supersedes=name(0)),
        ],
        "corrected by another": [statement(0, other), statement(1, supersedes=name(0), **elsewhere)],
        "corrects what is not here": [statement(0, supersedes=name(77))],
        "corrected, and does not add up": [statement(), statement(1, {**good(), "valid": 999}, supersedes=name(0))],
        "corrected, and did not add up": [statement(0, {**good(), "valid": 999}), statement(1, supersedes=name(0))],
        "corrected, and never added up": [
            statement(0, {**good(), "valid": 999}),
            statement(1, {**good(), "valid": 998}, supersedes=name(0)),
            statement(2, {**good(), "invalid": 7}, supersedes=name(1)),
        ],
        "corrected in two ways, and one adds up": [
            statement(0, {**good(), "valid": 999}),
            statement(1, {**good(), "valid": 998}, supersedes=name(0)),
            statement(2, supersedes=name(0)),
        ],
        "corrected, with flags of the device's own": [
            statement(flags=("blurred", "incomplete")),
            statement(1, supersedes=name(0)),
        ],
        "corrected photographs, and flags": [replace(bare, flags=("blurred",)), statement(1, supersedes=name(0))],
    }
    return {key: Example(one) for key, one in found.items()}


def _chains() -> dict[str, Example]:
    """What the chains of devices show."""
    late = statement(4, seq=5, previous=name(90))
    return {
        "first ones missing": Example([late]),
        "one missing": Example([late], elsewhere=[statement(0, seq=1), statement(2, seq=3)]),
        "none missing": Example([late], elsewhere=[statement(at, seq=at + 1) for at in range(4)]),
        "one number twice": Example([statement(0, seq=1), statement(1, seq=1, previous=None)]),
        "one number twice, elsewhere": Example([statement(0)], elsewhere=[statement(1, seq=1, previous=None)]),
        "after a number twice": Example(
            [statement(2, seq=2, previous=name(1))], elsewhere=[statement(0), statement(1, seq=1, previous=None)]
        ),
        "after a number twice, naming neither": Example(
            [statement(2, seq=2, previous=None)], elsewhere=[statement(0), statement(1, seq=1, previous=None)]
        ),
        "revoked": Example([statement()], revoked=frozenset([ISLAND])),
        "another is revoked": Example([statement()], revoked=frozenset([OTHER])),
    }


def _registers() -> dict[str, Example]:
    """What the register does not ask for."""
    return {
        "not in the register": Example([statement()], None),
        "form not in the register": Example([statement(form=UNASKED)]),
    }


def told(example: Example) -> dict[str, Any]:
    """What is published of it: in its own document, and in the row of its station."""
    links = [one.link for one in (*example.statements, *example.elsewhere)]
    station = example.station
    result = judge(example.statements, station, frozenset([FORM]), findings(links), example.revoked)
    document = Look("judged", b"root", b"receiver").result_document(result, station, ())
    row = station_row(station, (FORM,), {result.form: document}) if station else None
    keys = ("state", "entry", "arrived", "counted", "corrected", "flags")
    return {
        **{key: document[key] for key in keys},
        "has_tally": document["tally"] is not None,
        "standing": [one["standing"] for one in document["statements"]],
        "sums": {key: row["sums"][key] for key in _SUMS} if row else None,
    }


def all_told() -> dict[str, Any]:
    """What is published of all examples, as it is read back."""
    found: dict[str, Any] = json.loads(json.dumps({key: told(one) for key, one in examples().items()}))
    return found


def held() -> dict[str, Any]:
    """What was said of them, and by which judging."""
    found: dict[str, Any] = json.loads(FILE.read_bytes())
    return found


def main() -> int:
    """Write the file, unless two judgings would have one number."""
    now = all_told()
    if FILE.is_file() and held()["judging"] == JUDGING and held()["told"] != now:
        print("These are judged otherwise: raise JUDGING in relay/web/site/settled.py first.", file=sys.stderr)
        return 1
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(one, separators=(',', ':'))}" for key, one in now.items())
    FILE.write_text(f'{{"judging": {JUDGING},\n"told": {{\n{lines}\n}}}}\n', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
