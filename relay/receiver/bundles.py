"""A log's bundles, read ahead of their judgement, within so many bytes.

A bundle is some 200 KB long and may be 15 MB, and who serves it needs no key to make it so. What is held of it until it
is judged is therefore bounded in bytes, whatever the number of processes that judge. An honest log does not feel it:
twice what the longest bundle so far took is set aside for each, and only one that is longer still waits for its turn.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from relay.errors import Malformed, NotHeld, RelayError
from relay.limits import AUDIT_GROUP_BYTES, AUDIT_READ_AHEAD, AUDIT_USUAL_BUNDLE, MAX_RECORD
from relay.log.merkle import HASH_SIZE
from relay.log.tiles import ENTRIES, WIDTH, TileId, decode_entries, encode_entries
from relay.net.source import Source
from relay.together import Room, in_order

MAX_BUNDLE = WIDTH * (MAX_RECORD + 2)

Span = tuple[int, int]
"""First entry and width of a bundle."""
Content = tuple[bytes, bytes]
"""A bundle, and the tile of its hashes."""
Read = Callable[[int, int, int], Awaitable[Content]]
"""Reads what belongs to a span; the bundle has a length at most. Raises `Malformed` where it has more."""


async def fetch_tile(source: Source, tile: TileId, limit: int = WIDTH * HASH_SIZE) -> bytes:
    """A published tile or bundle. Where a partial one is gone, since the log has grown, the full one serves."""
    try:
        return await source.read(tile.path, limit)
    except NotHeld:
        if tile.width == WIDTH:
            raise
    whole = await source.read(TileId(tile.level, tile.index).path, limit)
    if tile.level == ENTRIES:
        return encode_entries(decode_entries(whole)[: tile.width])
    return whole[: tile.width * HASH_SIZE]


@dataclass(slots=True)
class Group:
    """Bundles in order, to be judged together, and why the one after them could not be read."""

    spans: list[Span] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    early: int = 0
    late: int = 0
    """Bytes of the bundles that were read before their turn, and in it."""
    absent: RelayError | None = None

    def add(self, span: Span, content: Content, late: bool) -> None:
        """Put the next bundle into it."""
        self.spans.append(span)
        self.contents.append(content)
        self.early += 0 if late else len(content[0])
        self.late += len(content[0]) if late else 0

    def is_full(self, count: int) -> bool:
        """Whether it is enough for one process."""
        return len(self.spans) == count or self.early + self.late >= AUDIT_GROUP_BYTES


class ReadAhead:
    """Reads bundles ahead, in groups of at most `count`; whoever takes a group lets go of it when it is judged.

    What is read before its turn has one half of the room, and what is read in its turn the other: else the first could
    have it all, and wait for the turn of the second, which waits for room.
    """

    def __init__(self, read: Read, room: int, count: int) -> None:
        self._read = read
        self._early, self._late = Room(room // 2), Room(room // 2)
        self._count = count
        self._usual = AUDIT_USUAL_BUNDLE

    async def groups(self, spans: Iterable[Span]) -> AsyncGenerator[Group]:
        """The bundles of these spans, up to the first that cannot be read."""
        group = Group()
        async with aclosing(in_order(map(self._read_early, spans), AUDIT_READ_AHEAD)) as reads:
            try:
                async for span, early in reads:
                    group.add(span, early or await self._read_late(span), early is None)
                    if group.is_full(self._count):
                        yield group
                        group = Group()
            except RelayError as absent:  # told after what came before it was judged
                group.absent = absent
        if group.spans or group.absent is not None:
            yield group

    def let_go(self, group: Group) -> None:
        """Give the room of a group to others."""
        self._early.give(group.early)
        self._late.give(group.late)

    async def _read_early(self, span: Span) -> tuple[Span, Content | None]:
        """Read a bundle before its turn; None where it is longer than expected."""
        try:
            return span, await self._read_within(span, self._early, self._usual)
        except Malformed:
            return span, None

    async def _read_late(self, span: Span) -> Content:
        """Read a long bundle in its turn."""
        return await self._read_within(span, self._late, MAX_BUNDLE)

    async def _read_within(self, span: Span, room: Room, limit: int) -> Content:
        await room.take(limit)
        held = 0
        try:
            content = await self._read(*span, limit)
            held = len(content[0])
        finally:
            room.give(limit - held)
        self._usual = min(MAX_BUNDLE, max(self._usual, 2 * held))
        return content
