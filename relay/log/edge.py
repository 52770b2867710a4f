"""The tiles of a log as its entries are read in order: what every published tile and root must be. Pure.

An `Edge` is the right edge of a tree, kept as the tiles that are not full yet, one a level. Appending leaf hashes to it
gives the tiles that became full on the way, to be compared with those that a log publishes (C2SP `tlog-tiles`), and
the root, to be compared with its checkpoint's. Where the tiles come from and what is done about a difference is the
caller's (`relay.receiver.auditing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from relay.errors import Malformed
from relay.log.merkle import HASH_SIZE
from relay.log.tiles import HEIGHT, MAX_LEVEL, WIDTH, TileId, subtree_hash, tile_reader
from relay.log.tree import root_of

_FULL = WIDTH * HASH_SIZE


@dataclass(frozen=True, slots=True)
class Edge:
    """The edge of a tree of `size` leaves: `rows[level]` is the content of that level's partial tile, if any."""

    size: int = 0
    rows: tuple[bytes, ...] = (b"",) * (MAX_LEVEL + 1)

    def extend(self, leaves: bytes) -> tuple[Edge, list[tuple[TileId, bytes]]]:
        """The edge after appending leaf hashes (32 bytes each, joined), and the tiles that became full, lowest first
        as they did."""
        size = self.size + len(leaves) // HASH_SIZE
        rows = list(self.rows)
        full: list[tuple[TileId, bytes]] = []
        at = 0
        while at < len(leaves):
            take = min(_FULL - len(rows[0]), len(leaves) - at)
            rows[0] += leaves[at : at + take]
            at += take
            done = self.size + at // HASH_SIZE
            for level in range(MAX_LEVEL):
                if len(rows[level]) < _FULL:
                    break
                full.append((TileId(level, (done >> HEIGHT * (level + 1)) - 1), rows[level]))
                rows[level + 1] += subtree_hash(rows[level], 0, WIDTH)
                rows[level] = b""
        return Edge(size, tuple(rows)), full

    def partial(self) -> Iterator[tuple[TileId, bytes]]:
        """The partial tiles that a log of this size publishes besides its full ones."""
        for level, row in enumerate(self.rows):
            if row:
                yield TileId(level, self.size >> HEIGHT * (level + 1), len(row) // HASH_SIZE), row

    def root(self) -> bytes:
        """The root of the tree."""
        return root_of(self.size, tile_reader(self.size, lambda tile: self.rows[tile.level]))

    def to_bytes(self) -> bytes:
        """Its bytes: the size in 8 bytes, big-endian, and the rows, lowest first."""
        return self.size.to_bytes(8) + b"".join(self.rows)

    @staticmethod
    def from_bytes(data: bytes) -> Edge:
        """Parse. Raises `Malformed`."""
        size = int.from_bytes(data[:8])
        widths = [(size >> HEIGHT * level) % WIDTH for level in range(MAX_LEVEL + 1)]
        if len(data) != 8 + sum(widths) * HASH_SIZE:
            raise Malformed("The edge of a log is damaged", "Begin the audit anew, with a new state file.")
        rows: list[bytes] = []
        at = 8
        for width in widths:
            rows.append(data[at : at + width * HASH_SIZE])
            at += width * HASH_SIZE
        return Edge(size, tuple(rows))
