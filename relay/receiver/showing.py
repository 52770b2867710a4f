"""At which statements the findings about a device's chain show, looked up by number. Pure.

A device may sign a thousand statements with a thousand gaps: each finding concerns few of them, and whoever asks at
each statement about each finding asks a million times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from relay.receiver.chains import Finding, Gap, Link
from relay.records.identifiers import NodeId, StatementId


class Showing:
    """Some findings, and where they show: at the statement that follows a gap, at those of a fork and those that
    follow it."""

    def __init__(self, found: Iterable[Finding]) -> None:
        self._found = tuple(found)
        self._places: dict[tuple[NodeId, int], list[tuple[int, AbstractSet[StatementId] | None]]] = defaultdict(list)
        for place, one in enumerate(self._found):
            if isinstance(one, Gap):
                self._places[one.node, one.last + 1].append((place, None))
            else:
                self._places[one.node, one.seq].append((place, None))
                self._places[one.node, one.seq + 1].append((place, frozenset((*one.held, *one.named))))

    def at(self, link: Link) -> list[Finding]:
        """Those that show at a statement."""
        return [self._found[place] for place in self._places_at(link)]

    def among(self, links: Iterable[Link]) -> dict[Finding, list[Link]]:
        """Those that show at any of these statements, in their order, each with where it does."""
        shown: dict[int, list[Link]] = defaultdict(list)
        for link in links:
            for place in self._places_at(link):
                shown[place].append(link)
        return {self._found[place]: shown[place] for place in sorted(shown)}

    def _places_at(self, link: Link) -> Iterator[int]:
        for place, after in self._places.get((link.node, link.seq), ()):
            if after is None or link.previous in after:
                yield place


def shown_otherwise(links: Iterable[Link], before: Iterable[Finding], now: Iterable[Finding]) -> list[Link]:
    """The statements at which something shows that did not, or no longer does. That a fork has got another end is told
    at that end: what is said at the others is the same."""
    before, now = tuple(before), tuple(now)
    if before == now:
        return []
    then, after = Showing(before), Showing(now)
    return [link for link in links if set(map(_said, then.at(link))) != set(map(_said, after.at(link)))]


def _said(found: Finding) -> tuple[int, ...]:
    """What is said of a finding where it shows."""
    return (found.first, found.last) if isinstance(found, Gap) else (found.seq,)
