"""Chunks on a stream: frames, and the spans that ask for them, read one by one, each bounded before it is read, each
handed on as it arrives. Of one that is cut off what came is kept, and put before the rest when that comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext

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
    *,
    asked: bool = False,
) -> AsyncIterator[Frame]:
    """Yield `(object, index, content)` until the stream ends, each chunk with what `mending` has of its beginning;
    empty content is of a chunk that is not held. The rest of a chunk whose beginning is not here is passed over, or
    where chunks are `asked` for comes as one that is not held. Raises `Malformed` for a frame that is too long or cut
    short, and for more than a call may bring; `TimeoutError` when `patience` seconds bring no byte. `came` is told how
    many bytes each part of a content has, and `held` how many more, or fewer, wait for the rest of their frame."""
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
        held(len(parts[0]))
        with nullcontext() if before is None else mending.coming(span, parts):
            await _read_into(parts, content, length, patience, hold)
        data = b"".join(parts)
        held(-len(data))
        parts.clear()
        if before is not None:
            yield *span, data
        elif asked:
            yield *span, b""


async def read_spans(content: StreamReader) -> AsyncIterator[tuple[Span, int]]:
    """Yield chunks that are asked for, `(object, index)`, each with how many of its bytes are not asked for, until the
    stream ends. Raises `Malformed` as `read_frames` does; for how long to wait is the caller's to say, who answers
    meanwhile."""
    while span := await _read(content, SPAN.size, None):
        digest, index, begun = SPAN.unpack(span)
        if begun >= MAX_CHUNK:
            raise Malformed(f"A peer asks for what comes after {begun} bytes of a chunk, over its limit of {MAX_CHUNK}")
        yield (ObjectId(digest), index), begun


async def _read(content: StreamReader, size: int, patience: float | None) -> bytes:
    """Exactly `size` bytes, or none at the end of the stream; each part within `patience` seconds."""
    async with asyncio.timeout(patience):
        first = await content.read(size)
    if not first:
        return b""
    parts = [first]
    await _read_into(parts, content, size - len(first), patience)
    return b"".join(parts)


async def _read_into(
    parts: list[bytes],
    content: StreamReader,
    size: int,
    patience: float | None,
    came: Callable[[int], None] = _uncounted,
) -> None:
    """Read `size` bytes more, each part within `patience` seconds."""
    left = size
    while left:
        async with asyncio.timeout(patience):
            part = await content.read(left)
        if not part:
            raise Malformed("A stream of chunks ends in the middle of one")
        parts.append(part)
        came(len(part))
        left -= len(part)
