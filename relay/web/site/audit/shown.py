"""What the site shows of a form, read whole: its document, and what the pages of its history have together.

The counterpart of `truth.FormTruth`, which it is held against.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from relay.limits import AUDIT_DOCUMENT
from relay.net.source import Source
from relay.web.site.audit.difference import Difference, difference
from relay.web.site.audit.truth import FormTruth
from relay.web.site.documents import parse
from relay.web.site.regions import Document


@dataclass(slots=True)
class FormShown:
    """The documents of a station and form, as they are shown."""

    head: Document
    rows: Document = field(default_factory=dict)
    statements: list[Document] = field(default_factory=list)
    newest: int = 0
    """The last entry that is shown."""

    def differs_from(self, truth: FormTruth, besides: AbstractSet[str] = frozenset()) -> Difference | None:
        """The first difference, besides some flags."""
        pages = {"rows": self.rows, "statements": self.statements}
        said = {"rows": truth.rows, "statements": truth.statements}
        return difference(said, pages, besides) or difference(truth.head, self.head, besides)

    def lacks_statements_of(self, truth: FormTruth, end: int) -> Difference | None:
        """The first difference in the statements before an entry, wherever each stands."""
        mine = [one for one in self.statements or self.head["statements"] if one["entry"] < end]
        said = [one for one in truth.statements or truth.head["statements"] if one["entry"] < end]
        return difference({"statements": _bare(said)}, {"statements": _bare(mine)})


async def read_form(source: Source, path: str, content: bytes, entries: int) -> FormShown:
    """A form of which the log has so many entries: what its document says, and the pages of its history where it has
    any. Raises `DamagedSite`, `NotHeld`, `Malformed`, `KeyError`, `TypeError`, `AttributeError` or `ValueError` for
    what is none."""
    head = parse(path, content)
    shown = FormShown(head)
    if head["pages"] is None:
        shown.newest = _newest(head["statements"])
        return shown
    folder = path.removesuffix(".json")
    for kind, number in (("history-", head["pages"]["history"]), ("", head["pages"]["statements"])):
        if number > entries + 1:
            raise ValueError
        for at in range(1, number + 1):
            name = f"{folder}/{kind}{at}.json"
            found = parse(name, await source.read(name, AUDIT_DOCUMENT))
            for key, row in found.get("rows", {}).items():
                if shown.rows.setdefault(key, row) != row:
                    raise ValueError
            shown.statements += found.get("statements", ())
    _newest(shown.statements)
    shown.newest = _newest(shown.rows.values())
    return shown


def _bare(statements: Iterable[Document]) -> list[Document]:
    return [{key: one for key, one in each.items() if key != "standing"} for each in statements]


def _newest(statements: Iterable[Document]) -> int:
    """The last entry that is shown. Raises `TypeError` or `ValueError` where that is no number, or there is none."""
    entries: list[int] = [one["entry"] for one in statements]
    if not all(type(one) is int for one in entries):
        raise TypeError
    return max(entries)
