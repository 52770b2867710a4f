"""What a published document of results shows and what the log says, held against each other. Pure.

Compared is what is said, and not how it was put: in which order flags stand, on which page of a long history a
statement is, how far the site was. When an entry was logged, nobody but the receiver knows: any time is as good.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import count
from typing import Any

from relay.web.site.regions import Document

_HOW = frozenset({"sum", "generation", "begun", "log", "strays_page", "where", "pages", "page", "has_table"})
"""What a document says of itself."""
_FIRST = ("statements", "rows", "tally", "flags", "sums", "notes", "children")
"""What is compared before all else, since all else follows from it."""
OF_CHAINS = frozenset({"chain-gap", "chain-fork"})
"""Flags that change when a device signs for another form."""
_SHOWN = 80
"""Characters of a value that are told."""


class _AnyTime(int):
    """A time of arrival that cannot be checked."""


ANY_TIME = _AnyTime(1_700_000_000)
"""When something was logged: any time fits, and that it is not known."""


class _Nothing:
    """What stands where something is missing."""


NOTHING = _Nothing()


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where a document shows something else: `shown` and `said` are what is there and what should be,
    and the keys lead there."""

    keys: tuple[str, ...]
    shown: object
    said: object

    def told(self, file: str) -> str:
        """In a sentence: `file` is where it was found."""
        told = _told_of_statement(file, self) or _told_of_flag(file, self) or _told_of_votes(file, self)
        return told or _told_of_part(file, self) or _told_of_value(file, self)


def difference(said: Document, shown: object, besides: AbstractSet[str] = frozenset()) -> Difference | None:
    """The first difference between a document as it follows from the log and one that is shown, `besides` some flags;
    None for none."""
    try:
        return _differ(_plain(said, besides), _plain(_object(shown), besides), ())
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return Difference((), shown, said)


def _differ(said: object, shown: object, keys: tuple[str, ...]) -> Difference | None:
    if isinstance(said, _AnyTime):
        return None if shown is None or type(shown) is int else Difference(keys, shown, said)
    if isinstance(said, Mapping) and isinstance(shown, Mapping):
        found = (
            _differ(said.get(key, NOTHING), shown.get(key, NOTHING), (*keys, str(key)))
            for key in dict.fromkeys((*said, *shown))
        )
        return next((one for one in found if one), None)
    if isinstance(said, Sequence) and isinstance(shown, list) and not isinstance(said, str):
        if len(said) != len(shown):
            return Difference(keys, shown, said)
        each = enumerate(zip(said, shown, strict=True))
        return next((one for at, pair in each if (one := _differ(*pair, (*keys, str(at))))), None)
    return None if type(said) is type(shown) and said == shown else Difference(keys, shown, said)


def rows_in(path: str, content: bytes) -> dict[tuple[str, str], Document]:
    """The rows of a table, CSV or JSON, by station and form; the times of arrival are left out. Raises `ValueError`,
    `TypeError`, `KeyError` or `AttributeError` for what is none."""
    rows: Iterable[Document]
    if path.endswith(".csv"):
        try:
            reader = csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)
            found = list(reader)
        except csv.Error as error:
            raise ValueError from error
        if len(set(reader.fieldnames or ())) < len(reader.fieldnames or ()):
            raise ValueError
        rows = [{key: one for key, one in row.items() if one} | {"flags": row["flags"].split()} for row in found]
    else:
        try:
            rows = json.loads(content)
        except RecursionError as error:
            raise ValueError from error
    named: dict[tuple[str, str], Document] = {}
    for row in rows:
        name = row["tps"], row["form"]
        if name in named or not all(isinstance(one, str) for one in name):
            raise ValueError
        named[name] = {key: one for key, one in row.items() if not key.endswith("arrived")}
    return named


# -- what is said, without how it is put


def _object(document: object) -> Document:
    if not isinstance(document, dict):
        raise TypeError
    return document


def _plain(document: Document, besides: AbstractSet[str]) -> Document:
    """A document by what it says."""
    keys = [*(key for key in _FIRST if key in document), *(key for key in document if key not in (*_HOW, *_FIRST))]
    plain = {key: document[key] for key in keys}
    shapes: dict[str, Callable[[Any], object]] = {
        "statements": lambda all_of: _by([one["id"] for one in all_of], all_of),
        "rows": lambda rows: {key: _row(row, besides) for key, row in rows.items()},
        "flags": lambda flags: _set_of(flags, besides),
        "notes": _notes,
        "children": lambda rows: {key: _shaped(_child, row) for key, row in rows.items()},
    }
    return plain | {key: _shaped(shape, plain[key]) for key, shape in shapes.items() if key in plain}


def _shaped(shape: Callable[[Any], object], shown: object) -> object:
    """Something in the shape in which it is compared; what has another differs as it is."""
    try:
        return shape(shown)
    except (KeyError, TypeError, AttributeError, ValueError):
        return shown


def _row(row: Document, besides: AbstractSet[str]) -> Document:
    found = {"found": _set_of(row["found"], besides)} if "found" in row else {}
    return {**{key: one for key, one in row.items() if key not in _HOW}, **found}


