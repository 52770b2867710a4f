"""What new entries add to a log's files and proofs, from the tree's right edge alone. Pure.

A `Tail` is all of a log that its next entries touch: the hash tiles that are not full, one a level, and the entries of
the bundle that is not full. A few kilobytes, whatever the size of the log; so appending costs the same to a long log
as to an empty one, and reads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.log.edge import Edge
from relay.log.merkle import leaf_hash
from relay.log.tiles import ENTRIES, WIDTH, TileId, encode_entries, tile_reader, tiles_to_write
from relay.log.tree import Read, inclusion_proof


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a log: its edge, and the entries since its last full bundle."""

    edge: Edge = field(default_factory=Edge)
    entries: tuple[bytes, ...] = ()

    def is_sound(self) -> bool:
        """Whether its entries are those that its edge has hashes of."""
        return b"".join(leaf_hash(one) for one in self.entries) == self.edge.rows[0]

    def grow(self, entries: Sequence[bytes]) -> Growth:
        """Append entries, in order."""
        leaves = tuple(leaf_hash(one) for one in entries)
        edge, full = self.edge.extend(b"".join(leaves))
        contents = {(tile.level, tile.index): content for tile, content in (*full, *edge.partial())}
        pool = (*self.entries, *entries)
        first = self.edge.size - len(self.entries)
        for at in range(0, len(pool), WIDTH):
            contents[ENTRIES, (first + at) // WIDTH] = encode_entries(pool[at : at + WIDTH])
        tail = Tail(edge, pool[(edge.size // WIDTH) * WIDTH - first :])
        tiles = tuple((tile, contents[tile.level, tile.index]) for tile in tiles_to_write(self.edge.size, edge.size))
        return Growth(self.edge.size, leaves, tail, tiles)


@dataclass(frozen=True, slots=True)
class Growth:
    """Entries appended from index `first` on: their leaf hashes, the new tail, and the tiles to publish, in order."""

    first: int
    leaves: tuple[bytes, ...]
    tail: Tail
    tiles: tuple[tuple[TileId, bytes], ...]

    def proofs(self) -> list[tuple[bytes, ...]]:
        """The inclusion proof of each new entry in the tree as it is now (RFC 9162 §2.1.3.1)."""
        size = self.tail.edge.size
        read = self._reader()
        return [inclusion_proof(index, size, read) for index in range(self.first, size)]

    def _reader(self) -> Read:
        """Stored hashes on the way from the new entries to the root: all of them are in the tail or in new tiles."""
        contents = {(tile.level, tile.index): content for tile, content in self.tail.edge.partial()}
        contents |= {(tile.level, tile.index): content for tile, content in self.tiles}
        return tile_reader(self.tail.edge.size, lambda tile: contents[tile.level, tile.index])
