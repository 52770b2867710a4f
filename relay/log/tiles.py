"""The log as static files: C2SP `tlog-tiles`, tiles of height 8 and entry bundles. Pure.

Lives here: the paths and contents, in one place. A tile at level L holds up to 256 hashes of subtrees of 256**L
leaves; an entry bundle holds the entries of a tile at level 0. A tile that is not full yet is partial: its width is in
its path, and full tiles never change, so that any cache may keep them for ever.
"""

from __future__ import annotations

import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from relay.errors import Malformed
from relay.limits import MAX_RECORD
from relay.log.merkle import HASH_SIZE, node_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
MAX_LEVEL = 7
ENTRIES = -1
"""The level under which entry bundles are named."""

_TILES_KEPT = 16
_LENGTH = struct.Struct(">H")
_PATH = re.compile(r"tile/(entries|[0-7])/((?:x\d{3}/){0,6}\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TileId:
    """A tile: its level (`ENTRIES` for a bundle of entries), index at that level, and width (`WIDTH` when full)."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Its path below the log's prefix."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        suffix = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_index_path(self.index)}{suffix}"


def parse_path(path: str) -> TileId:
    """The tile that a path names. Raises `Malformed` for any other spelling."""
    match = _PATH.fullmatch(path) if len(path) <= 64 else None
    if match is None:
        raise Malformed(f"{path[:80]!r} names no tile")
    level = ENTRIES if match[1] == "entries" else int(match[1])
    tile = TileId(level, int(match[2].replace("x", "").replace("/", "")), int(match[3] or WIDTH))
    if tile.width > WIDTH or tile.path != path:
        raise Malformed(f"{path!r} is not how a tile is named")
    return tile


def tiles_to_write(old_size: int, new_size: int) -> Iterator[TileId]:
    """What to write when the log grows: entry bundles, then hash tiles from the lowest level up."""
    for level in (ENTRIES, *range(MAX_LEVEL + 1)):
        shift = HEIGHT * max(level, 0)
        old, new = old_size >> shift, new_size >> shift
        if old == new:
            continue
        for index in range(old // WIDTH, (new - 1) // WIDTH + 1):
            yield TileId(level, index, min(WIDTH, new - index * WIDTH))


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry behind its length in two bytes, big-endian."""
    return b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)


def decode_entries(bundle: bytes) -> list[bytes]:
    """The entries of a bundle, at most `WIDTH`. Raises `Malformed`."""
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        if len(bundle) - at < _LENGTH.size or len(entries) == WIDTH:
            raise Malformed("An entry bundle is cut short, or has too many entries")
        (length,) = _LENGTH.unpack_from(bundle, at)
        at += _LENGTH.size
        if length > min(MAX_RECORD, len(bundle) - at):
            raise Malformed("An entry bundle is cut short")
        entries.append(bundle[at : at + length])
        at += length
    return entries


def subtree_hash(hashes: bytes, first: int, count: int) -> bytes:
    """The root over `count` hashes (a power of two) of a tile's content, from place `first`. Raises `Malformed`."""
    part = hashes[first * HASH_SIZE : (first + count) * HASH_SIZE]
    if len(part) != count * HASH_SIZE:
        raise Malformed("A tile of the log is shorter than it must be", "Fetch it again, or rebuild it.")
    row = [part[at : at + HASH_SIZE] for at in range(0, len(part), HASH_SIZE)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def tile_reader(size: int, fetch: Callable[[TileId], bytes]) -> Callable[[int, int], bytes]:
    """A `tree.Read` over the tiles of a log of `size` entries; `fetch` returns a tile's content.

    It raises `Malformed` for a subtree that such a log does not have, before it fetches anything. What it computed of
    the last tiles is kept, since the proofs of neighbours share most of it.
    """
    kept: OrderedDict[TileId, list[bytes]] = OrderedDict()

    def rows(tile: TileId) -> list[bytes]:
        found = kept.get(tile)
        if found is None:
            found = kept[tile] = [fetch(tile)]
            if len(kept) > _TILES_KEPT:
                kept.popitem(last=False)
        return found

    def read(level: int, index: int) -> bytes:
        tile_level, rest = divmod(level, HEIGHT)
        first = index << rest
        tile_index, place = divmod(first, WIDTH)
        width = min(WIDTH, (size >> HEIGHT * tile_level) - tile_index * WIDTH)
        if place + (1 << rest) > width:
            raise Malformed(f"The tree of {size} leaves has no complete subtree {index} at level {level}")
        tile = rows(TileId(tile_level, tile_index, width))
        while len(tile) <= rest:
            tile.append(_row_above(tile[-1]))
        at = (place >> rest) * HASH_SIZE
        if at + HASH_SIZE > len(tile[rest]):
            raise Malformed("A tile of the log is shorter than it must be", "Fetch it again, or rebuild it.")
        return tile[rest][at : at + HASH_SIZE]

    return read


def _row_above(hashes: bytes) -> bytes:
    """The hashes of the complete subtrees one level above those of a tile's content."""
    pair = 2 * HASH_SIZE
    return b"".join(
        node_hash(hashes[at : at + HASH_SIZE], hashes[at + HASH_SIZE : at + pair])
        for at in range(0, len(hashes) // pair * pair, pair)
    )


def _index_path(index: int) -> str:
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    return "/".join(reversed(groups))
