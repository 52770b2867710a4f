"""The edge of a log: whatever the cuts in which leaves come, the tiles and the root are those of the definition."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Malformed
from relay.log.edge import Edge
from relay.log.merkle import EMPTY_ROOT
from relay.log.tiles import TileId, tiles_to_write
from relay.log.tree import Frontier

LEAVES = [hashlib.sha256(number.to_bytes(4)).digest() for number in range(66_000)]


def grown(size: int, cuts: list[int]) -> tuple[Edge, dict[TileId, bytes]]:
    """The edge after `size` leaves that came in these cuts, and every tile that became full on the way."""
    edge = Edge()
    full: dict[TileId, bytes] = {}
    for start, end in zip([0, *cuts], [*cuts, size], strict=True):
        edge, tiles = edge.extend(b"".join(LEAVES[start:end]))
        full.update(tiles)
    return edge, full


@given(st.integers(0, 1_400), st.data())
@settings(max_examples=60)
def test_the_cuts_do_not_matter(size: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=6)))
    edge, full = grown(size, cuts)
    assert (edge, full) == grown(size, [])
    assert edge.size == size
    assert edge.root() == Frontier().extend(LEAVES[:size]).root()
    assert Edge.from_bytes(edge.to_bytes()) == edge


@given(st.integers(1, 1_400))
@settings(max_examples=60)
def test_the_tiles_are_those_that_a_log_of_this_size_publishes(size: int) -> None:
    edge, full = grown(size, [])
    published = {tile for tile in tiles_to_write(0, size) if tile.level >= 0}
    tiles = {**full, **dict(edge.partial())}
    assert set(tiles) == published
    for tile, content in tiles.items():
        for place in range(tile.width):
            span = 256**tile.level
            start = (tile.index * 256 + place) * span
            assert content[place * 32 :][:32] == Frontier().extend(LEAVES[start : start + span]).root()


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_536, 65_537])
def test_the_edges_of_levels(size: int) -> None:
    edge, full = grown(size, [])
    assert edge.root() == (Frontier().extend(LEAVES[:size]).root() if size else EMPTY_ROOT)
    assert (TileId(1, 0) in full) == (size >= 65_536)
    assert [len(row) // 32 for row in edge.rows[:3]] == [size % 256, size // 256 % 256, size // 65_536]


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0" * 7 + b"\1", b"\0" * 8 + b"\1" * 32, b"\xff" * 8])
def test_what_is_no_edge(data: bytes) -> None:
    with pytest.raises(Malformed):
        Edge.from_bytes(data)
