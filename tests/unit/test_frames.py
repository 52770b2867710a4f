"""Frames of chunks: a chunk that goes on, one that is cut off, and what is held of it meanwhile."""

from __future__ import annotations

import pytest

from relay.errors import Malformed
from relay.limits import MAX_CHUNK
from relay.net.frames import read_frames, read_spans
from relay.records.identifiers import ObjectId, sha256
from relay.sync.messages import FRAME_HEAD, SPAN
from relay.sync.peer import Frame
from relay.sync.torn import TornChunks
from tests.fuzz.inputs import Stream

CONTENT = bytes(range(256)) * 80
PHOTO = ObjectId(sha256(CONTENT))
BEGUN = 9_000


def frame(begun: int, content: bytes, index: int = 0) -> bytes:
    return FRAME_HEAD.pack(PHOTO, index, begun, len(content)) + content


async def read(data: bytes, torn: TornChunks, held: list[int] | None = None, *, asked: bool = False) -> list[Frame]:
    noted = (lambda _size: None) if held is None else held.append
    with torn.mending("boat") as mending:
        frames = read_frames(Stream(data), 5.0, mending, held=noted, asked=asked)  # type: ignore[arg-type]
        return [one async for one in frames]


async def test_a_chunk_that_was_cut_off_goes_on_where_it_ended() -> None:
    torn = TornChunks()
    with pytest.raises(Malformed):
        await read(frame(0, CONTENT)[: FRAME_HEAD.size + BEGUN], torn)
    assert torn.of("boat") == ((PHOTO, 0, BEGUN),)
    with pytest.raises(Malformed):
        await read(frame(BEGUN, CONTENT[BEGUN:])[: FRAME_HEAD.size + 1_000], torn)
    assert torn.of("boat") == ((PHOTO, 0, BEGUN + 1_000),)
    assert await read(frame(BEGUN + 1_000, CONTENT[BEGUN + 1_000 :]), torn) == [(PHOTO, 0, CONTENT)]
    assert not torn.bytes


@pytest.mark.parametrize(("asked", "told"), [(True, [(PHOTO, 0, b"")]), (False, [])], ids=["fetched", "brought"])
async def test_a_rest_without_its_beginning_is_no_chunk(asked: bool, told: list[Frame]) -> None:
    """Who asked hears of it, and ends it where nobody asked."""
    torn = TornChunks()
    data = frame(BEGUN, CONTENT[BEGUN:]) + frame(0, CONTENT, 1)
    assert await read(data, torn, asked=asked) == [*told, (PHOTO, 1, CONTENT)]
    with pytest.raises(Malformed):
        await read(frame(BEGUN, CONTENT[BEGUN:])[:9_999], torn, asked=asked)
    assert not torn.bytes


async def test_a_beginning_counts_among_what_is_held_while_its_rest_comes() -> None:
    torn, held = TornChunks(), [0]
    torn.keep("boat", (PHOTO, 0), CONTENT[:BEGUN])
    with pytest.raises(Malformed):
        await read(frame(BEGUN, CONTENT[BEGUN:])[: FRAME_HEAD.size + 1_000], torn, held)
    assert sum(held) == BEGUN + 1_000
    held.clear()
    assert await read(frame(BEGUN + 1_000, CONTENT[BEGUN + 1_000 :]), torn, held) == [(PHOTO, 0, CONTENT)]
    assert sum(held) == 0


@pytest.mark.parametrize("begun", [1, MAX_CHUNK, (1 << 32) - 1])
async def test_a_chunk_is_no_longer_than_its_limit_with_what_is_there(begun: int) -> None:
    with pytest.raises(Malformed, match="over the limit"):
        await read(FRAME_HEAD.pack(PHOTO, 0, begun, MAX_CHUNK), TornChunks())


async def test_nobody_asks_for_what_comes_after_a_chunk() -> None:
    assert [one async for one in read_spans(Stream(SPAN.pack(PHOTO, 2, 7)))] == [((PHOTO, 2), 7)]  # type: ignore[arg-type]
    with pytest.raises(Malformed):
        [one async for one in read_spans(Stream(SPAN.pack(PHOTO, 2, MAX_CHUNK)))]  # type: ignore[arg-type]
