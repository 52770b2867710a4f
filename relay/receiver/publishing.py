"""Publishing: the log as static files, C2SP `tlog-tiles`, for any web server to serve.

    public/checkpoint   public/tile/<L>/<N>   public/tile/entries/<N>   public/notices.pem

Files are written durably, tiles before the checkpoint that covers them. A full tile never changes. The log itself is
in the store: whatever is missing here is written again at start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from relay.errors import StoreError
from relay.limits import LOG_BATCH
from relay.log.merkle import HASH_SIZE, leaf_hash
from relay.log.tiles import (
    ENTRIES,
    HEIGHT,
    WIDTH,
    TileId,
    decode_entries,
    encode_entries,
    subtree_hash,
    tile_reader,
    tiles_to_write,
)
from relay.records.notice import Topic, read_notice
from relay.store.durable import explained, make_folder, write_durably
from relay.store.interface import LogState, Store
from relay.trust.enrolment import Enrolment, write_enrolment

NOTICES = "notices.pem"
"""The notices in force, each a PEM block; without the register, which may be as long as a country."""


class Publisher:
    """Writes the log's files below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def catch_up(self, state: LogState, store: Store) -> None:
        """Write what the store has committed and the folder lacks.

        Raises `StoreError` when more is published than the store knows: going on would make a second log.
        """
        claimed = await asyncio.to_thread(self._claimed)
        if claimed > state.size:
            raise StoreError(
                f"The published log has {claimed} entries and the store only {state.size}",
                "The store is older than what was published: restore its newest copy before this receiver runs again.",
            )
        size = claimed if await asyncio.to_thread(self._whole, claimed) else 0
        while size < state.size:
            entries = await store.log_statements(size, min(LOG_BATCH, state.size - size))
            await self.write_tiles(size, entries, [leaf_hash(raw) for raw in entries])
            size += len(entries)
        await self.publish_checkpoint(state.checkpoint)

    async def write_tiles(self, first: int, entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        """Write the tiles of entries `first` and on, durably."""
        await asyncio.to_thread(self._write_tiles, first, entries, leaves)

    async def publish_checkpoint(self, checkpoint: bytes) -> None:
        """Publish a checkpoint whose tiles are written."""
        await asyncio.to_thread(self._write, self.folder / "checkpoint", checkpoint)

    async def publish_notices(self, notices: Sequence[bytes]) -> None:
        """Publish the notices in force, but the register: with the root, all that a stranger needs to check the log."""
        few = tuple(raw for raw in notices if read_notice(raw).topic is not Topic.REGISTER)
        if few:
            content = write_enrolment(Enrolment(None, None, few))
            await asyncio.to_thread(self._write, self.folder / NOTICES, content)

    def reader(self, size: int) -> Callable[[int, int], bytes]:
        """Stored hashes of the log of `size` entries, whose tiles are written."""
        cache: dict[TileId, bytes] = {}

        def fetch(tile: TileId) -> bytes:
            if tile not in cache:
                cache[tile] = self._fetch(tile)
            return cache[tile]

        return tile_reader(size, fetch)

    def _write_tiles(self, first: int, entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        size = first + len(entries)
        fresh: dict[tuple[int, int], bytes] = {}
        for tile in tiles_to_write(first, size):
            start = tile.index * WIDTH
            if tile.level == ENTRIES:
                kept = decode_entries(self._before(tile, first)) if start < first else []
                content = encode_entries([*kept, *entries[max(start - first, 0) : start + tile.width - first]])
            elif tile.level == 0:
                kept_hashes = self._before(tile, first) if start < first else b""
                content = kept_hashes + b"".join(leaves[max(start - first, 0) : start + tile.width - first])
            else:
                content = self._above(tile, first, fresh)
            fresh[tile.level, tile.index] = content
            self._write(self.folder / tile.path, content)

    def _above(self, tile: TileId, first: int, fresh: dict[tuple[int, int], bytes]) -> bytes:
        """A tile of a higher level: what it had, and the roots of the lower tiles that became full."""
        start = tile.index * WIDTH
        had = max(0, (first >> HEIGHT * tile.level) - start)
        kept = self._fetch(TileId(tile.level, tile.index, had)) if had else b""
        roots = [
            subtree_hash(self._lower(tile.level - 1, start + place, fresh), 0, WIDTH)
            for place in range(had, tile.width)
        ]
        return kept + b"".join(roots)

    def _lower(self, level: int, index: int, fresh: dict[tuple[int, int], bytes]) -> bytes:
        content = fresh.get((level, index))
        return content if content is not None else self._fetch(TileId(level, index))

    def _before(self, tile: TileId, first: int) -> bytes:
        """The content of a lowest tile as it was when the log had `first` entries."""
        return self._fetch(TileId(tile.level, tile.index, first - tile.index * WIDTH))

    def _fetch(self, tile: TileId) -> bytes:
        """A tile's content; a wider one serves, cut to the width asked for."""
        widths = [tile.width] if tile.width == WIDTH else [tile.width, WIDTH]
        for width in widths:
            with suppress(FileNotFoundError):
                content = (self.folder / TileId(tile.level, tile.index, width).path).read_bytes()
                if tile.level == ENTRIES:
                    return encode_entries(decode_entries(content)[: tile.width])
                return content[: tile.width * HASH_SIZE]
        raise StoreError(f"{tile.path} of the published log is missing", "Restart the receiver: it is written again.")

    def _claimed(self) -> int:
        """How many entries the published checkpoint covers; 0 when there is none."""
        with suppress(FileNotFoundError, ValueError, IndexError):
            return int((self.folder / "checkpoint").read_bytes().split(b"\n")[1])
        return 0

    def _whole(self, size: int) -> bool:
        """Whether every tile of the log of `size` entries is there. One that is not is reason to write all anew: the
        narrower tiles that it grew out of may be missing as well."""
        return all((self.folder / tile.path).is_file() for tile in tiles_to_write(0, size))

    def _write(self, path: Path, content: bytes) -> None:
        with explained(path.parent):
            make_folder(path.parent)
        write_durably(path, content)