def _child(row: Document) -> Document:
    plain = {**row, "notes": _notes(row["notes"])}
    if "forms" in row:
        plain["forms"] = {form: {**one, "flags": _set_of(one["flags"])} for form, one in row["forms"].items()}
    return plain


def _notes(notes: Sequence[Document]) -> Document:
    told = [{**one, "flags": _set_of(one["flags"])} for one in notes]
    return _by([f"{one['tps']} {one['form']}" for one in notes], told)


def _by(names: Iterable[str], items: Iterable[Document]) -> Document:
    """Items by their names. What says the same twice says it once; of two that differ none takes the other's place."""
    apart = _Apart()
    said: dict[str, set[str]] = {}
    for name, item in zip(names, items, strict=True):
        if name in apart.found:
            texts = said.setdefault(name, {_canonical(apart.found[name])})
            text = _canonical(item)
            if text in texts:
                continue
            texts.add(text)
        apart.add(name, item)
    return apart.found


def _set_of(flags: Iterable[object], besides: AbstractSet[str] = frozenset()) -> Document:
    """Flags by what they say, each time they are said."""
    apart = _Apart()
    for flag in flags:
        if not (isinstance(flag, Mapping) and flag["flag"] in besides):
            apart.add(_canonical(flag), flag)
    return apart.found


class _Apart:
    """Items by their names, all of them kept: what comes under a name that is taken gets a number behind it.

    A document may name one thing a hundred thousand times, so no number is tried twice.
    """

    def __init__(self) -> None:
        self.found: Document = {}
        self._numbers: dict[str, Iterator[int]] = {}

    def add(self, name: str, item: object) -> None:
        """Keep an item."""
        free = name
        while free in self.found:  # once more for each number that something else has in its own name
            free = f"{name}+{next(self._numbers.setdefault(name, count(1)))}"
        self.found[free] = item


def _canonical(item: object) -> str:
    """The same text for what says the same."""
    return json.dumps(item, sort_keys=True, ensure_ascii=False)


# -- in words


def _told_of_statement(file: str, one: Difference) -> str | None:
    match one:
        case Difference(("statements" | "rows", _), _Nothing(), {"entry": entry}):
            return f"{file} does not show entry {entry} of the log, which belongs there"
        case Difference(("statements" | "rows", name), _, _Nothing()):
            return f"{file} shows a statement that the log does not have for it: {name[:16]}"
        case Difference(("statements" | "rows", name, *rest), shown, said):
            of = f"{_place(rest)} of statement {name[:16]}"
            return f"{file} shows {_text(shown)} for {of}, and the log says {_text(said)}"
    return None


def _told_of_flag(file: str, one: Difference) -> str | None:
    if "flags" not in one.keys[:-1] and "notes" not in one.keys:
        return None
    match one:
        case Difference((*_, "notes", of), _Nothing(), _):
            return f"{file} does not list the flags of {of}, which follow from the log"
        case Difference((*_, "notes", of), _, _Nothing()):
            return f"{file} lists flags of {of} that do not follow from the log"
        case Difference((*_, "flags", _), _Nothing(), said):
            return f"{file} does not show the flag {_flag(said)}, which follows from the log"
        case Difference((*_, "flags", _), shown, _Nothing()):
            return f"{file} shows the flag {_flag(shown)}, which does not follow from the log"
    return None


def _told_of_votes(file: str, one: Difference) -> str | None:
    match one.keys:
        case (*_, "votes", pair) if "sums" in one.keys:
            return f"{file} adds up {_text(one.shown)} votes for pair {pair}, and the log says {_text(one.said)}"
        case (*_, "votes", pair):
            return f"{file} shows {_text(one.shown)} votes for pair {pair}, and the log says {_text(one.said)}"
    return None


def _told_of_part(file: str, one: Difference) -> str | None:
    match one:
        case Difference(("children", name), _Nothing(), _):
            return f"{file} leaves out {name}, which the register has there"
        case Difference(("children", name), _, _Nothing()):
            return f"{file} has a row for {name}, which the register does not have there"
        case Difference(()):
            return f"{file} is not what belongs there"
    return None


def _told_of_value(file: str, one: Difference) -> str:
    return f"{file} shows {_text(one.shown)} for {_place(one.keys)}, and the log says {_text(one.said)}"


def _place(keys: Sequence[str]) -> str:
    return " / ".join(keys)


def _flag(flag: object) -> str:
    return str(flag["flag"] if isinstance(flag, Mapping) and "flag" in flag else flag)[:_SHOWN]


def _text(value: object) -> str:
    """A value as it is told."""
    if isinstance(value, _Nothing):
        return "nothing"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "[[[…"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def number_of(document: Mapping[str, Any]) -> int | None:
    """How many entries of the log a region's document says it shows; None where it does not say."""
    log = document.get("log")
    entries = log.get("entries") if isinstance(log, dict) else None
    return entries if type(entries) is int and entries >= 0 else None
