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
        self._under_way: list[Mending] = []
        self.bytes = 0
        """Of all that is kept."""

    def keep(self, node: str, span: Span, data: bytes) -> None:
        """Keep the beginning of a chunk, where it is worth it and there is no longer one."""
        before = self._kept.get((node, span), b"")
        if len(data) < max(TORN_FROM, len(before)):
            return
        self.take(node, span)
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

    def greeted(self, node: str) -> tuple[TornChunk, ...]:
        """What there is of a neighbour's chunks when it begins a visit: also by calls that wait for more of them, which
        are of a contact that broke, and of which nobody else has told yet."""
        for mending in self._under_way:
            mending.leave(node)
        return self.of(node)

    @contextmanager
    def mending(self, node: str) -> Iterator[Mending]:
        """One call by which a neighbour's chunks come: what it does not go on with is kept."""
        mending = Mending(self, node)
        self._under_way.append(mending)
        try:
            yield mending
        finally:
            self._under_way.remove(mending)
            mending.end()


class Mending:
    """The chunks of one call: what there is of them before they come, and what is left when they do not end."""

    def __init__(self, torn: TornChunks, node: str) -> None:
        self._torn = torn
        self._node = node
        self._asked: dict[Span, bytes] = {}
        self._coming: tuple[Span, list[bytes]] | None = None

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

    @contextmanager
    def coming(self, span: Span, parts: list[bytes]) -> Iterator[None]:
        """Within it the parts of a chunk come, and are added to these. What came is kept where an error ends it."""
        self._coming = span, parts
        try:
            yield
        except BaseException:
            self.leave(self._node)
            raise
        finally:
            self._coming = None

    def leave(self, node: str) -> None:
        """Keep what came of the chunk that is coming, if it is of this neighbour: what more of it comes is too late."""
        if self._coming is not None and self._node == node:
            (span, parts), self._coming = self._coming, None
            self._torn.keep(node, span, b"".join(parts))

    def end(self) -> None:
        """No more chunks come by this call."""
        for span, data in self._asked.items():
            self._torn.keep(self._node, span, data)
        self._asked.clear()
