"""What programs read: tables of results in CSV and JSON, and the feed of arrivals (Atom, RFC 4287). Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as Xml

from relay.records.tally import COUNTS, is_pair
from relay.store.shelf import Page

_COLUMNS = (
    "tps",
    "number",
    "village",
    "district",
    "island",
    "registered_voters_in_register",
    "form",
    "state",
    "entry",
    "arrived",
    "corrected",
    "counted",
    "flags",
    *COUNTS,
)
_ATOM = "http://www.w3.org/2005/Atom"


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Page, ...]:
    """One row for each station and form, as `<name>.csv` and `<name>.json`."""
    plain = [_row(row) for row in rows]
    pairs = sorted({pair for row in plain for pair in row["votes"] if is_pair(pair)}, key=int)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*_COLUMNS, *(f"votes_{pair}" for pair in pairs)])
    for row in plain:
        cells = [row[column] for column in _COLUMNS] + [row["votes"].get(pair) for pair in pairs]
        writer.writerow([spreadsheet_cell(cell) for cell in cells])
    document = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return (
        Page(f"{name}.csv", text.getvalue().encode(), "text/csv; charset=utf-8"),
        Page(f"{name}.json", document.encode(), "application/json"),
    )


def feed(election: str, newest: Iterable[Mapping[str, Any]], title: str, form_title: str) -> bytes:
    """The newest arrivals, newest first, each leading to its page."""
    items = list(newest)
    root = Xml.Element("feed", {"xmlns": _ATOM, "xml:lang": "id"})
    _text(root, "title", f"{title} · {election}")
    _text(root, "id", f"relay://{election}/feed")
    _text(root, "updated", _moment(max((one["arrived"] or 0 for one in items), default=0)))
    Xml.SubElement(root, "link", {"href": "feed.xml", "rel": "self"})
    _text(Xml.SubElement(root, "author"), "name", election)
    for one in items:
        entry = Xml.SubElement(root, "entry")
        place = ", ".join(filter(None, (one["village"], one["district"], one["island"])))
        _text(entry, "title", f"{form_title.format(number=one['number'] or one['tps'])} · {place} · {one['form']}")
        _text(entry, "id", f"relay://{election}/statement/{one['id']}")
        _text(entry, "updated", _moment(one["arrived"] or 0))
        Xml.SubElement(entry, "link", {"href": f"tps/{one['tps']}/{one['form']}.html"})
    return bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=True))


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    tally = row.get("tally") or {}
    return {
        "tps": row["tps"],
        "number": row["number"],
        "village": row["village"],
        "district": row["district"],
        "island": row["island"],
        "registered_voters_in_register": row["registered_voters"],
        "form": row["form"],
        "state": row.get("state", "waiting"),
        "entry": row.get("entry"),
        "arrived": _moment(row["arrived"]) if row.get("arrived") else None,
        "corrected": row.get("corrected", False),
        "counted": row.get("counted", False),
        "flags": [*row.get("flags", []), *([f"+{row['more_flags']}"] if row.get("more_flags") else [])],
        **{count: tally.get(count) for count in COUNTS},
        "votes": tally.get("votes", {}),
    }


def spreadsheet_cell(value: object) -> object:
    """What a spreadsheet may show as it is: a text that begins like a formula is made a text for certain."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(map(str, value))
        case str() if value[:1] in tuple("=+-@\t\r"):
            return f"'{value}"
        case _:
            return value


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _text(parent: Xml.Element, name: str, text: str) -> None:
    Xml.SubElement(parent, name).text = text
