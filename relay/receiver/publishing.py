"""Publishing: the log as static files, C2SP `tlog-tiles`, for any web server to serve.

    checkpoint   tile/<L>/<N>   tile/entries/<N>   notices.pem

What is published follows the store and can be written again from it: entries are committed first, then their tiles are
written durably, then the checkpoint that covers them. So whatever a tile's path names is one content for ever, whoever
writes it and however often. A full tile never changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from relay.errors import Malformed, NotYet, Refused, StoreError
from relay.limits import LOG_BATCH
from relay.log.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from relay.log.edge import Edge
from relay.log.growth import Growth, Tail
from relay.log.merkle import HASH_SIZE
from relay.log.note import NoteKey, parse_note
from relay.log.tiles import ENTRIES, HEIGHT, MAX_LEVEL, WIDTH, TileId, decode_entries, tile_reader, tiles_to_write
from relay.log.tree import Read
from relay.records.notice import Topic, read_notice
from relay.store.interface import LogState, Store
from relay.store.shelf import FOR_EVER, FRESH, Shelf
from relay.trust.enrolment import Enrolment, write_enrolment

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHECKPOINT = "checkpoint"
NOTICES = "notices.pem"
"""The notices in force, each a PEM block; without the register, which may be as long as a country."""
_TEXT = "text/plain; charset=utf-8"
_BINARY = "application/octet-stream"


class Publisher:
    """Keeps the files of the log that `key` signs on a shelf."""

    def __init__(self, shelf: Shelf, key: NoteKey) -> None:
        self.shelf = shelf
        self._key = key
        self._foreign: bytes | None = None
        """What lay there in the checkpoint's place last that was not this log's."""

    async def catch_up(self, state: LogState, store: Store) -> Tail:
        """Write what the store has committed and the shelf lacks; the log's tail.

        Raises `StoreError` as `check_age` does, and when the store's entries are not those that its checkpoint signs.
        """
        shown = await self.published()
        check_age(state, shown)
        tail = await self._tail(shown) if shown is not None else Tail()
        async for growth in growth_of(store, tail, state.size):
            await self.write(growth.tiles)
            tail = growth.tail
        await check_root(state, tail)
        await self.publish_checkpoint(state.checkpoint)
        return tail

    async def write(self, tiles: Iterable[tuple[TileId, bytes]]) -> None:
        """Write tiles of committed entries, durably."""
        await asyncio.gather(
            *(self.shelf.write(tile.path, content, _BINARY, FOR_EVER, durable=True) for tile, content in tiles)
        )

    async def publish_checkpoint(self, checkpoint: bytes) -> None:
        """Publish a checkpoint whose tiles are written."""
        await self.shelf.write(CHECKPOINT, checkpoint, _TEXT, FRESH, durable=True)

    async def publish_notices(self, notices: Sequence[bytes]) -> bytes | None:
        """Publish the notices in force, but the register: with the root, all that a stranger needs to check the log.
        What was written; None where there is nothing to write."""
        few = tuple(raw for raw in notices if read_notice(raw).topic is not Topic.REGISTER)
        if not few:
            return None
        content = write_enrolment(Enrolment(None, None, few))
        await self.shelf.write(NOTICES, content, _TEXT, FRESH, durable=True)
        return content

    async def published(self) -> Checkpoint | None:
        """What the published checkpoint says; None where there is none of this log."""
        raw = await self.shelf.read(CHECKPOINT)
        return None if raw is None else self.own(raw)

    def own(self, raw: bytes) -> Checkpoint | None:
        """What lies in the checkpoint's place says, where this log signed it. Anything else is told, and counts for
        nothing: it is written over."""
        try:
            return open_checkpoint(raw, self._key)
        except (Malformed, Refused) as error:
            if raw != self._foreign:
                self._foreign = raw
                logger.error(
                    "somebody else wrote to the published files: their checkpoint is not this receiver's (%s). It is "
                    "written again. Find out who may write there, and run relay audit on what is published.",
                    error.what,
                )
            return None

    async def prove(self, size: int, compute: Callable[[Read], T]) -> T:
        """Compute something from the stored hashes of the log of `size` entries.

        `compute` runs twice, since which tiles it needs does not depend on what is in them: once to name them, once
        with their contents. Raises `NotYet` while a log of that size is not published.
        """
        named: dict[TileId, bytes] = {}

        def name(tile: TileId) -> bytes:
            return named.setdefault(tile, bytes(tile.width * HASH_SIZE))

        await asyncio.to_thread(compute, tile_reader(size, name))
        contents = await self._read(list(named), size)
        return await asyncio.to_thread(compute, tile_reader(size, contents.__getitem__))

    async def _read(self, tiles: Sequence[TileId], size: int) -> Mapping[TileId, bytes]:
        """Contents of tiles of the log of `size` entries: a wider one serves, cut to the width asked for."""
        shown = await self.published()
        if shown is None or shown.size < size:
            raise NotYet(f"The log of {size} entries is not published yet", "Ask again in a moment.")
        contents = await asyncio.gather(*(self._fetch(tile, shown.size) for tile in tiles))
        return dict(zip(tiles, contents, strict=True))

    async def _fetch(self, tile: TileId, shown: int) -> bytes:
        widest = min(WIDTH, (shown >> HEIGHT * max(tile.level, 0)) - tile.index * WIDTH)
        for width in dict.fromkeys((tile.width, widest, WIDTH)):
            content = await self.shelf.read(TileId(tile.level, tile.index, width).path)
            if content is not None:
                return content if tile.level == ENTRIES else content[: tile.width * HASH_SIZE]
        raise StoreError(f"{tile.path} of the published log is missing", "Restart the receiver: it is written again.")

    async def _tail(self, shown: Checkpoint) -> Tail:
        """The tail of the published log; the empty one, so that all is written anew, if any of its files is missing or
        not what it should be."""
        size = shown.size
        if not await self.shelf.holds([tile.path for tile in tiles_to_write(0, size)]):
            return Tail()
        widths = [(level, (size >> HEIGHT * level) % WIDTH) for level in range(MAX_LEVEL + 1)]
        tiles = [TileId(level, size >> HEIGHT * (level + 1), width) for level, width in widths if width]
        bundles = [TileId(ENTRIES, size // WIDTH, size % WIDTH)] if size % WIDTH else []
        try:
            found = await self._read([*tiles, *bundles], size)
            entries = tuple(one for tile in bundles for one in decode_entries(found[tile])[: tile.width])
            rows = {tile.level: found[tile] for tile in tiles}
            tail = Tail(Edge(size, tuple(rows.get(level, b"") for level in range(MAX_LEVEL + 1))), entries)
            if tail.is_sound() and await asyncio.to_thread(tail.edge.root) == shown.root:
                return tail
        except (StoreError, Malformed):
            pass
        return Tail()


async def committed_tail(state: LogState, store: Store) -> Tail | None:
    """The log's tail as the store has it, without what is published; None where it keeps no edge.

    Raises `StoreError` when its entries are not those that its checkpoint signs.
    """
    raw = await store.log_edge()
    if not raw:
        return None
    edge = Edge.from_bytes(raw)
    last = edge.size % WIDTH
    tail = Tail(edge, tuple(await store.log_statements(edge.size - last, last) if last else ()))
    if not tail.is_sound():
        return None
    async for growth in growth_of(store, tail, state.size):
        tail = growth.tail
    await check_root(state, tail)
    return tail


async def growth_of(store: Store, tail: Tail, size: int) -> AsyncIterator[Growth]:
    """How the log grew from a tail to `size` entries, batch by batch. Raises `StoreError`: the store lacks some."""
    while tail.edge.size < size:
        entries = await store.log_statements(tail.edge.size, min(LOG_BATCH, size - tail.edge.size))
        if not entries:
            raise StoreError(
                f"The store lacks entry {tail.edge.size} of its log", "Restore its newest copy, then start again."
            )
        growth = await asyncio.to_thread(tail.grow, entries)
        tail = growth.tail
        yield growth


async def check_root(state: LogState, tail: Tail) -> None:
    """Raises `StoreError` when the store's entries are not those that its checkpoint signs."""
    signed = checkpoint_of(state.checkpoint)
    if signed is not None and signed.root != await asyncio.to_thread(tail.edge.root):
        raise StoreError(
            "The store's entries are not those that its log's checkpoint signs",
            "Restore the store's newest copy before this receiver runs again.",
        )


def check_age(state: LogState, shown: Checkpoint | None) -> None:
    """Raises `StoreError` when more is published than the store knows, since going on would make a second log."""
    if shown is not None and shown.size > state.size:
        raise StoreError(
            f"The published log has {shown.size} entries and the store only {state.size}",
            "The store is older than what was published: restore its newest copy before this receiver runs again.",
        )


def checkpoint_of(raw: bytes) -> Checkpoint | None:
    """What a signed checkpoint of our own says; None for no bytes, or what is none."""
    try:
        return parse_checkpoint(parse_note(raw))
    except Malformed:
        return None
