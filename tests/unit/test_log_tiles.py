"""The log as static files: names, bundles, and every node of every tree readable from what was written."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.errors import Malformed
from relay.limits import MAX_RECORD
from relay.log.merkle import HASH_SIZE, node_hash, verify_consistency, verify_inclusion
from relay.log.tiles import (
    ENTRIES,
    HEIGHT,
    MAX_LEVEL,
    WIDTH,
    TileId,
    decode_entries,
    encode_entries,
    parse_path,
    subtree_hash,
    tile_reader,
    tiles_to_write,
)
from relay.log.tree import consistency_proof, inclusion_proof, root_of
from tests import naive_tree

SIZE = 70_000
"""The tree that C2SP tlog-tiles gives as its example: the smallest round one with tiles on three levels."""

tiles = st.builds(TileId, st.integers(ENTRIES, MAX_LEVEL), st.integers(0, (1 << 56) - 1), st.integers(1, WIDTH))
edges = st.sampled_from([1, 2, 255, 256, 257, 511, 512, 65_280, 65_535, 65_536, 65_537, SIZE - 1, SIZE])
growths = st.lists(st.integers(1, SIZE) | edges, min_size=1, max_size=12).map(lambda sizes: sorted({*sizes}))


@cache
def rows() -> list[list[bytes]]:
    """The complete subtrees of the tree of `SIZE` leaves, by level."""
    levels = [naive_tree.leaves_of(SIZE)]
    while len(levels[-1]) > 1:
        row = levels[-1]
        levels.append([node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])
    return levels


def content(tile: TileId) -> bytes:
    """What a hash tile holds, by definition: the roots of subtrees of 256**level leaves."""
    start = tile.index * WIDTH
    return b"".join(rows()[HEIGHT * tile.level][start : start + tile.width])


def required(size: int) -> set[TileId]:
    """The tiles of a tree of `size` leaves, by the words of the specification."""
    found = set()
    for level in range(MAX_LEVEL + 1):
        full, partial = divmod(size // 256**level, 256)
        found |= {TileId(level, index) for index in range(full)}
        found |= {TileId(level, full, partial)} if partial else set()
    return found | {TileId(ENTRIES, tile.index, tile.width) for tile in found if tile.level == 0}


def written_by(growth: list[int]) -> set[TileId]:
    steps = zip([0, *growth], growth, strict=False)
    return {tile for old, new in steps for tile in tiles_to_write(old, new)}


def fetch_from(written: set[TileId]) -> Callable[[TileId], bytes]:
    def fetch(tile: TileId) -> bytes:
        assert tile in written, f"{tile.path} was not written"
        return content(tile)

    return fetch


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("tile/0/000", TileId(0, 0)),
        ("tile/0/x001/x234/067", TileId(0, 1_234_067)),
        ("tile/0/999", TileId(0, 999)),
        ("tile/0/x001/000", TileId(0, 1000)),
        ("tile/3/x001/234.p/112", TileId(3, 1234, 112)),
        ("tile/entries/273.p/1", TileId(ENTRIES, 273, 1)),
        ("tile/entries/x001/x000/000.p/255", TileId(ENTRIES, 1_000_000, 255)),
    ],
)
def test_paths_of_the_specification(path: str, tile: TileId) -> None:
    assert tile.path == path
    assert parse_path(path) == tile


@given(tiles)
def test_path_names_one_tile(tile: TileId) -> None:
    assert parse_path(tile.path) == tile


@pytest.mark.parametrize(
    "path",
    [
        *("", "tile", "tile/0", "tile/0/", "/tile/0/000", "tile/0/000/", "tile/0/000\n", " tile/0/000"),
        *("tile/00/000", "tile/8/000", "tile/64/000", "tile/-1/000", "tile/x/000", "tile/Entries/000"),
        *("tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/1234", "tile/0/x001", "tile/0/001/002", "tile/0/x1/002"),
        *("tile/0/x000/001", "tile/0/x000/x001/002", "tile/0/X001/002", "tile/0/-01", "tile/0/+01", "tile/0/0_1"),
        *("tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0", "tile/0/000.p/01", "tile/0/000.p/256"),
        *("tile/0/000.p/257", "tile/0/000.p/999", "tile/0/000.p/1000", "tile/0/000.p/-1", "tile/0/000.p/1/2"),
        *("tile/0/../checkpoint", "tile/0/x001/../002", "tile/0/%30%30%30", "tile/0/00\u0663", "tile/0/000.p/\u0663"),
        "tile/0/" + "x001/" * 7 + "000",
        "tile/0/" + "x001/" * 100_000 + "000",
    ],
)
def test_other_spellings_are_refused(path: str) -> None:
    with pytest.raises(Malformed) as refusal:
        parse_path(path)
    assert len(str(refusal.value)) < 300


@given(st.text(alphabet="tile/entris0129x.p-\n", max_size=40))
def test_whatever_parses_is_spelled_so(text: str) -> None:
    for path in (text, f"tile/0/{text}", f"tile/entries/{text}"):
        try:
            tile = parse_path(path)
        except Malformed:
            continue
        assert tile.path == path
        assert 1 <= tile.width <= WIDTH


@given(st.lists(st.binary(max_size=300), max_size=WIDTH))
def test_entries_come_back_from_a_bundle(entries: list[bytes]) -> None:
    assert decode_entries(encode_entries(entries)) == entries


def test_bundle_is_length_and_entry() -> None:
    assert encode_entries([b"ab", b"", b"c" * 258]) == b"\x00\x02ab" + b"\x00\x00" + b"\x01\x02" + b"c" * 258
    assert decode_entries(encode_entries([b"x" * MAX_RECORD])) == [b"x" * MAX_RECORD]


@pytest.mark.parametrize(
    "bundle",
    [b"\x00", b"\x00\x01", b"\x00\x02a", b"\x00\x01ab", b"\x00\x00" * (WIDTH + 1), b"\xff\xff" + bytes(0xFFFF)],
    ids=["half a length", "no entry", "cut entry", "more bytes", "too many", "entry over the limit"],
)
def test_damaged_bundle_is_malformed(bundle: bytes) -> None:
    with pytest.raises(Malformed):
        decode_entries(bundle)


@given(st.binary(max_size=60))
def test_bundle_has_one_spelling(data: bytes) -> None:
    try:
        entries = decode_entries(data)
    except Malformed:
        return
    assert encode_entries(entries) == data


def test_tree_of_the_specification() -> None:
    """70 000 leaves: 273 full tiles and one of 112 at level 0, one full and one of 17 at 1, one of width 1 at 2."""
    found = set(tiles_to_write(0, SIZE))
    hashes = {TileId(0, index) for index in range(273)} | {TileId(0, 273, 112)}
    hashes |= {TileId(1, 0), TileId(1, 1, 17), TileId(2, 0, 1)}
    assert found == hashes | {TileId(ENTRIES, tile.index, tile.width) for tile in hashes if tile.level == 0}
    assert set(tiles_to_write(0, 256)) == {TileId(ENTRIES, 0), TileId(0, 0), TileId(1, 0, 1)}


@settings(max_examples=40)
@given(growths)
@example([1, 255, 256, 257, 65_535, 65_536, SIZE])
def test_every_step_of_growth_has_the_tiles_of_its_tree(growth: list[int]) -> None:
    for step in range(1, len(growth) + 1):
        assert required(growth[step - 1]) <= written_by(growth[:step])
    assert written_by(growth) == set().union(*map(required, growth)), "no tile that no checkpoint's tree has"


@given(st.integers(0, SIZE), st.integers(0, 2_000))
def test_lower_tiles_come_first_and_none_twice(old: int, more: int) -> None:
    order = list(tiles_to_write(old, old + more))
    assert [tile.level for tile in order] == sorted(tile.level for tile in order)
    assert len(set(order)) == len(order)


def test_growth_costs_what_is_new() -> None:
    assert list(tiles_to_write(1_000_000, 1_000_000)) == []
    assert len(list(tiles_to_write(1_000_000, 1_000_001))) == 2
    assert len(list(tiles_to_write((1 << 40) - 1, 1 << 40))) == 7
    assert len(list(tiles_to_write(1_000_000, 1_001_024))) <= 2 * (1024 // WIDTH + 1) + MAX_LEVEL


@settings(max_examples=40, deadline=None)
@given(growth=growths, data=st.data())
def test_every_node_of_every_tree_is_readable_from_its_tiles(growth: list[int], data: st.DataObject) -> None:
    fetch = fetch_from(written_by(growth))
    for size in growth:
        read = tile_reader(size, fetch)
        for _ in range(3):
            level = data.draw(st.integers(0, size.bit_length() - 1))
            index = data.draw(st.integers(0, (size >> level) - 1) | st.just((size >> level) - 1))
            assert read(level, index) == rows()[level][index]


@settings(max_examples=25, deadline=None)
@given(growth=growths, data=st.data())
def test_proofs_out_of_tiles_verify(growth: list[int], data: st.DataObject) -> None:
    fetch = fetch_from(written_by(growth))
    old, new = data.draw(st.sampled_from(growth)), growth[-1]
    read = tile_reader(new, fetch)
    roots = root_of(old, tile_reader(old, fetch)), root_of(new, read)
    index = data.draw(st.integers(0, new - 1))
    verify_inclusion(rows()[0][index], index, new, roots[1], inclusion_proof(index, new, read))
    verify_consistency(old, roots[0], new, roots[1], consistency_proof(old, new, read))


@given(size=st.integers(0, 600), level=st.integers(0, 12), index=st.integers(0, 700))
def test_reader_asks_for_no_tile_beyond_the_tree(size: int, level: int, index: int) -> None:
    asked: list[TileId] = []

    def fetch(tile: TileId) -> bytes:
        asked.append(tile)
        return content(tile)

    if (index + 1) << level <= size:
        assert tile_reader(size, fetch)(level, index) == rows()[level][index]
        assert set(asked) <= required(size)
    else:
        with pytest.raises(Malformed):
            tile_reader(size, fetch)(level, index)
        assert asked == []


def test_short_tile_is_malformed() -> None:
    with pytest.raises(Malformed):
        tile_reader(4, lambda tile: content(tile)[:-1])(0, 3)
    with pytest.raises(Malformed):
        subtree_hash(bytes(3 * HASH_SIZE), 0, 4)
