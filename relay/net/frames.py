"""Chunks on a stream: frames, and the spans that ask for them, read one by one, each bounded before it is read, each
handed on as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import StreamReader

from relay.errors import Malformed
from relay.limits import MAX_CHUNK, MAX_CHUNKS_CALL
from relay.records.identifiers import ObjectId
from relay.sync.messages import FRAME_HEAD, SPAN
from relay.sync.peer import Frame, Span


def _uncounted(_size: int) -> None:
    """Where nobody counts what came, or is held."""


async def read_frames(
    content: StreamReader,
    patience: float,
    came: Callable[[int], None] = _uncounted,
    held: Callable[[int], None] = _uncounted,
) -> AsyncIterator[Frame]:
    """Yield `(object, index, content)` until the stream ends; empty content is of a chunk that is not held. Raises
    `Malformed` for a frame that is too long or cut short, and for more than a call may bring; `TimeoutError` when
    `patience` seconds bring no byte. `came` is told how many bytes each part of a content has, and `held` how many
    more, or fewer, wait for the rest of their frame."""
    left = MAX_CHUNKS_CALL

    def hold(size: int) -> None:
        came(size)
        held(size)

    while head := await _read(content, FRAME_HEAD.size, patience):
        digest, index, length = FRAME_HEAD.unpack(head)
        left -= FRAME_HEAD.size + length
        if length > MAX_CHUNK:
            raise Malformed(f"A chunk of {length} bytes is over the limit of {MAX_CHUNK}")
        if left < 0:
            raise Malformed(f"A peer brings more than {MAX_CHUNKS_CALL} bytes of chunks in one call")
        data = await _read(content, length, patience, hold) if length else b""
        held(-len(data))
        if len(data) < length:
            raise Malformed("A stream of chunks ends in the middle of one")
        yield ObjectId(digest), index, data


async def read_spans(content: StreamReader) -> AsyncIterator[Span]:
    """Yield `(object, index)` until the stream ends. Raises `Malformed` as `read_frames` does; for how long to wait is
    the caller's to say, who answers meanwhile."""
    while span := await _read(content, SPAN.size, None):
        digest, index = SPAN.unpack(span)
        yield ObjectId(digest), index


async def _read(
    content: StreamReader, size: int, patience: float | None, came: Callable[[int], None] = _uncounted
) -> bytes:
    """Exactly `size` bytes, or none at the end of the stream; each part within `patience` seconds."""
    parts: list[bytes] = []
    left = size
    while left:
        async with asyncio.timeout(patience):
            part = await content.read(left)
        if not part:
            if parts:
                raise Malformed("A stream of chunks ends in the middle of one")
            return b""
        parts.append(part)
        came(len(part))
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
