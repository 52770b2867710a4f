"""What an audit of results comes to: what it compared, what is not shown yet, what is wrong. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.errors import Refused
from relay.web.site.audit.difference import Difference


@dataclass(slots=True)
class Compared:
    """What was compared, and what could not be."""

    size: int
    """Entries of the log that it was held against."""
    entries: int = 0
    """Entries that the site said it shows."""
    forms: int = 0
    regions: int = 0
    tables: int = 0
    has_register: bool = True
    """Whether the register was the office's, and not the site's own."""
    same_pages: bool = True
    """Whether the site is of this version of the program, as far as it says so."""
    newer: int = 0
    """Documents that show more of the log than was audited: they were not compared."""
    rewritten: int = 0
    """Documents with results that were not judged again yet."""
    unnamed: int = 0
    """Regions that do not say how far they are: they were compared with the whole log."""
    behind: int | None = None
    """The first entry that is not shown yet where it belongs."""
    waiting: dict[str, float] = field(default_factory=dict)
    """What is not as it should be in the end, and for how many seconds audits have found it so."""

    def lag(self, entry: int) -> None:
        """Note an entry that is not shown yet."""
        if self.behind is None or entry < self.behind:
            self.behind = entry

    def lag_from(self, end: int) -> None:
        """Note that something is right for a log of up to `end` entries, and shows none after them."""
        if end < self.size:
            self.lag(end)


def refused(path: str, found: Difference) -> Refused:
    """What an audit raises for a document that shows something else than the log says."""
    return Refused(
        "wrong-result",
        found.told(path),
        "Keep a copy of that file and its page, and tell the election office and the public: the site shows something "
        "else than its own signed log.",
    )
