"""Chunks on a stream: frames, and the spans that ask for them, read one by one, each bounded before it is read, each
handed on as it arrives. Of one that is cut off what came is kept, and put before the rest when that comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import StreamReader

from relay.errors import Malformed
from relay.limits import MAX_CHUNK, MAX_CHUNKS_CALL
from relay.records.identifiers import ObjectId
from relay.sync.messages import FRAME_HEAD, SPAN
from relay.sync.peer import Frame, Span
from relay.sync.torn import Mending


def _uncounted(_size: int) -> None:
    """Where nobody counts what came, or is held."""


async def read_frames(
    content: StreamReader,
    patience: float,
    mending: Mending,
    came: Callable[[int], None] = _uncounted,
    held: Callable[[int], None] = _uncounted,
) -> AsyncIterator[Frame]:
    """Yield `(object, index, content)` until the stream ends, each chunk with what `mending` has of its beginning;
    empty content is of a chunk that is not held. Raises `Malformed` for a frame that is too long or cut short, and for
    more than a call may bring; `TimeoutError` when `patience` seconds bring no byte. `came` is told how many bytes each
    part of a content has, and `held` how many more, or fewer, wait for the rest of their frame. The rest of a chunk
    whose beginning is not here is passed over."""
    left = MAX_CHUNKS_CALL

    def hold(size: int) -> None:
        came(size)
        held(size)

    while head := await _read(content, FRAME_HEAD.size, patience):
        digest, index, begun, length = FRAME_HEAD.unpack(head)
        left -= FRAME_HEAD.size + length
        if begun + length > MAX_CHUNK:
            raise Malformed(f"A chunk of {begun + length} bytes is over the limit of {MAX_CHUNK}")
        if left < 0:
            raise Malformed(f"A peer brings more than {MAX_CHUNKS_CALL} bytes of chunks in one call")
        span = ObjectId(digest), index
        before = mending.before(span, begun)
        if not length:
            yield *span, b""
            continue
        parts = [before or b""]
        whole = False
        try:
            whole = await _read_into(parts, content, length, patience, hold)
        finally:
            if before is not None and not whole:
                mending.tear(span, b"".join(parts))
        if not whole:
            raise Malformed("A stream of chunks ends in the middle of one")
        held(-length)
        if before is not None:
            yield *span, b"".join(parts)


async def read_spans(content: StreamReader) -> AsyncIterator[tuple[Span, int]]:
    """Yield chunks that are asked for, `(object, index)`, each with how many of its bytes are not asked for, until the
    stream ends. Raises `Malformed` as `read_frames` does; for how long to wait is the caller's to say, who answers
    meanwhile."""
    while span := await _read(content, SPAN.size, None):
        digest, index, begun = SPAN.unpack(span)
        yield (ObjectId(digest), index), begun


async def _read(content: StreamReader, size: int, patience: float | None) -> bytes:
    """Exactly `size` bytes, or none at the end of the stream; each part within `patience` seconds."""
    parts: list[bytes] = []
    if not await _read_into(parts, content, size, patience) and parts:
        raise Malformed("A stream of chunks ends in the middle of one")
    return b"".join(parts)


async def _read_into(
    parts: list[bytes],
    content: StreamReader,
    size: int,
    patience: float | None,
    came: Callable[[int], None] = _uncounted,
) -> bool:
    """Read `size` bytes more, each part within `patience` seconds; False where the stream ends before."""
    left = size
    while left:
        async with asyncio.timeout(patience):
            part = await content.read(left)
        if not part:
            return False
        parts.append(part)
        came(len(part))
        left -= len(part)
    return True
