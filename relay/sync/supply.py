"""What there is to move, and how much of it may be on its way: the two ends of a stream of chunks.

Several streams draw from one `Supply`, chunk by chunk, so that they end an object together and whole packages come
first. A `Window` bounds what one stream has asked for and not got. No I/O of their own.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

from relay.limits import BATCH_SECONDS, FAST_BATCH_SECONDS, FIRST_BATCH, LOW_SUPPLY, MAX_BATCH, MAX_FAST_BATCH
from relay.records.identifiers import ObjectId
from relay.store.layouts import chunk_count, span
from relay.together import note_end


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk to move, with its length in bytes."""

    object: ObjectId
    index: int
    length: int


def chunks_of(object_id: ObjectId, size: int, bits: int) -> Iterator[Chunk]:
    """The chunks of an object of `size` bytes whose bits are set, in order; bits beyond its end are passed over."""
    for index in range(chunk_count(size)):
        if bits >> index & 1:
            yield Chunk(object_id, index, span(size, index)[1])


class Supply:
    """Chunks to move, best first. They are listed page by page: the next one while some of the last one is left; or,
    where not `ahead`, when it is used up, until `more` is there to choose from. What is listed is given at once:
    nothing that could move waits for an answer. `emptied` is called when nothing of it is under way any more. Whoever
    draws from it closes it in the end."""

    def __init__(
        self, pages: AsyncIterator[list[Chunk]], *, ahead: bool = True, emptied: Callable[[], None] = lambda: None
    ) -> None:
        self._pages = pages
        self._emptied = emptied
        self._low = LOW_SUPPLY if ahead else 0
        self._chunks: deque[Chunk] = deque()
        self._drawn: Counter[ObjectId] = Counter()
        self._over = False
        self._listing: asyncio.Task[None] | None = None
        """Lists one page; one that failed stays, and is the end."""

    @property
    def under_way(self) -> set[ObjectId]:
        """The objects of the chunks that are listed, or were drawn and are not `done` with."""
        return {chunk.object for chunk in self._chunks} | self._drawn.keys()

    @property
    def is_still(self) -> bool:
        """Whether no chunk is listed, or drawn and not `done` with."""
        return not self._chunks and not self._drawn

    def done(self, object_id: ObjectId) -> None:
        """A chunk of an object that was drawn moved, or is not to be moved."""
        self._drawn[object_id] -= 1
        if not self._drawn[object_id]:
            del self._drawn[object_id]
        if self.is_still:
            self._emptied()

    async def draw(self) -> Chunk | None:
        """The next chunk, waited for while it is being listed; None when there are no more. Raises what listing
        raises."""
        return None if await self.is_empty() else self._draw()

    def more(self) -> None:
        """Say that there is all to choose from, and list ahead from now on."""
        self._low = LOW_SUPPLY
        self._look_ahead()

    async def is_empty(self) -> bool:
        """Whether there is nothing to move, once that is known."""
        while not self._chunks and not self._over:
            await asyncio.shield(self._list())
        return not self._chunks

    def take(self, most: int) -> Chunk | None:
        """The next chunk if it is listed already and is of at most so many bytes."""
        return self._draw() if self._chunks and self._chunks[0].length <= most else None

    async def close(self) -> None:
        """List no more."""
        self._over = True
        if self._listing is not None:
            self._listing.cancel()
            await asyncio.wait([self._listing])

    def _draw(self) -> Chunk:
        chunk = self._chunks.popleft()
        self._drawn[chunk.object] += 1
        self._look_ahead()
        return chunk

    def _look_ahead(self) -> None:
        if len(self._chunks) < self._low and not self._over:
            self._list()

    def _list(self) -> asyncio.Task[None]:
        """List one page, unless one is being listed."""
        last = self._listing
        if last is None or (last.done() and not last.cancelled() and last.exception() is None):
            self._listing = asyncio.create_task(self._list_page())
            self._listing.add_done_callback(note_end)
        assert self._listing is not None
        return self._listing

    async def _list_page(self) -> None:
        page = await anext(self._pages, None)
        self._over = self._over or page is None
        self._chunks.extend(page or ())


class Window:
    """What a stream may have asked for and not got, in bytes: what it moves in `BATCH_SECONDS`, by the rate so far. A
    slow link is not filled with what comes late, and on a fast one round trips do not count."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()
        self._moved = 0
        self._asked = 0
        self._came = asyncio.Event()

    async def open(self, length: int) -> None:
        """Wait until so much more may be asked for; it counts as asked for then."""
        while self._asked and self._asked + length > self._most():
            self._came.clear()
            await self._came.wait()
        self._asked += length

    def came(self, length: int) -> None:
        """So much of it came, or will not come."""
        self._asked -= length
        self._moved += length
        self._came.set()

    def _most(self) -> float:
        rate = self._moved / max(self._clock() - self._begun, 0.001)
        most = max(MAX_BATCH, min(rate * FAST_BATCH_SECONDS, MAX_FAST_BATCH))
        return min(max(rate * BATCH_SECONDS, FIRST_BATCH), most)
