"""Torn chunks: of which a contact that ended left the beginning here, so that the rest is all that has to come.

Kept in memory, a few for each neighbour, and put before nobody's end but the same neighbour's: whoever sends something
wrong answers for all of it. A beginning is unchecked, and counts as nothing until its chunk is whole and has its hash
(promise 3). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from relay.limits import MAX_TORN, MAX_TORN_OF_ONE, TORN_FROM
from relay.sync.messages import TornChunk
from relay.sync.peer import Span


class TornChunks:
    """Those of one node, by the neighbour (its node id in hex) that sent them. What was torn last is forgotten last."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Span], bytes] = {}
        self.bytes = 0
        """Of all that is kept."""

    def keep(self, node: str, span: Span, data: bytes) -> None:
        """Keep the beginning of a chunk, where it is worth it."""
        self.take(node, span)
        if len(data) < TORN_FROM:
            return
        self._kept[node, span] = data
        self.bytes += len(data)
        of_one = [key for key in self._kept if key[0] == node]
        if len(of_one) > MAX_TORN_OF_ONE:
            self.take(*of_one[0])
        while self.bytes > MAX_TORN:
            self.take(*next(iter(self._kept)))

    def take(self, node: str, span: Span) -> bytes:
        """The beginning of a chunk, which is kept no more; nothing where there is none."""
        data = self._kept.pop((node, span), b"")
        self.bytes -= len(data)
        return data

    def of(self, node: str) -> tuple[TornChunk, ...]:
        """What is kept of a neighbour's chunks."""
        return tuple((*span, len(data)) for (one, span), data in self._kept.items() if one == node)

    @contextmanager
    def mending(self, node: str) -> Iterator[Mending]:
        """One call by which a neighbour's chunks come: what it does not go on with is kept."""
        mending = Mending(self, node)
        try:
            yield mending
        finally:
            mending.end()


class Mending:
    """The chunks of one call: what there is of them before they come, and what is left when they do not end."""

    def __init__(self, torn: TornChunks, node: str) -> None:
        self._torn = torn
        self._node = node
        self._asked: dict[Span, bytes] = {}

    def ask(self, span: Span) -> int:
        """How many bytes of a chunk that is asked for are here already; nothing takes them from this call."""
        self._asked[span] = self._torn.take(self._node, span)
        return len(self._asked[span])

    def before(self, span: Span, length: int) -> bytes | None:
        """What comes before the rest of a chunk, which begins after so many bytes; None where those are not here."""
        data = self._asked.pop(span, b"") or self._torn.take(self._node, span)
        if not length:
            return b""
        return data if len(data) == length else None

    def tear(self, span: Span, data: bytes) -> None:
        """No more came of a chunk."""
        self._torn.keep(self._node, span, data)

    def end(self) -> None:
        """No more chunks come by this call."""
        for span, data in self._asked.items():
            self._torn.keep(self._node, span, data)
        self._asked.clear()
